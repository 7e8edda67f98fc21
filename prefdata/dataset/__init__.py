"""A dataset: a folder of Parquet parts and a log of commits, and the live views of it."""
