"""`dance --render`: a song into files."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from engine.cli.console import show_console
from engine.render import Rendering, collect, write_dance
from engine.settings import ShowSettings
from engine.stage import build_pipeline
from engine.types import NS_PER_S, AudioBlock, Observation


def render_file(settings: ShowSettings, path: Path, folder: Path, duration_s: float | None) -> None:
    """Render an audio file and write what design section 7 promises."""
    from engine.audio.files import open_audio

    source = open_audio(path)
    length_s = source.duration_s if duration_s is None else min(duration_s, source.duration_s)
    with source:
        blocks: Iterable[Observation] = until(source.blocks(), duration_s)
        render_observations(settings, blocks, folder, length_s)


def progress_bar(console: Console) -> Progress:
    """Return a bar that counts seconds of the show; it is drawn on a terminal only."""
    columns = (TextColumn("rendering"), BarColumn(), TextColumn("{task.completed:.0f} s"), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def until(blocks: Iterable[AudioBlock], duration_s: float | None) -> Iterator[AudioBlock]:
    """Yield the blocks of the first `duration_s` seconds; None: all."""
    for block in blocks:
        if duration_s is not None and block.time_ns > duration_s * NS_PER_S:
            return
        yield block


def render_observations(
    settings: ShowSettings, observations: Iterable[Observation], folder: Path, length_s: float
) -> Rendering:
    """Render observations through a fresh core, with a progress bar, and say what came of it."""
    console = show_console()
    pipeline = build_pipeline(settings)
    start = time.perf_counter()
    with progress_bar(console) as progress:
        task = progress.add_task("rendering", total=length_s)
        poses, beats, report = collect(pipeline, observations, lambda t: progress.update(task, completed=t))
    write_dance(folder, poses, beats, settings.output.fps)
    elapsed = time.perf_counter() - start
    for problem in dict.fromkeys(report.problems):
        console.print(f"[yellow]{escape(problem)}[/]", highlight=False)
    console.print(
        f"{report.poses} poses and {report.beats} beats of {report.duration_s:.1f} s in {escape(str(folder))} "
        f"({report.duration_s / elapsed:.1f} x real time)",
        highlight=False,
    )
    return report
