// The few functions with which the page draws. Text goes in by textContent; `rich` is the only door for markup, and
// only what the server sends in fields called html (sanitised there) may pass it.

const SVG = "http://www.w3.org/2000/svg";

const ICONS = {
  up: "M7 11v9H4a1 1 0 0 1-1-1v-7a1 1 0 0 1 1-1h3Zm0 0 4-8a2.5 2.5 0 0 1 2.5 2.5V9H19a2 2 0 0 1 2 2.3l-1.1 7A2 2 0 0 1 17.9 20H7",
  down: "M17 13V4h3a1 1 0 0 1 1 1v7a1 1 0 0 1-1 1h-3Zm0 0-4 8a2.5 2.5 0 0 1-2.5-2.5V15H5a2 2 0 0 1-2-2.3l1.1-7A2 2 0 0 1 6.1 4H17",
  grip: "M9 6h.01M15 6h.01M9 12h.01M15 12h.01M9 18h.01M15 18h.01",
  more: "M5 12h.01M12 12h.01M19 12h.01",
  close: "M6 6l12 12M18 6 6 18",
};

/** Makes an element. `on...` attributes are listeners; null, undefined and false leave an attribute out. */
export function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** A small drawing, hidden from screen readers: the words stand beside it. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", `pd-icon pd-icon-${name}`);
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** Markup that the server has sanitised. Links open beside the page, so that a click does not leave a half-made answer. */
export function rich(html) {
  const node = h("div", { class: "pd-rich", dir: "auto" });
  node.innerHTML = html;
  for (const link of node.querySelectorAll("a[href]")) {
    link.target = "_blank";
    link.rel = "noopener noreferrer nofollow";
  }
  return node;
}

/** A piece {html, plain} as markup, or as the characters that it is made of. */
export function piece(it, plain) {
  if (plain || it.html === null || it.html === undefined)
    return h("div", { class: "pd-plain", dir: "auto" }, it.plain ?? "");
  return rich(it.html);
}

/** The cap of a key, for eyes only: screen readers hear aria-keyshortcuts. */
export function cap(key) {
  return h("kbd", { "aria-hidden": "true" }, key);
}

/**
 * When the page last changed under the pointer: the second half of a double click is not meant for the new task.
 * Until when no finger does anything: its second tap is no double click for the browser.
 */
export const calm = { since: -Infinity, until: -Infinity };

export const DOUBLE = 600; // milliseconds

/**
 * Keeps fingers from these parts while it is calm: the second tap on "Go on" must not answer the next task. Of a mouse
 * the browser says which click is the second one, and `button` asks it; a double click on a word marks it.
 */
export function shield(...parts) {
  let kind = "mouse";
  const stop = (event) => {
    kind = event.pointerType || kind; // not every browser says it with a click
    const keyboard = event.type === "click" && event.detail === 0;
    if (event.timeStamp >= calm.until || keyboard || kind === "mouse") return;
    event.stopPropagation();
    event.preventDefault();
  };
  for (const part of parts) {
    for (const type of ["pointerdown", "mousedown", "click"]) part.addEventListener(type, stop, true);
  }
}

/** A button. After a click by mouse or finger the focus goes back to the page, so that the keys keep their meaning. */
export function button(label, run, { key = null, cap: shown = key, kind = "", ...rest } = {}) {
  const attributes = { type: "button", class: `pd-button ${kind}`, "aria-keyshortcuts": key, ...rest };
  const node = h("button", attributes, ...[label].flat(), shown ? cap(shown) : null);
  node.addEventListener("click", (event) => {
    if (event.detail > 1 && event.timeStamp - calm.since < DOUBLE) return;
    if (event.detail > 0) node.blur();
    run(event);
  });
  return node;
}

/** A button that is one choice of several (radio) or one of many (checkbox). */
export function option(label, run, { role = "radio", key = null, kind = "", name = null, ...rest } = {}) {
  return button(label, run, {
    key,
    kind: `pd-option ${kind}`,
    role,
    "aria-checked": "false",
    "aria-label": name,
    ...rest,
  });
}

export function check(node, on) {
  node.setAttribute("aria-checked", on ? "true" : "false");
  if (on && node.getAttribute("role") === "radio") rove(node);
}

/** A group of radios is one stop for the tab key: the chosen one, or the one that had the focus last. */
function rove(node) {
  const group = node.closest("[role=radiogroup]");
  for (const one of group?.querySelectorAll("[role=radio]") ?? []) one.tabIndex = one === node ? 0 : -1;
}

/** Arrow keys move the focus inside a group of radios; only space, enter or a click chooses. */
export function radios(name, options, attributes = {}) {
  const group = h("div", { role: "radiogroup", "aria-label": name, ...attributes }, options);
  rove(options[0]);
  group.addEventListener("focusin", (event) => options.includes(event.target) && rove(event.target));
  group.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const at = options.indexOf(document.activeElement);
    if (!step || at < 0) return;
    event.preventDefault();
    event.stopPropagation();
    options[(at + step + options.length) % options.length].focus();
  });
  return group;
}

/** The next or the previous row, but never past an end. */
export function step(at, by, count) {
  return Math.min(Math.max(at + by, 0), count - 1);
}

/** Brings what the cursor stands on into view, below the head and above the answer bar. */
export function reveal(node) {
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  node.scrollIntoView({ block: "nearest", behavior: calm ? "auto" : "smooth" });
}

export function clock(seconds) {
  const at = new Date(seconds * 1000);
  const today = new Date().toDateString() === at.toDateString();
  const time = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  return today ? time : `${at.toLocaleDateString()} ${time}`;
}

export const WIDE = matchMedia("(min-width: 900px)");

/** A row of buttons where the page is wide, a menu that opens where it is narrow: one element, one name for each door. */
export function menu(kind, summary, children) {
  const el = h("details", { class: `pd-menu ${kind}` }, summary, children);
  const set = () => {
    if (!el.isConnected && el.wasSeen) return WIDE.removeEventListener("change", set);
    return el.toggleAttribute("open", WIDE.matches);
  };
  const shut = () => !WIDE.matches && el.removeAttribute("open");
  el.addEventListener("click", (event) => event.target.closest("button, a") && shut());
  el.addEventListener("keydown", (event) => event.key === "Escape" && shut());
  el.addEventListener("toggle", () => (el.wasSeen = true));
  WIDE.addEventListener("change", set);
  set();
  return el;
}
