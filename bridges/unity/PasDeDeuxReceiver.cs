// Pas de Deux receiver for Unity: hears the numeric OSC dialect and moves a Humanoid avatar, or plain transforms.
// One file, no packages. See README.md beside it.
//
// SPDX-License-Identifier: Apache-2.0

using System;
using System.Collections.Generic;
using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Text;
using System.Threading;
using UnityEngine;
using UnityEngine.Events;

[AddComponentMenu("Pas de Deux/Receiver")]
public sealed class PasDeDeuxReceiver : MonoBehaviour
{
    [Serializable] public sealed class BeatUnityEvent : UnityEvent<int, int> { }

    [Tooltip("UDP port; what is given to pasdedeux as --osc HOST:PORT.")]
    public int port = 9000;
    [Tooltip("A Humanoid avatar to move. Its Animator needs no controller.")]
    public Animator animator;
    [Tooltip("Off: the avatar dances on the spot.")]
    public bool moveHips = true;
    [Tooltip("Instead of an avatar, or beside it: up to 24 objects to put at the joints, in SMPL's order (see README).")]
    public Transform[] joints = new Transform[0];
    [Tooltip("Called for each beat, shortly before it sounds: beat number, position in the bar (1 = downbeat, 0 = unknown).")]
    public BeatUnityEvent onBeat = new BeatUnityEvent();

    // Where the music is. Read these in Update.
    public float Beat { get; private set; }
    public float Phase { get; private set; }
    public float TempoBpm { get; private set; }
    // Frames heard since the start; it stands still when nobody sends.
    public int FramesReceived { get; private set; }

    private const int JointCount = 24;
    // Height of the pelvis over the floor when the dancer stands at rest.
    private const float DancerHipsHeight = 0.976f;

    private static readonly string[] JointNames =
    {
        "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle",
        "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder",
        "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hand", "right_hand",
    };
    private static readonly int[] Parents =
        { -1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21 };
    // SMPL's last two joints, the hands, have no bone of their own.
    private static readonly HumanBodyBones[] Bones =
    {
        HumanBodyBones.Hips, HumanBodyBones.LeftUpperLeg, HumanBodyBones.RightUpperLeg, HumanBodyBones.Spine,
        HumanBodyBones.LeftLowerLeg, HumanBodyBones.RightLowerLeg, HumanBodyBones.Chest, HumanBodyBones.LeftFoot,
        HumanBodyBones.RightFoot, HumanBodyBones.UpperChest, HumanBodyBones.LeftToes, HumanBodyBones.RightToes,
        HumanBodyBones.Neck, HumanBodyBones.LeftShoulder, HumanBodyBones.RightShoulder, HumanBodyBones.Head,
        HumanBodyBones.LeftUpperArm, HumanBodyBones.RightUpperArm, HumanBodyBones.LeftLowerArm,
        HumanBodyBones.RightLowerArm, HumanBodyBones.LeftHand, HumanBodyBones.RightHand,
    };

    // Written by the network thread, read by the main thread, both under _gate.
    private readonly object _gate = new object();
    private readonly float[] _heardPose = new float[JointCount * 7];
    private readonly float[] _heardClock = new float[3];
    private readonly Queue<KeyValuePair<int, int>> _heardBeats = new Queue<KeyValuePair<int, int>>();
    private int _heardFrames;

    // Main thread only.
    private readonly float[] _pose = new float[JointCount * 7];
    private readonly Quaternion[] _world = new Quaternion[JointCount];
    private readonly List<KeyValuePair<int, int>> _beats = new List<KeyValuePair<int, int>>();
    private readonly Transform[] _bones = new Transform[JointCount];
    private readonly Quaternion[] _rest = new Quaternion[JointCount];
    private Animator _restOf;
    private float _hipsScale = 1f;

    private Socket _socket;
    private Thread _thread;
    private volatile bool _running;

    private void OnEnable()
    {
        try
        {
            _socket = new Socket(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp);
            _socket.Bind(new IPEndPoint(IPAddress.Any, port));
        }
        catch (SocketException error)
        {
            Debug.LogError("Pas de Deux: UDP port " + port + " cannot be had (" + error.Message
                + "). Close the program that has it, or choose another port here and in --osc.", this);
            CloseSocket();
            return;
        }
        _running = true;
        _thread = new Thread(Listen) { IsBackground = true, Name = "Pas de Deux" };
        _thread.Start(_socket);
    }

    private void OnDisable()
    {
        _running = false;
        CloseSocket();
        if (_thread != null)
        {
            _thread.Join(500);
            _thread = null;
        }
    }

    private void CloseSocket()
    {
        if (_socket != null)
        {
            _socket.Close();
            _socket = null;
        }
    }

    // After Update and the Animator, so that what we write is what is seen.
    private void LateUpdate()
    {
        lock (_gate)
        {
            Array.Copy(_heardPose, _pose, _pose.Length);
            Beat = _heardClock[0];
            Phase = _heardClock[1];
            TempoBpm = _heardClock[2];
            FramesReceived = _heardFrames;
            _beats.AddRange(_heardBeats);
            _heardBeats.Clear();
        }
        foreach (KeyValuePair<int, int> beat in _beats) onBeat.Invoke(beat.Key, beat.Value);
        _beats.Clear();
        if (FramesReceived == 0) return;
        for (int j = 0; j < JointCount; j++)
        {
            // Ours is right-handed, Unity left-handed: mirrored along x.
            int k = 7 * j + 3;
            Quaternion local = new Quaternion(_pose[k], -_pose[k + 1], -_pose[k + 2], _pose[k + 3]);
            _world[j] = j == 0 ? local : _world[Parents[j]] * local;
        }
        if (animator != null) MoveAvatar();
        for (int j = 0; j < joints.Length && j < JointCount; j++)
        {
            if (joints[j] == null) continue;
            joints[j].position = transform.TransformPoint(Position(j));
            joints[j].rotation = transform.rotation * _world[j];
        }
    }

    private Vector3 Position(int joint)
    {
        return new Vector3(-_pose[7 * joint], _pose[7 * joint + 1], _pose[7 * joint + 2]);
    }

    private void MoveAvatar()
    {
        if (_restOf != animator) TakeRestPose();
        Quaternion space = animator.transform.rotation;
        // Rotations in the avatar's space, parents first: a bone that the avatar lacks is taken up by those below it.
        for (int j = 0; j < JointCount; j++)
            if (_bones[j] != null) _bones[j].rotation = space * _world[j] * _rest[j];
        if (moveHips && _bones[0] != null)
            _bones[0].position = animator.transform.TransformPoint(Position(0) * _hipsScale);
    }

    // Remember how each bone is turned in the T pose, where all rotations of the dancer are zero.
    private void TakeRestPose()
    {
        _restOf = animator;
        Array.Clear(_bones, 0, JointCount);
        if (!animator.isHuman)
        {
            Debug.LogError("Pas de Deux: set the model's Rig to Humanoid in its import settings.", animator);
            return;
        }
        // The T pose that was enforced at import, whatever pose the model has in the scene.
        Dictionary<string, Quaternion> tPose = new Dictionary<string, Quaternion>();
        foreach (SkeletonBone bone in animator.avatar.humanDescription.skeleton) tPose[bone.name] = bone.rotation;
        foreach (Transform bone in animator.GetComponentsInChildren<Transform>())
        {
            Quaternion rotation;
            if (bone != animator.transform && tPose.TryGetValue(bone.name, out rotation)) bone.localRotation = rotation;
        }
        Quaternion fromWorld = Quaternion.Inverse(animator.transform.rotation);
        for (int j = 0; j < Bones.Length; j++)
        {
            _bones[j] = animator.GetBoneTransform(Bones[j]);
            if (_bones[j] != null) _rest[j] = fromWorld * _bones[j].rotation;
        }
        if (_bones[0] != null)
        {
            float height = animator.transform.InverseTransformPoint(_bones[0].position).y;
            _hipsScale = height > 0.01f ? height / DancerHipsHeight : 1f;
        }
    }

    // ---- network thread ----

    // What an address stands for: a joint below JointCount, or one of these.
    private const int ClockAddress = JointCount, BeatAddress = JointCount + 1;
    private const int MaxDepth = 4, MaxWaitingBeats = 64;
    private static readonly Dictionary<uint, int> Addresses = HashAddresses();

    [StructLayout(LayoutKind.Explicit)]
    private struct Word
    {
        [FieldOffset(0)] public int Int;
        [FieldOffset(0)] public float Float;
    }

    private static Dictionary<uint, int> HashAddresses()
    {
        Dictionary<uint, int> table = new Dictionary<uint, int>();
        for (int j = 0; j < JointCount; j++) Add(table, "/pdd/joint/" + JointNames[j], j);
        Add(table, "/pdd/clock", ClockAddress);
        Add(table, "/pdd/beat", BeatAddress);
        return table;
    }

    private static void Add(Dictionary<uint, int> table, string address, int what)
    {
        byte[] bytes = Encoding.ASCII.GetBytes(address);
        table.Add(Hash(bytes, 0, bytes.Length), what);
    }

    // FNV-1a: addresses are told apart without making a string of each, which would feed the garbage collector.
    private static uint Hash(byte[] data, int start, int end)
    {
        uint hash = 2166136261;
        for (int i = start; i < end; i++) hash = unchecked((hash ^ data[i]) * 16777619);
        return hash;
    }

    private void Listen(object socket)
    {
        byte[] buffer = new byte[65536];
        while (_running)
        {
            try
            {
                int size = ((Socket)socket).Receive(buffer);
                lock (_gate) ReadPacket(buffer, 0, size, 0);
            }
            catch (ObjectDisposedException)
            {
                return;
            }
            catch (SocketException)
            {
                // Closed by OnDisable, or a hiccup of the network: try again, but not in a tight loop.
                if (_running) Thread.Sleep(50);
            }
        }
    }

    // Anything that is not OSC is passed over.
    private void ReadPacket(byte[] data, int start, int end, int depth)
    {
        if (end - start < 4) return;
        if (data[start] != (byte)'#')
        {
            ReadMessage(data, start, end);
            return;
        }
        int position = start + 16; // "#bundle", timetag
        while (depth < MaxDepth && end - position >= 4)
        {
            int size = ReadWord(data, position).Int;
            position += 4;
            if (size <= 0 || size > end - position) return;
            ReadPacket(data, position, position + size, depth + 1);
            position += size;
        }
    }

    private void ReadMessage(byte[] data, int start, int end)
    {
        int addressEnd = Array.IndexOf(data, (byte)0, start, end - start);
        int what;
        if (addressEnd < 0 || !Addresses.TryGetValue(Hash(data, start, addressEnd), out what)) return;
        int tags = start + Padded(addressEnd - start);
        if (tags >= end) return;
        int tagsEnd = Array.IndexOf(data, (byte)0, tags, end - tags);
        if (tagsEnd < 0) return;
        int values = tags + Padded(tagsEnd - tags);
        int count = tagsEnd - tags - 1;
        for (int i = 0; i < count; i++)
            if (data[tags + 1 + i] != (byte)'f' && data[tags + 1 + i] != (byte)'i') return;
        if (values + 4 * count > end) return;
        if (what < JointCount)
        {
            if (count < 7) return;
            for (int i = 0; i < 7; i++) _heardPose[7 * what + i] = ReadWord(data, values + 4 * i).Float;
            // A frame counts when its last joint is in, so that none is shown before all joints were heard once.
            if (what == JointCount - 1) _heardFrames++;
        }
        else if (what == ClockAddress && count >= 3)
        {
            for (int i = 0; i < 3; i++) _heardClock[i] = ReadWord(data, values + 4 * i).Float;
        }
        else if (what == BeatAddress && count >= 2 && _heardBeats.Count < MaxWaitingBeats)
        {
            _heardBeats.Enqueue(new KeyValuePair<int, int>(
                ReadWord(data, values).Int, ReadWord(data, values + 4).Int));
        }
    }

    private static int Padded(int length)
    {
        return length / 4 * 4 + 4;
    }

    private static Word ReadWord(byte[] data, int at)
    {
        Word word = new Word();
        word.Int = data[at] << 24 | data[at + 1] << 16 | data[at + 2] << 8 | data[at + 3];
        return word;
    }
}
