"""How long after a picture its landmarks arrive, and how many a second: the live path, the landmarker in its process.

    python tests/bench/camera_latency.py VIDEO [--model lite] [--seconds 20]

The video is played in a loop in the camera's place; a picture counts as captured when it is due.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from engine.clock import SessionClock
from engine.metrics import Metrics
from engine.seeing.retarget import LandmarkRetargeter
from engine.seeing.video import VideoFileSensor, open_video
from engine.settings import CameraSettings
from engine.types import Observation, PoseLandmarks, StatusEvent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("--model", default="lite", choices=["lite", "full"])
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    clock, metrics, retargeter = SessionClock(), Metrics(), LandmarkRetargeter()
    said: list[StatusEvent] = []

    def deliver(observation: Observation) -> None:
        assert isinstance(observation, PoseLandmarks)
        with metrics.timed("retarget"):
            retargeter.process(observation)
        metrics.histogram("capture to pose").add(clock.now_ns() - observation.time_ns)

    with open_video(options.video) as video:
        print(f"{options.video.name}: {video.width} x {video.height} at {video.fps:.1f}, model {options.model}")
    sensor = VideoFileSensor(options.video, CameraSettings(model=options.model), clock, loop=True, metrics=metrics)
    sensor.start(deliver, said.append)
    time.sleep(1.0)
    metrics.reset()
    first = sensor.watcher.frames
    start = clock.now_ns()
    time.sleep(options.seconds)
    rate = (sensor.watcher.frames - first) / ((clock.now_ns() - start) * 1e-9)
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    sensor.stop()
    for name, values in metrics.summary().items():
        print(f"{name:16s}", "  ".join(f"{key} {value:.1f}" for key, value in values.items()))
    print(
        f"{rate:.1f} poses a second; dropped {metrics.counter('pose_dropped')}; load {load} on {os.cpu_count()} cores"
    )
    for event in said:
        if event.level != "info":
            print(event.level, event.message)


if __name__ == "__main__":
    main()
