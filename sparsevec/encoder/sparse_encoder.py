"""`SparseEncoder`: dense vectors in, sparse vectors out, at a cost that was stated beforehand."""

from __future__ import annotations

import os
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from sparsevec.encoder.budget import Budget, resolved
from sparsevec.encoder.calibration import document_cut, query_cut, recall
from sparsevec.encoder.dense import Dense, checked, unit_rows
from sparsevec.encoder.head import Cut, Projection, encoded
from sparsevec.encoder.model import Model, query_projection
from sparsevec.encoder.recipe import Listener, refine_recipe
from sparsevec.encoder.split import Split, split
from sparsevec.encoder.store import Config, CutConfig, Figures
from sparsevec.errors import ClientMissing, InvalidInput
from sparsevec.measure.cost import cost, usage
from sparsevec.vectors import Float32s, SparseVectors

__all__ = ["SparseEncoder"]

_MEASURED = 20_000  # documents that a budget and the figures are measured on
_DOCUMENT_SIXTEENTHS, _QUERY_SIXTEENTHS = 14, 12  # of a head: strong weights count less; refining has learned that


class SparseEncoder:
    """A linear head on frozen dense vectors, learned without labels.

    `input_dim` columns in, `output_dim` dimensions out, of which a row uses few. The same seed gives the same vectors.
    Encoding needs neither torch nor a particular batch: a row gives the same bits alone or among a million.
    """

    def __init__(self, input_dim: int = 384, output_dim: int = 8192, seed: int = 0) -> None:
        self.input_dim = _whole("input_dim", input_dim, 1)
        self.output_dim = _whole("output_dim", output_dim, 16)
        self.seed = _whole("seed", seed, 0)
        self._model: Model | None = None

    def __repr__(self) -> str:
        state = "not fitted" if self._model is None else self._model.config.stage
        return f"SparseEncoder(input_dim={self.input_dim}, output_dim={self.output_dim}, seed={self.seed}) ({state})"

    @property
    def config(self) -> Config:
        """Sizes, budget, cuts and measured figures. Raises InvalidInput before `fit`."""
        return self._fitted().config

    # ---- learn

    def fit(
        self,
        dense: npt.ArrayLike,
        queries: npt.ArrayLike | None = None,
        *,
        budget: Budget,
        on_step: Listener | None = None,
    ) -> SparseEncoder:
        """Learn the head from documents (n, input_dim), and from a sample of queries (q, input_dim) where there is one.

        The budget holds on rows like these that were not trained on. Needs the extra `train`.
        Raises InvalidVectors, InvalidInput when the budget cannot be met, TrainingCollapsed.
        """
        nnz, flops = resolved(budget, self.output_dim)
        rows = self._split(dense, queries)
        learn, began = _learn(), time.perf_counter()
        documents = rows.documents_to_train_on()
        corpus = learn.new_corpus(documents, np.arange(len(documents)), rows.queries_to_train_on())
        tensors = learn.learned_towers(corpus, self.output_dim, nnz, flops, self.seed, on_step)
        projection = Projection(tensors["weights"], tensors["bias"], tensors["mean"])
        cut = document_cut(rows.documents_to_measure(), projection, nnz, _DOCUMENT_SIXTEENTHS)
        measured = _measured(
            rows, encoded(_some(rows.documents), projection, cut), tensors, flops, _QUERY_SIXTEENTHS, began
        )
        config = Config(
            input_dim=self.input_dim,
            output_dim=self.output_dim,
            seed=self.seed,
            nnz=nnz,
            flops=flops,
            stage="head",
            documents=CutConfig.of(cut),
            **measured,
        )
        self._model = Model(config, tensors)
        return self

    def refine(
        self, dense: npt.ArrayLike, queries: npt.ArrayLike | None = None, *, on_step: Listener | None = None
    ) -> SparseVectors:
        """The documents (n, input_dim), their weights fitted to this corpus; from now on queries suit them.

        Documents that come later are encoded with `encode_document`, on the same scale. Pass the sample of `fit` again:
        the rows that were held out there stay held out. The queries' side goes on from where it is, so a second call
        learns more; to begin anew, load the encoder that `fit` gave. Needs the extra `train`.
        """
        model = self._fitted()
        config, tensors = model.config, model.tensors
        rows = self._split(dense, queries)
        learn, began = _learn(), time.perf_counter() - config.figures.seconds
        spare = refine_recipe(self.output_dim, config.nnz).spare
        longer = Cut(config.nnz + spare, 0.0, _DOCUMENT_SIXTEENTHS)
        start = encoded(rows.documents, model.document_projection, longer)
        corpus = learn.new_corpus(unit_rows(rows.documents), rows.trained_documents, rows.queries_to_train_on())
        codes: SparseVectors
        codes, tower = learn.refined(corpus, start, tensors, config.nnz, config.flops, self.seed, on_step)
        tensors = tensors | tower
        measured = _measured(rows, _some_codes(codes), tensors, config.flops, 16, began)
        self._model = Model(config.model_copy(update={"stage": "refined", **measured}), tensors)
        return codes

    def _split(self, dense: npt.ArrayLike, queries: npt.ArrayLike | None) -> Split:
        documents = checked(dense, self.input_dim, "documents")
        return split(documents, None if queries is None else checked(queries, self.input_dim, "queries"), self.seed)

    # ---- encode

    def encode_document(self, dense: npt.ArrayLike, nnz: int | None = None) -> SparseVectors:
        """(n, input_dim) to sparse vectors of length 1; `nnz` keeps so many weights of each instead of the budget's."""
        model = self._fitted()
        return model.documents(checked(dense, self.input_dim), self._nnz(nnz))

    def encode_query(self, dense: npt.ArrayLike, nnz: int | None = None) -> SparseVectors:
        """(q, input_dim) to sparse vectors of length 1, as long as the budget pays for."""
        model = self._fitted()
        return model.queries(checked(dense, self.input_dim, "queries"), self._nnz(nnz))

    def _nnz(self, nnz: int | None) -> int | None:
        if nnz is not None and _whole("nnz", nnz, 1) > self.output_dim:
            raise InvalidInput(f"nnz must be at most output_dim={self.output_dim}, found {nnz}")
        return nnz

    def _fitted(self) -> Model:
        if self._model is None:
            raise InvalidInput("the encoder has learned nothing yet; call fit, or SparseEncoder.load a saved one")
        return self._model

    # ---- keep

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write model.safetensors, config.json and a model card into the folder `path`, all or nothing."""
        self._fitted().save(Path(path))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SparseEncoder:
        """Read what `save` wrote. Raises ModelBroken when the folder is not a whole model."""
        model = Model.load(Path(path))
        encoder = cls(model.config.input_dim, model.config.output_dim, model.config.seed)
        encoder._model = model
        return encoder


def _whole(name: str, number: object, least: int) -> int:
    if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < least:
        raise InvalidInput(f"{name} must be a whole number of at least {least}, found {number!r}")
    return int(number)


def _learn() -> ModuleType:
    if find_spec("torch") is None:
        raise ClientMissing.extra("torch", "train")
    return import_module("sparsevec.encoder.learning.learn")


def _some(rows: Dense) -> Dense:
    """Evenly spaced rows, no more than are needed to measure."""
    return rows[:: -(-len(rows) // _MEASURED)]


def _some_codes(codes: SparseVectors) -> SparseVectors:
    return codes[np.arange(0, len(codes), -(-len(codes) // _MEASURED))]


class _Measured(TypedDict):
    queries: CutConfig
    figures: Figures


def _measured(
    rows: Split, codes: SparseVectors, tensors: dict[str, Float32s], flops: float, sixteenths: int, began: float
) -> _Measured:
    """The query cut that spends `flops` on these codes of `_some(rows.documents)`, and what it achieves."""
    held, projection = rows.queries_to_measure(), query_projection(tensors)
    cut = query_cut(held, projection, usage(codes), flops, sixteenths)
    asked = encoded(held, projection, cut)
    spent = cost(asked, codes)
    at_10, at_100 = recall(held, _some(rows.documents), asked, codes)
    figures = Figures(
        documents=len(codes),
        queries=len(asked),
        query_sample=rows.queries is not None,
        active_dims=spent.active_dims,
        query_active_dims=spent.query_active_dims,
        flops=spent.flops,
        r_sub=spent.r_sub,
        dead_dims=spent.dead_dims,
        max_document_frequency=spent.max_document_frequency,
        recall_10=at_10,
        recall_10_at_100=at_100,
        seconds=time.perf_counter() - began,
    )
    return {"queries": CutConfig.of(cut), "figures": figures}
