"""The pairs format: an `index.json` of clips, motion as 23 markers in npz files, and audio."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import UserError
from models.data import markers as mk
from models.data.clip_sources import SHORTEST_S, BadClip, ClipSource, checked


def read_pairs(data: Path) -> tuple[list[ClipSource], dict[str, str]]:
    """Read the indexes under `data`: the clips, and why each unusable row was left out.

    Raises UserError if an index is no list in JSON.
    """
    found, bad = [], {}
    folders = [data / "pairs", data / "motion_only", data]
    indexes = [folder / "index.json" for folder in folders if (folder / "index.json").is_file()]
    for index in indexes:
        try:
            rows = json.loads(index.read_text())
        except ValueError as error:
            raise UserError(f"{index} is not valid JSON", str(error)) from error
        if not isinstance(rows, list):
            raise UserError(f"{index} is no list of clips", "write [...] with one object a clip")
        for number, row in enumerate(rows):
            name = str(row.get("name", f"{index.parent.name}[{number}]")) if isinstance(row, dict) else f"row {number}"
            try:
                found.append(checked(_read_row(row, index.parent)))
            except BadClip as error:
                bad[name] = f"its index row is unusable ({error})"
            except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
                bad[name] = f"its index row is unusable ({type(error).__name__}: {error})"
    return found, bad


def _read_row(row: dict[str, Any], folder: Path) -> ClipSource:
    source = ClipSource(
        str(row["name"]), folder / row["motion"], float(row["fps_true"]), str(row["style"]), str(row["split"])
    )
    if "audio" not in row:
        return source
    return replace(
        source,
        audio=folder / row["audio"],
        bpm=float(row["bpm"]),
        beat_s=float(row["beat_phase_ref_in_clip_s"]),
        first_pose_s=float(row["clip_audio_offset_s"]),
        beats_per_bar=int(row["beats_per_bar"]),
        tempo_locked=bool(row["tempo_locked"]),
    )


def load_motion(source: ClipSource) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return markers (T, 23, 3) and `repeats_test` (T,). Raises BadClip."""
    try:
        with np.load(source.motion, allow_pickle=False) as archive:
            markers = np.asarray(archive["joints_m"], dtype=np.float32)
            repeats = np.asarray(archive["repeats_test"], dtype=bool) if "repeats_test" in archive.files else None
    except FileNotFoundError as error:
        raise BadClip(f"no motion file {source.motion.name}") from error
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise BadClip(f"its motion cannot be read ({error})") from error
    if markers.ndim != 3 or markers.shape[1:] != (mk.MARKER_COUNT, 3):
        raise BadClip(f"its motion has the shape {markers.shape}, expected (T, {mk.MARKER_COUNT}, 3)")
    if len(markers) < SHORTEST_S * source.fps:
        raise BadClip(f"it is shorter than {SHORTEST_S:g} s")
    if not np.isfinite(markers).all():
        raise BadClip("its motion contains NaN or infinity")
    if not 0.5 < float(np.median(np.ptp(markers[..., 1], axis=1))) < 3.0:
        raise BadClip("its motion is not a standing person in metres with Y up")
    if repeats is None:
        repeats = np.zeros(len(markers), dtype=bool)
    if repeats.shape != (len(markers),):
        raise BadClip("its repeats_test does not match its motion")
    return markers, repeats
