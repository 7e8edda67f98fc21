"""A prompt read once equals rows read one by one: numbers, loss and the gradients of all parameters."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_decoders import FAMILIES, VOCABULARY, decoder, distance, gradients, groups, separate_logprobs

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from prefdata.lm import Pack, PackedModel, Row, pack  # noqa: E402
from prefdata.lm.attention import BLOCK, Layers, attention_masks, block_mask  # noqa: E402
from prefdata.lm.trees import attend, pieces, tree_mask  # noqa: E402

FEW = settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))

GROUP = [Row((5, 6, 7, 8, 9, *end), tuple(range(5, 5 + len(end)))) for end in ((10, 11, 12), (13, 14), (10, 11, 3, 4))]
"""Three responses to one prompt, two of which begin alike."""

MADE: dict[str, Any] = {}


def family(name: str) -> Any:
    """Each model is made once."""
    if name not in MADE:
        MADE[name] = decoder(name)
    return MADE[name]


def loss_of(values: Any, lengths: Any) -> Any:
    """A loss that is no sum: of neighbouring rows' sums, one against the next."""
    sums = torch.stack([part.sum() for part in values.split([int(n) for n in lengths])])
    return -torch.nn.functional.logsigmoid(0.3 * (sums - sums.roll(1))).sum() + sums.square().mean() * 0.01


def whole(packed: Callable[[Pack], Any], model: Any, given_: Pack) -> tuple[Any, Any, dict[str, Any]]:
    """Values, loss and gradients."""
    values = packed(given_)
    loss = loss_of(values, given_.lengths)
    return values.detach(), loss.detach(), gradients(model, loss)


def relative(found: Any, expected: Any) -> float:
    found, expected = found.detach(), expected.detach()
    return float((found - expected).norm() / expected.norm().clamp(min=1e-9))


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_known_of_a_family_is_its_own_forward_pass(name: str) -> None:
    PackedModel(family(name)).verify()


@pytest.mark.parametrize("name", ["llama", "qwen2", "gemma2", "gemma3"])
@FEW
@given(made=groups(), filled=st.integers(1, 17))
def test_shared_prompts_equal_separate_rows(name: str, made: list[list[Row]], filled: int) -> None:
    rows = [row for group in made for row in group]
    if not any(row.scored for row in rows):
        return
    model = family(name)
    given_ = pack(made)
    expected = separate_logprobs(model, rows)
    loss = loss_of(expected, given_.lengths)
    by_row = gradients(model, loss)
    packers = [PackedModel(model, attention="sdpa", chunk=3)]
    if name != "gemma2":  # its scores are capped
        packers.append(PackedModel(model, attention="trees", pad_to=filled, keep_logits=True))
    for packed in packers:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("prefdata.lm.trees._SMALL", 2)  # or all would be one piece
            values, found, by_pack = whole(packed, model, given_)
        assert values.dtype == torch.float32
        assert relative(values, expected) < 1e-5
        assert relative(found, loss) < 1e-5
        assert distance(by_pack, by_row) < 1e-5


@pytest.mark.parametrize("name", ["mistral", "cohere", "granite", "phi"])
def test_further_families_have_the_same_gradients(name: str) -> None:
    model = family(name)
    values, loss, by_pack = whole(PackedModel(model), model, pack([GROUP, GROUP[1:]]))
    expected = separate_logprobs(model, GROUP + GROUP[1:])
    wanted = loss_of(expected, [3, 2, 4, 2, 4])
    assert relative(values, expected) < 1e-5 and relative(loss, wanted) < 1e-5
    assert distance(by_pack, gradients(model, wanted)) < 1e-5


@pytest.mark.parametrize("wrong", ["leak", "shifted", "source", "omitted"])
@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_a_wrong_layout_is_seen(name: str, wrong: str) -> None:
    """Negative controls: responses that see one another, a shifted mask, and the wrong state for a first token."""
    model, right = family(name), pack([GROUP])
    first = np.isin(right.source, [4])  # what the last prompt state predicts
    broken = {
        "leak": replace(right, ends=np.full_like(right.ends, right.size)),
        "shifted": replace(right, ends=np.maximum(np.roll(right.ends, -1), np.arange(right.size) + 1)),
        "source": replace(right, source=np.where(first, right.source - 1, right.source)),
        "omitted": replace(right, source=np.where(first, np.arange(len(first)) + 4, right.source)),
    }[wrong]
    packed = PackedModel(model)
    values, loss, by_right = whole(packed, model, right)
    other, off, by_wrong = whole(packed, model, broken)
    assert first.sum() == 2
    far = 30 * 1e-5  # well beyond what is allowed above
    assert relative(other, values) > far and relative(off, loss) > far and distance(by_wrong, by_right) > far


def test_sliding_windows_are_kept_and_matter() -> None:
    """Negative control of the sliding layers: with all of a row in sight the numbers differ."""
    model = family("gemma3")
    packed = PackedModel(model)
    values = packed(pack([GROUP]))
    packed._layers = replace(packed._layers, windows=dict.fromkeys(packed._layers.windows))
    assert relative(packed(pack([GROUP])), values) > 1e-3


@pytest.mark.parametrize("attention", ["sdpa", "trees"])
def test_windows_much_shorter_than_the_rows(attention: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of 18 to 30 tokens, one within another, under a window of 4: most of the prompt is out of sight."""
    monkeypatch.setattr("prefdata.lm.trees._SMALL", 3)
    model = family("gemma3")
    long = [Row(row.tokens, tuple(range(18, len(row.tokens)))) for row in long_rows(12, 5, 9, prompt=18)]
    inside = [Row(long[0].tokens[:cut], tuple(range(18, cut))) for cut in (18, 20, 25)]
    rows = [*long, *inside, long[0]]
    values, loss, by_pack = whole(PackedModel(model, attention=attention), model, pack([rows, rows[:2]]))
    expected = separate_logprobs(model, rows + rows[:2])
    wanted = loss_of(expected, [len(row.scored) for row in rows + rows[:2]])
    assert relative(values, expected) < 1e-5 and relative(loss, wanted) < 1e-5
    assert distance(by_pack, gradients(model, wanted)) < 1e-5


def test_a_window_that_the_models_code_does_not_know_is_not_applied() -> None:
    model = decoder("llama", sliding_window=3)
    assert relative(PackedModel(model)(pack([GROUP])), separate_logprobs(model, GROUP)) < 1e-5


def test_gradient_checkpointing_gives_the_same_gradients() -> None:
    model = decoder("qwen2")
    given_ = pack([GROUP, GROUP[:2]])
    plain = whole(PackedModel(model), model, given_)
    model.activation_checkpointing_enable()
    model.train()
    calls: list[int] = []
    hook = model.model.layers[0].self_attn.q_proj.register_forward_hook(lambda *_: calls.append(1))
    again = whole(PackedModel(model), model, given_)
    hook.remove()
    assert len(calls) == 2, "computed once more in the backward pass"
    assert relative(again[0], plain[0]) < 1e-6 and distance(again[2], plain[2]) < 1e-6


def test_dropout_that_cannot_be_stopped_is_found_by_verify() -> None:
    """Falcon reads it from the configuration."""
    sizes: dict[str, Any] = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    for share in (0.0, 0.5):
        model = transformers.FalconForCausalLM(transformers.FalconConfig(**sizes, hidden_dropout=share))
        packed = PackedModel(model)
        if share:
            with pytest.raises(ValueError, match="'falcon' drops numbers out in training mode"):
                packed.verify()
        else:
            packed.verify()
        assert packed.training == model.training


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_positions_that_hang_on_the_longest_row_are_refused_where_they_do(kind: str) -> None:
    said = {"rope_type": kind, "factor": 2.0, "rope_theta": 1e4, "original_max_position_embeddings": 16}
    said |= {"short_factor": [1.0, 1.0], "long_factor": [3.0, 5.0]} if kind == "longrope" else {}
    packed = PackedModel(decoder("llama", rope_parameters=said, max_position_embeddings=16))
    packed.verify()
    assert relative(packed(pack([GROUP])), separate_logprobs(packed.model, GROUP)) < 1e-5
    with pytest.raises(ValueError, match="more than 16 tokens, and a row of the pack has 17"):
        packed(pack([[Row(tuple(range(17)), (3,))], GROUP]))


def test_nothing_drops_out_in_training_mode() -> None:
    model = decoder("llama", attention_dropout=0.5).train()
    packed = PackedModel(model)
    assert torch.equal(packed(pack([GROUP])), packed(pack([GROUP])))


@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], ["q_proj", "lm_head"]], ids=["layers", "head"])
def test_a_lora_adapter_is_read_switched_off_and_trained(targets: list[str]) -> None:
    peft = pytest.importorskip("peft")
    base = decoder("llama")
    plain = PackedModel(base)(pack([GROUP])).detach()
    torch.manual_seed(1)
    model = peft.get_peft_model(
        base, peft.LoraConfig(r=3, lora_alpha=6, target_modules=targets, init_lora_weights=False, lora_dropout=0.2)
    ).train()
    packed = PackedModel(model)
    packed.verify()
    values, _, by_pack = whole(packed, model, pack([GROUP]))
    expected = separate_logprobs(model, GROUP)
    assert relative(values, expected) < 1e-5 and relative(values, plain) > 1e-3
    assert by_pack.keys() == {name for name, one in model.named_parameters() if one.requires_grad}
    assert distance(by_pack, gradients(model, loss_of(expected, [3, 2, 4]))) < 1e-5
    with model.disable_adapter(), torch.no_grad():
        assert torch.equal(packed(pack([GROUP])), plain)


@pytest.mark.parametrize("family_", ["llama", "phi"])
def test_a_lora_adapter_of_the_head_that_has_a_bias(family_: str) -> None:
    """Phi's head has one of its own, to which it is added."""
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, lora_alpha=6, target_modules=["lm_head"], init_lora_weights=False, lora_bias=True)
    model = peft.get_peft_model(decoder(family_), config)
    with torch.no_grad():
        model.base_model.model.lm_head.lora_B["default"].bias.add_(torch.randn(VOCABULARY))
    values, _, by_pack = whole(PackedModel(model), model, pack([GROUP]))
    expected = separate_logprobs(model, GROUP)
    assert relative(values, expected) < 1e-5
    assert distance(by_pack, gradients(model, loss_of(expected, [3, 2, 4]))) < 1e-5


def test_a_head_that_is_trained_whole_is_read_where_it_is_switched_on() -> None:
    peft = pytest.importorskip("peft")
    base = decoder("llama")
    plain = PackedModel(base)(pack([GROUP])).detach()
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"])
    model = peft.get_peft_model(base, config)
    trained = model.base_model.model.lm_head.modules_to_save["default"].weight
    with torch.no_grad():
        trained.add_(torch.randn_like(trained))
    packed = PackedModel(model)
    values, _, by_pack = whole(packed, model, pack([GROUP]))
    expected = separate_logprobs(model, GROUP)
    assert relative(values, expected) < 1e-5 and relative(values, plain) > 1e-3
    assert distance(by_pack, gradients(model, loss_of(expected, [3, 2, 4]))) < 1e-5
    assert any("modules_to_save" in name for name in by_pack)
    with model.disable_adapter(), torch.no_grad():
        assert torch.equal(packed(pack([GROUP])), plain)


def test_every_weight_is_used_within_forward() -> None:
    """What wraps the module sees the head's use too: a hook before forward can put other weights there."""
    packed = PackedModel(decoder("phi"))
    before = packed(pack([GROUP]))
    # As sharding does it: the whole weight stands there only while forward runs.
    kept = packed.model.lm_head.weight.data.clone()
    packed.model.lm_head.weight.data.zero_()

    def gathered(module: Any, _: Any) -> None:
        module.model.lm_head.weight.data.copy_(kept)

    packed.register_forward_pre_hook(gathered)
    assert torch.equal(packed(pack([GROUP])), before)


def test_bfloat16_autocast_stays_near_float32() -> None:
    model = family("qwen2")
    exact, _, by_exact = whole(PackedModel(model), model, pack([GROUP]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values, _, by_rough = whole(PackedModel(model), model, pack([GROUP]))
    assert values.dtype == torch.float32 and relative(values, exact) < 2e-2
    assert distance(by_rough, by_exact) < 5e-2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["qwen2", "gemma2", "gemma3"])
def test_half_precision_weights_are_no_further_off_than_the_models_own_forward(name: str, dtype: Any) -> None:
    model = decoder(name, spread=2.0).to(dtype)
    packed = PackedModel(model)
    packed.verify()
    values, _, by_pack = whole(packed, model, pack([GROUP]))
    own = separate_logprobs(model, GROUP).detach()
    gold = separate_logprobs(model.float(), GROUP).detach()
    assert values.dtype == torch.float32
    assert (values - gold).abs().max() <= (own - gold).abs().max() * 1.5 + 1e-2
    assert all(bool(one.isfinite().all()) for one in by_pack.values())


def test_a_pack_in_which_nothing_is_scored_is_a_sum_of_nothing() -> None:
    model = family("llama")
    values = PackedModel(model)(pack([[Row(row.tokens) for row in GROUP]]))
    assert values.shape == (0,)
    assert all(float(one.abs().sum()) == 0 for one in gradients(model, values.sum()).values())


@FEW
@given(made=groups())
def test_outputs_of_a_reward_head_are_those_of_separate_rows(made: list[list[Row]]) -> None:
    name = "reward"
    if name not in MADE:
        MADE[name] = decoder("qwen2", labels=3)
    model = MADE[name]
    rows = [row for group in made for row in group if row.tokens[-1] != model.config.pad_token_id]
    if not rows:
        return
    given_ = pack([[row for row in group if row in rows] for group in made])
    values = PackedModel(model, output="reward")(given_)
    # One row without padding: the model's own search of its last token goes wrong for no row that is left.
    expected = torch.cat([model(input_ids=torch.tensor([row.tokens]), use_cache=False).logits for row in rows])
    assert values.shape == (len(rows), 3) and values.dtype == torch.float32
    assert relative(values, expected) < 1e-5
    by_pack, by_row = gradients(model, values.square().mean()), gradients(model, expected.square().mean())
    assert distance(by_pack, by_row) < 1e-5


def test_a_reward_head_under_an_adapter_is_the_one_that_is_trained() -> None:
    peft = pytest.importorskip("peft")
    base = decoder("qwen2", labels=2)
    plain = PackedModel(base, output="reward")(pack([GROUP])).detach()
    config = peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["q_proj"], init_lora_weights=False)
    model = peft.get_peft_model(base, config)
    assert any(one.requires_grad and "score" in name for name, one in model.named_parameters())
    with torch.no_grad():
        model.base_model.model.score.modules_to_save["default"].weight.add_(0.5)
    packed = PackedModel(model, output="reward")
    packed.verify()
    values = packed(pack([GROUP]))
    expected = torch.cat([model(input_ids=torch.tensor([row.tokens])).logits for row in GROUP])
    assert relative(values, expected) < 1e-5 and relative(values, plain) > 1e-3
    found, wanted = (gradients(model, outputs.square().mean()) for outputs in (values, expected))
    assert any("score" in name for name in found) and distance(found, wanted) < 1e-5
    with model.disable_adapter(), torch.no_grad():
        assert torch.equal(packed(pack([GROUP])), plain)


def test_a_reward_head_is_computed_in_float32() -> None:
    model = decoder("llama", labels=1)
    exact = PackedModel(model, output="reward")(pack([GROUP]))
    with torch.no_grad():
        model.score.weight.add_(1000.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values = PackedModel(model, output="reward")(pack([GROUP]))
    assert values.dtype == exact.dtype == torch.float32
    assert (values != values.bfloat16().float()).all(), "not one of them was rounded to bfloat16"


# What cannot be read in packs


def test_what_is_no_decoder_is_refused_in_a_sentence() -> None:
    sizes: dict[str, Any] = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 1}
    heads = {**sizes, "num_attention_heads": 2, "intermediate_size": 16}
    bert = transformers.BertForSequenceClassification(transformers.BertConfig(**heads))
    with pytest.raises(ValueError, match="'bert' is no decoder"):
        PackedModel(bert, output="reward")
    mamba = transformers.MambaForCausalLM(transformers.MambaConfig(**sizes))
    with pytest.raises(ValueError, match="'mamba' is recurrent"):
        PackedModel(mamba)
    bloom = transformers.BloomForCausalLM(transformers.BloomConfig(vocab_size=40, hidden_size=16, n_layer=1, n_head=2))
    with pytest.raises(ValueError, match="takes no position_ids"):
        PackedModel(bloom)
    neo = transformers.GPTNeoConfig(
        vocab_size=40, hidden_size=16, num_layers=1, num_heads=2, attention_types=[[["local"], 1]]
    )
    with pytest.raises(ValueError, match="neither attention over all"):
        PackedModel(transformers.GPTNeoForCausalLM(neo))
    with pytest.raises(ValueError, match="not a reward head"):
        PackedModel(decoder("llama"), output="reward")
    with pytest.raises(ValueError, match="has not a language-model head"):
        PackedModel(decoder("llama", labels=1))
    with pytest.raises(ValueError, match="attention is auto, sdpa, trees or flex, not 'best'"):
        PackedModel(decoder("llama"), attention="best")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'gemma2' does not support attention trees; use sdpa"):
        PackedModel(decoder("gemma2"), attention="trees")


def test_adapters_that_add_tokens_are_refused() -> None:
    peft = pytest.importorskip("peft")
    prompt = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    with pytest.raises(ValueError, match="add tokens of their own"):
        PackedModel(peft.get_peft_model(decoder("llama"), prompt))


def test_an_adapter_of_the_head_that_is_not_plain_lora_is_refused_by_its_name() -> None:
    peft = pytest.importorskip("peft")
    dora = peft.LoraConfig(target_modules=["lm_head"], use_dora=True)
    for config, kind in ((dora, "DoRA"), (peft.LoHaConfig(target_modules=["lm_head"]), "loha")):
        with pytest.raises(ValueError, match=f"adapter of the kind {kind}; only plain LoRA"):
            PackedModel(peft.get_peft_model(decoder("llama"), config))


def test_logits_that_are_made_otherwise_are_found_by_verify() -> None:
    model = decoder("llama")
    own = model.forward

    def scaled(*args: Any, **options: Any) -> Any:
        out = own(*args, **options)
        out.logits = out.logits * 0.5
        return out

    model.forward = scaled
    with pytest.raises(ValueError, match="'llama' computes otherwise than is known here"):
        PackedModel(model).verify()


# Attention by other means than one mask


def long_rows(*lengths: int, prompt: int = 150) -> list[Row]:
    random = np.random.default_rng(0)
    begun = random.integers(0, VOCABULARY, prompt).tolist()
    return [
        Row((*begun, *random.integers(0, VOCABULARY, n).tolist()), tuple(range(prompt, prompt + n))) for n in lengths
    ]


@FEW
@given(made=groups(vocabulary=3), window=st.sampled_from([None, 1, 3]), small=st.sampled_from([0, 2, 5]))
def test_the_pieces_of_trees_cover_what_is_seen(made: list[list[Row]], window: int | None, small: int) -> None:
    packed = pack(made)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("prefdata.lm.trees._SMALL", small)
        found = pieces(packed.ends, packed.positions, window, torch.device("cpu"))
    starts = np.cumsum([0, *(piece.length for piece in found)])
    covered = np.zeros((packed.size, packed.size), dtype=bool)
    for number, piece in enumerate(found):
        keys = [] if piece.root is None else list(range(starts[piece.root], starts[piece.root + 1]))
        keys += range(starts[number], starts[number + 1])
        seen = np.tri(piece.length, dtype=bool) if piece.seen is None else piece.seen.numpy()
        covered[np.ix_(range(starts[number], starts[number + 1]), keys)] = seen
    assert starts[-1] == packed.size and (covered == packed.visible(window)).all()


@pytest.mark.parametrize("length", [3, 4, 5, 6])
def test_a_window_acts_from_the_first_token_that_it_hides(length: int) -> None:
    packed = pack([[Row(tuple(range(length)))]])
    made = attention_masks(packed, Layers({"sliding_attention": 4}, False), "sdpa", torch.device("cpu"), torch.float32)
    assert (made[0, 0].numpy() == packed.visible(4)).all()


def test_capped_scores_are_not_computed_tree_by_tree() -> None:
    mask = tree_mask(pack([GROUP]), torch.device("cpu"))
    states = torch.zeros(1, 1, mask.shape[-1], 4)
    for option in ("softcap", "s_aux", "position_bias"):
        with pytest.raises(ValueError, match="not computed tree by tree"):
            attend(None, states, states, states, mask, **{option: 1.0})


def test_a_tree_mask_that_lost_its_pieces_is_read_again() -> None:
    packed = pack([long_rows(100, 160, 20), long_rows(30, 90, prompt=40)])
    whole_, bare = tree_mask(packed, torch.device("cpu"), 130), tree_mask(packed, torch.device("cpu"), 130)
    del bare.pieces
    query, key, value = torch.randn(3, 1, 2, packed.size, 8)
    found = attend(None, query, key, value, whole_)[0]
    assert torch.equal(found, attend(None, query, key, value, bare)[0])
    seen = torch.from_numpy(packed.visible(130))
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=seen)
    torch.testing.assert_close(found, expected.transpose(1, 2), atol=1e-5, rtol=1e-5)


def test_what_goes_on_without_packs_is_as_before() -> None:
    """A model that reads packs still writes, with a cache and with padding."""
    model = decoder("gemma3")
    ids, mask = torch.tensor([[2, 2, 5, 6], [7, 8, 9, 10]]), torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    asked: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "max_new_tokens": 5, "do_sample": False}
    before = model.generate(**asked)
    packed = PackedModel(model, attention="trees")
    packed(pack([GROUP]))
    assert packed.kind == "prefdata_trees" and torch.equal(model.generate(**asked), before)


@pytest.mark.parametrize("window", [None, 7, 130, 200])
def test_a_block_mask_covers_what_is_seen_and_its_full_blocks_are_full(window: int | None) -> None:
    packed = pack([long_rows(100, 160, 20), long_rows(30, 300, prompt=40), long_rows(200)])
    packed = packed.padded(-(-packed.size // BLOCK) * BLOCK)
    made = block_mask(packed, torch.device("cpu"), window)
    count = packed.size // BLOCK
    blocks = packed.visible(window).reshape(count, BLOCK, count, BLOCK).transpose(0, 2, 1, 3)
    some, full = np.zeros((2, count, count), dtype=bool)
    for table, numbers, places in (
        (some, made.kv_num_blocks, made.kv_indices),
        (full, made.full_kv_num_blocks, made.full_kv_indices),
    ):
        for row in range(count):
            table[row, places[0, 0, row, : numbers[0, 0, row]].numpy()] = True
    assert not (some & full).any(), "a block that stood in both lists would count twice"
    assert blocks[full].all() and not blocks[~some & ~full].any()
    if window is None:
        assert (full == blocks.all((2, 3))).all() and (some == blocks.any((2, 3)) & ~full).all(), "and no block is idle"
    place = torch.arange(packed.size)
    seen = made.mask_mod(torch.tensor(0), torch.tensor(0), place[:, None], place[None, :])
    assert (seen.numpy() == packed.visible(window)).all()


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_flexattention_equals_the_explicit_mask(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward only: on a CPU it has no backward. As it is written, without the compiler."""
    from torch.nn.attention import flex_attention as flex

    monkeypatch.setattr(
        "transformers.integrations.flex_attention.compile_friendly_flex_attention",
        lambda *args, training, **options: flex.flex_attention(*args, **options),
    )
    model = decoder(name, sliding_window=90, max_position_embeddings=512, hidden_size=64, head_dim=16)
    given_ = pack([long_rows(30, 90, 10), long_rows(20)])
    with torch.no_grad():
        expected = PackedModel(model, attention="sdpa")(given_)
        packed = PackedModel(model, attention="flex")
        assert relative(packed(given_), expected) < 1e-5
    assert packed.kind == "flex_attention"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a compiler")
def test_compiled_flexattention_equals_the_explicit_mask() -> None:
    """The kernel goes by the block tables, which the uncompiled form does not read."""
    model = decoder("llama", max_position_embeddings=512, hidden_size=64, head_dim=16)
    with torch.no_grad():
        packed = PackedModel(model, attention="flex", pad_to=640)
        for given_ in (pack([long_rows(30, 90, 140), long_rows(20)]), pack([long_rows(300, 90)])):
            expected = PackedModel(model, attention="sdpa")(given_)
            assert relative(packed(given_), expected) < 1e-5


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_flexattention_has_the_gradients_of_the_explicit_mask(name: str) -> None:
    model = decoder(name, sliding_window=90, max_position_embeddings=512, hidden_size=64, head_dim=16).cuda()
    given_ = pack([long_rows(30, 90, 140), long_rows(20)])
    expected, _, by_mask = whole(PackedModel(model, attention="sdpa"), model, given_)
    packed = PackedModel(model)
    assert packed.kind == "flex_attention"
    values, _, by_block = whole(packed, model, given_)
    assert relative(values, expected) < 1e-3
    assert distance(by_block, by_mask) < 1e-3
