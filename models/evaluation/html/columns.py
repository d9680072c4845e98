"""The columns of the page's tables: which figures, what is good in them, and what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Better = Literal["low", "high", "one", ""]


@dataclass(frozen=True)
class Column:
    """A figure of a table.

    Attributes:
        title: of the column.
        figure: name in the evaluation.
        heading: that it stands under, with its neighbours of the same heading.
        better: what is good: "low", "high", near "one" (as real dance), or nothing is.
        chance: figure of the same with randomly shifted beats.
        percent: a share, shown in hundredths.
        interval: show the 95 % interval.
        floor: feature space whose real-against-real distance is the least that can be asked for.
        meaning: one sentence.
    """

    title: str
    figure: str
    heading: str = ""
    better: Better = ""
    chance: str = ""
    percent: bool = False
    interval: bool = True
    floor: str = ""
    meaning: str = ""


_FRECHET = "Fréchet distance"
_DIVERSITY = "Diversity (real = 1)"
MODES = "Multimodality"
_BEAT = "Beat (feet)"

PAPERS: Sequence[Column] = (
    Column(
        "kinetic, to training dance", "frechet_kinetic_training", _FRECHET, "low", floor="kinetic",
        meaning="Between 72 kinetic features of 4-second windows (Onuma et al. 2008), scored by real dance.",
    ),
    Column("kinetic, to held-out", "frechet_kinetic_held-out", _FRECHET, "low"),
    Column(
        "geometric, to training dance", "frechet_geometric_training", _FRECHET, "low", floor="geometric",
        meaning="Between 32 geometric relations (Müller et al. 2005).",
    ),
    Column("geometric, to held-out", "frechet_geometric_held-out", _FRECHET, "low"),
    Column(
        "style accuracy", "style_accuracy", "Style", "high", percent=True,
        meaning="Windows that a classifier of real dance takes for the song's style.",
    ),
    Column(
        "coverage", "feet_coverage", _BEAT, percent=True, interval=False,
        meaning="Kinematic beats for each beat of the music (Lee et al. 2019): more is not better, as real is.",
    ),
    Column(
        "hit rate", "feet_hit_rate", _BEAT, "high", "feet_hit_rate_chance", percent=True,
        meaning="Kinematic beats within 100 ms of a beat of the music (Lee et al. 2019).",
    ),
    Column(
        "alignment", "feet_alignment", _BEAT, "high", "feet_alignment_chance",
        meaning="Beats alignment over kinematic beats, σ 50 ms.",
    ),
    Column("kinetic", "diversity_kinetic", _DIVERSITY, "one"),
    Column("geometric", "diversity_geometric", _DIVERSITY, "one"),
    Column(
        "kinetic", "multimodality_kinetic", MODES, interval=False,
        meaning="Between dances to one song, over the diversity of real dance.",
    ),
    Column("geometric", "multimodality_geometric", MODES, interval=False),
)  # fmt: skip

BEATS: Sequence[Column] = (
    Column("feet, over dance beats", "feet_alignment", "Beats alignment", "high", "feet_alignment_chance"),
    Column("feet, over music beats", "feet_music_alignment", "Beats alignment", "high", "feet_music_alignment_chance"),
    Column("all joints, over dance beats", "body_alignment", "Beats alignment", "high", "body_alignment_chance"),
    Column(
        "all joints, over music beats", "body_music_alignment", "Beats alignment", "high", "body_music_alignment_chance"
    ),
    Column("precision", "feet_precision", "Events within 70 ms (feet)", "high", interval=False),
    Column("recall", "feet_recall", "Events within 70 ms (feet)", "high", interval=False),
    Column("F1", "feet_f1", "Events within 70 ms (feet)", "high", "feet_f1_chance"),
    Column("offset [ms]", "feet_offset_ms", "Events within 70 ms (feet)", meaning="Below zero: before the beat."),
)

BODY: Sequence[Column] = (
    Column("feet planted", "planted", percent=True),
    Column("feet sliding", "sliding", better="low", percent=True),
    Column("both feet off the floor", "floating", percent=True),
    Column("PFC", "pfc", interval=False, meaning="Physical foot contact (Tseng et al. 2023)."),
    Column("joint speed [m/s]", "speed_m_s", meaning="As real dance is best."),
    Column("travel [m/s]", "travel_m_s", interval=False),
    Column("frozen", "frozen", better="low", percent=True, interval=False, meaning="Seconds without movement."),
)

STYLE: Sequence[Column] = (
    Column("kinetic", "frechet_kinetic_training", "Fréchet to the style's training dance", "low"),
    Column("geometric", "frechet_geometric_training", "Fréchet to the style's training dance", "low"),
    Column("accuracy", "style_accuracy", "Style", "high", percent=True, interval=False),
    Column("coverage", "feet_coverage", _BEAT, percent=True, interval=False),
    Column("hit rate", "feet_hit_rate", _BEAT, "high", "feet_hit_rate_chance", percent=True, interval=False),
    Column("alignment", "feet_alignment", _BEAT, "high", "feet_alignment_chance"),
    Column("kinetic", "within_kinetic", "Diversity within a dance (real = 1)", "one", interval=False),
    Column("geometric", "within_geometric", "Diversity within a dance (real = 1)", "one", interval=False),
    Column("sliding", "sliding", "Feet", "low", percent=True, interval=False),
)

COURSE: Sequence[Column] = (
    Column("Fréchet, kinetic, to training dance", "frechet_kinetic_training", better="low"),
    Column("alignment (feet)", "feet_alignment", better="high", chance="feet_alignment_chance"),
    Column("F1 at 70 ms (feet)", "feet_f1", better="high", chance="feet_f1_chance"),
    Column("offset [ms]", "feet_offset_ms"),
    Column("joint speed [m/s]", "speed_m_s", interval=False),
)

ABLATION: Sequence[Column] = (
    Column("kinetic", "frechet_kinetic_training", "Fréchet to training dance", "low"),
    Column("geometric", "frechet_geometric_training", "Fréchet to training dance", "low"),
    Column("style accuracy", "style_accuracy", better="high", percent=True),
    Column("alignment (feet)", "feet_alignment", better="high", chance="feet_alignment_chance"),
    Column("F1 at 70 ms (feet)", "feet_f1", better="high", chance="feet_f1_chance"),
    Column("diversity, kinetic (real = 1)", "diversity_kinetic", better="one", interval=False),
    Column("frozen", "frozen", better="low", percent=True, interval=False),
)

BOTH: Sequence[Column] = (
    Column("Fréchet kinetic, to training dance", "frechet_kinetic_training", better="low"),
    Column("Fréchet geometric, to training dance", "frechet_geometric_training", better="low"),
    Column("style accuracy", "style_accuracy", better="high", percent=True),
    Column("alignment (feet)", "feet_alignment", better="high", chance="feet_alignment_chance"),
)
