// Which of two is better, and by how much: {"choice": c}, negative where the first shown is better.

import { button, check, h, option, radios } from "../dom.js";
import { digits } from "../keys.js";

const WORDS = {
  1: ["better"],
  2: ["clearly", "slightly"],
  3: ["much", "clearly", "slightly"],
  4: ["far", "much", "clearly", "slightly"],
};

/** The points of the scale in the order shown: [{value, side, word, name}]. */
export function scale(points, names) {
  const half = Math.floor(points / 2);
  const found = [];
  for (let value = -half; value <= half; value += 1) {
    if (value === 0 && points % 2 === 0) continue;
    if (value === 0) {
      found.push({ value, side: "tie", word: "tie", name: `${names[0]} and ${names[1]} are equally good` });
      continue;
    }
    const side = names[value < 0 ? 0 : 1];
    const word = WORDS[half][half - Math.abs(value)];
    found.push({ value, side, word, name: word === "better" ? `${side} is better` : `${side} is ${word} better` });
  }
  return found;
}

export function compare(task, view) {
  const names = task.targets.map((target) => target.name);
  const points = scale(task.options.points ?? 3, names);
  let choice = null;

  function choose(value) {
    choice = value;
    paint();
    view.settle();
  }

  const buttons = points.map(({ value, side, word, name }, i) =>
    option(
      [h("span", { class: "pd-side-name" }, side === "tie" ? "=" : side), h("span", { class: "pd-word" }, word)],
      () => choose(value),
      { key: String(i + 1), name, kind: value === 0 ? "pd-tie" : value < 0 ? "pd-first" : "pd-second" },
    ),
  );
  const both = task.options.both_bad
    ? option([h("span", { class: "pd-word" }, "both bad")], () => choose("both_bad"), {
        key: "b",
        name: "Both are bad",
        kind: "pd-both",
      })
    : null;
  const control = radios(task.question, both ? [...buttons, both] : buttons, { class: "pd-compare" });
  const row = h("div", { class: "pd-scale", "data-points": points.length }, buttons);
  row.style.setProperty("--points", points.length);
  row.style.setProperty("--half", Math.floor(points.length / 2));
  control.replaceChildren(row, ...(both ? [both] : []));

  function paint() {
    buttons.forEach((node, i) => check(node, points[i].value === choice));
    if (both) check(both, choice === "both_bad");
    view.cards.forEach((card, i) => {
      const better = typeof choice === "number" && (i === 0 ? choice < 0 : choice > 0);
      card.el.classList.toggle("is-chosen", better);
    });
  }

  const keys = [
    digits(points.length, `choose: 1 is “${points[0].name}”, ${points.length} is “${points.at(-1).name}”`, (n) =>
      choose(points[n - 1].value),
    ),
  ];
  if (both) keys.push({ keys: ["b", "0"], show: "b  0", does: "both are bad", run: () => choose("both_bad") });
  return {
    control,
    keys,
    instant: true,
    answer: () => (choice === null ? {} : { choice }),
    missing: () => (choice === null ? "Choose a point of the scale first." : null),
    restore(answer) {
      choice = answer.choice ?? null;
      paint();
    },
  };
}
