// Light, haze and backdrop.

import {
  AdditiveBlending, BackSide, BufferAttribute, BufferGeometry, Color, ConeGeometry, CylinderGeometry, DoubleSide,
  Group, HemisphereLight, Mesh, Object3D, PCFShadowMap, Points, ShaderMaterial, SpotLight, Vector3,
} from "three";
import { WALL_COLOR, WALL_M } from "./backdrop.js";

const BEAM_VERTEX = `
varying float vAlong;
varying vec3 vNormal;
varying vec3 vToEye;
void main() {
  vAlong = uv.y;
  vec4 place = modelViewMatrix * vec4(position, 1.0);
  vNormal = normalMatrix * normal;
  vToEye = -place.xyz;
  gl_Position = projectionMatrix * place;
}
`;
const BEAM_FRAGMENT = `
uniform vec3 color;
uniform float strength;
varying float vAlong;
varying vec3 vNormal;
varying vec3 vToEye;
float noise(vec2 p) {
  return fract(sin(dot(p, vec2(12.9898, 78.233))) * 43758.5453);
}
void main() {
  // A cone seen edge-on has little haze in it, and thin haze far from the lamp.
  float facing = abs(dot(normalize(vNormal), normalize(vToEye)));
  float body = pow(facing, 2.0);
  float along = pow(vAlong, 1.5) * smoothstep(1.0, 0.97, vAlong);
  float amount = body * along * strength;
  gl_FragColor = vec4(color * amount + (noise(gl_FragCoord.xy) - 0.5) / 300.0 * amount, 1.0);
  #include <tonemapping_fragment>
  #include <colorspace_fragment>
}
`;
const BACKDROP_VERTEX = `
uniform float lift;
varying vec3 vPlace;
void main() {
  vPlace = position + vec3(0.0, lift, 0.0);
  gl_Position = projectionMatrix * modelViewMatrix * vec4(position, 1.0);
}
`;
const BACKDROP_FRAGMENT = `
${WALL_COLOR}
uniform float light;
varying vec3 vPlace;
void main() {
  vec3 sum = wallColor(vPlace) * light;
  sum += (noise(gl_FragCoord.xy) - 0.5) / 255.0 * light;
  gl_FragColor = vec4(sum, 1.0);
  #include <tonemapping_fragment>
  #include <colorspace_fragment>
}
`;
const DUST_VERTEX = `
attribute float seed;
uniform float time;
uniform float size;
varying float vAlpha;
void main() {
  vec3 p = position;
  p.x += 0.35 * sin(time * 0.11 + seed * 40.0);
  p.y = mod(p.y + time * 0.035 * (0.4 + seed), 4.2);
  p.z += 0.35 * cos(time * 0.09 + seed * 23.0);
  vec4 place = modelViewMatrix * vec4(p, 1.0);
  float edge = smoothstep(0.0, 0.5, p.y) * smoothstep(4.2, 3.2, p.y);
  vAlpha = edge * (0.35 + 0.65 * sin(time * 0.7 + seed * 90.0) * 0.5 + 0.3);
  gl_PointSize = size * (0.5 + seed) / -place.z;
  gl_Position = projectionMatrix * place;
}
`;
const DUST_FRAGMENT = `
uniform vec3 color;
uniform float strength;
varying float vAlpha;
void main() {
  float d = length(gl_PointCoord - 0.5);
  float a = smoothstep(0.5, 0.0, d);
  gl_FragColor = vec4(color * a * a * vAlpha * strength, 1.0);
  #include <tonemapping_fragment>
  #include <colorspace_fragment>
}
`;

// Lamps on the truss: place, where they point at rest, sweep, and which of the two colours they have.
const LAMPS = [
  { at: [-4.6, 6.4, -3.6], to: [-1.6, 0, -0.6], sweep: 0.5, side: 0 },
  { at: [-2.4, 6.6, -4.2], to: [-0.5, 0, -0.8], sweep: 0.8, side: 0 },
  { at: [2.4, 6.6, -4.2], to: [0.5, 0, -0.8], sweep: 0.8, side: 1 },
  { at: [4.6, 6.4, -3.6], to: [1.6, 0, -0.6], sweep: 0.5, side: 1 },
];

// The wall is 12 m high and begins below the floor; drawn first, it is behind everything.
const WALL_LIFT_M = 5.5;

export class Scenery {
  constructor(scene, renderer) {
    renderer.shadowMap.enabled = true;
    renderer.shadowMap.type = PCFShadowMap;
    /** What the spots follow: the dancer, smoothed. */
    this.focus = new Object3D();
    this.focus.position.set(0, 0.9, 0);
    scene.add(this.focus);

    /** What belongs to the house: lamps, wall, dust. */
    this.hall = new Group();
    scene.add(this.hall);

    this.key = this.spot(0xffe9d6, 105, [3.1, 4.3, 3.6], 0.4, 0.9);
    this.key.castShadow = true;
    this.key.shadow.mapSize.set(1024, 1024);
    this.key.shadow.camera.near = 2;
    this.key.shadow.camera.far = 11;
    this.key.shadow.bias = -0.0004;
    this.key.shadow.normalBias = 0.02;
    this.key.shadow.radius = 5;
    // Footlights: without them a lifted chin and a bent back are black.
    this.foot = this.spot(0xbfd0ff, 17, [0, 0.5, 5.2], 0.4, 1);
    this.top = this.spot(0xdfe8ff, 90, [0, 6.2, -1.4], 0.36, 1);
    this.rims = [this.spot(0xffffff, 190, [-3.7, 3.4, -3.3], 0.42, 0.8), this.spot(0xffffff, 190, [3.7, 3.4, -3.3], 0.42, 0.8)];
    this.fill = new HemisphereLight(0x54659a, 0x0a0b12, 0.55);
    this.fillLevel = 0.55;
    scene.add(this.fill);

    this.backdrop = new Mesh(
      new CylinderGeometry(WALL_M, WALL_M, 12, 96, 1, true),
      new ShaderMaterial({
        uniforms: { backColor: { value: new Color() }, accent: { value: new Color() }, accentB: { value: new Color() }, light: { value: 1 }, lift: { value: WALL_LIFT_M }, pulse: { value: 0 } },
        vertexShader: BACKDROP_VERTEX, fragmentShader: BACKDROP_FRAGMENT, side: BackSide, depthWrite: false,
      }),
    );
    this.backdrop.position.y = WALL_LIFT_M;
    this.backdrop.renderOrder = -1;
    this.hall.add(this.backdrop);

    this.beams = LAMPS.map((lamp) => this.beam(lamp));
    this.dust = this.dustCloud();
    this.target = new Vector3();
  }

  spot(color, intensity, place, angle, penumbra) {
    const light = new SpotLight(color, intensity, 0, angle, penumbra, 2);
    light.position.set(...place);
    light.target = this.focus;
    light.userData.full = intensity;
    this.hall.add(light);
    return light;
  }

  beam(lamp) {
    const length = 9;
    const geometry = new ConeGeometry(1.15, length, 48, 1, true);
    geometry.translate(0, -length / 2, 0);
    geometry.rotateX(-Math.PI / 2);
    const material = new ShaderMaterial({
      uniforms: { color: { value: new Color() }, strength: { value: 0.1 } },
      vertexShader: BEAM_VERTEX, fragmentShader: BEAM_FRAGMENT,
      transparent: true, depthWrite: false, blending: AdditiveBlending, side: DoubleSide,
    });
    const mesh = new Mesh(geometry, material);
    mesh.position.set(...lamp.at);
    this.hall.add(mesh);
    return { mesh, material, lamp };
  }

  dustCloud() {
    const count = 260;
    const places = new Float32Array(3 * count);
    const seeds = new Float32Array(count);
    // A fixed sequence: the same haze every night.
    let state = 7;
    const next = () => (state = (state * 16807) % 2147483647) / 2147483647;
    for (let i = 0; i < count; i++) {
      places.set([(next() - 0.5) * 8, next() * 4.2, (next() - 0.62) * 6], 3 * i);
      seeds[i] = next();
    }
    const geometry = new BufferGeometry();
    geometry.setAttribute("position", new BufferAttribute(places, 3));
    geometry.setAttribute("seed", new BufferAttribute(seeds, 1));
    const material = new ShaderMaterial({
      uniforms: { time: { value: 0 }, size: { value: 26 }, color: { value: new Color(0xcfd8ff) }, strength: { value: 0.35 } },
      vertexShader: DUST_VERTEX, fragmentShader: DUST_FRAGMENT,
      transparent: true, depthWrite: false, blending: AdditiveBlending,
    });
    const points = new Points(geometry, material);
    points.frustumCulled = false;
    this.hall.add(points);
    return points;
  }

  /** Shadow map of that many pixels a side; 0 switches shadows off. */
  setShadows(size) {
    this.key.castShadow = size > 0;
    if (size && this.key.shadow.mapSize.x !== size) {
      this.key.shadow.mapSize.set(size, size);
      this.key.shadow.map?.dispose();
      this.key.shadow.map = null;
    }
  }

  /** Dust, and the two lamps that do least for the picture. */
  setRich(rich) {
    this.dust.visible = rich;
    this.foot.visible = rich;
    this.top.visible = rich;
    this.fillLevel = rich ? 0.55 : 1.1;
  }

  /**
   * @param timeS seconds, for what drifts
   * @param look {colors: [left, right, backdrop], light 0..1, pulse 0..1, motion 0..1}
   * @param follow the dancer's place
   * @param hall the hall's
   */
  update(timeS, look, follow, hall) {
    this.hall.position.copy(hall);
    this.focus.position.x = follow.x;
    this.focus.position.z = follow.z;
    const [left, right, back] = look.colors;
    this.key.intensity = this.key.userData.full * look.light;
    this.foot.intensity = this.foot.userData.full * look.light;
    this.top.intensity = this.top.userData.full * look.light * (1 + 0.12 * look.pulse);
    this.fill.intensity = this.fillLevel * look.light;
    this.rims.forEach((light, side) => {
      light.color.copy(side ? right : left);
      light.intensity = light.userData.full * look.light * (1 + 0.2 * look.pulse);
    });
    const { uniforms } = this.backdrop.material;
    uniforms.backColor.value.copy(back);
    uniforms.accent.value.copy(left);
    uniforms.accentB.value.copy(right);
    uniforms.light.value = look.light;
    uniforms.pulse.value = look.pulse;
    for (const { mesh, material, lamp } of this.beams) {
      const swing = look.motion * lamp.sweep;
      const phase = timeS * 0.23 + lamp.at[0];
      this.target.set(
        hall.x + lamp.to[0] + (follow.x - hall.x) * 0.5 + swing * Math.sin(phase),
        0,
        hall.z + lamp.to[2] + (follow.z - hall.z) * 0.5 + swing * 0.6 * Math.cos(phase * 0.8),
      );
      mesh.lookAt(this.target);
      material.uniforms.color.value.copy(lamp.side ? right : left);
      material.uniforms.strength.value = 0.24 * look.light * (1 + 0.3 * look.pulse);
    }
    this.dust.material.uniforms.time.value = timeS;
    this.dust.material.uniforms.strength.value = 0.35 * look.light;
  }
}
