"""AIST++ as published (Li et al. 2021, "AI Choreographer"): SMPL motions in pickles, split lists, and wav files.

Expected in the folder, at any depth below it: `motions/*.pkl`; `crossmodal_train.txt`, `crossmodal_val.txt` and
`crossmodal_test.txt` (the official split, by music and choreography); `ignore_list.txt` if there is one; audio named by
music (`mBR0.wav`) or by sequence (`gBR_sBM_cAll_d04_mBR0_ch01.wav`). Motion and music begin together.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from engine.errors import UserError
from models.data.clip_sources import AUDIO_SUFFIXES, BadClip, ClipSource, files_under
from models.data.dataset import SPLITS
from models.data.retarget import FittedMotion
from models.sources.array_pickle import load_arrays
from models.sources.body import body_motion

FPS = 60.0
STYLES = {
    "BR": "break",
    "PO": "pop",
    "LO": "lock",
    "MH": "middle_hip_hop",
    "LH": "la_hip_hop",
    "HO": "house",
    "WA": "waack",
    "KR": "krump",
    "JS": "street_jazz",
    "JB": "ballet_jazz",
}
_NAME = re.compile(r"g(?P<genre>[A-Z]{2})_s[A-Z]{2}_c(All|\d+)_d\d+_m(?P<music>[A-Z]{2})(?P<piece>\d)_ch\d+")


def music_bpm(genre: str, piece: int) -> float:
    """Return the tempo of a piece of the AIST Dance Video Database (Tsuchida et al. 2019).

    Six pieces a genre: 80, 90, ... 130 bpm; house 110, 115, ... 135.
    """
    return 110.0 + 5.0 * piece if genre == "HO" else 80.0 + 10.0 * piece


def read_aist(data: Path) -> tuple[list[ClipSource], dict[str, str]]:
    """Find the motions of AIST++ under `data`, and why each unusable one was left out.

    Raises UserError if there are motions but no split.
    """
    files = files_under(data)
    motions = [path for path in files if path.suffix == ".pkl" and path.parent.name == "motions"]
    if not motions:
        return [], {}
    split = _splits(data, files)
    ignored = set().union(*(_names(path) for path in files if path.name == "ignore_list.txt"))
    audio = {path.stem: path for path in files if path.suffix.lower() in AUDIO_SUFFIXES}
    found, bad = [], {}
    for path in motions:
        name = path.stem
        match = _NAME.fullmatch(name)
        if match is None:
            bad[name] = "its name is not that of an AIST++ sequence"
        elif name in ignored:
            bad[name] = "it is on the ignore list"
        elif name not in split:
            bad[name] = "it is in none of the cross-modal splits"
        else:
            genre, piece = match["music"], int(match["piece"])
            song = audio.get(name, audio.get(f"m{genre}{piece}"))
            found.append(
                ClipSource(
                    name,
                    path,
                    FPS,
                    STYLES.get(match["genre"], match["genre"].lower()),
                    split[name],
                    audio=song,
                    bpm=music_bpm(genre, piece),
                    tempo_locked=song is not None,
                    kind="aist",
                    beat_known=False,
                )
            )
    return found, bad


def load_motion(source: ClipSource) -> FittedMotion:
    """Return a sequence's motion. Raises BadClip."""
    try:
        arrays = load_arrays(source.motion)
        poses, way = np.asarray(arrays["smpl_poses"], float), np.asarray(arrays["smpl_trans"], float)
        scaling = float(np.asarray(arrays.get("smpl_scaling", 1.0)).reshape(-1)[0])
    except FileNotFoundError as error:
        raise BadClip(f"no motion file {source.motion.name}") from error
    except KeyError as error:
        raise BadClip(f"its motion has no {error.args[0]}") from error
    except (OSError, ValueError, IndexError) as error:
        raise BadClip(str(error)) from error
    if poses.ndim != 2 or poses.shape[1] != 72 or way.shape != (len(poses), 3):
        raise BadClip(f"its motion has the shapes {poses.shape} and {way.shape}, expected (T, 72) and (T, 3)")
    if not (np.isfinite(scaling) and scaling > 0.0):
        raise BadClip(f"its scaling is {scaling}")
    # SMPL is fitted to keypoints in the capture's units; `smpl_scaling` of them are a metre.
    return body_motion(poses.reshape(-1, 24, 3), way / scaling, FPS, np.zeros((len(poses), 1)))


def _splits(data: Path, files: Sequence[Path]) -> dict[str, str]:
    split: dict[str, str] = {}
    # A sequence in two lists counts for the one that is held out.
    for name in SPLITS:
        for path in files:
            if path.name == f"crossmodal_{name}.txt":
                split |= dict.fromkeys(_names(path), name)
    if not split:
        raise UserError(
            f"{data} holds motions of AIST++ but not its split",
            "put crossmodal_train.txt, crossmodal_val.txt and crossmodal_test.txt beside them",
        )
    return split


def _names(path: Path) -> set[str]:
    return {line.strip() for line in path.read_text().splitlines() if line.strip()}
