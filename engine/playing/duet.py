"""The virtual half of a duet: a dancer who hears the room, and a partner who hears the music of the one in front of
the camera. They have ears and feet, and no say in the tempo: the beat they get is everybody's.
"""

from __future__ import annotations

from collections.abc import Callable

from engine import controls
from engine.dancing.dancer import Dancer
from engine.dancing.guards import PoseGuard
from engine.ears import Heard
from engine.features import FeatureExtractor
from engine.metrics import Metrics
from engine.playing.inner_ear import InnerEar
from engine.protocols import Generator
from engine.scenes import find_scene
from engine.settings import ShowSettings
from engine.types import BeatState, ControlEvent, NoteEvent, OutputEvent, PoseFrame

PARTNER = "partner"
Report = Callable[[str, str], None]
"""Tells the operator: level, message."""


class Duo:
    """The virtual dancers of a duet. Deterministic; the core thread only.

    Args:
        settings: of the show; the partner dances as the lead does, with the next seed.
        lead: the lead's model.
        partner: the partner's own; None: there is no sound in the room, and the lead hears the band itself.
        extractor: fresh, for what the inner ear hears.
        metrics: shared.
        report: for what the operator should know.
    """

    def __init__(
        self,
        settings: ShowSettings,
        lead: Generator,
        partner: Generator | None,
        extractor: FeatureExtractor,
        metrics: Metrics,
        report: Report,
    ) -> None:
        self._scenes = settings.scenes
        self._vision_ns = round(settings.output.vision_lead_ms * 1e6)
        self._metrics = metrics
        self._ear = InnerEar(extractor)
        self._hears_room = partner is not None
        wished = settings.dancer

        def dancer(generator: Generator, seed: int) -> Dancer:
            guard = PoseGuard(stage_radius_m=wished.stage_radius_m)
            own = wished.model_copy(update={"seed": seed})
            return Dancer(generator, guard, extractor.spec, own, metrics, report)

        self.lead = dancer(lead, wished.seed)
        self.partner = dancer(partner, wished.seed + 1) if partner is not None else None
        self._ready: set[str] = set()

    @property
    def dancers(self) -> tuple[Dancer, ...]:
        """The lead, and the partner if there is one."""
        return (self.lead,) if self.partner is None else (self.lead, self.partner)

    @property
    def load(self) -> int:
        """How many notes the inner ear holds."""
        return self._ear.load

    def hear_room(self, heard: Heard, beat: BeatState) -> None:
        """Take one hop of the room's sound."""
        if self._hears_room:
            self.lead.update(heard.end_ns, beat, heard.row, heard.active)
            self._ready.add("")

    def overhear(self, notes: list[NoteEvent]) -> None:
        """Take notes that sound beside the band's: triggered ones, and the ends of a panic."""
        self._ear.take(notes)

    def hear_band(self, notes: list[NoteEvent], now_ns: int, beat: BeatState) -> None:
        """Take the band's new notes and listen to what sounds until `now_ns`."""
        self._ear.take(notes)
        with self._metrics.timed("inner_ear"):
            heard = self._ear.hear(now_ns)
        listener = self.partner if self.partner is not None else self.lead
        for hop in heard:
            listener.update(hop.end_ns, beat, hop.row, hop.active)
            self._ready.add(PARTNER if self.partner is not None else "")

    def frames(self, time_ns: int, now_ns: int) -> list[PoseFrame]:
        """Return everybody's pose for a presentation time; nobody's before they have heard anything."""
        poses: list[PoseFrame] = []
        with self._metrics.timed("frame"):
            if "" in self._ready:
                poses.append(self.lead.frame(time_ns, now_ns, time_ns + self._vision_ns))
            if self.partner is not None and PARTNER in self._ready:
                pose = self.partner.frame(time_ns, now_ns, time_ns + self._vision_ns)
                poses.append(
                    PoseFrame(pose.time_ns, pose.source_ns, pose.rotations, pose.translation_m, pose.contacts, PARTNER)
                )
        return poses

    # -- controls -------------------------------------------------------------------------------------------------

    def control(
        self, name: str, value: controls.ControlValue, now_ns: int
    ) -> tuple[controls.ControlValue, list[OutputEvent]]:
        """Carry out a control; return the value that took effect, and echoes of what a scene set or a panic let go.

        Raises:
            ValueError: a style or scene that is not known.
        """
        echoes: list[OutputEvent] = []
        if name == "scene" and value is not None:
            value, scene = find_scene(self._scenes, value)
            for dancer in self.dancers:
                dancer.apply_scene(scene)
            lead = self.lead
            states = (("style", lead.style), ("energy", lead.energy), ("mirror", float(lead.mirror)))
            echoes += [ControlEvent(now_ns, key, state) for key, state in states]
            return value, echoes
        if name == "panic" and self.lead.held:
            echoes.append(ControlEvent(now_ns, "hold", 0.0))
        for dancer in self.dancers:
            if name == "panic":
                dancer.panic()
            elif name == "hold":
                dancer.hold(value == 1.0)
            elif name == "style" and value is not None:
                value = dancer.set_style(value)
            elif name == "energy" and isinstance(value, float):
                dancer.energy = value
            elif name == "mirror":
                dancer.set_mirror(value == 1.0)
        return value, echoes
