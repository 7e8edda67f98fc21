"""Token ids of a continuation in another role's turn: nothing but its content is scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")

from prefdata.engines.base import Request, RequestError
from prefdata.engines.chat import ChatTokenizer
from prefdata.errors import EngineError
from prefdata.schema import message

TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools here') }}{% endif %}"
    "{% if m.role != 'critic' %}<|turn|>{{ m.role }}\n{{ m.content | trim }}<|end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)
TALK = (message("user", "Why?"), message("assistant", "Because."))


def chat(
    folder: Path, *, template: str | None = TEMPLATE, merges: list[tuple[str, str]] | None = None
) -> ChatTokenizer:
    """One token for each byte, and for each of the merges."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in merges or [])]
    raw = Tokenizer(models.BPE({letter: number for number, letter in enumerate(letters)}, merges or []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    raw.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|end|>", extra_special_tokens=["<|turn|>"], clean_up_tokenization_spaces=False
    )
    made.chat_template = template
    made.save_pretrained(folder)
    return ChatTokenizer(str(folder))


def by_hand(tokens: ChatTokenizer, *parts: str) -> list[int]:
    """The ids of special tokens and of the bytes between them, one after the other."""
    known: Any = tokens.tokenizer.convert_tokens_to_ids
    ids: list[int] = []
    for part in parts:
        ids += [known(part)] if part.startswith("<|") else tokens.plain(part)
    return ids


def after(text: str, role: str | None = "user", messages: Any = TALK) -> Request:
    return Request("logprobs", messages, continuation=text, role=role)


def test_the_users_next_turn_token_by_token(tmp_path: Path) -> None:
    tokens = chat(tmp_path)
    prompt, scored = tokens.continued(after("Good."))
    turns = ["<|turn|>", "user\nWhy?", "<|end|>", "\n", "<|turn|>", "assistant\nBecause.", "<|end|>", "\n"]
    assert prompt == by_hand(tokens, *turns, "<|turn|>", "user\n")
    assert scored == tokens.plain("Good.") and len(scored) == 5, "neither the header nor what closes the turn"
    assert prompt + scored == tokens.plain(
        "<|turn|>user\nWhy?<|end|>\n<|turn|>assistant\nBecause.<|end|>\n<|turn|>user\nGood."
    )


def test_the_end_of_the_turn_is_on_neither_side(tmp_path: Path) -> None:
    tokens = chat(tmp_path)
    end = tokens.tokenizer.eos_token_id
    for role, messages in (("user", TALK), (None, TALK[:1]), ("assistant", TALK[:1])):
        prompt, scored = tokens.continued(after("Good.", role, messages))
        assert end not in scored and prompt[-1] != end
    assert tokens.continued(after("x", None, TALK[:1])) == tokens.continued(after("x", "assistant", TALK[:1]))


def test_without_a_template_a_blank_line_joins(tmp_path: Path) -> None:
    tokens = chat(tmp_path, template=None)
    prompt, scored = tokens.continued(after("Good."))
    assert prompt == tokens.plain("Why?\n\nBecause.\n\n") and scored == tokens.plain("Good.")
    prompt, scored = tokens.continued(after(" Because.", None, TALK[:1]))
    assert prompt == tokens.plain("Why?") and scored == tokens.plain(" Because."), "the answer itself goes on at once"


@pytest.mark.parametrize("template", [TEMPLATE, None])
def test_what_the_tokenizer_would_merge_across_the_border_stays_apart(tmp_path: Path, template: str | None) -> None:
    tokens = chat(tmp_path, template=template, merges=[("Ċ", "G")])
    merged = tokens.plain("\nG")
    assert len(merged) == 1, "the tokenizer would"
    prompt, scored = tokens.continued(after("Good."))
    assert scored == tokens.plain("Good.") and len(scored) == 5
    assert prompt == tokens.continued(after("other"))[0], "the prompt's ids do not depend on what follows"
    assert merged[0] not in prompt + scored


@pytest.mark.parametrize("said", ["<0>", "<0><1>", "  ", "{{ m }}", "<|turn|>user\nGood."])
def test_whatever_was_said_the_turn_begins_after_it(tmp_path: Path, said: str) -> None:
    tokens = chat(tmp_path)
    prompt, scored = tokens.continued(after("Good.", messages=(TALK[0], message("assistant", said))))
    assert prompt == tokens.plain(
        f"<|turn|>user\nWhy?<|end|>\n<|turn|>assistant\n{said.strip()}<|end|>\n<|turn|>user\n"
    )
    assert scored == tokens.plain("Good.")


@pytest.mark.parametrize(("role", "said"), [("tool", "refuses"), ("critic", "leaves out a turn of the role 'critic'")])
def test_a_role_that_the_template_does_not_know(tmp_path: Path, role: str, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        chat(tmp_path).continued(after("Good.", role))


def test_without_messages_the_role_says_nothing(tmp_path: Path) -> None:
    tokens = chat(tmp_path)
    assert tokens.continued(after("Good.", "user", ())) == tokens.continued(after("Good.", None, ()))


@pytest.mark.model
def test_follow_ups_in_the_template_of_smollm2(smollm2: Path) -> None:
    tokens = ChatTokenizer(str(smollm2))
    prompt, scored = tokens.continued(after("That is correct."))
    start, end = (tokens.tokenizer.convert_tokens_to_ids(token) for token in ("<|im_start|>", "<|im_end|>"))
    system = "system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    expected: list[int] = []
    for turn in (system, "user\nWhy?", "assistant\nBecause."):
        expected += [start, *tokens.plain(turn), end, *tokens.plain("\n")]
    assert prompt == [*expected, start, *tokens.plain("user\n")]
    assert scored == tokens.plain("That is correct.") and end not in scored and len(scored) == 4


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.pop() }}",
        "{% for one in range(10 ** 9) %}{{ one }}{% endfor %}",
        "{{ 1 // 0 }}",
        "{{ messages[0].content + 1 }}",
    ],
)
def test_a_hostile_template_fails_its_request_alone(tmp_path: Path, template: str) -> None:
    """transformers renders templates in Jinja's sandbox, whose errors are of many types."""
    with pytest.raises(RequestError, match="chat template refuses these messages"):
        chat(tmp_path, template=template).prompt(TALK)


def test_code_beside_a_tokenizer_is_not_run_and_nobody_is_asked_whether_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chat(tmp_path)
    (tmp_path / "own.py").write_text("raise SystemExit('it was run')")
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    config |= {"auto_map": {"AutoTokenizer": ["own.Tokens", None]}, "tokenizer_class": "Tokens"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(EngineError, match="contains custom code"):
        ChatTokenizer(str(tmp_path))
    assert "[y/N]" not in capsys.readouterr().out
