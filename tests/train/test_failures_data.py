"""What has gone wrong in other trainers between a file and its token ids; the number is that of the known failure."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prefdata.train import TrainError
from prefdata.train.data import PreferenceData, read_preferences
from prefdata.train.tokens import Encoder, Tokenised, tokenise

Write = Callable[..., Path]
TURNS = (
    "{% for m in messages %}<|turn|>{{ m['role'] }}\n{{ TEXT }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)
TEMPLATES = {
    "plain": TURNS.replace("TEXT", "m['content']"),
    "strips": TURNS.replace("TEXT", "m['content'] | trim"),
    "marks the last turn": TURNS.replace("TEXT", "('!' if loop.last else '') + m['content']"),
    "forgets thoughts": TURNS.replace("TEXT", "m['content'] if loop.last else m['content'].split('#')[-1]"),
    "opens with a thought": TURNS.replace("TEXT", "m['content']").replace(
        "assistant\n{% endif", "assistant\n#{% endif"
    ),
}


def tokenised(
    data: PreferenceData | Path, tokenizer: Any, *, max_length: int = 2000, overlong: str = "error", **options: Any
) -> Tokenised:
    data = read_preferences(data) if isinstance(data, Path) else data
    encoder = Encoder(tokenizer, "tiny", templated=data.templated)
    needed = options.pop("needed", {"edges"})
    return tokenise(data, encoder, needed, max_length=max_length, overlong=overlong, **options)


def with_template(tokenizer: Any, template: str) -> Any:
    made = copy.deepcopy(tokenizer)
    made.chat_template = template
    return made


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(sorted(TEMPLATES)), asked=TEXT, said=TEXT, answers=st.lists(TEXT, min_size=2, max_size=3))
def test_prompt_and_response_tokenised_jointly_differ_at_the_boundary(
    tmp_path: Path, write_lists: Write, tokenizer: Any, name: str, asked: str, said: str, answers: list[str]
) -> None:
    """3. The prompt's ids are those that the policy is sampled with, and a prefix of every row; a template that writes
    it otherwise once an answer follows is refused with its row, and nothing is ever sliced."""
    own = with_template(tokenizer, TEMPLATES[name])
    prompt = [*user("first"), {"role": "assistant", "content": "#" + said}, *user(asked)]
    path = write_lists(tmp_path / "l.parquet", [{"prompt": prompt, "responses": answers}])
    sampled = own.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False)
    text = own.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
    whole = [[*prompt, {"role": "assistant", "content": answer}] for answer in answers]
    kept = all(own.apply_chat_template(turns, tokenize=False).startswith(text) for turns in whole)
    if not kept:
        with pytest.raises(
            TrainError, match="row 0: the chat template of tiny writes a prompt otherwise once an answer"
        ):
            tokenised(path, own, needed=set())
        return
    assert name != "marks the last turn"
    try:
        made = tokenised(path, own, needed=set())
    except TrainError as error:
        assert "all responses equal" in str(error)
        return
    for row, start, answer in zip(made.training[0].rows, made.training[0].starts, answers, strict=True):
        assert list(row.tokens[:start]) == sampled
        assert own.decode(row.tokens[start:]) == answer + "<|end|>"


def test_a_template_that_opens_with_a_thought_is_refused(tmp_path: Path, write_lists: Write, tokenizer: Any) -> None:
    """3. The generation prompt itself may hold what the conversation then lacks; the sentence says where they part."""
    path = write_lists(tmp_path / "l.parquet", [{"responses": ["a", "b"]}])
    with pytest.raises(TrainError, match=r"l.parquet, row 0: .*'#' becomes 'a<\|end\|>.n' after '.*assistant.n'"):
        tokenised(path, with_template(tokenizer, TEMPLATES["opens with a thought"]))
    # Where the answers hold it too, it would stand twice.
    path = write_lists(tmp_path / "l.parquet", [{"responses": ["#a", "#b"]}])
    with pytest.raises(TrainError, match=r"row 0: .*does not write an answer as it is: '#a' becomes 'a<\|end\|>.n'"):
        tokenised(path, with_template(tokenizer, TEMPLATES["opens with a thought"]))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.tuples(st.integers(0, 30), st.booleans()), min_size=2, max_size=4),
    prefix=st.integers(0, 20),
    max_length=st.integers(2, 90),
)
def test_truncation_removes_the_whole_response(
    tmp_path: Path,
    write_lists: Write,
    tokenizer: Any,
    lengths: list[tuple[int, bool]],
    prefix: int,
    max_length: int,
) -> None:
    """4. No row without a trained token of its response ever reaches the loss, whatever was cut or is not the
    assistant's; what is left out is counted."""
    row: dict[str, Any] = {"responses": [chr(97 + k) * length for k, (length, _) in enumerate(lengths)]}
    tool = [{"end": 1, "role": "assistant"}, {"end": 10, "role": "tool"}]
    row["segments"] = [tool if masked and length >= 10 else None for length, masked in lengths]
    row["prefixes"] = ["p" * prefix, *([None] * (len(lengths) - 1))]
    row["ends_turn"] = [length % 2 == 0 for length, _ in lengths]
    rows = [row, {"responses": ["a", "b"], "prompt": user("")}]
    path = write_lists(tmp_path / "l.parquet", rows)
    try:
        made = tokenised(path, tokenizer, max_length=max_length, overlong="truncate", needed={"prompt_tokens"})
    except TrainError as error:
        assert "has nothing to train on" in str(error)
        return
    assert len(made.training) + made.left_out.total() == len(rows)
    for entry in made.training:
        for one, start in zip(entry.rows, entry.starts, strict=True):
            assert one.scored[-1] >= start
            assert len(one.tokens) <= max_length


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lengths=st.lists(st.integers(1, 40), min_size=2, max_size=5), max_length=st.integers(50, 100))
def test_the_cut_is_applied_to_the_chosen_response_only(
    tmp_path: Path, write_lists: Write, tokenizer: Any, lengths: list[int], max_length: int
) -> None:
    """5. All K responses keep the identical prompt, and are cut at the same length of response."""
    row = {"responses": [chr(97 + k) * length for k, length in enumerate(lengths)]}
    path = write_lists(tmp_path / "l.parquet", [row])
    (whole,) = tokenised(path, tokenizer).training
    (cut,) = tokenised(path, tokenizer, max_length=max_length, overlong="truncate").training
    (start,) = set(cut.starts)
    assert set(whole.starts) == {start}
    longest = max(len(one.tokens) for one in whole.rows)
    room = longest if longest <= max_length else max_length
    assert [one.tokens for one in cut.rows] == [one.tokens[:room] for one in whole.rows]
    assert cut.truncated == (longest > max_length)
    assert len({one.tokens[:start] for one in cut.rows}) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"media": [{"uri": "cat.png", "kind": "image"}]},
        {"response_media": [None, [{"uri": "cat.png", "kind": "image"}]]},
        {"other_prompts": [{"messages": user("q"), "media": [{"uri": "cat.png", "kind": "image"}]}]},
    ],
)
def test_image_tokens_are_dropped_silently(tmp_path: Path, write_lists: Write, change: dict[str, Any]) -> None:
    """6. Media are refused in a sentence with row and column; a column without any is none."""
    (column,) = change
    rows = [{"responses": ["a", "b"]}, {"responses": ["a", "b"], **change}]
    with pytest.raises(TrainError, match=rf"l.parquet, row 1, column '{column}': it holds media, and only texts"):
        read_preferences(write_lists(tmp_path / "l.parquet", rows))
    empty = [{"responses": ["a", "b"], "media": None, "response_media": None}]
    assert len(read_preferences(write_lists(tmp_path / "e.parquet", empty)).lists) == 1


@pytest.mark.parametrize("form", ["lists", "conversational", "plain", "rendered", "unpaired", "sft"])
@pytest.mark.parametrize("given_end", ["", "<|end|>"])
def test_the_end_of_turn_is_doubled_masked_or_missing(
    tmp_path: Path, write_lists: Write, write_pairs: Write, tokenizer: Any, form: str, given_end: str
) -> None:
    """7. Exactly one end-of-turn token stands in every response, the last of those trained."""
    end = tokenizer.eos_token_id
    assert tokenizer.pad_token_id == end
    texts = {"chosen": "yes" + given_end, "rejected": "no" + given_end}
    path = tmp_path / "d.parquet"
    if form == "lists":
        write_lists(path, [{"responses": list(texts.values())}])
    elif form in ("plain", "rendered"):
        rendered = form == "rendered"
        if rendered and not given_end:
            texts = {side: text + "<|end|>\n" for side, text in texts.items()}
        write_pairs(path, [{"prompt": "<|turn|>user\nq<|end|>" if rendered else "q", **texts}], False)
    elif form == "conversational":
        write_pairs(path, [{"prompt": "q", **texts}])
    else:
        label = {"label": True} if form == "unpaired" else {}
        pq.write_table(
            pa.Table.from_pylist([{"prompt": "q", "completion": text, **label} for text in texts.values()]), path
        )
    needed = {"labels"} if form in ("unpaired", "sft") else {"edges"}
    made = tokenised(path, tokenizer, needed=needed)
    rows = [(row, start) for entry in made.training for row, start in zip(entry.rows, entry.starts, strict=True)]
    assert len(rows) == 2
    for row, start in rows:
        assert row.tokens[start:].count(end) == 1
        assert row.tokens[-1] == end
        assert row.scored == tuple(range(start, len(row.tokens)))


@pytest.mark.parametrize("written_by", ["tokenizer", "template", "both", "nobody"])
@pytest.mark.parametrize("plain", [True, False])
def test_a_second_start_token(tmp_path: Path, write_pairs: Write, tokenizer: Any, written_by: str, plain: bool) -> None:
    """8. At most one start token, and only at 0; the row begins as what the model is sampled with."""
    from tokenizers.processors import TemplateProcessing

    own = copy.deepcopy(tokenizer)
    if written_by != "nobody":
        own.add_special_tokens({"bos_token": "<|bos|>"})
    bos = own.bos_token_id
    if written_by in ("tokenizer", "both"):
        post = TemplateProcessing("<|bos|> $A", special_tokens=[("<|bos|>", bos)])
        own.backend_tokenizer.post_processor = post
        assert own("")["input_ids"] == [bos]
    if written_by in ("template", "both"):
        own.chat_template = "{{ bos_token }}" + own.chat_template
    path = write_pairs(tmp_path / "p.parquet", [{"prompt": "q", "chosen": "a", "rejected": "b"}], not plain)
    (entry,) = tokenised(path, own).training
    sampled = (
        own("q")["input_ids"] if plain else own.apply_chat_template(user("q"), add_generation_prompt=True)["input_ids"]
    )
    for row, start in zip(entry.rows, entry.starts, strict=True):
        assert list(row.tokens[:start]) == list(sampled)
        assert bos not in row.tokens[1:]
        assert (row.tokens[0] == bos) == (written_by in ("both", "tokenizer" if plain else "template"))


def test_a_start_token_inside_a_text_is_left_out(tmp_path: Path, write_pairs: Write, tokenizer: Any) -> None:
    """8. One that a prompt begins with is not doubled; one inside a text is no text that a model reads."""
    from tokenizers.processors import TemplateProcessing

    own = copy.deepcopy(tokenizer)
    own.add_special_tokens({"bos_token": "<|bos|>"})
    bos = own.bos_token_id
    own.backend_tokenizer.post_processor = TemplateProcessing("<|bos|> $A", special_tokens=[("<|bos|>", bos)])
    rows = [{"prompt": prompt, "chosen": "a", "rejected": "b"} for prompt in ("<|bos|>q", "q", "<|bos|><|bos|>q")]
    made = tokenised(write_pairs(tmp_path / "p.parquet", rows, False), own)
    first, second = made.training
    assert first.rows[0].tokens[:2] == (bos, *own("q", add_special_tokens=False)["input_ids"])
    assert second.rows[0].tokens[0] == bos
    assert made.left_out == {"the start token stands inside a text": 1}


def test_which_turns_are_trained_is_guessed_from_token_ids(tmp_path: Path, tokenizer: Any) -> None:
    """9. Trained are the spans that the data name, also where the pad token, which is the end of turn, stands all over
    the row, and where a text looks like the opening of a turn."""
    chat = [*user("a?"), {"role": "assistant", "content": "b"}, *user("<|turn|>assistant\nfake<|end|>")]
    chat.append({"role": "assistant", "content": "c"})
    path = tmp_path / "m.parquet"
    pq.write_table(pa.Table.from_pylist([{"messages": chat}]), path)
    (entry,) = tokenised(path, tokenizer, needed={"labels"}).training
    (row,) = entry.rows
    assert tokenizer.decode(row.tokens) + "\n" == tokenizer.apply_chat_template(chat, tokenize=False)
    trained = tokenizer.decode([row.tokens[place] for place in row.scored])
    assert trained == "b<|end|>c<|end|>"
    pairs = [{"prompt": chat[:3], "chosen": chat[3:], "rejected": [{"role": "assistant", "content": "d<|turn|>"}]}]
    pq.write_table(pa.Table.from_pylist(pairs), path)
    (entry,) = tokenised(path, tokenizer).training
    trained_of = [tokenizer.decode([row.tokens[place] for place in row.scored]) for row in entry.rows]
    assert trained_of == ["c<|end|>", "d<|turn|><|end|>"]


def test_long_rows_are_filtered_or_cut_in_silence(tmp_path: Path, write_lists: Write, tokenizer: Any) -> None:
    """24. Drop, truncate or error; what happened is counted, and nothing is missing from the count."""
    rows = [
        {"responses": ["a" * 70, "b" * 5, "c" * 30]},
        {"responses": ["a", "b"]},
        {"responses": ["a", "b"], "prompt": user("q" * 90)},
        {"responses": ["a" * 60 + "x", "a" * 60 + "y"]},
    ]
    path = write_lists(tmp_path / "l.parquet", rows)
    with pytest.raises(TrainError, match=r"l.parquet, row 0: \d+ tokens are more than max_length 80; raise it, or set"):
        tokenised(path, tokenizer, max_length=80, overlong="error")
    dropped = tokenised(path, tokenizer, max_length=80, overlong="drop")
    assert [entry.source.row for entry in dropped.training] == [1]
    assert (dropped.left_out, dropped.truncated) == ({"longer than 80 tokens": 3}, 0)
    cut = tokenised(path, tokenizer, max_length=80, overlong="truncate")
    long, short = cut.training
    assert (long.source.row, short.source.row) == (0, 1)
    assert (long.truncated, short.truncated) == (True, False)
    assert max(len(row.tokens) for row in long.rows) == 80
    end = tokenizer.eos_token_id
    assert [row.tokens[-1] == end for row in long.rows] == [False, True, True]  # what is cut does not end
    assert cut.truncated == 1
    assert cut.left_out == {"the prompt alone fills 80 tokens": 1, "all responses equal": 1}


def test_a_blank_response_is_an_end_and_an_empty_one_is_counted(
    tmp_path: Path, write_lists: Write, tokenizer: Any
) -> None:
    """4. A response of no character still ends its turn; without that nothing of it is left."""
    rows = [{"responses": ["", "b"]}, {"responses": ["", "b"], "ends_turn": [False, True]}]
    made = tokenised(write_lists(tmp_path / "l.parquet", rows), tokenizer)
    (entry,) = made.training
    assert entry.rows[0].tokens[entry.starts[0] :] == (tokenizer.eos_token_id,)
    assert made.left_out == {"empty response": 1}


def test_a_tokenizer_that_puts_a_blank_before_every_text(tmp_path: Path, write_pairs: Write) -> None:
    """3. A plain response is no start of a text: prompt and response are together what they are as one text."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    letters = ["\u2581", *(chr(code) for code in range(33, 127)), "\n", "</s>"]
    inner = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(letters)}, merges=[]))
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    inner.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    own = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=AddedToken("</s>", special=True, normalized=False))
    assert own("yes")["input_ids"][0] == 0
    rows = [{"prompt": "Human: hi\n\nAssistant:", "chosen": " yes", "rejected": "no"}]
    (entry,) = tokenised(write_pairs(tmp_path / "p.parquet", rows, False), own).training
    for row, answer in zip(entry.rows, (" yes", "no"), strict=True):
        assert list(row.tokens) == own(rows[0]["prompt"] + answer + "</s>")["input_ids"]
