"""The callbacks for TouchDesigner, with stand-ins for its operators."""

import runpy
from pathlib import Path

import pytest

import bridges
from bridges.osc import OscBridge
from bridges.osc_wire import decode
from engine.clock import VirtualClock
from engine.types import BeatEvent, ControlEvent, NoteEvent, StatusEvent


class Table:
    def __init__(self):
        self.rows = {}

    def row(self, name):
        return self.rows.get(name)

    def appendRow(self, row):
        assert row[0] not in self.rows
        self.rows[row[0]] = row

    def replaceRow(self, name, row):
        assert name in self.rows
        self.rows[name] = row


class Dat:
    def __init__(self, table):
        self.table = table

    def parent(self):
        return self

    def op(self, name):
        return self.table if name == "pdd_status" else None


@pytest.fixture
def callbacks():
    script = Path(bridges.__file__).parent / "touchdesigner" / "pasdedeux_callbacks.py"
    return runpy.run_path(str(script))


def packets(*events):
    """Return what the OSC bridge would send."""
    bridge = OscBridge("127.0.0.1", 9, clock=VirtualClock())
    sent = []
    bridge.sender.send = sent.extend
    for event in events:
        bridge.send(event)
    return [message for packet in sent for message in decode(packet)]


def receive(callbacks, dat, events):
    for message in packets(*events):
        callbacks["onReceiveOSC"](dat, 0, "", b"", 0.0, message.address, list(message.arguments), None)


def test_status_keeps_the_newest_line_of_each_component(callbacks):
    table = Table()
    events = [StatusEvent(0, "audio", "error", "gone"), StatusEvent(0, "osc", "info", "ok")]
    receive(callbacks, Dat(table), [*events, StatusEvent(0, "audio", "info", "back")])
    assert table.rows == {"audio": ["audio", "info", "back"], "osc": ["osc", "info", "ok"]}
    receive(callbacks, Dat(None), events)


def test_beats_notes_and_controls_reach_their_functions(callbacks, monkeypatch):
    heard = []
    events = [BeatEvent(0, 0, 5, 2, 120.0, 0.5), NoteEvent(0, 0, 9, 36, 100, 5 * 10**8), ControlEvent(0, "energy", 0.5)]
    routes = callbacks["onReceiveOSC"].__globals__
    monkeypatch.setitem(routes, "_ON", {
        address: (lambda dat, *arguments, a=address: heard.append((a, *arguments)), count)
        for address, (_, count) in routes["_ON"].items()
    })  # fmt: skip
    monkeypatch.setitem(routes, "on_control", lambda dat, *arguments: heard.append(arguments))
    receive(callbacks, Dat(None), events)
    assert heard == [("/pdd/beat", 5, 2, 120.0, 0.5), ("/pdd/note", 9, 36, 100, 0.5), ("energy", 0.5)]


def test_strange_messages_do_not_raise(callbacks):
    for address, arguments in [("/pdd/beat", []), ("/pdd/status", ["x"]), ("/pdd/control/tap", []), ("/else", [1])]:
        callbacks["onReceiveOSC"](Dat(Table()), 0, "", b"", 0.0, address, arguments, None)
