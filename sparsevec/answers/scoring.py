"""How a candidate is scored again: one class a way of re-ranking, each a function of values that asks no backend.

Every re-ranked score is *defined*: float64 products of float32 numbers, added in ascending order of their dimension,
rounded to float32 once. So the same candidates with the same stored numbers have the same scores on every backend, and
`verify` can say what they must be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from inspect import iscoroutinefunction
from typing import Any, ClassVar, Final, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from sparsevec.answers.calls import Call
from sparsevec.contract.adapter import DenseField, Documents, Hits, Info
from sparsevec.contract.operations import Operation
from sparsevec.contract.payloads import is_unicode
from sparsevec.contract.searches import products
from sparsevec.dense import unit_rows
from sparsevec.encoder import SparseEncoder
from sparsevec.errors import AdapterError, InvalidInput, InvalidVectors
from sparsevec.similarity import declared_near
from sparsevec.vectors import Float32s, SparseVector, SparseVectors

__all__ = [
    "USUAL",
    "DenseRows",
    "Own",
    "Rerank",
    "Residual",
    "Scorer",
    "SecondLook",
    "Usual",
    "Way",
    "check_columns",
    "usual_candidates",
    "usual_rerank",
    "way_of",
]

Scorer: TypeAlias = Callable[[Float32s, Documents], Sequence[float]]
Float64s: TypeAlias = npt.NDArray[np.float64]
Scores: TypeAlias = Float32s | Float64s
Rerank: TypeAlias = Literal["second look", "residual", "dense"] | Scorer | None


class Usual(Enum):
    """What a caller who says nothing gets."""

    RERANK = "second look, unless the model's card says that it is worse"


USUAL: Final = Usual.RERANK

_FEW, _MANY, _FINE = 100, 300, 200
"""candidates, and the bytes from which on a residual code is finer than what the first 100 leave out: on debian12 300
candidates add .003 to the recall at 60 bytes, .005 at 110, .006 at 200 and .007 at 300, where that is half of the error
(`benchmarks/residual_codes.py`)"""
_FILTERED = 1.5
"""times as many behind a filter, where candidates are what the answers lack: a filter that leaves a tenth of debian12
takes the recall from .9644 to .9597 at 100 bytes, from .9797 to .9737 at 160 and from .9902 to .9889 at 200; with half
as many again it is .9652, .9802 and .990. A second look lacks the order, and a callable is not to cost more"""

_UNIT = frozenset({"cosine", "cosinesimil", "Cosine", "dot_product"})
"""similarities under which an engine ranks by the cosine, whatever its rows: those of `dot_product` must be of unit
length, and others are refused"""


class Way(Protocol):
    """One way of re-ranking."""

    dense_field: str | None
    """what holds the dense rows that a score needs, None where it needs none"""
    few: ClassVar[int]
    """how many times `candidates` a filter may leave to be answered from all of them"""
    with_vectors: ClassVar[bool]
    """a search brings the stored vectors with its hits, and nothing is read after it"""
    with_codes: ClassVar[bool]
    """and the residual codes"""

    def check(self) -> Operation[None]:
        """Raises InvalidInput, before the search, for a collection that lacks what a score needs."""

    def prepare(self, dense: Float32s, sparse: SparseVectors | None, /) -> Any:
        """What `scores` takes of q dense queries (q, query_dim), and as the encoder made them sparse, where they were
        searched whole."""

    def scores(self, prepared: Any, number: int, documents: Documents) -> Scores:
        """Of the m documents, one at least, for the query of that number, (m,); NaN where a document lacks what its
        score needs. Raises InvalidInput for rows or scores that make no sense."""


def way_of(rerank: Rerank, encoder: SparseEncoder, dense_field: str | None) -> Way | None:
    """Raises InvalidInput for what is none, and when the encoder cannot do it."""
    if dense_field is not None and rerank != "dense":
        raise InvalidInput(f'dense_field={dense_field!r} is for rerank="dense", found rerank={rerank!r:.80}')
    if rerank is None:
        return None
    if rerank == "second look":
        return SecondLook(encoder)
    if rerank == "residual":
        return Residual(encoder)
    if rerank == "dense":
        return DenseRows(encoder, dense_field)
    if not callable(rerank):
        raise InvalidInput(
            f'rerank must be "second look", "residual", "dense", a callable or None, found {rerank!r:.80}'
        )
    if iscoroutinefunction(rerank) or iscoroutinefunction(getattr(rerank, "__call__", None)):  # noqa: B004
        raise InvalidInput(
            "the re-ranker is a coroutine function, expected a plain one: a callable scores in the thread that "
            "searches, for asyncio too; let it wait there for what must be awaited in a loop of another thread"
        )
    return Own(rerank)


def usual_rerank(encoder: SparseEncoder) -> Rerank:
    """ "second look"; None, the sparse order, where the model's card says that a second look finds less."""
    figures, adopted = encoder.figures, encoder.config.adopted
    first, again = figures.recall_10, figures.second_look_recall_10
    if adopted is not None:  # what their pairs find is not the order that they should have: answers are
        first, again = adopted.answer_ndcg_10, adopted.second_look_ndcg_10
    return None if again is not None and again < first else "second look"


def usual_candidates(rerank: Rerank, encoder: SparseEncoder) -> tuple[int, int]:
    """100, or 300 for residual codes of 200 bytes or more; and behind a filter as many, for residual codes and dense
    rows half as many again."""
    fine = rerank == "residual" and (encoder.residual_bytes or 0) >= _FINE
    many = _MANY if fine else _FEW
    return many, int(_FILTERED * many) if rerank in ("residual", "dense") else many


class SecondLook:
    """By the weights that are stored anyway, and a second, signed query of full length that the encoder has learned.

    The weights come with the hits, also where the server could re-order them itself (`rescore`, C20): those of 100
    candidates are fewer than the second query has, one for each dimension."""

    dense_field: str | None = None
    few: ClassVar[int] = 2  # each read costs as much as a candidate's: twice is the dearest that a filter makes a query
    with_vectors: ClassVar[bool] = True
    with_codes: ClassVar[bool] = False

    def __init__(self, encoder: SparseEncoder) -> None:
        if encoder.config.second_look is None:
            raise InvalidInput(
                "this encoder was learned without a second look; fit it again, or choose rerank=None or a callable"
            )
        self._encoder = encoder

    def check(self) -> Operation[None]:
        """The sparse field has all it needs."""
        yield from ()

    def prepare(self, dense: Float32s, sparse: SparseVectors | None) -> tuple[Float32s, SparseVectors]:
        """A query that was searched by some of its weights is looked at whole."""
        return dense, self._encoder.encode_query(dense) if sparse is None else sparse

    def scores(self, prepared: tuple[Float32s, SparseVectors], number: int, documents: Documents) -> Float32s:
        dense, sparse = prepared[0][number], prepared[1][number : number + 1]
        used = np.unique(documents.vectors.indices).astype(np.int64)
        if not len(used):  # nobody was found, or only documents without weights
            return np.zeros(len(documents.vectors), np.float32)
        if used[-1] >= (dimension := self._encoder.output_dim):  # of a collection that does not say its dimension
            raise InvalidVectors(
                f"the collection holds a weight at index {used[-1]}, expected vectors of dimension {dimension}, the "
                "encoder's: others wrote it, so search another collection"
            )
        looks = self._encoder.encode_second_look(dense, queries=sparse, dimensions=used)
        return products(looks[0], documents.vectors)[0]

    def look(self, dense: Float32s) -> SparseVector:
        """The second query of one dense row, whole."""
        return self._encoder.encode_second_look(dense)[0]


class Residual:
    """By residual codes: what the sparse code of a document does not say of its dense row, in a few bytes beside it."""

    dense_field: str | None = None
    few: ClassVar[int] = 2
    with_vectors: ClassVar[bool] = True
    with_codes: ClassVar[bool] = True

    def __init__(self, encoder: SparseEncoder) -> None:
        if encoder.residual_bytes is None:
            raise InvalidInput(
                "this encoder has no residual codes; fit it with fit(..., budget=Budget(..., residual_bytes=100)), or "
                'choose rerank="second look"'
            )
        self._encoder, self._bytes = encoder, encoder.residual_bytes

    def check(self) -> Operation[None]:
        info: Info = yield Call("info")
        if info.exists:
            self.check_width(info.code_bytes)

    def check_width(self, kept: int | None) -> None:
        """Raises InvalidInput unless a collection keeps codes of this encoder's width."""
        if kept != self._bytes:
            has = "no residual codes" if kept is None else f"residual codes of {kept} bytes"
            raise InvalidInput(
                f"the collection keeps {has}, expected the {self._bytes} bytes of this encoder: write the documents "
                'into a new one with Retriever(..., rerank="residual").add, which makes it, or choose '
                'rerank="second look", which needs none'
            )

    def prepare(self, dense: Float32s, _sparse: SparseVectors | None) -> Float32s:
        return dense

    def scores(self, prepared: Float32s, number: int, documents: Documents) -> Float32s:
        """NaN where a document has no weights, and so no code: it may be there for other fields' sake."""
        held = np.flatnonzero(documents.vectors.row_nnz)
        hits = _as_hits(documents)
        if len(held) == len(documents.ids):
            return self._encoder.residual_scores(prepared[number], hits)
        scores = np.full(len(documents.ids), np.nan, np.float32)
        scores[held] = self._encoder.residual_scores(prepared[number], hits.rows(held))
        return scores

    def parts(self, dense: Float32s, document: Documents) -> tuple[float, SparseVectors, float]:
        """Of one document's score: what all have, the query of its stored weights, and what its code adds."""
        return self._encoder.residual_parts(dense, _as_hits(document))


def _as_hits(documents: Documents) -> Hits:
    none = np.zeros(len(documents.ids), np.float32)
    return Hits(documents.ids, none, vectors=documents.vectors, codes=documents.codes)


def check_columns(field: str, declared: DenseField, encoder: SparseEncoder) -> None:
    """Raises InvalidInput for a field whose dense rows cannot be those that the encoder was fitted on."""
    if declared.dimension not in (None, encoder.input_dim):
        raise InvalidInput(
            f"{field!r} holds dense rows of {declared.dimension} columns, expected the {encoder.input_dim} of this "
            "encoder (input_dim): name the field with the rows that it was fitted on"
        )


class DenseRows:
    """By the encoder's similarity of the dense query with the dense row that the cluster holds for a candidate: the
    cosine, the dot product ("dot"), or minus the square of the distance ("l2").

    Where queries come from a model that was adopted, of what the encoder makes of them. Documents without a row have no
    score, and are no answers."""

    few: ClassVar[int] = 3  # rows of so many documents are as long as a search
    with_vectors: ClassVar[bool] = False
    with_codes: ClassVar[bool] = False

    def __init__(self, encoder: SparseEncoder, field: str | None) -> None:
        if not isinstance(field, str) or not is_unicode(field):
            raise InvalidInput(
                'rerank="dense" needs dense_field=, the name of the field or vector that holds the dense rows, found '
                f"{field!r:.80}"
            )
        if encoder.similarity != "cosine" and encoder.config.adopted is not None:
            raise InvalidInput(
                f"rows of an adopted model have no length, which similarity={encoder.similarity!r} needs; choose "
                'rerank="second look" or "residual"'
            )
        self.dense_field: str | None = field
        self._field, self._columns, self._encoder = field, encoder.input_dim, encoder
        self._near = encoder.similarity
        self.on_server = False  # whether the engine picks the nearest candidates
        self._declared: Mapping[str, DenseField] = {}

    def check(self) -> Operation[None]:
        info: Info = yield Call("info")
        self._declared = info.dense
        if (declared := info.dense.get(self._field)) is None:
            yield from self._check_payloads()
            return
        check_columns(self._field, declared, self._encoder)
        ours, theirs = self._near, declared.similarity
        if theirs and declared_near(theirs) not in ({"cosine", "dot"} if ours == "cosine" else {ours}):
            raise InvalidInput(
                f"{self._field!r} is compared by {theirs}, and this encoder was fitted to similarity={ours!r}: "
                'expected a field of the same, or dot products of unit rows for "cosine"; re-rank by a callable of '
                'your own, or by "second look", which needs no dense rows'
            )
        self.on_server = ours == "cosine" and theirs in _UNIT

    def _check_payloads(self) -> Operation[None]:
        """It may lie in payloads, where only documents tell: whether one has it."""
        with suppress(AdapterError):  # a backend that cannot filter by it; then the candidates tell
            having: Documents | None = yield Call("matching", ({self._field: {"exists": True}}, 1))
            if having is not None and not having.ids and (yield Call("count")):
                raise self.missing("no document")

    def missing(self, who: str) -> InvalidInput:
        known = f"; declared here: {sorted(self._declared)}" if self._declared else ""
        return InvalidInput(
            f"{who} holds a dense row in {self._field!r}, expected a list of {self._columns} numbers in each document"
            f"{known}"
        )

    def prepare(self, dense: Float32s, _sparse: SparseVectors | None) -> Float32s:
        return self._compared(self._encoder.translate(dense))

    def scores(self, prepared: Float32s, number: int, documents: Documents) -> Float32s:
        rows = documents.dense or (None,) * len(documents.ids)
        held = [at for at, row in enumerate(rows) if row is not None and (self._near != "cosine" or row.any())]
        scores = np.full(len(rows), np.nan, np.float32)
        if held:
            scores[held] = self._similarities(prepared[number], [rows[at] for at in held])
        return scores

    def proves(self, prepared: Float32s, number: int, documents: Documents, k: int) -> bool:
        """Whether these, the nearest that an engine found, hold the k nearest for certain: the k-th is ahead of the
        last by more than the engine's rounding, m + 8 roundings of a sum of m products of unit rows, twice."""
        scores = np.sort(self.scores(prepared, number, documents))[::-1].astype(np.float64)
        return bool(scores[k - 1] - scores[-1] > 2 * (self._columns + 8) * 2.0**-24)

    def _similarities(self, query: Float32s, rows: Sequence[Float32s | None]) -> Float32s:
        widths = {0 if row is None else len(row) for row in rows}
        if odd := widths - {self._columns}:
            raise InvalidInput(
                f"{self._field!r} holds dense rows of {min(odd)} columns, expected {self._columns} (input_dim)"
            )
        held = self._compared(np.stack([row for row in rows if row is not None])).astype(np.float64)
        parts = -np.square(held - query) if self._near == "l2" else held * query
        return np.cumsum(parts, axis=1)[:, -1].astype(np.float32)

    def _compared(self, rows: Float32s) -> Float32s:
        return unit_rows(rows) if self._near == "cosine" else rows


class Own:
    """By a callable of the user's, `rerank(dense_query, documents)`: (query_dim,) and m candidates to m scores."""

    dense_field: str | None = None
    few: ClassVar[int] = 1  # it may be a cross-encoder, which must not see more than was agreed
    with_vectors: ClassVar[bool] = False
    with_codes: ClassVar[bool] = False

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    def check(self) -> Operation[None]:
        """What it needs, it knows."""
        yield from ()

    def prepare(self, dense: Float32s, _sparse: SparseVectors | None) -> Float32s:
        return dense

    def scores(self, prepared: Float32s, number: int, documents: Documents) -> Float64s:
        """In float64, by which they are ordered: float32 takes seconds of a year's dates for one."""
        given = self._scorer(prepared[number].copy(), documents)  # its own: the row may be the caller's
        try:
            scores = np.asarray(given)
            if np.iscomplexobj(scores):
                raise TypeError("complex numbers")
            missing = np.isnat(scores) if scores.dtype.kind in "mM" else False
            scores = np.where(missing, np.nan, scores.astype(np.float64))
        except (TypeError, ValueError, OverflowError) as error:
            raise InvalidInput(
                f"the re-ranker must return {len(documents.ids)} finite scores, one for each candidate, found "
                f"{given!r:.60} ({error})"
            ) from None
        finite = bool(np.isfinite(scores).all())
        if scores.shape != (len(documents.ids),) or not finite:
            raise InvalidInput(
                f"the re-ranker must return {len(documents.ids)} finite scores, one for each candidate, found shape "
                f"{scores.shape}{'' if finite else ' with NaN or infinity'}"
            )
        return scores
