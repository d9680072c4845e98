"""The dual objective: alignment of the two embeddings, both reconstructions, both cycles (Wu et al. 2021, section 3).

What the paper leaves open, and what is done here:

- The embeddings are pooled per beat, the one unit both networks share. All beats of a batch, of all
  processes, are one space.
- Both cycles are teacher-forced: each network sees the true past of what it makes, and the other's *making* in place of
  its true input. Dance and notes are drawn straight-through: chosen ahead, differentiated as chances.
- Dance becomes pose features by `models.dual.dance_features`, music becomes sound by `models.dual.sound`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from engine.types import TICKS_PER_BEAT, TICKS_PER_STEP
from models.dance_to_music.network import Gdm, pool_beats
from models.dance_to_music.objective import GdmBatch, GdmObjective
from models.dual.dance_features import pose_features
from models.dual.gromov import paired_discrepancy
from models.dual.pairs import BEFORE_TICKS
from models.dual.sound import Sound, choose, one_hot
from models.learning.launch import rows_of_all
from models.music_to_dance.conditioning import MUSIC_LIMIT
from models.music_to_dance.network import Gmd
from models.music_to_dance.objective import GmdBatch, GmdObjective


class Couple(nn.Module):
    """Both networks and the sound between them: what is learned, averaged and saved."""

    def __init__(self, gmd: Gmd, gdm: Gdm, sound: Sound) -> None:
        super().__init__()
        self.gmd, self.gdm, self.sound = gmd, gdm, sound


@dataclass
class Weights:
    """Weights of the terms at one step; a term of weight 0 is not computed."""

    alignment: float
    dance: float
    music: float
    cycle_dance: float
    cycle_music: float
    bridge: float

    @property
    def pairs(self) -> bool:
        """Whether any term needs pairs."""
        return any((self.alignment, self.cycle_dance, self.cycle_music, self.bridge))


@dataclass
class PairBatch:
    """`models.dual.pairs.PairedSequences` as tensors, and Gumbel numbers (B, S, NOISE_SIZE) to choose notes by."""

    dance: GmdBatch
    music: GdmBatch
    ticks_before: Tensor
    interval_s: Tensor
    energies: Tensor
    features: Tensor
    shift: Tensor
    gumbel: Tensor

    def to(self, device: torch.device) -> PairBatch:
        """Return the batch on a device."""
        return PairBatch(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


@dataclass
class DualBatch:
    """What one step learns from; what no term needs is None."""

    weights: Weights
    dance: GmdBatch | None
    music: GdmBatch | None
    pairs: PairBatch | None


@dataclass(frozen=True)
class Bridges:
    """What the cycles must know of the two networks' inputs.

    Attributes:
        pose_mean, pose_scale: (P,) normalisation of pose features.
        music_lookahead, dance_lookahead: ticks by which the newest row of G_DM's and of G_MD's input lies before.
        dance_temperature, token_temperature: of what is made on the way.
    """

    pose_mean: NDArray[np.float32]
    pose_scale: NDArray[np.float32]
    music_lookahead: int
    dance_lookahead: int
    dance_temperature: float = 1.0
    token_temperature: float = 1.0


class DualObjective(nn.Module):
    """The weighted losses of a batch.

    Args:
        couple: that learns.
        dance: losses of G_MD.
        music: losses of G_DM.
        bridges: of the cycles.
        alignment_moves: "music": the music encoder of G_MD alone, as published.
    """

    pose_mean: Tensor
    pose_scale: Tensor

    def __init__(
        self,
        couple: Couple,
        dance: GmdObjective,
        music: GdmObjective,
        bridges: Bridges,
        alignment_moves: Literal["music", "both"] = "music",
    ) -> None:
        super().__init__()
        self.couple, self.dance, self.music, self.bridges = couple, dance, music, bridges
        self.alignment_moves = alignment_moves
        self.register_buffer("pose_mean", torch.from_numpy(bridges.pose_mean), persistent=False)
        self.register_buffer("pose_scale", torch.from_numpy(bridges.pose_scale), persistent=False)

    def forward(self, batch: DualBatch) -> dict[str, Tensor]:
        """Return the losses by name."""
        w = batch.weights
        losses: dict[str, Tensor] = {}
        if batch.dance is not None:
            losses |= {f"dance_{name}": w.dance * value for name, value in self.dance(batch.dance).items()}
        if batch.music is not None:
            losses |= {f"music_{name}": w.music * value for name, value in self.music(batch.music).items()}
        pairs = batch.pairs
        if pairs is not None:
            if w.bridge:
                losses["bridge"] = w.bridge * self.sound_error(pairs)
            if w.alignment:
                losses["alignment"] = w.alignment * self.alignment(pairs)
            if w.cycle_dance:
                losses["cycle_dance"] = w.cycle_dance * self.cycle_dance(pairs)
            if w.cycle_music:
                losses["cycle_music"] = w.cycle_music * self.cycle_music(pairs)
        return losses

    def embeddings(self, pairs: PairBatch) -> tuple[Tensor, Tensor]:
        """Return the embeddings of music and of dance, one row a beat: (B, beats, width) each."""
        music = self.couple.gmd.encode(pairs.dance.music, pairs.dance.condition)
        assert pairs.music.dance is not None
        dance = self.couple.gdm.encode(pairs.music.dance, pairs.music.condition)
        chunks = TICKS_PER_BEAT // (pairs.dance.ticks.shape[2] - 1)
        pooled = music.reshape(len(music), -1, chunks, music.shape[-1]).mean(dim=2)
        return pooled.float(), pool_beats(dance, 0).float()

    def alignment(self, pairs: PairBatch) -> Tensor:
        """Return the paired discrepancy of the embeddings of all beats of the batch."""
        music, dance = self.embeddings(pairs)
        with torch.autocast(music.device.type, enabled=False):
            if self.alignment_moves == "music":
                dance = dance.detach()
            return paired_discrepancy(rows_of_all(music).flatten(0, 1), rows_of_all(dance).flatten(0, 1))

    def sound_error(self, pairs: PairBatch) -> Tensor:
        """Return how far the sound of the written music is from the recording's."""
        home = self.couple.sound.home(pairs.features[:, BEFORE_TICKS:], pairs.shift)
        sounds = self.couple.sound(one_hot(pairs.music.drums, pairs.music.voices)).float()
        error: Tensor = ((sounds - home) ** 2).mean()
        return error

    def cycle_music(self, pairs: PairBatch) -> Tensor:
        """Return the surprise of G_DM at the true music when it sees what G_MD danced to it."""
        gmd, dance = self.couple.gmd, pairs.dance
        context = gmd(dance.music, dance.condition, dance.history)
        latents = gmd.sample_through(context, dance.history, dance.own_noise, self.bridges.dance_temperature)
        with torch.autocast(latents.device.type, enabled=False):
            rows = self.seen(self.dance.decoder(latents.float()).flatten(1, 2), pairs)
        surprise: dict[str, Tensor] = self.music(replace(pairs.music, dance=rows))
        return torch.stack(list(surprise.values())).sum()

    def cycle_dance(self, pairs: PairBatch) -> Tensor:
        """Return the error of G_MD at the true dance when it hears what G_DM played to it."""
        music, dance = pairs.music, pairs.dance
        context = self.couple.gdm(music.dance, music.dance_known, music.condition, music.history)
        logits = self.couple.gdm.heads(context, music.drums, music.voices)
        notes = choose(logits, pairs.gumbel, self.bridges.token_temperature)
        # The sound is held still: a cycle must not be closed by changing what notes sound like.
        still = {name: value.detach() for name, value in self.couple.sound.named_parameters()}
        home: Tensor = functional_call(self.couple.sound, still, (notes,))
        heard = self.heard(home.float(), pairs)
        context = self.couple.gmd(heard, dance.condition, dance.history)
        losses = self.dance.losses_of(context, dance.history, dance)
        error: Tensor = losses["choice"] + losses["latent"]
        return error

    def seen(self, ticks: Tensor, pairs: PairBatch) -> Tensor:
        """Return G_DM's input (B, S, 3 P) for a dance (B, T, 152)."""
        rows = pose_features(torch.cat([pairs.ticks_before, ticks], dim=1), pairs.interval_s, pairs.energies)
        rows = ((rows - self.pose_mean) * self.pose_scale).clamp(-MUSIC_LIMIT, MUSIC_LIMIT)
        newest = torch.arange(0, ticks.shape[1], TICKS_PER_STEP, device=ticks.device) - self.bridges.music_lookahead
        return _windows(rows, newest, TICKS_PER_STEP)

    def heard(self, home: Tensor, pairs: PairBatch) -> Tensor:
        """Return G_MD's input (B, N, C F) for music (B, T, F) that is normalised in the home key."""
        before = self.couple.sound.normal(pairs.features[:, :BEFORE_TICKS])
        rows = torch.cat([before, self.couple.sound.heard(home, pairs.shift)], dim=1)
        chunk = pairs.dance.ticks.shape[2] - 1
        newest = torch.arange(0, home.shape[1], chunk, device=home.device) - self.bridges.dance_lookahead
        return _windows(rows, newest, chunk)


def _windows(rows: Tensor, newest: Tensor, size: int) -> Tensor:
    """Return (B, n, size W): the last `size` of rows (B, 12 + T, W) up to each newest tick, tick 0 being row 12."""
    index = BEFORE_TICKS + newest[:, None] + torch.arange(1 - size, 1, device=rows.device)
    return rows[:, index].flatten(-2)
