"""Both directions together on small made-up pairs: what is drawn, what each term moves, and that it learns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")

from engine.errors import UserError  # noqa: E402
from engine.features import FeatureSpec  # noqa: E402
from models.dance_to_music.data import fit_phrases, music_sampler  # noqa: E402
from models.dance_to_music.lesson import GdmLesson  # noqa: E402
from models.dance_to_music.network import NOISE_SIZE, VoiceLogits  # noqa: E402
from models.dance_to_music.sequences import MusicSampler  # noqa: E402
from models.data.dataset import PreparedData  # noqa: E402
from models.dual.lesson import DualLesson  # noqa: E402
from models.dual.pairs import BEFORE_TICKS, Pair, PairSampler, find_pairs  # noqa: E402
from models.dual.settings import DualSettings  # noqa: E402
from models.dual.sound import Sound, choose, one_hot  # noqa: E402
from models.learning.launch import open_fabric  # noqa: E402
from models.learning.loop import Learning  # noqa: E402
from models.music_to_dance.dances import load_dances, training_sampler  # noqa: E402
from models.music_to_dance.lesson import GmdLesson  # noqa: E402
from models.music_to_dance.sequences import SequenceSampler  # noqa: E402
from tests.models.dance_to_music.gdm_fixtures import band  # noqa: E402
from tests.models.data.random_folder import write_prepared  # noqa: E402
from tests.models.learning.forked import fork_both  # noqa: E402

CONTENT = {
    "bfloat16": False,
    "device": "cpu",
    "gmd": {
        "bfloat16": False,
        "network": {
            "latent_size": 16,
            "width": 32,
            "heads": 2,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "window": 12,
            "choices": 16,
            "head_width": 32,
            "head_blocks": 1,
            "dropout": 0.0,
        },
        "sequence": {"chunks": 24},
    },
    "gdm": {
        "network": {
            "width": 24,
            "heads": 2,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "window": 16,
            "voice_width": 24,
            "dropout": 0.0,
        },
        "sequence": {"steps": 32, "dance": 1.0},
    },
    "terms": {name: {"weight": 1.0} for name in ("alignment", "cycle_dance", "cycle_music")},
    "optimiser": {"steps": 60, "batch": 2, "learning_rate": 3e-3, "warm_up_steps": 2},
    "run": {"sheets": False},
}
CPU = torch.device("cpu")


class Data:
    """Samplers over the pairs of a prepared folder."""

    def __init__(self, folder: Path) -> None:
        self.prepared = PreparedData.load(folder)
        self.dances = load_dances(self.prepared.clips)
        settings = DualSettings.of(CONTENT)
        self.pairs: list[Pair] = find_pairs(self.prepared, self.dances.train, "train")
        self.gmd: SequenceSampler = training_sampler(self.dances, settings.gmd.sequence, 4, 16)
        pieces = [pair.piece for pair in self.pairs]
        phrases = fit_phrases({"dance": pieces})
        poses = [piece.poses for piece in pieces]
        self.gdm: MusicSampler = music_sampler({"dance": pieces}, phrases, settings.gdm.sequence, poses)

    def lesson(self, pairs: list[Pair] | None = None, **content: object) -> DualLesson:
        settings = DualSettings.of({**CONTENT, **content})
        sampler = PairSampler(pairs or self.pairs, self.gmd, self.gdm)
        return DualLesson(
            GmdLesson(self.gmd, settings.gmd), GdmLesson(self.gdm, settings.gdm), sampler, sampler, settings
        )


def staged_losses(data: Data) -> list[dict[str, float]]:
    """Return the losses of a few steps through all stages; nothing in all processes but the first."""
    terms = {
        "alignment": {"weight": 1.0, "end": 3},
        "dance": {"weight": 1.0, "begin": 3},
        "music": {"weight": 1.0, "begin": 3},
        "cycle_dance": {"weight": 0.5, "begin": 5},
        "cycle_music": {"weight": 0.1, "begin": 5},
    }
    lesson = data.lesson(terms=terms)
    run = Learning(lesson, lesson.settings, open_fabric("cpu"))
    losses = [run.take_step() for _ in range(8)]
    return losses if run.fabric.is_global_zero else []


def share_pairs(folder: Path, path: Path) -> None:
    """Take these steps as one of two processes; the first writes their losses."""
    losses = staged_losses(Data(folder))
    if losses:
        path.write_text(json.dumps(losses))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_prepared(tmp_path_factory.mktemp("data") / "prepared")
    (folder / "scores").mkdir()
    for seed, name in enumerate(("one", "two", "three", "four")):
        band(10, tonic=3 * seed, seed=seed).save(folder / "scores" / f"{name}.npz")
    return folder


@pytest.fixture(scope="module")
def data(folder: Path) -> Data:
    return Data(folder)


def test_pairs_are_found_mirrored_and_in_the_home_key(data: Data) -> None:
    assert [pair.dance.name for pair in data.pairs] == [
        side for name in ("one", "two", "three") for side in (name, f"{name} mirrored")
    ]
    assert [pair.shift for pair in data.pairs[::2]] == [0, 3, 6]
    assert all(pair.tick % 12 == 0 for pair in data.pairs)
    with pytest.raises(UserError, match="transcribe"):
        find_pairs(data.prepared, data.dances.test, "test")


def test_pairs_of_parts_hold_nothing_of_the_rest(data: Data) -> None:
    dance, whole = data.dances.train[0], data.pairs[0]
    part = replace(
        dance,
        name=f"{dance.name}@130",
        ticks=dance.ticks[130:330],
        music=dance.music[130:330] if dance.music is not None else None,
        tempo_bpm=dance.tempo_bpm[130:330],
        first_tick=dance.first_tick + 130,
    )
    first, second = find_pairs(data.prepared, [part], "train")
    assert (first.dance.name, second.dance.name) == ("one@130", "one@130 mirrored")
    assert first.tick == 132
    assert first.piece.tokens.steps == 66, "198 of the part's 200 ticks begin on a beat and are whole steps"
    begin = (first.tick - whole.tick) // 3
    assert np.array_equal(first.piece.tokens.drums, whole.piece.tokens.drums[begin : begin + 66])
    drawn = PairSampler([first], data.gmd, data.gdm).sequences([np.random.default_rng(seed) for seed in range(8)])
    inside = {row.tobytes() for row in part.ticks.astype(np.float32)}
    assert all(row.tobytes() in inside for row in drawn.dance.ticks[:, :, 1:].reshape(-1, 152))


def test_a_dance_at_half_speed_is_in_no_pair(data: Data) -> None:
    prepared = replace(data.prepared, clips=tuple(replace(c, plausible=c.name != "one") for c in data.prepared.clips))
    found = find_pairs(prepared, load_dances(prepared.clips).train, "train")
    assert {pair.dance.name.partition(" ")[0] for pair in found} == {"two", "three"}


def test_both_networks_are_given_the_same_beats(data: Data) -> None:
    sampler = PairSampler(data.pairs, data.gmd, data.gdm)
    drawn = sampler.sequences([np.random.default_rng(seed) for seed in range(12)])
    assert drawn.dance.target.shape[:2] == (12, 24)
    assert drawn.music.voices.shape == (12, 32, 3)
    assert drawn.interval_s.shape == (12, BEFORE_TICKS + 96)
    # The dance's ticks go on from those before it, and the music features are those G_MD is given.
    chunks = drawn.dance.ticks
    assert np.array_equal(chunks[:, 0, 0], drawn.ticks_before[:, -1])
    normal = np.clip((drawn.features - data.gmd.music_mean) * data.gmd.music_scale, -4, 4)
    for chunk in (0, 1, 23):
        newest = BEFORE_TICKS + 4 * chunk - 2
        expected = normal[:, newest - 3 : newest + 1].reshape(12, -1)
        np.testing.assert_allclose(drawn.dance.music[:, chunk], expected, atol=1e-5)
    # The scores begin at tick 3 of each dance, with a kick there and every other beat from then on.
    kicks = drawn.music.drums[..., 0] > 0
    assert all(set((np.flatnonzero(row) % 4).tolist()) == {1} for row in kicks)


def test_what_is_made_of_the_true_dance_is_what_g_dm_sees(data: Data) -> None:
    # Not mirrored: a mirrored row is no longer quite that of a body, whose bones differ a little from left to right.
    lesson = data.lesson(data.pairs[::2])
    pairs = lesson.batch(0, range(4), CPU).pairs
    assert pairs is not None
    with torch.no_grad():
        seen = lesson.objective.seen(pairs.dance.ticks[:, :, 1:].flatten(1, 2), pairs)
    assert pairs.music.dance is not None
    # Its first rows look back further than what goes before: running averages have not quite settled.
    away = (seen - pairs.music.dance)[:, 4:].reshape(4, 28, 3, -1).abs().amax(dim=(0, 1, 2))
    assert float(away[:-2].max()) < 2e-3
    assert float(away[-2:].max()) < 0.2, "the two running energies"


def test_what_is_made_of_the_true_sound_is_what_g_md_hears(data: Data) -> None:
    lesson = data.lesson()
    pairs = lesson.batch(0, range(4), CPU).pairs
    assert pairs is not None
    home = lesson.model.sound.home(pairs.features[:, BEFORE_TICKS:], pairs.shift)
    heard = lesson.objective.heard(home, pairs)
    limited = pairs.dance.music.abs() > 3.0
    assert float((heard - pairs.dance.music).abs()[~limited].max()) < 1e-4


def moved(lesson: DualLesson, term: str) -> set[str]:
    """Return which parts a term of the objective has a gradient for."""
    lesson.model.zero_grad(set_to_none=True)
    pairs = lesson.batch(0, range(2), CPU).pairs
    assert pairs is not None
    getattr(lesson.objective, term)(pairs).backward()
    parts = set()
    for name, parameter in lesson.model.named_parameters():
        if parameter.grad is not None and bool(parameter.grad.abs().sum() > 0):
            network, part = name.split(".")[:2]
            parts.add(f"{network}.{part}" if network != "sound" else network)
    return parts


def test_each_term_moves_what_it_should(data: Data) -> None:
    lesson = data.lesson()
    # The choice head begins at zero, which would hide what lies behind it.
    head = lesson.model.gmd.head
    for layer in (head.query[-1], head.out, head.modulation):
        torch.nn.init.normal_(layer.weight, std=0.1)
    assert moved(lesson, "alignment") == {"gmd.music_in", "gmd.encoder", "gmd.encoder_norm"}
    both = moved(data.lesson(alignment_moves="both"), "alignment")
    assert {"gmd.encoder", "gdm.encoder", "gdm.dance_in"} <= both
    assert moved(lesson, "sound_error") == {"sound"}
    music = moved(lesson, "cycle_music")
    assert {"gmd.encoder", "gmd.decoder", "gmd.head", "gdm.encoder", "gdm.heads"} <= music
    dance = moved(lesson, "cycle_dance")
    assert {"gdm.encoder", "gdm.heads", "gmd.encoder", "gmd.head"} <= dance
    assert "sound" not in music | dance, "a cycle is not closed by changing what notes sound like"


def test_terms_come_and_go_with_the_steps(data: Data) -> None:
    terms = {
        "alignment": {"weight": 2.0, "end": 3},
        "dance": {"weight": 1.0, "begin": 3},
        "music": {"weight": 1.0, "begin": 3},
        "cycle_music": {"weight": 0.5, "begin": 5},
        "bridge": {"weight": 0.0},
    }
    lesson = data.lesson(terms=terms)
    names = [{n.split("_")[0] for n in lesson.objective(lesson.batch(s, range(2), CPU))} for s in (0, 3, 5)]
    assert names == [{"alignment"}, {"dance", "music"}, {"dance", "music", "cycle"}]
    assert lesson.batch(4, range(2), CPU).pairs is None, "what no term needs is not drawn"


def test_it_learns_and_resumes_exactly(data: Data, tmp_path: Path) -> None:
    def learning() -> Learning:
        lesson = data.lesson()
        return Learning(lesson, lesson.settings, open_fabric("cpu"))

    run = learning()
    first = [run.take_step() for _ in range(3)]
    run.save(tmp_path)
    again = learning()
    again.resume(tmp_path)
    expected = [run.take_step() for _ in range(2)]
    assert [again.take_step() for _ in range(2)] == expected
    rest = [run.take_step() for _ in range(35)]
    for name in ("music_drums", "cycle_music"):
        begin, end = first[0][name], np.mean([row[name] for row in rest[-5:]])
        assert end < 0.85 * begin, name
    assert all(np.isfinite(list(row.values())).all() for row in rest)


def test_mixed_precision_reaches_every_term(data: Data) -> None:
    lesson = data.lesson()
    exact = lesson.objective(lesson.batch(0, range(2), CPU))
    run = Learning(lesson, lesson.settings, open_fabric("cpu", bfloat16=True))
    rounded = run.take_step()
    for name, value in exact.items():
        assert rounded[name] == pytest.approx(float(value.detach()), rel=0.05, abs=0.01), name


def test_the_initial_stage_aligns_the_spaces(data: Data) -> None:
    only = {name: {"weight": 0.0} for name in ("dance", "music", "bridge")} | {"alignment": {"weight": 1.0}}
    lesson = data.lesson(terms=only)
    # Music and dance here have nothing to do with each other: only these very pairs can be aligned.
    batch = lesson.batch(0, range(2), CPU)
    lesson.batch = lambda step, places, device: batch  # type: ignore[method-assign]
    run = Learning(lesson, lesson.settings, open_fabric("cpu"))
    losses = [run.take_step()["alignment"] for _ in range(40)]
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])


def test_both_tasks_and_the_pairs_are_measured(data: Data, tmp_path: Path) -> None:
    lesson = data.lesson()
    figures = lesson.evaluate(lesson.model, 7, tmp_path)
    assert (tmp_path / "gmd" / "average-7.safetensors").is_file()
    assert (tmp_path / "gdm" / "average-7.safetensors").is_file()
    assert figures["pairs_alignment_exact"] <= figures["pairs_alignment_paired"] + 1e-6
    assert figures["pairs_cycle_music"] > 0.0


def test_sound_is_learnt_in_every_key_from_one() -> None:
    """What notes sound like in the home key is known in another after a shift of the chroma, and nothing else."""
    random = np.random.default_rng(0)
    size = FeatureSpec().count
    sound = Sound(random.normal(size=size), random.uniform(0.5, 2.0, size))
    raw = torch.from_numpy(random.normal(size=(3, 12, size))).float()
    shift = torch.tensor([0, 3, -5])
    home = sound.home(raw, shift)
    torch.testing.assert_close(sound.heard(home, shift), sound.normal(raw), atol=1e-4, rtol=1e-4)
    first = FeatureSpec().column("chroma_c")
    up = raw.clone()
    up[..., first : first + 12] = raw[..., first : first + 12].roll(4, dims=-1)
    torch.testing.assert_close(sound.home(up, shift + 4), home)


def test_notes_are_chosen_hard_and_their_gradient_is_soft() -> None:
    random = torch.Generator().manual_seed(0)

    def logits(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random).requires_grad_(True)

    voices = tuple(logits(2, 3, n) for n in (38, 98, 50))
    given = VoiceLogits(logits(2, 3, 9, 6), voices, tuple(logits(2, 3, 5) for _ in range(3)))
    chosen = choose(given, torch.zeros(2, 3, NOISE_SIZE), 1.0)
    expected = one_hot(given.drums.argmax(-1), torch.stack([v.argmax(-1) for v in voices], dim=-1))
    torch.testing.assert_close(chosen, expected)
    (chosen * torch.randn(chosen.shape, generator=random)).sum().backward()
    assert all(bool(v.grad.abs().sum() > 0) for v in (given.drums, *voices))


def test_settings_name_their_recipes(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("[network]\nwidth = 64\n")
    (tmp_path / "dual.toml").write_text('task = "dual"\ngmd = "a.toml"\n[terms.alignment]\nweight = 2.0\nend = 9\n')
    settings = DualSettings.load(tmp_path / "dual.toml")
    assert settings.gmd.network.width == 64
    assert [settings.terms.alignment.at(step) for step in (0, 8, 9)] == [2.0, 2.0, 0.0]
    (tmp_path / "dual.toml").write_text("[terms.aligment]\nweight = 2.0\n")
    with pytest.raises(UserError, match="alignment"):
        DualSettings.load(tmp_path / "dual.toml")


def test_a_sequence_is_whole_beats(data: Data) -> None:
    settings = replace(data.gmd.settings, chunks=25)
    odd = training_sampler(data.dances, settings, 4, 16)
    with pytest.raises(UserError, match="whole beats"):
        PairSampler(data.pairs, odd, data.gdm)


def test_two_processes_give_the_same_losses_as_one(data: Data, folder: Path, tmp_path: Path) -> None:
    fork_both(share_pairs, folder, tmp_path / "losses.json")
    ours, theirs = staged_losses(data), json.loads((tmp_path / "losses.json").read_text())
    assert [row.keys() for row in ours] == [row.keys() for row in theirs]
    for one, other in zip(ours, theirs, strict=True):
        for name, value in one.items():
            assert other[name] == pytest.approx(value, rel=5e-3, abs=1e-5), name
