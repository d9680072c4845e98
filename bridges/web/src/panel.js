// The operator's controls: buttons, keys, and what the engine says has taken effect.

const SLIDER_INTERVAL_MS = 50;
// Those of the engine's settings that are numbers from 0 to 1.
const SLIDERS = ["energy", "density"];
const TONICS = ["C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B"];
const REGISTERS = [-2, 2];
const TRIGGER_MODES = ["off", "free", "quantised"];
const NUDGE_BEATS = 0.05;
// While a hand is on the slider, the engine's echo of where it was a moment ago must not pull it back.
const HANDS_OFF_MS = 600;
// How a show begins where it says nothing else.
const DEFAULTS = {
  energy: 0.5, style: "auto", mirror: 0, hold: 0, blackout: 0,
  key: "auto", density: 0.5, register: 0, mute_drums: 0, mute_bass: 0, mute_chord: 0, mute_lead: 0, triggers: "off",
};

const $ = (id) => document.getElementById(id);

const KEYS = {
  " ": ["control", "tap"],
  "[": ["control", "half"],
  "]": ["control", "double"],
  d: ["control", "downbeat"],
  p: ["control", "panic"],
  ArrowLeft: ["control", "nudge", -NUDGE_BEATS],
  ArrowRight: ["control", "nudge", NUDGE_BEATS],
  ArrowUp: ["energy", 5],
  ArrowDown: ["energy", -5],
  m: ["flag", "mirror"],
  o: ["flag", "hold"],
  b: ["flag", "blackout"],
  c: ["view", "camera"],
  t: ["view", "trails"],
  q: ["view", "quality"],
  h: ["view", "hud"],
  f: ["view", "fullscreen"],
  s: ["view", "sound"],
  "?": ["view", "help"],
};
// Held down, these repeat; the others are struck once.
const REPEATING = new Set(["ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight"]);
// These work whatever is open in front of the stage.
const EMERGENCIES = new Set(["b", "p"]);

export class Panel {
  /**
   * @param send (name, value, atMs) asks the engine for a control; false if it cannot be reached
   * @param views what the page does by itself, by name: camera, trails, quality, hud, fullscreen, help
   * @param changed (name, value) called when a setting changes, wherever it was changed
   */
  constructor(send, views, changed) {
    this.send = send;
    this.views = views;
    this.changed = changed;
    this.settings = { ...DEFAULTS };
    /** Whether the show has a band. */
    this.band = false;
    this.styles = [];
    this.styleNames = [];
    this.touchedMs = {};
    this.timers = {};
    this.moved = {};
    this.later = {};
    /** Whether the list of keys was opened with a finger or the mouse. */
    this.keyPointed = false;
    for (const name of SLIDERS) $(name).addEventListener("input", () => this.sliderMoved(name));
    const keys = TONICS.flatMap((tonic) => [`${tonic} major`, `${tonic} minor`]);
    $("key").replaceChildren(...["auto", ...keys].map((name) => new Option(name, name)));
    $("key").addEventListener("change", () => {
      this.set("key", $("key").value);
      // Chosen with a finger or the mouse: the next key is a shortcut again, not the first letter of another choice.
      if (this.keyPointed) $("key").blur();
    });
    $("key").addEventListener("pointerdown", () => (this.keyPointed = true));
    $("key").addEventListener("blur", () => (this.keyPointed = false));
    $("trigger-modes").replaceChildren(...TRIGGER_MODES.map((mode) => chip(mode, "trigger", "radio")));
    document.addEventListener("click", (event) => this.clicked(event));
    // Space after a click must tap, not press the clicked button again; focus that came by Tab is left alone.
    document.addEventListener("pointerup", (event) => event.target.closest("button, input")?.blur());
    document.addEventListener("keydown", (event) => this.keyDown(event));
    // A tap counts from the moment the finger is down.
    $("tap").addEventListener("pointerdown", (event) => this.trigger("tap", null, event.timeStamp));
    $("open-panel").addEventListener("click", () => {
      const open = document.body.classList.toggle("panel-open");
      $("open-panel").setAttribute("aria-expanded", String(open));
    });
  }

  /** Take the engine's first word: which styles and scenes there are, and how things stand. */
  begin(info, settings) {
    const styles = Array.isArray(info.styles) ? info.styles.map(String) : [];
    this.styleNames = styles;
    this.styles = ["auto", ...styles.filter((style) => style !== "auto")];
    $("style-group").hidden = this.styles.length < 2;
    $("styles").replaceChildren(...this.styles.map((style) => chip(style, "style", "radio")));
    const scenes = Array.isArray(info.scenes) ? info.scenes.map(String) : [];
    $("scene-group").hidden = scenes.length === 0;
    this.band = info.composer !== undefined;
    $("band-group").hidden = !this.band;
    // A band alone has nobody to mirror or to hold.
    $("dancer-group").hidden = $("energy-group").hidden = this.band && info.model === undefined;
    $("scenes").replaceChildren(...scenes.map((scene) => chip(scene, "scene", null)));
    // Nothing of before counts: it may be another engine's, or was asked for while none could be reached.
    this.touchedMs = {};
    for (const [name, value] of Object.entries({ ...DEFAULTS, ...settings })) this.take(name, value);
  }

  /** Take note of a setting that has taken effect. */
  take(name, value) {
    if (name === "style" && typeof value === "number") value = this.styleNames[value] ?? "auto";
    clearTimeout(this.later[name]);
    const waitMs = this.touchedMs[name] + HANDS_OFF_MS - performance.now();
    if (waitMs > 0) {
      // What the engine says last counts, once the hand is off: it may be another page's.
      this.later[name] = setTimeout(() => this.take(name, value), waitMs);
      return;
    }
    if (value === null || !(name in this.settings)) return this.flash(name);
    this.settings[name] = value;
    this.show(name);
    this.changed(name, value);
  }

  show(name) {
    const value = this.settings[name];
    if (SLIDERS.includes(name)) {
      const percent = Math.round(value * 100);
      $(name).value = percent;
      $(name).style.setProperty("--fill", `${percent}%`);
      $(`${name}-value`).textContent = percent;
    } else if (name === "key") {
      const select = $("key");
      if (![...select.options].some((option) => option.value === value)) select.add(new Option(String(value), String(value)));
      select.value = String(value);
    } else if (name === "register") {
      $("register-value").textContent = value > 0 ? `+${value}` : String(value);
    } else if (name === "triggers") {
      showChoice($("trigger-modes"), value);
    } else if (name === "style") {
      showChoice($("styles"), value);
    } else {
      document.querySelector(`[data-flag="${name}"]`)?.setAttribute("aria-pressed", String(value >= 0.5));
    }
  }

  /** Let a button light up for a moment. */
  flash(name) {
    const button = document.querySelector(`[data-control="${name}"]`);
    if (!button) return;
    button.classList.add("hit");
    setTimeout(() => button.classList.remove("hit"), 120);
  }

  trigger(name, value, atMs) {
    this.send(name, value, atMs);
    this.flash(name);
  }

  set(name, value) {
    // Out of reach nothing takes effect, but this page's own light goes out when it must.
    if (!this.send(name, value) && name !== "blackout") return this.show(name);
    this.settings[name] = value;
    this.show(name);
    this.changed(name, value);
  }

  sliderMoved(name) {
    this.touchedMs[name] = performance.now();
    this.settings[name] = Number($(name).value) / 100;
    this.show(name);
    this.moved[name] = true;
    if (!this.timers[name]) this.tellSlider(name);
  }

  /** Tell where a slider is, once an interval for as long as it moves. */
  tellSlider(name) {
    this.timers[name] = 0;
    if (!this.moved[name]) return;
    this.moved[name] = false;
    this.send(name, this.settings[name]);
    this.timers[name] = setTimeout(() => this.tellSlider(name), SLIDER_INTERVAL_MS);
  }

  clicked(event) {
    const button = event.target.closest("button");
    if (!button) return;
    const { control, value, flag, view, style, scene, trigger, step } = button.dataset;
    // The tap button has acted on pointer down; a click without a pointer is a key's.
    if (control === "tap" && event.detail > 0) return;
    if (control) this.trigger(control, value === undefined ? null : Number(value), event.timeStamp);
    else if (flag) this.set(flag, this.settings[flag] >= 0.5 ? 0 : 1);
    else if (view) this.views[view]();
    else if (style) this.set("style", style);
    else if (scene) this.send("scene", scene);
    else if (trigger) this.set("triggers", trigger);
    else if (step) this.set(step, Math.min(Math.max(this.settings[step] + Number(value), REGISTERS[0]), REGISTERS[1]));
  }

  keyDown(event) {
    // Held down, Enter would press a focused button again and again: a blackout must not flicker.
    if (event.repeat && event.key === "Enter" && event.target.matches?.("button")) return event.preventDefault();
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const elsewhere = event.target.matches?.("select") || ($("help").open && !EMERGENCIES.has(key));
    if (event.ctrlKey || event.metaKey || event.altKey || elsewhere) return;
    const focused = document.activeElement;
    const onWidget = focused && focused.matches("button, input, a") && focused.matches(":focus-visible");
    if (onWidget && (key === " " || key === "Enter" || (key.startsWith("Arrow") && this.arrowOn(focused, key, event)))) return;
    if (/^[1-9]$/.test(key) && this.styles[key - 1] && this.styles.length > 1) {
      if (!event.repeat) this.set("style", this.styles[key - 1]);
      return;
    }
    const action = KEYS[key];
    if (!action) return;
    event.preventDefault();
    if (event.repeat && !REPEATING.has(key)) return;
    const [kind, name, value = null] = action;
    if (kind === "control") this.trigger(name, value, event.timeStamp);
    else if (kind === "flag") this.set(name, this.settings[name] >= 0.5 ? 0 : 1);
    else if (kind === "view") this.views[name]();
    else {
      $("energy").value = Math.round(this.settings.energy * 100) + name;
      this.sliderMoved("energy");
    }
  }

  /** Arrows on a focused slider, or on one of several choices, belong to it; true if so. */
  arrowOn(focused, key, event) {
    if (focused.matches("input")) return true;
    if (!focused.matches('[role="radio"]')) return false;
    const chips = [...focused.parentElement.children];
    const at = chips.indexOf(focused);
    event.preventDefault();
    const step = key === "ArrowRight" || key === "ArrowDown" ? 1 : -1;
    const next = chips[(at + step + chips.length) % chips.length];
    next.click();
    next.focus();
    return true;
  }

  setView(name, on) {
    document.querySelector(`[data-view="${name}"]`)?.setAttribute("aria-pressed", String(on));
  }
}

/** Check the chip of a choice; it is the one that Tab reaches, or the first where none is chosen. */
function showChoice(group, value) {
  const chips = [...group.children];
  const chosen = chips.findIndex((chip) => chip.textContent === value);
  chips.forEach((chip, i) => {
    chip.setAttribute("aria-checked", String(i === chosen));
    chip.tabIndex = i === Math.max(chosen, 0) ? 0 : -1;
  });
}

function chip(text, kind, role) {
  const button = document.createElement("button");
  button.type = "button";
  button.dataset[kind] = text;
  button.textContent = text;
  if (role) {
    button.setAttribute("role", role);
    button.setAttribute("aria-checked", "false");
  }
  return button;
}
