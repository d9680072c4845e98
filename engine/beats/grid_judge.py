"""Is it the beat, or what lies between the beats? A second opinion on the phase, from the last eight beats.

The filter believes the network hop by hop; where accents are syncopated both may sit on the off-beat for a whole song.
Here the sound's attacks are laid out along the believed grid, a beat wide and eight deep, and a small network says
how well that looks, beside the same grid moved by a quarter, a half and three quarters of a beat. It knows nothing of
the first network's opinion. Trained by `models.beats.grid`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from engine.types import NS_PER_S, BeatEstimate

BEATS, BINS, CHANNELS = 8, 12, 10
"""A grid's picture: the last 8 beats, in twelfths of a beat, of ten parts of the spectrum."""
SHIFTS_BEATS = np.array([0.0, 0.5, 0.25, -0.25])
"""Where else the beat may be."""
HISTORY_HOPS = 1000
"""No more than 10 s are looked back upon."""
_SHORT_BANDS = 24
_SHORT_PARTS, _LONG_PARTS = 6, 4
_RISE_HOPS = 3
"""The long window's rise is taken over 30 ms: it moves slowly."""
_HOP_NS = NS_PER_S // 100
_EVERY_HOPS = 50
_FIRST_HOPS = 300
"""Judgements each half second, from the third second on."""
_KEPT = 0.8
"""Each judgement weighs 1 / 5 of the running opinion ..."""
_NEEDED = 4
"""... which is asked once it holds so many."""
_HALF_COST, _QUARTER_COST = 1.5, 2.0
"""By so much (log odds) another phase must look better than the present one. Chosen on development music."""
_BOUND = 8.0
"""One judgement never counts for more."""
_SAME_TEMPO, _SAME_PHASE_BEATS = 0.06, 0.2
"""A belief that changes by more is another belief: it is judged afresh."""


def rises(bands: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how much ten parts of the spectrum rise at each hop (T, 10), of bands (T, 88); the first hops are 0."""
    short, long = bands[:, :_SHORT_BANDS], bands[:, _SHORT_BANDS:]
    out = np.zeros((len(bands), CHANNELS), np.float32)
    quick = np.maximum(short[1:] - short[:-1], 0.0)
    slow = np.maximum(long[_RISE_HOPS:] - long[:-_RISE_HOPS], 0.0) / _RISE_HOPS
    out[1:, :_SHORT_PARTS] = quick.reshape(len(quick), _SHORT_PARTS, -1).mean(axis=2)
    out[_RISE_HOPS:, _SHORT_PARTS:] = slow.reshape(len(slow), _LONG_PARTS, -1).mean(axis=2)
    return out


def picture(
    totals: NDArray[np.float64],
    end: float,
    periods: NDArray[np.float64],
    beats: NDArray[np.float64],
    first: float = 0.0,
) -> NDArray[np.float32]:
    """Return what the judge sees of grids (G, 428).

    Args:
        totals: (T + 1, 10) `rises` summed up from the start.
        end: hop up to which there is sound.
        periods: (G,) of each grid [hops].
        beats: (G,) one beat of each [hops].
        first: hop from which on there is sound.
    """
    count = len(periods)
    whole = np.floor((end - beats) / periods + 0.5 / BINS)
    phase = (np.arange(BEATS * BINS + 1) - 0.5) / BINS - BEATS
    at = np.clip(beats[:, None] + (whole[:, None] + phase) * periods[:, None], first, end)
    low = np.minimum(at.astype(np.intp), len(totals) - 2)
    part = (at - low)[..., None]
    summed = totals[low] * (1 - part) + totals[low + 1] * part
    width = (periods / BINS)[:, None]
    x = (np.diff(summed, axis=1) / width[..., None]).reshape(count, BEATS, BINS, CHANNELS)
    inside = (np.diff(at, axis=1) > 0.5 * width).reshape(count, BEATS, BINS)
    heard = np.asarray(inside.all(axis=2))[:, :, None, None]
    number = np.maximum(heard.sum(axis=1), 1)
    level = x.sum(axis=(1, 2)) / (number[:, 0] * BINS) + 1e-3
    x = np.log1p(np.minimum(x / level[:, None, None], 30.0)) * heard
    mean = x.sum(axis=1) / number
    coarse = np.stack([x[..., 0:2].mean(axis=-1), x[..., 2:6].mean(axis=-1), x[..., 6:].mean(axis=-1)], axis=-1)
    tempo = np.log2(periods / 50.0)[:, None]
    parts = (mean, coarse, tempo, tempo**2, np.log1p(level * 20.0), heard)
    return np.concatenate([p.reshape(count, -1) for p in parts], axis=1).astype(np.float32)


class GridJudge:
    """Moves a tracker's beats by a part of a beat where they look better there for long enough.

    Args:
        weights: arrays `mean`, `scale` (428,) and `layer0.weight`, `layer0.bias`, ... to `layer2`, in torch's form.

    Raises:
        ValueError: an array is missing or has another shape.
    """

    def __init__(self, weights: dict[str, NDArray[np.float32]]) -> None:
        inputs = BINS * CHANNELS + BEATS * BINS * 3 + 2 + CHANNELS + BEATS
        try:
            self._mean, self._scale = weights["mean"], weights["scale"]
            self._layers = [(weights[f"layer{i}.weight"], weights[f"layer{i}.bias"]) for i in range(3)]
        except KeyError as error:
            raise ValueError(f"grid judge weights: {error} is missing") from error
        sizes = [inputs, *(len(bias) for _, bias in self._layers)]
        fits = all(w.shape == (sizes[i + 1], sizes[i]) for i, (w, _) in enumerate(self._layers))
        if not fits or sizes[-1] != 1 or self._mean.shape != (inputs,) or self._scale.shape != (inputs,):
            raise ValueError(f"grid judge weights: they are not of a network with {inputs} inputs and one output")
        self.reset()

    def reset(self) -> None:
        """Forget everything heard."""
        self._recent = np.zeros((HISTORY_HOPS, CHANNELS), np.float32)
        self._bands: NDArray[np.float32] | None = None
        self._hops = 0
        self._forget()

    def _forget(self) -> None:
        self._belief: tuple[float, float] | None = None
        self._opinion = np.zeros(len(SHIFTS_BEATS))
        self._judgements = 0
        self._chosen = 0

    def hear(self, bands: NDArray[np.float32]) -> None:
        """Take one hop's bands (88,)."""
        if self._bands is None:
            self._bands = np.repeat(bands[None], _RISE_HOPS + 1, axis=0)
        self._bands[:-1] = self._bands[1:]
        self._bands[-1] = bands
        newest = self._bands
        rise = self._recent[self._hops % HISTORY_HOPS]
        quick = np.maximum(newest[-1, :_SHORT_BANDS] - newest[-2, :_SHORT_BANDS], 0.0)
        slow = np.maximum(newest[-1, _SHORT_BANDS:] - newest[0, _SHORT_BANDS:], 0.0)
        rise[:_SHORT_PARTS] = quick.reshape(_SHORT_PARTS, -1).mean(axis=1)
        rise[_SHORT_PARTS:] = slow.reshape(_LONG_PARTS, -1).mean(axis=1) / _RISE_HOPS
        self._hops += 1

    def scores(self, period_hops: float, beat_hop: float) -> NDArray[np.float64]:
        """Return how well a grid and the same moved by `SHIFTS_BEATS` look (4,), as log odds but for a constant.

        Args:
            period_hops: of the grid.
            beat_hop: one of its beats, counted from the first hop heard.
        """
        heard = min(self._hops, HISTORY_HOPS)
        order = np.arange(self._hops - heard, self._hops) % HISTORY_HOPS
        totals = np.zeros((heard + 1, CHANNELS))
        np.cumsum(self._recent[order], axis=0, out=totals[1:])
        beats = beat_hop - (self._hops - heard) + SHIFTS_BEATS * period_hops
        x = (picture(totals, heard, np.full(len(beats), period_hops), beats) - self._mean) * self._scale
        for weight, bias in self._layers[:-1]:
            x = np.maximum(x @ weight.T + bias, 0.0)
        weight, bias = self._layers[-1]
        return (x @ weight.T + bias)[:, 0].astype(np.float64)

    def correct(self, estimate: BeatEstimate | None, end_ns: int) -> BeatEstimate | None:
        """Return the tracker's estimate after the hop that ends at `end_ns`, moved if need be."""
        if estimate is None:
            self._forget()
            return None
        period = estimate.period_ns / _HOP_NS
        beat = self._hops + (estimate.beat_ns - end_ns) / _HOP_NS
        if self._belief is not None:
            moved = (beat - self._belief[1]) / period
            same = abs(period / self._belief[0] - 1) <= _SAME_TEMPO and abs(moved - round(moved)) <= _SAME_PHASE_BEATS
            if not same:
                self._forget()
        self._belief = period, beat
        if self._hops % _EVERY_HOPS == 1 and self._hops > _FIRST_HOPS:
            self._judge(self.scores(period, beat))
        if not self._chosen:
            return estimate
        shift = SHIFTS_BEATS[self._chosen]
        return replace(
            estimate,
            # The beat that has been, not the one to come.
            beat_ns=estimate.beat_ns + round((shift - 1.0) * estimate.period_ns),
            downbeat_ns=None
            if estimate.downbeat_ns is None
            else estimate.downbeat_ns + round(shift * estimate.period_ns),
        )

    def _judge(self, scores: NDArray[np.float64]) -> None:
        judgement = np.clip(scores - scores[0], -_BOUND, _BOUND)
        self._opinion = judgement if not self._judgements else _KEPT * self._opinion + (1 - _KEPT) * judgement
        self._judgements += 1
        if self._judgements < _NEEDED:
            return
        best = int((self._opinion - _COSTS).argmax())
        if best != self._chosen and self._opinion[best] - self._opinion[self._chosen] > _COSTS[best]:
            self._chosen = best


_COSTS = np.array([0.0, _HALF_COST, _QUARTER_COST, _QUARTER_COST])
