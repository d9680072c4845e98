"""The composition root: builds a show from its settings. The only place that knows models and bridges, by name."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine.beats import create_tracker
from engine.clock import Clock
from engine.errors import UserError
from engine.features import FeatureExtractor
from engine.idle_generator import IdleGenerator
from engine.metrics import Metrics
from engine.pipeline import Pipeline
from engine.protocols import BeatTracker, Bridge, Generator
from engine.scheduler import Timing
from engine.settings import ShowSettings
from engine.types import NS_PER_S, AudioBlock, StatusEvent

# Where each name lives; loaded only when a show asks for it, so that the engine runs without what it does not use.
_NEURAL_TRACKER = ("models.beat_activation", "create_tracker")
_GENERATOR = ("models.onnx_generator", "OnnxGenerator")
_SHIPPED_MODELS = Path(__file__).parents[1] / "models" / "weights"


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


def build_generator(settings: ShowSettings, extractor: FeatureExtractor) -> Generator:
    """Return the model of the show, checked against the features it will hear.

    Raises:
        UserError: it cannot be loaded, or was trained on other features.
    """
    name = settings.dancer.model
    if name == "idle":
        return IdleGenerator()
    folder = Path(name) if Path(name).is_dir() else _SHIPPED_MODELS / name
    if not folder.is_dir():
        raise UserError(f"no model '{name}'", "give gmd, idle, or the folder of an exported model")
    generator: Generator = _load(*_GENERATOR, "install the project again, or set dancer.model to idle")(folder)
    trained, present = generator.info.feature_spec, extractor.spec.digest
    if trained != present:
        raise UserError(
            f"model {generator.info.name} was trained on features {trained}, this engine extracts {present}",
            "use the weights of this version, or train and export the model again",
        )
    return generator


def build_pipeline(settings: ShowSettings, metrics: Metrics | None = None) -> Pipeline:
    """Return a fresh core. Raises `UserError` if something it needs cannot be loaded or does not fit."""
    extractor = FeatureExtractor()
    pipeline = Pipeline(settings, build_tracker(settings), build_generator(settings, extractor), extractor, metrics)
    try:
        pipeline.dancer.set_style(settings.dancer.style)
        for name, scene in settings.scenes.items():
            if scene.style is not None and scene.style not in pipeline.dancer.styles:
                raise ValueError(f"scene '{name}': unknown style '{scene.style}'")
    except ValueError as error:
        raise UserError(str(error), f"this model knows: {', '.join(pipeline.dancer.styles)}") from error
    return pipeline


def build_bridges(settings: ShowSettings, clock: Clock, pipeline: Pipeline) -> list[Bridge]:
    """Return the bridges of the show, not yet open. Raises `UserError` for a target that cannot be read."""
    create_bridge = _load("bridges.registry", "create_bridge", "install the project again")
    options_type = _load("bridges.registry", "BridgeOptions", "install the project again")
    dancer = pipeline.dancer
    options = options_type(
        smpl=settings.osc.smpl,
        presentation_timetags=settings.osc.presentation_timetags,
        rotation_only=settings.vmc.rotation_only,
        stage_info={
            "styles": list(dancer.styles),
            "style": dancer.style,
            "energy": dancer.energy,
            "mirror": dancer.mirror,
            "model": settings.dancer.model,
            "fps": settings.output.fps,
            "scenes": list(settings.scenes),
        },
        allowed_hosts=settings.web.allowed_hosts,
    )
    wanted = [("osc", target) for target in settings.osc.targets]
    wanted += [("vmc", target) for target in settings.vmc.targets]
    if settings.osc.listen:
        wanted.append(("osc-control", settings.osc.listen))
    host = f"[{settings.web.host}]" if ":" in settings.web.host else settings.web.host
    wanted += [("web", f"{host}:{port}") for port in settings.web.ports]
    return [create_bridge(name, target, clock, options) for name, target in wanted]


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
    pipeline = build_pipeline(settings)
    rate, block = 48_000, 4_800
    problems: list[str] = []
    seconds = ticks / 24.0 + 1.0
    click = np.zeros((rate // 2, 1), dtype=np.float32)
    click[:480, 0] = np.hanning(480) * np.sin(np.arange(480) * 0.4)
    music = np.tile(click, (int(seconds * 2) + 1, 1))
    for start in range(0, int(seconds * rate), block):
        end = start + block
        events = pipeline.push(AudioBlock(start, end * NS_PER_S // rate, music[start:end], rate))
        failures = (event for event in events if isinstance(event, StatusEvent) and event.level == "error")
        problems += [f"{event.component}: {event.message}" for event in failures]
    return problems
