"""Which files a Gradio event or address may name: Gradio itself looks at that less closely than we need.

It keeps all uploads in one folder, for everybody who knows a path. And it checks the files that an event's data name
only in applications that it has launched itself: in one that is mounted, naming /etc/passwd copies that file to where
it can be fetched (Gradio 6.31, `_check_allowed`), and naming a URL makes the server fetch it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from ..accounts.people import Person


class GradioFiles:
    """Who has uploaded what.

    Args:
        folder: Gradio's, of this process alone; None where no Gradio is mounted.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = os.path.realpath(folder) if folder else None
        self._owners: dict[str, set[int]] = {}

    def note(self, answer: bytes, person: Person) -> None:
        """Remember an upload.

        Args:
            answer: what Gradio answered: a JSON list of paths, or anything else where it refused.
            person: whose upload it was.
        """
        try:
            paths = json.loads(answer)
        except ValueError:
            return
        for path in paths if isinstance(paths, list) else ():
            if isinstance(path, str):
                self._owners.setdefault(os.path.realpath(path), set()).add(person.person_id)

    def may(self, path: str, person: Person) -> bool:
        """Whether a person may name this file: one in Gradio's folder, and not uploaded by others only."""
        try:
            real = os.path.realpath(path)
        except (OSError, ValueError):  # a null byte
            return False
        owners = self._owners.get(real)
        inside = self._folder is not None and real.startswith(self._folder + os.sep)
        return inside and (owners is None or person.person_id in owners)

    def may_all(self, body: bytes, person: Person) -> bool:
        """Whether a person may name all files that the data of an event name; False for what cannot be read."""
        try:
            pending = [json.loads(body or b"null")]
        except (ValueError, RecursionError):
            return False
        while pending:
            value = pending.pop()
            if isinstance(value, dict):
                path = value.get("path")
                if isinstance(path, str) and "meta" in value and not self.may(path, person):
                    return False
                pending.extend(value.values())
            elif isinstance(value, list):
                pending.extend(value)
        return True
