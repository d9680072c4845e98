// What the operator reads: tempo, beat, confidence, health, messages. Text is written only when it changes.

const TOAST_MS = { info: 3500, warning: 8000, error: 14000 };
const MAX_TOASTS = 4;
const MAX_DOTS = 8;
// Below this the beat is a guess, and shown as one.
const UNSURE = 0.35;

const $ = (id) => document.getElementById(id);

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export class Hud {
  constructor() {
    this.dots = [];
    this.flags = {};
    this.toasts = new Map();
  }

  /** @param state "live", "lost" or "waiting" */
  setState(state, text) {
    const element = $("state");
    if (element.className !== state) element.className = state;
    setText($("state-text"), text);
  }

  setBadge(name, on) {
    if (Boolean(this.flags[name]) === on) return;
    this.flags[name] = on;
    $("badges").replaceChildren(
      ...Object.keys(this.flags).filter((flag) => this.flags[flag]).map((flag) => {
        const badge = document.createElement("span");
        badge.className = flag;
        badge.textContent = flag.toUpperCase();
        return badge;
      }),
    );
  }

  /** @param music {tempoBpm, confidence, heard}; tempo 0 is unknown */
  setMusic({ tempoBpm, confidence, heard }) {
    const known = heard && tempoBpm > 0;
    const [whole, fraction] = known ? tempoBpm.toFixed(1).split(".") : ["–", ""];
    setText($("bpm"), whole);
    setText($("bpm-fraction"), fraction && `.${fraction}`);
    const sure = known && confidence >= UNSURE;
    $("music").classList.toggle("unsure", !sure);
    const percent = known ? Math.round(100 * Math.min(Math.max(confidence, 0), 1)) : 0;
    const meter = $("confidence");
    if (meter.getAttribute("aria-valuenow") !== String(percent)) {
      meter.setAttribute("aria-valuenow", String(percent));
      meter.firstElementChild.style.transform = `scaleX(${percent / 100})`;
    }
    setText($("listening"), !known ? "no beat yet" : sure ? `confidence ${percent} %` : `unsure, ${percent} %: tap to help`);
  }

  /** Light the dot of this beat of the bar (0 the first); -1: none. */
  setBeat(position, beatsPerBar) {
    const count = Math.min(beatsPerBar, MAX_DOTS);
    if (this.dots.length !== count) {
      this.dots = Array.from({ length: count }, () => document.createElement("i"));
      $("beats").replaceChildren(...this.dots);
    }
    this.dots.forEach((dot, i) => dot.classList.toggle("now", i === position));
  }

  setHealth(id, text, bad = false) {
    const element = $(id);
    setText(element, text);
    element.classList.toggle("bad", bad);
    if (id === "cpu") $("cpu-row").hidden = false;
  }

  /** Show a message for a while; the same one again is counted, not stacked. */
  toast(level, component, message) {
    const key = `${level} ${component} ${message}`;
    let toast = this.toasts.get(key);
    if (toast) {
      toast.count += 1;
      toast.times.textContent = `×${toast.count}`;
    } else {
      const element = document.createElement("div");
      element.className = `toast ${level}`;
      const who = document.createElement("b");
      who.textContent = component;
      const times = document.createElement("span");
      element.append(who, message, times);
      if (!component) who.remove();
      toast = { element, times, count: 1, timer: 0 };
      this.toasts.set(key, toast);
      $("toasts").append(element);
      if (this.toasts.size > MAX_TOASTS) this.dismiss(this.toasts.keys().next().value);
    }
    clearTimeout(toast.timer);
    toast.element.classList.remove("leaving");
    toast.timer = setTimeout(() => {
      toast.element.classList.add("leaving");
      toast.timer = setTimeout(() => this.dismiss(key), 500);
    }, TOAST_MS[level] ?? TOAST_MS.info);
  }

  dismiss(key) {
    const toast = this.toasts.get(key);
    if (!toast) return;
    clearTimeout(toast.timer);
    toast.element.remove();
    this.toasts.delete(key);
  }

  /** Show a message in the middle that stays; null takes it away. */
  notice(title, text = "") {
    const element = $("notice");
    element.hidden = title === null;
    if (title === null) return;
    setText(element.querySelector("h2"), title);
    setText(element.querySelector("p"), text);
  }

  get hidden() {
    return document.body.classList.contains("bare");
  }

  /** Width [px] at the right edge that the panel covers. */
  get covered() {
    const panel = $("panel");
    return this.hidden || getComputedStyle($("open-panel")).display !== "none" ? 0 : innerWidth - panel.offsetLeft;
  }

  set hidden(hidden) {
    document.body.classList.toggle("bare", hidden);
    this.onHidden?.();
  }
}
