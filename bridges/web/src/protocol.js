// The binary pose message, as bridges/web/messages.py writes it.

export const POSE_KIND = 1;
export const POSE_VERSION = 1;
export const POSE_BYTES = 452;
export const JOINTS = 24;

/** An empty pose, to be filled. Quaternions are xyzw, relative to the parent; the root's is in the world. */
export function makePose() {
  return {
    performer: 0,
    index: 0,
    timeS: 0,
    beat: 0,
    phase: 0,
    tempoBpm: 0,
    confidence: 0,
    latencyS: 0,
    contacts: new Float32Array(4),
    translation: new Float32Array(3),
    quaternions: new Float32Array(4 * JOINTS),
  };
}

/** Whose pose a message is (0: the lead dancer's); -1 if it is no pose message. */
export function performerOf(buffer) {
  return buffer.byteLength === POSE_BYTES ? new DataView(buffer).getUint16(2, true) : -1;
}

/**
 * Decode a message into `pose`.
 * @param {ArrayBuffer} buffer
 * @returns {boolean} false if it is not a pose message, or holds a number that is none
 */
export function decodePose(buffer, pose) {
  if (buffer.byteLength !== POSE_BYTES) return false;
  const view = new DataView(buffer);
  if (view.getUint8(0) !== POSE_KIND || view.getUint8(1) !== POSE_VERSION) return false;
  pose.performer = view.getUint16(2, true);
  pose.index = view.getUint32(4, true);
  pose.timeS = view.getFloat64(8, true);
  pose.beat = view.getFloat64(16, true);
  pose.phase = view.getFloat32(24, true);
  pose.tempoBpm = view.getFloat32(28, true);
  pose.confidence = view.getFloat32(32, true);
  pose.latencyS = view.getFloat32(36, true);
  let finite = Number.isFinite(pose.timeS) && Number.isFinite(pose.beat);
  let offset = 40;
  for (const array of [pose.contacts, pose.translation, pose.quaternions]) {
    for (let i = 0; i < array.length; i++, offset += 4) {
      array[i] = view.getFloat32(offset, true);
      finite &&= Number.isFinite(array[i]);
    }
  }
  return finite;
}
