"""What an adapter gives back: hits, documents, pages, what became of a write, and what a backend says of itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from sparsevec.contract.capabilities import Capabilities
from sparsevec.contract.checks import Id, Payload
from sparsevec.errors import printable
from sparsevec.vectors import Float32s, Int64s, SparseVectors, UInt8s

__all__ = [
    "DenseField",
    "Documents",
    "Failure",
    "Finding",
    "Hit",
    "Hits",
    "Info",
    "Missing",
    "Page",
    "Version",
    "Written",
]

Version: TypeAlias = str
"""Of a document, as the backend tells it: to be given back, not to be read."""

Missing: TypeAlias = Literal["fail", "skip", "create"]
"""What a write does with an id that is not there (C17)."""


class Hit(NamedTuple):
    """One document of an answer."""

    id: Id
    score: float
    payload: Payload | None


@dataclass(frozen=True, slots=True, eq=False)
class Hits(Sequence[Hit]):
    """The answer to one query, best first: a sequence of `Hit`, or column by column.

    `ids` (m,), `scores` (m,) float32; what was not asked for is None. Equal when all of it is.
    """

    ids: tuple[Id, ...]
    scores: Float32s
    payloads: tuple[Payload, ...] | None = None
    vectors: SparseVectors | None = None
    """as the backend keeps them, (m, dimension)"""
    codes: UInt8s | None = None
    """(m, code_bytes)"""
    after: str | None = None
    """to go on behind these hits: `search(query, after=hits.after)`; None behind the last (C21)"""

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, key: int) -> Hit: ...
    @overload
    def __getitem__(self, key: slice) -> Hits: ...
    def __getitem__(self, key: int | slice) -> Hit | Hits:
        if isinstance(key, slice):
            return self.rows(np.arange(len(self))[key])
        return Hit(self.ids[key], float(self.scores[key]), None if self.payloads is None else self.payloads[key])

    def rows(self, rows: Int64s) -> Hits:
        """Those hits, in that order."""
        order: list[int] = rows.tolist()
        return Hits(
            ids=tuple([self.ids[row] for row in order]),
            scores=self.scores[rows],
            payloads=None if self.payloads is None else tuple([self.payloads[row] for row in order]),
            vectors=None if self.vectors is None else self.vectors[rows],
            codes=None if self.codes is None else self.codes[rows],
        )

    def __iter__(self) -> Iterator[Hit]:
        payloads = self.payloads if self.payloads is not None else (None,) * len(self.ids)
        return map(Hit, self.ids, self.scores.tolist(), payloads)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Hits):
            return NotImplemented
        same = self.ids == other.ids and self.payloads == other.payloads and self.vectors == other.vectors
        codes = (self.codes is None) == (other.codes is None) and np.array_equal(self.codes, other.codes)  # type: ignore[arg-type]
        return same and codes and np.array_equal(self.scores, other.scores)

    __hash__ = None  # type: ignore[assignment]  # equality looks at every score


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an id was not written. `retryable`: the backend was busy, the same write may succeed later.

    `kind`: "missing" is an id that is not there, in a collection of others; "stale" one that changed since the version
    that was given; "refused" everything else.
    """

    reason: str
    retryable: bool = False
    kind: Literal["refused", "missing", "stale"] = "refused"


@dataclass(frozen=True, slots=True)
class Written:
    """What became of each id of one write; the three parts add up to what was given (C9)."""

    written: tuple[Id, ...] = ()
    skipped: Mapping[Id, str] = field(default_factory=dict)
    failed: Mapping[Id, Failure] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Documents:
    """What `fetch` found: `ids` in the order asked for, unknown ones left out; vectors and payloads to match."""

    ids: tuple[Id, ...]
    vectors: SparseVectors
    payloads: tuple[Payload, ...]
    dense: tuple[Float32s | None, ...] | None = None
    """the dense row of each, (d,), None where it has none; None when it was not asked for"""
    codes: UInt8s | None = None
    """(m, code_bytes), zeros where there is none; None in a collection that keeps none (C19)"""


@dataclass(frozen=True, slots=True)
class Page:
    """Some documents of a `scan`, n of them. What was not asked for, or the backend does not have, is None."""

    ids: tuple[Id, ...]
    after: str | None
    """to go on behind this page: `scan(after=page.after)`; None behind the last"""
    holds: npt.NDArray[np.bool_] | None = None
    """which of them have a vector of ours, (n,)"""
    vectors: SparseVectors | None = None
    """empty rows where there is none"""
    payloads: tuple[Payload, ...] | None = None
    dense: tuple[Float32s | None, ...] | None = None
    """the dense row of each, (d,), None where it has none"""
    routing: tuple[str | None, ...] | None = None
    versions: tuple[Version, ...] | None = None
    codes: UInt8s | None = None
    """(n, code_bytes), zeros where there is none"""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def held(self) -> list[Id]:
        """The ids of those that have a vector of ours."""
        return list(self.ids) if self.holds is None else [self.ids[row] for row in np.flatnonzero(self.holds)]


@dataclass(frozen=True, slots=True)
class DenseField:
    """A field or vector of a collection that holds dense rows, as its mapping says."""

    dimension: int | None
    """columns of a row; None when the mapping leaves that to the first document"""
    similarity: str
    """in the engine's own words: `cosine`, `Dot`, `l2_norm`, ..."""


@dataclass(frozen=True, slots=True)
class Info:
    """What a backend says of itself and of the collection, now."""

    backend: str
    """engine and version, for reports: `elasticsearch 9.5.3`"""
    capabilities: Capabilities
    exists: bool
    """whether the collection is there and has our vector"""
    ours: bool = True
    """whether `create` made the collection; False: it was there, and others' documents live in it"""
    dimension: int | None = None
    """None when it is not there, or was made by others and does not say"""
    fingerprint: str | None = None
    """of the space that its vectors live in; None when they are foreign (C18)"""
    identity: str | None = None
    """made by `create`, so that a journal knows its collection again; None where others made the vector"""
    dense: Mapping[str, DenseField] = field(default_factory=dict)
    """by name, what is declared to hold dense rows; rows that lie in payloads are declared nowhere"""
    code_bytes: int | None = None
    """of a residual code, which every document has beside its vector; None where there are none (C19)"""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that `check` looked at: whether it is in the way of our writes and searches, and what to do."""

    level: Literal["fine", "warning", "blocking"]
    subject: str
    """a word or two: `version`, `pipelines`, `routing`"""
    found: str
    advice: str = ""
    """empty where it is fine"""

    def __str__(self) -> str:
        return printable(f"{self.level:<8} {self.subject}: {self.found}{self.advice and '; '}{self.advice}")
