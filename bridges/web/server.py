"""The web stage's server: the page over HTTP, poses and controls over one WebSocket a page.

The scheduler's thread only drops events into slots and wakes the loop; packing and sending happen on the bridge's own
thread. A page that cannot keep up misses poses, never delays them: each page is sent the newest pose, and only while
little of the last one is still on its way.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from aiohttp import WebSocketError, WSCloseCode, WSMsgType, web

from bridges.web import messages
from bridges.web.guard import SECURITY_HEADERS, HostGuard
from bridges.web.page import Page
from bridges.web.static_files import StaticFile, load_static_files
from engine.clock import Clock, SessionClock
from engine.controls import CONTROLS, ControlValue
from engine.errors import UserError
from engine.types import (
    BeatEvent,
    ClockEvent,
    ControlEvent,
    MetricsEvent,
    NoteEvent,
    OutputEvent,
    PoseFrame,
    StatusEvent,
)

_log = logging.getLogger(__name__)

STATIC_FOLDER = Path(__file__).parent / "static"
MAX_PAGES = 16
# More performers than any stage holds are not shown: each costs every page a figure.
MAX_PERFORMERS = 32
# Of each performer a pose is not sent while more than this waits in our buffer for the page: two poses.
_MAX_UNSENT_BYTES = 2 * messages.POSE_BYTES
# The kernel's part of the same queue; its default of megabytes would hide half a minute of poses.
_SEND_BUFFER_BYTES = 16 * 1024
_METRICS_INTERVAL_S = 0.25
_HEARTBEAT_S = 15.0
_OPEN_TIMEOUT_S, _CLOSE_TIMEOUT_S = 60.0, 10.0
# Of the close: what pages get to answer. All of it is over within a second, unless the machine is kept from it.
_FAREWELL_S = 0.3


class WebBridge:
    """Serves the web stage.

    Args:
        host: address to listen on; loopback unless the show says otherwise.
        port: TCP port; 0 takes a free one (see `port`).
        clock: the session's clock, to stamp controls; None: one that begins now.
        stage_info: what a page is told when it opens: "styles" and "scenes" (lists of names), and the settings it
            starts with by control name ("style", "energy", "mirror", "blackout", "hold", "key", "mute_bass" ...).
            Echoed ControlEvents keep the settings current. Other entries ("version", "song", ...) are passed on; with
            "composer" there is a band, and the page shows what belongs to it; "zones" are its triggers; "latency_ms"
            is how long before its time everything is sent.
        allowed_hosts: further host names under which the page may be reached.

    Threads: `open`, `send` and `close` from any one thread each; `on_control` is called on the bridge's own.
    """

    name = "web"

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 8765,
        *,
        clock: Clock | None = None,
        stage_info: Mapping[str, object] | None = None,
        allowed_hosts: Iterable[str] = (),
    ) -> None:
        self._host = host
        self._wanted_port = port
        self._port = port
        self._clock: Clock = clock if clock is not None else SessionClock()
        self._guard = HostGuard(host, allowed_hosts)
        info = dict(stage_info or {})
        self._settings: dict[str, ControlValue] = {
            name: _setting(info.pop(name)) for name in CONTROLS if name in info and CONTROLS[name].kind != "trigger"
        }
        self._info = info
        self._on_control: Callable[[ControlEvent], None] = lambda event: None
        self._counters: Counter[str] = Counter()

        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None

        # Slots between `send` and the loop: assignment and deque operations are atomic, newest pose wins. The dancers
        # are those who have appeared so far, in the order of their numbers.
        self._poses: dict[str, tuple[PoseFrame, ClockEvent | None, int]] = {}
        self._dancers: list[str] = [""]
        self._clock_event: ClockEvent | None = None
        self._pose_counts: Counter[str] = Counter()
        self._inbox: deque[OutputEvent] = deque(maxlen=512)
        self._wake_sent = False

        # The loop's own.
        self._pages: set[Page] = set()
        self._packed: dict[str, tuple[int, bytes]] = {}
        self._told_dancers = 1
        self._latest_status: dict[str, str] = {}
        self._metrics_sent_s = -1e9

    @property
    def port(self) -> int:
        """The port listened on."""
        return self._port

    @property
    def url(self) -> str:
        """Where the operator finds the page."""
        host = "127.0.0.1" if self._host in ("", "0.0.0.0", "::") else self._host
        return f"http://{f'[{host}]' if ':' in host else host}:{self._port}"

    @property
    def counters(self) -> Mapping[str, int]:
        """What was counted: pages, poses_sent, poses_skipped, controls, and why messages were dropped."""
        return dict(self._counters)

    def open(self, on_control: Callable[[ControlEvent], None]) -> None:
        """Listen.

        Raises:
            UserError: the port is taken or not ours to take, or the page's files are missing.
        """
        if self._thread is not None:
            raise RuntimeError("the web bridge is already open")
        files = load_static_files(STATIC_FOLDER)
        self._on_control = on_control
        self._ready.clear()
        self._failure = None
        self._thread = threading.Thread(target=self._run, args=(files,), name="web-bridge", daemon=True)
        self._thread.start()
        if not self._ready.wait(_OPEN_TIMEOUT_S):
            raise UserError("the web stage did not start", "try again, or go without it: --web off")
        if self._failure is not None:
            self._thread.join()
            self._thread = None
            raise _explain(self._failure, self._host, self._wanted_port) from self._failure
        _log.info("web stage on %s", self.url)

    def send(self, event: OutputEvent) -> None:
        """Hand one event to the pages; returns at once, whether or not there are any."""
        if isinstance(event, PoseFrame):
            name = event.performer
            if name not in self._pose_counts and name != "":
                if len(self._dancers) >= MAX_PERFORMERS:
                    return
                self._dancers.append(name)
            self._pose_counts[name] += 1
            self._poses[name] = (event, self._clock_event, self._pose_counts[name])
            if not self._pages:
                return
        elif isinstance(event, ClockEvent):
            # It travels inside the pose that follows it.
            self._clock_event = event
            return
        else:
            self._inbox.append(event)
        loop = self._loop
        if loop is not None and not self._wake_sent:
            self._wake_sent = True
            # A loop that closes in this very moment has nobody left to tell.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._drain)

    def close(self) -> None:
        """Tell the pages, stop listening and end the thread; idempotent. Who does not answer is not waited for."""
        thread, loop, stopping = self._thread, self._loop, self._stopping
        self._thread = None
        if thread is None:
            return
        if loop is not None and stopping is not None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(stopping.set)
        thread.join(_CLOSE_TIMEOUT_S)
        if thread.is_alive():
            _log.warning("the web stage's thread did not end in time")

    # Below here: the bridge's own thread.

    def _run(self, files: Mapping[str, StaticFile]) -> None:
        try:
            asyncio.run(self._serve(files))
        except BaseException as error:
            self._failure = error
            if self._ready.is_set():
                _log.exception("the web stage stopped")
        finally:
            self._loop = None
            self._ready.set()

    async def _serve(self, files: Mapping[str, StaticFile]) -> None:
        app = web.Application(middlewares=[self._checked])
        for path, file in files.items():
            app.router.add_get(path, file.respond)
        app.router.add_get("/ws", self._talk)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._wanted_port).start()
            self._port = int(runner.addresses[0][1])
            self._stopping = asyncio.Event()
            self._wake_sent = False
            self._loop = asyncio.get_running_loop()
            self._ready.set()
            await self._stopping.wait()
            self._loop = None
            await asyncio.gather(*(self._dismiss(page) for page in tuple(self._pages)))
        finally:
            await runner.cleanup()

    async def _dismiss(self, page: Page) -> None:
        with contextlib.suppress(ConnectionError, TimeoutError, RuntimeError):
            async with asyncio.timeout(_FAREWELL_S):
                await page.socket.close(code=WSCloseCode.GOING_AWAY)

    @web.middleware
    async def _checked(self, request: web.Request, handler: Callable[..., object]) -> web.StreamResponse:
        """Refuse what is not from our own page; put the security headers on every answer."""
        if not self._guard.host_allowed(request.headers.get("Host"), self._port):
            self._counters["refused_host"] += 1
            refusal = "This name is not allowed here. Open http://127.0.0.1 with the port, or set web.allowed_hosts."
            return web.Response(status=403, text=refusal, headers=SECURITY_HEADERS)
        if not self._guard.origin_allowed(request.headers.get("Origin"), self._port):
            self._counters["refused_origin"] += 1
            return web.Response(status=403, text="Foreign origin.", headers=SECURITY_HEADERS)
        try:
            response: web.StreamResponse = await handler(request)  # type: ignore[misc]
        except web.HTTPException as error:
            return web.Response(status=error.status, text=error.reason, headers=SECURITY_HEADERS)
        if not response.prepared:
            response.headers.update(SECURITY_HEADERS)
            policy = SECURITY_HEADERS["Content-Security-Policy"]
            own = f"connect-src 'self' ws://{request.host}"
            response.headers["Content-Security-Policy"] = policy.replace("connect-src 'self'", own)
        return response

    async def _talk(self, request: web.Request) -> web.StreamResponse:
        """Serve one page until it leaves."""
        if len(self._pages) >= MAX_PAGES:
            self._counters["refused_full"] += 1
            raise web.HTTPServiceUnavailable
        ws = web.WebSocketResponse(
            heartbeat=_HEARTBEAT_S, timeout=0.3, compress=False, max_msg_size=messages.MAX_CONTROL_BYTES
        )
        await ws.prepare(request)
        transport = request.transport
        if not isinstance(transport, asyncio.Transport):
            return ws
        raw_socket = transport.get_extra_info("socket")
        if raw_socket is not None:
            with contextlib.suppress(OSError):
                raw_socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        page = Page(ws, transport)
        page.tell(self._hello(), "hello")
        if len(self._dancers) > 1:
            page.tell(messages.performers_json(self._dancers), "performers")
        for status in self._latest_status.values():
            page.tell(status)
        self._pages.add(page)
        self._counters["pages"] += 1
        pump = asyncio.create_task(self._pump(page))
        try:
            async for message in ws:
                if not page.flood.take(self._clock.now_ns() * 1e-9):
                    self._counters["flooded"] += 1
                    await ws.close(code=WSCloseCode.POLICY_VIOLATION)
                    break
                if message.type is WSMsgType.TEXT:
                    self._receive(page, message.data)
                elif message.type is not WSMsgType.ERROR or isinstance(message.data, WebSocketError):
                    # Too long, not text, or not WebSocket at all; any other error is a page that went away.
                    self._counters["malformed"] += 1
        finally:
            self._pages.discard(page)
            pump.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await pump
        return ws

    async def _pump(self, page: Page) -> None:
        """Send what waits for one page, whenever woken."""
        with contextlib.suppress(ConnectionError):
            while True:
                await page.wake.wait()
                page.wake.clear()
                while (text := page.next_text()) is not None:
                    await page.socket.send_str(text)
                if page.transport.get_write_buffer_size() > _MAX_UNSENT_BYTES * len(self._packed):
                    continue
                for name, (index, message) in tuple(self._packed.items()):
                    sent = page.sent.get(name)
                    if index == sent:
                        continue
                    if sent is not None:
                        self._counters["poses_skipped"] += max(index - sent - 1, 0)
                    page.sent[name] = index
                    self._counters["poses_sent"] += 1
                    await page.socket.send_bytes(message)

    def _drain(self) -> None:
        """Take what `send` left, encode it once, and wake the pages."""
        self._wake_sent = False
        while True:
            try:
                event = self._inbox.popleft()
            except IndexError:
                break
            text = self._encode(event)
            if text is not None:
                state = f"control {event.name}" if isinstance(event, ControlEvent) else ""
                for page in self._pages:
                    page.tell(text, state)
        if not self._pages:
            return
        if len(self._dancers) > self._told_dancers:
            self._told_dancers = len(self._dancers)
            for page in self._pages:
                page.tell(messages.performers_json(self._dancers), "performers")
        fresh = False
        for name, (frame, clock, index) in tuple(self._poses.items()):
            packed = self._packed.get(name)
            if packed is None or packed[0] != index:
                fresh = True
                self._packed[name] = (index, messages.pack_pose(frame, clock, index, self._dancers.index(name)))
        if fresh:
            for page in self._pages:
                page.wake.set()

    def _encode(self, event: OutputEvent) -> str | None:
        """Return the event's text message, or None if it is not for the pages (or not yet)."""
        if isinstance(event, BeatEvent):
            return messages.beat_json(event)
        if isinstance(event, StatusEvent):
            text = messages.status_json(event)
            # A page that opens later is told how each component is; components are few, but nobody promised.
            if len(self._latest_status) < 64 or event.component in self._latest_status:
                self._latest_status[event.component] = text
            return text
        if isinstance(event, ControlEvent):
            if event.name in CONTROLS and CONTROLS[event.name].kind != "trigger":
                self._settings[event.name] = event.value
            return messages.to_json({"type": "control", "name": event.name, "value": event.value})
        if isinstance(event, MetricsEvent):
            now_s = self._clock.now_ns() * 1e-9
            if now_s - self._metrics_sent_s < _METRICS_INTERVAL_S:
                return None
            self._metrics_sent_s = now_s
            return messages.to_json({"type": "metrics", "values": event.values})
        if isinstance(event, NoteEvent):
            return messages.note_json(event)
        return None

    def _hello(self) -> str:
        return messages.to_json({"type": "hello", "info": self._info, "settings": self._settings})

    def _receive(self, page: Page, text: str) -> None:
        """Act on one message of a page; what is wrong is counted and dropped."""
        now_ns = self._clock.now_ns()
        try:
            message = messages.parse_client_message(text)
        except messages.Malformed as error:
            self._counters["malformed"] += 1
            _log.debug("web stage: dropped a message: %s", error)
            return
        if isinstance(message, messages.PingMessage):
            reply = {"type": "pong", "token": message.token, "session_s": now_ns * 1e-9}
            page.tell(messages.to_json(reply))
            return
        if not page.controls.allow(message.name, now_ns * 1e-9):
            self._counters["rate_limited"] += 1
            return
        self._counters["controls"] += 1
        try:
            self._on_control(ControlEvent(messages.control_time_ns(message, now_ns), message.name, message.value))
        except Exception:
            self._counters["control_failed"] += 1
            _log.exception("web stage: control %s failed", message.name)


def _setting(value: object) -> ControlValue:
    if isinstance(value, bool | int | float):
        return float(value)
    return None if value is None else str(value)


def _explain(error: BaseException, host: str, port: int) -> UserError:
    """Turn a failure to listen into one line with a remedy."""
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EADDRINUSE:
        return UserError(f"port {port} is already in use", f"take another, --web {port + 1}, or go without: --web off")
    if number in (errno.EACCES, errno.EPERM):
        return UserError(f"may not listen on port {port}", "take one above 1023: --web 8765")
    if isinstance(error, socket.gaierror) or number == errno.EADDRNOTAVAIL:
        return UserError(f"'{host}' is not an address of this machine", "set web.host to 127.0.0.1 or one that is")
    return UserError(f"the web stage cannot listen on {host}:{port}: {error}", "take another port, or --web off")
