"""Callbacks for TouchDesigner's OSC In DAT: paste this into a Text DAT and name it as the Callbacks DAT.

Edit `on_beat` and `on_note`; the rest finds its way. Nothing here may raise: TouchDesigner would show it once and go on
without.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

STATUS_TABLE = "pdd_status"
"""A Table DAT beside the OSC In DAT, if you want to see what the dancer reports."""


def on_beat(dat: Any, index: int, bar_beat: int, bpm: float, confidence: float) -> None:
    """A beat is about to sound. `bar_beat` is 1 on the downbeat, 0 while the metre is unknown."""


def on_note(dat: Any, channel: int, pitch: int, velocity: int, duration_s: float) -> None:
    """The dancer plays a note."""


def on_control(dat: Any, name: str, value: float | str) -> None:
    """A control has taken effect, wherever it came from."""


def on_status(dat: Any, component: str, level: str, message: str) -> None:
    """Keep one row per component: its newest level and message."""
    table = dat.parent().op(STATUS_TABLE)
    if table is None:
        return
    row = [component, level, message]
    if table.row(component) is None:
        table.appendRow(row)
    else:
        table.replaceRow(component, row)


_ON: dict[str, tuple[Callable[..., None], int]] = {
    "/pdd/beat": (on_beat, 4),
    "/pdd/note": (on_note, 4),
    "/pdd/status": (on_status, 3),
}


def onReceiveOSC(
    dat: Any,
    rowIndex: int,
    message: str,
    byteData: bytes,
    timeStamp: float,
    address: str,
    args: list[Any],
    peer: Any,
) -> None:
    """Take one message. Called by TouchDesigner; arguments as in its documentation."""
    if address in _ON:
        function, count = _ON[address]
        if len(args) >= count:
            function(dat, *args[:count])
    elif address.startswith("/pdd/control/") and args:
        on_control(dat, address.rpartition("/")[2], args[0])
