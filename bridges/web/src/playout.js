// When to show which pose. Packets arrive in bursts; the sender's time stamps do not. Poses are shown on the sender's
// clock, a little late: by one packet interval plus what packets have lately been delayed, 8 to 60 ms.

import { makePose } from "./protocol.js";

const CAPACITY = 32;
const MIN_DELAY_MS = 8;
const MAX_DELAY_MS = 60;
// How far a pose is carried on when packets fail to come; longer, and limbs leave their joints' limits.
const MAX_EXTRAPOLATION_MS = 50;
// The sender's clock may run this much slower or faster than ours (0.1 %); the fastest packet of the last seconds
// sets the offset, so it must be allowed to rise again.
const DRIFT = 1e-3;
const RESYNC_MS = 400;
const DELAY_SLEW = 0.02;

export class Playout {
  constructor() {
    this.ring = Array.from({ length: CAPACITY }, makePose);
    this.reset();
  }

  /** Forget all poses (a new session, a new connection). */
  reset() {
    this.count = 0;
    this.offsetMs = null;
    this.lastArrivalMs = 0;
    this.lastShowMs = null;
    this.intervalMs = 1000 / 60;
    this.latenessMs = 4;
    this.delayMs = 24;
  }

  /** The newest pose received, or null. */
  get newest() {
    return this.count ? this.ring[(this.count - 1) % CAPACITY] : null;
  }

  /** Whether all poses held are the same. */
  get still() {
    const newest = this.newest;
    const same = (pose) => ["quaternions", "translation"].every((key) => pose[key].every((value, i) => value === newest[key][i]));
    return this.count >= CAPACITY && this.ring.every(same);
  }

  /** The slot for the next message to be decoded into; kept only if `commit` follows. */
  get slot() {
    return this.ring[this.count % CAPACITY];
  }

  /** Take in the pose in `slot`, which arrived at `nowMs`. */
  commit(nowMs) {
    const pose = this.slot;
    const last = this.newest;
    if (last && pose.timeS <= last.timeS) {
      // The same time again is of no use; a time long gone is a new session.
      if (last.timeS - pose.timeS < 1) return;
      this.restartWith(pose);
    }
    const offset = nowMs - pose.timeS * 1000;
    if (this.offsetMs === null || Math.abs(offset - this.offsetMs) > RESYNC_MS) {
      this.offsetMs = offset;
    } else {
      const allowed = this.offsetMs + (nowMs - this.lastArrivalMs) * DRIFT;
      this.offsetMs = Math.min(offset, allowed);
      const lateness = offset - this.offsetMs;
      // Up at once, down slowly: one hiccup a second is worth waiting for.
      this.latenessMs += (lateness - this.latenessMs) * (lateness > this.latenessMs ? 0.5 : 0.01);
      const interval = this.newest ? (pose.timeS - this.newest.timeS) * 1000 : this.intervalMs;
      this.intervalMs += (Math.min(interval, 100) - this.intervalMs) * 0.05;
    }
    this.lastArrivalMs = nowMs;
    this.count += 1;
  }

  restartWith(pose) {
    const first = this.ring[0];
    if (first !== pose) {
      const index = this.ring.indexOf(pose);
      this.ring[0] = pose;
      this.ring[index] = first;
    }
    this.count = 0;
    this.offsetMs = null;
  }

  /** Milliseconds since the last pose arrived; infinite if none did. */
  silenceMs(nowMs) {
    return this.count ? nowMs - this.lastArrivalMs : Infinity;
  }

  /** Write the pose to be shown at `nowMs` into `out`; false if there is none. */
  sample(nowMs, out) {
    if (!this.count) return false;
    const wanted = Math.min(Math.max(this.intervalMs + 1.5 * this.latenessMs, MIN_DELAY_MS), MAX_DELAY_MS);
    const elapsed = this.lastShowMs === null ? 0 : Math.max(nowMs - this.lastShowMs, 0);
    this.lastShowMs = nowMs;
    const slew = elapsed * DELAY_SLEW;
    this.delayMs += Math.min(Math.max(wanted - this.delayMs, -slew), slew);

    const timeMs = nowMs - this.offsetMs - this.delayMs;
    const held = Math.min(this.count, CAPACITY);
    let later = this.newest;
    let earlier = later;
    for (let back = 1; back < held && earlier.timeS * 1000 > timeMs; back++) {
      later = earlier;
      earlier = this.ring[(this.count - 1 - back) % CAPACITY];
    }
    if (earlier === later && held > 1) earlier = this.ring[(this.count - 2) % CAPACITY];
    const spanMs = (later.timeS - earlier.timeS) * 1000;
    const limit = later === this.newest ? spanMs + MAX_EXTRAPOLATION_MS : spanMs;
    const intoMs = Math.min(Math.max(timeMs - earlier.timeS * 1000, 0), limit);
    // Over a gap of a tenth of a second, speed says nothing about what comes next.
    const fraction = spanMs > 0 ? Math.min(intoMs / spanMs, spanMs > 100 ? 1 : Infinity) : 0;
    blendPoses(earlier, later, fraction, out);
    out.index = later.index;
    out.timeS = earlier.timeS + Math.max(timeMs / 1000 - earlier.timeS, 0);
    out.tempoBpm = later.tempoBpm;
    out.confidence = later.confidence;
    out.latencyS = later.latencyS;
    out.beat = later.beat + ((out.timeS - later.timeS) * later.tempoBpm) / 60;
    out.phase = out.beat - Math.floor(out.beat);
    return true;
  }
}

/** Blend rotations (shorter way, renormalised), translation and contacts; `fraction` beyond 1 extrapolates. */
export function blendPoses(from, to, fraction, out) {
  const a = from.quaternions;
  const b = to.quaternions;
  const q = out.quaternions;
  for (let i = 0; i < q.length; i += 4) {
    const dot = a[i] * b[i] + a[i + 1] * b[i + 1] + a[i + 2] * b[i + 2] + a[i + 3] * b[i + 3];
    const u = 1 - fraction;
    const v = dot < 0 ? -fraction : fraction;
    const x = u * a[i] + v * b[i];
    const y = u * a[i + 1] + v * b[i + 1];
    const z = u * a[i + 2] + v * b[i + 2];
    const w = u * a[i + 3] + v * b[i + 3];
    const scale = 1 / (Math.hypot(x, y, z, w) || 1);
    q[i] = x * scale;
    q[i + 1] = y * scale;
    q[i + 2] = z * scale;
    q[i + 3] = w * scale;
  }
  for (let i = 0; i < 3; i++) out.translation[i] = from.translation[i] + (to.translation[i] - from.translation[i]) * fraction;
  const within = Math.min(fraction, 1);
  for (let i = 0; i < 4; i++) out.contacts[i] = from.contacts[i] + (to.contacts[i] - from.contacts[i]) * within;
}
