"""The band without a DAW: notes sounded by the user's soundfont."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bridges.midi import MidiBridge
from bridges.midi_worker import SOUNDFONT
from bridges.soundfont_port import SoundfontTarget
from engine.clock import Clock

# A large soundfont takes seconds to load, compressed ones (.sf3) longer.
_LOAD_TIMEOUT_S = 60.0


class SynthBridge(MidiBridge):
    """Sounds NoteEvents through a sound device, in the same process of its own as MIDI does, and with the same manners.

    A missing device is no error: it is reported once by an OSError of `send`, looked for again, and the show goes on.

    Args:
        soundfont: a .sf2 or .sf3 file.
        clock: session time.
        device: sound output by name, a part of it, or index; None: the default.
        gain_db: of the soundfont.
        programs: General MIDI program (from 0) by voice.

    Threads: as `MidiBridge`.
    """

    def __init__(
        self,
        soundfont: str,
        *,
        clock: Clock,
        device: str | None = None,
        gain_db: float = -6.0,
        programs: Mapping[str, int] | None = None,
    ) -> None:
        target = SoundfontTarget(str(Path(soundfont).expanduser()) if soundfont else "", device, gain_db)
        super().__init__(SOUNDFONT + target.to_text(), clock=clock, programs=programs, open_timeout_s=_LOAD_TIMEOUT_S)
        self.name = f"synth {soundfont}".rstrip()
