"""Metrics of dance, each with its source and its exact definition.

Motions are joint positions (T, 24, 3) [m], y over the floor, at a stated frame rate; beats are times in seconds.
Rates are given in seconds and hertz, never in frames, so that motions of different rates compare.
"""

from models.metrics.beats import (
    BeatFigures,
    alignment_by_chance,
    beat_alignment,
    beat_coverage,
    beat_figures,
    beat_hit_rate,
    body_beats,
    event_scores,
    foot_beats,
    foot_speed,
    music_alignment,
)
from models.metrics.body import (
    both_feet_off_share,
    foot_sliding,
    frozen_share,
    physical_foot_contact,
    planted_share,
    soles,
    speed_ratio,
)
from models.metrics.distribution import (
    Moments,
    Reference,
    apart,
    diversity,
    frechet_distance,
    mean_distance,
    multimodality,
    within_diversity,
)
from models.metrics.geometric import RELATIONS, geometric_clip_features, geometric_features
from models.metrics.joins import JoinFigures, join_displacements, join_figures
from models.metrics.kinetic import CLIP_S, clip_features, clip_starts, kinetic_features
from models.metrics.resampling import RESAMPLES, Interval, bootstrap
from models.metrics.style import StyleClassifier, style_features

__all__ = [
    "CLIP_S",
    "RELATIONS",
    "RESAMPLES",
    "BeatFigures",
    "Interval",
    "JoinFigures",
    "Moments",
    "Reference",
    "StyleClassifier",
    "alignment_by_chance",
    "apart",
    "beat_alignment",
    "beat_coverage",
    "beat_figures",
    "beat_hit_rate",
    "body_beats",
    "bootstrap",
    "both_feet_off_share",
    "clip_features",
    "clip_starts",
    "diversity",
    "event_scores",
    "foot_beats",
    "foot_sliding",
    "foot_speed",
    "frechet_distance",
    "frozen_share",
    "geometric_clip_features",
    "geometric_features",
    "join_displacements",
    "join_figures",
    "kinetic_features",
    "mean_distance",
    "multimodality",
    "music_alignment",
    "physical_foot_contact",
    "planted_share",
    "soles",
    "speed_ratio",
    "style_features",
    "within_diversity",
]
