"""What the models hear: one causal, gain-robust feature row for every 10 ms hop, and its pooling onto ticks.

Training and the stage run this same code, one hop at a time; `FeatureSpec.digest` is stored with every model and
compared before the show.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import deque
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

SAMPLE_RATE_HZ = 48_000
HOP_SAMPLES = 480
HOP_NS = 10_000_000

_PITCH_CLASSES = ("c", "c#", "d", "d#", "e", "f", "f#", "g", "g#", "a", "a#", "b")


@dataclass(frozen=True)
class FeatureSpec:
    """Every constant of the features; two extractors with equal digests give equal features.

    The mel range ends at 8 kHz because training music was published at 22,050 Hz: what lies above would be silent in
    training and bright on stage. Chroma begins at 260 Hz because below it a 2,048-sample window cannot tell semitones
    apart. The loudness follows in about a second and lets go in eight, slower than a phrase, so that a quiet bar
    stays quiet while a turned fader is forgotten.

    Attributes:
        version: raised when the algorithm changes while no constant does.
        log_range_db: a band this far below the running loudness counts as empty.
        flux_lag_hops: onset strength compares a hop with the one this many hops ago.
        momentary_s, attack_s, release_s: time constants of the running loudness: mean power, then its rise and fall.
        gate_open_db, gate_close_db: dBFS of a hop; the gate closes after `gate_hold_s` below the lower one.
        relearn_s: after so long a silence the loudness is learnt afresh (another song, another gain).
        max_pool_hops: a tick pools no more than this many newest hops.
    """

    version: int = 1
    sample_rate_hz: int = SAMPLE_RATE_HZ
    hop_samples: int = HOP_SAMPLES
    window_samples: int = 2048
    mel_bands: int = 40
    mel_low_hz: float = 30.0
    mel_high_hz: float = 8000.0
    mfcc_count: int = 20
    mfcc_scale: float = 0.1
    chroma_low_hz: float = 260.0
    chroma_high_hz: float = 4200.0
    chroma_reference_hz: float = 440.0
    chroma_smoothing_s: float = 0.1
    log_range_db: float = 50.0
    flux_lag_hops: int = 2
    flux_low_hz: float = 200.0
    flux_high_hz: float = 2000.0
    level_low_db: float = -40.0
    level_high_db: float = 20.0
    level_scale: float = 0.1
    momentary_s: float = 0.4
    attack_s: float = 1.0
    release_s: float = 8.0
    gate_open_db: float = -57.0
    gate_close_db: float = -63.0
    gate_hold_s: float = 0.5
    relearn_s: float = 5.0
    max_pool_hops: int = 25

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Name of every column."""
        return (
            *(f"mfcc_{i:02d}" for i in range(self.mfcc_count)),
            *(f"chroma_{name}" for name in _PITCH_CLASSES),
            *("onset", "onset_low", "onset_mid", "onset_high"),
            *("level", "loudness", "centroid", "flatness", "active"),
        )

    @property
    def count(self) -> int:
        """Return F, the number of columns."""
        return len(self.names)

    @cached_property
    def digest(self) -> str:
        """Sixteen hex digits of the SHA-256 over every constant and column name."""
        content = json.dumps({"constants": asdict(self), "names": self.names}, sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @cached_property
    def onset_columns(self) -> NDArray[np.intp]:
        """Columns that are pooled by their maximum."""
        return np.array([i for i, name in enumerate(self.names) if name.startswith("onset")])

    def column(self, name: str) -> int:
        """Return the column of a feature. Raises ValueError for an unknown name."""
        return self.names.index(name)

    @cached_property
    def silence(self) -> NDArray[np.float32]:
        """The row (F,) of silence: all zero but the two levels, which rest on their lower bound."""
        row = np.zeros(self.count, np.float32)
        row[[self.column("level"), self.column("loudness")]] = self.level_low_db * self.level_scale
        row.flags.writeable = False
        return row


class _Bands:
    """Triangular mel bands (HTK scale) of a power spectrum, as two weighted segment sums.

    A spectrum bin lies on the falling edge of one band and the rising edge of the next. Two `reduceat` sums over the
    bins cost less than the dense (bands, bins) product, and no BLAS library splits them over threads.
    """

    def __init__(self, spec: FeatureSpec) -> None:
        bin_hz = spec.sample_rate_hz / spec.window_samples
        frequencies = np.arange(spec.window_samples // 2 + 1) * bin_hz
        low, high = (2595.0 * math.log10(1.0 + hz / 700.0) for hz in (spec.mel_low_hz, spec.mel_high_hz))
        step = (high - low) / (spec.mel_bands + 1)
        position = (2595.0 * np.log10(1.0 + frequencies / 700.0) - low) / step
        inside = np.flatnonzero((position >= 0.0) & (position < spec.mel_bands + 1))
        segment = position[inside].astype(int)
        starts = np.searchsorted(segment, np.arange(spec.mel_bands + 1))
        if np.any(np.diff(starts) < 1):
            raise ValueError("FeatureSpec: mel bands narrower than a bin; use fewer bands or a longer window")
        rising = position[inside] - segment
        self.bins = slice(int(inside[0]), int(inside[-1]) + 1)
        self.centres_hz = 700.0 * (10.0 ** ((low + step * np.arange(1, spec.mel_bands + 1)) / 2595.0) - 1.0)
        self._weights = np.stack([rising, 1.0 - rising]).astype(np.float32)
        self._starts = starts
        self._weighted = np.empty_like(self._weights)
        self._sums = np.empty((2, spec.mel_bands + 1), np.float32)

    def __call__(self, power: NDArray[np.float32], out: NDArray[np.float32]) -> None:
        """Sum `power` (the bins of `self.bins`) into `out` (bands,)."""
        np.multiply(self._weights, power, out=self._weighted)
        np.add.reduceat(self._weighted, self._starts, axis=1, out=self._sums)
        np.add(self._sums[0, :-1], self._sums[1, 1:], out=out)


def _chroma_matrix(spec: FeatureSpec) -> tuple[slice, NDArray[np.float32]]:
    """Return the bins used and the (12, bins) map from magnitude to pitch class.

    Each bin is spread over the pitch classes by a Gaussian as wide as the bin itself (at least half a semitone), so
    that low bins, wider than a semitone, do not vote for one class with false certainty.
    """
    bin_hz = spec.sample_rate_hz / spec.window_samples
    first, last = math.ceil(spec.chroma_low_hz / bin_hz), math.floor(spec.chroma_high_hz / bin_hz)
    frequencies = np.arange(first, last + 1) * bin_hz
    pitch = 9.0 + 12.0 * np.log2(frequencies / spec.chroma_reference_hz)
    width = np.maximum(0.5, 12.0 * np.log2(1.0 + bin_hz / frequencies) / 2.0)
    distance = (pitch[None, :] - np.arange(12)[:, None] + 6.0) % 12.0 - 6.0
    weights = np.exp(-0.5 * (distance / width) ** 2)
    weights /= weights.sum(axis=1, keepdims=True)  # the classes weigh the same in white noise
    return slice(first, last + 1), weights.astype(np.float32)


class FeatureExtractor:
    """Turn 10 ms hops into feature rows; causal, deterministic, about as cheap as its FFT.

    Levels are relative to a running loudness: hop power is averaged over `momentary_s`, followed in decibels (rise
    `attack_s`, fall `release_s`) and held while a hop is under the gate; the first hops are averaged plainly, so that
    the gain is known at once. Band powers are divided by it before the logarithm, so music at another gain gives
    the same features. Onset strength is the half-wave rectified rise of the log bands (Dixon, "Onset detection
    revisited", DAFx 2006, eq. 3, on a mel spectrum), over all bands and in three registers.

    A row looks at the last 2,048 samples; an onset shows in full about 20 ms after it sounded.

    Threads: one.
    """

    def __init__(self, spec: FeatureSpec | None = None) -> None:
        self.spec = spec = spec or FeatureSpec()
        n = spec.window_samples
        self._bands = _Bands(spec)
        self._chroma_bins, self._chroma_map = _chroma_matrix(spec)
        self._bin_count = max(self._bands.bins.stop, self._chroma_bins.stop)
        window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(n) / n)
        self._window = window.astype(np.float32)
        # Scaled so that the bins of a stationary signal sum to its mean power.
        self._power_scale = 2.0 / (n * float(np.sum(window**2)))
        band = np.arange(spec.mel_bands)
        dct = np.cos(np.pi * np.arange(spec.mfcc_count)[:, None] * (band[None, :] + 0.5) / spec.mel_bands)
        dct *= math.sqrt(2.0 / spec.mel_bands)
        dct[0] *= math.sqrt(0.5)
        self._dct = (spec.mfcc_scale * dct).astype(np.float32)
        hz = self._bands.centres_hz
        registers = np.stack(
            [
                np.ones_like(hz),
                hz < spec.flux_low_hz,
                (hz >= spec.flux_low_hz) & (hz < spec.flux_high_hz),
                hz >= spec.flux_high_hz,
            ]
        ).astype(np.float64)
        self._register_means = (registers / registers.sum(axis=1, keepdims=True)).astype(np.float32)
        self._band_position = (band / (spec.mel_bands - 1)).astype(np.float32)
        self._log_floor = 10.0 ** (-spec.log_range_db / 10.0)

        names = spec.names
        self._chroma_slice = slice(spec.mfcc_count, spec.mfcc_count + 12)
        self._flux_slice = slice(names.index("onset"), names.index("onset_high") + 1)
        self._scalar_slice = slice(names.index("level"), names.index("active") + 1)
        hop_s = spec.hop_samples / spec.sample_rate_hz
        self._momentary_step, self._attack_step, self._release_step, self._chroma_step = (
            1.0 - math.exp(-hop_s / tau)
            for tau in (spec.momentary_s, spec.attack_s, spec.release_s, spec.chroma_smoothing_s)
        )
        self._open_power, self._close_power = (10.0 ** (db / 10.0) for db in (spec.gate_open_db, spec.gate_close_db))
        self._hold_hops = round(spec.gate_hold_s / hop_s)
        self._relearn_hops = round(spec.relearn_s / hop_s)
        # A hop with more energy than full scale times 8 is not sound but a fault.
        self._energy_limit = spec.hop_samples * 64.0

        self._samples = np.zeros(n, np.float32)
        self._windowed = np.empty(n, np.float32)
        self._spectrum = np.empty(n // 2 + 1, np.complex64)
        self._power = np.empty(self._bin_count, np.float32)
        self._square = np.empty(self._bin_count, np.float32)
        self._magnitude = np.empty(self._chroma_bins.stop - self._chroma_bins.start, np.float32)
        self._mel = np.empty(spec.mel_bands, np.float32)
        self._logs = np.zeros((spec.flux_lag_hops + 1, spec.mel_bands), np.float32)
        self._rise = np.empty(spec.mel_bands, np.float32)
        self._chroma = np.zeros(12, np.float32)
        self._chroma_now = np.zeros(12, np.float32)
        self._row = np.empty(spec.count, np.float32)
        self.reset()

    def reset(self) -> None:
        """Forget everything heard."""
        self._samples[:] = 0.0
        self._logs[:] = 0.0
        self._chroma[:] = 0.0
        self._newest = 0
        self._active = False
        self._quiet_hops = 0
        self._heard_hops = 0
        self._momentary_power = 0.0
        self._loudness_db = 0.0
        self._level_dbfs = -120.0

    @property
    def names(self) -> tuple[str, ...]:
        """Name of every column."""
        return self.spec.names

    @property
    def active(self) -> bool:
        """Whether the silence gate is open."""
        return self._active

    @property
    def level_dbfs(self) -> float:
        """Mean power of the newest hop [dBFS], at least -120; a meter's value, it does depend on the gain."""
        return self._level_dbfs

    def process(self, hop: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the read-only row (F,) float32 of the hop (hop_samples,) float32. NaN and infinity count as zero."""
        spec = self.spec
        size = spec.hop_samples
        if hop.shape != (size,):
            raise ValueError(f"expected a hop of shape ({size},), got {hop.shape}")
        with np.errstate(over="ignore", invalid="ignore"):
            energy = float(np.dot(hop, hop))
        if not energy < self._energy_limit:  # also true of NaN
            hop = np.clip(np.nan_to_num(hop, nan=0.0, posinf=0.0, neginf=0.0), -8.0, 8.0)
            energy = float(np.dot(hop, hop))
        samples = self._samples
        samples[:-size] = samples[size:]
        samples[-size:] = hop
        self._follow_loudness(energy / size)
        if not self._active:
            return spec.silence
        return self._describe(energy / size)

    def extract(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the rows (n_hops, F) of `samples` (n,) at 48 kHz, continuing from the present state.

        Samples beyond the last whole hop are ignored; call `reset` first to hear a new piece.
        """
        size = self.spec.hop_samples
        hops = np.ascontiguousarray(samples, np.float32)[: len(samples) // size * size].reshape(-1, size)
        rows = np.empty((len(hops), self.spec.count), np.float32)
        for row, hop in zip(rows, hops, strict=True):
            row[:] = self.process(hop)
        return rows

    def _follow_loudness(self, power: float) -> None:
        """Move the silence gate and the running loudness by one hop of mean power `power`."""
        self._level_dbfs = 10.0 * math.log10(power + 1e-12)
        if power < (self._close_power if self._active else self._open_power):
            self._quiet_hops += 1
            if self._active and self._quiet_hops > self._hold_hops:
                self._active = False
                self._logs[:] = 0.0
                self._chroma[:] = 0.0
            if self._quiet_hops > self._relearn_hops:
                self._heard_hops = 0
            return
        self._active = True
        self._quiet_hops = 0
        self._heard_hops += 1
        plain = 1.0 / self._heard_hops
        self._momentary_power += max(plain, self._momentary_step) * (power - self._momentary_power)
        difference = 10.0 * math.log10(self._momentary_power) - self._loudness_db
        step = self._attack_step if difference > 0.0 else self._release_step
        self._loudness_db += max(plain, step) * difference

    def _describe(self, hop_power: float) -> NDArray[np.float32]:
        """Return the row of the present window."""
        spec, row, count = self.spec, self._row, self._bin_count
        reference = 10.0 ** (self._loudness_db / 10.0)
        np.multiply(self._samples, self._window, out=self._windowed)
        # NumPy's stubs know no single-precision transform; at run time the precision of the input is kept.
        spectrum = np.fft.rfft(self._windowed, out=self._spectrum)[:count]  # type: ignore[arg-type]
        power = self._power
        np.square(spectrum.real, out=power)
        np.square(spectrum.imag, out=self._square)
        power += self._square

        mel = self._mel
        self._bands(power[self._bands.bins], mel)
        mel *= self._power_scale / reference
        total = float(mel.sum())
        centroid = float(np.dot(mel, self._band_position)) / (total + self._log_floor)
        mel *= 1.0 / self._log_floor
        newest = self._newest = (self._newest + 1) % len(self._logs)
        logs = self._logs[newest]
        np.log1p(mel, out=logs)
        np.matmul(self._dct, logs, out=row[: spec.mfcc_count])
        # log of geometric over arithmetic mean, 0 for white and negative for tonal sound; row[0] holds the mean log.
        mean_log = float(row[0]) / float(self._dct[0, 0]) / spec.mel_bands
        flatness = mean_log - math.log1p(total / self._log_floor / spec.mel_bands)

        rise = self._rise
        np.subtract(logs, self._logs[(newest + 1) % len(self._logs)], out=rise)
        np.maximum(rise, 0.0, out=rise)
        np.matmul(self._register_means, rise, out=row[self._flux_slice])

        np.sqrt(power[self._chroma_bins], out=self._magnitude)
        now, chroma = self._chroma_now, self._chroma
        np.matmul(self._chroma_map, self._magnitude, out=now)
        # The floor lets the chroma of near-silence fade instead of being noise blown up to full scale.
        loudest = float(now.max())
        now *= 1.0 / (loudest + math.sqrt(reference * self._log_floor / self._power_scale))
        now -= chroma
        now *= self._chroma_step
        chroma += now
        row[self._chroma_slice] = chroma

        low, high = spec.level_low_db, spec.level_high_db
        row[self._scalar_slice] = (
            spec.level_scale * min(max(self._level_dbfs - self._loudness_db, low), high),
            spec.level_scale * min(max(10.0 * math.log10(self._momentary_power) - self._loudness_db, low), high),
            centroid,
            flatness,
            1.0,
        )
        result = row.copy()
        result.flags.writeable = False
        return result


class TickPooler:
    """Pool hop rows onto ticks as they come: the mean of a tick's hops, for onset columns their maximum.

    A tick owns the hops that end in (previous tick, this tick], of them the newest `max_pool_hops`; a tick without a
    hop repeats the newest row of before, and before anything was heard it is silence. Equal, bit for bit, to
    `pool_ticks`, as long as no hop comes after its tick was pooled (a late one counts for the next tick).

    Threads: one.
    """

    def __init__(self, spec: FeatureSpec | None = None) -> None:
        self._spec = spec or FeatureSpec()
        # Hops are fed in bursts of an audio block and ticks are pooled after it; more than 2.5 s never wait.
        self._waiting: deque[tuple[int, NDArray[np.float32]]] = deque(maxlen=256)
        self._last = self._spec.silence

    def reset(self) -> None:
        """Forget everything pushed."""
        self._waiting.clear()
        self._last = self._spec.silence

    def push(self, row: NDArray[np.float32], end_ns: int) -> None:
        """Take the row (F,) of a hop that ends at `end_ns`; times must not decrease."""
        self._waiting.append((end_ns, row))

    def pool(self, tick_ns: int) -> NDArray[np.float32]:
        """Return the row (F,) of the tick at `tick_ns` and release its hops; times must not decrease."""
        rows = []
        while self._waiting and self._waiting[0][0] <= tick_ns:
            rows.append(self._waiting.popleft()[1])
        if not rows:
            return self._last
        self._last = rows[-1]
        return _pool(np.stack(rows[-self._spec.max_pool_hops :]), self._spec)


def pool_ticks(
    features: NDArray[np.float32], hop_end_s: ArrayLike, tick_s: ArrayLike, spec: FeatureSpec | None = None
) -> NDArray[np.float32]:
    """Pool feature rows onto ticks; see `TickPooler` for the rule.

    Args:
        features: (n_hops, F) rows.
        hop_end_s: (n_hops,) time of each hop's newest sample [s], not decreasing.
        tick_s: (n_ticks,) tick times [s], not decreasing. The first tick owns every hop up to it.
        spec: what `features` were extracted with; the default one if not given.

    Returns:
        (n_ticks, F) float32.
    """
    spec = spec or FeatureSpec()
    rows = np.ascontiguousarray(features, np.float32)
    hop_ns, tick_ns = (np.round(np.asarray(t, np.float64) * 1e9).astype(np.int64) for t in (hop_end_s, tick_s))
    pooled = np.empty((len(tick_ns), rows.shape[1]), np.float32)
    first = 0
    for out, stop in zip(pooled, np.searchsorted(hop_ns, tick_ns, side="right").tolist(), strict=True):
        if stop > first:
            out[:] = _pool(rows[max(first, stop - spec.max_pool_hops) : stop], spec)
        else:
            out[:] = rows[stop - 1] if stop else spec.silence
        first = stop
    return pooled


def _pool(rows: NDArray[np.float32], spec: FeatureSpec) -> NDArray[np.float32]:
    """Return the mean of `rows` (n, F), n >= 1, and the maximum of the onset columns."""
    pooled: NDArray[np.float32] = rows.mean(axis=0)
    columns = spec.onset_columns
    pooled[columns] = rows[:, columns].max(axis=0)
    return pooled
