"""Train the music -> dance model: one TOML file in, checkpoints that resume exactly out.

Losses, all on the clean latent the flow head predicts: its error in latent space (rectified flow in its clean-end
form; Liu et al. 2022), and, once the flow is half way, the error of joints, of their velocities, and of the speed of
feet that should stand (forward kinematics of the decoded chunk; cf. EDGE, Tseng et al. 2023, eq. 3 to 5).
"""

from __future__ import annotations

import json
import logging
import math
import time
import tomllib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.errors import UserError
from models.continuity import fit_continuity, fit_going_on
from models.gmd import LATENT_SPREAD, Gmd, GmdConfig, flow_times
from models.gmd_sequences import Batch, SequenceSampler, SequenceSettings
from models.kinematics import place_run
from models.motion_representation import CONTACTS, TICK_SIZE, MotionRepresentation

log = logging.getLogger(__name__)

_REFIT_STEPS = 500
"""The model's errors, by which its chunks are joined, change slowly."""
_SMALLEST_REST = 0.05
"""Flow times beyond 0.95 weigh no more than that one: their error is far below what can be seen."""


@dataclass(frozen=True)
class NetworkSettings:
    """Sizes that a run may choose; see `models.gmd.GmdConfig`."""

    latent_size: int = 128
    width: int = 192
    heads: int = 6
    encoder_layers: int = 2
    decoder_layers: int = 4
    window: int = 48
    flow_width: int = 256
    flow_blocks: int = 3
    flow_steps: int = 4
    dropout: float = 0.1


@dataclass(frozen=True)
class LossSettings:
    """Weights of the losses.

    Attributes:
        joints: on squared joint errors [m^2].
        velocity: on squared errors of the joints' displacement per tick [m^2].
        feet: on the squared displacement per tick [m^2] of contact points that should stand.
        share: share of the chunks on which these three are computed (they cost as much as the network).
    """

    joints: float = 20.0
    velocity: float = 200.0
    feet: float = 400.0
    share: float = 0.25


@dataclass(frozen=True)
class OptimiserSettings:
    """How the weights move.

    Attributes:
        steps: of the whole run; the learning rate falls as a cosine to a twentieth at its end.
        flow_samples: noise levels per chunk and step (the flow head is cheap, the decoder is shared).
        own_history_from: step from which part of the history is the model's own output (never if 0).
        own_history_share: mean share of the chunks then replaced.
        own_history_temperature: of the flow's noise in it, as on the stage.
    """

    steps: int = 6000
    batch: int = 16
    learning_rate: float = 8e-4
    warm_up_steps: int = 200
    weight_decay: float = 0.02
    gradient_clip: float = 1.0
    average_decay: float = 0.998
    flow_samples: int = 2
    own_history_from: int = 0
    own_history_share: float = 0.3
    own_history_temperature: float = 1.3


@dataclass(frozen=True)
class TrainingSettings:
    """A training run as data (`config/training/*.toml`).

    Attributes:
        seed: of everything random.
        bfloat16: matrix products in bfloat16 (weights, norms and losses stay in float32).
        chunk_ticks: C.
    """

    seed: int = 1
    bfloat16: bool = True
    chunk_ticks: int = 4
    network: NetworkSettings = field(default_factory=NetworkSettings)
    sequence: SequenceSettings = field(default_factory=SequenceSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)

    @staticmethod
    def load(path: Path) -> TrainingSettings:
        """Read a TOML file. Raises UserError for a missing file, bad TOML or a name that does not exist."""
        try:
            content = tomllib.loads(path.read_text())
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise UserError(
                f"training settings {path}: {error}", "give a TOML file like config/training/gmd.toml"
            ) from error
        return TrainingSettings.of(content, path.name)

    @staticmethod
    def of(content: dict[str, Any], where: str = "training settings") -> TrainingSettings:
        """Build from nested tables. Raises UserError for a name that does not exist."""
        settings: TrainingSettings = _build(TrainingSettings, content, where)
        return settings


def _build(kind: type[Any], content: dict[str, Any], where: str) -> Any:
    known = {f.name: f for f in fields(kind)}
    values = {}
    for name, value in content.items():
        if name not in known:
            raise UserError(f"{where}: unknown setting '{name}'", f"known here: {', '.join(known)}")
        default = known[name].default_factory if callable(known[name].default_factory) else None
        values[name] = _build(default, value, f"{where} [{name}]") if default and isinstance(value, dict) else value
    return kind(**values)


class Trainer:
    """One training run. Everything that decides the next step is in `save`, so that a resumed run is the same run.

    Args:
        sampler: draws batches.
        settings: of the run.
        music_size: values of music per chunk.
        condition_size: values of the condition vector.
    """

    def __init__(
        self, sampler: SequenceSampler, settings: TrainingSettings, music_size: int, condition_size: int
    ) -> None:
        self.settings, self.sampler = settings, sampler
        torch.manual_seed(settings.seed)
        self.random = np.random.Generator(np.random.PCG64(settings.seed))
        config = GmdConfig(music_size=music_size, condition_size=condition_size, **asdict(settings.network))
        self.model = Gmd(config)
        self.average = Gmd(config).eval()
        fit_going_on(self.model, sampler)
        self.average.load_state_dict(self.model.state_dict())
        decay, plain = [], []
        for parameter in self.model.parameters():
            (decay if parameter.ndim > 1 else plain).append(parameter)
        groups = [
            {"params": decay, "weight_decay": settings.optimiser.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(groups, lr=settings.optimiser.learning_rate, betas=(0.9, 0.98), fused=True)
        self.decoder = LatentDecoder(sampler.representation)
        self.step = 0
        self.seconds = 0.0

    def train_step(self) -> dict[str, float]:
        """Take one optimiser step; return the losses by name."""
        begin = time.perf_counter()
        s = self.settings.optimiser
        batch = self.sampler.batch(self.random, s.batch)
        self.model.train()
        losses = self.losses(batch)
        total = torch.stack(list(losses.values())).sum()
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), s.gradient_clip)
        rate = s.learning_rate * min(1.0, (self.step + 1) / s.warm_up_steps)
        progress = min(1.0, self.step / s.steps)
        rate *= 0.05 + 0.95 * 0.5 * (1.0 + math.cos(math.pi * progress))
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        self.step += 1
        decay = min(s.average_decay, (1.0 + self.step) / (10.0 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1.0 - decay)
        self.seconds += time.perf_counter() - begin
        return {**{name: float(value.detach()) for name, value in losses.items()}, "gradient": float(norm)}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted losses of a batch."""
        s = self.settings
        music, condition, history, target = (
            torch.from_numpy(a) for a in (batch.music, batch.condition, batch.history, batch.target)
        )
        if s.optimiser.own_history_from and self.step >= s.optimiser.own_history_from:
            if (self.step - s.optimiser.own_history_from) % _REFIT_STEPS == 0:
                self.fit_continuity()
            history = self._own_history(music, condition, history)
        samples = s.optimiser.flow_samples
        with torch.autocast("cpu", torch.bfloat16, enabled=s.bfloat16):
            context = self.model(music, condition, history)
            time_, noised = self._noised(target, samples)
            end = self.model.flow(noised, time_, context.expand(samples, *context.shape), history.expand_as(noised))
        end = end.float()
        error = ((end - target) ** 2).mean(-1, keepdim=True)
        # Every flow time weighs the same in units of what the network itself has to say there.
        rest = 1.0 - time_
        weight = (rest**2 + (LATENT_SPREAD * time_) ** 2) / rest.clamp(min=_SMALLEST_REST) ** 2
        losses = {"latent": (weight * error).mean()}

        # The body losses where the flow is far enough for the prediction to be one motion and not a mean of many.
        count = max(1, int(s.loss.share * target.shape[0] * target.shape[1]))
        flat = time_.reshape(-1)
        pick = torch.multinomial((flat > 0.6).float(), count)
        place = pick % (target.shape[0] * target.shape[1])
        real = torch.from_numpy(batch.ticks).reshape(-1, *batch.ticks.shape[2:])[place]
        predicted = torch.cat([real[:, :1], self.decoder(end.reshape(-1, end.shape[-1])[pick])], dim=1)
        joints, feet = place_run(predicted)
        with torch.no_grad():
            real_joints, _ = place_run(real)
        contacts = torch.minimum(real[:, 1:, CONTACTS], real[:, :-1, CONTACTS])
        losses["joints"] = s.loss.joints * ((joints - real_joints) ** 2).sum(-1).mean()
        losses["velocity"] = s.loss.velocity * ((joints - real_joints).diff(dim=1) ** 2).sum(-1).mean()
        losses["feet"] = s.loss.feet * (contacts * (feet.diff(dim=1) ** 2).sum(-1)).mean()
        return losses

    def fit_continuity(self) -> None:
        """Fit how chunks are joined, to both the model and its average."""
        for model in (self.model, self.average):
            fit_continuity(model, self.sampler, self.settings.optimiser.own_history_temperature)

    def _noised(self, target: Tensor, samples: int) -> tuple[Tensor, Tensor]:
        """Return flow times and noised targets; half of the times are those the stage will ask for."""
        shape = (samples, *target.shape[:-1], 1)
        even, steps = torch.rand(shape), self.model.config.flow_steps
        time_ = flow_times(torch.where(torch.rand(shape) < 0.5, (even * steps).floor() / steps, even))
        return time_, time_ * target + (1.0 - time_) * torch.randn(samples, *target.shape)

    @torch.no_grad()
    def _own_history(self, music: Tensor, condition: Tensor, history: Tensor) -> Tensor:
        """Replace part of the history by what the model itself would have danced there (auto-conditioning)."""
        share = self.settings.optimiser.own_history_share
        with torch.autocast("cpu", torch.bfloat16, enabled=self.settings.bfloat16):
            context = self.model(music, condition, history)
            own = self.model.sample(
                context, history, self.settings.optimiser.own_history_temperature * torch.randn_like(history)
            ).float()
        own = torch.cat([history[:, :1], own[:, :-1]], dim=1)
        # Another share for each sequence: from real dance to dance that is all the model's own.
        return torch.where(
            torch.rand(*history.shape[:2], 1) < 2.0 * share * torch.rand(len(history), 1, 1), own, history
        )

    def save(self, folder: Path) -> None:
        """Write `training.safetensors` and `training.json` into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors: dict[str, Tensor] = {"torch_random": torch.get_rng_state()}
        for prefix, module in (("model", self.model), ("average", self.average)):
            tensors |= {f"{prefix}.{name}": value for name, value in module.state_dict().items()}
        for index, parameter in enumerate(self._parameters()):
            for name, value in self.optimiser.state.get(parameter, {}).items():
                tensors[f"optimiser.{index}.{name}"] = torch.as_tensor(value)
        save_file(
            {name: value.contiguous().clone() for name, value in tensors.items()}, folder / "training.safetensors"
        )
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "random": self.random.bit_generator.state,
            "settings": asdict(self.settings),
        }
        (folder / "training.json").write_text(json.dumps(state, indent=1))

    def resume(self, folder: Path) -> None:
        """Continue from `save`. Raises UserError if there is none or it was made with another network."""
        try:
            tensors = load_file(folder / "training.safetensors")
            state = json.loads((folder / "training.json").read_text())
            for prefix, module in (("model", self.model), ("average", self.average)):
                mine = {n.removeprefix(prefix + "."): v for n, v in tensors.items() if n.startswith(prefix + ".")}
                module.load_state_dict(mine)
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(
                f"checkpoint {folder}: {error}", "start a new run, or give the settings it began with"
            ) from error
        for index, parameter in enumerate(self._parameters()):
            prefix = f"optimiser.{index}."
            mine = {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}
            if mine:
                self.optimiser.state[parameter] = mine
        torch.set_rng_state(tensors["torch_random"])
        self.random.bit_generator.state = state["random"]
        self.step, self.seconds = state["step"], state["seconds"]

    def _parameters(self) -> list[torch.nn.Parameter]:
        return [p for group in self.optimiser.param_groups for p in group["params"]]


class LatentDecoder:
    """`MotionRepresentation.decode` in torch, differentiable."""

    def __init__(self, representation: MotionRepresentation) -> None:
        self._mean = torch.from_numpy(representation.mean)
        self._decoder = torch.from_numpy(representation.decoder)

    def __call__(self, latents: Tensor) -> Tensor:
        """Return tick vectors (n, C, 152) of latents (n, L)."""
        return (latents @ self._decoder + self._mean).unflatten(-1, (-1, TICK_SIZE))
