"""Reading the corpora: small archives of the same shape, with bad pieces among the good ones."""

from __future__ import annotations

import io
import logging
import zipfile
from pathlib import Path

import numpy as np
import pytest

from engine.errors import UserError
from engine.types import DRUMS, Key
from models.symbolic.chords import chord_class, parse_symbol, symbol_of
from models.symbolic.corpora import abc_split, load_corpora
from models.symbolic.from_midi import read_abc_grid
from models.symbolic.step_grid import HOLD, REST, StepGrid

mido = pytest.importorskip("mido")

REEL = """X:1
T:A reel
R:reel
M:2/4
L:1/16
K:Em
E2 | GABc d2e2 | d4 z4 | GABc d2e2 | d6 :|
"""
JIG = "X:1\nT:A jig\nM:6/8\nL:1/8\nK:D\ndef gfe | d3 A3 | def gfe | d6 |]\n"


def midi_of(tracks: dict[str, list[tuple[float, float, int, int]]], channel: int = 0, bpm: float = 120.0) -> bytes:
    """A MIDI file; notes are (start, end [quarters], pitch, velocity)."""
    midi = mido.MidiFile(type=1, ticks_per_beat=480)
    midi.tracks.append(mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=round(60e6 / bpm))]))
    for name, notes in tracks.items():
        events = []
        for start, end, pitch, velocity in notes:
            events.append(
                (round(start * 480), 1, mido.Message("note_on", channel=channel, note=pitch, velocity=velocity))
            )
            events.append((round(end * 480), 0, mido.Message("note_off", channel=channel, note=pitch)))
        track = mido.MidiTrack([mido.MetaMessage("track_name", name=name)])
        at = 0
        for tick, _, message in sorted(events, key=lambda e: e[:2]):
            track.append(message.copy(time=tick - at))
            at = tick
        midi.tracks.append(track)
    out = io.BytesIO()
    midi.save(file=out)
    return out.getvalue()


def write_pop909(path: Path) -> None:
    """Songs 1 (good, 16 bars of 4 at 120, then 6 of 3), 2 (its MIDI is truncated), 801 (good, test)."""
    melody = [(b + off, b + off + 0.5, 72 + b % 5, 100) for b in range(64) for off in (0.0, 0.51)]
    piano = [(b, b + 2, 36 + 5 * (b % 4 == 2), 80) for b in range(0, 64, 2)]
    piano += [(b + 1, b + 1.5, p, 64) for b in range(0, 64, 2) for p in (60, 64, 67)]
    content = midi_of({"MELODY": melody, "BRIDGE": [], "PIANO": piano})
    beats = "".join(f"{n * 0.5} {float(n % 4 in (0, 2))} {float(n % 4 == 0)}\n" for n in range(64))
    beats += "".join(f"{(64 + n) * 0.5} {float(n % 6 in (0, 3))} {float(n % 6 == 0)}\n" for n in range(18))
    chords = "0.0 4.0 C:maj\n4.0 8.0 A:min7/b7\n8.0 16.0 N\n16.0 32.0 F:sus2\n"
    with zipfile.ZipFile(path, "w") as files:
        for number, midi in ((1, content), (2, content[:90]), (801, content)):
            folder = f"pop909/{number:03d}"
            files.writestr(f"{folder}/{number:03d}.mid", midi)
            files.writestr(f"{folder}/beat_midi.txt", beats)
            files.writestr(f"{folder}/chord_midi.txt", chords)
            files.writestr(f"{folder}/key_audio.txt", "0.0 30.0 C:maj\n30.0 60.0 Ab:min\n")


def write_groove(path: Path) -> None:
    """One performance a split, and one that is not MIDI at all."""
    strokes = [(b, b + 0.1, 36, 100) for b in range(8)] + [(b + 0.52, b + 0.6, 22, 64) for b in range(8)]
    header = "drummer,session,id,style,bpm,beat_type,time_signature,midi_filename,audio_filename,duration,split"
    rows = [header]
    with zipfile.ZipFile(path, "w") as files:
        for n, split in enumerate(("train", "validation", "test", "train")):
            rows.append(f"d,s,{n},rock,120,beat,4-4,d/{n}_rock_120_beat_4-4.mid,,4,{split}")
            files.writestr(f"groove/d/{n}_rock_120_beat_4-4.mid", midi_of({"D": strokes}, 9) if n < 3 else b"no midi")
        files.writestr("groove/info.csv", "\n".join(rows))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_pop909(tmp_path / "pop909.zip")
    write_groove(tmp_path / "groove.zip")
    with zipfile.ZipFile(tmp_path / "ryansMammoth.zip", "w") as files:
        for n in range(30):
            files.writestr(f"ryansMammoth/Tune{n}.abc", REEL if n % 2 else JIG)
        files.writestr("ryansMammoth/Bad.abc", "X:1\nM:9999999/4\nK:C\nC9999999999 D|")
        files.writestr("ryansMammoth/Worse.abc", bytes(range(256)))
    return tmp_path


def test_bad_pieces_are_named_and_left_out(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        grids = [g for split in ("train", "val", "test") for g in load_corpora(folder, split)]
    assert {"pop909/001@0", "pop909/801@0", "groove/d/0_rock_120_beat_4-4", "abc/Tune0"} <= {g.name for g in grids}
    for bad in ("002", "3_rock", "Bad.abc", "Worse.abc"):
        assert any(bad in message for message in caplog.messages), bad
        assert not any(bad in grid.name for grid in grids)


def test_splits_do_not_overlap_and_are_the_published_ones(folder: Path) -> None:
    names = {split: {g.name for g in load_corpora(folder, split)} for split in ("train", "val", "test")}
    assert not names["train"] & names["test"]
    assert not names["train"] & names["val"]
    assert "pop909/801@0" in names["test"]
    assert "groove/d/2_rock_120_beat_4-4" in names["test"]
    assert sum(name.startswith("abc/") for part in names.values() for name in part) == 30
    assert abc_split("a/b/Tune1.abc") == abc_split("Tune1.abc")


def test_a_pop_song_has_its_voices_bars_and_key(folder: Path) -> None:
    first, second = (g for g in load_corpora(folder, "train", corpora=("pop909",)))
    assert (first.beats_per_bar, second.beats_per_bar, first.steps, second.steps) == (4, 3, 256, 72)
    assert (first.key, second.key) == (Key(0), Key(8, True))
    assert first.known.tolist() == [False, True, True, True]
    assert first.tempo_bpm == pytest.approx(np.full(256, 120.0), rel=1e-3)
    assert first.lead[:6].tolist() == [72, HOLD, 72, HOLD, 73, HOLD]  # 0.51 beat is the second eighth
    assert first.bass[:17:8].tolist() == [36, 41, 36]
    assert set(first.bass[1:8].tolist()) == {HOLD}
    # The chord begins with the bar and again wherever the right hand strikes.
    assert first.chord[:9].tolist() == [0, HOLD, HOLD, HOLD, 0, HOLD, HOLD, HOLD, HOLD]
    assert first.chord[32] == chord_class(9, "min7")
    assert set(first.chord[64:128].tolist()) == {REST}
    assert first.chord[128] == chord_class(0, "sus4")  # Fsus2 = Csus4
    assert first.chord_velocity[4] == pytest.approx(64 / 127)


def test_a_groove_is_on_the_nearest_step(folder: Path) -> None:
    (grid,) = load_corpora(folder, "train", corpora=("groove",))
    assert grid.known.tolist() == [True, False, False, False]
    kick, hat = DRUMS.index("kick"), DRUMS.index("closed_hat")
    assert np.flatnonzero(grid.drums[:, kick]).tolist() == list(range(0, 32, 4))
    assert np.flatnonzero(grid.drums[:, hat]).tolist() == list(range(2, 32, 4))
    assert grid.drums[2, hat] == pytest.approx(64 / 127)


def test_tunes_keep_their_pickup_and_compound_metres_become_threes() -> None:
    reel = read_abc_grid(REEL, "reel", "train")
    assert reel.key == Key(4, True)
    assert (reel.beats_per_bar, reel.bar_step) == (2, 0)
    assert reel.lead[:8].tolist() == [REST] * 6 + [64, HOLD]
    assert reel.lead[8:16].tolist() == [67, 69, 71, 72, 74, HOLD, 76, HOLD]
    jig = read_abc_grid(JIG, "jig", "train")
    assert (jig.beats_per_bar, jig.steps) == (3, 4 * 6 * 4)
    assert jig.lead[[0, 4, 8, 12]].tolist() == [74, 76, 78, 79]
    assert jig.known.tolist() == [False, False, False, True]


def test_the_cache_gives_the_same_and_heals(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    fresh = list(load_corpora(folder, "train", cache))
    again = list(load_corpora(folder, "train", cache))
    assert len(fresh) == len(again) > 5
    for a, b in zip(fresh, again, strict=True):
        assert a.name == b.name
        assert a.key == b.key
        for array in ("drums", "bass", "chord", "lead", "lead_velocity", "tempo_bpm", "known"):
            np.testing.assert_array_equal(getattr(a, array), getattr(b, array))
    for path in cache.iterdir():
        path.write_bytes(path.read_bytes()[:100])
    healed: list[StepGrid] = list(load_corpora(folder, "train", cache))
    assert [g.name for g in healed] == [g.name for g in fresh]


def test_missing_archives(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(UserError, match=r"pop909\.zip"):
        list(load_corpora(tmp_path / "nowhere", "train"))
    with pytest.raises(ValueError, match="split"):
        list(load_corpora(folder, "training"))
    (folder / "groove.zip").write_bytes(b"not a zip")
    assert {g.source for g in load_corpora(folder, "train")} == {"pop909", "abc"}


@pytest.mark.parametrize("chord", range(96))
def test_chord_symbols_come_back(chord: int) -> None:
    assert parse_symbol(symbol_of(chord)) == chord


def test_chord_symbols_as_published() -> None:
    assert parse_symbol("Bb:sus4(b7)/5") == chord_class(10, "sus4")
    assert parse_symbol("F#:maj7/7") == chord_class(6, "maj7")
    assert parse_symbol("Am7") == chord_class(9, "min7")
    assert parse_symbol("D:hdim7") == chord_class(2, "dim")
    assert parse_symbol("N") is None
    for wrong in ("", "H:maj", "C:loud", "Segno"):
        with pytest.raises(ValueError, match="chord"):
            parse_symbol(wrong)
