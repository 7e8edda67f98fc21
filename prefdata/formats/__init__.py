"""Other people's formats, in and out."""

from prefdata.formats.card import write_card
from prefdata.formats.intake import Imported, Reader
from prefdata.formats.lists import training_lists
from prefdata.formats.pairs import pairs_from_lists
from prefdata.formats.quarantine import BadRow, keep, sentences
from prefdata.formats.readers import READERS, read
from prefdata.formats.unpaired import unpaired_from_lists
from prefdata.formats.writers import WRITERS, Writer, Written, name_problem, write

__all__ = [
    "READERS",
    "WRITERS",
    "BadRow",
    "Imported",
    "Reader",
    "Writer",
    "Written",
    "keep",
    "name_problem",
    "pairs_from_lists",
    "read",
    "sentences",
    "training_lists",
    "unpaired_from_lists",
    "write",
    "write_card",
]
