// Active seconds: counted while the page is visible and something was typed, clicked, scrolled or moved within the last
// `idle` seconds. A gap counts for at most `idle` seconds: a closed lid or a long lunch adds one idle cut-off, no more.

const SIGNS = ["keydown", "pointerdown", "pointermove", "wheel", "touchmove", "scroll", "input"];

export class Activity {
  constructor(now = () => performance.now() / 1000) {
    this.now = now;
    this.idle = 60;
    this.start(60);
    const sign = () => this.touch();
    for (const name of SIGNS) document.addEventListener(name, sign, { passive: true, capture: true });
    document.addEventListener("visibilitychange", () => (document.hidden ? this.hide() : this.touch()));
  }

  /** A new task: the clock starts at `seconds` (an earlier draft's). */
  start(idle, seconds = 0) {
    this.idle = idle;
    this.counted = seconds;
    this.last = document.hidden ? null : this.now();
  }

  touch() {
    if (document.hidden) return;
    const now = this.now();
    if (this.last !== null) this.counted += Math.min(now - this.last, this.idle);
    this.last = now;
  }

  hide() {
    if (this.last !== null) this.counted += Math.min(this.now() - this.last, this.idle);
    this.last = null;
  }

  /** Was there a sign of life within the idle cut-off? */
  get alive() {
    return this.last !== null && this.now() - this.last < this.idle;
  }

  get seconds() {
    const open = this.last === null ? 0 : Math.min(this.now() - this.last, this.idle);
    return Math.round((this.counted + open) * 100) / 100;
  }
}
