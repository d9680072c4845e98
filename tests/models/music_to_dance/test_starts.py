"""What a dance begins from and is planned with: it goes on as it began, so a start must be of the dance itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from models.motion.representation import DISPLACEMENT, HEADING, MotionRepresentation
from models.music_to_dance.phrases import PhraseSpace
from models.music_to_dance.sequences import DanceClip, SequenceSampler, SequenceSettings
from tests.models.music_to_dance.gmd_fixtures import FEATURES, clip


def _with_bow(seed: int, style: int) -> DanceClip:
    """Return a dance that begins and ends in a still pose far from all it dances."""
    dance = replace(clip(seed, ticks=480), style=style, first_tick=0)
    ticks = dance.ticks.copy()
    bow = ticks[240] + 0.8
    bow[HEADING], bow[DISPLACEMENT] = 0.0, 0.0
    ticks[:40], ticks[-40:] = bow, bow
    return replace(dance, ticks=ticks)


def _sampler(clips: list[DanceClip]) -> SequenceSampler:
    motions = [c.ticks for c in clips]
    return SequenceSampler(
        clips,
        MotionRepresentation.fit(motions, 4, 24),
        PhraseSpace.fit(motions, 96),
        np.zeros(FEATURES, np.float32),
        np.ones(FEATURES, np.float32),
        SequenceSettings(chunks=12),
    )


def test_a_dance_does_not_begin_from_the_bow_though_it_is_calmest() -> None:
    dances = [_with_bow(1, 0), _with_bow(2, 0), _with_bow(3, 1)]
    sampler = _sampler([*dances, *(d.mirrored() for d in dances)])
    starts = sampler.starts()
    assert starts.styles.tolist() == [0, 0, 1]
    bow = sampler.representation.encode(dances[0].ticks[:4])[0]
    assert min(np.linalg.norm(latent - bow) for latent in starts.latents[:2]) > 1.0
    # Every start is a chunk of an unmirrored dance that ends where a bar begins.
    for latent, style in zip(starts.latents, starts.styles, strict=True):
        places = [
            (p.clip, i)
            for p in sampler.clips
            for i in range(len(p.latents))
            if np.array_equal(p.latents[i], latent) and p.clip.style == style
        ]
        assert len(places) == 1
        found, index = places[0]
        assert not found.is_mirrored
        prepared = next(p for p in sampler.clips if p.clip is found)
        assert (prepared.first_tick + 4 * (index + 1)) % 48 < 4
        assert len(prepared.latents) // 10 <= index < len(prepared.latents) - len(prepared.latents) // 10


def test_a_style_of_mirrored_dances_only_still_has_a_start() -> None:
    sampler = _sampler([_with_bow(1, 0), _with_bow(3, 2).mirrored()])
    assert sampler.starts().styles.tolist() == [0, 2]


def test_phrases_are_planned_as_they_were_danced() -> None:
    danced, only_mirrored = _with_bow(1, 0), _with_bow(3, 2).mirrored()
    sampler = _sampler([danced, danced.mirrored(), only_mirrored])
    table = sampler.table()
    alone = sampler.over([danced]).table()
    assert np.array_equal(table.descriptors[table.styles == 0], alone.descriptors)
    assert not np.allclose(alone.descriptors, sampler.over([danced.mirrored()]).table().descriptors)
    assert set(table.styles.tolist()) == {0, 2}, "a style of mirrored dances only still has phrases"
