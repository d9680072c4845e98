"""`pasdedeux train` of both directions together: prepared dances with written music, and MIDI corpora, in.

The run's folder holds what `models.music_to_dance.run` and `models.dance_to_music.run` write, in `gmd/` and `gdm/`;
`pasdedeux export` takes either. The test splits are never read here.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from engine.errors import UserError
from models.dance_to_music import run as gdm_run
from models.dance_to_music.lesson import GdmLesson
from models.data.dataset import PreparedData
from models.dual.lesson import DualLesson
from models.dual.pairs import PairSampler, find_pairs
from models.dual.settings import DualSettings
from models.learning.finished import FinishedRun
from models.learning.launch import open_fabric
from models.learning.loop import Learning
from models.music_to_dance import run as gmd_run
from models.music_to_dance.dances import training_sampler
from models.music_to_dance.lesson import GmdLesson
from models.music_to_dance.rollout import RealDance

log = logging.getLogger(__name__)


def train(
    settings: DualSettings,
    prepared: Path,
    corpora: Path,
    out: Path,
    *,
    resume: bool = False,
    minutes: float | None = None,
) -> Path:
    """Train; return the folder of the run.

    Args:
        settings: of the run.
        prepared: folder made by `pasdedeux prepare --transcribe`.
        corpora: folder of the MIDI corpora.
        out: folder of the run.
        resume: go on from the checkpoint in `out`.
        minutes: stop after this time.

    Raises:
        UserError: the data or the weights to begin from cannot be used, or there is nothing to go on from.
    """
    fabric = open_fabric(settings.device, bfloat16=settings.bfloat16)
    learning = Learning(lesson(settings, prepared, corpora, out), settings, fabric)
    if resume:
        learning.resume(out)
    learning.run(out, minutes)
    return out


def lesson(settings: DualSettings, prepared: Path, corpora: Path, out: Path) -> DualLesson:
    """Read the data and put the lesson together. Raises UserError if something cannot be used."""
    # One seed for all: what the single tasks draw is what they would draw in runs of their own.
    gmd, gdm = replace(settings.gmd, seed=settings.seed), replace(settings.gdm, seed=settings.seed)
    dances = gmd_run.load(prepared)
    learnt = gmd_run.learnt_by(gmd, prepared, dances)
    sampler = training_sampler(learnt, gmd.sequence, gmd.chunk_ticks, gmd.network.latent_size)
    if gmd.protocol == "B":
        # By itself G_DM would learn from whole dances; what it hears of the parts, it hears in the pairs.
        gdm = replace(gdm, sequence=replace(gdm.sequence, dance=0.0))
    music_sampler, validation = gdm_run.samplers(gdm_run.load_data(prepared, corpora, out.parent / "grids"), gdm)
    data = PreparedData.load(prepared)
    pairs = PairSampler(find_pairs(data, learnt.train, "train"), sampler, music_sampler)
    try:
        held_out = PairSampler(find_pairs(data, dances.val, "val"), sampler, music_sampler)
    except UserError as error:
        log.warning("nothing is measured on pairs: %s", error)
        held_out = None
    whole = DualLesson(
        GmdLesson(sampler, gmd, dances.val, RealDance.of(dances.train)),
        GdmLesson(music_sampler, gdm, validation),
        pairs,
        held_out,
        settings,
    )
    begin_from(whole.model.gmd, settings.start.gmd)
    begin_from(whole.model.gdm, settings.start.gdm)
    return whole


def begin_from(model: nn.Module, where: str) -> None:
    """Set a model's weights to those of a file, or of the newest evaluation of a run; nothing if `where` is empty.

    Raises UserError if there are none that fit.
    """
    if not where:
        return
    path = Path(where)
    try:
        weights = FinishedRun.find(path).weights()[1] if path.is_dir() else load_file(path)
        with torch.no_grad():
            model.load_state_dict(weights)
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"weights {path}: {reason}", "begin from weights of the same network and recipe") from error
