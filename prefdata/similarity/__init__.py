"""Which texts are alike: normalising, exact and near duplicates, clusters, overlap with protected texts.

Arrays and lists of texts in, numbers out: no tables of a dataset, no files.
"""
