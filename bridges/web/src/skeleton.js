// SMPL's 24 joints in SMPL's order: right-handed, Y up, metres; at rest the dancer faces +Z, the left hand at +X.
// Offsets: SMPL neutral as in engine/body/skeleton.py.

export const PARENTS = [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21];

export const OFFSETS_M = [
  [0.0, 0.0, 0.0],
  [0.05858135, -0.08228004, -0.01766408],
  [-0.06030973, -0.09051332, -0.01354254],
  [0.00443945, 0.12440352, -0.03838522],
  [0.04345142, -0.38646945, 0.008037],
  [-0.04325663, -0.38368791, -0.00484304],
  [0.00448844, 0.1379564, 0.02682033],
  [-0.01479032, -0.42687458, -0.037428],
  [0.01905555, -0.4200455, -0.03456167],
  [-0.00226458, 0.05603239, 0.00285505],
  [0.04105436, -0.06028581, 0.12204243],
  [-0.03483987, -0.06210566, 0.13032329],
  [-0.0133902, 0.21163553, -0.03346758],
  [0.07170245, 0.11399969, -0.01889817],
  [-0.08295366, 0.11247234, -0.02370739],
  [0.01011321, 0.08893734, 0.05040987],
  [0.12292141, 0.04520509, -0.019046],
  [-0.11322832, 0.04685326, -0.00847207],
  [0.2553319, -0.01564902, -0.02294649],
  [-0.26012748, -0.01436928, -0.03126873],
  [0.26570925, 0.01269811, -0.00737473],
  [-0.26910836, 0.00679372, -0.00602676],
  [0.08669055, -0.01063603, -0.01559429],
  [-0.0887537, -0.00865157, -0.01010708],
];

/** Joint by joint the bone of the figure (Mixamo's names); the hands' last joint has none and carries the fingers. */
export const BONE_NAMES = [
  "Hips", "LeftUpLeg", "RightUpLeg", "Spine", "LeftLeg", "RightLeg", "Spine1", "LeftFoot", "RightFoot", "Spine2",
  "LeftToeBase", "RightToeBase", "Neck", "LeftShoulder", "RightShoulder", "Head", "LeftArm", "RightArm",
  "LeftForeArm", "RightForeArm", "LeftHand", "RightHand", null, null,
];

/** The other way round. */
export const JOINTS_BY_BONE = new Map(BONE_NAMES.flatMap((name, joint) => (name ? [[name, joint]] : [])));

export const ROOT = 0;
export const LEFT_HAND = 22;
export const RIGHT_HAND = 23;
export const LEFT_FOOT = 10;
export const RIGHT_FOOT = 11;

/** Height of the root over the soles in the rest pose: the toe joint lies 2 cm over the sole. */
export const REST_HEIGHT_M = 0.97635;

/** The joints' places in the rest pose, soles at height 0, as [x, y, z] each. */
export function restPositions() {
  const places = [];
  OFFSETS_M.forEach((offset, joint) => {
    const base = joint ? places[PARENTS[joint]] : [0, REST_HEIGHT_M, 0];
    places.push(offset.map((value, axis) => value + base[axis]));
  });
  return places;
}
