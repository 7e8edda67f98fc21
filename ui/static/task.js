// One task on the page: what is judged, the protocol's controls, and the answer bar.

import { WIDE, button, h, icon, menu, reveal } from "./dom.js";
import { extras } from "./extras.js";
import { best } from "./protocols/best.js";
import { compare } from "./protocols/compare.js";
import { edit } from "./protocols/edit.js";
import { firstError } from "./protocols/first_error.js";
import { rank } from "./protocols/rank.js";
import { rate } from "./protocols/rate.js";
import { spans } from "./protocols/spans.js";
import { thumbs } from "./protocols/thumbs.js";
import { card, passages, prompt, veil } from "./show.js";

const PROTOCOLS = { best, compare, edit, first_error: firstError, rank, rate, spans, thumbs };

/**
 * What a protocol gives: {control, keys, instant, answer(), missing(), unsure?(), restore(answer), draw?: [(plain) => node]}.
 * What it may use of this view: task, cards, panel, say(), tell(), change() (a draft), settle() (this may be the whole answer),
 * reveal(i), revealNode(node).
 */
export class TaskView {
  /** @param {object} hooks root, say, tell, draft, submit, skip, ask, flag, undo: what the page does */
  constructor(task, hooks, plain) {
    this.task = task;
    this.hooks = hooks;
    this.plain = plain;
    this.cursor = false;
    this.warned = false;
    this.locked = false;
    this.veiled = Boolean(task.warning);
    const many = task.targets.length > 1;
    this.cards = task.targets.map((target) => card(target, many, hooks.root));
    this.panel = h("section", { class: "pd-panel", "aria-label": "Your answer" });
    this.extras = extras(task.options, this);
    this.protocol = PROTOCOLS[task.protocol](task, this);
    this.main = this.#main();
    this.bar = this.#bar();
    this.#settleExtras();
    this.show(plain);
  }

  get keys() {
    if (this.veiled)
      return [
        { keys: ["Enter"], show: "Enter", does: "show the task in spite of its warning", run: () => this.lift() },
      ];
    return [
      ...this.protocol.keys,
      ...this.extras.keys,
      ...(this.prompt
        ? [{ keys: ["o"], show: "o", does: "show all of a long prompt, or less", run: () => this.prompt.toggle() }]
        : []),
      {
        keys: ["Enter"],
        show: "Enter",
        does: this.instant ? "submit what is chosen (a choice submits by itself)" : "submit",
        run: () => this.submit(),
      },
    ];
  }

  /** One click or key is the whole answer. */
  get instant() {
    return this.protocol.instant && !this.extras.asks;
  }

  // --- for the protocols ------------------------------------------------------------------------------------------

  say(sentence) {
    this.hooks.say(sentence);
  }

  /** For those who hear the page: what the cursor stands on now. */
  tell(words) {
    this.hooks.tell?.(words);
  }

  change() {
    this.warned = false;
    if (this.built) this.hooks.draft(this.answer());
  }

  settle() {
    this.change();
    if (this.instant) this.submit();
  }

  reveal(i) {
    reveal(this.cards[i].el);
  }

  revealNode(node) {
    reveal(node);
  }

  // --- for the page -----------------------------------------------------------------------------------------------

  answer() {
    return { ...this.protocol.answer(), ...this.extras.answer() };
  }

  restore(answer) {
    this.protocol.restore(answer);
    this.extras.restore(answer);
  }

  submit() {
    if (this.locked || this.veiled) return;
    const missing = this.protocol.missing() ?? this.extras.missing();
    if (missing) return this.say(missing);
    const unsure = this.protocol.unsure?.() ?? null;
    if (unsure && !this.warned) {
      this.warned = true;
      return this.say(unsure);
    }
    this.hooks.submit(this.answer());
  }

  /** While a label is on its way nothing can be changed. */
  lock(on) {
    this.locked = on;
    this.main.inert = on;
    this.bar.inert = on;
    this.bar.classList.toggle("is-locked", on);
  }

  lift() {
    this.veiled = false;
    this.main.classList.remove("is-veiled");
    this.veil?.remove();
    this.bar.classList.remove("is-veiled");
    this.hooks.lifted();
    this.measure();
  }

  /** Draws all text anew: as markup, or as plain characters. */
  show(plain) {
    this.plain = plain;
    this.cards.forEach((it, i) => it.draw(plain, this.protocol.draw?.[i]));
    const fresh =
      this.task.prompt.turns?.length || this.task.prompt.media?.length
        ? prompt(this.task, plain, this.hooks.root)
        : null;
    if (this.prompt) this.prompt.replaceWith(fresh);
    else if (fresh) this.main.prepend(fresh);
    this.prompt = fresh;
    const beside = passages(this.task, plain);
    if (this.beside) this.beside.replaceWith(beside);
    else if (beside) this.work.before(beside);
    this.beside = beside;
    this.measure();
  }

  measure() {
    if (this.prompt?.isConnected) this.prompt.measure();
  }

  // --- drawing ----------------------------------------------------------------------------------------------------

  #main() {
    const { task } = this;
    const count = task.targets.length;
    const columns = count <= 4 ? count : count <= 6 ? 3 : 4;
    const alone = count === 1 && !this.panel.childElementCount && !task.prompt.passages?.length;
    this.narrow = alone ? "is-narrow" : "";
    const grid = h(
      "div",
      { class: `pd-cards pd-cols-${columns}` },
      this.cards.map((it) => it.el),
    );
    const panel = this.panel.childElementCount ? this.panel : null;
    this.work = h(
      "div",
      { class: `pd-work ${panel ? `has-panel pd-panel-${task.protocol}` : ""}` },
      h("h1", { class: "pd-question" }, task.question),
      grid,
      panel,
    );
    const beside = task.prompt.passages?.length ? "has-passages" : "";
    const main = h(
      "main",
      {
        class: `pd-main pd-of-${count} pd-is-${task.protocol} ${beside} ${this.narrow} ${this.veiled ? "is-veiled" : ""}`,
      },
      this.work,
    );
    if (this.veiled) {
      this.veil = veil(task.warning, task.options.may_skip !== false, () => this.lift());
      main.prepend(this.veil);
    }
    return main;
  }

  /** Reasons, confidence and rationale stand in the bar where there is room, and below the responses on a phone. */
  #settleExtras() {
    const { el } = this.extras;
    if (!el) return;
    const place = () => {
      if (WIDE.matches) this.bar.firstChild.prepend(el);
      else this.work.append(el);
    };
    place();
    WIDE.addEventListener("change", place);
    this.closed = () => WIDE.removeEventListener("change", place);
  }

  #bar() {
    const { task, hooks } = this;
    const actions = [
      task.options.may_skip === false ? null : button("Skip", hooks.skip, { key: "s", kind: "pd-quiet" }),
      button("Ask", hooks.ask, { key: "a", kind: "pd-quiet", "aria-label": "Ask the lead" }),
      button("Flag", hooks.flag, { key: "f", kind: "pd-quiet", "aria-label": "Flag a bad prompt" }),
      button("Undo", hooks.undo, { key: "u", kind: "pd-quiet", "aria-label": "Open my last label again" }),
    ].filter(Boolean);
    const more = menu(
      "pd-more",
      h("summary", { class: "pd-button pd-quiet", "aria-label": "More" }, icon("more")),
      h("div", { class: "pd-more-list" }, actions),
    );
    const send = this.instant
      ? null
      : button("Submit", () => this.submit(), { key: "Enter", kind: "pd-primary pd-submit" });
    const classes = `pd-bar pd-bar-${task.protocol} ${this.narrow} ${this.veiled ? "is-veiled" : ""} ${this.instant ? "is-instant" : ""}`;
    return h(
      "footer",
      { class: classes, "aria-label": "Your answer" },
      h(
        "div",
        { class: "pd-bar-in" },
        h(
          "div",
          { class: "pd-bar-row" },
          h("div", { class: "pd-control" }, this.protocol.control),
          h("div", { class: "pd-bar-end" }, send, more),
        ),
      ),
    );
  }
}
