"""Visitors of the web stage: a bridge that listens, and what a page sends and receives."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable

import aiohttp
import numpy as np

from bridges.web import WebBridge
from engine.clock import VirtualClock
from engine.types import ControlEvent, PoseFrame
from tests.waiting import PATIENCE_S

SECOND = 1_000_000_000


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


async def enter(session: aiohttp.ClientSession, host: str) -> aiohttp.ClientWebSocketResponse:
    """Connect as a page does, and hear the greeting."""
    ws = await session.ws_connect(f"ws://{host}/ws")
    await receive_json(ws, "hello")
    return ws


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
