"""From audio blocks of any kind to 10 ms hops of 48 kHz mono, stamped with the time of their newest sample."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import soxr
from numpy.typing import NDArray

from engine.features import HOP_SAMPLES, SAMPLE_RATE_HZ
from engine.types import NS_PER_S, AudioBlock

LOWEST_RATE_HZ = 4_000
HIGHEST_RATE_HZ = 768_000

# A longer hole is not bridged: what follows it is another performance (or another device).
_LONGEST_GAP_NS = 2 * NS_PER_S
# Sensor clocks slew by a few milliseconds; a block that starts further off than this follows a hole or a restart.
_JUMP_NS = 250_000_000
# A hole is silence; its edges are faded over 2 ms so that it does not sound like a drum.
_FADE_S = 0.002
# The mean is forgotten within 0.2 s (a 0.8 Hz high-pass): below any music, faster than the loudness is learnt.
_DC_STEP = 1.0 - math.exp(-HOP_SAMPLES / SAMPLE_RATE_HZ / 0.2)
# Samples beyond eight times full scale are faults, not sound.
_SAMPLE_LIMIT = 8.0
_CLIP_LEVEL = 0.999
# soxr's low quality is exact to 110 dB and holds back 0.5 ms at these rates (rational polyphase); at others its
# block transforms hold back 10 to 60 ms, so there its undelayed cubic interpolation is used.
_POLYPHASE_RATES_HZ = (22_050, 44_100)
# Cubic interpolation does not keep out what lies above 24 kHz. Above this rate a short filter does; below it only
# 24 to 30 kHz could fold, onto 18 to 24 kHz, where no feature listens.
_FILTER_ABOVE_HZ = 60_000
_PASS_HZ, _STOP_HZ = 18_000.0, 30_000.0


class Hop(NamedTuple):
    """One analysis hop.

    Attributes:
        samples: (480,) float32, mono at 48 kHz, free of DC, finite; read-only.
        end_ns: session time of the newest sample; strictly increasing.
        restarted: the stream before it was broken off (a long hole, another rate): analysis should begin anew.
    """

    samples: NDArray[np.float32]
    end_ns: int
    restarted: bool


class HopStream:
    """Cut blocks of any rate, size and channel count into hops. The hops do not depend on the block size.

    Lost samples are bridged by silence up to 2 s, by their count if the block times agree and by time otherwise, so
    that a watchdog's silence and a sensor's own account of the same hole do not add up. After a longer hole, a time
    running backwards or another sample rate the stream restarts.

    Threads: one.

    Attributes:
        clipped_samples: samples at full scale.
        repaired_samples: NaN, infinite or absurdly large samples that were replaced.
        lost_samples: samples bridged by silence.
        restarts: breaks in the stream.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything pushed, the counters too."""
        self.clipped_samples = 0
        self.repaired_samples = 0
        self.lost_samples = 0
        self.restarts = 0
        self._rate_hz = 0
        self._source_end_ns = 0
        self._hop_end_ns: int | None = None
        self._restarted = False

    def push(self, block: AudioBlock) -> list[Hop]:
        """Take a block; return the hops it completes, oldest first.

        Raises:
            ValueError: a sample rate outside 4 to 768 kHz.
        """
        frames = len(block.samples)
        rate = block.sample_rate_hz
        if rate != self._rate_hz:
            self._restart(rate)
        if frames == 0:
            return []
        lost = self._hole(block)
        if lost is None:
            self._restart(rate)
            lost = 0
        mono = self._to_mono(block.samples)
        if lost:
            self.lost_samples += lost
            mono = np.concatenate([self._bridge(lost, float(mono[0])), mono])
        self._newest = float(mono[-1])
        self._source_end_ns = block.time_ns
        self._sources += len(mono)
        return self._cut(self._resample(mono), block.time_ns)

    def _restart(self, rate: int) -> None:
        if not LOWEST_RATE_HZ <= rate <= HIGHEST_RATE_HZ:
            raise ValueError(f"sample rate {rate} Hz is not between {LOWEST_RATE_HZ} and {HIGHEST_RATE_HZ}")
        if self._rate_hz:
            self.restarts += 1
            self._restarted = True
        self._rate_hz = rate
        self._resampler = None
        if rate != SAMPLE_RATE_HZ:
            quality = "LQ" if rate in _POLYPHASE_RATES_HZ else "QQ"
            self._resampler = soxr.ResampleStream(rate, SAMPLE_RATE_HZ, 1, dtype="float32", quality=quality)
        self._filter = _low_pass(rate) if rate > _FILTER_ABOVE_HZ else None
        self._filter_past = np.zeros(0 if self._filter is None else len(self._filter) - 1, np.float32)
        # Source samples by which the filter's output lags behind its input.
        self._filter_delay = len(self._filter_past) / 2
        self._sources = 0
        self._hops = 0
        self._newest = 0.0
        self._pending = np.empty(0, np.float32)
        self._mean = 0.0

    def _hole(self, block: AudioBlock) -> int | None:
        """Return the samples of silence to put before the block, or None if the stream must restart."""
        rate = self._rate_hz
        if self._sources == 0:
            return 0
        hole_ns = block.time_ns - len(block.samples) * NS_PER_S // rate - self._source_end_ns
        lost = max(0, block.gap_samples)
        if abs(hole_ns - lost * NS_PER_S // rate) > _JUMP_NS:
            if hole_ns < -_JUMP_NS:
                return None
            lost = max(0, hole_ns * rate // NS_PER_S)
        return lost if lost * NS_PER_S <= _LONGEST_GAP_NS * rate else None

    def _to_mono(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        frames, channels = samples.shape
        if channels == 0:
            return np.zeros(frames, np.float32)
        magnitude = np.abs(samples)
        loudest = float(magnitude.max())
        if not loudest < _CLIP_LEVEL:  # also true of NaN
            if not loudest <= _SAMPLE_LIMIT:
                broken = ~(magnitude <= _SAMPLE_LIMIT)
                self.repaired_samples += int(np.count_nonzero(broken))
                samples = np.where(broken, np.float32(0.0), samples)
                magnitude = np.abs(samples)
            self.clipped_samples += int(np.count_nonzero(magnitude >= _CLIP_LEVEL))
        # Added channel by channel: the rounding of one product or mean call depends on the block size.
        mono = samples[:, 0].copy()
        for channel in range(1, channels):
            mono += samples[:, channel]
        if channels > 1:
            mono *= np.float32(1.0 / channels)
        return mono

    def _bridge(self, count: int, following: float) -> NDArray[np.float32]:
        """Return `count` samples of silence, faded from what was heard to what follows."""
        bridge = np.zeros(count, np.float32)
        fade = min(count // 2, round(_FADE_S * self._rate_hz))
        ramp = np.arange(1, fade + 1, dtype=np.float32) / np.float32(fade + 1)
        bridge[:fade] = self._newest * ramp[::-1]
        bridge[count - fade :] += following * ramp
        return bridge

    def _resample(self, mono: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._filter is not None:
            joined = np.concatenate([self._filter_past, mono])
            self._filter_past = joined[-len(self._filter_past) :]
            mono = np.correlate(joined, self._filter, "valid")
        if self._resampler is None:
            return mono
        resampled: NDArray[np.float32] = self._resampler.resample_chunk(mono)
        return resampled

    def _cut(self, samples: NDArray[np.float32], newest_ns: int) -> list[Hop]:
        pending = np.concatenate([self._pending, samples])
        count = len(pending) // HOP_SAMPLES
        self._pending = pending[count * HOP_SAMPLES :]
        hops = []
        for k in range(count):
            self._hops += 1
            source = self._hops * HOP_SAMPLES * self._rate_hz / SAMPLE_RATE_HZ - self._filter_delay
            end_ns = newest_ns - round((self._sources - source) * NS_PER_S / self._rate_hz)
            # To a microsecond: a block's time is rounded, and by how much must not depend on how the sound was cut up.
            end_ns = round(end_ns, -3)
            if self._hop_end_ns is not None:
                end_ns = max(end_ns, self._hop_end_ns + 1)
            self._hop_end_ns = end_ns
            hop = self._without_dc(pending[k * HOP_SAMPLES : (k + 1) * HOP_SAMPLES])
            hops.append(Hop(hop, end_ns, self._restarted))
            self._restarted = False
        return hops

    def _without_dc(self, hop: NDArray[np.float32]) -> NDArray[np.float32]:
        """Subtract the running mean, drawn as a line through the hop so that no step is heard."""
        step = max(_DC_STEP, 1.0 / self._hops)
        mean = self._mean + step * (float(hop.mean()) - self._mean)
        start = mean if self._hops == 1 else self._mean
        self._mean = mean
        clean: NDArray[np.float32] = hop - (start + (mean - start) * _RAMP)
        clean.flags.writeable = False
        return clean


_RAMP = (np.arange(1, HOP_SAMPLES + 1) / HOP_SAMPLES).astype(np.float32)


def _low_pass(rate_hz: int) -> NDArray[np.float32]:
    """Return a symmetric Kaiser-window low-pass, 60 dB down at 30 kHz; odd length.

    The length is Kaiser's estimate (Oppenheim and Schafer, Discrete-Time Signal Processing, eq. 7.76).
    """
    transition = 2.0 * math.pi * (_STOP_HZ - _PASS_HZ) / rate_hz
    half = math.ceil((60.0 - 8.0) / (2.285 * transition) / 2.0)
    n = np.arange(-half, half + 1)
    cutoff = (_PASS_HZ + _STOP_HZ) / rate_hz
    taps = cutoff * np.sinc(cutoff * n) * np.kaiser(2 * half + 1, 0.1102 * (60.0 - 8.7))
    scaled: NDArray[np.float32] = (taps / taps.sum()).astype(np.float32)
    return scaled
