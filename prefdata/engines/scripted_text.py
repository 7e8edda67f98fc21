"""Texts of varying quality from a small stock of words, and how the scripted engine reads what it judges."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

_STOPWORDS = (
    "about after again also because before being between could does doing each every explain from give have here how "
    "into just like make many more most much name only other over please short should some such sure tell than that "
    "their them then there these they this those three through under very what when where which while will with word "
    "words would write your you and the for are was were can its our out who why use two one not but"
)
_COMMON = frozenset(_STOPWORDS.split())
_FALLBACK = ("the question", "the details", "the context")

_OPENINGS = (
    "The short answer depends on {a} and on {b}.",
    "It helps to look at {a} first.",
    "There are two things to know about {a}.",
    "In most cases {a} matters more than {b}.",
    "A good place to begin is {a}.",
)
_MIDDLES = (
    "When {a} changes, {b} usually changes with it, though more slowly.",
    "Think of {a} as the cause and of {b} as what one sees of it.",
    "For example, someone who checks {b} before {a} tends to find the mistake sooner.",
    "This is easy to test: keep {b} as it is and vary {a}.",
    "A common error is to treat {a} and {b} as the same thing.",
    "What people call {b} is often a side effect of {a}.",
)
_ENDINGS = (
    "So start with {a}, and come back to {b} afterwards.",
    "In short, {a} decides, and {b} follows.",
    "If in doubt, write down what you know about {a} and compare.",
)
_SHORT = ("It depends on {a}.", "Probably {a}.", "I would look at {a}.", "That is about {a} and {b}.")

_STYLES = ("full", "full", "full", "plain", "plain", "short", "repeats", "unfinished")


def words(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return re.findall(r"[^\W\d_]+", text.lower())


def quality(text: str) -> float:
    """How good a text looks to the scripted judge, in [0, 1]: long enough, few repetitions, a proper end."""
    said = words(text)
    if not said:
        return 0.0
    length = min(1.0, len(said) / 60)
    variety = len(set(said)) / len(said)
    ended = 1.0 if text.rstrip().endswith((".", "!", "?", "`", ")")) else 0.0
    return 0.5 * length + 0.3 * variety + 0.2 * ended


def write(prompt: str, seed: int, *, short: bool = False) -> str:
    """A readable text about the words of a prompt. Its length and quality go by the seed.

    Args:
        prompt: what it is about.
        seed: decides everything else.
        short: one sentence, never a bad one.
    """
    draw = random.Random(seed)
    topics = list(dict.fromkeys(word for word in words(prompt) if len(word) > 2 and word not in _COMMON))
    topics = topics if len(topics) > 1 else [*topics, *_FALLBACK]

    def say(stock: Sequence[str]) -> str:
        a, b = draw.sample(topics, 2)
        sentence = draw.choice(stock).format(a=a, b=b)
        return sentence[0].upper() + sentence[1:]

    style = "short" if short else draw.choice(_STYLES)
    if style == "short":
        return say(_SHORT)
    if style == "repeats":
        return " ".join([say(_OPENINGS), *[say(_MIDDLES)] * draw.randint(2, 4)])
    middles = draw.sample(_MIDDLES, draw.randint(2, 4) if style == "full" else 1)
    sentences = [say(_OPENINGS), *(say([middle]) for middle in middles)]
    if style == "unfinished":
        text = " ".join(sentences)
        return text[: int(len(text) * draw.uniform(0.5, 0.8))].rsplit(" ", 1)[0]
    return " ".join([*sentences, say(_ENDINGS)])


def sections(text: str, labels: Sequence[str], *, least: int = 2) -> dict[str, str]:
    """What stands under each label in a judge's prompt (`Response A:`, `[A]`, `### Answer 1`, `<response_b>`).

    Args:
        text: the prompt.
        labels: to look for.
        least: how many must be found for the headings to be believed.

    Returns:
        The text from each label's last heading to the next heading, without the fence around it, for the labels that
        have one; empty where fewer than `least` have.
    """
    places: list[tuple[int, int, str]] = []
    for label in labels:
        heading = rf"(?m)^[^\w\n/]*(?:(?i:response|answer|assistant|candidate|option|reply)[ _-]*)?{re.escape(label)}"
        found = list(re.finditer(heading + r"[^\w\n]*(?::|$)", text)) or list(
            re.finditer(rf"(?i)<[a-z]*[ _-]?{re.escape(label)}>", text)
        )
        if found:
            places.append((found[-1].start(), found[-1].end(), label))
    if len(places) < least:
        return {}
    places.sort()
    ends = [start for start, _, _ in places[1:]] + [len(text)]
    return {label: _unfenced(text[stop:end].strip()) for (_, stop, label), end in zip(places, ends, strict=True)}


def _unfenced(section: str) -> str:
    """What stands between a first line such as `[1f2e]` and its return, or before a closing tag."""
    fence, _, rest = section.partition("\n")
    if fence and not fence[0].isalnum() and f"\n{fence}" in rest:
        return rest[: rest.index(f"\n{fence}")].strip()
    return section.partition("</")[0].strip()
