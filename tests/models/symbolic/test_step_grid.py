"""The step grid: what it refuses, how it is cut, joined, saved; notes in and out; MIDI there and back."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import UserError
from engine.types import VOICE_CHANNELS, Key
from models.symbolic.chords import chord_class, voicing
from models.symbolic.step_grid import HOLD, REST, StepGrid, empty, join, notes_of, voice_from_notes
from models.symbolic.to_midi import from_midi, to_midi

mido = pytest.importorskip("mido")


def random_grid(seed: int, steps: int = 64, known: tuple[bool, ...] = (True, True, True, True)) -> StepGrid:
    """A grid with notes everywhere, velocities in 127ths and a tempo that changes."""
    rng = np.random.default_rng(seed)
    drums = np.where(rng.random((steps, 9)) < 0.2, rng.integers(1, 128, (steps, 9)) / 127.0, 0.0)
    parts = {"drums": drums if known[0] else np.zeros((steps, 9))}
    for voice, low, high, there in (("bass", 28, 53, known[1]), ("chord", 0, 96, known[2]), ("lead", 60, 84, known[3])):
        count = steps // 3 if there else 0
        starts = rng.choice(steps, count, replace=False)
        ends = starts + rng.integers(1, 9, count)
        notes = voice_from_notes(
            steps, starts, np.minimum(ends, steps), rng.integers(low, high, count), rng.integers(1, 128, count) / 127.0
        )
        parts[voice], parts[f"{voice}_velocity"] = notes
    per_bar = int(rng.integers(2, 8))
    grid = empty(
        steps,
        60e6 / rng.integers(400_000, 700_000, steps),
        per_bar,
        int(rng.integers(0, per_bar * 4)),
        "a piece",
        "pop909",
        "train",
        known,
        [None, Key(3), Key(8, True)][seed % 3],
    )
    return replace(grid, **parts)


def assert_equal(a: StepGrid, b: StepGrid) -> None:
    """Every field alike; tempo within what a MIDI tempo can say."""
    for name in ("drums", "bass", "chord", "lead", "bass_velocity", "chord_velocity", "lead_velocity", "known"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    np.testing.assert_allclose(a.tempo_bpm, b.tempo_bpm, rtol=1e-6)
    assert (a.beats_per_bar, a.bar_step % a.steps_per_bar, a.key) == (
        b.beats_per_bar,
        b.bar_step % b.steps_per_bar,
        b.key,
    )
    assert (a.name, a.source, a.split) == (b.name, b.source, b.split)


@pytest.mark.parametrize("seed", range(12))
def test_a_grid_comes_back_from_midi_as_it_was(seed: int) -> None:
    known = ((True, True, True, True), (True, False, False, False), (False, True, True, True))[seed % 3]
    grid = random_grid(seed, known=known)
    assert_equal(from_midi(to_midi(grid), grid.name, grid.source, grid.split), grid)


def test_chords_without_markers_are_recognised_by_their_notes() -> None:
    grid = empty(16, 100.0, 4, 0, "x", "pop909", "train", (False, False, True, False))
    chord = np.full(16, HOLD)
    chord[[0, 4, 8, 12]] = [
        chord_class(0, "maj"),
        chord_class(9, "min7"),
        chord_class(5, "maj7"),
        chord_class(7, "dom7"),
    ]
    grid = replace(grid, chord=chord, chord_velocity=np.where(chord >= 0, 1.0, 0.0))
    midi = mido.MidiFile(file=io.BytesIO(to_midi(grid)))
    for track in midi.tracks:
        for i, message in enumerate(track):
            if message.type == "marker":
                track[i] = mido.MetaMessage("text", text="gone", time=message.time)
    out = io.BytesIO()
    midi.save(file=out)
    np.testing.assert_array_equal(from_midi(out.getvalue(), "x", "pop909", "train").chord, grid.chord)


def test_the_midi_has_a_track_a_voice_and_a_tempo_map() -> None:
    grid = random_grid(4)
    midi = mido.MidiFile(file=io.BytesIO(to_midi(grid)))
    assert midi.type == 1
    assert [track.name for track in midi.tracks] == ["a piece", "drums", "bass", "chord", "lead"]
    assert sum(m.type == "set_tempo" for m in midi.tracks[0]) > 30
    for track in midi.tracks[1:]:
        assert {m.channel for m in track if not m.is_meta} == {VOICE_CHANNELS[track.name]}
    expected = float((15.0 / grid.tempo_bpm).sum())
    assert midi.length == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("content", [b"", b"MThd", b"RIFF" + bytes(100), to_midi(random_grid(0))[:200]])
def test_what_is_no_midi_file_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"MIDI|voices|steps"):
        from_midi(content, "x", "y", "train")


@settings(max_examples=150, deadline=None)
@given(at=st.integers(0, 400), value=st.integers(0, 255), seed=st.integers(0, 3))
def test_a_damaged_midi_file_is_read_or_refused_never_worse(at: int, value: int, seed: int) -> None:
    content = bytearray(to_midi(random_grid(seed, steps=16)))
    content[at % len(content)] = value
    try:
        grid = from_midi(bytes(content), "x", "pop909", "train")
    except ValueError:
        return
    assert isinstance(grid, StepGrid)


def test_it_is_saved_and_loaded_without_pickle(tmp_path: Path) -> None:
    grid = random_grid(5, known=(False, True, False, True))
    grid.save(tmp_path / "a.npz")
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]
    with np.load(tmp_path / "a.npz", allow_pickle=False) as archive:
        assert all(archive[name].dtype != object for name in archive.files)
    back = StepGrid.load(tmp_path / "a.npz")
    assert_equal(back, grid)
    assert not back.drums.flags.writeable
    (tmp_path / "bad.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:300])
    with pytest.raises(UserError, match=r"bad\.npz"):
        StepGrid.load(tmp_path / "bad.npz")


def test_wrong_grids_are_refused() -> None:
    grid = random_grid(1)
    hold_first = grid.lead.copy()
    hold_first[0] = HOLD
    wrong = [
        {"drums": grid.drums + 1.0},
        {"drums": np.full_like(grid.drums, np.nan)},
        {"drums": grid.drums[:-1]},
        {"lead": hold_first, "lead_velocity": np.where(hold_first >= 0, 0.5, 0.0)},
        {"lead": np.full_like(grid.lead, 128), "lead_velocity": np.ones(64)},
        {"chord": np.full_like(grid.chord, 96), "chord_velocity": np.ones(64)},
        {"bass_velocity": np.zeros(64)},
        {"tempo_bpm": np.zeros(64)},
        {"beats_per_bar": 0},
        {"split": "training"},
        {"known": np.array([True, False, True, True])},
    ]
    for change in wrong:
        with pytest.raises(ValueError):  # noqa: PT011 - each has its own message
            replace(grid, **change)


def test_a_cut_loses_what_began_before_and_keeps_the_bars() -> None:
    grid = random_grid(2)
    for start in range(1, 40, 7):
        part = grid.cut(start, start + 20)
        assert part.steps == 20
        np.testing.assert_array_equal(part.bar_positions(), grid.bar_positions()[start : start + 20])
        assert part.bass[0] != HOLD
        begun = np.flatnonzero(part.bass >= 0)
        if len(begun):
            np.testing.assert_array_equal(part.bass[begun[0] :], grid.bass[start + begun[0] : start + 20])


def test_joined_parts_are_the_whole() -> None:
    grid = random_grid(3)
    per_bar = grid.steps_per_bar
    halves = [grid.cut(0, per_bar), grid.cut(per_bar, 64)]
    whole = join(halves, "again")
    np.testing.assert_array_equal(whole.drums, grid.drums)
    np.testing.assert_array_equal(whole.lead >= 0, grid.lead >= 0)
    with pytest.raises(ValueError, match="bars"):
        join([grid.cut(0, per_bar + 1), grid.cut(per_bar, 64)], "wrong")


def test_notes_go_in_and_out() -> None:
    voice, velocity = voice_from_notes(12, [0, 4, 6, 11], [3, 8, 7, 30], [40, 41, 42, 43], [0.5, 0.6, 0.7, 0.8])
    assert voice.tolist() == [40, HOLD, HOLD, REST, 41, HOLD, 42, REST, REST, REST, REST, 43]
    assert notes_of(voice).tolist() == [[0, 3, 40], [4, 6, 41], [6, 7, 42], [11, 12, 43]]
    assert velocity[[0, 4, 6, 11]] == pytest.approx([0.5, 0.6, 0.7, 0.8])


def test_a_progression_moves_little_and_stays_in_its_register() -> None:
    rng = np.random.default_rng(0)
    previous: tuple[int, ...] = ()
    moves, lows = [], []
    for chord in rng.integers(0, 96, 400).tolist():
        now = voicing(chord, previous)
        assert {p % 12 for p in now} == {(chord // 8 + i) % 12 for i in _intervals(chord)}
        assert now[0] >= 52
        assert now[-1] <= 76
        if previous:
            moves.append(np.mean([min(abs(p - q) for q in previous) for p in now]))
        lows.append(np.mean(now))
        previous = now
    assert np.mean(moves) < 1.5
    assert np.std(lows) < 4.0


def _intervals(chord: int) -> tuple[int, ...]:
    from models.symbolic.chords import TEMPLATES

    return TEMPLATES[chord % 8]
