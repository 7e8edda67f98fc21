"""Analysis of a dataset: one self-contained HTML page, and the same as JSON."""
