"""Whether and how a chat template stands around texts: base models, and responses that go on over several turns."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata import schema
from prefdata.formats.writers import write
from prefdata.train import TrainConfig, TrainError, train
from prefdata.train.data import read_preferences
from prefdata.train.encoder import Encoder
from prefdata.train.tokens import Tokenised, tokenise

sys.path.insert(0, str(Path(__file__).parent.parent / "formats"))
from format_tables import Tables

Write = Callable[..., Path]
EDGES = frozenset({"edges"})


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


@pytest.fixture
def base(tokenizer: Any) -> Any:
    """Without a chat template, and with a token that starts every text, as base models have one."""
    from tokenizers.processors import TemplateProcessing

    own = copy.deepcopy(tokenizer)
    own.chat_template = None
    own.add_special_tokens({"bos_token": "<|bos|>"})
    start = TemplateProcessing("<|bos|> $A", special_tokens=[("<|bos|>", own.bos_token_id)])
    own.backend_tokenizer.post_processor = start
    return own


def run(path: Path, tokenizer: Any, template: str = "auto", **options: Any) -> Tokenised:
    data = read_preferences(path)
    encoder = Encoder(tokenizer, "tiny", templated=data.templated, template=template)
    return tokenise(data, encoder, EDGES, **{"max_length": 2000, "overlong": "error", **options})


def shown(made: Tokenised, tokenizer: Any) -> Iterator[tuple[str, str]]:
    """Each row, and what of it is trained."""
    for entry in made.training:
        for row in entry.rows:
            yield tokenizer.decode(row.tokens), tokenizer.decode([row.tokens[place] for place in row.scored])


# Base models


SEVERAL = [{"role": "system", "content": "be kind"}, *user("q"), {"role": "assistant", "content": "a"}, *user("why?")]


def test_a_base_model_reads_contents_joined_by_blank_lines(tmp_path: Path, write_lists: Write, base: Any) -> None:
    """One end after each response, where it ends; prefixes and what is not the assistant's are read, not trained."""
    tool = [{"end": 4, "role": "assistant"}, {"end": 9, "role": "tool"}]
    row = {"prompt": SEVERAL, "responses": [" yes", "no", "call[out]end"], "prefixes": [None, "p", None]}
    row |= {"ends_turn": [True, False, True], "segments": [None, None, tool]}
    made = run(write_lists(tmp_path / "l.parquet", [row]), base, "none")
    opened = "<|bos|>be kind\n\nq\n\na\n\nwhy?"
    assert list(shown(made, base)) == [
        (opened + " yes<|end|>", " yes<|end|>"),
        (opened + "pno", "no"),
        (opened + "call[out]end<|end|>", "callend<|end|>"),
    ]


def test_a_base_model_without_being_told_so_is_a_sentence(tmp_path: Path, write_lists: Write, base: Any) -> None:
    path = write_lists(tmp_path / "l.parquet", [{"responses": ["a", "b"]}])
    with pytest.raises(TrainError, match=r"row 0: .* has no chat template, .* set `template: none` to train a base"):
        run(path, base)


@settings(deadline=None, max_examples=40)
@given(contents=st.lists(st.one_of(st.none(), st.text(max_size=8)), min_size=1, max_size=4), answer=st.text(max_size=8))
def test_a_base_model_is_trained_on_what_it_is_sampled_with(
    tokenizer: Any, contents: list[str | None], answer: str
) -> None:
    """The engine's prompt and the trainer's are the same ids, message by message."""
    from prefdata.engines.base import Request
    from prefdata.engines.chat import ChatTokenizer

    plain = copy.copy(tokenizer)
    plain.chat_template = None
    engine = ChatTokenizer.__new__(ChatTokenizer)
    engine.tokenizer = plain
    turns = [{"role": "user", "content": content} for content in contents]
    prompt = Encoder(plain, "tiny", templated=None, template="none").prompt(turns)
    assert list(prompt) == engine.prompt(turns)
    assert list(prompt) == engine.continued(Request("logprobs", tuple(turns), continuation=answer))[0]


def test_texts_and_lists_are_the_same_to_a_base_model(tmp_path: Path, base: Any) -> None:
    """What `--template none` exports is what is made of lists; what a text cannot hold is left out of it."""
    tables = Tables()
    prompt = tables.prompt([schema.message(turn["role"], turn["content"]) for turn in SEVERAL])
    tables.preference(prompt, ["x", "y"], [2.0, 1.0])
    asked = tables.prompt("Once?")
    segments = [{"end": 1, "role": "assistant"}, {"end": 2, "role": "tool"}]
    ids = [tables.response(asked, text, segments=own) for text, own in (("a", None), ("b", None), ("cde", segments))]
    tables.preference_of(asked, ids, [3.0, 2.0, 1.0])
    lists = tables.lists()
    write(lists, "lists", tmp_path / "lists.parquet")
    from_lists = run(tmp_path / "lists.parquet", base, "none")
    written = write(lists, "trl-pairs", tmp_path / "pairs.parquet", template="none")
    assert (written.rows, written.left_out) == (2, {"several turns": 2})
    for template in ("none", "auto"):
        from_pairs = run(tmp_path / "pairs.parquet", base, template)
        assert set(shown(from_pairs, base)) == {row for row in shown(from_lists, base) if "cde" not in row[0]}
    alone = write(lists, "unpaired", tmp_path / "alone.parquet", template="none", from_lists=True)
    assert (alone.rows, alone.left_out) == (3, {"several turns": 1, "both wanted and not": 1})


def test_rendered_texts_are_no_base_models(tmp_path: Path, base: Any, tokenizer: Any) -> None:
    tables = Tables()
    tables.preference(tables.prompt("Why?"), ["x", "y"], [2.0, 1.0])
    tokenizer.save_pretrained(tmp_path / "chat")
    write(tables.lists(), "trl-pairs", tmp_path / "p.parquet", template=str(tmp_path / "chat"))
    with pytest.raises(TrainError, match=r"p.parquet holds texts that were rendered with a chat template"):
        run(tmp_path / "p.parquet", base, "none")


def test_a_prompt_that_quotes_a_special_token_is_a_text_still(tmp_path: Path, write_pairs: Write, base: Any) -> None:
    """Auto takes it for a rendered one; none says that it is not."""
    rows = [{"prompt": "what is <|turn|>?", "chosen": "a", "rejected": "b"}]
    path = write_pairs(tmp_path / "p.parquet", rows, False, form=None)
    assert [trained for _, trained in shown(run(path, base), base)] == ["a", "b"]
    assert [trained for _, trained in shown(run(path, base, "none"), base)] == ["a<|end|>", "b<|end|>"]


def test_a_rationale_is_asked_for_without_a_template(tmp_path: Path, write_lists: Write, base: Any) -> None:
    row = {"prompt": user("q"), "responses": ["a", "b"], "rationales": [{"of": [0, 1], "text": "so"}]}
    data = read_preferences(write_lists(tmp_path / "l.parquet", [row]))
    encoder = Encoder(base, "tiny", templated=None, template="none")
    made = tokenise(
        data,
        encoder,
        {"edges", "rationales"},
        max_length=99,
        overlong="error",
        rationale_template="{prompt}{first}{second}?",
    )
    assert base.decode(made.training[0].rationales[0].tokens) == "<|bos|>qab?so<|end|>"


def test_a_base_model_trains(tmp_path: Path, write_lists: Write, base: Any) -> None:
    from tiny_model import save_tiny_model

    save_tiny_model(tmp_path / "base", base)
    path = write_lists(tmp_path / "l.parquet", [{"responses": ["a", "b", "c"]}] * 2)
    told = {"data": path, "model": str(tmp_path / "base"), "out": tmp_path / "out", "max_steps": 1}
    lines: list[str] = []
    with pytest.raises(TrainError, match="template: none"):
        train(TrainConfig(**told), lines.append)
    made = train(TrainConfig(**told, template="none"), lines.append)
    assert made.first_loss == pytest.approx(0.693147, abs=1e-5)


@pytest.mark.slow
@pytest.mark.model
def test_a_real_base_model_is_trained_on_what_it_is_sampled_with(tmp_path: Path, write_lists: Write) -> None:
    from prefdata.engines.chat import ChatTokenizer
    from prefdata.engines.models import model_folder
    from prefdata.errors import EngineError

    try:
        folder = model_folder("gemma3-270m")
    except EngineError:
        pytest.skip("the base model was not fetched")
    engine = ChatTokenizer(str(folder))
    path = write_lists(tmp_path / "l.parquet", [{"prompt": SEVERAL, "responses": [" yes", "no \U0001f600"]}])
    (entry,) = run(path, engine.tokenizer, "none").training
    for row, start, answer in zip(entry.rows, entry.starts, (" yes", "no \U0001f600"), strict=True):
        assert list(row.tokens[:start]) == engine.prompt(SEVERAL)
        assert list(row.tokens[start:]) == [*engine.plain(answer), engine.tokenizer.eos_token_id]
        assert row.scored == tuple(range(start, len(row.tokens)))


# Turns inside a response


def observed(*parts: tuple[str, str]) -> dict[str, Any]:
    """A response's text and segments from (role, text)."""
    text, segments = "", []
    for role, part in parts:
        text += part
        segments.append({"end": len(text), "role": role, "kind": "observation" if role == "tool" else "step"})
    return {"text": text, "segments": segments}


CASES = {
    "inside": (("assistant", "think "), ("assistant", "call"), ("tool", "[out]\n\n"), ("assistant", " é tail")),
    "at the end": (("assistant", "call"), ("tool", "[out]")),
    "twice": (("assistant", "a\n\n"), ("tool", "1"), ("tool", "2"), ("assistant", "b"), ("user", "u"), ("", "c")),
    "without": (("assistant", "one "), ("assistant", "two")),
}
OPENED = "<|turn|>user\nWhy?<|end|>\n<|turn|>assistant\n"
WRITTEN = {
    "inside": "think call<|end|>\n<|turn|>tool\n[out]<|end|>\n<|turn|>assistant\n é tail<|end|>",
    "at the end": "call<|end|>",
    "twice": "a<|end|>\n<|turn|>tool\n12<|end|>\n<|turn|>assistant\nb<|end|>\n<|turn|>user\nu<|end|>\n"
    "<|turn|>assistant\nc<|end|>",
    "without": "one two<|end|>",
}
TRAINED = {
    "inside": "think call<|end|> é tail<|end|>",
    "at the end": "call<|end|>",
    "twice": "a<|end|>b<|end|>c<|end|>",
    "without": "one two<|end|>",
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("finish", ["stop", "tool"])
def test_a_tools_output_is_the_same_in_every_form(tmp_path: Path, tokenizer: Any, case: str, finish: str) -> None:
    """A turn begins where the role changes, whatever a segment's kind: lists, messages and rendered texts are the same
    token ids, and lists and messages train the same of them. A rendered text cannot say what is not trained."""
    tables = Tables()
    prompt = tables.prompt("Why?")
    given = observed(*CASES[case])
    first = tables.response(prompt, given["text"], segments=given["segments"], finish_reason=finish)
    tables.preference_of(prompt, [first, tables.response(prompt, "plain")], [2.0, 1.0])
    tokenizer.save_pretrained(tmp_path / "chat")
    made = {}
    for form in ("lists", "trl-pairs-conversational", "trl-pairs"):
        path = tmp_path / f"{form}.parquet"
        write(tables.lists(), form, path, template=str(tmp_path / "chat") if form == "trl-pairs" else None)
        (made[form],) = run(path, tokenizer).training
    ends = finish == "stop" or case == "at the end"  # where a tool answers, the turn before it has ended
    written, trained = WRITTEN[case], TRAINED[case]
    if not ends:
        written, trained = written.removesuffix("<|end|>"), trained.removesuffix("<|end|>")
    row = made["lists"].rows[0]
    assert tokenizer.decode(row.tokens) == OPENED + written
    assert tokenizer.decode([row.tokens[place] for place in row.scored]) == trained
    assert made["trl-pairs"].rows[0].tokens == row.tokens
    if ends:  # messages cannot say that a turn goes on
        assert made["trl-pairs-conversational"].rows == made["lists"].rows
    assert made["trl-pairs"].rows[1] == made["lists"].rows[1]


def test_a_response_that_goes_on_after_a_call(tmp_path: Path, write_lists: Write, tokenizer: Any) -> None:
    """The prefix is all of the assistant's first turn; neither it nor its end is trained."""
    tool = [{"end": 3, "role": "tool"}]
    row = {"prompt": user("Why?"), "responses": ["outso", "x"], "prefixes": ["call", None], "segments": [tool, None]}
    made = run(write_lists(tmp_path / "l.parquet", [row]), tokenizer)
    written = "call<|end|>\n<|turn|>tool\nout<|end|>\n<|turn|>assistant\nso<|end|>"
    assert next(shown(made, tokenizer)) == (OPENED + written, "so<|end|>")
    row["prefixes"] = [None, None]
    with pytest.raises(TrainError, match="row 0: the response begins with another's turn"):
        run(write_lists(tmp_path / "l.parquet", [row]), tokenizer)


def test_the_export_of_a_response_that_goes_on_after_a_call(tmp_path: Path, tokenizer: Any) -> None:
    tables = Tables()
    prompt = tables.prompt("Why?")
    call = tables.response(prompt, "call", finish_reason="tool")
    tool = [{"end": 3, "role": "tool"}]
    ids = [tables.response(prompt, text, prefix_id=call, segments=tool) for text in ("outso", "outno")]
    tables.preference_of(prompt, ids, [2.0, 1.0])
    tokenizer.save_pretrained(tmp_path / "chat")
    write(tables.lists(), "trl-pairs", tmp_path / "p.parquet", template=str(tmp_path / "chat"))
    row = pl.read_parquet(tmp_path / "p.parquet").row(0, named=True)
    assert row["prompt"] == OPENED + "call"
    assert row["chosen"] == "<|end|>\n<|turn|>tool\nout<|end|>\n<|turn|>assistant\nso<|end|>\n"


def test_a_response_of_others_alone_is_left_out(tmp_path: Path, write_lists: Write, tokenizer: Any) -> None:
    rows = [{"responses": ["out", "x"], "segments": [[{"end": 3, "role": "tool"}], None]}, {"responses": ["a", "b"]}]
    made = run(write_lists(tmp_path / "l.parquet", rows), tokenizer)
    assert made.left_out == {"nothing of a response is trained": 1}
