"""The network that turns what is heard in each sixteenth into what the four voices do there. Offline only: torch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from engine.errors import UserError
from engine.types import DRUMS
from models.symbolic.pitch_activations import LOWEST_PITCH, PITCHES
from models.symbolic.step_features import FEATURES
from models.symbolic.transcription_decoding import CHORDS, Decoding

WEIGHTS = Path(__file__).parents[1] / "weights" / "transcription" / "transcription.safetensors"
BASS_PITCHES = range(24, 64)
LEAD_PITCHES = range(48, 100)
_WIDTH, _SALIENCE = 192, 16
_DILATIONS = (1, 2, 4, 8, 1, 16)  # +- 64 steps: four bars of music on each side
_SIZES = {
    "drums": len(DRUMS),
    "drum_velocity": len(DRUMS),
    "bass_state": 3,
    "lead_state": 3,
    "bass_pitch": len(BASS_PITCHES),
    "lead_pitch": len(LEAD_PITCHES),
    "chord": CHORDS,
    "chord_begins": 1,
    "velocity": 3,
    "downbeat": 1,
}


@dataclass(frozen=True, slots=True)
class Heard:
    """Logits for each step of (..., S); velocities are logits of a value in 0 to 1.

    Attributes:
        drums: (..., S, 9). drum_velocity: (..., S, 9).
        bass_state, lead_state: (..., S, 3) rest, begin, hold.
        bass_pitch: (..., S, 40). lead_pitch: (..., S, 52).
        chord: (..., S, 97), the chord in force. chord_begins: (..., S, 1).
        velocity: (..., S, 3) of bass, chord, lead.
        downbeat: (..., S, 1) that a bar begins.
    """

    drums: Tensor
    drum_velocity: Tensor
    bass_state: Tensor
    lead_state: Tensor
    bass_pitch: Tensor
    lead_pitch: Tensor
    chord: Tensor
    chord_begins: Tensor
    velocity: Tensor
    downbeat: Tensor


class _Block(nn.Module):
    def __init__(self, dilation: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(_WIDTH)
        self.conv = nn.Conv1d(_WIDTH, _WIDTH, 3, padding=dilation, dilation=dilation)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(self.norm(x).transpose(1, 2)).transpose(1, 2)
        out: Tensor = x + self.drop(nn.functional.gelu(y))
        return out


class TranscriptionNetwork(nn.Module):
    """Dilated convolutions over steps, and a salience that treats all pitches alike, for bass and lead."""

    def __init__(self, dropout: float = 0.1) -> None:
        super().__init__()
        self.entry = nn.Linear(FEATURES, _WIDTH)
        self.blocks = nn.ModuleList(_Block(dilation, dropout) for dilation in _DILATIONS)
        self.norm = nn.LayerNorm(_WIDTH)
        self.head = nn.Linear(_WIDTH, sum(_SIZES.values()))
        self.near = nn.Conv1d(3, _SALIENCE, 5, padding=2)
        self.octaves = nn.Conv1d(_SALIENCE, _SALIENCE, 5, padding=24, dilation=12)  # what is one and two octaves off
        self.salience = nn.Conv1d(_SALIENCE, 2, 1)

    def forward(self, features: Tensor) -> Heard:
        """Return what is heard in (B, S, F) features."""
        batch, steps, _ = features.shape
        x = nn.functional.gelu(self.entry(features))
        for block in self.blocks:
            x = block(x)
        parts = dict(zip(_SIZES, self.head(self.norm(x)).split(list(_SIZES.values()), dim=-1), strict=True))
        keys = features[..., : 3 * PITCHES].reshape(batch * steps, 3, PITCHES)
        found = self.salience(nn.functional.gelu(self.octaves(nn.functional.gelu(self.near(keys)))))
        found = found.reshape(batch, steps, 2, PITCHES)
        for row, (name, pitches) in enumerate((("bass_pitch", BASS_PITCHES), ("lead_pitch", LEAD_PITCHES))):
            first = pitches[0] - LOWEST_PITCH
            parts[name] = parts[name] + found[..., row, first : first + len(pitches)]
        return Heard(**parts)

    def save(self, path: Path, how: Decoding) -> None:
        """Write the weights as safetensors, in half precision, and the decoding that suits them."""
        path.parent.mkdir(parents=True, exist_ok=True)
        weights = {name: value.half().contiguous() for name, value in self.state_dict().items()}
        save_file(weights, str(path), {"decoding": json.dumps(asdict(how))})

    @staticmethod
    def load(path: Path = WEIGHTS) -> tuple[TranscriptionNetwork, Decoding]:
        """Read weights and their decoding. Raises UserError if they are missing, damaged or of another network."""
        network = TranscriptionNetwork()
        try:
            with safe_open(str(path), "pt") as file:
                decoding = json.loads(file.metadata()["decoding"])
                network.load_state_dict({name: file.get_tensor(name).float() for name in file.keys()})  # noqa: SIM118
            how = Decoding(**(decoding | {"drums": tuple(decoding["drums"])}))
        except (OSError, SafetensorError, RuntimeError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"no usable transcription network {path} ({error})", "install the package again") from error
        return network.eval(), how
