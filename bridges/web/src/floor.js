// The stage floor: dark and polished. One layer takes light and shadow, one adds the mirror image, the grid and the
// beat's ring.

import { CircleGeometry, Color, HalfFloatType, LinearMipmapLinearFilter, Mesh, MeshStandardMaterial, Vector2, Vector3, AdditiveBlending } from "three";
import { WALL_COLOR, WALL_M } from "./backdrop.js";
import { Reflector } from "three/addons/objects/Reflector.js";

const VERTEX = `
uniform mat4 textureMatrix;
varying vec4 vMirror;
varying vec2 vPlace;
void main() {
  vMirror = textureMatrix * vec4(position, 1.0);
  vPlace = (modelMatrix * vec4(position, 1.0)).xz;
  // As three.js places the lower layer, so that both have the same depth.
  vec4 inView = modelViewMatrix * vec4(position, 1.0);
  gl_Position = projectionMatrix * inView;
}
`;

const FRAGMENT = `
uniform vec3 color;
uniform sampler2D tDiffuse;
${WALL_COLOR}
uniform vec3 eye;
uniform vec2 center;
uniform vec2 hall;
uniform float reflection;
uniform float ringPhase;
uniform float ringStrength;
uniform float bars[8];
uniform float barCount;
uniform float light;
varying vec4 vMirror;
varying vec2 vPlace;

float line(float value, float width) {
  float w = fwidth(value);
  return (1.0 - smoothstep(width, width + 1.5 * w, abs(value))) * clamp(2.0 * width / w, 0.0, 1.0);
}
void main() {
  float fromCenter = distance(vPlace, center);
  float near = exp(-fromCenter * fromCenter * 0.055);
  vec3 sum = vec3(0.0);

  if (reflection > 0.0) {
    vec2 uv = vMirror.xy / vMirror.w;
    float spread = 0.0022;
    vec3 mirror = texture2D(tDiffuse, uv, 0.6).rgb * 0.36;
    mirror += texture2D(tDiffuse, uv + vec2(0.0, spread), 1.4).rgb * 0.2;
    mirror += texture2D(tDiffuse, uv - vec2(0.0, 2.5 * spread), 2.0).rgb * 0.2;
    mirror += texture2D(tDiffuse, uv + vec2(spread, -spread), 2.0).rgb * 0.12;
    mirror += texture2D(tDiffuse, uv - vec2(spread, spread), 2.0).rgb * 0.12;
    // Polish shows at a flat angle.
    vec3 toEye = eye - vec3(vPlace.x, 0.0, vPlace.y);
    float flat_ = 1.0 - toEye.y / length(toEye);
    sum += mirror * reflection * (0.35 + 0.65 * flat_ * flat_ * flat_);
  }
  // Haze over the far floor, so that it meets the wall without an edge.
  vec2 inHall = vPlace - hall;
  float range = length(inHall) / ${WALL_M.toFixed(1)};
  float haze = smoothstep(reflection > 0.0 ? 0.2 : 0.05, 1.0, range);
  sum += wallColor(vec3(inHall.x, 0.0, inHall.y)) * haze * haze * (reflection > 0.0 ? 0.6 : 0.9) * light;

  vec2 cell = abs(fract(vPlace - 0.5) - 0.5);
  float grid = max(line(cell.x, 0.004), line(cell.y, 0.004));
  float far = exp(-fromCenter * 0.34);
  sum += mix(accent, accentB, 0.5 + 0.5 * sin(vPlace.x * 0.7)) * grid * 0.05 * far * light;

  // The beat: a ring that opens from under the dancer and fades.
  float radius = 0.45 + 1.9 * (1.0 - pow(1.0 - ringPhase, 2.2));
  float wave = exp(-pow((fromCenter - radius) / (0.05 + 0.22 * ringPhase), 2.0));
  sum += mix(accent, accentB, ringPhase) * wave * ringStrength * (1.0 - ringPhase) * light;

  // The bar: one arc a beat, on a circle before the dancer's feet.
  vec2 to = vPlace - center;
  float angle = atan(to.x, to.y) / 6.2831853 + 0.5;
  if (barCount > 0.5) {
    float slot = angle * barCount;
    int beat = int(mod(floor(slot), barCount));
    float lit = 0.0;
    for (int i = 0; i < 8; i++) if (i == beat) lit = bars[i];
    float along = abs(fract(slot) - 0.5);
    float arc = line(fromCenter - 1.15, 0.008) * (1.0 - smoothstep(0.43, 0.445, along));
    sum += mix(accent, vec3(1.0), 0.2) * arc * (0.07 + lit) * light;
  }

  sum += (noise(gl_FragCoord.xy) - 0.5) / 400.0 * near;
  gl_FragColor = vec4(sum * color, 1.0);
  #include <tonemapping_fragment>
  #include <colorspace_fragment>
}
`;

export class Floor {
  constructor() {
    const ground = new Mesh(
      new CircleGeometry(WALL_M, 96),
      new MeshStandardMaterial({ color: 0x1d2029, roughness: 0.6, metalness: 0.1, dithering: true }),
    );
    ground.rotation.x = -Math.PI / 2;
    ground.receiveShadow = true;
    this.ground = ground;

    const shader = {
      name: "StageFloor",
      uniforms: {
        color: { value: null },
        tDiffuse: { value: null },
        textureMatrix: { value: null },
        backColor: { value: new Color() },
        pulse: { value: 0 },
        eye: { value: new Vector3() },
        accent: { value: new Color() },
        accentB: { value: new Color() },
        center: { value: new Vector2() },
        hall: { value: new Vector2() },
        reflection: { value: 0 },
        ringPhase: { value: 1 },
        ringStrength: { value: 0 },
        bars: { value: new Array(8).fill(0) },
        barCount: { value: 0 },
        light: { value: 1 },
      },
      vertexShader: VERTEX,
      fragmentShader: FRAGMENT,
    };
    this.mirror = new Reflector(new CircleGeometry(WALL_M, 96), {
      color: 0xffffff, textureWidth: 512, textureHeight: 512, multisample: 4, shader, clipBias: 0.001,
    });
    this.mirror.rotation.x = -Math.PI / 2;
    const { material } = this.mirror;
    material.transparent = true;
    material.depthWrite = false;
    // Both layers lie in one plane; this one is drawn over the other.
    material.polygonOffset = true;
    material.polygonOffsetFactor = 0;
    material.polygonOffsetUnits = -8;
    material.blending = AdditiveBlending;
    const { texture } = this.mirror.getRenderTarget();
    texture.type = HalfFloatType;
    texture.generateMipmaps = true;
    texture.minFilter = LinearMipmapLinearFilter;
    this.uniforms = material.uniforms;
    this.renderMirror = this.mirror.onBeforeRender;
    this.setReflection(512);
  }

  /** Mirror image of that many pixels a side; 0 switches it off. */
  setReflection(size) {
    this.uniforms.reflection.value = size ? 0.9 : 0;
    this.mirror.onBeforeRender = size ? this.renderMirror : () => {};
    if (size) this.mirror.getRenderTarget().setSize(size, size);
  }

  /** Lay the floor around a place. */
  moveTo(place) {
    this.ground.position.set(place.x, 0, place.z);
    this.mirror.position.set(place.x, 0, place.z);
    this.uniforms.hall.value.set(place.x, place.z);
  }

  addTo(scene) {
    scene.add(this.ground, this.mirror);
  }
}
