// Everything WebGL: scene, figure, light, camera.

import { ACESFilmicToneMapping, Color, FogExp2, Scene, SRGBColorSpace, Vector3, WebGLRenderer } from "three";
import { CameraRig } from "./camera.js";
import { loadFigure } from "./figure.js";
import { Floor } from "./floor.js";
import { makeSuit } from "./material.js";
import { Quality } from "./quality.js";
import { Scenery } from "./scenery.js";
import { LEFT_FOOT, LEFT_HAND, RIGHT_FOOT, RIGHT_HAND } from "./skeleton.js";
import { Sparks } from "./sparks.js";
import { Trails } from "./trails.js";
import { Zones } from "./zones.js";

const PALETTE_FADE_S = 0.9;
const ROAM_M = 2.5;
const NO_WEBGL =
  "This browser cannot draw 3D: WebGL 2 is off or missing. Turn on hardware acceleration in its settings, or use a current Chrome, Edge, Firefox or Safari.";

/** Open the stage on a canvas. Rejects with a message for the operator if it cannot be drawn. */
export async function openStage(canvas, wishes, palette) {
  let renderer;
  try {
    renderer = new WebGLRenderer({ canvas, antialias: wishes.get("quality") !== "low", powerPreference: "high-performance" });
  } catch {
    throw new Error(NO_WEBGL);
  }
  const suit = makeSuit();
  let figure;
  try {
    figure = await loadFigure("figure.glb", suit.material);
  } catch {
    throw new Error("The dancer's mesh could not be loaded. Reload the page.");
  }
  return new Stage(renderer, figure, suit, wishes, palette);
}

class Stage {
  constructor(renderer, figure, suit, wishes, palette) {
    this.renderer = renderer;
    this.figure = figure;
    this.suit = suit;
    renderer.outputColorSpace = SRGBColorSpace;
    renderer.toneMapping = ACESFilmicToneMapping;
    renderer.toneMappingExposure = 1.05;
    this.scene = new Scene();
    this.scene.background = new Color(0x000000);
    this.scene.fog = new FogExp2(0x020308, 0.06);
    this.scenery = new Scenery(this.scene, renderer);
    this.floor = new Floor();
    this.floor.addTo(this.scene);
    this.scene.add(figure.object);
    this.trails = new Trails(this.scene, [[LEFT_HAND, 1, 0.9], [RIGHT_HAND, 0, 0.9], [LEFT_FOOT, 1, 0.35], [RIGHT_FOOT, 0, 0.35]]);
    this.sparks = new Sparks(this.scene);
    this.zones = new Zones(this.scene);
    this.camera = new CameraRig(renderer.domElement, wishes.get("camera") ?? "front");
    this.trailsShown = wishes.get("trails") !== "off";
    this.trails.setVisible(this.trailsShown);
    this.colors = palette.map((color) => color.clone());
    this.goal = palette;
    this.follow = new Vector3();
    this.hall = new Vector3();
    this.timeS = 0;
    const gl = renderer.getContext();
    const info = gl.getExtension("WEBGL_debug_renderer_info");
    this.webgl = String(gl.getParameter(info ? info.UNMASKED_RENDERER_WEBGL : gl.RENDERER));
    const software = /swiftshader|llvmpipe|software|basic render/i.test(this.webgl);
    this.quality = new Quality(wishes.get("quality") ?? "auto", software, (level) => this.applyQuality(level));
  }

  applyQuality(level) {
    this.level = level;
    this.floor.setReflection(level.mirror);
    this.scenery.setShadows(level.shadow);
    this.scenery.setRich(level.rich);
    this.fitWindow(this.covered, this.below);
  }

  /** Fit the picture to the window, of which `covered` pixels at the right are hidden and `below` at the bottom. */
  fitWindow(covered = 0, below = 0) {
    this.covered = covered;
    this.below = below;
    const { innerWidth: width, innerHeight: height } = window;
    this.renderer.setPixelRatio(Math.min(window.devicePixelRatio, this.level?.pixelRatio ?? 1));
    this.renderer.setSize(width, height, false);
    this.camera.resize(width, Math.max(height, 1), covered, below);
  }

  setPalette(palette) {
    this.goal = palette;
  }

  toggleTrails() {
    this.trailsShown = !this.trailsShown;
    this.trails.setVisible(this.trailsShown);
    return this.trailsShown;
  }

  /** Show a note. */
  note(message) {
    this.sparks.add(message, this.timeS, this.follow, this.colors);
    this.zones.note(message);
  }

  /** Let a body (a WireMan, a Twin) onto the stage. */
  enter(body) {
    body.addTo(this.scene);
    return body;
  }

  leave(body) {
    body.removeFrom(this.scene);
  }

  /** Whether the lead dancer is there, and at what place aside [m] while there is company; `width` [m] of them all. */
  setLead(shown, place, width) {
    this.figure.object.visible = shown;
    this.figure.object.position.x = place;
    this.trails.setVisible(this.trailsShown && shown);
    this.camera.widen(width);
  }

  /** Take the figure to a pose without drawing it, so that trails stay round when pictures are few. */
  move(pose, elapsedS) {
    this.figure.apply(pose);
    this.figure.object.updateMatrixWorld(true);
    this.trails.move(this.figure, elapsedS);
  }

  /**
   * Draw one picture of the pose last moved to.
   * @param beat {pulse, phase, position, down, strength} of this moment
   * @param light 0 (blackout) to 1
   * @param calm whether the viewer asked for reduced motion
   * @param middle [x, z]: where the dancers are
   */
  draw(timeS, elapsedS, middle, beat, light, calm, beatsPerBar) {
    this.timeS = timeS;
    const rate = 1 - Math.exp(-elapsedS / PALETTE_FADE_S);
    this.colors.forEach((color, i) => color.lerp(this.goal[i], rate));
    const [left, right] = this.colors;
    const near = 1 - Math.exp(-elapsedS / 0.35);
    this.follow.x += (middle[0] - this.follow.x) * near;
    this.follow.z += (middle[1] - this.follow.z) * near;

    // The hall is 18 m wide; a dancer let loose beyond it takes it along.
    const reach = Math.hypot(this.follow.x, this.follow.z);
    this.hall.copy(this.follow).multiplyScalar(reach > ROAM_M ? 1 - ROAM_M / reach : 0);
    this.floor.moveTo(this.hall);
    this.camera.motion = calm ? 0 : 1;
    this.camera.update(timeS, elapsedS, this.follow);
    this.scenery.update(timeS, { colors: this.colors, light, pulse: beat.pulse, motion: calm ? 0 : 1 }, this.follow, this.hall);
    this.suit.uniforms.accent.value.copy(left).multiplyScalar(light);
    this.suit.uniforms.accentB.value.copy(right).multiplyScalar(light);
    this.suit.uniforms.glow.value = beat.pulse;
    const { uniforms } = this.floor;
    uniforms.backColor.value.copy(this.colors[2]);
    uniforms.pulse.value = beat.pulse;
    uniforms.eye.value.copy(this.camera.camera.position);
    uniforms.accent.value.copy(left);
    uniforms.accentB.value.copy(right);
    uniforms.center.value.set(this.follow.x, this.follow.z);
    uniforms.light.value = light;
    uniforms.ringPhase.value = beat.phase;
    uniforms.ringStrength.value = 0.55 * (beat.strength ?? 0);
    const bars = uniforms.bars.value;
    for (let i = 0; i < bars.length; i++) {
      const lit = i === beat.position ? 0.35 + 0.65 * Math.exp(-3 * beat.phase) : 0;
      bars[i] = lit * (calm ? 0.5 : 1) * (beat.down ? 1 : 0.75);
    }
    uniforms.barCount.value = beat.position < 0 ? 0 : Math.min(beatsPerBar, bars.length);
    this.trails.lay(this.camera.camera.position, [left, right], light);
    this.sparks.update(timeS, light);
    this.renderer.render(this.scene, this.camera.camera);
  }
}
