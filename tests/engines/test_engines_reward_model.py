"""The kind `reward-model`, on tiny classifiers: some random, one whose rewards can be worked out by hand."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_classifier import letters_tokenizer, save_decoder

from prefdata.engines import engine_from_config
from prefdata.engines.base import Request, RequestError
from prefdata.engines.reward_model import RewardModelEngine, both_sides
from prefdata.errors import EngineError, PipelineError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TEMPLATE = "{% for m in messages %}{{ m.role[0] }}:{{ m.content }};{% endfor %}"
PROMPT = ({"role": "user", "content": "hi"},)
TEXTS = ["yes", "no thank you", "a", "because it is so, and for no other reason"]


def made(model: Path, **fields: Any) -> RewardModelEngine:
    engine = engine_from_config("rm", {"kind": "reward-model", "model": str(model), **fields}, "test.yaml")
    assert isinstance(engine, RewardModelEngine)
    return engine


def ask_all(engine: RewardModelEngine, *asked: tuple[str, ...]) -> list[Any]:
    async def work() -> list[Any]:
        replies = (engine.ask(Request("reward", PROMPT, texts=texts)) for texts in asked)
        return await asyncio.gather(*replies, return_exceptions=True)

    return asyncio.run(work())


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("decoder")
    tokenizer = letters_tokenizer(cls_token=None, sep_token=None)
    tokenizer.chat_template = TEMPLATE
    return folder, save_decoder(folder, tokenizer)


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT without attention to speak of: its logit is 2 for texts that begin with `A`, and -1 for others.

    With [CLS] taken away the first token is the text's own: its embedding goes through unchanged, the pooler's tanh
    and the head read it.
    """
    from transformers import BertConfig, BertForSequenceClassification

    folder = tmp_path_factory.mktemp("by_hand")
    tokenizer = letters_tokenizer(cls_token=None, sep_token=None)
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=len(tokenizer), hidden_size=2, num_hidden_layers=0, num_attention_heads=1, intermediate_size=2,
            max_position_embeddings=64, num_labels=1, pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip
    with torch.no_grad():
        for weights in model.parameters():
            weights.zero_()
        words = model.bert.embeddings.word_embeddings.weight
        words[:] = torch.tensor([0.0, 1.0])
        words[tokenizer.convert_tokens_to_ids("A")] = torch.tensor([1.0, 0.0])
        model.bert.embeddings.LayerNorm.weight[:] = 50.0  # the norm gives 1 and -1; tanh of 50 is 1
        model.bert.pooler.dense.weight[:] = torch.eye(2)
        model.classifier.weight[:] = torch.tensor([[1.5, 0.0]])
        model.classifier.bias[:] = 0.5
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_numbers_that_were_worked_out_by_hand(by_hand: Path) -> None:
    engine = made(by_hand)

    def asked(prompt: str, *texts: str) -> tuple[float, ...]:
        reply = asyncio.run(engine.ask(Request("reward", ({"role": "user", "content": prompt},), texts=texts)))
        return tuple(reply.values)

    assert asked("A", "x") == pytest.approx((2.0,)) and asked("b", "x") == pytest.approx((-1.0,))
    assert asked("b", "x", "y") == (0.5, 0.5)
    # Template of a pair: what comes first decides. B>A in one order, A>B in the other: log-odds (2 - -1) / 2.
    pair = made(by_hand, pair=True, pair_template="{first}{second}{prompt}")
    reply = ask_all(pair, ("Ax", "bx"), ("bx", "Ax"), ("b", "b"))
    assert reply[0].values[0] == pytest.approx(1 / (1 + math.exp(-1.5)))
    assert reply[1].values == reply[0].values[::-1] and reply[2].values == (0.5, 0.5)


def test_one_response_is_what_a_plain_forward_pass_says(decoder: tuple[Path, Any]) -> None:
    folder, model = decoder
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    replies = ask_all(made(folder), *((text,) for text in TEXTS))
    for text, reply in zip(TEXTS, replies, strict=True):
        ids = tokenizer(f"u:hi;a:{text};", add_special_tokens=False, return_tensors="pt").input_ids
        with torch.no_grad():
            assert reply.values == pytest.approx(model(ids).logits[0].tolist(), abs=1e-5)
        assert reply.prompt_tokens == ids.shape[1] and reply.completion_tokens == 0
    assert len({round(reply.values[0], 3) for reply in replies}) == len(TEXTS), (
        "a head that says one thing shows nothing"
    )


@pytest.mark.parametrize("pad", ["its own", "the end of a turn", "none"])
def test_a_batch_says_what_each_says_alone(tmp_path: Path, pad: str) -> None:
    """The classifier of a decoder finds its last token by its padding token, which is often the end of a turn."""
    tokenizer = letters_tokenizer(
        cls_token=None, sep_token=None, pad_token=";" if pad == "the end of a turn" else "[PAD]"
    )
    tokenizer.chat_template = TEMPLATE
    model = save_decoder(tmp_path, tokenizer, **({"pad_token_id": None} if pad == "none" else {}))
    engine = made(tmp_path)
    together = ask_all(engine, *((text,) for text in TEXTS))
    apart = [ask_all(engine, (text,))[0] for text in TEXTS]
    assert [one.values[0] for one in together] == pytest.approx([one.values[0] for one in apart], abs=1e-5)
    assert together[0].values != pytest.approx(together[1].values, abs=1e-3)
    for text, reply in zip(TEXTS, together, strict=True):  # and what the model's own code says of a row alone
        ids = tokenizer(f"u:hi;a:{text};", add_special_tokens=False, return_tensors="pt").input_ids
        with torch.no_grad():
            assert reply.values == pytest.approx(model(ids).logits[0].tolist(), abs=1e-5)


def test_what_responses_begin_with_is_read_once(decoder: tuple[Path, Any]) -> None:
    engine = made(decoder[0])
    scorer, read = engine._model(), []
    scorer.model.model.embed_tokens.register_forward_hook(lambda _, given, out: read.append(given[0].numel()))
    rows = [scorer.answered(PROMPT, text) for text in TEXTS]
    scorer.rewards(rows[:1])  # checked against the model's own forward pass first
    read.clear()
    values = scorer.rewards(rows)
    assert read == [len({tuple(row[:end]) for row in rows for end in range(1, len(row) + 1)})]
    assert values == pytest.approx([scorer.rewards([row])[0] for row in rows], abs=1e-5)


def test_two_responses_follow_bradley_and_terry(decoder: tuple[Path, Any]) -> None:
    engine = made(decoder[0])
    one, two, both, turned = ask_all(engine, TEXTS[:1], TEXTS[1:2], TEXTS[:2], TEXTS[1::-1])  # type: ignore[arg-type]
    expected = 1 / (1 + math.exp(two.values[0] - one.values[0]))
    assert both.values[0] == pytest.approx(expected, abs=1e-5)
    assert both.values == pytest.approx(turned.values[::-1], abs=1e-6) and sum(both.values) == pytest.approx(1)


def test_a_pair_model_is_read_in_both_orders(decoder: tuple[Path, Any]) -> None:
    folder, model = decoder
    engine = made(folder, pair=True)
    there, back = ask_all(engine, ("yes {second}", "no"), ("no", "yes {second}"))
    assert there.values == pytest.approx(back.values[::-1], abs=1e-6) and sum(there.values) == pytest.approx(1)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    logits = []
    for a, b in (("yes {second}", "no"), ("no", "yes {second}")):
        ids = tokenizer(f"hi\n\nResponse A:\n{a}\n\nResponse B:\n{b}", return_tensors="pt").input_ids
        with torch.no_grad():
            logits.append(float(model(ids).logits))
    assert logits[0] != pytest.approx(-logits[1], abs=1e-2), "an order alone would be biased"
    assert there.values[0] == pytest.approx(1 / (1 + math.exp(-(logits[0] - logits[1]) / 2)), abs=1e-5)


@given(st.floats(-1e6, 1e6))
def test_the_two_sides_of_a_log_odds(odds: float) -> None:
    first, second = both_sides(odds)
    assert first + second == 1 and both_sides(-odds) == (second, first) and 0 <= first <= 1


def test_of_several_outputs_one_is_named_and_read_as_its_log_odds(tmp_path: Path) -> None:
    tokenizer = letters_tokenizer(cls_token=None, sep_token=None)
    tokenizer.chat_template = TEMPLATE
    model = save_decoder(tmp_path, tokenizer, labels=3, id2label={0: "bad", 1: "so-so", 2: "good"})
    ids = tokenizer("u:hi;a:yes;", add_special_tokens=False, return_tensors="pt").input_ids
    with torch.no_grad():
        shares = model(ids).logits[0].softmax(-1).tolist()
    for label in ("good", 2, "2"):
        reply = ask_all(made(tmp_path, label=label), ("yes",))[0]
        assert reply.values[0] == pytest.approx(math.log(shares[2] / (1 - shares[2])), abs=1e-5)
    for fields, said in (({}, "has 3 outputs; say which"), ({"label": "best"}, "no output 'best'")):
        with pytest.raises(EngineError, match=said):
            asyncio.run(made(tmp_path, **fields).ask(Request("reward", PROMPT, texts=("yes",))))
    assert len({made(tmp_path, label=label).identity for label in (0, 1, 2)}) == 3


def test_an_encoder_without_a_template_reads_two_segments(tmp_path: Path) -> None:
    from transformers import BertConfig, BertForSequenceClassification

    tokenizer = letters_tokenizer()
    torch.manual_seed(0)
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
            max_position_embeddings=64, num_labels=1, initializer_range=0.4, pad_token_id=tokenizer.pad_token_id,
        )
    ).eval()  # fmt: skip
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    given_ = tokenizer("hi", "yes", return_tensors="pt")
    with torch.no_grad():
        expected = float(model(**given_).logits)
    together = ask_all(made(tmp_path), ("yes",), ("no, never",))
    assert together[0].values == pytest.approx((expected,), abs=1e-5)


def test_what_does_not_fit_fails_alone(decoder: tuple[Path, Any]) -> None:
    fits, long, three = ask_all(made(decoder[0]), ("yes",), ("x" * 200,), ("a", "b", "c"))
    assert len(fits.values) == 1
    assert isinstance(long, RequestError) and "do not fit into the model's context of 96" in str(long)
    assert isinstance(three, RequestError)
    one = ask_all(made(decoder[0], pair=True), ("yes",))[0]
    assert isinstance(one, EngineError) and "cannot reward one response" in str(one), "no other would fare better"


def test_what_is_no_classifier_or_pickled_is_refused(tmp_path: Path, decoder: tuple[Path, Any]) -> None:
    from tiny_model import byte_tokenizer, save_tiny_model

    save_tiny_model(tmp_path, byte_tokenizer())
    with pytest.raises(EngineError, match="holds no sequence classifier"):
        asyncio.run(made(tmp_path).ask(Request("reward", PROMPT, texts=("yes",))))
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_text("{}")
    (pickled / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(EngineError, match="never loaded"):
        asyncio.run(made(pickled, identity="x").ask(Request("reward", PROMPT, texts=("yes",))))
    with pytest.raises(PipelineError, match=r"pair_template lacks \{second\}"):
        made(tmp_path, pair=True, pair_template="{prompt} {first}")


def test_the_identity_loads_nothing(decoder: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RewardModelEngine, "_model", lambda self: pytest.fail("the model was loaded"))
    plain, pair = made(decoder[0]), made(decoder[0], pair=True)
    assert plain.identity != pair.identity and plain.capabilities == {"reward"} and pair.pair and plain.free
