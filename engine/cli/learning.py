"""The commands that work offline: `prepare`, `train`, `export`, `evaluate`, `table`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from engine.errors import UserError

app = typer.Typer()


@app.command()
def prepare(
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="Clips: pairs/, AIST++, or BVH with audio.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the prepared clips go.")],
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes at once.")] = 1,
    sheets: Annotated[bool, typer.Option("--sheets", help="Draw a contact sheet of every fit.")] = False,
    transcribe: Annotated[bool, typer.Option("--transcribe", help="Also write the music down as four voices.")] = False,
) -> None:
    """Turn motion capture and its music into training data; goes on where it was stopped."""
    from engine.cli.offline import prepare_data

    prepare_data(data, out, workers, sheets, transcribe)


@app.command()
def train(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the run: checkpoints and figures.")],
    data: Annotated[Path | None, typer.Option("--data", metavar="DIR", help="Folder made by `prepare`.")] = None,
    music: Annotated[Path | None, typer.Option("--music", metavar="DIR", help="Folder of the MIDI corpora.")] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="NAME", help="By its recipe: gmd (default), gdm, dual, or a rival.")
    ] = None,
    settings: Annotated[
        Path | None, typer.Option("--settings", metavar="FILE", help="Another training run (TOML) than the recipe.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint, by its settings.")] = False,
    minutes: Annotated[float | None, typer.Option("--minutes", help="Stop after this long.")] = None,
) -> None:
    """Train a model: music -> dance, dance -> music, both together, or a system of the field, as the settings say."""
    from engine.cli.offline import train_model

    logging.getLogger().setLevel(logging.INFO)
    train_model(model, settings, data, music, out, resume, minutes)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Folder made by `train`.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the artifact goes.")],
    data: Annotated[Path | None, typer.Option("--data", metavar="DIR", help="Folder made by `prepare`.")] = None,
    music: Annotated[Path | None, typer.Option("--music", metavar="DIR", help="Folder of the MIDI corpora.")] = None,
    step: Annotated[int | None, typer.Option("--step", help="Of which checkpoint; the newest by default.")] = None,
    name: Annotated[str, typer.Option("--name", help="In shows and tables; the run's by default.")] = "",
) -> None:
    """Export a trained model for the stage: ONNX, tables and manifest, with its parity measured."""
    from engine.cli.offline import export_model

    export_model(run, data, music, out, step, name)


@app.command()
def evaluate(
    data: Annotated[Path | None, typer.Option("--data", metavar="DIR", help="Folder made by `prepare`.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Where tables, dances and the page go."),
    ] = None,
    model: Annotated[
        list[Path] | None, typer.Option("--model", metavar="DIR", help="Exported model; the shipped one by default.")
    ] = None,
    split: Annotated[str, typer.Option("--split", help="val, or test: for reporting only.")] = "val",
    protocol: Annotated[str, typer.Option("--protocol", help="A: unseen songs. B: unseen movement.")] = "A",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Dances a song.")] = 3,
    seconds: Annotated[float, typer.Option("--seconds", help="Length of each dance.")] = 60.0,
    tempo: Annotated[
        list[str] | None, typer.Option("--tempo", help="Also: slow (0.75 x), fast (1.35 x) or drift. Repeatable.")
    ] = None,
    long: Annotated[int, typer.Option("--long", help="Songs danced to for ten minutes.")] = 0,
    system: Annotated[list[str] | None, typer.Option("--system", help="Only these, by part of the name.")] = None,
    energy: Annotated[float, typer.Option("--energy", help="That models are asked for, 0 to 1.")] = 0.5,
    fixed_rate: Annotated[
        list[Path] | None, typer.Option("--fixed-rate", metavar="DIR", help="Model trained on frames, not ticks.")
    ] = None,
    rival: Annotated[
        list[Path] | None,
        typer.Option("--rival", metavar="DIR", help="Exported system of the field. Those of one name: its trainings."),
    ] = None,
    shown: Annotated[bool, typer.Option("--shown", help="Rivals also as the stage shows them.")] = False,
    report: Annotated[
        list[Path] | None,
        typer.Option("--report", metavar="DIR", help="A page, evaluation.html, of evaluations in here. Repeatable."),
    ] = None,
    audio: Annotated[
        Path | None,
        typer.Option("--audio", metavar="DIR", help="What `prepare` was given: puts the songs into the page."),
    ] = None,
    page_seconds: Annotated[float, typer.Option("--page-seconds", help="Of each dance in the page.")] = 30.0,
    page_seeds: Annotated[int, typer.Option("--page-seeds", help="Dances of a system to a song in the page.")] = 1,
    direction: Annotated[
        str, typer.Option("--direction", metavar="music-to-dance|dance-to-music", help="Which side is measured.")
    ] = "music-to-dance",
    music: Annotated[
        Path | None, typer.Option("--music", metavar="DIR", help="Dance to music: MIDI corpora to compare with.")
    ] = None,
    composer: Annotated[
        list[Path] | None,
        typer.Option("--composer", metavar="DIR", help="Dance to music: exported model; the shipped one by default."),
    ] = None,
) -> None:
    """Measure dancers side by side on held-out songs: tables as JSON and Markdown; goes on where it was stopped.

    With --report alone nothing is measured: the page is made of what was, into --out or the first of the folders.
    """
    from engine.cli.offline import evaluate_composers, evaluate_models, write_page

    if direction not in ("music-to-dance", "dance-to-music"):
        raise UserError(f"no direction '{direction}'", "give music-to-dance or dance-to-music")
    if direction == "dance-to-music":
        if data is None or out is None:
            raise UserError("nothing to evaluate", "give --data DIR and --out DIR")
        evaluate_composers(data, music, out, composer or [], rival or [], split, seeds, system or [])
        return
    if data is not None and out is not None:
        evaluate_models(
            data,
            model or [],
            fixed_rate or [],
            out,
            split,
            protocol,
            seeds,
            seconds,
            tempo or [],
            long,
            system or [],
            energy,
            rival or [],
            shown,
        )
    elif data is not None or not report:
        raise UserError("nothing to evaluate", "give --data DIR and --out DIR, or --report DIR for a page")
    if report:
        page = write_page(report, out or report[0], audio, page_seconds, page_seeds)
        Console().print(f"{page} ({page.stat().st_size / 1e6:.1f} MB)", highlight=False, markup=False, soft_wrap=True)


@app.command()
def table(
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="Folder made by `prepare`.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where runs, weights, tables and the page go.")],
    settings: Annotated[
        Path | None, typer.Option("--settings", metavar="FILE", help="Another list of systems (TOML) than the shipped.")
    ] = None,
    split: Annotated[str, typer.Option("--split", help="val, or test: for reporting only.")] = "val",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Dances a song.")] = 3,
    seconds: Annotated[float, typer.Option("--seconds", help="Length of each dance.")] = 60.0,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Trainings at once.")] = 1,
    audio: Annotated[
        Path | None,
        typer.Option("--audio", metavar="DIR", help="What `prepare` was given: puts the songs into the page."),
    ] = None,
) -> None:
    """Train every system of the field, measure all of them on the same songs, and write one page.

    What is finished is not done again: the same command goes on where it was stopped.
    """
    from engine.cli.offline import field_table

    logging.getLogger().setLevel(logging.INFO)
    page = field_table(data, out, settings, split, seeds, seconds, jobs, audio)
    Console().print(str(page), highlight=False, markup=False, soft_wrap=True)
