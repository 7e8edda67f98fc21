"""A sequence classifier in this process: messages and responses to token ids, token ids to numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from prefdata.engines.base import RequestError
from prefdata.engines.chat import ChatTokenizer
from prefdata.engines.local_model import packed_or_none
from prefdata.engines.models import load_quietly
from prefdata.errors import EngineError
from prefdata.schema import Row

if TYPE_CHECKING:
    from prefdata.lm import PackedModel


class RewardScorer:
    """Loads a folder, and computes one number for a sequence of token ids.

    Args:
        source: the folder.
        dtype: of the weights.
        device: for torch; None for a CUDA GPU if there is one, else the CPU.
        label: number or name of the output that is read; None where there is one only.
    """

    def __init__(self, source: str, dtype: str, device: str | None, label: int | str | None) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification

        load_quietly()
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if self.device.type == "cpu" and dtype != "float32":
            raise EngineError(f"dtype {dtype} is slower than float32 on a CPU, and less exact; leave dtype out")
        self.tokens = ChatTokenizer(source)
        try:
            model, told = AutoModelForSequenceClassification.from_pretrained(
                source, dtype=getattr(torch, dtype), use_safetensors=True, trust_remote_code=False,
                output_loading_info=True,
            )  # fmt: skip
            self.model: Any = model.to(self.device).eval()
        except (OSError, ValueError, RuntimeError) as error:
            raise EngineError(f"the model {source!r} cannot be loaded as a sequence classifier: {error}") from error
        if told["missing_keys"]:
            missing = ", ".join(sorted(told["missing_keys"])[:3])
            raise EngineError(
                f"the folder {source} holds no sequence classifier: its file lacks {missing}, which would be random. "
                "The kind reward-model needs a model that was trained to reward"
            )
        self._context: int = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 1 << 30
        self._outputs: int = int(model.config.num_labels)
        self._label = _output(label, model.config, source)
        self._pad: int | None = model.config.get_text_config().pad_token_id
        self._reader: PackedModel | Literal[False] | None = None

    def answered(self, messages: Sequence[Row], text: str) -> list[int]:
        """Ids of a conversation whose last turn is a response.

        Without a chat template: prompt and response as the two segments of a model that has a separator, else joined by
        a blank line.

        Raises:
            RequestError: the chat template refuses the messages.
        """
        tokenizer = self.tokens.tokenizer
        if tokenizer.chat_template:
            return self.tokens.whole([*messages, {"role": "assistant", "content": text}])
        prompt = _joined(messages)
        ids: list[int] = (
            tokenizer(prompt, text) if tokenizer.sep_token else tokenizer(f"{prompt}\n\n{text}")
        ).input_ids
        return ids

    def paired(self, messages: Sequence[Row], first: str, second: str, template: str) -> list[int]:
        """Ids of a prompt and two responses as a model of pairs reads them."""
        # Not str.format, and in one pass: braces in a response are text, and so is "{second}".
        names = {"{prompt}": _joined(messages), "{first}": first, "{second}": second}
        ids: list[int] = self.tokens.tokenizer(_filled(template, names)).input_ids
        return ids

    def check_length(self, length: int) -> None:
        """Refuse what does not fit, or is empty.

        Raises:
            RequestError: it does not.
        """
        if not 0 < length <= self._context:
            raise RequestError(f"{length} tokens do not fit into the model's context of {self._context}")

    def rewards(self, rows: Sequence[list[int]]) -> list[float]:
        """One number for each row, computed in one batch."""
        import torch

        with torch.inference_mode():
            if self._reader is None:
                self._reader = packed_or_none(self.model, "reward")
            logits = self._packed(rows) if self._reader else self._padded(rows)
        if self._outputs == 1:
            return [float(value) for value in logits[:, 0]]
        others = torch.tensor([place for place in range(self._outputs) if place != self._label], device=logits.device)
        odds = logits[:, self._label] - logits[:, others].logsumexp(-1)
        return [float(value) for value in odds]

    def _packed(self, rows: Sequence[list[int]]) -> Any:
        """`[B, A]` of a decoder; what rows begin with alike is read once."""
        from prefdata.lm import Row, pack

        assert self._reader
        return self._reader(pack([[Row(tuple(ids[: self._read_up_to(ids)])) for ids in rows]]))

    def _read_up_to(self, ids: list[int]) -> int:
        """How much of a row the model reads: up to the last token that is no padding token, as its own code does.

        One whose padding token ends the turn was trained so, and reads the token before.
        """
        real = [place for place, one in enumerate(ids) if one != self._pad]
        return real[-1] + 1 if real else 1

    def _padded(self, rows: Sequence[list[int]]) -> Any:
        """`[B, A]` of any classifier."""
        import torch

        width = max(len(row) for row in rows)
        ids = torch.full((len(rows), width), self._fill(rows), dtype=torch.long)
        mask = torch.zeros(len(rows), width, dtype=torch.long)
        for place, row in enumerate(rows):  # on the right, so that positions are those of the row alone
            ids[place, : len(row)] = torch.tensor(row, dtype=torch.long)
            mask[place, : len(row)] = 1
        out = self.model(input_ids=ids.to(self.device), attention_mask=mask.to(self.device))
        return out.logits.float()

    def _fill(self, rows: Sequence[list[int]]) -> int:
        """The id that fills rows up.

        A decoder's classifier finds its last token by being no padding token. So the model's own padding token is used,
        as in training; one that has none is given, for this batch, an id that no row holds.
        """
        if self._pad is not None:
            return self._pad
        taken = {one for row in rows for one in row}
        free = next(one for one in range(len(taken) + 1) if one not in taken)
        for config in (self.model.config, self.model.config.get_text_config()):
            config.pad_token_id = free
        return free


def _output(label: int | str | None, config: Any, source: str) -> int:
    """The number of the output that is read."""
    count, names = int(config.num_labels), dict(config.id2label)
    listed = ", ".join(f"{number} ({names.get(number, number)})" for number in range(count))
    if label is None:
        if count > 1:
            raise EngineError(f"the model {source!r} has {count} outputs; say which is read: label: one of {listed}")
        return 0
    number = next((int(n) for n, name in names.items() if str(name) == str(label)), None)
    if number is None and str(label).isdigit() and int(label) < count:
        number = int(label)
    if number is None:
        raise EngineError(f"the model {source!r} has no output {label!r}; it has {listed}")
    return number


def _filled(template: str, texts: dict[str, str]) -> str:
    return re.sub("|".join(map(re.escape, texts)), lambda found: texts[found[0]], template)


def _joined(messages: Sequence[Row]) -> str:
    return "\n\n".join(str(turn.get("content") or "") for turn in messages)
