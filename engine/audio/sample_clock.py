"""When was a sample heard? From the unsteady arrival of audio callbacks to a steady clock."""

from __future__ import annotations

from collections import deque

import numpy as np

from engine.types import NS_PER_S

# Callbacks may be late by any scheduling delay but never early, so the earliest arrival of each second is the
# one to trust; a minute of them tells the drift to a few ppm.
_BIN_NS = NS_PER_S
_BINS = 60
# With fewer bins the drift cannot be told from jitter; 200 ppm unmodelled over 8 s is 1.6 ms.
_FIT_BINS = 8
# Sound cards are within 100 ppm or so of their stated rate.
_LARGEST_DRIFT = 1e-3
# Corrections pass at 1 %: 10 ms are absorbed in a second, and a beat's length is not bent by more.
_SLEW = 0.01
# Samples are taken for lost when every callback of a while came late: a busy machine catches up sooner, and a
# driver that reports an overflow needs less evidence.
_LOSS_WINDOW_NS = 750_000_000
_LOSS_NS = 15_000_000
_REPORTED_LOSS_WINDOW_NS = 100_000_000
_REPORTED_LOSS_NS = 3_000_000
_REPORT_VALID_NS = NS_PER_S


class SampleClock:
    """Map sample counts to session time by robust regression over callback arrivals.

    The offset between arrival and nominal sample time is a line (the device's drift) plus delays that are never
    negative. Its lower envelope is followed: the earliest arrival of each second, through which a Theil-Sen line is
    laid (Sen, "Estimates of the regression coefficient based on Kendall's tau", JASA 1968). Times come out
    monotonic, slewed by at most 1 %, and never later than the arrival itself.

    PortAudio's own ADC times are not used: on some hosts they are wrong by any amount.

    Threads: one.

    Args:
        sample_rate_hz: stated rate of the device.

    Attributes:
        lost_samples: samples that were missing from the stream so far, as told by arrivals that stay late.
    """

    def __init__(self, sample_rate_hz: float) -> None:
        self._rate_hz = sample_rate_hz
        self.lost_samples = 0
        self._first: tuple[int, int] | None = None
        self._bins: deque[tuple[float, float]] = deque(maxlen=_BINS)
        self._bin_end_ns = 0.0
        self._bin_best = (0.0, float("inf"))
        self._slope = 0.0
        self._base_ns = 0.0
        self._late_arrivals = 0
        self._late_since_ns = 0
        self._least_late_ns = 0.0
        self._report_ns: int | None = None
        self._last_index = 0
        self._last_ns = 0.0

    @property
    def drift_ppm(self) -> float:
        """How much slower than stated the device runs, in parts per million."""
        return self._slope * 1e6

    def observe(self, delivered: int, arrival_ns: int, overflowed: bool = False) -> int:
        """Return the session time [ns] of the newest sample.

        Args:
            delivered: samples delivered since the start, up to and including the newest; lost ones not counted.
            arrival_ns: session time at which they arrived.
            overflowed: the driver says that samples were lost.
        """
        if self._first is None:
            self._first = (delivered, arrival_ns)
            self._bin_end_ns = float(_BIN_NS)
            self._last_index, self._last_ns = delivered, float(arrival_ns)
        if overflowed:
            self._report_ns = arrival_ns
        first_index, first_ns = self._first
        nominal_ns = (delivered + self.lost_samples - first_index) * NS_PER_S / self._rate_hz
        offset_ns = arrival_ns - first_ns - nominal_ns
        lost = self._find_loss(arrival_ns, offset_ns - self._line(nominal_ns))
        if lost:
            self.lost_samples += lost
            nominal_ns += lost * NS_PER_S / self._rate_hz
            offset_ns -= lost * NS_PER_S / self._rate_hz
        self._fit(nominal_ns, offset_ns)
        return self._slew(delivered + self.lost_samples, first_ns + nominal_ns + self._line(nominal_ns), arrival_ns)

    def _line(self, nominal_ns: float) -> float:
        return self._base_ns + self._slope * nominal_ns

    def _find_loss(self, arrival_ns: int, lateness_ns: float) -> int:
        """Return how many samples must have been lost for arrivals to stay as late as they are."""
        if lateness_ns < _REPORTED_LOSS_NS:
            self._late_arrivals = 0
            self._report_ns = None
            return 0
        if self._late_arrivals == 0:
            self._late_since_ns, self._least_late_ns = arrival_ns, lateness_ns
        self._late_arrivals += 1
        self._least_late_ns = min(self._least_late_ns, lateness_ns)
        window_ns, threshold_ns = _LOSS_WINDOW_NS, _LOSS_NS
        if self._report_ns is not None and arrival_ns - self._report_ns < _REPORT_VALID_NS:
            window_ns, threshold_ns = _REPORTED_LOSS_WINDOW_NS, _REPORTED_LOSS_NS
        if self._late_arrivals < 4 or arrival_ns - self._late_since_ns < window_ns:
            return 0
        self._late_arrivals = 0
        if self._least_late_ns < threshold_ns:
            return 0
        self._report_ns = None
        self._bin_best = (0.0, float("inf"))
        return round(self._least_late_ns * self._rate_hz / NS_PER_S)

    def _fit(self, nominal_ns: float, offset_ns: float) -> None:
        """Take one offset into account."""
        if offset_ns < self._bin_best[1]:
            self._bin_best = (nominal_ns, offset_ns)
        if len(self._bins) < _FIT_BINS:
            best = min((offset for _, offset in self._bins), default=float("inf"))
            self._base_ns = min(best, self._bin_best[1])
        if nominal_ns < self._bin_end_ns:
            return
        self._bin_end_ns = nominal_ns + _BIN_NS
        if self._bin_best[1] < float("inf"):
            self._bins.append(self._bin_best)
        self._bin_best = (0.0, float("inf"))
        if len(self._bins) >= _FIT_BINS:
            times, offsets = np.array(self._bins).T
            i, j = np.triu_indices(len(times), 2)
            slope = float(np.median((offsets[j] - offsets[i]) / (times[j] - times[i])))
            self._slope = min(max(slope, -_LARGEST_DRIFT), _LARGEST_DRIFT)
            self._base_ns = float(np.median(offsets - self._slope * times))

    def _slew(self, index: int, target_ns: float, arrival_ns: int) -> int:
        """Move the last time given towards the target."""
        step_ns = (index - self._last_index) * NS_PER_S / self._rate_hz
        if step_ns <= 0.0:
            return round(self._last_ns)
        expected_ns = self._last_ns + step_ns
        reach_ns = _SLEW * step_ns
        time_ns = expected_ns + min(max(target_ns - expected_ns, -reach_ns), reach_ns)
        # A sample cannot be heard after it arrived; where time would run backwards it stands still (by 1 ns).
        time_ns = max(min(time_ns, float(arrival_ns)), self._last_ns + 1.0)
        self._last_index, self._last_ns = index, time_ns
        return round(time_ns)
