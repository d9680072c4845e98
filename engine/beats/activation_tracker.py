"""From an activation (how likely is a beat now?) to estimates: gate, filter, long memory, metre, calibration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.beats.beat_filter import BeatFilter, Belief, FilterSettings
from engine.beats.grid_judge import GridJudge
from engine.beats.metre import MetreFilter
from engine.beats.spectrum import HOP_SAMPLES, HOPS_PER_S, SAMPLE_RATE_HZ, BandSpectrum
from engine.beats.steady_beat import SteadyBeat
from engine.types import NS_PER_S, BeatEstimate

_HOP_NS = NS_PER_S // HOPS_PER_S
_SILENT = 10 ** (-62 / 20)
"""RMS [full scale] below which there is nothing to hear ..."""
_ACCENT = 0.08
"""An activation below this is no event."""
_WAIT_HOPS, _REST_HOPS = 50, 130
"""After 0.5 s without an event the filter waits. If one comes within 1.3 s of the last, the gap was rhythm and is told
to the filter as it was; if not it was a rest, whose length says nothing of tempo: the beat is taken to have gone on."""
_REPORT_HOPS = 12
"""The estimate is renewed up to 0.12 s after an event and stands until the next: where nothing happens, the posterior
leans towards whatever has not yet been contradicted, which is late and slow."""
_LOUDEST_KEPT, _SOUNDING = 0.999, 0.1
"""Where most hops without an event are within 20 dB of the loudest of the last 10 s or so, music goes on, and the beat
with it: what was remembered of it stays."""
_REPORT_EVERY_HOPS = 2
_TEMPO_EVERY_HOPS = 10
_TEMPO_BLUR = 0.1
"""Evidence on tempo is blurred by 10 %: it is there to tell a beat from its double, not to measure."""
_TEMPO_DOUBT = 0.05
"""Added to its chances: it may be wrong, and must be overthrown by beats that say so."""
_LISTEN_HOPS = 4
"""A beat's downbeat chance is the highest within so many hops of it."""


@dataclass(frozen=True, slots=True)
class Activation:
    """What an activation says about one hop.

    Attributes:
        beat: chance that a beat falls `delay` before the end of this hop.
        downbeat: chance that a downbeat does.
        tempo_log_chances: (C,) evidence on tempo, or None.
    """

    beat: float
    downbeat: float = 0.0
    tempo_log_chances: NDArray[np.float32] | None = None


class ActivationFunction(Protocol):
    """Turns band spectra into activations, causally.

    Attributes:
        delay_ns: how long after a beat its activation peaks (constant, measured).
        tempo_classes_bpm: (C,) of `Activation.tempo_log_chances`, or None.
        hears_bars: whether `downbeat` means anything.
    """

    delay_ns: int
    tempo_classes_bpm: NDArray[np.float64] | None
    hears_bars: bool

    def process(self, bands: NDArray[np.float32]) -> Activation:
        """Take one hop's bands (88,)."""
        ...

    def reset(self) -> None:
        """Forget everything heard."""
        ...


class ActivationTracker:
    """A `BeatTracker` made of a spectrum, an activation and the beat filter.

    Args:
        activation: what hears the beats.
        settings: of the filter.
        judge: a second opinion on the phase, or None.
    """

    sample_rate_hz = SAMPLE_RATE_HZ
    hop_samples = HOP_SAMPLES

    def __init__(
        self,
        activation: ActivationFunction,
        settings: FilterSettings | None = None,
        judge: GridJudge | None = None,
    ) -> None:
        self._activation = activation
        self._judge = judge
        self._spectrum = BandSpectrum()
        self._filter = BeatFilter(settings)
        self._steady = SteadyBeat(filter_settings=settings)
        self._metre = MetreFilter()
        self._tempo_map: NDArray[np.float64] | None = None
        if activation.tempo_classes_bpm is not None:
            bpm = 60.0 * HOPS_PER_S / self._filter.periods
            distance = np.log(bpm)[:, None] - np.log(activation.tempo_classes_bpm)
            self._tempo_map = np.exp(-0.5 * (distance / _TEMPO_BLUR) ** 2)
        self.reset()

    def reset(self) -> None:
        """Forget everything heard."""
        self._spectrum.reset()
        self._activation.reset()
        self._filter.reset()
        self._steady.reset()
        self._metre.reset()
        if self._judge is not None:
            self._judge.reset()
        self._hop = 0
        self._quiet_hops = _WAIT_HOPS
        self._waited_hops = self._sounding_hops = 0
        self._loudest = 0.0
        self._estimate: BeatEstimate | None = None
        self._missed = np.zeros(_REST_HOPS - _WAIT_HOPS)
        self._downbeats = np.zeros((64, 2))
        self._counted_hop = -1.0
        self._downbeat_hop: float | None = None
        self._per_bar: int | None = None

    def process(self, hop: NDArray[np.float32], end_ns: int) -> BeatEstimate | None:
        """Take one hop (480,) that ends at `end_ns`; None in silence and before anything was heard."""
        bands = self._spectrum.process(hop)
        return self.process_bands(bands, self._spectrum.level, end_ns)

    def process_bands(self, bands: NDArray[np.float32], level: float, end_ns: int) -> BeatEstimate | None:
        """Like `process`, from the hop's bands (88,) and RMS level."""
        estimate = self._believe(self._activation.process(bands), level, end_ns)
        if self._judge is None:
            return estimate
        self._judge.hear(bands)
        return self._judge.correct(estimate, end_ns)

    def _believe(self, heard: Activation, level: float, end_ns: int) -> BeatEstimate | None:
        """Let the filter move by one hop."""
        self._hop += 1
        self._steady.hear(heard.beat)
        self._loudest = max(level, _LOUDEST_KEPT * self._loudest)
        self._quiet_hops = 0 if level > _SILENT and heard.beat > _ACCENT else self._quiet_hops + 1
        if self._quiet_hops > _WAIT_HOPS:
            self._waited_hops += 1
            self._sounding_hops += level > _SOUNDING * self._loudest
            if self._waited_hops > len(self._missed):
                self._estimate = None
            else:
                self._missed[self._waited_hops - 1] = heard.beat
            return self._estimate
        if self._waited_hops:
            self._resume()
        self._filter.step(heard.beat)
        if self._tempo_map is not None and heard.tempo_log_chances is not None and self._hop % _TEMPO_EVERY_HOPS == 0:
            classes = np.exp(heard.tempo_log_chances - heard.tempo_log_chances.max())
            chances = self._tempo_map @ classes
            self._filter.hear_tempo(chances / chances.max() + _TEMPO_DOUBT, _TEMPO_EVERY_HOPS)
        self._downbeats[self._hop % 64] = heard.beat, heard.downbeat
        if self._quiet_hops > _REPORT_HOPS or (self._hop % _REPORT_EVERY_HOPS and self._estimate is not None):
            return self._estimate
        belief = self._steady.refine(self._filter.belief())
        beat_hop = self._hop - belief.phase * belief.period_hops
        if self._activation.hears_bars:
            self._count(belief, beat_hop)
        delay = self._activation.delay_ns
        downbeat_ns = None
        if self._downbeat_hop is not None:
            downbeat_ns = end_ns - delay - round((self._hop - self._downbeat_hop) * _HOP_NS)
        self._estimate = BeatEstimate(
            end_ns - delay - round((self._hop - beat_hop) * _HOP_NS),
            round(belief.period_hops * _HOP_NS),
            belief.probability,
            self._per_bar,
            downbeat_ns,
        )
        return self._estimate

    def _resume(self) -> None:
        """Tell the filter what happened while it waited."""
        hops, self._waited_hops = self._waited_hops, 0
        sounding, self._sounding_hops = self._sounding_hops, 0
        if hops <= len(self._missed):
            for activation in self._missed[:hops]:
                self._filter.step(float(activation))
        else:
            self._filter.rest(hops)
            if sounding < 0.5 * hops:
                self._steady.reset()

    def _count(self, belief: Belief, beat_hop: float) -> None:
        """Once a beat lies `_LISTEN_HOPS` back, let the metre filter move."""
        period = belief.period_hops
        if self._hop - beat_hop < _LISTEN_HOPS or beat_hop - self._counted_hop < 0.5 * period:
            return
        step = (beat_hop - self._counted_hop) / period
        if self._counted_hop >= 0 and abs(step - 1.0) > 0.25:
            self._metre.unsettle()
        self._counted_hop = beat_hop
        around = self._downbeats[np.arange(round(beat_hop) - _LISTEN_HOPS, round(beat_hop) + _LISTEN_HOPS + 1) % 64]
        beat, downbeat = around.max(axis=0)
        self._metre.step(downbeat / max(beat, downbeat, 0.05))
        per_bar, position, probability = self._metre.belief()
        if probability > 0.5:
            self._per_bar = per_bar
            self._downbeat_hop = beat_hop - position * period
        elif probability < 0.3:
            self._per_bar = self._downbeat_hop = None
