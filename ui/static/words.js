// The words of a text, and what changed between two texts. Positions are Unicode code points, as the server counts them;
// JavaScript's own are UTF-16 units, in which an emoji is two.

/** How many code points the first `units` UTF-16 units of `text` are. */
export function toPoints(text, units) {
  let points = 0;
  for (let i = 0; i < units; points += 1) i += text.codePointAt(i) > 0xffff ? 2 : 1;
  return points;
}

/** The UTF-16 position of code point `points`. */
export function toUnits(text, points) {
  let units = 0;
  for (let i = 0; i < points && units < text.length; i += 1) units += text.codePointAt(units) > 0xffff ? 2 : 1;
  return units;
}

/** Words and punctuation marks as [start, end) in UTF-16 units; also where a language writes no spaces. */
export function words(text) {
  const found = [];
  if (globalThis.Intl?.Segmenter) {
    for (const { segment, index } of new Intl.Segmenter(undefined, { granularity: "word" }).segment(text)) {
      if (segment.trim() !== "") found.push([index, index + segment.length]);
    }
    return found;
  }
  for (const match of text.matchAll(/\S+/gu)) found.push([match.index, match.index + match[0].length]);
  return found;
}

/**
 * A word diff by the longest common subsequence. Above a million cells the middle is shown as replaced: a preview need
 * not be the shortest.
 * @returns {{kind: "same" | "added" | "deleted", text: string}[]}
 */
export function changes(before, after) {
  const a = before.match(/\s+|\S+/gu) ?? [];
  const b = after.match(/\s+|\S+/gu) ?? [];
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head += 1;
  let tail = 0;
  while (tail < a.length - head && tail < b.length - head && a.at(-1 - tail) === b.at(-1 - tail)) tail += 1;
  const found = [];
  const push = (kind, text) => {
    if (text === "") return;
    if (found.at(-1)?.kind === kind) found.at(-1).text += text;
    else found.push({ kind, text });
  };
  push("same", a.slice(0, head).join(""));
  middle(a.slice(head, a.length - tail), b.slice(head, b.length - tail), push);
  push("same", a.slice(a.length - tail).join(""));
  return found;
}

function middle(a, b, push) {
  if (a.length * b.length > 1_000_000) {
    push("deleted", a.join(""));
    push("added", b.join(""));
    return;
  }
  const wide = b.length + 1;
  const longest = new Uint16Array((a.length + 1) * wide);
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      longest[i * wide + j] =
        a[i] === b[j]
          ? longest[(i + 1) * wide + j + 1] + 1
          : Math.max(longest[(i + 1) * wide + j], longest[i * wide + j + 1]);
    }
  }
  let i = 0;
  let j = 0;
  while (i < a.length && j < b.length) {
    if (a[i] === b[j]) {
      push("same", a[i]);
      i += 1;
      j += 1;
    } else if (longest[(i + 1) * wide + j] >= longest[i * wide + j + 1]) {
      push("deleted", a[i++]);
    } else push("added", b[j++]);
  }
  push("deleted", a.slice(i).join(""));
  push("added", b.slice(j).join(""));
}
