"""Several collections at once, by a pattern or by an alias that stands for them: one encoder, one report.

    sv.retrofit_each("elasticsearch://HOST:9200/products-*?field=sparse", dense_field="emb", model="model/")

Each is done as if it had been named alone, one after the other, so everything said of one holds of each. An index that
is new to the pattern, as of every day, gets its field with the next `catch_up_each`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from pydantic import BaseModel, ConfigDict

from sparsevec.contract.checks import check_seed
from sparsevec.contract.connect import connect
from sparsevec.contract.urls import Url
from sparsevec.encoder import Budget
from sparsevec.errors import CollectionError, InvalidInput, SparsevecError, printable
from sparsevec.live.beforehand import Lessons
from sparsevec.live.catching_up import catch_up
from sparsevec.live.folder import Folder
from sparsevec.live.opening import USUAL, check_sample, check_urls
from sparsevec.live.reports import CatchUpReport, RetrofitReport
from sparsevec.live.retrofitting import retrofit
from sparsevec.live.rows import DenseSource
from sparsevec.live.sample import Sample, dense_source, drawn
from sparsevec.live.undoing import UndoReport, undo_retrofit
from sparsevec.progress import Listener

__all__ = ["EachReport", "catch_up_each", "collections", "each", "retrofit_each", "undo_each"]

_log = logging.getLogger("sparsevec.live")

One: TypeAlias = RetrofitReport | CatchUpReport | UndoReport


@runtime_checkable
class KnowsNames(Protocol):
    """An adapter whose backend resolves patterns and aliases. Not part of the contract: a folder has no others."""

    def names(self, pattern: str) -> list[str]:
        """Of the collections that `pattern` stands for, in order: names, wildcards, aliases, with commas between."""


class EachReport(BaseModel):
    """What was done to each collection that the name stands for, or to each of two fields of one."""

    model_config = ConfigDict(frozen=True)

    asked: str
    """the url, which holds no secret"""
    reports: tuple[One, ...]
    """in the order of their names"""
    refused: dict[str, str]
    """those that could not be done, with the reason; the others were"""

    @property
    def complete(self) -> bool:
        """No collection was refused, and each of the others is complete."""
        return not self.refused and all(one.complete for one in self.reports)

    def __str__(self) -> str:
        done = f"{self.asked}: {len(self.reports)} done, {len(self.refused)} refused"
        refused = [f"{name}: {printable(reason, 500)}" for name, reason in self.refused.items()]
        return "\n".join([done, *map(str, self.reports), *refused])


def collections(where: str, **credentials: Any) -> list[str]:
    """The urls of every collection that the name in a url stands for; the url itself where it is one.

    Raises CollectionError when a pattern stands for none, and what `connect` raises.
    """
    url = Url.parse(where)
    prefix, slash, pattern = url.path.rpartition("/")
    if not url.hosts or not pattern:
        return [where]
    with connect(str(replace(url, path=f"{prefix}{slash}any")), **credentials) as adapter:
        if not isinstance(adapter, KnowsNames):
            return [where]
        names = adapter.names(pattern)
    if not names:
        raise CollectionError(f"{pattern!r} stands for no collection there; look at its spelling")
    return [str(replace(url, path=f"{prefix}{slash}{name}")) for name in names]


def retrofit_each(
    where: str | Sequence[str],
    *,
    model: str | os.PathLike[str],
    dense_field: DenseSource | None = None,
    budget: Budget | None = None,
    output_dim: int = 8192,
    queries: Any | None = None,
    sample: int = 20_000,
    seed: int = 0,
    on_progress: Listener | None = None,
    credentials: dict[str, Any] | None = None,
    **options: Any,
) -> EachReport:
    """`retrofit` of every collection that `where`, a url, stands for, or of those at several urls, with one encoder in
    `model`.

    Where there is none, it is learned from a sample of all of them together, the same number of rows of each. The
    other arguments are `retrofit`'s; `credentials` are keyword arguments of `connect`. A collection that cannot be done
    is refused with the reason, and the others are done. Raises InvalidInput when dense rows differ in width between
    collections, and what `connect` raises.
    """
    check_sample(sample)
    check_seed(seed)
    secrets = credentials or {}
    urls = _urls(where, secrets)
    with Folder(model).locked(make=True) as folder:
        if not folder.has_encoder():
            rows = _rows_of(urls, dense_field, max(16, sample // len(urls)), seed, secrets)
            lessons = Lessons(budget or USUAL, output_dim, queries, False, seed)
            folder.save(lessons.fitted(rows, on_progress))
    given: dict[str, Any] = {
        "model": model,
        "dense_field": dense_field,
        "sample": sample,
        "seed": seed,
        "on_progress": on_progress,
    }
    return each(where, _named(urls, lambda url: retrofit(url, **given, **options, **secrets)))


def _rows_of(urls: Sequence[str], dense: DenseSource | None, most: int, seed: int, secrets: dict[str, Any]) -> Any:
    """(n, width) rows of all collections together."""
    samples: dict[str, Sample] = {}
    for url in urls:
        with connect(url, **secrets) as adapter:
            samples[url] = drawn(adapter, dense_source(adapter.info(), dense), most, seed=seed)
    if len({sample.width for sample in samples.values()}) > 1:
        widths = ", ".join(f"{sample.width} in {Url.parse(url).path}" for url, sample in samples.items())
        raise InvalidInput(f"dense rows differ in width: {widths}; one encoder takes one: name those of one model")
    return np.concatenate([sample.rows for sample in samples.values()])


def catch_up_each(
    where: str | Sequence[str],
    *,
    model: str | os.PathLike[str],
    dense_field: DenseSource | None = None,
    credentials: dict[str, Any] | None = None,
    **options: Any,
) -> EachReport:
    """`catch_up` with every collection that `where` stands for now; one that is new gets the field as by `retrofit`."""
    secrets = credentials or {}

    def one(url: str) -> One:
        with connect(url, **secrets) as adapter:
            there = adapter.info().exists
        if there:
            return catch_up(url, model=model, dense_field=dense_field, **options, **secrets)
        return retrofit(url, model=model, dense_field=dense_field, **options, **secrets)

    return each(where, _named(_urls(where, secrets), one))


def undo_each(
    where: str | Sequence[str],
    *,
    model: str | os.PathLike[str],
    credentials: dict[str, Any] | None = None,
    **options: Any,
) -> EachReport:
    """`undo_retrofit` of every collection that `where` stands for."""
    secrets = credentials or {}
    urls = _urls(where, secrets)
    return each(where, _named(urls, lambda url: undo_retrofit(url, model=model, **options, **secrets)))


def _urls(where: str | Sequence[str], secrets: dict[str, Any]) -> list[str]:
    if isinstance(where, str):
        return collections(where, **secrets)
    urls = list(where) if isinstance(where, Iterable) else [where]
    check_urls(*urls)
    if not urls:
        raise InvalidInput("expected a url, or several, found none")
    return urls


def _named(urls: list[str], do: Callable[[str], One]) -> dict[str, Callable[[], One]]:
    """By name; where two have one name, as on two servers or of two fields, by url."""
    names = [Url.parse(url).path for url in urls]
    if len(set(names)) < len(names):
        names = urls
    return {name: partial(do, url) for name, url in zip(names, urls, strict=True)}


def each(asked: str | Sequence[str], calls: Mapping[str, Callable[[], One]]) -> EachReport:
    """What every call reports, by the name of what it is done to; one that is refused keeps no other from it."""
    reports, refused = [], {}
    for name, call in calls.items():
        try:
            reports.append(call())
        except SparsevecError as error:
            refused[name] = str(error)
            _log.warning("live %s is refused: %s", name, printable(error, 500))
    asked = asked if isinstance(asked, str) else ", ".join(asked)
    return EachReport(asked=asked, reports=tuple(reports), refused=refused)
