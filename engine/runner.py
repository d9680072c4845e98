"""The live runner: sensors -> inbox -> core thread -> scheduler. The only code that knows it is live."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence

import numpy as np

from engine.clock import Clock
from engine.inbox import Inbox
from engine.metrics import Metrics
from engine.pipeline import Pipeline
from engine.protocols import Sensor
from engine.scheduler import OutputScheduler
from engine.session import SessionRecorder
from engine.types import (
    NS_PER_S,
    AudioBlock,
    ControlEvent,
    MetricsEvent,
    Observation,
    OutputEvent,
    StatusEvent,
)

_log = logging.getLogger(__name__)

# Without audio for this long the core is fed silence, so that the dancer goes on (and comes to rest on the beat).
_WATCHDOG_NS = 200_000_000
_METRICS_NS = NS_PER_S // 4
# CPython hands the interpreter from thread to thread every 5 ms by default: a quarter of a frame. At 0.5 ms the
# output thread gets its turn within its jitter budget while the core computes.
_SWITCH_INTERVAL_S = 0.0005
_NICENESS = -10


class LiveRunner:
    """Runs a pipeline on live sensors until stopped. Nothing that happens in the show raises out of it.

    Threads: the core thread (`pipeline.push`) and the scheduler's output thread; sensors and bridges own theirs.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        scheduler: OutputScheduler,
        sensors: Sequence[Sensor],
        clock: Clock,
        metrics: Metrics,
        recorder: SessionRecorder | None = None,
        on_events: Callable[[Sequence[OutputEvent]], None] | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._scheduler = scheduler
        self._sensors = sensors
        self._clock = clock
        self._metrics = metrics
        self._recorder = recorder
        self._on_events = on_events
        self._inbox = Inbox(metrics, clock)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="core", daemon=True)
        self._last_audio_ns = 0
        self._fed_until_ns = 0
        # Silence comes at the rate of the last sound: another rate would make the core listen anew.
        self._silence_rate_hz = 48_000
        self._silence_index = 0
        self._silent = False
        self._metrics_ns = 0

    def start(self) -> None:
        """Open the sensors, then run. Raises `UserError` if a sensor cannot be opened."""
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        _ask_for_priority()
        # What is loaded now lives as long as the show: keep it out of every later collection.
        gc.collect()
        gc.freeze()
        self._last_audio_ns = self._fed_until_ns = self._clock.now_ns()
        self._scheduler.start()
        self._thread.start()
        for sensor in self._sensors:
            sensor.start(self._inbox.put, self.report)

    def stop(self) -> None:
        """Stop sensors, core and output, in this order; idempotent."""
        for sensor in self._sensors:
            sensor.stop()
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2.0)
        self._scheduler.stop()
        if self._recorder is not None:
            self._recorder.close()
            self._recorder = None
        gc.unfreeze()

    def control(self, event: ControlEvent) -> None:
        """Take a control from any surface. Threads: any."""
        self._inbox.put(event)

    def report(self, event: StatusEvent) -> None:
        """Take a status from a sensor. Threads: any."""
        _log.log(getattr(logging, event.level.upper(), logging.INFO), "%s: %s", event.component, event.message)
        self._publish([event])

    def _publish(self, events: Sequence[OutputEvent]) -> None:
        self._scheduler.put(events)
        if self._on_events is not None:
            self._on_events(events)

    def _run(self) -> None:
        while not self._stopping.is_set():
            got = self._inbox.get(0.05)
            now_ns = self._clock.now_ns()
            put_ns, observation = got if got is not None else (now_ns, None)
            if isinstance(observation, AudioBlock):
                if observation.time_ns <= self._fed_until_ns - NS_PER_S // 20 and self._silent:
                    continue  # older than the silence that has stood in for it
                self._hear_again(observation)
            elif observation is None:
                observation = self._stand_in(now_ns)
                if observation is None:
                    self._publish_metrics(now_ns)
                    continue
            self._push(observation)
            self._metrics.histogram("core").add(self._clock.now_ns() - put_ns)
            self._publish_metrics(now_ns)

    def _push(self, observation: Observation) -> None:
        try:
            events = self._pipeline.push(observation)
        except Exception as error:  # a defect of ours must not end the show
            _log.exception("the core failed on one observation")
            self._metrics.count("core_errors")
            events = [StatusEvent(self._clock.now_ns(), "core", "error", f"{type(error).__name__}: {error}")]
        self._publish(events)
        if self._recorder is not None:
            self._recorder.record(observation, events)

    def _hear_again(self, block: AudioBlock) -> None:
        """Note that audio has come."""
        self._last_audio_ns = self._clock.now_ns()
        self._fed_until_ns = max(self._fed_until_ns, block.time_ns)
        self._silence_rate_hz = block.sample_rate_hz
        self._silence_index = block.sample_index + len(block.samples)
        if block.gap_samples:
            self._metrics.count("xruns")
            self._metrics.count("samples_lost", block.gap_samples)
        if self._silent:
            self._silent = False
            self.report(StatusEvent(self._last_audio_ns, "audio", "info", "sound is back"))

    def _stand_in(self, now_ns: int) -> AudioBlock | None:
        """Return silence for the time since the last audio, if that is long ago."""
        if now_ns - self._last_audio_ns < _WATCHDOG_NS:
            return None
        if not self._silent:
            self._silent = True
            self._metrics.count("audio_lost_episodes")
            self.report(StatusEvent(now_ns, "audio", "warning", "no sound is coming in; the dancer goes on in silence"))
        rate = self._silence_rate_hz
        count = min((now_ns - self._fed_until_ns) * rate // NS_PER_S, rate)
        if count <= 0:
            return None
        self._fed_until_ns = now_ns
        self._silence_index += count
        return AudioBlock(self._silence_index - count, now_ns, np.zeros((count, 1), dtype=np.float32), rate)

    def _publish_metrics(self, now_ns: int) -> None:
        if now_ns - self._metrics_ns < _METRICS_NS:
            return
        self._metrics_ns = now_ns
        self._scheduler.put([MetricsEvent(now_ns, live_values(self._metrics))])


def _ask_for_priority() -> None:
    """Ask to be scheduled ahead of other programs; threads started later inherit it.

    Most systems grant that to an administrator only; refused, or unknown (Windows), the show goes on as it is.
    """
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, 0, _NICENESS)


def live_values(metrics: Metrics) -> dict[str, float]:
    """Return the handful of figures that the status line and the web stage show."""
    jitter, core = metrics.histogram("output_jitter"), metrics.histogram("core")
    latency = metrics.histogram("sample_to_output")
    return {
        "frames": float(metrics.counter("frames")),
        "frames_late": float(metrics.counter("frames_late") + metrics.counter("frames_carried")),
        "late_episodes": float(metrics.counter("late_episodes")),
        "latency_p50_ms": latency.percentile_ms(50),
        "latency_p99_ms": latency.percentile_ms(99),
        "core_p99_ms": core.percentile_ms(99),
        "jitter_p99_ms": jitter.percentile_ms(99),
        "step_p99_ms": metrics.histogram("model_step").percentile_ms(99),
        "xruns": float(metrics.counter("xruns")),
    }
