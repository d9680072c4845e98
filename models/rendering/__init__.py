"""Music with exactly known beats: symbolic scores, tempo maps, soundfont rendering, room and microphone effects.

Used offline: to train and to measure beat trackers, and to build the demo song. `tinysoundfont` and `mido` are optional
dependencies (extra `train`); soundfonts are given by path, none is shipped.

Keep training and measuring apart: the hard set of `tests/bench/beats` is made of POP909 801-859, Groove's test split
and the MuseScore General soundfont. Train on POP909 001-800, Groove's train split, abc tunes and other soundfonts.

Example:
    font = SoundFont(Path("/usr/share/sounds/sf2/TimGM6mb.sf2"))
    song = read_pop909(Path("pop909.zip"), 17)
    tempo = rubato(bpm=104.0, beats=song.length_beats, rng=rng, spread=0.05)
    take = render(song, tempo, font)
    heard = play_in_room(take.mono(), take.sample_rate_hz, rng)   # take.beats_s still is the truth
"""

from models.rendering.rooms import play_in_room
from models.rendering.scores import Score, read_groove, read_midi, read_pop909
from models.rendering.synth import SoundFont, Take, normalise, render
from models.rendering.tempo import TempoMap, from_segments, jump, ramp, rubato, steady

__all__ = [
    "Score",
    "SoundFont",
    "Take",
    "TempoMap",
    "from_segments",
    "jump",
    "normalise",
    "play_in_room",
    "ramp",
    "read_groove",
    "read_midi",
    "read_pop909",
    "render",
    "rubato",
    "steady",
]
