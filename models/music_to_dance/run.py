"""`pasdedeux train` and `pasdedeux export` of the music -> dance model: prepared data in, runs and weights out.

A run's folder holds a checkpoint that resumes exactly, `average-<step>.safetensors` for every evaluation, the curves
(`curve.jsonl`, `evaluation.jsonl` and TensorBoard's events) and contact sheets of what it danced: a minute to each of
the validation songs, four seeds each. The test split is never read here.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Literal

from engine.errors import UserError
from engine.features import FeatureSpec
from models.artifacts import GmdManifest
from models.data.dataset import PreparedData
from models.learning.finished import FinishedRun
from models.learning.launch import open_fabric
from models.learning.loop import Learning
from models.music_to_dance.choice_head import fit_as_danced, fit_limits
from models.music_to_dance.continuity import fit_continuity
from models.music_to_dance.dances import DanceData, load_dances, training_sampler
from models.music_to_dance.export import ExportFacts, export_gmd
from models.music_to_dance.lesson import GmdLesson, gmd_config
from models.music_to_dance.network import Gmd
from models.music_to_dance.rollout import RealDance, show
from models.music_to_dance.sequences import SequenceSampler, most_chunks, shortest_clip
from models.music_to_dance.settings import TrainingSettings
from models.music_to_dance.unseen_movement import learnt_from, unseen_movement
from models.rivals.fixed_rate import dances_in_seconds, in_seconds

log = logging.getLogger(__name__)

_NAMED = 5
"""Of the dances that are left out, so many are named."""


def train(
    settings: TrainingSettings, prepared: Path, out: Path, *, resume: bool = False, minutes: float | None = None
) -> Path:
    """Train; return the folder of the run.

    Args:
        settings: of the run.
        prepared: folder made by `pasdedeux prepare`.
        out: folder of the run.
        resume: go on from the checkpoint in `out`.
        minutes: stop after this time (the schedule of the learning rate goes by steps all the same).

    Raises:
        UserError: the data cannot be used, or there is nothing to go on from.
    """
    fabric = open_fabric(settings.device, bfloat16=settings.bfloat16)
    dances = load(prepared, settings.time)
    sampler = sampler_of(settings, prepared, dances)
    real = RealDance.of(dances.train)
    if fabric.is_global_zero and dances.val:
        shown = [show(clip.ticks, clip.tempo_bpm, clip.first_tick) for clip in dances.val]
        log.info("real validation dances: %s", real.judge(shown))
    learning = Learning(GmdLesson(sampler, settings, dances.val, real), settings, fabric)
    if resume:
        learning.resume(out)
    learning.run(out, minutes)
    return out


def export(
    run: Path,
    prepared: Path,
    folder: Path,
    *,
    step: int | None = None,
    name: str = "",
    history_noise: float = 0.0,
    temperature: float = 0.8,
    energy_middle: float = 0.75,
) -> GmdManifest:
    """Export the weights of a run at a step (the newest if None) for the stage; see `models.music_to_dance.export`."""
    finished = FinishedRun.find(run)
    chosen, weights = finished.weights(step)
    settings = TrainingSettings.of(finished.settings)
    sampler = sampler_of(settings, prepared, load(prepared, settings.time))
    finished.require_same(sampler.fitted)
    model = Gmd(gmd_config(sampler, settings)).eval()
    model.load_state_dict(weights)
    fit_limits(model.head, sampler)
    fit_continuity(model, sampler, temperature)
    # Last: the join is learnt from mirrored dances too.
    fit_as_danced(model.head, sampler)
    hours = finished.hours_until(chosen)
    facts = ExportFacts(
        name or settings.name,
        FeatureSpec().digest,
        history_noise,
        temperature,
        energy_middle,
        chosen,
        hours,
        learnt_from(PreparedData.load(prepared), settings.protocol),
    )
    return export_gmd(model, sampler, facts, folder)


def sampler_of(settings: TrainingSettings, prepared: Path, dances: DanceData) -> SequenceSampler:
    """Return the sampler of the dances that a run learns from. Raises UserError if there are none."""
    learnt = learnt_by(settings, prepared, dances)
    return training_sampler(learnt, settings.sequence, settings.chunk_ticks, settings.network.latent_size)


def learnt_by(settings: TrainingSettings, prepared: Path, dances: DanceData) -> DanceData:
    """Return the dances with those to train on that a run's protocol allows and that are long enough for a sequence.

    Raises UserError if there are none.
    """
    if settings.protocol == "A":
        what, parts = "training dance", list(dances.train)
    else:
        what, parts = "run of unseen movement", unseen_movement(PreparedData.load(prepared), load(prepared))
        parts = [in_seconds(part) for part in parts] if settings.time == "seconds" else parts
    sequence, chunk = settings.sequence, settings.chunk_ticks
    shortest = shortest_clip(sequence, chunk)
    learnt = tuple(part for part in parts if len(part.ticks) >= shortest)
    if not learnt:
        most = most_chunks(max((len(part.ticks) for part in parts), default=0), sequence, chunk)
        remedy = f"set [sequence] chunks = {most} or fewer" if most > 0 else "prepare longer ones"
        raise UserError(f"no {what} holds {sequence.chunks} chunks", remedy)
    if all(part.music is None for part in learnt):
        raise UserError(f"no {what} of {sequence.chunks} chunks has music", "prepare dances with their audio")
    short = [part.name for part in parts if len(part.ticks) < shortest]
    if short:
        named = ", ".join(short[:_NAMED]) + (", ..." if len(short) > _NAMED else "")
        log.info("too short for %d chunks, left out: %d of %d (%s)", sequence.chunks, len(short), len(parts), named)
    return replace(dances, train=learnt)


def load(prepared: Path, time: Literal["beats", "seconds"] = "beats") -> DanceData:
    """Read prepared dances. Raises UserError if they cannot be used."""
    data = PreparedData.load(prepared)
    if data.feature_digest != FeatureSpec().digest:
        raise UserError(f"{prepared} holds other music features", "run `pasdedeux prepare` again")
    dances = load_dances(data.clips)
    return dances if time == "beats" else dances_in_seconds(dances)
