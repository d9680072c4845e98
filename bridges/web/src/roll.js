// The band's last bars as a strip: a lane a voice, a line a beat, now at the right.

import { voiceOf } from "./sound.js";

const LANES = ["lead", "chord", "bass", "drums", "triggers"];
const COLORS = { lead: "#ff9ac2", chord: "#9db4ff", bass: "#6fe3c1", drums: "#ffd08a", triggers: "#ffffff" };
const RANGE = { lead: [55, 96], chord: [43, 84], bass: [24, 60], drums: [33, 55], triggers: [33, 72] };
// Eight seconds of the past, and a little of what rings on.
const PAST_S = 8;
const FUTURE_S = 0.8;
const MAX_NOTES = 600;
const LABEL_PX = 58;

export class Roll {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.notes = [];
    this.muted = {};
    this.drawn = 0;
  }

  get shown() {
    return !this.canvas.hidden;
  }

  /** Pixels at the bottom of the window that the strip takes; negative: at the top. */
  get below() {
    if (!this.shown) return 0;
    const { top, bottom } = this.canvas.getBoundingClientRect();
    return top > innerHeight / 2 ? innerHeight - top : -bottom;
  }

  add(note) {
    if (!Number.isFinite(note.time_s + note.duration_s + note.pitch + note.velocity)) return;
    for (const earlier of this.notes) {
      // A note ends what sounds on its channel and pitch; one of velocity 0 does nothing else.
      const same = earlier.channel === note.channel && earlier.pitch === note.pitch;
      const length = note.time_s - earlier.time_s;
      if (same && length > 0) earlier.duration_s = Math.min(earlier.duration_s, length);
    }
    if (note.velocity === 0) return;
    this.notes.push({ ...note, voice: voiceOf(note.channel) });
    if (this.notes.length > MAX_NOTES) this.notes.splice(0, this.notes.length - MAX_NOTES);
  }

  /** End what sounds at a time of the engine [s]. */
  cut(timeS) {
    for (const note of this.notes) {
      if (note.time_s + note.duration_s > timeS) note.duration_s = Math.max(timeS - note.time_s, 0.01);
    }
  }

  clear() {
    this.notes = [];
  }

  /**
   * Draw the strip at an engine time.
   * @param clock {beat, tempoBpm} of this moment, or null
   * @param isDown whether a beat is a bar's first
   */
  draw(timeS, clock, isDown) {
    const { canvas, context } = this;
    if (!this.shown || timeS === null) return;
    const ratio = Math.min(devicePixelRatio, 2);
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const perS = (width - LABEL_PX) / (PAST_S + FUTURE_S);
    const xOf = (t) => LABEL_PX + (t - timeS + PAST_S) * perS;
    const lane = height / LANES.length;
    this.drawGrid(timeS, clock, isDown, xOf, width, height, lane);
    this.notes = this.notes.filter((note) => note.time_s + note.duration_s > timeS - PAST_S - 1);
    for (const note of this.notes) {
      const row = LANES.indexOf(note.voice);
      const [low, high] = RANGE[note.voice];
      const share = Math.min(Math.max((note.pitch - low) / (high - low), 0), 1);
      const y = row * lane + 4 + (1 - share) * (lane - 10);
      const begin = Math.max(xOf(note.time_s), LABEL_PX);
      const end = Math.min(xOf(Math.min(note.time_s + note.duration_s, timeS + FUTURE_S)), width);
      const sounds = note.time_s <= timeS && timeS < note.time_s + Math.max(note.duration_s, 0.12);
      context.globalAlpha = sounds ? 1 : 0.35 + (0.4 * note.velocity) / 127;
      context.fillStyle = COLORS[note.voice];
      context.fillRect(begin, y, Math.max(end - begin, 3), 3);
    }
    context.globalAlpha = 1;
    this.drawn += 1;
  }

  drawGrid(timeS, clock, isDown, xOf, width, height, lane) {
    const { context } = this;
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    LANES.forEach((name, row) => {
      context.fillStyle = row % 2 ? "rgba(255,255,255,0.025)" : "rgba(255,255,255,0.055)";
      context.fillRect(LABEL_PX, row * lane, width - LABEL_PX, lane);
      context.globalAlpha = this.muted[name] ? 0.3 : 0.85;
      context.fillStyle = COLORS[name];
      context.fillText(name, 0, (row + 0.5) * lane);
      context.globalAlpha = 1;
    });
    if (clock && clock.tempoBpm > 0) {
      const beatS = 60 / clock.tempoBpm;
      const nowX = xOf(timeS);
      const last = Math.floor(clock.beat);
      for (let beat = last; ; beat--) {
        const x = nowX - (clock.beat - beat) * beatS * (xOf(1) - xOf(0));
        if (x < LABEL_PX) break;
        context.fillStyle = `rgba(255,255,255,${isDown(beat) ? 0.22 : 0.09})`;
        context.fillRect(x, 0, 1, height);
      }
    }
    context.fillStyle = "rgba(255,255,255,0.65)";
    context.fillRect(xOf(timeS), 0, 1.5, height);
  }
}

