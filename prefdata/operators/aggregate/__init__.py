"""`aggregate`: many annotations of the same responses become one, and what is known of who made them."""

from prefdata.operators.aggregate import bradley_terry, majority, mean, veto

__all__ = ["bradley_terry", "majority", "mean", "veto"]
