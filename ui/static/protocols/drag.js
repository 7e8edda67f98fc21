// Dragging rows of the ranking with pointer events, so that mouse, pen and finger work alike. Nothing moves in the list
// while a row is dragged: a line shows where it would land, a frame shows a tie.

import { h } from "../dom.js";

const SLACK = 6; // pixels before a press becomes a drag

export function draggable(board, { ranked, rest, rows, ties, tiers, place }) {
  const line = h("div", { class: "pd-drop-line", hidden: true });
  board.append(line);

  for (const row of rows) {
    row.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || event.target.closest("button")) return;
      if (event.pointerType === "touch" && !event.target.closest(".pd-grip")) return; // elsewhere a finger scrolls
      follow(row, event);
    });
  }

  function follow(row, press) {
    const target = Number(row.dataset.target);
    let landing = null;
    let dragging = false;
    row.setPointerCapture(press.pointerId);

    const moved = (event) => {
      if (!dragging && Math.hypot(event.clientX - press.clientX, event.clientY - press.clientY) < SLACK) return;
      if (!dragging) {
        dragging = true;
        row.classList.add("is-dragged");
      }
      event.preventDefault();
      row.style.transform = `translate(${event.clientX - press.clientX}px, ${event.clientY - press.clientY + (scrollY - startScroll)}px)`;
      edge(event.clientY);
      landing = where(event, target);
      paint(landing);
    };
    const startScroll = scrollY;
    const done = (event) => {
      row.removeEventListener("pointermove", moved);
      row.removeEventListener("pointerup", done);
      row.removeEventListener("pointercancel", done);
      row.classList.remove("is-dragged");
      row.style.transform = "";
      paint(null);
      if (!dragging) return;
      row.dragged = true; // the click that follows a drag is none
      setTimeout(() => (row.dragged = false), 50);
      if (event.type === "pointerup" && landing) place(target, landing.index, landing.tied);
    };
    row.addEventListener("pointermove", moved);
    row.addEventListener("pointerup", done);
    row.addEventListener("pointercancel", done);
  }

  /** Near the window's edge the page scrolls along. */
  function edge(y) {
    if (y < 90) scrollBy(0, -12);
    else if (y > innerHeight - 110) scrollBy(0, 12);
  }

  /** The landing under the pointer: {index: null} not ranked; {index} a new tier before that one; {index, tied, row} a tie. */
  function where(event, target) {
    const y = event.clientY;
    if (y > rest.getBoundingClientRect().top - 18) return { index: null };
    const list = tiers().map((tier) => tier.filter((i) => i !== target)); // indices as `place` counts them
    for (let index = 0; index < list.length; index += 1) {
      const members = list[index];
      for (const i of members) {
        const box = rows[i].getBoundingClientRect();
        const part = (y - box.top) / box.height;
        if (part > 1) continue;
        const first = i === members[0];
        const last = i === members.at(-1);
        if (ties && !(first && part < 0.3) && !(last && part > 0.7)) return { index, tied: true, row: rows[i] };
        return part < 0.5 && first ? { index, top: box.top } : { index: index + 1, top: box.bottom };
      }
    }
    const shown = list.flat().map((i) => rows[i].getBoundingClientRect().bottom);
    return { index: list.length, top: shown.at(-1) ?? ranked.getBoundingClientRect().top + 6 };
  }

  function paint(landing) {
    for (const row of rows) row.classList.toggle("is-tie-target", landing?.row === row);
    rest.classList.toggle("is-drop", landing?.index === null);
    line.hidden = !landing || landing.top === undefined;
    if (!line.hidden) line.style.top = `${landing.top - board.getBoundingClientRect().top - 3}px`;
  }
}
