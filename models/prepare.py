"""`pasdedeux prepare`: turn folders of dances and their music into what the networks learn from.

Input: a folder with `pairs/` and, optionally, `motion_only/`, each with an `index.json` of clips (motion as 23
markers, audio, tempo, beat phase, split). Output: see `models.dataset`. A clip that is already there, made from the
same bytes by the same code, is not made again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d

from engine import skeleton
from engine.errors import UserError
from engine.features import HOP_SAMPLES, SAMPLE_RATE_HZ, FeatureExtractor, FeatureSpec, pool_ticks
from engine.types import TICKS_PER_BEAT
from models import markers as mk
from models.clip_sources import SHORTEST_S, BadClip, ClipSource, load_audio, load_motion, read_sources
from models.dataset import FORMAT, PreparedClip, PreparedData, Statistics
from models.motion_beat import estimate_tempo, fit_offset, foot_speed
from models.retarget import Calibration, FittedMotion, calibrate, fit_markers

_FIT_VERSION = 1
"""Raised when `models.retarget` changes what it returns."""
_CLIP_VERSION = 1
"""Raised when anything after the fit does."""
_FASTEST_FOOT = 7.0
"""m/s, 99th percentile: the quickest cha-cha reaches 5.6. A published tango, played too fast, has 11."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What `prepare` did: names of the clips made now and found ready, and why each bad one was left out."""

    made: tuple[str, ...]
    ready: tuple[str, ...]
    skipped: dict[str, str]


def music_features(samples: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return feature rows (n, F) of music (samples,) at 48 kHz and the time (n,) [s] at which each hop ends."""
    rows = FeatureExtractor(FeatureSpec()).extract(samples)
    return rows, np.arange(1, len(rows) + 1, dtype=np.float64) * (HOP_SAMPLES / SAMPLE_RATE_HZ)


def resample_motion(
    rotations: NDArray[np.floating], translation: NDArray[np.floating], fps: float, times_s: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Sample a motion at any times [s] since its first frame: rotations (N, 24, 3), translation (N, 3).

    Cubic splines through quaternions of one sign, normalised: smooth in velocity, where slerp has corners at frames.
    """
    frames_s = np.arange(len(rotations)) / fps
    quaternions = skeleton.axis_angle_to_quaternion(np.asarray(rotations, dtype=np.float64))
    flips = np.where((quaternions[1:] * quaternions[:-1]).sum(axis=-1, keepdims=True) < 0.0, -1.0, 1.0)
    quaternions[1:] *= np.cumprod(flips, axis=0)
    sampled = CubicSpline(frames_s, quaternions)(times_s)
    sampled /= np.linalg.norm(sampled, axis=-1, keepdims=True)
    way = CubicSpline(frames_s, np.asarray(translation, dtype=np.float64))(times_s)
    return skeleton.quaternion_to_axis_angle(sampled).astype(np.float32), way.astype(np.float32)


def clip_on_ticks(
    source: ClipSource,
    fit: FittedMotion,
    markers: NDArray[np.float32],
    repeats: NDArray[np.bool_],
    samples: NDArray[np.float32] | None,
    usual_bpm: float,
) -> PreparedClip:
    """Put a fitted dance and its music on ticks.

    Args:
        source: what is known of the clip.
        fit: the dance. markers, repeats: what it was fitted to. samples: its music (n,) at 48 kHz, or None.
        usual_bpm: tempo of the style, from which the tempo of a dance without music is sought.
    """
    signal = foot_speed(markers[:, list(mk.CONTACT_MARKERS)], fit.fps)
    frames_s = np.arange(len(markers)) / fit.fps
    if source.bpm is not None:
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
    if len(ticks) < SHORTEST_S * fit.fps / 2:
        raise BadClip("motion and music hardly overlap")
    motion_s = np.interp(ticks / TICKS_PER_BEAT, danced, frames_s)
    rotations, translation = resample_motion(fit.rotations, fit.translation_m, fit.fps, motion_s)
    if samples is not None:
        music_s = source.beat_s + (ticks / TICKS_PER_BEAT + zero_beat) * (60.0 / bpm)
        features = _features_at(samples, music_s, bpm)
    else:
        music_s = np.full(len(ticks), np.nan)
        features = np.repeat(FeatureSpec().silence[None], len(ticks), axis=0)
    nearest = np.clip(np.rint(motion_s * fit.fps).astype(int), 0, len(markers) - 1)
    feet = np.linalg.norm(np.diff(fit.target_m[:, list(mk.CONTACT_MARKERS)], axis=0), axis=-1) * fit.fps
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
        repeats_test=repeats[nearest],
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


def prepare(
    data: Path,
    out: Path,
    *,
    workers: int = 1,
    iterations: int = 300,
    sheets: bool = False,
    console: Console | None = None,
) -> Summary:
    """Prepare all clips under `data` into `out`; may be interrupted and run again.

    Args:
        data: folder with `pairs/` and, optionally, `motion_only/`.
        out: folder to write.
        workers: processes.
        iterations: of the fit; fewer is faster and coarser.
        sheets: also draw a contact sheet of each clip into `out/sheets`.
        console: where progress, bad clips and the summary table are printed.

    Raises:
        UserError: no clips, or none that can be used.
    """
    console = console or Console()
    sources, skipped = read_sources(data)
    for folder in ("clips", "fits"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    usable: list[ClipSource] = []
    for source in sources:
        try:
            load_motion(source)
            if source.name in {other.name for other in usable}:
                raise BadClip("its name occurs twice")
            usable.append(source)
        except BadClip as bad:
            skipped[source.name] = str(bad)
    train = [source for source in usable if source.split == "train"]
    if not train:
        raise UserError(f"no usable training clip in {data}", _reasons(skipped) or "check the index")
    calibration = _calibration(train, out, iterations * 4 // 3, console)
    tempi: dict[str, list[float]] = {}
    for source in train:
        if source.bpm is not None:
            tempi.setdefault(source.style, []).append(source.bpm)
    everywhere = [bpm for values in tempi.values() for bpm in values] or [100.0]
    jobs = [
        _Job(source, out, calibration, iterations, float(np.median(tempi.get(source.style, everywhere))), sheets)
        for source in usable
    ]
    made, ready = [], []
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("clips", total=len(jobs))
        for name, outcome in _run(jobs, workers):
            progress.advance(bar)
            if outcome == "made":
                made.append(name)
            elif outcome == "ready":
                ready.append(name)
            else:
                skipped[name] = outcome
    for name, reason in sorted(skipped.items()):
        console.print(f"left out [bold]{name}[/]: {reason}", highlight=False)
    done = [source.name for source in usable if source.name not in skipped]
    clips = [PreparedClip.load(out / "clips" / f"{name}.npz") for name in done]
    training = [clip for clip in clips if clip.split == "train"]
    if not training:
        raise UserError(f"no usable training clip in {data}", _reasons(skipped))
    Statistics.of(training).save(out / "statistics.npz")
    spec = FeatureSpec()
    content = {
        "format": FORMAT,
        "feature_digest": spec.digest,
        "feature_names": list(spec.names),
        "ticks_per_beat": TICKS_PER_BEAT,
        "clips": done,
        "skipped": skipped,
    }
    (out / "prepared.json").write_text(json.dumps(content, indent=1))
    console.print(_table(PreparedData.load(out), out))
    return Summary(tuple(made), tuple(ready), skipped)


@dataclass(frozen=True, slots=True)
class _Job:
    source: ClipSource
    out: Path
    calibration: Calibration
    iterations: int
    usual_bpm: float
    sheets: bool


def _run(jobs: list[_Job], workers: int) -> Iterator[tuple[str, str]]:
    """Yield (name, outcome) as clips are done."""
    if workers <= 1:
        for job in jobs:
            yield job.source.name, _prepare_clip(job)
        return
    # Spawned, not forked: torch's threads do not survive a fork.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        futures = {pool.submit(_prepare_clip, job): job.source.name for job in jobs}
        for future in as_completed(futures):
            yield futures[future], future.result()


def _one_thread() -> None:
    torch.set_num_threads(1)


def _prepare_clip(job: _Job) -> str:
    """Make one clip; return "made", "ready", or why it cannot be."""
    source = job.source
    try:
        markers, repeats = load_motion(source)
        fit_key = _digest(
            _FIT_VERSION,
            job.iterations,
            markers,
            source.fps,
            job.calibration.centres,
            job.calibration.scale,
            job.calibration.offsets_m,
        )
        audio_key = _digest(source.audio.read_bytes() if source.audio and source.audio.is_file() else b"")
        facts = replace(source, motion=Path(source.motion.name), audio=None)
        key = _digest(
            _CLIP_VERSION, fit_key, audio_key, repr(facts), repeats, job.usual_bpm, FeatureSpec().digest, FORMAT
        )
        path = job.out / "clips" / f"{source.name}.npz"
        stamp = path.with_suffix(".key")
        if path.is_file() and stamp.is_file() and stamp.read_text() == key:
            return "ready"
        samples = load_audio(source) if source.audio is not None else None
        fit = _fit(job, markers, fit_key)
        clip_on_ticks(source, fit, markers, repeats, samples, job.usual_bpm).save(path)
        stamp.write_text(key)
    except BadClip as bad:
        return str(bad)
    if job.sheets:
        _draw(fit, source, job.out / "sheets" / f"{source.name}.png")
    return "made"


def _fit(job: _Job, markers: NDArray[np.float32], key: str) -> FittedMotion:
    path = job.out / "fits" / f"{job.source.name}.npz"
    if path.is_file():
        with np.load(path, allow_pickle=False) as archive:
            if str(archive["key"]) == key:
                return FittedMotion(
                    archive["rotations"],
                    archive["translation"],
                    archive["contacts"],
                    float(archive["fps"]),
                    archive["residual"],
                    archive["target"],
                )
    fit = fit_markers(markers, job.source.fps, job.calibration, job.iterations)
    partial = path.with_suffix(".partial.npz")
    np.savez_compressed(
        partial,
        key=np.array(key),
        rotations=fit.rotations,
        translation=fit.translation_m,
        contacts=fit.contacts,
        fps=np.array(fit.fps),
        residual=fit.residual_m,
        target=fit.target_m,
    )
    partial.replace(path)
    return fit


def _draw(fit: FittedMotion, source: ClipSource, path: Path) -> None:
    from models.render import contact_sheet  # matplotlib is slow to import and not needed otherwise

    positions, world = skeleton.forward_kinematics(fit.rotations, fit.translation_m)
    contact_sheet(
        positions,
        path,
        np.arange(len(positions)) / fit.fps,
        count=18,
        markers=fit.target_m,
        contacts=fit.contacts,
        sole_points=skeleton.contact_points(positions, world),
        title=f"{source.name} ({source.style}, {source.split})",
    )


def _calibration(train: list[ClipSource], out: Path, iterations: int, console: Console) -> Calibration:
    """Learn the subjects from training clips, or take what an earlier run learnt from the same ones."""
    clips = [(load_motion(source)[0], source.fps) for source in train]
    key = _digest(_FIT_VERSION, iterations, *[part for clip in clips for part in clip])
    path = out / "calibration.npz"
    if path.is_file():
        with np.load(path, allow_pickle=False) as archive:
            if str(archive["key"]) == key:
                return Calibration(archive["centres"], archive["scale"], archive["offsets_m"])
    with console.status("learning where the markers sit"):
        found = calibrate(clips, iterations=iterations)
    np.savez(path, key=np.array(key), centres=found.centres, scale=found.scale, offsets_m=found.offsets_m)
    return found


def _digest(*parts: object) -> str:
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(repr((part.shape, part.dtype.str)).encode())
            digest.update(np.ascontiguousarray(part).tobytes())
        else:
            digest.update(part if isinstance(part, bytes) else repr(part).encode())
        digest.update(b"\0")
    return digest.hexdigest()


def _reasons(skipped: dict[str, str]) -> str:
    return "; ".join(f"{name}: {reason}" for name, reason in list(skipped.items())[:3])


def _table(data: PreparedData, out: Path) -> Table:
    table = Table(title=f"prepared: {len(data.clips)} clips, features {data.feature_digest}")
    for heading in ("style", "split", "clips", "minutes", "unseen movement", "tempo-locked", "fit median / p95 [mm]"):
        table.add_column(heading, justify="left" if heading in ("style", "split") else "right")
    fast = [clip.name for clip in data.clips if not clip.plausible]
    if fast:
        table.caption = f"faster than people move, not for training: {', '.join(fast)}"
    groups: dict[tuple[str, str], list[PreparedClip]] = {}
    for clip in data.clips:
        groups.setdefault((clip.style, clip.split), []).append(clip)
    for (style, split), clips in sorted(groups.items()):
        minutes = sum(float(c.motion_time_s[-1] - c.motion_time_s[0]) for c in clips) / 60.0
        new = 1.0 - np.concatenate([c.repeats_test for c in clips]).mean()
        errors = []
        for clip in clips:
            with np.load(out / "fits" / f"{clip.name}.npz", allow_pickle=False) as archive:
                errors.append(archive["residual"].ravel())
        worst = np.percentile(np.concatenate(errors), [50.0, 95.0]) * 1e3
        table.add_row(
            style,
            split,
            str(len(clips)),
            f"{minutes:.1f}",
            f"{new:.0%}" if split == "train" else "",
            str(sum(c.tempo_locked for c in clips)),
            f"{worst[0]:.0f} / {worst[1]:.0f}",
        )
    return table
