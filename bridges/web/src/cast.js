// Who else is on stage beside the lead dancer: the person before the camera as lines of light, a partner as a second
// figure, a crowd. Each has a playout of its own; side by side they stand where the page puts them, as each dances about
// a middle of its own. The crowd has places of its own behind the lead: it stands where the engine puts it.

import { Playout } from "./playout.js";
import { decodePose, makePose, performerOf } from "./protocol.js";
import { WireMan } from "./wireman.js";
import { makeSuit } from "./material.js";

const LEAD = 0;
const CAMERA = "camera";
const CAMERA_COLOR = "#ffd9a0";
const CROWD_COLORS = ["#7dffb0", "#ff9ad9", "#9fc0ff", "#ffe27d"];
// Without poses for this long someone has left; they fade over as long again.
const GONE_MS = 1200;
const FADE_S = 0.6;
// Room for arms between two dancers [m].
const SPACING_M = 1.75;
// With the lead as many as the server sends (MAX_PERFORMERS in server.py).
const MAX_MEMBERS = 31;
const CROWD_NAME = /^\d+$/;
const MOVE_S = 0.8;

export class Cast {
  constructor() {
    this.names = [""];
    /** By number: {name, playout, pose, body, bodyOf (the name it was made for), presence, place}. */
    this.members = new Map();
    this.leadPlace = 0;
    this.received = 0;
  }

  /** Learn who bears which number. */
  name(names) {
    if (!Array.isArray(names)) return;
    this.names = names.map(String);
    for (const [number, member] of this.members) member.name = this.names[number] ?? member.name;
  }

  /** Take a pose message of anybody but the lead; false if it was the lead's, or none. */
  take(buffer, nowMs) {
    const number = performerOf(buffer);
    if (number <= LEAD) return false;
    let member = this.members.get(number);
    if (!member) {
      if (this.members.size >= MAX_MEMBERS) return true;
      member = { name: this.names[number] ?? String(number), number, playout: new Playout(), pose: makePose(), body: null, presence: 0, place: null };
      this.members.set(number, member);
    }
    if (decodePose(buffer, member.playout.slot)) {
      member.playout.commit(nowMs);
      this.received += 1;
    }
    return true;
  }

  /** Forget all poses (a new connection). */
  reset() {
    for (const member of this.members.values()) member.playout.reset();
  }

  /** Those who are here and share the stage with the lead, the crowd not among them. */
  get company() {
    return [...this.members.values()].filter((member) => member.presence > 0 && !CROWD_NAME.test(member.name));
  }

  member(name) {
    for (const member of this.members.values()) if (member.name === name) return member;
    return null;
  }

  /** The newest clock of anybody here, for shows without a lead: a pose, or null. */
  clock(nowMs) {
    for (const member of this.members.values()) {
      if (member.playout.silenceMs(nowMs) < GONE_MS && member.pose.tempoBpm > 0) return member.pose;
    }
    return null;
  }

  /**
   * Move everybody to where they are at `nowMs`.
   * @param stage the stage to stand on
   * @param lead whether there is a lead dancer
   * @param light 0 (blackout) to 1: what shines by itself must go out with the lamps
   */
  move(nowMs, elapsedS, stage, lead, light = 1) {
    for (const member of this.members.values()) {
      // Another engine's performer under a known number looks otherwise, and stands elsewhere.
      if (member.body && member.bodyOf !== member.name) {
        stage.leave(member.body);
        member.body = member.place = null;
      }
      const here = member.playout.sample(nowMs, member.pose) && member.playout.silenceMs(nowMs) < GONE_MS;
      const step = elapsedS / FADE_S;
      member.presence = Math.min(Math.max(member.presence + (here ? step : -step), 0), 1);
      if (here && !member.body) {
        member.body = stage.enter(bodyOf(member, stage));
        member.bodyOf = member.name;
      }
      if (!member.presence && member.body && member.playout.silenceMs(nowMs) > 10 * GONE_MS) {
        stage.leave(member.body);
        this.members.delete(member.number);
      }
    }
    this.arrange(elapsedS, lead);
    for (const member of this.members.values()) {
      if (!member.body || !member.playout.count) continue;
      member.body.object.position.x = member.place ?? this.leadPlace;
      member.body.apply(member.pose);
      member.body.lay(member.presence * light);
    }
  }

  /** Give the company their places: the camera's person left, the lead, the partner to the right. */
  arrange(elapsedS, lead) {
    const { company } = this;
    const left = company.filter((member) => member.name === CAMERA);
    const right = company.filter((member) => member.name !== CAMERA);
    const count = company.length + (lead ? 1 : 0);
    const rate = 1 - Math.exp(-elapsedS / MOVE_S);
    [...left, ...(lead ? [null] : []), ...right].forEach((member, i) => {
      const wanted = SPACING_M * (i - (count - 1) / 2);
      if (!member) this.leadPlace += (wanted - this.leadPlace) * rate;
      else member.place = member.place === null ? wanted : member.place + (wanted - member.place) * rate;
    });
    this.width = Math.max(count - 1, 0) * SPACING_M;
  }
}

/** What a member looks like. */
function bodyOf(member, stage) {
  if (member.name === CAMERA) return new WireMan(CAMERA_COLOR);
  if (member.name === "partner") return new Twin(stage);
  return new WireMan(CROWD_COLORS[member.number % CROWD_COLORS.length]);
}

/** A second figure, in the colours of the first the other way round. */
class Twin {
  constructor(stage) {
    this.suit = makeSuit();
    this.figure = stage.figure.twin(this.suit.material);
    this.object = this.figure.object;
    this.stage = stage;
  }

  addTo(scene) {
    scene.add(this.object);
  }

  removeFrom(scene) {
    scene.remove(this.object);
    this.suit.material.dispose();
  }

  apply(pose) {
    this.figure.apply(pose);
  }

  lay(strength) {
    this.object.visible = strength > 0.01;
    const { uniforms } = this.suit;
    const own = this.stage.suit.uniforms;
    uniforms.accent.value.copy(own.accentB.value);
    uniforms.accentB.value.copy(own.accent.value);
    uniforms.glow.value = own.glow.value;
  }

  jointPlaces() {
    return this.figure.jointPlaces();
  }
}
