"""`pasdedeux prepare`: turn folders of dances and their music into what the networks learn from.

Input: any mixture of `pairs/` (markers), AIST++ and folders of BVH with audio; see `models.sources`. Output: see
`models.data.dataset`. A clip that is already there, made from the same bytes by the same code, is not made again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from engine.body import skeleton
from engine.errors import UserError
from engine.features import FeatureSpec
from engine.types import TICKS_PER_BEAT
from engine.whole_files import whole_file
from models.data import markers as mk
from models.data.clip_on_ticks import ClipMotion, clip_on_ticks
from models.data.clip_sources import BadClip, ClipSource, load_audio
from models.data.dataset import DAMAGE, FORMAT, PreparedClip, PreparedData, Statistics
from models.data.music_beat import find_beat
from models.data.provenance import SOURCES
from models.data.retarget import Calibration, FittedMotion, calibrate, fit_markers
from models.sources import aist, bvh_folder
from models.sources.find import read_sources
from models.sources.pairs import load_motion

_FIT_VERSION = 1
"""Raised when `models.data.retarget` changes what it returns."""
_CLIP_VERSION = 1
"""Raised when anything after the fit does."""
_BODY_VERSION = 1
"""Raised when `models.sources.body` changes what it returns."""
_LEAST_CLEARNESS = 3.5
"""Ten seconds of white noise reach 2.9, songs to dance to 6 to 12 (`models.data.music_beat`)."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What `prepare` did: names of the clips made now and found ready, and why each bad one was left out."""

    made: tuple[str, ...]
    ready: tuple[str, ...]
    skipped: dict[str, str]


def prepare(
    data: Path,
    out: Path,
    *,
    workers: int = 1,
    iterations: int = 300,
    sheets: bool = False,
    transcribe: bool = False,
    console: Console | None = None,
) -> Summary:
    """Prepare all clips under `data` into `out`; may be interrupted and run again.

    Args:
        data: folder of clips in any layout that `models.sources` knows.
        out: folder to write.
        workers: processes.
        iterations: of the fit; fewer is faster and coarser.
        sheets: also draw a contact sheet of each clip into `out/sheets`.
        transcribe: also write each clip's music as a step grid into `out/scores`.
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
            if source.kind == "markers":
                load_motion(source)  # the calibration below must not meet a bad clip
            if source.name in {other.name for other in usable}:
                raise BadClip("its name occurs twice: the first is kept")
            usable.append(source)
        except BadClip as bad:
            skipped[source.name] = str(bad)
    train = [source for source in usable if source.split == "train"]
    if not train:
        raise UserError(f"no usable training clip in {data}", _reasons(skipped) or "check the index")
    worn = [source for source in train if source.kind == "markers"]
    calibration = _calibration(worn, out, iterations * 4 // 3, console) if worn else None
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
        console.print(f"left out [bold]{escape(name)}[/]: {escape(reason)}", highlight=False)
    # Not by what was left out: a bad clip may have the name of a good one.
    done = [source.name for source in usable if source.name in (*made, *ready)]
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
        "sources": {source.name: SOURCES[source.kind] for source in usable if source.name in done},
        "skipped": skipped,
    }
    with whole_file(out / "prepared.json") as partial:
        partial.write_text(json.dumps(content, indent=1))
    console.print(_table(PreparedData.load(out), out))
    if transcribe:
        from models.symbolic.transcribe_clips import transcribe_clips  # loads two networks: only if asked for

        heard = [source for source in usable if source.name in done and source.audio is not None]
        transcribe_clips(heard, out, console)
    return Summary(tuple(made), tuple(ready), skipped)


@dataclass(frozen=True, slots=True)
class _Job:
    source: ClipSource
    out: Path
    calibration: Calibration | None
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
        motion, fit_key = _motion(job)
        audio_key = _digest(source.audio.read_bytes() if source.audio and source.audio.is_file() else b"")
        facts = replace(source, motion=Path(source.motion.name), audio=None)
        key = _digest(
            _CLIP_VERSION, fit_key, audio_key, repr(facts), motion.repeats, job.usual_bpm, FeatureSpec().digest, FORMAT
        )
        path = job.out / "clips" / f"{source.name}.npz"
        stamp = path.with_suffix(".key")
        ready = path.is_file() and stamp.is_file() and stamp.read_text() == key
        if not ready:
            samples = load_audio(source) if source.audio is not None else None
            told = _with_beat(source, samples)
            usual_bpm = job.usual_bpm if source.bpm is None else source.bpm
            clip_on_ticks(told, motion, samples, usual_bpm).save(path)
            stamp.write_text(key)
    except BadClip as bad:
        return str(bad)
    sheet = job.out / "sheets" / f"{source.name}.png"
    # Asked for later, they are of clips that were made long ago.
    if job.sheets and not (ready and sheet.is_file()):
        _draw(motion, source, sheet)
    return "ready" if ready else "made"


def _with_beat(source: ClipSource, samples: NDArray[np.float32] | None) -> ClipSource:
    """Return a clip whose music's beat is known, from the audio where nobody told it."""
    if source.beat_known or samples is None:
        return source
    beat = find_beat(samples, source.bpm)
    if beat is None or beat.clearness < _LEAST_CLEARNESS:
        raise BadClip("its music has no steady beat that could be found")
    return replace(source, bpm=beat.bpm, beat_s=beat.beat_s, beat_known=True)


def _motion(job: _Job) -> tuple[ClipMotion, str]:
    """Return a clip's motion and the digest of what it was made from. Raises BadClip."""
    source = job.source
    if source.kind == "markers":
        if job.calibration is None:
            raise BadClip("no training clip with markers tells where they sit")
        markers, repeats = load_motion(source)
        key = _digest(
            _FIT_VERSION,
            job.iterations,
            markers,
            source.fps,
            job.calibration.centres,
            job.calibration.scale,
            job.calibration.offsets_m,
        )
        fit, feet = _fit(job, job.calibration, markers, key), list(mk.CONTACT_MARKERS)
        return ClipMotion(fit, markers[:, feet], fit.target_m[:, feet], repeats), key
    fit = aist.load_motion(source) if source.kind == "aist" else bvh_folder.load_motion(source)
    key = _digest(_BODY_VERSION, fit.rotations, fit.translation_m, fit.fps)
    _save_fit(fit, job.out / "fits" / f"{source.name}.npz", key)
    return ClipMotion(fit, fit.target_m, fit.target_m, np.zeros(len(fit.rotations), bool)), key


def _fit(job: _Job, calibration: Calibration, markers: NDArray[np.float32], key: str) -> FittedMotion:
    path = job.out / "fits" / f"{job.source.name}.npz"
    kept = _kept(path, key, ("rotations", "translation", "contacts", "fps", "residual", "target"))
    if kept is not None:
        rotations, translation_m, contacts, fps, residual_m, target_m = kept
        return FittedMotion(rotations, translation_m, contacts, float(fps), residual_m, target_m)
    fit = fit_markers(markers, job.source.fps, calibration, job.iterations)
    _save_fit(fit, path, key)
    return fit


def _save_fit(fit: FittedMotion, path: Path, key: str) -> None:
    with whole_file(path) as partial:
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


def _draw(motion: ClipMotion, source: ClipSource, path: Path) -> None:
    from models.motion.sheets import contact_sheet  # matplotlib is slow to import and not needed otherwise

    fit = motion.fit
    positions, world = skeleton.forward_kinematics(fit.rotations, fit.translation_m)
    contact_sheet(
        positions,
        path,
        np.arange(len(positions)) / fit.fps,
        count=18,
        markers=fit.target_m if source.kind == "markers" else None,
        contacts=fit.contacts,
        sole_points=skeleton.contact_points(positions, world),
        title=f"{source.name} ({source.style}, {source.split})",
    )


def _calibration(train: list[ClipSource], out: Path, iterations: int, console: Console) -> Calibration:
    """Learn the subjects from training clips, or take what an earlier run learnt from the same ones."""
    clips = [(load_motion(source)[0], source.fps) for source in train]
    key = _digest(_FIT_VERSION, iterations, *[part for clip in clips for part in clip])
    path = out / "calibration.npz"
    kept = _kept(path, key, ("centres", "scale", "offsets_m"))
    if kept is not None:
        return Calibration(*kept)
    with console.status("learning where the markers sit"):
        found = calibrate(clips, iterations=iterations)
    with whole_file(path) as partial:
        np.savez(partial, key=np.array(key), centres=found.centres, scale=found.scale, offsets_m=found.offsets_m)
    return found


def _kept(path: Path, key: str, names: Sequence[str]) -> list[NDArray[Any]] | None:
    """Return what an earlier run kept, if it was made from the same; None if not, or if it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return [archive[name] for name in names] if str(archive["key"]) == key else None
    except DAMAGE:
        return None


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
        table.caption = f"faster than people move, not for training: {escape(', '.join(fast))}"
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
            escape(style),
            split,
            str(len(clips)),
            f"{minutes:.1f}",
            f"{new:.0%}" if split == "train" else "",
            str(sum(c.tempo_locked for c in clips)),
            f"{worst[0]:.0f} / {worst[1]:.0f}",
        )
    return table
