"""What pages may ask of the web stage: controls, their limits, malformed messages, floods."""

from __future__ import annotations

import asyncio

import aiohttp

from engine.types import ControlEvent
from tests.bridges.web.visitors import SECOND, Stage, enter, pong
from tests.waiting import PATIENCE_S

_BURST = 400  # messages at once that are a page's right


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
        ws = await enter(session, host)
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
