"""`select`: what is left out of a view, and why. It reads and drops, and computes no new value.

A dropped row stays in the dataset; a row of `drops` hides it from the step's view as long as the step is live.
"""

from prefdata.operators.select import budget, conflicts, consistent, duplicates, sample, threshold, where

__all__ = ["budget", "conflicts", "consistent", "duplicates", "sample", "threshold", "where"]
