"""Transcription against rendered bands whose score is known: `python -m tests.bench.transcription MIDI FONT [COUNT]`.

MIDI is the folder of the corpora; songs and drummers are of their test splits, and FONT should be one that was not
trained on. Beside each figure stands its null: the transcription of another song of the same metre, which knows all of
the style and nothing of the piece.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from models.symbolic.score_agreement import Agreement, agreement
from models.symbolic.step_grid import STEPS_PER_BEAT, StepGrid
from models.symbolic.transcribe import Transcriber
from models.symbolic.transcription_corpus import Mix, make_mix
from models.symbolic.transcription_training import sources

_SEED = 909


def mixes(midi: Path, font: Path, count: int, split: str = "test") -> list[Mix]:
    """Return bands of a split, always the same ones."""
    found = sources(midi, split, [font])
    return [make_mix(found, np.random.default_rng([number, _SEED])) for number in range(count)]


def hear_all(transcriber: Transcriber, bands: list[Mix]) -> list[StepGrid]:
    """Transcribe with the beats given, as they are for the dances."""
    return [
        transcriber(
            band.samples,
            band.rate_hz,
            band.step_s,
            band.grid.beats_per_bar,
            band.grid.bar_step % STEPS_PER_BEAT,
            band.grid.name,
            band.grid.split,
        )
        for band in bands
    ]


def strangers(heard: list[StepGrid], bands: list[Mix]) -> list[tuple[StepGrid, StepGrid]]:
    """Pair each truth with the transcription of the next song of the same metre, cut to the shorter one's length."""
    pairs = []
    for number, band in enumerate(bands):
        order = [*range(number + 1, len(bands)), *range(number)]
        other = next((n for n in order if heard[n].beats_per_bar == band.grid.beats_per_bar), None)
        if other is not None:
            steps = min(heard[other].steps, band.grid.steps)
            pairs.append((heard[other].cut(0, steps), band.grid.cut(0, steps)))
    return pairs


def rows(found: Agreement, null: Agreement, guess: float) -> list[tuple[str, float, float]]:
    """Return (what, figure, null) of each measure; `guess` is the share of bar phases that guessing gets right."""
    out = [(f"drums: {name}, F1", found.drums[name].f1, null.drums[name].f1) for name in found.drums]
    for voice in ("bass", "lead"):
        out += [
            (f"{voice}: onsets, F1", getattr(found, f"{voice}_onsets").f1, getattr(null, f"{voice}_onsets").f1),
            (f"{voice}: onset and pitch, F1", getattr(found, f"{voice}_notes").f1, getattr(null, f"{voice}_notes").f1),
            (f"{voice}: pitch", getattr(found, f"{voice}_pitch").value, getattr(null, f"{voice}_pitch").value),
            (f"{voice}: pitch class", getattr(found, f"{voice}_class").value, getattr(null, f"{voice}_class").value),
        ]
    out.append(("chord: onsets, F1", found.chord_onsets.f1, null.chord_onsets.f1))
    for name, label in (("chord_root", "chord: root"), ("chord_class", "chord: class")):
        out.append((label, getattr(found, name).value, getattr(null, name).value))
    out.append(("bar phase, pieces", found.bar_phase.value, guess))
    out.append(("key, pieces", found.key.value, null.key.value))
    return out


def main(midi: Path, font: Path, count: int) -> None:
    """Print a table."""
    bands = mixes(midi, font, count)
    heard = hear_all(Transcriber(), bands)
    found = agreement(zip(heard, (band.grid for band in bands), strict=True))
    null = agreement(strangers(heard, bands))
    guess = float(np.mean([1.0 / band.grid.beats_per_bar for band in bands]))
    minutes = sum(float(band.step_s[-1] - band.step_s[0]) for band in bands) / 60.0
    print(f"{count} bands, {minutes:.1f} minutes, {font.name}")
    print("| measure | agreement | another song's |\n|---|---|---|")
    for what, figure, chance in rows(found, null, guess):
        print(f"| {what} | {figure:.3f} | {chance:.3f} |")


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) == 4 else 24)
