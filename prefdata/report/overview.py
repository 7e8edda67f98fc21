"""The top of the page: whom to believe and what is wrong with the data, in a few sentences."""

from __future__ import annotations

from prefdata.report.boards_page import lead
from prefdata.report.markup import Child, Html, join, tag
from prefdata.report.numbers import Entry
from prefdata.report.parts import more, plural
from prefdata.report.problems import LOW_ALPHA, people_alone
from prefdata.report.reading import THRESHOLDS, percent

MOST_FOUND = 6

GOOD_ALPHA, FAIR_ALPHA = 0.667, LOW_ALPHA
"""Krippendorff takes 0.667 for the least that tentative conclusions can rest on."""

_ENOUGH = THRESHOLDS.least_reference

_WORDS = {"bad": "wrong", "mixed": "look at"}

_ADVICE = {"good": "use it", "mixed": "with care", "bad": "use none", "unknown": "not settled"}


def overview(found: Entry) -> Html:
    """Two cards side by side, and what could not be looked at."""
    return tag("div", _believe(found), _wrong(found["problems"]), class_="overview")


def link(anchor: str, *children: Child) -> Html:
    """A link within the page; it leads nowhere else."""
    return tag("a", *children, href=f"#{anchor}")


def _believe(found: Entry) -> Html:
    advice = found["judges"]["advice"]
    lines: list[Child] = []
    for one in advice[:2]:
        about = f" by {one['reference_aspect']}" if len(advice) > 1 and one["reference_aspect"] else ""
        badge = tag("span", _ADVICE[one["level"]], class_=f"badge {one['level']}")
        lines.append(tag("li", badge, tag("div", tag("bdi", one["sentences"][0], about))))
    lines += _people(found)
    if not lines:
        lines.append(tag("li", tag("div", "Nobody has judged a response.", class_="soft")))
    anchor = "judges" if advice else "annotators"
    made: list[Child] = [tag("h2", link(anchor, "Whom to believe")), tag("ul", lines)]
    if found["leaderboard"]:
        first = found["leaderboard"][0]
        by = tag("bdi", f" ({first['aspect']}, by {first['by']})")
        made += [tag("h2", link("leaderboard", "Which model wins")), tag("p", lead(first), by, class_="wins")]
    return tag("section", made, class_="card")


def _people(found: Entry) -> list[Child]:
    """How far people agree among themselves, in one line for each aspect, and how the busiest of them do."""
    lines: list[Child] = []
    alphas = people_alone(found)
    for one in alphas[:2]:
        at = one["alpha"]
        level = "good" if at >= GOOD_ALPHA else "mixed" if at >= FAIR_ALPHA else "bad"
        word = {"good": "agree", "mixed": "partly agree", "bad": "hardly agree"}[level]
        about = f" on {one['aspect']}" if len(alphas) > 1 else ""
        on = plural(one["pairs"], "pair")
        said = f"{one['annotators']:,} people {word}{about}: alpha {at:.2f} on {on} (0 is chance, 1 is full agreement)."
        badge = tag("span", word, class_=f"badge {level}")
        lines.append(tag("li", badge, tag("div", tag("bdi", said))))
    able = found["abilities"]["majority"]
    shares = sorted(e["share"] for e in (able or {"by": []})["by"] if e["source"] == "human" and e["n"] >= _ENOUGH)
    if alphas and len(shares) > 3:
        said = (
            f"The {len(shares)} busiest agree with the majority of the others in {percent(shares[0])} to "
            f"{percent(shares[-1])} of their pairs, half of them in {percent(shares[len(shares) // 2])} or more."
        )
        lines.append(
            tag("li", tag("span", "range", class_="badge unknown"), tag("div", said, " ", link("abilities", "more")))
        )
    return lines


def _wrong(problems: Entry) -> Html:
    found = problems["found"]
    made = [
        tag(
            "li",
            tag("span", _WORDS[one["level"]], class_=f"badge {one['level']}"),
            tag("div", tag("bdi", one["sentence"]), " ", link(one["about"], "more")),
        )
        for one in found
    ]
    shown: list[Child] = [tag("ul", made[:MOST_FOUND])] if made else []
    if len(made) > MOST_FOUND:
        shown.append(more(f"{len(made) - MOST_FOUND} more", tag("ul", made[MOST_FOUND:])))
    if not made:
        fine = "Nothing stands out." if problems["checked"] else "Nothing could be looked at."
        shown.append(tag("p", tag("span", "clear", class_="badge good") if problems["checked"] else None, " ", fine))
    checked = f"Looked at: {', '.join(problems['checked'])}." if problems["checked"] else ""
    unknown = [tag("li", tag("bdi", one["sentence"])) for one in problems["unknown"]]
    rest = join(
        tag("p", checked, class_="soft small") if checked else None,
        tag("p", "Not known here:", class_="soft small") if unknown else None,
        tag("ul", unknown, class_="notes") if unknown else None,
    )
    title = f"{len(problems['checked'])} checks made" + (f", {len(unknown)} not possible" if unknown else "")
    return tag("section", tag("h2", "What is wrong with the data"), shown, more(title, rest), class_="card")
