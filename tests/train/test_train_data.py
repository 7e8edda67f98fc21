"""Training files as preference lists: what is read, what is left out and counted, what is refused in a sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prefdata.train import TrainError
from prefdata.train.columns import COLUMNS
from prefdata.train.data import read_preferences
from prefdata.train.preferences import Edge, Prompt, Rationale, Segment
from prefdata.train.tokens import Encoder, tokenise

Write = Callable[..., Path]
USER = [{"role": "user", "content": "q"}]


def turns(*texts: str) -> list[dict[str, str]]:
    """User and assistant by turns."""
    return [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(texts)]


def table(path: Path, *rows: dict[str, Any]) -> Path:
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


def texts(entry: Any) -> list[str]:
    return [response.text for response in entry.responses]


def test_lists(tmp_path: Path, write_lists: Write) -> None:
    rows = [
        {"responses": ["a", "b", "c"], "scores": [2.0, 2.0, 1.0], "ranks": [1, 1, 3], "split": "train", "weight": 2.0},
        {"responses": ["d", "e"], "split": "valid", "id": "p1", "aspect": "helpful", "response_ids": ["r1", "r2"]},
    ]
    data = read_preferences(write_lists(tmp_path / "l.parquet", rows))
    first, second = data.lists
    assert data.format == "lists"
    assert data.split
    assert data.metadata == {"prefdata.format": "lists/1", "prefdata.commit": "7"}
    assert first.edges == [Edge(0, 2), Edge(1, 2)]  # strictly falling scores only
    assert ([one.rank for one in first.responses], first.weight, first.held_out) == ([1, 1, 3], 2.0, False)
    assert [one.label for one in first.responses] == [1.0, 1.0, 0.0]
    assert second.held_out
    assert (second.id, second.aspect, [one.id for one in second.responses]) == ("p1", "helpful", ["r1", "r2"])
    assert first.prompts == [Prompt([{"role": "user", "content": "question 0"}])]  # no null keys


def test_edges_stand_as_they_are(tmp_path: Path, write_lists: Write) -> None:
    edge = {"winner": 2, "loser": 0, "p": 0.8, "weight": 3.0, "margin": 0.5, "votes": 5}
    rows: list[dict[str, Any]] = [{"responses": ["a", "b", "c"], "edges": [edge]}]
    rows.append({"responses": ["a", "b"], "edges": None})
    rows.append({"responses": ["a", "b"], "edges": [{"winner": 0, "loser": 1, "p": None, "weight": None}]})
    rows.append({"responses": ["a", "b"], "edges": [{"winner": 0, "loser": 1, "weight": 0.0}]})
    data = read_preferences(write_lists(tmp_path / "l.parquet", rows))
    expected = [[Edge(2, 0, 0.8, 3.0, 0.5, 5)], [Edge(0, 1)], [Edge(0, 1)], []]
    assert [entry.edges for entry in data.lists] == expected


def test_a_response_that_wins_and_loses_has_no_label(tmp_path: Path, write_lists: Write) -> None:
    """Of a chain the middle one is both; p = 0.5 says nothing; p < 0.5 says the other way round."""
    edges = [{"winner": 0, "loser": 1}, {"winner": 1, "loser": 2}, {"winner": 3, "loser": 4, "p": 0.5}]
    edges.append({"winner": 5, "loser": 6, "p": 0.2})
    data = read_preferences(write_lists(tmp_path / "l.parquet", [{"responses": list("abcdefg"), "edges": edges}]))
    assert [one.label for one in data.lists[0].responses] == [1.0, None, 0.0, None, None, 0.0, 1.0]


def test_roles_that_no_loss_reads_are_left_out_and_counted(tmp_path: Path, write_lists: Write) -> None:
    rows = [
        {
            "responses": ["x", "a", "b", "s"],
            "roles": ["online", "ranked", None, "sft"],
            "scores": [None, 2.0, 1.0, None],
            "ranks": [None, 1, 2, None],
            "edges": [{"winner": 1, "loser": 2, "p": 0.9}, {"winner": 0, "loser": 1}],
            "values": [{"name": "h", "values": [7.0, 1.0, None, 2.0]}],
            "rationales": [{"of": [1, 2], "text": "why"}, {"of": [0, 1], "text": "gone"}],
            "ends_turn": [True, False, True, None],
        }
    ]
    data = read_preferences(write_lists(tmp_path / "l.parquet", rows))
    (entry,) = data.lists
    assert texts(entry) == ["a", "b", "s"]
    assert entry.edges == [Edge(0, 1, 0.9)]
    assert entry.values == {"h": [1.0, None, 2.0]}
    assert entry.rationales == (Rationale((0, 1), "why"),)
    assert [one.label for one in entry.responses] == [0.0 if one.text == "b" else 1.0 for one in entry.responses]
    assert [one.ends_turn for one in entry.responses] == [False, True, True]
    assert data.responses_left_out == {"role online": 1}
    assert data.value_names == ("h",)


def test_every_rare_column_of_lists_is_read(tmp_path: Path, write_lists: Write) -> None:
    row = {
        "responses": ["one two", "b"],
        "prefixes": ["first step. ", None],
        "segments": [[{"end": 3, "role": "assistant"}, {"end": 7, "role": "tool", "value": 0.5}], None],
        "other_prompts": [{"messages": turns("another"), "tools": None, "media": None}],
        "prompt_of": [0, 1],
        "ref_prompt_of": [1, None],
        "rationales": [{"of": None, "text": "of all"}],
        "annotator": "judge:m",
        "link": "x",
        "tools": '[{"name": "f"}]',
    }
    (entry,) = read_preferences(write_lists(tmp_path / "l.parquet", [row])).lists
    first, second = entry.responses
    assert (first.prefix, second.prefix) == ("first step. ", "")
    assert first.segments == (Segment(3, "assistant"), Segment(7, "tool", 0.5))
    assert second.segments is None
    assert ([first.prompt, second.prompt], [first.ref_prompt, second.ref_prompt]) == ([0, 1], [1, 1])
    assert entry.prompts[1] == Prompt(turns("another"))
    assert entry.prompts[0].tools == [{"name": "f"}]
    assert entry.rationales == (Rationale((0, 1), "of all"),)
    assert entry.annotator == "judge:m"


def test_unpaired_lists_have_labels_and_no_edges(tmp_path: Path, write_lists: Write) -> None:
    rows = [
        {"responses": ["a", "b", "c"], "kind": "unpaired", "scores": [0.5, 0.9, None], "ranks": None},
        {"responses": ["a"], "roles": ["sft"], "scores": [None], "ranks": [None]},
    ]
    alone, sft = read_preferences(write_lists(tmp_path / "l.parquet", rows)).lists
    assert ([one.label for one in alone.responses], alone.edges) == ([0.0, 1.0, None], [])
    assert ([one.label for one in sft.responses], sft.responses[0].role) == ([1.0], "sft")


def test_weightless_and_other_splits_are_left_out_and_counted(tmp_path: Path, write_lists: Write) -> None:
    rows: list[dict[str, Any]] = [{"responses": ["a", "b"], "split": "train"} for _ in range(5)]
    rows[1] |= {"weight": 0.0}
    rows[2] |= {"split": "calibration"}
    rows[4] |= {"split": "test"}
    data = read_preferences(write_lists(tmp_path / "l.parquet", rows))
    assert [(entry.row, entry.held_out) for entry in data.lists] == [(0, False), (3, False), (4, True)]
    assert data.left_out == {"weight 0": 1, "split 'calibration' is neither train nor valid": 1}


@pytest.mark.parametrize("conversational", [True, False])
@pytest.mark.parametrize("form", ["trl-pairs", None])
def test_pairs(tmp_path: Path, write_pairs: Write, conversational: bool, form: str | None) -> None:
    rows = [
        {"prompt": "q", "chosen": "a", "rejected": "b", "p": 0.8, "weight": 2.0, "score_chosen": 1.0, "margin": 3.0},
        {"prompt": "q", "chosen": "a", "rejected": "b", "p": None, "chosen_id": "r1", "rejected_id": "r2"},
        {"prompt": "q", "chosen": "a", "rejected": "b", "p": 0.5},
        {"prompt": "q", "chosen": "a", "rejected": "b", "p": 0.25},
    ]
    data = read_preferences(write_pairs(tmp_path / "p.parquet", rows, conversational, form))
    assert data.format == ("trl-pairs-conversational" if conversational else "trl-pairs")
    assert not data.split
    assert [entry.edges[0].p for entry in data.lists] == [0.8, 1.0, 0.5, 0.25]
    assert [[one.rank for one in entry.responses] for entry in data.lists] == [[1, 2], [1, 2], [1, 1], [2, 1]]
    labels = [[one.label for one in entry.responses] for entry in data.lists]
    assert labels == [[1.0, 0.0], [1.0, 0.0], [None, None], [0.0, 1.0]]
    assert (data.lists[0].weight, data.lists[0].edges[0].margin) == (2.0, 3.0)
    assert [one.score for one in data.lists[0].responses] == [1.0, None]
    assert [one.id for one in data.lists[1].responses] == ["r1", "r2"]
    assert texts(data.lists[0]) == ["a", "b"]
    assert data.lists[0].prompts[0].turns == (USER if conversational else "q")


@pytest.mark.parametrize(
    ("row", "prompt", "responses"),
    [
        ({"chosen": "The sky is blue.", "rejected": "The sky is green."}, "The sky is", [" blue.", " green."]),
        ({"chosen": "Q:\nA", "rejected": "Q:\nB"}, "Q:\n", ["A", "B"]),
        ({"chosen": "So it is", "rejected": "So it is not"}, "So it is", ["", " not"]),
        ({"chosen": turns("q", "a"), "rejected": turns("q", "b")}, USER, ["a", "b"]),
        # What an assistant said in both is no prompt: what follows it must be the assistant's.
        (
            {"chosen": turns("q", "a", "r", "c"), "rejected": turns("q", "a", "s", "d")},
            USER,
            ["a\n\nr\n\nc", "a\n\ns\n\nd"],
        ),
        ({"prompt": USER, "chosen": turns("q", "a"), "rejected": turns("q", "b")}, USER, ["a", "b"]),
        ({"prompt": "other", "chosen": turns("q", "a"), "rejected": turns("q", "b")}, USER, ["a", "b"]),
        ({"prompt": "q", "chosen": turns("q", "a")[1:], "rejected": turns("q", "b")[1:]}, USER, ["a", "b"]),
    ],
)
def test_implicit_prompts(tmp_path: Path, row: dict[str, Any], prompt: Any, responses: list[str]) -> None:
    """Other people's pairs: no prompt, or chosen and rejected repeat it."""
    (entry,) = read_preferences(table(tmp_path / "p.parquet", row)).lists
    assert entry.prompts[0].turns == prompt
    assert texts(entry) == responses


def test_answers_of_several_turns_are_segments(tmp_path: Path) -> None:
    row = {"prompt": USER, "chosen": turns("", "a", "r", "c")[1:], "rejected": turns("q", "b")[1:]}
    (entry,) = read_preferences(table(tmp_path / "p.parquet", row)).lists
    assert entry.responses[0].segments == (
        Segment(3, "assistant", kind="turn"),
        Segment(6, "user", kind="turn"),
        Segment(7, "assistant", kind="turn"),
    )
    assert entry.responses[1].segments is None


@pytest.mark.parametrize("completion", ["yes", turns("q", "yes")[1:]])
def test_unpaired(tmp_path: Path, completion: Any) -> None:
    prompt: Any = "q" if completion == "yes" else USER
    rows = [{"prompt": prompt, "completion": completion, "label": label} for label in (True, False)]
    data = read_preferences(table(tmp_path / "u.parquet", *rows))
    assert data.format == ("unpaired" if completion == "yes" else "unpaired-conversational")
    assert [(texts(entry), entry.responses[0].label, entry.kind) for entry in data.lists] == [
        (["yes"], 1.0, "unpaired"),
        (["yes"], 0.0, "unpaired"),
    ]
    refused(
        table(tmp_path / "n.parquet", {**rows[0], "label": 3}), "row 0, column 'label': 3 is neither true nor false"
    )


def test_plain_completions(tmp_path: Path) -> None:
    data = read_preferences(table(tmp_path / "s.parquet", {"prompt": "q", "completion": "a"}))
    assert (data.format, texts(data.lists[0]), data.lists[0].responses[0].role) == ("sft", ["a"], "sft")
    chat = [{"role": "system", "content": "be brief"}, *turns("q", "a", "r", "c", "left over")]
    (entry,) = read_preferences(table(tmp_path / "m.parquet", {"messages": chat})).lists
    assert entry.prompts[0].turns == chat[:2]
    assert texts(entry) == ["a\n\nr\n\nc"]
    assert [segment.role for segment in entry.responses[0].segments or ()] == ["assistant", "user", "assistant"]
    refused(table(tmp_path / "n.parquet", {"messages": turns("q")}), "column 'messages': a conversation begins")


def test_other_writers_types_are_read(tmp_path: Path) -> None:
    """large_string, large_list and dictionaries, as polars and others write them."""
    kind = pa.large_list(pa.struct([("role", pa.large_string()), ("content", pa.large_string())]))
    made = pa.table(
        {
            "prompt": pa.array([USER], kind),
            "chosen": pa.array([turns("q", "a")[1:]], kind),
            "rejected": pa.array([turns("q", "b")[1:]], kind),
            "split": pa.array(["train"]).dictionary_encode(),
            "weight": pa.array([None]),
            "unknown": pa.array([b"x"]),
        }
    )
    pq.write_table(made, tmp_path / "p.parquet")
    (entry,) = read_preferences(tmp_path / "p.parquet").lists
    assert texts(entry) == ["a", "b"]


def refused(path: Path, pattern: str) -> None:
    with pytest.raises(TrainError, match=pattern) as caught:
        read_preferences(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_refused(tmp_path: Path, write_pairs: Write) -> None:
    refused(tmp_path / "none.parquet", "there is no file")
    (tmp_path / "text.parquet").write_text("not parquet")
    refused(tmp_path / "text.parquet", "cannot be read as Parquet")
    empty = pa.table({name: pa.array([], pa.string()) for name in ("prompt", "chosen", "rejected")})
    pq.write_table(empty, tmp_path / "empty.parquet")
    refused(tmp_path / "empty.parquet", "has no rows")
    refused(table(tmp_path / "other.parquet", {"text": "a"}), "has the columns text; a training file has prompt, ")
    refused(
        table(tmp_path / "steps.parquet", {"prompt": "q", "completions": ["a"], "labels": [True]}),
        "holds steps with labels .*process reward model",
    )
    row = {"prompt": "q", "chosen": "a", "rejected": "b"}
    refused(write_pairs(tmp_path / "u.parquet", [row], False, "stepwise"), "holds the format 'stepwise/1'")
    newer = pq.read_table(write_pairs(tmp_path / "n.parquet", [row], False))
    pq.write_table(newer.replace_schema_metadata({"prefdata.format": "trl-pairs/2"}), tmp_path / "n.parquet")
    refused(tmp_path / "n.parquet", "'trl-pairs/2', which is newer than this trainer")
    twice = pa.table([pa.array(["a"]), pa.array(["b"])], names=["prompt", "prompt"])
    pq.write_table(twice, tmp_path / "twice.parquet")
    refused(tmp_path / "twice.parquet", "has two columns 'prompt'")
    broken = pa.array([b"\xff\xfe"]).view(pa.string())
    pq.write_table(pa.table({"prompt": broken, "chosen": broken, "rejected": broken}), tmp_path / "utf.parquet")
    refused(tmp_path / "utf.parquet", "cannot be read")


def test_columns_that_are_refused(tmp_path: Path, write_lists: Write, write_pairs: Write) -> None:
    path = write_lists(tmp_path / "l.parquet", [{"responses": ["a", "b"]}])
    made = pq.read_table(path)
    pq.write_table(made.drop_columns(["ranks"]), path)
    refused(path, "lacks the column 'ranks' that the format 'lists' has")
    pq.write_table(made.set_column(made.schema.get_field_index("scores"), "scores", pa.array(["high"])), path)
    refused(path, "the column 'scores' is string; in the format 'lists' it is list of numbers")
    pq.write_table(made.append_column("edges", pa.array([[{"winner": "a", "loser": "b"}]])), path)
    refused(path, "the column 'edges' is .*; in the format 'lists' it is list<struct<winner, loser")
    mixed = pq.read_table(write_pairs(tmp_path / "p.parquet", [{"prompt": "q", "chosen": "a", "rejected": "b"}]))
    pq.write_table(mixed.set_column(1, "chosen", pa.array([1])), tmp_path / "p.parquet")
    refused(tmp_path / "p.parquet", "the column 'chosen' is int64; in the format 'trl-pairs-conversational'")


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        ({"scores": [1.0]}, "row 1, column 'scores': it has 1 entries for 2 responses"),
        ({"scores": [float("nan"), 1.0]}, "row 1, column 'scores': nan is not finite"),
        ({"ranks": [0, 1]}, "row 1, column 'ranks': 0 is not a whole number from 1"),
        ({"responses": ["a", None]}, "row 1, column 'responses': it is empty or holds a null"),
        ({"weight": -1.0}, "row 1, column 'weight': -1.0 is not finite and at least 0"),
        ({"weight": float("nan")}, "row 1, column 'weight': nan"),
        ({"edges": [{"winner": 0, "loser": 2}]}, "row 1, column 'edges': winner 0 and loser 2 are not two of its 2"),
        ({"edges": [{"winner": 1, "loser": 1}]}, "row 1, column 'edges'"),
        ({"edges": [None]}, "row 1, column 'edges': it holds an edge that is null"),
        ({"edges": [{"winner": 0, "loser": 1, "p": 1.5}]}, "row 1, column 'edges': 1.5 is not from 0 to 1"),
        ({"edges": [{"winner": 0, "loser": 1, "margin": float("inf")}]}, "row 1, column 'edges': inf is not finite"),
        ({"edges": [{"winner": 0, "loser": 1, "votes": -1}]}, "row 1, column 'edges': -1 is not a whole number from 0"),
        ({"values": [{"name": "h", "values": [1.0]}]}, "row 1, column 'values': 'h' has 1 entries for 2 responses"),
        ({"values": [{"name": None, "values": [1.0, 2.0]}]}, "row 1, column 'values': it holds values without a name"),
        ({"values": [{"name": "h", "values": [1.0, float("nan")]}]}, "row 1, column 'values': nan is not finite"),
        ({"prefixes": ["x"]}, "row 1, column 'prefixes': it has 1 entries"),
        ({"segments": [[{"end": 2}], None]}, "row 1, column 'segments': the ends of .* 1 characters, not 2"),
        ({"prompt_of": [0, 1]}, "row 1, column 'prompt_of': it names prompt 1, and there are 1"),
        ({"ref_prompt_of": [0, -1]}, "row 1, column 'ref_prompt_of': -1 is not a whole number"),
        ({"rationales": [{"of": [0, 2], "text": "t"}]}, "row 1, column 'rationales': it is about"),
        ({"other_prompts": [{"messages": []}]}, "row 1, column 'other_prompts': it holds a prompt without messages"),
        ({"split": None}, "row 1, column 'split': it is null"),
        ({"prompt": []}, "row 1, column 'prompt': there is no message in it"),
        ({"prompt": [None]}, "row 1, column 'prompt': it holds a message that is null"),
        ({"prompt": [{"role": "user", "content": None}]}, "row 1, column 'prompt': a message needs a role"),
        ({"tools": "{"}, "row 1, column 'tools': it is no JSON"),
    ],
)
def test_rows_that_are_refused(tmp_path: Path, write_lists: Write, change: dict[str, Any], pattern: str) -> None:
    good = {"responses": ["a", "b"], "split": "train"}
    refused(write_lists(tmp_path / "l.parquet", [good, {**good, **change}]), pattern)


def test_answers_that_are_not_the_assistants_are_refused(tmp_path: Path) -> None:
    path = table(tmp_path / "p.parquet", {"prompt": USER, "chosen": turns("q"), "rejected": turns("q", "b")[1:]})
    refused(
        path, "row 0, column 'chosen': it holds no turn of its own; after the prompt it begins with the assistant's"
    )


def test_what_follows_the_last_answer_is_not_read(tmp_path: Path) -> None:
    side = turns("q", "a", "r")[1:]
    path = table(tmp_path / "p.parquet", {"prompt": USER, "chosen": side, "rejected": turns("q", "b")[1:]})
    (entry,) = read_preferences(path).lists
    assert [(response.text, response.segments) for response in entry.responses] == [("a", None), ("b", None)]


NUMBERS = st.one_of(st.none(), st.floats(), st.integers(-2, 4))
TEXTS = st.one_of(st.none(), st.text(max_size=3))
MESSAGE = st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", None]), "content": TEXTS})
MESSAGES = st.lists(st.one_of(st.none(), MESSAGE), max_size=3)


def each(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly as many as the row has responses."""
    return st.one_of(st.none(), st.lists(values, min_size=2, max_size=2), st.lists(values, max_size=3))


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "prompt": st.one_of(MESSAGES, TEXTS),
    "chosen": st.one_of(MESSAGES, TEXTS, st.integers()),
    "rejected": st.one_of(MESSAGES, TEXTS),
    "completion": st.one_of(MESSAGES, TEXTS),
    "messages": MESSAGES,
    "label": st.one_of(st.booleans(), NUMBERS),
    "kind": st.sampled_from(["unpaired", "conditional", None]),
    "responses": each(TEXTS),
    "scores": each(NUMBERS),
    "ranks": each(NUMBERS),
    "roles": each(st.sampled_from(["ranked", "sft", "online", None])),
    "response_ids": each(TEXTS),
    "edges": each(st.fixed_dictionaries(dict.fromkeys(("winner", "loser", "p", "margin", "weight", "votes"), NUMBERS))),
    "values": each(st.fixed_dictionaries({"name": st.text(max_size=1), "values": each(NUMBERS)})),
    "segments": each(each(st.fixed_dictionaries({"end": NUMBERS, "role": TEXTS, "value": NUMBERS}))),
    "prefixes": each(TEXTS),
    "ends_turn": each(st.one_of(st.none(), st.booleans())),
    "rationales": each(st.fixed_dictionaries({"of": each(NUMBERS), "text": TEXTS})),
    "prompt_of": each(NUMBERS),
    "ref_prompt_of": each(NUMBERS),
    "other_prompts": each(st.fixed_dictionaries({"messages": MESSAGES, "tools": TEXTS})),
    "media": each(TEXTS),
    "tools": TEXTS,
    "split": st.sampled_from(["train", "valid", "odd", None]),
    "group": TEXTS,
    **dict.fromkeys(("weight", "p", "margin", "score", "score_chosen"), NUMBERS),
}
GOOD: dict[str, dict[str, Any]] = {
    "lists": {"prompt": USER, "responses": ["abc", "d"], "scores": [2.0, 1.0], "ranks": [1, 2]},
    "trl-pairs": {"prompt": "q", "chosen": "a", "rejected": "b"},
    "trl-pairs-conversational": {"chosen": turns("q", "a"), "rejected": turns("q", "b")},
    "unpaired-conversational": {"prompt": USER, "completion": turns("q", "a")[1:], "label": True},
    "sft": {"messages": turns("q", "a")},
}


@settings(deadline=None, max_examples=200, suppress_health_check=list(HealthCheck))
@given(form=st.sampled_from(sorted(GOOD)), data=st.data())
def test_whatever_a_file_holds_it_is_read_or_refused_in_a_sentence(
    tmp_path: Path, tokenizer: Any, form: str, data: st.DataObject
) -> None:
    """A good row, and one with some values of every kind: ragged, null, not finite, of another type, out of range."""
    known = sorted(set(VALUES) & set(COLUMNS[form]))
    changed = data.draw(st.sets(st.sampled_from(known), min_size=1, max_size=3))
    rows = [GOOD[form], {**GOOD[form], **{name: data.draw(VALUES[name], name) for name in sorted(changed)}}]
    # Half of the time every row is like the second, so that its types are the column's.
    rows = rows[data.draw(st.integers(0, 1)) :]
    try:
        path = table(tmp_path / "f.parquet", *rows)
    except (pa.ArrowException, OverflowError):
        return  # no file holds it either
    try:
        found = read_preferences(path)
    except TrainError as error:
        assert "f.parquet" in str(error)
        assert "\n" not in str(error)
        return
    assert len(found.lists) + found.left_out.total() == len(rows)
    for entry in found.lists:
        places = range(len(entry.responses))
        assert all(edge.winner in places and edge.loser in places and 0 <= edge.p <= 1 for edge in entry.edges)
        assert all(len(numbers) == len(places) for numbers in entry.values.values())
        assert entry.weight > 0
    encoder, needed = (
        Encoder(tokenizer, "tiny", templated=None),
        data.draw(st.sampled_from(["edges", "labels", "ranks"])),
    )
    try:
        made = tokenise(found, encoder, {needed, "prompt_tokens"}, max_length=60, overlong="truncate")
    except TrainError as error:
        assert "f.parquet" in str(error)
        return
    for one in (*made.training, *made.held_out):
        assert all(row.scored[-1] >= start for row, start in zip(one.rows, one.starts, strict=True))
        assert max(len(row.tokens) for row in (*one.rows, *one.reference)) <= 60
