"""`look`: one walk through the documents of a collection, in which each gets the code of its present dense row.

What a document needs is read off the document itself: it holds the code of its row, another one, or none. So a walk
that was killed is simply made again and passes over what is right, documents that were changed, made or wiped
meanwhile are found by the next walk, and nobody keeps a list. A write goes out under the version that was read where
the backend has versions, so that a document which changed since is left alone and looked at again; and never makes a
document, so that what was deleted meanwhile stays deleted. Where there are no versions (Qdrant) a lost race leaves the
code of an older row, and the next walk mends it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsevec.contract.adapter import Adapter, Page, UInt8s, Version
from sparsevec.contract.checks import Id
from sparsevec.errors import BackendDown, PlaceForgotten
from sparsevec.ingestion.dead_letters import read_dead_letters
from sparsevec.ingestion.ingest import ingest
from sparsevec.ingestion.patience import SYSTEM_TIME, OutOfPatience, Patience, Timing
from sparsevec.ingestion.removal import remove
from sparsevec.ingestion.report import IngestFailure
from sparsevec.live.codes import Codes, UInt64s, code_fingerprints
from sparsevec.live.reports import Look
from sparsevec.live.rows import Usable, usable
from sparsevec.live.seen import Seen, row_marks
from sparsevec.vectors import Float32s, SparseVectors

__all__ = ["Looking", "patient"]

_NAMED = 10  # documents that a report names
_COLUMNS = ("ids", "vectors", "versions", "routing", "codes")
_RESTARTS = 5  # of a scan whose place the backend has forgotten


@dataclass(frozen=True, slots=True)
class _Batch:
    """Documents of one page that need a write."""

    ids: tuple[Id, ...]
    vectors: SparseVectors
    versions: tuple[Version | None, ...] | None
    routing: tuple[str | None, ...]
    codes: UInt8s | None
    """(n, code_bytes), where the collection keeps residual codes"""


class Looking:
    """What every look at one collection shares. `seen`: the rows of the last look. `rate`: documents a second that are
    written at most; None: as many as the backend takes. `tell` is called with the counts of documents looked at and
    written."""

    def __init__(
        self,
        adapter: Adapter,
        codes: Codes,
        *,
        seen: Seen,
        rate: float | None = None,
        deadline: float = 300.0,
        tell: Callable[[int, int], None] = lambda _looked, _written: None,
        timing: Timing = SYSTEM_TIME,
    ) -> None:
        self.adapter, self.codes, self.seen = adapter, codes, seen
        self.rate, self.deadline, self.tell, self.timing = rate, deadline, tell, timing

    def look(self, pages: Iterator[Page], *, whole: bool, write: bool = True) -> Look:
        """Walk through `pages`, which have dense rows and vectors. `write=False` counts what would be written.

        Raises what `ingest` raises; whatever was written before stays, and the next look passes over it.
        """
        walk = _Walk(self)
        look = walk.go(pages, whole, write=write)
        if write:
            self.seen.keep(whole=whole, but=walk.refused)
        return look


class _Walk:
    def __init__(self, shared: Looking) -> None:
        self._adapter, self._codes, self._seen, self._rate = shared.adapter, shared.codes, shared.seen, shared.rate
        self._encoder = shared.codes.encoder
        self._deadline, self._tell, self._timing = shared.deadline, shared.tell, shared.timing
        info = self._adapter.info()
        self._ours, self._can, self._residual = info.ours, info.capabilities, info.code_bytes
        self._began = self._timing.clock()
        self._count = dict.fromkeys(("looked", "right", "missing", "stale", "without", "cleared", "faulty", "moved"), 0)
        self._failures: list[IngestFailure] = []
        self._asked = 0  # to be written
        self._kept = 0  # vectors of ours that the backend did not let go of
        self._sent: list[UInt64s] = []  # `row_marks` of what was to be written, in order, where residual codes are kept
        self.refused: UInt64s = np.empty(0, np.uint64)
        """those of them that were not: that a residual code is not its row's is told by nothing but `Seen`"""

    def go(self, pages: Iterator[Page], whole: bool, *, write: bool) -> Look:
        batches = self._batches(pages, write)
        if not write:
            deque(batches, maxlen=0)
            return Look(whole=whole, **self._found(), failures=tuple(self._failures), seconds=self._seconds)
        columns = _Columns(batches)
        letters = self._seen.letters if self._residual else None
        if letters is not None:
            letters.unlink(missing_ok=True)  # of a look that was killed
        written = ingest(
            self._adapter,
            columns.column("ids"),
            columns.vectors(),
            versions=columns.column("versions") if self._can.versions else None,
            routing=columns.column("routing") if self._can.routing else None,
            codes=columns.column("codes") if self._residual else None,
            failed=letters,
            missing="skip",
            empty="write",
            deadline=self._deadline,
            timing=self._timing,
        )
        if letters is not None and written.failed:
            self.refused = np.concatenate(self._sent)[[one.position for one in read_dead_letters(letters)]]
            letters.unlink()
        return Look(
            whole=whole,
            **self._found(),
            written=written.written,
            gone=written.skipped,
            changed=written.stale,
            failed=written.failed - written.stale + self._kept,
            failures=tuple([*self._failures, *self._refused(written.failures)][:_NAMED]),
            retries=written.retries,
            seconds=self._seconds,
        )

    def _found(self) -> dict[str, Any]:
        return self._count if self._seen.remembers else {**self._count, "moved": None}

    @property
    def _seconds(self) -> float:
        return self._timing.clock() - self._began

    @staticmethod
    def _refused(failures: tuple[IngestFailure, ...]) -> list[IngestFailure]:
        """Those that did not merely change since they were read, which an adapter with versions says in these words."""
        return [one for one in failures if not one.reason.startswith("it changed since")]

    def _batches(self, pages: Iterator[Page], write: bool) -> Iterator[_Batch]:
        for page in _ahead(pages):
            rows = usable(page, self._encoder)
            needed, codes = self._judged(page, rows)
            lost = self._lost(page, rows)
            if write:
                self._throttle(len(needed) + len(lost))
                yield from self._cleared(page, lost)
                if len(needed):
                    yield self._batch(page, rows.at[needed], codes[needed], rows.rows[needed])
            self._tell(self._count["looked"], self._asked)

    def _judged(self, page: Page, rows: Usable) -> tuple[npt.NDArray[np.int64], SparseVectors]:
        """Which of the usable rows need a write, and the code of each of them."""
        assert page.holds is not None  # a scan always says so
        codes = self._codes.of(rows.rows)
        present = code_fingerprints(self._adapter.stored(self._vectors(page)[rows.at]))
        expected = code_fingerprints(self._adapter.stored(codes))
        holds = page.holds[rows.at] | (codes.row_nnz == 0)  # engines cannot all tell an empty vector from none
        right = holds & (present == expected)
        marks = row_marks([page.ids[i] for i in rows.at.tolist()], rows.rows)
        moved = holds & ~self._seen.knows(marks) & self._seen.remembers
        if self._residual:  # it says what the sparse code leaves out, and that has moved
            right &= ~moved
        self._add("looked", len(page))
        self._add("right", int(right.sum()))
        self._add("missing", int((~holds).sum()))
        self._add("stale", int((holds & ~right).sum()))
        self._add("moved", int(moved.sum()))
        self._add("faulty", len(rows.faults))
        self._name([IngestFailure.of(id_, fault) for id_, fault in rows.faults.items()])
        return np.flatnonzero(~right), codes

    def _vectors(self, page: Page) -> SparseVectors:
        """Of each document, empty where there is none; before the field is there, nobody has one."""
        if page.vectors is not None:
            return page.vectors
        return SparseVectors(np.zeros(len(page) + 1, np.int64), [], [], self._encoder.output_dim)

    def _lost(self, page: Page, rows: Usable) -> npt.NDArray[np.int64]:
        """Positions of documents that hold a code of ours and have no row for it any more: nobody should find them by
        what they were."""
        assert page.holds is not None
        without = np.ones(len(page), bool)
        without[rows.at] = False
        lost = without & page.holds
        if self._ours:  # there a document without a row keeps an empty vector
            lost &= self._vectors(page).row_nnz > 0
        rowless = np.array([id_ not in rows.faults for id_ in page.ids], bool)
        self._add("cleared", int((lost & rowless).sum()))
        self._add("without", int((without & ~lost & rowless).sum()))
        return np.flatnonzero(lost)

    def _cleared(self, page: Page, lost: npt.NDArray[np.int64]) -> Iterator[_Batch]:
        if not len(lost):
            return
        if self._ours:
            empty = SparseVectors(np.zeros(len(lost) + 1, np.int64), [], [], self._encoder.output_dim)
            yield self._batch(page, lost, empty.with_fingerprint(self._encoder.fingerprint))
        else:
            removal = remove(self._adapter, [page.ids[i] for i in lost.tolist()], deadline=self._deadline)
            self._kept += removal.failed
            self._name(removal.failures)

    def _batch(
        self, page: Page, at: npt.NDArray[np.int64], vectors: SparseVectors, rows: Float32s | None = None
    ) -> _Batch:
        """The documents at these positions with new vectors; `rows`: their dense rows, None where they have none."""
        chosen = at.tolist()
        versions = tuple(page.versions[i] for i in chosen) if page.versions is not None else None
        routing = tuple(page.routing[i] if page.routing is not None else None for i in chosen)
        if self._residual:
            marks = np.zeros(len(at), np.uint64) if rows is None else row_marks([page.ids[i] for i in chosen], rows)
            self._sent.append(marks)
        return _Batch(tuple(page.ids[i] for i in chosen), vectors, versions, routing, self._residuals(vectors, rows))

    def _residuals(self, vectors: SparseVectors, rows: Float32s | None) -> UInt8s | None:
        if self._residual is None:
            return None
        if rows is None:
            return np.zeros((len(vectors), self._residual), np.uint8)
        return self._encoder.residual_codes(rows, self._adapter.stored(vectors))

    def _throttle(self, more: int) -> None:
        self._asked += more
        if self._rate is not None:
            due = self._began + (self._asked - more) / self._rate
            self._timing.sleep(max(0.0, due - self._timing.clock()))

    def _name(self, failures: Sequence[IngestFailure]) -> None:
        self._failures += failures[: _NAMED - len(self._failures)]

    def _add(self, name: str, count: int) -> None:
        self._count[name] += count


def _ahead(pages: Iterator[Page]) -> Iterator[Page]:
    """The same pages, each read while the one before is encoded and written: one more of them in memory."""
    context = copy_context()  # in which a deadline of the caller's may stand

    def read() -> Page | None:
        return context.run(lambda: next(pages, None))

    with ThreadPoolExecutor(1, "sparsevec-look") as reader:
        coming = reader.submit(read)
        while (page := coming.result()) is not None:
            coming = reader.submit(read)
            yield page


class _Columns:
    """Batches as columns that are read side by side, no more of them in memory than one column is ahead."""

    def __init__(self, batches: Iterator[_Batch]) -> None:
        self._batches = batches
        self._waiting: dict[str, deque[Any]] = {name: deque() for name in _COLUMNS}

    def _more(self) -> bool:
        if (batch := next(self._batches, None)) is None:
            return False
        for name, waiting in self._waiting.items():
            waiting.append(getattr(batch, name))
        return True

    def vectors(self) -> Iterator[SparseVectors]:
        waiting = self._waiting["vectors"]
        while waiting or self._more():
            yield waiting.popleft()

    def column(self, name: str) -> Iterator[Any]:
        waiting = self._waiting[name]
        while waiting or self._more():
            batch = waiting.popleft()
            yield from () if batch is None else batch


def patient(scan: Callable[[str | None], Iterator[Page]], deadline: float) -> Iterator[Page]:
    """The pages of `scan(after)`, asked again while the backend is down, for `deadline` seconds without a page; and
    from the start where the backend has forgotten the place, since documents that are right are passed over."""
    after: str | None = None
    patience, restarts = Patience(deadline, SYSTEM_TIME), 0
    while True:
        try:
            for page in scan(after):
                after = page.after
                patience.progress()
                yield page
                patience.progress()  # whatever became of it took its own time
            return
        except BackendDown as error:
            try:
                patience.wait(error)
            except OutOfPatience:
                raise error from None
        except PlaceForgotten:
            if after is None or restarts == _RESTARTS:
                raise
            after, restarts = None, restarts + 1
