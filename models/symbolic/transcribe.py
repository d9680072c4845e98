"""Recorded music -> step grid: what drums, bass, chords and melody do in each sixteenth of known beats. Offline only.

Pitch activations (basic-pitch) and a coarse spectrum of each step go through a network that was trained on rendered
bands (`models.symbolic.transcription_training`); a Viterbi search turns its chances into notes. It is a transcription,
with errors: see the model card beside the weights for how many.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from engine.types import TICKS_PER_BEAT, TICKS_PER_STEP
from models.data.dataset import PreparedClip
from models.symbolic import pitch_activations
from models.symbolic.pitch_activations import PitchNetwork
from models.symbolic.step_features import step_features
from models.symbolic.step_grid import STEPS_PER_BEAT, StepGrid
from models.symbolic.transcription_decoding import Chances, decode
from models.symbolic.transcription_network import BASS_PITCHES, LEAD_PITCHES, WEIGHTS, Heard, TranscriptionNetwork


class Transcriber:
    """Both networks, loaded once.

    Raises:
        UserError: weights are missing or damaged.
    """

    def __init__(self, weights: Path = WEIGHTS, pitches: Path = pitch_activations.WEIGHTS) -> None:
        self._pitches = PitchNetwork(pitches)
        self._network, self._how = TranscriptionNetwork.load(weights)

    def __call__(
        self,
        samples: NDArray[np.float32],
        rate_hz: int,
        step_s: NDArray[np.float64],
        beats_per_bar: int,
        beat_step: int,
        name: str,
        split: str,
    ) -> StepGrid:
        """Transcribe mono audio (n,).

        Args:
            samples: the audio.
            rate_hz: its rate.
            step_s: (S + 1,) audio time at which each step begins, and the last one ends.
            beats_per_bar: which beat begins a bar is found out.
            beat_step: index of a step that is on a beat.
            name: of the piece.
            split: that it belongs to.

        Raises:
            ValueError: there is no step, or the times do not increase.
        """
        if len(step_s) < 2 or not (np.diff(step_s) > 0.0).all():
            raise ValueError("step times must increase, and there must be one step at least")
        features = step_features(samples, rate_hz, self._pitches(samples, rate_hz), step_s)
        tempo = 60.0 / (STEPS_PER_BEAT * np.diff(step_s))
        return decode(chances_of(self._network, features), tempo, beats_per_bar, beat_step, name, split, self._how)

    def clip(self, clip: PreparedClip, samples: NDArray[np.float32], rate_hz: int) -> StepGrid:
        """Transcribe the music of a prepared clip; row 0 of the grid is the clip's tick `first_step_row(clip)`.

        Raises:
            ValueError: the clip has no music or is shorter than a beat.
        """
        if not clip.has_audio:
            raise ValueError("it has no music")
        rows = step_rows(clip)
        if len(rows) < STEPS_PER_BEAT:
            raise ValueError("it is shorter than a beat")
        step_s = clip.music_time_s[rows]
        step_s = np.append(step_s, 2.0 * step_s[-1] - step_s[-2])
        first = (clip.first_tick + int(rows[0])) // TICKS_PER_STEP
        beat_step = -first % STEPS_PER_BEAT
        return self(samples, rate_hz, step_s, clip.beats_per_bar, beat_step, clip.name, clip.split)


def step_rows(clip: PreparedClip) -> NDArray[np.int64]:
    """Return the rows (S,) of a clip's arrays that are the ticks at which a step of its transcription begins."""
    return np.arange(first_step_row(clip), clip.ticks, TICKS_PER_STEP)


def first_step_row(clip: PreparedClip) -> int:
    """Return the row of a clip's arrays at which its transcription begins: the first tick that begins a step."""
    assert TICKS_PER_BEAT == STEPS_PER_BEAT * TICKS_PER_STEP
    return -clip.first_tick % TICKS_PER_STEP


def chances_of(network: TranscriptionNetwork, features: NDArray[np.floating]) -> Chances:
    """Return what a network hears in features (S, F)."""
    with torch.no_grad():
        heard = network(torch.from_numpy(np.asarray(features, dtype=np.float32)[None]))
    arrays = {f.name: getattr(heard, f.name)[0].numpy() for f in fields(Heard)}
    return Chances(**arrays, bass_lowest=BASS_PITCHES[0], lead_lowest=LEAD_PITCHES[0])
