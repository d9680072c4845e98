"""A system of the field from its recipe to the stage and the table: train, resume, export, dance, measure, refuse."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from field_fixtures import TINY, exported  # noqa: E402

from engine.errors import UserError  # noqa: E402
from engine.features import FeatureExtractor  # noqa: E402
from engine.settings import load_show  # noqa: E402
from engine.stage import build_generator, build_troupe, dance_model  # noqa: E402
from engine.types import MotionChunk, MotionRequest  # noqa: E402
from models.artifacts import GmdManifest, kind_of  # noqa: E402
from models.evaluation.facts import SystemFacts  # noqa: E402
from models.field import registry, run  # noqa: E402
from models.field.artifact import FrameManifest, FrameTables  # noqa: E402
from models.field.audio_to_body import AudioToBody  # noqa: E402
from models.field.generator import CHUNK_TICKS, LEAD_TICKS, FrameGenerator  # noqa: E402
from models.field.lesson import FieldLesson, build_model  # noqa: E402
from models.field.run import FieldData  # noqa: E402
from models.field.settings import FieldTrainingSettings  # noqa: E402
from models.field.system import FrameSystem, rival_systems  # noqa: E402
from models.learning import commands  # noqa: E402
from models.learning.launch import open_fabric  # noqa: E402
from models.learning.loop import Learning  # noqa: E402
from models.music_to_dance.dances import load_dances  # noqa: E402
from models.rivals.retrained import Retrained  # noqa: E402
from models.rivals.song import Song  # noqa: E402
from tests.models.data.stepping_folder import prepared_folder  # noqa: E402

BPM = 100.0


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared_folder(tmp_path_factory.mktemp("data") / "prepared")


@pytest.fixture(scope="module")
def data(prepared: Path) -> FieldData:
    return FieldData.load(TINY, prepared)


@pytest.fixture(scope="module")
def artifact(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    run.train(TINY, prepared, out / "run")
    run.export(out / "run", prepared, out / "model")
    return out / "model"


class WarmStart(AudioToBody):
    """Begins in another state than zero."""

    def start(self, dancers: int) -> tuple[torch.Tensor, ...]:
        return tuple(part + 0.5 for part in super().start(dancers))


@pytest.fixture(scope="module")
def warm(data: FieldData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another training of the same system."""
    model = WarmStart(build_model(TINY, data.sampler.scales).sizes, TINY.network)
    return exported(data, tmp_path_factory.mktemp("warm"), model, seed=9)


def requests(count: int, bpm: float = BPM, style: str | None = "waltz", level: float = 0.0) -> list[MotionRequest]:
    random = np.random.default_rng(3)
    features = FeatureExtractor().spec.count
    music = [random.standard_normal((CHUNK_TICKS, features)).astype(np.float32) + level for _ in range(count)]
    return [MotionRequest(CHUNK_TICKS * k, music[k], bpm, 4, 0, style, 0.5) for k in range(count)]


def values(chunks: list[MotionChunk]) -> np.ndarray:
    rows = [
        np.concatenate([c.rotations.reshape(CHUNK_TICKS, -1), c.root_delta_m, c.root_height_m[:, None]], axis=1)
        for c in chunks
    ]
    return np.concatenate(rows)


# -- learning -----------------------------------------------------------------------------------------------------


def test_a_run_leaves_weights_and_figures_and_the_loss_falls(artifact: Path) -> None:
    folder = artifact.parent / "run"
    curve = [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]
    losses = [point["pose"] for point in curve]
    assert losses[-1] < 0.95 * losses[0]
    figures = json.loads((folder / "evaluation.jsonl").read_text().splitlines()[-1])
    assert figures["val_loss"] == pytest.approx(figures["val_pose"])
    assert np.isfinite(figures["frechet"])
    assert (folder / "average-60.safetensors").is_file()


def test_an_interrupted_run_is_the_same_run(data: FieldData, tmp_path: Path) -> None:
    def learning() -> Learning:
        return Learning(FieldLesson(data.sampler, data.starts, TINY), TINY, open_fabric("cpu"))

    straight, broken = learning(), learning()
    whole = [straight.take_step()["pose"] for _ in range(6)]
    parts = [broken.take_step()["pose"] for _ in range(3)]
    broken.save(tmp_path)
    resumed = learning()
    resumed.resume(tmp_path)
    parts += [resumed.take_step()["pose"] for _ in range(3)]
    assert parts == whole


def test_protocol_b_learns_from_less_and_says_when_nothing_is_left(prepared: Path, data: FieldData) -> None:
    # Half of each training dance is unseen.
    unseen = FieldData.load(replace(TINY, protocol="B"), prepared)
    assert sum(map(len, (c.pose for c in unseen.sampler._clips))) < 0.6 * sum(
        map(len, (c.pose for c in data.sampler._clips))
    )
    with pytest.raises(UserError, match="no dance holds a window of 5000 frames"):
        FieldData.load(replace(TINY, protocol="B", window_frames=5000), prepared)


# -- settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(registry.SYSTEMS))
def test_every_system_has_a_recipe_that_builds_its_network_settings(name: str) -> None:
    settings, found = commands.settings_of(commands.recipe_of(name)), registry.entry(name)
    assert (settings.model, settings.name) == (name, name)
    assert isinstance(settings.network if found.is_frame_model else settings, found.settings_class())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "which system"),
        ({"model": "audio_to_bodi"}, "did you mean 'audio_to_body'"),
        ({"model": "audio_to_body", "windw_frames": 3}, "did you mean 'window_frames'"),
        ({"model": "audio_to_body", "network": {"widht": 3}}, "did you mean 'width'"),
        ({"model": "audio_to_body", "network": {"width": 0}}, "sizes from 1"),
        ({"model": "audio_to_body", "network": 3}, r"\[network\]"),
        ({"model": "audio_to_body", "frame_rate_hz": 0.0}, "frame_rate_hz over 0"),
        ({"model": "audio_to_body", "optimiser": {"batch": "many"}}, "batch"),
    ],
)
def test_a_wrong_recipe_is_one_line_that_names_the_nearest(content: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        FieldTrainingSettings.of({"task": "field", **content} if content else content, "x.toml")


def test_a_model_is_trained_by_name_and_a_wrong_name_names_the_known(prepared: Path, tmp_path: Path) -> None:
    assert commands.recipe_of("gmd").name == "gmd.toml"
    with pytest.raises(UserError, match="did you mean 'audio_to_body'"):
        commands.train(None, prepared, None, tmp_path, model="audio_to_boby")
    with pytest.raises(UserError, match="trains audio_to_body, not gmd"):
        commands.train(commands.recipe_of("audio_to_body"), prepared, None, tmp_path, model="gmd")


def test_a_run_remembers_its_settings_exactly(artifact: Path) -> None:
    stored = json.loads((artifact.parent / "run" / "training.json").read_text())["settings"]
    assert FieldTrainingSettings.of(stored) == TINY


# -- export -------------------------------------------------------------------------------------------------------


def test_the_artifact_says_what_it_is_and_computes_what_the_model_does(artifact: Path) -> None:
    manifest = FrameManifest.load(artifact)
    assert kind_of(artifact) == "frames"
    with pytest.raises(UserError, match="of kind 'frames'"):
        GmdManifest.load(artifact)
    assert 0.0 < manifest.parity < 1e-5
    assert manifest.lookahead_frames == 3
    assert manifest.training_steps == 60
    assert manifest.styles == ("waltz", "chacha")


def test_start_states_travel_with_the_graph(warm: Path) -> None:
    assert FrameManifest.load(warm).parity < 1e-5
    assert [float(part.max()) for part in FrameTables.load(warm).state] == [0.5, 0.5, 0.5]
    generator = FrameGenerator(warm)
    begun = [part.copy() for part in generator._dancing._state]
    generator.step(requests(1)[0])
    assert not np.allclose(generator._dancing._state[0], 0.5)
    generator.reset(0)
    assert all(np.array_equal(part, 0.5 * np.ones_like(part)) for part in (*begun, *generator._dancing._state))


@pytest.mark.parametrize("change", ["weights", "skeleton", "features", "missing", "version", "kind"])
def test_what_does_not_fit_is_refused_with_a_remedy(artifact: Path, tmp_path: Path, change: str) -> None:
    for file in artifact.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    content = json.loads((tmp_path / "manifest.json").read_text())
    if change == "weights":
        (tmp_path / "model.onnx").write_bytes((tmp_path / "model.onnx").read_bytes()[:-1] + b"x")
    elif change == "missing":
        (tmp_path / "tables.safetensors").unlink()
    else:
        names = {"skeleton": "skeleton", "features": "feature_spec", "version": "unheard_of", "kind": "kind"}
        content[names[change]] = "0"
        (tmp_path / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(UserError) as caught:
        FrameGenerator(tmp_path)
    assert caught.value.remedy


# -- on stage -----------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_dance_whatever_was_danced_before(artifact: Path) -> None:
    generator = FrameGenerator(artifact, seed=5)
    first = values([generator.step(r) for r in requests(20)])
    generator.reset(6)
    for request in requests(7, bpm=133.0, style="chacha"):
        generator.step(request)
    generator.reset(5)
    assert np.array_equal(values([generator.step(r) for r in requests(20)]), first)
    assert np.isfinite(first).all()
    assert np.abs(np.diff(first[:, :72], axis=0)).max() > 1e-4, "it moves"


def test_music_that_has_not_been_handed_over_is_not_heard(artifact: Path) -> None:
    generator, count = FrameGenerator(artifact), 30
    plain = values([generator.step(r) for r in requests(count)])
    generator.reset(0)
    changed = requests(count)
    changed[20:] = requests(count, level=3.0)[20:]
    other = values([generator.step(r) for r in changed])
    assert np.array_equal(other[: 20 * CHUNK_TICKS], plain[: 20 * CHUNK_TICKS])
    assert not np.array_equal(other, plain)


@pytest.mark.parametrize("bpm", [60.0, 95.0, 140.0])
def test_every_frame_is_given_music_of_whole_beats_ago(artifact: Path, bpm: float) -> None:
    generator = FrameGenerator(artifact)
    asked: list[np.ndarray] = []
    dancing = generator._dancing

    def listen(music: np.ndarray, pose: np.ndarray, noise: np.ndarray) -> np.ndarray:
        asked.append(music[0])
        return dancing(music, pose, noise)

    generator._dancing = listen  # type: ignore[assignment]
    scales = generator._tables.scales
    features = FeatureExtractor().spec.count
    # Row k of the music says its own tick, as a ramp over 40 beats.
    ramp = (np.arange(-12, 480) / 480.0)[:, None] * scales.music_deviation + scales.music_mean
    for first in range(0, 400, CHUNK_TICKS):
        newest = first - LEAD_TICKS
        rows = ramp[newest - CHUNK_TICKS + 1 + 12 : newest + 1 + 12].astype(np.float32)
        generator.step(MotionRequest(first, rows, bpm, 4, 0, None, 0.5))
    assert features == len(scales.music_mean)
    rate, look = generator.manifest.frame_rate_hz, generator.manifest.lookahead_frames
    for frame, music in enumerate(asked[60:], start=60):
        # The first `lookahead_frames` frames are before the dance: frame number `frame` hears tick of its own number.
        tick = frame / rate * bpm / 60.0 * 12.0
        heard = music[0] * 480.0
        assert (np.floor(tick + 1e-6) - heard) / 12.0 == pytest.approx(generator.lag_beats(bpm), abs=0.01)
        assert music[-1] == pytest.approx(tick / 12.0 % 1.0, abs=1e-3)
    assert look == 3
    assert 1 <= generator.lag_beats(bpm) <= 2


def test_the_frames_keep_their_own_time_at_every_tempo(artifact: Path) -> None:
    for bpm in (60.0, 140.0):
        generator = FrameGenerator(artifact)
        for request in requests(30, bpm=bpm):
            generator.step(request)
        assert generator._path is not None
        assert generator._path.end_s == pytest.approx(119 * 60.0 / bpm / 12.0, abs=1.0 / 15.0)


def test_wild_requests_still_give_finite_motion(artifact: Path) -> None:
    generator = FrameGenerator(artifact)
    music = np.full((CHUNK_TICKS, FeatureExtractor().spec.count), np.nan, np.float32)
    music[0] = np.inf
    wild = ((0, 30.0, "polka"), (4000, 1e9, None), (-8, np.nan, "tango"), (0, -5.0, "waltz"), (1 << 40, 100.0, None))
    for tick, bpm, style in wild:
        chunk = generator.step(MotionRequest(tick, music, bpm, 7, 5, style, 9.0))
        assert np.isfinite(values([chunk])).all()


def test_a_network_that_breaks_down_stands_and_begins_anew(artifact: Path) -> None:
    generator = FrameGenerator(artifact)
    some = requests(12)
    for request in some[:4]:
        generator.step(request)
    generator._dancing._state = [np.full_like(part, np.nan) for part in generator._dancing._state]
    chunks = [generator.step(request) for request in some[4:]]
    assert np.isfinite(values(chunks)).all()
    assert all(np.isfinite(part).all() for part in generator._dancing._state)


def test_the_stage_finds_the_class_by_the_kind(artifact: Path) -> None:
    settings = load_show(None, [f'dancer.model="{artifact}"'])
    generator = build_generator(settings, FeatureExtractor())
    assert isinstance(generator, FrameGenerator)
    assert generator.info.lookahead_ticks == LEAD_TICKS
    with pytest.raises(UserError, match="no back end 'cuda'"):
        build_generator(load_show(None, [f'dancer.model="{artifact}"', "dancer.backend=cuda"]), FeatureExtractor())
    with pytest.raises(UserError, match="dances alone"):
        build_troupe(load_show(None, [f'dancer.model="{artifact}"', "crowd.size=2"]))


def test_what_cannot_be_made_causal_is_refused_with_its_reason(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole_song = replace(registry.SYSTEMS["audio_to_body"], off_stage="it reads the whole song first")
    monkeypatch.setitem(registry.SYSTEMS, "audio_to_body", whole_song)
    with pytest.raises(UserError, match="reads the whole song first"):
        FrameGenerator(artifact)
    with pytest.raises(UserError, match="reads the whole song first"):
        dance_model("audio_to_body")
    monkeypatch.setitem(registry.SYSTEMS, "audio_to_body", replace(whole_song, off_stage=None))
    with pytest.raises(UserError, match="no weights of 'audio_to_body'"):
        dance_model("audio_to_body")


def test_the_stage_needs_no_torch(artifact: Path) -> None:
    code = (
        "import sys\nsys.modules['torch'] = None\n"
        "from pathlib import Path\nfrom models.field.generator import FrameGenerator\n"
        f"FrameGenerator(Path({str(artifact)!r}))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3], timeout=120)


# -- measured -----------------------------------------------------------------------------------------------------


def test_a_rival_dances_in_its_own_time_and_each_seed_has_its_training(
    data: FieldData, artifact: Path, warm: Path
) -> None:
    clip = data.dances.val[0]
    system = Retrained([FrameSystem(artifact), FrameSystem(warm)])
    assert system.name == "audio_to_body"
    assert system.key != FrameSystem(artifact).key
    assert SystemFacts.of(system).training_seeds == (1, 9)
    songs = [Song.of(clip, 6.0, course) for course in ("steady", "drift")]
    for song in songs:
        dance = system.dance(song, 0)
        assert np.allclose(np.diff(dance.time_s), 1.0 / 15.0)
        assert dance.time_s[-1] >= 6.0
        assert np.isfinite(dance.rotations).all()
    first, second, third = (system.dance(songs[0], seed) for seed in range(3))
    assert not np.allclose(first.rotations, second.rotations, atol=1e-4)
    alone = FrameSystem(artifact).dance(songs[0], 2)
    assert np.array_equal(alone.rotations, third.rotations)


def test_protocol_b_leaves_out_what_learnt_the_held_out_movement(artifact: Path) -> None:
    notes: list[str] = []
    assert rival_systems([artifact], "B", notes) == []
    assert "left out" in notes[0]
    names = [system.name for system in rival_systems([artifact], "A", notes, shown=True)]
    assert names == ["audio_to_body", "audio_to_body as shown"]


def test_as_shown_it_goes_through_the_engine(prepared: Path, artifact: Path) -> None:
    from models.data.dataset import PreparedData

    clip = load_dances(PreparedData.load(prepared).clips).val[0]
    shown = rival_systems([artifact], "A", [], shown=True)[1]
    dance = shown.dance(Song.of(clip, 4.0), 0)
    assert np.allclose(np.diff(dance.time_s), 1.0 / 60.0, atol=1e-6)
    assert np.isfinite(dance.rotations).all()
