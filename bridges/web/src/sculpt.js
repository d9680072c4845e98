// From a body scan to a sculpture: the face becomes a smooth oval, chest and toes lose their detail. The audience
// watches a movement, not a person.

/** Each vertex's neighbours: those of vertex i are `list[start[i]]` to `list[start[i + 1] - 1]`. */
export function neighboursOf(index, count) {
  const sets = Array.from({ length: count }, () => new Set());
  for (let t = 0; t < index.count; t += 3) {
    const corners = [index.getX(t), index.getX(t + 1), index.getX(t + 2)];
    for (const a of corners) for (const b of corners) if (a !== b) sets[a].add(b);
  }
  const start = new Uint32Array(count + 1);
  sets.forEach((set, i) => (start[i + 1] = start[i] + set.size));
  const list = new Uint32Array(start[count]);
  sets.forEach((set, i) => list.set([...set], start[i]));
  return { start, list };
}

/**
 * Smooth vertices towards the mean of their neighbours, each as far as its strength says.
 * @param {Float32Array} places changed in place
 * @param neighbours from `neighboursOf`
 * @param {Float32Array} strength per vertex, 0 to 1
 * @param {number} rounds
 * @param {number} back of each step, how much the next one takes back, so that limbs keep their volume (Taubin's λ|μ);
 *   -1: nothing, and it goes on
 */
export function smooth(places, { start, list }, strength, rounds, back) {
  const active = [...strength.keys()].filter((i) => strength[i] > 0.01);
  const moves = new Float32Array(3 * active.length);
  for (let round = 0; round < rounds; round++) {
    const step = round % 2 ? -0.5 * back : 0.5;
    active.forEach((i, n) => {
      const scale = 1 / (start[i + 1] - start[i]);
      let [x, y, z] = [0, 0, 0];
      for (let k = start[i]; k < start[i + 1]; k++) {
        const j = 3 * list[k];
        x += places[j];
        y += places[j + 1];
        z += places[j + 2];
      }
      const share = step * strength[i];
      moves[3 * n] = share * (x * scale - places[3 * i]);
      moves[3 * n + 1] = share * (y * scale - places[3 * i + 1]);
      moves[3 * n + 2] = share * (z * scale - places[3 * i + 2]);
    });
    active.forEach((i, n) => {
      for (let axis = 0; axis < 3; axis++) places[3 * i + axis] += moves[3 * n + axis];
    });
  }
}

/** Strength of smoothing around the chest's two most forward points, where the mesh is fine and the suit is not. */
export function chestStrength(places, low, high) {
  const strength = new Float32Array(places.length / 3);
  for (const side of [-1, 1]) {
    let tip = -1;
    for (let i = 0; i < strength.length; i++) {
      const [x, y, z] = [side * places[3 * i], places[3 * i + 1], places[3 * i + 2]];
      if (x > 0.03 && x < 0.16 && y > low && y < high && (tip < 0 || z > places[3 * tip + 2])) tip = i;
    }
    if (tip < 0) continue;
    const at = [0, 1, 2].map((axis) => places[3 * tip + axis]);
    for (let i = 0; i < strength.length; i++) {
      const distance = Math.hypot(...at.map((value, axis) => places[3 * i + axis] - value));
      strength[i] = Math.max(strength[i], 1 - smoothStep(0.035, 0.075, distance));
    }
  }
  return strength;
}

/**
 * Draw the head's vertices onto an egg, chin narrower than crown.
 * @param {Float32Array} places changed in place
 * @param {Float32Array} weight per vertex, 0 (not of the head) to 1
 * @returns {(normals: Float32Array) => void} gives the egg's vertices the egg's normals: sockets and mouth have been
 *   folded flat onto it, and their own would show
 */
export function makeOval(places, weight) {
  const low = [Infinity, Infinity, Infinity];
  const high = [-Infinity, -Infinity, -Infinity];
  for (let i = 0; i < weight.length; i++) {
    if (weight[i] < 0.95) continue;
    for (let axis = 0; axis < 3; axis++) {
      low[axis] = Math.min(low[axis], places[3 * i + axis]);
      high[axis] = Math.max(high[axis], places[3 * i + axis]);
    }
  }
  const height = 0.5 * (high[1] - low[1]);
  const center = [0.5 * (low[0] + high[0]), 0.5 * (low[1] + high[1]), 0.5 * (low[2] + high[2])];
  // The box holds ears and nose; a head without them is this wide and deep for its height.
  const radii = [0.66 * height, height, 0.8 * height];
  const facing = new Map();
  for (let i = 0; i < weight.length; i++) {
    // The neck goes over into the head; only what is all head becomes all egg.
    const share = smoothStep(0.55, 1, weight[i]);
    if (share === 0) continue;
    const unit = center.map((value, axis) => (places[3 * i + axis] - value) / radii[axis]);
    const length = Math.hypot(...unit) || 1;
    const down = Math.max(-unit[1] / length, 0);
    const taper = [1 - 0.3 * down * down, 1, 1 - 0.2 * down * down];
    const lean = [0, 0, 0.16 * height * down];
    for (let axis = 0; axis < 3; axis++) {
      const target = center[axis] + (unit[axis] / length) * radii[axis] * taper[axis] + lean[axis];
      places[3 * i + axis] += share * (target - places[3 * i + axis]);
    }
    facing.set(i, { share, normal: unit.map((value, axis) => value / length / radii[axis]) });
  }
  return (normals) => {
    for (const [i, { share, normal }] of facing) {
      const scale = share / Math.hypot(...normal);
      const mixed = normal.map((value, axis) => value * scale + normals[3 * i + axis] * (1 - share));
      const length = Math.hypot(...mixed) || 1;
      mixed.forEach((value, axis) => (normals[3 * i + axis] = value / length));
    }
  };
}

function smoothStep(from, to, value) {
  const t = Math.min(Math.max((value - from) / (to - from), 0), 1);
  return t * t * (3 - 2 * t);
}
