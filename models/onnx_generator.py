"""The live music -> dance generator: ONNX Runtime on one CPU thread, no torch.

One call of `step` is one run of the exported graph: encoder and decoder over one chunk with their key/value rings,
then the few Euler steps of the flow. State, noise and phrase plan live here and are explicit, so that the same seed
and the same requests give the same dance, to the bit on the same machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from safetensors.numpy import load_file

from engine.features import FeatureSpec
from engine.types import GeneratorInfo, MotionChunk, MotionRequest
from models.artifacts import GMD_FOLDER, GmdManifest
from models.conditioning import ChunkConditions, normalise_music
from models.motion_representation import HEIGHT, TICK_SIZE, MotionRepresentation, chunk_from_ticks
from models.phrases import PhrasePlanner, PhraseTable, PoseTable

MODEL_FILE = "model.onnx"
TABLES_FILE = "tables.safetensors"

_UNMASKED, _MASKED = 0.0, -1e9
_BLEND_TICKS = 24
"""A change of style takes two beats."""
_BLENDED = slice(0, HEIGHT + 1)
"""Rotations and root height; how it turns and travels is taken over at once."""

Floats = NDArray[np.float32]


class OnnxGenerator:
    """A `Generator` on exported weights. Threads: one.

    Args:
        folder: of the weights.
        seed: of the first dance.
    """

    def __init__(self, folder: Path = GMD_FOLDER, seed: int = 0) -> None:
        self.manifest = manifest = GmdManifest.load(folder)
        manifest.require_features(FeatureSpec().digest)
        self.info = GeneratorInfo(
            name=manifest.name,
            chunk_ticks=manifest.chunk_ticks,
            lookahead_ticks=manifest.lookahead_ticks,
            feature_spec=manifest.feature_spec,
            feature_count=manifest.feature_count,
            styles=manifest.styles,
            tempo_range_bpm=manifest.tempo_range_bpm,
        )
        tables = load_file(folder / TABLES_FILE)
        self._music_mean, self._music_scale = tables["music_mean"], tables["music_scale"]
        self._representation = MotionRepresentation(
            tables["motion_mean"], np.empty((0, 0), np.float32), tables["motion_decoder"]
        )
        self._starts = PoseTable(tables["start_latents"], tables["start_styles"])
        self._phrases = PhraseTable(tables["phrase_descriptors"], tables["phrase_styles"], tables["phrase_energies"])

        half = manifest.head_size // 2
        ring = (manifest.attentions, 1, manifest.heads, manifest.window, manifest.head_size)
        fresh = (manifest.attentions, 1, manifest.heads, manifest.head_size)
        self._inputs: dict[str, Floats] = {
            "music": np.zeros((1, manifest.chunk_ticks * manifest.feature_count), np.float32),
            "condition": np.zeros((1, manifest.condition_size), np.float32),
            "history": np.zeros((1, manifest.latent_size), np.float32),
            "noise": np.zeros((1, manifest.latent_size), np.float32),
            "keys": np.zeros(ring, np.float32),
            "values": np.zeros(ring, np.float32),
            "mask": np.zeros(manifest.window, np.float32),
            "cos": np.zeros(half, np.float32),
            "sin": np.zeros(half, np.float32),
        }
        self._outputs: dict[str, Floats] = {
            "latent": np.zeros((1, manifest.latent_size), np.float32),
            "new_keys": np.zeros(fresh, np.float32),
            "new_values": np.zeros(fresh, np.float32),
        }
        self._rates = manifest.rotary_base ** (-np.arange(0, manifest.head_size, 2) / manifest.head_size)
        self._session, self._binding = self._open(folder / MODEL_FILE)
        self.reset(seed)
        # The first run allocates; it is not to happen on stage.
        self._session.run_with_iobinding(self._binding)

    def reset(self, seed: int) -> None:
        """Start a new dance: empty memory; the first step begins in a calm pose of its style, chosen by the seed."""
        self._random = np.random.Generator(np.random.PCG64(seed))
        self._count = 0
        self._planner = PhrasePlanner(self._phrases, self._random)
        for array in self._inputs.values():
            array.fill(0.0)
        self._inputs["mask"].fill(_MASKED)
        self._style: int | None = None
        self._last = np.zeros(TICK_SIZE, np.float32)
        self._blend = np.zeros(_BLENDED.stop, np.float32)
        self._blend_ticks = 0

    def step(self, request: MotionRequest) -> MotionChunk:
        """Return the next chunk; see `engine.protocols.Generator`.

        Features that are not finite count as average ones; an unknown style counts as none.
        """
        manifest, inputs = self.manifest, self._inputs
        style = manifest.styles.index(request.style) if request.style in manifest.styles else None
        energy = float(np.clip(request.energy, 0.0, 1.0))
        if self._count == 0:
            inputs["history"][0] = self._starts.draw(self._random, style)
        elif style != self._style and style is not None:
            self._change_style(style)
        self._style = style
        phrase, energy = self._planner.phrase(
            request.first_tick, request.beats_per_bar, request.bar_tick, style, energy
        )
        inputs["music"][0] = normalise_music(request.music, self._music_mean, self._music_scale).reshape(-1)
        inputs["condition"][:] = ChunkConditions(
            first_tick=request.first_tick,
            tempo_bpm=float(np.clip(request.tempo_bpm, *manifest.tempo_range_bpm)),
            beats_per_bar=request.beats_per_bar,
            bar_tick=request.bar_tick,
            style=style,
            energy=energy,
            phrase=phrase,
            history_noise=manifest.history_noise,
        ).vectors()
        inputs["noise"][0] = manifest.temperature * self._random.standard_normal(manifest.latent_size, np.float32)
        angles = self._count * self._rates
        inputs["cos"][:], inputs["sin"][:] = np.cos(angles), np.sin(angles)

        self._session.run_with_iobinding(self._binding)

        slot = self._count % manifest.window
        inputs["keys"][:, :, :, slot] = self._outputs["new_keys"]
        inputs["values"][:, :, :, slot] = self._outputs["new_values"]
        inputs["mask"][slot] = _UNMASKED
        inputs["history"][:] = self._outputs["latent"]
        self._count += 1
        ticks = self._representation.decode(self._outputs["latent"])
        left = np.clip(self._blend_ticks - np.arange(len(ticks)), 0, _BLEND_TICKS) / _BLEND_TICKS
        ticks[:, _BLENDED] += (left * left * (3.0 - 2.0 * left))[:, None] * self._blend
        self._blend_ticks -= len(ticks)
        self._last = ticks[-1]
        return chunk_from_ticks(ticks)

    def _change_style(self, style: int) -> None:
        """Go on as from a calm pose of another style, and let the difference to the present pose die away.

        A dance holds to its style, because every dance it learnt did: asked within it, it would not change (measured).
        """
        self._inputs["mask"].fill(_MASKED)
        self._inputs["history"][0] = self._starts.draw(self._random, style)
        begun = self._representation.decode(self._inputs["history"])[-1]
        self._blend = self._last[_BLENDED] - begun[_BLENDED]
        self._blend_ticks = _BLEND_TICKS

    def _open(self, path: Path) -> tuple[Any, Any]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        binding = session.io_binding()
        # Bound to our own buffers once: a step copies nothing and allocates nothing.
        for name, array in self._inputs.items():
            binding.bind_input(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
        for name, array in self._outputs.items():
            binding.bind_output(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
        return session, binding
