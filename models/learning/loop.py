"""The loop that every network learns in: draw, step, average, curve, checkpoint, evaluate, stop.

What is learned is a `Lesson`; where it runs is Lightning Fabric's business (one CPU, one GPU, or the processes of
`torchrun`, which share the same global batch). The same settings and seed give the same curve, to the bit on one CPU
thread, however often the run is interrupted; more processes change it by the rounding of their sums.
"""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from engine.errors import UserError
from models.learning import checkpoint
from models.learning.checkpoint import Progress
from models.learning.curves import Curves
from models.learning.fitted import Fitted
from models.learning.launch import my_places
from models.learning.randomness import seed_torch
from models.learning.settings import OptimiserSettings, RunSettings

log = logging.getLogger(__name__)

_BETAS = (0.9, 0.98)
"""A shorter memory of squares than usual: transformers' gradients change fast early on."""
_LOG_EVERY_POINTS = 10


class LessonSettings(Protocol):
    """What the loop must know of a run's settings (a dataclass)."""

    @property
    def seed(self) -> int:
        """Of everything random."""
        ...

    @property
    def optimiser(self) -> OptimiserSettings:
        """How the weights move."""
        ...

    @property
    def run(self) -> RunSettings:
        """What is done beside."""
        ...


class Lesson(Protocol):
    """What is learned."""

    @property
    def model(self) -> nn.Module:
        """The networks, whose weights are averaged and saved."""
        ...

    @property
    def objective(self) -> nn.Module:
        """A module over `model` whose `forward(batch)` returns the weighted losses by name."""
        ...

    @property
    def fitted(self) -> Fitted:
        """What the training data gave beside the weights: those of other data do not go with it."""
        ...

    def batch(self, step: int, places: Sequence[int], device: torch.device) -> Any:
        """Return the sequences at some places of a step's global batch, as `objective` takes them."""
        ...

    def before(self, step: int) -> None:
        """Do what is due before a step is taken (refits of constants, terms that begin)."""
        ...

    def evaluate(self, average: nn.Module, step: int, folder: Path) -> Mapping[str, float]:
        """Measure the averaged model on the validation split; may write weights and pictures into `folder`."""
        ...


class Learning:
    """One run of a lesson.

    Args:
        lesson: what is learned.
        settings: of the run.
        fabric: launched.
    """

    def __init__(self, lesson: Lesson, settings: LessonSettings, fabric: Fabric) -> None:
        self.lesson, self.settings, self.fabric = lesson, settings, fabric
        self.progress = Progress()
        self._places = my_places(fabric, settings.optimiser.batch)
        self._optimiser = torch.optim.AdamW(
            list(_groups(lesson.model, settings.optimiser.weight_decay)),
            lr=settings.optimiser.learning_rate,
            betas=_BETAS,
            fused=True,
        )
        self._objective, self._stepper = fabric.setup(lesson.objective, self._optimiser)
        self.average = copy.deepcopy(lesson.model).eval()
        for parameter in self.average.parameters():
            parameter.requires_grad_(False)

    @property
    def step(self) -> int:
        """Optimiser steps taken."""
        return self.progress.step

    def take_step(self) -> dict[str, float]:
        """Take one optimiser step; return the losses, the gradient's norm and the learning rate by name.

        Raises UserError if the loss is not finite any more.
        """
        begin = time.perf_counter()
        s, step = self.settings.optimiser, self.progress.step
        seed_torch(self.settings.seed, step, self.fabric.global_rank)
        self.lesson.before(step)
        batch = self.lesson.batch(step, self._places, self.fabric.device)
        self.lesson.objective.train()
        losses: dict[str, Tensor] = self._objective(batch)
        self._stepper.zero_grad(set_to_none=True)
        self.fabric.backward(torch.stack(list(losses.values())).sum())
        norm = torch.nn.utils.clip_grad_norm_(self.lesson.model.parameters(), s.gradient_clip)
        rate = learning_rate(s, step)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        values = torch.stack([value.detach().float() for value in losses.values()])
        if self.fabric.world_size > 1:
            values = self._reduced(values, "mean")
        if not (bool(values.isfinite().all()) and math.isfinite(float(norm))):
            raise UserError(f"step {step}: the loss is not finite", "resume with a lower learning_rate")
        self._stepper.step()
        self.progress.step += 1
        decay = min(s.average_decay, (1.0 + self.progress.step) / (10.0 + self.progress.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.lesson.model.parameters()), 1.0 - decay)
        self.progress.seconds += time.perf_counter() - begin
        return {**dict(zip(losses, values.tolist(), strict=True)), "gradient": float(norm), "rate": rate}

    def run(self, folder: Path, minutes: float | None = None) -> None:
        """Learn until the steps are done, nothing gets better, or the time is over.

        Args:
            folder: of the run.
            minutes: stop after this time, with a checkpoint and an evaluation that does not count for the patience.
        """
        began = saved = time.monotonic()
        s, p = self.settings.run, self.progress
        with Curves(folder, p.step, self.fabric.is_global_zero) as curves:
            while p.step < self.settings.optimiser.steps:
                self._point(self.take_step(), curves)
                now = time.monotonic()
                over = self._any(minutes is not None and now - began > 60.0 * minutes)
                due = p.step % s.evaluate_every_steps == 0 or p.step == self.settings.optimiser.steps
                if due or over:
                    self._evaluate(folder, curves, counts=due)
                if due or over or now - saved > s.checkpoint_every_s:
                    self.save(folder)
                    saved = time.monotonic()
                if over or (s.patience and p.stale >= s.patience):
                    break

    def save(self, folder: Path) -> None:
        """Write the checkpoint (the first process does)."""
        if self.fabric.is_global_zero:
            lesson = self.lesson
            checkpoint.save(
                folder, lesson.model, self.average, self._optimiser, self.progress, self.settings, lesson.fitted
            )

    def resume(self, folder: Path) -> None:
        """Go on from the checkpoint in `folder`. Raises UserError if there is none that fits."""
        lesson = self.lesson
        self.progress = checkpoint.resume(
            folder, lesson.model, self.average, self._optimiser, self.settings, lesson.fitted
        )

    def _point(self, values: Mapping[str, float], curves: Curves) -> None:
        p, every = self.progress, self.settings.run.curve_every_steps
        for name, value in values.items():
            p.sums[name] = p.sums.get(name, 0.0) + value
            p.counts[name] = p.counts.get(name, 0) + 1
        if p.step % every == 0:
            means = {name: total / p.counts[name] for name, total in p.sums.items()}
            curves.point(p.step, means)
            if p.step % (every * _LOG_EVERY_POINTS) == 0 and self.fabric.is_global_zero:
                shown = {name: float(f"{value:.4g}") for name, value in means.items()}
                log.info("step %d, %.0f s: %s", p.step, p.seconds, shown)
            p.sums, p.counts = {}, {}

    def _evaluate(self, folder: Path, curves: Curves, *, counts: bool) -> None:
        p, s = self.progress, self.settings.run
        if self.fabric.is_global_zero:
            folder.mkdir(parents=True, exist_ok=True)
            figures = dict(self.lesson.evaluate(self.average, p.step, folder))
            curves.evaluation(p.step, p.seconds, figures)
            for picture in sorted(folder.rglob(f"step-{p.step:06d}.png")):
                curves.picture(p.step, picture)
            log.info("step %d: %s", p.step, {name: float(f"{value:.4g}") for name, value in figures.items()})
            if counts and figures:
                if s.watch not in figures:
                    raise UserError(f"[run] watch: no figure '{s.watch}'", f"there are: {', '.join(sorted(figures))}")
                if p.best is None or figures[s.watch] < p.best:
                    p.best, p.best_step, p.stale = figures[s.watch], p.step, 0
                else:
                    p.stale += 1
        if self.fabric.world_size > 1:
            p.best, p.best_step, p.stale = self.fabric.broadcast((p.best, p.best_step, p.stale))

    def _any(self, mine: bool) -> bool:
        """Return whether any process says so."""
        if self.fabric.world_size == 1:
            return mine
        return bool(self._reduced(torch.tensor(float(mine)), "sum") > 0)

    def _reduced(self, values: Tensor, how: str) -> Tensor:
        total = self.fabric.all_reduce(values, reduce_op=how)
        assert isinstance(total, Tensor)
        return total


def learning_rate(settings: OptimiserSettings, step: int) -> float:
    """Return the learning rate of a step: up in a line, down in a cosine to a twentieth."""
    progress = min(1.0, step / settings.steps)
    rise = min(1.0, (step + 1) / settings.warm_up_steps) if settings.warm_up_steps else 1.0
    return settings.learning_rate * rise * (0.05 + 0.95 * 0.5 * (1.0 + math.cos(math.pi * progress)))


def _groups(model: nn.Module, weight_decay: float) -> Iterator[dict[str, Any]]:
    """Yield the parameter groups: matrices decay, vectors do not."""
    learned = [p for p in model.parameters() if p.requires_grad]
    yield {"params": [p for p in learned if p.ndim > 1], "weight_decay": weight_decay}
    yield {"params": [p for p in learned if p.ndim <= 1], "weight_decay": 0.0}
