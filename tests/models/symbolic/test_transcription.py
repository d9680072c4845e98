"""Hearing: features at the right step, the search from chances to notes, the shipped networks on a rendered band."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
import soundfile
from rich.console import Console

from engine.errors import UserError
from engine.types import DRUMS, Key
from models.data.clip_sources import ClipSource
from models.data.dataset import PreparedClip
from models.symbolic.keys import estimate_key
from models.symbolic.pitch_activations import FRAME_S, RATE_HZ, PitchActivations, PitchNetwork
from models.symbolic.score_agreement import agreement, sounding
from models.symbolic.step_features import FEATURES, MEL_BANDS, SLOTS, step_features
from models.symbolic.step_grid import HOLD, REST, StepGrid
from models.symbolic.transcribe import Transcriber, first_step_row, step_rows
from models.symbolic.transcribe_clips import transcribe_clips
from models.symbolic.transcription_corpus import chord_labels
from models.symbolic.transcription_decoding import Chances, Decoding, chord_path, decode, find_bars, notes_path
from models.symbolic.transcription_training import Example, losses, targets, train
from tests.models.symbolic.test_step_grid import random_grid

torch = pytest.importorskip("torch")


def band(seconds: float = 24.0, bpm: float = 90.0) -> tuple[np.ndarray, np.ndarray]:
    """A waltz of synthetic tones: bass on one (C G), chords on two and three, hat noise on each; and its step times."""
    time = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    audio = np.zeros_like(time)
    rng = np.random.default_rng(0)

    def tone(at: float, pitch: int, length: float, gain: float) -> None:
        start, count = round(at * RATE_HZ), round(length * RATE_HZ)
        t = np.arange(min(count, len(audio) - start)) / RATE_HZ
        hz = 440.0 * 2.0 ** ((pitch - 69) / 12.0)
        wave = sum(np.sin(2.0 * np.pi * hz * k * t) / k for k in range(1, 6))
        audio[start : start + len(t)] += gain * wave * np.exp(-3.0 * t) * np.minimum(t * 200.0, 1.0)

    beat = 60.0 / bpm
    for n in range(int((seconds - 1.0) / beat)):
        at, bar = 0.2 + n * beat, n // 3
        root = (36, 43)[bar % 2]
        if n % 3 == 0:
            tone(at, root, 2 * beat, 0.3)
        else:
            for pitch in (60, 64, 67) if bar % 2 == 0 else (59, 62, 67):
                tone(at, pitch, 0.5 * beat, 0.08)
        noise = rng.normal(size=1500) * np.exp(-np.arange(1500) / 300.0)
        audio[round(at * RATE_HZ) :][:1500] += 0.05 * np.diff(noise, prepend=0.0)
    steps = int((seconds - 1.0) / beat) * 4
    return audio.astype(np.float32), 0.2 + np.arange(steps + 1) * beat / 4.0


def test_the_pitch_network_hears_a_tone_where_it_begins() -> None:
    time = np.arange(3 * RATE_HZ) / RATE_HZ
    tone = np.where(time >= 1.0, 0.4 * np.sin(2 * np.pi * 440.0 * time) * np.exp(-2.0 * (time - 1.0)), 0.0)
    network = PitchNetwork()
    found = network(tone.astype(np.float32), RATE_HZ)
    begins = int(np.argmax(found.onsets[:, 69 - 21]))
    assert begins * FRAME_S == pytest.approx(1.0, abs=0.02)
    assert int(np.argmax(found.notes[begins + 10])) == 69 - 21
    assert found.notes[: begins - 10].max() < 0.3
    at_other_rate = network(np.interp(np.arange(3 * 44_100) / 44_100, time, tone).astype(np.float32), 44_100)
    assert int(np.argmax(at_other_rate.onsets[:, 69 - 21])) == pytest.approx(begins, abs=1)


def test_a_missing_network_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.onnx"):
        PitchNetwork(tmp_path / "none.onnx")
    (tmp_path / "bad.safetensors").write_bytes(b"not weights")
    from models.symbolic.transcription_network import TranscriptionNetwork

    with pytest.raises(UserError, match="bad"):
        TranscriptionNetwork.load(tmp_path / "bad.safetensors")


def test_features_belong_to_the_step_in_which_something_happens() -> None:
    step_s = 0.5 + np.arange(17) * 0.17
    frames = round(4.0 / FRAME_S)
    onsets = np.zeros((frames, 88), dtype=np.float32)
    audio = np.zeros(round(4.0 * RATE_HZ), dtype=np.float32)
    for step, shift in ((3, -0.03), (8, 0.05), (12, 0.0)):
        onsets[round((step_s[step] + shift) / FRAME_S), step] = 1.0
        at = round((step_s[step] + shift) * RATE_HZ)
        audio[at : at + 300] = np.random.default_rng(step).normal(size=300)
    rows = step_features(audio, RATE_HZ, PitchActivations(np.zeros_like(onsets), onsets), step_s)
    assert rows.shape == (16, FEATURES)
    for step in (3, 8, 12):
        assert np.flatnonzero(rows[:, 176 + step] > 0.5).tolist() == [step]
    bands = rows[:, 264:].reshape(16, SLOTS, MEL_BANDS).mean(axis=(1, 2))
    assert set(np.argsort(bands)[-3:].tolist()) == {3, 8, 12}


def test_features_beyond_the_audio_are_silence() -> None:
    activations = PitchActivations(np.ones((100, 88), np.float32), np.ones((100, 88), np.float32))
    rows = step_features(np.ones(25_600, np.float32), RATE_HZ, activations, np.arange(-5, 40) * 0.2)
    assert np.isfinite(rows).all()
    assert rows[:3].max() == 0.0
    assert rows[-5:].max() == 0.0


def certain(grid: StepGrid) -> Chances:
    """Chances of someone who has read the score."""
    steps = grid.steps

    def logits(index: np.ndarray, count: int) -> np.ndarray:
        return 12.0 * (np.arange(count) == index[:, None]).astype(np.float32)

    states = {v: np.where(getattr(grid, v) >= 0, 1, np.where(getattr(grid, v) == HOLD, 2, 0)) for v in ("bass", "lead")}
    labels = chord_labels(grid)
    loud = np.stack([grid.bass_velocity, grid.chord_velocity, grid.lead_velocity], axis=1)
    return Chances(
        np.where(grid.drums > 0, 6.0, -6.0),
        _logit(grid.drums),
        logits(states["bass"], 3),
        logits(states["lead"], 3),
        logits(sounding(grid.bass) - 24, 40),
        logits(sounding(grid.lead) - 48, 52),
        logits(np.where(labels < 0, 96, labels), 97),
        np.where(grid.chord >= 0, 6.0, -6.0)[:, None],
        _logit(loud),
        np.where(grid.bar_positions() == 0, 4.0, -4.0)[:, None].repeat(1, axis=1)[:steps],
        24,
        48,
    )


def _logit(p: np.ndarray) -> np.ndarray:
    p = np.clip(p, 0.01, 0.99)
    return np.log(p / (1 - p))


def test_certain_chances_give_the_score_back() -> None:
    grid = random_grid(1, steps=96)
    grid = dataclasses.replace(grid, beats_per_bar=3, bar_step=8)
    chord = np.full(96, HOLD)
    chord[::8] = np.arange(12) * 8
    grid = dataclasses.replace(grid, chord=chord, chord_velocity=np.where(chord >= 0, 0.7, 0.0))
    heard = decode(certain(grid), grid.tempo_bpm, 3, 0, "x", "train", Decoding())
    np.testing.assert_array_equal(heard.lead, grid.lead)
    np.testing.assert_array_equal(heard.bass, grid.bass)
    np.testing.assert_array_equal(heard.chord, grid.chord)
    np.testing.assert_allclose(heard.drums, grid.drums, atol=0.02)
    assert heard.bar_step == 8
    found = agreement([(heard, grid)])
    assert found.lead_notes.f1 == found.chord_class.value == found.bar_phase.value == found.drums["kick"].f1 == 1.0


def test_agreement_counts_errors() -> None:
    grid = random_grid(1, steps=96)
    late = dataclasses.replace(grid, drums=np.roll(grid.drums, 1, axis=0))
    octave = dataclasses.replace(grid, lead=np.where(grid.lead >= 0, grid.lead - 12, grid.lead))
    found = agreement([(octave, grid)])
    assert found.lead_onsets.f1 == 1.0
    assert found.lead_pitch.value == 0.0
    assert found.lead_class.value == 1.0
    assert found.lead_notes.f1 == 0.0
    assert agreement([(late, grid)]).drums["snare"].f1 < 0.6


def test_no_note_is_held_after_a_rest_and_a_weak_beginning_needs_a_bias() -> None:
    state = np.tile([2.0, 0.0, 1.0], (8, 1))
    state[3] = [1.0, 0.5, 1.2]
    pitch = np.zeros((8, 40))
    pitch[:, 7] = 1.0
    assert set(notes_path(state, pitch, 24, 0.0).tolist()) == {REST}
    voice = notes_path(state, pitch, 24, 1.8)
    assert voice[3] == 31
    assert all(b != HOLD for a, b in itertools.pairwise(voice) if a == REST)


def test_chords_change_on_beats_only_and_not_for_a_whim() -> None:
    logits = np.zeros((32, 97))
    logits[:13, 0] = 3.0  # the change is heard a step late
    logits[13:, 56] = 3.0
    logits[22, 9] = 8.0
    path = chord_path(logits, 4, 0, 4.0)
    assert set(path[:12].tolist()) == {0}
    assert set(path[12:].tolist()) == {56}


def test_bars_are_found_on_the_beat_given() -> None:
    downbeat = np.full(96, -3.0)
    downbeat[5::12] = 2.0
    downbeat[7::12] = 5.0  # not on a beat: cannot be it
    assert find_bars(downbeat, 3, 1) == 5


def test_keys() -> None:
    scale = np.zeros(12)
    scale[[0, 2, 4, 5, 7, 9, 11]] = [3, 1, 2, 1, 2, 1, 1]
    assert estimate_key(scale) == Key(0)
    assert estimate_key(np.roll(scale, 8)) == Key(8)
    minor = np.zeros(12)
    minor[[9, 11, 0, 2, 4, 5, 7]] = [3, 1, 2, 1, 2, 1, 1]
    assert estimate_key(minor) == Key(9, True)
    assert estimate_key(np.zeros(12)) is None


def test_training_lowers_the_loss_and_targets_move_with_the_pitch() -> None:
    grid = random_grid(2, steps=160)
    rng = np.random.default_rng(0)
    velocity = np.stack([grid.bass_velocity, grid.chord_velocity, grid.lead_velocity], axis=1)
    features = rng.random((160, FEATURES)).astype(np.float16)
    features[:, 264:273] = grid.drums > 0
    example = Example(
        features, grid.drums, grid.bass, grid.chord, grid.lead, velocity, chord_labels(grid), grid.bar_positions() == 0
    )
    still, moved = (targets(example, slice(10, 150), shift) for shift in (0, 3))
    heard = still["lead_pitch"] >= 0
    assert (moved["lead_pitch"][heard] - still["lead_pitch"][heard] == 3).all()
    some = still["chord"] < 96
    assert ((moved["chord"][some] - still["chord"][some]) % 96 == 24).all()

    def loss(network: object) -> float:
        truth = {n: torch.from_numpy(v[None]) for n, v in targets(example, slice(0, 160)).items()}
        with torch.no_grad():
            found = losses(network(torch.from_numpy(features[None].astype(np.float32))), truth)  # type: ignore[operator]
        return float(found["drums"])

    assert loss(train([example], 6, seed=1)) < 0.85 * loss(train([example], 1, seed=1))


@pytest.fixture(scope="module")
def transcriber() -> Transcriber:
    return Transcriber()


def test_the_shipped_networks_hear_a_waltz(transcriber: Transcriber) -> None:
    audio, step_s = band()
    grid = transcriber(audio, RATE_HZ, step_s, 3, 0, "waltz", "train")
    assert grid.steps == len(step_s) - 1
    assert grid.tempo_bpm == pytest.approx(np.full(grid.steps, 90.0), rel=1e-4)
    on_one = (np.arange(0, grid.steps, 12) + 0)[1:-1]
    assert (grid.bass[on_one] >= 0).mean() > 0.8
    assert np.isin(grid.bass[on_one] % 12, (0, 7)).mean() > 0.8
    chords = sounding(grid.chord)[12:-12]
    bar = (np.arange(12, grid.steps - 12) // 12) % 2
    assert (chords[bar == 0] // 8 == 0).mean() > 0.6
    assert (chords[bar == 1] // 8 == 7).mean() > 0.6
    assert grid.bar_step == 0


def test_silence_has_no_notes(transcriber: Transcriber) -> None:
    grid = transcriber(np.zeros(10 * RATE_HZ, np.float32), RATE_HZ, np.arange(41) * 0.2, 4, 0, "silence", "train")
    assert (grid.bass >= 0).sum() + (grid.lead >= 0).sum() + (grid.drums > 0).sum() < 8


def test_a_recording_of_a_band_is_heard_as_played(transcriber: Transcriber) -> None:
    """Notes of our own renderer would need a soundfont; strokes of noise at known steps are enough for the drums."""
    step_s = 0.1 + np.arange(129) * 0.15
    audio = np.zeros(round(20.0 * RATE_HZ), dtype=np.float32)
    rng = np.random.default_rng(2)
    for step in range(0, 128, 2):
        at = round(step_s[step] * RATE_HZ)
        t = np.arange(3000) / RATE_HZ
        if step % 8 == 0:
            audio[at : at + 3000] += (
                0.8 * np.exp(-18 * t) * np.sin(2 * np.pi * (50 + 90 * np.exp(-40 * t)) * t)
            ).astype("f")
        hat = rng.normal(size=3000) * np.exp(-t * 90)
        audio[at : at + 3000] += (0.12 * np.diff(hat, prepend=0.0)).astype(np.float32)
    grid = transcriber(audio, RATE_HZ, step_s, 4, 0, "beat", "train")
    kick = np.flatnonzero(grid.drums[:, DRUMS.index("kick")] > 0)
    assert set(range(8, 120, 8)) <= set(kick.tolist())
    assert len(kick) < 24
    hats = (grid.drums[:, [DRUMS.index("closed_hat"), DRUMS.index("ride"), DRUMS.index("open_hat")]] > 0).any(axis=1)
    assert hats[2:120:2].mean() > 0.7


def prepared(name: str, audio_s: float, first_tick: int = 5) -> PreparedClip:
    ticks = int((audio_s - 2.0) * 1.5 * 12)
    zeros = np.zeros(ticks, np.float32)
    music = 0.2 + (first_tick + np.arange(ticks)) / 12 * (60 / 90.0)
    return PreparedClip(
        name, "waltz", "val", 3, True, True, True, 90.0, first_tick, np.zeros((ticks, 24, 3), np.float32),
        np.zeros((ticks, 3), np.float32), np.zeros((ticks, 4), np.float32), np.zeros((ticks, 4), np.float32),
        zeros + 90, np.arange(ticks) * 0.05, music, zeros, zeros, zeros > 0,
    )  # fmt: skip


def test_prepared_clips_are_transcribed_once_and_bad_ones_named(tmp_path: Path) -> None:
    audio, _ = band(12.0)
    (tmp_path / "clips").mkdir()
    sources = []
    for name in ("good", "mute", "gone", "unprepared"):
        path = tmp_path / f"{name}.wav"
        if name != "gone":
            soundfile.write(path, audio if name != "mute" else np.zeros(RATE_HZ), RATE_HZ)
        if name != "unprepared":
            prepared(name, 12.0).save(tmp_path / "clips" / f"{name}.npz")
        sources.append(ClipSource(name, tmp_path / "x.npz", 25.0, "waltz", "val", path, 90.0, beats_per_bar=3))
    console = Console(quiet=True)
    first = transcribe_clips(sources, tmp_path, console)
    assert first.made == ("good",)
    assert set(first.skipped) == {"mute", "gone", "unprepared"}
    assert "silent" in first.skipped["mute"]
    grid = StepGrid.load(tmp_path / "scores" / "good.npz")
    clip = prepared("good", 12.0)
    assert (grid.name, grid.split, grid.source, grid.beats_per_bar) == ("good", "val", "transcription", 3)
    assert grid.steps == len(step_rows(clip))
    assert (clip.first_tick + first_step_row(clip)) % 3 == 0
    # Step (5 + 1) / 3 = 2 of the music comes first: beats are at 2, 6, ...
    assert (grid.bar_step - 2) % 4 == 0
    again = transcribe_clips(sources, tmp_path, console)
    assert again.ready == ("good",)
    assert not again.made
