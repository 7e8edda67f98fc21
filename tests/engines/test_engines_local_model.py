"""Numerics of the engine `transformers`: on a tiny random model, and (marked `model`) on SmolLM2-135M-Instruct."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fault_server import FaultServer

from prefdata.engines import engine_from_config
from prefdata.engines.base import Request, RequestError
from prefdata.engines.local import TransformersConfig, TransformersEngine
from prefdata.errors import EngineError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools here') }}{% endif %}"
    "<s>{{ m.role }} {{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}<s>assistant {% endif %}"
)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of two layers whose tokens are bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate(["<s>", "</s>", *alphabet])}
    raw = Tokenizer(models.BPE(vocabulary, []))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, bos_token_id=0, eos_token_id=1, initializer_range=0.4,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def made(folder: Path, **fields: Any) -> TransformersEngine:
    return TransformersEngine("policy", TransformersConfig(model=str(folder), **fields))


def ask_all(engine: TransformersEngine, requests: list[Request]) -> list[Any]:
    async def work() -> list[Any]:
        return await asyncio.gather(*(engine.ask(request) for request in requests), return_exceptions=True)

    return asyncio.run(work())


def one_by_one(engine: TransformersEngine, requests: list[Request]) -> list[Any]:
    return [ask_all(engine, [request])[0] for request in requests]


def turns(*texts: str) -> tuple[dict[str, Any], ...]:
    return tuple({"role": "user" if n % 2 == 0 else "assistant", "content": text} for n, text in enumerate(texts))


def generate(text: str, **fields: Any) -> Request:
    return Request("generate", turns(text), **{"temperature": 0.9, "max_tokens": 12, **fields})


def test_log_probabilities_are_those_of_a_plain_forward_pass(tiny: Path) -> None:
    engine = made(tiny)
    reply = ask_all(engine, [Request("logprobs", turns("hi"), continuation="yes!")])[0]
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny)
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny).eval()
    prompt = tokenizer("<s>user hi</s><s>assistant ", add_special_tokens=False).input_ids
    ids = torch.tensor([prompt + tokenizer("yes!", add_special_tokens=False).input_ids])
    with torch.no_grad():
        logp = model(ids).logits[0].log_softmax(-1)
    expected = [float(logp[place - 1, ids[0, place]]) for place in range(len(prompt), ids.shape[1])]
    assert reply.values == pytest.approx(expected, abs=1e-5)
    assert reply.prompt_tokens == ids.shape[1] and reply.completion_tokens == 0
    # Without messages the text stands after the beginning-of-sequence token alone.
    alone = ask_all(engine, [Request("logprobs", continuation="yes!")])[0]
    with torch.no_grad():
        logp = model(torch.tensor([[0, *ids[0, -4:].tolist()]])).logits[0].log_softmax(-1)
    assert alone.values == pytest.approx([float(logp[n, ids[0, n - 4]]) for n in range(4)], abs=1e-5)


def test_batched_log_probabilities_equal_single_ones(tiny: Path) -> None:
    engine = made(tiny)
    requests = [Request("logprobs", turns("word " * n), continuation="x" * (1 + n % 7)) for n in range(12)]
    requests += [Request("logprobs", continuation="alone"), Request("logprobs", turns("q"), continuation="")]
    together, apart = ask_all(engine, requests), one_by_one(engine, requests)
    for a, b in zip(together, apart, strict=True):
        assert a.values == pytest.approx(b.values, abs=1e-4)
    assert together[-1].values == ()
    shifted = [(*b.values[:-1], b.values[-1] + 0.01) for b in apart[:1]]
    assert together[0].values != pytest.approx(shifted[0], abs=1e-4), "the comparison can fail"


def test_a_draw_does_not_depend_on_its_batch(tiny: Path) -> None:
    engine = made(tiny)
    requests = [generate("w" * (3 * n), seed=n, top_p=0.9 if n % 2 else 1.0, max_tokens=4 + n) for n in range(8)]
    together, apart = ask_all(engine, requests), one_by_one(engine, requests)
    assert [reply.text for reply in together] == [reply.text for reply in apart]
    assert [reply.finish_reason for reply in together] == [reply.finish_reason for reply in apart]
    other = ask_all(engine, [generate("w" * 3, seed=99, max_tokens=5)])[0]
    assert other.text != apart[1].text


def test_seeds_tags_and_their_absence(tiny: Path) -> None:
    engine = made(tiny)
    variants = [
        generate("q", seed=1), generate("q", seed=2), generate("q", seed=1, tag="2"), generate("q"),
        generate("q", tag="2"), generate("q", seed=0, tag="2"),
    ]  # fmt: skip
    first = [reply.text for reply in ask_all(engine, variants)]
    assert len(set(first)) == len(variants)
    assert first == [reply.text for reply in ask_all(engine, variants)]


def test_draws_follow_the_model(tiny: Path) -> None:
    """400 first tokens at temperature 0.7 within top_p 0.8, against the probabilities worked out from the logits."""
    engine = made(tiny)
    replies = ask_all(engine, [generate("q", seed=n, temperature=0.7, top_p=0.8, max_tokens=1) for n in range(400)])
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny)
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny).eval()
    ids = tokenizer("<s>user q</s><s>assistant ", add_special_tokens=False, return_tensors="pt").input_ids
    with torch.no_grad():
        logits = model(ids).logits[0, -1]
    order = (logits / 0.7).softmax(-1).sort(descending=True)
    count = int((order.values.cumsum(0) < 0.8).sum()) + 1
    nucleus = order.values[:count] / order.values[:count].sum()
    raw = logits.log_softmax(-1)[order.indices[:count]].tolist()
    seen = Counter(min(range(count), key=lambda n: abs(raw[n] - reply.values[0])) for reply in replies)
    assert all(min(abs(value - reply.values[0]) for value in raw) < 1e-4 for reply in replies), "outside the nucleus"
    squares = sum((seen[n] - 400 * p) ** 2 / (400 * p) for n, p in enumerate(nucleus.tolist()))
    assert squares < count - 1 + 5 * math.sqrt(2 * (count - 1)) + 5


def test_greedy_is_the_likeliest_token_each_time(tiny: Path) -> None:
    engine = made(tiny)
    reply = ask_all(engine, [generate("abc", temperature=0.0, max_tokens=10)])[0]
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny)
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny).eval()
    ids = tokenizer("<s>user abc</s><s>assistant ", add_special_tokens=False, return_tensors="pt").input_ids
    written: list[int] = []
    with torch.no_grad():
        while len(written) < 10 and (not written or written[-1] != 1):
            written.append(int(model(torch.cat([ids, torch.tensor([written]).long()], 1)).logits[0, -1].argmax()))
    text = tokenizer.decode(written, skip_special_tokens=True)
    assert reply.text == (text.rstrip("\ufffd") if reply.finish_reason == "length" else text)
    assert reply.completion_tokens == len(reply.values) == len(written)


def test_finish_reasons_are_exact(tiny: Path) -> None:
    engine = made(tiny)
    long = ask_all(engine, [generate("q", seed=n, max_tokens=200) for n in range(40)])
    ended = [n for n, reply in enumerate(long) if reply.finish_reason == "stop" and reply.completion_tokens > 2]
    assert ended and {reply.finish_reason for reply in long} <= {"stop", "length"}
    n = ended[0]
    needed = long[n].completion_tokens
    exactly, short = ask_all(engine, [generate("q", seed=n, max_tokens=m) for m in (needed, needed - 1)])
    assert (exactly.finish_reason, exactly.text) == ("stop", long[n].text)
    assert (short.finish_reason, short.completion_tokens) == ("length", needed - 1)


def test_stop_texts_end_an_answer_and_are_cut_off(tiny: Path) -> None:
    engine = made(tiny)
    full = ask_all(engine, [generate("q", seed=5, max_tokens=40)])[0]
    mark = next(c for c in full.text[3:] if c.isascii() and c.isprintable())
    stopped = ask_all(engine, [generate("q", seed=5, max_tokens=40, stop=(mark, "never"))])[0]
    assert stopped.text == full.text[: full.text.index(mark)] and stopped.finish_reason == "stop"
    assert stopped.completion_tokens < full.completion_tokens


def test_label_probabilities(tiny: Path) -> None:
    engine = made(tiny)
    request = Request("label_probs", turns("which?"), labels=("A", "B"), prefix="It is")
    alone = ask_all(engine, [request])[0]
    assert sum(alone.values) == pytest.approx(1) and 0 < alone.mass < 1
    others = [Request("label_probs", turns("w" * n), labels=("x", "y", "z")) for n in range(5)]
    assert ask_all(engine, [*others, request])[-1].values == pytest.approx(alone.values, abs=1e-5)
    same = ask_all(engine, [Request("label_probs", turns("which?"), labels=("Aa", "Ab"))])[0]
    assert isinstance(same, RequestError) and "cannot be told apart" in str(same)


def test_what_does_not_fit_and_what_the_template_refuses_fails_alone(tiny: Path) -> None:
    requests = [
        generate("ok"),
        generate("w" * 300),
        Request("logprobs", turns("q"), continuation="w" * 300),
        Request("generate", ({"role": "tool", "content": "x"},)),
        generate("w" * 200, max_tokens=500),
    ]
    ok, long, longer, tool, capped = ask_all(made(tiny), requests)
    assert ok.text is not None
    assert all(isinstance(failed, RequestError) and not failed.retriable for failed in (long, longer, tool))
    assert "context of 256" in str(long) and "no tools here" in str(tool)
    assert capped.prompt_tokens + capped.completion_tokens <= 256


def test_without_a_chat_template_the_contents_are_joined(tiny: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny, base)
    (base / "chat_template.jinja").unlink()
    reply = ask_all(made(base), [Request("logprobs", turns("ab", "cd"), prefix="e", continuation="f")])[0]
    assert reply.prompt_tokens == len("ab\n\ncde") + 1
    assert made(base).identity != made(tiny).identity


def test_small_batches_give_the_same(tiny: Path) -> None:
    requests = [generate("w" * n, seed=n) for n in range(6)]
    roomy, tight = made(tiny), made(tiny, max_batch_tokens=40)
    assert [r.text for r in ask_all(roomy, requests)] == [r.text for r in ask_all(tight, requests)]


def test_prompt_log_probabilities_over_http(tiny: Path) -> None:
    """The tokenizer here makes the ids; the server's numbers are taken from where the continuation stands."""
    with FaultServer() as server:
        fields = {"kind": "openai", "model": "m", "base_url": server.url, "prompt_logprobs": True}
        engine = engine_from_config("judge", {**fields, "tokenizer": str(tiny)}, "test.yaml")

        async def work(request: Request) -> Any:
            try:
                return await engine.ask(request)
            finally:
                await engine.close()

        reply = asyncio.run(work(Request("logprobs", turns("hi"), continuation="yes!")))
        sent = server.log[0]["body"]
        ids = transformers.AutoTokenizer.from_pretrained(tiny)("<s>user hi</s><s>assistant yes!").input_ids
        assert sent["prompt"] == ids and sent["echo"] is True
        digests = [hashlib.sha256(json.dumps(ids[:end]).encode()).digest()[0] for end in range(1, len(ids) + 1)]
        assert reply.values == pytest.approx([-0.1 - digest / 32 for digest in digests[-4:]])
        assert asyncio.run(work(Request("logprobs", turns("hi"), continuation=""))).values == ()
        bare = engine_from_config("judge", fields, "test.yaml")
        with pytest.raises(EngineError, match="add tokenizer:"):
            asyncio.run(bare.ask(Request("logprobs", turns("hi"), continuation="x")))


def test_half_precision_on_a_cpu_is_refused(tiny: Path) -> None:
    outcome = ask_all(made(tiny, dtype="bfloat16", device="cpu"), [generate("q")])[0]
    assert isinstance(outcome, EngineError) and "float32" in str(outcome)


def test_it_can_be_closed_and_used_again(tiny: Path) -> None:
    engine = made(tiny)
    before = ask_all(engine, [generate("q", seed=1)])[0]
    asyncio.run(engine.close())
    assert ask_all(engine, [generate("q", seed=1)])[0].text == before.text


@pytest.fixture(scope="module")
def policy(smollm2: Path) -> TransformersEngine:
    return made(smollm2)


@pytest.mark.model
def test_smollm2_knows_the_capital_of_france(policy: TransformersEngine) -> None:
    reply = ask_all(policy, [generate("What is the capital of France?", temperature=0.0, max_tokens=24)])[0]
    assert reply.text == "The capital of France is Paris." and reply.finish_reason == "stop"
    assert reply.values[0] == pytest.approx(-1.883, abs=0.01), "as other engines with these weights measured it"


@pytest.mark.model
def test_smollm2_log_probabilities_batched_and_single(policy: TransformersEngine) -> None:
    continuations = [
        "Paris.",
        "It scatters blue light more than red, so that the whole sky glows.",
        "No.",
        "banana " * 20,
    ]
    requests = [
        Request("logprobs", turns("Why is the sky blue?" * n), continuation=c) for n in (1, 4) for c in continuations
    ]
    requests += [Request("logprobs", continuation=c) for c in continuations]
    for a, b in zip(ask_all(policy, requests), one_by_one(policy, requests), strict=True):
        assert a.values == pytest.approx(b.values, abs=1e-4)


@pytest.mark.model
def test_smollm2_likelihood_tells_an_answer_from_shuffled_words(policy: TransformersEngine) -> None:
    question = turns("What is the capital of France?")
    answer, shuffled = ask_all(
        policy,
        [
            Request("logprobs", question, continuation="The capital of France is Paris."),
            Request("logprobs", question, continuation="Paris capital is France the of."),
        ],
    )
    assert sum(answer.values) / len(answer.values) > sum(shuffled.values) / len(shuffled.values) + 1


@pytest.mark.model
def test_smollm2_draws_do_not_depend_on_the_batch(policy: TransformersEngine) -> None:
    questions = [
        "Hi", "Why is the sky blue?", "Name three fruits. " * 8, "Is 17 prime?", "Write a haiku.", "What is DNA? " * 4,
        "Translate good morning to Spanish.", "Tell me a joke about a cat and a dog.",
    ]  # fmt: skip
    requests = [generate(q, seed=n, top_p=0.95, max_tokens=16 + 4 * n) for n, q in enumerate(questions)]
    together = ask_all(policy, requests)
    for place in (1, 6):
        assert ask_all(policy, [requests[place]])[0].text == together[place].text
    assert len({reply.text for reply in together}) == 8


@pytest.mark.model
def test_smollm2_gives_its_mass_to_the_labels_of_a_begun_answer(policy: TransformersEngine) -> None:
    text = "Which response is better?\n\nResponse A:\nParis.\n\nResponse B:\nBananas are yellow."
    begun = Request("label_probs", turns(text), labels=("A", "B"), prefix="The better response is Response")
    unlucky = Request("label_probs", turns(text), labels=("1", "2"), prefix="Answer:")
    good, bad = ask_all(policy, [begun, unlucky])
    assert good.mass > 0.95 and sum(good.values) == pytest.approx(1)
    assert bad.mass < 0.5, "a digit after a space is two tokens here, and the mass says so"


@pytest.mark.model
def test_smollm2_is_named_by_the_file_it_was_made_from(policy: TransformersEngine) -> None:
    assert policy.identity == "transformers:smollm2-135m-instruct@b179c9523d0e:float32"


def test_what_many_requests_share_is_read_once(tiny: Path) -> None:
    engine = made(tiny)
    long, short = turns("why? " * 20, "Because. " * 5), turns("who?", "Nobody.")
    requests = [
        Request("logprobs", talk, continuation="x" * n, role="user") for talk in (long, short) for n in range(8)
    ]
    apart = one_by_one(engine, requests)
    model, read = engine._model(), []
    model.model.model.embed_tokens.register_forward_hook(lambda _, given, out: read.append(given[0].numel()))
    prepared = [model.prepare(request) for request in requests]
    together = model.answer(prepared)
    beginnings = {(*row.prompt, *row.continuation)[:end] for row in prepared for end in range(1, row.length + 1)}
    assert read == [len(beginnings)], "each token that stands after the same tokens, once"
    assert len(beginnings) < 0.25 * sum(row.length for row in prepared)
    for a, b in zip(together, apart, strict=True):
        assert a.values == pytest.approx(b.values, abs=1e-4) and a.prompt_tokens == b.prompt_tokens
    assert together[0].values == () and len(together[7].values) == 7
    assert together[1].values != pytest.approx(together[9].values, abs=1e-4), "the comparison can fail"


def test_a_model_that_cannot_be_read_in_packs_is_read_row_by_row(tiny: Path, tmp_path: Path) -> None:
    from transformers import MambaConfig, MambaForCausalLM

    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny)
    torch.manual_seed(0)
    model = MambaForCausalLM(
        MambaConfig(
            vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=2, state_size=4, bos_token_id=0,
            eos_token_id=1, pad_token_id=1, initializer_range=0.4,
        )
    ).eval()  # fmt: skip
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    replies = ask_all(
        made(tmp_path), [Request("logprobs", turns("hi"), continuation=text) for text in ("yes!", "", "n")]
    )
    for text, reply in zip(("yes!", "", "n"), replies, strict=True):
        prompt = tokenizer("<s>user hi</s><s>assistant ", add_special_tokens=False).input_ids
        ids = prompt + tokenizer(text, add_special_tokens=False).input_ids
        with torch.no_grad():
            logp = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        expected = [float(logp[place - 1, ids[place]]) for place in range(len(prompt), len(ids))]
        assert reply.values == pytest.approx(expected, abs=1e-5)


def test_a_continuation_of_nothing_fails_alone(tiny: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny, base)
    (base / "chat_template.jinja").unlink()
    nothing, something = (Request("logprobs", turns(text), continuation="x") for text in ("", "y"))
    empty, full = ask_all(made(base), [nothing, something])
    assert isinstance(empty, RequestError) and "no token before the continuation" in str(empty)
    assert len(full.values) == 1
