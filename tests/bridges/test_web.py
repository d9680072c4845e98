"""The web stage's server: who is let in, what pages are sent, what they may ask, and how it ends."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import aiohttp
import numpy as np
import pytest

from bridges.web import WebBridge, messages, server
from bridges.web.guard import HostGuard, TokenBucket
from engine.body import skeleton
from engine.clock import VirtualClock
from engine.errors import UserError
from engine.types import BeatEvent, ClockEvent, ControlEvent, MetricsEvent, NoteEvent, PoseFrame, StatusEvent
from tests.ports import unshared_port
from tests.waiting import PATIENCE_S

SECOND = 1_000_000_000
_BURST = 400  # messages at once that are a page's right


class Stage:
    """A bridge that listens, on a free port unless told where, and what it was asked."""

    def __init__(self, port: int = 0, **options: object) -> None:
        self.clock = VirtualClock(100 * SECOND)
        self.controls: list[ControlEvent] = []
        self.arrived = threading.Condition()
        self.bridge = WebBridge(port=port, clock=self.clock, **options)  # type: ignore[arg-type]
        self.bridge.open(self.on_control)

    def on_control(self, event: ControlEvent) -> None:
        with self.arrived:
            self.controls.append(event)
            self.arrived.notify_all()

    def wait_for_control(self, name: str) -> ControlEvent:
        with self.arrived:
            assert self.arrived.wait_for(lambda: any(e.name == name for e in self.controls), timeout=PATIENCE_S)
            return next(e for e in self.controls if e.name == name)

    def talk(self, visit: Callable[[aiohttp.ClientSession, str], Awaitable[None]]) -> None:
        """Run a client against the bridge."""

        async def main() -> None:
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2 * PATIENCE_S)) as session:
                await visit(session, f"127.0.0.1:{self.bridge.port}")

        asyncio.run(main())


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    # A page that does not answer in time is hung up on; here those who are slow shall be that as long as they like.
    monkeypatch.setattr(server, "_HEARTBEAT_S", 10 * PATIENCE_S)
    stage = Stage(stage_info={"styles": ["waltz", "tango"], "style": "auto", "energy": 0.4, "mirror": False})
    yield stage
    stage.bridge.close()


def pose_at(index: int, rotations: np.ndarray | None = None) -> PoseFrame:
    rotations = np.zeros((24, 3)) if rotations is None else rotations
    time_ns = 100 * SECOND + index * 16_666_667
    return PoseFrame(time_ns, time_ns - 40_000_000, rotations, np.array([0.1, 0.97, -0.2]), np.array([0, 0.25, 0.5, 1]))


async def receive_json(ws: aiohttp.ClientWebSocketResponse, kind: str) -> dict:
    """Return the next text message of that type."""
    while True:
        message = await asyncio.wait_for(ws.receive(), PATIENCE_S)
        assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), message
        if message.type is aiohttp.WSMsgType.TEXT:
            parsed = json.loads(message.data)
            if parsed["type"] == kind:
                return parsed


async def receive_pose(ws: aiohttp.ClientWebSocketResponse) -> bytes:
    while True:
        message = await asyncio.wait_for(ws.receive(), PATIENCE_S)
        if message.type is aiohttp.WSMsgType.BINARY:
            return message.data


async def pong(ws: aiohttp.ClientWebSocketResponse) -> float:
    """Wait until the bridge has dealt with all that was sent before."""
    await ws.send_json({"type": "ping", "token": 7.5})
    reply = await receive_json(ws, "pong")
    assert reply["token"] == 7.5
    return reply["session_s"]


# What is served, and to whom


def test_page_and_its_files_are_served_with_strict_headers(stage: Stage) -> None:
    async def visit(session: aiohttp.ClientSession, host: str) -> None:
        page = await session.get(f"http://{host}/")
        text = await page.text()
        assert page.status == 200
        assert page.content_type == "text/html"
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert f"ws://{host}" in page.headers["Content-Security-Policy"]
        assert page.headers["X-Content-Type-Options"] == "nosniff"
        linked = re.findall(r'(?:src|href)="([^"]+)"', text)
        assert {"app.js", "style.css", "icon.svg", "LICENSES.txt"} == set(linked)
        types = {"app.js": "text/javascript", "style.css": "text/css", "figure.glb": "model/gltf-binary"}
        for name in {*linked, "figure.glb"}:
            file = await session.get(f"http://{host}/{name}")
            assert file.status == 200, name
            assert file.content_type == types.get(name, file.content_type)
            again = await session.get(f"http://{host}/{name}", headers={"If-None-Match": file.headers["ETag"]})
            assert again.status == 304
        for path in ("/nothing", "/../server.py", "/%2e%2e/server.py", "/static/app.js"):
            missing = await session.get(f"http://{host}{path}")
            assert missing.status == 404
            assert "Content-Security-Policy" in missing.headers
        assert (await session.post(f"http://{host}/")).status == 405

    stage.talk(visit)


def test_foreign_hosts_and_origins_are_refused(stage: Stage) -> None:
    async def visit(session: aiohttp.ClientSession, host: str) -> None:
        port = stage.bridge.port

        async def status(path: str, **headers: str) -> int:
            return (await session.get(f"http://{host}{path}", headers=headers)).status

        assert await status("/", Host=f"localhost:{port}") == 200
        assert await status("/", Host=f"LOCALHOST:{port}") == 200
        for name in (f"evil.example:{port}", "127.0.0.1", "127.0.0.1:1", f"localhost.evil.example:{port}", "[::1", ""):
            assert await status("/", Host=name) == 403, name
        assert await status("/", Origin="http://evil.example") == 403

        for origin in ("http://evil.example", "null", f"http://127.0.0.1:{port + 1}", f"https://127.0.0.1:{port}", ""):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(f"ws://{host}/ws", headers={"Origin": origin})
            assert refused.value.status == 403, origin
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await session.ws_connect(f"ws://{host}/ws", headers={"Host": f"rebound.example:{port}"})
        for origin in (f"http://127.0.0.1:{port}", f"http://localhost:{port}"):
            ws = await session.ws_connect(f"ws://{host}/ws", headers={"Origin": origin})
            await receive_json(ws, "hello")
            await ws.close()

    stage.talk(visit)
    assert stage.bridge.counters["refused_host"] == 7
    assert stage.bridge.counters["refused_origin"] == 6


def test_guard_of_a_stage_on_the_network() -> None:
    guard = HostGuard("0.0.0.0", ["stage.local"])
    assert guard.host_allowed("192.168.1.20:8765", 8765)
    assert guard.host_allowed("[fe80::1]:8765", 8765)
    assert guard.host_allowed("stage.local:8765", 8765)
    assert not guard.host_allowed("rebound.example:8765", 8765)
    assert guard.host_allowed("192.168.1.20", 80)
    one_address = HostGuard("192.168.1.20")
    assert one_address.host_allowed("192.168.1.20:8765", 8765)
    assert not one_address.host_allowed("192.168.1.21:8765", 8765)
    assert HostGuard("::1").host_allowed("[::1]:8765", 8765)
    assert not guard.origin_allowed("file://", 8765)


def test_too_many_pages_are_turned_away(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_PAGES", 2)

    async def visit(session: aiohttp.ClientSession, host: str) -> None:
        pages = [await session.ws_connect(f"ws://{host}/ws") for _ in range(2)]
        for page in pages:
            await receive_json(page, "hello")
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(f"ws://{host}/ws")
        assert refused.value.status == 503
        for page in pages:
            await page.close()

    stage.talk(visit)


# What pages are sent


def test_pose_message_layout(stage: Stage) -> None:
    """Decoded here by hand, offset by offset, as src/protocol.js does."""
    rotations = np.random.default_rng(1).normal(0, 0.7, (24, 3))
    frame = pose_at(3, rotations)

    async def visit(session: aiohttp.ClientSession, host: str) -> None:
        ws = await session.ws_connect(f"ws://{host}/ws")
        await receive_json(ws, "hello")
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
        ws = await session.ws_connect(f"ws://{host}/ws")
        await receive_json(ws, "hello")
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
        ws = await session.ws_connect(f"ws://{host}/ws")
        await receive_json(ws, "hello")
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
        ws = await session.ws_connect(f"ws://{host}/ws")
        await receive_json(ws, "hello")
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
        ws = await session.ws_connect(f"ws://{host}/ws")
        await receive_json(ws, "hello")
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
        quick = await session.ws_connect(f"ws://{host}/ws")
        await receive_json(quick, "hello")
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


# What pages may ask


def test_controls_arrive_clamped_and_stamped(stage: Stage) -> None:
    async def visit(session: aiohttp.ClientSession, host: str) -> None:
        ws = await session.ws_connect(f"ws://{host}/ws")

        async def ask(name: str, value: object = None, **more: object) -> None:
            await ws.send_json({"type": "control", "name": name, "value": value, **more})

        await ask("energy", 7)
        await ask("style", "tango")
        await ask("mirror", True)
        await ask("nudge", -0.05)
        await ask("tap", None, at_s=99.9)
        await ask("double", None, at_s=12.0)
        await ask("half", None, at_s=1e300)
        assert await pong(ws) == 100.0
        await ws.close()

    stage.talk(visit)
    now = 100 * SECOND
    assert stage.controls == [
        ControlEvent(now, "energy", 1.0),
        ControlEvent(now, "style", "tango"),
        ControlEvent(now, "mirror", 1.0),
        ControlEvent(now, "nudge", -0.05),
        ControlEvent(99_900_000_000, "tap", None),
        ControlEvent(now, "double", None),
        ControlEvent(now, "half", None),
    ]


MALFORMED = [
    "",
    "panic",
    "null",
    "[]",
    "[" * 900,
    '"control"',
    '{"type":"control"}',
    '{"type":"control","name":7}',
    '{"type":"control","name":"reboot"}',
    '{"type":"control","name":"energy"}',
    '{"type":"control","name":"energy","value":NaN}',
    '{"type":"control","name":"energy","value":Infinity}',
    '{"type":"control","name":"energy","value":[1]}',
    '{"type":"control","name":"energy","value":' + "9" * 400 + "}",
    '{"type":"control","name":"style","value":"a\\u0000b"}',
    '{"type":"control","name":"style","value":{"a":1}}',
    '{"type":"ping"}',
    '{"type":"ping","token":"x"}',
    '{"type":"shutdown"}',
]


def test_malformed_messages_are_counted_and_dropped(stage: Stage) -> None:
    async def visit(session: aiohttp.ClientSession, host: str) -> None:
        ws = await session.ws_connect(f"ws://{host}/ws")
        for text in MALFORMED:
            await ws.send_str(text)
        await ws.send_bytes(b"\x01\x02")
        await pong(ws)
        await ws.send_json({"type": "control", "name": "panic"})
        await pong(ws)
        await ws.send_str("x" * 5000)
        assert (await ws.receive()).data == aiohttp.WSCloseCode.MESSAGE_TOO_BIG

    stage.talk(visit)
    # Closing waits for the handler, which counts after it has hung up.
    stage.bridge.close()
    assert [event.name for event in stage.controls] == ["panic"]
    assert stage.bridge.counters["malformed"] == len(MALFORMED) + 2


def test_controls_are_rate_limited_but_panic_passes(stage: Stage) -> None:
    async def visit(session: aiohttp.ClientSession, host: str) -> None:
        ws = await session.ws_connect(f"ws://{host}/ws")
        for step in range(100):
            await ws.send_json({"type": "control", "name": "energy", "value": step / 100})
        await ws.send_json({"type": "control", "name": "panic"})
        await pong(ws)
        stage.clock.advance(SECOND)
        await ws.send_json({"type": "control", "name": "energy", "value": 1})
        await pong(ws)
        await ws.close()

    stage.talk(visit)
    assert [event.name for event in stage.controls] == ["energy"] * 60 + ["panic", "energy"]
    assert stage.bridge.counters["rate_limited"] == 40


def test_a_flood_is_cut_off(stage: Stage) -> None:
    async def visit(session: aiohttp.ClientSession, host: str) -> None:
        ws = await session.ws_connect(f"ws://{host}/ws")
        await receive_json(ws, "hello")
        # One more than is allowed. Hung up on with more on its way, a page would be told nothing.
        for _ in range(_BURST + 1):
            await ws.send_str("{}")
        message = await asyncio.wait_for(ws.receive(), PATIENCE_S)
        assert message.data == aiohttp.WSCloseCode.POLICY_VIOLATION
        again = await session.ws_connect(f"ws://{host}/ws")
        await pong(again)
        await again.close()

    stage.talk(visit)
    assert stage.bridge.counters["flooded"] == 1


def test_a_control_that_fails_does_not_end_the_stage(stage: Stage) -> None:
    def fail(event: ControlEvent) -> None:
        raise RuntimeError("inbox on fire")

    stage.bridge._on_control = fail

    async def visit(session: aiohttp.ClientSession, host: str) -> None:
        ws = await session.ws_connect(f"ws://{host}/ws")
        await ws.send_json({"type": "control", "name": "tap"})
        await pong(ws)
        await ws.close()

    stage.talk(visit)
    assert stage.bridge.counters["control_failed"] == 1


def test_token_bucket() -> None:
    bucket = TokenBucket(rate=2.0, burst=3.0)
    assert [bucket.take(5.0) for _ in range(4)] == [True, True, True, False]
    assert bucket.take(5.5)
    assert not bucket.take(5.5)
    assert not bucket.take(4.0)


# How it begins and ends


def test_port_in_use_names_the_remedy() -> None:
    port = unshared_port()
    with socket.create_server(("127.0.0.1", port)):
        bridge = WebBridge(port=port)
        with pytest.raises(UserError, match=rf"port {port} is already in use.*--web {port + 1}.*--web off"):
            bridge.open(print)
    # Free again, the same bridge may try again.
    bridge.open(print)
    bridge.close()


def test_unknown_address_and_missing_files_are_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"192\.0\.2\.1.*web\.host"):
        WebBridge(host="192.0.2.1", port=0).open(print)
    monkeypatch.setattr(server, "STATIC_FOLDER", tmp_path)
    with pytest.raises(UserError, match="files are missing"):
        WebBridge(port=0).open(print)


def test_close_tells_pages_waits_for_none_and_frees_the_port() -> None:
    port = unshared_port()
    stage = Stage(port)

    async def visit(session: aiohttp.ClientSession, host: str) -> None:
        pages = [await session.ws_connect(f"ws://{host}/ws") for _ in range(3)]
        for page in pages:
            await receive_json(page, "hello")
        loop = asyncio.get_running_loop()
        # This page's answer to the farewell never comes.
        mute = await session.ws_connect(f"ws://{host}/ws", autoclose=False)
        await receive_json(mute, "hello")
        closing = loop.run_in_executor(None, stage.bridge.close)
        for page in (*pages, mute):
            message = await asyncio.wait_for(page.receive(), PATIENCE_S)
            assert message.type is aiohttp.WSMsgType.CLOSE
            assert message.data == aiohttp.WSCloseCode.GOING_AWAY
        await closing

    stage.talk(visit)
    stage.bridge.close()
    stage.bridge.send(pose_at(1))
    stage.bridge.send(StatusEvent(0, "x", "info", "after the end"))
    assert not any(thread.name == "web-bridge" for thread in threading.enumerate())
    again = WebBridge(port=port)
    again.open(print)
    again.close()


def test_events_before_opening_are_harmless() -> None:
    bridge = WebBridge(port=0)
    bridge.send(pose_at(0))
    bridge.send(ControlEvent(0, "blackout", 1.0))
    bridge.close()
