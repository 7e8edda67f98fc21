"""Token ids: what is read, what is trained, and what a loss needs. Known failures stand in a file of their own."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata.lm.packing import tree_size
from prefdata.train import TrainError
from prefdata.train.data import PreferenceData, read_preferences
from prefdata.train.preferences import TokenList
from prefdata.train.tokens import Encoder, Tokenised, tokenise

Write = Callable[..., Path]
EDGES = frozenset({"edges"})
RANKS = frozenset({"ranks"})


@pytest.fixture
def end(tokenizer: Any) -> int:
    return int(tokenizer.eos_token_id)


def run(
    data: PreferenceData | Path,
    tokenizer: Any,
    *,
    needed: Collection[str] = EDGES,
    max_length: int = 2000,
    overlong: str = "error",
    rationale_template: str | None = None,
    template: str = "auto",
) -> Tokenised:
    data = read_preferences(data) if isinstance(data, Path) else data
    encoder = Encoder(tokenizer, "tiny", templated=data.templated, template=template)
    return tokenise(
        data, encoder, needed, max_length=max_length, overlong=overlong, rationale_template=rationale_template
    )


def whole(entry: TokenList, tokenizer: Any) -> list[str]:
    return [tokenizer.decode(row.tokens) for row in entry.rows]


def answers(entry: TokenList, tokenizer: Any) -> list[str]:
    pairs = zip(entry.rows, entry.starts, strict=True)
    return [tokenizer.decode(row.tokens[start:]) for row, start in pairs]


def trained(row: Any, tokenizer: Any) -> str:
    return str(tokenizer.decode([row.tokens[place] for place in row.scored]))


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


OPENED = "<|turn|>user\nq<|end|>\n<|turn|>assistant\n"


def test_a_conversation_is_what_the_template_writes(tmp_path: Path, write_lists: Write, tokenizer: Any) -> None:
    path = write_lists(tmp_path / "l.parquet", [{"responses": ["yes", "no"], "prompt": user("q")}])
    (entry,) = run(path, tokenizer).training
    assert whole(entry, tokenizer) == [OPENED + "yes<|end|>", OPENED + "no<|end|>"]
    assert [trained(row, tokenizer) for row in entry.rows] == ["yes<|end|>", "no<|end|>"]
    assert entry.reference == entry.rows
    assert entry.size == tree_size(entry.rows) == len(tokenizer(OPENED + "yes<|end|>no<|end|>")["input_ids"])


def test_a_prefix_is_read_and_never_trained(tmp_path: Path, write_lists: Write, tokenizer: Any) -> None:
    """Two responses that go on from one step, and one from another."""
    row = {"responses": ["x", "y", "z"], "prefixes": ["one ", "one ", None], "prompt": user("q")}
    (entry,) = run(write_lists(tmp_path / "l.parquet", [row]), tokenizer).training
    assert whole(entry, tokenizer) == [OPENED + "one x<|end|>", OPENED + "one y<|end|>", OPENED + "z<|end|>"]
    assert [trained(row, tokenizer) for row in entry.rows] == ["x<|end|>", "y<|end|>", "z<|end|>"]
    assert answers(entry, tokenizer) == ["x<|end|>", "y<|end|>", "z<|end|>"]


def test_ends_turn_false_adds_no_end(tmp_path: Path, write_lists: Write, tokenizer: Any, end: int) -> None:
    rows = [{"responses": ["ab", "c"], "ends_turn": [False, True]}]
    (entry,) = run(write_lists(tmp_path / "l.parquet", rows), tokenizer).training
    assert [end in row.tokens[start:] for row, start in zip(entry.rows, entry.starts, strict=True)] == [False, True]


def test_only_the_assistants_characters_are_trained(tmp_path: Path, write_lists: Write, tokenizer: Any) -> None:
    """Without a chat template there are no turns; what ends with a tool's output trains no end."""
    tool = [{"end": 4, "role": "assistant"}, {"end": 9, "role": "tool"}]
    row = {"responses": ["call[out]é tail", "ends[out]"], "segments": [tool, tool]}
    (entry,) = run(write_lists(tmp_path / "l.parquet", [row]), tokenizer, template="none").training
    assert answers(entry, tokenizer) == ["call[out]é tail<|end|>", "ends[out]<|end|>"]
    assert [trained(one, tokenizer) for one in entry.rows] == ["callé tail<|end|>", "ends"]


@pytest.mark.parametrize("trim", [True, False])
def test_a_token_across_a_boundary_is_not_trained(
    tmp_path: Path, write_lists: Write, tokenizer: Any, trim: bool
) -> None:
    """Also where the tokenizer leaves the blank that a token begins with out of its span."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    words |= {"Ġo": len(words), "ut": len(words) + 1, "Ġout": len(words) + 2}
    inner = Tokenizer(models.BPE(vocab=words, merges=[("Ġ", "o"), ("u", "t"), ("Ġo", "ut")]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.post_processor = processors.ByteLevel(trim_offsets=trim)
    inner.decoder = decoders.ByteLevel()
    merged = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|end|>")
    merged.chat_template = tokenizer.chat_template
    rows = [
        {
            "responses": ["call out", "x out y"],
            "segments": [[{"end": end, "role": first}, {"end": 7 + (end > 4), "role": second}], None],
        }
        for end, first, second in ((5, "tool", "assistant"), (5, "assistant", "tool"), (4, "tool", "assistant"))
    ]
    made = run(write_lists(tmp_path / "l.parquet", rows), merged, template="none").training
    assert [trained(entry.rows[0], merged) for entry in made] == ["<|end|>", "call", " out<|end|>"]


def test_turns_of_a_response_are_what_the_template_writes(tmp_path: Path, write_lists: Write, tokenizer: Any) -> None:
    """A response that goes on after another's turn: each turn of the assistant's is trained, its end included."""
    text = "a\n\nmore?\n\nb"
    segments = [{"end": 3, "role": "assistant"}, {"end": 10, "role": "user"}, {"end": 11, "role": "assistant"}]
    segments = [{**segment, "kind": "turn"} for segment in segments]
    row = {"responses": [text, "c"], "segments": [segments, None], "prompt": user("q")}
    (entry,) = run(write_lists(tmp_path / "l.parquet", [row]), tokenizer).training
    chat = [*user("q"), {"role": "assistant", "content": "a"}, *user("more?"), {"role": "assistant", "content": "b"}]
    rendered = tokenizer.apply_chat_template(chat, tokenize=False)
    assert whole(entry, tokenizer)[0] + "\n" == rendered
    assert trained(entry.rows[0], tokenizer) == "a<|end|>b<|end|>"


def test_the_reference_reads_its_own_prompt(tmp_path: Path, write_lists: Write, tokenizer: Any) -> None:
    other = [{"messages": user("longer question"), "tools": None, "media": None}]
    row = {"responses": ["a", "b"], "other_prompts": other, "ref_prompt_of": [1, None], "prompt": user("q")}
    (entry,) = run(write_lists(tmp_path / "l.parquet", [row]), tokenizer).training
    assert tokenizer.decode(entry.reference[0].tokens) == OPENED.replace("q", "longer question") + "a<|end|>"
    assert trained(entry.reference[0], tokenizer) == trained(entry.rows[0], tokenizer) == "a<|end|>"
    assert entry.reference[1] is entry.rows[1]


def test_a_prompt_is_scored_where_the_loss_reads_it(tmp_path: Path, write_lists: Write, tokenizer: Any) -> None:
    """From its second token on; a prefix never."""
    other = [{"messages": user("r"), "tools": None, "media": None}]
    row = {"responses": ["a", "b"], "other_prompts": other, "prompt_of": [0, 1], "prefixes": ["p", None]}
    row |= {"prompt": user("q")}
    path = write_lists(tmp_path / "l.parquet", [row])
    (entry,) = run(path, tokenizer, needed={"edges", "prompt_tokens"}).training
    scored = [trained(one, tokenizer) for one in entry.rows]
    assert scored == [OPENED[8:] + "a<|end|>", OPENED[8:].replace("q", "r") + "b<|end|>"]


def test_an_end_that_is_there_is_not_doubled(tmp_path: Path, write_lists: Write, tokenizer: Any) -> None:
    (entry,) = run(write_lists(tmp_path / "l.parquet", [{"responses": ["ab<|end|>", "c"]}]), tokenizer).training
    assert answers(entry, tokenizer) == ["ab<|end|>", "c<|end|>"]


def test_an_end_inside_a_response_is_left_out(tmp_path: Path, write_lists: Write, tokenizer: Any) -> None:
    rows = [{"responses": ["a<|end|>b", "c"]}, {"responses": ["a", "c"]}]
    made = run(write_lists(tmp_path / "l.parquet", rows), tokenizer)
    assert [entry.source.row for entry in made.training] == [1]
    assert made.left_out == {"the end-of-turn token stands inside a response": 1}


def test_plain_text_gets_one_end(tmp_path: Path, write_pairs: Write, tokenizer: Any) -> None:
    rows = [{"prompt": "Human: hi\n\nAssistant:", "chosen": " yes", "rejected": " no<|end|>"}]
    (entry,) = run(write_pairs(tmp_path / "p.parquet", rows, False), tokenizer).training
    assert whole(entry, tokenizer)[0] == "Human: hi\n\nAssistant: yes<|end|>"
    assert answers(entry, tokenizer) == [" yes<|end|>", " no<|end|>"]


def test_rendered_text_is_used_as_it_is(tmp_path: Path, write_pairs: Write, tokenizer: Any) -> None:
    """Strings from `--template` carry their own ends, and a line break that no model samples; what is cut has none."""
    rows = [{"prompt": OPENED, "chosen": "yes<|end|>\n", "rejected": "cut of"}]
    (entry,) = run(write_pairs(tmp_path / "p.parquet", rows, False), tokenizer).training
    assert whole(entry, tokenizer) == [OPENED + "yes<|end|>", OPENED + "cut of"]


@pytest.mark.parametrize(("template", "expected"), [("none", "yes<|end|>"), ("tiny", "yes"), (None, "yes")])
def test_the_footer_says_whether_texts_were_rendered(
    tmp_path: Path, write_pairs: Write, tokenizer: Any, template: str | None, expected: str
) -> None:
    """Where it does not say, a prompt that holds a special token was."""
    path = write_pairs(tmp_path / "p.parquet", [{"prompt": "<|turn|>q", "chosen": "yes", "rejected": "no"}], False)
    footer = {"prefdata.format": "trl-pairs/1"} | ({"prefdata.template": template} if template else {})
    pq.write_table(pq.read_table(path).replace_schema_metadata(footer), path)
    (entry,) = run(path, tokenizer).training
    assert answers(entry, tokenizer)[0] == expected


def test_null_keys_never_reach_the_template(tmp_path: Path, write_lists: Write, tokenizer: Any) -> None:
    """The template asks `'tool_calls' in message`; the column has that key in every message."""
    prompt = [{"role": "user", "content": "q", "tool_calls": None}]
    prompt.append({"role": "assistant", "content": "", "tool_calls": '[{"name": "f"}]'})
    path = write_lists(tmp_path / "l.parquet", [{"responses": ["a", "b"], "prompt": prompt}])
    (entry,) = run(path, tokenizer).training
    text = whole(entry, tokenizer)[0]
    assert text.count("<tools>") == 1
    assert '[{"name": "f"}]' in text


def test_templates_that_are_refused(tmp_path: Path, write_lists: Write, tokenizer: Any) -> None:
    path = write_lists(tmp_path / "l.parquet", [{"responses": ["a", "b"]}])
    bare = copy.deepcopy(tokenizer)
    bare.chat_template = None
    with pytest.raises(TrainError, match=r"l.parquet, row 0: the tokenizer of tiny has no chat template"):
        run(path, bare)
    bare.chat_template = "{{ raise_exception('no users') }}"
    with pytest.raises(TrainError, match=r"row 0: the chat template of tiny refuses the turns user: no users"):
        run(path, bare)


def test_rationales_are_rows_of_their_own(tmp_path: Path, write_lists: Write, tokenizer: Any) -> None:
    """Filled in one pass: braces in the data are text. Both edges of a pair share its rationale."""
    row = {
        "responses": ["{second}", "b", "c"],
        "edges": [{"winner": 0, "loser": 1}, {"winner": 0, "loser": 2}, {"winner": 1, "loser": 0, "p": 0.1}],
        "rationales": [{"of": [1], "text": "critique"}, {"of": [1, 0], "text": "because"}],
        "prompt": user("{first}"),
    }
    path = write_lists(tmp_path / "l.parquet", [row])
    template = "{prompt}|{first}|{second}"
    (entry,) = run(path, tokenizer, needed={"edges", "rationales"}, rationale_template=template).training
    (rationale,) = entry.rationales
    assert tokenizer.decode(rationale.tokens) == OPENED.replace("q", "{first}|b|{second}") + "because<|end|>"
    assert trained(rationale, tokenizer) == "because<|end|>"
    assert entry.rationale_of == (0, -1, 0)
    assert entry.size == tree_size((*entry.rows, *entry.rationales))
    (without,) = run(path, tokenizer).training
    assert (without.rationales, without.rationale_of) == ((), (-1, -1, -1))
    with pytest.raises(TrainError, match=r"rationale_template lacks \{second\}"):
        run(path, tokenizer, needed={"rationales"}, rationale_template="{prompt} {first}")


def test_a_rationale_that_is_cut_away_is_none(tmp_path: Path, write_lists: Write, tokenizer: Any) -> None:
    row = {"responses": ["a", "b"], "rationales": [{"of": [0, 1], "text": "because"}], "prompt": user("q")}
    path = write_lists(tmp_path / "l.parquet", [row])
    made = run(path, tokenizer, needed={"edges", "rationales"}, max_length=100, overlong="truncate")
    (entry,) = made.training
    assert (entry.rationales, entry.rationale_of, made.truncated) == ((), (-1,), 1)
    assert answers(entry, tokenizer) == ["a<|end|>", "b<|end|>"]


def test_lists_that_say_nothing_are_counted(tmp_path: Path, write_lists: Write, tokenizer: Any) -> None:
    rows = [
        {"responses": ["a", "b"], "scores": [1.0, 1.0], "ranks": [1, 1]},
        {"responses": ["same", "same"]},
        {"responses": ["a", "b"]},
        {"responses": ["a"], "kind": "unpaired", "scores": [1.0], "ranks": None},
    ]
    path = write_lists(tmp_path / "l.parquet", rows)
    some = {"all responses equal": 1, "unpaired": 1}
    assert run(path, tokenizer).left_out == {"no response is better than another": 1, **some}
    assert run(path, tokenizer, needed=RANKS).left_out == {"all ranks tie": 1, **some}
    assert run(path, tokenizer, needed={"labels"}).left_out == {"no label": 1, "all responses equal": 1}
    assert len(run(path, tokenizer, needed=frozenset()).training) == 3


def test_nothing_left_says_why(tmp_path: Path, write_lists: Write, tokenizer: Any) -> None:
    path = write_lists(tmp_path / "l.parquet", [{"responses": ["same", "same"]}] * 3)
    with pytest.raises(TrainError, match="has nothing to train on: 3 x all responses equal"):
        run(path, tokenizer)


@pytest.mark.parametrize(
    ("needed", "change", "pattern"),
    [
        ({"edges"}, {"kind": "unpaired"}, "the loss compares responses, and no response in it is better"),
        ({"ranks"}, {"kind": "unpaired"}, "the loss reads how responses rank, and every response in it stands alone"),
        ({"labels"}, {"scores": [1.0, 1.0]}, "no response in it has a label"),
        ({"margin"}, {}, "the loss reads margin, and the column 'margin' of the edges .*with `margin: scores`"),
        ({"votes"}, {}, "the loss reads votes, and the column 'votes' of the edges .*with `p: votes`"),
        ({"rationales"}, {}, "the loss reads rationales, and the column 'rationales' is not filled"),
        ({"values.h"}, {}, "reads values.h, and the column 'values' holds none; .*`values: {h: ANNOTATOR}`"),
        (
            {"values.helpfull"},
            {"values": [{"name": "helpful", "values": [1.0, 2.0]}]},
            "the column 'values' holds helpful; .*did you mean 'helpful'",
        ),
        ({"ranks"}, {"ranks": None}, "row 0: the loss reads ranks, and the column 'ranks' is null there"),
        ({"scores"}, {"scores": [1.0, None]}, "row 0: the loss reads scores, and 'scores' is null there"),
    ],
)
def test_what_a_loss_needs_and_the_file_lacks(
    tmp_path: Path, write_lists: Write, tokenizer: Any, needed: set[str], change: dict[str, Any], pattern: str
) -> None:
    """Before the first step, with the column, and the option of the step pair that writes it."""
    path = write_lists(tmp_path / "l.parquet", [{"responses": ["a", "b"], **change}])
    with pytest.raises(TrainError, match=pattern) as caught:
        run(path, tokenizer, needed=needed)
    assert str(path) in str(caught.value)


def test_pairs_say_which_format_holds_what_they_lack(tmp_path: Path, write_pairs: Write, tokenizer: Any) -> None:
    rows = [{"prompt": "q", "chosen": "a", "rejected": "b"}, {"prompt": "q", "chosen": "a", "rejected": "b", "p": 0.8}]
    path = write_pairs(tmp_path / "p.parquet", rows)
    for needed, pattern in {
        "ranks": r"row 1: the pair is chosen with p = 0.8, and the loss reads ranks",
        "scores": r"row 0: the loss reads scores, and 'score_chosen' or 'score_rejected' is null",
        "votes": r"'votes' of the edges is not filled \(the format trl-pairs-conversational cannot hold it",
        "values.h": r"the format trl-pairs-conversational holds none: export lists",
        "margin": r"the loss reads margin, and the column 'margin' is not filled",
    }.items():
        with pytest.raises(TrainError, match=pattern):
            run(path, tokenizer, needed={needed})


def test_a_list_that_lacks_a_number_is_left_out(tmp_path: Path, write_lists: Write, tokenizer: Any) -> None:
    alone = {"kind": "unpaired", "ranks": None}
    unpaired: list[dict[str, Any]] = [{"responses": ["a", "b"], "scores": [1.0, None], **alone}]
    unpaired += [{"responses": ["a"], "scores": [1.0], **alone}, {"responses": ["a", "b"]}]
    made = run(write_lists(tmp_path / "u.parquet", unpaired), tokenizer, needed={"scores"})
    assert made.left_out == {"scores is null": 1, "fewer than two ranked responses": 1}
    rows: list[dict[str, Any]] = [
        {"responses": ["a", "b"], "values": [{"name": "h", "values": [1.0, 2.0]}]},
        {"responses": ["a", "b"], "values": [{"name": "h", "values": [1.0, None]}]},
        {"responses": ["a", "b"]},
    ]
    made = run(write_lists(tmp_path / "l.parquet", rows), tokenizer, needed={"edges", "values.h"})
    assert ([entry.source.row for entry in made.training], made.left_out) == ([0], {"values.h is null": 2})


@settings(deadline=None, max_examples=40)
@given(st.text(max_size=20), st.text(min_size=1, max_size=20))
def test_an_encoder_knows_what_a_model_is_sampled_with(tokenizer: Any, question: str, answer: str) -> None:
    encoder = Encoder(tokenizer, "tiny", templated=None)
    assert encoder.prompt(user(question)) == tuple(
        tokenizer.apply_chat_template(user(question), add_generation_prompt=True, return_dict=False)
    )
    assert tokenizer.decode(encoder.ids(answer)) == answer


@pytest.fixture(scope="session")
def real(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What prefdata itself exports from OASST and from the first rows of HH-RLHF."""
    import prefdata
    from prefdata.formats.merge import import_into

    folder = tmp_path_factory.mktemp("real")
    few = folder / "hh_rlhf_helpful.parquet"
    pq.write_table(pq.read_table(data_folder / "hh_rlhf_helpful.parquet").slice(0, 200), few)
    made = {}
    for name, source in {"oasst": data_folder / "oasst_en_trees.parquet", "hh-rlhf": few}.items():
        import_into(name, source, folder / name, strict=False)
        for form in ("lists", "trl-pairs-conversational", "unpaired-conversational", "ultrafeedback-binarized"):
            made[f"{name} {form}"] = folder / f"{name}-{form}.parquet"
            prefdata.export(folder / name, made[f"{name} {form}"], format=form, from_lists=form.startswith("unpaired"))
    return made


def pairs_of(made: Tokenised) -> list[tuple[tuple[int, ...], ...]]:
    """The token ids of winner and loser of every edge, and what is scored of each."""
    return sorted(
        (entry.rows[edge.winner].tokens, entry.rows[edge.loser].tokens, entry.rows[edge.winner].scored)
        for entry in (*made.training, *made.held_out)
        for edge in entry.source.edges
    )


@pytest.mark.parametrize(("name", "lists"), [("oasst", 142), ("hh-rlhf", 200)])
def test_lists_and_pairs_of_real_data_are_the_same_tokens(
    real: dict[str, Path], tokenizer: Any, name: str, lists: int
) -> None:
    """So that training on `lists` is training on the pairs made from it."""
    limit = 20_000
    from_lists = run(real[f"{name} lists"], tokenizer, max_length=limit)
    from_pairs = run(real[f"{name} trl-pairs-conversational"], tokenizer, max_length=limit)
    assert len(from_lists.training) + len(from_lists.held_out) + from_lists.left_out.total() == lists
    assert pairs_of(from_lists) == pairs_of(from_pairs)
    others = run(real[f"{name} ultrafeedback-binarized"], tokenizer, max_length=limit)
    assert set(pairs_of(others)) <= set(pairs_of(from_pairs))


@pytest.mark.parametrize("name", ["oasst lists", "hh-rlhf trl-pairs-conversational", "oasst unpaired-conversational"])
def test_rows_of_real_data(real: dict[str, Path], tokenizer: Any, end: int, name: str) -> None:
    needed = {"labels"} if "unpaired" in name else EDGES
    made = run(real[name], tokenizer, needed=needed, max_length=2000, overlong="truncate")
    for entry in (*made.training, *made.held_out):
        prompt = tokenizer.apply_chat_template(
            entry.source.prompts[0].turns, add_generation_prompt=True, return_dict=False
        )
        for row, start, response in zip(entry.rows, entry.starts, entry.source.responses, strict=True):
            assert list(row.tokens[:start]) == prompt
            assert row.scored == tuple(range(start, len(row.tokens)))
            text = tokenizer.decode(row.tokens[start:])
            assert (response.text + "<|end|>").startswith(text)
            assert entry.truncated or row.tokens[start:].count(end) == 1


@pytest.mark.model
def test_what_a_real_tokenizer_makes_of_real_data(real: dict[str, Path], smollm2: Path) -> None:
    """Every row is, but for what stands after its end, the template's own rendering, tokenised as one text."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    made = run(real["oasst lists"], tokenizer, max_length=5000)
    rest = tokenizer("\n")["input_ids"]
    rows, joint, apart = [], [], []
    for entry in made.training:
        turns = entry.source.prompts[0].turns
        for row, response in zip(entry.rows, entry.source.responses, strict=True):
            answer = {"role": "assistant", "content": response.text}
            joint.append(tokenizer.apply_chat_template([*turns, answer], tokenize=False))
            apart.append([*row.tokens, *rest])
            rows.append(response.text)
    assert tokenizer.batch_decode(apart) == joint
    together = tokenizer(joint)["input_ids"]
    # What begins with a blank or a line break is merged with the prompt's last token where both are tokenised as one.
    assert {text for text, one, other in zip(rows, together, apart, strict=True) if one != other} == {
        text for text in rows if text[:1].isspace()
    }
