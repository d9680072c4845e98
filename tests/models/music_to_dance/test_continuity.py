"""Chunks that go on from the one before."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from models.motion.representation import HEADING, tick_weights  # noqa: E402
from models.music_to_dance.choice_head import fit_choices  # noqa: E402
from models.music_to_dance.continuity import fit_continuity  # noqa: E402
from tests.models.music_to_dance.gmd_fixtures import sampler, small_model  # noqa: E402


def test_joined_chunks_begin_nearer_to_where_the_last_one_ended() -> None:
    model, source = small_model(), sampler(clean_share=1.0)
    fit_choices(model.head, source)
    batch = source.batch(np.random.default_rng(0), 8)
    tensors = [torch.from_numpy(a) for a in (batch.music, batch.condition, batch.history)]

    def jump() -> float:
        with torch.no_grad():
            torch.manual_seed(0)
            drawn = model.sample(model(*tensors), tensors[2], torch.randn_like(tensors[2])).numpy()
        ticks = source.representation.decode(drawn.reshape(-1, drawn.shape[-1])).reshape(-1, 4, 152)
        before = source.representation.decode(batch.history.reshape(-1, drawn.shape[-1])).reshape(-1, 4, 152)[:, -1]
        weights = tick_weights()[:HEADING]
        return float(np.linalg.norm((ticks[:, 0, :HEADING] - before[:, :HEADING]) * weights, axis=1).mean())

    apart = jump()
    fit_continuity(model, source, temperature=1.0)
    assert jump() < 0.8 * apart
