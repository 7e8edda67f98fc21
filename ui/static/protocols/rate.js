// Each response under each aspect: {"scores": {aspect: [number | null per target]}}.

import { check, h, option, radios, step } from "../dom.js";
import { upDown } from "../keys.js";

/** The values of an aspect's scale, as numbers without the dust of binary fractions. */
export function values({ min, max, step: by }, slider) {
  const width = by ?? (slider ? (max - min) / 100 : 1); // no step: any number between the ends
  const found = [];
  for (let i = 0; min + i * width <= max + 1e-9; i += 1) found.push(Number((min + i * width).toFixed(6)));
  return found;
}

/** What digit n means on this scale: the value itself where the values are digits, else the nth value. */
export function valueOf(digit, all) {
  if (all.every((value) => Number.isInteger(value) && value >= 0 && value <= 9))
    return all.includes(digit) ? digit : null;
  if (all[0] === 1 && all.at(-1) === 10 && all.length === 10) return digit === 0 ? 10 : digit;
  if (all.length <= 9) return all[digit - 1] ?? null;
  return digit === 0 ? null : all[Math.round(((digit - 1) / 8) * (all.length - 1))]; // a slider: 1 is its start, 9 its end
}

/** The first words of an anchor, for the ends of the scale: "useless - off the topic" is "useless". */
export function brief(anchor) {
  return anchor.length <= 18 ? anchor : anchor.split(/\s[-–—]\s|[:;,.(]/u)[0].trim();
}

export function rate(task, view) {
  const aspects = task.options.aspects ?? [];
  const several = task.targets.length > 1;
  const rows = [];
  let at = 0;
  let stepped = false; // the last digit has already moved the cursor on: a `j` right after it asks for the same move

  task.targets.forEach((target, t) => {
    const place = several ? view.cards[t].foot : view.panel;
    place.classList.add("pd-rate");
    for (const aspect of aspects) {
      const row = makeRow(aspect, t, several ? `${target.name}: ${aspect.name}` : aspect.name);
      rows.push(row);
      place.append(row.el);
    }
  });
  const tally = h("span", { class: "pd-tally" });

  function makeRow(aspect, t, name) {
    const few = values(aspect, false);
    const buttons = task.options.input !== "slider" && few.length > 1 && few.length <= 11 && few.at(-1) === aspect.max;
    const slider = !buttons;
    const all = buttons ? few : values(aspect, true);
    const row = { aspect, t, name, all, value: null };
    const anchors = aspect.anchors ?? [];
    const text = aspect.text && aspect.text !== aspect.name ? aspect.text : null;
    const title = h(
      "div",
      { class: "pd-aspect", title: text },
      h("strong", {}, aspect.name),
      text && t === 0 ? h("span", { class: "pd-aspect-text" }, text) : null,
    );
    const input = slider ? sliderOf(row) : likertOf(row, anchors);
    const ends = anchors.length
      ? h(
          "div",
          { class: "pd-ends", "aria-hidden": "true" },
          h("span", {}, brief(anchors[0])),
          h("span", {}, anchors.length > 1 ? brief(anchors.at(-1)) : ""),
        )
      : null;
    row.anchor = h("div", { class: "pd-anchor", "aria-hidden": "true" });
    row.anchorOf = (value) =>
      (anchors.length === all.length
        ? anchors[all.indexOf(value)]
        : value === all[0]
          ? anchors[0]
          : value === all.at(-1)
            ? anchors.at(-1)
            : null) ?? "";
    row.el = h("div", { class: "pd-rate-row" }, title, input, ends, anchors.length ? row.anchor : null);
    row.el.style.setProperty("--points", slider ? 8 : all.length);
    row.el.addEventListener("pointerdown", () => {
      at = rows.indexOf(row);
      stepped = false;
      paint();
    });
    row.el.addEventListener("focusin", () => {
      at = rows.indexOf(row);
      paint();
    });
    return row;
  }

  function likertOf(row, anchors) {
    row.buttons = row.all.map((value, i) => {
      const said = anchors.length === row.all.length ? `: ${anchors[i]}` : "";
      const node = option(String(value), () => give(row, value), {
        kind: "pd-point",
        name: `${row.name}: ${value}${said}`,
      });
      node.addEventListener("pointerenter", () => (row.anchor.textContent = row.anchorOf(value)));
      node.addEventListener("pointerleave", () => (row.anchor.textContent = row.anchorOf(row.value)));
      return node;
    });
    return radios(row.name, row.buttons, { class: "pd-likert" });
  }

  function sliderOf(row) {
    const { min, max, step: by } = row.aspect;
    row.range = h("input", {
      type: "range",
      class: "pd-range is-unset",
      min,
      max,
      step: by ?? (max - min) / 100,
      "aria-label": row.name,
      value: (min + max) / 2,
    });
    row.output = h("output", { class: "pd-output" }, "–");
    row.range.addEventListener("input", () => give(row, near(row)));
    row.range.addEventListener("click", () => row.value === null && give(row, near(row))); // the middle was meant
    return h("div", { class: "pd-slider" }, row.range, row.output);
  }

  /** What the slider says, as one of the scale's values. */
  function near(row) {
    const said = Number(row.range.value);
    return row.all.reduce((best, value) => (Math.abs(value - said) < Math.abs(best - said) ? value : best));
  }

  function give(row, value) {
    row.value = value;
    at = rows.indexOf(row);
    paint();
    view.change();
  }

  function paint() {
    rows.forEach((row, i) => {
      row.el.classList.toggle("is-at", i === at);
      row.anchor.textContent = row.anchorOf(row.value);
      row.buttons?.forEach((node, k) => check(node, row.value === row.all[k]));
      if (row.range) {
        row.range.classList.toggle("is-unset", row.value === null);
        if (row.value !== null) row.range.value = row.value;
        row.output.textContent = row.value ?? "–";
        row.range.setAttribute("aria-valuetext", row.value === null ? "not rated" : String(row.value));
      }
    });
    tally.textContent = `${rows.filter((row) => row.value !== null).length} of ${rows.length} rated`;
  }

  function move(by) {
    if (by === 1 && stepped) {
      stepped = false;
      return;
    }
    stepped = false;
    at = step(at, by, rows.length);
    if (rows.some((row) => row.el.contains(document.activeElement))) document.activeElement.blur();
    paint();
    view.revealNode(rows[at].el);
    view.tell(`${rows[at].name}: ${rows[at].value ?? "not rated"}`);
  }

  function digit(n) {
    const value = valueOf(n, rows[at].all);
    if (value === null) return view.say(`The scale of “${rows[at].name}” has no ${n}.`);
    const here = at;
    give(rows[here], value);
    at = step(here, 1, rows.length);
    stepped = at !== here;
    paint();
    view.tell(`${rows[here].name}: ${value}. ${stepped ? `Now ${rows[at].name}` : ""}`);
    view.revealNode(rows[at].el);
  }

  function nudge(by) {
    const row = rows[at];
    const i =
      row.value === null ? Math.floor(row.all.length / 2) : step(row.all.indexOf(row.value), by, row.all.length);
    stepped = false;
    give(row, row.all[i]);
  }

  paint();
  const longest = Math.max(...rows.map((row) => row.all.length), 0);
  const least = rows.some((row) => row.all[0] === 0 && row.all.at(-1) <= 9) || longest === 10 ? "0" : "1";
  const keys = Array.from({ length: 10 }, (_, i) => String(i));
  const most = Math.min(Math.max(...rows.map((row) => (row.range ? 9 : row.all.at(-1))), 1), 9);
  return {
    control: tally,
    keys: [
      {
        keys,
        show: `${least} – ${most}`,
        does: "rate the row at the cursor; move on",
        run: (event) => digit(Number(event.key)),
      },
      ...upDown("row", move),
      { keys: ["ArrowRight", "l"], show: "l  →", does: "one point more", run: () => nudge(1) },
      { keys: ["ArrowLeft", "h"], show: "h  ←", does: "one point less", run: () => nudge(-1) },
    ],
    instant: false,
    answer() {
      const scores = {};
      for (const row of rows)
        (scores[row.aspect.name] ??= new Array(task.targets.length).fill(null))[row.t] = row.value;
      return rows.some((row) => row.value !== null) ? { scores } : {};
    },
    missing() {
      const open = rows.filter((row) => row.value === null);
      if (!open.length) return null;
      at = rows.indexOf(open[0]);
      paint();
      view.revealNode(open[0].el);
      return open.length === 1
        ? `Not rated yet: ${open[0].name}.`
        : `${open.length} rows are not rated yet, the first is ${open[0].name}.`;
    },
    restore(answer) {
      for (const row of rows) row.value = answer.scores?.[row.aspect.name]?.[row.t] ?? null;
      paint();
    },
  };
}
