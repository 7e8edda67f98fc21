// Dialogs and drawers: help, guidelines, skip, ask, flag, own labels, questions.

import { button, clock, h, option, radios, rich } from "./dom.js";
import { Refused } from "./net.js";

/** Opens a dialog; Esc and the cross close it. Returns the element. */
export function open(title, children, kind = "") {
  const place = document.querySelector(".pd");
  const close = button("Close", () => dialog.close(), { key: "Esc", kind: "pd-quiet" });
  const dialog = h(
    "dialog",
    { class: `pd-dialog ${kind}`, "aria-label": title },
    h("header", { class: "pd-dialog-head" }, h("h2", {}, title), close),
    h("div", { class: "pd-dialog-body" }, children),
  );
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close()); // beside the box
  place.append(dialog);
  dialog.showModal();
  return dialog;
}

/** The same key that opened a drawer closes it. */
function closedBy(dialog, key) {
  dialog.addEventListener("keydown", (event) => {
    if (event.key !== key || event.target instanceof HTMLTextAreaElement || event.repeat) return;
    event.preventDefault();
    dialog.close();
  });
  return dialog;
}

export function help(bindings) {
  const rows = bindings
    .filter((it) => it.show)
    .map((it) =>
      h(
        "tr",
        {},
        h(
          "th",
          { scope: "row" },
          it.show.split("  ").map((key) => h("kbd", {}, key)),
        ),
        h("td", {}, it.does),
      ),
    );
  return closedBy(open("Keys", h("table", { class: "pd-keys" }, h("tbody", {}, rows))), "?");
}

export function guidelines(html) {
  return closedBy(open("Guidelines", rich(html), "pd-drawer"), "g");
}

/**
 * Asks for a reason or a text. `send` does the work and may throw; its sentence is shown and the text stays.
 * @param {{title: string, lead: string, choices?: string[], placeholder?: string, verb: string, required: boolean, send: (text: string) => Promise<void>}} it
 */
export function ask(it) {
  const field = h("textarea", {
    class: "pd-field",
    rows: "3",
    placeholder: it.placeholder ?? "",
    "aria-label": it.title,
  });
  const notice = h("p", { class: "pd-notice", role: "alert" });
  let chosen = null;
  const choices = (it.choices ?? []).map((name, i) =>
    option([h("span", { class: "pd-word" }, name)], () => choose(i), {
      key: i < 9 ? String(i + 1) : null,
      kind: "pd-small",
    }),
  );
  // In the field Enter begins a line: the key that works everywhere is the one that is named.
  const go = button(it.verb, () => send(), { kind: "pd-primary", key: "Control+Enter", cap: "Ctrl+Enter" });
  const dialog = open(it.title, [
    h("p", {}, it.lead),
    choices.length ? radios(it.title, choices, { class: "pd-choices pd-stack" }) : "",
    field,
    notice,
    h("div", { class: "pd-row" }, go),
  ]);

  function choose(i) {
    chosen = chosen === i ? null : i;
    choices.forEach((node, k) => node.setAttribute("aria-checked", k === chosen ? "true" : "false"));
    choices[i].focus();
  }

  async function send() {
    const text = [chosen === null ? "" : it.choices[chosen], field.value.trim()].filter(Boolean).join(": ");
    if (it.required && !text) {
      notice.textContent = choices.length ? "Choose a reason, or write one." : "Write something first.";
      return;
    }
    go.disabled = true;
    notice.textContent = "";
    try {
      await it.send(text);
      dialog.close();
    } catch (error) {
      go.disabled = false;
      notice.textContent =
        error instanceof Refused
          ? error.message
          : "The server does not answer. Your text is still here; try again in a moment.";
    }
  }

  dialog.addEventListener("keydown", (event) => {
    const inField = event.target === field;
    const n = Number(event.key) - 1;
    if (event.key === "Enter" && (!inField || event.ctrlKey || event.metaKey) && !event.target.closest?.(".pd-quiet")) {
      event.preventDefault();
      if (event.ctrlKey || event.metaKey || event.target === go || !(event.target instanceof HTMLButtonElement) || chosen !== null) send();
      else event.target.click();
    } else if (!inField && n >= 0 && n < choices.length) {
      event.preventDefault();
      choose(n);
    }
  });
  if (choices.length) choices[0].focus();
  else field.focus();
  return dialog;
}

const STATUS = { ok: "", skipped: "skipped", deleted: "taken back" };

/** The person's own labels, the newest first; a click opens one to correct it. */
export function mine(labels, openTask) {
  const dialog = open(
    "My labels",
    labels.length
      ? h(
          "ol",
          { class: "pd-mine" },
          labels.map((label) =>
            h(
              "li",
              {},
              button(
                [
                  h(
                    "span",
                    { class: "pd-mine-head" },
                    h("strong", {}, label.summary || STATUS[label.status] || label.status),
                    h("time", {}, clock(label.at)),
                  ),
                  h("span", { class: "pd-excerpt" }, label.excerpt ?? ""),
                  label.revision > 1 || STATUS[label.status]
                    ? h(
                        "span",
                        { class: "pd-hint" },
                        [STATUS[label.status], label.revision > 1 ? `revision ${label.revision}` : ""]
                          .filter(Boolean)
                          .join(", "),
                      )
                    : null,
                ],
                () => {
                  dialog.close();
                  openTask(label.task);
                },
                { kind: "pd-mine-row" },
              ),
            ),
          ),
        )
      : h("p", { class: "pd-hint" }, "No label of yours yet."),
    "pd-drawer",
  );
  dialog.addEventListener("keydown", (event) => {
    const rows = [...dialog.querySelectorAll(".pd-mine-row")];
    const by = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 }[event.key];
    if (!by || !rows.length) return;
    event.preventDefault();
    const at = rows.indexOf(document.activeElement);
    rows[Math.min(Math.max(at + by, 0), rows.length - 1)].focus();
  });
  dialog.querySelector(".pd-mine-row")?.focus();
  return closedBy(dialog, "m");
}

export function questions(list) {
  const rows = list.map((it) =>
    h(
      "li",
      { class: it.answer_html === null ? "is-open" : "" },
      h(
        "div",
        { class: "pd-asked" },
        h("span", { class: "pd-role" }, it.mine ? "You asked" : "Asked"),
        rich(it.text_html),
      ),
      it.answer_html === null
        ? h("p", { class: "pd-hint" }, "Not answered yet.")
        : h("div", { class: "pd-answered" }, h("span", { class: "pd-role" }, "The lead"), rich(it.answer_html)),
    ),
  );
  const body = rows.length
    ? h("ol", { class: "pd-questions" }, rows)
    : h("p", { class: "pd-hint" }, "Nobody has asked anything yet.");
  return closedBy(open("Questions and answers", body, "pd-drawer"), "q");
}
