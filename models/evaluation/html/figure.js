// A dance unpacked, and a figure drawn from it: joints, floor, shadows.
"use strict";

const Figure = (() => {
  const NEAR_M = 4.6; // The camera's distance.
  const EYE_M = 1.1;
  const FEET = [7, 8, 10, 11];
  const FOLLOW_S = 0.45;

  // As `pack` wrote it: low bytes before high ones, each frame less the one before.
  async function unpack(dance, joints) {
    const packed = Uint8Array.from(atob(dance.joints), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
    const width = 3 * joints;
    const count = dance.frames * width;
    const places = new Float32Array(count);
    const sums = new Int32Array(width);
    for (let i = 0; i < count; i += 1) {
      const step = ((bytes[i] | (bytes[count + i] << 8)) << 16) >> 16;
      sums[i % width] += step;
      places[i] = sums[i % width] * dance.unit_m;
    }
    return { places, frames: dance.frames, width, centres: centres(places, dance.frames, width) };
  }

  // Where the camera looks: the hips, smoothed forwards and backwards, so that it does not sway with each step.
  function centres(places, frames, width) {
    const found = new Float32Array(2 * frames);
    const keep = Math.exp(-1 / (FOLLOW_S * Data.rate_hz));
    for (let axis = 0; axis < 2; axis += 1) {
      let value = places[2 * axis];
      for (let f = 0; f < frames; f += 1) {
        value = keep * value + (1 - keep) * places[f * width + 2 * axis];
        found[2 * f + axis] = value;
      }
      for (let f = frames - 1; f >= 0; f -= 1) {
        value = keep * value + (1 - keep) * found[2 * f + axis];
        found[2 * f + axis] = value;
      }
    }
    return found;
  }

  function blend(array, width, low, part, frames) {
    const high = Math.min(low + 1, frames - 1);
    const found = new Float32Array(width);
    for (let i = 0; i < width; i += 1) {
      found[i] = array[low * width + i] * (1 - part) + array[high * width + i] * part;
    }
    return found;
  }

  function draw(canvas, dance, seconds, yaw, colour, pulse) {
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    const width = Math.round(canvas.clientWidth * ratio);
    const height = Math.round(canvas.clientHeight * ratio);
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const pen = canvas.getContext("2d");
    pen.clearRect(0, 0, width, height);
    if (!dance) return;
    const frame = Math.min(Math.max(seconds * Data.rate_hz, 0), dance.frames - 1);
    const low = Math.floor(frame);
    const joints = blend(dance.places, dance.width, low, frame - low, dance.frames);
    const [cx, cz] = blend(dance.centres, 2, low, frame - low, dance.frames);
    const [cos, sin] = [Math.cos(yaw), Math.sin(yaw)];
    const scale = height * 1.62;
    // To the picture: x, y in pixels, and how near it is.
    const project = (x, y, z) => {
      const [dx, dz] = [x - cx, z - cz];
      const depth = NEAR_M - (dz * cos + dx * sin);
      if (depth < 0.5) return null;
      return [width / 2 + (scale * (dx * cos - dz * sin)) / depth, height * 0.47 - (scale * (y - EYE_M)) / depth, NEAR_M / depth];
    };
    floor(pen, project, cx, cz, ratio, pulse);
    shadows(pen, project, joints, ratio);
    body(pen, project, joints, ratio, colour);
    if (seconds * Data.rate_hz > dance.frames) {
      pen.fillStyle = "#5c6577";
      pen.font = `${13 * ratio}px system-ui, sans-serif`;
      pen.fillText("ends here", 14 * ratio, 24 * ratio);
    }
  }

  function floor(pen, project, cx, cz, ratio, pulse) {
    const reach = 3;
    pen.lineWidth = ratio;
    const [x0, z0] = [Math.round(cx), Math.round(cz)];
    for (let k = -reach * 2; k <= reach * 2; k += 1) {
      const fade = 1 - Math.abs(k) / (reach * 2 + 1);
      pen.strokeStyle = `rgba(70, 84, 112, ${(0.13 + 0.3 * pulse) * fade})`;
      for (const [from, to] of [
        [[x0 + k / 2, z0 - reach], [x0 + k / 2, z0 + reach]],
        [[x0 - reach, z0 + k / 2], [x0 + reach, z0 + k / 2]],
      ]) {
        const [a, b] = [project(from[0], 0, from[1]), project(to[0], 0, to[1])];
        if (!a || !b) continue;
        pen.beginPath();
        pen.moveTo(a[0], a[1]);
        pen.lineTo(b[0], b[1]);
        pen.stroke();
      }
    }
  }

  // The nearer a foot is to the floor, the smaller and darker.
  function shadows(pen, project, joints, ratio) {
    for (const foot of FEET) {
      const lift = Math.max(joints[3 * foot + 1] - 0.03, 0);
      const at = project(joints[3 * foot], 0, joints[3 * foot + 2]);
      if (!at) continue;
      const size = (9 + 60 * lift) * ratio * at[2];
      pen.fillStyle = `rgba(30, 38, 58, ${0.3 / (1 + 14 * lift)})`;
      pen.beginPath();
      pen.ellipse(at[0], at[1], size, size * 0.36, 0, 0, 2 * Math.PI);
      pen.fill();
    }
  }

  function body(pen, project, joints, ratio, colour) {
    const seen = [];
    for (let joint = 0; joint < joints.length / 3; joint += 1) {
      seen.push(project(joints[3 * joint], joints[3 * joint + 1], joints[3 * joint + 2]));
    }
    const bones = Data.parents.map((parent, joint) => [parent, joint]).filter(([p, j]) => p >= 0 && seen[p] && seen[j]);
    bones.sort((a, b) => seen[a[1]][2] - seen[b[1]][2]);
    pen.lineCap = "round";
    for (const [parent, joint] of bones) {
      const [a, b] = [seen[parent], seen[joint]];
      // SMPL's odd limbs are the left ones: the right arm and leg are lighter.
      const right = RIGHT.has(joint);
      pen.strokeStyle = right ? colour.right : colour.left;
      pen.lineWidth = (THICK.has(joint) ? 9 : 6) * ratio * b[2];
      pen.beginPath();
      pen.moveTo(a[0], a[1]);
      pen.lineTo(b[0], b[1]);
      pen.stroke();
    }
    const head = seen[15];
    if (!head) return;
    pen.fillStyle = colour.left;
    pen.beginPath();
    pen.arc(head[0], head[1] - 8 * ratio * head[2], 13 * ratio * head[2], 0, 2 * Math.PI);
    pen.fill();
  }

  const RIGHT = new Set([2, 5, 8, 11, 14, 17, 19, 21, 23]);
  const THICK = new Set([1, 2, 3, 4, 5, 6, 9]);
  const Data = JSON.parse(document.getElementById("dances").textContent);
  return { Data, unpack, draw };
})();
