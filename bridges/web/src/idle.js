// What the dancer does while nobody tells it what to do: stands, breathes, shifts its weight. It never shows a T pose.

import { Euler, Quaternion } from "three";
import { makePose } from "./protocol.js";
import { REST_HEIGHT_M } from "./skeleton.js";

const euler = new Euler();
const quaternion = new Quaternion();

function turn(pose, joint, x, y, z) {
  quaternion.setFromEuler(euler.set(x, y, z, "ZYX")).toArray(pose.quaternions, 4 * joint);
}

/** Fill a pose with the idle stance at a time in seconds. */
export function idlePose(timeS, pose = makePose()) {
  for (let joint = 0; joint < 24; joint++) turn(pose, joint, 0, 0, 0);
  const breath = Math.sin(timeS * 1.5);
  const shift = Math.sin(timeS * 0.55);
  const sway = 0.022 * shift;
  turn(pose, 0, 0, 0.03 * shift, sway);
  turn(pose, 1, -0.06, 0, -sway);
  turn(pose, 2, -0.06, 0, -sway);
  turn(pose, 4, 0.11, 0, 0);
  turn(pose, 5, 0.11, 0, 0);
  turn(pose, 7, -0.05, 0, 0);
  turn(pose, 8, -0.05, 0, 0);
  turn(pose, 3, 0.02 + 0.008 * breath, 0, -0.8 * sway);
  turn(pose, 9, -0.012 * breath, 0, -0.4 * sway);
  turn(pose, 12, 0.03, 0.05 * Math.sin(timeS * 0.37), 0);
  turn(pose, 15, 0.02, 0.06 * Math.sin(timeS * 0.37), 0);
  turn(pose, 13, 0, 0, -0.06 + 0.012 * breath);
  turn(pose, 14, 0, 0, 0.06 - 0.012 * breath);
  turn(pose, 16, 0.08, 0, -1.18 + 0.02 * breath);
  turn(pose, 17, 0.08, 0, 1.18 - 0.02 * breath);
  turn(pose, 18, 0, -0.3, 0);
  turn(pose, 19, 0, 0.3, 0);
  pose.translation[0] = 0.012 * shift;
  pose.translation[1] = REST_HEIGHT_M - 0.004;
  pose.translation[2] = 0;
  return pose;
}
