"""What one cell of the comparison trains on: a model, and lists of a prompt and K responses of given lengths.

The texts are random words that are one token each, so that lengths are exact. The lists go to prefdata as a Parquet
file of the format `lists`; what its tokeniser makes of them, token for token, goes to the others as JSON.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SHAPES: dict[str, dict[str, int | bool]] = {
    "135m": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
    },
    "1b": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
    },
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 49152,
    },
}
"""Llama shapes that random weights are made in."""


@dataclass(frozen=True)
class Cell:
    """One row of the comparison.

    Attributes:
        model: a folder with weights, or a name in SHAPES.
        responses: K.
        prompt: tokens of a prompt, chat template included; 0: lengths as in HH-RLHF.
        response: tokens of a response, its end of turn included; where lengths are HH-RLHF's, the longest ones.
        groups: lists in one optimiser step.
        steps: optimiser steps.
    """

    model: str
    responses: int
    prompt: int
    response: int
    groups: int
    steps: int

    @property
    def lists(self) -> int:
        """Lists in all."""
        return self.groups * self.steps

    @property
    def name(self) -> str:
        """As the table has it."""
        lengths = f"P={self.prompt}, R={self.response}" if self.prompt else f"lengths of HH-RLHF up to {self.response}"
        return f"{Path(self.model).name}, {lengths}, K={self.responses}, {self.groups} lists a step"


@dataclass(frozen=True)
class Prepared:
    """A cell's files.

    Attributes:
        cell: of which.
        model: folder with weights and tokenizer.
        lists: the Parquet file.
        tokens: the JSON file: `groups`, a list of `{"prompt": ids, "responses": [ids, ...]}`, best response first, in
            the order in which they are trained on.
        useful: tokens of all lists, each prompt counted once.
        scored: tokens of all responses.
        rows: tokens of all pairs of best and other, prompt and padding of none counted twice over.
        body: weights that every token meets.
        head: weights of the head.
    """

    cell: Cell
    model: Path
    lists: Path
    tokens: Path
    useful: int
    scored: int
    rows: int
    body: int
    head: int

    @property
    def flops(self) -> float:
        """Of forward and backward passes over one list's useful tokens, the head for scored tokens alone."""
        return 6.0 * (self.body * self.useful + self.head * self.scored) / self.cell.lists

    def write(self, path: Path) -> None:
        """For the workers."""
        values = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(self).items()}
        path.write_text(json.dumps(values))


def read_prepared(path: Path) -> dict[str, Any]:
    """What `Prepared.write` wrote."""
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def make_model(model: str, tokenizer: Path, folder: Path) -> Path:
    """The folder of a model: as it is, or random weights of a shape with this tokenizer."""
    if model not in SHAPES:
        return Path(model)
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    made = folder / model
    if not made.exists():
        torch.manual_seed(0)
        known = AutoTokenizer.from_pretrained(tokenizer)
        shape = LlamaConfig(
            **SHAPES[model],
            max_position_embeddings=4096,
            tie_word_embeddings=True,
            bos_token_id=known.bos_token_id,
            eos_token_id=known.eos_token_id,
            pad_token_id=known.pad_token_id,
        )
        LlamaForCausalLM(shape).save_pretrained(made)
        known.save_pretrained(made)
    return made


def word_tokens(tokenizer: Any) -> list[str]:
    """Words that are one token each after a space, whatever stands before them."""
    words = []
    for text in sorted(tokenizer.get_vocab()):
        if re.fullmatch("Ġ[a-z]{3,9}", text):
            words.append(text[1:])
    draw = random.Random(3)
    sample = draw.sample(words, min(2000, len(words)))
    return [word for word in sample if len(tokenizer.encode(f"a {word} {word}", add_special_tokens=False)) == 3]


def draw_lengths(cell: Cell, ragged: Sequence[tuple[int, int]], overhead: int) -> list[tuple[int, list[int]]]:
    """For each list the words of its prompt and of its responses.

    Args:
        cell: which.
        ragged: lengths of prompts and responses, for a cell without lengths of its own.
        overhead: tokens that the chat template puts round a prompt.
    """
    draw = random.Random(5)
    lengths = []
    for _ in range(cell.lists):
        if cell.prompt:
            lengths.append((cell.prompt - overhead, [cell.response - 1] * cell.responses))
        else:
            prompt = draw.choice(ragged)[0]
            lengths.append((prompt, [draw.choice(ragged)[1] for _ in range(cell.responses)]))
    return lengths


def hh_lengths(data: Path, tokenizer: Any, longest: int) -> list[tuple[int, int]]:
    """Tokens of prompts and responses of HH-RLHF, those of at most `longest` each."""
    import pyarrow.parquet as pq

    rows = pq.read_table(data / "hh_rlhf_helpful.parquet", columns=["prompt", "chosen", "rejected"]).to_pylist()
    found = []
    for row in rows[::5]:
        prompt = len(tokenizer.encode(row["prompt"]))
        for side in ("chosen", "rejected"):
            response = len(tokenizer.encode(row[side].removeprefix(row["prompt"])))
            if 0 < prompt <= longest and 0 < response <= longest:
                found.append((prompt, response))
    return found


def prepare(cell: Cell, folder: Path, tokenizer: Path | None, data: Path | None) -> Prepared:
    """Write a cell's model, lists and tokens into a folder.

    Raises:
        ValueError: the tokeniser made other lengths of the texts than were asked for.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    from transformers import AutoConfig, AutoTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    model = make_model(cell.model, tokenizer or Path(cell.model), folder.parent / "models")
    known = AutoTokenizer.from_pretrained(model)
    words = word_tokens(known)
    draw = random.Random(11)

    def text(count: int) -> str:
        return " ".join(["a", *draw.choices(words, k=count - 1)])

    empty = [{"role": "user", "content": ""}]
    overhead = len(known.apply_chat_template(empty, add_generation_prompt=True, return_dict=True)["input_ids"])
    ragged = [] if cell.prompt else hh_lengths(_given(data), known, cell.response)
    rows = []
    for number, (prompt, responses) in enumerate(draw_lengths(cell, ragged, overhead)):
        rows.append(
            {
                "prompt": [{"role": "user", "content": text(prompt)}],
                "responses": [text(count) for count in responses],
                "scores": [1.0] + [0.0] * (len(responses) - 1),
                "ranks": [1] + [2] * (len(responses) - 1),
                "group": f"list {number}",
            }
        )
    lists = folder / "lists.parquet"
    pq.write_table(pa.Table.from_pylist(rows), lists)
    groups = _tokenised(cell, model, lists)
    if cell.prompt:
        for group in groups:
            found = {len(group["prompt"]), *map(len, group["responses"])}
            if found != {cell.prompt, cell.response}:
                raise ValueError(f"{cell.name}: the tokeniser made lengths {sorted(found)}")
    tokens = folder / "tokens.json"
    tokens.write_text(json.dumps({"groups": groups}))
    body, head = _parameters(AutoConfig.from_pretrained(model))
    prompts = [len(group["prompt"]) for group in groups]
    responses = [list(map(len, group["responses"])) for group in groups]
    made = Prepared(
        cell=cell,
        model=model,
        lists=lists,
        tokens=tokens,
        useful=sum(prompts) + sum(map(sum, responses)),
        scored=sum(map(sum, responses)),
        rows=sum(
            2 * (len(own) - 1) * prompt + (len(own) - 1) * own[0] + sum(own[1:])
            for prompt, own in zip(prompts, responses, strict=True)
        ),
        body=body,
        head=head,
    )
    made.write(folder / "cell.json")
    return made


def _given(data: Path | None) -> Path:
    if data is None:
        raise ValueError("lengths of HH-RLHF need --data, the folder that holds hh_rlhf_helpful.parquet")
    return data


def _tokenised(cell: Cell, model: Path, lists: Path) -> list[dict[str, Any]]:
    """What prefdata reads of the lists, in the order in which it trains on them."""
    from transformers import AutoTokenizer

    from prefdata.train.config import TrainConfig
    from prefdata.train.data import read_preferences
    from prefdata.train.plan import plan_steps
    from prefdata.train.tokens import Encoder, tokenise

    data = read_preferences(lists)
    encoder = Encoder(AutoTokenizer.from_pretrained(model), str(model), templated=data.templated)
    found = tokenise(data, encoder, {"edges"}, max_length=4096, overlong="error").training
    config = TrainConfig(data=lists, model=str(model), out=lists, batch_size=cell.groups, max_steps=cell.steps)
    groups = []
    for entry in (found[place] for step in plan_steps(len(found), config) for place in step):
        start = entry.starts[0]
        responses = [list(row.tokens[start:]) for row in entry.rows]
        groups.append({"prompt": list(entry.rows[0].tokens[:start]), "responses": responses})
    return groups


def _parameters(config: Any) -> tuple[int, int]:
    """Of a Llama: the weights that every token meets, and those of the head, which only predicted tokens need."""
    size, layers = config.hidden_size, config.num_hidden_layers
    head = getattr(config, "head_dim", None) or size // config.num_attention_heads
    attention = size * head * (2 * config.num_attention_heads + 2 * config.num_key_value_heads)
    return int(layers * (attention + 3 * size * config.intermediate_size)), int(size * config.vocab_size)
