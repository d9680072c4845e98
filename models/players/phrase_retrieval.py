"""Real music, phrase by phrase: to how somebody moves, the music to which real dancers moved most alike.

The nearest neighbour of the dance -> music direction, as retrieval of real phrases of dance is that of the other. It
is causal: what is played for the next bars is chosen by the bars that have just been danced. All music is in the home
key (`models.dance_to_music.tokens`), so that phrases of different songs go together. The music is transcribed from
recordings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.body.pose_features import PoseFeatureSpec
from engine.errors import UserError
from engine.types import TICKS_PER_STEP, ComposerInfo, Key, MusicRequest, MusicStep
from models.dance_to_music.bands import MusicPiece
from models.dance_to_music.token_voices import TokenVoices
from models.dance_to_music.tokens import FIRST_VALUE, HOLD_TOKEN, REST_TOKEN, home_shift
from models.music_to_dance.conditioning import normalise_music
from models.symbolic.step_grid import STEPS_PER_BEAT

Floats = NDArray[np.float32]

PHRASE_BARS = 2
_CANDIDATES = 3
"""Of the phrases whose dance is most alike, one of so many is drawn: fewer loop, more are less alike."""
_REST = 6
"""A phrase is not played again before this many others."""
_OWN_BEATS_PER_BAR = 4
_LOOKAHEAD_TICKS = 3
_TEMPO_RANGE_BPM = (60.0, 180.0)


@dataclass(frozen=True)
class MusicPhrase:
    """Whole bars of a piece.

    Attributes:
        piece: it is from.
        start: its first step there.
        steps: its length.
        movement: (2 P,) description of how was danced to it.
    """

    piece: MusicPiece
    start: int
    steps: int
    movement: Floats


class MusicPhraseBank:
    """All phrases of whole bars in real music that was danced to.

    Args:
        pieces: with poses, in the home key: of training dances.
        bars: of a phrase.

    Raises:
        UserError: no piece has poses.
    """

    def __init__(self, pieces: Sequence[MusicPiece], bars: int = PHRASE_BARS) -> None:
        self._pieces, self.bars = [piece for piece in pieces if piece.poses is not None], bars
        if not self._pieces:
            raise UserError("no music with its dance to retrieve from", "prepare dances with --transcribe")
        rows = np.concatenate([piece.poses for piece in self._pieces if piece.poses is not None])
        self._mean = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
        self._scale = (1.0 / np.maximum(rows.std(axis=0, dtype=np.float64), 1e-2)).astype(np.float32)

    def describe(self, poses: Floats) -> Floats:
        """Return mean and deviation (2 P,) of the normalised pose features (T, P)."""
        normal = normalise_music(poses, self._mean, self._scale)
        return np.concatenate([normal.mean(axis=0), normal.std(axis=0)]).astype(np.float32)

    def phrases(self, beats_per_bar: int) -> list[MusicPhrase]:
        """Return the phrases of a metre; if no piece has it, all pieces are cut into bars of it. Raises UserError."""
        native = [piece for piece in self._pieces if piece.beats_per_bar == beats_per_bar]
        found = [phrase for piece in native or self._pieces for phrase in self._cut(piece, beats_per_bar)]
        if not found:
            raise UserError(f"no piece holds {self.bars} bars of {beats_per_bar} beats", "retrieve from longer dances")
        return found

    def _cut(self, piece: MusicPiece, beats_per_bar: int) -> Iterator[MusicPhrase]:
        assert piece.poses is not None
        bar = STEPS_PER_BEAT * beats_per_bar
        size = self.bars * bar
        for start in range((piece.bar_step or 0) % bar, piece.tokens.steps - size + 1, bar):
            rows = piece.poses[TICKS_PER_STEP * start : TICKS_PER_STEP * (start + size)]
            yield MusicPhrase(piece, start, size, self.describe(rows))


class PhraseRetrieval:
    """A `Composer` of real phrases. Deterministic for a seed. Threads: one.

    Args:
        bank: of training music.
        by_movement: draw among the phrases whose dance was most alike; else among all, whatever is danced.
    """

    def __init__(self, bank: MusicPhraseBank, *, by_movement: bool = True) -> None:
        spec = PoseFeatureSpec()
        name = "retrieval by movement" if by_movement else "random phrases"
        self.info = ComposerInfo(name, _LOOKAHEAD_TICKS, spec.digest, spec.size, _TEMPO_RANGE_BPM)
        self._bank, self._by_movement = bank, by_movement
        self._by_metre: dict[int, tuple[list[MusicPhrase], Floats]] = {}
        self._voices = TokenVoices()
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Start a new piece; where no key is wished, the seed chooses one."""
        self._random = np.random.Generator(np.random.PCG64(seed))
        self._own_key = Key(int(self._random.integers(12)))
        self._seen: list[Floats] = []
        self._recent: list[int] = []
        self._phrase: MusicPhrase | None = None
        self._sounding = np.zeros(3, bool)
        self._voices.reset()

    def step(self, request: MusicRequest) -> MusicStep:
        """Return the next step; see `engine.protocols.Composer`."""
        beats = request.beats_per_bar or _OWN_BEATS_PER_BAR
        size = self._bank.bars * STEPS_PER_BEAT * beats
        self._seen = [*self._seen, request.poses][-size:]
        within = (request.step - request.bar_step) % size
        if self._phrase is None or within == 0 or self._phrase.steps != size:
            self._phrase = self._choose(beats)
            self._sounding[:] = False
        tokens, at = self._phrase.piece.tokens, self._phrase.start + within
        voices = tokens.voices[at].copy()
        # What began before the phrase was chosen does not sound.
        self._sounding = (voices >= FIRST_VALUE) | (self._sounding & (voices == HOLD_TOKEN))
        voices[(voices == HOLD_TOKEN) & ~self._sounding] = REST_TOKEN
        shift = home_shift(request.key or self._own_key)
        return self._voices.play(tokens.drums[at], voices, np.maximum(tokens.levels[at], 0), shift, self._random)

    def _choose(self, beats_per_bar: int) -> MusicPhrase:
        if beats_per_bar not in self._by_metre:
            phrases = self._bank.phrases(beats_per_bar)
            self._by_metre[beats_per_bar] = (phrases, np.stack([phrase.movement for phrase in phrases]))
        phrases, movements = self._by_metre[beats_per_bar]
        allowed = np.array([k for k in range(len(phrases)) if k not in self._recent] or range(len(phrases)))
        if self._by_movement:
            wanted = self._bank.describe(np.concatenate(self._seen))
            apart = ((movements[allowed] - wanted) ** 2).sum(axis=1)
            allowed = allowed[np.argsort(apart, kind="stable")[:_CANDIDATES]]
        chosen = int(self._random.choice(allowed))
        self._recent = [*self._recent, chosen][-_REST:]
        return phrases[chosen]
