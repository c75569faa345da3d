"""What people bring as vectors: one batch, chunks of any size, in the types of several libraries, or a source that can
start anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, Union, runtime_checkable

import scipy.sparse as sp

from sparsevec.errors import InvalidVectors
from sparsevec.vectors import SparseVectors

if TYPE_CHECKING:
    import torch
    from scipy.sparse import sparray, spmatrix

__all__ = ["Chunk", "Encoded", "Restartable", "Vectors", "as_chunks", "as_vectors", "faults_of"]


@dataclass(frozen=True, slots=True)
class Encoded:
    """Some rows, of which a few could not be encoded: each of these has failed, with its reason, and keeps no other
    from being written. `SparseEncoder.encode_each` makes it."""

    vectors: SparseVectors
    """(n, dimension)"""
    faults: Mapping[int, str]
    """by row, whatever its vector is"""

    def __len__(self) -> int:
        return len(self.vectors)


Chunk: TypeAlias = Union[SparseVectors, Encoded, "sparray", "spmatrix", "torch.Tensor", Sequence[Mapping[int, float]]]
"""Some rows: SparseVectors, what `encode_each` gives, a scipy sparse matrix, a sparse torch tensor, or a list of
`{index: weight}`."""


@runtime_checkable
class Restartable(Protocol):
    """A source of vectors that can start anywhere, so that a run that goes on does not encode again what is settled.

        class Encoding:
            identity = "products of 2026-11-25, encoded by model/"

            def start(self, position: int) -> Iterator[Encoded]:
                for row in range(position, len(dense), 1000):
                    yield encoder.encode_each(dense[row : row + 1000])

    Ids, payloads and routing are still read from the first on, and compared with the journal; that the vectors are the
    same is what `identity` promises.
    """

    @property
    def identity(self) -> str:
        """Names these vectors: another source, or another encoder, has another."""

    def start(self, position: int) -> Iterable[Chunk]:
        """Chunks, the first of which begins with the vector at `position`."""


Vectors: TypeAlias = Chunk | Iterable[Chunk] | Restartable
"""One batch, chunks of any size, or a source that can start anywhere."""


def as_chunks(vectors: Any) -> Any:
    """One batch is a stream of one chunk."""
    whole = isinstance(vectors, SparseVectors | Encoded) or sp.issparse(vectors) or _is_tensor(vectors)
    return [vectors] if whole or (_is_rows(vectors) and vectors) else vectors


def as_vectors(chunk: Any, before: SparseVectors | None, dimension: int | None) -> SparseVectors:
    """`chunk` as what it cannot but mean. Raises InvalidVectors for anything else, dense rows for instance: they may be
    weights, or embeddings that nobody has encoded yet."""
    if isinstance(chunk, Encoded):
        chunk = chunk.vectors
    elif sp.issparse(chunk):
        chunk = SparseVectors.from_scipy(chunk)
    elif _is_tensor(chunk) and str(chunk.layout) in ("torch.sparse_coo", "torch.sparse_csr"):
        chunk = SparseVectors.from_torch(chunk)
    elif _is_rows(chunk):
        if (size := before.dimension if before is not None else dimension) is None:
            raise InvalidVectors("rows do not say their dimension; SparseVectors.from_rows(rows, dimension=...) does")
        chunk = SparseVectors.from_rows(chunk, dimension=size)
    if not isinstance(chunk, SparseVectors):
        raise InvalidVectors(
            f"expected SparseVectors, found {type(chunk).__name__}; SparseVectors.from_... makes them of weights, "
            "encoder.encode_each of dense embeddings"
        )
    if before is not None and chunk.dimension != before.dimension:
        raise InvalidVectors(f"expected dimension {before.dimension} as before, found {chunk.dimension}")
    return chunk


def faults_of(chunk: Any) -> Mapping[int, str]:
    """Of the rows of a chunk that could not be encoded, by row."""
    return chunk.faults if isinstance(chunk, Encoded) else {}


def _is_tensor(value: object) -> bool:
    return type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "layout")


def _is_rows(value: object) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(row, Mapping) for row in value)
