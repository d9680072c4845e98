"""The live dance -> music composer: ONNX Runtime on one CPU thread, no torch.

One call of `step` is one run of the exported graph: encoder and decoder over one step with their memory
(`models.dance_to_music.composer_memory`), then the four voices' choices. Memory, noise, key and phrase plan live here
and are explicit, so that the same seed and the same requests give the same music, to the bit on the same machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from safetensors.numpy import load_file

from engine.body.pose_features import PoseFeatureSpec
from engine.types import TICKS_PER_STEP, ComposerInfo, Key, MusicRequest, MusicStep
from models.artifacts import GDM_FOLDER, GdmManifest
from models.backends.ort_backend import stage_options
from models.dance_to_music.composer_memory import memory_of
from models.dance_to_music.conditioning import MUSIC_CONDITION_SIZE, StepConditions, metre_of
from models.dance_to_music.token_voices import TokenVoices
from models.dance_to_music.tokens import HISTORY_SIZE, RunningHistory, home_shift
from models.music_to_dance.conditioning import normalise_music
from models.music_to_dance.phrases import PhrasePlanner, PhraseTable

MODEL_FILE = "model.onnx"
TABLES_FILE = "tables.safetensors"

_MINOR_SHARE = 0.4
"""Share of pieces in a minor key where no key is wished, about as in pop."""
_OWN_BEATS_PER_BAR = 4
"""A band that is told no metre counts its own: without bars it loses its groove (measured on val)."""
_ENERGY_STEPS = 8.0
"""A body swings between calm and wild within a bar, bands do not: told so, drummers lose the groove (measured on val:
groove similarity 0.57 to 0.71 without, 0.73 to 0.84 with). Velocities follow the accents elsewhere, at once."""

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


class OnnxComposer:
    """A `Composer` on exported weights. Threads: one.

    Args:
        folder: of the weights.
        seed: of the first piece.
    """

    def __init__(self, folder: Path = GDM_FOLDER, seed: int = 0) -> None:
        self.manifest = manifest = GdmManifest.load(folder)
        manifest.require(PoseFeatureSpec().digest, (MUSIC_CONDITION_SIZE, HISTORY_SIZE))
        self.info = ComposerInfo(
            name=manifest.name,
            lookahead_ticks=manifest.lookahead_ticks,
            pose_spec=manifest.pose_spec,
            pose_count=manifest.pose_count,
            tempo_range_bpm=manifest.tempo_range_bpm,
        )
        tables = load_file(folder / TABLES_FILE)
        self._pose_mean, self._pose_scale = tables["pose_mean"], tables["pose_scale"]
        self._phrases = PhraseTable(tables["phrase_descriptors"], tables["phrase_metres"], tables["phrase_energies"])
        self._metres = frozenset(tables["phrase_metres"].tolist())

        self._memory = memory_of(manifest)
        self._inputs: dict[str, Floats] = {
            "dance": np.zeros((1, TICKS_PER_STEP * manifest.pose_count), np.float32),
            "known": np.zeros(1, np.float32),
            "condition": np.zeros((1, manifest.condition_size), np.float32),
            "history": np.zeros((1, manifest.history_size), np.float32),
            "noise": np.zeros((1, manifest.noise_size), np.float32),
            "temperature": np.array(manifest.temperature, np.float32),
            "cutoff": np.array([manifest.cutoff], np.float32),
            **self._memory.inputs,
        }
        self._choices: dict[str, Ints] = {
            "drums": np.zeros((1, 9), np.int64),
            "voices": np.zeros((1, 3), np.int64),
            "levels": np.zeros((1, 3), np.int64),
        }
        self._session, self._binding = self._open(folder / MODEL_FILE)
        self._history, self._voices = RunningHistory(), TokenVoices()
        self.reset(seed)
        # The first run allocates; it is not to happen on stage.
        self._session.run_with_iobinding(self._binding)

    def reset(self, seed: int) -> None:
        """Start a new piece: empty memory; where no key is wished, the seed chooses one."""
        self._random = np.random.Generator(np.random.PCG64(seed))
        self._begun = False
        self._energy = 0.5
        self._planner = PhrasePlanner(self._phrases, self._random)
        self._own_key = Key(int(self._random.integers(12)), bool(self._random.random() < _MINOR_SHARE))
        self._history.reset()
        self._voices.reset()
        self._memory.reset()
        self._inputs["history"].fill(0.0)

    def step(self, request: MusicRequest) -> MusicStep:
        """Return the next step; see `engine.protocols.Composer`.

        Features that are not finite count as average ones; if none is finite, nobody is seen to dance.
        """
        manifest, inputs = self.manifest, self._inputs
        key = request.key or self._own_key
        wished, density = _wish(request.energy), _wish(request.density)
        self._energy += (wished - self._energy) / (_ENERGY_STEPS if self._begun else 1.0)
        self._begun = True
        beats_per_bar = request.beats_per_bar or _OWN_BEATS_PER_BAR
        metre = metre_of(beats_per_bar)
        phrase, _ = self._planner.phrase(
            request.step * TICKS_PER_STEP,
            beats_per_bar,
            request.bar_step * TICKS_PER_STEP,
            metre if metre in self._metres else None,
            self._energy,
        )
        seen = bool(np.isfinite(request.poses).any())
        inputs["known"][0] = float(seen)
        inputs["dance"][0] = normalise_music(request.poses, self._pose_mean, self._pose_scale).reshape(-1)
        inputs["condition"][:] = StepConditions(
            step=request.step,
            tempo_bpm=float(np.clip(request.tempo_bpm, *manifest.tempo_range_bpm)),
            beats_per_bar=beats_per_bar,
            bar_step=request.bar_step,
            minor=key.minor,
            energy=self._energy,
            density=density,
            voices=np.ones(4),
            phrase=phrase,
            dance_known=seen,
        ).vectors()
        # Standard Gumbel numbers; 1 - u is never 0.
        inputs["noise"][0] = -np.log(-np.log1p(-self._random.random(manifest.noise_size)) + 1e-20)
        self._memory.before()
        self._session.run_with_iobinding(self._binding)
        self._memory.after()
        drums, voices, levels = (self._choices[name][0].astype(np.int16) for name in ("drums", "voices", "levels"))
        inputs["history"][0] = self._history.advance(drums, voices, levels)
        return self._voices.play(drums, voices, levels, home_shift(key), self._random)

    def _open(self, path: Path) -> tuple[Any, Any]:
        session = onnxruntime.InferenceSession(str(path), stage_options(), providers=["CPUExecutionProvider"])
        binding = session.io_binding()
        # Bound to our own buffers once: a step copies nothing and allocates nothing.
        for name, array in self._inputs.items():
            binding.bind_input(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
        for name, choice in self._choices.items():
            binding.bind_output(name, "cpu", 0, np.int64, choice.shape, choice.ctypes.data)
        for name, array in self._memory.outputs.items():
            binding.bind_output(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
        return session, binding


def _wish(value: float) -> float:
    """Return a wish in [0, 1]; what is no number is none."""
    return float(np.clip(np.nan_to_num(value, nan=0.5), 0.0, 1.0))
