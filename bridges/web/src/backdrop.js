// The colour of the backdrop, for the wall itself and for the haze in which the floor runs out towards it.

/** Radius of the wall [m]. */
export const WALL_M = 9;

/** GLSL: light from the wall at a place on it. Wants uniforms: vec3 backColor, vec3 accent, vec3 accentB, float pulse. */
export const WALL_COLOR = `
uniform vec3 backColor;
uniform vec3 accent;
uniform vec3 accentB;
uniform float pulse;
vec3 wallColor(vec3 place) {
  float angle = atan(place.x, -place.z);
  vec2 p = vec2(angle * ${WALL_M.toFixed(1)}, place.y);
  // A wash from below, a glow behind the dancer, and the folds of a curtain.
  float wash = exp(-max(p.y, 0.0) * 0.42) * exp(-p.x * p.x * 0.012);
  float halo = exp(-(p.x * p.x * 0.05 + (p.y - 1.7) * (p.y - 1.7) * 0.14));
  float folds = 0.82 + 0.18 * sin(angle * 70.0 + 1.3 * sin(angle * 23.0)) * smoothstep(7.0, 0.0, p.y) * smoothstep(0.0, 1.2, p.y);
  vec3 tint = mix(accent, accentB, smoothstep(-4.0, 4.0, p.x));
  return backColor * (0.42 * wash + 0.5 * halo) * folds + tint * halo * (0.06 + 0.03 * pulse) * folds + vec3(0.0025, 0.003, 0.005);
}
float noise(vec2 p) {
  return fract(sin(dot(p, vec2(12.9898, 78.233))) * 43758.5453);
}
`;
