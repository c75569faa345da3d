"""`SparseEncoder`: dense vectors in, sparse vectors out, at a cost that was stated beforehand."""

from __future__ import annotations

import os
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np

from sparsevec.contract.adapter import Hits
from sparsevec.dense import dense_rows, query_rows, unit_rows
from sparsevec.encoder.budget import Budget, check_budget, resolved
from sparsevec.encoder.calibration import document_cut, query_cut
from sparsevec.encoder.figures import Judge, is_worse, spacing
from sparsevec.encoder.head import Cut, Head, Projection, encoded
from sparsevec.encoder.model import Model, query_projection
from sparsevec.encoder.recipe import (
    CalibrationRecipe,
    ResidualRecipe,
    SecondLookRecipe,
    head_recipe,
    refine_recipe,
)
from sparsevec.encoder.residual import ResidualCodes, UInt8s, most_bytes, name_of
from sparsevec.encoder.split import Split, split
from sparsevec.encoder.store import Config, CutConfig, Figures, ResidualConfig, fingerprint
from sparsevec.errors import ClientMissing, InvalidInput, InvalidVectors, NotFitted, WrongSpace
from sparsevec.measure.cost import usage
from sparsevec.progress import Listener, Whole
from sparsevec.vectors import Float32s, Int64s, SparseVectors

__all__ = ["SparseEncoder"]

_FIT = {  # shares of the time, 4,000 to 20,000 rows
    "neighbours": 0.05,
    "head": 0.48,
    "towers": 0.25,
    "budget": 0.03,
    "second look": 0.11,
    "residual": 0.02,
    "measure": 0.06,
}
_REFINE = {
    "encode": 0.04,
    "neighbours": 0.08,
    "refine": 0.58,
    "budget": 0.04,
    "second look": 0.16,
    "residual": 0.02,
    "measure": 0.08,
}


class SparseEncoder:
    """A linear head on frozen dense vectors, learned without labels.

    `input_dim` columns in, `output_dim` dimensions out, of which a row uses few. What counts as near is the cosine. The
    same seed gives the same vectors, to the last bit on one thread. Encoding needs neither torch nor a particular
    batch: a row gives the same bits alone or among a million. Pickle and copy give an encoder that encodes the same.
    """

    def __init__(self, input_dim: int = 384, output_dim: int = 8192, seed: int = 0) -> None:
        """Raises InvalidInput."""
        self.input_dim = _whole("input_dim", input_dim, 1)
        self.output_dim = _whole("output_dim", output_dim, 16)
        self.seed = _whole("seed", seed, 0)
        self._model: Model | None = None

    def __repr__(self) -> str:
        made = f"SparseEncoder(input_dim={self.input_dim}, output_dim={self.output_dim}, seed={self.seed})"
        if self._model is None:
            return f"{made} (not fitted)"
        config = self._model.config
        return f"{made} ({config.stage}, nnz={config.nnz}, flops={config.flops:g}, fingerprint={config.fingerprint})"

    @property
    def config(self) -> Config:
        """Sizes, budget, cuts and measured figures. Raises NotFitted before `fit`."""
        return self._fitted().config

    @property
    def figures(self) -> Figures:
        """What was measured on rows that were not trained on. Raises NotFitted before `fit`."""
        return self.config.figures

    @property
    def fingerprint(self) -> str:
        """Names the space that documents and queries are encoded into. Made by `fit`, kept by `refine`.

        Vectors carry it, collections remember it, and a search with queries of another encoder is refused (C18).
        Raises NotFitted before `fit`.
        """
        return self.config.fingerprint

    # ---- learn

    def fit(
        self,
        dense: Any,
        queries: Any | None = None,
        *,
        budget: Budget,
        on_step: Listener | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
    ) -> SparseEncoder:
        """Learn the head from documents (n, input_dim), and from a sample of queries (q, input_dim) where there is one.

        The budget holds on rows like these that were not trained on. `on_step` is called with each event of
        `sparsevec.progress`. checkpoint: a folder, written every few seconds; call `fit` again with the same arguments
        after a kill, and it goes on to the same bits. Needs the extra `train`.

        Raises InvalidVectors, InvalidInput when the budget cannot be met, TrainingCollapsed; for the checkpoint
        CheckpointMismatch, ModelBroken or StorageFailed.
        """
        nnz, flops = resolved(check_budget(budget), self.output_dim)
        self._check_width(budget.residual_bytes)
        rows, whole = self._split(dense, queries), Whole(on_step, _FIT)
        whole.at("neighbours", 0, 1, "finding the nearest documents of each row")
        documents, recipe = rows.documents_to_train_on(), CalibrationRecipe()
        neighbours = head_recipe(len(documents), self.output_dim, nnz).neighbours
        learn, asking = _learn(), np.arange(len(documents))
        corpus = learn.new_corpus(documents, asking, rows.queries_to_train_on(), neighbours)
        whole.at("neighbours", 1, 1)
        folder = None if checkpoint is None else Path(checkpoint)
        tensors = learn.learned_towers(corpus, self.output_dim, nnz, flops, self.seed, whole, folder)

        whole.at("budget", 0, 1, "calibrating the budget")
        judge, projection = Judge.of(rows, recipe.most_measured), Projection(*_document_side(tensors))
        cut = document_cut(rows.documents_to_measure(), projection, nnz, recipe.document_sixteenths, recipe)
        codes = encoded(judge.documents, projection, cut)
        asked_by, asks = query_projection(tensors), recipe.query_sixteenths
        query_side = query_cut(judge.asking, asked_by, usage(codes), flops, asks, recipe)
        trained = encoded(rows.documents[rows.trained_documents], projection, cut)
        whole.at("budget", 1, 1)
        tensors, first = self._with_second_look(rows, trained, tensors, query_side, whole)
        whole.at("measure", 1, 3, "measuring on queries that were not learned from")
        asked = encoded(judge.asking, asked_by, query_side)
        figures = judge.figures(codes, asked)
        whole.at("measure", 2, 3, "measuring what needs no learning")
        figures |= judge.without_learning(judge.recall_10(codes, asked), self.output_dim, nnz, flops)
        figures |= {"head_recall_10": figures["recall_10"], "seconds": whole.seconds}
        config = Config(
            input_dim=self.input_dim,
            output_dim=self.output_dim,
            seed=self.seed,
            nnz=nnz,
            flops=flops,
            stage="head",
            documents=CutConfig.of(cut),
            queries=CutConfig.of(query_side),
            figures=Figures(**figures),
            second_look=first,
            fingerprint=fingerprint(tensors),
        )
        model = self._judged_again(Model(config, tensors), judge, codes, asked)
        self._model = self._with_residual(model, budget.residual_bytes, rows, trained, (judge, codes, asked), whole)
        whole.at("measure", 3, 3, str(self.figures))
        return self

    def refine(
        self,
        dense: Any,
        queries: Any | None = None,
        *,
        on_step: Listener | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
    ) -> SparseVectors:
        """The documents (n, input_dim), their weights fitted to this corpus; from now on queries suit them.

        Documents that come later are encoded with `encode_document`, on the same scale. Pass the sample of `fit` again:
        the rows that were held out there stay held out. The queries' side goes on from where it is, so a second call
        learns more; to begin anew, load the encoder that `fit` gave. `figures.refined_is_worse` says when the head did
        better on the held-out rows. `on_step` and `checkpoint` as in `fit`. Needs the extra `train`.

        Raises NotFitted, and what `fit` raises.
        """
        model = self._fitted()
        config, tensors, recipe = model.config, model.tensors, CalibrationRecipe()
        rows, whole = self._split(dense, queries), Whole(on_step, _REFINE)
        whole.at("encode", 0, 1, "encoding the documents with the head")
        stage = refine_recipe(self.output_dim, config.nnz)
        longer = Cut(config.nnz + stage.spare, 0.0, recipe.document_sixteenths)
        start = encoded(rows.documents, model.document_projection, longer)
        whole.at("neighbours", 0, 1, "finding the nearest documents of each row")
        learn, documents = _learn(), unit_rows(rows.documents)
        corpus = learn.new_corpus(documents, rows.trained_documents, rows.queries_to_train_on(), stage.neighbours)
        whole.at("neighbours", 1, 1)
        folder, sizes = None if checkpoint is None else Path(checkpoint), (config.nnz, config.flops, self.seed)
        codes: SparseVectors
        codes, tower = learn.refined(corpus, start, tensors, *sizes, whole, folder)
        tensors = tensors | tower

        whole.at("budget", 0, 1, "calibrating the budget")
        judge, asked_by = Judge.of(rows, recipe.most_measured), query_projection(tensors)
        some = codes[np.arange(0, len(codes), spacing(len(codes), recipe.most_measured))]
        cut = query_cut(judge.asking, asked_by, usage(some), config.flops, recipe.refined_sixteenths, recipe)
        whole.at("budget", 1, 1)
        tensors, first = self._with_second_look(rows, codes[rows.trained_documents], tensors, cut, whole)
        whole.at("measure", 1, 3, "measuring on queries that were not learned from, beside the head")
        asked = encoded(judge.asking, asked_by, cut)
        figures = judge.figures(some, asked) | self._beside(judge, judge.recall_10(some, asked))
        figures |= {"seconds": config.figures.seconds + whole.seconds}
        found = Figures(**figures)
        changed = {"stage": "refined", "queries": CutConfig.of(cut), "figures": found, "second_look": first}
        model = self._judged_again(Model(config.model_copy(update=changed), tensors), judge, some, asked)
        width = None if config.residual is None else config.residual.bytes
        trained = codes[rows.trained_documents]
        self._model = self._with_residual(model, width, rows, trained, (judge, some, asked), whole)
        found = self._model.config.figures
        whole.at("measure", 3, 3, str(found))
        return codes.with_fingerprint(config.fingerprint)

    def _with_second_look(
        self, rows: Split, codes: SparseVectors, tensors: dict[str, Any], cut: Cut, whole: Whole
    ) -> tuple[dict[str, Any], float]:
        """`tensors` with the map that re-orders candidates, learned from the codes of the trained documents, and a."""
        documents, sample = rows.documents_to_train_on(), rows.queries_to_train_on()
        recipe = SecondLookRecipe()
        own = np.random.default_rng([self.seed, 2]).permutation(len(documents))[: recipe.most_own]
        asking = documents[own] if sample is None else np.concatenate([sample, documents[own]])
        numbers = np.concatenate([np.full(len(asking) - len(own), -1), own])
        asked = encoded(asking, query_projection(tensors), cut)
        learned, first = _learn("second_look").learned_second_look(
            documents, codes, (asking, asked, numbers), tensors["mean"], recipe, self.seed, whole
        )
        return tensors | {"second_look": learned}, first

    def _judged_again(self, model: Model, judge: Judge, codes: SparseVectors, asked: SparseVectors) -> Model:
        """The same model, its figures with what the second look reaches."""
        again = judge.second_look(codes, asked, model.second_looks(judge.asking, asked))
        figures = model.config.figures.model_copy(update={"second_look_recall_10": float(again.mean())})
        return Model(model.config.model_copy(update={"figures": figures}), model.tensors)

    def _with_residual(
        self,
        model: Model,
        width: int | None,
        rows: Split,
        codes: SparseVectors,
        measured: tuple[Judge, SparseVectors, SparseVectors],
        whole: Whole,
    ) -> Model:
        """The same model with residual codes of `width` bytes, learned from the codes of the trained documents."""
        if width is None:
            return model
        documents, sample, recipe = rows.documents_to_train_on(), rows.queries_to_train_on(), ResidualRecipe()
        head, asking = (model.tensors["weights"], model.tensors["mean"]), documents if sample is None else sample
        learn = _learn("residual").learned_residual_codes
        learned, groups = learn(documents, codes, asking, head, width, recipe, self.seed, whole)
        tensors = model.tensors | learned
        kept = ResidualConfig(bytes=width, groups=groups, name=name_of(tensors, tensors["mean"]))
        coded = Model(model.config.model_copy(update={"residual": kept}), tensors)
        figure = float(measured[0].residual(coded, *measured[1:], recipe.candidates).mean())
        figures = coded.config.figures.model_copy(update={"residual_recall_10": figure})
        return Model(coded.config.model_copy(update={"figures": figures}), tensors)

    def _check_width(self, width: int | None) -> None:
        if width is not None and width > most_bytes(self.input_dim):
            raise InvalidInput(
                f"budget residual_bytes={width} is more than a byte for each of the {self.input_dim} columns and a "
                f"header: expected at most {most_bytes(self.input_dim)}; lower it"
            )

    def _beside(self, judge: Judge, ours: Any) -> dict[str, Any]:
        """What the head, or what was kept of its figures, and no learning at all reach on the same rows."""
        model = self._fitted()
        kept = model.config.figures
        beside = judge.without_learning(ours, self.output_dim, model.config.nnz, model.config.flops)
        if model.config.stage == "head":
            head = judge.recall_10(model.documents(judge.documents, None), model.queries(judge.asking, None))
            return beside | {"head_recall_10": float(head.mean()), "refined_is_worse": is_worse(ours, head)}
        if kept.head_recall_10 is None:
            return beside
        constant = np.full(len(ours), kept.head_recall_10)
        return beside | {"head_recall_10": kept.head_recall_10, "refined_is_worse": is_worse(ours, constant)}

    def _split(self, dense: Any, queries: Any | None) -> Split:
        documents = dense_rows(dense, self.input_dim, "documents")
        asking = None if queries is None else dense_rows(queries, self.input_dim, "queries")
        return split(documents, asking, self.seed)

    # ---- encode

    def encode_document(self, dense: Any, nnz: int | None = None) -> SparseVectors:
        """(n, input_dim) to sparse vectors of length 1; `nnz` keeps so many weights of each instead of the budget's.

        Takes numpy arrays of any real type, torch tensors, pandas frames, lists of rows and Arrow lists. Raises
        NotFitted, InvalidVectors, InvalidInput.
        """
        model = self._fitted()
        return model.documents(dense_rows(dense, self.input_dim, "documents"), self._nnz(nnz))

    def encode_query(self, dense: Any, nnz: int | None = None) -> SparseVectors:
        """(q, input_dim), or one query (input_dim,), to a batch of sparse vectors of length 1.

        As long as the budget pays for. Takes and raises what `encode_document` does.
        """
        model = self._fitted()
        return model.queries(query_rows(dense, self.input_dim), self._nnz(nnz))

    def encode_second_look(
        self, dense: Any, *, queries: SparseVectors | None = None, dimensions: Int64s | None = None
    ) -> SparseVectors:
        """(q, input_dim), or one query, to the signed full-length queries that re-order candidates.

        A candidate's second score is the dot product of this row with the candidate's stored vector. Where only some
        `dimensions` are asked for, those that the candidates use, it has these, the same bits for less. `queries`: what
        `encode_query` made of the same rows, where it is there already. Raises InvalidInput for a model that was
        learned without a second look, and what `encode_query` raises.
        """
        model, rows = self._fitted(), query_rows(dense, self.input_dim)
        if model.config.second_look is None:
            raise InvalidInput("this model was learned without a second look; fit it again, or use rerank=None")
        return model.second_looks(rows, model.queries(rows, None) if queries is None else queries, dimensions)

    # ---- residual codes

    @property
    def residual_bytes(self) -> int | None:
        """Of a document's residual code; None for a model without. Raises NotFitted before `fit`."""
        kept = self.config.residual
        return None if kept is None else kept.bytes

    def residual_codes(self, dense: Any, vectors: SparseVectors) -> UInt8s:
        """The codes (n, residual_bytes) of dense rows (n, input_dim), to be written beside their sparse vectors.

        vectors: theirs, as the backend keeps them, `adapter.stored(...)`: what a code says is what these leave out. The
        same bits in any batch, order and number of threads; needs no torch. Raises InvalidInput for a model that was
        fitted without `Budget(residual_bytes=...)`, WrongSpace for vectors of another encoder, InvalidVectors.
        """
        residuals, rows = self._residuals(), dense_rows(dense, self.input_dim, "documents")
        self._check_ours(vectors)
        if len(rows) != len(vectors):
            raise InvalidVectors(f"expected as many vectors as dense rows, {len(rows)}, found {len(vectors)}")
        return residuals.encoded(rows, vectors)

    def residual_scores(self, query: Any, hits: Hits) -> Float32s:
        """What the candidates of one dense query (input_dim,) score by their vectors and residual codes, (m,) float32.

        An estimate of the cosine, defined to the bit in `sparsevec.encoder.residual`. Search with `with_vectors=True`
        and `with_codes=True`. Raises InvalidInput without these or for codes of another model, WrongSpace,
        InvalidVectors.
        """
        residuals, row = self._residuals(), query_rows(query, self.input_dim)
        if len(row) != 1:
            raise InvalidInput(f"residual scores are of one query and its hits, found {len(row)} queries")
        if hits.vectors is None or hits.codes is None:
            lacking = "vectors" if hits.vectors is None else "codes"
            raise InvalidInput(f"the hits have no {lacking}; search with with_vectors=True and with_codes=True")
        self._check_ours(hits.vectors)
        return residuals.scores(row, hits.vectors, hits.codes)

    def residual_parts(self, query: Any, hits: Hits) -> tuple[float, SparseVectors, float]:
        """Of one hit: what `residual_scores` adds for every document alike, the query whose products with the stored
        weights it adds up, and what the code adds. Raises what `residual_scores` raises."""
        self.residual_scores(query, hits)
        assert hits.vectors is not None
        assert hits.codes is not None
        return self._residuals().parts(query_rows(query, self.input_dim), hits.vectors, hits.codes)

    def _residuals(self) -> ResidualCodes:
        if (residuals := self._fitted().residuals) is None:
            raise InvalidInput(
                "this model has no residual codes; fit it with budget=Budget(..., residual_bytes=100), or re-rank by "
                '"second look"'
            )
        return residuals

    def _check_ours(self, vectors: SparseVectors) -> None:
        if vectors.fingerprint not in (None, self.fingerprint):
            raise WrongSpace(f"the vectors are of space {vectors.fingerprint}, this encoder's is {self.fingerprint}")
        if vectors.dimension != self.output_dim:
            raise InvalidVectors(f"the vectors have dimension {vectors.dimension}, this encoder's {self.output_dim}")

    def head(self, side: Literal["document", "query"]) -> Head:
        """The parameters that encode one side, for runtimes of another kind. Raises NotFitted, InvalidInput."""
        if side not in ("document", "query"):
            raise InvalidInput(f'side must be "document" or "query", found {side!r:.40}')
        return self._fitted().head(side)

    def _nnz(self, nnz: int | None) -> int | None:
        if nnz is not None and _whole("nnz", nnz, 1) > self.output_dim:
            raise InvalidInput(f"nnz must be at most output_dim={self.output_dim}, found {nnz}")
        return nnz

    def _fitted(self) -> Model:
        if self._model is None:
            raise NotFitted("the encoder has learned nothing yet; call fit, or SparseEncoder.load a saved one")
        return self._model

    # ---- keep

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write model.safetensors, config.json and a model card into the folder `path`, all or nothing.

        Raises NotFitted, StorageFailed, and InvalidInput when `path` holds something else.
        """
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


def _learn(room: str = "learn") -> ModuleType:
    if find_spec("torch") is None:
        raise ClientMissing.extra("torch", "train")
    return import_module(f"sparsevec.encoder.learning.{room}")


def _document_side(tensors: dict[str, Any]) -> tuple[Any, Any, Any]:
    return tensors["weights"], tensors["bias"], tensors["mean"]
