"""`pasdedeux train` and `pasdedeux export` of the dance -> music model: corpora and prepared dances in, weights out.

A run's folder holds a checkpoint that resumes exactly, `average-<step>.safetensors` for every evaluation and the
curves. Musicianship is learnt from the MIDI corpora; from a step on, prepared dances whose music has been transcribed
are learnt from too. The test splits are never read here.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from engine.errors import UserError
from models.artifacts import GdmManifest
from models.dance_to_music.bands import MusicPiece, first_step, holds
from models.dance_to_music.data import MusicData, fit_phrases, load_dances, load_music, music_sampler
from models.dance_to_music.export import GdmExportFacts, export_gdm
from models.dance_to_music.lesson import GdmLesson, gdm_config
from models.dance_to_music.network import Gdm
from models.dance_to_music.sequences import MusicSampler
from models.dance_to_music.settings import GdmTrainingSettings, PlayerTrainingSettings
from models.data.dataset import PreparedData
from models.data.provenance import training_set
from models.learning.finished import FinishedRun
from models.learning.launch import open_fabric
from models.learning.loop import Learning

log = logging.getLogger(__name__)

_CORPORA = {
    "song": "POP909 (MIT)",
    "drums": "Groove MIDI Dataset (CC BY 4.0)",
    "melody": "Ryan's Mammoth Collection (abc)",
}
TEMPERATURE, CUTOFF = (0.85, 0.85, 0.75, 0.9), 3.0
"""Of drums, bass, chord and lead on the stage, and what is never played; chosen on the validation split."""


def train(
    settings: GdmTrainingSettings,
    prepared: Path | None,
    corpora: Path,
    out: Path,
    *,
    resume: bool = False,
    minutes: float | None = None,
) -> Path:
    """Train; return the folder of the run.

    Args:
        settings: of the run.
        prepared: folder made by `pasdedeux prepare`, with the step grids of its music; None: music alone.
        corpora: folder of the MIDI corpora.
        out: folder of the run.
        resume: go on from the checkpoint in `out`.
        minutes: stop after this time (the schedule of the learning rate goes by steps all the same).

    Raises:
        UserError: the data cannot be used, or there is nothing to go on from.
    """
    fabric = open_fabric(settings.device, bfloat16=settings.bfloat16)
    data = load_data(prepared, corpora, out.parent / "grids")
    sampler, validation = samplers(data, settings)
    learning = Learning(GdmLesson(sampler, settings, validation), settings, fabric)
    log.info("%d weights", sum(p.numel() for p in learning.average.parameters()))
    if resume:
        learning.resume(out)
    learning.run(out, minutes)
    return out


def export(
    run: Path,
    prepared: Path | None,
    corpora: Path,
    folder: Path,
    *,
    step: int | None = None,
    name: str = "",
    temperature: tuple[float, float, float, float] = TEMPERATURE,
    cutoff: float = CUTOFF,
) -> GdmManifest:
    """Export the weights of a run at a step (the newest if None) for the stage; see `models.dance_to_music.export`."""
    finished = FinishedRun.find(run)
    chosen, weights = finished.weights(step)
    settings = GdmTrainingSettings.of(finished.settings)
    data = load_data(prepared, corpora, run.parent / "grids")
    sampler, _ = samplers(data, settings)
    finished.require_same(sampler.fitted)
    model = Gdm(gdm_config(sampler, settings)).eval()
    model.load_state_dict(weights)
    said = learnt_from(data, prepared)
    facts = GdmExportFacts(name or settings.name, temperature, cutoff, chosen, finished.hours_until(chosen), said)
    return export_gdm(model, sampler, facts, folder)


def load_data(prepared: Path | None, corpora: Path, cache: Path | None) -> MusicData:
    """Read the corpora and, if given, the dances. Raises UserError if they cannot be used."""
    data = load_music(corpora, cache)
    if prepared is not None:
        dances = load_dances(prepared)
        data.train["dance"] += dances.train["dance"]
        data.val["dance"] += dances.val["dance"]
    for split, kinds in (("train", data.train), ("val", data.val)):
        log.info("%s: %s", split, ", ".join(f"{len(group)} {kind}" for kind, group in kinds.items()))
    return data


def learnt_from(data: MusicData, prepared: Path | None) -> str:
    """Return what the manifest of a model says of its training data."""
    said = ", ".join(name for kind, name in _CORPORA.items() if data.train[kind])
    if prepared is None or not data.train["dance"]:
        return said
    return f"{said}; music transcribed from {training_set(PreparedData.load(prepared))}"


def samplers(data: MusicData, settings: PlayerTrainingSettings) -> tuple[MusicSampler, dict[str, MusicSampler]]:
    """Return the sampler of the training pieces and those of the validation pieces: music alone, and dances.

    Dances that are too short for a sequence are left out. Raises UserError if dances are to be learnt from and none
    is left.
    """
    music = {kind: group for kind, group in data.train.items() if kind != "dance"}
    phrases = fit_phrases(music)
    poses = [p.poses for p in data.train["dance"] if p.poses is not None]
    dances = _long_enough(data.train["dance"], settings.sequence.steps, "training")
    if poses and not dances and settings.sequence.dance > 0.0:
        most = max(p.tokens.steps - first_step(p) for p in data.train["dance"])
        raise UserError(
            f"no dance holds a sequence of {settings.sequence.steps} steps",
            f"set [sequence] steps = {most} or fewer, or prepare longer ones",
        )
    train_sampler = music_sampler({**music, "dance": dances}, phrases, settings.sequence, poses)
    validation = {}
    held_out = {kind: group for kind, group in data.val.items() if kind != "dance" and group}
    if held_out:
        validation["music"] = music_sampler(held_out, phrases, settings.sequence, poses)
    held_out_dances = _long_enough(data.val["dance"], settings.sequence.steps, "validation")
    if held_out_dances:
        only = replace(settings.sequence, dance=1.0)
        validation["dance"] = music_sampler({"dance": held_out_dances}, phrases, only, poses)
    return train_sampler, validation


def _long_enough(dances: Sequence[MusicPiece], steps: int, split: str) -> list[MusicPiece]:
    """Return the dances that hold a sequence."""
    whole = [dance for dance in dances if holds(dance, steps)]
    if len(whole) < len(dances):
        left_out = len(dances) - len(whole)
        log.info("%s dances too short for %d steps, left out: %d of %d", split, steps, left_out, len(dances))
    return whole
