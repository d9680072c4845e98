// `npm test`: when poses are shown, under a virtual clock.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Bar } from "./bar.js";
import { Playout } from "./playout.js";
import { JOINTS, POSE_BYTES, decodePose, makePose } from "./protocol.js";

const FPS = 60;
const SPEED = 2; // metres a second

/** Write pose `index` of a walk along x into the playout's slot. */
function fill(slot, index, startS = 5) {
  slot.index = index;
  slot.timeS = startS + index / FPS;
  slot.beat = 2 * slot.timeS;
  slot.tempoBpm = 120;
  slot.translation.set([SPEED * slot.timeS, 0, 0]);
  for (let joint = 0; joint < JOINTS; joint++) slot.quaternions.set([0, 0, 0, 1], 4 * joint);
}

/** A pseudo-random sequence, the same every time. */
function* sequence(seed = 1) {
  for (let state = seed; ; ) {
    state = (state * 48271) % 2147483647;
    yield state / 2147483647;
  }
}

/** Play `frames` of 60 Hz packets, each late by lateness(i) ms, to a 60 Hz screen; return what was shown. */
function play(frames, lateness) {
  const playout = new Playout();
  const out = makePose();
  const arrivals = Array.from({ length: frames }, (_, i) => [1000 + (i * 1000) / FPS + lateness(i), i]).sort((a, b) => a[0] - b[0]);
  const shown = [];
  for (let tick = 0; tick < frames; tick++) {
    const now = 1000 + ((tick + 0.37) * 1000) / FPS;
    while (arrivals.length && arrivals[0][0] <= now) {
      const [at, index] = arrivals.shift();
      fill(playout.slot, index);
      playout.commit(at);
    }
    if (playout.sample(now, out)) shown.push([now, out.translation[0], out.beat]);
  }
  return { shown, playout };
}

test("packets that jitter are shown evenly", () => {
  const random = sequence();
  const { shown, playout } = play(1200, () => 12 * random.next().value);
  const steps = shown.slice(300).map(([, x], i, all) => (i ? x - all[i - 1][1] : null)).slice(1);
  const ideal = SPEED / FPS;
  const worst = Math.max(...steps.map((step) => Math.abs(step - ideal)));
  assert.ok(worst < 0.12 * ideal, `steps differ by ${(100 * worst) / ideal} %`);
  assert.ok(playout.delayMs < 45, `${playout.delayMs} ms late`);
});

test("an even stream is hardly delayed, and shown where it is in time", () => {
  const { shown, playout } = play(600, () => 0);
  assert.ok(playout.delayMs < 25, `${playout.delayMs} ms late`);
  const [now, x, beat] = shown.at(-1);
  const expectedS = 5 + (now - 1000 - playout.delayMs) / 1000;
  assert.ok(Math.abs(x / SPEED - expectedS) < 1e-3);
  assert.ok(Math.abs(beat / 2 - expectedS) < 1e-3);
});

test("a gap is carried on for a moment, then held", () => {
  const playout = new Playout();
  const out = makePose();
  for (let i = 0; i < 60; i++) {
    fill(playout.slot, i);
    playout.commit(1000 + (i * 1000) / FPS);
    playout.sample(1000 + (i * 1000) / FPS, out);
  }
  const last = playout.newest.translation[0];
  playout.sample(2040, out);
  assert.ok(out.translation[0] > last);
  playout.sample(9000, out);
  assert.ok(out.translation[0] <= last + SPEED * 0.051, "carried on too far");
  assert.ok(Number.isFinite(out.quaternions[3]));
});

test("a new session begins anew", () => {
  const playout = new Playout();
  const out = makePose();
  for (let i = 0; i < 10; i++) {
    fill(playout.slot, i, 500);
    playout.commit(1000 + i * 16);
  }
  fill(playout.slot, 0, 0);
  playout.commit(3000);
  assert.equal(playout.count, 1);
  playout.sample(3020, out);
  assert.ok(Math.abs(out.translation[0]) < 1e-6);
});

test("opposite quaternions are the same rotation", () => {
  const playout = new Playout();
  const out = makePose();
  fill(playout.slot, 0);
  playout.commit(1000);
  fill(playout.slot, 1);
  playout.slot.quaternions.forEach((value, i, all) => (all[i] = -value));
  playout.commit(1016.7);
  playout.sample(1030, out);
  assert.ok(Math.abs(Math.abs(out.quaternions[3]) - 1) < 1e-6);
});

test("what is not a pose is refused", () => {
  const pose = makePose();
  assert.equal(decodePose(new ArrayBuffer(12), pose), false);
  const buffer = new ArrayBuffer(POSE_BYTES);
  assert.equal(decodePose(buffer, pose), false);
  new Uint8Array(buffer).set([1, 1]);
  assert.equal(decodePose(buffer, pose), true);
  new DataView(buffer).setFloat32(100, NaN, true);
  assert.equal(decodePose(buffer, pose), false);
});

test("the bar is learned from its count", () => {
  const bar = new Bar();
  for (let index = 7; index < 20; index++) bar.take({ index, bar_beat: ((index - 7) % 3) + 1 });
  assert.equal(bar.beatsPerBar, 3);
  assert.equal(bar.position(22), 0);
  assert.equal(bar.position(24), 2);
  bar.take({ index: 20, bar_beat: 0 });
  assert.equal(bar.known, false);
});
