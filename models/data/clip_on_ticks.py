"""A dance and its music, once per tick: resampled to the dancer's own beat, features where the music's is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from engine.body import skeleton
from engine.features import HOP_SAMPLES, SAMPLE_RATE_HZ, FeatureExtractor, FeatureSpec, pool_ticks
from engine.types import TICKS_PER_BEAT
from models.data.clip_sources import SHORTEST_S, BadClip, ClipSource
from models.data.dataset import PreparedClip
from models.data.motion_beat import estimate_tempo, fit_offset, foot_speed
from models.data.retarget import FittedMotion
from models.motion.resampling import resample_motion

_FASTEST_FOOT = 7.0
"""m/s, 99th percentile: the quickest cha-cha reaches 5.6. A published tango, played too fast, has 11."""


@dataclass(frozen=True, slots=True)
class ClipMotion:
    """A clip's motion at its own frame rate.

    Attributes:
        fit: on the standard skeleton.
        feet_m: (T, 4, 3) left heel, left toe, right heel, right toe as they were captured, in the capture's metres.
        body_feet_m: (T, 4, 3) the same in SMPL metres.
        repeats: (T,) bool, where the movement also occurs in a held-out clip.
    """

    fit: FittedMotion
    feet_m: NDArray[np.floating]
    body_feet_m: NDArray[np.floating]
    repeats: NDArray[np.bool_]


def music_features(samples: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return feature rows (n, F) of music (samples,) at 48 kHz and the time (n,) [s] at which each hop ends."""
    rows = FeatureExtractor(FeatureSpec()).extract(samples)
    return rows, np.arange(1, len(rows) + 1, dtype=np.float64) * (HOP_SAMPLES / SAMPLE_RATE_HZ)


def clip_on_ticks(
    source: ClipSource, motion: ClipMotion, samples: NDArray[np.float32] | None, usual_bpm: float
) -> PreparedClip:
    """Put a fitted dance and its music on ticks.

    Args:
        source: what is known of the clip.
        motion: the dance.
        samples: its music (n,) at 48 kHz, or None.
        usual_bpm: tempo of the style, from which the tempo of a dance without music is sought.
    """
    fit = motion.fit
    frames = len(fit.rotations)
    signal = foot_speed(motion.feet_m, fit.fps)
    frames_s = np.arange(frames) / fit.fps
    if source.bpm is not None and source.beat_known:
        bpm = source.bpm
        beat = (source.first_pose_s + frames_s - source.beat_s) * (bpm / 60.0)
    else:
        bpm = estimate_tempo(signal, fit.fps, usual_bpm)
        beat = frames_s * (bpm / 60.0)
    # Count beats from the first one danced.
    zero_beat = np.floor(beat[0])
    kept = fit_offset(signal, beat - zero_beat, locked=source.tempo_locked)
    danced = beat - zero_beat + kept.offset_beats
    first = int(np.ceil(danced[0] * TICKS_PER_BEAT))
    last = int(np.floor(danced[-1] * TICKS_PER_BEAT))
    if samples is not None:
        # Every tick needs its music: the offset may carry the ends beyond the file.
        ends_s = np.array([1.0 / TICKS_PER_BEAT * 60.0 / bpm, len(samples) / SAMPLE_RATE_HZ])
        low, high = ((ends_s - source.beat_s) * (bpm / 60.0) - zero_beat) * TICKS_PER_BEAT
        first, last = max(first, int(np.ceil(low))), min(last, int(np.floor(high)))
    ticks = np.arange(first, last + 1)
    # In seconds: there are as many ticks at every frame rate.
    if (last - first) / TICKS_PER_BEAT * 60.0 / bpm < SHORTEST_S / 2:
        raise BadClip("motion and music hardly overlap")
    motion_s = np.interp(ticks / TICKS_PER_BEAT, danced, frames_s)
    rotations, translation = resample_motion(fit.rotations, fit.translation_m, fit.fps, motion_s)
    if samples is not None:
        music_s = source.beat_s + (ticks / TICKS_PER_BEAT + zero_beat) * (60.0 / bpm)
        features = _features_at(samples, music_s, bpm)
    else:
        music_s = np.full(len(ticks), np.nan)
        features = np.repeat(FeatureSpec().silence[None], len(ticks), axis=0)
    nearest = np.clip(np.rint(motion_s * fit.fps).astype(int), 0, frames - 1)
    feet = np.linalg.norm(np.diff(motion.body_feet_m, axis=0), axis=-1) * fit.fps
    contacts = np.stack([np.interp(motion_s, frames_s, fit.contacts[:, i]) for i in range(4)], axis=1)
    return PreparedClip(
        name=source.name,
        style=source.style,
        split=source.split,
        beats_per_bar=source.beats_per_bar,
        tempo_locked=source.tempo_locked,
        has_audio=samples is not None,
        plausible=bool(np.percentile(feet, 99.0) < _FASTEST_FOOT),
        music_bpm=float(bpm),
        first_tick=first,
        rotations=rotations,
        translation_m=translation,
        contacts=contacts.astype(np.float32),
        features=features,
        tempo_bpm=_tempo(motion_s),
        motion_time_s=motion_s,
        music_time_s=music_s,
        beat_coherence=np.interp(motion_s, frames_s, kept.coherence).astype(np.float32),
        energy_m_s=movement_energy(rotations, translation, motion_s),
        repeats_test=motion.repeats[nearest],
    )


def _features_at(samples: NDArray[np.float32], music_s: NDArray[np.float64], bpm: float) -> NDArray[np.float32]:
    rows, ends_s = music_features(samples)
    # One tick more in front, so that the first row does not own everything that came before.
    before = music_s[0] - 60.0 / (bpm * TICKS_PER_BEAT)
    return pool_ticks(rows, ends_s, np.concatenate([[before], music_s]))[1:]


def _tempo(motion_s: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the tempo (T,) [bpm] of ticks at (T,) [s], over a beat."""
    period: NDArray[np.float64] = gaussian_filter1d(np.gradient(motion_s), TICKS_PER_BEAT / 2, mode="nearest")
    return np.asarray(60.0 / (TICKS_PER_BEAT * period), dtype=np.float32)


def movement_energy(
    rotations: NDArray[np.floating], translation: NDArray[np.floating], times_s: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return (T,) mean joint speed [m/s] over about two beats around each tick (Gaussian, 6 ticks)."""
    positions, _ = skeleton.forward_kinematics(rotations, translation)
    speed = np.linalg.norm(np.gradient(positions, times_s, axis=0), axis=-1).mean(axis=1)
    return np.asarray(gaussian_filter1d(speed, 6.0, mode="nearest"), dtype=np.float32)
