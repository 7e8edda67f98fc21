"""What the arena page shows, as HTML: what models wrote is laid out by `markup.py` or escaped, never taken as it is."""

from __future__ import annotations

from functools import lru_cache

from prefdata.report.markup import Html, join, tag
from prefdata.report.parts import plural

from ..arena.battles import SHOWN, Pane, Seen
from ..arena.leaderboard import Board, Standing
from ..rendering.markup import markdown, plain

INTRO = tag(
    "div",
    tag("h1", "Arena"),
    tag(
        "p",
        "Write a prompt. Two models answer; which ones you learn after your vote. Your prompt, both answers and your "
        "vote become part of the dataset.",
    ),
    class_="ar ar-intro",
)

_VERDICTS = {"a": "You voted for the left answer.", "b": "You voted for the right answer.", "tie": "You voted: a tie.",
             "both_bad": "You voted: both are bad."}  # fmt: skip


@lru_cache(maxsize=64)
def _laid_out(text: str) -> Html:
    return Html(markdown(text))


def asked(now: Seen) -> str:
    """What was asked, above the answers."""
    heading = tag("h2", "You asked", class_="ar-small")
    return tag("div", heading, tag("div", Html(plain(now.prompt)), class_="ar-asked"), class_="ar")


def sides(now: Seen) -> tuple[str, str]:
    """Both answers."""
    names = now.models or (None, None)
    left, right = (
        _pane(pane, side, name) for pane, side, name in zip(now.panes, ("Left", "Right"), names, strict=True)
    )
    return left, right


def _pane(pane: Pane, side: str, model: str | None) -> Html:
    title = tag("h2", f"{side} answer") if model is None else tag("h2", tag("span", f"{side}: "), tag("bdi", model))
    if pane.failed:
        body = tag("p", "This model gave no answer.", class_="ar-soft")
    elif pane.done and not pane.text.strip():
        body = tag("p", "The answer is empty.", class_="ar-soft")
    elif pane.done:
        body = _laid_out(pane.text)
    else:
        cursor = tag("span", class_="ar-cursor", aria_hidden="true")
        body = join(Html(plain(pane.text)) if pane.text else None, cursor)
    cut = tag("p", f"Only the first {SHOWN:,} characters are shown.", class_="ar-soft") if pane.cut else None
    state = "done" if pane.done else "running"
    return tag(
        "section",
        title,
        tag("div", body, cut, class_="ar-text", tabindex="0", role="group", aria_label=f"{side} answer"),
        class_=f"ar ar-pane ar-{state}" + (" ar-known" if model is not None else ""),
        aria_busy="false" if pane.done else "true",
    )


def said(now: Seen | None) -> str:
    """Where the battle stands, in a sentence."""
    words = ""
    if now is not None and now.state == "running":
        words = "Both models are writing …" if not any(pane.done for pane in now.panes) else "One is still writing …"
    elif now is not None and now.state == "ready":
        words = "Which answer is better?"
    elif now is not None:
        words = _VERDICTS[str(now.choice)]
        if now.left_out:
            words += f" It is kept, but does not count on the leaderboard: {now.left_out}."
    return tag("p", words, class_="ar ar-said", role="status", aria_live="polite")


def board(found: Board) -> str:
    """The leaderboard."""
    title = tag("h2", "Leaderboard")
    if not found.standings:
        return tag("section", title, tag("p", "No vote counts yet.", class_="ar-empty"), class_="ar ar-board")
    low, high = min(one.low for one in found.standings), max(one.high for one in found.standings)
    heads = [tag("th", name, scope="col", class_=kind) for name, kind in _HEADS]
    rows = [_row(one, low, high) for one in found.standings]
    table = tag("table", tag("thead", tag("tr", heads)), tag("tbody", rows))
    return tag(
        "section",
        title,
        tag("div", table, class_="ar-scroll", tabindex="0", role="group", aria_label="Leaderboard"),
        tag("p", _notes(found), class_="ar-soft ar-small"),
        _met(found),
        class_="ar ar-board",
    )


_HEADS = (("Rank", "num"), ("Model", None), ("Rating (95 %)", None), ("Battles", "num"), ("Won", "num"),
          ("Tied", "num"), ("Lost", "num"))  # fmt: skip


def _row(one: Standing, low: float, high: float) -> Html:
    span = max(high - low, 1e-9)
    start, end, at = (100 * (value - low) / span for value in (one.low, one.high, one.rating))
    bar = tag(
        "span",
        tag("b", style=f"left:{start:.1f}%;width:{end - start:.1f}%"),
        tag("i", style=f"left:{at:.1f}%"),
        class_="ar-range",
        aria_hidden="true",
    )
    rating = tag("strong", f"{one.rating:.0f}"), tag("span", f"{one.low:.0f} to {one.high:.0f}", class_="ar-soft")
    counts = [tag("td", f"{count:,}", class_="num") for count in (one.games, one.wins, one.ties, one.losses)]
    name = tag("th", tag("bdi", one.model), scope="row")
    return tag(
        "tr", tag("td", one.rank, class_="num"), name, tag("td", tag("span", rating, class_="ar-rating"), bar), counts
    )


def _notes(found: Board) -> str:
    words = f"{plural(found.games, 'vote')}"
    if found.left_out:
        words += f"; {found.left_out:,} more do not count (an answer failed, was empty, or named its own model)"
    if found.left_share is not None:
        words += f". The left answer won {100 * found.left_share:.0f} % of the votes with a winner"
    words += (
        ". Bradley-Terry on the Elo scale: 400 points are odds of ten to one; ties and both bad are half a win each"
    )
    if not found.exact:
        words += ". Some model has won or lost all its battles: each is counted one more game against an average model"
    return f"{words}. Models of one rank cannot be told apart yet."


def _met(found: Board) -> Html:
    """Who beat whom how often."""
    names = [one.model for one in found.standings]
    head = tag("tr", tag("th", "beats", scope="col"), [tag("th", tag("bdi", name), scope="col") for name in names])
    rows = [
        tag("tr", tag("th", tag("bdi", one), scope="row"), [_cell(found, one, two) for two in names]) for one in names
    ]
    table = tag("div", tag("table", tag("thead", head), tag("tbody", rows)), class_="ar-scroll")
    return tag("details", tag("summary", "Who beat whom"), table)


def _cell(found: Board, one: str, other: str) -> Html:
    met = found.wins.get((one, other))
    words = "–" if met is None else f"{100 * met[0]:.0f} % of {met[1]:,}"
    return tag("td", words, class_="num")
