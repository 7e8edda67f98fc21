"""A dataset: a folder of Parquet parts and a log of commits, and the live views of it."""

from prefdata.dataset.dataset import Dataset
from prefdata.dataset.log import Plan, Snapshot, StepRecord
from prefdata.dataset.view import Lineage, View

__all__ = ["Dataset", "Lineage", "Plan", "Snapshot", "StepRecord", "View"]
