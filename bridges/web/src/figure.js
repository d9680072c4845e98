// The dancer's body: a free mesh, re-proportioned once to SMPL's skeleton, then driven by SMPL's rotations alone.
//
// The mesh and SMPL both rest in a T pose, but their bones differ by centimetres and degrees. When loaded, the skin is
// moved, bone by bone, onto SMPL's rest joints (a rotation and a stretch along each limb); from then on the joints of
// the figure *are* SMPL's, so hands reach and soles touch the floor exactly where the engine computed them.

import { Bone, BufferAttribute, BufferGeometry, Group, Matrix4, Quaternion, Skeleton, SkinnedMesh, Vector3 } from "three";
import { GLTFLoader } from "three/addons/loaders/GLTFLoader.js";
import { chestStrength, makeOval, neighboursOf, smooth } from "./sculpt.js";
import { BONE_NAMES, JOINTS_BY_BONE, LEFT_HAND, PARENTS, RIGHT_HAND, ROOT, restPositions } from "./skeleton.js";

// The mesh stands 1.68 m tall, a body of mean SMPL shape 1.73 m; limbs grow thicker by as much.
const THICKNESS = 1.05;
// How far the skin follows SMPL's joint (1) rather than keeping the mesh's own proportions (0). SMPL's hip joints lie
// deep in the pelvis and its spine runs along the back: there, skin pulled onto the joint would lose its shape.
const FOLLOW = {
  Hips: 0, Spine: 0, Spine1: 0, Spine2: 0, Neck: 0.3, Head: 0.3,
  LeftUpLeg: 0.25, RightUpLeg: 0.25, LeftShoulder: 0.3, RightShoulder: 0.3, LeftArm: 0.55, RightArm: 0.55,
};
// Bones whose skin is turned and stretched towards the next joint.
const LIMBS = {
  LeftUpLeg: "LeftLeg", LeftLeg: "LeftFoot", RightUpLeg: "RightLeg", RightLeg: "RightFoot",
  LeftArm: "LeftForeArm", LeftForeArm: "LeftHand", RightArm: "RightForeArm", RightForeArm: "RightHand",
};
const FEET = { LeftFoot: "LeftToeBase", RightFoot: "RightToeBase" };
// The mesh's fingers are straight; a dancer's are not. Bend per knuckle [rad].
const FINGER_BEND = { Index: 0.16, Middle: 0.24, Ring: 0.3, Pinky: 0.34, Thumb: 0.12 };

// How much of its detail the skin loses, by bone: faces and toes all, hands little.
const SOFTNESS = [[/Head|Neck/, 0.9], [/Foot|Toe/, 0.9], [/Hand/, 0.05], [/Spine|Hips/, 1]];

const UP = new Vector3(0, 1, 0);

/** Load the mesh and return the figure. */
export async function loadFigure(url, material) {
  const gltf = await new GLTFLoader().loadAsync(url);
  let source = null;
  gltf.scene.updateMatrixWorld(true);
  gltf.scene.traverse((object) => {
    if (object.isSkinnedMesh) source = object;
  });
  if (!source) throw new Error(`${url} holds no skinned mesh`);
  return new Figure(source, material);
}

class Figure {
  /** @param shape the skin of a figure made before from the same mesh, if any: making it takes a second */
  constructor(source, material, shape = null) {
    this.source = source;
    const names = source.skeleton.bones.map((bone) => bone.name.replace(/^mixamorig:?/, ""));
    const mesh = new Map(names.map((name, i) => [name, new Vector3().setFromMatrixPosition(source.skeleton.bones[i].matrixWorld)]));
    const rest = restPositions().map((place) => new Vector3(...place));
    const skin = skinPlaces(mesh, rest);
    const moves = new Map(names.map((name) => [name, null]));
    for (const name of names) moves.set(name, moveOf(name, mesh, skin, moves));

    /** SMPL's 24 joints. */
    this.joints = rest.map((place, joint) => {
      const bone = new Bone();
      bone.name = BONE_NAMES[joint] ?? `hand${joint}`;
      return bone;
    });
    const placeOf = new Map(this.joints.map((bone, joint) => [bone, rest[joint]]));
    this.joints.forEach((bone, joint) => {
      if (joint === ROOT) return;
      bone.position.subVectors(rest[joint], rest[PARENTS[joint]]);
      this.joints[PARENTS[joint]].add(bone);
    });
    this.joints[ROOT].position.copy(rest[ROOT]);

    const bones = source.skeleton.bones.map((sourceBone, i) => {
      const joint = JOINTS_BY_BONE.get(names[i]);
      if (joint !== undefined) return this.joints[joint];
      const bone = new Bone();
      bone.name = names[i];
      placeOf.set(bone, mesh.get(names[i]).clone().applyMatrix4(moves.get(names[i])));
      return bone;
    });
    source.skeleton.bones.forEach((sourceBone, i) => {
      if (JOINTS_BY_BONE.has(names[i])) return;
      const parentIndex = source.skeleton.bones.indexOf(sourceBone.parent);
      const onHand = JOINTS_BY_BONE.has(names[parentIndex]);
      const parent = onHand ? this.joints[names[i].startsWith("Left") ? LEFT_HAND : RIGHT_HAND] : bones[parentIndex];
      bones[i].position.subVectors(placeOf.get(bones[i]), placeOf.get(parent));
      parent.add(bones[i]);
    });
    const inverses = bones.map((bone) => new Matrix4().makeTranslation(placeOf.get(bone).clone().negate()));

    const geometry = shape ?? movedGeometry(source.geometry, names.map((name) => moves.get(name)), names, {
      low: skin.get("Spine1").y - 0.05,
      high: skin.get("LeftArm").y - 0.04,
    });
    this.mesh = new SkinnedMesh(geometry, material);
    this.mesh.castShadow = true;
    // The bounds of the rest pose are not those of a leap.
    this.mesh.frustumCulled = false;
    this.object = new Group();
    this.object.add(this.joints[ROOT], this.mesh);
    this.mesh.bind(new Skeleton(bones, inverses), new Matrix4());
    for (const bone of bones) bendFinger(bone);
    this.place = new Vector3();
  }

  /** Another figure like this one, of another material. */
  twin(material) {
    return new Figure(this.source, material, this.mesh.geometry);
  }

  /** Take a pose (see protocol.js). */
  apply(pose) {
    this.joints[ROOT].position.fromArray(pose.translation);
    for (let joint = 0; joint < this.joints.length; joint++) {
      this.joints[joint].quaternion.fromArray(pose.quaternions, 4 * joint);
    }
  }

  /** Write the place of a joint in the world into `out`. */
  jointPlace(joint, out) {
    return out.setFromMatrixPosition(this.joints[joint].matrixWorld);
  }

  /** Places of all joints in the world, as [x, y, z] each; for tests. */
  jointPlaces() {
    this.object.updateMatrixWorld(true);
    return this.joints.map((_, joint) => this.jointPlace(joint, this.place).toArray());
  }

  /** Height of the lowest point of the skin in its present pose; for tests (slow). */
  lowestPoint() {
    this.object.updateMatrixWorld(true);
    this.mesh.skeleton.update();
    const count = this.mesh.geometry.attributes.position.count;
    let lowest = Infinity;
    for (let i = 0; i < count; i++) {
      this.mesh.getVertexPosition(i, this.place);
      lowest = Math.min(lowest, this.place.y);
    }
    return lowest;
  }
}

/** Where the mesh's joints go: onto SMPL's, or part of the way (see FOLLOW). */
function skinPlaces(mesh, rest) {
  const hip = mesh.get("Hips");
  const legTop = 0.5 * (mesh.get("LeftUpLeg").y + mesh.get("RightUpLeg").y);
  // The trunk sits on the legs: the hips go where thighs of nearly their own length put them.
  const knee = 0.5 * (rest[4].y + rest[5].y);
  const meshKnee = 0.5 * (mesh.get("LeftLeg").y + mesh.get("RightLeg").y);
  const trunkLift = knee + (legTop - meshKnee) * 0.985 - legTop * THICKNESS;
  const places = new Map();
  BONE_NAMES.forEach((name, joint) => {
    if (!name) return;
    const own = mesh.get(name).clone().sub(new Vector3(hip.x, 0, hip.z)).multiplyScalar(THICKNESS);
    own.y += trunkLift;
    places.set(name, own.lerp(rest[joint], FOLLOW[name] ?? 1));
  });
  return places;
}

/** The affine map that takes the skin of one bone from the mesh's rest to SMPL's. */
function moveOf(name, mesh, skin, moves) {
  const from = mesh.get(name);
  const to = skin.get(name);
  if (!to) {
    // A finger goes with its hand.
    return moves.get(name.startsWith("Left") ? "LeftHand" : "RightHand");
  }
  const linear = new Matrix4();
  if (LIMBS[name]) {
    const before = mesh.get(LIMBS[name]).clone().sub(from);
    const after = skin.get(LIMBS[name]).clone().sub(to);
    const stretch = after.length() / before.length();
    before.normalize();
    const turn = new Matrix4().makeRotationFromQuaternion(new Quaternion().setFromUnitVectors(before, after.clone().normalize()));
    linear.copy(turn).multiply(alongAxis(before, stretch, THICKNESS));
  } else if (FEET[name] || name.endsWith("ToeBase")) {
    // Feet turn about the vertical only, and keep their soles flat on the floor.
    const side = name.startsWith("Left") ? "Left" : "Right";
    const before = mesh.get(`${side}ToeBase`).clone().sub(mesh.get(`${side}Foot`)).setY(0);
    const after = skin.get(`${side}ToeBase`).clone().sub(skin.get(`${side}Foot`)).setY(0);
    const angle = Math.atan2(after.x, after.z) - Math.atan2(before.x, before.z);
    const stretch = after.length() / before.length();
    linear.makeRotationAxis(UP, angle).multiply(alongAxis(before.normalize(), stretch, THICKNESS));
    const heightScale = skin.get(`${side}Foot`).y / mesh.get(`${side}Foot`).y;
    linear.elements[5] = heightScale;
    if (name.endsWith("ToeBase")) {
      // The toes hang on the foot's own map, so that the sole stays one plane.
      return moves.get(`${side}Foot`).clone();
    }
  } else {
    linear.makeScale(THICKNESS, THICKNESS, THICKNESS);
  }
  return new Matrix4().makeTranslation(to).multiply(linear).multiply(new Matrix4().makeTranslation(from.clone().negate()));
}

/** Scale by `along` in direction `axis` and by `across` in every other. */
function alongAxis(axis, along, across) {
  const d = along - across;
  const { x, y, z } = axis;
  return new Matrix4().set(
    across + d * x * x, d * x * y, d * x * z, 0,
    d * x * y, across + d * y * y, d * y * z, 0,
    d * x * z, d * y * z, across + d * z * z, 0,
    0, 0, 0, 1,
  );
}

/** The mesh with every vertex moved by its bones' maps, and sculpted. */
function movedGeometry(source, moves, names, chest) {
  const { position, skinIndex, skinWeight } = source.attributes;
  const count = position.count;
  const moved = new Float32Array(3 * count);
  const head = new Float32Array(count);
  const soft = new Float32Array(count);
  const trunk = new Float32Array(count);
  const softness = names.map((name) => SOFTNESS.find(([pattern]) => pattern.test(name))?.[1] ?? 0.4);
  const place = new Vector3();
  const sum = new Vector3();
  for (let i = 0; i < count; i++) {
    sum.set(0, 0, 0);
    for (let k = 0; k < 4; k++) {
      const weight = skinWeight.getComponent(i, k);
      if (weight === 0) continue;
      const bone = skinIndex.getComponent(i, k);
      sum.addScaledVector(place.fromBufferAttribute(position, i).applyMatrix4(moves[bone]), weight);
      soft[i] += weight * softness[bone];
      if (names[bone] === "Head") head[i] += weight;
      trunk[i] += weight * (/Hips|Spine|Shoulder|(Left|Right)Arm$/.test(names[bone]) ? 1 : /UpLeg/.test(names[bone]) ? 0.5 : 0);
    }
    sum.toArray(moved, 3 * i);
  }
  const neighbours = neighboursOf(source.index, count);
  smooth(moved, neighbours, soft, 40, 1);
  smooth(moved, neighbours, chestStrength(moved, chest.low, chest.high), 1200, -1);
  smooth(moved, neighbours, trunk, 36, 0.3);
  const giveNormals = makeOval(moved, head);
  // The seam between neck and oval.
  smooth(moved, neighbours, head.map((weight) => (weight > 0.02 ? 4 * weight * (1.02 - weight) : 0)), 30, 0.9);
  const geometry = new BufferGeometry();
  geometry.setIndex(source.index);
  geometry.setAttribute("position", new BufferAttribute(moved, 3));
  geometry.setAttribute("rest", new BufferAttribute(moved.slice(), 3));
  geometry.setAttribute("skinIndex", skinIndex);
  geometry.setAttribute("skinWeight", skinWeight);
  geometry.computeVertexNormals();
  giveNormals(geometry.attributes.normal.array);
  return geometry;
}

function bendFinger(bone) {
  const match = /^(Left|Right)Hand([A-Z][a-z]+)\d$/.exec(bone.name);
  if (!match) return;
  const side = match[1] === "Left" ? -1 : 1;
  bone.rotation.z = side * FINGER_BEND[match[2]];
}
