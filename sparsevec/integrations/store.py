"""Documents of one collection behind a `Retriever`: what the stores of all frameworks have in common.

A document's text lies in the payload field `text_key`, its metadata beside it, one field each, so that filters reach
them: what one framework wrote, another opens, and a collection that others made is opened as it is.

What a store does is a conversation, as an adapter's is: `run` drives it over the retriever, `arun` over an
AsyncRetriever, without which it runs in a thread.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from sparsevec import (
    AsyncRetriever,
    Documents,
    Hits,
    IngestReport,
    RemovalReport,
    Retriever,
    SparseVectors,
    ingest,
    remove,
)
from sparsevec.answers.beside_loop import BesideLoop
from sparsevec.answers.calls import Call
from sparsevec.contract.checks import Id, Payload, as_real, check_several
from sparsevec.contract.filters import EngineFilter, Where
from sparsevec.contract.operations import Operation, arun, run
from sparsevec.errors import InvalidInput, InvalidVectors, SparsevecError, WriteFailed
from sparsevec.integrations.embedders import Embedded, real_numbers

__all__ = ["Asked", "Store", "Work", "check_share", "strings"]

Result = TypeVar("Result")

_SOME = 1000  # ids in one request
_BARE = "_without_embedding"  # the field of a document that no query may find
_WHOLE = re.compile("0|[1-9][0-9]{0,19}")


class Asked(Call):
    """A call of the retriever's own method; a `Call` is one of the adapter's."""


@dataclass(frozen=True, slots=True)
class Work:
    """What is written for threads alone, such as `ingest`: a function of an adapter."""

    function: Callable[[Any], Any]


class Store:
    """Texts, metadata and dense rows in; answers of the retriever out. Ids are strings, as frameworks have them; in a
    collection that others made, "42" also stands for their 42 (C10)."""

    def __init__(self, retriever: Retriever, text_key: str, asynchronous: AsyncRetriever | None = None) -> None:
        """Makes the collection when it is not there. Raises InvalidInput, and what `Adapter.create` raises."""
        if not isinstance(retriever, Retriever):
            raise InvalidInput(f"expected a sparsevec.Retriever, found {type(retriever).__name__}")
        if asynchronous is not None and not isinstance(asynchronous, AsyncRetriever):
            raise InvalidInput(f"expected a sparsevec.AsyncRetriever, found {type(asynchronous).__name__}")
        self.retriever, self.adapter, self.text_key = retriever, retriever.adapter, text_key
        self._asynchronous = asynchronous
        self.make()
        info = self.adapter.info()
        self.ours, self.coded = info.ours, info.code_bytes is not None

    def make(self) -> None:
        """The collection, or our vector in one of others, where it is not there."""
        self.retriever.add([], np.empty((0, self.retriever.encoder.input_dim), np.float32))

    # ---- conversations

    def run(self, operation: Operation[Result]) -> Result:
        """Its result, asked over the retriever."""
        return run(operation, partial(_send, self.retriever))

    async def arun(self, operation: Operation[Result], asynchronous: AsyncRetriever | None = None) -> Result:
        """The same for asyncio, over an AsyncRetriever: the one given, or the store's own, else in a thread."""
        if (found := asynchronous or self._asynchronous) is None:
            return await asyncio.to_thread(self.run, operation)
        return await arun(operation, partial(_asend, found))

    # ---- write

    def payload(self, text: str | None, metadata: Mapping[str, Any]) -> Payload:
        """Raises InvalidInput for metadata that is no dict, or has a field where the text or a mark of ours goes."""
        if not isinstance(metadata, Mapping):
            raise InvalidInput(f"expected metadata as a dict, {{}} for none, found {metadata!r:.80}")
        if self.text_key in metadata:
            raise InvalidInput(f"metadata has a field {self.text_key!r}, where the text goes: choose another text_key")
        if _BARE in metadata:
            raise InvalidInput(f"metadata has a field {_BARE!r}, which marks what no query may find: name it otherwise")
        return dict(metadata) if text is None else {**metadata, self.text_key: text}

    def write_embedded(
        self, ids: Sequence[str], embedded: Embedded, payloads: Sequence[Payload], *, new: bool, **options: Any
    ) -> Operation[IngestReport]:
        """Write texts as far as they were embedded; where the embedder failed, its error is raised, with a report of
        which `unreached` are the rest: the same call again does no harm. Raises what `write` raises."""
        rows, broken = embedded
        some = (ids[: len(rows)], rows, payloads[: len(rows)])
        try:
            report = yield from self.write(*some, new=new, **options)
        except WriteFailed as failed:
            if broken is None:
                raise
            report = failed.report
        if broken is None:
            return report
        raise _reporting(broken, report.model_copy(update={"unreached": len(ids) - report.given}))

    def write(
        self,
        ids: Sequence[str],
        dense: Sequence[Any],
        payloads: Sequence[Payload],
        *,
        new: bool = False,
        **options: Any,
    ) -> Operation[IngestReport]:
        """Write documents; one that is there is replaced, in a collection of ours with all of its fields. Of an id that
        is given twice the last document stays there.

        `dense`: a row (input_dim,) of each, None where it has none. Such a document is failed, skipped or written as
        `empty=` says, which with the other `options` goes to `ingest`. `new`: no id of these is there, so nobody looks.
        Raises WriteFailed when one was not written, with the report of all; InvalidVectors, before anything is written,
        for rows of another width or not finite. Whatever it raises has a report that counts every document.
        """
        reports: list[IngestReport] = []
        try:
            ids = strings(ids)
            if self.ours:  # one write would mix the fields of both (C3)
                ids, dense, payloads = _last_of_each(ids, dense, payloads)
            payloads = [
                payload if row is not None else {**payload, _BARE: True}
                for row, payload in zip(dense, payloads, strict=True)
            ]
            rows = _rows(ids, dense, self.retriever.encoder.input_dim)
            named = [name for name in ("failed", "journal") if options.get(name) is not None]
            if named and 0 < len(rows) < len(ids):
                raise InvalidInput(
                    f"{named[0]}= names the file of one run, and documents with an embedding and without are two: "
                    "expected either in one call"
                )
            if not new:
                yield from self._forget_fields(ids, payloads)
            for request in self._writes(ids, rows, dense, payloads, options):
                reports = [*reports, (yield request)]
        except SparsevecError as error:
            report = IngestReport.of_all([*reports, *filter(None, [error.report])])
            raise _reporting(error, report.model_copy(update={"unreached": len(ids) - report.given})) from None
        report = IngestReport.of_all(reports)
        report.require_complete()
        return report

    def _writes(
        self,
        ids: Sequence[str],
        rows: npt.NDArray[np.float32],
        dense: Iterable[Any],
        payloads: Sequence[Payload],
        options: Mapping[str, Any],
    ) -> Iterator[Asked | Work]:
        """Of those with a row, which the retriever encodes, and of those without: a vector without weights."""
        has_row = [row is not None for row in dense]
        with_row, without = [[at for at, has in enumerate(has_row) if has is one] for one in (True, False)]
        if with_row:
            some = [payloads[at] for at in with_row]
            given = {name: option for name, option in options.items() if name != "empty"}
            yield Asked("add", (self._ids(ids[at] for at in with_row), rows, some), given)
        if without:
            encoder, bare = self.retriever.encoder, [payloads[at] for at in without]
            nothing = SparseVectors.from_rows([{}] * len(without), dimension=encoder.output_dim)
            nothing = nothing.with_fingerprint(encoder.fingerprint)
            codes = np.zeros((len(without), encoder.residual_bytes or 0), np.uint8) if self.coded else None
            named = self._ids(ids[at] for at in without)
            yield Work(lambda adapter: ingest(adapter, named, nothing, bare, codes=codes, **options))

    def _forget_fields(self, ids: Sequence[str], payloads: Sequence[Payload]) -> Operation[None]:
        """A write leaves the fields that it does not name (C3), and only a look tells which a document has: those that
        have such are taken away first, where they are ours."""
        if not self.ours:
            return
        now = dict(zip(ids, payloads, strict=True))
        found = yield from self.fetched(list(now))
        stale = [id_ for id_, payload in found if set(payload) - set(now[str(id_)])]
        if stale:
            yield from self.remove(stale)

    def remove(self, ids: Iterable[Id] | None = None, where: Where | None = None) -> Operation[RemovalReport]:
        """Take documents away, these or what a filter leaves; an id that is not there is no error. Raises WriteFailed
        when one was refused."""
        report: RemovalReport = yield Work(lambda adapter: remove(adapter, ids, where=where))
        report.require_complete()
        return report

    def delete(self, ids: Iterable[str]) -> Operation[RemovalReport]:
        """The same by the ids of a framework."""
        return (yield from self.remove(self._ids(ids)))

    # ---- read

    def search(self, dense: Any, k: int, where: Where | None, **options: Any) -> Operation[Hits]:
        """The k answers to one dense query (input_dim,), with payloads; of few documents all, also those that share
        nothing with the query. `options` are those of `Retriever.search`."""
        query = self.query(dense)
        hits: Hits
        (hits,) = yield Asked("search", (query, k), {**options, "where": where, "with_payloads": True})
        few = len(hits) < k and not where
        bare = any(_BARE in (hit.payload or {}) for hit in hits)  # few documents are answered from all of them
        if few or (bare and not isinstance(where, EngineFilter)):
            where = {"$all": [where or {}, {_BARE: {"exists": False}}]}
            (hits,) = yield Asked("search", (query, k), {**options, "where": where, "with_payloads": True})
        return hits

    def query(self, dense: Any) -> npt.NDArray[np.float32]:
        """One dense query (query_dim,). Raises InvalidVectors for anything else."""
        return _row("the query", dense, self.retriever.encoder.query_dim)

    def near(
        self, dense: Any, hits: Hits
    ) -> Operation[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], Documents]]:
        """For a choice of documents that differ: the query (dimension,), the documents of `hits` (m, dimension), both
        as sparse vectors written out, and these documents."""
        held: Documents = yield Call("fetch", (hits.ids,))
        query = self.retriever.encoder.encode_query(self.query(dense))
        return query.to_dense()[0], held.vectors.to_dense(), held

    def fetched(self, ids: Sequence[str]) -> Operation[list[tuple[Id, Payload]]]:
        """Those that are there, with their payloads, in the order asked for."""
        asked, found = self._ids(dict.fromkeys(strings(ids))), list[tuple[Id, Payload]]()
        for start in range(0, len(asked), _SOME):
            held: Documents = yield Call("fetch", (asked[start : start + _SOME],))
            found += zip(held.ids, held.payloads, strict=True)
        return found

    def matching(self, where: Where | None) -> Operation[list[tuple[Id, Payload]]]:
        """All documents with a vector of ours that a filter leaves. Raises InvalidInput for one that the backend cannot
        answer."""
        pages = yield Call("scan", named={"payloads": True, "where": where})
        rows = ((page, row) for page in pages for row in np.flatnonzero(page.holds))
        return [(page.ids[row], page.payloads[row]) for page, row in rows]

    def count(self, where: Where | None) -> Operation[int]:
        """How many these are."""
        return int((yield Call("count", (where,))))

    def text_and_metadata(self, payload: Payload | None) -> tuple[str | None, dict[str, Any]]:
        """What `payload` made of a document, taken apart."""
        metadata = dict(payload or {})
        metadata.pop(_BARE, None)
        text = metadata.pop(self.text_key, None)
        return None if text is None else str(text), metadata

    def _ids(self, ids: Iterable[str]) -> list[Id]:
        given = strings(ids)
        if self.ours:
            return [*given]
        return [int(id_) if _WHOLE.fullmatch(id_) and int(id_) < 2**64 else id_ for id_ in given]


def strings(ids: Iterable[str], what: str = "ids") -> list[str]:
    """These ids. Raises InvalidInput for what is no string, or one alone."""
    given = list(check_several(what, ids))
    if odd := [id_ for id_ in given if not isinstance(id_, str)]:
        raise InvalidInput(f"expected {what} as strings, found {odd[0]!r:.80}; str(id) makes one")
    return given


def check_share(given: object, what: str) -> None:
    """Raises InvalidInput unless it is a number in [0, 1]."""
    share = as_real(given)
    if share is None or not 0 <= share <= 1:
        raise InvalidInput(f"{what} must be a number in [0, 1], found {given!r:.80}")


def _send(retriever: Retriever, request: Call | Work) -> Any:
    if isinstance(request, Work):
        return request.function(retriever.adapter)
    target = retriever if isinstance(request, Asked) else retriever.adapter
    found = getattr(target, request.name)(*request.given, **request.named)
    return list(found) if isinstance(found, Iterator) else found


async def _asend(retriever: AsyncRetriever, request: Call | Work) -> Any:
    if isinstance(request, Work):
        bridge = BesideLoop(retriever.adapter, asyncio.get_running_loop())
        return await bridge.run(request.function, bridge)
    target = retriever if isinstance(request, Asked) else retriever.adapter
    found = getattr(target, request.name)(*request.given, **request.named)
    return [page async for page in found] if isinstance(found, AsyncIterator) else await found


def _rows(ids: Sequence[str], dense: Iterable[Any], width: int) -> npt.NDArray[np.float32]:
    """(m, width) of those that have a row."""
    rows: list[npt.NDArray[np.float32]] = []
    for id_, row in zip(ids, dense, strict=True):
        if row is not None:
            rows.append(_row(f"the vector of {id_!r:.80}", row, width))
    return np.stack(rows) if rows else np.empty((0, width), np.float32)


def _row(what: str, row: Any, width: int) -> npt.NDArray[np.float32]:
    found = real_numbers(row, what)
    if found.shape != (width,):
        raise InvalidVectors(f"{what} has shape {found.shape}, expected ({width},)")
    if not np.isfinite(found).all():
        raise InvalidVectors(f"{what} holds NaN or infinity")
    return found


def _last_of_each(
    ids: Sequence[str], dense: Sequence[Any], payloads: Sequence[Payload]
) -> tuple[Sequence[str], Sequence[Any], Sequence[Payload]]:
    """Documents, of each id the last."""
    last = {id_: at for at, id_ in enumerate(ids)}
    if len(last) == len(ids):
        return ids, dense, payloads
    return list(last), [dense[at] for at in last.values()], [payloads[at] for at in last.values()]


def _reporting(error: SparsevecError, report: IngestReport) -> SparsevecError:
    """`error`, with the report, which stands below its traceback as well."""
    error.report = report
    error.add_note(str(report))
    return error
