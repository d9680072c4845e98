"""Learning to transcribe: a folder of rendered bands with their truth, and the network trained on it.

    python -m models.symbolic.transcription_training --midi DIR --font A.sf2 --font B.sf2 --work DIR

About 600 bands of half a minute and 1,500 steps: three quarters of an hour on one core.
"""

from __future__ import annotations

import argparse
import json
import logging
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from engine.whole_files import whole_file
from models.rendering.synth import SoundFont
from models.symbolic.corpora import load_corpora
from models.symbolic.pitch_activations import PITCHES, RATE_HZ, PitchNetwork
from models.symbolic.step_features import MEL_BANDS, SLOTS
from models.symbolic.step_grid import HOLD, STEPS_PER_BEAT
from models.symbolic.transcribe import chances_of
from models.symbolic.transcription_corpus import Mix, Sources, chord_labels, hear, make_mix
from models.symbolic.transcription_decoding import CHORDS, STATE_BEGIN, STATE_HOLD, STATE_REST, Decoding
from models.symbolic.transcription_network import (
    BASS_PITCHES,
    LEAD_PITCHES,
    WEIGHTS,
    Heard,
    TranscriptionNetwork,
)
from models.symbolic.transcription_tuning import tune

logger = logging.getLogger(__name__)

_CROP_STEPS, _BATCH = 128, 24
_SILENT = 0.04  # of the crops: so that silence is known for what it is
_SHIFT = 4  # semitones by which what is heard and what is told are moved together
_GHOST = 0.3  # velocity up to which a stroke can hardly be heard in a band
_LOWEST_LEARNING = 0.02  # of the peak rate, at the end


@dataclass(frozen=True, slots=True)
class Example:
    """A rendered band: features (S, F) and, as in `StepGrid`, the truth; `labels` (S,) is the chord in force."""

    features: NDArray[np.float16]
    drums: NDArray[np.float32]
    bass: NDArray[np.int16]
    chord: NDArray[np.int16]
    lead: NDArray[np.int16]
    velocity: NDArray[np.float32]
    labels: NDArray[np.int16]
    downbeats: NDArray[np.bool_]

    @staticmethod
    def of(mix: Mix, network: PitchNetwork) -> Example:
        """Listen to a mix."""
        grid = mix.grid
        velocity = np.stack([grid.bass_velocity, grid.chord_velocity, grid.lead_velocity], axis=1)
        return Example(
            hear(mix, network).astype(np.float16),
            grid.drums,
            grid.bass,
            grid.chord,
            grid.lead,
            velocity,
            chord_labels(grid),
            grid.bar_positions() == 0,
        )

    def save(self, path: Path) -> None:
        """Write an .npz; the name appears only when the file is whole."""
        with whole_file(path) as partial:
            np.savez_compressed(partial, **{f.name: getattr(self, f.name) for f in fields(self)})

    @staticmethod
    def load(path: Path) -> Example:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as archive:
            return Example(**{f.name: archive[f.name] for f in fields(Example)})


def sources(midi: Path, split: str, fonts: Sequence[Path], cache: Path | None = None) -> Sources:
    """Collect the songs and drummers of a split and open soundfonts."""
    grids = list(load_corpora(midi, split, cache, ("pop909", "groove")))
    songs = [g for g in grids if g.source == "pop909" and g.steps >= 8 * g.steps_per_bar]
    drums = [g for g in grids if g.source == "groove" and "_beat_" in g.name and g.beats_per_bar in (3, 4)]
    opened = [SoundFont(font, RATE_HZ) for font in fonts]
    return Sources(midi / "pop909.zip", songs, midi / "groove.zip", drums, opened)


def make_examples(found: Sources, folder: Path, count: int, seed: int) -> list[Path]:
    """Render and hear `count` bands into a folder; those that are there are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    network = PitchNetwork()
    paths = []
    for number in range(count):
        path = folder / f"{number:04d}.npz"
        if not path.is_file():
            Example.of(make_mix(found, np.random.default_rng([number, seed])), network).save(path)
            logger.info("%s", path)
        paths.append(path)
    return paths


def load_examples(folder: Path) -> list[Example]:
    """Read every example of a folder; a damaged one is logged and left out."""
    found = []
    for path in sorted(folder.glob("[0-9]*.npz")):
        try:
            found.append(Example.load(path))
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            logger.warning("left out %s: %s", path.name, error)
    return found


def train(
    examples: Sequence[Example],
    steps: int,
    seed: int = 0,
    rate: float = 2e-3,
    network: TranscriptionNetwork | None = None,
) -> TranscriptionNetwork:
    """Train a network, a new one or further; every hundredth step the loss is logged."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = (network or TranscriptionNetwork()).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, steps))
    long_enough = [example for example in examples if len(example.bass) >= _CROP_STEPS]
    recent = []
    for step, (heard_of, truth) in zip(range(steps), _batches(long_enough, rng), strict=False):
        loss = sum(losses(network(heard_of), truth).values())
        assert isinstance(loss, Tensor)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        recent.append(float(loss.detach()))
        if step % 100 == 99:
            logger.info("step %d loss %.3f", step + 1, np.mean(recent[-100:]))
    return network.eval()


def _rate(step: int, steps: int) -> float:
    """Warm up over 50 steps, then fall along a cosine."""
    fall = 0.5 * (1.0 + np.cos(np.pi * step / steps))
    return float(min((step + 1) / 50.0, 1.0) * (_LOWEST_LEARNING + (1.0 - _LOWEST_LEARNING) * fall))


Truth = dict[str, Tensor]


def _batches(examples: Sequence[Example], rng: np.random.Generator) -> Iterator[tuple[Tensor, Truth]]:
    """Yield features (B, S, F) and their truth, without end."""
    while True:
        crops, truths = [], []
        for number in rng.integers(len(examples), size=_BATCH).tolist():
            example = examples[number]
            start = int(rng.integers(len(example.bass) - _CROP_STEPS + 1))
            part = slice(start, start + _CROP_STEPS)
            shift = int(rng.integers(-_SHIFT, _SHIFT + 1))
            heard = _disturbed(example.features[part].astype(np.float32), shift, rng)
            truth_of = targets(example, part, shift)
            if rng.random() < _SILENT:
                heard, truth_of = np.zeros_like(heard), _nothing(truth_of)
            crops.append(heard)
            truths.append(truth_of)
        truth = {name: torch.from_numpy(np.stack([t[name] for t in truths])) for name in truths[0]}
        yield torch.from_numpy(np.stack(crops)), truth


def _disturbed(features: NDArray[np.float32], shift: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return features (S, F) moved by semitones, with another tone and strength."""
    keys = features[:, : 3 * PITCHES].reshape(-1, 3, PITCHES)
    keys = np.roll(keys, shift, axis=2)  # what is rolled round the ends is silent: nobody plays there
    keys = np.clip(keys, 0.0, 1.0) ** rng.uniform(0.75, 1.35)
    bands = features[:, 3 * PITCHES :].reshape(len(features), SLOTS, MEL_BANDS)
    tone = np.interp(np.arange(bands.shape[2]), np.linspace(0, bands.shape[2], 5), rng.normal(0.0, 0.06, 5))
    sounding = np.minimum(bands * 10.0, 1.0)  # silence stays silent
    bands = bands + sounding * (tone + rng.normal(0.0, 0.05))
    return np.concatenate([keys.reshape(len(features), -1), bands.reshape(len(features), -1)], axis=1).astype(
        np.float32
    )


def targets(example: Example, part: slice, shift: int = 0) -> dict[str, NDArray[np.generic]]:
    """Return what the network should say about some steps, moved by semitones; -100 where nothing is asked."""
    labels = example.labels[part].astype(np.int64)
    out: dict[str, NDArray[np.generic]] = {
        "drums": (example.drums[part] > 0.0).astype(np.float32),
        "drum_velocity": example.drums[part].astype(np.float32),
        "chord": np.where(labels >= 0, (labels + 8 * shift) % 96, CHORDS - 1),
        "chord_begins": (example.chord[part] >= 0).astype(np.float32)[:, None],
        "velocity": example.velocity[part].astype(np.float32),
        "downbeat": example.downbeats[part].astype(np.float32)[:, None],
    }
    for name, pitches in (("bass", BASS_PITCHES), ("lead", LEAD_PITCHES)):
        whole: NDArray[np.int16] = getattr(example, name)
        values = whole[part]
        out[f"{name}_state"] = np.where(values >= 0, STATE_BEGIN, np.where(values == HOLD, STATE_HOLD, STATE_REST))
        begun = np.maximum.accumulate(np.where(whole >= 0, np.arange(len(whole)), 0))
        sounding = np.where(whole == HOLD, whole[begun], whole)[part].astype(np.int64)
        index = sounding + shift - pitches[0]
        inside = (sounding >= 0) & (index >= 0) & (index < len(pitches))
        out[f"{name}_pitch"] = np.where(inside, index, -100)
    return out


def _nothing(truth: dict[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
    """Return what to say about silence."""
    out: dict[str, NDArray[np.generic]] = {name: np.zeros_like(value) for name, value in truth.items()}
    out["chord"] = np.full_like(truth["chord"], CHORDS - 1)
    for name in ("bass_pitch", "lead_pitch"):
        out[name] = np.full_like(truth[name], -100)
    return out


def losses(heard: Heard, truth: Truth) -> dict[str, Tensor]:
    """Return each part's loss, weighted; bars are asked about on beats only."""
    # Ghost notes are neither asked for nor held against it: who learns them hears strokes everywhere.
    asked = ((truth["drum_velocity"] == 0.0) | (truth["drum_velocity"] > _GHOST)).float()
    out = {
        "drums": 4.0 * functional.binary_cross_entropy_with_logits(heard.drums, truth["drums"], asked),
        "chord_begins": functional.binary_cross_entropy_with_logits(heard.chord_begins, truth["chord_begins"]),
        "downbeat": functional.binary_cross_entropy_with_logits(heard.downbeat, truth["downbeat"]),
        "chord": functional.cross_entropy(heard.chord.flatten(0, 1), truth["chord"].flatten()),
    }
    for name in ("bass", "lead"):
        for part, weight in (("state", 1.0), ("pitch", 0.5)):
            logits: Tensor = getattr(heard, f"{name}_{part}")
            out[f"{name}_{part}"] = weight * functional.cross_entropy(
                logits.flatten(0, 1), truth[f"{name}_{part}"].flatten(), ignore_index=-100
            )
    for name in ("drum_velocity", "velocity"):
        struck = truth[name] > 0.0
        error = (torch.sigmoid(getattr(heard, name)) - truth[name]) ** 2
        out[name] = (error * struck).sum() / struck.sum().clamp(min=1)
    return out


def main() -> None:
    """Make the examples that are missing, train, write weights and losses."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--midi", type=Path, required=True)
    parser.add_argument("--font", type=Path, action="append", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--examples", type=int, default=600)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    cache = options.work / "corpora"
    for split, count, seed in (("train", options.examples, 0), ("val", max(2, options.examples // 30), 1)):
        found = sources(options.midi, split, options.font, cache)
        make_examples(found, options.work / split, count, seed)
    network = train(load_examples(options.work / "train"), options.steps)
    held_out = load_examples(options.work / "val")
    network.save(options.out, choose_decoding(network, held_out))
    logger.info("%s", json.dumps(validate(network, held_out)))


def choose_decoding(network: TranscriptionNetwork, examples: Sequence[Example]) -> Decoding:
    """Return the thresholds that suit a network, by validation examples."""
    heard = [chances_of(network, example.features) for example in examples]
    return tune(heard, [{f.name: getattr(example, f.name) for f in fields(Example)} for example in examples])


def validate(network: TranscriptionNetwork, examples: Sequence[Example]) -> dict[str, float]:
    """Return the mean of each loss over whole examples."""
    rows = []
    with torch.no_grad():
        for example in examples:
            steps = len(example.bass) // STEPS_PER_BEAT * STEPS_PER_BEAT
            truth = {n: torch.from_numpy(v[None]) for n, v in targets(example, slice(0, steps)).items()}
            features = torch.from_numpy(example.features[None, :steps].astype(np.float32))
            rows.append({name: float(loss) for name, loss in losses(network(features), truth).items()})
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


if __name__ == "__main__":
    main()
