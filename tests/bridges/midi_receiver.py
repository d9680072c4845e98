"""Independent receivers of MIDI: a socket that speaks mido's protocol, and what they heard, checked note by note."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import mido

from tests.waiting import wait_until


@dataclass(frozen=True)
class Heard:
    """A message and when it came [ns of time.perf_counter_ns]."""

    at_ns: int
    message: mido.Message


class SocketReceiver:
    """Listens on loopback and keeps what comes."""

    def __init__(self, port: int = 0) -> None:
        self.heard: list[Heard] = []
        self._server = socket.create_server(("127.0.0.1", port))
        self.port = self._server.getsockname()[1]
        self.target = f"tcp:127.0.0.1:{self.port}"
        self._peers: list[socket.socket] = []
        self._lock = threading.Lock()
        self._vanished = False
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while True:
            try:
                peer, _ = self._server.accept()
            except OSError:
                return
            with self._lock:
                # Somebody taken in while hanging up would be left on a line that is never cut.
                if self._vanished:
                    peer.close()
                    return
                self._peers.append(peer)
            threading.Thread(target=self._read, args=(peer,), daemon=True).start()

    def _read(self, peer: socket.socket) -> None:
        parser = mido.Parser()
        while True:
            try:
                data = peer.recv(4096)
            except OSError:
                return
            if not data:
                return
            at_ns = time.perf_counter_ns()
            parser.feed(data)
            self.heard += [Heard(at_ns, message) for message in parser]

    def wait(self, condition: Callable[[list[mido.Message]], bool]) -> list[mido.Message]:
        """Wait until the messages heard so far fulfil a condition; return those."""
        messages: list[mido.Message] = []

        def heard() -> bool:
            messages[:] = [entry.message for entry in list(self.heard)]
            return condition(messages)

        wait_until(heard, lambda: [str(message) for message in messages[-20:]])
        return messages

    def of(self, *kinds: str) -> list[Heard]:
        return [entry for entry in list(self.heard) if entry.message.type in kinds]

    def hang_up(self) -> None:
        """Vanish."""
        with self._lock:
            self._vanished = True
            socks = (self._server, *self._peers)
        for sock in socks:
            # Closing alone does not wake a thread that waits for it.
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


def sounding(messages: list[mido.Message]) -> dict[tuple[int, int], int]:
    """Return what sounds at the end; refuses a note that is struck while it sounds."""
    notes: dict[tuple[int, int], int] = {}
    for message in messages:
        if message.type == "note_on":
            assert (message.channel, message.note) not in notes, "struck twice without an end"
            notes[message.channel, message.note] = message.velocity
        elif message.type == "note_off":
            notes.pop((message.channel, message.note), None)
        elif message.type == "control_change" and message.control in (120, 123):
            notes = {key: velocity for key, velocity in notes.items() if key[0] != message.channel}
    return notes
