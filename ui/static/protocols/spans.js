// Marked places with labels: {"spans": [{target, start, end, label}]}. Offsets are Unicode code points into the plain text,
// so the plain text is what is shown here, character for character.

import { button, h, icon, step } from "../dom.js";
import { digits } from "../keys.js";
import { toPoints, toUnits, words } from "../words.js";

const HUES = 8; // colours in label.css: pd-hue-0 ...

export function spans(task, view) {
  const labels = task.options.span_labels ?? [];
  const bodies = task.targets.map(() => h("div", { class: "pd-plain pd-spans" }));
  // Every place a cursor can stand: each word of each target, [target, start, end] in UTF-16 units.
  const places = task.targets.flatMap((target, t) => words(target.plain).map(([start, end]) => [t, start, end]));
  let marked = []; // {target, start, end, label} in UTF-16 units
  let cursor = -1; // the word at the cursor
  let anchor = -1; // where a selection by keys began
  let picked = null; // a selection by mouse or finger: {target, start, end}
  let focus = -1; // the marked place that delete removes

  // --- what is selected -------------------------------------------------------------------------------------------

  function selection() {
    if (picked) return picked;
    if (cursor < 0) return null;
    const [a, b] = [places[Math.min(anchor, cursor)], places[Math.max(anchor, cursor)]];
    return a[0] === b[0] ? { target: a[0], start: a[1], end: b[2] } : null;
  }

  function fromBrowser() {
    const found = getSelection();
    if (!found || found.rangeCount === 0 || found.isCollapsed) return null;
    const range = found.getRangeAt(0);
    const target = bodies.findIndex((body) => body.contains(range.startContainer));
    if (target < 0 || !bodies[target].contains(range.endContainer)) return null;
    const text = task.targets[target].plain;
    let start = offset(bodies[target], range.startContainer, range.startOffset);
    let end = offset(bodies[target], range.endContainer, range.endOffset);
    while (start < end && /\s/u.test(text[start])) start += 1; // a double click takes the space along
    while (end > start && /\s/u.test(text[end - 1])) end -= 1;
    return start < end ? { target, start, end } : null;
  }

  function onSelect() {
    if (!bodies[0].isConnected) return document.removeEventListener("selectionchange", onSelect);
    const found = fromBrowser();
    if (!found && !picked) return undefined;
    // A tap on a label collapses the selection on a phone before the click arrives: only a tap into the text means it.
    const into = bodies.some((body) => body.contains(getSelection()?.anchorNode ?? null));
    if (!found && !into) return undefined;
    picked = found;
    if (found) cursor = anchor = -1;
    hint();
    return undefined;
  }
  document.addEventListener("selectionchange", onSelect);

  // --- what changes -----------------------------------------------------------------------------------------------

  function mark(n) {
    const label = labels[n];
    const found = selection();
    if (label === undefined) return undefined;
    if (!found) return view.say("Select some text first: with the mouse, or with h, l and shift.");
    const same = marked.findIndex(
      (it) => it.target === found.target && it.start === found.start && it.end === found.end && it.label === label,
    );
    if (same >= 0) focus = same;
    else focus = marked.push({ ...found, label }) - 1;
    picked = null;
    getSelection()?.removeAllRanges();
    anchor = cursor;
    draw();
    view.change();
    return view.say(`${label}: “${textOf(marked[focus])}”`);
  }

  function remove(n) {
    if (n < 0 || n >= marked.length) return view.say("No marked place is chosen. [ and ] walk through them.");
    marked.splice(n, 1);
    focus = Math.min(n, marked.length - 1);
    draw();
    view.change();
    return undefined;
  }

  function walk(by, extend) {
    if (!places.length) return;
    picked = null;
    getSelection()?.removeAllRanges();
    let to = cursor < 0 ? 0 : step(cursor, by, places.length);
    if (extend && cursor >= 0 && places[to][0] !== places[anchor][0]) to = cursor; // a place lies in one response
    cursor = to;
    if (!extend || anchor < 0) anchor = cursor;
    under();
    draw();
    showCursor();
    const found = selection();
    if (found) view.tell(textOf(found));
  }

  /** The nearest word in the line above or below. */
  function line(by, extend) {
    if (cursor < 0) return walk(1, false);
    const boxes = places.map(rectOf);
    const here = boxes[cursor];
    const middle = (here.left + here.right) / 2;
    const beyond = boxes
      .map((box, i) => ({ i, box }))
      .filter(({ box }) => (by > 0 ? box.top > here.top + 4 : box.top < here.top - 4));
    if (!beyond.length) return undefined;
    const next = by > 0 ? Math.min(...beyond.map(({ box }) => box.top)) : Math.max(...beyond.map(({ box }) => box.top));
    const inLine = beyond.filter(({ box }) => Math.abs(box.top - next) < 4);
    const gap = ({ box }) => Math.abs((box.left + box.right) / 2 - middle);
    return walk(inLine.reduce((best, one) => (gap(one) < gap(best) ? one : best)).i - cursor, extend);
  }

  /** Delete means the marked place under the cursor, where there is one. */
  function under() {
    const [target, start] = places[cursor];
    const found = marked.findIndex((it) => it.target === target && it.start <= start && start < it.end);
    if (found >= 0) focus = found;
  }

  function choose(by) {
    if (!marked.length) return;
    focus = focus < 0 ? 0 : (focus + by + marked.length) % marked.length;
    draw();
    view.say(`${marked[focus].label}: “${textOf(marked[focus])}”`);
  }

  // --- what shows it ----------------------------------------------------------------------------------------------

  const textOf = (it) => task.targets[it.target].plain.slice(it.start, it.end);
  const hue = (label) => labels.indexOf(label) % HUES;

  function rectOf([target, start, end]) {
    const range = document.createRange();
    range.setStart(...point(bodies[target], start));
    range.setEnd(...point(bodies[target], end));
    return range.getBoundingClientRect();
  }

  function showCursor() {
    const node = document.querySelector(".pd-spans .is-cursor");
    if (node) view.revealNode(node);
  }

  function draw() {
    bodies.forEach((body, target) => body.replaceChildren(...runs(target)));
    list.replaceChildren(
      ...marked.map((it, i) => {
        const name = button(
          [h("span", { class: "pd-chip-label" }, it.label), h("span", { class: "pd-chip-text" }, textOf(it))],
          () => {
            focus = i;
            draw();
            const node = bodies[it.target].querySelector(".is-focus");
            if (node) view.revealNode(node);
          },
          { kind: "pd-chip-name" },
        );
        const drop = button(icon("close"), () => remove(i), {
          kind: "pd-chip-drop",
          "aria-label": `Remove ${it.label}: ${textOf(it)}`,
        });
        return h("li", { class: `pd-chip pd-hue-${hue(it.label)} ${i === focus ? "is-focus" : ""}` }, name, drop);
      }),
    );
    hint();
  }

  /** The text of a target, cut wherever a marked place or the cursor begins or ends. */
  function runs(target) {
    const text = task.targets[target].plain;
    const own = marked.map((it, i) => ({ ...it, i })).filter((it) => it.target === target);
    const lanes = lanesOf(own);
    const now = cursor >= 0 ? selection() : null;
    const held = now?.target === target ? now : null;
    const word = cursor >= 0 && places[cursor][0] === target ? places[cursor] : null;
    const cuts = new Set([0, text.length, ...own.flatMap((it) => [it.start, it.end])]);
    if (held) [held.start, held.end].forEach((cut) => cuts.add(cut));
    if (word) [word[1], word[2]].forEach((cut) => cuts.add(cut));
    const sorted = [...cuts].sort((a, b) => a - b);
    return sorted.slice(1).map((end, k) => {
      const start = sorted[k];
      const over = own.filter((it) => it.start <= start && end <= it.end);
      const classes = ["pd-run"];
      if (held && held.start <= start && end <= held.end) classes.push("is-selected");
      if (word && word[1] <= start && end <= word[2]) classes.push("is-cursor");
      if (over.some((it) => it.i === focus)) classes.push("is-focus");
      const node = h("span", { class: classes.join(" ") }, text.slice(start, end));
      if (over.length) paintRun(node, over, lanes);
      return node;
    });
  }

  /** One line under the text for each marked place, so that overlapping ones are all seen. */
  function paintRun(node, over, lanes) {
    node.classList.add("is-marked", `pd-hue-${hue(over.at(-1).label)}`);
    node.title = over.map((it) => it.label).join(", ");
    node.style.backgroundImage = over.map((it) => `linear-gradient(var(--pd-hue-${hue(it.label)}) 0 0)`).join(", ");
    node.style.backgroundPosition = over.map((it) => `0 calc(100% - ${lanes.get(it.i) * 4}px)`).join(", ");
  }

  const buttons = labels.map((label, n) => {
    const node = button([h("span", { class: "pd-swatch" }), label], () => mark(n), {
      key: n < 9 ? String(n + 1) : null,
      kind: `pd-label pd-hue-${n % HUES}`,
    });
    node.addEventListener("pointerdown", (event) => event.preventDefault()); // else the click would drop the selection
    return node;
  });
  const list = h("ul", { class: "pd-chips", "aria-label": "Marked places" });
  const note = h("span", { class: "pd-tally" });

  function hint() {
    const found = selection();
    const picks = h("strong", {}, found ? shorten(textOf(found)) : "");
    note.replaceChildren(
      ...(found
        ? ["Label for ", picks]
        : [marked.length ? `${marked.length} marked` : "Select text, then choose a label."]),
    );
    buttons.forEach((node) => node.classList.toggle("is-ready", Boolean(found)));
  }

  bodies.forEach((body, target) => {
    body.addEventListener("click", (event) => {
      if (fromBrowser()) return;
      const run = event.target instanceof Element ? event.target.closest(".is-marked") : null;
      if (!run) return;
      const start = offset(body, run.firstChild, 0);
      focus = marked.findLastIndex((it) => it.target === target && it.start <= start && start < it.end);
      draw();
    });
  });
  draw();

  const both = (plain, shifted, by, go, show, what) => [
    { keys: plain, show, does: `${what}; with shift: select on`, run: (event) => go(by, event.shiftKey) },
    { keys: shifted, run: () => go(by, true) },
  ];
  return {
    control: h(
      "div",
      { class: "pd-spans-bar" },
      list,
      h("div", { class: "pd-choices", role: "group", "aria-label": "Labels" }, buttons, note),
    ),
    draw: bodies.map((body) => () => body),
    keys: [
      ...(labels.length ? [digits(labels.length, "give the selection that label", (n) => mark(n - 1))] : []),
      ...both(["l", "ArrowRight"], ["L"], 1, walk, "l  →", "next word"),
      ...both(["h", "ArrowLeft"], ["H"], -1, walk, "h  ←", "previous word"),
      ...both(["j", "ArrowDown"], ["J"], 1, line, "j  ↓", "next line"),
      ...both(["k", "ArrowUp"], ["K"], -1, line, "k  ↑", "previous line"),
      { keys: ["]"], show: "]", does: "next marked place", run: () => choose(1) },
      { keys: ["["], show: "[", does: "previous marked place", run: () => choose(-1) },
      { keys: ["Delete", "Backspace", "x"], show: "delete", does: "remove the marked place", run: () => remove(focus) },
    ],
    instant: false,
    answer: () => ({ spans: marked.map((it) => toServer(it, task.targets[it.target].plain)) }),
    missing: () => null,
    unsure: () =>
      marked.length ? null : "Nothing is marked. Press Enter once more to submit that there is nothing to mark.",
    restore(answer) {
      marked = (answer.spans ?? []).map((it) => {
        const text = task.targets[it.target].plain;
        return { ...it, start: toUnits(text, it.start), end: toUnits(text, it.end) };
      });
      draw();
    },
  };
}

const toServer = (it, text) => ({
  target: it.target,
  start: toPoints(text, it.start),
  end: toPoints(text, it.end),
  label: it.label,
});

const shorten = (text) => (text.length > 40 ? `“${text.slice(0, 38)}…”` : `“${text}”`);

/** The UTF-16 position in `body` of a place that the browser names by node and offset. */
function offset(body, node, at) {
  const range = document.createRange();
  range.selectNodeContents(body);
  range.setEnd(node, at);
  return range.toString().length;
}

/** The reverse: [text node, offset]. */
function point(body, units) {
  let left = units;
  for (const run of body.childNodes) {
    const length = run.textContent.length;
    if (left <= length && run.firstChild) return [run.firstChild, left];
    left -= length;
  }
  return [body, body.childNodes.length];
}

/** The lowest free line for each place, so that no two overlapping ones share one. */
function lanesOf(own) {
  const lanes = new Map();
  for (const it of [...own].sort((a, b) => a.start - b.start)) {
    const taken = own
      .filter((other) => lanes.has(other.i) && other.start < it.end && it.start < other.end)
      .map((other) => lanes.get(other.i));
    let lane = 0;
    while (taken.includes(lane)) lane += 1;
    lanes.set(it.i, lane);
  }
  return lanes;
}
