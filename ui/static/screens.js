// What stands on the page where no task does, or beside one: drawing only, `label.js` says what happens.

import { button, h, rich } from "./dom.js";

/** A sentence, and a way to look again. */
export function message(sentence, again) {
  const look = again ? button("Look again", again, { key: "Enter" }) : null;
  return h("main", { class: "pd-message" }, h("p", {}, sentence), look);
}

/** An answer bar with one button. */
export function bar(label, run) {
  const go = button(label, run, { key: "Enter", kind: "pd-primary" });
  const row = h("div", { class: "pd-bar-row" }, h("div", { class: "pd-control" }), go);
  return h("footer", { class: "pd-bar" }, h("div", { class: "pd-bar-in" }, row));
}

/** The guidelines, to be read before anything else. */
export function guidelines({ html, previous }) {
  const lead = previous
    ? "Please read the new text. What you label from now on follows it."
    : [
        "Please read these before you begin. You can open them at any time ",
        h("span", { class: "pd-on-wide" }, "with g."),
        h("span", { class: "pd-on-narrow" }, "in the menu."),
      ];
  const title = previous ? "The guidelines have changed" : "Guidelines";
  return h("main", { class: "pd-guidelines" }, h("p", { class: "pd-hint" }, lead), h("h1", {}, title), rich(html));
}

/** What the lead says about a gold question, in the qualification round. */
export function feedback({ html, right }) {
  const title = right ? "That is what the lead says too." : "The lead says otherwise.";
  const classes = `pd-feedback ${right ? "is-right" : "is-wrong"}`;
  return h("section", { class: classes, role: "status" }, h("h2", {}, title), rich(html ?? ""));
}

/** The line above a label that is being corrected. */
export function correcting(back) {
  const said = "You are correcting an earlier label of yours. What you said before is kept in its history.";
  const leave = button("Leave it as it was", back, { key: "Esc", kind: "pd-quiet" });
  return h("div", { class: "pd-correcting", role: "note" }, h("span", {}, said), leave);
}
