"""Embeddings of a family of models: one vector that every size of the family can be cut from.

`ReverseDistiller` keeps the smallest model's embedding and appends what each larger one adds, from moments that are
gathered batch by batch. `assess` says, from a few labels, whether the family needs it at all.
"""

from limbeck.embeddings.assessment import Assessment, assess, concatenated_pca
from limbeck.embeddings.distiller import Level, ReverseDistiller
from limbeck.embeddings.moments import Moments, check_family
from limbeck.embeddings.probe import BlockRidge
from limbeck.embeddings.regression import Map, edge, noise_level, regress
from limbeck.embeddings.sources import embed_texts, open_family, read_matrices

__all__ = [
    "Assessment", "BlockRidge", "Level", "Map", "Moments", "ReverseDistiller", "assess",
    "check_family", "concatenated_pca", "edge", "embed_texts", "noise_level", "open_family", "read_matrices", "regress",
]  # fmt: skip
