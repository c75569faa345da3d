"""`Codes`: which code a dense row is to have, a pure function of the row, also where the corpus was refined.

The head makes a code of any row. `refine` makes a better one of each row that it saw, together. Which rows these were
is kept beside the encoder, by what the *head* makes of them: eight bytes each, of its code cut to nine significant
bits, which is the least that a backend keeps. So a row has its refined code for as long as the head says of it what it
said then, whichever document it is in, and otherwise what `encode_document` gives a newcomer; a document that lost its
vector gets the refined one back; and nothing of this lies in the collection, where it would have to be hidden, guarded
and taken out again.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsevec.contract.checks import check_vectors
from sparsevec.contract.copies import marks_of
from sparsevec.dense import dense_rows
from sparsevec.encoder import SparseEncoder
from sparsevec.errors import InvalidVectors, ModelBroken, WrongSpace, printable
from sparsevec.storage import as_path, storage_errors, whole_folder, write_array
from sparsevec.vectors import Float32s, SparseVectors

__all__ = ["Codes", "code_fingerprints", "keep_refined", "nine_bits", "places"]

_FOLDER, _KEYS, _CODES = "refined", "keys.npy", "codes"
_READ = 10_000  # rows encoded at a time

UInt64s = npt.NDArray[np.uint64]


class Codes:
    """Of one encoder, and of what was refined with it: `keys` (r,) in ascending order, and the code of each."""

    def __init__(self, encoder: SparseEncoder, keys: UInt64s | None = None, refined: SparseVectors | None = None):
        self.encoder = encoder
        self._keys, self._refined = keys, refined

    def __len__(self) -> int:
        """Rows that have a refined code."""
        return 0 if self._keys is None else len(self._keys)

    def of(self, rows: Float32s) -> SparseVectors:
        """The codes of dense rows (n, input_dim)."""
        if self._keys is None or self._refined is None or not len(self._keys) or not len(rows):
            return self.encoder.encode_document(rows)
        at, there = places(self._keys, _keys(self.encoder.encode_document(rows, weights="head")))
        known, later = np.flatnonzero(there), np.flatnonzero(~there)
        order = np.empty(len(rows), np.int64)
        order[np.concatenate([known, later])] = np.arange(len(rows))
        return SparseVectors.concat([self._refined[at[known]], self.encoder.encode_document(rows[later])])[order]

    @classmethod
    def load(cls, folder: Path, encoder: SparseEncoder) -> Codes:
        """Raises ModelBroken for what `keep_refined` did not write, WrongSpace for that of another encoder."""
        kept = folder / _FOLDER
        if not kept.exists():
            return cls(encoder)
        try:
            keys = np.load(kept / _KEYS, allow_pickle=False, mmap_mode="r")
            refined = SparseVectors.load(kept / _CODES, mmap=True)
        except (OSError, ValueError, EOFError, InvalidVectors) as error:
            raise ModelBroken(f"{printable(kept)} is not what refining writes ({error}); refine again") from error
        if keys.dtype != np.uint64 or keys.shape != (len(refined),):
            raise ModelBroken(f"{printable(kept)} has {keys.shape} keys for {len(refined)} codes; refine again")
        if refined.fingerprint != encoder.fingerprint:
            raise WrongSpace(
                f"{printable(kept)} holds codes of the encoder {refined.fingerprint}, the folder's is "
                f"{encoder.fingerprint}; refine again, or remove {printable(kept)}"
            )
        return cls(encoder, keys, refined)


def keep_refined(model: str | os.PathLike[str], dense: Any, documents: SparseVectors) -> int:
    """Keep which dense rows (n, input_dim) have which refined codes, for every retrofit and catch-up with `model`.

    For a collection that was filled by hand with what `refine` gave: `model` is the folder that the encoder was saved
    to, `documents` its codes of `dense`, row by row. Gives how many different rows there are. Raises InvalidVectors
    when there are not as many rows as codes, WrongSpace for codes of another encoder, StorageFailed.
    """
    folder = as_path(model, "model")
    encoder = SparseEncoder.load(folder)
    rows = dense_rows(dense, encoder.input_dim, zeros=True)  # which may be among them is the encoder's to say
    check_vectors(documents, "documents")
    if len(rows) != len(documents):
        raise InvalidVectors(f"expected a code of each dense row, {len(rows)}, found {len(documents)}")
    if documents.fingerprint != encoder.fingerprint:
        raise WrongSpace(
            f"the codes are of the encoder {documents.fingerprint}, that in {printable(folder)} is "
            f"{encoder.fingerprint}; save the encoder that refined them"
        )
    starts = range(0, len(rows), _READ)
    found = [_keys(encoder.encode_document(rows[start : start + _READ], weights="head")) for start in starts]
    keys, first = np.unique(np.concatenate(found) if found else np.empty(0, np.uint64), return_index=True)

    def fill(new: Path) -> None:
        with storage_errors(new):
            write_array(new / _KEYS, keys)
        documents[first].save(new / _CODES)

    whole_folder(folder / _FOLDER, fill)
    return len(keys)


def _keys(head: SparseVectors) -> UInt64s:
    return code_fingerprints(head, nine_bits(head.values))


def nine_bits(values: Float32s) -> Float32s:
    """Cut to nine significant bits, as Lucene keeps weights: what is off by less than that is the same."""
    cut: Float32s = (np.ascontiguousarray(values, np.float32).view(np.uint32) >> 15 << 15).view(np.float32)
    return cut


def code_fingerprints(vectors: SparseVectors, values: Float32s | None = None) -> UInt64s:
    """Eight bytes for each of n vectors, (n,): equal for equal vectors, different for different ones but by accident.

    `values`: to take instead of the vectors' own.
    """
    ends: Sequence[int] = vectors.indptr.tolist()
    weights = (vectors.values if values is None else values).astype("<f4", copy=False)
    indices = vectors.indices.astype("<u4", copy=False)
    return marks_of(indices[start:end].tobytes() + weights[start:end].tobytes() for start, end in pairwise(ends))


def places(known: UInt64s, asked: UInt64s) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Where each of `asked` (n,) stands in `known`, in ascending order and not empty, and whether it stands there."""
    at = np.minimum(np.searchsorted(known, asked), len(known) - 1)
    return at, known[at] == asked
