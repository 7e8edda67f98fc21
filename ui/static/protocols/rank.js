// A ranking, with ties and partly if the set allows it: {"ranks": [r | null per target]}, 1 the best, equal numbers tie.

import { button, check, h, icon, option, radios, step } from "../dom.js";
import { digits, upDown } from "../keys.js";
import { draggable } from "./drag.js";

/** Ranks without gaps: 2, 2, 5 becomes 1, 1, 2. */
export function dense(ranks) {
  const order = [...new Set(ranks.filter((rank) => rank !== null))].sort((a, b) => a - b);
  return ranks.map((rank) => (rank === null ? null : order.indexOf(rank) + 1));
}

export function rank(task, view) {
  const names = task.targets.map((target) => target.name);
  const count = names.length;
  const ties = task.options.ties !== false;
  const need = task.options.top ?? count;
  let ranks = new Array(count).fill(null);
  let at = 0;

  // --- what changes a ranking -------------------------------------------------------------------------------------

  function tiers() {
    const found = new Map();
    ranks.forEach((rank, i) => rank !== null && found.set(rank, [...(found.get(rank) ?? []), i]));
    return [...found.entries()].sort((a, b) => a[0] - b[0]).map(([, members]) => members);
  }

  function fromTiers(list) {
    ranks = new Array(count).fill(null);
    list.filter((tier) => tier.length).forEach((tier, rank) => tier.forEach((i) => (ranks[i] = rank + 1)));
    changed();
  }

  function give(i, rank) {
    if (!ties && rank !== null) ranks = ranks.map((other, j) => (j !== i && other === rank ? null : other));
    ranks[i] = rank;
    changed();
  }

  /** Takes response i out of the tiers; then `place` puts it where it belongs: a tier's index, or a tie with that tier. */
  function place(i, index, tied) {
    const list = tiers().map((tier) => tier.filter((one) => one !== i));
    if (index === null) return fromTiers(list);
    if (tied && ties) list[index].push(i);
    else list.splice(index, 0, [i]);
    fromTiers(list);
  }

  function shift(i, by) {
    const list = tiers();
    const from = list.findIndex((tier) => tier.includes(i));
    if (from < 0) return by < 0 ? place(i, list.length, false) : undefined;
    if (list[from].length > 1) return place(i, by < 0 ? from : from + 1, false);
    const to = from + by;
    if (to < 0) return undefined;
    if (to >= list.length) return need < count ? place(i, null) : undefined;
    [list[from], list[to]] = [list[to], list[from]];
    return fromTiers(list);
  }

  function tie(i) {
    if (!ties) return view.say("This set allows no ties.");
    const list = tiers();
    const from = list.findIndex((tier) => tier.includes(i));
    if (from > 0) return place(i, from - 1, true);
    if (from < 0 && list.length) return place(i, list.length - 1, true);
    return view.say("There is nothing above to tie with.");
  }

  // --- what shows it ----------------------------------------------------------------------------------------------

  const rows = names.map((name, i) => {
    const place = h("span", { class: "pd-rank-place" });
    const up = button("↑", () => shift(i, -1), { kind: "pd-mini", "aria-label": `Move ${name} up` });
    const down = button("↓", () => shift(i, 1), { kind: "pd-mini", "aria-label": `Move ${name} down` });
    const row = h(
      "div",
      { class: "pd-rank-row", role: "listitem", "data-target": i },
      h("span", { class: "pd-grip" }, icon("grip")),
      place,
      h("strong", {}, name),
      h("span", { class: "pd-excerpt" }, task.targets[i].plain.slice(0, 120)),
      up,
      down,
    );
    row.place = place;
    row.addEventListener("click", () => {
      if (row.dragged) return;
      at = i;
      paint();
      view.reveal(i);
    });
    return row;
  });
  const ranked = h("div", { class: "pd-ranked", role: "list", "aria-label": "Ranked, the best first" });
  const rest = h("div", { class: "pd-unranked", role: "list", "aria-label": "Not ranked" });
  const tally = h("span", { class: "pd-tally" });
  const board = h(
    "div",
    { class: "pd-board" },
    h("h2", { class: "pd-panel-title" }, "Ranking ", h("small", {}, "best first")),
    ranked,
    h("h2", { class: "pd-panel-title" }, "Not ranked"),
    rest,
  );
  view.panel.append(board);
  draggable(board, { ranked, rest, rows, ties, tiers, place });

  const picks = view.cards.map((card, i) => {
    const buttons = Array.from({ length: Math.min(count, 9) }, (_, r) =>
      option(String(r + 1), () => give(i, ranks[i] === r + 1 ? null : r + 1), {
        kind: "pd-mini",
        name: `${names[i]}: rank ${r + 1}`,
      }),
    );
    card.foot.append(
      h("span", { class: "pd-foot-word" }, "Rank"),
      radios(`Rank of ${names[i]}`, buttons, { class: "pd-rank-picks" }),
    );
    return buttons;
  });

  function paint() {
    const shown = new Set();
    const flat = tiers().flatMap((tier) => tier.map((i) => ({ i, tied: tier.length > 1 })));
    flat.forEach(({ i, tied }) => {
      shown.add(i);
      rows[i].place.textContent = ranks[i];
      rows[i].classList.toggle("is-tied", tied);
    });
    const open = names.map((_, i) => i).filter((i) => !shown.has(i));
    open.forEach((i) => {
      rows[i].place.textContent = "–";
      rows[i].classList.remove("is-tied");
    });
    ranked.replaceChildren(
      ...flat.map(({ i }) => rows[i]),
      ...(flat.length ? [] : [h("p", { class: "pd-hint" }, "Drag the best response here, or type its rank.")]),
    );
    rest.replaceChildren(
      ...open.map((i) => rows[i]),
      ...(open.length
        ? []
        : [
            h(
              "p",
              { class: "pd-hint" },
              need < count ? "Everything is ranked. Drag here what should not be." : "Everything is ranked.",
            ),
          ]),
    );
    rows.forEach((row, i) => {
      row.classList.toggle("is-at", i === at);
      row.setAttribute("aria-current", i === at ? "true" : "false");
      view.cards[i].el.classList.toggle("is-at", i === at);
      view.cards[i].badge.textContent = ranks[i] ?? "";
      picks[i].forEach((node, r) => check(node, ranks[i] === r + 1));
    });
    tally.textContent =
      need < count ? `${flat.length} ranked, at least ${need} needed` : `${flat.length} of ${count} ranked`;
  }

  const said = (i) => `${names[i]}: ${ranks[i] === null ? "not ranked" : `rank ${ranks[i]}`}`;

  function changed() {
    paint();
    view.tell(names.map((_, i) => said(i)).join(", "));
    view.change();
  }

  function move(by) {
    at = step(at, by, count);
    paint();
    view.reveal(at);
    view.tell(said(at));
  }

  paint();
  return {
    control: tally,
    keys: [
      digits(count, "give the response at the cursor that rank; move on", (n) => {
        const i = at;
        at = step(at, 1, count);
        give(i, n);
        view.reveal(at);
      }),
      ...upDown("response", move),
      ...(ties ? [{ keys: ["=", "t"], show: "=  t", does: "tie with the one above", run: () => tie(at) }] : []),
      { keys: ["["], show: "[", does: "move the response up", run: () => shift(at, -1) },
      { keys: ["]"], show: "]", does: "move the response down", run: () => shift(at, 1) },
      { keys: ["0", "Backspace"], show: "0", does: "take the response out of the ranking", run: () => place(at, null) },
    ],
    instant: false,
    answer: () => (ranks.some((rank) => rank !== null) ? { ranks: dense(ranks) } : {}),
    missing() {
      const done = ranks.filter((rank) => rank !== null).length;
      if (done >= need) return null;
      const open = names.filter((_, i) => ranks[i] === null);
      return need < count ? `Rank at least the best ${need}: ${done} so far.` : `Not ranked yet: ${open.join(", ")}.`;
    },
    restore(answer) {
      if (answer.ranks) ranks = [...answer.ranks];
      paint();
    },
  };
}
