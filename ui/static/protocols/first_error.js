// The first wrong step of one answer: {"step": i}, or null where no step is wrong.

import { check, h, option, piece, step as walk } from "../dom.js";
import { upDown } from "../keys.js";

export function firstError(task, view) {
  const steps = task.targets[0].segments ?? [];
  let chosen; // undefined: nothing said yet; null: no wrong step
  let at = -1; // -1: the cursor has not entered the list

  function choose(i) {
    chosen = i;
    if (i !== null) at = i;
    paint();
    view.change();
  }

  const rows = steps.map((segment, i) => {
    const row = h("div", {
      class: "pd-step",
      role: "radio",
      "aria-checked": "false",
      tabindex: i === 0 ? "0" : "-1",
      "aria-label": `Step ${i + 1} is the first wrong one`,
    });
    row.addEventListener("keydown", (event) => {
      if (event.key !== " ") return;
      event.preventDefault();
      choose(i);
    });
    row.addEventListener("click", (event) => {
      if (event.target instanceof Element && event.target.closest("a")) return;
      if (String(getSelection() ?? "") !== "") return; // the person is selecting text, not choosing
      choose(i);
    });
    return row;
  });
  const list = h("div", { class: "pd-steps", role: "radiogroup", "aria-label": task.question }, rows);
  const sound = option([h("span", { class: "pd-word" }, "no wrong step")], () => choose(null), {
    key: "0",
    name: "There is no wrong step",
    kind: "pd-none",
  });
  const mark = h("span", { class: "pd-tally", "aria-hidden": "true" });

  function draw(plain) {
    rows.forEach((row, i) =>
      row.replaceChildren(h("span", { class: "pd-step-number" }, String(i + 1)), piece(steps[i], plain)),
    );
    return list;
  }

  function paint() {
    rows.forEach((row, i) => {
      check(row, i === chosen);
      row.classList.toggle("is-at", i === at);
      row.classList.toggle("is-before", typeof chosen === "number" && i < chosen);
      row.classList.toggle("is-after", typeof chosen === "number" && i > chosen);
    });
    check(sound, chosen === null);
    mark.textContent = typeof chosen === "number" ? `First wrong step: ${chosen + 1} of ${steps.length}` : "";
  }

  function move(by) {
    at = at < 0 ? (by > 0 ? 0 : steps.length - 1) : walk(at, by, steps.length);
    chosen = at;
    paint();
    view.change();
    view.tell(`Step ${at + 1}: ${steps[at].plain}`);
    view.revealNode(rows[at]);
  }

  return {
    control: h("div", { class: "pd-choices" }, sound, mark),
    draw: [draw],
    keys: [
      ...upDown("step: it is marked as the first wrong one", move),
      { keys: ["0"], show: "0", does: "no step is wrong", run: () => choose(null) },
    ],
    instant: false,
    answer: () => (chosen === undefined ? {} : { step: chosen }),
    missing: () => (chosen === undefined ? "Mark the first wrong step, or say that there is none (0)." : null),
    restore(answer) {
      if ("step" in answer) {
        chosen = answer.step;
        at = answer.step ?? -1;
      }
      paint();
    },
  };
}
