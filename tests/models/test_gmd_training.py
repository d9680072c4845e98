"""Learning: sequences, a tiny overfit, exact resumption, settings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.errors import UserError

torch = pytest.importorskip("torch")

from gmd_fixtures import FEATURES, clip, sampler  # noqa: E402

from models.conditioning import CONDITION_SIZE, ChunkConditions  # noqa: E402
from models.motion_representation import CONTACTS, HEADING  # noqa: E402
from models.phrases import PhrasePlanner, PhraseTable  # noqa: E402
from models.training import NetworkSettings, OptimiserSettings, Trainer, TrainingSettings  # noqa: E402

TINY = TrainingSettings(
    bfloat16=False,
    network=NetworkSettings(
        latent_size=24, width=32, heads=2, encoder_layers=1, decoder_layers=1, window=8, flow_width=64, dropout=0.0
    ),
    optimiser=OptimiserSettings(steps=400, batch=4, learning_rate=3e-3, warm_up_steps=5),
)


def _trainer(**sequence: float) -> Trainer:
    return Trainer(sampler(**sequence), TINY, 4 * FEATURES, CONDITION_SIZE)


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
    trainer = _trainer(history_noise=0.1)
    batch = trainer.sampler.batch(np.random.default_rng(0), 4)
    trainer.sampler.batch = lambda random, size: batch  # type: ignore[method-assign]
    losses = [trainer.train_step() for _ in range(200)]
    assert all(np.isfinite(list(step.values())).all() for step in losses)
    for name in ("joints", "velocity"):
        assert np.mean([step[name] for step in losses[-10:]]) < 0.75 * np.mean([step[name] for step in losses[:5]])


def test_a_resumed_run_is_the_same_run(tmp_path: Path) -> None:
    straight = _trainer()
    for _ in range(3):
        straight.train_step()
    straight.save(tmp_path)
    expected = [straight.train_step() for _ in range(2)]
    resumed = _trainer()
    resumed.resume(tmp_path)
    assert resumed.step == 3
    assert [resumed.train_step() for _ in range(2)] == expected
    for ours, theirs in zip(resumed.average.parameters(), straight.average.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_own_history_is_used_when_asked_for() -> None:
    from dataclasses import replace

    source = sampler()
    settings = replace(TINY, optimiser=replace(TINY.optimiser, own_history_from=1, own_history_share=1.0))
    trainer = Trainer(source, settings, 4 * FEATURES, CONDITION_SIZE)
    trainer.train_step()
    batch = source.batch(np.random.default_rng(0), 2)
    tensors = [torch.from_numpy(a) for a in (batch.music, batch.condition, batch.history)]
    own = trainer._own_history(*tensors)
    assert own.shape == tensors[2].shape
    assert torch.equal(own[:, 0], tensors[2][:, 0])
    assert not torch.equal(own[:, 1:], tensors[2][:, 1:])


def test_settings_are_read_and_unknown_names_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text("seed = 7\n[network]\nwidth = 64\n[sequence]\nchunks = 9\n")
    settings = TrainingSettings.load(path)
    assert (settings.seed, settings.network.width, settings.sequence.chunks) == (7, 64, 9)
    path.write_text("[network]\nwidht = 64\n")
    with pytest.raises(UserError, match="widht"):
        TrainingSettings.load(path)
    with pytest.raises(UserError, match="nowhere"):
        TrainingSettings.load(tmp_path / "nowhere.toml")
