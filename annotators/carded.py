"""What steps share that go by a card: it is read when the pipeline is, and its content stands for its name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import ValidationInfo

from prefdata.cards import Card, card_file, card_of, is_path, load_card
from prefdata.errors import PrefdataError
from prefdata.pipeline.step import GroupStep


class Carded(GroupStep):
    """A step with the field `card`. The card's content, not its name or file, goes into the fingerprint."""

    if TYPE_CHECKING:
        card: str

    @cached_property
    def loaded(self) -> Card:
        """The card."""
        return load_card(self.card)

    def resolved(self) -> dict[str, Any]:
        """The fields, with the card's whole content in place of its name."""
        return {**super().resolved(), "card": self.loaded.content}

    @classmethod
    def restored(cls, fields: Mapping[str, Any]) -> Self:
        """The step of these resolved fields. Its card is what they hold, wherever its file is now."""
        card = card_of(fields["card"])
        made = cls.model_validate({**fields, "card": card.label}, context={"card": card})
        made.__dict__["loaded"] = card  # where cached_property looks first
        return made


def card_named(card: str, info: ValidationInfo) -> tuple[Card | None, str]:
    """The card, None where the step is restored with it, and what the field keeps: of a file its whole path.

    So a bad card is refused before anything runs, and a path means the same file everywhere.

    Raises:
        ValueError: there is no such card, or it is no card.
    """
    if info.context and "card" in info.context:
        return None, card
    folder = Path(info.context["folder"]) if info.context and "folder" in info.context else None
    try:
        return load_card(card, folder), str(card_file(card, folder).resolve()) if is_path(card) else card
    except PrefdataError as error:
        raise ValueError(str(error)) from error
