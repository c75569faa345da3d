"""What `index` writes: a folder of sparse vectors, or texts or dense vectors that a model encodes on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import tee
from pathlib import Path
from typing import Any, NamedTuple

from sparsevec.cli.texts import JSON_LINES, read_texts
from sparsevec.contract.adapter import Adapter
from sparsevec.contract.checks import Id, check_space
from sparsevec.dense import dense_rows
from sparsevec.encoder import SparseEncoder
from sparsevec.errors import InvalidInput, printable
from sparsevec.files import DenseFile, read_ids, read_objects, read_table
from sparsevec.ingestion.chunks import Encoded
from sparsevec.integrations.embedders import embedded, named
from sparsevec.vectors import SparseVectors

__all__ = ["Beside", "Documents", "beside", "of_dense", "of_texts", "of_vectors"]

_BLOCK = 4096  # documents that are encoded at a time


class Beside(NamedTuple):
    """Files of ids and payloads, where these do not stand with the documents themselves."""

    ids: Path | None
    payloads: Path | None


class Documents(NamedTuple):
    """What `ingest` takes, and how many there are. `fingerprint` and `dimension` are those of the vectors."""

    n: int
    dimension: int
    fingerprint: str | None
    code_bytes: int | None
    ids: Iterable[Id]
    vectors: SparseVectors | Iterator[Encoded]
    payloads: Iterable[Any] | None
    codes: Callable[[Adapter], Iterator[Any]] | None = None
    """what one backend takes: a code is of what that keeps of the vector"""


def of_vectors(folder: Path, given: Beside) -> Documents:
    """Of a folder that `encode` wrote; read as it is needed."""
    vectors = SparseVectors.load(folder, mmap=True)
    ids, payloads = beside(given, len(vectors))
    return Documents(len(vectors), vectors.dimension, vectors.fingerprint, None, ids, vectors, payloads)


def of_texts(path: Path, encoder: SparseEncoder, embedder: str, field: str, given: Beside) -> Documents:
    """Of a file of texts, embedded and encoded a batch at a time, while `ingest` writes the batch before.

    A document's payload is its object, or its line as `text`; its id the object's `id`, where there is one. Raises
    InvalidInput for a line without a text, before anything is embedded, and what `embedded` raises in the middle.
    """
    n, objects = sum(1 for _ in read_texts(path, field)), path.suffix.lower() in JSON_LINES
    ids = _ids(path, n) if given.ids is None and objects else read_ids(given.ids, n)
    if given.payloads is not None or objects:
        payloads: Iterable[Any] = read_objects(given.payloads or path)
    else:
        payloads = ({"text": line} for line in read_texts(path, field))
    dense = (rows for _, rows in embedded(read_texts(path, field), named(embedder)))
    made = ((encoder.encode_each(rows), rows) for rows in dense)
    return _encoded(encoder, n, made, ids, payloads)


def of_dense(path: Path, encoder: SparseEncoder, codes: Path | None, given: Beside) -> Documents:
    """Of a file of dense vectors, with the ids and payloads that stand beside them.

    `codes`: a folder with the sparse vectors of the same documents, such as `fit --refine` made; without it the encoder
    makes them. Raises InvalidInput for a folder of other documents, WrongSpace for one of another encoder.
    """
    found = read_table(path)
    rows, n = found.rows, len(found.rows)
    dense_rows(rows[:0], encoder.input_dim, printable(path))  # its width; each row is judged when its turn comes
    ids, payloads = beside(given, n, found)
    blocks = [slice(start, start + _BLOCK) for start in range(0, n, _BLOCK)]
    if codes is None:
        made = ((encoder.encode_each(rows[block]), rows[block]) for block in blocks)
    else:
        vectors = SparseVectors.load(codes, mmap=True)
        check_space(vectors, encoder.fingerprint)
        if len(vectors) != n:
            raise InvalidInput(f"{printable(codes)} holds {len(vectors):,} documents, {printable(path)} {n:,}")
        made = ((Encoded(vectors[block], encoder.document_faults(rows[block])), rows[block]) for block in blocks)
    return _encoded(encoder, n, made, ids, payloads)


def beside(given: Beside, n: int, found: DenseFile | None = None) -> tuple[Sequence[Id], Iterable[Any] | None]:
    """The ids and payloads of n documents: those of the files that are given, else those that stand with them."""
    ids = found.ids if found is not None and given.ids is None else None
    if given.payloads is not None:
        payloads: Iterable[Any] | None = read_objects(given.payloads)
    else:
        payloads = None if found is None else found.payloads
    return read_ids(given.ids, n) if ids is None else ids, payloads


def _encoded(
    encoder: SparseEncoder,
    n: int,
    made: Iterator[tuple[Encoded, Any]],
    ids: Iterable[Id],
    payloads: Iterable[Any] | None,
) -> Documents:
    """With their residual codes, where the model has some."""
    width, codes = encoder.residual_bytes, None
    if width is not None:  # a second reader that reads nothing would keep all of it
        made, again = tee(made)
        codes = partial(_codes, encoder, again)
    vectors = (encoded for encoded, _ in made)
    return Documents(n, encoder.output_dim, encoder.fingerprint, width, ids, vectors, payloads, codes)


def _codes(encoder: SparseEncoder, made: Iterator[tuple[Encoded, Any]], adapter: Adapter) -> Iterator[Any]:
    for encoded, rows in made:
        yield from encoder.residual_codes(rows, adapter.stored(encoded.vectors), faults=encoded.faults)


def _ids(path: Path, n: int) -> list[Id]:
    """The ids of objects, all of which have one; the numbers of the lines where none has."""
    found: list[Any] = [line.get("id") for line in read_objects(path)]
    lacking = sum(id_ is None for id_ in found)
    if 0 < lacking < n:
        raise InvalidInput(f"{lacking} of {n} lines of {path} have no id: expected one in each, or in none")
    return list(range(n)) if lacking else found
