// Where we are in the bar: beats come counted, the metre is learned from where the count begins again.

const USUAL_METRE = 4;

export class Bar {
  constructor() {
    this.reset();
  }

  reset() {
    this.beatsPerBar = USUAL_METRE;
    this.known = false;
    this.last = null;
  }

  /** Take a beat message: index, and its number in the bar from 1 (0: unknown). */
  take({ index, bar_beat: number }) {
    if (!(number >= 1)) {
      this.known = false;
      this.last = null;
      return;
    }
    if (this.last && number === 1 && index - this.last.index === 1 && this.last.number > 1) this.beatsPerBar = this.last.number;
    if (number > this.beatsPerBar) this.beatsPerBar = number;
    this.known = true;
    this.last = { index, number };
  }

  /** The position in the bar (0 the first) of a beat; counted on from the last one told. */
  position(beatIndex) {
    const n = this.beatsPerBar;
    const from = this.last ? this.last.number - 1 - this.last.index : 0;
    return (((beatIndex + from) % n) + n) % n;
  }
}
