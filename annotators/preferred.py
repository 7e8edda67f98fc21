"""What the judges of pairs share: which preferences are pairs with a label, and how a judge is shown one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prefdata.cards import Card
from prefdata.framing import framed
from prefdata.pipeline.step import Context, Group
from prefdata.schema import Row

from .frame import visible

BETTER, WORSE = "Better response", "Other response"
"""What the two are called. The words of the dataset (chosen, rejected) would leak into what is trained on."""


def labelled_pairs(group: Group, context: Context) -> Iterator[tuple[Row, Row, Row, Row]]:
    """Preference, prompt, better response and other response of every pair of a group; others are counted in the log.

    A pair is a preference of two ranked responses under one prompt of which one is stated to be better.
    """
    prompts = {row["prompt_id"]: row for row in group.prompts}
    responses = {row["response_id"]: row for row in group.responses}
    skipped: Counter[str] = Counter()
    for preference in group.preferences:
        ends = _ends(preference)
        if isinstance(ends, str):
            skipped[ends] += 1
            continue
        prompt, better, worse = prompts.get(preference["prompt_id"]), *(responses.get(one) for one in ends)
        if prompt is None or better is None or worse is None or not better["text"] or not worse["text"]:
            skipped["a prompt or a text is missing"] += 1
            continue
        yield preference, prompt, better, worse
    for reason in sorted(skipped):
        context.log(f"preferences left out: {reason}")


def _ends(preference: Row) -> tuple[str, str] | str:
    """The ids of the better and the worse response, or why there are none."""
    ids, scores = preference["response_ids"] or [], preference["scores"] or []
    if preference["kind"] == "unpaired":
        return "unpaired responses have no label to explain"
    if preference["prompt_id"] is None or preference.get("prompt_ids"):
        return "the responses are to different prompts"
    if len(ids) != 2 or any(role != "ranked" for role in preference.get("roles") or ()):
        return "a list of more than two, or of other roles, is no pair (pair with best_worst, adjacent or all_pairs)"
    if edges := preference.get("edges"):
        edge = edges[0]
        p = 1.0 if edge["p"] is None else edge["p"]
        if p == 0.5:
            return "a tie has no better response"
        winner, loser = (edge["winner"], edge["loser"]) if p > 0.5 else (edge["loser"], edge["winner"])
        return ids[winner], ids[loser]
    if len(scores) != 2 or None in scores or scores[0] == scores[1]:
        return "a tie has no better response"
    return (ids[0], ids[1]) if scores[0] > scores[1] else (ids[1], ids[0])


def pair_shown(preference: Row, prompt: Row, better: Row, worse: Row, card: Card) -> tuple[str, str]:
    """The mark and the framed texts of a pair with its label, and by what they were compared if not as a whole."""
    aspect = preference["aspect"] or "overall"
    by = [] if aspect == "overall" else [("Compared by", aspect)]
    return framed([*visible(prompt, card), *by, (BETTER, better["text"]), (WORSE, worse["text"])])
