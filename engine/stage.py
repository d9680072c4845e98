"""The composition root: builds a show from its settings. The only place that knows models and bridges, by name."""

from __future__ import annotations

import enum
import importlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from engine.beats import create_tracker
from engine.beats.kinematic_tracker import KinematicTracker
from engine.body.pose_features import PoseFeatureSpec
from engine.clock import Clock
from engine.crowds.crowd import Crowd
from engine.crowds.process import Share, Troupe, TroupeHere
from engine.crowds.shares import TroupeElsewhere, share_out, usable_cores
from engine.dancing.dancer import Dancer
from engine.dancing.idle import idle_pose
from engine.dancing.idle_generator import IdleGenerator
from engine.errors import UserError
from engine.features import FeatureExtractor
from engine.metrics import Metrics
from engine.pipeline import Pipeline
from engine.playing.duet import PARTNER
from engine.playing.keys import parse_key
from engine.playing.pipeline import CAMERA, PlayingPipeline
from engine.playing.rule_composer import RuleComposer
from engine.protocols import BeatTracker, Bridge, Composer, Core, Generator, Sensor
from engine.scheduler import OutputScheduler, Timing
from engine.seeing.retarget import LandmarkRetargeter
from engine.settings import CrowdSettings, ShowSettings
from engine.types import NS_PER_S, VOICES, AudioBlock, Heartbeat, Observation, PoseFrame, StatusEvent

_log = logging.getLogger(__name__)

# Where each name lives; loaded only when a show asks for it, so that the engine runs without what it does not use.
_NEURAL_TRACKER = ("models.beats.activation", "create_tracker")
_GENERATORS = {
    "gmd": ("models.music_to_dance.generator", "OnnxGenerator"),
    "frames": ("models.field.generator", "FrameGenerator"),
    "units": ("models.field.dancing_to_music.generator", "UnitGenerator"),
}
"""By the kind of the artifact."""
_KIND_OF = ("models.artifacts", "kind_of")
_FIELD_SYSTEMS = ("models.field.registry", "SYSTEMS")
_COMPANY = ("models.music_to_dance.generator", "Company")
_COMPOSER = ("models.dance_to_music.composer", "OnnxComposer")
_TEMPO_SENSORS = {"midi-clock": ("bridges.midi_clock", "MidiClockSensor"), "link": ("bridges.link", "LinkSensor")}
_SHIPPED_MODELS = Path(__file__).parents[1] / "models" / "weights"


class Cast(enum.Enum):
    """Who is on the stage of a show that is played by a dancer before the camera."""

    BAND = "band"
    """The band alone."""
    ANSWER = "answer"
    """A virtual dancer too, who hears the band: there is no other sound in the room."""
    DUET = "duet"
    """A virtual dancer who hears the room, and a partner who hears the band."""


def _load(module: str, name: str, remedy: str) -> Any:
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise UserError(f"cannot load {module} ({error})", remedy) from error


def build_tracker(settings: ShowSettings) -> BeatTracker:
    """Return the beat tracker of the show. Raises `UserError` if it cannot be loaded."""
    if settings.beats.tracker == "neural":
        create = _load(*_NEURAL_TRACKER, "install the project again, or set beats.tracker to flux")
        tracker: BeatTracker = create()
        return tracker
    return create_tracker(settings.beats.tracker)


def build_generator(
    settings: ShowSettings, extractor: FeatureExtractor, report: Callable[[str, str], None] | None = None
) -> Generator:
    """Return the model of the show, checked against the features it will hear.

    Args:
        settings: of the show.
        extractor: what it will hear through.
        report: hears, in the middle of the show, of a back end that was lost.

    Raises:
        UserError: it cannot be loaded, or was trained on other features.
    """
    name = settings.dancer.model
    if name == "idle":
        return IdleGenerator()
    folder, remedy = dance_model(name), "install the project again, or set dancer.model to idle"
    kind: str = _load(*_KIND_OF, remedy)(folder)
    if kind not in _GENERATORS:
        raise UserError(f"model {folder} is of kind '{kind}'", f"known here: {', '.join(_GENERATORS)}")
    create = _load(*_GENERATORS[kind], remedy)
    generator: Generator = create(folder, settings.dancer.seed, settings.dancer.backend, report)
    trained, present = generator.info.feature_spec, extractor.spec.digest
    if trained != present:
        raise UserError(
            f"model {generator.info.name} was trained on features {trained}, this engine extracts {present}",
            "use the weights of this version, or train and export the model again",
        )
    return generator


def _model_folder(name: str) -> Path:
    """Return where a model is; a shipped one goes before a folder that happens to have its name."""
    shipped = _SHIPPED_MODELS / name
    return shipped if shipped.is_dir() or not Path(name).is_dir() else Path(name)


def dance_model(name: str) -> Path:
    """Return the folder of a music -> dance model. Raises `UserError` if there is none, or it cannot dance live."""
    if name == "idle":
        raise UserError("idle is no network", "set dancer.model to gmd, or to the folder of an exported model")
    folder = _model_folder(name)
    if not folder.is_dir():
        system = _load(*_FIELD_SYSTEMS, "install the project again").get(name)
        if system is not None and system.off_stage is not None:
            raise UserError(f"{name} cannot dance live: {system.off_stage}", "measure it with `pasdedeux evaluate`")
        if system is not None:
            remedy = "train it, export it, and give its folder"
            raise UserError(f"no weights of '{name}' come with this version", remedy)
        raise UserError(f"no model '{name}'", "give gmd, idle, or the folder of an exported model")
    return folder


def build_pipeline(settings: ShowSettings, metrics: Metrics | None = None, troupe: Troupe | None = None) -> Pipeline:
    """Return a fresh core.

    Args:
        settings: of the show.
        metrics: shared with whoever shows it.
        troupe: the crowd, wherever it is computed; None: on the core's own thread, if the show has one.

    Raises:
        UserError: something it needs cannot be loaded or does not fit.
    """
    extractor = FeatureExtractor()
    cores: list[Pipeline] = []

    def report(level: str, message: str) -> None:
        for core in cores:
            core.report_model(level, message)

    if troupe is None and settings.crowd.size:
        troupe = build_troupe(settings)
    generator = build_generator(settings, extractor, report)
    pipeline = Pipeline(settings, build_tracker(settings), generator, extractor, metrics, troupe)
    cores.append(pipeline)
    _check_styles(settings, pipeline.dancer)
    return pipeline


def build_troupe(settings: ShowSettings, share: range | None = None) -> TroupeHere:
    """Return the crowd of the show, or a share of it. Raises `UserError` if its model cannot be loaded."""
    share = range(settings.crowd.size) if share is None else share
    folder = _crowd_model(settings)
    company = _load(*_COMPANY, "install the project again, or set crowd.size to 0")(
        folder, share, settings.dancer.backend, _log_crowd
    )
    crowd = Crowd(company, FeatureExtractor().spec, settings, Metrics(), _log_crowd, share)
    return TroupeHere(crowd, settings)


def _crowd_model(settings: ShowSettings) -> Path:
    remedy = "set crowd.size to 0, or dancer.model to gmd"
    if settings.dancer.model == "idle":
        raise UserError("a crowd needs a model", remedy)
    folder = dance_model(settings.dancer.model)
    if _load(*_KIND_OF, "install the project again")(folder) != "gmd":
        raise UserError(f"model {folder} dances alone", remedy)
    return folder


def build_crowd(settings: ShowSettings, clock: Clock, metrics: Metrics) -> TroupeElsewhere:
    """Return the crowd of a live show, in processes of its own, which are not yet begun.

    Raises:
        UserError: its model is none that a crowd can have.
    """
    _crowd_model(settings)  # else every process would find out for itself
    through_core = _shown_by_core(settings)
    shares = share_out(settings.crowd.size, settings.crowd.processes, usable_cores())
    builds = {
        f"dancers {share.start + 1} to {share.stop}": partial(build_share, settings, share, clock, through_core)
        for share in shares
    }
    return TroupeElsewhere(builds, metrics)


def build_share(settings: ShowSettings, share: range, clock: Clock, through_core: frozenset[str]) -> Share:
    """Return a share of the crowd and what it sends by, open, in the process that is to have it.

    Raises:
        UserError: its model cannot be loaded, or a receiver cannot be found.
    """
    troupe, metrics = build_troupe(settings, share), Metrics()
    create_bridge = _load("bridges.registry", "create_bridge", "install the project again")
    options = _bridge_options(settings)
    bridges: list[Bridge] = [create_bridge("osc", target, clock, options) for target in settings.osc.targets]
    for bridge in bridges:
        bridge.open(lambda event: None)
    return Share(
        troupe,
        clock,
        OutputScheduler(clock, bridges, metrics, output_timing(settings), fills_in=False),
        metrics,
        through_core,
    )


def _shown_by_core(settings: ShowSettings) -> frozenset[str]:
    """Return whom of the crowd the core shows: a page cannot be sent to from many processes, a marionette is one."""
    names = {settings.vmc.performer} if settings.vmc.targets else set()
    if settings.web.ports:
        most: int = _load("bridges.web.server", "MAX_PERFORMERS", "install the project again")
        names |= {str(number + 1) for number in range(most)}
    return frozenset(names)


def _log_crowd(level: str, message: str) -> None:
    _log.log(getattr(logging, level.upper(), logging.INFO), "crowd: %s", message)


def build_composer(settings: ShowSettings) -> Composer:
    """Return the composer of the show, checked against what it will see.

    Raises:
        UserError: it is not there, cannot be loaded, or was trained on other features. "rules" never stands in for a
            network unasked.
    """
    name = settings.band.model
    if name == "rules":
        return RuleComposer()
    folder = _model_folder(name)
    if not folder.is_dir():
        remedy = "give the folder of an exported model, or play without a network: --set band.model=rules"
        raise UserError(f"the weights of composer '{name}' are not there", remedy)
    composer: Composer = _load(*_COMPOSER, "install the project again, or set band.model to rules")(folder)
    trained, present = composer.info.pose_spec, PoseFeatureSpec().digest
    if trained != present:
        raise UserError(
            f"composer {composer.info.name} was trained on pose features {trained}, this engine extracts {present}",
            "use the weights of this version, or train and export the model again",
        )
    return composer


def build_playing(settings: ShowSettings, metrics: Metrics | None = None, cast: Cast = Cast.BAND) -> PlayingPipeline:
    """Return a fresh core of dance to music.

    Args:
        settings: of the show.
        metrics: shared with whoever shows it.
        cast: who is on the stage beside the dancer.

    Raises:
        UserError: something it needs cannot be loaded or does not fit.
    """
    metrics = metrics or Metrics()
    band = settings.band
    for where, key in [("band", band.key), *((f"scenes.{name}", scene.key) for name, scene in settings.scenes.items())]:
        try:
            parse_key(key or "auto")
        except ValueError as error:
            raise UserError(f"{where}.key: {error}", "choose one of these") from error
    retargeter = LandmarkRetargeter(settings.camera.smoothing, settings.camera.mirror)
    tracker = KinematicTracker() if band.leader == "dancer" else None
    sound_tracker = build_tracker(settings) if band.leader == "audio" else None
    dancers = {Cast.BAND: 0, Cast.ANSWER: 1, Cast.DUET: 2}[cast]
    extractor = FeatureExtractor()
    cores: list[PlayingPipeline] = []

    def report(level: str, message: str) -> None:
        for core in cores:
            core.report_model(level, message)

    generators = [build_generator(settings, extractor, report) for _ in range(dancers)]
    composer = build_composer(settings)
    pipeline = PlayingPipeline(settings, retargeter, composer, tracker, sound_tracker, generators, metrics)
    cores.append(pipeline)
    if pipeline.lead is not None:
        _check_styles(settings, pipeline.lead)
    return pipeline


def _check_styles(settings: ShowSettings, dancer: Dancer) -> None:
    """Raise `UserError` if the show asks for a style that its model does not know."""
    scenes = ((f"scene '{name}': ", scene.style) for name, scene in settings.scenes.items())
    for where, style in [("", settings.dancer.style), *scenes]:
        if style is not None and style not in dancer.styles:
            raise UserError(f"{where}unknown style '{style}'", f"this model knows: {', '.join(dancer.styles)}")
    dancer.set_style(settings.dancer.style)


def _stage_info(settings: ShowSettings, pipeline: Pipeline | PlayingPipeline) -> dict[str, object]:
    """Return what a page of the web stage is told when it opens."""
    info: dict[str, object] = {
        "fps": settings.output.fps,
        "latency_ms": settings.output.latency_ms,
        "scenes": list(settings.scenes),
    }
    dancer = pipeline.dancer if isinstance(pipeline, Pipeline) else pipeline.lead
    if dancer is not None:
        info |= {
            "styles": list(dancer.styles),
            "style": dancer.style,
            "energy": dancer.energy,
            "mirror": dancer.mirror,
            "model": settings.dancer.model,
        }
    if isinstance(pipeline, PlayingPipeline):
        band = pipeline.band
        info |= {
            "composer": settings.band.model,
            "leader": settings.band.leader,
            "key": band.key,
            "density": band.density,
            "register": band.octaves,
            "triggers": pipeline.triggers.mode,
            "zones": [zone.model_dump() for zone in settings.triggers.zones],
        }
        info |= {f"mute_{voice}": voice in band.mutes for voice in VOICES}
    return info


def build_bridges(settings: ShowSettings, clock: Clock, pipeline: Pipeline | PlayingPipeline) -> list[Bridge]:
    """Return the bridges of the show, not yet open.

    Raises:
        UserError: a target cannot be read, or would be sent somebody who is not on the stage.
    """
    create_bridge = _load("bridges.registry", "create_bridge", "install the project again")
    if settings.vmc.targets:
        _check_performer(settings, pipeline)
    if isinstance(pipeline, PlayingPipeline) and pipeline.lead is None and not settings.vmc.performer:
        # Where a band plays without a lead dancer, the one humanoid is who plays it.
        vmc = settings.vmc.model_copy(update={"performer": CAMERA})
        settings = settings.model_copy(update={"vmc": vmc})
    options = _bridge_options(settings, _stage_info(settings, pipeline))
    wanted = [("osc", target) for target in settings.osc.targets]
    wanted += [("vmc", target) for target in settings.vmc.targets]
    wanted += [("midi", target) for target in settings.midi.targets]
    if isinstance(pipeline, PlayingPipeline):
        wanted += [("midi-file", settings.midi.record)] if settings.midi.record else []
        wanted += [("synth", settings.synth.soundfont)] if settings.synth.soundfont else []
    if settings.osc.listen:
        wanted.append(("osc-control", settings.osc.listen))
    host = f"[{settings.web.host}]" if ":" in settings.web.host else settings.web.host
    wanted += [("web", f"{host}:{port}") for port in settings.web.ports]
    return [create_bridge(name, target, clock, options) for name, target in wanted]


def _check_performer(settings: ShowSettings, pipeline: Pipeline | PlayingPipeline) -> None:
    if isinstance(pipeline, PlayingPipeline):
        partner = pipeline.duo is not None and pipeline.duo.partner is not None
        others = [CAMERA, PARTNER] if partner else [CAMERA]
    else:
        others = [str(number + 1) for number in range(settings.crowd.size)]
    wished = settings.vmc.performer
    if wished and wished not in others:
        # Of a crowd, which has numbers, the first and the last will do.
        known = " or ".join(others) if len(others) < 3 else f"a number from {others[0]} to {others[-1]}"
        remedy = f"leave vmc.performer out{', or set it to ' if others else ''}{known}"
        raise UserError(f"nobody on this stage is called '{wished}'", remedy)


def _bridge_options(settings: ShowSettings, stage_info: Mapping[str, object] | None = None) -> Any:
    """Return what the bridges are told of the show."""
    return _load("bridges.registry", "BridgeOptions", "install the project again")(
        smpl=settings.osc.smpl,
        presentation_timetags=settings.osc.presentation_timetags,
        rotation_only=settings.vmc.rotation_only,
        performer=settings.vmc.performer,
        stage_info=stage_info or {},
        allowed_hosts=settings.web.allowed_hosts,
        programs=settings.midi.programs.sent(),
        pulses=settings.midi.clock,
        synth_device=settings.synth.output_device,
        synth_gain_db=settings.synth.gain_db,
    )


def build_tempo_sensor(settings: ShowSettings, clock: Clock) -> Sensor | None:
    """Return the sensor of the program that leads; None where the dancer, the sound or taps do.

    Raises:
        UserError: its library is not installed.
    """
    leader = settings.band.leader
    if leader not in _TEMPO_SENSORS:
        return None
    create = _load(*_TEMPO_SENSORS[leader], "choose another band.leader: dancer, audio or tap")
    sensor: Sensor = create(settings.midi.clock_input, clock) if leader == "midi-clock" else create(clock)
    return sensor


def midi_ports() -> dict[str, list[str]]:
    """Return the names of the MIDI outputs and inputs there are; empty where the system has no MIDI."""
    try:
        ports = importlib.import_module("bridges.midi_ports")
    except ImportError:
        return {"outputs": [], "inputs": []}
    return {"outputs": ports.output_names(), "inputs": ports.input_names()}


def output_timing(settings: ShowSettings) -> Timing:
    """Return how far ahead events leave."""
    return Timing(
        frame_ns=round(NS_PER_S / settings.output.fps),
        latency_ns=round(settings.output.latency_ms * 1e6),
        beat_lead_ns=round(settings.beats.lead_ms * 1e6),
    )


def warm_up(settings: ShowSettings, ticks: int = 100) -> Sequence[str]:
    """Run a throw-away core over synthetic clicks for about `ticks` ticks; return the problems met.

    Imports, allocations and first-call costs of every component are paid here, before the show.
    """
    # The crowd warms up where it is computed, in a process of its own.
    alone = settings.model_copy(update={"crowd": CrowdSettings()})
    return _run_through(build_pipeline(alone), _clicks(ticks / 24.0 + 1.0))


def warm_up_playing(settings: ShowSettings, cast: Cast, ticks: int = 100) -> Sequence[str]:
    """Do what `warm_up` does for a show that a dancer plays: somebody sways before the camera, and there are clicks."""
    seconds = ticks / 24.0 + 1.0
    core = build_playing(settings, cast=cast)
    poses = (idle_pose(2.0 * k / 30.0, 1.0) for k in range(int(30.0 * seconds)))
    times = (k * NS_PER_S // 30 for k in range(int(30.0 * seconds)))
    contacts = np.ones(4, np.float32)
    seen = [
        PoseFrame(time_ns, time_ns, pose.rotations.astype(np.float32), pose.translation_m.astype(np.float32), contacts)
        for time_ns, pose in zip(times, poses, strict=True)
    ]
    beats = [Heartbeat(k * NS_PER_S // 100) for k in range(int(100.0 * seconds))]
    observations: list[Observation] = [*seen, *beats, *_clicks(seconds)]
    return _run_through(core, sorted(observations, key=lambda observation: observation.time_ns))


def _clicks(seconds: float) -> Iterator[AudioBlock]:
    """Yield clicks at 120 bpm."""
    rate, block = 48_000, 4_800
    click = np.zeros((rate // 2, 1), dtype=np.float32)
    click[:480, 0] = np.hanning(480) * np.sin(np.arange(480) * 0.4)
    music = np.tile(click, (int(seconds * 2) + 1, 1))
    for start in range(0, int(seconds * rate), block):
        end = start + block
        yield AudioBlock(start, end * NS_PER_S // rate, music[start:end], rate)


def _run_through(core: Core, observations: Iterable[Observation]) -> list[str]:
    """Return the problems a core met."""
    events = (event for observation in observations for event in core.push(observation))
    failures = (event for event in events if isinstance(event, StatusEvent) and event.level == "error")
    return [f"{event.component}: {event.message}" for event in failures]
