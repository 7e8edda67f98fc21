"""The columns of `lists` that few methods use, made only where some preference needs them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import polars as pl

from prefdata.dataset import View
from prefdata.formats.columns import LISTS, MEDIUM, complete, series
from prefdata.schema import Row

_MEDIUM_KEYS = MEDIUM.names


class RareColumns:
    """Prefixes, segments, media, further prompts, rationales and token scores of a frame of preferences.

    Rows that need none of it (nearly all, as a rule) are never looked at one by one.

    Attributes:
        without_prefix: rows whose response continues a text that is not there.
        without_prompt: rows that read a further prompt that is not there.
    """

    def __init__(
        self,
        tables: Mapping[str, pl.LazyFrame],
        frame: pl.DataFrame,
        prompts: pl.DataFrame,
        responses: pl.DataFrame,
    ) -> None:
        """Look up what the preferences of `frame` need.

        Args:
            tables: the live rows, as `training_lists` takes them.
            frame: preferences with `row` (0, 1, ...), `prompt_0` and the joined `media` of that prompt.
            prompts: prompt_id, rendered, tools, media of every prompt that they read.
            responses: the responses that they name.
        """
        self._tables, self._frame, self._prompts, self._responses = tables, frame, prompts, responses
        self.without_prefix: set[int] = set()
        self.without_prompt: set[int] = set()
        self._made: dict[str, dict[int, Any]] = {
            "prefixes": self._prefixes(),
            "segments": self._segments(),
            "response_media": self._response_media(),
            "media": self._media(),
            "rationales": self._rationales(),
        }
        self._made |= self._further_prompts()
        self._made["token_scores"] = self._token_scores()

    def columns(self) -> list[pl.Series]:
        """One column for each of LISTS' rare ones that some row fills, in the order of the frame's rows."""
        return [
            series(name, [values.get(row) for row in range(self._frame.height)], LISTS.field(name).type)
            for name, values in self._made.items()
            if values
        ]

    @cached_property
    def _long(self) -> pl.DataFrame:
        """row, position, response_id."""
        return (
            self._frame.select(
                "row", response_id="response_ids", position=pl.int_ranges(pl.col("response_ids").list.len())
            )
            .filter(pl.col("response_id").list.len() > 0)
            .explode("response_id", "position")
        )

    def _responses_with(self, column: str) -> dict[str, Row]:
        """The preferred responses that fill a column, by id."""
        found = self._responses.filter(pl.col(column).is_not_null()).select("response_id", "text", column)
        return {row["response_id"]: row for row in found.iter_rows(named=True)}

    def _rows_with(self, ids: Iterable[str]) -> Iterable[tuple[int, list[str]]]:
        """The rows that hold one of these responses, each with all its response ids."""
        rows = self._long.filter(pl.col("response_id").is_in(list(ids))).select("row").unique()
        held = self._frame.select("row", "response_ids").join(rows, on="row", how="semi")
        return ((row, response_ids) for row, response_ids in held.iter_rows())

    def _prefixes(self) -> dict[int, list[str | None]]:
        continuing = self._responses_with("prefix_id")
        if not continuing:
            return {}
        known = complete("responses", self._tables["responses"]).select("response_id", "text", "prefix_id").collect()
        texts = {response_id: (text, before) for response_id, text, before in known.iter_rows()}
        made: dict[int, list[str | None]] = {}
        for row, response_ids in self._rows_with(continuing):
            prefixes: list[str | None] = []
            for response_id in response_ids:
                chain: list[str] = []
                before, seen = texts.get(response_id, (None, None))[1], {response_id}
                while before is not None:
                    text, earlier = texts.get(before, (None, None))
                    if text is None or before in seen:
                        self.without_prefix.add(row)
                        break
                    seen.add(before)
                    chain.append(text)
                    before = earlier
                prefixes.append("".join(reversed(chain)) if chain else None)
            made[row] = prefixes
        return made

    def _segments(self) -> dict[int, list[list[Row] | None]]:
        segmented = self._responses_with("segments")
        if not segmented:
            return {}
        made: dict[int, list[list[Row] | None]] = {}
        for row, response_ids in self._rows_with(segmented):
            values = self._step_values.get(row, {})
            made[row] = [
                [
                    {**segment, "value": values.get((response_id, part))}
                    for part, segment in enumerate(segmented[response_id]["segments"])
                ]
                if response_id in segmented
                else None
                for response_id in response_ids
            ]
        return made

    @cached_property
    def _step_values(self) -> dict[int, dict[tuple[str, int], float]]:
        """By row, by response and segment: the mean score among the annotations with parts that the row rests on."""
        rests = self._frame.select("row", annotation_id="annotation_ids").filter(pl.col("annotation_id").list.len() > 0)
        rests = rests.explode("annotation_id")
        parted = (
            complete("annotations", self._tables["annotations"])
            .filter(pl.col("parts").is_not_null() & pl.col("scores").is_not_null() & (pl.col("target") == "response"))
            .select("annotation_id", "target_ids", "parts", "scores")
            .join(rests.lazy(), on="annotation_id", how="inner")
            .collect()
        )
        found: dict[int, dict[tuple[str, int], list[float]]] = defaultdict(lambda: defaultdict(list))
        for row in parted.iter_rows(named=True):
            for target, part, score in zip(row["target_ids"], row["parts"], row["scores"], strict=True):
                found[row["row"]][target, part].append(score)
        return {
            row: {key: sum(scores) / len(scores) for key, scores in values.items()} for row, values in found.items()
        }

    def _response_media(self) -> dict[int, list[list[Row] | None]]:
        with_media = self._responses_with("media")
        return {
            row: [_media(with_media[one]["media"]) if one in with_media else None for one in response_ids]
            for row, response_ids in (self._rows_with(with_media) if with_media else ())
        }

    def _media(self) -> dict[int, list[Row] | None]:
        held = self._frame.filter(pl.col("media").list.len() > 0).select("row", "media")
        return {row: _media(media) for row, media in held.iter_rows()}

    def _rationales(self) -> dict[int, list[Row]]:
        """By row, the texts that its `rationale_ids` name, and the critiques of the preference itself."""
        named = self._frame.filter(pl.col("rationale_ids").list.len() > 0).select("row", one="rationale_ids")
        wanted = pl.concat([named.explode("one"), self._critiques()]).unique(maintain_order=True)
        if not wanted.height:
            return {}
        said = (
            complete("annotations", self._tables["annotations"])
            .filter(pl.col("text").is_not_null())
            .join(wanted.lazy().select(annotation_id="one").unique(), on="annotation_id", how="semi")
            .select("annotation_id", "target", "target_ids", "text")
            .collect()
        )
        by_id = {row["annotation_id"]: row for row in said.iter_rows(named=True)}
        responses = self._frame.select("row", "response_ids").join(wanted, on="row", how="semi")
        response_ids: dict[int, list[str]] = dict(responses.iter_rows())
        made: dict[int, list[Row]] = defaultdict(list)
        for row, one in wanted.iter_rows():
            if one in by_id:
                made[row].append(_rationale(by_id[one], response_ids[row]))
        return dict(made)

    def _critiques(self) -> pl.DataFrame:
        """row, and `one` annotation whose text says why that preference holds, in the order of the ids."""
        about = pl.col("target") == "preference"
        rows = self._tables["annotations"]
        if isinstance(self._tables, View):  # of all annotations few are about preferences
            rows = self._tables.annotations_where(about)
        critiques = complete("annotations", rows).filter(
            about & (pl.col("protocol") == "critique") & (pl.col("status") == "ok")
        )
        found = critiques.select(one="annotation_id", preference_id=pl.col("target_ids")).explode("preference_id")
        mine = self._frame.lazy().select("row", "preference_id")
        return mine.join(found, on="preference_id", how="inner").select("row", "one").sort("row", "one").collect()

    def _further_prompts(self) -> dict[str, dict[int, Any]]:
        columns: dict[str, dict[int, Any]] = {"other_prompts": {}, "prompt_of": {}, "ref_prompt_of": {}}
        several = self._frame.filter(pl.col("prompt_ids").is_not_null() | pl.col("ref_prompt_id").is_not_null())
        if not several.height:
            return columns
        known = {row["prompt_id"]: row for row in self._prompts.iter_rows(named=True)}
        for row in several.select("row", "prompt_0", "response_ids", "prompt_ids", "ref_prompt_id").iter_rows(
            named=True
        ):
            numbers: dict[str | None, int] = {row["prompt_0"]: 0}
            of = [numbers.setdefault(one, len(numbers)) for one in row["prompt_ids"] or ()]
            if any(of):
                columns["prompt_of"][row["row"]] = of
            if row["ref_prompt_id"] is not None:
                number = numbers.setdefault(row["ref_prompt_id"], len(numbers))
                columns["ref_prompt_of"][row["row"]] = [number] * len(row["response_ids"])
            others = list(numbers)[1:]
            if any(one not in known for one in others):
                self.without_prompt.add(row["row"])
            elif others:
                columns["other_prompts"][row["row"]] = [_other_prompt(known[str(one)]) for one in others]
        return columns

    def _token_scores(self) -> dict[int, list[Row]]:
        if "token_scores" not in self._tables:
            return {}
        read = self._long.join(
            self._frame.select("row", "prompt_0", "prompt_ids", "ref_prompt_id"), on="row", how="left"
        ).unique(["row", "response_id"], keep="first", maintain_order=True)
        scored = (
            complete("token_scores", self._tables["token_scores"])
            .join(read.lazy().select("response_id").unique(), on="response_id", how="semi")
            .collect()
        )
        by_response: dict[str, list[Row]] = defaultdict(list)
        for row in scored.sort("scorer", "kind", "prompt_id").iter_rows(named=True):
            by_response[row["response_id"]].append(row)
        made: dict[int, list[Row]] = defaultdict(list)
        for one in read.filter(pl.col("response_id").is_in(list(by_response))).iter_rows(named=True):
            numbers: dict[str | None, int] = {one["prompt_0"]: 0}
            for prompt_id in [*(one["prompt_ids"] or ()), *([one["ref_prompt_id"]] if one["ref_prompt_id"] else ())]:
                numbers.setdefault(prompt_id, len(numbers))
            for row in by_response[one["response_id"]]:
                if row["prompt_id"] in numbers:
                    rest = {key: value for key, value in row.items() if key not in ("response_id", "group_id", "step")}
                    del rest["prompt_id"]
                    made[one["row"]].append({"response": one["position"], "prompt": numbers[row["prompt_id"]], **rest})
        return dict(made)


def _media(media: Sequence[Mapping[str, Any]] | None) -> list[Row] | None:
    return None if media is None else [{key: medium[key] for key in _MEDIUM_KEYS} for medium in media]


def _other_prompt(prompt: Row) -> Row:
    return {"messages": prompt["rendered"], "tools": prompt["tools"], "media": _media(prompt["media"])}


def _rationale(annotation: Row, response_ids: Sequence[str]) -> Row:
    """A rationale and the positions it is about; about none of the responses alone: about the whole list."""
    targets = annotation["target_ids"] if annotation["target"] == "response" else ()
    places = [response_ids.index(target) for target in targets if target in response_ids]
    return {"of": places or list(range(len(response_ids))), "text": annotation["text"]}
