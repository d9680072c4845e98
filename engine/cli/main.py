"""The commands, and how they fail: one clear line, exit code 2."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from engine import __version__
from engine.cli.options import (
    AudioOption,
    CommonOptions,
    DurationOption,
    MidiOption,
    ModelOption,
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

app = typer.Typer(
    name="pasdedeux",
    help="A virtual dancer that follows the band, and a band that follows the dancer, live.",
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
    model: ModelOption = None,
    duration: DurationOption = None,
    setting: SetOption = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the web stage.")] = True,
) -> None:
    """Dance to the bundled song: sound if there is a device, web stage on 127.0.0.1:8765, OSC to 127.0.0.1:9000."""
    from engine.cli.live import LiveShow
    from engine.cli.sources import DEMO_SONG, file_sensor

    settings = CommonOptions(show, osc, vmc, web, seed, style, setting, model=model).settings(
        'osc.targets=["127.0.0.1:9000"]'
    )
    live = LiveShow(settings, browser=browser)
    live.run([file_sensor(DEMO_SONG, settings, live.clock, loop=True, on_end=live.end)], duration)


@app.command()
def dance(
    source: Annotated[
        str | None, typer.Argument(metavar="[INPUT]", help="Audio file, or input device by name or index.")
    ] = None,
    show: ShowOption = None,
    osc: OscOption = None,
    vmc: VmcOption = None,
    midi: MidiOption = None,
    web: WebOption = None,
    seed: SeedOption = None,
    style: StyleOption = None,
    model: ModelOption = None,
    duration: DurationOption = None,
    setting: SetOption = None,
    render: RenderOption = None,
    record: RecordOption = None,
    report: ReportOption = None,
    loop: Annotated[bool, typer.Option("--loop", help="Play an audio file again and again.")] = False,
) -> None:
    """Dance to a microphone, a line input or an audio file (default: the default input device)."""
    from engine.cli import sources
    from engine.cli.live import LiveShow
    from engine.cli.show import render_file

    settings = CommonOptions(show, osc, vmc, web, seed, style, setting, midi, model).settings()
    path = sources.audio_file(source)
    if render is not None:
        if path is None:
            raise UserError("--render needs an audio file", "give one: pasdedeux dance SONG --render DIR")
        render_file(settings, path, render, duration)
        return
    live = LiveShow(settings, record=record, report=report)
    if path is not None:
        live.run([sources.file_sensor(path, settings, live.clock, loop, live.end)], duration)
    else:
        live.run([sources.microphone_sensor(source, settings, live.clock)], duration)


_DANCER = typer.Argument(metavar="[INPUT]", help="Camera by index or name, a video, or a poses.npz.")
_LOOP = typer.Option("--loop", help="Play files again and again.")


@app.command()
def play(
    source: Annotated[str | None, _DANCER] = None,
    show: ShowOption = None,
    midi: MidiOption = None,
    osc: OscOption = None,
    vmc: VmcOption = None,
    web: WebOption = None,
    audio: AudioOption = None,
    seed: SeedOption = None,
    duration: DurationOption = None,
    setting: SetOption = None,
    render: RenderOption = None,
    record: RecordOption = None,
    report: ReportOption = None,
    loop: Annotated[bool, _LOOP] = False,
) -> None:
    """Dance before a camera and play the band (default: the first camera)."""
    from engine.cli import play as plays
    from engine.cli.live import LiveShow
    from engine.stage import Cast

    options = CommonOptions(show, osc, vmc, web, seed, None, setting, midi)
    settings = options.settings(*plays.leader_default(Cast.BAND, audio))
    if render is not None:
        plays.render_playing(settings, Cast.BAND, source, audio, render, duration)
        return
    live = LiveShow(settings, record=record, report=report, cast=Cast.BAND)
    plays.play_live(live, settings, Cast.BAND, source, audio, loop, duration)


@app.command()
def duet(
    source: Annotated[str | None, _DANCER] = None,
    audio: AudioOption = None,
    show: ShowOption = None,
    midi: MidiOption = None,
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
    loop: Annotated[bool, _LOOP] = False,
) -> None:
    """Both at once, on one beat: you play the band, and virtual dancers dance to the room and to you."""
    from engine.cli import play as plays
    from engine.cli.live import LiveShow

    cast = plays.cast_of_duet(audio)
    options = CommonOptions(show, osc, vmc, web, seed, style, setting, midi)
    settings = options.settings(*plays.leader_default(cast, audio))
    if render is not None:
        plays.render_playing(settings, cast, source, audio, render, duration)
        return
    live = LiveShow(settings, record=record, report=report, cast=cast)
    plays.play_live(live, settings, cast, source, audio, loop, duration)


@app.command()
def replay(
    session: Annotated[Path, typer.Argument(help="Folder made by --record.")],
    osc: OscOption = None,
    vmc: VmcOption = None,
    web: WebOption = None,
    midi: MidiOption = None,
    duration: DurationOption = None,
    render: RenderOption = None,
) -> None:
    """Run a recorded session again: live to the bridges, or with --render into files, and compare what comes out."""
    from engine.cli.replay import replay_session

    replay_session(session, CommonOptions(osc=osc, vmc=vmc, web=web, midi=midi), render, duration)


@app.command()
def devices() -> None:
    """List cameras, MIDI ports, and the audio devices that can be heard and played to."""
    from engine.cli.inspect import print_devices

    print_devices()


@app.command()
def check(
    source: Annotated[
        str | None,
        typer.Argument(metavar="[INPUT]", help="As for the command that is checked: song, device, camera ..."),
    ] = None,
    command: Annotated[str, typer.Option("--for", metavar="dance|play|duet", help="Which show.")] = "dance",
    audio: AudioOption = None,
    show: ShowOption = None,
    osc: OscOption = None,
    vmc: VmcOption = None,
    midi: MidiOption = None,
    web: WebOption = None,
    setting: SetOption = None,
) -> None:
    """Before doors: open every device, load every artifact, run 100 ticks, and say what to fix."""
    options = CommonOptions(show, osc, vmc, web, None, None, setting, midi)
    if command == "dance":
        from engine.cli.inspect import check_show

        raise typer.Exit(check_show(options.settings(), source))
    if command not in ("play", "duet"):
        raise UserError(f"cannot check '{command}'", "choose one of dance, play, duet")
    from engine.cli.inspect_playing import check_playing
    from engine.cli.play import cast_of_duet, leader_default
    from engine.stage import Cast

    cast = Cast.BAND if command == "play" else cast_of_duet(audio)
    raise typer.Exit(check_playing(options.settings(*leader_default(cast, audio)), cast, source, audio))


@app.command()
def bench(
    seconds: Annotated[float, typer.Option("--seconds", help="Length of the paced run.")] = 30.0,
    json_path: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures there.")] = None,
    compare: Annotated[Path | None, typer.Option("--compare", metavar="OLD", help="Print ratios to OLD.")] = None,
    load: Annotated[bool, typer.Option("--load/--no-load", help="Also beside a busy process.")] = False,
    scaling: Annotated[bool, typer.Option("--scaling", help="Rather: cost by dancers, memory, targets, time.")] = False,
    setting: SetOption = None,
) -> None:
    """Measure this machine: each stage of the engine, the model, pacing and latency, as percentiles."""
    from engine.cli.bench import run_bench, run_scaling_bench

    if scaling:
        run_scaling_bench(CommonOptions(overrides=setting).settings("web.ports=[]"), json_path)
        return
    run_bench(CommonOptions(overrides=setting).settings("web.ports=[]"), seconds, json_path, compare, load)


@app.command("compile")
def compile_command(
    prove: Annotated[bool, typer.Option("--prove", help="Try all that is claimed of back ends here.")] = False,
    json_path: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures there.")] = None,
    setting: SetOption = None,
) -> None:
    """Build ahead what this machine's graphics card can run, and say which back end a show will take and why."""
    from engine.cli.backends import compile_model

    compile_model(CommonOptions(overrides=setting).settings("web.ports=[]"), prove, json_path)


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
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint of the run.")] = False,
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
) -> None:
    """Export a trained model for the stage: ONNX, tables and manifest, with its parity measured."""
    from engine.cli.offline import export_model

    export_model(run, data, music, out, step)


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


def main() -> None:
    """Run the command line; exit code 2 with one line for whatever is the user's to mend."""
    # One thread each: the engine's threads are its own, and BLAS pools would fight them for the cores.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    try:
        app()
    except UserError as error:
        Console(stderr=True).print(
            f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True, markup=True
        )
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
