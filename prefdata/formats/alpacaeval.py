"""AlpacaEval: a judge's preferences between a baseline and many models (Dubois et al., 2024)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from prefdata import schema
from prefdata.errors import DataError
from prefdata.formats.arrow_rows import NAME, NUMBER, TEXT, Columns
from prefdata.formats.intake import Imported, Intake, in_id_order
from prefdata.formats.json_list import rows_of
from prefdata.formats.source import Record, describe, meta_json
from prefdata.schema import Row, message

INSTRUCTIONS, OUTPUTS, ANNOTATIONS = FILES = (
    "alpacaeval2_instructions.parquet",
    "alpacaeval2_outputs.parquet",
    "alpacaeval2_annotations.parquet",
)
_SIDES = ("1", "2")
_KINDS = {
    **dict.fromkeys(("instruction", "output", "output_1", "output_2"), TEXT),
    **dict.fromkeys(("index", "dataset", "generator", "generator_1", "generator_2", "annotator"), NAME),
    **dict.fromkeys(("preference", "instruction_difficulty", "len_1", "len_2"), NUMBER),
}
COLUMNS = {
    name: Columns(_KINDS, tuple((column,) for column in needed))
    for name, needed in (
        (INSTRUCTIONS, ("index", "instruction")),
        (OUTPUTS, ("index", "generator", "output")),
        (ANNOTATIONS, ("index", "generator_1", "generator_2", "annotator", "preference")),
        ("", ("instruction", "output_1", "output_2", "generator_1", "generator_2", "annotator", "preference")),
    )
}
"""Of each of the files; the last are those of AlpacaEval's own annotations.json."""
LENGTH, DIFFICULTY = "characters", "instruction_difficulty"
"""Aspects of what was measured."""
ORIGIN = "alpaca_eval"


def read_alpacaeval(source: str | Path, *, strict: bool = False) -> Imported:
    """Instructions, what models answered, and the judge's preferences as probabilities.

    - Each comparison is a `compare` annotation by `judge:` and the name of the judge. Its scores are the probabilities
      that either response is better: a preference of 1.3 is 0.7 for generator_1 and 0.3 for generator_2, and 0 (the
      origin's "no verdict") is half each. Without a preference its status is `unparsed`. Targets stand in the order of
      their ids, since the origin does not tell the order shown: the models' names tell which is which.
    - A response whose text the origin does not hold is a response without text (null): it was there, and was judged.
      Its length is known all the same: that of every response, in characters, is a `measure` annotation, aspect
      `characters`, annotator `rule:characters`, one for each instruction with all its responses. `pair` makes no pair
      of responses without text (it wants `aspects: [overall]`, since a length has no better end); before other steps
      that read texts, leave them out: `select.where: {table: responses, keep: text is not null}`.
    - The difficulty of an instruction is a `measure` annotation of the prompt, aspect `instruction_difficulty`.

    The leaderboard, its weights and the gamed baselines belong to no prompt or response and are not taken: see
    `prefdata.stats.length_controlled_win_rate` for what they serve.

    Args:
        source: the folder that holds alpacaeval2_instructions.parquet, alpacaeval2_annotations.parquet and, if there,
            alpacaeval2_outputs.parquet; or AlpacaEval's own annotations.json, or the same columns as JSON lines or
            Parquet (instruction, output_1, output_2, generator_1, generator_2, annotator, preference and, if there,
            dataset).
        strict: a row that cannot be read, or names what is not there, is an error.

    Raises:
        DataError: a file is missing or cannot be read, or, with `strict`, a row of it.
    """
    path = Path(source)
    reader = _Reader(Intake(path, strict))
    if path.is_dir():
        missing = [name for name in (INSTRUCTIONS, ANNOTATIONS) if not (path / name).is_file()]
        if missing:
            raise DataError(
                f"{path} should be the folder that holds {', '.join(FILES)}, or a file like AlpacaEval's own "
                f"annotations.json; {missing[0]} is not there"
            )
        for name, take in zip(FILES, (reader.instruction, reader.output, reader.judged), strict=True):
            if (path / name).is_file():
                for record in reader.intake.records(path / name, columns=COLUMNS[name]):
                    with reader.intake.row(record):
                        take(record)
    else:
        for record in rows_of(reader.intake, columns=COLUMNS[""]):
            with reader.intake.row(record):
                reader.whole(record)
    reader.measures()
    return reader.intake.imported()


@dataclass
class _Reader:
    """Each method reads all of a row before it takes any of it."""

    intake: Intake
    prompts: dict[str, Row] = field(default_factory=dict)
    """By index; in a file of its own the instruction's text stands for it."""
    outputs: dict[tuple[str, str], str] = field(default_factory=dict)
    """By index and model."""
    lengths: dict[str, dict[str, float]] = field(default_factory=dict)
    """By prompt, then by response."""
    difficulty: dict[str, float] = field(default_factory=dict)
    """By prompt."""

    def instruction(self, record: Record) -> None:
        index = _name(record, "index")
        prompt = self._prompt(record, index)
        if index in self.prompts:
            raise record.error(f"instruction {index!r} stands in the file twice", "index")
        hard = record.number_in("instruction_difficulty")
        prompt = self.intake.prompt(prompt)
        self.prompts[index] = prompt
        if hard is not None:
            self.difficulty[prompt["prompt_id"]] = hard

    def output(self, record: Record) -> None:
        index, generator = self._known(record), _name(record, "generator")
        text = record.text("output", blank=True)
        if self.outputs.get((index, generator), text) != text:
            raise record.error(f"{generator!r} has answered instruction {index!r} already, with another text", "output")
        self.outputs[index, generator] = text

    def judged(self, record: Record) -> None:
        index = self._known(record)
        texts = [self.outputs.get((index, _name(record, f"generator_{side}"))) for side in _SIDES]
        counted = [record.number_in(f"len_{side}") for side in _SIDES]
        for side, text, length in zip(_SIDES, texts, counted, strict=True):
            if text is not None and length not in (None, len(text)):
                raise record.error(f"it is {length:g}, and the output has {len(text)} characters", f"len_{side}")
        self._take(record, index, self.prompts[index], texts, counted)

    def whole(self, record: Record) -> None:
        index = record.text("instruction")
        texts: list[str | None] = [record.text(f"output_{side}", blank=True) for side in _SIDES]
        prompt = self.prompts.get(index) or self._prompt(record, None)
        self._take(record, index, prompt, texts, [None, None])
        self.prompts[index] = prompt

    def _take(
        self, record: Record, index: str, prompt: Row, texts: list[str | None], counted: list[float | None]
    ) -> None:
        """A comparison and the two responses."""
        generators, judge = [_name(record, f"generator_{side}") for side in _SIDES], _name(record, "annotator")
        scores = _scores(record)
        if generators[0] == generators[1] and texts[0] == texts[1]:
            self.intake.leave_out("a comparison of one response with itself")
            return
        prompt = self.intake.prompt(prompt)
        ids = []
        for generator, text, length in zip(generators, texts, counted, strict=True):
            made = schema.response(prompt, model=generator, text=text, key=[ORIGIN, generator, index, text])
            ids.append(self.intake.response(made)["response_id"])
            known = len(text) if text is not None else length
            if known is not None:
                self.lengths.setdefault(prompt["prompt_id"], {}).setdefault(ids[-1], float(known))
        targets, ordered = in_id_order(ids, scores or (0.0, 0.0))
        self.intake.annotation(
            group_id=prompt["group_id"],
            prompt_id=prompt["prompt_id"],
            target_ids=targets,
            protocol="compare",
            scores=ordered if scores else None,
            status="ok" if scores else "unparsed",
            annotator=f"judge:{judge}",
            source="judge",
            key=[ORIGIN, index, *generators],
        )

    def measures(self) -> None:
        """What is known of each prompt's responses, and of the prompt, once all rows are read."""
        for prompt in self.intake.prompts.values():
            prompt_id = prompt["prompt_id"]
            there = self.lengths.get(prompt_id, {})
            if there:
                self._measure(prompt, "response", there, LENGTH, f"rule:{LENGTH}")
            if prompt_id in self.difficulty:
                self._measure(prompt, "prompt", {prompt_id: self.difficulty[prompt_id]}, DIFFICULTY, ORIGIN)

    def _measure(self, prompt: Row, target: str, values: dict[str, float], aspect: str, annotator: str) -> None:
        self.intake.annotation(
            group_id=prompt["group_id"],
            prompt_id=prompt["prompt_id"],
            target=target,
            target_ids=list(values),
            protocol="measure",
            scores=list(values.values()),
            aspect=aspect,
            annotator=annotator,
            source="imported",
            key=[ORIGIN],
        )

    def _prompt(self, record: Record, index: str | None) -> Row:
        dataset = record.name("dataset")
        return schema.prompt(
            [message("user", record.text("instruction"))],
            source="alpacaeval",
            tags=[dataset] if dataset else None,
            meta=meta_json({"index": index}),
        )

    def _known(self, record: Record) -> str:
        index = _name(record, "index")
        if index not in self.prompts:
            raise record.error(f"{index!r} is no instruction that can be read", "index")
        return index


def _name(record: Record, column: str) -> str:
    name = record.name(column)
    if name is None:
        raise record.error(f"it should be text and is {describe(None)}", column)
    return name


def _scores(record: Record) -> tuple[float, float] | None:
    """The two probabilities that a preference means; None where there is none."""
    preference = record.number_in("preference")
    if preference is None:
        return None
    if preference == 0:
        return 0.5, 0.5
    if not 1 <= preference <= 2:
        raise record.error(f"it is {preference:g}; it must lie between 1 (the first) and 2 (the second)", "preference")
    return 2 - preference, preference - 1
