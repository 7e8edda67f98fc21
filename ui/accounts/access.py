"""Who may do what: the second lock, behind the one that the application has for its addresses."""

from __future__ import annotations

from .people import Person


def need(who: Person | None, role: str) -> None:
    """Refuse what this person's role may not do.

    Args:
        who: None is the command line on the machine that holds the dataset, which may do everything.
        role: the least role.

    Raises:
        NotAllowed: the role is lower.
    """
    if who is not None:
        who.need(role)
