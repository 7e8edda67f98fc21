// What is to be judged: the conversation, passages, images and responses, as markup or as plain characters.

import { button, h, piece } from "./dom.js";

const ROLES = {
  user: "Person",
  assistant: "Assistant",
  system: "Instructions",
  tool: "Tool",
  developer: "Instructions",
};

/** One turn of a conversation. */
function turn(it, plain) {
  return h(
    "article",
    { class: `pd-turn pd-turn-${ROLES[it.role] ? it.role : "other"}` },
    h("div", { class: "pd-role" }, ROLES[it.role] ?? it.role),
    piece(it, plain),
  );
}

function turns(list, plain) {
  return h(
    "div",
    { class: "pd-turns" },
    list.map((it) => turn(it, plain)),
  );
}

/** Local images; a click shows one at its full size. */
function pictures(media, root) {
  if (!media?.length) return null;
  return h(
    "div",
    { class: "pd-media" },
    media.map(({ url: path, alt }) => {
      const url = path.startsWith("/") || path.startsWith("data:") ? path : `${root}/${path}`; // not below /label/
      const view = () => {
        const dialog = h(
          "dialog",
          { class: "pd-dialog pd-lightbox", "aria-label": alt || "Image" },
          h("img", { src: url, alt: alt ?? "" }),
        );
        dialog.addEventListener("click", () => dialog.close());
        dialog.addEventListener("close", () => dialog.remove());
        document.querySelector(".pd").append(dialog);
        dialog.showModal();
      };
      return h(
        "figure",
        {},
        button(h("img", { src: url, alt: alt ?? "", loading: "lazy" }), view, {
          kind: "pd-picture",
          "aria-label": `Enlarge: ${alt || "image"}`,
        }),
        alt ? h("figcaption", {}, alt) : null,
      );
    }),
  );
}

/** The prompt: its last turn in full, earlier ones folded where they would push the responses off the page. */
export function prompt(task, plain, root) {
  const list = task.prompt.turns ?? [];
  const inner = h("div", { class: "pd-fold" }, turns(list, plain), pictures(task.prompt.media, root));
  const toggle = button("Show all", () => fold(!section.classList.contains("is-open")), {
    kind: "pd-quiet pd-unfold",
    key: "o",
    hidden: true,
  });
  const section = h("section", { class: "pd-prompt", "aria-label": "Prompt" }, inner, toggle);

  function fold(open) {
    section.classList.toggle("is-open", open);
    toggle.firstChild.textContent = open ? "Show less" : "Show all";
    if (!open) inner.scrollTop = inner.scrollHeight;
  }

  /** Once the section stands in the page: is it too long to stand there whole? */
  section.measure = () => {
    section.classList.remove("is-long");
    const long = inner.scrollHeight > Math.max(window.innerHeight * 0.42, 260);
    section.classList.toggle("is-long", long);
    section.classList.toggle("has-turns", list.length > 1);
    toggle.hidden = !long;
    if (long && !section.classList.contains("is-open") && list.length > 1) {
      inner.scrollTop = inner.scrollHeight - inner.clientHeight; // the last turn is the one to be answered
    }
  };
  section.toggle = () => !toggle.hidden && fold(!section.classList.contains("is-open"));
  return section;
}

/** Passages stand beside the answers, so that both can be read together. */
export function passages(task, plain) {
  const list = task.prompt.passages ?? [];
  if (!list.length) return null;
  return h(
    "aside",
    { class: "pd-passages", "aria-label": list.length === 1 ? "Passage" : "Passages" },
    list.map((it, i) =>
      h(
        "details",
        { class: "pd-passage", open: innerWidth >= 900 || i === 0 },
        h("summary", {}, it.title || `Passage ${i + 1}`),
        piece(it, plain),
      ),
    ),
  );
}

/** The card of one response; `draw` replaces its body where a protocol shows the text in its own way. */
export function card(target, many, root) {
  const badge = h("span", { class: "pd-badge" });
  const head = h("header", { class: "pd-card-head" }, h("h2", {}, many ? target.name : "Response"), badge);
  const body = h("div", { class: "pd-card-body" });
  const foot = h("div", { class: "pd-card-foot" });
  const el = h(
    "article",
    { class: "pd-card", "aria-label": many ? `Response ${target.name}` : "Response" },
    head,
    body,
    foot,
  );
  const draw = (plain, own) => {
    const content = own ? own(plain) : target.turns ? turns(target.turns, plain) : piece(target, plain);
    body.replaceChildren(content, ...[pictures(target.media, root)].filter(Boolean));
  };
  return { el, head, badge, body, foot, draw };
}

/** What hides a task with a content warning until the person asks to see it. */
export function veil(warning, maySkip, lift) {
  return h(
    "div",
    { class: "pd-veil" },
    h(
      "div",
      { class: "pd-veil-box", role: "group", "aria-label": "Content warning" },
      h("h2", {}, "Content warning"),
      h("p", {}, warning),
      button("Show it", lift, { kind: "pd-primary", key: "Enter" }),
      maySkip ? h("p", { class: "pd-hint" }, "You may skip this task (s) without a disadvantage.") : null,
    ),
  );
}
