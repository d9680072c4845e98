// Stage colours by style, so that the audience sees the music change too. [left, right, backdrop], sRGB.

import { Color } from "three";

const PALETTES = {
  auto: ["#35c8ff", "#8a5cff", "#1b2a6b"],
  waltz: ["#ffb56b", "#ff6fa5", "#4a1f4d"],
  rumba: ["#ff4f6d", "#ffa23e", "#57141f"],
  chacha: ["#1fe0c0", "#ffb347", "#0d4550"],
  tango: ["#ff2f4e", "#8f3dff", "#3d0b2c"],
};
const SPARE = [
  ["#7dff9b", "#2fb7ff", "#0f3d3a"],
  ["#ff7ad9", "#5c8cff", "#2a1a5e"],
  ["#ffd34f", "#ff5c7a", "#4a2a12"],
  ["#63e6ff", "#b0ff6b", "#103a4a"],
];

/** The palette of a style; a style without one of its own is always given the same of the spare ones. */
export function paletteOf(style) {
  const key = (style ?? "auto").toLowerCase().replace(/[^a-z]/g, "");
  const known = PALETTES[key || "auto"];
  if (known) return known.map((hex) => new Color(hex));
  let sum = 0;
  for (const letter of key) sum = (sum * 31 + letter.charCodeAt(0)) % 9973;
  return SPARE[sum % SPARE.length].map((hex) => new Color(hex));
}
