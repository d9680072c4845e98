"""What the web stage sends to its pages: poses, state, beats, metrics; and what becomes of a slow page."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from unittest.mock import Mock

import aiohttp
import numpy as np
import pytest

from bridges.web import WebBridge, messages
from bridges.web.page import Page
from engine.body import skeleton
from engine.clock import VirtualClock
from engine.types import BeatEvent, ClockEvent, ControlEvent, MetricsEvent, NoteEvent, PoseFrame, StatusEvent
from tests.bridges.web.visitors import SECOND, Stage, enter, pong, pose_at, receive_json, receive_pose
from tests.waiting import PATIENCE_S


def test_pose_message_layout(stage: Stage) -> None:
    """Decoded here by hand, offset by offset, as src/protocol.js does."""
    rotations = np.random.default_rng(1).normal(0, 0.7, (24, 3))
    frame = pose_at(3, rotations)

    async def visit(session: aiohttp.ClientSession, host: str) -> None:
        ws = await enter(session, host)
        # The clock is half a beat at 120 bpm behind the pose's presentation time.
        stage.bridge.send(ClockEvent(frame.time_ns - SECOND // 4, 0, 41.75, 0.75, 120.0, 0.5))
        stage.bridge.send(frame)
        data = await receive_pose(ws)
        assert len(data) == 452
        assert struct.unpack_from("<BBHI", data, 0) == (1, 1, 0, 1)
        time_s, beat = struct.unpack_from("<dd", data, 8)
        phase, tempo, confidence, latency = struct.unpack_from("<ffff", data, 24)
        assert time_s == pytest.approx(frame.time_ns * 1e-9, abs=1e-9)
        assert beat == pytest.approx(42.25)
        assert (phase, tempo, confidence) == pytest.approx((0.25, 120.0, 0.5))
        assert latency == pytest.approx(0.04)
        floats = np.frombuffer(data, "<f4", offset=40)
        np.testing.assert_array_equal(floats[:4], frame.contacts)
        np.testing.assert_array_equal(floats[4:7], frame.translation_m)
        quaternions = floats[7:].reshape(24, 4)
        expected = skeleton.axis_angle_to_quaternion(frame.rotations)
        np.testing.assert_allclose(quaternions, expected, atol=1e-6)
        await ws.close()

    stage.talk(visit)


def test_pose_without_a_clock_has_no_tempo() -> None:
    data = messages.pack_pose(pose_at(0), None, 2**32 + 5)
    assert struct.unpack_from("<I", data, 4) == (5,)
    assert struct.unpack_from("<ffff", data, 24)[1:3] == (0.0, 0.0)


def as_performer(frame: PoseFrame, performer: str) -> PoseFrame:
    return PoseFrame(frame.time_ns, frame.source_ns, frame.rotations, frame.translation_m, frame.contacts, performer)


def test_every_performer_is_shown_under_a_number(stage: Stage) -> None:
    async def visit(session: aiohttp.ClientSession, host: str) -> None:
        ws = await enter(session, host)
        stage.bridge.send(as_performer(pose_at(0), "camera"))
        told = await receive_json(ws, "performers")
        assert told["names"] == ["", "camera"]
        seen: dict[int, int] = {}
        for index in range(1, 30):
            for performer in ("", "camera", "partner"):
                stage.bridge.send(as_performer(pose_at(index), performer))
            await pong(ws)
        late = await session.ws_connect(f"ws://{host}/ws")
        assert (await receive_json(late, "performers"))["names"] == ["", "camera", "partner"]
        stage.bridge.send(as_performer(pose_at(30), ""))
        while seen != {0: 30, 1: 30, 2: 29}:  # who comes late is shown everybody, as last seen
            number, index = struct.unpack_from("<HI", await receive_pose(late), 2)
            assert index > seen.get(number, 0)
            seen[number] = index
        await ws.close()
        await late.close()

    stage.talk(visit)


def test_performers_without_end_are_few(stage: Stage) -> None:
    async def visit(session: aiohttp.ClientSession, host: str) -> None:
        ws = await enter(session, host)
        for index in range(200):
            stage.bridge.send(as_performer(pose_at(index), f"{index}" + "x" * 100_000 * (index == 7)))
        late = await session.ws_connect(f"ws://{host}/ws")
        names = (await receive_json(late, "performers"))["names"]
        assert len(names) == 32
        assert max(map(len, names)) <= 32
        await ws.close()
        await late.close()

    stage.talk(visit)


def test_page_is_told_the_state_and_every_change(stage: Stage) -> None:
    async def visit(session: aiohttp.ClientSession, host: str) -> None:
        first = await session.ws_connect(f"ws://{host}/ws")
        hello = await receive_json(first, "hello")
        assert hello["info"]["styles"] == ["waltz", "tango"]
        assert hello["settings"] == {"style": "auto", "energy": 0.4, "mirror": 0.0}
        stage.bridge.send(ControlEvent(0, "energy", 0.9))
        stage.bridge.send(ControlEvent(0, "tap", None))
        assert await receive_json(first, "control") == {"type": "control", "name": "energy", "value": 0.9}
        assert (await receive_json(first, "control"))["name"] == "tap"
        second = await session.ws_connect(f"ws://{host}/ws")
        assert (await receive_json(second, "hello"))["settings"]["energy"] == 0.9
        await first.close()
        await second.close()

    stage.talk(visit)


def test_beats_notes_and_status_are_told(stage: Stage) -> None:
    async def visit(session: aiohttp.ClientSession, host: str) -> None:
        ws = await enter(session, host)
        stage.bridge.send(BeatEvent(2 * SECOND, SECOND, 17, 2, 99.5, float("nan")))
        stage.bridge.send(NoteEvent(SECOND, SECOND, 9, 36, 110, SECOND // 4))
        stage.bridge.send(StatusEvent(SECOND, "camera", "error", "lost\n" + "x" * 1000))
        beat = await receive_json(ws, "beat")
        assert (beat["index"], beat["bar_beat"], beat["tempo_bpm"], beat["confidence"]) == (17, 2, 99.5, None)
        note = await receive_json(ws, "note")
        assert (note["channel"], note["pitch"], note["duration_s"]) == (9, 36, 0.25)
        assert len((await receive_json(ws, "status"))["message"]) == 400
        # Who comes later is told how each component is now.
        late = await session.ws_connect(f"ws://{host}/ws")
        assert (await receive_json(late, "status"))["component"] == "camera"
        await ws.close()
        await late.close()

    stage.talk(visit)


def test_metrics_are_thinned_out(stage: Stage) -> None:
    async def visit(session: aiohttp.ClientSession, host: str) -> None:
        ws = await enter(session, host)
        for value in (1.0, 2.0, 3.0):
            stage.bridge.send(MetricsEvent(0, {"latency_p50_ms": value}))
        assert (await receive_json(ws, "metrics"))["values"] == {"latency_p50_ms": 1.0}
        await pong(ws)
        stage.clock.advance(SECOND // 2)
        stage.bridge.send(MetricsEvent(0, {"latency_p50_ms": 4.0}))
        assert (await receive_json(ws, "metrics"))["values"] == {"latency_p50_ms": 4.0}
        await ws.close()

    stage.talk(visit)


def test_slow_page_misses_poses_and_delays_nobody(stage: Stage) -> None:
    """One page reads nothing for 800 poses (0.36 MB); then it is shown the newest ones, not the backlog."""
    poses = 800
    port = stage.bridge.port
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.settimeout(PATIENCE_S)
    slow.connect(("127.0.0.1", port))
    slow.sendall(
        f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )

    async def visit(session: aiohttp.ClientSession, host: str) -> None:
        quick = await enter(session, host)
        for index in range(poses):
            stage.bridge.send(pose_at(index))
            data = await receive_pose(quick)
            assert struct.unpack_from("<I", data, 4) == (index + 1,)
        await quick.close()

    stage.talk(visit)
    received = b""
    indices: list[int] = []
    while not indices or indices[-1] <= poses:
        # Room is made by reading, and the next pose goes out.
        stage.bridge.send(pose_at(poses))
        chunk = slow.recv(65536)
        assert chunk, "the bridge hung up"
        received += chunk
        indices = [struct.unpack_from("<I", received, at + 4)[0] for at in _pose_offsets(received)]
    slow.close()
    assert indices == sorted(indices)
    assert len(indices) < poses / 2
    assert stage.bridge.counters["poses_skipped"] > poses / 2


def _pose_offsets(stream: bytes) -> Iterator[int]:
    """Yield where pose messages begin in a stream of WebSocket frames after the handshake."""
    at = stream.index(b"\r\n\r\n") + 4
    while at + 2 <= len(stream):
        opcode, length = stream[at] & 0x0F, stream[at + 1] & 0x7F
        at += 2
        if length == 126:
            length = struct.unpack_from(">H", stream, at)[0]
            at += 2
        if at + length > len(stream):
            return
        if opcode == 2:
            yield at
        at += length


def test_a_page_that_was_behind_is_told_how_things_are() -> None:
    bridge, page = WebBridge(clock=VirtualClock()), Page(Mock(), Mock())
    bridge._pages.add(page)
    bridge.send(ControlEvent(0, "energy", 0.1))
    bridge.send(ControlEvent(0, "blackout", 1.0))
    for number in range(600):
        bridge.send(NoteEvent(number, 0, 0, 60, 100, 1))
        if number == 300:
            bridge.send(ControlEvent(0, "energy", 0.9))
            bridge.send(ControlEvent(0, "panic"))
        bridge._drain()
    told = []
    while (text := page.next_text()) is not None:
        told.append(json.loads(text))
    assert len(told) == 256, "a page that never reads does not fill the memory"
    controls = [(message["name"], message["value"]) for message in told if message["type"] == "control"]
    assert controls == [("blackout", 1.0), ("energy", 0.9), ("panic", None)]
    assert [message["type"] for message in told[-200:]] == ["note"] * 200
