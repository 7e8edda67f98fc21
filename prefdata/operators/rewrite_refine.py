"""`rewrite.refine`: a better response from a critique of it."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from prefdata.operators.evidence import matching
from prefdata.operators.rewrite import RewriteStep, Wish
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Group
from prefdata.schema import Row, make_id


@step("rewrite.refine")
class Refine(RewriteStep):
    """Write each response anew, heeding the critiques of it.

    Critiques are annotations of the protocol `critique` about one response: of judges (`judge.critique`) and of people.
    All that speak about a response are shown together; a response without one is left as it is. Rounds are written as
    steps, each with `from:` the round before:

        - judge.critique: {name: critique-1, from: [sample]}
        - rewrite.refine: {name: refine-1, from: [sample]}
        - judge.critique: {name: critique-2, from: [refine-1]}
        - rewrite.refine: {name: refine-2, from: [refine-1]}

    n rounds give n + 1 versions of a response, each the parent of the next, and `pair.refined` pairs them. Unchanged
    texts are dropped (`no_change`), and those whose length is out of proportion (`length_ratio`).
    """

    reads = frozenset({"prompts", "responses", "annotations"})
    rewriting: ClassVar[str] = "refine"

    engine: str = Field(description="The engine that rewrites.")
    annotators: tuple[str, ...] = Field((), description="Only the critiques of these (`*` stands for any text).")
    aspects: tuple[str, ...] = Field((), description="Only the critiques under these aspects (`*` as above).")

    def writer(self) -> str:
        """See the base class."""
        return self.engine

    def wish(self, parent: Row, group: Group) -> Wish | None:
        """Heed the critiques; None where there is none."""
        critiques = [row for row in group.annotations if self._speaks_of(row, parent)]
        if not critiques:
            return None
        names = ["Critique"] if len(critiques) == 1 else [f"Critique {n}" for n in range(1, len(critiques) + 1)]
        said = "a critique" if len(critiques) == 1 else "critiques"
        return Wish(
            f"Below are a prompt, a response to it, and {said} of the response. Write a better response to the prompt: "
            f"put right what is criticised with good reason, and keep what is good.",
            parts=[(name, row["text"]) for name, row in zip(names, critiques, strict=True)],
            # What it says and not its revision: one that is corrected and set back gives the old response its old name.
            params={"critiques": [[row["annotation_id"], make_id("said", row["text"])] for row in critiques]},
        )

    def _speaks_of(self, row: Row, parent: Row) -> bool:
        return (
            row["protocol"] == "critique"
            and (row.get("target") or "response") == "response"
            and list(row["target_ids"]) == [parent["response_id"]]
            and row["status"] == "ok"
            and bool((row.get("text") or "").strip())
            and (not self.annotators or bool(matching([row["annotator"]], self.annotators)))
            and (not self.aspects or bool(matching([row["aspect"]], self.aspects)))
        )
