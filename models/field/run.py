"""`pasdedeux train` and `pasdedeux export` of the systems of the field: prepared data in, runs and weights out.

A run's folder is as our own model's (`models.music_to_dance.run`); the test split is never read here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine.errors import UserError
from engine.features import FeatureSpec
from models.data.dataset import PreparedData
from models.field.artifact import FrameManifest
from models.field.export import ExportFacts, export_frames
from models.field.frames import StartPoses
from models.field.lesson import FieldLesson, build_model
from models.field.settings import FieldTrainingSettings
from models.field.windows import FrameClip, WindowSampler, fit_scales, start_poses
from models.learning.finished import FinishedRun
from models.learning.launch import open_fabric
from models.learning.loop import Learning
from models.music_to_dance.dances import DanceData, load_dances
from models.music_to_dance.rollout import RealDance
from models.music_to_dance.unseen_movement import learnt_from, unseen_movement


@dataclass(frozen=True)
class FieldData:
    """What a run learns from: windows and start poses of its training dances, and all dances on ticks."""

    sampler: WindowSampler
    starts: StartPoses
    dances: DanceData

    @staticmethod
    def load(settings: FieldTrainingSettings, prepared: Path) -> FieldData:
        """Read prepared dances. Raises UserError if they cannot be used, or hold nothing to learn from."""
        data = PreparedData.load(prepared)
        if data.feature_digest != FeatureSpec().digest:
            raise UserError(f"{prepared} holds other music features", "run `pasdedeux prepare` again")
        dances = load_dances(data.clips)
        learnt = dances.train if settings.protocol == "A" else unseen_movement(data, dances)
        clips = [FrameClip.of(clip, settings.frame_rate_hz) for clip in learnt]
        if not clips:
            raise UserError(f"{prepared} holds no training dance", "prepare data whose index has that split")
        both = [*clips, *(clip.mirrored() for clip in clips)]
        return FieldData(WindowSampler(both, fit_scales(both), settings.window_frames), start_poses(clips), dances)

    def held_out(self, settings: FieldTrainingSettings) -> WindowSampler | None:
        """Return windows of the validation dances; None if none is long enough."""
        clips = [FrameClip.of(clip, settings.frame_rate_hz) for clip in self.dances.val]
        whole = [clip for clip in clips if len(clip) >= settings.window_frames]
        return WindowSampler(whole, self.sampler.scales, settings.window_frames) if whole else None


def train(
    settings: FieldTrainingSettings, prepared: Path, out: Path, *, resume: bool = False, minutes: float | None = None
) -> Path:
    """Train; return the folder of the run.

    Args:
        settings: of the run.
        prepared: folder made by `pasdedeux prepare`.
        out: folder of the run.
        resume: go on from the checkpoint in `out`.
        minutes: stop after this time (the schedule of the learning rate goes by steps all the same).

    Raises:
        UserError: the data cannot be used, or there is nothing to go on from.
    """
    fabric = open_fabric(settings.device, bfloat16=settings.bfloat16)
    data = FieldData.load(settings, prepared)
    real = RealDance.of(data.dances.train)
    lesson = FieldLesson(data.sampler, data.starts, settings, data.held_out(settings), data.dances.val, real)
    learning = Learning(lesson, settings, fabric)
    if resume:
        learning.resume(out)
    learning.run(out, minutes)
    return out


def export(run: Path, prepared: Path, folder: Path, *, step: int | None = None) -> FrameManifest:
    """Export the weights of a run at a step (the newest if None); see `models.field.export`."""
    finished = FinishedRun.find(run)
    chosen, weights = finished.weights(step)
    settings = FieldTrainingSettings.of(finished.settings, str(run))
    data = FieldData.load(settings, prepared)
    finished.require_same(data.sampler.scales.fitted)
    model = build_model(settings, data.sampler.scales).eval()
    model.load_state_dict(weights)
    facts = ExportFacts(
        settings.name,
        settings.model,
        FeatureSpec().digest,
        settings.protocol,
        chosen,
        finished.hours_until(chosen),
        settings.seed,
        learnt_from(PreparedData.load(prepared), settings.protocol),
    )
    return export_frames(model, data.sampler.scales, data.starts, facts, folder)
