// The head of the page: which project, how far, is it saved, and the doors to everything else.

import { button, h, menu } from "./dom.js";

export class Top {
  /** @param {object} run guidelines, mine, questions, plain, help, project(id) */
  constructor(root, me, run) {
    this.root = root;
    this.run = run;
    this.project = h("div", { class: "pd-project" });
    this.progress = h("div", { class: "pd-progress" });
    this.status = h("div", { class: "pd-status", role: "status", "aria-live": "polite" });
    this.plain = button("Plain text", run.plain, {
      key: "p",
      kind: "pd-quiet",
      role: "switch",
      "aria-checked": "false",
    });
    this.asked = button("Questions", run.questions, { key: "q", kind: "pd-quiet" });
    const doors = [
      button("Guidelines", run.guidelines, { key: "g", kind: "pd-quiet" }),
      button("My labels", run.mine, { key: "m", kind: "pd-quiet" }),
      this.asked,
      this.plain,
      button("Keys", run.help, { key: "?", kind: "pd-quiet" }),
    ];
    this.menu = menu(
      "pd-page-menu",
      h("summary", { class: "pd-button pd-quiet" }, "Menu"),
      h("nav", { class: "pd-doors", "aria-label": "Page" }, doors, h("div", { class: "pd-person" })),
    );
    this.el = h("header", { class: "pd-top" }, this.project, this.progress, this.status, this.menu);
    this.person(me);
  }

  person(me) {
    const pages =
      me.role === "admin" ? ["review", "explore", "admin"] : me.role === "reviewer" ? ["review", "explore"] : [];
    const links = pages.map((page) => h("a", { href: `${this.root}/${page}` }, page[0].toUpperCase() + page.slice(1)));
    this.menu
      .querySelector(".pd-person")
      .replaceChildren(
        h("span", { class: "pd-pseudonym", title: "Your pseudonym: what exports show" }, me.pseudonym),
        ...links,
        h("a", { href: `${this.root}/logout` }, "Sign out"),
      );
    this.unread(me.unread ?? 0);
  }

  unread(n) {
    this.asked.querySelector(".pd-count")?.remove();
    if (n > 0) this.asked.append(h("span", { class: "pd-count", "aria-label": `${n} new answers` }, String(n)));
  }

  projects(list, now) {
    const open = list.filter((project) => project.open || project.id === now);
    const name = list.find((project) => project.id === now)?.name ?? "";
    if (open.length < 2) return this.project.replaceChildren(h("strong", {}, name));
    const select = h(
      "select",
      { class: "pd-select", "aria-label": "Project", onchange: () => this.run.project(Number(select.value)) },
      open.map((project) => h("option", { value: project.id, selected: project.id === now }, project.name)),
    );
    return this.project.replaceChildren(select);
  }

  far(progress) {
    if (!progress) return this.progress.replaceChildren();
    const { done, quota, qualifying } = progress;
    const [n, of] = qualifying ? [qualifying.n, qualifying.of] : [done, quota];
    // In the round people count questions, the one before them included; at work, what they have done.
    const text = qualifying ? `question ${Math.min(n + 1, of)} of ${of}` : of ? `${n} of ${of}` : `${n} done`;
    const word = qualifying ? h("span", { class: "pd-on-wide" }, "Qualification: ") : null;
    const line = of ? h("div", { class: "pd-line", "aria-hidden": "true" }, h("span", {})) : null;
    if (line) line.firstChild.style.width = `${Math.min(100, (100 * n) / of)}%`;
    return this.progress.replaceChildren(h("span", {}, word, text), ...(line ? [line] : []));
  }

  say(sentence, kind) {
    this.status.className = `pd-status is-${kind}`;
    this.status.textContent = sentence;
  }
}
