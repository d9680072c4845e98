"""One page that is connected to the web stage: what waits for it, and how much it may ask."""

from __future__ import annotations

import asyncio
from collections import deque

from aiohttp import web

from bridges.control_limits import ControlLimiter, TokenBucket

# Two seconds of a dense band; a page that is further behind misses the oldest.
_QUEUED_TEXTS = 256
# A slider dragged sends 20 a second; two hands on two pages stay far below.
_CONTROL_RATE, _CONTROL_BURST = 60.0, 60.0
# Beyond this many messages at once a client is no page of ours.
_FLOOD_RATE, _FLOOD_BURST = 200.0, 400.0


class Page:
    """One connected page: what it was sent and what waits for it. Threads: the loop's."""

    def __init__(self, socket_: web.WebSocketResponse, transport: asyncio.Transport) -> None:
        self.socket = socket_
        self.transport = transport
        self.texts: deque[str] = deque(maxlen=_QUEUED_TEXTS)
        self.wake = asyncio.Event()
        self.sent: dict[str, int] = {}
        """Index of the last pose sent, by performer."""
        self.controls = ControlLimiter(_CONTROL_RATE, _CONTROL_BURST)
        self.flood = TokenBucket(_FLOOD_RATE, _FLOOD_BURST)

    def tell(self, text: str) -> None:
        """Queue a text message; the oldest gives way."""
        self.texts.append(text)
        self.wake.set()
