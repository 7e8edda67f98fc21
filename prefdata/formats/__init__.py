"""Other people's formats, in and out."""

from prefdata.formats.card import write_card
from prefdata.formats.intake import Imported, Reader
from prefdata.formats.lists import training_lists
from prefdata.formats.pairs import pairs_from_lists
from prefdata.formats.quarantine import BadRow, keep, sentences
from prefdata.formats.readers import READERS, read
from prefdata.formats.tasks import ImportedTasks, read_tasks
from prefdata.formats.unpaired import unpaired_from_lists
from prefdata.formats.writers import (
    LABEL_WRITERS,
    WRITERS,
    Writer,
    Written,
    format_names,
    name_problem,
    write,
    write_labels,
)

__all__ = [
    "LABEL_WRITERS",
    "READERS",
    "WRITERS",
    "BadRow",
    "Imported",
    "ImportedTasks",
    "Reader",
    "Writer",
    "Written",
    "format_names",
    "keep",
    "name_problem",
    "pairs_from_lists",
    "read",
    "read_tasks",
    "sentences",
    "training_lists",
    "unpaired_from_lists",
    "write",
    "write_card",
    "write_labels",
]
