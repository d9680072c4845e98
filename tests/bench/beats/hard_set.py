"""Build the hard set: about 38 minutes of music with known beats, in 30 to 45 second pieces.

    python -m tests.bench.beats.hard_set --data DATA --cache CACHE --soundfont MuseScore_General.sf3

DATA holds `real_beats/`, `pairs/` and `midi/` (POP909, Groove). Symbolic music comes from POP909 801-859 and Groove's
test split only. The first five seconds of each piece are not scored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from models.rendering.rooms import band_limit, mix_at_snr, noise, overload, reverb, tilt
from models.rendering.scores import Score, humanise, merge, swing, without_drums
from models.rendering.synth import SoundFont, normalise, render
from models.rendering.tempo import Segment, TempoMap, from_segments, jump, ramp, rubato, steady
from tests.bench.beats import arrangements as band
from tests.bench.beats.arrangements import HAT, KICK, RIDE, SNARE, Sources
from tests.bench.beats.items import RATE_HZ, Item, read_index, write_index, write_item
from tests.bench.beats.recordings import annotated, ballroom, charted_songs

Samples = NDArray[np.float32]
Room = Callable[[Samples, np.random.Generator], Samples]


@dataclass(frozen=True, slots=True)
class Piece:
    """A rendering: a score, the tempo map under it, where it is heard, and the beats at which the tempo jumps."""

    name: str
    category: str
    score: Score
    tempo: TempoMap
    room: Room | None = None
    jumps: tuple[int, ...] = ()


def build(data: Path, cache: Path, soundfont: Path) -> list[Item]:
    """Return the items of the set in `cache`, made first if they are not there.

    Raises:
        UserError: the soundfont or a package to render with is missing.
        FileNotFoundError: a part of the data is missing.
    """
    items = read_index(cache)
    if items is not None:
        return items
    cache.mkdir(parents=True, exist_ok=True)
    items = []
    recorded = [*charted_songs(data / "real_beats"), *annotated(data / "real_beats"), *ballroom(data / "pairs")]
    for item, samples in recorded:
        write_item(cache, item, normalise(samples, -20.0))
        items.append(item)
    font = SoundFont(soundfont)
    for number, piece in enumerate(pieces(Sources(data / "midi" / "pop909.zip", data / "midi" / "groove.zip"))):
        item, samples = perform(piece, font, np.random.default_rng([7, number]))
        write_item(cache, item, samples)
        items.append(item)
    write_index(cache, items)
    return items


def perform(piece: Piece, font: SoundFont, rng: np.random.Generator) -> tuple[Item, Samples]:
    """Render a piece at a level of its own (music arrives at any gain)."""
    take = render(piece.score, piece.tempo, font, lead_s=0.3, tail_s=0.5)
    samples = normalise(take.mono(), -20.0)
    if piece.room is not None:
        samples = piece.room(samples, rng)
    samples = normalise(samples, float(rng.uniform(-28.0, -15.0)))
    changes = [end for _, end in take.silences_s] + [float(take.beats_s[beat]) for beat in piece.jumps]
    beats = np.round(take.beats_s, 5).tolist()
    duration_s = len(samples) / RATE_HZ
    silences = [(round(a, 5), round(b, 5)) for a, b in take.silences_s]
    silences.append((beats[-1] + (beats[-1] - beats[-2]), duration_s))
    source = "rendered; beats exact"
    return Item(piece.name, piece.category, duration_s, beats, silences, sorted(changes), False, source), samples


def bad_room(snr_db: float, kind: str, rt60_s: float, wet_db: float = -3.0) -> Room:
    """Return a room with reverberation and noise."""

    def room(samples: Samples, rng: np.random.Generator) -> Samples:
        wet = reverb(samples, RATE_HZ, rng, rt60_s, wet_db)
        return mix_at_snr(wet, noise(kind, len(wet), RATE_HZ, rng), snr_db)

    return room


def phone(samples: Samples, rng: np.random.Generator) -> Samples:
    """Hear through a phone in a crowd: narrow band, reverberation, voices 6 dB below, overloaded."""
    heard = bad_room(6.0, "crowd", 0.9)(samples, rng)
    return overload(band_limit(heard, RATE_HZ, 250.0, 5000.0), 9.0)


def muffled(samples: Samples, rng: np.random.Generator) -> Samples:
    """Hear from the next room: bass only, with brown rumble."""
    return mix_at_snr(tilt(samples, RATE_HZ, -9.0), noise("brown", len(samples), RATE_HZ, rng), 10.0)


def hum(samples: Samples, rng: np.random.Generator) -> Samples:
    """Add a hall's noise floor 38 dB below the music, so that a break is not digital silence."""
    return mix_at_snr(samples, noise("pink", len(samples), RATE_HZ, rng), 38.0)


def pieces(source: Sources) -> list[Piece]:
    """Return every rendering of the set."""
    rng = np.random.default_rng(2026)
    return [
        *_steady(source, rng),
        *_metres(source, rng),
        *_moving(source, rng),
        *_rooms(source, rng),
        *_breaks_and_jumps(source, rng),
    ]


def _full(source: Sources, number: int, drums: str, beats: int, programs: tuple[int, int, int] = (73, 48, 4)) -> Score:
    """Return a song with bass and real drumming."""
    return merge(
        source.song(number, beats, programs=programs), source.bass(number, beats), source.drums(drums, beats, 1)
    )


def _beats(bpm: float, seconds: float, bar: int = 4) -> int:
    """Return whole bars that last about some seconds."""
    return bar * round(seconds * bpm / 60.0 / bar)


def _steady(source: Sources, rng: np.random.Generator) -> list[Piece]:
    """Clicks, bands with and without drums, piano alone, drums alone, octave traps; at one tempo."""

    def at(name: str, category: str, bpm: float, make: Callable[[int], Score], seconds: float = 30.0) -> Piece:
        beats = _beats(bpm, seconds)
        return Piece(name, category, make(beats), steady(bpm, beats))

    fast = {KICK: "9.8. .... 9... ....", SNARE: ".... 9... .... 9...", RIDE: "7... 7... 7... 7..."}
    jungle = {KICK: "9... .... ..8. ....", SNARE: ".... 9..3 .3.. 9..3", HAT: "6.5. 6.5. 6.5. 6.5."}
    return [
        at("clicks_100", "clicks", 100.0, band.clicks),
        Piece(
            "clicks_152_noise", "clicks", band.clicks(76, accent_every=4), steady(152.0, 76), bad_room(3.0, "pink", 1.0)
        ),
        at("pop_829_112", "pop", 112.0, lambda n: _full(source, 829, "53_rock_135", n)),
        at("pop_838_88", "pop", 88.0, lambda n: _full(source, 838, "drummer1/eval_session/6_hiphop", n, (66, 48, 0))),
        at("pop_859_140", "pop", 140.0, lambda n: _full(source, 859, "drummer8/eval_session/7_pop", n, (80, 50, 4))),
        at("pop_841_106", "pop", 106.0, lambda n: _full(source, 841, "drummer5/eval_session/9_soul", n, (65, 89, 26))),
        at("soft_820_70", "no drums", 70.0, lambda n: source.song(820, n, programs=(40, 48, 46)), 33.0),
        at(
            "soft_845_100",
            "no drums",
            100.0,
            lambda n: merge(source.song(845, n, programs=(73, 48, 4)), source.bass(845, n)),
        ),
        at("guitar_847_88", "no drums", 88.0, lambda n: humanise(source.song(847, n, programs=(75, 24, 25)), rng)),
        at("piano_836_78", "piano", 78.0, lambda n: humanise(source.song(836, n), rng)),
        at("piano_855_110", "piano", 110.0, lambda n: humanise(source.song(855, n), rng)),
        at("piano_842_123", "piano", 123.0, lambda n: humanise(source.song(842, n), rng)),
        at("drums_funk_108", "drums", 108.0, lambda n: source.drums("19_funk_108", n, 16)),
        at("drums_soul_105", "drums", 105.0, lambda n: source.drums("132_soul_105", n, 8)),
        at("drums_rock_90", "drums", 90.0, lambda n: source.drums("24_rock_90", n, 4)),
        at("jungle_172", "octave", 172.0, lambda n: merge(source.bass(823, n), band.pattern(n, 4, jungle, rng))),
        at("fast_rock_184", "octave", 184.0, lambda n: merge(source.bass(859, n), band.pattern(n, 4, fast, rng))),
        at("ballad_848_65", "octave", 65.0, lambda n: _full(source, 848, "drummer7/eval_session/8_rock", n), 33.0),
        at("twelve_eight_60", "octave", 60.0, lambda n: band.slow_twelve(n // 4, rng), 36.0),
    ]


def _metres(source: Sources, rng: np.random.Generator) -> list[Piece]:
    """Swing, three in a bar, Latin syncopation."""

    def trio(bpm: float, ratio: float, name: str) -> Piece:
        beats = _beats(bpm, 30.0)
        return Piece(name, "swing", band.jazz_trio(beats // 4, rng, ratio), rubato(bpm, beats, rng, 0.01))

    def three(bpm: float, programs: tuple[int, int, int], drums: bool, name: str) -> Piece:
        beats = _beats(bpm, 32.0, 3)
        return Piece(name, "3/4", band.waltz(beats // 3, rng, programs, drums), rubato(bpm, beats, rng, 0.01))

    def latin(name: str, bpm: float, drums: str, with_band: bool) -> Piece:
        beats = _beats(bpm, 31.0)
        score = source.drums(drums, beats, 8)
        score = merge(band.tumbao(beats // 4, rng), score) if with_band else score
        return Piece(name, "latin", score, steady(bpm, beats))

    shuffle = {KICK: "8.. ..6 8.. ...", SNARE: "... 8.. ... 8..", RIDE: "7.5 7.5 7.5 7.5"}
    return [
        trio(132.0, 2.0, "trio_132"),
        trio(176.0, 1.7, "trio_176"),
        Piece("jazz_funk_116", "drums", source.drums("4_jazz-funk_116", 60, 4), steady(116.0, 60)),
        Piece(
            "shuffle_831_92",
            "swing",
            merge(
                swing(source.song(831, 48, programs=(22, 26, 16))),
                source.bass(831, 48),
                band.pattern(48, 3, shuffle, rng),
            ),
            steady(92.0, 48),
        ),
        three(86.0, (21, 24, 32), True, "waltz_86"),
        three(132.0, (0, 0, 0), False, "waltz_piano_132"),
        three(168.0, (40, 48, 43), False, "waltz_vienna_168"),
        latin("samba_116", 116.0, "28_latin-samba_116", True),
        latin("afrobeat_85", 85.0, "17_afrobeat_85", False),
        latin("sambareggae_96", 96.0, "12_latin-brazilian-sambareggae_96", True),
        latin("highlife_126", 126.0, "41_highlife_126", False),
    ]


def _moving(source: Sources, rng: np.random.Generator) -> list[Piece]:
    """A tempo that drifts, speeds up, slows down or breathes."""
    return [
        Piece("drift_band_104", "drift", _full(source, 807, "40_rock-indie_104", 56), rubato(104.0, 56, rng, 0.03)),
        Piece("drift_band_92", "drift", _full(source, 825, "23_rock_96", 48), rubato(92.0, 48, rng, 0.05, 12.0)),
        Piece("ramp_96_132", "drift", _full(source, 830, "3_rock_100", 76), ramp(96.0, 132.0, 76, 16.0)),
        Piece("ramp_140_100", "drift", _full(source, 814, "11_rock_120", 80), ramp(140.0, 100.0, 80, 20.0)),
        Piece("rubato_piano_80", "drift", humanise(source.song(851, 44), rng), rubato(80.0, 44, rng, 0.06, 6.0)),
    ]


def _rooms(source: Sources, rng: np.random.Generator) -> list[Piece]:
    """The same kinds of music through bad rooms."""
    return [
        Piece(
            "room_crowd_116",
            "room",
            _full(source, 857, "drummer5/eval_session/10_soul", 60),
            steady(116.0, 60),
            bad_room(6.0, "crowd", 1.4),
        ),
        Piece(
            "room_pink_84",
            "room",
            _full(source, 811, "drummer1/eval_session/5_funk", 44),
            steady(84.0, 44),
            bad_room(3.0, "pink", 0.8),
        ),
        Piece(
            "room_hall_98",
            "room",
            _full(source, 819, "3_rock_100", 52),
            steady(98.0, 52),
            bad_room(15.0, "brown", 2.5, 3.0),
        ),
        Piece(
            "room_phone_124", "room", _full(source, 809, "drummer7/eval_session/7_pop", 64), steady(124.0, 64), phone
        ),
        Piece("room_muffled_108", "room", _full(source, 832, "8_funk_96", 56), steady(108.0, 56), muffled),
        Piece(
            "room_piano_96", "room", humanise(source.song(839, 48), rng), steady(96.0, 48), bad_room(10.0, "crowd", 1.8)
        ),
    ]


def _breaks_and_jumps(source: Sources, rng: np.random.Generator) -> list[Piece]:
    """Silence in the middle, on and off the grid; tempos that change at once."""
    on_grid = 12 * 60.0 / 112.0
    jazz = merge(source.song(849, 72, programs=(66, 48, 0)), source.bass(849, 72))
    new_tempo = from_segments([Segment(36, 100.0, 100.0), Segment(44, 118.0, 118.0)]).with_break(36, 5.0)
    return [
        Piece(
            "break_grid_112",
            "break",
            _full(source, 843, "drummer7/eval_session/9_soul", 68),
            steady(112.0, 68).with_break(32, on_grid),
        ),
        Piece(
            "break_phase_100",
            "break",
            _full(source, 821, "7_rock_100", 60),
            steady(100.0, 60).with_break(28, 4.35),
            hum,
        ),
        Piece("break_soft_110", "break", jazz, steady(110.0, 72).with_break(32, 6.2), hum),
        Piece("break_tempo_100_118", "break", _full(source, 817, "drummer8/eval_session/2_funk", 80), new_tempo),
        Piece("jump_100_125", "jump", _full(source, 844, "11_rock_120", 76), jump([100.0, 125.0], 38), jumps=(38,)),
        Piece("jump_138_96", "jump", _full(source, 858, "53_rock_135", 80), jump([138.0, 96.0], 40), jumps=(40,)),
        Piece(
            "jump_84_126",
            "jump",
            _full(source, 823, "drummer1/eval_session/3_soul", 72),
            jump([84.0, 126.0], 36),
            jumps=(36,),
        ),
        Piece(
            "jump_120_104_120",
            "jump",
            without_drums(_full(source, 826, "11_rock_120", 84)),
            jump([120.0, 104.0, 120.0], 28),
            jumps=(28, 56),
        ),
    ]


def main(
    data: Annotated[Path, typer.Option(help="folder with real_beats/, pairs/ and midi/")],
    cache: Annotated[Path, typer.Option(help="folder for the audio, about 440 MB")],
    soundfont: Annotated[Path, typer.Option(help="MuseScore General, .sf2 or .sf3")],
) -> None:
    """Build the set and say what is in it."""
    items = build(data, cache, soundfont)
    total: dict[str, float] = {}
    for item in items:
        total[item.category] = total.get(item.category, 0.0) + item.duration_s
    for category, seconds in total.items():
        typer.echo(f"{category:12s} {seconds / 60:5.1f} min")
    typer.echo(f"{'all':12s} {sum(total.values()) / 60:5.1f} min, {len(items)} pieces")


if __name__ == "__main__":
    typer.run(main)
