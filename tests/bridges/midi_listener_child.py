"""Run by test_midi_ports.py in a process of its own: a virtual MIDI input that prints what it hears.

Usage: midi_listener_child.py NAME. Prints "ready", then a line a message; ends with its standard input.
"""

from __future__ import annotations

import sys

import mido


def main(name: str) -> None:
    with mido.open_input(name, virtual=True, callback=lambda message: print(message, flush=True)):
        print("ready", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1])
