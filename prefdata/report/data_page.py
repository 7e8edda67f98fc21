"""The sections of the page about the data themselves: separability, duplicates and leaks, cycles, difficulty."""

from __future__ import annotations

from prefdata.report.charts import bars
from prefdata.report.hardness import SIGNED
from prefdata.report.markup import Child, Html, join, tag
from prefdata.report.numbers import Entry
from prefdata.report.parts import DASH, brief, count, key_facts, meter, more, name, number, plural, spread, table
from prefdata.report.reading import percent
from prefdata.report.separability import NOTABLE, SEPARABLE

MOST_LINES = 15

_PROBES = (
    ("text", "the words of the response"),
    ("embedding", "the stored vector of the response"),
    ("surface", "length and layout only"),
    ("model", "the name of its model only"),
)

_KINDS = {"source": "prompts from", "chosen_by": "chosen response by", "models": ""}


def separability(found: Entry | None) -> Html | None:
    """What tells chosen from rejected, without the question."""
    if found is None:
        return None
    rows = []
    for key, words in _PROBES:
        if found[key] is not None:
            at = found[key]["auc"]
            level = "bad" if at["value"] > SEPARABLE else "mixed" if at["value"] >= NOTABLE else "good"
            rows.append((words, at["value"], at["low"], at["high"], level))
    said = [tag("p", tag("b", tag("bdi", sentence))) for sentence in found["warnings"]]
    if not said:
        said = [tag("p", "None of these tells them apart well: there is no plain mark to learn.")]
    words = (
        f"Area under the ROC: how often a chosen response scores above a rejected one of any prompt; 0.5 (dotted) is "
        f"chance, 1 a mark on every response. From {plural(found['pairs'], 'pair')} of "
        f"{plural(found['prompts'], 'prompt')}, five folds by prompt."
    )
    parts: list[list[Child]] = [
        [
            join(f"{_KINDS[one['kind']]} ", name(one["name"])),
            count(one["pairs"]),
            *(DASH if one[probe] is None else number(one[probe]["value"]) for probe in ("text", "surface")),
        ]
        for one in found["parts"]
    ]
    features: list[list[Child]] = [
        [one["name"], number(one["auc"]), _more_of(one["auc"])]
        for one in sorted(found["features"], key=lambda one: -abs((one["auc"] or 0.5) - 0.5))
    ]
    heads = ["feature", "area", "the chosen one has"]
    return join(
        said,
        tag("figure", tag("figcaption", words, class_="soft small"), meter(rows), class_="card"),
        more(
            "By source and model",
            table(
                "The same probes on parts of the pairs", ["part", "pairs", "words", "surface"], parts, numeric=(1, 2, 3)
            ),
        )
        if parts
        else None,
        more("Each mark by itself", table("One feature alone, 0.5 is chance", heads, features, numeric=(1,))),
    )


def _more_of(auc: float | None) -> str:
    if auc is None or abs(auc - 0.5) < 0.02:
        return "as much"
    return "more" if auc > 0.5 else "less"


def duplicates(found: Entry) -> Html:
    """Copies, leaks and conflicts, each as a fact with its counts."""
    facts: list[tuple[str, Child, Child]] = []
    exact, near, leaks = found["prompts"]["repeated"], found["near"], found["leaks"]
    facts.append(("prompts with a copy", *_fact(exact, "prompt")))
    if near is not None:
        facts.append(("prompts with a near copy", *_fact(near["repeated"], "prompt")))
    facts.append(("responses repeated under one prompt", *_fact(found["responses"]["repeated"], "response")))
    if found["pairs"] is not None:
        facts.append(("pairs stated again", *_fact(found["pairs"]["repeated"], "pair")))
        facts.append(("pairs labelled both ways round", *_fact(found["conflicts"]["opposite"], "pair")))
        facts.append(("pairs of equal texts", *_fact(found["pairs"]["same_text"], "pair")))
    if leaks is not None:
        facts.append(("held-out prompts trained on", *_fact(leaks["exact"], "held-out prompt")))
        if leaks["near"] is not None:
            facts.append(("held-out prompts with a near copy trained on", *_fact(leaks["near"], "held-out prompt")))
    if found["contamination"] is not None:
        facts.append(("texts that are protected", *_fact(found["contamination"]["hits"], "text")))
    missing = []
    if leaks is None:
        missing.append("Leaks are not known: no step has split the prompts.")
    if found["contamination"] is None:
        missing.append("Contamination is not known: nothing was held against protected texts.")
    if near is None:
        missing.append("Near copies are not known: there are too many prompts to look here, and no labels of a step.")
    return join(
        key_facts(facts),
        _protected(found["contamination"]),
        tag("p", " ".join(missing), class_="soft small") if missing else None,
        _examples(found),
    )


def _fact(found: Entry, of: str) -> tuple[Child, Child]:
    shown = DASH if found["share"] is None else count(found["part"])
    level = "bad" if found["part"] else "good"
    return tag("span", shown, class_=f"fact-{level}"), f"of {plural(found['n'], of)}" if found[
        "n"
    ] else "nothing to count"


def _protected(found: Entry | None) -> Html | None:
    """Whose texts occur, and what to do."""
    if found is None or not found["sources"]:
        return None
    named: list[Child] = []
    for one in found["sources"]:
        named += [", " if named else None, tag("bdi", one["name"] or DASH), f" ({one['n']:,})"]
    step = tag("code", "select.threshold")
    return tag(
        "p", "Texts of ", named, " occur here; ", step, " drops them by the measure contamination.", class_="small"
    )


def _examples(found: Entry) -> Html | None:
    rows: list[list[Child]] = []
    for one in found["prompts"]["examples"]:
        rows.append(["copies of a prompt", tag("bdi", one["text"] or DASH), count(one["n"])])
    for text in (found["leaks"] or {"examples": []})["examples"]:
        rows.append(["held out and trained on", tag("bdi", text or DASH), DASH])
    for one in (found["contamination"] or {"examples": []})["examples"]:
        what = join("also in ", tag("bdi", one["source"] or DASH))
        rows.append([what, tag("bdi", one["text"] or DASH), DASH])
    for one in (found["conflicts"] or {"examples": []})["examples"]:
        sides = join(
            tag("div", tag("bdi", one["prompt"] or DASH), class_="soft"),
            tag("div", tag("bdi", one["one"] or DASH)),
            tag("div", tag("bdi", one["other"] or DASH)),
        )
        rows.append(["both ways round", sides, count(one["n"])])
    if not rows:
        return None
    return more("Examples", table("Beginnings of the texts", ["what", "text", "times"], rows, numeric=(2,)))


def cycles(found: Entry) -> Html | None:
    """Cyclic triads, and what the ratings leave unexplained."""
    if not found["by"] and not found["majority"] and not found.get("flow"):
        return None
    rows: list[list[Child]] = [
        ["the majority of all", name(one["aspect"]), spread(one["triads"], "triad", half=False), count(one["prompts"])]
        for one in found["majority"] or []
    ]
    rows += [
        [name(one["name"]), name(one["aspect"]), spread(one["triads"], "triad", half=False), count(one["prompts"])]
        for one in found["by"] or []
    ]
    caption = (
        "Triads are three responses of one prompt of which every two are in an order; cyclic: A over B, B over C, C "
        "over A. Of random orders 25% are. Triads of one prompt depend on one another, so the intervals are too narrow."
    )
    heads = ["whose orders", "aspect", "cyclic triads", "prompts"]
    made: list[Child] = []
    if rows:
        made.append(table(caption, heads, rows[:MOST_LINES], numeric=(3,)))
        if len(rows) > MOST_LINES:
            made.append(more(f"{len(rows) - MOST_LINES} more", table(caption, heads, rows[MOST_LINES:], numeric=(3,))))
    made += [_flow(one) for one in found.get("flow") or []]
    return join(made)


def _flow(one: Entry) -> Html:
    """HodgeRank: what no order explains."""
    kind = "prompt" if one["of"] == "responses" else "set of prompts"
    rows: list[list[Child]] = [
        [
            tag("bdi", DASH if e["name"] is None else e["name"]),
            count(e["n"]),
            percent(e["cyclicity"]),
            "under 0.001" if e["p_value"] < 0.001 else number(e["p_value"], 3),
        ]
        for e in one["by"][:MOST_LINES]
    ]
    found, expected = one["significant"], 0.05 * one["tested"]
    verdict = "has" if found == 1 else "have"
    said = (
        f"{one['aspect']}: of {plural(one['tested'], kind)} {found:,} {verdict} more cycles among {one['of']} than "
        f"noise would make (p under 0.05; by chance alone about {expected:.1f} would)."
    )
    caption = (
        f"HodgeRank: the share of what the verdicts say that no order of the {one['of']} explains, noise included."
    )
    made = table(caption, [kind, "verdicts", "cyclic share", "p-value"], rows, numeric=(1, 2, 3))
    return join(tag("p", tag("bdi", said)), more("Each of them", made))


def difficulty(found: list[Entry] | None) -> Html | None:
    """The measures of pairs as histograms."""
    if not found:
        return None
    figures = []
    for one in found[:8]:
        at = one["quantiles"]
        summary = f"median {brief(at['median'])}, the highest twentieth from {brief(at['q95'])}"
        if one["aspect"] in SIGNED:
            summary += f"; {one['positive']:,} of {one['n']:,} above 0"
        chart = tag("div", bars(one["histogram"], unit=False), role="img", aria_label=f"{one['aspect']}: {summary}")
        caption = tag("figcaption", tag("b", one["aspect"]), " ", name(one["annotator"]))
        figures.append(tag("figure", caption, chart, tag("div", summary, class_="soft small"), class_="card"))
    return tag("div", figures, class_="charts")


def card(found: Entry) -> Html:
    """The figures of a dataset's card."""
    rate = found["refusals"]["labelled"] or found["refusals"]["opening"]
    how = "labelled so" if found["refusals"]["labelled"] else "begin like one, in English"
    facts: list[tuple[str, Child, Child]] = [
        ("prompts", count(found["prompts"]), f"{plural(found['groups'], 'group')}"),
        ("responses", count(found["responses"]), None),
        ("annotators", count(found["annotators"]), _per(found["rows_per_annotator"])),
        ("ties", percent(found["ties"]["share"]), f"of {plural(found['ties']['n'], 'verdict')}"),
        (
            "the longer one chosen",
            percent(found["longer_chosen"]["share"]),
            f"of {plural(found['longer_chosen']['n'], 'pair')} of different length",
        ),
        ("refusals", percent(rate["share"]), f"of {plural(rate['n'], 'response')} {how}"),
    ]
    made: list[Child] = [key_facts(facts)]
    rows: list[list[Child]] = [
        [
            name(one["source"]),
            count(one["prompts"]),
            count(one["pairs"]),
            DASH if one["accuracy"] is None else spread(one["accuracy"], "pair"),
        ]
        for one in found["sources"]
    ]
    judge = next((one["judge"] for one in found["sources"] if one["judge"]), None)
    last = f"{judge} agrees with the reference" if judge else "a judge's agreement"
    made.append(table("Where the prompts come from", ["source", "prompts", "pairs", last], rows, numeric=(1, 2)))
    turns: list[list[Child]] = [
        [number(one["value"], 0) if "value" in one else f"{one['low']:.0f} to {one['high']:.0f}", count(one["n"])]
        for one in found["turns"] or []
    ]
    couples: list[list[Child]] = [[join(name(e["a"]), " and ", name(e["b"])), count(e["n"])] for e in found["couples"]]
    languages: list[list[Child]] = [[name(e["label"]), count(e["n"])] for e in found["languages"] or []]
    for title, head, lines in (
        ("Turns of the user", "turns", turns),
        ("Models that meet in pairs", "models", couples),
        ("Languages", "language", languages),
    ):
        if lines:
            made.append(more(title, table(title, [head, "rows"], lines, numeric=(1,))))
    return join(made)


def _per(found: Entry | None) -> str | None:
    return None if found is None else f"{found['median']:,.0f} judgements each (median; {found['max']:,.0f} at most)"
