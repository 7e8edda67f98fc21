"""What the explore page shows, as HTML. Texts of the dataset are hostile: `tag` or `markup` escapes all of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from prefdata.report.markup import Html, join, tag
from prefdata.schema import Row

from ..explorer.explore import Found
from ..explorer.groups import Group
from ..rendering.difference import difference
from ..rendering.markup import excerpt, markdown, plain, turns

LONGEST = 100_000
"""Characters of one response that are shown."""


def results(found: Found, size: int, state: dict[str, Any]) -> str:
    """A page of what was found, one button for each prompt, below how much there is and how new it is."""
    if not found.rows:
        return _place(found, size, state) + tag(
            "p", "Nothing was found. Fewer conditions find more.", class_="px-empty"
        )
    rows = []
    for row in found.rows:
        words = excerpt(row["excerpt"] or "", 160) or "(no text)"
        facts = [
            _count(row["responses"], "response"),
            _count(row["annotations"], "annotation"),
            *([row["source"]] if row["source"] else []),
            *(row["tags"] or ())[:4],
        ]
        hidden = None if row["state"] == "live" else badge(row["state"])
        shown = [tag("span", words, class_="px-words", dir="auto"), tag("span", " · ".join(facts), class_="px-facts")]
        button = tag("button", *shown, hidden, type="button", class_="px-result", data_group=row["group_id"])
        rows.append(tag("li", button))
    return _place(found, size, state) + tag("ol", rows, class_="px-results", start=found.page * size + 1)


def _place(found: Found, size: int, state: dict[str, Any]) -> Html:
    pages = max(1, -(-found.total // size))
    words = f"{found.total:,} prompts" if found.total != 1 else "1 prompt"
    said = [f"{words} · page {found.page + 1:,} of {pages:,} · commit {found.commit}"]
    if state["newest"] != found.commit:
        said.append(f"; commit {state['newest']} is being read" if state["making"] else "; newer rows follow shortly")
    if state["failure"]:
        said.append(f" ({state['failure']})")
    return tag("p", said, class_="px-place", role="status")


def notice(sentence: str) -> str:
    """A sentence that says what did not work."""
    return tag("p", sentence[:1].upper() + sentence[1:], class_="px-notice", role="alert")


def badge(state: str) -> Html:
    """A word on a coloured ground."""
    return tag("span", state, class_=f"px-badge px-{state if state.isalpha() else 'other'}")


def whole(group: Group, pair: tuple[str, str] | None = None, laid_out: bool = True) -> str:
    """Everything about one prompt.

    Args:
        group: which.
        pair: the names of two responses whose differences are marked, and which alone are shown then.
        laid_out: show Markdown as such; else as plain text.
    """
    said = _said(group)
    answered: dict[str, list[Row]] = {row["prompt_id"]: [] for row in group.prompts}
    for row in group.responses:
        answered.setdefault(row["prompt_id"], []).append(row)
    called = {row["prompt_id"]: row for row in group.prompts}
    pieces: list[Html | None] = []
    if pair is not None and set(pair) <= {row["name"] for row in group.responses}:
        pieces.append(_pair(group, pair, said))
    else:
        for prompt_id, rows in answered.items():
            shown = _prompt(called[prompt_id], laid_out) if prompt_id in called else None
            pieces += [shown, _cards([(row, _text(row["text"] or "", laid_out)) for row in rows], said)]
    lost = [f"{row['response_id'][:8]} (call {row['call_id']})" for row in group.failed]
    pieces.append(tag("p", "Could not be made: ", ", ".join(lost), class_="px-facts") if lost else None)
    last = (_annotations(group), _preferences(group), _drops(group), _lineage(group))
    return tag("article", pieces, last, class_="px-group", data_group=group.group_id)


def _prompt(row: Row, laid_out: bool) -> Html:
    facts = [row["source"], *(row["tags"] or ())]
    head = tag(
        "header", tag("h2", "Prompt"), _hidden(row), [tag("span", fact, class_="px-chip") for fact in facts if fact]
    )
    shown: list[Html] = []
    if row["condition"] and row["condition"]["text"]:
        shown.append(_turn(str(row["condition"]["kind"] or "condition"), row["condition"]["text"], laid_out))
    for passage in row["context"] or ():
        shown.append(_turn(f"passage {passage['label'] or passage['doc_id'] or ''}", passage["text"] or "", laid_out))
    for turn in turns(row["messages"] or ()):
        body = Html(turn["html"]) if laid_out else Html(plain(turn["plain"]))
        shown.append(tag("div", tag("span", turn["role"], class_="px-role"), body, class_="px-turn", dir="auto"))
    for known in row["references"] or ():
        shown.append(_turn("known good answer", known, laid_out))
    media = [one["uri"] for one in row["media"] or ()]
    return tag("section", head, shown, tag("p", "media: ", ", ".join(media)) if media else None, class_="px-prompt")


def _turn(role: str, text: str, laid_out: bool) -> Html:
    return tag("div", tag("span", role, class_="px-role"), _text(text, laid_out), class_="px-turn", dir="auto")


def _text(text: str, laid_out: bool) -> Html:
    cut = text[:LONGEST]
    shown = Html(markdown(cut) if laid_out else plain(cut))
    return join(shown, tag("p", f"… and {len(text) - LONGEST:,} characters more") if len(text) > LONGEST else None)


def _pair(group: Group, pair: tuple[str, str], said: dict[str, list[str]]) -> Html | None:
    of = {row["name"]: row for row in group.responses}
    sides = difference(*((of[name]["text"] or "")[:LONGEST] for name in pair))
    marked = [tag("div", Html(side), class_="markup-plain px-diff") for side in sides]
    return _cards([(of[name], side) for name, side in zip(pair, marked, strict=True)], said)


def _cards(shown: Sequence[tuple[Row, Html]], said: dict[str, list[str]]) -> Html | None:
    """Responses side by side."""
    if not shown:
        return None
    cards = []
    for row, body in shown:
        tokens = f"{row['n_tokens']:,} tokens" if row["n_tokens"] is not None else None
        facts = [row["model"], tokens, row["finish_reason"]]
        head = tag(
            "header",
            tag("span", row["name"], class_="px-name"),
            tag("span", " · ".join(fact for fact in facts if fact), class_="px-facts"),
            _hidden(row),
        )
        text = tag(
            "div", body, class_="px-text", dir="auto", tabindex=0, role="group", aria_label=f"response {row['name']}"
        )
        chips = [tag("span", one, class_="px-chip") for one in said.get(row["name"], ())[:12]]
        cards.append(
            tag("section", head, text, tag("p", chips, class_="px-chips") if chips else None, class_="px-card")
        )
    return tag("section", tag("h2", _count(len(cards), "response")), tag("div", cards, class_="px-cards"))


def _said(group: Group) -> dict[str, list[str]]:
    """What live annotations with scores say of each response, short."""
    made: dict[str, list[str]] = {}
    for row in group.annotations:
        if row["state"] == "live" and row["status"] == "ok" and row["scores"]:
            for name, score in row["targets"]:
                made.setdefault(name, []).append(f"{row['aspect']} {_number(score)} ({row['annotator']})")
    return made


def _hidden(row: Row) -> Html | None:
    if row["state"] == "live":
        return None
    why = f"{row['reason']} · {_short(row['drop_step'])}" if row["state"] == "dropped" else "with what was dropped"
    return join(badge(row["state"]), tag("span", why, class_="px-why"))


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _count(n: int, word: str) -> str:
    return f"{n:,} {word}" if n == 1 else f"{n:,} {word}s"


def _short(step: str | None) -> str:
    name, at, digest = (step or "").rpartition("@")
    return f"{name}@{digest[:6]}" if at else step or ""


def _table(title: str, names: Sequence[str], rows: Iterable[Sequence[Any]], hidden: Sequence[bool] = ()) -> Html | None:
    body = []
    for number, row in enumerate(rows):
        faded = "px-faded" if number < len(hidden) and hidden[number] else None
        cells = (tag("td", cell, data_label=name, dir="auto") for name, cell in zip(names, row, strict=True))
        body.append(tag("tr", cells, class_=faded))
    if not body:
        return None
    head = tag("thead", tag("tr", (tag("th", name, scope="col") for name in names)))
    return tag("section", tag("h2", title), tag("div", tag("table", head, tag("tbody", body)), class_="px-scroll"))


def _verdict(row: Row) -> str:
    if row["status"] != "ok":
        return str(row["status"])
    said = []
    if row["scores"]:
        best = sorted(row["targets"], key=lambda one: -(one[1] if one[1] is not None else float("-inf")))
        if row["protocol"] in ("compare", "rank", "choose"):
            signs = [" = " if a[1] == b[1] else " > " for a, b in pairwise(best)]
            names = [_named(name) for name, _ in best]
            said.append("".join(name + sign for name, sign in zip(names, [*signs, ""], strict=True)))
            said.append(f"({', '.join(_number(score) for _, score in best)})")
        else:
            said.append(", ".join(f"{_named(name)} {_number(score)}" for name, score in row["targets"]))
    else:
        said.append(", ".join(_named(name) for name, _ in row["targets"]))
    said += row["labels"] or []
    if row["strength"] is not None:
        said.append(f"strength {_number(row['strength'])}")
    if row["confidence"] is not None:
        said.append(f"confidence {_number(row['confidence'])}")
    return " ".join(said)


def _named(name: str) -> str:
    return name if len(name) < 4 else f"{name[:8]}…"


def _annotations(group: Group) -> Html | None:
    names = ("annotator", "aspect", "protocol", "verdict", "rationale", "when", "")
    rows = []
    for row in group.annotations:
        when = row["created_at"].strftime("%Y-%m-%d %H:%M") if row["created_at"] else ""
        took = f" ({row['seconds']:.0f} s)" if row["seconds"] is not None else ""
        revised = f"revision {row['revision']}" if (row["revision"] or 1) > 1 else None
        note = join(_hidden(row), revised)
        text = tag("div", row["text"][:5000], class_="px-rationale") if row["text"] else ""
        verdict = _verdict(row)
        rows.append((row["annotator"], row["aspect"], row["protocol"], verdict, text, when + took, note))
    hidden = [row["state"] != "live" for row in group.annotations]
    return _table(_count(len(rows), "annotation"), names, rows, hidden)


def _preferences(group: Group) -> Html | None:
    names = ("best first", "scores", "kind", "aspect", "rests on", "step", "")
    rows = [
        (
            ", ".join(_named(name) for name in row["names"]),
            ", ".join(_number(score) for score in row["scores"] or ()),
            row["kind"],
            row["aspect"],
            _count(len(row["annotation_ids"] or ()), "annotation"),
            _short(row["step"]),
            _hidden(row),
        )
        for row in group.preferences
    ]
    hidden = [row["state"] != "live" for row in group.preferences]
    return _table(_count(len(rows), "preference"), names, rows, hidden)


def _drops(group: Group) -> Html | None:
    called = {row["response_id"]: f"response {row['name']}" for row in group.responses}
    rows = [
        (
            called.get(row["id"], f"{row['table']} {row['id'][:8]}…"),
            "brought back" if row["restore"] else "dropped",
            row["reason"],
            _short(row["step"]),
            row["view"],
        )
        for row in group.drops
    ]
    return _table("Drops", ("what", "", "reason", "by", "view"), rows)


def _lineage(group: Group) -> Html:
    parents = _parents(group)
    params = [tag("li", f"{row['name']}: {row['params']}") for row in group.responses if row["params"]]
    ids = [tag("li", f"{row['name']}: {row['response_id']}") for row in group.responses]
    named = tag(
        "details", tag("summary", "Ids and parameters"), tag("p", f"group {group.group_id}"), tag("ul", ids, params)
    )
    return tag(
        "section",
        tag("h2", "Where it comes from"),
        _steps(group),
        tag("ul", parents) if parents else None,
        _calls(group),
        named,
        class_="px-lineage",
    )


def _steps(group: Group) -> list[Html]:
    every = [*group.prompts, *group.responses, *group.annotations, *group.preferences]
    made = Counter(row["step"] for row in every)
    return [
        tag(
            "details",
            tag(
                "summary",
                _short(step),
                tag("span", f" {known['kind']} · {_count(made[step], 'row')} here", class_="px-facts"),
            ),
            tag("p", "reads ", ", ".join(_short(one) for one in known["inputs"])) if known["inputs"] else None,
            tag("pre", json.dumps(known["fields"], indent=1, ensure_ascii=False, default=str)[:20_000]),
        )
        for step, known in sorted(group.steps.items())
    ]


def _parents(group: Group) -> list[Html]:
    names = {row["response_id"]: row["name"] for row in group.responses}
    words = {"parent_id": "made from", "prefix_id": "going on from"}
    made = [
        tag("li", f"response {row['name']} is {word} {names.get(row[key], row[key])}")
        for row in group.responses
        for key, word in words.items()
        if row[key]
    ]
    return made + [
        tag("li", f"prompt {row['prompt_id'][:8]}… comes from {row['parent_id'][:8]}…")
        for row in group.prompts
        if row["parent_id"]
    ]


def _calls(group: Group) -> Html | None:
    rows = [
        (
            one["call_id"],
            one["model"],
            f"{one['prompt_tokens'] or 0:,} + {one['completion_tokens'] or 0:,}",
            "" if one["money"] is None else f"{one['money']:.6f}",
            "" if one["seconds"] is None else f"{one['seconds']:.1f}",
            "from the cache" if one["cached"] else one["error"] or "",
        )
        for one in group.calls.values()
    ]
    return _table("Calls", ("call", "model", "tokens in + out", "USD", "seconds", ""), rows)
