// What may be asked beside the answer: the reasons, how sure, and why.

import { check, h, option, radios } from "./dom.js";

const SURE = [
  ["a guess", 0],
  ["unsure", 0.25],
  ["fairly sure", 0.5],
  ["sure", 0.75],
  ["certain", 1],
];

/**
 * The fields that the set asks for.
 * @returns {{el: HTMLElement | null, keys: object[], asks: boolean, answer: () => object, missing: () => string | null,
 *            restore: (answer: object) => void}} asks: one click cannot be the whole answer
 */
export function extras(options, view) {
  const parts = [reasons(options, view), confidence(options, view), rationale(options, view)].filter(
    (part) => part !== null,
  );
  return {
    el: parts.length
      ? h(
          "div",
          { class: "pd-extras" },
          parts.map((part) => part.el),
        )
      : null,
    keys: parts.flatMap((part) => part.keys),
    asks: parts.some((part) => part.asks),
    answer: () => Object.assign({}, ...parts.map((part) => part.answer())),
    missing: () => parts.map((part) => part.missing()).find((sentence) => sentence !== null) ?? null,
    restore: (answer) => parts.forEach((part) => part.restore(answer)),
  };
}

function reasons(options, view) {
  const names = options.reasons ?? [];
  if (!names.length) return null;
  const chosen = new Set();
  const buttons = names.map((name, i) =>
    option([h("span", { class: "pd-word" }, name)], () => toggle(i), { role: "checkbox", kind: "pd-small pd-reason" }),
  );
  const el = h(
    "div",
    { class: "pd-extra", role: "group", "aria-label": "Reasons" },
    h("span", { class: "pd-extra-name" }, "Reasons ", h("kbd", {}, "x")),
    h("div", { class: "pd-choices" }, buttons),
  );
  inside(el, buttons, (n) => toggle(n));

  function toggle(i) {
    if (chosen.has(i)) chosen.delete(i);
    else chosen.add(i);
    check(buttons[i], chosen.has(i));
    view.change();
  }

  return {
    el,
    asks: true,
    keys: [
      {
        keys: ["x"],
        show: "x",
        does: "go to the reasons; there 1 – 9 tick, Esc leaves",
        run: () => buttons[0].focus(),
      },
    ],
    answer: () => (chosen.size ? { reasons: names.filter((_, i) => chosen.has(i)) } : {}),
    missing: () => null,
    restore(answer) {
      chosen.clear();
      names.forEach((name, i) => {
        if (answer.reasons?.includes(name)) chosen.add(i);
        check(buttons[i], chosen.has(i));
      });
    },
  };
}

function confidence(options, view) {
  if (!options.confidence) return null;
  let value = null;
  const buttons = SURE.map(([word], i) =>
    option([h("span", { class: "pd-word" }, word)], () => choose(i), { kind: "pd-small" }),
  );
  const group = radios("How sure are you?", buttons, { class: "pd-choices pd-joined" });
  const el = h(
    "div",
    { class: "pd-extra" },
    h("span", { class: "pd-extra-name" }, "How sure? ", h("kbd", {}, "c")),
    group,
  );
  inside(el, buttons, (n) => {
    choose(n);
    document.activeElement?.blur();
  });

  function choose(i) {
    value = SURE[i][1];
    paint();
    view.change();
  }

  function paint() {
    buttons.forEach((node, i) => check(node, SURE[i][1] === value));
  }

  return {
    el,
    asks: true,
    keys: [{ keys: ["c"], show: "c", does: "say how sure you are: then 1 – 5", run: () => buttons[0].focus() }],
    answer: () => (value === null ? {} : { confidence: value }),
    missing() {
      if (value !== null) return null;
      view.revealNode(el);
      return "Say how sure you are (c).";
    },
    restore(answer) {
      value = answer.confidence ?? null;
      paint();
    },
  };
}

function rationale(options, view) {
  const wanted = options.rationale ?? "none";
  if (wanted === "none") return null;
  const required = wanted === "required";
  const field = h("textarea", {
    class: "pd-field pd-rationale",
    rows: "1",
    spellcheck: "true",
    "aria-label": required ? "Why? (required)" : "Why? (optional)",
    "aria-keyshortcuts": "r",
    placeholder: required ? "Why? In a sentence or two" : "Why? (optional)",
    "aria-required": required ? "true" : null,
  });
  field.addEventListener("input", () => {
    fit();
    view.change();
  });

  function fit() {
    field.style.height = "auto";
    field.style.height = `${Math.min(field.scrollHeight + 2, innerHeight * 0.25)}px`;
  }

  return {
    el: h(
      "div",
      { class: "pd-extra pd-why" },
      h("span", { class: "pd-extra-name" }, "Why? ", h("kbd", {}, "r")),
      field,
    ),
    asks: required,
    keys: [
      {
        keys: ["r"],
        show: "r",
        does: "write why (Esc leaves the field, Ctrl Enter submits)",
        run: () => field.focus(),
      },
    ],
    answer: () => (field.value.trim() ? { rationale: field.value.trim() } : {}),
    missing() {
      if (!required || field.value.trim()) return null;
      field.focus();
      return "Write why (Esc leaves the field, Ctrl Enter submits).";
    },
    restore(answer) {
      field.value = answer.rationale ?? "";
      requestAnimationFrame(fit);
    },
  };
}

/** Digits inside a group act on the group, not on the task; Esc leaves it. */
function inside(el, buttons, run) {
  el.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") document.activeElement?.blur();
    const n = Number(event.key) - 1;
    if (!Number.isInteger(n) || n < 0 || n >= buttons.length) return;
    event.preventDefault();
    event.stopPropagation();
    run(n);
  });
}
