"""The report as one self-contained HTML page: nothing is fetched when it is opened, and nothing runs."""

from __future__ import annotations

from prefdata.report import able_page, boards_page, data_page, judges_page, sections, whom
from prefdata.report.markup import Child, Html, join, tag
from prefdata.report.numbers import Entry
from prefdata.report.overview import link, overview
from prefdata.report.parts import count, money, name, plural
from prefdata.report.style import CSS

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""No network, no script, no frame: the page is text and style, whatever stands in it."""


def page(found: Entry) -> str:
    """The page of an analysis.

    Args:
        found: what `prefdata.report.analyse` returns.
    """
    title = f"{found['dataset']['name']}: report"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", title),
        tag("style", Html(CSS)),
    )
    body = tag("body", _header(found), tag("main", _main(found)), _footer(found))
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _header(found: Entry) -> Html:
    about = found["dataset"]
    when = f", {about['time'][:10]}" if about["time"] else ""
    parts = [f"commit {about['commit']}{when}"]
    if about["pipelines"]:
        parts.append(f"pipeline{'s' if len(about['pipelines']) > 1 else ''} {', '.join(about['pipelines'])}")
    if about["pipeline"]:
        parts.append(f"only what {about['pipeline']} made, beside imports and labels")
    line = tag("p", tag("bdi", " · ".join(parts)), class_="soft")
    return tag("header", tag("h1", tag("bdi", about["name"])), line, _headline(found))


def _headline(found: Entry) -> Html:
    tables, spent = found["flow"]["tables"], found["cost"]["total"]
    people = (
        len({e["name"] for e in found["annotators"]}) + (found["annotators_rest"] or {"annotators": 0})["annotators"]
    )
    used = f"{count(spent['tokens'])} tokens, {money(spent['money'])}"
    numbers = [
        ("prompts", count(tables["prompts"]["live"]), None),
        ("responses", count(tables["responses"]["live"]), plural(len(_models(found)), "model")),
        ("judgements", count(tables["annotations"]["live"]), plural(people, "annotator")),
        ("pairs", count(found["pairs"]["n"]), f"and {plural(found['pairs']['ties'], 'tie')}"),
        ("model calls", count(spent["calls"]), used if spent["calls"] else None),
    ]
    made = [
        tag(
            "div",
            tag("dt", label),
            tag("dd", tag("span", value, class_="big"), tag("div", note, class_="soft small") if note else None),
        )
        for label, value, note in numbers
    ]
    return tag("dl", made, class_="headline")


def _models(found: Entry) -> set[str | None]:
    return {entry["model"] for entry in found["flow"]["responses"]["by_model"] if entry["live"]}


def _main(found: Entry) -> Html:
    tables = found["flow"]["tables"]
    if not any(at["live"] or at["came_in"] for at in tables.values()):
        return tag(
            "div",
            tag("p", tag("b", "This dataset is empty.")),
            tag(
                "p",
                "Nothing was imported and no pipeline has made anything yet. Bring rows in with ",
                tag("code", "prefdata import"),
                " or make some with ",
                tag("code", "prefdata run"),
                "; then write this report again.",
            ),
            class_="empty",
        )
    return join(overview(found), _contents(), *_of_annotators(found), *_of_data(found), *_of_rows(found))


CHAPTERS = (
    ("Whom to believe", "judges"),
    ("Which model wins", "leaderboard"),
    ("What is wrong with the data", "separability"),
    ("Where it all came from", "flow"),
    ("Pairs to look at", "examples"),
)


def _contents() -> Html:
    return tag("nav", [link(anchor, title) for title, anchor in CHAPTERS], class_="contents", aria_label="Chapters")


def _of_annotators(found: Entry) -> list[Html | None]:
    return [
        _section(
            "judges",
            "Which judge to use",
            "Each judge held against the reference, beside the plainest rules and beside what it costs.",
            judges_page.judges(found["judges"], whom.reference_name(found["reference"])),
            "Nobody but people has judged a response.",
        ),
        _section(
            "annotators", "Whom to believe", _about_whom(found), whom.whom(found), "Nobody has judged a response."
        ),
        _section(
            "abilities",
            "How able each annotator is",
            None,
            able_page.abilities(found["abilities"]),
            "No pair was judged by two people or by two judges, and no step has fitted a model of the annotators.",
        ),
        _section(
            "bias",
            "Position and length",
            "How far a verdict depends on what it should not depend on.",
            able_page.bias(found["bias"]),
            "Nobody compared enough responses in a known order.",
        ),
        _section(
            "calibration",
            "Whether stated probabilities come true",
            None,
            able_page.calibration(found["calibration"]),
            "No annotator states probabilities or confidence on enough pairs that the reference orders.",
        ),
        _section(
            "scores",
            "How the scores lie",
            "A judge that gives one number to everything, or that always favours the response shown first, shows here.",
            _both(whom.distributions(found["annotators"]), able_page.scales(found["scores"])),
            "Nobody gives scores or probabilities.",
        ),
        _section(
            "agreement",
            "Who agrees with whom",
            "A comparison made in both orders counts once; where the two orders contradict each other it is a tie.",
            whom.agreement(found["agreement"], found["alpha"]),
            "No pair was judged by two annotators.",
        ),
        _section(
            "variation",
            "How far people differ on one pair",
            "Low agreement may be noise, and it may be taste: both look like this.",
            able_page.variation(found["variation"]),
            "No pair was judged by three annotators.",
        ),
    ]


def _of_data(found: Entry) -> list[Html | None]:
    return [
        _section(
            "leaderboard",
            "Which model wins",
            None,
            boards_page.boards(found["leaderboard"]),
            "No two models were compared.",
        ),
        _section(
            "separability",
            "Can the chosen side be told without reading the question?",
            "If it can, a model may learn the mark in place of the preference.",
            data_page.separability(found["separability"]),
            "There are too few pairs, or too few prompts, to train a probe on.",
        ),
        _section("duplicates", "Copies, leaks and contradictions", None, data_page.duplicates(found["duplicates"])),
        _section(
            "cycles",
            "Cycles",
            None,
            data_page.cycles(found["cycles"]),
            "Nobody compared three responses of one prompt pair by pair.",
        ),
        _section(
            "difficulty",
            "Difficulty and displacement",
            "Difficulty above 0: the reference model ranks the pair the wrong way round. The higher ches_ln, the more "
            "likely it is that training on the pair pushes the chosen response down as well.",
            data_page.difficulty(found["difficulty"]),
            "No step has measured the difficulty or the displacement of pairs.",
        ),
    ]


def _of_rows(found: Entry) -> list[Html | None]:
    return [
        _section("flow", "From what came in to pairs", None, sections.flow(found["flow"], found["pairs"])),
        _section(
            "sides", "The two sides of the pairs", None, sections.sides(found["pairs"]), "No preferences are live."
        ),
        _section("cost", "What it cost", None, sections.cost(found["cost"]), "No model was called for this dataset."),
        _section("card", "For the dataset's card", None, data_page.card(found["card"])),
        _section(
            "examples",
            "Pairs to look at",
            "The extremes tell most: look whether you would have chosen the same.",
            sections.examples(found["examples"]),
            "There are no pairs.",
        ),
    ]


def _both(first: Html | None, second: Html | None) -> Html | None:
    return None if first is None and second is None else join(first, second)


def _section(anchor: str, title: str, lead: str | None, content: Html | None, nothing: str = "") -> Html:
    """A section; where there is nothing to show, a line that says why."""
    if content is None:
        return tag("section", tag("h2", title), tag("p", nothing, class_="soft"), class_="nothing", id=anchor)
    return tag("section", tag("h2", title), tag("p", lead, class_="soft") if lead else None, content, id=anchor)


def _about_whom(found: Entry) -> str:
    against = found["reference"]
    if not against["annotators"]:
        named = against["pattern"]
        why = "no annotator is a person, and none was named" if named is None else f"no annotator is called {named}"
        return (
            f"Nobody stands as a reference here: {why}. Habits show all the same; for agreement, label some pairs or "
            "name a reference annotator."
        )
    who = against["names"][0] if against["annotators"] == 1 else f"{against['annotators']:,} annotators"
    left_out = " Each of them is held against the others." if against["annotators"] > 1 else ""
    return (
        f"Held against {who}, on the {against['pairs']:,} pairs that this reference orders.{left_out} An annotator is "
        'worth asking only if it does better than the plain rule "the longer one is better" on the same pairs.'
    )


def _footer(found: Entry) -> Html:
    about, limits = found["dataset"], found["thresholds"]
    notes: list[Child] = [tag("li", note) for note in found["limits"]["notes"]]
    steps = [
        tag(
            "li",
            name(entry["step"]),
            f" {entry['kind']}",
            f", {entry['pipeline']}" if entry["pipeline"] else None,
        )
        for entry in about["steps"]
    ]
    words = (
        f"Readings use these thresholds: a share is put into words from {limits['least']} pairs on, and from "
        f"{limits['least_reference']} for the reference. An annotator answers by position where its two orders agree "
        f"in under {100 * limits['by_position']:.0f}% of the pairs that it decides in both, and is steady from "
        f"{100 * limits['steady']:.0f}%. It leans to a side where the share is {100 * limits['leaning']:.0f} points "
        f"off one half, and to a length from {100 * limits['longer']:.0f}% (no fault where the reference is within "
        f"{100 * limits['like_reference']:.0f} points), and the 95% interval excludes one half. It is better than "
        "chance, or than the longer one, where that interval lies above one half."
    )
    versions = about["versions"]
    return tag(
        "footer",
        tag("h2", "How to read this"),
        tag("ul", notes, class_="notes") if notes else None,
        tag("p", words),
        tag(
            "p",
            "Intervals are Wilson's for shares and a bootstrap over prompts for kappa, both 95%; where judges are "
            "chosen, a bootstrap for shares too. Lengths are in characters. Where nothing could be counted there is a "
            "dash, never a zero.",
        ),
        tag("details", tag("summary", f"The {plural(len(steps), 'live step')}, in order"), tag("ol", steps))
        if steps
        else None,
        tag(
            "p",
            f"Made by prefdata {versions['prefdata'] or '(not installed)'}; tables of version {versions['tables']}.",
        ),
    )
