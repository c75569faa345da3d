"""`check`: everything that would go wrong, or that one should know, before a collection gets sparse vectors."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np

from sparsevec.contract.adapter import Adapter, Finding, Info
from sparsevec.errors import AdapterError, InvalidInput
from sparsevec.live.opening import opened
from sparsevec.live.rows import DenseSource, Widths, named, pages_of

__all__ = ["check"]

_SAMPLE = 500  # documents whose dense rows are looked at


def check(where: str | Adapter, *, dense_field: DenseSource | None = None, **credentials: Any) -> list[Finding]:
    """Look, and touch nothing: what is fine, what one should know, and what is in the way.

    Of the engine, the collection and what is around it (versions, mapping, `_source`, pipelines, routing, aliases,
    blocks, limits, disk, privileges, strict mode); and of the dense rows in `dense_field`, or in the one field that is
    declared to hold them, by a few hundred documents. Raises BackendDown, and what `connect` raises.
    """
    with opened(where, credentials) as adapter:
        found = adapter.check()
        if any(one.level == "blocking" for one in found):
            return found
        info = adapter.info()
        return [*found, *_of_dense(adapter, info, dense_field)]


def _of_dense(adapter: Adapter, info: Info, asked: DenseSource | None) -> Iterator[Finding]:
    if asked is None and len(info.dense) != 1:
        names = ", ".join(map(repr, sorted(info.dense))) or "none declared"
        advice = "name the one to make sparse vectors from with dense_field=" if info.dense else ""
        yield Finding("fine", "dense rows", f"fields or vectors with dense rows: {names}", advice)
        return
    dense = asked if asked is not None else next(iter(info.dense))
    try:
        yield from _of_rows(adapter, dense, named(dense))
    except (AdapterError, InvalidInput) as error:
        reason, _, advice = str(error).partition("; ")
        yield Finding("blocking", "dense rows", reason, advice or "name another field with dense_field=")


def _of_rows(adapter: Adapter, dense: DenseSource, name: str) -> Iterator[Finding]:
    seen, odd = Widths(), 0
    for page in islice(pages_of(adapter, dense, size=_SAMPLE), 1):
        assert page.dense is not None
        for id_, row in zip(page.ids, page.dense, strict=True):
            if seen.see(row, id_):
                odd += not np.isfinite(row).all() or not row.any()
    looked, without = seen.looked, seen.without
    if not looked:
        yield Finding("fine", "dense rows", "there are no documents yet")
    elif not seen.counts:
        advice = "name the field or vector that holds them with dense_field="
        yield Finding("blocking", "dense rows", f"none of {looked:,} documents looked at has a row in {name}", advice)
    elif len(seen.counts) > 1:
        advice = "one encoder takes one width: make the rows anew with one model"
        yield Finding("blocking", "dense rows", f"rows in {name} differ in width: {seen}", advice)
    elif without + odd:
        told = f"of {looked:,} documents looked at {without:,} have no row in {name}, and {odd:,} one that is zero"
        advice = "these get no sparse vector and are found by no query; the report of a retrofit names them"
        level = "blocking" if odd == looked - without else "warning"
        yield Finding(level, "dense rows", told, advice)  # type: ignore[arg-type]
    else:
        width = next(iter(seen.counts))
        yield Finding("fine", "dense rows", f"all {looked:,} documents looked at have a row of {width} in {name}")
