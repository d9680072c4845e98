// The web stage: poses in, picture out.

import { Link } from "./link.js";
import { Hud } from "./hud.js";
import { Panel } from "./panel.js";
import { Playout, blendPoses } from "./playout.js";
import { Bar } from "./bar.js";
import { Cast } from "./cast.js";
import { Roll } from "./roll.js";
import { DELAY_S, Sound, renderNotes } from "./sound.js";
import { idlePose } from "./idle.js";
import { decodePose, makePose } from "./protocol.js";
import { paletteOf } from "./palette.js";
import { openStage } from "./stage.js";

// Without poses for this long the dancer goes over to standing by itself, over as long again.
const SILENCE_MS = 900;
const IDLE_BLEND_S = 1.0;
const STEP_MS = 1000 / 60;
const TEXT_INTERVAL_MS = 120;
const CURSOR_MS = 2500;

const wishes = new URLSearchParams(location.search);
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const hud = new Hud();
const playout = new Playout();
const bar = new Bar();
const cast = new Cast();
const roll = new Roll(document.getElementById("roll"));
// Whatever the engine sends leaves this much before its time, for the projector's sake.
let latencyMs = 0;
const sound = new Sound((timeS) => (link.offsetMs === null ? null : timeS * 1000 - latencyMs - link.offsetMs));
const shown = makePose();
const live = makePose();
const idle = makePose();

const state = {
  received: 0, rendered: 0, dropped: 0, fps: 0, rate: 0, castRate: 0, connected: false, everConnected: false,
  liveness: 0, light: 0, pulse: 0, lastIndex: null, place: [0, 0], metrics: {}, metricsMs: -Infinity,
};
let stage = null;

const link = new Link(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`, {
  open() {
    state.connected = true;
    playout.reset();
    cast.reset();
    bar.reset();
    roll.clear();
    sound.silence();
    state.lastIndex = null;
    if (state.everConnected) hud.toast("info", "", "Connected again");
    state.everConnected = true;
  },
  close() {
    state.connected = false;
    sound.silence();
  },
  pose(buffer) {
    if (cast.take(buffer, performance.now())) return;
    if (!decodePose(buffer, playout.slot)) return;
    const { index } = playout.slot;
    state.received += 1;
    if (state.lastIndex !== null && index > state.lastIndex + 1) state.dropped += index - state.lastIndex - 1;
    state.lastIndex = index;
    playout.commit(performance.now());
  },
  message(message) {
    if (message.type === "hello") begin(message.info ?? {}, message.settings ?? {});
    else if (message.type === "performers") cast.name(message.names);
    else if (message.type === "control") take(message.name, message.value);
    else if (message.type === "beat") bar.take(message);
    else if (message.type === "note") note(message);
    else if (message.type === "status") {
      if (message.level !== "info") hud.toast(message.level, message.component, message.message);
    } else if (message.type === "metrics") {
      state.metrics = message.values ?? {};
      state.metricsMs = performance.now();
    }
  },
});

/** Take the engine's first word. */
function begin(info, settings) {
  panel.begin(info, settings);
  state.zones = info.zones;
  // A band alone has no dancer; one of the show before does not stand beside it.
  if (panel.band && info.model === undefined) state.danced = false;
  latencyMs = Number.isFinite(info.latency_ms) ? info.latency_ms : 0;
  stage?.zones.set(state.zones);
  document.body.classList.toggle("has-band", panel.band);
  document.getElementById("roll").hidden = !panel.band;
  fitStage();
}

/** Give the dancers the middle of what panel and roll leave free. */
function fitStage() {
  stage?.fitWindow(hud.covered, hud.hidden ? 0 : roll.below);
}

function take(name, value) {
  if (name === "panic") {
    sound.silence();
    roll.cut(engineS() ?? 0);
  }
  panel.take(name, value);
}

function note(message) {
  if (message.velocity > 0) stage?.note(message);
  if (!panel.band) return;
  sound.note(message);
  roll.add(message);
}

/** The engine's time [s] of what is seen and heard now; null while its clock is unknown. */
function engineS() {
  return link.offsetMs === null ? null : (performance.now() + link.offsetMs + latencyMs) / 1000 - DELAY_S;
}

async function switchSound() {
  if (!panel.band) return;
  const button = document.getElementById("sound");
  try {
    const on = await sound.toggle();
    button.setAttribute("aria-pressed", String(on));
    button.firstChild.textContent = on ? "Sound off" : "Sound on";
  } catch {
    hud.toast("warning", "sound", "This browser gives no sound; click on the page and try again");
  }
}

document.getElementById("volume").addEventListener("input", (event) => {
  const percent = Number(event.target.value);
  event.target.style.setProperty("--fill", `${percent}%`);
  document.getElementById("volume-value").textContent = percent;
  sound.setVolume(percent / 100);
});
document.getElementById("volume").style.setProperty("--fill", "80%");

const views = {
  sound: switchSound,
  camera: () => stage && hud.toast("info", "", `Camera: ${stage.camera.next()}`),
  trails: () => stage && panel.setView("trails", stage.toggleTrails()),
  quality: () => stage && hud.toast("info", "", `Picture quality: ${stage.quality.next()}`),
  hud: () => (hud.hidden = !hud.hidden),
  help: () => document.getElementById("help").showModal(),
  fullscreen: () => {
    const change = document.fullscreenElement ? document.exitFullscreen() : document.documentElement.requestFullscreen?.();
    change?.catch(() => hud.toast("warning", "", "This browser refuses full screen"));
  },
};

const panel = new Panel((name, value, atMs) => link.control(name, value, atMs), views, (name, value) => {
  if (name === "blackout" || name === "hold") hud.setBadge(name, value >= 0.5);
  if (name === "blackout") sound.setDark(value >= 0.5);
  if (name.startsWith("mute_")) roll.muted[name.slice(5)] = value >= 0.5;
  if (name === "style") stage?.setPalette(paletteOf(value));
});

/** Decide which pose is shown at `nowMs`: the engine's, or standing, or something between. */
function choosePose(nowMs, elapsedS) {
  const talking = playout.sample(nowMs, live) && playout.silenceMs(nowMs) < SILENCE_MS;
  const step = elapsedS / IDLE_BLEND_S;
  state.liveness = Math.min(Math.max(state.liveness + (talking ? 2 * step : -step), 0), 1);
  // The first pose of all is shown as it is.
  if (talking && state.received > 0 && state.liveness < 1 && !state.danced) state.liveness = 1;
  state.danced ||= talking;
  if (talking) state.place = [live.translation[0], live.translation[2]];
  if (state.liveness === 1) {
    blendPoses(live, live, 0, shown);
  } else {
    idlePose(nowMs / 1000, idle);
    idle.translation[0] += state.place[0];
    idle.translation[2] += state.place[1];
    const share = state.liveness * state.liveness * (3 - 2 * state.liveness);
    blendPoses(idle, state.danced ? live : idle, share, shown);
  }
  return talking;
}

/** Take the dancer from the last picture's pose to this one's in steps of a sixtieth, half a second at most. */
function move(nowMs, elapsedMs) {
  const spanMs = Math.min(elapsedMs, 500);
  const steps = Math.max(Math.round(spanMs / STEP_MS), 1);
  let talking = false;
  for (let step = steps - 1; step >= 0; step--) {
    talking = choosePose(nowMs - (step * spanMs) / steps, spanMs / steps / 1000);
    stage?.move(shown, spanMs / steps / 1000);
  }
  return talking;
}

/** Where the dancers are, as [x, z]: the lead, or the middle of the company. */
function middle(leadShown) {
  const places = cast.company.map((member) => [member.place + member.pose.translation[0], member.pose.translation[2]]);
  if (leadShown) places.push([cast.leadPlace + shown.translation[0], shown.translation[2]]);
  if (!places.length) return [0, 0];
  return [0, 1].map((axis) => places.reduce((sum, place) => sum + place[axis], 0) / places.length);
}

/** The trigger rings around who is before the camera; dim while triggers are off. */
function moveZones(elapsedS) {
  const seen = cast.member("camera");
  const body = seen && seen.presence > 0 ? seen.body : null;
  const strength = panel.band && panel.settings.triggers !== "off" ? (seen?.presence ?? 0) : 0;
  stage.zones.update(elapsedS, body, strength * state.light, stage.camera.camera.position);
}

/** Where the music is at an engine time, from whoever brings the clock; null while nobody does. */
function clockAt(timeS, pose) {
  if (!pose || !(pose.tempoBpm > 0) || timeS === null) return null;
  return { beat: pose.beat + ((timeS - pose.timeS) * pose.tempoBpm) / 60, tempoBpm: pose.tempoBpm };
}

/**
 * The beat's light: sudden on the beat, fading until the next, weaker while the beat is unsure. It is kept to small parts
 * of the picture and a fifth of a lamp's light, as whole pictures that flash can hurt; for who asked for less motion it is
 * a quarter of that.
 */
function beatPulse(clock) {
  if (!clock || !(clock.tempoBpm > 0)) return { pulse: 0, phase: 1, position: -1, down: false };
  const position = bar.position(Math.floor(clock.beat));
  const down = bar.known && position === 0;
  const sure = 0.25 + 0.75 * Math.min(Math.max(clock.confidence, 0), 1);
  const strength = (down ? 1 : 0.6) * sure * (calm.matches ? 0.25 : 1);
  return { pulse: strength * Math.exp(-4.5 * clock.phase), phase: clock.phase, position, down, strength };
}

let lastMs = null;
let windowMs = 0;
let windowFrames = 0;
let windowReceived = 0;
let windowCast = 0;
let textMs = -Infinity;

function frame(nowMs) {
  const elapsedMs = lastMs === null ? 16 : nowMs - lastMs;
  lastMs = nowMs;
  const elapsedS = Math.min(elapsedMs, 500) / 1000;
  const talking = move(nowMs, elapsedMs);
  // Where a band plays alone, there is no lead dancer to stand and breathe.
  const leadShown = !panel.band || state.danced === true;
  if (stage) {
    cast.move(nowMs, elapsedS, stage, leadShown, state.light);
    stage.setLead(leadShown, cast.leadPlace, cast.width);
    moveZones(elapsedS);
  }
  const clock = talking ? live : cast.clock(nowMs);
  const beat = beatPulse(clock);
  const lost = !state.connected && !hud.hidden;
  const wanted = panel.settings.blackout >= 0.5 ? 0 : lost ? 0.4 : 1;
  const fade = Math.sign(wanted - state.light) * Math.min(Math.abs(wanted - state.light), elapsedS / 0.7);
  state.light += fade;
  if (stage) {
    stage.draw(nowMs / 1000, elapsedS, middle(leadShown), beat, state.light, calm.matches, bar.known ? bar.beatsPerBar : 4);
    stage.quality.frame(elapsedMs);
    state.rendered += 1;
  }
  windowFrames += 1;
  if (nowMs - windowMs >= 1000) {
    const seconds = (nowMs - windowMs) / 1000;
    state.fps = windowFrames / seconds;
    state.rate = (state.received - windowReceived) / seconds;
    state.castRate = (cast.received - windowCast) / seconds;
    [windowMs, windowFrames, windowReceived, windowCast] = [nowMs, 0, state.received, cast.received];
  }
  hud.setBeat(beat.position, bar.beatsPerBar);
  if (!document.hidden && !hud.hidden) {
    const timeS = engineS();
    roll.draw(timeS, clockAt(timeS, clock), (index) => bar.known && bar.position(index) === 0);
  }
  if (nowMs - textMs >= TEXT_INTERVAL_MS) {
    textMs = nowMs;
    writeTexts(nowMs, talking, clock);
  }
}

function writeTexts(nowMs, talking, clock) {
  hud.setMusic({ tempoBpm: clock?.tempoBpm ?? 0, confidence: clock?.confidence ?? 0, heard: clock !== null });
  if (!state.connected) hud.setState("lost", "engine not running");
  else if (talking || clock) hud.setState("live", "live");
  else hud.setState("waiting", "waiting for the dancer");
  // On the projector (nothing but the stage) no message may stand in front of the audience.
  if (!state.connected && !hud.hidden && nowMs > 1500 && stage !== undefined) {
    hud.notice("The engine is not running", "Start it in a terminal:  pasdedeux demo\nThis page connects by itself.");
  } else if (stage !== undefined) hud.notice(null);
  const m = state.metrics;
  const fresh = nowMs - state.metricsMs < 3000;
  // Without a lead dancer the person before the camera is who can be late.
  const seen = talking ? live : clock;
  const p50 = fresh && talking ? m.latency_p50_ms : undefined;
  const p99 = fresh && talking ? m.latency_p99_ms : undefined;
  hud.setHealth("latency", p50 === undefined ? (seen ? `${Math.round(seen.latencyS * 1000)} ms` : "–") : `${Math.round(p50)} · ${Math.round(p99 ?? p50)} ms`);
  hud.setHealth("rate", seen ? `${Math.round(talking ? state.rate : state.castRate)} fps` : "–");
  hud.setHealth("picture", stage ? `${Math.round(state.fps)} fps +${Math.round(playout.delayMs)} ms` : "–", stage !== null && state.fps < 24);
  hud.setHealth("late", fresh && m.frames_late !== undefined ? String(m.frames_late) : "–", fresh && m.frames_late > 0);
  if (fresh && m.cpu_percent !== undefined) hud.setHealth("cpu", `${Math.round(m.cpu_percent)} %`);
}

// The cursor has no place on a projector, also where nobody ever moves it.
let cursorTimer = 0;
function showCursor() {
  document.body.classList.remove("quiet");
  clearTimeout(cursorTimer);
  cursorTimer = setTimeout(() => document.body.classList.add("quiet"), CURSOR_MS);
}
addEventListener("pointermove", showCursor);
showCursor();

// A stage must not fall asleep; the lock is lost whenever the page is hidden.
async function stayAwake() {
  try {
    await navigator.wakeLock?.request("screen");
  } catch {
    // Refused (battery saver, not a secure origin): nothing the page can do.
  }
}
document.addEventListener("visibilitychange", () => document.hidden || stayAwake());
stayAwake();

hud.hidden = wishes.get("hud") === "off";

/** What tests and the curious may look at. */
window.__stage = {
  get received() { return state.received; },
  get rendered() { return state.rendered; },
  get dropped() { return state.dropped; },
  get fps() { return state.fps; },
  get rate() { return state.rate; },
  get connected() { return state.connected; },
  get stage() { return stage; },
  get webgl() { return stage?.webgl ?? null; },
  get quality() { return stage?.quality.name ?? null; },
  get delayMs() { return playout.delayMs; },
  get light() { return state.light; },
  /** Whether the pose shown is the engine's, and holds still. */
  get settled() { return state.liveness === 1 && playout.still; },
  get settings() { return { ...panel.settings }; },
  get pose() { return { ...live, quaternions: [...shown.quaternions], translation: [...shown.translation], contacts: [...shown.contacts] }; },
  cast, link, roll, sound, renderNotes,
  get zones() { return stage?.zones ?? null; },
  joints: () => stage?.figure.jointPlaces() ?? null,
  lowestPoint: () => stage?.figure.lowestPoint() ?? null,
};

openStage(document.getElementById("stage"), wishes, paletteOf(panel.settings.style)).then(
  (opened) => {
    stage = opened;
    stage.setPalette(paletteOf(panel.settings.style));
    stage.zones.set(state.zones);
    stage.renderer.domElement.addEventListener("webglcontextlost", () => hud.toast("warning", "picture", "The graphics driver was reset; the picture comes back by itself"));
    // The dancer stands in the middle of what the panel leaves free.
    hud.onHidden = fitStage;
    addEventListener("resize", fitStage);
    fitStage();
    panel.setView("trails", stage.trailsShown);
    stage.renderer.setAnimationLoop(frame);
  },
  (error) => {
    // Without a picture the controls still work.
    stage = undefined;
    hud.notice("No picture", `${error.message}\nThe controls still work.`);
    const loop = (nowMs) => {
      frame(nowMs);
      requestAnimationFrame(loop);
    };
    requestAnimationFrame(loop);
  },
);
