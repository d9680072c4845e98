"""MIDI ports by name: the only place that opens one."""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import mido
import mido.sockets

from bridges.endpoint import Endpoint, parse_target
from engine.errors import UserError

_log = logging.getLogger(__name__)

_VIRTUAL, _TCP = "virtual:", "tcp:"
_CLIENT = "Pas de Deux"
# ALSA appends client and port number, which change whenever a device is plugged in again.
_ALSA_NUMBERS = re.compile(r" \d+:\d+$")
# A receiver over the network that does not read for this long is as good as gone.
_TCP_TIMEOUT_S = 0.2
# JACK loses what is sent before its next cycle.
_SETTLE_S = 0.1
_INSTALL = "pip install 'pasdedeux[midi]'"


class Unavailable(UserError):
    """What is not there now but may come; a show can begin without it."""


class OutputPort(Protocol):
    """Where MIDI messages go."""

    name: str

    def send(self, message: bytes) -> None:
        """Send one message. Raises OSError if the port is gone."""
        ...

    def gone(self) -> bool:
        """Return whether the port has vanished (asks the system: takes a millisecond)."""
        ...

    def close(self) -> None:
        """Give the port back; idempotent."""
        ...


class _MidoPort:
    """A port of mido's back end.

    Args:
        port: open.
        name: as the system has it.
        listed: returns the names there are now; None: it cannot vanish.
    """

    def __init__(self, port: Any, name: str, listed: Callable[[], Sequence[str]] | None) -> None:
        self.name = stable_name(name)
        self._port = port
        self._found_as = name
        self._listed = listed

    def send(self, message: bytes) -> None:
        try:
            self._port.send(mido.Message.from_bytes(message))
        except (OSError, ValueError) as error:  # mido says "port is closed" by ValueError
            raise OSError(f"{self.name}: {error}") from error

    def gone(self) -> bool:
        if self._port.closed:
            return True
        # With its numbers: one that was plugged in again meanwhile is another, and so is a second of the same name.
        return self._listed is not None and self._found_as not in self._listed()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._port.close()


def stable_name(name: str) -> str:
    """Return a port's name without what changes when it is plugged in again."""
    return _ALSA_NUMBERS.sub("", name)


def find_name(wanted: str, names: Sequence[str]) -> str | None:
    """Return the port meant by a name or a part of one: the same before the beginning before a part, in any case."""
    folded = wanted.strip().casefold()
    for matches in (str.__eq__, str.startswith, str.__contains__):
        for name in names:
            if matches(stable_name(name).casefold(), folded):
                return name
    return None


def open_output(target: str) -> OutputPort:
    """Open an output.

    Args:
        target: a port by name or a part of it; "virtual:NAME" makes one; "tcp:HOST:PORT" is mido's socket server.

    Raises:
        UserError: there is no such port, it cannot be had, or this system has no MIDI.
    """
    if target.startswith(_TCP):
        endpoint = parse_target(target[len(_TCP) :], Endpoint("127.0.0.1", 9080))
        try:
            port = mido.sockets.connect(endpoint.host, endpoint.port)
        except OSError as error:
            raise UserError(f"nobody takes MIDI at {endpoint} ({error})", "start the receiver first") from error
        port._socket.settimeout(_TCP_TIMEOUT_S)
        return _MidoPort(port, str(endpoint), None)
    if target.startswith(_VIRTUAL):
        name = target[len(_VIRTUAL) :].strip() or _CLIENT
        return _MidoPort(_open(mido.open_output, name, virtual=True), name, None)
    names = output_names()
    found = find_name(target, names)
    if found is None:
        raise _missing("output", target, names)
    return _MidoPort(_open(mido.open_output, found, virtual=False), found, mido.get_output_names)


def open_input(target: str, on_message: Callable[[Any], None]) -> tuple[Any, str]:
    """Open an input (or "virtual:NAME") whose messages are passed to `on_message`; return (port, as it is listed).

    Threads: `on_message` is called on the back end's.

    Raises:
        UserError: as for `open_output`.
    """
    if target.startswith(_VIRTUAL):
        name = target[len(_VIRTUAL) :].strip() or _CLIENT
        return _open(mido.open_input, name, virtual=True, callback=on_message), name
    names = input_names()
    found = find_name(target, names)
    if found is None:
        raise _missing("input", target, names)
    return _open(mido.open_input, found, virtual=False, callback=on_message), found


def output_names() -> list[str]:
    """Return the names of the output ports. Raises `UserError` where there is no MIDI."""
    return _listed(mido.get_output_names)


def input_names() -> list[str]:
    """Return the names of the input ports. Raises `UserError` where there is no MIDI."""
    return _listed(mido.get_input_names)


def _listed(names: Callable[[], Sequence[str]]) -> list[str]:
    try:
        return list(names())
    except ImportError as error:
        raise UserError("no MIDI without python-rtmidi", _INSTALL) from error
    except Exception as error:  # rtmidi has errors of every kind; of no ALSA sequencer, an OSError
        raise _no_midi(error) from error


def _open(opener: Callable[..., Any], name: str, virtual: bool, callback: Callable[[Any], None] | None = None) -> Any:
    # With a client's name mido would call our end like the other one, which JACK then does not connect.
    options: dict[str, Any] = {"client_name": _CLIENT} if virtual else {}
    if callback is not None:
        options["callback"] = callback
    try:
        port = opener(name, virtual=virtual, **options)
        time.sleep(_SETTLE_S)
        return port
    except ImportError as error:
        raise UserError("no MIDI without python-rtmidi", _INSTALL) from error
    except NotImplementedError as error:
        raise UserError("this system makes no virtual MIDI ports", "use a loopback driver such as loopMIDI") from error
    except Exception as error:  # rtmidi has errors of every kind; of a port that has just vanished, a ValueError
        if "sequencer" in str(error):
            raise _no_midi(error) from error
        raise UserError(f"MIDI port '{name}' cannot be opened ({error})", "close the program that uses it") from error


def _missing(kind: str, target: str, names: Sequence[str]) -> UserError:
    there = ", ".join(dict.fromkeys(map(stable_name, names)))
    remedy = f"there are: {there}" if there else f"none is connected; virtual:{target} makes one"
    return UserError(f"no MIDI {kind} '{target}'", remedy)


def _no_midi(error: Exception) -> UserError:
    _log.debug("no MIDI: %s", error)
    remedy = "load the kernel's sequencer (modprobe snd-seq), or go without --midi: notes also go by OSC and to a file"
    return UserError("this system has no MIDI (its sequencer cannot be opened)", remedy)
