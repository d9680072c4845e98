"""The commands and their flags."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from engine import __version__
from engine.cli.figures import check_rendering
from engine.cli.learning import app as learning
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
    check_seconds,
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

    settings = CommonOptions(show, osc, vmc, web, seed, style, setting, model=model).settings_for(
        False, 'osc.targets=["127.0.0.1:9000"]'
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

    check_rendering(render, record, report)
    settings = CommonOptions(show, osc, vmc, web, seed, style, setting, midi, model).settings_for(plays=False)
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

    check_rendering(render, record, report)
    options = CommonOptions(show, osc, vmc, web, seed, None, setting, midi)
    settings = options.settings_for(True, *plays.leader_default(Cast.BAND, audio))
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

    check_rendering(render, record, report)
    cast = plays.cast_of_duet(audio)
    options = CommonOptions(show, osc, vmc, web, seed, style, setting, midi)
    settings = options.settings_for(True, *plays.leader_default(cast, audio))
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

    check_rendering(render)
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

        raise typer.Exit(check_show(options.settings_for(plays=False), source))
    if command not in ("play", "duet"):
        raise UserError(f"cannot check '{command}'", "choose one of dance, play, duet")
    from engine.cli.inspect_playing import check_playing
    from engine.cli.play import cast_of_duet, leader_default
    from engine.stage import Cast

    cast = Cast.BAND if command == "play" else cast_of_duet(audio)
    settings = options.settings_for(True, *leader_default(cast, audio))
    raise typer.Exit(check_playing(settings, cast, source, audio))


@app.command()
def bench(
    seconds: Annotated[
        float, typer.Option("--seconds", help="Length of the paced run.", callback=check_seconds)
    ] = 30.0,
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


app.add_typer(learning)
