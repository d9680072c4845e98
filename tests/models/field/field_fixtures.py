"""A small prepared folder and what is learnt from it, for the tests of the systems of the field."""

from __future__ import annotations

from pathlib import Path

from engine.features import FeatureSpec
from models.field.audio_to_body import AudioToBodySettings
from models.field.export import ExportFacts, export_frames
from models.field.frame_model import FrameModel
from models.field.run import FieldData
from models.field.settings import FieldTrainingSettings
from models.learning.settings import OptimiserSettings, RunSettings

TINY = FieldTrainingSettings(
    model="audio_to_body",
    name="audio_to_body",
    window_frames=20,
    network=AudioToBodySettings(width=24),
    optimiser=OptimiserSettings(steps=60, batch=4, learning_rate=5e-3, warm_up_steps=3, weight_decay=0.0),
    run=RunSettings(watch="val_loss", evaluate_every_steps=60, sheets=False),
)
"""Of a run that takes a second."""


def facts(name: str = "audio_to_body", model: str = "audio_to_body", seed: int = 1, protocol: str = "A") -> ExportFacts:
    """Return what a manifest says beside the network."""
    return ExportFacts(name, model, FeatureSpec().digest, protocol, 3, 0.1, seed, "synthetic")


def exported(data: FieldData, folder: Path, model: FrameModel, seed: int = 1) -> Path:
    """Export a network that was not trained."""
    export_frames(model.eval(), data.sampler.scales, data.starts, facts(seed=seed), folder)
    return folder
