"""Learning: sequences, a tiny overfit, exact resumption, settings."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.errors import UserError

torch = pytest.importorskip("torch")

from models.learning.launch import open_fabric  # noqa: E402
from models.learning.loop import Learning  # noqa: E402
from models.learning.own_history import OwnHistorySettings  # noqa: E402
from models.motion.representation import CONTACTS, HEADING  # noqa: E402
from models.music_to_dance.conditioning import CONDITION_SIZE, ChunkConditions  # noqa: E402
from models.music_to_dance.dances import DanceData, load_dances  # noqa: E402
from models.music_to_dance.lesson import GmdLesson  # noqa: E402
from models.music_to_dance.phrases import PhrasePlanner, PhraseTable  # noqa: E402
from models.music_to_dance.run import learnt_by  # noqa: E402
from models.music_to_dance.settings import LossSettings, NetworkSettings, OptimiserSettings, TrainingSettings  # noqa: E402
from tests.models.data import stepping_folder  # noqa: E402
from tests.models.data.random_folder import prepared_clip  # noqa: E402
from tests.models.music_to_dance.gmd_fixtures import FEATURES, clip, sampler  # noqa: E402

TINY = TrainingSettings(
    bfloat16=False,
    network=NetworkSettings(
        latent_size=24,
        width=32,
        heads=2,
        encoder_layers=1,
        decoder_layers=1,
        window=8,
        choices=64,
        head_width=64,
        dropout=0.0,
    ),
    optimiser=OptimiserSettings(steps=400, batch=4, learning_rate=3e-3, warm_up_steps=5),
)


def learning(settings: TrainingSettings = TINY, bfloat16: bool = False, **sequence: float) -> Learning:
    source = sampler(**sequence)
    settings = replace(settings, sequence=source.settings)
    return Learning(GmdLesson(source, settings), settings, open_fabric("cpu", bfloat16=bfloat16))


def test_history_is_the_chunk_before_and_music_ends_before_the_chunk() -> None:
    source = sampler(clean_share=1.0, drop_music=0.0, music_noise=0.0, tempo_jitter=0.0)
    batch = source.batch(np.random.default_rng(0), 8)
    assert np.array_equal(batch.history[:, 1:], batch.target[:, :-1])
    prepared = source.clips[1]
    at = 7
    assert prepared.music is not None
    # Row k of a clip's music ends at tick k; the newest row of a chunk is that of two ticks before its first tick.
    begin = next(k for k in range(20) if np.array_equal(prepared.clip.ticks[k], prepared.ticks[1]))
    expected = prepared.clip.music[begin + 4 * at - 5 : begin + 4 * at - 1]
    assert np.allclose(prepared.music[at].reshape(4, FEATURES), np.clip(expected, -4, 4))
    assert (prepared.clip.first_tick + begin) % 4 == 0


def test_ticks_of_a_batch_begin_with_the_one_before_the_chunk() -> None:
    source = sampler(latent_size=300)
    batch = source.batch(np.random.default_rng(0), 2)
    decoded = source.representation.decode(batch.target.reshape(-1, 300)).reshape(batch.ticks[:, :, 1:].shape)
    assert np.abs(decoded - batch.ticks[:, :, 1:]).max() < 0.3
    assert np.array_equal(batch.ticks[:, 1:, 0], batch.ticks[:, :-1, -1])


def test_a_mirrored_dance_turns_the_other_way() -> None:
    original = clip(0)
    mirrored = original.mirrored()
    assert np.allclose(mirrored.ticks[:, HEADING], -original.ticks[:, HEADING], atol=1e-5)
    assert np.array_equal(mirrored.ticks[:, CONTACTS], original.ticks[:, CONTACTS][:, [2, 3, 0, 1]])
    assert np.allclose(mirrored.mirrored().ticks, original.ticks, atol=1e-4)


def test_conditions_say_nothing_about_what_is_unknown() -> None:
    unknown = ChunkConditions([12], 100.0, None, 0, None, None, None, 0.0, music_known=False).vectors()
    assert np.count_nonzero(unknown) == 2  # the two cosines of the beat phase, which is always known
    known = ChunkConditions([12], 100.0, 3, 0, 0, 0.5, np.ones(10), 0.0).vectors()
    assert known.shape == (1, CONDITION_SIZE)
    later = ChunkConditions([12 + 36], 100.0, 3, 0, 0, 0.5, np.ones(10), 0.0).vectors()
    assert np.allclose(known, later, atol=1e-6)


def test_phrases_are_drawn_by_style_and_energy_and_last_whole_bars() -> None:
    table = PhraseTable(
        np.arange(400, dtype=np.float32).reshape(40, 10),
        np.repeat([0, 1], 20).astype(np.int32),
        np.tile(np.linspace(0.0, 1.0, 20), 2).astype(np.float32),
    )
    random = np.random.Generator(np.random.PCG64(0))
    rows = np.array([int(table.draw(random, 1, 0.9)[0]) // 10 for _ in range(200)])
    assert rows.min() >= 20
    assert table.energies[rows].mean() > 0.75
    planner = PhrasePlanner(table, random)
    plan = [float(planner.phrase(tick, 3, 12, 0, 0.5)[0][0]) for tick in range(0, 12 * 60, 4)]
    changes = 4 * (np.flatnonzero(np.diff(plan)) + 1)
    assert len(changes) > 3
    assert set((changes - 12) % 36) == {0}


def test_it_learns_a_batch_by_heart() -> None:
    run = learning(history_noise=0.1)
    sequences = run.lesson.sampler.batch(np.random.default_rng(0), 4)
    run.lesson.sampler.sequences = lambda randoms: sequences
    losses = [run.take_step() for _ in range(200)]
    assert all(np.isfinite(list(step.values())).all() for step in losses)
    for name in ("joints", "velocity"):
        assert np.mean([step[name] for step in losses[-10:]]) < 0.75 * np.mean([step[name] for step in losses[:5]])


def test_a_resumed_run_is_the_same_run(tmp_path: Path) -> None:
    settings = replace(TINY, network=replace(TINY.network, dropout=0.1))
    straight = learning(settings)
    for _ in range(3):
        straight.take_step()
    straight.save(tmp_path)
    expected = [straight.take_step() for _ in range(3)]
    resumed = learning(settings)
    resumed.resume(tmp_path)
    assert resumed.step == 3
    assert [resumed.take_step() for _ in range(3)] == expected
    for ours, theirs in zip(resumed.average.parameters(), straight.average.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_mixed_precision_learns_the_same_and_rounds_no_targets() -> None:
    full, mixed = learning(), learning(bfloat16=True)
    for _ in range(3):
        exact, rounded = full.take_step(), mixed.take_step()
        for name in ("latent", "joints", "velocity", "feet"):
            assert rounded[name] == pytest.approx(exact[name], rel=0.02)
    assert all(p.dtype == torch.float32 for p in mixed.lesson.model.parameters())
    batch = mixed.lesson.batch(0, range(2), torch.device("cpu"))
    seen = []
    mixed.lesson.objective.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].target))
    mixed.lesson.batch = lambda *_: batch
    mixed.take_step()
    assert seen[0].dtype == torch.float32
    assert torch.equal(seen[0], batch.target)


def test_own_history_is_used_when_asked_for_and_deeper_with_more_passes() -> None:
    optimiser = replace(TINY.optimiser, own_history_from=1, own_history_temperature=1.0)
    every = OwnHistorySettings(form="const", length=1000, passes=3)
    settings = replace(TINY, optimiser=optimiser, own_history=every)
    run = learning(settings)
    run.take_step()
    lesson = run.lesson
    batch = lesson.batch(1, range(2), torch.device("cpu"))
    assert not bool(lesson.batch(0, range(2), torch.device("cpu")).own.any())
    assert int(batch.own.sum()) >= 2 * (12 - 1 - 10)
    lesson.model.eval()
    own = lesson.objective.own_history(batch)
    assert torch.equal(own[~batch.own], batch.history[~batch.own])
    # The first three own outputs of a stretch are those that one gets by dancing one chunk after the other.
    row = 0
    first = int(torch.nonzero(batch.own[row])[0])
    history = batch.history[row : row + 1].clone()
    for at in range(first, min(first + 3, 12)):
        if not bool(batch.own[row, at]):
            break
        with torch.no_grad():
            context = lesson.model(batch.music[row : row + 1], batch.condition[row : row + 1], history)
            danced = lesson.model.sample(context, history, batch.own_noise[row : row + 1])
        history[:, at] = danced[:, at - 1]
        assert torch.allclose(own[row, at], history[0, at], atol=1e-5)


def test_what_is_drawn_after_own_dance_learns_to_go_on_smoothly() -> None:
    optimiser = replace(TINY.optimiser, own_history_from=1, own_history_share=1.0)
    curves = []
    for weight in (1.0, 1000.0):
        run = learning(replace(TINY, optimiser=optimiser, loss=LossSettings(seam=weight, share=1.0)))
        assert "seam" not in run.take_step(), "the history is the true one"
        curves.append([run.take_step()["seam"] / weight for _ in range(60)])
    careless, careful = (np.mean(curve[-10:]) for curve in curves)
    assert curves[0][0] == pytest.approx(curves[1][0], rel=0.05)
    assert careful < 0.8 * careless


def test_settings_are_read_and_unknown_names_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text("seed = 7\n[network]\nwidth = 64\n[sequence]\nchunks = 9\n")
    settings = TrainingSettings.load(path)
    assert (settings.seed, settings.network.width, settings.sequence.chunks) == (7, 64, 9)
    path.write_text("[network]\nwidht = 64\n")
    with pytest.raises(UserError, match=r"widht.*'width'"):
        TrainingSettings.load(path)
    path.write_text("seed = 'seven'\n")
    with pytest.raises(UserError, match="seed"):
        TrainingSettings.load(path)
    path.write_text("[own_history]\nform = 'cubic'\n")
    with pytest.raises(UserError, match="form"):
        TrainingSettings.load(path)
    path.write_text("[own_history]\ntruth = 0\n")
    with pytest.raises(UserError, match="own history"):
        TrainingSettings.load(path)
    with pytest.raises(UserError, match="nowhere"):
        TrainingSettings.load(tmp_path / "nowhere.toml")


def test_dances_of_other_styles_are_learnt_from_without_a_style() -> None:
    from models.music_to_dance.dances import training_sampler
    from models.music_to_dance.rollout import piece_of
    from models.music_to_dance.sequences import SequenceSettings

    dances = load_dances([prepared_clip("one", "waltz", "train", 1), prepared_clip("two", "break", "train", 2)])
    other = dances.train[1]
    assert other.bar_tick is None
    assert piece_of(other, 8).style is None
    source = training_sampler(dances, SequenceSettings(chunks=12, drop_style=0.0), 4, 24)
    batch = source.batch(np.random.default_rng(0), 64)
    named = batch.condition[:, 0, 16:20].sum(axis=1)
    assert 0.2 < named.mean() < 0.8, "waltzes are called waltz, the others nothing"


def test_clips_shorter_than_a_sequence_are_left_out_and_never_drawn(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    long, short = clip(0, 360), replace(clip(1, 60), name="a short one")
    settings = replace(TINY, sequence=replace(TINY.sequence, chunks=24))
    dances = DanceData((long, short), (), ())
    with caplog.at_level(logging.INFO):
        assert learnt_by(settings, tmp_path, dances).train == (long,)
    assert "1 of 2 (a short one)" in caplog.text
    assert learnt_by(settings, tmp_path, DanceData((long,), (), ())).train == (long,)
    with pytest.raises(UserError, match=r"no training dance holds 24 chunks: set .* = 10 or fewer"):
        learnt_by(settings, tmp_path, DanceData((short,), (), ()))
    learnt_by(replace(settings, sequence=replace(settings.sequence, chunks=10)), tmp_path, dances)
    # Where a short clip is the only one of its style, too.
    source = sampler(chunks=24).over([long, short])
    batch = source.batch(np.random.default_rng(0), 64)
    danced = source.clips[0].latents
    assert all(np.abs(danced - target[0]).max(axis=1).min() == 0.0 for target in batch.target)


def test_dances_without_any_music_are_the_users_error(tmp_path: Path) -> None:
    silent = replace(clip(0, 360), music=None)
    with pytest.raises(UserError, match="no training dance of 72 chunks has music"):
        learnt_by(TINY, tmp_path, DanceData((silent,), (), ()))


@pytest.mark.parametrize("first_tick", [0, 6, 11, -5, 50])
def test_a_dance_at_half_speed_has_its_music_on_its_beat(first_tick: int) -> None:
    fast = prepared_clip("fast", "tango", "train", 1)
    phase = (first_tick + np.arange(fast.ticks)) % 12
    features = np.repeat(phase[:, None], fast.features.shape[1], axis=1).astype(np.float32)
    fast = replace(fast, plausible=False, first_tick=first_tick, features=features)
    slow = load_dances([fast]).train[0]
    assert slow.first_tick == 2 * first_tick
    assert slow.music is not None
    assert np.array_equal(slow.music[:, 0], (slow.first_tick + np.arange(len(slow.ticks))) % 12)


def test_a_dance_shorter_than_a_bar_leaves_the_bars_of_the_others_alone() -> None:
    whole = stepping_folder.prepared_clip("whole", "chacha", "train", seed=3)
    begun = [replace(whole.cut(12 * beat, whole.ticks), first_tick=0) for beat in range(4)]
    bars = [dance.bar_tick for dance in load_dances(begun).train]
    assert sorted(bars) == [0, 12, 24, 36], "the same dance, begun a beat later each time"
    short = stepping_folder.prepared_clip("short", "chacha", "train", beats=3)
    assert [dance.bar_tick for dance in load_dances([*begun, short]).train][:4] == bars
