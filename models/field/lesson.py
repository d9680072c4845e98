"""How a system of the field is learned: its batches, and what is measured on the validation songs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from engine.types import TICKS_PER_BEAT
from models.field.frame_model import FrameBatch, FrameModel, FrameSizes
from models.field.frames import POSE_SIZE, Floats, FrameScales, StartPoses, roll_out
from models.field.registry import entry
from models.field.settings import FieldTrainingSettings
from models.field.song_frames import SongFrames
from models.field.windows import WindowSampler
from models.learning.randomness import sequence_random
from models.music_to_dance.conditioning import STYLES
from models.music_to_dance.rollout import RATE_HZ, RealDance, ShownMotion, show
from models.music_to_dance.sequences import DanceClip
from models.rivals.song import Song

log = logging.getLogger(__name__)

_DANCE_S = 60.0
_VALIDATION_BATCHES, _VALIDATION_BATCH = 4, 16
_VALIDATION_DRAWS = 1 << 31
"""Beyond any step: validation draws the same windows and noise each time, and no training step draws them."""


@dataclass
class FieldBatch:
    """What the objective takes: windows, and the epoch of the training."""

    windows: FrameBatch
    epoch: float


class FieldObjective(nn.Module):
    """A system's losses, as `models.learning.loop.Learning` calls them."""

    def __init__(self, model: FrameModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: FieldBatch) -> dict[str, Tensor]:
        """Return the weighted losses by name."""
        return self.model.losses(batch.windows, batch.epoch)


class FieldLesson:
    """See `models.learning.loop.Lesson`.

    Args:
        sampler: of the training dances.
        starts: of the training dances.
        settings: of the run.
        held_out: of the validation dances; None: no validation loss.
        songs: dances to whose music the system dances at each evaluation.
        real: what those dances are compared with.
    """

    def __init__(
        self,
        sampler: WindowSampler,
        starts: StartPoses,
        settings: FieldTrainingSettings,
        held_out: WindowSampler | None = None,
        songs: Sequence[DanceClip] = (),
        real: RealDance | None = None,
    ) -> None:
        self.sampler, self.starts, self.settings, self._held_out, self._real = sampler, starts, settings, held_out, real
        self._songs = [Song.of(clip, _DANCE_S) for clip in songs if clip.music is not None]
        torch.manual_seed(settings.seed)
        self.model = build_model(settings, sampler.scales)
        self.objective = FieldObjective(self.model)

    @property
    def fitted(self) -> dict[str, NDArray[np.float32]]:
        """Return what was fitted to the training data; see `models.learning.loop.Lesson`."""
        return self.sampler.scales.fitted

    def batch(self, step: int, places: Sequence[int], device: torch.device) -> FieldBatch:
        """Draw the windows at some places of a step's global batch."""
        windows = self._draw(self.sampler, step, places)
        return FieldBatch(windows.to(device), step / self.settings.epoch_steps)

    def before(self, step: int) -> None:
        """Do nothing: a system of the field has no constants to refit."""

    @torch.no_grad()
    def evaluate(self, average: nn.Module, step: int, folder: Path) -> dict[str, float]:
        """Measure the losses, and a minute of dance to each validation song; write the weights."""
        assert isinstance(average, FrameModel)
        # The running average is of parameters only; what else a network keeps is as it is now.
        for name, buffer in average.named_buffers():
            buffer.copy_(self.model.get_buffer(name))
        save_file(
            {name: value.cpu().contiguous() for name, value in average.state_dict().items()},
            folder / f"average-{step}.safetensors",
        )
        figures: dict[str, float] = {}
        if self._held_out is not None:
            losses = self._validation_losses(average, step / self.settings.epoch_steps)
            figures |= {f"val_{name}": value for name, value in losses.items()}
            figures["val_loss"] = sum(losses.values())
        if self._songs and self._real is not None:
            motions = self._minutes(average)
            found = self._real.judge(motions)
            log.info("step %d: %s", step, found)
            figures |= asdict(found)
            if self.settings.run.sheets:
                from models.motion.sheets import contact_sheet  # matplotlib is slow to import and not needed otherwise

                joints, song = motions[0].joints, self._songs[0].name
                picture = folder / "sheets" / f"step-{step:06d}.png"
                contact_sheet(joints, picture, np.arange(len(joints)) / RATE_HZ, title=f"step {step}: {song}")
        return figures

    def _validation_losses(self, model: FrameModel, epoch: float) -> dict[str, float]:
        assert self._held_out is not None
        device = next(model.parameters()).device
        rows = []
        for draw in range(_VALIDATION_BATCHES):
            windows = self._draw(self._held_out, _VALIDATION_DRAWS + draw, range(_VALIDATION_BATCH)).to(device)
            rows.append({name: float(value) for name, value in model.losses(windows, epoch).items()})
        return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}

    def _draw(self, sampler: WindowSampler, step: int, places: Sequence[int]) -> FrameBatch:
        randoms = [sequence_random(self.settings.seed, step, place) for place in places]
        return sampler.draw(randoms, self.model.noise_size)

    def _minutes(self, model: FrameModel) -> list[ShownMotion]:
        """Return a minute of dance to each song, as it is seen."""
        rate, scales, look = self.settings.frame_rate_hz, self.sampler.scales, model.lookahead_frames
        heard = [SongFrames.of(song, rate, look) for song in self._songs]
        length = min(len(frames.beat) for frames in heard)
        music = np.stack([scales.music(frames.features, frames.beat)[:length] for frames in heard])
        randoms = [np.random.Generator(np.random.PCG64(number)) for number in range(len(heard))]
        start = scales.pose(np.stack([self.starts.draw(r, s.style) for r, s in zip(randoms, self._songs, strict=True)]))
        noise = np.stack([r.standard_normal((length, model.noise_size), np.float32) for r in randoms])
        poses = roll_out(TorchDancing(model, len(heard)), music, start, noise, look)
        frames_bpm = rate * 60.0 / TICKS_PER_BEAT
        shown = [show(scales.ticks(rows), frames_bpm) for rows in poses]
        return [replace(motion, beats_s=song.beats_s) for motion, song in zip(shown, self._songs, strict=True)]


class TorchDancing:
    """A `models.field.frames.Dancing` of a network in torch.

    Args:
        model: in its evaluation mode.
        dancers: B.
    """

    def __init__(self, model: FrameModel, dancers: int) -> None:
        self._model, self._state = model, model.start(dancers)
        self._device = next(model.parameters()).device

    @torch.no_grad()
    def __call__(self, music: Floats, pose: Floats, noise: Floats) -> Floats:
        """Return the next poses (B, 152)."""
        given = [torch.from_numpy(np.ascontiguousarray(part)).to(self._device) for part in (music, pose, noise)]
        found, *state = self._model.step(*given, *self._state)
        self._state = tuple(state)
        return found.float().cpu().numpy()


def build_model(settings: FieldTrainingSettings, scales: FrameScales) -> FrameModel:
    """Return the untrained network of a run."""
    sizes = FrameSizes(scales.music_size, POSE_SIZE, len(STYLES) + 1, settings.frame_rate_hz)
    model = entry(settings.model).model_class()(sizes, settings.network)
    assert isinstance(model, FrameModel)
    return model
