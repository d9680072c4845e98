"""Crowds: everybody on one beat, each themselves, and a lead who does not notice what happens to the crowd."""

from __future__ import annotations

import itertools
import multiprocessing
import re
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from bridges.registry import create_bridge
from engine.clock import Clock, SessionClock, VirtualClock
from engine.crowds.crowd import Crowd, places
from engine.crowds.process import Hop, Share, TroupeHere, Wish
from engine.crowds.shares import TroupeElsewhere, _Process, share_out
from engine.dancing.idle_generator import IdleGenerator
from engine.errors import UserError
from engine.features import FeatureExtractor, FeatureSpec
from engine.metrics import Metrics
from engine.pipeline import Pipeline
from engine.protocols import Bridge
from engine.scheduler import OutputScheduler, Timing
from engine.settings import ShowSettings, load_show
from engine.stage import build_pipeline, build_troupe
from engine.types import (
    NS_PER_S,
    AudioBlock,
    BeatState,
    BeatTimeline,
    ControlEvent,
    MotionChunk,
    MotionRequest,
    PoseFrame,
    StatusEvent,
)
from tests.engine.fakes import SteadyTracker, Walker
from tests.waiting import wait_until

BEAT = BeatState(BeatTimeline(120.0, 0.0, 0), 0.9, 4, 0)
HOP_NS = 10_000_000


class _Company:
    """Sways, each in a way of their own that depends on what they have danced so far; counts steps."""

    def __init__(self, size: int) -> None:
        self._sway = [IdleGenerator() for _ in range(size)]
        self.info = replace(IdleGenerator().info, styles=("waltz", "rumba"))
        self.asked: list[list[MotionRequest]] = []
        self.seeds = [0] * size
        self._danced = [0.0] * size

    def reset_dancer(self, index: int, seed: int) -> None:
        self.seeds[index] = seed
        self._danced[index] = 0.0
        self._sway[index].reset(seed)

    def step(self, requests: Sequence[MotionRequest]) -> list[MotionChunk]:
        self.asked.append(list(requests))
        return [self._chunk(index, request) for index, request in enumerate(requests)]

    def _chunk(self, index: int, request: MotionRequest) -> MotionChunk:
        heard = request.first_tick + float(request.music.sum()) + request.energy + (request.style == "rumba")
        self._danced[index] = 0.5 * self._danced[index] + heard
        chunk = self._sway[index].step(request)
        knees = np.zeros_like(chunk.rotations)
        # Feet that step, each dancer's at moments of their own: the servos warp everybody differently.
        beats = (request.first_tick + np.arange(len(knees))) / 12.0
        own = self.seeds[index] * 0.37 + 0.1 * np.sin(self._danced[index])
        knees[:, 4, 0] = 0.4 * np.maximum(np.sin(np.pi * beats + own), 0.0)
        knees[:, 5, 0] = 0.4 * np.maximum(-np.sin(np.pi * beats + own), 0.0)
        return replace(chunk, rotations=(chunk.rotations + knees).astype(np.float32))


def _settings(size: int, *more: str) -> ShowSettings:
    return load_show(None, [f"crowd.size={size}", *more])


def _crowd(size: int, *more: str, share: range | None = None) -> tuple[Crowd, _Company]:
    company = _Company(size if share is None else len(share))
    return Crowd(company, FeatureSpec(), _settings(size, *more), Metrics(), lambda level, message: None, share), company


def _hear(troupe: TroupeHere, hops: int, start: int = 0) -> list[PoseFrame]:
    frames: list[PoseFrame] = []
    row = np.zeros_like(FeatureSpec().silence)
    for hop in range(start, start + hops):
        frames += troupe.hear(Hop((hop + 1) * HOP_NS, BEAT, row, True))
    return frames


def test_everybody_is_shown_at_every_time_in_a_place_of_their_own() -> None:
    crowd, _ = _crowd(5)
    frames = _hear(TroupeHere(crowd, _settings(5)), 200)
    times = sorted({frame.time_ns for frame in frames})
    assert len(times) > 110
    for name in ("1", "2", "3", "4", "5"):
        assert [frame.time_ns for frame in frames if frame.performer == name] == times
    spots = places(5, 1.6)
    for frame in frames:
        x, z = spots[int(frame.performer) - 1]
        assert np.hypot(frame.translation_m[0] - x, frame.translation_m[2] - z) < 1.0


def test_places_are_apart_and_behind_the_lead() -> None:
    spots = places(40, 1.6)
    apart = np.linalg.norm(spots[:, None] - spots[None], axis=-1) + 10 * np.eye(40)
    assert apart.min() > 1.5
    assert (spots[:, 1] < 0).all()
    assert abs(spots[:2, 0].sum()) < 1e-9


def test_the_whole_company_is_computed_once_a_chunk() -> None:
    crowd, company = _crowd(6)
    _hear(TroupeHere(crowd, _settings(6)), 400)
    ticks = [requests[0].first_tick for requests in company.asked]
    assert len(ticks) == len(set(ticks))
    assert all(len({r.first_tick for r in requests}) == 1 for requests in company.asked)
    assert len(set(company.seeds)) == 6


def test_a_change_of_style_reaches_all_and_costs_no_further_steps() -> None:
    crowd, company = _crowd(4)
    troupe = TroupeHere(crowd, _settings(4))
    _hear(troupe, 200)
    troupe.wish(Wish("style", "rumba"))
    before = len(company.asked)
    _hear(troupe, 200, 200)
    # 2 s at 120 bpm are 48 ticks; a chunk more for what was made ahead.
    chunk = company.info.chunk_ticks
    assert len(company.asked) - before <= 48 // chunk + 2
    assert {request.style for request in company.asked[-1]} == {"rumba"}


class _Listener:
    """A crowd that only keeps what it is told."""

    def __init__(self) -> None:
        self.wishes: list[Wish] = []

    def hear(self, hop: Hop) -> Sequence[PoseFrame]:
        return ()

    def wish(self, wish: Wish) -> None:
        self.wishes.append(wish)


def test_what_a_scene_sets_is_wished_of_the_crowd_too() -> None:
    settings = ShowSettings.model_validate({"scenes": {"slow": {"style": "waltz", "energy": 0.1, "mirror": True}}})
    crowd = _Listener()
    core = Pipeline(settings, SteadyTracker(), Walker(), FeatureExtractor(), Metrics(), crowd)
    core.push(ControlEvent(0, "scene", "slow"))
    assert crowd.wishes[:-1] == [Wish("style", "waltz"), Wish("energy", 0.1), Wish("mirror", 1.0)]


@pytest.mark.parametrize("alternate", [True, False])
def test_mirrored_every_other_dancer_is_still_the_mirror_image(alternate: bool) -> None:
    size, setting = 4, f"crowd.mirror_alternate={str(alternate).lower()}"
    crowd, _ = _crowd(size, setting, share=range(1, 4))
    before = [dancer.mirror for dancer in crowd.dancers]
    assert before == [alternate, False, alternate]
    troupe = TroupeHere(crowd, _settings(size, setting))
    for _ in range(2):
        troupe.wish(Wish("mirror", 1.0))
        assert [dancer.mirror for dancer in crowd.dancers] == [not was for was in before]
    troupe.wish(Wish("mirror", 0.0))
    assert [dancer.mirror for dancer in crowd.dancers] == before


def test_the_pipeline_emits_the_crowd_beside_the_lead_and_is_deterministic() -> None:
    settings = _settings(3, "dancer.backend=cpu")
    random = np.random.default_rng(0)
    music = random.normal(0, 0.1, (48_000, 1)).astype(np.float32)

    def run(with_crowd: bool) -> list[PoseFrame]:
        core = build_pipeline(settings if with_crowd else _settings(0, "dancer.backend=cpu"))
        events = []
        for start in range(0, len(music), 480):
            end = start + 480
            events += core.push(AudioBlock(start, end * 1_000_000_000 // 48_000, music[start:end], 48_000))
        return [event for event in events if isinstance(event, PoseFrame)]

    first, second, alone = run(True), run(True), run(False)
    assert {frame.performer for frame in first} == {"", "1", "2", "3"}
    assert all(np.array_equal(a.rotations, b.rotations) for a, b in zip(first, second, strict=True))
    lead = [frame for frame in first if frame.performer == ""]
    assert all(np.array_equal(a.rotations, b.rotations) for a, b in zip(lead, alone, strict=True))


def _evening(troupe: TroupeHere) -> dict[str, list[PoseFrame]]:
    """Dance to music that rests, jumps in tempo and is interfered with; return everybody's poses."""
    frames: list[PoseFrame] = []
    random = np.random.default_rng(3)
    wishes = {
        150: Wish("energy", 0.9),
        333: Wish("style", "rumba"),
        # At several places within a chunk: the servos have everybody's motion at a tick of their own.
        **{hop: Wish("panic", None) for hop in (215, 252, 277, 296, 385, 645, 678, 1325)},
        460: Wish("mirror", 1.0),
        700: Wish("hold", 1.0),
        730: Wish("hold", 0.0),
    }
    for hop in range(1400):
        if hop in wishes:
            troupe.wish(wishes[hop])
        end_ns = (hop + 1) * HOP_NS
        # From the ninth second on another tempo; silence twice, once shorter than it takes to come to rest wholly.
        timeline = BeatTimeline(120.0, 0.0, 0) if hop < 900 else BeatTimeline(151.0, 18.3, 9 * 10**9)
        active = not (400 <= hop < 580 or 1000 <= hop < 1160)
        row = (FeatureSpec().silence + 0.2 * random.standard_normal(len(FeatureSpec().silence))).astype(np.float32)
        frames += troupe.hear(Hop(end_ns, BeatState(timeline, 0.9, 4, 0), row, active))
    return {name: [frame for frame in frames if frame.performer == name] for name in {f.performer for f in frames}}


_QUICK_TO_REST = "dancer.rest_after_s=0.5"


def test_how_somebody_dances_does_not_depend_on_how_the_crowd_is_shared_out() -> None:
    size = 5
    settings = _settings(size, _QUICK_TO_REST)
    whole, company = _crowd(size, _QUICK_TO_REST)
    together = _evening(TroupeHere(whole, settings))
    assert len({float(frames[500].rotations[4, 0]) for frames in together.values()}) == size, "each in their own way"
    assert len(company.asked) > 20
    apart: dict[str, list[PoseFrame]] = {}
    for share in share_out(size, 3, 1):
        crowd, _ = _crowd(size, _QUICK_TO_REST, share=share)
        apart |= _evening(TroupeHere(crowd, settings))
    assert apart.keys() == together.keys()
    for name, frames in together.items():
        for one, other in zip(frames, apart[name], strict=True):
            assert one.time_ns == other.time_ns
            assert np.array_equal(one.rotations, other.rotations), (name, one.time_ns)
            assert np.array_equal(one.translation_m, other.translation_m), (name, one.time_ns)


def test_with_the_model_too_a_share_dances_as_the_whole_crowd_does() -> None:
    settings = _settings(5, "dancer.backend=cpu-fp32")
    whole, share = (_hear_varied(build_troupe(settings, who), 400) for who in (None, range(3, 5)))
    assert {frame.performer for frame in share} == {"4", "5"}
    expected = [frame for frame in whole if frame.performer in ("4", "5")]
    for one, other in zip(expected, share, strict=True):
        assert np.allclose(one.rotations, other.rotations, atol=1e-4)
        assert np.allclose(one.translation_m, other.translation_m, atol=1e-4)


def _hear_varied(troupe: TroupeHere, hops: int) -> list[PoseFrame]:
    random = np.random.default_rng(1)
    silence = FeatureSpec().silence
    frames: list[PoseFrame] = []
    for hop in range(hops):
        row = (silence + 0.3 * random.standard_normal(len(silence))).astype(np.float32)
        frames += troupe.hear(Hop((hop + 1) * HOP_NS, BEAT, row, True))
    return frames


@pytest.mark.parametrize(
    ("size", "processes", "cores", "expected"),
    [
        (0, 0, 8, []),
        (1, 0, 8, [1]),
        (60, 0, 8, [60]),
        (61, 0, 8, [31, 30]),
        (1000, 0, 16, [67] * 14 + [62]),
        (1000, 0, 1, [1000]),
        (100, 1, 16, [100]),
        (100, 3, 1, [34, 34, 32]),
        (3, 8, 2, [1, 1, 1]),
    ],
)
def test_a_crowd_is_shared_out_by_its_size_and_the_cores(
    size: int, processes: int, cores: int, expected: list[int]
) -> None:
    shares = share_out(size, processes, cores)
    assert [len(share) for share in shares] == expected
    assert [dancer for share in shares for dancer in share] == list(range(size))


def _build_idle(
    settings: ShowSettings, share: range, through_core: frozenset[str], clock: Clock, target: int = 0
) -> Share:
    """Build a share that sends to a port."""
    crowd = Crowd(_Company(len(share)), FeatureSpec(), settings, Metrics(), lambda level, message: None, share)
    metrics = Metrics()
    bridges: list[Bridge] = [create_bridge("osc", f"127.0.0.1:{target}", clock)] if target else []
    for bridge in bridges:
        bridge.open(lambda event: None)
    timing = Timing(NS_PER_S // 60, 0, 0)
    return Share(
        TroupeHere(crowd, settings),
        clock,
        OutputScheduler(clock, bridges, metrics, timing, fills_in=False),
        metrics,
        through_core,
    )


def _build_broken() -> Share:
    raise UserError("no company", "hire one")


def _begin(
    settings: ShowSettings,
    processes: int,
    through_core: frozenset[str],
    metrics: Metrics,
    clock: Clock | None = None,
    port: int = 0,
) -> TroupeElsewhere:
    """Return a crowd, not yet begun; without a clock its time stands still, so that nothing is ever late."""
    builds = {
        f"dancers {share.start + 1} to {share.stop}": partial(
            _build_idle, settings, share, through_core, clock or VirtualClock(), port
        )
        for share in share_out(settings.crowd.size, processes, 1)
    }
    return TroupeElsewhere(builds, metrics)


SILENCE = np.zeros_like(FeatureSpec().silence)


def test_elsewhere_the_crowd_dances_the_same_and_who_is_lost_comes_back() -> None:
    settings = _settings(4)
    got: list[PoseFrame] = []
    said: list[StatusEvent] = []
    metrics = Metrics()
    troupe = _begin(settings, 2, frozenset("1234"), metrics)
    lock = threading.Lock()

    def on_frames(frames: Sequence[PoseFrame]) -> None:
        with lock:
            got.extend(frames)

    def hear_until(hop: int, enough: Callable[[], bool]) -> int:
        """Let music go on, much more slowly than in a show: poses of a process that is starved must not come late."""
        hops = itertools.count(hop)

        def heard_enough() -> bool:
            if enough():
                return True
            troupe.hear(Hop(next(hops) * HOP_NS, BEAT, SILENCE, True))
            return False

        wait_until(heard_enough, lambda: said, each_s=0.2)
        return next(hops)

    def shown(since_ns: int = 0) -> set[str]:
        with lock:
            return {frame.performer for frame in got if frame.time_ns >= since_ns}

    troupe.start(on_frames, said.append)
    try:
        here = TroupeHere(_crowd(4)[0], settings)
        expected = here.hear(Hop(HOP_NS, BEAT, SILENCE, True))
        troupe.hear(Hop(HOP_NS, BEAT, SILENCE, True))
        wait_until(lambda: shown() == set("1234"), shown)
        with lock:
            poses = {(frame.performer, frame.time_ns): frame for frame in got}
        timely = [frame for frame in expected if (frame.performer, frame.time_ns) in poses]
        assert {frame.performer for frame in timely} == set("1234")
        assert all(np.array_equal(f.rotations, poses[f.performer, f.time_ns].rotations) for f in timely)
        troupe.processes[1].kill()
        hop = hear_until(2, lambda: bool(said))
        assert said[0].level == "error"
        assert "dancers 3 to 4" in said[0].message
        # The others dance on as if nothing had happened, and those come back.
        since_ns = hop * HOP_NS
        hop = hear_until(hop, lambda: shown(since_ns) >= {"1", "2"})
        hear_until(hop, lambda: shown(since_ns) == set("1234"))
        assert metrics.counter("crowd_lost") == 1
        assert len(said) == 1
        running = troupe.processes
        assert len(running) == 2
    finally:
        troupe.stop()
    troupe.stop()
    assert not troupe.processes
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("crowd")]


def test_each_share_sends_its_dancers_itself_but_those_whom_the_core_shows() -> None:
    metrics = Metrics()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(0.02)
        clock = SessionClock()
        troupe = _begin(
            _settings(4, "output.lookahead_ms=500"), 2, frozenset("1"), metrics, clock, sock.getsockname()[1]
        )
        by_core: set[str] = set()
        sent: set[str] = set()
        troupe.start(lambda frames: by_core.update(frame.performer for frame in frames), lambda event: None)
        try:

            def all_are_sent() -> bool:
                troupe.hear(Hop(clock.now_ns(), BEAT, SILENCE, True))
                with suppress(TimeoutError):
                    while True:
                        found = re.search(rb"/pdd/(\w+)/frame", sock.recv(65536))
                        sent.update({found[1].decode()} if found else set())
                return bool(sent >= set("234") and by_core and metrics.counter("crowd_frames"))

            wait_until(all_are_sent, lambda: (sent, by_core))
        finally:
            troupe.stop()
    assert by_core == {"1"}
    assert sent == set("234")


def test_a_share_that_is_behind_drops_hops_instead_of_blocking() -> None:
    metrics = Metrics()
    troupe = _begin(_settings(2), 1, frozenset(), metrics)
    for hop in range(150):
        troupe.hear(Hop(hop * HOP_NS, BEAT, SILENCE, True))
    assert metrics.counter("crowd_hops_dropped") == 50


def test_wishes_come_before_all_that_waits_and_who_begins_again_is_told_them_anew() -> None:
    member = _Process("dancers 1 to 2", _build_broken, Metrics())
    troupe = TroupeElsewhere({}, Metrics())
    troupe._members = [member]

    def first_told(count: int) -> list[Hop | Wish]:
        """Be a process that is lost after so many messages; return them."""
        member._connection, theirs = multiprocessing.Pipe()
        serving = threading.Thread(target=member._serve, args=(lambda frames: None,))
        serving.start()
        messages = [theirs.recv() for _ in range(count)]
        theirs.close()
        serving.join()
        return messages

    for hop in range(150):
        troupe.hear(Hop(hop * HOP_NS, BEAT, SILENCE, True))
    for wish in (Wish("hold", 1.0), Wish("panic", None), Wish("tap", None), Wish("energy", 0.2), Wish("energy", 0.9)):
        troupe.wish(wish)
    wished = [Wish("hold", 1.0), Wish("panic", None), Wish("energy", 0.9)]
    told = first_told(5)
    assert told[:3] == wished
    assert all(isinstance(message, Hop) for message in told[3:]), "once is enough"
    for hop in range(150):
        troupe.hear(Hop(hop * HOP_NS, BEAT, SILENCE, True))
    troupe.wish(Wish("hold", 1.0))
    assert first_told(3) == [Wish("panic", None), Wish("energy", 0.9), Wish("hold", 1.0)]


def test_who_is_behind_makes_no_poses_for_times_that_have_passed() -> None:
    here = TroupeHere(_crowd(2)[0], _settings(2))
    late = [
        frame for hop in range(50) for frame in here.hear(Hop((hop + 1) * HOP_NS, BEAT, SILENCE, True), NS_PER_S // 2)
    ]
    assert late
    assert min(frame.time_ns for frame in late) >= NS_PER_S // 2


def test_a_crowd_that_cannot_be_built_is_refused_before_the_show_and_leaves_nothing_running() -> None:
    settings = _settings(2)
    sound = partial(_build_idle, settings, range(1), frozenset[str](), VirtualClock())
    troupe = TroupeElsewhere({"dancers 1 to 1": sound, "dancers 2 to 2": _build_broken}, Metrics())
    with pytest.raises(UserError, match=r"dancers 2 to 2: .*no company"):
        troupe.start(lambda frames: None, lambda event: None)
    assert not troupe.processes
    with pytest.raises(UserError, match="needs a model"):
        build_troupe(_settings(2, "dancer.model=idle"))
