"""The rules of `judge.rules`: plain functions of texts. They know nonsense from an answer; none of them knows quality.

Each gives a number in [0, 1], higher is better, or None where it does not apply.
"""

from __future__ import annotations

import re
from collections import Counter

# A run of letters and digits is a word. In scripts written without spaces each character counts as one.
_UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+(?:['’][^\W_{_UNSPACED}]+)*")

_SCRIPTS = {
    "latin": r"A-Za-z\u00c0-\u024f\u1e00-\u1eff",
    "greek": r"\u0370-\u03ff",
    "cyrillic": r"\u0400-\u052f",
    "hebrew": r"\u0590-\u05ff",
    "arabic": r"\u0600-\u06ff\u0750-\u077f",
    "devanagari": r"\u0900-\u097f",
    "bengali": r"\u0980-\u09ff",
    "tamil": r"\u0b80-\u0bff",
    "telugu": r"\u0c00-\u0c7f",
    "thai": r"\u0e00-\u0e7f",
    "hangul": r"\uac00-\ud7af\u1100-\u11ff",
    "kana": r"\u3040-\u30ff",
    "han": r"\u3400-\u4dbf\u4e00-\u9fff",
}
_SCRIPT_PATTERNS = {name: re.compile(f"[{ranges}]") for name, ranges in _SCRIPTS.items()}

# Frequent words that tell languages written in Latin letters apart; a word of several lists counts for each.
_STOP_WORDS = {
    language: frozenset(words.split())
    for language, words in {
        "english": "the and of to is in that it you for are with this what was be on as have from your how",
        "german": "der die das und ist nicht ein eine zu den mit auf für von dem sich ich sie wie was es im auch wird",
        "french": "le la les et est une un des du que qui dans pour pas sur je vous ce il sont avec plus au comment",
        "spanish": "el la los las y es una un de que en por para con no se del como qué al su lo más son cómo",
        "portuguese": "o a os as e é uma um de que em por para com não se do da como no na ao mais são você",
        "italian": "il lo la gli e è una un di che in per con non si del della come sono nel più anche cosa le",
        "dutch": "de het een en van is dat niet ik je op te voor met zijn maar er ook wat hoe worden bij aan naar",
        "polish": "i w nie na się że do jest to z o jak po co dla są od przez czy tego ale",
        "swedish": "och att det är som en på av för med den inte ett har till om vad jag hur kan man",
        "turkish": "ve bir bu için ile de da ne mi çok gibi daha olarak ben var nasıl en kadar",
        "indonesian": "yang dan di ini itu untuk dengan dari tidak adalah pada ke akan apa bagaimana saya dalam",
        "vietnamese": "và là của có không cho một các những được trong với này đã như để khi tôi thế nào",
    }.items()
}
_FEW_LETTERS = 12

_REFUSALS = (
    r"\bi(?:'m| am) (?:sorry|afraid|unable|not able)\b",
    r"\bi (?:can ?not|can't|won't|will not|must decline|have to decline)\b",
    r"\b(?:sorry|unfortunately),? (?:but )?i (?:can ?not|can't)\b",
    r"\bas an? (?:ai|language model|ai language model)\b",
    r"\bich kann (?:dir|ihnen|dabei|das|diese\w*) (?:\w+ ){0,4}nicht\b",
    r"\bje (?:ne peux pas|suis désolée?)\b",
    r"\b(?:lo siento|no puedo (?:ayudar|proporcionar|responder))\b",
    r"\b(?:desculpe|não posso (?:ajudar|fornecer))\b",
    r"\bmi dispiace|\bnon posso (?:aiutar|fornire)",
    r"很抱歉|我无法|我不能|申し訳ありません|できません|죄송합니다",
)
_REFUSAL = re.compile("|".join(f"(?:{pattern})" for pattern in _REFUSALS), re.IGNORECASE)
_REFUSAL_WITHIN = 160

_ENDS = tuple(".!?…。！？।؟\"'”’»」』)]}*_`|:;）】")
_LIST_LINE = re.compile(r"(?:[-*•+]|\d+[.)])\s")
_SHORT_WORDS = 6


def words(text: str) -> list[str]:
    """The words of a text in lower case; in scripts without spaces, its characters."""
    return [match.lower() for match in _WORD.findall(text)]


def length(response: str, least: int, most: int) -> float:
    """1 within the band of `least` to `most` words; n / least below it, most / n above it."""
    n = len(words(response))
    if n < least:
        return n / least
    return most / n if n > most else 1.0


def script(text: str) -> str | None:
    """The script in which most letters of a text are written; None where there are too few letters to tell."""
    counts = {name: len(pattern.findall(text)) for name, pattern in _SCRIPT_PATTERNS.items()}
    # Japanese is written in both; a fifth of kana tells it from Chinese.
    if counts["kana"] * 5 >= counts["kana"] + counts["han"] > 0:
        counts["kana"] += counts["han"]
        counts["han"] = 0
    name, most = max(counts.items(), key=lambda entry: entry[1])
    dense = name in ("han", "kana", "hangul")
    return name if most >= (2 if dense else _FEW_LETTERS) else None


def stop_language(text: str) -> str | None:
    """The language whose frequent words a text in Latin letters holds most of; None where that is not plain."""
    counted = Counter(words(text))
    hits = {language: sum(counted[word] for word in listed) for language, listed in _STOP_WORDS.items()}
    ranked = sorted(hits.values(), reverse=True)
    if ranked[0] < 3 or ranked[0] < 1.3 * ranked[1]:
        return None
    return max(hits, key=lambda language: hits[language])


def language(prompt: str, response: str) -> float | None:
    """1 where prompt and response are in one language, 0 where not, None where either cannot be told.

    By script, and within the Latin script by frequent words. A request for a translation, or for an answer in another
    language, is rightly answered in another one: leave this rule out where such prompts are common.
    """
    asked, said = script(_prose(prompt)), script(_prose(response))
    if asked is None or said is None:
        return None
    if asked != said:
        return 0.0
    if asked != "latin":
        return 1.0
    asked, said = stop_language(_prose(prompt)), stop_language(_prose(response))
    if asked is None or said is None:
        return None
    return 1.0 if asked == said else 0.0


def repetition(response: str, n: int = 3) -> float | None:
    """1 minus the share of word n-grams that stood there before; None for a text of fewer than n words."""
    listed = words(response)
    grams = list(zip(*(listed[start:] for start in range(n)), strict=False))
    return len(set(grams)) / len(grams) if grams else None


def refusal(response: str) -> float:
    """0 where the response opens with a refusal, else 1. Whether refusing was right is not for this rule to say."""
    return 0.0 if _REFUSAL.search(response.replace("’", "'")[:_REFUSAL_WITHIN]) else 1.0


def well_formed(response: str, finish_reason: str | None) -> float:
    """0 for a text that is empty or leaves a code fence open, 1/2 for one that does not end as a text does, else 1.

    A text that stopped by itself may also end in a line of a list, or be a few words long with no full stop.
    """
    text = response.strip()
    fences = sum(line.lstrip().startswith(("```", "~~~")) for line in text.splitlines())
    if not text or fences % 2:
        return 0.0
    last = text.splitlines()[-1].strip()
    ended = text.endswith(_ENDS)
    if finish_reason != "length":
        ended = ended or _LIST_LINE.match(last) is not None or len(words(text)) <= _SHORT_WORDS
    return 1.0 if ended else 0.5


def _prose(text: str) -> str:
    """The text without fenced code, which is English whatever surrounds it."""
    kept, fenced = [], False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            kept.append(line)
    return "\n".join(kept)
