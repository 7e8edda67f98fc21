"""The sections of the page about rows: their way through the dataset, the pairs, the cost, examples."""

from __future__ import annotations

from prefdata.report.markup import Child, Html, join, tag
from prefdata.report.numbers import Entry
from prefdata.report.parts import DASH, count, duration, interval, money, more, name, number, plural, table
from prefdata.report.reading import percent


def flow(found: Entry, pairs: Entry) -> Html:
    """What came in, what was dropped where and why, what is left."""
    cards = []
    for label in ("prompts", "responses", "annotations", "preferences"):
        drops = [
            (join(name(d["name"]), ": ", tag("bdi", d["reason"])), d["n"])
            for d in found["dropped"]
            if d["table"] == label
        ]
        cards.append(_stage(label, found["tables"][label], drops, _unusable(found) if label == "annotations" else None))
    cards.append(_pairs_stage(pairs, found["preferences"]))
    key = tag(
        "p",
        [tag("span", tag("i", class_=kind), words) for kind, words in _KEY],
        class_="key",
    )
    return join(key, tag("ol", cards, class_="flow"), _where_from(found))


_KEY = (
    ("live", "live"),
    ("dropped", "dropped, with a reason"),
    ("hidden", "hidden, because what it is about was dropped"),
)


def _unusable(found: Entry) -> str | None:
    """`11 unparsed, 2 refused, kept as such`: live judgements without a verdict."""
    counts: dict[str, int] = {}
    for entry in found["annotations"]:
        if entry["status"] != "ok" and entry["live"]:
            counts[entry["status"]] = counts.get(entry["status"], 0) + entry["live"]
    said = ", ".join(f"{n:,} {status}" for status, n in sorted(counts.items()))
    return f"{said}: kept, but no verdict" if said else None


def _stage(label: str, at: Entry, drops: list[tuple[Html, int]], remark: str | None) -> Html:
    came, live = at["came_in"], at["live"]
    lines: list[Child] = [tag("div", label.capitalize(), class_="soft small"), tag("div", count(live), class_="big")]
    if came:
        parts = [("live", live), ("dropped", at["dropped"]), ("hidden", at["hidden"])]
        widths = [tag("span", class_=kind, style=f"width:{100 * n / came:.2f}%") for kind, n in parts if n]
        said = ", ".join(f"{n:,} {kind}" for kind, n in parts[1:] if n) or "none dropped"
        lines += [tag("div", widths, class_="stack", aria_hidden="true")]
        lines += [tag("div", f"of {came:,} that came in; {said}", class_="soft small")]
    if remark:
        lines.append(tag("div", remark, class_="soft small"))
    if at["loose"]:
        lines.append(tag("div", f"{at['loose']:,} more rest on rows that are no longer live", class_="soft small"))
    if drops:
        rows = [tag("li", tag("span", why), tag("b", count(n))) for why, n in drops[:5]]
        left = sum(n for _, n in drops[5:])
        rows += [tag("li", tag("span", "other reasons"), tag("b", count(left)))] if left else []
        lines.append(tag("ul", rows, aria_label=f"why {label} were dropped"))
    return tag("li", lines)


def _pairs_stage(pairs: Entry, preferences: list[Entry]) -> Html:
    lists = sum(entry["lists"] for entry in preferences)
    lines: list[Child] = [tag("div", "Pairs", class_="soft small"), tag("div", count(pairs["n"]), class_="big")]
    if lists:
        ties = f", and {plural(pairs['ties'], 'tie')}" if pairs["ties"] else ""
        lines.append(
            tag("div", f"with a better and a worse side, from {plural(lists, 'preference')}{ties}", class_="soft small")
        )
    else:
        lines.append(tag("div", "no preferences are live: no step has made any", class_="soft small"))
    if pairs["longer_chosen"]["n"]:
        habit = pairs["longer_chosen"]
        shown = f"the chosen one is the longer in {percent(habit['share'])} of {habit['n']:,}"
        lines.append(tag("div", f"{shown} ({interval(habit['low'], habit['high'])})", class_="soft small"))
    return tag("li", lines)


def _where_from(found: Entry) -> Html:
    """The counts behind the picture."""
    heads = ["came in", "live"]
    sources = [[name(e["source"]), count(e["came_in"]), count(e["live"])] for e in found["prompts"]["by_source"]]
    tags = [[name(e["tag"]), count(e["came_in"]), count(e["live"])] for e in found["prompts"]["by_tag"]]
    models = [
        [name(e["model"]), name(e["finish_reason"]), count(e["came_in"]), count(e["live"])]
        for e in found["responses"]["by_model"]
    ]
    said = [
        [
            name(e["annotator"]) if e["annotator"] is not None else "all the others",
            name(e["name"]),
            e["protocol"],
            name(e["aspect"]),
            e["status"],
            count(e["came_in"]),
            count(e["live"]),
        ]
        for e in found["annotations"]
    ]
    lists = [
        [name(e["name"]), name(e["aspect"]), e["kind"], count(e["lists"]), count(e["pairs"]), count(e["ties"])]
        for e in found["preferences"]
    ]
    drops = [[name(e["name"]), e["table"], tag("bdi", e["reason"]), count(e["n"])] for e in found["dropped"]]
    made: list[Child] = []
    if drops:
        made.append(table("What was dropped, by step", ["step", "table", "reason", "rows"], drops, numeric=(3,)))
    if sources:
        made.append(table("Prompts by source", ["source", *heads], sources, numeric=(1, 2)))
    if tags:
        made.append(table("Prompts by tag", ["tag", *heads], tags, numeric=(1, 2)))
    if models:
        made.append(table("Responses by model", ["model", "ended with", *heads], models, numeric=(2, 3)))
    if said:
        columns = ["annotator", "step", "protocol", "aspect", "status", *heads]
        made.append(table("Annotations", columns, said, numeric=(5, 6)))
    if lists:
        columns = ["step", "aspect", "kind", "preferences", "pairs", "ties"]
        made.append(table("Preferences by step", columns, lists, numeric=(3, 4, 5)))
    return more("All counts: sources, tags, models, annotations, preferences", made) if made else join()


def sides(pairs: Entry) -> Html | None:
    """Whose responses win, and how long both sides are."""
    if not pairs["n"]:
        return None
    made: list[Child] = []
    if pairs["chosen"]:
        rows = []
        for label, key in (("chosen", "chosen"), ("rejected", "rejected"), ("chosen ÷ rejected", "ratio")):
            at = pairs[key]
            digits = 2 if key == "ratio" else 0
            cells = [number(at[q], digits) if at else DASH for q in ("q05", "q25", "median", "q75", "q95")]
            rows.append([label, *cells])
        heads = ["length in characters", "5%", "25%", "median", "75%", "95%"]
        made.append(table("How long both sides of the pairs are", heads, rows, numeric=(1, 2, 3, 4, 5)))
    rows = [
        [
            name(e["model"]),
            count(e["chosen"]),
            count(e["rejected"]),
            percent(e["chosen"] / (e["chosen"] + e["rejected"])),
        ]
        for e in pairs["models"]
    ]
    made.append(table("Whose responses win", ["model", "chosen", "rejected", "share chosen"], rows, numeric=(1, 2, 3)))
    return join(made)


def cost(found: Entry) -> Html | None:
    """Calls, tokens, money and seconds."""
    if not found["by"]:
        return None
    rows = [
        [join(name(e["name"]), None if e["live"] else tag("small", " (no longer live)", class_="soft")), *_spent(e)]
        for e in found["by"]
    ]
    total: list[Child] = ["total", *_spent({**found["total"], "model": ""})]
    heads = ["step", "model", "calls", "from a cache", "failed", "tokens in", "tokens out", "money", "model time"]
    caption = (
        "Calls that were made for this dataset, live or not. Tokens, money and time are of the calls that were paid."
    )
    return table(caption, heads, rows, numeric=tuple(range(2, 9)), total=total)


def _spent(entry: Entry) -> list[Child]:
    return [
        name(entry["model"]) if entry["model"] != "" else "",
        count(entry["calls"]),
        count(entry["cached"]),
        count(entry["failed"]),
        count(entry["prompt_tokens"]),
        count(entry["completion_tokens"]),
        money(entry["money"]),
        duration(entry["seconds"]),
    ]


_KINDS = {
    "largest_gap": "Far apart",
    "smallest_gap": "Close together",
    "tie": "Tied",
    "disagreement": "Annotators disagree",
    "hardest": "Hardest for the reference model",
    "displaced": "Most displaced",
}


def examples(found: list[Entry]) -> Html | None:
    """Pairs at the extremes, with what each annotator says of them."""
    made = []
    for entry in found:
        measured = "" if entry["kind"] in ("hardest", "displaced") else ", gap"  # there it is the measure itself
        gap = "" if entry["gap"] is None else f"{measured} {entry['gap']:.3g}"
        prompt = tag("div", entry["prompt"] if entry["prompt"] is not None else DASH, class_="quote", dir="auto")
        labels = ("First", "Second") if entry["kind"] in ("tie", "disagreement") else ("Better", "Worse")
        both = [_side(label, entry[side]) for label, side in zip(labels, ("first", "second"), strict=True)]
        made.append(
            tag(
                "article",
                tag("h3", _KINDS[entry["kind"]], tag("small", tag("bdi", f" {entry['aspect']}{gap}"), class_="soft")),
                tag("h4", "Prompt"),
                prompt,
                tag("div", both, class_="sides"),
                _says(entry["verdicts"], labels),
                class_="card example",
            )
        )
    return join(made) if made else None


def _says(verdicts: list[Entry], labels: tuple[str, str]) -> Html | None:
    """Who prefers which: `the better one: a, b; a tie: c`."""
    said: list[Child] = []
    for says, words in (
        ("first", f"the {labels[0].lower()} one"),
        ("second", f"the {labels[1].lower()} one"),
        ("tie", "a tie"),
    ):
        names = [name(verdict["annotator"]) for verdict in verdicts if verdict["says"] == says]
        if names:
            said += ["; " if said else "Verdicts: ", tag("b", words), ": "]
            said += [[", " if place else None, each] for place, each in enumerate(names)]
    return tag("p", said, class_="says") if said else None


def _side(label: str, side: Entry) -> Html:
    shown = side["text"] if side["text"] is not None else DASH
    return tag("div", tag("h4", f"{label} · ", name(side["model"])), tag("div", shown, class_="quote", dir="auto"))
