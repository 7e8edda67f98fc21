"""Tiny random decoders of several families, rows for them, and what separate rows give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from prefdata.lm import Row

VOCABULARY = 23

_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 2,
    "bos_token_id": None,
    "eos_token_id": 2,
}

_MIXED = {"head_dim": 4, "sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}
"""The window is shorter than most rows here."""

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "qwen2": ("Qwen2", {"tie_word_embeddings": True}),
    "mistral": ("Mistral", {"sliding_window": 4}),
    "gemma2": ("Gemma2", {**_MIXED, "final_logit_softcapping": 1.5, "attn_logit_softcapping": 1.0}),
    "gemma3": ("Gemma3", {**_MIXED}),
    "cohere": ("Cohere", {"logit_scale": 0.5}),
    "granite": ("Granite", {"logits_scaling": 2.0, "attention_bias": True}),
    "phi": ("Phi", {}),
}
"""By name: the classes' prefix in transformers, and what its configuration says beside the sizes. Phi's head has a
bias, Qwen2's attention too; Gemma2 caps scores and logits."""


def decoder(family: str, *, labels: int | None = None, spread: float = 4.0, **options: Any) -> Any:
    """A random model in float32; with `labels` a sequence classifier.

    Args:
        family: of `FAMILIES`.
        labels: outputs of the reward head.
        spread: what all weights are multiplied with: a model that says nearly the same everywhere shows nothing.
        options: for the configuration.
    """
    import torch
    import transformers

    prefix, said = FAMILIES[family]
    torch.manual_seed(0)
    text = "Text" if prefix == "Gemma3" else ""
    configuration = getattr(transformers, f"{prefix}{text}Config")(**{**_SIZES, **said, **options})
    if labels is not None:
        configuration.num_labels = labels
    kind = "ForCausalLM" if labels is None else f"{text}ForSequenceClassification"
    model = getattr(transformers, prefix + kind)(configuration).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
            else:
                parameter.mul_(spread if "embed" not in name else spread / 2)
    return model


def separate_logprobs(model: Any, rows: Sequence[Row]) -> Any:
    """`[L]`, by the model's own forward pass, row by row, with gradients."""
    import torch

    parts = []
    for row in rows:
        logp = model(input_ids=torch.tensor([row.tokens]), use_cache=False).logits[0].float().log_softmax(-1)
        parts += [logp[place - 1, row.tokens[place]] for place in row.scored]
    return torch.stack(parts)


def gradients(model: Any, loss: Any) -> dict[str, Any]:
    """Of all parameters that take part."""
    import torch

    trained = {name: one for name, one in model.named_parameters() if one.requires_grad}
    found = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
    return {name: one for name, one in zip(trained, found, strict=True) if one is not None}


def distance(found: dict[str, Any], expected: dict[str, Any]) -> float:
    """The largest difference of a parameter's gradient, as a share of the length of the whole gradient."""
    assert found.keys() == expected.keys()
    length = sum(float(one.double().square().sum()) for one in expected.values()) ** 0.5
    return max(float((found[name] - expected[name]).norm()) for name in expected) / length


@st.composite
def groups(draw: st.DrawFn, *, vocabulary: int = VOCABULARY, most: int = 3) -> list[list[Row]]:
    """One to three groups of one prompt and up to four responses: nested, equal, and with nothing scored too."""
    token = st.integers(0, vocabulary - 1)
    found = []
    for _ in range(draw(st.integers(1, most))):
        prompt = draw(st.lists(token, min_size=1, max_size=6))
        bodies = draw(st.lists(st.lists(token, min_size=1, max_size=7), min_size=1, max_size=4))
        # Tree steps: a response that goes on from within another one.
        for _ in range(draw(st.integers(0, 2))):
            begun = draw(st.sampled_from(bodies))
            cut = draw(st.integers(0, len(begun)))
            bodies.append([*begun[:cut], *draw(st.lists(token, min_size=0 if cut else 1, max_size=4))])
        rows = []
        for body in bodies:
            whole = (*prompt, *body)
            scored = draw(
                st.one_of(
                    st.just(tuple(range(len(prompt), len(whole)))),
                    st.sets(st.integers(1, len(whole) - 1)).map(sorted).map(tuple),
                )
            )
            rows.append(Row(whole, scored))
        found.append(draw(st.permutations(rows)))
    return found
