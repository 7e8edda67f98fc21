"""The section of the page about models: ratings with intervals, possible ranks, and who beats whom."""

from __future__ import annotations

from prefdata.report.markup import Child, Html, join, tag
from prefdata.report.numbers import Entry
from prefdata.report.parts import DASH, count, forest, more, name, plural, table
from prefdata.report.reading import percent
from prefdata.stats.logistic import sigmoid

MOST_LINES = 25

MOST_HEAT = 16
"""A table of all couples of more models cannot be read."""

_SHADES = 5


def boards(found: list[Entry] | None) -> Html | None:
    """Every board, the first two open."""
    if not found:
        return None
    made: list[Child] = []
    for place, one in enumerate(found):
        content = join(tag("p", lead(one), " ", basis(one)), _forest(one), _heat(one), _counts(one))
        title = f"{one['aspect']}, by {one['by']}"
        made.append(join(tag("h3", tag("bdi", title)), content) if place < 2 else more(title, content))
    return join(made)


def lead(one: Entry) -> Html:
    """Who may be the best."""
    top = [m for m in one["models"] if m["group"] == 0 and m["rank"][0] == 1]
    if one["groups"] > 1:
        said = f"The models fall into {one['groups']} groups that never met: compare them within a group only."
        return tag("b", said)
    names: list[Child] = [[", " if place else None, name(m["model"])] for place, m in enumerate(top[:4])]
    if len(top) == 1:
        return tag("b", names, " is the best beyond doubt.")
    if len(top) == len(one["models"]):
        return tag("b", f"Nothing settles which of the {len(top)} models is the best.")
    others = f" and {len(top) - 4} more" if len(top) > 4 else ""
    return tag("b", f"{len(top)} of {len(one['models'])} models may be the best: ", names, others, ".")


def basis(one: Entry) -> Html:
    """What a board rests on."""
    ties = f", {percent(one['ties']['share'])} of them ties (half a win each)" if one["ties"]["part"] else ""
    said = [
        f"{plural(one['games'], 'comparison')} by {plural(one['annotators'], 'annotator')} on "
        f"{plural(one['prompts'], 'prompt')}{ties}."
    ]
    if one["prior"]:
        said.append(
            f" Some model won or lost all its comparisons with others, so a prior of {one['prior']:g} comparison, half "
            "won and half lost, keeps the ratings finite."
        )
    return join(said)


def _forest(one: Entry) -> Html:
    rows = [
        (
            join(
                name(m["model"]),
                tag("span", f" group {m['group'] + 1}", class_="soft small") if one["groups"] > 1 else None,
            ),
            float(sigmoid(m["value"])),
            float(sigmoid(m["low"])),
            float(sigmoid(m["high"])),
            join(
                tag("b", percent(float(sigmoid(m["value"])))),
                " ",
                tag("span", _rank(m["rank"]), class_="soft small nowrap"),
            ),
        )
        for m in one["models"]
    ]
    words = (
        "How often each would win against an average model here (Bradley-Terry), with its 95% interval by prompts, and "
        "the ranks that are possible for all of them together. Dotted: 50%."
    )
    shown: list[Child] = [tag("figcaption", words, class_="soft small"), forest(rows[:MOST_LINES])]
    if len(rows) > MOST_LINES:
        shown.append(more(plural(len(rows) - MOST_LINES, "more model"), forest(rows[MOST_LINES:])))
    return tag("figure", shown, class_="card")


def _rank(ends: list[int]) -> str:
    return f"rank {ends[0]}" if ends[0] == ends[1] else f"rank {ends[0]}–{ends[1]}"


def _heat(one: Entry) -> Html | None:
    """Who beats whom."""
    models = one["models"][:MOST_HEAT]
    if len(models) < 3:
        return None
    n = len(one["models"])
    if 3 * len(one["couples"]) < n * (n - 1) / 2:
        words = (
            f"Only {len(one['couples']):,} of {n * (n - 1) // 2:,} couples of models met: too few for a table of wins."
        )
        return tag("p", words, class_="soft small")
    cells: dict[tuple[int, int], tuple[float, int]] = {}
    for couple in one["couples"]:
        cells[couple["a"], couple["b"]] = (couple["share"], couple["n"])
        cells[couple["b"], couple["a"]] = (1 - couple["share"], couple["n"])
    rows = []
    for i, model in enumerate(models):
        line: list[Child] = [join(tag("span", f"{i + 1} ", class_="soft"), name(model["model"]))]
        line += [_cell(cells.get((i, j)), i == j) for j in range(len(models))]
        rows.append(line)
    heads = ["wins of … over", *(str(j + 1) for j in range(len(models)))]
    more_of = f"; the first {MOST_HEAT}" if len(one["models"]) > MOST_HEAT else ""
    caption = f"How often the model of the row beats that of the column, ties half{more_of}. A dot: they never met."
    return tag("div", table(caption, heads, rows, numeric=tuple(range(1, len(models) + 1))), class_="heat")


def _cell(found: tuple[float, int] | None, same: bool) -> Html:
    if same:
        return tag("span", class_="heat-none")
    if found is None:
        return tag("span", "·", class_="heat-none", title="never met")
    share, n = found
    # The shade says how far from one half, a share of few comparisons no more than that.
    step = max(-_SHADES, min(_SHADES, round((share - 0.5) * 2 * _SHADES)))
    side = "up" if step > 0 else "down" if step < 0 else "even"
    return tag("span", percent(share), class_=f"heat-{side}-{abs(step)}", title=plural(n, "comparison"))


def _counts(one: Entry) -> Html:
    rows: list[list[Child]] = [
        [name(m["model"]), count(m["games"]), percent(m["win"]), _logits(m), _rank(m["rank"]), _alone(m)]
        for m in one["models"]
    ]
    heads = ["model", "comparisons", "won, ties half", "logits", "rank", ""]
    notes = (
        f" {plural(one['same_model'], 'comparison')} of two responses by one model are not counted."
        if one["same_model"]
        else ""
    )
    return more(
        "The figures", table(f"Ratings in logits, mean 0, with 95% intervals.{notes}", heads, rows, numeric=(1, 2, 3))
    )


def _logits(m: Entry) -> str:
    return f"{m['value']:.2f} ({m['low']:.2f} to {m['high']:.2f})".replace("-", "−")


def _alone(m: Entry) -> str:
    return "rests on the prior" if m["undecided"] else DASH
