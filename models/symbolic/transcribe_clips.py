"""The last stage of `pasdedeux prepare --transcribe`: the music of every prepared clip as `<out>/scores/<name>.npz`.

May be interrupted and run again: a score that was made from the same clip by the same networks is not made again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from engine.errors import UserError
from engine.features import SAMPLE_RATE_HZ
from models.data.clip_sources import BadClip, ClipSource, load_audio
from models.data.dataset import PreparedClip
from models.symbolic import pitch_activations, transcription_network
from models.symbolic.transcribe import Transcriber

_VERSION = 1
"""Raised when the decoding changes what it returns."""


@dataclass(frozen=True, slots=True)
class ScoreSummary:
    """Names of the scores made now and found ready, and why each clip has none."""

    made: tuple[str, ...]
    ready: tuple[str, ...]
    skipped: dict[str, str]


def transcribe_clips(sources: Sequence[ClipSource], out: Path, console: Console | None = None) -> ScoreSummary:
    """Transcribe the music of the clips of a prepared folder; clips that fail are named and left out.

    Args:
        sources: the raw clips. out: the prepared folder. console: where progress and bad clips are printed.

    Raises:
        UserError: the networks are missing.
    """
    console = console or Console()
    transcriber = Transcriber()
    weights = (pitch_activations.WEIGHTS, transcription_network.WEIGHTS)
    networks = hashlib.sha256(b"".join(path.read_bytes() for path in weights)).hexdigest()
    (out / "scores").mkdir(parents=True, exist_ok=True)
    made: list[str] = []
    ready: list[str] = []
    skipped: dict[str, str] = {}
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("scores", total=len(sources))
        for source in sources:
            try:
                (made if _transcribe(source, out, transcriber, networks) else ready).append(source.name)
            except (BadClip, UserError, ValueError, OSError) as error:
                skipped[source.name] = str(error)
            progress.advance(bar)
    for name, reason in sorted(skipped.items()):
        console.print(f"no score of [bold]{escape(name)}[/]: {escape(reason)}", highlight=False)
    console.print(f"scores: {len(made)} made, {len(ready)} ready, {len(skipped)} left out", highlight=False)
    return ScoreSummary(tuple(made), tuple(ready), skipped)


def _transcribe(source: ClipSource, out: Path, transcriber: Transcriber, networks: str) -> bool:
    """Make one score; return false if it was there. Raises BadClip, UserError, ValueError or OSError."""
    if source.audio is None:
        raise BadClip("it has no music")
    clip = out / "clips" / f"{source.name}.npz"
    if not clip.is_file():
        raise BadClip("it was not prepared")
    content = hashlib.sha256(clip.read_bytes() + networks.encode() + bytes([_VERSION]))
    content.update(source.audio.read_bytes() if source.audio.is_file() else b"")
    path = out / "scores" / f"{source.name}.npz"
    stamp = path.with_suffix(".key")
    if path.is_file() and stamp.is_file() and stamp.read_text() == content.hexdigest():
        return False
    transcriber.clip(PreparedClip.load(clip), load_audio(source), SAMPLE_RATE_HZ).save(path)
    stamp.write_text(content.hexdigest())
    return True
