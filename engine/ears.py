"""From audio blocks to what a core needs to know of every hop: features, activity, and the tracker's belief."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.audio.resample import HopStream
from engine.features import FeatureExtractor
from engine.metrics import Metrics
from engine.protocols import BeatTracker
from engine.types import AudioBlock, BeatEstimate


class Heard(NamedTuple):
    """One hop of 10 ms: its end, its feature row (F,), whether there is sound, and what the tracker believes."""

    end_ns: int
    row: NDArray[np.float32]
    active: bool
    estimate: BeatEstimate | None


class Ears:
    """Listens to one audio stream. Deterministic; one thread.

    Args:
        tracker: of beats; None: nobody asks for them.
        extractor: of features.
        metrics: gets the histograms `features` and `beats`, and the counter `blocks_refused`.
        report: told once of audio that cannot be used: message, session time.
    """

    def __init__(
        self,
        tracker: BeatTracker | None,
        extractor: FeatureExtractor,
        metrics: Metrics,
        report: Callable[[str, int], None],
    ) -> None:
        self._tracker = tracker
        self._extractor = extractor
        self._metrics = metrics
        self._report = report
        self._hops = HopStream()

    def hear(self, block: AudioBlock) -> Iterator[Heard]:
        """Yield the hops that a block completes, oldest first. Never raises for what the block contains."""
        try:
            hops = self._hops.push(block)
        except ValueError as error:
            self._metrics.count("blocks_refused")
            if self._metrics.counter("blocks_refused") == 1:
                self._report(str(error), block.time_ns)
            return
        for hop in hops:
            if hop.restarted:
                self._extractor.reset()
                if self._tracker is not None:
                    self._tracker.reset()
            with self._metrics.timed("features"):
                row = self._extractor.process(hop.samples)
            estimate = None
            if self._tracker is not None:
                with self._metrics.timed("beats"):
                    estimate = self._tracker.process(hop.samples, hop.end_ns)
            yield Heard(hop.end_ns, row, self._extractor.active, estimate)
