"""The web stage's server: what it serves, who is let in, how it begins and ends."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from pathlib import Path

import aiohttp
import pytest

from bridges.web import WebBridge, server
from bridges.web.guard import HostGuard
from engine.errors import UserError
from engine.types import ControlEvent, StatusEvent
from tests.bridges.web.visitors import Stage, pose_at, receive_json
from tests.ports import unshared_port
from tests.waiting import PATIENCE_S

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
