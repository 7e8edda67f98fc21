"""Where answers stand, and whether they are right: numbers, words, expressions, JSON."""

from __future__ import annotations

import contextlib
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata.annotators import answers, expressions
from prefdata.annotators.answers import SpecError, Tolerance, numbers
from prefdata.annotators.expressions import ExpressionError

NONE = Tolerance(0, 0)


class TestMarked:
    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("so \\boxed{5} and 6", "5"),
            ("\\boxed{1} then \\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
            ("Answer: 10 of 12", "10 of 12"),
            ("12 + 3\n#### 42", "42"),
            ("The final answer is **7**.", "7**."),
            ("**Answer:** 12", "12"),
            ("Answer: 3\nAnswer: 4", "4"),
            ("Die Antwort lautet 8.", "8."),
            ("La respuesta es 366 días", "366 días"),
            ("Answer:", None),
            ("I answered nothing.", None),
            ("\\boxed{unclosed", "unclosed"),
        ],
    )
    def test_the_last_one_counts(self, text: str, found: str | None) -> None:
        assert answers.marked(text) == found


class TestNumbers:
    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("10", ["10"]),
            ("x = -3", ["-3"]),
            ("−4", ["-4"]),
            ("12 - 5 = 7, so 7.", ["12", "5", "7", "7"]),
            ("12-5=7", ["7"]),
            ("costs $1,234.50.", ["2469/2"]),
            ("-$5 or €7 or 8€", ["-5", "7", "8"]),
            ("3,5 kg", ["7/2"]),
            ("1e3 and 1.5×10^3 and 1.5 × 10^{-3}", ["1000", "1500", "3/2000"]),
            ("1 3/4 cups", ["7/4"]),
            (r"\frac{3}{4} and $1\frac{3}{4}$", ["3/4", "7/4"]),
            ("from 9:40 to 11:15, 95 minutes", ["95"]),
            ("on 2024-01-05 with version 1.2.3 of B12", []),
            (".5", ["1/2"]),
            ("3.14.", ["157/50"]),
            ("1/0", []),
            ("1e999999", []),
            ("1,000,000 and 1\u2009000\u2009000", ["1000000", "1000000"]),
            ("10/10", ["1"]),
            ("10-12", []),
            ("**42**°C", ["42"]),
        ],
    )
    def test_they_are_read_as_people_read_them(self, text: str, found: list[str]) -> None:
        assert [str(value) for value, _ in numbers(text)] == found

    @given(st.integers(-(10**30), 10**30), st.sampled_from(["{}", "It is {}.", "so {}", "({})", "**{}**", "a\n{}\n"]))
    def test_ten_is_never_one(self, value: int, around: str) -> None:
        text = around.format(value)
        assert answers.numeric(text, [Fraction(value)], NONE).ok
        for other in (value + 1, value * 10 if value else 1, value // 10 if abs(value) > 9 else value + 2, -value - 1):
            assert not answers.numeric(text, [Fraction(other)], NONE).ok

    @given(st.text(alphabet="0123456789.,-+/e×^{}%$ \n\\frac", max_size=60))
    def test_any_text_is_read(self, text: str) -> None:
        for value, _ in numbers(text):
            assert isinstance(value, Fraction)

    def test_work_is_bounded(self) -> None:
        assert answers.marked("answer" + " " * 30_000 + "x") is None  # once 25 seconds
        assert not answers.numeric("9" * 30_000, [Fraction(1)], Tolerance()).ok
        assert not answers.numeric("1," * 30_000, [Fraction(1)], Tolerance()).ok
        assert not answers.numeric("1e400 " * 2_000, [Fraction(1)], Tolerance()).ok
        assert answers.marked("\\boxed{" * 20_000) is not None


class TestNumeric:
    @pytest.mark.parametrize(
        ("text", "answer", "ok"),
        [
            ("5 + 2 = 7. The answer is 7 apples, of 12.", 7, True),
            ("First 7, then 8.", 7, False),
            ("Answer: 10", 1, False),
            ("Answer: 1", 10, False),
            ("50%", 50, True),
            ("50%", "0.5", True),
            ("50%", "50%", True),
            ("0.5", "50%", True),
            ("3.3333", "10/3", False),
            ("3.3333333", "10/3", True),
            ("seven", 7, False),
            ("", 7, False),
            ("\\boxed{\\frac{7}{2}}", 3.5, True),
            ("The answer is unclear, perhaps 7", 7, True),
        ],
    )
    def test_the_marked_or_last_number_counts(self, text: str, answer: object, ok: bool) -> None:
        assert answers.numeric(text, [answers.number_of(answer)], Tolerance()).ok is ok

    def test_tolerances(self) -> None:
        assert answers.numeric("100.4", [Fraction(100)], Tolerance(0.5, 0)).ok
        assert not answers.numeric("100.6", [Fraction(100)], Tolerance(0.5, 0)).ok
        assert answers.numeric("-101", [Fraction(-100)], Tolerance(0, 0.01)).ok
        assert answers.numeric("7 or 8", [Fraction(7), Fraction(8)], NONE).ok

    def test_it_says_what_it_found(self) -> None:
        assert answers.numeric("It is 12.", [Fraction(7)], NONE).said == "it says 12"
        assert answers.numeric("No idea.", [Fraction(7)], NONE).said == "it holds no number"

    @pytest.mark.parametrize("answer", ["seven", "1 or 2", True, None, [7], float("nan"), float("inf")])
    def test_an_answer_that_is_no_number_is_refused(self, answer: object) -> None:
        with pytest.raises(SpecError):
            answers.number_of(answer)


class TestExact:
    @pytest.mark.parametrize(
        ("text", "answer", "ok"),
        [
            ("No.", "no", True),
            ("**No**", "no", True),
            ("no, it is not", "no", False),
            ("The answer is: No.", "no", True),
            ("“J’ai mangé une pomme.”", "J'ai mangé une pomme", True),
            ("J'ai mange une pomme", "J'ai mangé une pomme", False),
            ("Cold,  late,\nfull", "cold, late, full", True),
            ("cold, full, late", "cold, late, full", False),
            ("Ｍａｘ", "max", True),
            ("", "no", False),
        ],
    )
    def test_case_space_and_what_is_around_it_do_not_count(self, text: str, answer: str, ok: bool) -> None:
        assert answers.exact(text, [answer]).ok is ok

    def test_case_counts_where_it_is_asked_for(self) -> None:
        assert not answers.exact("max", ["Max"], case=True).ok
        assert answers.exact("Max!", ["Max"], case=True).ok

    @given(st.text(max_size=30))
    def test_every_text_is_itself(self, text: str) -> None:
        assert answers.exact(text, [text]).ok


class TestSymbolic:
    @pytest.mark.parametrize(
        ("one", "other", "same"),
        [
            (r"\frac{1}{2}", "0.5", True),
            (r"\dfrac12", "1/2", True),
            ("x^2+2x+1", "(x+1)^2", True),
            ("x^2+2x+1", "(x+1)^3", False),
            (r"\sqrt{8}", r"2\sqrt{2}", True),
            (r"\sqrt[3]{27}", "3", True),
            (r"x^{\frac{1}{2}}", r"\sqrt{x}", True),
            (r"\frac{1}{1+\frac{1}{x}}", "x/(x+1)", True),
            (r"\frac{\sqrt{3}}{2}", r"\sin(\pi/3)", True),
            (r"e^{2x}", "(e^x)^2", True),
            ("1 3/4", "7/4", True),
            (r"1\frac{3}{4}", "1.75", True),
            ("(0, 1]", "(0,1]", True),
            ("(0, 1]", "[0, 1]", False),
            (r"\{1, 2\}", r"\{2, 1\}", True),
            (r"\{1, 1, 2\}", r"\{1, 2, 2\}", False),
            ("(1, 2)", "(2, 1)", False),
            (r"\left(\frac{1}{2}, 3\right)", "(0.5, 3)", True),
            ("1,234", "1234", True),
            ("10000000000000001", "10000000000000002", False),
            ("x = 5", "5", True),
            ("x \\in [0, 1]", "[0,1]", True),
            (r"2\pi r", "2*pi*r", True),
            ("10", "1", False),
            ("xy", "yx", True),
            ("x", "y", False),
            (r"5\text{ cm}", "5", True),
            (r"90^\circ", "90", True),
            ("0.1 + 0.2", "0.3", True),
            ("log(x^2)", "2 log(x)", True),
            ("2^{100}", "2^{100}+1", False),
        ],
    )
    def test_expressions_are_equal_by_value(self, one: str, other: str, same: bool) -> None:
        assert expressions.equal(one, other) is same
        assert expressions.equal(other, one) is same

    @pytest.mark.parametrize(
        "text",
        [
            "9**9**9",
            "9^{9^{9^9}}",
            "((((2^4000)^4000)^4000)^4000)",
            "1/0",
            "__import__('os').system('true')",
            "open('/etc/passwd').read()",
            "(lambda: 1)()",
            "x.__class__",
            "f'{1}'",
            "'a' * 10",
            "x := 3",
            "1_000",
            "2 3",
            "sin",
            "sqrt(1, 2)",
            "(" * 300 + "1" + ")" * 300,
            "-" * 900 + "1",
            "{" * 900,
            "\\frac" * 200,
            "\\sqrt{" * 160,
            "(1," * 300,
            "1" * 1001,
            "",
            "x=",
            "√√√",
            "\\int x",
            "\\infty",
            "a \\le b",
        ],
    )
    def test_what_is_no_expression_or_too_large_is_refused(self, text: str) -> None:
        with pytest.raises(ExpressionError):
            expressions.equal(text, "1")

    @given(st.text(alphabet="0123456789xyab+-*/^(){}[],. \\fracsqrtpi_'=", max_size=80))
    def test_any_text_is_read_or_refused(self, text: str) -> None:
        with contextlib.suppress(ExpressionError):
            assert expressions.equal(text, text)

    @settings(max_examples=40)
    @given(st.fractions(max_denominator=1000), st.fractions(max_denominator=1000))
    def test_fractions_are_equal_only_to_themselves(self, one: Fraction, other: Fraction) -> None:
        assert expressions.equal(str(one), rf"\frac{{{one.numerator}}}{{{one.denominator}}}")
        assert expressions.equal(str(one), str(other)) is (one == other)

    def test_where_it_looks(self) -> None:
        assert answers.symbolic("We get $x = 3$ and so $y = \\frac{1}{2}$.", ["1/2"]).ok
        assert answers.symbolic("So x = 2 + 3 = 5", ["5"]).ok
        assert answers.symbolic("Answer: $(x+1)^2$", ["x^2+2x+1"]).ok
        assert not answers.symbolic("", ["1"]).ok

    def test_a_marked_answer_that_cannot_be_read_is_not_called_wrong(self) -> None:
        found = answers.symbolic("\\boxed{\\int_0^1 x dx}", ["1/2"])
        assert (found.ok, "cannot be read" in found.said) == (None, True)
        with pytest.raises(SpecError, match="cannot be read"):
            answers.symbolic("1", ["\\int_0^1"])


class TestJson:
    @pytest.mark.parametrize(
        ("text", "ok"),
        [
            ('{"day": "Saturday", "hours": 6}', True),
            ('```json\n{"hours": 6.0, "day": "Saturday"}\n```', True),
            ('Here: {"day": "Saturday", "hours": 6} - done', True),
            ('{"day": "Saturday", "hours": 7}', False),
            ('{"day": "Saturday", "hours": true}', False),
            ('{"day": "Saturday", "hours": 6, "more": 1}', False),
            ("{day: Saturday}", False),
            ("[" * 30_000, False),
            ("", False),
        ],
    )
    def test_it_is_compared_as_values(self, text: str, ok: bool) -> None:
        assert answers.json_equal(text, {"day": "Saturday", "hours": 6}).ok is ok

    def test_true_is_not_one(self) -> None:
        assert not answers.json_equal("1", True).ok
        assert not answers.json_equal("[true]", [1]).ok


TABLE: list[tuple[str, str, str, bool | None]] = [
    ("numeric", "answer: 10", "1", False),
    ("numeric", "1,000", "1", False),
    ("numeric", "1,000", "1000", True),
    ("numeric", "1/2", "0.5", True),
    ("numeric", "-5", "5", False),
    ("numeric", "The answer is -5.", "-5", True),
    ("numeric", "5 km", "5", True),
    ("numeric", "$1,234.50", "1234.5", True),
    ("numeric", "50%", "0.5", True),
    ("numeric", "0.5", "50", False),
    ("numeric", "0.5%", "0.005", True),
    ("numeric", "\\boxed{3} or maybe \\boxed{4}", "4", True),
    ("numeric", "\\boxed{3} or maybe \\boxed{4}", "3", False),
    ("numeric", "Question: what is 7+5? Answer: 12.", "12", True),
    ("numeric", "The answer is 42.", "42", True),
    ("numeric", "42.0", "42", True),
    ("numeric", "4.2e1", "42", True),
    ("numeric", "1 000 000", "1000000", True),
    ("numeric", "x=3, y=4", "4", True),
    ("numeric", "Answer: x = 3", "3", True),
    ("numeric", "The final answer is $\\boxed{-\\frac{1}{2}}$", "-0.5", True),
    ("numeric", "\\boxed{-\\frac{1}{2}}", "0.5", False),
    ("numeric", "-\\frac{3}{4}", "-0.75", True),
    ("numeric", "\\frac{-3}{4}", "-0.75", True),
    ("numeric", "-1 1/2", "-1.5", True),
    ("numeric", "2-3", "3", False),
    ("numeric", "The answer is 5, not 6", "5", True),
    ("numeric", "١٢", "12", True),
    ("numeric", "１２", "12", True),
    ("numeric", "twelve", "12", False),
    ("numeric", "\\boxed{12\\%}", "12", True),
    ("numeric", "\\boxed{1{,}000}", "1000", True),
    ("numeric", "\\boxed{1\\,000}", "1000", True),
    ("numeric", "2^{10}", "1024", True),
    ("numeric", "Answer: 2^10", "2", False),
    ("numeric", "Answer: 3 * 4 = 12", "12", True),
    ("numeric", "Answer: 3 + 4", "7", True),
    ("numeric", "**Answer**: 7", "7", True),
    ("numeric", "Answer:\n7", "7", True),
    ("numeric", "The answer: 7\nI checked 8 times", "7", True),
    ("numeric", "(7)", "7", True),
    ("numeric", "7)", "7", True),
    ("numeric", "a7", "7", False),
    ("numeric", "#7", "7", True),
    ("numeric", "−7", "-7", True),
    ("numeric", "3 - 7", "-7", False),
    ("numeric", "±5", "5", False),
    ("numeric", "1e5", "100000", True),
    ("numeric", "10^5", "100000", True),
    ("numeric", "1:30", "30", False),
    ("numeric", "Answer: 0.333", "1/3", False),
    ("numeric", "Answer: 18 dollars", "18", True),
    ("numeric", "Answer: $18", "18", True),
    ("numeric", "\\boxed{\\$18}", "18", True),
    ("numeric", "\\boxed{x=18}", "18", True),
    ("numeric", "\\boxed{18\\text{ cm}^2}", "18", True),
    ("numeric", "\\boxed{\\text{about }18}", "18", True),
    ("numeric", "The answer is 18 cm^2.", "18", True),
    ("numeric", "√2", "2", False),
    ("numeric", "\\sqrt{2}", "2", False),
    ("numeric", "\\boxed{\\sqrt{2}}", "2", False),
    ("numeric", "\\boxed{2\\sqrt{3}}", "2", False),
    ("numeric", "\\boxed{2\\pi}", "2", False),
    ("numeric", "3/4/5", "5", False),
    ("numeric", "½", "0.5", True),
    ("numeric", "2½", "2.5", True),
    ("exact", "B", "A", False),
    ("exact", "The answer is (B)", "B", True),
    ("exact", "(B)", "B", True),
    ("exact", "B.", "b", True),
    ("exact", "ﬁne", "fine", True),
    ("exact", "café", "café", True),
    ("exact", "Answer: Paris, France", "Paris", False),
    ("exact", "10", "1", False),
    ("exact", "C++", "C", False),
    ("exact", "C#", "C", False),
    ("exact", "-5", "5", False),
    ("exact", "$5", "5", True),
    ("exact", "5%", "5", False),
    ("exact", "a.b", "ab", False),
    ("exact", "?", "!", False),
    ("exact", "straße", "STRASSE", True),
    ("exact", "\u200bParis", "Paris", True),
    ("exact", "x²", "x2", False),
    ("symbolic", "\\boxed{\\frac{1}{2}}", "0.5", True),
    ("symbolic", "\\boxed{x^2-1}", "(x-1)(x+1)", True),
    ("symbolic", "\\boxed{50\\%}", "0.5", True),
    ("symbolic", "\\boxed{50\\%}", "50", True),
    ("symbolic", "\\boxed{2\\sqrt{2}}", "\\sqrt{8}", True),
    ("symbolic", "\\boxed{10}", "1", False),
    ("symbolic", "\\boxed{1,000}", "1", False),
    ("symbolic", "\\boxed{(1,2)}", "(1,2)", True),
    ("symbolic", "\\boxed{x=3}", "3", True),
    ("symbolic", "\\boxed{5!}", "120", None),
    ("symbolic", "\\boxed{\\text{(B)}}", "B", None),
    ("symbolic", "\\boxed{a \\text{ or } b}", "ab", None),
    ("symbolic", "\\boxed{3\\text{ or }4}", "12", None),
    ("symbolic", "\\boxed{3\\text{ or }4}", "34", None),
    ("symbolic", "0", "0.0000000001", False),
    ("symbolic", "\\boxed{10^{-12}}", "0", False),
    ("symbolic", "\\boxed{-x}", "x", False),
    ("symbolic", "\\boxed{30^\\circ}", "30", True),
    ("symbolic", "\\boxed{1.0}", "1", True),
    ("symbolic", "\\boxed{.5}", "1/2", True),
    ("symbolic", "\\boxed{\\frac12}", "0.5", True),
]


@pytest.mark.parametrize(("kind", "text", "answer", "ok"), TABLE)
def test_right_and_wrong_as_a_reader_would_say(kind: str, text: str, answer: str, ok: bool | None) -> None:
    if kind == "numeric":
        found = answers.numeric(text, [answers.number_of(answer)], Tolerance())
    else:
        found = {"exact": answers.exact, "symbolic": answers.symbolic}[kind](text, [answer])
    assert found.ok is ok, found.said
