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
        self._texts: deque[tuple[str, str]] = deque()
        self.wake = asyncio.Event()
        self.sent: dict[str, int] = {}
        """Index of the last pose sent, by performer."""
        self.controls = ControlLimiter(_CONTROL_RATE, _CONTROL_BURST)
        self.flood = TokenBucket(_FLOOD_RATE, _FLOOD_BURST)

    def tell(self, text: str, state: str = "") -> None:
        """Queue a text message; if too many wait, the oldest gives way that says no state, or one that has changed.

        Args:
            text: JSON.
            state: name of what it says how it is: a page that was behind is told that all the same.
        """
        self._texts.append((state, text))
        if len(self._texts) > _QUEUED_TEXTS:
            newest = {name: index for index, (name, _) in enumerate(self._texts)}
            outdated = (index for index, (name, _) in enumerate(self._texts) if not name or newest[name] != index)
            del self._texts[next(outdated, 0)]
        self.wake.set()

    def next_text(self) -> str | None:
        """Return the next text message, which waits no longer; None: there is none."""
        return self._texts.popleft()[1] if self._texts else None
