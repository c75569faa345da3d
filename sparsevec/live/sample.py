"""A sample of the dense rows that a collection holds, and what is wrong with them, before anything is changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sparsevec.contract.adapter import Adapter, DenseField, Info
from sparsevec.contract.checks import Id
from sparsevec.dense import row_fault
from sparsevec.encoder import SparseEncoder
from sparsevec.errors import InvalidInput
from sparsevec.live.folder import Note
from sparsevec.live.rows import DenseSource, Widths, faults_of, named, pages_of, source_name
from sparsevec.vectors import Float32s

__all__ = ["Sample", "dense_source", "drawn", "noted_source"]

_READ = 10  # documents that are read for each row of a sample, at most: the rest of a large collection is not


@dataclass(frozen=True, slots=True)
class Sample:
    """n dense rows of `looked` documents."""

    ids: tuple[Id, ...]
    rows: Float32s
    """(n, width)"""
    looked: int
    without: int
    """of these had no row"""
    whole: bool
    """the collection has no more documents than were looked at"""
    faults: Mapping[Id, str]
    """of rows that cannot be encoded"""

    @property
    def width(self) -> int:
        return int(self.rows.shape[1])


def dense_source(info: Info, asked: DenseSource | None) -> DenseSource:
    """Where the dense rows are. Raises InvalidInput when nobody said, and there are none or several."""
    if asked is not None and not isinstance(asked, str) and not callable(asked):
        raise InvalidInput(f"dense_field must be a name, or a function of a document, found {asked!r:.80}")
    if asked is not None:
        return asked
    if len(info.dense) == 1:
        return next(iter(info.dense))
    if not info.dense:
        perhaps = "is not there, or " if info.ours and not info.exists else ""
        raise InvalidInput(
            f"the collection {perhaps}declares no field or vector with dense rows; if they lie in a payload field, "
            "name it with dense_field="
        )
    raise InvalidInput(f"the collection has dense rows in {sorted(info.dense)}; name one with dense_field=")


def noted_source(info: Info, asked: DenseSource | None, note: Note | None) -> DenseSource:
    """Where the dense rows of our field are, which its `note` says where there is one. Raises InvalidInput where they
    were elsewhere when it was filled: documents would get codes of other rows, or lose theirs for want of one."""
    if note is None:
        return dense_source(info, asked)
    if asked is None and note.made:
        raise InvalidInput(f"{note.place} was filled by the function {note.dense!r}; give it again as dense_field=")
    dense = dense_source(info, note.dense if asked is None else asked)
    if note.dense != source_name(dense):
        raise InvalidInput(
            f"{note.place} was filled from {note.dense!r}, this call names {source_name(dense)!r}; undo it first, or "
            f"name another field for the vectors of that one"
        )
    return dense


def drawn(
    adapter: Adapter, dense: DenseSource, most: int, *, encoder: SparseEncoder | None = None, seed: int = 0
) -> Sample:
    """At most `most` rows, each document that was looked at as likely as any other (reservoir sampling, Vitter 1985,
    algorithm R). Of a collection larger than ten times that, only so many documents are looked at.

    Raises InvalidInput when no document has a row, when rows differ in width, or are not of the `encoder`'s width.
    """
    rng = np.random.default_rng(seed)
    ids: list[Id] = []
    rows: list[Float32s] = []
    faults: dict[Id, str] = {}
    seen, good, whole = Widths(), 0, True
    for page in pages_of(adapter, dense):
        assert page.dense is not None
        faults |= faults_of(page)
        for id_, row in zip(page.ids, page.dense, strict=True):
            if not seen.see(row, id_):
                continue
            if fault := row_fault(row, len(row)):
                faults[id_] = fault
                continue
            good += 1
            if len(rows) < most:
                ids.append(id_)
                rows.append(row)
            elif (place := int(rng.integers(good))) < most:
                ids[place], rows[place] = id_, row
        if seen.looked >= _READ * most:
            whole = page.after is None
            break
    _check(dense, seen, encoder.input_dim if encoder else None, faults)
    if isinstance(dense, str) and (declared := adapter.info().dense.get(dense)) is not None:
        _check_declared(dense, declared, seen)
    if not rows:
        raise InvalidInput(f"all {seen.counts.total()} dense rows are zero or not finite; nothing can be encoded")
    refused = encoder.document_faults(np.stack(rows)) if encoder else {}
    faults |= {ids[row]: fault for row, fault in refused.items()}
    taken = [row for row in range(len(rows)) if row not in refused]
    if not taken:
        raise InvalidInput(f"none of {len(rows):,} dense rows can be encoded; such as {ids[0]!r}: {refused[0]}")
    return Sample(
        tuple(ids[row] for row in taken),
        np.stack([rows[row] for row in taken]),
        seen.looked,
        seen.without,
        whole,
        faults,
    )


def _check(dense: DenseSource, seen: Widths, width: int | None, faults: Mapping[Id, str]) -> None:
    name, widths = named(dense), seen.counts
    if not seen.looked:
        raise InvalidInput("the collection holds no documents; there is nothing to encode")
    if not widths:
        raise InvalidInput(
            f"none of {seen.looked:,} documents has a dense row in {name}; name the field or vector that holds them "
            f"with dense_field= (fields that are left out of _source cannot be read back){_such_as(faults)}"
        )
    if len(widths) > 1:
        raise InvalidInput(f"the dense rows in {name} differ in width: {seen}; one encoder takes one width")
    if width is not None and width not in widths:
        raise InvalidInput(
            f"the encoder takes rows of {width} numbers, and those in {name} have {next(iter(widths))}; it was learned "
            f"from another model's vectors: name another folder with model="
        )


def _such_as(faults: Mapping[Id, str]) -> str:
    return "".join(f"; such as {id_!r}: {fault}" for id_, fault in list(faults.items())[:1])


def _check_declared(name: str, declared: DenseField, seen: Widths) -> None:
    if declared.dimension is not None and declared.dimension not in seen.counts:
        raise InvalidInput(
            f"the rows in {name!r} are declared to hold {declared.dimension} numbers, and come back as "
            f"{next(iter(seen.counts))}: packed bits are no dense rows; name the field with the rows that they are of"
        )
