// Keys. One table of bindings serves both the keyboard and the help, so that the help cannot lie.

// Held down, only these go on: a key that answers must not answer the next task as well.
const HELD = /^(Arrow\w+|[hjklHJKL[\]])$/;

const TYPING =
  "input:not([type=range]):not([type=checkbox]):not([type=radio]), textarea, select, [contenteditable=true]";

/** Is the person writing text here? Then keys are letters. */
export function typing(node) {
  return node instanceof Element && node.matches(TYPING);
}

/**
 * @typedef {{keys: string[], show: string, does: string, run: (event: KeyboardEvent) => void}} Binding
 * keys: values of KeyboardEvent.key; show: what the help prints, nothing for a second name of the same key.
 */
export class Keys {
  constructor() {
    /** @type {Binding[]} */
    this.task = [];
    /** @type {Binding[]} */
    this.page = [];
    /** While a label is on its way, the keys of its task do nothing. */
    this.busy = () => false;
    /** The key that was used last. */
    this.last = null;
    /** The key that took a screen away, and until when it is not meant for what has come in its place. */
    this.spent = { key: null, until: -Infinity };
    this.listen = (event) => this.#pressed(event);
    document.addEventListener("keydown", this.listen);
  }

  /** Another screen is there: for so many milliseconds the key that was used last does nothing. */
  calm(milliseconds) {
    this.spent = { key: this.last, until: performance.now() + milliseconds };
  }

  get all() {
    return [...this.task, ...this.page];
  }

  /** A key is about to do something. */
  used() {}

  #pressed(event) {
    if (event.defaultPrevented || event.isComposing || document.querySelector("dialog[open]")) return;
    if (typing(event.target)) {
      if (event.key === "Escape") event.target.blur();
      else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.#run("Enter", event);
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey) {
      if (event.key === "Enter" && !event.altKey) this.#run("Enter", event);
      return;
    }
    if ((event.key === "Enter" || event.key === " ") && this.#native(event)) return;
    this.#run(event.key, event);
  }

  /** Enter and space belong to a focused button or link; enter on a choice that is already made submits instead. */
  #native(event) {
    const node = event.target instanceof Element ? event.target.closest("button, a[href], summary") : null;
    if (!node) return false;
    const chosen = node.getAttribute("aria-checked") === "true";
    return !(event.key === "Enter" && chosen);
  }

  #run(key, event) {
    const found = this.all.find((binding) => binding.keys.includes(key));
    if (!found) return;
    event.preventDefault();
    if (event.repeat && !HELD.test(key)) return;
    if (this.busy() && this.task.includes(found)) return;
    if (key === this.spent.key && event.timeStamp < this.spent.until) return;
    this.last = key;
    this.used(found);
    found.run(event);
  }
}

/** Digits 1..n as one line of the help. */
export function digits(count, does, run, from = 1) {
  const keys = Array.from({ length: Math.min(count, 10 - from) }, (_, i) => String(from + i));
  const show = keys.length > 1 ? `${keys[0]} – ${keys[keys.length - 1]}` : keys[0];
  return { keys, show, does, run: (event) => run(Number(event.key)) };
}

/** j and k, or the arrows. */
export function upDown(what, move) {
  return [
    { keys: ["j", "ArrowDown"], show: "j  ↓", does: `next ${what}`, run: () => move(1) },
    { keys: ["k", "ArrowUp"], show: "k  ↑", does: `previous ${what}`, run: () => move(-1) },
  ];
}
