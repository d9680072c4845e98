"""Real dances at a fixed frame rate, and the random windows of them that the systems of the field learn from."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from engine.errors import UserError
from engine.types import TICKS_PER_BEAT
from models.field.frame_model import FrameBatch
from models.field.frames import Doubles, Floats, FrameScales, StartPoses
from models.motion.representation import HEIGHT, tick_weights
from models.music_to_dance.conditioning import STYLES
from models.music_to_dance.sequences import DanceClip
from models.rivals.fixed_rate import in_seconds

log = logging.getLogger(__name__)

_BALANCE = 0.6
"""As `SequenceSettings.balance` of our own model: styles are drawn with probability ~ (their length) ** balance."""
_STARTS_PER_STYLE = 8


@dataclass(frozen=True)
class FrameClip:
    """One dance at a fixed frame rate.

    Attributes:
        dance: whose rows are frames; see `models.rivals.fixed_rate.in_seconds`.
        beat: (T,) beats since beat 0 at each frame.
    """

    dance: DanceClip
    beat: Doubles

    @staticmethod
    def of(clip: DanceClip, rate_hz: float) -> FrameClip:
        """Return a dance on ticks at `rate_hz` frames a second of its own time."""
        dance = in_seconds(clip, rate_hz)
        tick_s = np.concatenate([[0.0], np.cumsum(60.0 / TICKS_PER_BEAT / clip.tempo_bpm[:-1])])
        ticks = np.interp(np.arange(len(dance.ticks)) / rate_hz, tick_s, np.arange(len(tick_s)))
        return FrameClip(dance, (clip.first_tick + ticks) / TICKS_PER_BEAT)

    def mirrored(self) -> FrameClip:
        """Return the same dance, left to right, to the same music."""
        return replace(self, dance=self.dance.mirrored())

    def __len__(self) -> int:
        return len(self.dance.ticks)


def fit_scales(clips: Sequence[FrameClip]) -> FrameScales:
    """Return the normalisation by training clips. Raises UserError if none of them has music."""
    heard = [clip.dance.music for clip in clips if clip.dance.music is not None]
    if not heard:
        raise UserError("no training dance has music", "prepare dances with their music")
    return FrameScales.fit(np.concatenate(heard), np.concatenate([clip.dance.ticks for clip in clips]))


def start_poses(clips: Sequence[FrameClip]) -> StartPoses:
    """Return frames to begin a dance from: for each style the calmest out of its dances, one a clip.

    As for our own model (`models.music_to_dance.sequences.SequenceSampler.starts`) a start is from the middle four
    fifths of a dance, where nobody bows, and nearer to the style's usual pose than half of its frames are.
    """
    weights = tick_weights()
    weights[HEIGHT + 1 :] = 0.0
    poses, styles = [], []
    for style in sorted({clip.dance.style for clip in clips}):
        mates = [clip.dance for clip in clips if clip.dance.style == style]
        inner = [slice(len(dance.ticks) // 10, len(dance.ticks) - len(dance.ticks) // 10) for dance in mates]
        usual = np.median(np.concatenate([d.ticks[rows] for d, rows in zip(mates, inner, strict=True)]), axis=0)
        apart = [
            np.linalg.norm((d.ticks[rows] - usual) * weights, axis=1) for d, rows in zip(mates, inner, strict=True)
        ]
        near = float(np.median(np.concatenate(apart)))
        calm = []
        for dance, rows, far in zip(mates, inner, apart, strict=True):
            energy = np.where(far <= near, dance.movement_energy()[rows], np.inf)
            if np.isfinite(energy).any():
                best = int(np.argmin(energy))
                calm.append((float(energy[best]), len(calm), dance.ticks[rows][best]))
        chosen = [pose for _, _, pose in sorted(calm, key=lambda found: found[:2])[:_STARTS_PER_STYLE]]
        poses += chosen
        styles += [style] * len(chosen)
    return StartPoses(np.stack(poses), np.array(styles, np.int32))


@dataclass(frozen=True)
class _Normal:
    music: Floats
    pose: Floats
    style: int


class WindowSampler:
    """Draws windows of frames; deterministic for its generators. A dance without music is danced to average music.

    Args:
        clips: mirrored ones too, if they are to be learnt from.
        scales: of the training split.
        frames: T, of a window.

    Raises:
        UserError: no clip is long enough.
    """

    def __init__(self, clips: Sequence[FrameClip], scales: FrameScales, frames: int) -> None:
        self.scales, self.frames = scales, frames
        usable = [clip for clip in clips if len(clip) >= frames]
        if len(usable) < len(clips):
            left, whole = (sum(map(len, some)) for some in (clips, usable))
            log.warning(
                "%d of %d dances are shorter than a window of %d frames: %.0f %% of all frames are left out",
                *(len(clips) - len(usable), len(clips), frames, 100.0 * (1.0 - whole / left)),
            )
        if not usable:
            longest = max(map(len, clips), default=0)
            raise UserError(f"no dance holds a window of {frames} frames", f"set window_frames to at most {longest}")
        self._clips = [self._normal(clip) for clip in usable]
        counts = np.array([len(clip) - frames + 1 for clip in usable], float)
        per_style = {style: 0.0 for style in range(len(STYLES) + 1)}
        for count, clip in zip(counts, usable, strict=True):
            per_style[clip.dance.style] += count
        share = np.array(
            [
                count * clip.dance.weight * per_style[clip.dance.style] ** (_BALANCE - 1.0)
                for count, clip in zip(counts, usable, strict=True)
            ]
        )
        self._share = share / share.sum()

    def _normal(self, clip: FrameClip) -> _Normal:
        dance = clip.dance
        features = dance.music
        if features is None:
            features = np.full((len(clip), len(self.scales.music_mean)), np.nan, np.float32)
        return _Normal(self.scales.music(features, clip.beat), self.scales.pose(dance.ticks), dance.style)

    def draw(self, randoms: Sequence[np.random.Generator], noise_size: int) -> FrameBatch:
        """Draw one window from each generator."""
        windows = [self._window(random, noise_size) for random in randoms]
        music, pose, style, noise = zip(*windows, strict=True)
        return FrameBatch(
            torch.from_numpy(np.stack(music)),
            torch.from_numpy(np.stack(pose)),
            torch.tensor(style, dtype=torch.int64),
            torch.from_numpy(np.stack(noise)),
        )

    def _window(self, random: np.random.Generator, noise_size: int) -> tuple[Floats, Floats, int, Floats]:
        clip = self._clips[int(random.choice(len(self._clips), p=self._share))]
        start = int(random.integers(len(clip.pose) - self.frames + 1))
        rows = slice(start, start + self.frames)
        noise = random.standard_normal((self.frames, noise_size), np.float32)
        return clip.music[rows], clip.pose[rows], clip.style, noise
