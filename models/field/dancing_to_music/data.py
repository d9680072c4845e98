"""The units of the training dances, and what is drawn of them: single units, sequences of units, and music.

A unit may begin after any kinematic beat.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from torch import Tensor

from engine.body.skeleton import forward_kinematics
from engine.errors import UserError
from engine.features import FeatureSpec
from engine.types import TICKS_PER_BEAT
from models.data.dataset import PreparedData
from models.field.dancing_to_music.kinematic_beats import kinematic_beats
from models.field.dancing_to_music.settings import DancingToMusicSettings
from models.field.dancing_to_music.tables import UnitTables, tempo_steps
from models.field.dancing_to_music.units import PosedDance
from models.motion.representation import motion_from_ticks, tick_weights
from models.music_to_dance.dances import DanceData, load_dances
from models.music_to_dance.sequences import DanceClip
from models.music_to_dance.unseen_movement import unseen_movement

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]
Randoms = Sequence[np.random.Generator]

_LEAST_POSE, _LEAST_MUSIC = 1e-2, 1e-3
"""Floors of the deviations: what hardly varies must not count for as much as what does."""
_STARTS_A_STYLE = 8
_SEEN_HZ = 30.0
"""Beats are looked for at this rate; the capture had 25 frames a second."""


_Placed = tuple[DanceClip, PosedDance]


@dataclass(frozen=True)
class SequencePlace:
    """Where a sequence begins: a dance of the bank, and which of its units."""

    dance: int
    unit: int


@dataclass(frozen=True)
class _Units:
    clip: DanceClip
    posed: PosedDance
    poses: Floats
    music: Floats | None


def posed_dance(clip: DanceClip, settings: DancingToMusicSettings) -> PosedDance | None:
    """Return a dance in pose time; None if it is too short for a unit."""
    joints, _ = forward_kinematics(*motion_from_ticks(clip.ticks))
    tick_s = np.concatenate([[0.0], np.cumsum(60.0 / TICKS_PER_BEAT / clip.tempo_bpm[:-1])])
    seen = CubicSpline(tick_s, joints)(np.arange(0.0, tick_s[-1], 1.0 / _SEEN_HZ))
    beats_s = kinematic_beats(seen, _SEEN_HZ, settings.beats)
    if len(beats_s) <= settings.unit.beats:
        return None
    return PosedDance.of(clip.ticks, np.interp(beats_s, tick_s, np.arange(len(tick_s))), settings.unit)


class UnitBank:
    """Units of dances, normalised.

    Args:
        clips: dances.
        settings: of the run.
        mirrored: whether every dance is there left to right, too.
        tables: scales, if they are not to be fitted to these dances.

    Raises:
        UserError: no dance is long enough for a sequence of units.
    """

    def __init__(
        self,
        clips: Sequence[DanceClip],
        settings: DancingToMusicSettings,
        *,
        mirrored: bool,
        tables: UnitTables | None = None,
    ) -> None:
        self.settings = settings
        placed = [(clip, posed) for clip in clips if (posed := posed_dance(clip, settings)) is not None]
        if not placed:
            raise UserError("no dance is as long as a unit", "prepare longer dances, or set fewer [unit] beats")
        as_danced = list(placed)
        if mirrored:
            placed += [(clip, posed.mirrored()) for clip, posed in placed]
        self.tables = tables or _fitted(placed, *_starts(as_danced))
        self.dances = [
            _Units(
                clip,
                posed,
                self.tables.normalised(posed.poses),
                None if clip.music is None else self.tables.music(clip.music, clip.tempo_bpm),
            )
            for clip, posed in placed
        ]
        span = (settings.network.units - 1) * settings.unit.beats
        self._unit_share = self._share([len(d.posed.starts) for d in self.dances])
        self._sequences = [len(d.posed.starts) - span if d.music is not None else 0 for d in self.dances]
        if max(self._sequences) < 1:
            raise UserError("no dance with music holds a sequence of units", "set fewer [network] units")
        self._sequence_share = self._share(self._sequences)

    def units(self, randoms: Randoms) -> Tensor:
        """Draw one unit (B, poses, 152) from each generator."""
        rows = []
        for random in randoms:
            dance = self.dances[int(random.choice(len(self.dances), p=self._unit_share))]
            start = int(random.choice(dance.posed.starts))
            rows.append(dance.poses[start : start + self.settings.unit.poses])
        return torch.from_numpy(np.stack(rows))

    def all_units(self) -> list[Tensor]:
        """Return, for each dance, all of its units (n, poses, 152), overlapping."""
        size = self.settings.unit.poses
        return [
            torch.from_numpy(np.stack([dance.poses[s : s + size] for s in dance.posed.starts])) for dance in self.dances
        ]

    def places(self, randoms: Randoms) -> list[SequencePlace]:
        """Draw where a sequence begins from each generator."""
        found = []
        for random in randoms:
            dance = int(random.choice(len(self.dances), p=self._sequence_share))
            found.append(SequencePlace(dance, int(random.integers(self._sequences[dance]))))
        return found

    def music(self, places: Sequence[SequencePlace], randoms: Randoms | None = None) -> tuple[Tensor, Tensor]:
        """Return the music (B, W, M) heard before sequences, and the styles (B,) that were danced to it.

        Args:
            places: of the sequences.
            randoms: disturb the music, one generator a sequence; None: it is heard as it is.
        """
        rows = []
        for number, place in enumerate(places):
            dance = self.dances[place.dance]
            begin = dance.posed.at[dance.posed.starts[place.unit] - 1]
            heard = self._heard(dance.music, int(begin))
            rows.append(heard if randoms is None else self._disturbed(heard, randoms[number]))
        styles = [self.dances[place.dance].clip.style for place in places]
        return torch.from_numpy(np.stack(rows)), torch.tensor(styles)

    def every_place(self, apart: int = 1) -> list[SequencePlace]:
        """Return the places of all sequences, or of one in so many."""
        return [SequencePlace(d, u) for d, count in enumerate(self._sequences) for u in range(0, max(count, 0), apart)]

    def _heard(self, music: Floats | None, tick: int) -> Floats:
        assert music is not None
        hearing = self.settings.hearing
        stop = max(tick - hearing.lookahead_ticks + 1, 0)
        heard = music[max(stop - hearing.ticks, 0) : stop]
        silence = np.zeros((hearing.ticks - len(heard), music.shape[1]), np.float32)
        return np.concatenate([silence, heard])

    def _disturbed(self, heard: Floats, random: np.random.Generator) -> Floats:
        hearing = self.settings.hearing
        level = hearing.noise * random.random()
        # One offset per feature (another room, another mix), and jitter per row.
        offset = random.standard_normal(heard.shape[1], np.float32)
        disturbed = heard + level * (0.7 * offset + 0.5 * random.standard_normal(heard.shape, np.float32))
        ratio = 1.0 + hearing.tempo_jitter * (2.0 * random.random() - 1.0)
        disturbed[:, -1] = heard[:, -1] + tempo_steps(ratio)
        return disturbed.astype(np.float32)

    def _share(self, counts: Sequence[int]) -> NDArray[np.float64]:
        """Return with which probability each dance is drawn, by its number of units and its style's."""
        n = np.maximum(np.array(counts, float), 0.0) * [d.clip.weight for d in self.dances]
        styles = np.array([d.clip.style for d in self.dances])
        per_style = np.array([n[styles == style].sum() for style in styles])
        share = n * np.maximum(per_style, 1e-9) ** (self.settings.hearing.balance - 1.0)
        return np.asarray(share / share.sum())


@dataclass(frozen=True)
class UnitData:
    """What a run learns from: the units of its training dances, and all dances on ticks."""

    bank: UnitBank
    dances: DanceData

    @staticmethod
    def load(settings: DancingToMusicSettings, prepared: Path) -> UnitData:
        """Read prepared dances. Raises UserError if they cannot be used, or hold nothing to learn from."""
        data = PreparedData.load(prepared)
        if data.feature_digest != FeatureSpec().digest:
            raise UserError(f"{prepared} holds other music features", "run `pasdedeux prepare` again")
        dances = load_dances(data.clips)
        learnt = dances.train if settings.protocol == "A" else tuple(unseen_movement(data, dances))
        if not learnt:
            raise UserError(f"{prepared} holds no training dance", "prepare data whose index has that split")
        return UnitData(UnitBank(learnt, settings, mirrored=True), dances)

    def held_out(self, settings: DancingToMusicSettings) -> UnitBank | None:
        """Return the units of the validation dances; None if there are none."""
        try:
            return UnitBank(self.dances.val, settings, mirrored=False, tables=self.bank.tables)
        except UserError as error:
            log.info("no validation of units: %s", error)
            return None


def _fitted(placed: Sequence[_Placed], starts: Floats, styles: NDArray[np.int32]) -> UnitTables:
    poses = np.concatenate([posed.poses for _, posed in placed]).astype(np.float64)
    heard = [clip.music for clip, _ in placed if clip.music is not None]
    if not heard:
        raise UserError("no dance has its music", "prepare dances with their audio")
    music = np.concatenate(heard).astype(np.float64)
    mean = poses.mean(axis=0).astype(np.float32)
    # Halfway between metres and deviations, as `MotionRepresentation`: in metres only the large movements count, in
    # deviations the noise of what hardly moves counts as much as they do.
    weights = tick_weights()
    spread = np.maximum(poses.std(axis=0), _LEAST_POSE) * weights
    deviation = (np.sqrt(spread * spread.mean()) / weights).astype(np.float32)
    return UnitTables(
        pose_mean=mean,
        pose_deviation=deviation,
        music_mean=music.mean(axis=0).astype(np.float32),
        music_scale=(1.0 / np.maximum(music.std(axis=0), _LEAST_MUSIC)).astype(np.float32),
        starts=((starts - mean) / deviation).astype(np.float32),
        start_styles=styles,
    )


def _starts(placed: Sequence[_Placed]) -> tuple[Floats, NDArray[np.int32]]:
    """Return poses to begin from: of each style's dances the calmest on a beat, out of the middle of the dance.

    The calmest of all is the bow, which is the same for every style; see `SequenceSampler.starts`. Half of a dance's
    beats, those nearest to the style's usual pose, are looked at.
    """
    weights = tick_weights()
    picks: list[tuple[int, float, Floats]] = []
    for style in sorted({clip.style for clip, _ in placed}):
        mates = [posed for clip, posed in placed if clip.style == style]
        usual = np.median(np.concatenate([posed.poses for posed in mates]), axis=0)
        found = []
        for posed in mates:
            rows = posed.starts - 1
            rows = rows[len(rows) // 10 : max(len(rows) - len(rows) // 10, 1)]
            away = np.linalg.norm((posed.poses[rows] - usual) * weights, axis=1)
            rows = rows[away <= np.median(away)]
            moved = np.linalg.norm((posed.poses[rows + 1] - posed.poses[rows]) * weights, axis=1)
            best = int(np.argmin(moved))
            found.append((style, float(moved[best]), posed.poses[rows[best]]))
        picks += sorted(found, key=lambda pick: pick[1])[:_STARTS_A_STYLE]
    return np.stack([pose for _, _, pose in picks]), np.array([style for style, _, _ in picks], np.int32)
