"""Hostile text as HTML that is safe to show: laid out on the server, without JavaScript or network.

Two locks. The first stage writes only tags of its own: Markdown with raw HTML off, formulas by `formulas`, code by
Pygments; links and images become text. The second, nh3, parses the result as a browser does and lets through a list of
tags, attributes and attribute values. No text of the input stands in an attribute.
"""

from __future__ import annotations

import html
import json
import re
import threading
import time
from collections import OrderedDict
from collections.abc import MutableMapping, Sequence
from functools import lru_cache
from typing import Any

import nh3
from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.renderer import RendererHTML
from markdown_it.ruler import RuleOptionsType
from markdown_it.rules_block import StateBlock
from markdown_it.rules_core import StateCore
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from markdown_it.utils import OptionsDict

from prefdata.schema import Row

from . import formulas, highlight
from .highlight import code_css

__all__ = ["code_css", "escape", "excerpt", "markdown", "plain", "segments", "turns"]

MAX_CHARACTERS = 200_000
"""A longer text is shown plain, saying so."""

MAX_SECONDS = 2.0
"""Processor time for the layout of one text; what needs more (repeated delimiters) is shown plain, saying so."""

MAX_DEPTH = 60
"""Quotes, lists and emphasis nested deeper are shown plain, saying so: browsers give up at 512."""

MAX_MATHS = 20_000
"""Characters of formulas that are converted in one text; what follows is source."""

MAX_ADDRESS = 300

KEPT_CHARACTERS = 20_000
"""Texts up to this length are laid out once: the same ones are shown to several people, again and again."""

_KEPT = 1_000
"""How many layouts are kept."""

_HTML_TAGS = """
p h1 h2 h3 h4 h5 h6 ul ol li blockquote pre code em strong s table thead tbody tr th td hr br div span bdi
"""
_OWN_CLASSES = """
markup markup-plain markup-note markup-code markup-link markup-address markup-image markup-math markup-math-block
markup-source markup-control markup-task markup-left markup-center markup-right markup-name markup-calls
"""
_CLASSES = frozenset(_OWN_CLASSES.split()) | highlight.CLASSES

TAGS = frozenset(_HTML_TAGS.split()) | formulas.TAGS
"""The tags that may come out of this module; `difference` adds del and ins."""

ATTRIBUTES: dict[str, set[str]] = {
    **{tag: {"class"} for tag in ("span", "div", "pre", "code", "p", "td", "th")},
    "bdi": {"class", "title"},
    "ol": {"start"},
    **{tag: set(formulas.ATTRIBUTES) for tag in formulas.TAGS},
}
"""The attributes that may stand in each tag; what may stand in them is checked too."""

_CODE_POINT = re.compile(r"U\+[0-9A-F]{4}")
_START = re.compile(r"\d{1,9}")

# Control pictures for what a browser drops or hides (NUL ends some parsers' text), one character for one.
_PICTURES = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\t\n\r"} | {0x7F: "\u2421"}
_REPLACED = _PICTURES | dict.fromkeys(range(0xD800, 0xE000), "\N{REPLACEMENT CHARACTER}")
_MARKED = re.compile(r"[\x80-\x9f\u202a-\u202e\u2066-\u2069]")


class TooMuchError(ValueError):
    """A text that is not worth its layout: the sentence says why."""


class _Work:
    """What the layout of one text may still cost."""

    def __init__(self, ends: float) -> None:
        self.ends = ends
        self.code = highlight.MAX_CODE
        self.maths = MAX_MATHS

    def check(self) -> None:
        if time.thread_time() > self.ends:
            raise TooMuchError("its layout takes too long")

    def nest(self, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise TooMuchError(f"it nests deeper than {MAX_DEPTH}")


def escape(text: str) -> str:
    """A text as HTML, whitespace and all: its text content has as many characters as the text, at the same places.

    Control characters are shown by their pictures, lone surrogates by U+FFFD; a bidirectional override stands alone in
    a `<bdi class="markup-control" title="U+202E">`, where it cannot turn what follows.
    """
    return _isolate(html.escape(text.translate(_REPLACED)).replace("\r", "&#13;"))


def plain(text: str) -> str:
    """A text as it is: escaped, whitespace kept by the style of the class `markup-plain`."""
    return f'<div class="markup-plain">{escape(text)}</div>'


def markdown(text: str) -> str:
    """A text laid out as CommonMark with tables, strikethrough, task lists, formulas and highlighted code.

    Links and images are text with their address beside it: nothing is loaded, nothing leads away. Raw HTML is text.
    What is too long, too deep or too costly (`MAX_CHARACTERS`, `MAX_DEPTH`, `MAX_SECONDS`) is shown plain, saying so.
    """
    return _known(text, time.thread_time() + MAX_SECONDS, alone=True)


class _Layouts:
    """The last layouts that were asked for, for all threads."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, text: str) -> str | None:
        with self._lock:
            if text in self._known:
                self._known.move_to_end(text)
            return self._known.get(text)

    def keep(self, text: str, laid: str) -> None:
        with self._lock:
            self._known[text] = laid
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)


_LAYOUTS = _Layouts()


def _known(text: str, ends: float, *, alone: bool = False) -> str:
    """A text laid out, or as it was laid out before; `alone`: all of the time was for this text."""
    laid = _LAYOUTS.get(text)
    if laid is None:
        laid, in_time = _laid(text, ends)
        # What came out plain because others had used up the time can be laid out when it stands alone.
        if len(text) <= KEPT_CHARACTERS and (in_time or alone):
            _LAYOUTS.keep(text, laid)
    return laid


def _laid(text: str, ends: float) -> tuple[str, bool]:
    """The layout of a text, and whether it could be laid out at all."""
    try:
        if len(text) > MAX_CHARACTERS:
            raise TooMuchError(f"its {len(text):,} characters are more than {MAX_CHARACTERS:,}")
        work = _Work(ends)
        work.check()
        laid = _parser().render(text.translate(_REPLACED), {"work": work})
    except (TooMuchError, RecursionError) as error:
        why = str(error) if isinstance(error, TooMuchError) else "it nests too deeply"
        return f'<div class="markup"><p class="markup-note">Shown as plain text: {why}.</p>{plain(text)}</div>', False
    return f'<div class="markup">{_CLEANER.clean(_isolate(laid))}</div>', True


def turns(messages: Sequence[Row]) -> list[dict[str, str]]:
    """The turns of a conversation: `role`, `html` (laid out) and `plain` (the text itself: no HTML, for `textContent`).

    All turns share the time of one text.

    Args:
        messages: rows of role, content, name, tool_calls (JSON), tool_call_id; any but the role may be null or missing.
    """
    ends = time.thread_time() + MAX_SECONDS
    return [_turn(message, ends) for message in messages]


def segments(text: str, segments: Sequence[Row]) -> list[dict[str, str]]:
    """The steps of a response, each `{html, plain}` as in `turns`: as many as segments, and together the whole text.

    Args:
        text: the response.
        segments: rows with `end`, the character at which the step ends; what follows the last end joins the last step.
    """
    ends = time.thread_time() + MAX_SECONDS
    shown, start = [], 0
    for place, segment in enumerate(segments):
        last = place == len(segments) - 1
        end = len(text) if last else max(start, min(int(segment["end"]), len(text)))
        shown.append({"html": _laid(text[start:end], ends)[0], "plain": text[start:end]})
        start = end
    return shown


def excerpt(text: str, n: int = 80) -> str:
    """The beginning of a text on one line, at most `n` characters, cut with an ellipsis. No HTML."""
    line = " ".join(text[: 20 * n].split())
    if len(line) > n or len(text) > 20 * n:
        line = line[: n - 1].rstrip() + "…"
    return _MARKED.sub("\N{REPLACEMENT CHARACTER}", line.translate(_REPLACED))


def _turn(message: Row, ends: float) -> dict[str, str]:
    role = str(message.get("role") or "")
    role = role if re.fullmatch(r"[A-Za-z0-9_-]{1,40}", role) else "other"
    named = [escape(str(message[key])) for key in ("name", "tool_call_id") if message.get(key)]
    name = f'<p class="markup-name">{" · ".join(named)}</p>' if named else ""
    content, calls = message.get("content") or "", message.get("tool_calls")
    laid = _known(content, ends) if content else ""
    if calls:
        indented = _indented(calls)
        laid += f'<pre class="markup-calls">{escape(indented)}</pre>'
        content = f"{content}\n\n{indented}" if content else indented
    return {"role": role, "html": name + laid, "plain": content}


def _indented(calls: Any) -> str:
    """Tool calls as indented JSON; as they are where they are no JSON."""
    try:
        read = json.loads(calls) if isinstance(calls, str) else calls
        return json.dumps(read, indent=2, ensure_ascii=False)
    except (ValueError, TypeError, RecursionError):
        return str(calls)


def _isolate(escaped: str) -> str:
    """Puts each control of direction, and each C1 control, in an element of its own."""
    return _MARKED.sub(lambda one: f'<bdi class="markup-control" title="U+{ord(one[0]):04X}">{one[0]}</bdi>', escaped)


# ---- the second lock


def _kept(tag: str, attribute: str, value: str) -> str | None:
    """The value, if it is one that the first stage writes there. Asked of every attribute, of removed tags too."""
    if attribute == "class":
        return value if value in _CLASSES else None
    if attribute in ("title", "start"):
        return value if (_CODE_POINT if attribute == "title" else _START).fullmatch(value) else None
    allowed = formulas.ATTRIBUTES.get(attribute)
    return value if allowed and allowed.fullmatch(value) else None


_CLEANER = nh3.Cleaner(
    tags=set(TAGS),
    clean_content_tags={"script", "style", "iframe", "object", "embed", "svg", "template", "noscript"},
    attributes=ATTRIBUTES,
    attribute_filter=_kept,
    url_schemes=set(),
    link_rel=None,
)


# ---- the first stage


@lru_cache(maxsize=1)
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "maxNesting": 100}).enable(["table", "strikethrough"])
    formulas.delimiters(parser)
    # Addresses are shown, never followed: as they are written, whatever their scheme.
    parser.validateLink = lambda url: True  # type: ignore[method-assign]
    parser.normalizeLink = lambda url: url  # type: ignore[method-assign]
    everywhere: RuleOptionsType = {"alt": ["paragraph", "reference", "blockquote", "list", "table"]}
    parser.block.ruler.before("table", "limit", _limit_block, everywhere)
    parser.inline.ruler.before("escape", "limit", _limit_inline)
    parser.core.ruler.after("inline", "settle", _settle)
    for name, rule in _RULES.items():
        parser.add_render_rule(name, rule)
    return parser


def _limit_block(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """No syntax: stops a text whose rules scan it over and over, or that nests too deeply."""
    state.env["work"].check()
    state.env["work"].nest(state.level)
    return False


def _limit_inline(state: StateInline, silent: bool) -> bool:
    state.env["work"].check()
    return False


def _settle(state: StateCore) -> None:
    """Addresses beside their links, boxes before their tasks, classes in place of table styles."""
    for place, token in enumerate(state.tokens):
        if token.type in ("th_open", "td_open"):
            side = str(token.attrs.pop("style", "")).removeprefix("text-align:")
            if side:
                token.attrs["class"] = f"markup-{side}"
        elif token.type == "inline":
            children = token.children or []
            for child in children:
                state.env["work"].nest(token.level + child.level)
            _address(children)
            if place > 1 and state.tokens[place - 2].type == "list_item_open":
                _task(children)


def _address(children: list[Token]) -> None:
    address, text = "", ""
    for child in children:
        if child.type == "link_open":
            address, text = _titled(child, "href"), ""
        elif child.type == "link_close":
            child.meta["address"] = "" if text in (address, address.removeprefix("mailto:")) else address
        else:
            text += child.content


def _task(children: list[Token]) -> None:
    if children and children[0].type == "text" and re.match(r"\[[ xX]\]\s", children[0].content):
        box = Token("task", "", 0, content="☐" if children[0].content[1] == " " else "☑")
        children[0].content = children[0].content[3:]
        children.insert(0, box)


def _titled(token: Token, attribute: str) -> str:
    address, title = str(token.attrs.get(attribute, "")), token.attrs.get("title")
    shown = f'{address} "{title}"' if title else address
    return shown if len(shown) <= MAX_ADDRESS else shown[:MAX_ADDRESS] + "…"


Env = MutableMapping[str, Any]


def _link_open(self: RendererHTML, tokens: Sequence[Token], at: int, options: OptionsDict, env: Env) -> str:
    return '<span class="markup-link">'


def _link_close(self: RendererHTML, tokens: Sequence[Token], at: int, options: OptionsDict, env: Env) -> str:
    address = tokens[at].meta.get("address", "")
    return f'</span> <span class="markup-address">({escapeHtml(address)})</span>' if address else "</span>"


def _image(self: RendererHTML, tokens: Sequence[Token], at: int, options: OptionsDict, env: Env) -> str:
    alt = self.renderInlineAsText(tokens[at].children, options, env)
    shown = f"[image: {alt} ({_titled(tokens[at], 'src')})]"
    return f'<span class="markup-image">{escapeHtml(shown)}</span>'


def _box(self: RendererHTML, tokens: Sequence[Token], at: int, options: OptionsDict, env: Env) -> str:
    return f'<span class="markup-task">{tokens[at].content}</span>'


def _code(self: RendererHTML, tokens: Sequence[Token], at: int, options: OptionsDict, env: Env) -> str:
    code, work = tokens[at].content, env["work"]
    work.check()
    shown = highlight.spans(code, tokens[at].info) if len(code) <= work.code else None
    work.code -= 0 if shown is None else len(code)
    shown = escapeHtml(code) if shown is None else shown
    return f'<pre class="markup-code"><code>{shown}</code></pre>\n'


def _formula(self: RendererHTML, tokens: Sequence[Token], at: int, options: OptionsDict, env: Env) -> str:
    token, work = tokens[at], env["work"]
    work.check()
    source, display = token.content.strip(), token.type != "math_inline"
    work.maths -= len(source)
    shown = formulas.mathml(source, display) if work.maths >= 0 else None
    if shown is None:
        shown = f'<code class="markup-source">{escapeHtml(source)}</code>'
    tag, name = ("div", "markup-math-block") if token.type == "math_block" else ("span", "markup-math")
    return f'<{tag} class="{name}">{shown}</{tag}>'


_RULES = {
    "link_open": _link_open,
    "link_close": _link_close,
    "image": _image,
    "task": _box,
    "fence": _code,
    "code_block": _code,
    "math_block": _formula,
    "math_inline": _formula,
    "math_inline_double": _formula,
}
