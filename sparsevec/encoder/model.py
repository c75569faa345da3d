"""What was learned: the parameters and the cuts, able to encode and to be kept. Needs no torch."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sparsevec.dense import Dense, blocks
from sparsevec.encoder.card import card
from sparsevec.encoder.config import Config
from sparsevec.encoder.head import Cut, Head, Projection, Purse, encoded
from sparsevec.encoder.newcomers import Newcomers
from sparsevec.encoder.recipe import NewcomerRecipe
from sparsevec.encoder.residual import ResidualCodes
from sparsevec.encoder.store import read, write
from sparsevec.similarity import Similarity
from sparsevec.vectors import Float32s, Int64s, SparseVectors

__all__ = ["Model", "query_projection"]


class Model:
    """Encodes rows as `similarity` makes them of the users'.

    Of `config` and the tensors `mean`, `weights`, `bias`, `query_weights` and `query_bias`, perhaps `prices` of a
    query's purse, `second_look`, those of `encoder.residual` and of `encoder.newcomers`, and `adopted_weights`,
    `adopted_bias` and `adopted_mean`.
    """

    def __init__(self, config: Config, tensors: dict[str, Float32s]) -> None:
        self.config = config
        self.tensors = tensors
        self.similarity = Similarity.kept(config.similarity, tensors, config.input_dim)

    def __getstate__(self) -> dict[str, Any]:
        """Without the projections, which are made again where they are needed."""
        return {"config": self.config, "tensors": self.tensors, "similarity": self.similarity}

    @cached_property
    def document_projection(self) -> Projection:
        return Projection(self.tensors["weights"], self.tensors["bias"], self.tensors["mean"])

    @cached_property
    def query_projection(self) -> Projection:
        return query_projection(self.tensors)

    @cached_property
    def adopted_map(self) -> Projection:
        return Projection(self.tensors["adopted_weights"], self.tensors["adopted_bias"], self.tensors["adopted_mean"])

    def asking(self, rows: Dense) -> Dense:
        """Queries (q, columns) as the documents' model would have them: the user's, or made of an adopted model's."""
        if self.config.adopted is None:
            return self.similarity.queries(rows)
        made = np.empty((len(rows), self.adopted_map.dimension), np.float32)
        for start, block in blocks(rows, 512):
            made[start : start + len(block)] = self.adopted_map(block)
        made[~made.any(axis=1), 0] = 1  # no direction: then any is right
        return made

    @cached_property
    def purse(self) -> Purse | None:
        spend = self.config.queries.spend
        return None if spend is None else Purse(self.tensors["prices"], spend)

    @cached_property
    def residuals(self) -> ResidualCodes | None:
        kept = self.config.residual
        if kept is None:
            return None
        return ResidualCodes(self.tensors, self.tensors["mean"], kept.groups, kept.name, signed=kept.signed)

    def documents(self, rows: Dense, nnz: int | None) -> SparseVectors:
        return self._ours(encoded(rows, self.document_projection, _shortened(self.config.documents.cut(), nnz)))

    @cached_property
    def newcomers(self) -> Newcomers | None:
        kept = self.config.newcomers
        if kept is None:
            return None
        return Newcomers(self.tensors, kept.scale, kept.temperature, kept.factor, NewcomerRecipe())

    def later_documents(self, rows: Dense, nnz: int | None) -> SparseVectors:
        """Fitted alone, where the corpus was refined; else the head's."""
        if self.newcomers is None:
            return self.documents(rows, nnz)
        cut = self.config.documents.cut()
        return self._ours(self.newcomers.encoded(rows, self.document_projection, cut, nnz or self.config.nnz))

    def queries(self, rows: Dense, nnz: int | None) -> SparseVectors:
        cut = _shortened(self.config.queries.cut(), nnz)
        return self._ours(encoded(rows, self.query_projection, cut, self.purse if nnz is None else None))

    @cached_property
    def second_look_projection(self) -> Projection:
        return Projection(
            self.tensors["second_look"], np.zeros(self.config.output_dim, np.float32), self.tensors["mean"]
        )

    def second_looks(self, rows: Dense, queries: SparseVectors, dimensions: Int64s | None = None) -> SparseVectors:
        """y = M (unit(q) - mean) + a x, signed, of every dimension or of those; the same bits in any batch."""
        columns = np.arange(self.config.output_dim) if dimensions is None else np.unique(dimensions)
        parts = []
        for start, block in blocks(rows, 512):
            projection = self.second_look_projection
            looks = projection(block) if dimensions is None else projection.at(block, columns)
            some = queries[start : start + len(block)]
            owner, at = np.repeat(np.arange(len(some)), some.row_nnz), np.searchsorted(columns, some.indices)
            known = np.append(columns, -1)[at] == some.indices
            share = np.float64(self.config.second_look or 0)
            looks[owner[known], at[known]] += share * some.values[known]
            found = SparseVectors.from_dense(looks.astype(np.float32))
            parts.append(SparseVectors(found.indptr, columns[found.indices], found.values, self.config.output_dim))
        return self._ours(SparseVectors.concat(parts)) if parts else queries

    def head(self, side: Literal["document", "query"]) -> Head:
        prefix, cut = ("", self.config.documents) if side == "document" else ("query_", self.config.queries)
        weights, bias = self.tensors[f"{prefix}weights"], self.tensors[f"{prefix}bias"]
        purse = None if side == "document" else self.purse
        return Head(weights, bias, self.tensors["mean"], cut.cut(), purse)

    def _ours(self, vectors: SparseVectors) -> SparseVectors:
        return vectors.with_fingerprint(self.config.fingerprint)

    def save(self, folder: Path) -> None:
        write(folder, self.config, self.tensors, card(self.config))

    @classmethod
    def load(cls, folder: Path) -> Model:
        return cls(*read(folder))


def query_projection(tensors: dict[str, Float32s]) -> Projection:
    return Projection(tensors["query_weights"], tensors["query_bias"], tensors["mean"])


def _shortened(cut: Cut, nnz: int | None) -> Cut:
    """The k largest activations instead of the calibrated cut."""
    return cut if nnz is None else Cut(nnz, 0.0, cut.sixteenths)
