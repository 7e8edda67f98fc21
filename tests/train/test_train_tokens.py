"""Token ids: a strict prefix, one end of turn, and what becomes of long lists."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata.train import TrainError
from prefdata.train.data import PreferenceData, read_preferences
from prefdata.train.tokens import Encoder, Tokenised, tokenise

Write = Callable[..., Path]
EDGES: frozenset[Any] = frozenset({"edges"})
RANKS: frozenset[Any] = frozenset({"ranks"})


@pytest.fixture
def end(tokenizer: Any) -> int:
    return int(tokenizer.eos_token_id)


def run(
    data: PreferenceData | Path,
    tokenizer: Any,
    *,
    reads: frozenset[Any] = EDGES,
    max_length: int = 500,
    overlong: str = "error",
) -> Tokenised:
    data = read_preferences(data) if isinstance(data, Path) else data
    encoder = Encoder(tokenizer, "tiny", templated=data.templated)
    return tokenise(data, encoder, reads, max_length=max_length, overlong=overlong)


def test_conversation_is_what_the_template_writes(tmp_path: Path, write_lists: Write, tokenizer: Any, end: int) -> None:
    (entry,) = run(
        write_lists(
            tmp_path / "l.parquet", [{"responses": ["yes", "no"], "prompt": [{"role": "user", "content": "q"}]}]
        ),
        tokenizer,
    ).training
    assert tokenizer.decode(entry.prompt) == "<|turn|>user\nq<|end|>\n<|turn|>assistant\n"
    assert [tokenizer.decode(response) for response in entry.responses] == ["yes<|end|>", "no<|end|>"]
    assert [response.count(end) for response in entry.responses] == [1, 1]


@settings(deadline=None, max_examples=40)
@given(st.text(max_size=20), st.text(min_size=1, max_size=20))
def test_prompt_is_a_strict_prefix_and_text_survives(tokenizer: Any, question: str, answer: str) -> None:
    """What the model is sampled with, byte for byte, whatever the response begins with."""
    encoder = Encoder(tokenizer, "tiny", templated=None)
    prompt = [{"role": "user", "content": question}]
    ids = encoder.prompt(prompt, None)
    sampled = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False)
    assert ids == sampled
    row = ids + encoder.response(answer, encoder.turn_end)
    assert row[: len(ids)] == ids
    assert tokenizer.decode(row[len(ids) :]) == answer + "<|end|>"


def test_ends_turn_false_adds_no_end(tmp_path: Path, write_lists: Write, tokenizer: Any, end: int) -> None:
    rows = [{"responses": ["ab", "c"], "ends_turn": [False, True]}]
    (entry,) = run(write_lists(tmp_path / "l.parquet", rows), tokenizer).training
    assert [end in response for response in entry.responses] == [False, True]


def test_an_end_that_is_there_is_not_doubled(tmp_path: Path, write_lists: Write, tokenizer: Any, end: int) -> None:
    (entry,) = run(write_lists(tmp_path / "l.parquet", [{"responses": ["ab<|end|>", "c"]}]), tokenizer).training
    assert [response.count(end) for response in entry.responses] == [1, 1]


def test_an_end_inside_a_response_is_left_out(tmp_path: Path, write_lists: Write, tokenizer: Any) -> None:
    rows = [{"responses": ["a<|end|>b", "c"]}, {"responses": ["a", "c"]}]
    made = run(write_lists(tmp_path / "l.parquet", rows), tokenizer)
    assert [entry.source.row for entry in made.training] == [1]
    assert made.left_out == {"the end-of-turn token stands inside a response": 1}


def test_plain_text_gets_one_end(tmp_path: Path, write_pairs: Write, tokenizer: Any, end: int) -> None:
    rows = [{"prompt": "Human: hi\n\nAssistant:", "chosen": " yes", "rejected": " no<|end|>"}]
    (entry,) = run(write_pairs(tmp_path / "p.parquet", rows, False), tokenizer).training
    assert tokenizer.decode(entry.prompt) == "Human: hi\n\nAssistant:"
    assert [tokenizer.decode(response) for response in entry.responses] == [" yes<|end|>", " no<|end|>"]


def test_rendered_text_is_used_as_it_is(tmp_path: Path, write_pairs: Write, tokenizer: Any) -> None:
    """Strings from `--template` carry their own ends; what is cut carries none."""
    rows = [{"prompt": "<|turn|>user\nq<|end|>\n<|turn|>assistant\n", "chosen": "yes<|end|>", "rejected": "cut of"}]
    (entry,) = run(write_pairs(tmp_path / "p.parquet", rows, False), tokenizer).training
    assert [tokenizer.decode(response) for response in entry.responses] == ["yes<|end|>", "cut of"]
    assert tokenizer.decode(entry.prompt) == rows[0]["prompt"]


def test_one_start_token_at_most(tokenizer: Any) -> None:
    """A tokenizer that puts a start token before every text: once before a prompt, never before a response."""
    import copy

    from tokenizers.processors import TemplateProcessing

    started = copy.deepcopy(tokenizer)
    started.add_special_tokens({"bos_token": "<|bos|>"})
    bos = started.bos_token_id
    started.backend_tokenizer.post_processor = TemplateProcessing("<|bos|> $A", special_tokens=[("<|bos|>", bos)])
    assert started("")["input_ids"] == [bos]
    encoder = Encoder(started, "tiny", templated=None)
    plain = encoder.prompt("abc", None)
    assert plain == [bos, *tokenizer("abc")["input_ids"]]
    assert encoder.prompt("<|bos|>abc", None) == plain
    assert encoder.end_after("abc", plain) == started.eos_token_id
    assert bos not in encoder.response("abc", started.eos_token_id)


def test_null_keys_never_reach_the_template(tmp_path: Path, write_lists: Write, tokenizer: Any) -> None:
    """The template asks `'tool_calls' in message`; the column has that key in every message."""
    prompt = [{"role": "user", "content": "q", "tool_calls": None}]
    prompt.append({"role": "assistant", "content": "", "tool_calls": '[{"name": "f"}]'})
    (entry,) = run(
        write_lists(tmp_path / "l.parquet", [{"responses": ["a", "b"], "prompt": prompt}]), tokenizer
    ).training
    text = tokenizer.decode(entry.prompt)
    assert text.count("<tools>") == 1
    assert '[{"name": "f"}]' in text


def test_no_template(tmp_path: Path, write_lists: Write, tokenizer: Any) -> None:
    import copy

    bare = copy.deepcopy(tokenizer)
    bare.chat_template = None
    with pytest.raises(TrainError, match="the tokenizer of tiny has no chat template"):
        run(write_lists(tmp_path / "l.parquet", [{"responses": ["a", "b"]}]), bare)


def test_overlong(tmp_path: Path, write_lists: Write, tokenizer: Any, end: int) -> None:
    rows = [
        {"responses": ["a" * 70, "b" * 5, "c" * 30]},
        {"responses": ["a", "b"]},
        {"responses": ["a", "b"], "prompt": [{"role": "user", "content": "q" * 90}]},
        {"responses": ["a" * 60 + "x", "a" * 60 + "y"]},
    ]
    path = write_lists(tmp_path / "l.parquet", rows)
    with pytest.raises(TrainError, match=r"row 0: \d+ tokens are more than max_length 80"):
        run(path, tokenizer, max_length=80, overlong="error")
    dropped = run(path, tokenizer, max_length=80, overlong="drop")
    assert [entry.source.row for entry in dropped.training] == [1]
    assert dropped.left_out == {"longer than 80 tokens": 3}
    assert dropped.truncated == 0

    cut = run(path, tokenizer, max_length=80, overlong="truncate")
    long, short = cut.training
    whole = run(path, tokenizer, max_length=500).training[0]
    assert (long.source.row, short.source.row) == (0, 1)
    assert long.longest == 80
    assert long.prompt == whole.prompt  # the same for all, and whole
    room = 80 - len(long.prompt)
    assert long.responses == [response[:room] for response in whole.responses]
    assert [response[-1] == end for response in long.responses] == [False, True, True]  # what is cut does not end
    assert cut.truncated == 2
    assert cut.left_out == {"the prompt alone fills 80 tokens": 1, "all responses equal": 1}


def test_no_list_without_response_tokens(tmp_path: Path, write_lists: Write, tokenizer: Any, end: int) -> None:
    rows = [{"responses": ["", "b"]}, {"responses": ["", "b"], "ends_turn": [False, True]}]
    made = run(write_lists(tmp_path / "l.parquet", rows), tokenizer)
    assert [entry.responses[0] for entry in made.training] == [[end]]
    assert made.left_out == {"empty response": 1}


def test_lists_that_say_nothing_are_counted(tmp_path: Path, write_lists: Write, tokenizer: Any) -> None:
    rows = [
        {"responses": ["a", "b"], "scores": [1.0, 1.0], "ranks": [1, 1]},
        {"responses": ["same", "same"]},
        {"responses": ["a", "b"]},
    ]
    path = write_lists(tmp_path / "l.parquet", rows)
    assert run(path, tokenizer).left_out == {"no response is better than another": 1, "all responses equal": 1}
    assert run(path, tokenizer, reads=RANKS).left_out == {"all ranks tie": 1, "all responses equal": 1}
    assert len(run(path, tokenizer, reads=frozenset()).training) == 2


def test_nothing_left_says_why(tmp_path: Path, write_lists: Write, tokenizer: Any) -> None:
    path = write_lists(tmp_path / "l.parquet", [{"responses": ["same", "same"]}] * 3)
    with pytest.raises(TrainError, match="has nothing to train on: 3 x all responses equal"):
        run(path, tokenizer)


def test_labels_that_a_loss_would_pass_over_are_refused(
    tmp_path: Path, write_pairs: Write, write_lists: Write, tokenizer: Any
) -> None:
    pairs = [{"prompt": "q", "chosen": "a", "rejected": "b"}, {"prompt": "q", "chosen": "a", "rejected": "b", "p": 0.8}]
    path = write_pairs(tmp_path / "p.parquet", pairs)
    with pytest.raises(TrainError, match=r"row 1: the pair is chosen with p = 0.8, and the loss reads ranks"):
        run(path, tokenizer, reads=RANKS)
    with pytest.raises(TrainError, match="the loss reads scores, and 'score_chosen' or 'score_rejected' is null"):
        run(path, tokenizer, reads=frozenset({"scores"}))
    lists = write_lists(tmp_path / "l.parquet", [{"responses": ["a", "b"], "ranks": None}])
    with pytest.raises(TrainError, match="row 0: the loss reads ranks, and the column 'ranks' is null"):
        run(lists, tokenizer, reads=RANKS)


@pytest.mark.parametrize(("template", "expected"), [("none", "yes<|end|>"), ("tiny", "yes"), (None, "yes")])
def test_the_footer_says_whether_texts_were_rendered(
    tmp_path: Path, write_pairs: Write, tokenizer: Any, template: str | None, expected: str
) -> None:
    """Where it does not say, a prompt that holds a special token was."""
    import pyarrow.parquet as pq

    path = write_pairs(tmp_path / "p.parquet", [{"prompt": "<|turn|>q", "chosen": "yes", "rejected": "no"}], False)
    table = pq.read_table(path)
    footer = {"prefdata.format": "trl-pairs/1"} | ({"prefdata.template": template} if template else {})
    pq.write_table(table.replace_schema_metadata(footer), path)
    (entry,) = run(path, tokenizer).training
    assert tokenizer.decode(entry.responses[0]) == expected
