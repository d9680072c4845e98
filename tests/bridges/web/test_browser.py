"""The web stage in a real browser (headless Chromium, software rendering): it draws, it obeys, it survives.

How fast it draws says nothing here: a browser without a GPU on a busy machine draws a few pictures a second.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from bridges.web import WebBridge
from engine.body import skeleton
from engine.clock import SessionClock
from engine.types import BeatEvent, ClockEvent, ControlEvent, MetricsEvent, NoteEvent, PoseFrame, StatusEvent
from tests.ports import unshared_port
from tests.waiting import wait_until

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: no browser tests")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: no browser tests")

ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-gpu-compositing",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
FPS = 60.0
BPM = 120.0
STANDING_M = -skeleton.REST_FLOOR_M
WAIT_MS = 120_000

FEW_PICTURES = """
const draw = window.requestAnimationFrame.bind(window);
window.requestAnimationFrame = (drawn) => setTimeout(() => draw(drawn), 250);
"""

Motion = Callable[[float], tuple[np.ndarray, np.ndarray]]


def sway(time_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Return a synthetic dance: rotations (24, 3) and root place (3,)."""
    swing = np.sin(np.pi * time_s)
    rotations = np.zeros((24, 3))
    rotations[[16, 17], 2] = -0.9 + 0.5 * swing, 0.9 + 0.5 * swing
    rotations[[18, 19], 1] = -0.8, 0.8
    rotations[3, 1] = 0.2 * swing
    return rotations, np.array([0.1 * swing, STANDING_M, 0.0])


class Feeder:
    """Plays a motion through a bridge in real time, as the engine's scheduler does."""

    def __init__(self, port: int = 0, **info: object) -> None:
        self.clock = SessionClock()
        self.motion: Motion = sway
        self.controls: list[ControlEvent] = []
        stage_info = {"styles": ["waltz", "tango"], "style": "auto", "energy": 0.5, **info}
        self.bridge = WebBridge(port=port, clock=self.clock, stage_info=stage_info)
        self.bridge.open(self.on_control)
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.feed, daemon=True)
        self.thread.start()

    def on_control(self, event: ControlEvent) -> None:
        self.controls.append(event)
        self.bridge.send(event)

    def feed(self) -> None:
        index, last_beat = 0, -1
        while not self.stopping.is_set():
            time_ns = round(index / FPS * 1e9)
            self.clock.sleep_until(time_ns)
            source_ns = time_ns - 40_000_000
            beat = time_ns * 1e-9 * BPM / 60
            self.bridge.send(ClockEvent(time_ns, source_ns, beat, beat % 1.0, BPM, 0.8))
            rotations, translation = self.motion(time_ns * 1e-9)
            self.bridge.send(PoseFrame(time_ns, source_ns, rotations, translation, np.zeros(4)))
            if int(beat) != last_beat:
                last_beat = int(beat)
                self.bridge.send(BeatEvent(time_ns, source_ns, last_beat, last_beat % 3 + 1, BPM, 0.8))
                self.bridge.send(NoteEvent(time_ns, source_ns, 0, 60, 100, 500_000_000))
                values = {"latency_p50_ms": 41.0, "latency_p99_ms": 47.0, "frames_late": 2.0}
                self.bridge.send(MetricsEvent(time_ns, values))
            index += 1

    def names(self) -> list[str]:
        return [event.name for event in self.controls]

    def rest(self) -> None:
        """Play no more, and wait until all that was played is sent."""
        self.stopping.set()
        self.thread.join()
        sent = -1
        while sent != (sent := self.bridge.counters["poses_sent"]):
            time.sleep(0.5)

    def close(self) -> None:
        self.stopping.set()
        self.thread.join()
        self.bridge.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright.Browser]:
    with playwright.sync_playwright() as runner:
        browser = runner.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def feeder() -> Iterator[Feeder]:
    feeder = Feeder()
    yield feeder
    feeder.close()


class Visit:
    """A page of the stage, and what it complained about."""

    def __init__(self, browser: playwright.Browser, feeder: Feeder, query: str = "") -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        # A quarter of the pixels each way: software draws them here, and what is asked is not how sharp they are.
        self.page = browser.new_page(viewport={"width": 960, "height": 600}, device_scale_factor=0.25)
        self.page.add_init_script(FEW_PICTURES)
        self.page.set_default_timeout(WAIT_MS)
        self.page.on("console", self.heard)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.set_default_navigation_timeout(2 * WAIT_MS)
        self.page.goto(f"{feeder.bridge.url}/?quality=low{query}")

    def heard(self, message: playwright.ConsoleMessage) -> None:
        # How the browser puts its pictures together here stalls the driver a little: nothing of the page's.
        if message.type in ("error", "warning") and "GPU stall due to ReadPixels" not in message.text:
            self.complaints.append(message.text)

    def wait(self, condition: str) -> object:
        """Wait until an expression about the stage is true; return what it was then."""
        # Asked by a timer: pictures are drawn a few times a second at best.
        asked = f"() => {{ const stage = window.__stage; return {condition}; }}"
        return self.page.wait_for_function(asked, polling=50).json_value()

    def wait_for_text(self, selector: str, text: str) -> None:
        """Wait until an element holds that text and nothing else."""
        self.wait(f"document.querySelector({selector!r}).innerText === {text!r}")

    def ask(self, expression: str) -> object:
        return self.page.evaluate(f"() => {{ const stage = window.__stage; return {expression}; }}")


@pytest.fixture
def visit(browser: playwright.Browser, feeder: Feeder) -> Iterator[Visit]:
    visit = Visit(browser, feeder)
    visit.wait("stage.rendered > 0 && stage.received > 0")
    yield visit
    visit.page.close()


def test_draws_what_it_receives(visit: Visit, feeder: Feeder) -> None:
    assert visit.ask("stage.webgl")
    assert visit.page.evaluate("document.querySelector('canvas').getContext('webgl2') !== null")
    before = visit.ask("[stage.received, stage.rendered]")
    visit.wait(f"stage.received > {before[0] + 90} && stage.rendered > {before[1] + 3}")  # type: ignore[index]
    # Something is lit in the middle of the picture, where the dancer stands.
    brightest = visit.page.evaluate(
        """() => new Promise((done) => requestAnimationFrame(() => {
            const canvas = document.createElement('canvas');
            canvas.width = canvas.height = 32;
            const stage = document.getElementById('stage');
            window.__stage.stage.renderer.render(window.__stage.stage.scene, window.__stage.stage.camera.camera);
            canvas.getContext('2d').drawImage(stage, 0, 0, 32, 32);
            done(Math.max(...canvas.getContext('2d').getImageData(0, 0, 32, 32).data.filter((_, i) => i % 4 < 3)));
        }))"""
    )
    assert brightest > 60
    visit.wait_for_text("#bpm", "120")
    visit.wait("document.querySelectorAll('#beats i').length === 3")
    visit.wait_for_text("#latency", "41 · 47 ms")
    assert visit.complaints == []
    assert all(url.startswith((feeder.bridge.url, "blob:", "data:")) for url in visit.requests)
    # The only page there is takes all that is sent.
    feeder.rest()
    visit.wait(f"stage.received === {feeder.bridge.counters['poses_sent']}")


def test_joints_are_where_the_engine_puts_them(visit: Visit, feeder: Feeder) -> None:
    left_arm_up, knee_bent, turned = np.zeros((3, 24, 3))
    left_arm_up[16, 2] = 1.4
    knee_bent[2, 0], knee_bent[5, 0] = -1.3, 1.5
    turned[0, 1] = np.pi / 2
    wild = np.random.default_rng(3).normal(0, 0.6, (24, 3))
    places = {}
    for number, rotations in enumerate((np.zeros((24, 3)), left_arm_up, knee_bent, turned, wild)):
        translation = np.array([0.3 * number, STANDING_M, -0.1 * number])
        feeder.motion = lambda _, r=rotations, t=translation: (r, t)
        there = f"Math.abs(stage.pose.translation[0] - {translation[0]}) < 1e-5 && stage.settled"
        places[number] = np.array(visit.wait(f"{there} && stage.joints()"))
        expected, _ = skeleton.forward_kinematics(rotations, translation)
        np.testing.assert_allclose(places[number], expected, atol=2e-3)
        if number == 0:
            (lowest,) = visit.wait(f"{there} && [stage.lowestPoint()]")  # type: ignore[misc]
            assert abs(lowest) < 0.01
    left_hand, right_hand = places[1][22], places[1][23]
    assert left_hand[1] > right_hand[1] + 0.5
    # Seen from the audience, the dancer's left hand is on the right.
    assert visit.ask("stage.stage.camera.camera.position.z") > 3  # type: ignore[operator]
    assert places[0][22][0] > 0.5


def test_keys_and_buttons_become_controls(visit: Visit, feeder: Feeder) -> None:
    page = visit.page
    visit.wait("stage.connected && stage.settings.style === 'auto'")
    for key in ("Space", "b", "m", "p", "[", "]", "d", "ArrowRight"):
        page.keyboard.press(key)
    page.get_by_role("radio", name="tango").click()
    page.locator("#energy").fill("80")
    page.locator("#tap").click()
    page.keyboard.press("Space")
    page.get_by_role("button", name="Blackout").click()
    visit.wait("stage.settings.blackout === 0 && stage.settings.mirror === 1")
    visit.wait_for_text("#energy-value", "80")
    wait_until(lambda: feeder.names().count("blackout") == 2 and "energy" in feeder.names(), feeder.names)
    names = feeder.names()
    assert names[:8] == ["tap", "blackout", "mirror", "panic", "half", "double", "downbeat", "nudge"]
    # The tap button acts once a click, and space after a click still taps.
    assert names.count("tap") == 3
    values = {event.name: event.value for event in feeder.controls}
    assert values["style"] == "tango"
    assert values["energy"] == pytest.approx(0.8)
    assert values["nudge"] == pytest.approx(0.05)
    assert [event.value for event in feeder.controls if event.name == "blackout"] == [1.0, 0.0]
    assert feeder.bridge.counters.get("malformed", 0) == 0


def test_enter_held_on_a_button_presses_it_once(visit: Visit, feeder: Feeder) -> None:
    page = visit.page
    visit.wait("stage.connected && stage.settings.style === 'auto'")
    for name in ("Blackout", "Panic"):
        page.get_by_role("button", name=name).focus()
        for _ in range(6):
            page.keyboard.down("Enter")
        page.keyboard.up("Enter")
    page.keyboard.press("m")
    wait_until(lambda: "mirror" in feeder.names(), feeder.names)
    assert feeder.names() == ["blackout", "panic", "mirror"]
    # The list of keys is read in a hurry, too.
    for key in ("?", "m", "b", "p"):
        page.keyboard.press(key)
    wait_until(lambda: feeder.names().count("panic") == 2, feeder.names)
    assert feeder.names()[3:] == ["blackout", "panic"]


def test_two_hands_on_one_slider_end_of_one_mind(browser: playwright.Browser, visit: Visit, feeder: Feeder) -> None:
    visit.wait("stage.connected && stage.settings.style === 'auto'")
    visit.page.locator("#energy").fill("20")
    wait_until(lambda: feeder.controls and feeder.controls[-1].value == pytest.approx(0.2), feeder.names)
    # Another page's hand comes before this one's is known to be off.
    feeder.bridge.send(ControlEvent(0, "energy", 0.9))
    visit.wait_for_text("#energy-value", "90")


def test_a_slider_that_is_dragged_tells_twenty_times_a_second(visit: Visit) -> None:
    told = visit.page.evaluate(
        """() => { const told = []; const later = []; const slider = document.getElementById('energy');
        const { setTimeout } = window; window.setTimeout = (run) => later.push(run);
        window.__stage.link.control = (name, value) => told.push(value);
        const move = (percent) => { slider.value = percent; slider.dispatchEvent(new Event('input')); };
        const interval = () => { told.push('|'); later.shift()?.(); };
        move(10); move(11); move(12); interval(); move(13); move(14); interval(); move(14); interval(); interval();
        move(15); interval(); interval(); window.setTimeout = setTimeout; delete window.__stage.link.control;
        return told; }"""
    )
    assert told == [0.1, "|", 0.12, "|", 0.14, "|", 0.14, "|", 0.15, "|", "|"]


def test_blackout_darkens_and_hud_hides(visit: Visit) -> None:
    visit.page.keyboard.press("b")
    visit.wait("stage.light === 0")
    visit.wait_for_text("#badges", "BLACKOUT")
    visit.page.keyboard.press("b")
    visit.wait("stage.light > 0.9")
    visit.page.keyboard.press("h")
    visit.wait("getComputedStyle(document.querySelector('#panel')).visibility === 'hidden'")
    visit.page.keyboard.press("h")
    visit.wait("getComputedStyle(document.querySelector('#panel')).visibility === 'visible'")


def test_a_cursor_that_nobody_moves_goes_away(visit: Visit) -> None:
    visit.wait("getComputedStyle(document.body).cursor === 'none'")
    visit.page.mouse.move(400, 300)
    visit.wait("getComputedStyle(document.body).cursor === 'auto'")
    visit.wait("getComputedStyle(document.body).cursor === 'none'")


def test_messages_are_shown_as_text(visit: Visit, feeder: Feeder) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    found: list[str | int] = []

    def counted() -> bool:
        # It is shown for some seconds: said again, it stays.
        feeder.bridge.send(StatusEvent(0, "audio", "error", hostile))
        found[:] = visit.page.evaluate(
            """() => { const toasts = [...document.querySelectorAll('.toast.error')];
            return [toasts.length, toasts.map((toast) => toast.textContent).join(),
            document.querySelectorAll('.toast img').length]; }"""
        )
        return "×" in str(found[1])

    wait_until(counted, lambda: found, each_s=0.2)
    assert found[0] == 1, "the same one again is counted, not stacked"
    assert hostile in str(found[1])
    assert found[2] == 0


def test_a_long_name_stays_in_the_panel(browser: playwright.Browser) -> None:
    styles = ["one that was named after the folder " + 3 * "it was trained on ", 60 * "w"]
    feeder = Feeder(styles=styles, scenes=[70 * "s"])
    visit = Visit(browser, feeder)
    visit.wait("stage.connected && document.querySelectorAll('#scenes button').length === 1")
    assert visit.ask("((panel) => panel.scrollWidth - panel.clientWidth)(document.getElementById('panel'))") == 0
    visit.page.close()
    feeder.close()


def test_reconnects_by_itself(browser: playwright.Browser) -> None:
    port = unshared_port()
    first = Feeder(port=port)
    visit = Visit(browser, first)
    visit.wait("stage.rendered > 0 && stage.received > 0")
    first.close()
    visit.page.get_by_text("The engine is not running").wait_for()
    received = visit.ask("stage.received")
    second = Feeder(port=port)
    visit.wait(f"stage.received > {received} + 30")
    visit.page.locator("#notice").wait_for(state="hidden")
    # On the projector no message stands before the audience.
    visit.page.keyboard.press("h")
    second.close()
    visit.wait("!stage.connected")
    visit.page.wait_for_timeout(300)
    assert not visit.page.locator("#notice").is_visible()
    visit.page.close()


def test_an_engine_that_begins_again_has_the_first_word(browser: playwright.Browser) -> None:
    port = unshared_port()
    first = Feeder(port=port)
    visit = Visit(browser, first)
    visit.wait("stage.rendered > 0 && stage.connected")
    for key in ("b", "o", "m"):
        visit.page.keyboard.press(key)
    wait_until(lambda: len(first.controls) == 3, first.names)
    visit.wait("stage.light === 0")
    first.close()
    visit.wait("!stage.connected")
    # Out of reach nothing takes effect, but the page goes dark, and light again, when it is told to.
    visit.page.keyboard.press("o")
    visit.page.keyboard.press("b")
    visit.wait("stage.settings.hold === 1 && stage.settings.blackout === 0")
    visit.page.keyboard.press("b")
    visit.wait("stage.settings.blackout === 1")
    second = Feeder(port=port)
    visit.wait("stage.connected && stage.light > 0.9")
    assert visit.ask("['blackout', 'hold', 'mirror'].map((name) => stage.settings[name])") == [0, 0, 0]
    visit.wait_for_text("#badges", "")
    for key in ("b", "o", "m"):
        visit.page.keyboard.press(key)
    wait_until(lambda: len(second.controls) == 3, second.names)
    assert [(event.name, event.value) for event in second.controls] == [("blackout", 1), ("hold", 1), ("mirror", 1)]
    visit.page.close()
    second.close()


def test_without_webgl_the_controls_still_work(browser: playwright.Browser, feeder: Feeder) -> None:
    blind = browser.browser_type.launch(executable_path=CHROMIUM, args=[*ARGUMENTS[:2], "--disable-3d-apis"])
    visit = Visit(blind, feeder)
    visit.page.get_by_text("WebGL 2 is off or missing").wait_for()
    visit.wait("stage.connected")
    # Not before an audience: the projector stays dark.
    visit.page.keyboard.press("h")
    visit.page.locator("#notice").wait_for(state="hidden")
    visit.page.keyboard.press("h")
    visit.page.locator("#notice").wait_for(state="visible")
    visit.page.keyboard.press("p")
    visit.page.keyboard.press("b")
    visit.wait_for_text("#badges", "BLACKOUT")
    blind.close()
    assert "panic" in feeder.names()
