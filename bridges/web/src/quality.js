// Picture quality: as good as the machine draws smoothly. A slow machine loses mirror and shadow before it loses frames.

const LEVELS = [
  { name: "low", pixelRatio: 0.6, mirror: 0, shadow: 512, rich: false },
  { name: "medium", pixelRatio: 1, mirror: 256, shadow: 1024, rich: true },
  { name: "high", pixelRatio: 2, mirror: 768, shadow: 2048, rich: true },
];
// Slower than 45 frames a second for this long, and the picture is made simpler. It is never made richer by itself:
// a picture that changes back and forth is worse than either.
const TOO_SLOW_MS = 1000 / 45;
const PATIENCE_S = 1.5;

export class Quality {
  /** @param wanted "auto" or a level's name; @param apply called with each level chosen */
  constructor(wanted, softwareRenderer, apply) {
    this.apply = apply;
    const fixed = LEVELS.findIndex((level) => level.name === wanted);
    this.automatic = fixed < 0;
    this.slowS = 0;
    this.set(this.automatic ? (softwareRenderer ? 0 : 2) : fixed);
  }

  get name() {
    return LEVELS[this.index].name;
  }

  set(index) {
    this.index = index;
    this.slowS = 0;
    this.apply(LEVELS[index]);
  }

  /** The operator's choice: the next level round; stays as chosen. */
  next() {
    this.automatic = false;
    this.set((this.index + 1) % LEVELS.length);
    return this.name;
  }

  /** Take in the time between two frames drawn. */
  frame(elapsedMs) {
    // A hidden page draws rarely; that says nothing about the machine.
    if (!this.automatic || this.index === 0 || elapsedMs > 500) return;
    this.slowS = Math.max(this.slowS + (elapsedMs > TOO_SLOW_MS ? elapsedMs : -2 * elapsedMs) / 1000, 0);
    if (this.slowS > PATIENCE_S) this.set(this.index - 1);
  }
}
