// The dancer's surface: a satin suit in the colour of the night that the lights draw, head, hands and feet pale, so that
// each reads from the last row; a thin line of light where the two meet and down the sides.

import { Color, MeshStandardMaterial } from "three";

const VERTEX_HEAD = `
attribute vec3 rest;
varying vec3 vRest;
#include <common>
`;

const VERTEX_BODY = `
vRest = rest;
#include <begin_vertex>
`;

const FRAGMENT_HEAD = `
uniform vec3 accent;
uniform vec3 accentB;
uniform float glow;
varying vec3 vRest;
// Distance [m] from the suit's edge in the rest pose, positive where it is bare: above a neckline, beyond the wrists,
// below the ankles.
float beyondSuit(vec3 p) {
  float front = smoothstep(-0.02, 0.07, p.z);
  float neck = p.y - (1.475 - 0.15 * front * max(1.0 - abs(p.x) / 0.13, 0.0));
  float collar = min(neck, 0.16 - abs(p.x));
  return max(max(collar, abs(p.x) - 0.70), 0.105 - p.y);
}
#include <common>
`;

const FRAGMENT_COLOR = `
#include <color_fragment>
float beyond = beyondSuit(vRest);
float edge = max(fwidth(beyond), 0.0006);
float pale = smoothstep(-edge, edge, beyond);
vec3 tint = mix(accent, accentB, smoothstep(-0.35, 0.35, vRest.x));
vec3 suit = mix(vec3(0.045, 0.048, 0.066), vec3(0.115, 0.118, 0.15), smoothstep(0.1, 1.45, vRest.y)) + 0.05 * tint;
diffuseColor.rgb = mix(suit, vec3(0.60, 0.585, 0.59), pale);
`;

const FRAGMENT_ROUGHNESS = `
#include <roughnessmap_fragment>
roughnessFactor = mix(0.48, 0.7, pale);
`;

const FRAGMENT_EMISSIVE = `
#include <emissivemap_fragment>
float facing = clamp(dot(normalize(vViewPosition), normal), 0.0, 1.0);
float rim = pow(1.0 - facing, 3.0);
vec3 rimColor = mix(accent, accentB, smoothstep(-0.5, 0.5, normal.x));
float piping = 1.0 - smoothstep(0.002, 0.005 + edge, abs(beyond));
totalEmissiveRadiance += rimColor * rim * (0.42 + 0.35 * glow) * mix(1.0, 0.5, pale);
totalEmissiveRadiance += mix(rimColor, vec3(1.0), 0.3) * piping * (0.5 + 0.6 * glow);
`;

/** A material with uniforms: accent, accentB (colours of the rim), glow (0 to 1, the beat). */
export function makeSuit() {
  const uniforms = { accent: { value: new Color() }, accentB: { value: new Color() }, glow: { value: 0 } };
  const material = new MeshStandardMaterial({ color: 0xffffff, roughness: 0.5, metalness: 0, dithering: true });
  material.onBeforeCompile = (shader) => {
    Object.assign(shader.uniforms, uniforms);
    shader.vertexShader = shader.vertexShader
      .replace("#include <common>", VERTEX_HEAD)
      .replace("#include <begin_vertex>", VERTEX_BODY);
    shader.fragmentShader = shader.fragmentShader
      .replace("#include <common>", FRAGMENT_HEAD)
      .replace("#include <color_fragment>", FRAGMENT_COLOR)
      .replace("#include <roughnessmap_fragment>", FRAGMENT_ROUGHNESS)
      .replace("#include <emissivemap_fragment>", FRAGMENT_EMISSIVE);
  };
  return { material, uniforms };
}
