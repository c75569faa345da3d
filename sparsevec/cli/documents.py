"""What `index` writes: a folder of sparse vectors, or a file of texts that a model encodes on the way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import tee
from pathlib import Path
from typing import Any, NamedTuple

from sparsevec.cli.texts import read_texts
from sparsevec.contract.adapter import Adapter
from sparsevec.contract.checks import Id
from sparsevec.encoder import SparseEncoder
from sparsevec.errors import InvalidInput
from sparsevec.files import read_ids, read_objects
from sparsevec.integrations.embedders import embedded, named
from sparsevec.vectors import SparseVectors

__all__ = ["Documents", "of_texts", "of_vectors"]


class Documents(NamedTuple):
    """What `ingest` takes, and how many there are. `fingerprint` and `dimension` are those of the vectors."""

    n: int
    dimension: int
    fingerprint: str | None
    ids: Iterable[Id]
    vectors: SparseVectors | Iterator[SparseVectors]
    payloads: Iterable[Any] | None
    codes: Iterator[Any] | None = None


def of_vectors(folder: Path, ids: Path | None, payloads: Path | None) -> Documents:
    """Of a folder that `encode` wrote; read as it is needed."""
    vectors = SparseVectors.load(folder, mmap=True)
    beside = None if payloads is None else read_objects(payloads)
    return Documents(len(vectors), vectors.dimension, vectors.fingerprint, read_ids(ids, len(vectors)), vectors, beside)


def of_texts(
    path: Path, adapter: Adapter, model: Path, embedder: str, field: str, ids: Path | None, payloads: Path | None
) -> Documents:
    """Of a file of texts, embedded and encoded a batch at a time, while `ingest` writes the batch before.

    A document's payload is its object, or its line as `text`; its id the object's `id`, where there is one. Raises
    InvalidInput for a line without a text, before anything is embedded, and what `embedded` raises in the middle.
    """
    encoder, objects = SparseEncoder.load(model), path.suffix in (".jsonl", ".ndjson")
    n = sum(1 for _ in read_texts(path, field))
    coded = adapter.info().code_bytes is not None
    dense = (rows for _, rows in embedded(read_texts(path, field), named(embedder)))
    made, again = tee((encoder.encode_document(rows), rows) for rows in dense)
    if payloads is not None or objects:
        beside: Iterable[Any] = read_objects(payloads or path)
    else:
        beside = ({"text": line} for line in read_texts(path, field))
    return Documents(
        n,
        encoder.output_dim,
        encoder.fingerprint,
        _ids(path, n) if ids is None and objects else read_ids(ids, n),
        (vectors for vectors, _ in made),
        beside,
        (code for vectors, rows in again for code in encoder.residual_codes(rows, adapter.stored(vectors)))
        if coded
        else None,
    )


def _ids(path: Path, n: int) -> list[Id]:
    """The ids of objects, all of which have one; the numbers of the lines where none has."""
    found: list[Any] = [line.get("id") for line in read_objects(path)]
    lacking = sum(id_ is None for id_ in found)
    if 0 < lacking < n:
        raise InvalidInput(f"{lacking} of {n} lines of {path} have no id: expected one in each, or in none")
    return list(range(n)) if lacking else found
