"""Causal beat trackers behind one interface, each run hop by hop in a process of its own.

    PYTHON -m tests.bench.beats.peers NAME --cache CACHE        (prints one JSON line per piece)

Every adapter is fed the audio in order and reports *emissions* (emitted_s, beat_s), see `score`. Peers that report a
beat when it is there get beat_s = emitted_s = the end of the hop they said it in. None is a dependency:

- `aubio`: `pip install aubio-ledfx` (GPL-3), 48 kHz, hop 576, method 'default', as its users have it.
- `madmom`: https://github.com/CPJKU/madmom (main) with its models (CC BY-NC-SA); `DBNBeatTracker --single online`.
- `btrack`: https://github.com/adamstark/BTrack (GPL-3); build `btrack_hop.cpp` beside this file as it says and set
  BTRACK_LIBRARY to the result.
- `beatnet`: `pip install --no-deps BeatNet==1.1.3` after madmom and torch; its stream mode, without the microphone.
- `ours`, `ours-flux`, `ours-aubio`: the project's tracker and follower, as the pipeline announces beats.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import soxr
import typer
from numpy.typing import NDArray

from tests.bench.beats.items import RATE_HZ, read_index, read_samples

Emissions = list[tuple[float, float]]
Tracker = Callable[[NDArray[np.float32]], tuple[Emissions, float]]
"""Takes a piece, mono at 48 kHz; returns its emissions and the processor time [s] spent tracking."""


def aubio() -> Tracker:
    """Raw aubio."""
    import aubio as library

    hop = 576

    def run(samples: NDArray[np.float32]) -> tuple[Emissions, float]:
        tempo = library.tempo("default", 1024, hop, RATE_HZ)
        blocks = _blocks(samples, hop)
        emissions = []
        start = time.process_time()
        for n, block in enumerate(blocks):
            if tempo(block)[0]:
                emissions.append(_now((n + 1) * hop / RATE_HZ))
        return emissions, time.process_time() - start

    return run


def madmom() -> Tracker:
    """Madmom's online tracker with one network: 2048 samples ending now, every 441 at 44.1 kHz."""
    from madmom.audio.signal import Signal
    from madmom.features.beats import DBNBeatTrackingProcessor, RNNBeatProcessor
    from madmom.models import BEATS_LSTM

    rate_hz, hop, size = 44_100, 441, 2048
    network = RNNBeatProcessor(online=True, nn_files=BEATS_LSTM[:1], num_frames=1, origin="stream", fps=100)
    decoder = DBNBeatTrackingProcessor(online=True, fps=100)

    def run(samples: NDArray[np.float32]) -> tuple[Emissions, float]:
        blocks = _blocks(_resample(samples, rate_hz), hop)
        ring = np.zeros(size, dtype=np.float32)
        emissions = []
        start = time.process_time()
        for n, block in enumerate(blocks):
            ring[:-hop] = ring[hop:]
            ring[-hop:] = block
            activation = network(Signal(ring, sample_rate=rate_hz, num_channels=1), reset=n == 0)
            if len(decoder(np.atleast_1d(activation), reset=n == 0)):
                emissions.append(_now((n + 1) * hop / rate_hz))
        return emissions, time.process_time() - start

    return run


def btrack() -> Tracker:
    """BTrack: hop 512, frame 1024 at 44.1 kHz, its own choice."""
    library = ctypes.CDLL(os.environ["BTRACK_LIBRARY"])
    library.btrack_new.restype = ctypes.c_void_p
    library.btrack_step.argtypes = [ctypes.c_void_p, ctypes.POINTER(ctypes.c_double)]
    rate_hz, hop = 44_100, 512

    def run(samples: NDArray[np.float32]) -> tuple[Emissions, float]:
        tracker = library.btrack_new(hop, 2 * hop)
        blocks = _blocks(_resample(samples, rate_hz), hop).astype(np.float64)
        emissions = []
        start = time.process_time()
        for n, block in enumerate(blocks):
            if library.btrack_step(tracker, block.ctypes.data_as(ctypes.POINTER(ctypes.c_double))):
                emissions.append(_now((n + 1) * hop / rate_hz))
        return emissions, time.process_time() - start

    return run


def beatnet() -> Tracker:
    """BeatNet's stream mode (its model 1): the newest hop of 20 ms at a time, particle filter."""
    sys.modules.setdefault("pyaudio", types.ModuleType("pyaudio"))  # only opened for a microphone
    setattr(np, "in1d", np.isin)  # noqa: B010  # it was written for an older NumPy
    import torch
    from BeatNet.BeatNet import BeatNet

    torch.set_num_threads(1)
    rate_hz = 22_050

    def run(samples: NDArray[np.float32]) -> tuple[Emissions, float]:
        np.random.seed(1)  # noqa: NPY002  # its particles use the global generator
        net = BeatNet(1, mode="realtime", inference_model="PF", plot=[], thread=False)
        hop = net.log_spec_hop_length
        window = np.zeros(net.log_spec_win_length + 2 * hop, dtype=np.float32)
        emissions = []
        start = time.process_time()
        with torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
            for n, block in enumerate(_blocks(_resample(samples, rate_hz), hop)):
                window = np.append(window[hop:], block)
                activation = np.zeros((1, 2))
                if n >= 5:
                    features = torch.from_numpy(net.proc.process_audio(window).T[-1])[None, None]
                    activation = net.model.final_pred(net.model(features)[0]).numpy()[:2].T
                known = len(net.estimator.path)
                net.estimator.process(activation)
                if len(net.estimator.path) > known:
                    emissions.append(_now((n + 1) * hop / rate_hz))
        return emissions, time.process_time() - start

    return run


def ours(tracker_name: str) -> Tracker:
    """The project's own: tracker and follower as in the pipeline, beats as it announces them."""
    from engine.announcer import BeatAnnouncer
    from engine.beats import BeatFollower
    from engine.features import FeatureExtractor, FeatureSpec
    from engine.settings import ShowSettings
    from engine.stage import build_tracker

    settings = ShowSettings.model_validate({"beats": {"tracker": tracker_name}})
    hop = 480

    def run(samples: NDArray[np.float32]) -> tuple[Emissions, float]:
        tracker, follower, extractor = build_tracker(settings), BeatFollower(), FeatureExtractor(FeatureSpec())
        announcer = BeatAnnouncer(settings)
        blocks = _blocks(samples, hop)
        active = []
        for block in blocks:
            extractor.process(block)
            active.append(extractor.active)
        emissions = []
        start = time.process_time()
        for n, block in enumerate(blocks):
            end_ns = (n + 1) * 10_000_000
            beat = follower.update(end_ns, tracker.process(block, end_ns), active[n])
            emissions += [(end_ns * 1e-9, told.time_ns * 1e-9) for told in announcer.announce(end_ns, beat)]
        return emissions, time.process_time() - start

    return run


PEERS: dict[str, Callable[[], Tracker]] = {
    "aubio": aubio,
    "madmom": madmom,
    "btrack": btrack,
    "beatnet": beatnet,
    "ours": lambda: ours("neural"),
    "ours-flux": lambda: ours("flux"),
    "ours-aubio": lambda: ours("aubio"),
}


def _now(at_s: float) -> tuple[float, float]:
    return at_s, at_s


def _blocks(samples: NDArray[np.float32], hop: int) -> NDArray[np.float32]:
    return np.ascontiguousarray(samples[: len(samples) // hop * hop].reshape(-1, hop))


def _resample(samples: NDArray[np.float32], rate_hz: int) -> NDArray[np.float32]:
    return np.asarray(soxr.resample(samples, RATE_HZ, rate_hz, quality="VHQ"), dtype=np.float32)


def main(
    name: Annotated[str, typer.Argument(help=", ".join(PEERS))],
    cache: Annotated[Path, typer.Option(help="folder of the hard set")],
    only: Annotated[str, typer.Option(help="only pieces whose names contain one of these (comma-separated)")] = "",
    starts_ms: Annotated[str, typer.Option(help="hear each piece after so much silence, once for each number")] = "0",
) -> None:
    """Run one tracker over the set and print its emissions, timed from the piece's own beginning."""
    items = read_index(cache)
    if items is None:
        raise typer.BadParameter("no hard set of this version there; build it first", param_hint="--cache")
    tracker = PEERS[name]()
    for item in items:
        if not any(part in item.name for part in only.split(",")):
            continue
        samples = read_samples(cache, item)
        for start_ms in map(float, starts_ms.split(",")):
            before = np.zeros(round(start_ms * 1e-3 * RATE_HZ), np.float32)
            emissions, cpu_s = tracker(np.concatenate([before, samples]))
            own = np.round(np.reshape(emissions, (-1, 2)) - len(before) / RATE_HZ, 5).tolist()
            print(json.dumps({"name": item.name, "emissions": own, "cpu_s": cpu_s}), flush=True)


if __name__ == "__main__":
    typer.run(main)
