// A person of light: SMPL's joints and bones as lines. So is shown who is seen by the camera, and not made.

import { Bone, Color, CylinderGeometry, Group, InstancedMesh, Matrix4, Mesh, MeshBasicMaterial, Quaternion, SphereGeometry, Vector3 } from "three";
import { OFFSETS_M, PARENTS, REST_HEIGHT_M } from "./skeleton.js";

const UP = new Vector3(0, 1, 0);
const BONE_M = 0.011;
const JOINT_M = 0.021;
const HEAD = 15;
const HEAD_M = 0.1;
// The spine's lower joints and the collars lie so close together that dots on them would be a caterpillar.
const PLAIN = new Set([3, 6, 9, 12, 13, 14, 15]);

export class WireMan {
  constructor(color) {
    this.color = new Color(color);
    this.object = new Group();
    this.joints = OFFSETS_M.map((offset) => {
      const joint = new Bone();
      joint.position.fromArray(offset);
      return joint;
    });
    this.joints.forEach((joint, i) => (i ? this.joints[PARENTS[i]] : this.object).add(joint));
    this.joints[0].position.set(0, REST_HEIGHT_M, 0);
    this.material = new MeshBasicMaterial({ color: this.color, transparent: true, toneMapped: false, fog: false });
    this.bones = new InstancedMesh(new CylinderGeometry(1, 1, 1, 8, 1, true), this.material, PARENTS.length - 1);
    this.dots = new InstancedMesh(new SphereGeometry(1, 12, 8), this.material, PARENTS.length);
    this.head = new Mesh(new SphereGeometry(HEAD_M, 20, 14), this.material);
    for (const mesh of [this.bones, this.dots, this.head]) mesh.frustumCulled = false;
    /** Added to the scene as they are: their places are in the world. */
    this.lights = new Group().add(this.bones, this.dots, this.head);
    this.places = PARENTS.map(() => new Vector3());
    this.matrix = new Matrix4();
    this.turn = new Quaternion();
    this.along = new Vector3();
    this.middle = new Vector3();
    this.scale = new Vector3();
  }

  addTo(scene) {
    scene.add(this.object, this.lights);
  }

  removeFrom(scene) {
    scene.remove(this.object, this.lights);
    for (const mesh of [this.bones, this.dots, this.head]) mesh.geometry.dispose();
    this.material.dispose();
  }

  /** Take a pose (see protocol.js). */
  apply(pose) {
    this.joints[0].position.fromArray(pose.translation);
    this.joints.forEach((joint, i) => joint.quaternion.fromArray(pose.quaternions, 4 * i));
  }

  /** Lay the lines along the joints, at a strength from 0 to 1. */
  lay(strength) {
    this.object.updateMatrixWorld(true);
    this.joints.forEach((joint, i) => this.places[i].setFromMatrixPosition(joint.matrixWorld));
    for (let i = 1; i < PARENTS.length; i++) {
      const from = this.places[PARENTS[i]];
      const to = this.places[i];
      this.along.subVectors(to, from);
      const length = this.along.length();
      this.turn.setFromUnitVectors(UP, this.along.normalize());
      this.middle.addVectors(from, to).multiplyScalar(0.5);
      this.bones.setMatrixAt(i - 1, this.matrix.compose(this.middle, this.turn, this.scale.set(BONE_M, length, BONE_M)));
    }
    this.places.forEach((place, i) => {
      const size = PLAIN.has(i) ? 0.0001 : JOINT_M;
      this.dots.setMatrixAt(i, this.matrix.compose(place, this.turn.identity(), this.scale.set(size, size, size)));
    });
    // SMPL's head joint is where the neck ends.
    this.head.position.copy(this.places[HEAD]).addScaledVector(this.along.subVectors(this.places[HEAD], this.places[12]).normalize(), HEAD_M);
    this.bones.instanceMatrix.needsUpdate = this.dots.instanceMatrix.needsUpdate = true;
    this.material.opacity = 0.92 * strength;
    this.lights.visible = strength > 0.01;
  }

  /** Write the place of a joint in the world into `out`. */
  jointPlace(joint, out) {
    return out.copy(this.places[joint]);
  }

  /** Places of all joints in the world, as [x, y, z] each; for tests. */
  jointPlaces() {
    return this.places.map((place) => place.toArray());
  }
}
