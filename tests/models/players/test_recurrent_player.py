"""The recurrent player: steps are the whole, it is causal, it learns, it goes on stage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from engine.body.pose_features import PoseFeatureSpec  # noqa: E402
from engine.errors import UserError  # noqa: E402
from engine.types import MusicRequest, MusicStep  # noqa: E402
from models.artifacts import GdmManifest  # noqa: E402
from models.dance_to_music.composer import OnnxComposer  # noqa: E402
from models.dance_to_music.conditioning import MUSIC_CONDITION_SIZE  # noqa: E402
from models.dance_to_music.export import GdmExportFacts  # noqa: E402
from models.dance_to_music.lesson import PlayerLesson  # noqa: E402
from models.dance_to_music.tokens import HISTORY_SIZE  # noqa: E402
from models.field.registry import RECIPES  # noqa: E402
from models.learning import commands  # noqa: E402
from models.learning.launch import open_fabric  # noqa: E402
from models.learning.loop import Learning  # noqa: E402
from models.learning.settings import OptimiserSettings  # noqa: E402
from models.players.recurrent_export import export_recurrent  # noqa: E402
from models.players.recurrent_player import RecurrentPlayer, RecurrentPlayerConfig  # noqa: E402
from models.players.recurrent_training import RecurrentNetworkSettings, RecurrentTrainingSettings, player  # noqa: E402
from tests.models.dance_to_music.gdm_fixtures import POSES, sampler  # noqa: E402

TINY = RecurrentTrainingSettings(
    bfloat16=False,
    network=RecurrentNetworkSettings(width=32, encoder_layers=1, decoder_layers=2, voice_width=32, dropout=0.0),
    optimiser=OptimiserSettings(steps=200, batch=4, learning_rate=6e-3, warm_up_steps=5, average_decay=0.9),
)


def make(seed: int = 0, poses: int = POSES) -> RecurrentPlayer:
    torch.manual_seed(seed)
    sizes = RecurrentPlayerConfig(3 * poses, MUSIC_CONDITION_SIZE, HISTORY_SIZE, 24, 1, 2, 24, 0.0)
    return RecurrentPlayer(sizes).eval()


def inputs(steps: int = 12, batch: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    dance, condition, history = (
        torch.randn(batch, steps, size, generator=random) for size in (3 * POSES, MUSIC_CONDITION_SIZE, HISTORY_SIZE)
    )
    return dance, torch.arange(batch) % 2 * 1.0, condition, history


def test_steps_are_the_forward_pass() -> None:
    model = make()
    dance, known, condition, history = inputs()
    state, found = model.start(2), []
    with torch.no_grad():
        whole = model(dance, known, condition, history)
        for k in range(dance.shape[1]):
            context, state = model.step(dance[:, k], known, condition[:, k], history[:, k], state)
            found.append(context)
        assert torch.allclose(torch.stack(found, dim=1), whole, atol=1e-5)
        # Where the dance is withheld it makes no difference.
        other = model(dance + 1.0, known, condition, history)
    assert torch.equal(other[0], whole[0])
    assert not torch.allclose(other[1], whole[1])


def test_a_step_depends_on_no_later_one() -> None:
    model = make()
    dance, _, condition, history = (tensor.clone() for tensor in inputs())
    for tensor in (dance, condition, history):
        tensor.requires_grad_()
    states = model(dance, torch.ones(2), condition, history)
    for gradient in torch.autograd.grad(states[:, 6].sum(), (dance, condition, history)):
        heard = gradient.abs().sum(dim=(0, 2))
        assert (heard[:7] > 0.0).all()
        assert not heard[7:].any()


def test_it_learns_a_little_band_and_resumes_exactly(tmp_path: Path) -> None:
    def learning() -> Learning:
        source = sampler(drop_phrase=0.0)
        return Learning(PlayerLesson(player(source, TINY), source, TINY, {"music": source}), TINY, open_fabric("cpu"))

    whole = learning()
    first = whole.take_step()
    for _ in range(70):
        last = whole.take_step()
    voices = ("drums", "bass", "chord", "lead")
    assert sum(last[v] for v in voices) < 0.5 * sum(first[v] for v in voices)
    whole.save(tmp_path)
    again = learning()
    again.resume(tmp_path)
    assert again.take_step() == whole.take_step()
    assert whole.lesson.evaluate(whole.average, 72, tmp_path)["val_total"] > 0.0
    assert (tmp_path / "average-72.safetensors").is_file()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a small untrained player that expects the real pose features."""
    count, source = PoseFeatureSpec().size, sampler()
    source.pose_mean, source.pose_scale = np.zeros(count, np.float32), np.ones(count, np.float32)
    folder = tmp_path_factory.mktemp("recurrent")
    facts = GdmExportFacts("small recurrent", (1.0, 1.0, 1.0, 1.0), 9.0, 0, 0.0, "synthetic")
    export_recurrent(make(poses=count), source, facts, folder)
    return folder


def _play(composer: OnnxComposer, seed: int, poses: np.ndarray) -> list[MusicStep]:
    composer.reset(seed)
    return [composer.step(MusicRequest(k, rows, 110.0, 4, 0)) for k, rows in enumerate(poses)]


def _rows(steps: list[MusicStep]) -> np.ndarray:
    return np.array([[*s.drums, s.bass.velocity, s.lead.velocity, sum(s.bass.pitches + s.lead.pitches)] for s in steps])


def test_it_plays_on_the_stage(exported: Path) -> None:
    manifest = GdmManifest.load(exported)
    assert manifest.recurrent == (3, 24)
    assert 0.0 < manifest.parity < 1e-5
    composer = OnnxComposer(exported)
    poses = np.random.default_rng(0).standard_normal((16, 3, composer.info.pose_count)).astype(np.float32)
    first, again, other = (_rows(_play(composer, seed, poses)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    # It remembers: without a reset the same steps are other music.
    going_on = _rows([composer.step(MusicRequest(k, rows, 110.0, 4, 0)) for k, rows in enumerate(poses)])
    assert not np.array_equal(first, going_on)
    # And it sees no later pose.
    changed = poses.copy()
    changed[8:] *= -3.0
    assert np.array_equal(first[:8], _rows(_play(composer, 1, changed))[:8])


def test_a_show_takes_it(exported: Path) -> None:
    from engine.settings import ShowSettings
    from engine.stage import build_composer

    settings = ShowSettings()
    settings = settings.model_copy(update={"band": settings.band.model_copy(update={"model": str(exported)})})
    assert build_composer(settings).info.name == "small recurrent"


def test_the_recipe_is_one_and_the_command_knows_it(tmp_path: Path) -> None:
    settings = commands.settings_of(commands.recipe_of("recurrent_player"))
    assert settings == RecurrentTrainingSettings.load(RECIPES / "recurrent_player.toml")
    with pytest.raises(UserError, match="widht"):
        RecurrentTrainingSettings.of({"network": {"widht": 3}})
    with pytest.raises(UserError, match="learns from more"):
        commands.train(None, None, None, tmp_path / "out", model="recurrent_player")
    assert replace(settings, seed=2) != settings
