"""fastembed: its sparse embeddings as vectors of ours, to ingest, verify and search with, and back. Extra `fastembed`.

model = SparseTextEmbedding("prithivida/Splade_PP_en_v1")
documents = from_fastembed(model.embed(texts), dimension=dimension_of("prithivida/Splade_PP_en_v1"))
sv.ingest(adapter, ids, documents)
adapter.search(from_fastembed(model.query_embed("..."), dimension=documents.dimension))
"""

from __future__ import annotations

from collections.abc import Iterable

from sparsevec import SparseVectors
from sparsevec.contract.checks import check_several
from sparsevec.errors import InvalidInput, InvalidVectors
from sparsevec.integrations.guest import guest

with guest("fastembed", "fastembed"):
    from fastembed import SparseEmbedding, SparseTextEmbedding

__all__ = ["dimension_of", "from_fastembed", "to_fastembed"]

_HASHED = 2**31  # BM25, BM42 and the like: a token's index is a hash of 31 bits


def dimension_of(model: str) -> int:
    """Of the vectors of one of fastembed's models: the size of its vocabulary, 2**31 where tokens are hashed.

    Raises InvalidInput for a model that fastembed does not list.
    """
    for known in SparseTextEmbedding.list_supported_models():
        if str(known["model"]).casefold() == str(model).casefold():
            return int(known.get("vocab_size") or _HASHED)
    raise InvalidInput(f"fastembed lists no sparse model {model!r:.80}; say dimension= yourself")


def from_fastembed(embeddings: Iterable[SparseEmbedding], *, dimension: int) -> SparseVectors:
    """A row for each embedding, indices in order, weights as float32.

    Raises InvalidInput for what holds none, InvalidVectors, naming the row.
    """
    if isinstance(embeddings, SparseEmbedding):
        embeddings = [embeddings]
    rows = list(check_several("embeddings", embeddings))
    wrong = next((at for at, row in enumerate(rows) if not isinstance(row, SparseEmbedding)), None)
    if wrong is not None:
        raise InvalidVectors(f"row {wrong} must be a SparseEmbedding of fastembed, found {type(rows[wrong]).__name__}")
    return SparseVectors.from_rows(rows, dimension=dimension)


def to_fastembed(vectors: SparseVectors) -> list[SparseEmbedding]:
    """The rows as fastembed has them, in arrays of one's own."""
    return [SparseEmbedding(values=row.values.copy(), indices=row.indices.copy()) for row in vectors]
