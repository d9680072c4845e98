"""The commands, and how they fail: one clear line, exit code 2."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from engine import __version__
from engine.cli.options import (
    CommonOptions,
    DurationOption,
    OscOption,
    RecordOption,
    RenderOption,
    ReportOption,
    SeedOption,
    SetOption,
    ShowOption,
    StyleOption,
    VmcOption,
    WebOption,
)
from engine.errors import UserError

GMD_TRAINING = Path(__file__).parents[2] / "config" / "training" / "gmd.toml"

app = typer.Typer(
    name="pasdedeux",
    help="A virtual dancer that follows the band, live.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log what the components say.")] = False,
) -> None:
    logging.basicConfig(level=logging.INFO if verbose else logging.CRITICAL, format="%(asctime)s %(name)s: %(message)s")
    if version:
        typer.echo(f"pasdedeux {__version__}")
        raise typer.Exit


@app.command()
def demo(
    show: ShowOption = None,
    osc: OscOption = None,
    vmc: VmcOption = None,
    web: WebOption = None,
    seed: SeedOption = None,
    style: StyleOption = None,
    duration: DurationOption = None,
    setting: SetOption = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the web stage.")] = True,
) -> None:
    """Dance to the bundled song: sound if there is a device, web stage on 127.0.0.1:8765, OSC to 127.0.0.1:9000."""
    from engine.cli.show import DEMO_SONG, LiveShow, file_sensor

    settings = CommonOptions(show, osc, vmc, web, seed, style, setting).settings('osc.targets=["127.0.0.1:9000"]')
    live = LiveShow(settings, browser=browser)
    live.run(file_sensor(DEMO_SONG, settings, live.clock, loop=True, on_end=live.end), duration)


@app.command()
def dance(
    source: Annotated[
        str | None, typer.Argument(metavar="[INPUT]", help="Audio file, or input device by name or index.")
    ] = None,
    show: ShowOption = None,
    osc: OscOption = None,
    vmc: VmcOption = None,
    web: WebOption = None,
    seed: SeedOption = None,
    style: StyleOption = None,
    duration: DurationOption = None,
    setting: SetOption = None,
    render: RenderOption = None,
    record: RecordOption = None,
    report: ReportOption = None,
    loop: Annotated[bool, typer.Option("--loop", help="Play an audio file again and again.")] = False,
) -> None:
    """Dance to a microphone, a line input or an audio file (default: the default input device)."""
    from engine.cli import show as shows

    settings = CommonOptions(show, osc, vmc, web, seed, style, setting).settings()
    path = shows.audio_file(source)
    if render is not None:
        if path is None:
            raise UserError("--render needs an audio file", "give one: pasdedeux dance SONG --render DIR")
        shows.render_file(settings, path, render, duration)
        return
    live = shows.LiveShow(settings, record=record, report=report)
    if path is not None:
        live.run(shows.file_sensor(path, settings, live.clock, loop, live.end), duration)
    else:
        live.run(shows.microphone_sensor(source, settings, live.clock), duration)


@app.command()
def replay(
    session: Annotated[Path, typer.Argument(help="Folder made by `dance --record`.")],
    osc: OscOption = None,
    vmc: VmcOption = None,
    web: WebOption = None,
    duration: DurationOption = None,
    render: RenderOption = None,
) -> None:
    """Run a recorded session again: live to the bridges, or with --render into files, and compare the poses."""
    from engine.cli import show as shows

    shows.replay_session(session, CommonOptions(osc=osc, vmc=vmc, web=web), render, duration)


@app.command()
def devices() -> None:
    """List the audio devices that can be heard and played to."""
    from engine.cli.inspect import print_devices

    print_devices()


@app.command()
def check(
    source: Annotated[
        str | None, typer.Argument(metavar="[INPUT]", help="Audio file, or input device by name or index.")
    ] = None,
    show: ShowOption = None,
    osc: OscOption = None,
    vmc: VmcOption = None,
    web: WebOption = None,
    setting: SetOption = None,
) -> None:
    """Before doors: open every device, load every artifact, run 100 ticks, and say what to fix."""
    from engine.cli.inspect import check_show

    settings = CommonOptions(show, osc, vmc, web, None, None, setting).settings()
    raise typer.Exit(check_show(settings, source))


@app.command()
def bench(
    seconds: Annotated[float, typer.Option("--seconds", help="Length of the paced run.")] = 30.0,
    json_path: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures there.")] = None,
    compare: Annotated[Path | None, typer.Option("--compare", metavar="OLD", help="Print ratios to OLD.")] = None,
    load: Annotated[bool, typer.Option("--load/--no-load", help="Also beside a busy process.")] = False,
    setting: SetOption = None,
) -> None:
    """Measure this machine: each stage of the engine, the model, pacing and latency, as percentiles."""
    from engine.cli.bench import run_bench

    run_bench(CommonOptions(overrides=setting).settings("web.ports=[]"), seconds, json_path, compare, load)


@app.command()
def prepare(
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="Folder with pairs/ (and motion_only/).")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the prepared clips go.")],
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes at once.")] = 1,
    sheets: Annotated[bool, typer.Option("--sheets", help="Draw a contact sheet of every fit.")] = False,
) -> None:
    """Turn motion capture and its music into training data; goes on where it was stopped."""
    from engine.cli.offline import prepare_data

    prepare_data(data, out, workers, sheets)


@app.command()
def train(
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="Folder made by `prepare`.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the run: checkpoints and figures.")],
    settings: Annotated[Path, typer.Option("--settings", metavar="FILE", help="Training run (TOML).")] = GMD_TRAINING,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint of the run.")] = False,
    minutes: Annotated[float | None, typer.Option("--minutes", help="Stop after this long.")] = None,
) -> None:
    """Train the music -> dance model."""
    from engine.cli.offline import train_model

    logging.getLogger().setLevel(logging.INFO)
    train_model(settings, data, out, resume, minutes)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Folder made by `train`.")],
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="Folder made by `prepare`.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the artifact goes.")],
    step: Annotated[int | None, typer.Option("--step", help="Of which checkpoint; the newest by default.")] = None,
) -> None:
    """Export a trained model for the stage: ONNX, tables and manifest, with its parity measured."""
    from engine.cli.offline import export_model

    export_model(run, data, out, step)


def main() -> None:
    """Run the command line; exit code 2 with one line for whatever is the user's to mend."""
    # One thread each: the engine's threads are its own, and BLAS pools would fight them for the cores.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    try:
        app()
    except UserError as error:
        Console(stderr=True).print(f"[bold red]error:[/] {error}", highlight=False, soft_wrap=True, markup=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
