// Notes the dancer plays, as sparks that rise beside it: low notes left and low, high notes right and high.

import { AdditiveBlending, BufferAttribute, BufferGeometry, Color, Points, ShaderMaterial } from "three";

const COUNT = 96;

const VERTEX = `
attribute vec3 tint;
attribute vec2 life;
uniform float time;
uniform float size;
varying vec3 vColor;
void main() {
  float age = (time - life.x) / max(life.y, 0.05);
  vec3 p = position;
  p.y += 0.55 * (1.0 - exp(-2.0 * max(time - life.x, 0.0)));
  vec4 place = modelViewMatrix * vec4(p, 1.0);
  float shown = step(0.0, age) * pow(max(1.0 - age, 0.0), 1.5);
  vColor = tint * shown;
  gl_PointSize = size * (0.4 + shown) / -place.z;
  gl_Position = projectionMatrix * place;
}
`;
const FRAGMENT = `
uniform float light;
varying vec3 vColor;
void main() {
  float d = 2.0 * length(gl_PointCoord - 0.5);
  float a = exp(-d * d * 6.0) + 0.25 * exp(-d * d * 1.5);
  gl_FragColor = vec4(vColor * a * light * smoothstep(1.0, 0.7, d), 1.0);
  #include <tonemapping_fragment>
  #include <colorspace_fragment>
}
`;

export class Sparks {
  constructor(scene) {
    const geometry = new BufferGeometry();
    this.place = new BufferAttribute(new Float32Array(3 * COUNT), 3);
    this.tint = new BufferAttribute(new Float32Array(3 * COUNT), 3);
    this.life = new BufferAttribute(new Float32Array(2 * COUNT).fill(-1e3), 2);
    geometry.setAttribute("position", this.place);
    geometry.setAttribute("tint", this.tint);
    geometry.setAttribute("life", this.life);
    this.material = new ShaderMaterial({
      uniforms: { time: { value: 0 }, size: { value: 420 }, light: { value: 1 } },
      vertexShader: VERTEX, fragmentShader: FRAGMENT, transparent: true, depthWrite: false, blending: AdditiveBlending,
    });
    this.points = new Points(geometry, this.material);
    this.points.frustumCulled = false;
    scene.add(this.points);
    this.next = 0;
    this.color = new Color();
  }

  /** Light a spark for a note. */
  add(note, timeS, follow, colors) {
    const i = this.next;
    this.next = (i + 1) % COUNT;
    const height = Math.min(Math.max((note.pitch - 30) / 66, 0), 1);
    // Channel 10 is the drums', by the General MIDI convention: they strike the floor.
    const drum = note.channel === 9;
    const angle = drum ? note.pitch * 0.9 : (height - 0.5) * 2.6;
    const radius = drum ? 1.15 : 0.95;
    this.place.setXYZ(i, follow.x + radius * Math.sin(angle), drum ? 0.03 : 0.25 + 1.25 * height, follow.z - radius * Math.cos(angle) * 0.5);
    this.color.copy(colors[0]).lerp(colors[1], height).multiplyScalar(0.25 + note.velocity / 127);
    this.tint.setXYZ(i, this.color.r, this.color.g, this.color.b);
    this.life.setXY(i, timeS, Math.min(Math.max(note.duration_s * 1.5, 0.35), 2.5));
    this.place.needsUpdate = this.tint.needsUpdate = this.life.needsUpdate = true;
  }

  update(timeS, light) {
    this.material.uniforms.time.value = timeS;
    this.material.uniforms.light.value = light;
  }
}
