// A better text, made from one of the responses: {"target": i, "text": "..."}.

import { check, h, option, radios } from "../dom.js";
import { changes } from "../words.js";

export function edit(task, view) {
  const several = task.targets.length > 1;
  const texts = task.targets.map((target) => target.plain.replace(/\r\n?/g, "\n")); // as a text field holds them
  const drafts = new Map(); // what was typed for each target, so that changing the basis loses nothing
  let base = 0;

  const field = h("textarea", {
    class: "pd-field pd-edit",
    rows: "10",
    spellcheck: "true",
    "aria-label": "The better text",
    "aria-keyshortcuts": "e",
  });
  const preview = h("div", { class: "pd-plain pd-preview", hidden: true, "aria-label": "What was changed" });
  const show = option(["Show changes"], () => toggle(), { role: "switch", key: "d", kind: "pd-small" });
  const reset = h(
    "button",
    { type: "button", class: "pd-button pd-small", onclick: () => write(texts[base]) },
    "Start again",
  );
  const bases = several
    ? task.targets.map((target, i) =>
        option([h("span", { class: "pd-word" }, target.name)], () => start(i), {
          key: i < 9 ? String(i + 1) : null,
          name: `Start from ${target.name}`,
        }),
      )
    : [];

  field.addEventListener("input", () => {
    drafts.set(base, field.value);
    fit();
    view.change();
    if (!preview.hidden) compareNow();
  });

  function fit() {
    field.style.height = "auto";
    field.style.height = `${Math.min(Math.max(field.scrollHeight + 4, 160), innerHeight * 0.6)}px`;
  }

  function write(text) {
    field.value = text;
    drafts.set(base, text);
    fit();
    view.change();
    if (!preview.hidden) compareNow();
  }

  function start(i) {
    base = i;
    field.value = drafts.get(i) ?? texts[i];
    paint();
    view.change();
  }

  function compareNow() {
    const parts = changes(texts[base], field.value);
    preview.replaceChildren(
      ...parts.map(({ kind, text }) => (kind === "same" ? text : h(kind === "added" ? "ins" : "del", {}, text))),
    );
  }

  function toggle() {
    preview.hidden = !preview.hidden;
    check(show, !preview.hidden);
    if (!preview.hidden) compareNow();
  }

  function paint() {
    bases.forEach((node, i) => check(node, i === base));
    view.cards.forEach((card, i) => card.el.classList.toggle("is-chosen", several && i === base));
    fit();
    if (!preview.hidden) compareNow();
  }

  view.panel.append(
    h("h2", { class: "pd-panel-title" }, several ? "Better text, starting from" : "Better text"),
    several ? radios("Start from", bases, { class: "pd-choices pd-bases" }) : "",
    field,
    h("div", { class: "pd-row" }, show, reset),
    preview,
  );
  field.value = texts[0];
  paint();
  requestAnimationFrame(fit);

  const keys = [
    { keys: ["e"], show: "e", does: "write (Esc leaves the field, Ctrl Enter submits)", run: () => field.focus() },
    { keys: ["d"], show: "d", does: "show what was changed", run: toggle },
  ];
  if (several) keys.unshift(digits(task, start));
  return {
    control: h("span", { class: "pd-tally" }, "Edit the text, then submit."),
    wide: true,
    keys,
    instant: false,
    answer: () => ({ target: base, text: field.value }),
    missing() {
      if (field.value.trim() === "") return "The better text is empty.";
      return field.value === texts[base] ? "The text is unchanged. Edit it, or skip the task (s)." : null;
    },
    restore(answer) {
      if (typeof answer.text !== "string") return;
      base = answer.target ?? 0;
      drafts.set(base, answer.text);
      field.value = answer.text;
      paint();
    },
  };
}

function digits(task, start) {
  const keys = task.targets.slice(0, 9).map((_, i) => String(i + 1));
  return {
    keys,
    show: `1 – ${keys.length}`,
    does: "start from that response",
    run: (event) => start(Number(event.key) - 1),
  };
}
