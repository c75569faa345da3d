"""`SparseEncoder`: dense vectors in, sparse vectors out, at a cost that was stated beforehand."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from typing import Any, Literal

import numpy as np

from sparsevec.contract.adapter import Hits
from sparsevec.contract.checks import Id, check_seed, check_vectors
from sparsevec.dense import Dense, dense_rows, query_rows, row_faults, rows_without, unit_rows
from sparsevec.encoder.adopting import Pairing, adopted
from sparsevec.encoder.budget import Budget, Limits, check_budget, resolved
from sparsevec.encoder.config import Config, Figures
from sparsevec.encoder.drift import Drift, drift
from sparsevec.encoder.head import Head
from sparsevec.encoder.model import Model
from sparsevec.encoder.recipe import CalibrationRecipe, SplitRecipe
from sparsevec.encoder.residual import ResidualCodes, UInt8s, most_bytes
from sparsevec.encoder.split import Split, split
from sparsevec.encoder.stages import fitted, recalibrated, refined
from sparsevec.encoder.too_few import unlearned
from sparsevec.encoder.towers import Task
from sparsevec.errors import InvalidInput, InvalidVectors, NotFitted, WrongSpace, described
from sparsevec.ingestion.chunks import Encoded
from sparsevec.progress import Listener, Whole
from sparsevec.similarity import Near, Similarity, check_similarity
from sparsevec.storage import as_path, check_writable
from sparsevec.vectors import Float32s, Int64s, SparseVectors

__all__ = ["SparseEncoder"]

_JUDGED = 11  # documents, so that each can have a top 10
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
    "second look": 0.15,
    "newcomers": 0.04,
    "residual": 0.02,
    "measure": 0.05,
}
_AT = {"budget": 0.1, "second look": 0.65, "residual": 0.1, "measure": 0.15}
_ADOPT = {"adopt": 0.75, "budget": 0.01, "second look": 0.2, "measure": 0.04}


class SparseEncoder:
    """A linear head on frozen dense vectors, learned without labels.

    `input_dim` columns in, `output_dim` dimensions out, of which a row uses few. What counts as near is the cosine, or
    the inner product or the distance where `similarity` says so: sparse scores then rank as these do. The same seed
    gives the same vectors, to the last bit on one thread of a CPU. Encoding needs neither torch nor a particular batch:
    a row gives the same bits alone or among a million. Pickle and copy give an encoder that encodes the same.
    """

    def __init__(
        self, input_dim: int = 384, output_dim: int = 8192, seed: int = 0, similarity: Near = "cosine"
    ) -> None:
        """Raises InvalidInput. similarity: what the dense search ranks by, "cosine", "dot" or "l2"."""
        self.input_dim = _whole("input_dim", input_dim, 1)
        self.output_dim = _whole("output_dim", output_dim, 16)
        if self.output_dim >= 2**31:
            raise InvalidInput(f"output_dim must be below 2**31, found {described(output_dim)}")
        self.seed = check_seed(seed)
        self.similarity = check_similarity(similarity)
        self._model: Model | None = None

    def __repr__(self) -> str:
        near = "" if self.similarity == "cosine" else f", similarity={self.similarity!r}"
        made = f"SparseEncoder(input_dim={self.input_dim}, output_dim={self.output_dim}, seed={self.seed}{near})"
        if self._model is None:
            return f"{made} (not fitted)"
        config = self._model.config
        asked = "" if config.adopted is None else f", queries of {config.adopted.columns} columns"
        return (
            f"{made} ({config.stage}, nnz={config.nnz}, flops={config.flops:g}{asked}, "
            f"fingerprint={config.fingerprint})"
        )

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

    @property
    def query_dim(self) -> int:
        """Columns of a query: `input_dim`, unless queries come from a model that was adopted."""
        kept = None if self._model is None else self._model.config.adopted
        return self.input_dim if kept is None else kept.columns

    # ---- learn

    def fit(
        self,
        dense: Any,
        queries: Any | None = None,
        *,
        budget: Budget,
        on_step: Listener | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        device: str = "cpu",
    ) -> SparseEncoder:
        """Learn the head from documents (n, input_dim), and from a sample of queries (q, input_dim) where there is one.

        The budget holds on rows that were not trained on, and of every query: none spends more than its share of F.
        Below 100 documents, none included, nothing can be learned, and codes that need no learning serve: the figures
        say so, and how much F queries may then spend. Where directions that nobody learned do better than the head, or
        learning collapses, they are kept, and the figures say that.

        `on_step` is called with each event of `sparsevec.progress`. checkpoint: a folder, written every few seconds;
        call `fit` again with the same arguments after a kill, and it goes on to the same bits. device: what torch
        learns on, "cpu" or "cuda"; a GPU adds in no fixed order, a processor with AMX multiplies bfloat16, and compiled
        loops, of the extra `fast`, add in another order, so that the same seed learns other bits there, and a
        checkpoint of one is refused on another. Needs the extra `train`.

        Raises InvalidVectors, InvalidInput when the budget cannot be met; for the checkpoint CheckpointMismatch,
        ModelBroken or StorageFailed.
        """
        limits = resolved(check_budget(budget), self.output_dim)
        self._check_width(budget.residual_bytes)
        kept = None if checkpoint is None else as_path(checkpoint, "checkpoint")
        documents, whole = self._rows(dense, "documents"), Whole(on_step, _FIT)
        asking = None if queries is None else self._rows(queries, "queries")
        similarity = Similarity.of(self.similarity, documents).rounded()
        task = Task(similarity, self.input_dim, self.output_dim, self.seed, limits, budget.residual_bytes, device)
        if len(documents) < SplitRecipe().least_documents:
            if budget.residual_bytes is not None:
                raise InvalidInput(
                    f"budget residual_bytes={budget.residual_bytes} needs at least {SplitRecipe().least_documents} "
                    f"documents to learn from, found {len(documents)}; leave it out until there are more"
                )
            asked = similarity.queries(documents if asking is None else asking)
            kind = "documents" if asking is None else "sample"
            self._model = unlearned(task, similarity.documents(documents), asked, kind, whole)
            whole.at("measure", 1, 1, str(self.figures))
            return self
        rows = self._split(documents, asking, similarity)
        if kept is not None:
            check_writable(kept)
        self._model = fitted(task, rows, whole, kept)
        return self

    def refine(
        self,
        dense: Any,
        queries: Any | None = None,
        *,
        on_step: Listener | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        device: str = "cpu",
    ) -> SparseVectors:
        """The documents (n, input_dim), their weights fitted to this corpus; from now on queries suit them.

        Later documents are fitted alone by `encode_document`, on the same scale; for that the model keeps up to 6,000
        of the rows that asked, sample and documents, so whoever gets the model gets these vectors. Pass the sample of
        `fit` again: the rows that were held out there stay held out. The queries' side goes on from where it is, so a
        second call learns more; to begin anew, load the encoder that `fit` gave. Where the head does better on the
        held-out rows, or a kind of queries loses more candidates than the others gain, it is kept and the documents are
        as it encodes them; `figures.refined_is_worse` says so.
        `on_step`, `checkpoint` and `device` as in `fit`. Needs the extra `train`.

        Raises NotFitted, and what `fit` raises.
        """
        self._check_own("refine")
        kept = None if checkpoint is None else as_path(checkpoint, "checkpoint")
        model, documents, whole = self._fitted(), self._rows(dense, "documents"), Whole(on_step, _REFINE)
        config, asking = model.config, None if queries is None else self._rows(queries, "queries")
        if len(documents) < SplitRecipe().least_documents:
            whole.at("measure", 1, 1, "too few documents to learn from: they are as `fit` left them")
            return self.encode_document(documents)
        limits = Limits(config.nnz, config.flops, config.query_nnz)
        width = None if config.residual is None else config.residual.bytes
        task = Task(model.similarity, self.input_dim, self.output_dim, self.seed, limits, width, device)
        rows = self._split(documents, asking, model.similarity)
        if config.figures.too_few:  # its purse is theirs, and its figures
            model = recalibrated(model, task, rows, Whole(None, {}))
        if kept is not None:
            check_writable(kept)
        self._model, codes = refined(model, task, rows, whole, kept)
        return codes

    def at(
        self, budget: Budget, dense: Any, queries: Any | None = None, *, on_step: Listener | None = None
    ) -> SparseEncoder:
        """This encoder within another budget, calibrated and measured anew from documents (n, input_dim) and a sample.

        The head and the query tower stay as they are, and so does the space: documents of 16, 32 or 64 weights may lie
        in one collection, and queries of one budget may ask documents of another. The second look, and residual codes
        where the budget has any, are learned anew beside the weights that documents then have, which takes about a
        fifth of a fit and the extra `train`. Pass what `fit` was given; the rows that were held out there are measured
        on. From half to twice the weights that were learned for, the sparse order finds about a point less than that of
        an encoder learned for them, at four times two, a second look up to four (`benchmarks/many_budgets.py`);
        `config.learned_nnz` keeps their number. Raises NotFitted, what `fit` raises, and InvalidInput for fewer or more
        weights than that, and for an encoder that was refined, adopted, or learned from too little.
        """
        self._check_own("change the budget")
        model, whole = self._fitted(), Whole(on_step, _AT)
        limits = resolved(check_budget(budget), self.output_dim)
        self._check_near(model.config, limits.nnz)
        self._check_width(budget.residual_bytes)
        documents = self._rows(dense, "documents")
        asking = None if queries is None else self._rows(queries, "queries")
        width = budget.residual_bytes
        task = Task(model.similarity, self.input_dim, self.output_dim, self.seed, limits, width, "cpu")
        return self._of(recalibrated(model, task, self._split(documents, asking, model.similarity), whole))

    def _check_near(self, config: Config, nnz: int) -> None:
        recipe, learned = CalibrationRecipe(), config.learned_nnz or config.nnz
        if config.stage == "refined":
            raise InvalidInput(
                "this encoder was refined: the weights of its documents are kept, not made; take the one that fit gave "
                "and refine that"
            )
        if config.figures.too_few:
            raise InvalidInput("this encoder was made of too few documents to learn from; fit it again")
        if not recipe.reaches(learned, nnz):
            raise InvalidInput(
                f"{nnz} weights are too far from the {learned} that were learned for: expected "
                f"{-(-learned // recipe.fewer)} to {recipe.more * learned}, where an encoder learned for them would "
                "find about a point of recall more; fit one for this budget"
            )

    def adopt(
        self,
        theirs: Any,
        ours: Any,
        *,
        documents: Any | None = None,
        vectors: SparseVectors | None = None,
        on_step: Listener | None = None,
        device: str = "cpu",
    ) -> SparseEncoder:
        """An encoder of the same space whose queries come from another dense model, of any width.

        Nothing is indexed again. theirs (m, their columns): rows of the other model. ours (m, input_dim): rows of the
        documents' model for the same texts, such as the documents embedded by both; or, for a query of theirs, the row
        of a document that answers it. Mix them: short queries learn most from pairs with their answers. documents
        (n, input_dim): what is searched, `ours` where it is not given, with `vectors`, what the collection holds of
        them, where `refine` made these.

        `encode_query`, `encode_second_look` and the residual scores then take rows of `query_dim` columns, without
        torch; documents are encoded as before, to the same bits. The budget holds for the new queries. `figures` are of
        pairs that were kept back: how much of the dense top 10 of a pair's own row is found by the other model's;
        `config.adopted` has what the documents' own model finds for the same. To refine, or to adopt a second model,
        use this encoder, not the one that is returned. `on_step` and `device` as in `fit`. Needs the extra `train`.

        Raises NotFitted, InvalidVectors, WrongSpace, and InvalidInput for unequal numbers of rows, too few pairs, and
        pairs of which nothing can be learned, as rows of different texts or in another order.
        """
        self._check_own("adopt another model")
        model, whole = self._fitted(), Whole(on_step, _ADOPT)
        asking = dense_rows(theirs, what="rows of the adopted model")
        own = self._rows(ours, "rows of the documents' model")
        if len(asking) != len(own):
            raise InvalidInput(
                f"a pair is a row of each model, found {len(asking)} rows of theirs and {len(own)} of ours; expected "
                "as many, of the same texts in the same order"
            )
        searched = model.similarity.documents(own if documents is None else self._rows(documents, "documents"))
        if documents is not None and len(searched) < _JUDGED:
            raise InvalidInput(
                f"expected at least {_JUDGED} documents that queries search, found {len(searched) or 'none'}: pairs "
                "are told apart by the ten nearest of them; leave documents out to search ours"
            )
        held = model.documents(searched, None) if vectors is None else check_vectors(vectors)
        self._check_ours(held)
        if len(held) != len(searched):
            raise InvalidVectors(f"expected a vector for each of {len(searched)} documents, found {len(held)}")
        pairing = Pairing(asking, model.similarity.queries(own), searched, held)
        return self._of(adopted(model, pairing, self.seed, whole, device))

    def _check_own(self, what: str) -> None:
        if self._fitted().config.adopted is not None:
            raise InvalidInput(
                f"queries of this encoder come from a model that was adopted; {what} with the encoder that adopted it, "
                "whose queries are of the documents' own model"
            )

    def translate(self, dense: Any) -> Float32s:
        """Queries (q, query_dim), or one, as rows (q, input_dim) of the documents' dense model: for its dense search.

        The rows themselves where no model was adopted; else what the learned map makes of them, of length 1. Raises
        InvalidInput for an adopted model where `similarity` is not the cosine, and what `encode_query` raises.
        """
        model = self._fitted()
        if model.config.adopted is None:
            return query_rows(dense, self.input_dim, zeros=self.similarity == "l2").astype(np.float32, copy=False)
        if self.similarity != "cosine":
            raise InvalidInput(f"rows of an adopted model have no length, which similarity={self.similarity!r} needs")
        return unit_rows(self._asking(dense, model))

    def _rows(self, dense: Any, what: str) -> Dense:
        """Rows of the users', checked. A zero row has no direction, so no cosine; as a query no order by dot either."""
        zeros = self.similarity == "l2" or (self.similarity == "dot" and what == "documents")
        return dense_rows(dense, self.input_dim, what, zeros=zeros)

    def _split(self, documents: Dense, queries: Dense | None, similarity: Similarity) -> Split:
        asking, stand_in = None if queries is None else similarity.queries(queries), similarity.queries(documents)
        return split(similarity.documents(documents), asking, stand_in, self.seed)

    def _check_width(self, width: int | None) -> None:
        if width is not None and width > most_bytes(self.input_dim):
            raise InvalidInput(
                f"budget residual_bytes={width} is more than a byte for each of the {self.input_dim} columns and a "
                f"header: expected at most {most_bytes(self.input_dim)}; lower it"
            )

    # ---- encode

    def encode_document(
        self, dense: Any, nnz: int | None = None, *, weights: Literal["fitted", "head"] = "fitted"
    ) -> SparseVectors:
        """(n, input_dim) to sparse vectors; `nnz` keeps so many weights of each instead of the budget's.

        The head's code of a row has length 1. After `refine` the weights of each row are fitted to who asks near it, on
        the scale of the refined ones: newcomers are found more often so (the model's card says how often), for about a
        millisecond each instead of a tenth. weights="head" is the head's code as before, where that is too long. Either
        way a row gives the same bits alone or among a million, without torch.

        Takes numpy arrays of any real type, torch tensors, pandas frames, lists of rows and Arrow lists. Raises
        NotFitted, InvalidVectors, InvalidInput.
        """
        model, nnz = self._fitted(), self._nnz(nnz)
        if weights not in ("fitted", "head"):
            raise InvalidInput(f'weights must be "fitted" or "head", found {weights!r:.40}')
        rows = model.similarity.documents(self._rows(dense, "documents"))
        return model.documents(rows, nnz) if weights == "head" else model.later_documents(rows, nnz)

    def encode_each(self, dense: Any) -> Encoded:
        """What `ingest` takes of documents of which some cannot be encoded: `encode_document` of the others, and of
        these an empty vector and why. Takes what `document_faults` takes."""
        faults = self.document_faults(dense)
        if not faults:
            return Encoded(self.encode_document(dense), faults)
        made = self.encode_document(rows_without(dense, faults, self.input_dim))
        indptr = np.zeros(len(dense) + 1, np.int64)
        indptr[1 + _sound(len(dense), faults)] = made.row_nnz
        spread = SparseVectors(np.cumsum(indptr), made.indices, made.values, made.dimension)
        return Encoded(spread.with_fingerprint(made.fingerprint), faults)

    def document_faults(self, dense: Any) -> dict[int, str]:
        """Which documents `encode_document` would refuse, and why, by row.

        A row that is zero, not finite, or under similarity "dot" or "l2" much longer than any it was learned from. Of a
        list each row is judged by itself, None and those of another width, too; an array (n, d) of another width is of
        another model, and raises InvalidVectors. Raises NotFitted.
        """
        similarity = self._fitted().similarity
        faults = row_faults(dense, self.input_dim, "documents", zeros=self.similarity != "cosine")
        if self.similarity == "cosine":
            return faults
        at, others = _sound(len(dense), faults), rows_without(dense, faults, self.input_dim)
        return faults | {int(at[row]): fault for row, fault in similarity.faults(others).items()}

    def encode_query(self, dense: Any, nnz: int | None = None) -> SparseVectors:
        """(q, input_dim), or one query (input_dim,), to a batch of sparse vectors of length 1.

        As long as the budget pays for. Takes and raises what `encode_document` does.
        """
        model = self._fitted()
        return model.queries(self._asking(dense, model), self._nnz(nnz))

    def _asking(self, dense: Any, model: Model) -> Dense:
        if model.config.adopted is not None:
            return model.asking(query_rows(dense, self.query_dim, "queries of the adopted model"))
        return model.asking(query_rows(dense, self.input_dim, zeros=self.similarity == "l2"))

    def encode_second_look(
        self, dense: Any, *, queries: SparseVectors | None = None, dimensions: Int64s | None = None
    ) -> SparseVectors:
        """(q, input_dim), or one query, to the signed full-length queries that re-order candidates.

        A candidate's second score is the dot product of this row with the candidate's stored vector. Where only some
        `dimensions` are asked for, those that the candidates use, it has these, the same bits for less. `queries`: what
        `encode_query` made of the same rows, where it is there already. Raises InvalidInput for a model that was
        learned without a second look, and what `encode_query` raises.
        """
        model = self._fitted()
        rows = self._asking(dense, model)
        if model.config.second_look is None:
            raise InvalidInput("this model was learned without a second look; fit it again, or use rerank=None")
        return model.second_looks(rows, model.queries(rows, None) if queries is None else queries, dimensions)

    # ---- residual codes

    @property
    def residual_bytes(self) -> int | None:
        """Of a document's residual code; None for a model without. Raises NotFitted before `fit`."""
        kept = self.config.residual
        return None if kept is None else kept.bytes

    def residual_codes(self, dense: Any, vectors: SparseVectors, *, faults: Collection[int] = ()) -> UInt8s:
        """The codes (n, residual_bytes) of dense rows (n, input_dim), to be written beside their sparse vectors.

        vectors: theirs, as the backend keeps them, `adapter.stored(...)`: what a code says is what these leave out.
        faults: the rows that `document_faults` names, which cannot be written and get zeros. The same bits in any
        batch, order and number of threads; needs no torch. Raises InvalidInput for a model that was
        fitted without `Budget(residual_bytes=...)`, WrongSpace for vectors of another encoder, InvalidVectors.
        """
        residuals, vectors = self._residuals(), check_vectors(vectors)
        if faults:
            if odd := [row for row in faults if not 0 <= row < len(vectors)]:
                raise InvalidInput(f"faults are rows of the {len(vectors)} documents, found row {odd[0]!r:.80}")
            at = _sound(len(vectors), faults)
            codes = np.zeros((len(vectors), residuals.width), np.uint8)
            codes[at] = self.residual_codes(rows_without(dense, faults, self.input_dim), vectors[at])
            return codes
        rows = self._fitted().similarity.documents(self._rows(dense, "documents"))
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
        residuals, row = self._residuals(), self._asking(query, self._fitted())
        if len(row) != 1:
            raise InvalidInput(f"residual scores are of one query and its hits, found {len(row)} queries")
        if hits.vectors is None or hits.codes is None:
            lacking = "vectors" if hits.vectors is None else "codes"
            raise InvalidInput(f"the hits have no {lacking}; search with with_vectors=True and with_codes=True")
        self._check_ours(hits.vectors)
        residuals.check(hits.codes, hits.ids)
        return residuals.scores(row, hits.vectors, hits.codes)

    def check_residual_codes(self, codes: UInt8s, ids: Sequence[Id]) -> None:
        """Raises InvalidInput when one of the codes (m, residual_bytes), of documents `ids`, is another model's."""
        self._residuals().check(codes, ids)

    def residual_parts(self, query: Any, hits: Hits) -> tuple[float, SparseVectors, float]:
        """Of one hit: what `residual_scores` adds for every document alike, the query whose products with the stored
        weights it adds up, and what the code adds. Raises what `residual_scores` raises."""
        self.residual_scores(query, hits)
        assert hits.vectors is not None
        assert hits.codes is not None
        return self._residuals().parts(self._asking(query, self._fitted()), hits.vectors, hits.codes)

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

    # ---- judge, export

    def head(self, side: Literal["document", "query"]) -> Head:
        """The parameters that encode one side, for runtimes of another kind. Raises NotFitted, InvalidInput."""
        if side not in ("document", "query"):
            raise InvalidInput(f'side must be "document" or "query", found {side!r:.40}')
        if self.similarity != "cosine":
            raise InvalidInput(
                f"a head of similarity={self.similarity!r} takes rows as `encoder.similarity` makes them"
            )
        if side == "query":
            self._check_own("export the queries' head")
        return self._fitted().head(side)

    def judge(self, dense: Any, codes: SparseVectors) -> Drift:
        """What the stored `codes` of the documents (n, input_dim) are worth today, and whether to `refine` again.

        Documents ask for each other. After `refine` this takes .4 ms a document, to tell newcomers; 1 ms without numba.
        Raises NotFitted, InvalidVectors, and InvalidInput when these are not the codes of these rows in this encoder's
        space, one a document, of eleven documents at least.
        """
        self._check_own("judge")
        model, rows = self._fitted(), self._rows(dense, "documents")
        check_vectors(codes, "codes")
        if len(rows) != len(codes) or codes.dimension != self.output_dim:
            raise InvalidInput(
                f"expected a code of dimension {self.output_dim} for each of {len(rows)} documents, found {len(codes)} "
                f"of dimension {codes.dimension}"
            )
        if codes.fingerprint not in (None, self.fingerprint):
            raise InvalidInput(f"these are codes of {codes.fingerprint}, this encoder's are of {self.fingerprint}")
        if len(rows) < _JUDGED:
            raise InvalidInput(f"expected at least {_JUDGED} documents to find each other, found {len(rows)}")
        return drift(model, model.similarity.documents(rows), model.similarity.queries(rows), codes)

    def _nnz(self, nnz: int | None) -> int | None:
        if nnz is None:
            return None
        if (most := _whole("nnz", nnz, 1)) > self.output_dim:
            raise InvalidInput(f"nnz must be at most output_dim={self.output_dim}, found {nnz}")
        return most

    def _fitted(self) -> Model:
        if self._model is None:
            raise NotFitted("the encoder has learned nothing yet; call fit, or SparseEncoder.load a saved one")
        return self._model

    # ---- keep

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write model.safetensors, config.json and a model card into the folder `path`, all or nothing.

        Raises NotFitted, StorageFailed, and InvalidInput when `path` holds something else, beside a model too.
        """
        self._fitted().save(as_path(path))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SparseEncoder:
        """Read what `save` wrote. Raises ModelBroken when the folder is not a whole model."""
        return cls._of(Model.load(as_path(path)))

    @classmethod
    def _of(cls, model: Model) -> SparseEncoder:
        config = model.config
        encoder = cls(config.input_dim, config.output_dim, config.seed, config.similarity)
        encoder._model = model
        return encoder


def _sound(n: int, faults: Collection[int]) -> Int64s:
    """The rows of n that are not among `faults`, ascending."""
    return np.delete(np.arange(n), list(faults))


def _whole(name: str, number: object, least: int) -> int:
    if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < least:
        raise InvalidInput(f"{name} must be a whole number of at least {least}, found {described(number)}")
    return int(number)
