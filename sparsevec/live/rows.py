"""The dense rows of a page of documents: which can be encoded, and which cannot and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeAlias, TypeGuard

import numpy as np

from sparsevec.contract.adapter import Adapter, Page
from sparsevec.contract.checks import Id, Payload
from sparsevec.encoder import SparseEncoder
from sparsevec.errors import printable
from sparsevec.vectors import Float32s, Int64s

__all__ = [
    "DenseSource",
    "MadePage",
    "Usable",
    "Widths",
    "faults_of",
    "named",
    "pages_of",
    "source_name",
    "usable",
]

DenseSource: TypeAlias = str | Callable[[Payload], Any]
"""A field or vector that holds dense rows, or what makes a row (d,), or None, of a document."""


def pages_of(
    adapter: Adapter, dense: DenseSource, *, vectors: bool = False, after: str | None = None, size: int = 1000
) -> Iterator[Page]:
    """Every page of a collection with its dense rows, and with our vectors when asked for."""
    if isinstance(dense, str):
        yield from adapter.scan(dense=dense, vectors=vectors, after=after, size=size)
        return
    for page in adapter.scan(payloads=True, vectors=vectors, after=after, size=size):
        assert page.payloads is not None  # they were asked for
        made = [_made(dense, payload) for payload in page.payloads]
        rows = tuple(None if isinstance(one, str) else one for one in made)
        faults = {id_: one for id_, one in zip(page.ids, made, strict=True) if isinstance(one, str)}
        columns = {column.name: getattr(page, column.name) for column in fields(Page)}
        yield MadePage(**{**columns, "dense": rows, "payloads": None}, faults=faults)


@dataclass(frozen=True, slots=True)
class MadePage(Page):
    """A page whose dense rows a function has made."""

    faults: Mapping[Id, str] = field(default_factory=dict)
    """of documents that it made no row of, and why"""


def _made(dense: Callable[[Payload], Any], payload: Payload) -> Float32s | str | None:
    """The row of one document, or why there is none: what one document holds must not keep others from theirs."""
    try:
        made = dense(payload)
        row = None if made is None else np.asarray(made, np.float32)
    except Exception as error:
        return f"dense_field makes no row of it: {type(error).__name__}: {printable(error, 200)}"
    if row is not None and row.ndim != 1:
        return f"dense_field makes of each document a row (d,) or None, found shape {row.shape}"
    return row


@dataclass(slots=True)
class Widths:
    """How wide the dense rows are that were looked at."""

    looked: int = 0
    without: int = 0
    """documents that have no row"""
    counts: Counter[int] = field(default_factory=Counter)
    first: dict[int, Id] = field(default_factory=dict)
    """the first document of each width"""

    def see(self, row: Float32s | None, id_: Id) -> TypeGuard[Float32s]:
        """Count one document; whether it has a row."""
        self.looked += 1
        if row is None:
            self.without += 1
            return False
        self.counts[len(row)] += 1
        self.first.setdefault(len(row), id_)
        return True

    def __str__(self) -> str:
        each = (f"{count:,} of {width} numbers (such as {self.first[width]!r})" for width, count in self.counts.items())
        return ", ".join(each)


def source_name(dense: DenseSource) -> str:
    """A source of dense rows, in a report and in what is kept."""
    return dense if isinstance(dense, str) else getattr(dense, "__qualname__", repr(dense))


def named(dense: DenseSource) -> str:
    """A source of dense rows, in a message."""
    return repr(dense) if isinstance(dense, str) else "the function given"


@dataclass(frozen=True, slots=True)
class Usable:
    """What can be encoded of a page of m documents, and why the rest cannot."""

    at: Int64s
    """(u,) positions in the page"""
    rows: Float32s
    """(u, width)"""
    faults: dict[Id, str]
    """of documents with a row that cannot be encoded; one without a row is no fault"""


def usable(page: Page, encoder: SparseEncoder) -> Usable:
    """What `encoder` can encode of a page that was read with its dense rows."""
    assert page.dense is not None  # it was asked for
    held = [position for position, row in enumerate(page.dense) if row is not None]
    refused = encoder.document_faults([page.dense[position] for position in held])
    at = [position for number, position in enumerate(held) if number not in refused]
    rows = np.stack([page.dense[position] for position in at]) if at else np.empty((0, encoder.input_dim), np.float32)  # type: ignore[misc]
    faults = {page.ids[held[number]]: fault for number, fault in refused.items()}
    return Usable(np.array(at, np.int64), rows, faults_of(page) | faults)


def faults_of(page: Page) -> dict[Id, str]:
    """Of documents that no row could be made of."""
    return dict(page.faults) if isinstance(page, MadePage) else {}
