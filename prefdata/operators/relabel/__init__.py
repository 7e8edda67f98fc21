"""`relabel`: preferences that are stated anew where a measure says that their label is doubtful, or tells more.

A step reads preferences and what was measured of them, and computes no measure itself. It makes new preferences whose
`parent_id` is the original, and drops the original from its view: where the step is undone, the original is back.
"""

from prefdata.operators.relabel import factual, flip, margin, soften, weight

__all__ = ["factual", "flip", "margin", "soften", "weight"]
