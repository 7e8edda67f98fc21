"""What a run says on the screen: what it reads, how it goes, and how long it will take."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefdata.train.config import TrainConfig
from prefdata.train.metrics import HeldOut
from prefdata.train.preferences import TokenList

if TYPE_CHECKING:
    from prefdata.train.model import Policy
    from prefdata.train.tokens import Encoder

INTERRUPTED = "interrupted: the same command goes on from the last checkpoint (save_every says how often there is one)"
"""What is said after Ctrl-C."""
REFERENCE_EVERY = 10.0
"""Seconds between two lines on how far the reference's log-probabilities are."""


class Screen:
    """Lines for people.

    Args:
        say: gets each line.
        log_every: steps between two lines of a step.
    """

    def __init__(self, say: Callable[[str], None], log_every: int = 1) -> None:
        """Nothing is said yet."""
        self._say = say
        self._log_every = log_every
        self._first: tuple[int, float] | None = None
        self._said = time.monotonic()

    def __call__(self, line: str) -> None:
        """Say a line. File names and reasons come from elsewhere, and must not steer the terminal."""
        self._say(visible(line))

    def describe(self, config: TrainConfig, data: Path, form: str, counts: Mapping[str, Any], policy: Policy) -> None:
        """What is trained on what."""
        self(f"{data} ({form}): {counts['training']} lists to train on, {counts['held_out']} held out")
        for reason, count in counts["left_out"].items():
            self(f"  left out: {count} x {reason}")
        for reason, count in counts["responses_left_out"].items():
            self(f"  responses left out: {count} x {reason}")
        if counts["truncated"]:
            self(f"  truncated: {counts['truncated']} lists to {config.max_length} tokens")
        trained = sum(parameter.numel() for parameter in policy.trained())
        how = f"LoRA of rank {config.lora}" if policy.lora else "all weights"
        world = f", {policy.devices.world} processes ({policy.devices.layout})" if policy.devices.world > 1 else ""
        self(f"{config.model} on {policy.devices.device}{world}: {how}, {trained:,} parameters in training")

    def remark_on_plain_texts(self, config: TrainConfig, encoder: Encoder, first: TokenList) -> None:
        """Texts for a chat model, which no template was put around."""
        turns = first.source.prompts[0].turns
        plain = isinstance(turns, str) and not encoder.is_rendered(first.rows[0].tokens[: first.starts[0]])
        if plain and config.template == "auto" and getattr(encoder.tokenizer, "chat_template", None):
            self(
                f"prompts are texts, used as they are; {config.model} has a chat template, which only messages go "
                "through: to train it as a chat model, export lists or trl-pairs-conversational"
            )

    def reference(self, done: int, total: int) -> None:
        """How far the reference's log-probabilities are, now and then."""
        now = time.monotonic()
        if done == total or now - self._said > REFERENCE_EVERY:
            self._said = now
            self(f"reference log-probabilities: {done} of {total} passes")

    def held_out(self, when: str, found: HeldOut | None) -> None:
        """Accuracies on held-out lists."""
        for name, value in (("reward", found and found.reward), ("mean log-prob.", found and found.mean_logprob)):
            if value:
                self(
                    f"held out, {when} training: accuracy of the {name} {value.value:.3f} "
                    f"[{value.low:.2f}, {value.high:.2f}] ({value.edges} edges of {value.groups} groups)"
                )
        if found and found.kendall_tau is not None:
            self(
                f"held out, {when} training: Kendall's tau {found.kendall_tau:+.3f}, NDCG {found.ndcg:.3f} "
                f"({found.lists} lists of three and more)"
            )
        if found and found.auc is not None:
            self(
                f"held out, {when} training: AUC of wanted against unwanted responses {found.auc:.3f} "
                f"({found.singles} responses)"
            )

    def step(self, row: Mapping[str, Any], steps: int) -> None:
        """A step's line, every `log_every` steps and at the end."""
        now, number = time.monotonic(), row["step"] + 1
        # The first step of a run is slow (caches, compilation), so time is counted from its end on.
        left = None
        if self._first is not None:
            left = (now - self._first[1]) / (number - self._first[0]) * (steps - number)
        else:
            self._first = (number, now)
        if row["step"] % self._log_every and number != steps:
            return
        shown = [f"step {number}/{steps}", f"loss {row['loss']:.4f}"]
        if row["margin"] is not None:
            shown += [f"margin {row['margin']:+.3f}", f"accuracy {row['accuracy']:.2f}"]
        if row["auc"] is not None:
            shown.append(f"AUC {row['auc']:.2f}")
        if row["chosen_change"] is not None:
            shown += [f"chosen {row['chosen_change']:+.3f}", f"rejected {row['rejected_change']:+.3f}"]
        shown.append(f"{row['tokens_per_s']:.0f} tokens/s")
        if left is not None and number < steps:
            shown.append(f"{duration(left)} left")
        self("  ".join(shown))


def visible(text: str) -> str:
    """A text with what cannot be printed (ESC, right-to-left marks, line breaks) spelt out."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def duration(seconds: float) -> str:
    """`1:05` or `2:00:09`."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"
