// The band heard in the page: instruments made of oscillators and noise, so that nothing has to be loaded or licensed.

export const VOICES = ["drums", "bass", "chord", "lead", "triggers"];
const VOICE_OF_CHANNEL = { 9: "drums", 0: "bass", 1: "chord", 2: "lead", 3: "triggers" };
// A note is heard this long after its time, as poses are shown: packets jitter, rhythm must not.
export const DELAY_S = 0.05;
// More at once are a mess, and cost more than a phone has.
const MAX_NOTES = 48;
// A note that is ended early dies away in this time.
const RELEASE_S = 0.25;
const FADE_S = 0.006;
const LEVEL = { drums: 0.9, bass: 0.55, chord: 0.26, lead: 0.3, triggers: 0.8 };

/** The voice of a MIDI channel; channels of one's own sound like the lead. */
export function voiceOf(channel) {
  return VOICE_OF_CHANNEL[channel] ?? "lead";
}

const frequency = (pitch) => 440 * 2 ** ((pitch - 69) / 12);

/** Instruments on an audio context (a live or an offline one). */
export class Instruments {
  constructor(context) {
    this.context = context;
    this.master = context.createGain();
    const press = context.createDynamicsCompressor();
    press.threshold.value = -14;
    press.ratio.value = 4;
    press.attack.value = 0.003;
    press.release.value = 0.16;
    this.master.connect(press);
    limiter(context, press, context.destination);
    this.busses = {};
    for (const voice of VOICES) {
      this.busses[voice] = context.createGain();
      this.busses[voice].gain.value = LEVEL[voice];
      this.busses[voice].connect(this.master);
    }
    this.noise = noiseBuffer(context);
    /** What sounds or will: {end, out, sources, choke}, the oldest first. */
    this.sounding = [];
  }

  /**
   * Sound a note; one of velocity 0 only ends what sounds on its channel and pitch, as in MIDI.
   * @param note {channel, pitch, velocity, duration_s}
   * @param when time of the context [s]
   */
  play({ channel, pitch, velocity, duration_s: duration }, when) {
    if (!(velocity >= 0) || !Number.isFinite(pitch + velocity + duration + when)) return;
    if (velocity === 0) {
      const at = Math.max(when, this.context.currentTime);
      for (const part of this.sounding) {
        if (part.channel === channel && part.pitch === pitch && part.start < at && part.end > at) part.release(at);
      }
      return;
    }
    const voice = voiceOf(channel);
    const start = Math.max(when, this.context.currentTime);
    const loud = Math.min(velocity / 127, 1) ** 1.6;
    const length = Math.min(Math.max(duration, 0.03), 30);
    const key = Math.min(Math.max(Math.round(pitch), 0), 127);
    const struck = voice === "drums" || (voice === "triggers" && key >= 35 && key <= 59);
    const part = new Part(this.context, this.busses[voice], start);
    part.channel = channel;
    part.pitch = pitch;
    if (struck) drum(part, key, loud, this.noise, this);
    else if (voice === "bass") bass(part, frequency(key), loud, length);
    else if (voice === "chord") electricPiano(part, frequency(key), loud, length);
    else if (voice === "triggers") mallet(part, frequency(key), loud);
    else lead(part, frequency(key), loud, length);
    this.forgetOld();
    this.sounding.push(part);
    while (this.sounding.length > MAX_NOTES) this.sounding.shift().cut(start);
  }

  /** End everything at once, also what is to come. */
  silence() {
    const now = this.context.currentTime;
    for (const part of this.sounding) part.cut(now);
    this.sounding = [];
  }

  /** The open hi-hat ends when the closed one is struck. */
  choke(when) {
    for (const part of this.sounding) if (part.open) part.cut(when);
  }

  forgetOld() {
    const now = this.context.currentTime;
    this.sounding = this.sounding.filter((part) => part.end > now);
  }
}

/** One sounding note: its sources and the gain through which they go. */
class Part {
  constructor(context, bus, start) {
    this.context = context;
    this.start = start;
    this.end = start;
    this.open = false;
    this.sources = [];
    this.ended = 0;
    this.releasedAt = Infinity;
    this.cutAt = Infinity;
    this.out = context.createGain();
    this.out.connect(bus);
  }

  /** An envelope: up to `level` within `attack`, down to nothing within `length` (exponentially), or held and let go. */
  envelope(level, attack, length, hold = 0) {
    const gain = this.context.createGain();
    const { start } = this;
    gain.gain.setValueAtTime(0, start);
    gain.gain.linearRampToValueAtTime(level, start + attack);
    if (hold > attack) gain.gain.setTargetAtTime(level * 0.7, start + attack, 0.2);
    gain.gain.setTargetAtTime(0, start + Math.max(hold, attack), length / 5);
    this.end = Math.max(this.end, start + Math.max(hold, attack) + length * 1.4);
    gain.connect(this.out);
    return gain;
  }

  oscillator(type, hertz, target, detune = 0) {
    const source = this.context.createOscillator();
    source.type = type;
    source.frequency.value = hertz;
    source.detune.value = detune;
    return this.run(source, target);
  }

  noise(buffer, target, rate = 1) {
    const source = this.context.createBufferSource();
    source.buffer = buffer;
    source.loop = true;
    source.playbackRate.value = rate;
    return this.run(source, target);
  }

  run(source, target) {
    source.connect(target);
    source.start(this.start);
    source.stop(this.end);
    this.sources.push(source);
    source.onended = () => {
      this.ended += 1;
      if (this.ended === this.sources.length) this.out.disconnect();
    };
    return source;
  }

  filter(type, hertz, target, q = 0.7) {
    const filter = this.context.createBiquadFilter();
    filter.type = type;
    filter.frequency.value = hertz;
    filter.Q.value = q;
    filter.connect(target);
    return filter;
  }

  /** Let it go at a time, as a key is let go. */
  release(when) {
    this.releasedAt = Math.min(this.releasedAt, when);
    this.out.gain.setTargetAtTime(0, when, RELEASE_S / 5);
    this.end = Math.min(this.end, when + RELEASE_S);
    for (const source of this.sources) source.stop(when + RELEASE_S);
  }

  /** End it at a time, without a click: from as loud as it is by then. */
  cut(when) {
    if (when >= this.cutAt) return;
    this.cutAt = when;
    const { gain } = this.out;
    gain.cancelScheduledValues(when);
    gain.setValueAtTime(Math.exp(-Math.max(when - this.releasedAt, 0) / (RELEASE_S / 5)), when);
    gain.linearRampToValueAtTime(0, when + FADE_S);
    this.end = Math.min(this.end, when + FADE_S);
    for (const source of this.sources) source.stop(when + FADE_S);
  }
}

/** What no compressor is quick enough for: straight up to 0.7, then bent to 1 at most. */
function limiter(context, from, to) {
  const shaper = context.createWaveShaper();
  const reach = 4;
  const curve = Float32Array.from({ length: 2049 }, (_, i) => {
    const x = (reach * (i - 1024)) / 1024;
    const over = Math.abs(x) - 0.7;
    return over <= 0 ? x : Math.sign(x) * (0.7 + 0.3 * Math.tanh(over / 0.3));
  });
  shaper.curve = curve;
  // A shaper takes -1 to 1.
  const scale = context.createGain();
  scale.gain.value = 1 / reach;
  from.connect(scale).connect(shaper).connect(to);
}

/** Two seconds of noise, the same on every page. */
function noiseBuffer(context) {
  const buffer = context.createBuffer(1, 2 * context.sampleRate, context.sampleRate);
  const data = buffer.getChannelData(0);
  let seed = 22222;
  for (let i = 0; i < data.length; i++) {
    seed = (seed * 196314165 + 907633515) >>> 0;
    data[i] = seed / 2 ** 31 - 1;
  }
  return buffer;
}

// General MIDI's drums: those of the band, and their neighbours.
const KICKS = new Set([35, 36]);
const SNARES = new Set([37, 38, 39, 40]);
const TOMS = { 41: 82, 43: 96, 45: 118, 47: 140, 48: 168, 50: 196 };
const CLOSED = new Set([42, 44]);
const OPEN = new Set([46]);

function drum(part, key, loud, noise, instruments) {
  if (KICKS.has(key)) thump(part, loud, 160, 48, 0.32, 0.02);
  else if (SNARES.has(key)) {
    const crack = part.filter("bandpass", 2600, part.envelope(0.75 * loud, 0.001, 0.2), 0.6);
    part.noise(noise, crack);
    const body = part.oscillator("triangle", 230, part.envelope(0.5 * loud, 0.001, 0.12));
    body.frequency.exponentialRampToValueAtTime(165, part.start + 0.08);
  } else if (TOMS[key]) thump(part, 0.85 * loud, 2 * TOMS[key], TOMS[key], 0.36, 0.06);
  else if (CLOSED.has(key) || OPEN.has(key)) {
    const open = OPEN.has(key);
    if (!open) instruments.choke(part.start);
    part.open = open;
    part.noise(noise, part.filter("highpass", 7200, part.envelope(0.34 * loud, 0.001, open ? 0.42 : 0.06)), 1.4);
  } else cymbal(part, key, loud, noise);
}

function thump(part, loud, from, to, length, glide) {
  const tone = part.oscillator("sine", from, part.envelope(loud, 0.002, length));
  tone.frequency.setValueAtTime(from, part.start);
  tone.frequency.exponentialRampToValueAtTime(to, part.start + glide + 0.03);
}

function cymbal(part, key, loud, noise) {
  const ride = key === 51 || key === 53 || key === 59;
  const length = ride ? 0.9 : 1.7;
  part.noise(noise, part.filter("highpass", ride ? 6500 : 4800, part.envelope((ride ? 0.16 : 0.36) * loud, 0.001, length)), 1.2);
  const ring = part.filter("highpass", 5200, part.envelope((ride ? 0.09 : 0.05) * loud, 0.001, length));
  for (const hertz of [2010, 2980, 4130, 5270]) part.oscillator("square", hertz, ring);
}

function bass(part, hertz, loud, length) {
  const amp = part.envelope(loud, 0.006, 0.14, length);
  const tone = part.filter("lowpass", 260, amp, 3);
  tone.frequency.setValueAtTime(Math.min(hertz * (4 + 9 * loud), 2400), part.start);
  tone.frequency.setTargetAtTime(hertz * 2.5, part.start, 0.09);
  part.oscillator("sawtooth", hertz, tone);
  part.oscillator("sine", hertz, amp);
}

/** Frequency modulation with a soft bell at the attack, as electric pianos have it. */
function electricPiano(part, hertz, loud, length) {
  const amp = part.envelope(loud, 0.004, 0.35, length);
  const { context, start } = part;
  const carrier = part.oscillator("sine", hertz, amp);
  for (const [ratio, depth, decay] of [[1, 1.3, 0.5], [14, 0.32, 0.06]]) {
    const index = context.createGain();
    index.gain.setValueAtTime(hertz * depth * (0.35 + loud), start);
    index.gain.setTargetAtTime(hertz * depth * 0.12, start, decay);
    index.connect(carrier.frequency);
    part.oscillator("sine", Math.min(hertz * ratio, 12000), index);
  }
}

function lead(part, hertz, loud, length) {
  const amp = part.envelope(loud, 0.018, 0.22, length);
  const tone = part.filter("lowpass", Math.min(hertz * 3 + 2600 * loud, 8000), amp, 1.2);
  const sources = [-7, 6].map((cents) => part.oscillator("sawtooth", hertz, tone, cents));
  sources.push(part.oscillator("triangle", hertz, tone));
  if (length < 0.35) return;
  const depth = part.context.createGain();
  depth.gain.setValueAtTime(0, part.start);
  depth.gain.linearRampToValueAtTime(11, part.start + 0.5);
  for (const source of sources) depth.connect(source.detune);
  part.oscillator("sine", 5.3, depth);
}

function mallet(part, hertz, loud) {
  part.oscillator("sine", hertz, part.envelope(loud, 0.002, 0.7));
  part.oscillator("sine", Math.min(hertz * 4, 12000), part.envelope(0.3 * loud, 0.001, 0.16));
}

/** The page's sound: off until a click, on the engine's clock, silent at panic and in blackout. */
export class Sound {
  /** @param toPageMs turns the engine's time [s] into performance.now() [ms], or returns null while it is unknown */
  constructor(toPageMs) {
    this.toPageMs = toPageMs;
    this.context = null;
    this.instruments = null;
    this.on = false;
    this.dark = false;
    this.volume = 0.8;
    this.played = 0;
  }

  /** Turn it on (must be called by a click: browsers want that) or off; returns whether it is on. */
  async toggle() {
    if (this.on) {
      this.on = false;
      this.silence();
      return false;
    }
    if (!this.context) {
      const context = new AudioContext({ latencyHint: "interactive" });
      this.instruments = new Instruments(context);
      this.context = context;
      this.setVolume(this.volume);
    }
    await this.context.resume();
    // Not before: a browser that gives no sound leaves it off.
    this.on = true;
    return true;
  }

  setVolume(volume) {
    this.volume = volume;
    this.instruments?.master.gain.setTargetAtTime(volume * volume, this.context.currentTime, 0.02);
  }

  /** Take a note of the engine's. */
  note(note) {
    if (!this.on || this.dark) return;
    const pageMs = this.toPageMs(note.time_s);
    const late = pageMs === null ? 0 : (performance.now() - pageMs) / 1000;
    // A clock that is wrong by more than that is no clock; then now is the best guess.
    const wait = Math.abs(late) > 1 ? DELAY_S : Math.max(DELAY_S - late, 0);
    this.instruments.play(note, this.context.currentTime + wait);
    this.played += 1;
  }

  silence() {
    this.instruments?.silence();
  }

  setDark(dark) {
    this.dark = dark;
    if (dark) this.silence();
  }
}

/**
 * Sound notes without a loudspeaker, faster than time; for tests.
 * @param notes [{channel, pitch, velocity, duration_s, at_s}]
 * @param panicS when to silence, or null
 * @returns {peaks, crossings}: the largest sample of every 50 ms, and its zero crossings
 */
export async function renderNotes(notes, seconds, panicS = null) {
  const rate = 44100;
  const context = new OfflineAudioContext(1, seconds * rate, rate);
  const instruments = new Instruments(context);
  for (const note of notes) instruments.play(note, note.at_s);
  if (panicS !== null) context.suspend(panicS).then(() => (instruments.silence(), context.resume()));
  const data = (await context.startRendering()).getChannelData(0);
  const window = rate / 20;
  const peaks = [];
  const crossings = [];
  for (let begin = 0; begin + window <= data.length; begin += window) {
    let peak = 0;
    let count = 0;
    for (let i = begin; i < begin + window; i++) {
      peak = Math.max(peak, Math.abs(data[i]));
      if (i && data[i - 1] < 0 !== data[i] < 0) count += 1;
    }
    peaks.push(peak);
    crossings.push(count);
  }
  return { peaks, crossings };
}
