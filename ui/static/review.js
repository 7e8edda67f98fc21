// A task on the review page: what the annotators saw, what they said, and below it the same controls for a verdict.

import { Activity } from "./active.js";
import { h } from "./dom.js";
import { Keys } from "./keys.js";
import { TaskView } from "./task.js";

/** The annotators' view, but one click is never a whole verdict: a key pressed by accident decides nothing. */
class Verdict extends TaskView {
  get instant() {
    return false;
  }
}

/** Keys that work while the task can be seen: it stands in one of several tabs. */
class SeenKeys extends Keys {
  constructor(place) {
    super();
    this.place = place;
    // As on the label page: what was clicked by mouse or finger does not keep the keyboard.
    document.addEventListener("click", (event) => {
      const at = event.target instanceof Element ? event.target.closest("button") : null;
      if (at && event.detail > 0 && !place.contains(at)) at.blur();
    });
  }

  get all() {
    return this.place.offsetParent ? super.all : [];
  }

  /** A key of the task gives the keyboard back to it: Enter would go on pressing the tab or button clicked before. */
  used() {
    const at = document.activeElement;
    if (at instanceof HTMLElement && at !== document.body && !this.place.contains(at)) at.blur();
  }
}

const ABOVE = 260; // what stands over the task, and says what became of the last one

let styled = null;

/** The task must not be seen before its style is there. */
function style(root) {
  styled ??= Promise.all(["label", "protocols", "review"].map((name) => new Promise((ready) => {
    document.head.append(h("link", { rel: "stylesheet", href: `${root}/static/${name}.css`, onload: ready, onerror: ready }));
  })));
  return styled;
}

/** Label.css takes its colours from a frame that is dark or not, as Gradio's body is. */
function frame(...children) {
  const inner = h("div", {}, h("div", { class: "pd" }, ...children));
  const follow = () => inner.classList.toggle("dark", document.body.classList.contains("dark"));
  follow();
  const watch = new MutationObserver(() => (inner.isConnected ? follow() : watch.disconnect()));
  watch.observe(document.body, { attributes: true, attributeFilter: ["class"] });
  return h("div", { class: "pd-page pd-review-task" }, inner);
}

function voice(it, verdict) {
  const beside = [...it.reasons, ...it.beside].join(" · ");
  return h(
    "li",
    { class: `rv-voice ${verdict ? "is-verdict" : ""}` },
    h("div", { class: "rv-who" }, h("bdi", {}, it.who), verdict ? h("span", { class: "rv-badge" }, "verdict") : null),
    it.lines.map((line) => h("div", { class: "rv-line", dir: "auto" }, line)),
    it.why ? h("blockquote", { class: "rv-why", dir: "auto" }, it.why) : null,
    h("div", { class: "rv-beside" }, beside),
  );
}

function voices(value) {
  const all = [...value.said.map((it) => voice(it, false)), ...value.verdicts.map((it) => voice(it, true))];
  return h("section", { class: "rv-said", "aria-label": "What people said" }, h("h2", { class: "rv-title" }, "What people said"), h("ul", {}, all));
}

/**
 * Draws tasks into `place`.
 * @param {(answer: {task: number, key: string, answer: object, seconds: number}) => void} send what is done with a verdict
 * @returns {(value: object | null) => Promise<void>} shows a task; null: none
 */
export function stage(place, root, send) {
  const keys = new SeenKeys(place);
  const activity = new Activity();
  let turn = 0;
  let last = null;
  let shown = null;

  return async function show(value) {
    const mine = (turn += 1);
    await style(root);
    if (mine !== turn) return;
    keys.task = [];
    last?.closed?.();
    last = null;
    if (!value?.task) return place.replaceChildren();
    const { task } = value;
    task.options.may_skip = false;
    const decides = Boolean(value.said) && !value.refusal;
    const notice = h("div", { class: "pd-say", role: "status", "aria-live": "polite", hidden: true });
    const say = (sentence) => {
      notice.hidden = !sentence;
      notice.textContent = sentence;
    };
    const none = () => {};
    const key = crypto.randomUUID?.() ?? Array.from(crypto.getRandomValues(new Uint8Array(16)), (one) => one.toString(16).padStart(2, "0")).join("");
    const hooks = {
      root, say, draft: () => say(""), skip: none, ask: none, flag: none, undo: none,
      lifted: () => (keys.task = decides ? view.keys : []),
      submit(answer) {
        view.lock(true);
        send({ task: task.id, key, answer, seconds: activity.seconds });
        setTimeout(() => view.lock(false), 4000); // if it is refused, the sentence says why and it can be sent again
      },
    };
    const view = new Verdict(task, hooks, false);
    last = view;
    if (task.answer) view.restore(task.answer);
    view.built = true;
    view.bar.querySelector(".pd-more")?.remove();
    const parts = [view.main];
    if (value.said) {
      const title = task.revision ? "Your verdict (sent again, it corrects your earlier one)" : "Your verdict";
      // On a phone the view has put what is asked beside the answer here already: it belongs to the verdict.
      const beside = view.extras.el?.parentNode === view.work ? view.extras.el : null;
      view.work.insertBefore(voices(value), beside);
      if (decides) view.work.insertBefore(h("h2", { class: "rv-title" }, title), beside);
    }
    if (decides) parts.push(notice, view.bar);
    else if (value.refusal) parts.push(h("p", { class: "rv-refusal", role: "note" }, value.refusal));
    if (!decides) {
      view.main.classList.add("is-looked-at");
      for (const control of view.main.querySelectorAll(".pd-card-foot, .pd-panel, .pd-extras")) control.inert = true;
    }
    const another = shown !== null && shown !== task.id;
    shown = task.id;
    place.replaceChildren(frame(...parts));
    const top = place.getBoundingClientRect().top;
    if (another && top < 0) scrollTo(0, Math.max(scrollY + top - ABOVE, 0)); // it begins at its prompt, not where the last one ended
    keys.task = decides ? view.keys : [];
    activity.start(task.options.idle ?? 60);
    view.measure();
    return undefined;
  };
}
