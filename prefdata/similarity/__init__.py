"""Which texts are alike: normalising, exact and near duplicates, clusters, overlap with protected texts.

Arrays and lists of texts in, numbers out: no tables of a dataset, no files.
"""

from prefdata.similarity.clusters import Clusters, clustered
from prefdata.similarity.cosine import diverse, near_vectors, unit
from prefdata.similarity.edits import edit_distance, edit_share
from prefdata.similarity.minhash import band_threshold, candidate_probability
from prefdata.similarity.near import Join, Near, near_duplicates
from prefdata.similarity.normalising import Normalise, normalised, words_of
from prefdata.similarity.overlap import Overlap, Protected
from prefdata.similarity.shingles import ShingleSets, jaccard, shared, shingle_sets

__all__ = [
    "Clusters",
    "Join",
    "Near",
    "Normalise",
    "Overlap",
    "Protected",
    "ShingleSets",
    "band_threshold",
    "candidate_probability",
    "clustered",
    "diverse",
    "edit_distance",
    "edit_share",
    "jaccard",
    "near_duplicates",
    "near_vectors",
    "normalised",
    "shared",
    "shingle_sets",
    "unit",
    "words_of",
]
