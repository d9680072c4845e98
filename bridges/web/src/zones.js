// The triggers around the person before the camera: a ring where a body part has to strike, which flashes when it did.

import { Color, Mesh, MeshBasicMaterial, TorusGeometry, Vector3 } from "three";

const JOINT_OF_PART = { left_hand: 22, right_hand: 23, left_foot: 10, right_foot: 11, head: 15 };
const RADIUS_M = 0.11;
const REST = 0.45;
const FLASH_S = 0.35;
const MAX_ZONES = 32;
// Where zones that are bound to a height or a side lie about the pelvis [m]: up, and to the person's left.
const HEIGHT_M = { high: 0.72, middle: 0.25, low: -0.45 };
const SIDE_M = { left: 0.62, right: -0.62 };
const COLORS = ["#ff7d6b", "#6bd0ff", "#b4ff6b", "#ffd36b", "#d89bff", "#6bffd6"];

export class Zones {
  constructor(scene) {
    this.scene = scene;
    this.zones = [];
    this.place = new Vector3();
    this.fired = 0;
  }

  /** Take the show's zones: [{part, note, channel, height, side}]. */
  set(zones) {
    for (const { ring } of this.zones) {
      this.scene.remove(ring);
      ring.geometry.dispose();
      ring.material.dispose();
    }
    const known = (Array.isArray(zones) ? zones : []).filter((zone) => zone && zone.part in JOINT_OF_PART).slice(0, MAX_ZONES);
    this.zones = known.map((zone, i) => {
      const color = new Color(COLORS[i % COLORS.length]);
      const material = new MeshBasicMaterial({ color, transparent: true, depthWrite: false, toneMapped: false, fog: false });
      const ring = new Mesh(new TorusGeometry(RADIUS_M, 0.007, 8, 40), material);
      ring.frustumCulled = false;
      ring.visible = false;
      this.scene.add(ring);
      return { ...zone, ring, lit: 0, level: 0 };
    });
  }

  /** Flash the zones that play this note. */
  note({ channel, pitch }) {
    for (const zone of this.zones) {
      if (zone.channel !== channel || zone.note !== pitch) continue;
      zone.lit = 1;
      this.fired += 1;
    }
  }

  /**
   * Lay the rings around a body (null: nobody is seen).
   * @param strength 0 (triggers are off) to 1
   * @param eye where the picture is taken from
   */
  update(elapsedS, body, strength, eye) {
    for (const zone of this.zones) {
      zone.lit = Math.max(zone.lit - elapsedS / FLASH_S, 0);
      zone.ring.visible = body !== null && strength > 0.01;
      if (!zone.ring.visible) continue;
      this.placeOf(zone, body);
      zone.ring.position.copy(this.place);
      zone.ring.lookAt(eye);
      zone.ring.scale.setScalar(1 + 0.7 * zone.lit * zone.lit);
      zone.ring.material.opacity = strength * Math.min(REST + zone.lit, 1);
    }
  }

  placeOf({ part, height, side }, body) {
    body.jointPlace(JOINT_OF_PART[part], this.place);
    const { x, y } = this.place;
    body.jointPlace(0, this.place);
    // What is free follows the body part itself.
    this.place.x = side in SIDE_M ? this.place.x + SIDE_M[side] : x;
    this.place.y = height in HEIGHT_M ? this.place.y + HEIGHT_M[height] : y;
  }
}
