"""`judge.rationale`: why the better response of a pair is better, as text that can be trained on."""

from __future__ import annotations

import re
from typing import ClassVar, Literal

from pydantic import Field

from prefdata.cards import Card
from prefdata.engines.base import Reply
from prefdata.operators.drawing import seed_of
from prefdata.operators.gathering import gather_all
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context, Group
from prefdata.schema import Row, Rows, annotation

from .asking import Juror, TextJudge, annotator_name, ask_until_read, completed
from .found import after_reasoning
from .frame import criteria_of, warning
from .preferred import labelled_pairs, pair_shown

RATIONALE = 1
"""Raise it when the wording here changes: it is part of every id."""

REMINDER = (
    "The last answer to this could not be used: it was empty or too long, or spoke of other names or marks. Write the "
    'explanation alone, and say "the better response" and "the other response".'
)

_FIELDS = re.compile(
    r"\b(?:chosen|rejected)\b"
    r"|\b(?:chosen|rejected|score|response|preference|annotation|prompt|rationale)s?_\w+"
    r"|\b(?:response|answer)\s+(?:[AB12]|one|two)\b"
    r"|\bdata ?set\b"
    r"|\[[0-9a-f]{8}\]",  # a mark of the frame, or what a small model makes of it
    re.IGNORECASE,
)
"""Words of a dataset and names that the judge was not given: a policy that is trained on them learns the label."""

_DETAIL = {
    "general": "Give the reasons in general terms, in two to four sentences: what the better response does and the "
    "other does not. Quote nothing.",
    "specific": "Be specific, in three to six sentences: point to the words, claims or steps in both responses that "
    "make the difference, and say of each why it does.",
}


@step("judge.rationale")
class Rationale(TextJudge):
    """Ask a language model why the better response of each pair is better, with the label shown.

    Reads the pairs that an earlier step made. One annotation for each pair and replicate: target `preference`, protocol
    `critique`, the rationale in `text`; the preference itself stays as it is. `general` asks for reasons without
    quotations, `specific` for what in the texts makes the difference. The export `lists` carries them along in
    `rationales`. Lists of more than two, ties and unpaired rows have no better response; they are left out and counted.

    The judge is told of "the better response" and "the other response". A rationale that is empty or cut off at
    `max_tokens`, repeats the frame, or holds the words of a dataset (chosen, rejected, names of columns, "Response A")
    where no text of the pair holds them, is `unparsed` and stays in `calls.raw`.

    Source: rationale-enriched preferences (Data-Centric Human Preference Optimization with Rationales), which trains
    on them by L = L_preference - gamma log pi(rationale | prompt, pair).
    """

    reads = frozenset({"prompts", "responses", "preferences"})
    narrows = "preferences"
    protocol: ClassVar[Literal["critique"]] = "critique"

    card: str = Field("rationale", description="A shipped card's name, or the path of your own card's YAML file.")
    detail: Literal["general", "specific"] = Field(
        "specific", description="Reasons in general, or pointing to what stands in the texts."
    )
    structured: Literal[False] = Field(False, description="A rationale is plain text.")

    async def judged(self, group: Group, juror: Juror, context: Context) -> Rows:
        """The rationales of a group's pairs."""
        rows = await gather_all(
            self._explain(*one, replicate, juror, context)
            for one in labelled_pairs(group, context)
            for replicate in range(self.times)
        )
        if not rows:
            return {}
        about = self.about(self._name(juror), juror.engine, [self.loaded.compared_criterion])
        return {"annotations": rows, **about}

    def _name(self, juror: Juror) -> str:
        return annotator_name(juror.engine, self.loaded, f"rationale-{self.detail}")

    async def _explain(
        self, preference: Row, prompt: Row, better: Row, worse: Row, replicate: int, juror: Juror, context: Context
    ) -> Row:
        row = annotation(
            group_id=preference["group_id"],
            prompt_id=preference["prompt_id"],
            target="preference",
            target_ids=[preference["preference_id"]],
            protocol="critique",
            annotator=self._name(juror),
            source="judge",
            aspect=preference["aspect"] or "overall",
            replicate=replicate,
            key={**self.key(juror.engine, prompt), "rationale": RATIONALE, "detail": self.detail},
            criterion_id=self.loaded.compared_criterion["criterion_id"],
        )
        seed = seed_of(row["annotation_id"])
        text, mark = rationale_message(preference, prompt, better, worse, self.loaded, self.detail)
        request = self.request(text, None, seed, replicate)
        shown = [better["text"], worse["text"], *(turn.get("content") or "" for turn in prompt["messages"])]

        def read(reply: Reply) -> dict[str, str]:
            said = after_reasoning(reply.text or "").strip()
            whole = reply.finish_reason != "length" and mark not in said.casefold()
            return {"rationale": said} if said and whole and not leaked(said, shown) else {}

        async def make(revision: int) -> Row:
            outcomes = await ask_until_read(
                context,
                juror.name,
                request,
                read,
                ["rationale"],
                revision=revision,
                reask=self.reask,
                reminder=REMINDER,
            )
            outcome = outcomes["rationale"]
            return completed(
                row,
                status=outcome.status,
                call_id=outcome.call_id,
                revision=outcome.revision,
                text=outcome.value,
            )

        return await context.once("annotations", row["annotation_id"], make)


def leaked(rationale: str, shown: list[str]) -> list[str]:
    """The words of the dataset in a rationale that it does not have from the texts shown."""
    known = "\n".join(shown).casefold()
    return sorted({word[0] for word in _FIELDS.finditer(rationale) if word[0].casefold() not in known})


def rationale_message(
    preference: Row, prompt: Row, better: Row, worse: Row, card: Card, detail: Literal["general", "specific"]
) -> tuple[str, str]:
    """The question why the better response is better, answered as plain text; and the mark of its frame."""
    mark, body = pair_shown(preference, prompt, better, worse, card)
    text = "\n\n".join(
        [
            card.instructions,
            f"Explain by:\n{criteria_of(card)}",
            warning(mark),
            body,
            f"{card.question} {_DETAIL[detail]}",
            'Call them "the better response" and "the other response", by no letter, number or other name. Write the '
            "explanation and nothing else: no title, no list of scores.",
        ]
    )
    return text, mark
