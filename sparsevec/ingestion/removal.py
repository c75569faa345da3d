"""`remove`: delete many documents with the patience of `ingest`, and account for every id.

There is no journal: deleting an id again, or one that is not there, changes nothing, so a run that was stopped is
simply made again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Any

from pydantic import BaseModel, ConfigDict

from sparsevec.contract.adapter import Adapter, Page
from sparsevec.contract.checks import Id, check_adapter, check_k, check_several, id_fault, ids_or_where
from sparsevec.contract.filters import Where
from sparsevec.errors import InvalidInput, OutOfLimits, SparsevecError, WriteFailed, printable
from sparsevec.ingestion.patience import SYSTEM_TIME, OutOfPatience, Patience, Timing, check_deadline
from sparsevec.ingestion.report import SAMPLE, IngestFailure
from sparsevec.progress import check_listener

__all__ = ["RemovalReport", "remove"]

_log = logging.getLogger(__name__)


class RemovalReport(BaseModel):
    """What became of the ids: `deleted + failed == given`. An id that was not there counts as deleted (C12)."""

    model_config = ConfigDict(frozen=True)

    given: int = 0
    deleted: int = 0
    failed: int = 0
    retries: int = 0
    failures: tuple[IngestFailure, ...] = ()
    """the first few"""

    def require_complete(self) -> None:
        """Raise WriteFailed when an id was refused."""
        if self.failed:
            raise WriteFailed(str(self), self)

    def __str__(self) -> str:
        counts = f"{self.given:,} ids: {self.deleted:,} deleted, {self.failed:,} failed, with {self.retries:,} retries"
        lines = [counts, *(f"  {failure.id!r}: {printable(failure.reason)}" for failure in self.failures)]
        if self.failed > len(self.failures):
            lines.append(f"  and {self.failed - len(self.failures):,} more")
        return "\n".join(lines)


def remove(
    adapter: Adapter,
    ids: Iterable[Id] | None = None,
    *,
    where: Where | None = None,
    batch_count: int = 1000,
    deadline: float = 300.0,
    on_progress: Callable[[RemovalReport], None] | None = None,
    timing: Timing = SYSTEM_TIME,
) -> RemovalReport:
    """Delete documents, or our vector from those of others (C12), at most `batch_count` in one request: these `ids`, or
    what a filter leaves (C11), read page by page while they are deleted.

    A backend that is down is asked again until `deadline` seconds have passed without progress. `on_progress` is called
    with what is settled after each request. Raises InvalidInput, WriteFailed at the deadline, and what the adapter or
    `ids` raises; whatever it is, its attribute `report` says what was settled before.
    """
    check_adapter(adapter, "delete")
    check_listener(on_progress)
    check_k(batch_count, "batch_count")
    check_deadline(deadline)
    if (given := ids_or_where(ids, where)) is not None:
        given = check_several("ids", given)
    patience, report = Patience(deadline, timing), RemovalReport()
    _log.info("removal from %r begins", adapter)
    try:
        pages = _matching(adapter, where or {}, batch_count, patience)
        found = pages if given is None else _batches(given, batch_count)
        for batch in found:
            patience.start()
            report = _after(report, batch, _delete(adapter, batch, patience), patience.retries)
            if on_progress is not None:
                on_progress(report)
    except OutOfPatience as over:
        stopped = f"stopped behind {report.given} ids: {over}; the same call goes on"
        raise WriteFailed(stopped, report) from over.__cause__
    except BaseException as error:
        with suppress(Exception):
            error.report = report  # type: ignore[attr-defined]
        if not isinstance(error, SparsevecError):
            error.add_note(f"remove: {report}")
        raise
    _log.info("removal from %r ends: %s", adapter, str(report).partition("\n")[0])
    return report


def _batches(ids: Iterable[Id], count: int) -> Iterator[list[Any]]:
    source = iter(ids)
    while batch := list(islice(source, count)):
        yield batch


def _matching(adapter: Adapter, where: Where, count: int, patience: Patience) -> Iterator[list[Any]]:
    """Pages of those with a vector of ours that match; a page that does not come is asked for again."""
    after, more = None, True
    while more:
        patience.start()
        page = patience.ask(partial(_next, adapter, where, after, count))
        if page is None:
            return
        yield page.held
        after, more = page.after, page.after is not None


def _next(adapter: Adapter, where: Where, after: str | None, count: int) -> Page | None:
    return next(iter(adapter.scan(where=where, after=after, size=count)), None)


def _delete(adapter: Adapter, batch: list[Any], patience: Patience) -> list[IngestFailure]:
    """The ids of `batch` that were refused, once all are settled."""
    faults = [(id_, id_fault(id_)) for id_ in batch]
    failures = [IngestFailure.of(id_, f"the id {fault}") for id_, fault in faults if fault]
    todo = [[id_ for id_, fault in faults if not fault]]
    while todo:
        if not (piece := todo.pop()):
            continue
        try:
            patience.ask(partial(adapter.delete, piece))
        except (InvalidInput, OutOfLimits) as error:
            half = len(piece) // 2
            if half:
                todo += [piece[half:], piece[:half]]
            else:
                failures.append(IngestFailure.of(piece[0], str(error)))
    return failures


def _after(report: RemovalReport, batch: list[Any], failures: list[IngestFailure], retries: int) -> RemovalReport:
    return RemovalReport(
        given=report.given + len(batch),
        deleted=report.deleted + len(batch) - len(failures),
        failed=report.failed + len(failures),
        retries=report.retries + retries,
        failures=(*report.failures, *failures)[:SAMPLE],
    )
