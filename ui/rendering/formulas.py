r"""LaTeX formulas as MathML that a browser shows by itself. The source is hostile: none of its own markup comes out.

latex2mathml writes its elements with the entities resolved, so that `\text{<img onerror=...>}` comes out as a tag.
Only its element tree is taken here; tags, attributes and values are let through by list, and every text is escaped.
"""

from __future__ import annotations

import html
import re
from functools import lru_cache
from xml.etree.ElementTree import Element

from latex2mathml.converter import Converter
from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline
from mdit_py_plugins.dollarmath import dollarmath_plugin
from mdit_py_plugins.dollarmath.index import math_inline_dollar

MAX_FORMULA = 2_000
"""Characters of one formula; a longer one stays source. The converter takes about 25 µs a character at worst."""

MAX_DEPTH = 60

_TAGS = """
math mrow mi mn mo mtext ms mspace mfrac msqrt mroot mstyle mpadded mphantom menclose msub msup msubsup
munder mover munderover mmultiscripts mprescripts none mtable mtr mtd mlabeledtr
"""
TAGS = frozenset(_TAGS.split())
_TOKENS = frozenset(("mi", "mn", "mo", "mtext", "ms"))

# Lengths end at 19.9999 of their unit: a black rule of 9000 em would cover its neighbours.
_LENGTH = r"[+-]?(?:1?\d)?(?:\.\d{1,4})?(?:em|ex|px|pt)?"
_SIZES = "linethickness width height depth lspace rspace voffset minsize maxsize rowspacing"
_SWITCHES = "stretchy fence accent accentunder symmetric largeop movablelimits displaystyle"
_LINES = r"(?:solid|dashed|none)(?: (?:solid|dashed|none)){0,50}"
_ATTRIBUTES = {
    "display": r"inline|block",
    "mathvariant": r"[a-z-]{1,24}",
    "form": r"prefix|infix|postfix",
    "scriptlevel": r"[+-]?\d",
    "columnalign": r"left|center|right",
    "columnspacing": rf"{_LENGTH}(?: {_LENGTH}){{0,50}}",
    "notation": r"[a-z]{1,24}(?: [a-z]{1,24}){0,3}",
    "mathcolor": r"#[0-9A-Fa-f]{3,8}|[A-Za-z]{1,24}",
    "mathbackground": r"#[0-9A-Fa-f]{3,8}|[A-Za-z]{1,24}",
    **dict.fromkeys(("rowlines", "columnlines"), _LINES),
    **dict.fromkeys(_SWITCHES.split(), r"true|false"),
    **dict.fromkeys(_SIZES.split(), _LENGTH),
}
ATTRIBUTES = {name: re.compile(pattern) for name, pattern in _ATTRIBUTES.items()}
"""Attribute: the values that may stand in it. `href`, `style` and `class`, which LaTeX can set too, are not here."""

# A macro can double itself at each use, so definitions are refused: 20 lines of them make a million tokens.
_DEFINES = re.compile(r"\\(?:(?:re|provide)?(?:new)?command|(?:re)?newenvironment|[egx]?def|let|DeclareMathOperator)\b")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
_ENTITY = re.compile(r"&#x([0-9A-Fa-f]{1,8});")
_UNKNOWN = re.compile(r"\\[A-Za-z]+|&")
# The converter knows these environments under other names only.
_ENVIRONMENTS = {
    "aligned": "align*",
    "split": "align*",
    "gathered": "matrix",
    "gather": "matrix",
    "gather*": "matrix",
    "multline": "matrix",
    "multline*": "matrix",
    "dcases": "cases",
    "equation": "",
    "equation*": "",
    "displaymath": "",
}
_OPENING = re.compile(r"\\\[|\\begin\{((?:align|equation|gather|multline)\*?)\}")
_ENVIRONMENT = re.compile(r"\\(begin|end)\s*\{([A-Za-z]+\*?)\}")


class NotConvertibleError(ValueError):
    """A formula that has no safe, faithful MathML: it is shown as its source."""


@lru_cache(maxsize=256)
def mathml(latex: str, display: bool) -> str | None:
    """A `<math>` element for a formula; None where it cannot be converted (too long, too deep, unknown commands).

    Args:
        latex: the formula, without its delimiters.
        display: a formula on a line of its own.
    """
    if (
        len(latex) > MAX_FORMULA
        or _DEFINES.search(latex)
        or _CONTROL.search(latex.replace("\n", " ").replace("\t", " "))
    ):
        return None
    if _depth(latex) > MAX_DEPTH:
        return None
    try:
        tree = Converter(display="block" if display else "inline").convert_to_element(_known(latex, display))
        return _written(tree, 0)
    except Exception:  # the converter answers odd sources with whatever breaks first: IndexError, StopIteration, ...
        return None


def _depth(latex: str) -> int:
    """How deep braces, \\left and \\begin are nested, at most."""
    deepest = depth = 0
    for found in re.finditer(r"\\[{}\\]|[{}]|\\(?:left|right|begin|end)(?![A-Za-z])", latex):
        if found[0] in ("{", "\\left", "\\begin"):
            depth += 1
        elif found[0] in ("}", "\\right", "\\end"):
            depth -= 1
        deepest = max(deepest, depth)
    return deepest


def _known(latex: str, display: bool) -> str:
    """The source with its environments under names that the converter knows."""

    def name(found: re.Match[str]) -> str:
        known = _ENVIRONMENTS.get(found[2], found[2])
        return rf"\{found[1]}{{{known}}}" if known else ""

    latex = _ENVIRONMENT.sub(name, latex)
    if display and "\\\\" in latex and "\\begin" not in latex:
        return rf"\begin{{matrix}}{latex}\end{{matrix}}"  # lines of one display, which the converter would join
    return latex


def _written(element: Element, depth: int) -> str:
    if element.tag not in TAGS or depth > 4 * MAX_DEPTH:
        raise NotConvertibleError(element.tag)
    attributes = "".join(
        f' {name}="{html.escape(value)}"'
        for name, value in element.attrib.items()
        if name in ATTRIBUTES and ATTRIBUTES[name].fullmatch(value)
    )
    text = element.text or ""
    if text and (element.tag not in _TOKENS or (element.tag != "mtext" and _UNKNOWN.fullmatch(text))):
        raise NotConvertibleError(text)
    text = html.escape(_ENTITY.sub(_character, text))
    inside = "".join(_written(child, depth + 1) for child in element)
    return f"<{element.tag}{attributes}>{text}{inside}</{element.tag}>"


def _character(entity: re.Match[str]) -> str:
    code = int(entity[1], 16)
    character = chr(code) if code <= 0x10FFFF else "\N{REPLACEMENT CHARACTER}"
    return "\N{REPLACEMENT CHARACTER}" if _CONTROL.fullmatch(character) else character


def delimiters(parser: MarkdownIt) -> None:
    r"""Teaches Markdown `$ $`, `$$ $$`, `\( \)` and `\[ \]`: tokens math_inline, math_inline_double and math_block."""
    dollarmath_plugin(parser, allow_labels=False)
    parser.inline.ruler.at("math_inline", _dollar_inline)
    parser.inline.ruler.before("escape", "bracket_maths", _bracket_inline)
    interrupts = ["paragraph", "reference", "blockquote", "list"]
    parser.block.ruler.before("blockquote", "bracket_maths", _bracket_block, {"alt": interrupts})


_DOLLAR = math_inline_dollar(allow_space=False, allow_digits=False, allow_double=True)


def _dollar_inline(state: StateInline, silent: bool) -> bool:
    """`$ $` inside a line, unless it reaches into code: "it costs $5; write `$x`" holds no formula."""
    start = state.pos
    if not _DOLLAR(state, True):
        return False
    reaches = "`" in state.src[start : state.pos]
    state.pos = start
    return not reaches and _DOLLAR(state, silent)


def _bracket_inline(state: StateInline, silent: bool) -> bool:
    r"""`\( \)` and `\[ \]` inside a line."""
    opening = state.src[state.pos : state.pos + 2]
    if opening not in (r"\(", r"\["):
        return False
    end = state.src.find(r"\)" if opening == r"\(" else r"\]", state.pos + 2)
    if end < 0 or not state.src[state.pos + 2 : end].strip():
        return False
    if not silent:
        token = state.push("math_inline" if opening == r"\(" else "math_inline_double", "math", 0)
        token.content = state.src[state.pos + 2 : end]
        token.markup = opening
    state.pos = end + 2
    return True


def _bracket_block(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    r"""`\[` at the head of a line to `\]` at the end of one, no blank line between: else `= x` would make a heading.

    A bare `\begin{align}` and its kind likewise, as models write them.
    """
    at = state.bMarks[start] + state.tShift[start]
    opening = _OPENING.match(state.src, at)
    if opening is None or state.is_code_block(start):
        return False
    closing = rf"\end{{{opening[1]}}}" if opening[1] else r"\]"
    for line in range(start, end):
        shown = state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]].rstrip()
        if not shown or (line > start and state.sCount[line] < state.blkIndent):
            return False
        if shown.endswith(closing):
            break
    else:
        return False
    content = state.getLines(start, line + 1, state.blkIndent, False).strip()
    if content.count(closing) > 1:
        return False
    content = content if opening[1] else content[2:-2]
    if not content.strip():
        return False
    if not silent:
        token = state.push("math_block", "math", 0)
        token.block = True
        token.content = content
        token.markup = opening[0]
        token.map = [start, line + 1]
        state.line = line + 1
    return True
