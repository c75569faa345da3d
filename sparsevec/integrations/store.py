"""Documents of one collection behind a `Retriever`: what the stores of all frameworks have in common.

A document's text lies in the payload field `text_key`, its metadata beside it, one field each, so that filters reach
them: what one framework wrote, another opens, and a collection that others made is opened as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsevec import Documents, Hits, IngestReport, RemovalReport, Retriever, SparseVectors, ingest, remove
from sparsevec.contract.checks import Id, Payload
from sparsevec.contract.filters import EngineFilter, Where, conditions, matches
from sparsevec.errors import InvalidInput, InvalidVectors, SparsevecError, WriteFailed
from sparsevec.integrations.embedders import Embedder, embedded

__all__ = ["Store"]

_FEW = 10_000  # documents that one request may bring
_SOME = 1000  # ids in one request
_WHOLE = re.compile("0|[1-9][0-9]{0,19}")


class Store:
    """Texts, metadata and dense rows in; answers of the retriever out. Ids are strings, as frameworks have them; in a
    collection that others made, "42" also stands for their 42 (C10)."""

    def __init__(self, retriever: Retriever, text_key: str) -> None:
        """Makes the collection when it is not there. Raises InvalidInput, and what `Adapter.create` raises."""
        if not isinstance(retriever, Retriever):
            raise InvalidInput(f"expected a sparsevec.Retriever, found {type(retriever).__name__}")
        self.retriever, self.adapter, self.text_key = retriever, retriever.adapter, text_key
        self.make()
        info = self.adapter.info()
        self.ours, self.coded = info.ours, info.code_bytes is not None

    def make(self) -> None:
        """The collection, or our vector in one of others, where it is not there."""
        self.retriever.add([], np.empty((0, self.retriever.encoder.input_dim), np.float32))

    # ---- write

    def payload(self, text: str | None, metadata: Mapping[str, Any]) -> Payload:
        """Raises InvalidInput for metadata that has a field where the text goes."""
        if self.text_key in metadata:
            raise InvalidInput(f"metadata has a field {self.text_key!r}, where the text goes: choose another text_key")
        return dict(metadata) if text is None else {**metadata, self.text_key: text}

    def write_texts(
        self,
        ids: Sequence[str],
        texts: Sequence[str],
        embedder: Embedder,
        payloads: Sequence[Payload],
        *,
        new: bool = False,
        **options: Any,
    ) -> IngestReport:
        """Embed texts and write them. `new`: no id of these is there.

        Where the embedder fails in the middle, what it gave before is written, and its error raised with a report of
        which `unreached` are the rest: the same call again does no harm. Raises what `embedded` and `write` raise.
        """
        rows: list[npt.NDArray[np.float32]] = []
        broken = None
        try:
            rows += chain.from_iterable(found for _, found in embedded(texts, embedder))
        except SparsevecError as error:
            broken = error
        try:
            report = self.write(ids[: len(rows)], rows, payloads[: len(rows)], new=new, **options)
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
        dense: Sequence[Any] | npt.NDArray[np.float32],
        payloads: Sequence[Payload],
        *,
        new: bool = False,
        **options: Any,
    ) -> IngestReport:
        """Write documents; one that is there is replaced, in a collection of ours with all of its fields.

        `dense`: a row (input_dim,) of each, None where it has none. Such a document is failed, skipped or written as
        `empty=` says, which with the other `options` goes to `ingest`. `new`: no id of these is there, so nobody looks.
        Raises WriteFailed when one was not written, with the report of all; InvalidVectors, before anything is written,
        for rows of another width or not finite. Whatever it raises has a report that counts every document.
        """
        reports: list[IngestReport] = []
        try:
            rows = _rows(ids, dense, self.retriever.encoder.input_dim)
            if not new:
                self._forget_fields(ids, payloads)
            reports.extend(self._written(ids, rows, dense, payloads, options))
        except SparsevecError as error:
            report = IngestReport.of_all([*reports, *filter(None, [error.report])])
            raise _reporting(error, report.model_copy(update={"unreached": len(ids) - report.given})) from None
        report = IngestReport.of_all(reports)
        report.require_complete()
        return report

    def _written(
        self,
        ids: Sequence[str],
        rows: npt.NDArray[np.float32],
        dense: Iterable[Any],
        payloads: Sequence[Payload],
        options: dict[str, Any],
    ) -> Iterator[IngestReport]:
        """Those with a row, which the retriever encodes, and those without, which have a vector without weights."""
        has_row = [row is not None for row in dense]
        with_row, without = [[at for at, has in enumerate(has_row) if has is one] for one in (True, False)]
        if with_row:
            some = [payloads[at] for at in with_row]
            given = {name: option for name, option in options.items() if name != "empty"}
            yield self.retriever.add(self._ids(ids[at] for at in with_row), rows, some, **given)
        if without:
            encoder, bare = self.retriever.encoder, [payloads[at] for at in without]
            nothing = SparseVectors.from_rows([{}] * len(without), dimension=encoder.output_dim)
            codes = np.zeros((len(without), encoder.residual_bytes or 0), np.uint8) if self.coded else None
            named = self._ids(ids[at] for at in without)
            yield ingest(self.adapter, named, nothing, bare, codes=codes, **options)

    def _forget_fields(self, ids: Sequence[str], payloads: Sequence[Payload]) -> None:
        """A write leaves the fields that it does not name (C3), and only a look tells which a document has: those that
        have such are taken away first, where they are ours."""
        if not self.ours:
            return
        now = dict(zip(ids, payloads, strict=True))
        stale = [id_ for id_, payload in self.fetched(list(now)) if set(payload) - set(now[str(id_)])]
        if stale:
            self.remove(stale)

    def remove(self, ids: Iterable[Id]) -> RemovalReport:
        """Take documents away; an id that is not there is no error. Raises WriteFailed when one was refused."""
        report = remove(self.adapter, ids)
        report.require_complete()
        return report

    def delete(self, ids: Iterable[str]) -> RemovalReport:
        """The same by the ids of a framework."""
        return self.remove(self._ids(ids))

    # ---- read

    def search(self, dense: Any, k: int, where: Where | None, **options: Any) -> Hits:
        """The k answers to one dense query (input_dim,), with payloads; of few documents all, also those that share
        nothing with the query. `options` are those of `Retriever.search`."""
        query = np.asarray(dense, np.float32)
        (hits,) = self.retriever.search(query, k, where=where, with_payloads=True, **options)
        if len(hits) < k and where is None:
            everyone: Where = {self.text_key: {"exists": True}}
            (hits,) = self.retriever.search(query, k, where=everyone, with_payloads=True, **options)
        return hits

    def near(self, dense: Any, hits: Hits) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], Documents]:
        """For a choice of documents that differ: the query (dimension,), the documents of `hits` (m, dimension), both
        as sparse vectors written out, and these documents."""
        held = self.adapter.fetch(hits.ids)
        query = self.retriever.encoder.encode_query(np.asarray(dense, np.float32))
        return query.to_dense()[0], held.vectors.to_dense(), held

    def fetched(self, ids: Sequence[str]) -> Iterator[tuple[Id, Payload]]:
        """Those that are there, with their payloads, in the order asked for."""
        source = iter(self._ids(dict.fromkeys(ids)))
        while some := list(islice(source, _SOME)):
            held = self.adapter.fetch(some)
            yield from zip(held.ids, held.payloads, strict=True)

    def matching(self, where: Where | None) -> Iterator[tuple[Id, Payload]]:
        """All documents with a vector of ours that a filter leaves: from the backend where they are few, else from a
        scan of the collection. Raises InvalidInput for a filter that the backend cannot answer."""
        if where is not None and (found := self.adapter.matching(where, _FEW)) is not None:
            yield from zip(found.ids, found.payloads, strict=True)
            return
        if isinstance(where, EngineFilter):
            raise InvalidInput(f"a filter of {where.engine}'s own names more than {_FEW:,} documents here; narrow it")
        wanted = conditions(where)
        for page in self.adapter.scan(payloads=True):
            for id_, payload, held in zip(page.ids, page.payloads, page.holds, strict=True):
                if held and matches(payload, wanted):
                    yield id_, payload

    def text_and_metadata(self, payload: Payload | None) -> tuple[str | None, dict[str, Any]]:
        """What `payload` made of a document, taken apart."""
        metadata = dict(payload or {})
        text = metadata.pop(self.text_key, None)
        return None if text is None else str(text), metadata

    def _ids(self, ids: Iterable[str]) -> list[Id]:
        if self.ours:
            return list(ids)
        return [int(id_) if _WHOLE.fullmatch(id_) and int(id_) < 2**64 else id_ for id_ in ids]


def _rows(ids: Sequence[str], dense: Iterable[Any], width: int) -> npt.NDArray[np.float32]:
    """(m, width) of those that have a row."""
    rows: list[npt.NDArray[np.float32]] = []
    for id_, row in zip(ids, dense, strict=True):
        if row is None:
            continue
        try:
            found = np.asarray(row, np.float32)
        except (TypeError, ValueError) as error:
            raise InvalidVectors(f"the vector of {id_!r:.80} is not made of numbers: {error}") from error
        if found.shape != (width,):
            raise InvalidVectors(f"the vector of {id_!r:.80} has shape {found.shape}, expected ({width},)")
        if not np.isfinite(found).all():
            raise InvalidVectors(f"the vector of {id_!r:.80} holds NaN or infinity")
        rows.append(found)
    return np.stack(rows) if rows else np.empty((0, width), np.float32)


def _reporting(error: SparsevecError, report: IngestReport) -> SparsevecError:
    """`error`, with the report, which stands below its traceback as well."""
    error.report = report
    error.add_note(str(report))
    return error
