"""`Segment`: some documents as they were at one time, never changed, in memory or mapped from a folder.

A write makes a new small segment, and says which rows of older ones it stands for; a merge makes one of several.

Of a folder that is mapped everything is checked that could end the process: the header, the length and type of each
file, and all that says where something begins and ends. That is a hundredth of the bytes. A bit that fell over in a
weight, a posting, a key or a payload is not seen, as little as a wrong byte in the documents themselves would be:
answers may then be wrong. Without the folder it is made again from the documents, so who doubts it deletes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sparsevec.arrays import frozen
from sparsevec.exact.local.columns import Columns
from sparsevec.exact.local.texts import Texts
from sparsevec.postings import Mask
from sparsevec.postings.blocks import LOOPS, BlockLists, Lists, are_ends
from sparsevec.storage import whole_folder
from sparsevec.vectors import SparseVectors, UInt8s

__all__ = ["Row", "Segment", "Sizes"]

_FORMAT = "sparsevec.segment/1"
_HEADER = "header.json"
_TYPES = {
    "key_ends": ("i8",),
    "keys": ("u1",),
    "payload_ends": ("i8",),
    "payloads": ("u1",),
    "indptr": ("i4", "i8"),
    "indices": ("i4", "u4"),
    "values": ("f4",),
    "starts": ("u4",),
    "bases": ("i8",),
    "numbers": ("u2",),
    "weights": ("f4",),
    "dimensions": ("i4", "u4", "i8"),
    "codes": ("u1",),
}


class Row(NamedTuple):
    """A document as the file has it."""

    key: bytes
    """of the id; keys ascend as ids do"""
    indices: bytes
    weights: bytes
    payload: bytes
    code: bytes
    """empty in a collection without"""


class Sizes(NamedTuple):
    """Of some rows together: how many, and the bytes of each of their columns."""

    rows: int
    keys: int
    indices: int
    weights: int
    payloads: int
    codes: int

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Sizes:
        return cls(len(rows), *(sum(map(len, column)) for column in zip(*rows, strict=True)))


class Segment:
    """n documents in ascending order of their keys."""

    def __init__(
        self, keys: Texts, vectors: SparseVectors, payloads: Texts, codes: UInt8s | None, lists: Lists | None = None
    ) -> None:
        self.keys, self.vectors, self.payloads, self.codes = keys, vectors, payloads, codes
        self.lists = BlockLists(vectors, lists)
        LOOPS.load()

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def columns(self) -> Columns:
        """For filters."""
        return Columns(self.payloads)

    @cached_property
    def numbers(self) -> npt.NDArray[np.uint64] | None:
        """The ids (n,) where all are ints: a view of the keys, 9 bytes each. Strings stand behind ints, so the last
        key tells."""
        n = len(self)
        return np.ndarray((n,), ">u8", self.keys.content, 1, (9,)) if n and self.keys[n - 1][:1] == b"i" else None

    @classmethod
    def of_rows(cls, chunks: Iterable[Sequence[Row]], sizes: Sizes, dimension: int, code_bytes: int | None) -> Segment:
        """Of rows in ascending order of their keys, `sizes` in all: some at a time, so that few are Python objects at
        once, into arrays that are there already, so that nothing is held twice."""
        columns = [_Column(sizes.rows, size) for size in sizes[1:]]
        for rows in chunks:
            for column, cells in zip(columns, zip(*rows, strict=True), strict=True):
                column.add(cells)
        keys, indices, weights, payloads, codes = (column.texts() for column in columns)
        dimensions = frozen(indices.content).view(np.int32 if dimension <= 2**31 else np.uint32)
        vectors = SparseVectors(indices.ends // 4, dimensions, frozen(weights.content).view(np.float32), dimension)
        table = None if code_bytes is None else codes.content.reshape(sizes.rows, code_bytes)
        return cls(keys, vectors, payloads, table)

    @classmethod
    def merged(cls, segments: Sequence[Segment], alive: Sequence[Mask | None]) -> Segment:
        """Of those documents of several segments that are alive. Raises InvalidVectors when a mapped one is damaged."""
        parts = [segment._some(mask) for segment, mask in zip(segments, alive, strict=True)]
        keys = [key for part in parts for key in part[0]]
        order = np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)
        given = SparseVectors.concat([part[1] for part in parts])[order]
        vectors = SparseVectors(given.indptr, given.indices, given.values, given.dimension)  # which checks
        payloads = _joined([part[2] for part in parts]).some(order)
        codes = [part[3] for part in parts if part[3] is not None]
        return cls(Texts.of(keys[i] for i in order), vectors, payloads, np.concatenate(codes)[order] if codes else None)

    def _some(self, mask: Mask | None) -> tuple[Texts, SparseVectors, Texts, UInt8s | None]:
        if mask is None:
            return self.keys, self.vectors, self.payloads, self.codes
        rows = np.flatnonzero(mask)
        codes = None if self.codes is None else self.codes[rows]
        return self.keys.some(rows), self.vectors[rows], self.payloads.some(rows), codes

    # ---- on disk

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        vectors = self.vectors
        texts = {"key_ends": self.keys.ends, "keys": self.keys.content}
        texts |= {"payload_ends": self.payloads.ends, "payloads": self.payloads.content}
        forward = {"indptr": vectors.indptr, "indices": vectors.indices, "values": vectors.values}
        codes = {} if self.codes is None else {"codes": self.codes}
        return {**texts, **forward, **self.lists.lists._asdict(), **codes}

    def save(self, folder: Path) -> None:
        """All of it or nothing; raises StorageFailed."""

        def fill(new: Path) -> None:
            sizes = {}
            for name, array in self._arrays().items():
                (new / name).write_bytes(np.ascontiguousarray(array).data)  # whose end tofile() loses in silence
                sizes[name] = (array.dtype.str, array.shape)
            header = {"format": _FORMAT, "dimension": self.vectors.dimension, "arrays": sizes}
            (new / _HEADER).write_text(json.dumps(header))

        whole_folder(folder, fill)

    @classmethod
    def mapped(cls, folder: Path, dimension: int, code_bytes: int | None) -> Segment:
        """What `save` wrote of a collection, left on disk and paged in as it is touched.

        Raises ValueError, TypeError, KeyError or OSError when it is not whole.
        """
        header = json.loads((folder / _HEADER).read_text())
        if (found := (header["format"], header["dimension"])) != (_FORMAT, dimension):
            raise ValueError(f"expected {_FORMAT} of dimension {dimension}, found {found}")
        names = [name for name in _TYPES if name != "codes" or code_bytes is not None]
        arrays = {name: _map(folder / name, *header["arrays"][name]) for name in names}
        if fault := _fault(arrays, code_bytes):
            raise ValueError(fault)
        lists = Lists(*(arrays[name] for name in Lists._fields))
        forward = arrays["indptr"], arrays["indices"], arrays["values"]  # checked before they were saved
        vectors = SparseVectors._made(*forward, dimension, None)
        keys = Texts(arrays["key_ends"], arrays["keys"])
        return cls(keys, vectors, Texts(arrays["payload_ends"], arrays["payloads"]), arrays.get("codes"), lists)


class _Column:
    """One column of n rows, `size` bytes in all, that is filled from the front."""

    def __init__(self, n: int, size: int) -> None:
        self._ends, self._content = np.zeros(n + 1, np.int64), np.empty(size, np.uint8)
        self._row = self._end = 0

    def add(self, cells: Sequence[bytes]) -> None:
        joined = b"".join(cells)
        self._ends[self._row + 1 : self._row + 1 + len(cells)] = [len(cell) for cell in cells]
        self._content[self._end : self._end + len(joined)] = np.frombuffer(joined, np.uint8)
        self._row, self._end = self._row + len(cells), self._end + len(joined)

    def texts(self) -> Texts:
        return Texts(np.cumsum(self._ends, out=self._ends), self._content)


def _joined(several: Sequence[Texts]) -> Texts:
    lengths = np.concatenate([np.diff(texts.ends) for texts in several])
    return Texts(np.concatenate(([0], np.cumsum(lengths))), np.concatenate([texts.content for texts in several]))


def _map(path: Path, dtype: str, shape: list[int]) -> npt.NDArray[Any]:
    if (
        np.dtype(dtype) not in map(np.dtype, _TYPES[path.name])
        or len(shape) != 1 + (path.name == "codes")
        or {*map(type, shape)} != {int}
    ):
        raise ValueError(f"{path.name} is of type {dtype} and shape {shape}")
    expected = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if (found := path.stat().st_size) != expected:
        raise ValueError(f"{path.name} has {found} bytes, expected {expected}")
    if not expected:
        return np.empty(shape, dtype)
    return np.memmap(path, np.dtype(dtype), "r", shape=tuple(shape)).view(np.ndarray)


def _fault(arrays: Mapping[str, npt.NDArray[Any]], code_bytes: int | None) -> str | None:
    """What of the arrays of a folder is not so, and might end the process that works with them; None for nothing."""
    n, nnz = len(arrays["indptr"]) - 1, len(arrays["values"])
    for ends, content in (("key_ends", "keys"), ("payload_ends", "payloads"), ("indptr", "indices")):
        if len(arrays[ends]) != n + 1 or not are_ends(arrays[ends], len(arrays[content])):
            return f"{ends} do not say where {content} end"
    if len(arrays["indices"]) != nnz or (code_bytes is not None and arrays["codes"].shape != (n, code_bytes)):
        return "values or codes are not all there"
    keys = arrays["keys"]
    if n and keys[arrays["key_ends"][n - 1] :][:1].tobytes() == b"i" and len(keys) != 9 * n:
        return "the keys are not those of numbers"
    return Lists(*(arrays[name] for name in Lists._fields)).fault(n, nnz)
