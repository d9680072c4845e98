// Ribbons of light that hands and feet leave in the air.

import { AdditiveBlending, BufferAttribute, BufferGeometry, Color, DoubleSide, Mesh, ShaderMaterial, Vector3 } from "three";

const SAMPLES = 40;
const SPACING_S = 1 / 60;
const WIDTH_M = 0.016;
// Slower than this [m/s] a hand leaves no light; at the upper speed, all of it.
const SLOW = 0.9;
const FAST = 3.4;

const VERTEX = `
attribute float shade;
attribute float across;
varying float vShade;
varying float vAcross;
void main() {
  vShade = shade;
  vAcross = across;
  gl_Position = projectionMatrix * viewMatrix * vec4(position, 1.0);
}
`;
const FRAGMENT = `
uniform vec3 color;
uniform float strength;
varying float vShade;
varying float vAcross;
void main() {
  float body = 1.0 - vAcross * vAcross;
  gl_FragColor = vec4(color * vShade * body * body * strength, 1.0);
  #include <tonemapping_fragment>
  #include <colorspace_fragment>
}
`;

class Ribbon {
  constructor(scene) {
    this.places = Array.from({ length: SAMPLES }, () => new Vector3());
    this.speeds = new Float32Array(SAMPLES);
    this.held = 0;
    this.since = 0;
    const geometry = new BufferGeometry();
    this.position = new BufferAttribute(new Float32Array(SAMPLES * 2 * 3), 3);
    this.shade = new BufferAttribute(new Float32Array(SAMPLES * 2), 1);
    const across = new Float32Array(SAMPLES * 2).map((_, i) => (i % 2 ? 1 : -1));
    geometry.setAttribute("position", this.position);
    geometry.setAttribute("shade", this.shade);
    geometry.setAttribute("across", new BufferAttribute(across, 1));
    const index = [];
    for (let i = 0; i < SAMPLES - 1; i++) index.push(2 * i, 2 * i + 1, 2 * i + 2, 2 * i + 1, 2 * i + 3, 2 * i + 2);
    geometry.setIndex(index);
    this.uniforms = { color: { value: new Color() }, strength: { value: 0.8 } };
    const material = new ShaderMaterial({
      uniforms: this.uniforms, vertexShader: VERTEX, fragmentShader: FRAGMENT,
      transparent: true, depthWrite: false, blending: AdditiveBlending, side: DoubleSide,
    });
    this.mesh = new Mesh(geometry, material);
    this.mesh.frustumCulled = false;
    scene.add(this.mesh);
    this.along = new Vector3();
    this.toEye = new Vector3();
  }

  /** Take in where the hand is after `elapsedS`. */
  move(place, elapsedS) {
    if (this.held && place.distanceTo(this.places[0]) > 0.6) this.held = 0;
    this.since += elapsedS;
    if (!this.held) {
      for (const past of this.places) past.copy(place);
      this.speeds.fill(0);
      this.held = 1;
      this.since = 0;
    }
    while (this.since >= SPACING_S) {
      // The samples move down; the head is where the hand is now.
      const last = this.places.pop();
      const speed = last.copy(place).distanceTo(this.places[0]) / Math.max(this.since, SPACING_S);
      this.places.unshift(last);
      this.speeds.copyWithin(1, 0, SAMPLES - 1);
      this.speeds[0] = 0.5 * this.speeds[1] + 0.5 * speed;
      this.since = this.since > 4 * SPACING_S ? 0 : this.since - SPACING_S;
    }
    this.places[0].copy(place);
  }

  /** Lay the ribbon out so that it faces the eye. */
  lay(eye) {
    for (let i = 0; i < SAMPLES; i++) {
      const before = this.places[Math.max(i - 1, 0)];
      const after = this.places[Math.min(i + 1, SAMPLES - 1)];
      this.along.subVectors(before, after);
      this.toEye.subVectors(eye, this.places[i]);
      this.along.cross(this.toEye).normalize();
      const age = i / (SAMPLES - 1);
      const width = WIDTH_M * (1 - 0.75 * age);
      const { x, y, z } = this.places[i];
      this.position.setXYZ(2 * i, x - this.along.x * width, y - this.along.y * width, z - this.along.z * width);
      this.position.setXYZ(2 * i + 1, x + this.along.x * width, y + this.along.y * width, z + this.along.z * width);
      const t = Math.min(Math.max((this.speeds[i] - SLOW) / (FAST - SLOW), 0), 1);
      const shade = t * t * (3 - 2 * t) * (1 - age) * (1 - age);
      this.shade.setX(2 * i, shade);
      this.shade.setX(2 * i + 1, shade);
    }
    this.position.needsUpdate = true;
    this.shade.needsUpdate = true;
  }
}

export class Trails {
  /** @param joints whose trails: joint numbers with the side (0 left, 1 right) whose colour they have */
  constructor(scene, joints) {
    this.items = joints.map(([joint, side, strength]) => ({ joint, side, strength, ribbon: new Ribbon(scene) }));
    this.place = new Vector3();
  }

  setVisible(visible) {
    for (const { ribbon } of this.items) ribbon.mesh.visible = visible;
  }

  /** Follow the figure's present pose. */
  move(figure, elapsedS) {
    for (const { joint, ribbon } of this.items) ribbon.move(figure.jointPlace(joint, this.place), elapsedS);
  }

  lay(eye, colors, light) {
    for (const { side, strength, ribbon } of this.items) {
      if (!ribbon.mesh.visible) continue;
      ribbon.uniforms.color.value.copy(colors[side]);
      ribbon.uniforms.strength.value = strength * light;
      ribbon.lay(eye);
    }
  }
}
