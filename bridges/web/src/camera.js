// The camera: a seat in the audience, a slow orbit, a low hero angle, a close-up; or wherever the mouse takes it.

import { PerspectiveCamera, Vector3 } from "three";
import { OrbitControls } from "three/addons/controls/OrbitControls.js";

const SHOTS = {
  front: { distance: 4.9, height: 1.2, look: 0.97, drift: 0.12, follow: 0.75 },
  orbit: { distance: 5.2, height: 1.5, look: 0.98, turn: 0.16, follow: 0.8 },
  low: { distance: 3.9, height: 0.32, look: 1.02, drift: 0.3, follow: 0.8 },
  close: { distance: 2.7, height: 1.45, look: 1.28, drift: 0.2, follow: 0.95 },
};
export const SHOT_NAMES = Object.keys(SHOTS);
// The dancer, arms up and stepping aside, needs this much width [m] in the picture at the distance of `front`.
const WIDTH_M = 2.5;
// The camera stays in the hall; a picture too narrow for those who are on stage (a phone held upright) takes a wider lens.
const FAR_M = 8.4;
const FOV_DEG = 31;
const WIDEST = 3;

export class CameraRig {
  constructor(canvas, shot = "front") {
    this.camera = new PerspectiveCamera(FOV_DEG, 1, 0.1, 60);
    this.controls = new OrbitControls(this.camera, canvas);
    this.controls.enableDamping = true;
    this.controls.minDistance = 1.2;
    this.controls.maxDistance = FAR_M;
    this.controls.maxPolarAngle = Math.PI / 2 - 0.02;
    this.controls.enablePan = false;
    this.controls.addEventListener("start", () => (this.shot = "free"));
    this.focus = new Vector3(0, 1, 0);
    this.wanted = new Vector3();
    this.angle = 0;
    this.motion = 1;
    this.fit = 1;
    this.wide = 0;
    this.picture = [1, 1, 0, 0];
    this.setShot(SHOTS[shot] ? shot : "front", true);
  }

  setShot(name, atOnce = false) {
    this.shot = name;
    this.cut = atOnce;
  }

  next() {
    const now = SHOT_NAMES.indexOf(this.shot);
    this.setShot(SHOT_NAMES[(now + 1) % SHOT_NAMES.length]);
    return this.shot;
  }

  /** Fit a picture of which `covered` pixels at the right are hidden, and `below` at the bottom (negative: at the top). */
  resize(width, height, covered, below = 0) {
    this.picture = [width, height, covered, below];
    const free = Math.max(width - covered, 1) / height;
    const half = Math.tan((FOV_DEG * Math.PI) / 360);
    const needed = (WIDTH_M + this.wide) / (2 * half * free);
    this.fit = Math.max(height / Math.max(height - 0.6 * Math.abs(below), 1), needed / SHOTS.front.distance);
    this.camera.fov = (360 / Math.PI) * Math.atan(half * Math.min(Math.max(needed / FAR_M, 1), WIDEST));
    this.camera.aspect = width / height;
    this.camera.setViewOffset(width, height, covered / 2, below / 2, width, height);
  }

  /** Take in dancers who stand `width` [m] apart. */
  widen(width) {
    if (Math.abs(width - this.wide) < 0.01) return;
    this.wide = width;
    this.resize(...this.picture);
  }

  update(timeS, elapsedS, follow) {
    const shot = SHOTS[this.shot];
    if (!shot) {
      const before = this.focus.x;
      const beforeZ = this.focus.z;
      this.easeFocus(follow, 0.7, 1.0, elapsedS, false);
      this.camera.position.x += this.focus.x - before;
      this.camera.position.z += this.focus.z - beforeZ;
      this.controls.target.copy(this.focus);
      this.controls.update();
      return;
    }
    this.easeFocus(follow, shot.follow, shot.look, elapsedS, this.cut);
    if (shot.turn) this.angle += shot.turn * elapsedS * this.motion;
    else this.angle += (shot.drift * this.motion * Math.sin(timeS * 0.13) - wrapped(this.angle)) * ease(elapsedS, 1.6);
    if (!shot.turn) this.angle = wrapped(this.angle);
    const distance = Math.min(shot.distance * this.fit, FAR_M);
    this.wanted.set(
      this.focus.x + distance * Math.sin(this.angle),
      shot.height + 0.05 * this.motion * Math.sin(timeS * 0.17),
      this.focus.z + distance * Math.cos(this.angle),
    );
    if (this.cut) this.camera.position.copy(this.wanted);
    else this.camera.position.lerp(this.wanted, ease(elapsedS, 0.7));
    this.cut = false;
    this.camera.lookAt(this.focus);
    this.controls.target.copy(this.focus);
  }

  easeFocus(follow, share, height, elapsedS, atOnce) {
    const rate = atOnce ? 1 : ease(elapsedS, 0.8);
    this.focus.x += (follow.x * share - this.focus.x) * rate;
    // Towards the camera the dancer would outgrow the picture: keep the distance.
    this.focus.z += (follow.z * 0.9 - this.focus.z) * rate;
    this.focus.y += (height - this.focus.y) * rate;
  }
}

/** The share of a difference to take up in `elapsedS`, for an exponential approach with this time constant. */
function ease(elapsedS, timeConstantS) {
  return 1 - Math.exp(-elapsedS / timeConstantS);
}

function wrapped(angle) {
  return angle - 2 * Math.PI * Math.round(angle / (2 * Math.PI));
}
