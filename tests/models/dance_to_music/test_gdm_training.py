"""Learning dance -> music: sequences, what is masked, a tiny overfit, exact resumption, settings, keys and pairs."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.errors import UserError
from engine.types import VOICES, Key

torch = pytest.importorskip("torch")

from models.dance_to_music import run as gdm_run  # noqa: E402
from models.dance_to_music.data import (  # noqa: E402
    MusicData,
    believable_key,
    fit_phrases,
    music_sampler,
    paired_pieces,
    piece_of,
)
from models.dance_to_music.lesson import GdmLesson  # noqa: E402
from models.dance_to_music.network import Gdm  # noqa: E402
from models.dance_to_music.objective import GdmBatch, GdmObjective  # noqa: E402
from models.dance_to_music.sequences import MusicSequenceSettings  # noqa: E402
from models.dance_to_music.settings import GdmNetworkSettings, GdmTrainingSettings  # noqa: E402
from models.dance_to_music.tokens import FIRST_VALUE, PITCHED, home_shift  # noqa: E402
from models.learning import commands  # noqa: E402
from models.learning.launch import open_fabric  # noqa: E402
from models.learning.loop import Learning  # noqa: E402
from models.learning.settings import OptimiserSettings, RunSettings  # noqa: E402
from tests.models.dance_to_music.gdm_fixtures import POSES, band, only, piece, sampler  # noqa: E402
from tests.models.data.random_folder import write_prepared  # noqa: E402

TINY = GdmTrainingSettings(
    bfloat16=False,
    network=GdmNetworkSettings(
        width=32, heads=2, encoder_layers=1, decoder_layers=1, window=12, voice_width=32, dropout=0.0
    ),
    optimiser=OptimiserSettings(steps=400, batch=4, learning_rate=4e-3, warm_up_steps=5, average_decay=0.9),
    run=RunSettings(watch="val_total", sheets=False),
)


def _learning(settings: GdmTrainingSettings = TINY, **sequence: float) -> Learning:
    lesson = GdmLesson(sampler(**sequence), settings, {"music": sampler(**sequence)})
    return Learning(lesson, settings, open_fabric("cpu"))


def _randoms(count: int, seed: int = 0) -> list[np.random.Generator]:
    return [np.random.default_rng([seed, i]) for i in range(count)]


def test_sequences_follow_their_generators_and_nothing_else() -> None:
    source = sampler()
    first, again = source.sequences(_randoms(6), dances=True), source.sequences(_randoms(6), dances=True)
    assert np.array_equal(first.history, again.history)
    assert np.array_equal(first.condition, again.condition)
    alone = source.sequences(_randoms(6)[3:4], dances=True)
    assert np.array_equal(first.voices[3], alone.voices[0])


def test_history_is_the_step_before() -> None:
    batch = sampler(begin=0.0).sequences(_randoms(24), dances=True)
    bass = batch.history[:, 1:, 9 * 6 : 9 * 6 + PITCHED[0]].argmax(-1)
    known = batch.known[:, 1] > 0
    assert np.array_equal(bass[known], batch.voices[known, :-1, 0])
    drums = batch.history[:, 1:, : 9 * 6].reshape(24, -1, 9, 6)
    assert np.array_equal(drums.argmax(-1)[batch.known[:, 0] > 0], batch.drums[batch.known[:, 0] > 0, :-1])


def test_a_band_has_all_voices_and_a_drummer_on_the_bar() -> None:
    source = sampler(band=1.0, drums=0.0, song=0.0, melody=0.0, dance=0.0, lay_out=0.0, drop_bar=0.0)
    batch = source.sequences(_randoms(16), dances=True)
    assert (batch.known == 1.0).all()
    # The kick is on the first and third beat: where the bar's second harmonic begins (sine 0, cosine 1).
    second = batch.condition[:, :, 4 + 4 + 1]
    kick = batch.drums[:, :, 0] > 0
    assert kick.any()
    assert np.allclose(second[kick], 1.0, atol=1e-5)


def test_laying_out_is_silence_of_known_drums() -> None:
    source = sampler(band=1.0, drums=0.0, song=0.0, melody=0.0, lay_out=1.0)
    batch = source.sequences(_randoms(4), dances=False)
    assert (batch.known[:, 0] == 1.0).all()
    assert not batch.drums.any()


def test_dances_are_drawn_only_when_asked_for_and_end_before_the_step() -> None:
    source = sampler(dance=50.0, drop_dance=0.0, pose_noise=0.0, lookahead_jitter=0)
    assert source.sequences(_randoms(8), dances=False).dance is None
    batch = source.sequences(_randoms(8), dances=True)
    assert batch.dance is not None
    assert batch.dance.shape == (8, 24, 3 * POSES)
    dance = piece(band(16, 2, 0), poses=True)
    normal = np.clip((dance.poses - source.pose_mean) * source.pose_scale, -4, 4)
    rows = batch.dance[batch.dance_known > 0].reshape(-1, 24, 3, POSES)
    # The three ticks before step k end three ticks before it: tick 3 k - 3.
    steps = [int(np.abs(normal - row[0, 2]).sum(axis=1).argmin()) for row in rows]
    assert all(
        np.allclose(row[0], normal[tick - 2 : tick + 1], atol=1e-4) for row, tick in zip(rows, steps, strict=True)
    )
    assert all(tick % 3 == 0 for tick in steps)


def test_energy_wishes_rank_what_is_played() -> None:
    source = sampler(band=1.0, drums=0.0, song=0.0, melody=0.0, lay_out=0.5, drop_energy=0.0, change=3.0)
    batch = source.sequences(_randoms(32), dances=False)
    wish, struck = batch.condition[:, :-8, 19], batch.drums[:, :-8].astype(bool).any(-1)
    known = batch.condition[:, :-8, 18]
    assert (known == 1.0).all()
    silent = ~np.array([[row[i : i + 8].any() for i in range(row.shape[0])] for row in batch.drums.any(-1)])[:, :-8]
    assert wish[silent].mean() < wish[~silent].mean() - 0.5
    assert struck.any()


def test_unknown_voices_are_not_learnt_as_silence() -> None:
    settings = replace(TINY, seed=3)
    lesson = GdmLesson(sampler(), settings)
    tunes = sampler(band=0.0, drums=0.0, song=0.0, melody=1.0, dance=0.0)
    losses = lesson.objective(GdmBatch.of(tunes.sequences(_randoms(2), dances=False)))
    assert [float(losses[voice].detach()) for voice in ("drums", "bass", "chord")] == [0.0, 0.0, 0.0]
    assert float(losses["lead"].detach()) > 0.5
    torch.stack(list(losses.values())).sum().backward()
    assert not lesson.model.heads.drums.weight.grad.any()
    assert lesson.model.heads.out[2].weight.grad.any()


def test_the_loss_is_that_of_the_distributions() -> None:
    lesson = GdmLesson(sampler(), TINY)
    with torch.no_grad():
        for parameter in lesson.model.heads.parameters():
            parameter.zero_()
    batch = GdmBatch.of(sampler(dance=0.0, melody=0.0, drums=0.0, song=0.0).sequences(_randoms(2), dances=False))
    losses = GdmObjective(lesson.model, 1.0)(batch)
    assert float(losses["drums"]) == pytest.approx(9 * np.log(6), rel=1e-4)
    assert float(losses["chord"]) == pytest.approx(np.log(98), rel=1e-4)
    assert float(losses["velocity"]) == pytest.approx(3 * np.log(5) / 3, rel=1e-4)


def test_it_learns_a_little_band() -> None:
    learning = _learning(drop_phrase=0.0)
    first = np.mean([sum(learning.take_step()[v] for v in VOICES) for _ in range(4)])
    for _ in range(110):
        learning.take_step()
    last = np.mean([sum(learning.take_step()[v] for v in VOICES) for _ in range(4)])
    # A tune of random notes cannot be foreseen; all else goes round and round.
    assert last < 0.3 * first


def test_a_resumed_run_is_the_same_run(tmp_path: Path) -> None:
    whole = _learning()
    for _ in range(6):
        expected = whole.take_step()
    broken = _learning()
    for _ in range(3):
        broken.take_step()
    broken.save(tmp_path)
    resumed = _learning()
    resumed.resume(tmp_path)
    for _ in range(3):
        got = resumed.take_step()
    assert got == expected
    for mine, other in zip(whole.average.parameters(), resumed.average.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_evaluation_writes_weights_and_names_its_figures(tmp_path: Path) -> None:
    learning = _learning()
    figures = learning.lesson.evaluate(learning.average, 7, tmp_path)
    assert (tmp_path / "average-7.safetensors").is_file()
    assert figures["val_total"] == pytest.approx(sum(v for k, v in figures.items() if k != "val_total"))
    assert figures == learning.lesson.evaluate(learning.average, 7, tmp_path)
    assert isinstance(learning.average, Gdm)


def test_a_dance_without_known_drums_is_given_a_drummer() -> None:
    dance = piece(only(band(16, 2, 0), 1, 2, 3), poses=True)
    pieces = {"dance": [dance], "drums": [piece(only(band(6, 0, 0), 0))]}
    settings = MusicSequenceSettings(steps=24, drums=0.0, dance=1.0, lay_out=0.0)
    assert dance.poses is not None
    batch = music_sampler(pieces, fit_phrases(pieces), settings, [dance.poses]).sequences(_randoms(4), dances=True)
    assert (batch.known == 1.0).all()
    assert batch.drums.any(axis=(1, 2)).all()


def test_dances_shorter_than_a_sequence_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    long, short = piece(band(16, 2, 0), poses=True), piece(band(4, 2, 1), poses=True)
    music = {"song": [piece(only(band(16), 1, 2, 3))], "drums": [], "melody": []}
    none = {kind: [] for kind in ("song", "drums", "melody", "dance")}
    settings = replace(TINY, sequence=MusicSequenceSettings(steps=80, song=0.0, dance=1.0, drop_dance=0.0))
    with caplog.at_level(logging.INFO):
        source, _ = gdm_run.samplers(MusicData({**music, "dance": [short, long]}, none), settings)
    assert "left out: 1 of 2" in caplog.text
    batch = source.sequences(_randoms(32), dances=True)
    assert batch.dance is not None
    # The made-up poses never stand still; beyond a dance's end there is only its last.
    assert (np.abs(np.diff(batch.dance, axis=1)).max(axis=2) > 0.0).all()
    alone = MusicData({**music, "dance": [short]}, none)
    with pytest.raises(UserError, match="no dance holds a sequence of 80 steps") as caught:
        gdm_run.samplers(alone, settings)
    assert "steps = 60 or fewer" in (caught.value.remedy or "")
    apart = replace(settings, sequence=replace(settings.sequence, dance=0.0, song=1.0))
    assert gdm_run.samplers(alone, apart)[0].kinds == ("song",)


def test_a_manifest_names_the_music_that_was_learnt(tmp_path: Path) -> None:
    song, dance = piece(only(band(16), 1, 2, 3)), piece(band(16), poses=True)
    kinds = {"song": [song], "drums": [], "melody": [song], "dance": []}
    said = "POP909 (MIT), Ryan's Mammoth Collection (abc)"
    assert gdm_run.learnt_from(MusicData(kinds, {}), None) == said
    danced = MusicData({**kinds, "dance": [dance]}, {})
    folder = write_prepared(tmp_path / "prepared")
    assert gdm_run.learnt_from(danced, folder) == f"{said}; music transcribed from unknown data"


def test_dances_begin_to_be_learnt_from_when_the_settings_say() -> None:
    lesson = GdmLesson(sampler(dance=100.0, drop_dance=0.0), replace(TINY, dances_from=10))
    device = torch.device("cpu")
    assert lesson.batch(9, range(4), device).dance is None
    assert lesson.batch(10, range(4), device).dance is not None


def test_the_shipped_recipe_is_one() -> None:
    recipe = GdmTrainingSettings.load(Path(__file__).parents[3] / "config" / "training" / "gdm.toml")
    assert recipe.task == "gdm"
    assert recipe.network.width % recipe.network.heads == 0
    with pytest.raises(UserError, match="widht"):
        GdmTrainingSettings.of({"network": {"widht": 3}})


def test_a_key_is_found_where_none_is_written_and_doubted_where_it_cannot_be() -> None:
    for tonic in (0, 4, 7):
        grid = band(8, tonic)
        assert home_shift(believable_key(replace(grid, key=None))) == home_shift(Key(tonic))
        assert believable_key(grid) == Key(tonic)
        assert home_shift(believable_key(replace(grid, key=Key((tonic + 6) % 12)))) == home_shift(Key(tonic))
    assert believable_key(replace(only(band(4), 0), key=None)) is None


def test_a_piece_begins_with_a_beat_and_knows_its_bars() -> None:
    grid = band(8).cut(6, 100)
    made = piece_of(grid)
    assert made is not None
    assert made.tokens.steps == 100 - 6 - 2
    assert made.bar_step == 8
    assert piece_of(band(8).cut(0, 5)) is None
    assert piece_of(only(band(8), 0)) is not None


def test_a_dance_and_its_music_are_laid_on_one_another() -> None:
    from models.data.dataset import PreparedClip

    ticks, first = 12 * 40, 12 * 5 + 4
    zeros = np.zeros((ticks, 3), np.float32)
    rotations = np.zeros((ticks, 24, 3), np.float32)
    rotations[:, 16, 2] = np.arange(ticks) / 100.0
    clip = PreparedClip(
        *("dance", "waltz", "train", 4, True, True, True, 100.0, first),
        *(rotations, zeros, np.ones((ticks, 4), np.float32), np.zeros((ticks, 41), np.float32)),
        *(np.full(ticks, 100.0, np.float32), np.zeros(ticks), np.zeros(ticks), np.ones(ticks, np.float32)),
        *(np.ones(ticks, np.float32), np.zeros(ticks, bool)),
    )
    grid = band(16)
    pieces = paired_pieces(clip, grid, 12 * 2, mirrored=True)
    assert len(pieces) == 2
    made = pieces[0]
    # The dance's first whole beat is 6, the music's fourth.
    assert made.tokens.steps == min(256 - 16, (ticks - 8) // 3)
    whole = piece_of(grid)
    assert whole is not None
    assert np.array_equal(made.tokens.drums, whole.tokens.drums[16 : 16 + made.tokens.steps])
    assert made.bar_step is not None
    assert made.bar_step % 16 == 0
    assert made.poses is not None
    assert len(made.poses) == 3 * made.tokens.steps
    assert np.isfinite(made.poses).all()
    assert not np.array_equal(made.poses, pieces[1].poses)
    assert (made.tokens.voices[:, 0] >= FIRST_VALUE).any()
    assert paired_pieces(clip, grid, 12 * 400, mirrored=False) == []
    # A transcription that hears drums everywhere hears none.
    everywhere = replace(grid, drums=np.full_like(grid.drums, 0.3))
    assert paired_pieces(clip, everywhere, 12 * 2, mirrored=False)[0].tokens.known.tolist() == [False, True, True, True]


def test_export_and_train_say_what_they_lack(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="training run"):
        commands.export(tmp_path, None, None, tmp_path / "out")
    learning = _learning()
    learning.save(tmp_path)
    with pytest.raises(UserError) as caught:
        commands.export(tmp_path, None, None, tmp_path / "out")
    assert "--music" in (caught.value.remedy or "")
    with pytest.raises(UserError, match="training run"):
        commands.export(tmp_path, None, tmp_path / "nothing", tmp_path / "out")
    with pytest.raises(UserError, match="no music"):
        gdm_run.train(TINY, None, tmp_path / "nothing", tmp_path / "out")
