"""`pasdedeux train` and `pasdedeux export` of the music -> dance model: prepared data in, runs and weights out.

A run's folder holds the settings, a checkpoint that resumes exactly, `average-<step>.safetensors` for every
evaluation and `evaluation.jsonl` with its figures: dances of a minute to the validation songs, four seeds each. The
test split is never read here.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from engine.errors import UserError
from engine.features import FeatureSpec
from models import metrics
from models.artifacts import GmdManifest
from models.conditioning import CONDITION_SIZE
from models.continuity import fit_continuity
from models.dataset import PreparedData
from models.export import ExportFacts, export_gmd
from models.gmd import Gmd
from models.gmd_data import DanceData, load_dances, training_sampler
from models.gmd_sequences import DanceClip, SequenceSampler
from models.rollout import RATE_HZ, DanceFigures, ShownMotion, judge, piece_of, roll_out, show
from models.training import Trainer, TrainingSettings

log = logging.getLogger(__name__)

_DANCE_BEATS = 90
_SEEDS_PER_SONG = 4
_LOG_EVERY_STEPS = 100
_TRAINING_SET = (
    "music and dance pairs published with Tang et al. 2018 (waltz, rumba, cha-cha, tango), no licence stated"
)


@dataclass(frozen=True)
class RealDance:
    """What generated dances are compared with: kinetic features (n, 72) of real training clips, their diversity."""

    features: NDArray[np.float64]
    diversity: float

    @staticmethod
    def of(clips: Sequence[DanceClip]) -> RealDance:
        """Measure real dances."""
        features = np.concatenate([metrics.clip_features(d.joints, RATE_HZ) for d in map(shown, clips)])
        return RealDance(features, metrics.diversity(features, features))


def shown(clip: DanceClip) -> ShownMotion:
    """Return a real dance as it would be shown."""
    return show(clip.ticks, clip.tempo_bpm, clip.first_tick)


def evaluate(model: Gmd, sampler: SequenceSampler, songs: Sequence[DanceClip], real: RealDance) -> DanceFigures:
    """Dance for a minute to each song, with several seeds, and measure."""
    pieces = [piece_of(song, _DANCE_BEATS) for song in songs for _ in range(_SEEDS_PER_SONG)]
    dances = roll_out(model, sampler, pieces, range(len(pieces)))
    motions = [show(ticks, piece.tempo_bpm) for ticks, piece in zip(dances, pieces, strict=True)]
    return judge(motions, real.features, real.diversity)


def train(
    settings_file: Path,
    prepared: Path,
    out: Path,
    *,
    resume: bool = False,
    minutes: float | None = None,
    evaluate_every_s: float = 300.0,
) -> Path:
    """Train; return the folder of the run.

    Args:
        settings_file: TOML, see `TrainingSettings`.
        prepared: folder made by `pasdedeux prepare`.
        out: folder of the run.
        resume: go on from the checkpoint in `out`.
        minutes: stop after this time (the schedule of the learning rate goes by steps all the same).
        evaluate_every_s: time between evaluations, each of which also writes a checkpoint.

    Raises:
        UserError: the settings or the data cannot be used.
    """
    settings = TrainingSettings.load(settings_file)
    dances = _dances(prepared)
    sampler = training_sampler(dances, settings.sequence, settings.chunk_ticks, settings.network.latent_size)
    trainer = _trainer(sampler, settings)
    if resume:
        trainer.resume(out)
    real = RealDance.of(dances.train)
    log.info("real validation dances: %s", judge([shown(c) for c in dances.val], real.features, real.diversity))
    begin = checked = time.monotonic()
    recent: list[dict[str, float]] = []
    while trainer.step < settings.optimiser.steps:
        recent.append(trainer.train_step())
        now = time.monotonic()
        if trainer.step % _LOG_EVERY_STEPS == 0:
            means = {name: round(float(np.mean([r[name] for r in recent])), 4) for name in recent[0]}
            log.info("step %d, %.0f s: %s", trainer.step, trainer.seconds, means)
            recent = []
        out_of_time = minutes is not None and now - begin > 60.0 * minutes
        if now - checked > evaluate_every_s or out_of_time or trainer.step == settings.optimiser.steps:
            trainer.fit_continuity()
            _checkpoint(trainer, evaluate(trainer.average, sampler, dances.val, real), out)
            checked = time.monotonic()
        if out_of_time:
            break
    return out


def export(
    run: Path,
    prepared: Path,
    folder: Path,
    *,
    step: int | None = None,
    history_noise: float = 0.0,
    temperature: float = 0.9,
) -> GmdManifest:
    """Export the weights of a run at a step (the newest if None) for the stage; see `models.export`."""
    try:
        state = json.loads((run / "training.json").read_text())
        steps = sorted(int(p.stem.split("-")[1]) for p in run.glob("average-*.safetensors"))
        chosen = steps[-1] if step is None else step
        weights = load_file(run / f"average-{chosen}.safetensors")
    except (OSError, ValueError, IndexError) as error:
        raise UserError(
            f"training run {run}: {error}", "give the folder of a run with an evaluated checkpoint"
        ) from error
    settings = TrainingSettings.of(state["settings"])
    sampler = training_sampler(_dances(prepared), settings.sequence, settings.chunk_ticks, settings.network.latent_size)
    trainer = _trainer(sampler, settings)
    trainer.average.load_state_dict(weights)
    fit_continuity(trainer.average, sampler, temperature)
    hours = state["seconds"] / 3600.0 * chosen / max(state["step"], 1)
    facts = ExportFacts("gmd", FeatureSpec().digest, history_noise, temperature, chosen, hours, _TRAINING_SET)
    return export_gmd(trainer.average, sampler, facts, folder)


def _dances(prepared: Path) -> DanceData:
    data = PreparedData.load(prepared)
    if data.feature_digest != FeatureSpec().digest:
        raise UserError(f"{prepared} holds other music features", "run `pasdedeux prepare` again")
    return load_dances(data.clips)


def _trainer(sampler: SequenceSampler, settings: TrainingSettings) -> Trainer:
    return Trainer(sampler, settings, settings.chunk_ticks * len(sampler.music_mean), CONDITION_SIZE)


def _checkpoint(trainer: Trainer, figures: DanceFigures, out: Path) -> None:
    trainer.save(out)
    save_file(trainer.average.state_dict(), out / f"average-{trainer.step}.safetensors")
    with (out / "evaluation.jsonl").open("a") as file:
        file.write(json.dumps({"step": trainer.step, "seconds": round(trainer.seconds), **asdict(figures)}) + "\n")
    log.info("step %d: %s", trainer.step, figures)
