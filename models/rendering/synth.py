"""Render a score through a tempo map with a soundfont; every event starts on its exact sample."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.errors import UserError
from models.rendering.scores import DRUM_CHANNEL, Score
from models.rendering.tempo import TempoMap

SAMPLE_RATE_HZ = 48_000
_VOLUME, _PAN = 7, 10  # MIDI controllers


@dataclass(frozen=True, slots=True)
class Take:
    """A rendering and its truth.

    Attributes:
        samples: (n, 2) float32.
        sample_rate_hz: of `samples`.
        beats_s: (B,) time of each beat; inside a silence there are none.
        downbeats_s: those that start a bar.
        silences_s: (start, end) of each break.
    """

    samples: NDArray[np.float32]
    sample_rate_hz: int
    beats_s: NDArray[np.float64]
    downbeats_s: NDArray[np.float64]
    silences_s: list[tuple[float, float]]

    def mono(self) -> NDArray[np.float32]:
        """Return the mean of both channels, (n,)."""
        return np.asarray(self.samples.mean(axis=1), dtype=np.float32)


class SoundFont:
    """A soundfont (SF2 or SF3) loaded once and used for many renderings. Threads: one.

    Args:
        path: of the file.
        sample_rate_hz: of what is rendered.

    Raises:
        UserError: `tinysoundfont` is missing or the file cannot be read.
    """

    def __init__(self, path: Path, sample_rate_hz: int = SAMPLE_RATE_HZ) -> None:
        try:
            import tinysoundfont
        except ImportError as error:
            raise UserError("tinysoundfont is not installed", 'pip install "pasdedeux[train]"') from error
        if not path.is_file():
            raise UserError(f"no such soundfont: {path}", "give the path of an .sf2 or .sf3 file")
        self.sample_rate_hz = sample_rate_hz
        self._synth = tinysoundfont.Synth(gain=-6.0, samplerate=sample_rate_hz)
        self._id = self._synth.sfload(str(path))

    def prepare(self, score: Score) -> None:
        """Silence everything and set each channel's program, volume and pan."""
        self._synth.sounds_off()
        for channel in range(16):
            program = score.programs.get(channel, 0)
            if channel == DRUM_CHANNEL:
                self._synth.program_select(channel, self._id, 128, 0, True)
                if program:  # a kit this font may not have: then the standard kit stays
                    self._synth.program_change(channel, program, True)
            else:
                self._synth.program_select(channel, self._id, 0, program)
            self._synth.control_change(channel, _VOLUME, score.volumes.get(channel, 100))
            self._synth.control_change(channel, _PAN, score.pans.get(channel, 64))

    def play(self, events: NDArray[np.int64], count: int) -> NDArray[np.float32]:
        """Render `count` samples of events (E, 4): sample, channel, pitch, velocity (0 ends the note); sorted."""
        out = np.empty((count, 2), dtype=np.float32)
        done = 0
        for sample, channel, pitch, velocity in events.tolist():
            at = min(sample, count)
            if at > done:
                out[done:at] = np.frombuffer(self._synth.generate(at - done), dtype=np.float32).reshape(-1, 2)
                done = at
            if velocity:
                self._synth.noteon(channel, pitch, velocity)
            else:
                self._synth.noteoff(channel, pitch)
        if done < count:
            out[done:] = np.frombuffer(self._synth.generate(count - done), dtype=np.float32).reshape(-1, 2)
        return out


def render(score: Score, tempo: TempoMap, font: SoundFont, lead_s: float = 0.0, tail_s: float = 1.0) -> Take:
    """Render a score.

    Args:
        score: what to play.
        tempo: when each of its beats falls.
        font: with what.
        lead_s: silence before beat 0.
        tail_s: what is kept after the last beat, for the notes to ring out.

    Returns:
        Samples at their natural level (see `normalise`) and the exact beats.
    """
    notes = score.notes
    start_s = tempo.time_of(notes["start"])
    end_s = tempo.time_of(notes["end"], before_break=True)
    end_s = np.maximum(end_s, start_s + 0.01)
    # A note struck again while it sounds is cut off there: otherwise the first note's end would mute the second.
    order = np.lexsort((start_s, notes["pitch"], notes["channel"]))
    same = (np.diff(notes["pitch"][order]) == 0) & (np.diff(notes["channel"][order]) == 0)
    limit = np.where(same, start_s[order][1:], np.inf)
    end_s[order[:-1]] = np.minimum(end_s[order[:-1]], limit)
    # In a break nothing sounds on but release tails.
    for silent_from, silent_to in tempo.silences():
        crossing = (start_s < silent_from) & (end_s > silent_from)
        end_s[crossing] = silent_from
        inside = (start_s >= silent_from) & (start_s < silent_to)
        end_s[inside] = np.minimum(end_s[inside], silent_to)

    rate = font.sample_rate_hz
    zeros = np.zeros(len(notes), dtype=np.int64)
    on = np.stack([np.rint((start_s + lead_s) * rate), notes["channel"], notes["pitch"], notes["velocity"]], 1)
    off = np.stack([np.rint((end_s + lead_s) * rate), notes["channel"], notes["pitch"], zeros], 1)
    events = np.concatenate([off, on]).astype(np.int64)
    events = events[np.lexsort((events[:, 3] > 0, events[:, 0]))]

    beats = np.arange(score.length_beats)
    last_s = float(tempo.time_of(score.length_beats, before_break=True))
    font.prepare(score)
    samples = font.play(events, int(np.ceil((lead_s + last_s + tail_s) * rate)))
    return Take(
        samples,
        rate,
        tempo.time_of(beats) + lead_s,
        tempo.time_of(score.downbeats()) + lead_s,
        [(a + lead_s, b + lead_s) for a, b in tempo.silences()],
    )


def normalise(samples: NDArray[np.float32], rms_dbfs: float = -20.0, peak: float = 0.98) -> NDArray[np.float32]:
    """Scale to an RMS level over the sounding parts, held below a peak.

    The sounding parts are the 50 ms windows within 40 dB of the loudest.
    """
    power = np.square(samples, dtype=np.float64)
    power = power if power.ndim == 1 else power.mean(axis=1)
    window = 2400
    if len(power) < window:
        return samples
    means = power[: len(power) // window * window].reshape(-1, window).mean(axis=1)
    if means.max() <= 0.0:
        return samples
    rms = np.sqrt(means[means > means.max() * 1e-4].mean())
    gain = 10.0 ** (rms_dbfs / 20.0) / rms
    gain = min(gain, peak / float(np.abs(samples).max()))
    return np.asarray(samples * gain, dtype=np.float32)
