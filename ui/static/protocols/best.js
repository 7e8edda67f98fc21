// The best of K, or the best few: {"best": [i, ...]}; [] says that none is acceptable, where the set allows it.

import { check, h, option, step } from "../dom.js";
import { digits, upDown } from "../keys.js";

export function best(task, view) {
  const most = task.options.best ?? 1;
  const count = task.targets.length;
  let chosen = [];
  let none = false;
  let at = 0;

  function toggle(i) {
    none = false;
    if (most === 1) chosen = [i];
    else if (chosen.includes(i)) chosen = chosen.filter((one) => one !== i);
    else if (chosen.length < most) chosen = [...chosen, i];
    else return view.say(`At most ${most} may be chosen. Take one back first.`);
    at = i;
    paint();
    if (most === 1) view.settle();
    else view.change();
  }

  function noneOfThem() {
    none = true;
    chosen = [];
    paint();
    if (most === 1) view.settle();
    else view.change();
  }

  const role = most === 1 ? "radio" : "checkbox";
  const buttons = task.targets.map((target, i) =>
    option([h("span", { class: "pd-word" }, target.name)], () => toggle(i), {
      role,
      key: i < 9 ? String(i + 1) : null,
      name: `${target.name} is ${most === 1 ? "the best" : "among the best"}`,
    }),
  );
  const nobody = task.options.none
    ? option([h("span", { class: "pd-word" }, "none is acceptable")], noneOfThem, {
        role,
        key: "0",
        name: "None is acceptable",
        kind: "pd-none",
      })
    : null;
  view.cards.forEach((card, i) => {
    card.pick = option([most === 1 ? "Choose " : "Choose ", task.targets[i].name], () => toggle(i), {
      role,
      name: `Choose ${task.targets[i].name}`,
      kind: "pd-pick",
    });
    card.foot.append(card.pick);
  });
  const control = h(
    "div",
    { class: "pd-choices", role: most === 1 ? "radiogroup" : "group", "aria-label": task.question },
    ...buttons,
    nobody,
  );

  function paint() {
    view.cards.forEach((card, i) => {
      const on = chosen.includes(i);
      check(buttons[i], on);
      check(card.pick, on);
      card.el.classList.toggle("is-chosen", on);
      card.el.classList.toggle("is-at", i === at && view.cursor);
    });
    if (nobody) check(nobody, none);
  }

  function move(by) {
    at = view.cursor ? step(at, by, count) : at;
    view.cursor = true;
    paint();
    view.reveal(at);
  }

  const keys = [
    digits(count, most === 1 ? "choose that response" : `choose that response or take it back (up to ${most})`, (n) =>
      toggle(n - 1),
    ),
  ];
  if (nobody) keys.push({ keys: ["0"], show: "0", does: "none is acceptable", run: noneOfThem });
  keys.push(...upDown("response", move));
  keys.push({
    keys: [" "],
    show: "space",
    does: "choose the response at the cursor",
    run: () => (view.cursor ? toggle(at) : move(0)),
  });
  return {
    control,
    keys,
    instant: most === 1,
    answer: () => (none || chosen.length ? { best: [...chosen].sort((a, b) => a - b) } : {}),
    missing: () =>
      none || chosen.length
        ? null
        : most === 1
          ? "Choose the best response first."
          : `Choose up to ${most} responses first.`,
    restore(answer) {
      chosen = answer.best ?? [];
      none = Array.isArray(answer.best) && answer.best.length === 0;
      paint();
    },
  };
}
