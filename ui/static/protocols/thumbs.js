// Good or bad, each for itself: {"thumbs": [1 | 0 | null per target]}.

import { check, h, icon, option, radios, step } from "../dom.js";
import { upDown } from "../keys.js";

export function thumbs(task, view) {
  const count = task.targets.length;
  const given = new Array(count).fill(null);
  let at = 0;

  function give(i, value, move) {
    given[i] = value;
    at = move ? step(i, 1, count) : i;
    paint();
    view.tell(`${task.targets[i].name}: ${value === null ? "no judgement" : value ? "good" : "bad"}`);
    if (move && at !== i) view.reveal(at);
    if (count === 1 && value !== null) view.settle();
    else view.change();
  }

  const pairs = task.targets.map((target, i) => {
    const yes = option(
      [icon("up"), h("span", { class: "pd-word" }, "good")],
      () => give(i, given[i] === 1 && count > 1 ? null : 1, false),
      { name: `${target.name} is good`, kind: "pd-yes", key: count === 1 ? "y" : null },
    );
    const no = option(
      [icon("down"), h("span", { class: "pd-word" }, "bad")],
      () => give(i, given[i] === 0 && count > 1 ? null : 0, false),
      { name: `${target.name} is bad`, kind: "pd-no", key: count === 1 ? "n" : null },
    );
    const group = radios(count === 1 ? task.question : target.name, [yes, no], { class: "pd-thumbs" });
    if (count > 1) view.cards[i].foot.append(group);
    return { yes, no, group };
  });
  const tally = h("span", { class: "pd-tally" });
  const control = count === 1 ? pairs[0].group : tally;

  function paint() {
    pairs.forEach(({ yes, no }, i) => {
      check(yes, given[i] === 1);
      check(no, given[i] === 0);
      view.cards[i].el.classList.toggle("is-at", count > 1 && i === at);
    });
    tally.textContent = `${given.filter((value) => value !== null).length} of ${count} judged`;
  }

  function move(by) {
    at = step(at, by, count);
    paint();
    view.reveal(at);
  }

  const keys = [
    {
      keys: ["y", "+"],
      show: "y  +",
      does: count === 1 ? "good" : "the response at the cursor is good; move on",
      run: () => give(at, 1, true),
    },
    {
      keys: ["n", "-"],
      show: "n  −",
      does: count === 1 ? "bad" : "the response at the cursor is bad; move on",
      run: () => give(at, 0, true),
    },
  ];
  if (count > 1) {
    keys.push(...upDown("response", move));
    keys.push({
      keys: ["0", "Backspace"],
      show: "0",
      does: "no judgement of the response at the cursor",
      run: () => give(at, null, false),
    });
  }
  paint();
  return {
    control,
    keys,
    instant: count === 1,
    answer: () => (given.some((value) => value !== null) ? { thumbs: [...given] } : {}),
    missing() {
      const open = task.targets.filter((_, i) => given[i] === null).map((target) => target.name);
      if (!open.length) return null;
      return count === 1 ? "Say good or bad first." : `No judgement yet of ${open.join(", ")}.`;
    },
    restore(answer) {
      (answer.thumbs ?? []).forEach((value, i) => (given[i] = value));
      paint();
    },
  };
}
