"""Small synthetic bands and dancers for the tests of the dance -> music model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from engine.types import Key
from models.dance_to_music.bands import MusicPiece
from models.dance_to_music.conditioning import MUSIC_CONDITION_SIZE
from models.dance_to_music.data import fit_phrases, music_sampler, piece_of
from models.dance_to_music.sequences import MusicSampler, MusicSequenceSettings
from models.dance_to_music.tokens import HISTORY_SIZE
from models.symbolic.step_grid import StepGrid, empty, voice_from_notes

POSES = 7
_PROGRESSION = (0, 9, 5, 7)  # C, A minor, F, G


def band(bars: int = 16, tonic: int = 0, seed: int = 0, split: str = "train") -> StepGrid:
    """Return a four-voice piece in 4/4: four chords round and round, bass on beats, a tune in eighths, a backbeat."""
    random = np.random.default_rng(seed)
    steps = 16 * bars
    grid = empty(steps, 100.0 + seed, 4, 0, f"band {seed}", "synthetic", split, key=Key(tonic % 12))
    roots = [_PROGRESSION[bar % 4] + tonic for bar in range(bars)]
    quality = [1 if bar % 4 == 1 else 0 for bar in range(bars)]
    drums = np.zeros((steps, 9), np.float32)
    drums[::8, 0], drums[4::8, 1], drums[::2, 2] = 0.9, 0.7, 0.4
    beats = np.arange(0, steps, 4)
    bass = voice_from_notes(
        steps, beats, beats + 3, [36 + roots[b // 16] % 12 for b in beats], np.full(len(beats), 0.7)
    )
    lines = np.arange(0, steps, 16)
    chords = [8 * (roots[b] % 12) + quality[b] for b in range(bars)]
    chord = voice_from_notes(steps, lines, lines + 14, chords, np.full(bars, 0.5))
    eighths = np.arange(0, steps, 2)
    scale = np.array([0, 2, 4, 5, 7, 9, 11]) + 60 + tonic
    tune = voice_from_notes(steps, eighths, eighths + 2, random.choice(scale, len(eighths)), np.full(len(eighths), 0.8))
    return replace(
        grid,
        drums=drums,
        bass=bass[0],
        bass_velocity=bass[1],
        chord=chord[0],
        chord_velocity=chord[1],
        lead=tune[0],
        lead_velocity=tune[1],
    )


def only(grid: StepGrid, *voices: int) -> StepGrid:
    """Return a grid in which only some voices (indices of `engine.types.VOICES`) are known."""
    known = np.array([voice in voices for voice in range(4)])
    silent = empty(grid.steps, grid.tempo_bpm, grid.beats_per_bar, 0, grid.name, grid.source, grid.split, known)
    parts = {"drums": silent.drums if 0 not in voices else grid.drums}
    for index, name in enumerate(("bass", "chord", "lead"), start=1):
        kept = grid if index in voices else silent
        parts |= {name: getattr(kept, name), f"{name}_velocity": getattr(kept, f"{name}_velocity")}
    return replace(grid, known=known, **parts)


def piece(grid: StepGrid, poses: bool = False) -> MusicPiece:
    """Return a grid as a piece, with made-up poses if asked for."""
    made = piece_of(grid)
    assert made is not None
    random = np.random.default_rng(grid.steps)
    return replace(made, poses=random.normal(size=(3 * grid.steps, POSES)).astype(np.float32)) if poses else made


def sampler(**settings: float) -> MusicSampler:
    """Return a sampler over a few songs, drummers, tunes and dances."""
    pieces = {
        "song": [piece(only(band(16, seed, seed), 1, 2, 3)) for seed in range(3)],
        "drums": [piece(only(band(6, 0, seed), 0)) for seed in range(2)],
        "melody": [piece(only(band(8, 3, seed), 3)) for seed in range(2)],
        "dance": [piece(band(16, 2, seed), poses=True) for seed in range(2)],
    }
    chosen = MusicSequenceSettings(**{"steps": 24, "dance": 0.5, **settings})
    poses = [p.poses for p in pieces["dance"] if p.poses is not None]
    return music_sampler(pieces, fit_phrases(pieces), chosen, poses)


def small_model(seed: int = 0):  # type: ignore[no-untyped-def]
    """Return an untrained network, none of whose weights is zero."""
    import torch

    from models.dance_to_music.network import Gdm, GdmConfig

    torch.manual_seed(seed)
    model = Gdm(
        GdmConfig(
            3 * POSES,
            MUSIC_CONDITION_SIZE,
            HISTORY_SIZE,
            width=32,
            heads=2,
            encoder_layers=1,
            decoder_layers=2,
            window=6,
            voice_width=32,
        )
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(0.0, 0.1)
    return model.eval()
