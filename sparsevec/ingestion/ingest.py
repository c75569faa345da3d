"""`ingest`: write a stream of documents, larger than memory if need be, and account for every one of them.

An adapter's `upsert` sends one request and says what became of each id. Here is everything around it: batches, retries,
the journal, dead letters, the policy for empty vectors. The stream is settled in order, batch by batch: a document is
settled when it is written, skipped, or refused for good, and `written + skipped + failed == given` at any moment, for
`given` counts the settled documents, always the first of the stream.

- A backend that is down or busy is asked again, with growing pauses, until `deadline` seconds have passed without any
  progress. Then the run stops with WriteFailed: a backend that is gone must not turn a million documents into failures.
- A document that is refused for good becomes a dead letter, and the run goes on.
- Anything else stops the run at once. The error carries the `report`; the same call with the same journal goes on.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar, get_args

from pydantic import BaseModel, ConfigDict

from sparsevec.contract.adapter import Adapter, Written
from sparsevec.contract.checks import Id, Payload
from sparsevec.errors import (
    BackendDown,
    InvalidInput,
    JournalMismatch,
    OutOfLimits,
    SparsevecError,
    WriteFailed,
)
from sparsevec.ingestion.journal import DeadLetter, DeadLetters, Empty, Entry, Journal
from sparsevec.ingestion.stream import Batch, Document, Stream
from sparsevec.vectors import SparseVector, SparseVectors

__all__ = ["IngestFailure", "IngestProgress", "IngestReport", "Timing", "ingest"]

T = TypeVar("T")

_FIRST_PAUSE, _LONGEST_PAUSE, _LONGEST_ASKED = 0.2, 20.0, 60.0  # seconds; a backend may ask for the last
_SAMPLE = 10  # failures that a report names


class IngestFailure(BaseModel):
    """A document that was refused, and why. `id` is its `repr` where it is not an id at all."""

    model_config = ConfigDict(frozen=True)

    id: int | str
    reason: str


class IngestReport(BaseModel):
    """What became of the documents: `written + skipped + failed == given`, the first `given` of the stream.

    `bytes` is estimated, `seconds` are those spent writing, over all runs with one journal. `failures` names the first
    few; all of them are in the file `dead_letters`.
    """

    model_config = ConfigDict(frozen=True)

    given: int = 0
    written: int = 0
    skipped: int = 0
    failed: int = 0
    retries: int = 0
    bytes: int = 0
    seconds: float = 0.0
    failures: tuple[IngestFailure, ...] = ()
    dead_letters: Path | None = None

    def require_complete(self) -> None:
        """Raise WriteFailed when a document was refused."""
        if self.failed:
            raise WriteFailed(str(self), self)

    def __str__(self) -> str:
        counts = f"{self.given:,} documents: {self.written:,} written, {self.skipped:,} skipped, {self.failed:,} failed"
        lines = [f"{counts}, in {self.seconds:.1f} s with {self.retries:,} retries"]
        lines += [f"  {failure.id!r}: {failure.reason}" for failure in self.failures]
        if self.failed > len(self.failures):
            lines.append(f"  and {self.failed - len(self.failures):,} more")
        if self.failed and self.dead_letters:
            lines.append(f"  all in {self.dead_letters}")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class IngestProgress:
    """How far a run is; `waiting` says for what, while it pauses before it tries again."""

    documents: int
    bytes: int
    seconds: float
    waiting: str | None = None

    @property
    def rate(self) -> float:
        """Documents per second."""
        return self.documents / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class Timing:
    """How to tell the time (seconds), to wait and to draw from [0, 1): a test brings its own."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    random: Callable[[], float] = random.random


SYSTEM_TIME = Timing()


def ingest(
    adapter: Adapter,
    ids: Iterable[Id],
    vectors: SparseVectors | Iterable[SparseVectors],
    payloads: Iterable[Payload] | None = None,
    *,
    journal: str | os.PathLike[str] | None = None,
    failed: str | os.PathLike[str] | None = None,
    empty: Empty = "error",
    batch_bytes: int = 4 * 2**20,
    batch_count: int = 1000,
    deadline: float = 300.0,
    on_progress: Callable[[IngestProgress], None] | None = None,
    timing: Timing = SYSTEM_TIME,
) -> IngestReport:
    """Write documents: the i-th id with the i-th row of `vectors` (one batch, or chunks of any size) and its payload.

    An id that is given again is written again, in order: the last one wins, and each counts. `journal` makes the run
    resumable: the same call goes on after the last acknowledged batch, and changes nothing when all are. Documents that
    are refused go to the file `failed`, by default beside the journal (`x.journal`, `x.failed.jsonl`); without either
    they are only counted, and the first few named. A request holds at most `batch_count` documents of about
    `batch_bytes`, fewer when the backend asks for it. An empty vector is refused (`empty="error"`), skipped ("skip",
    what the collection holds under its id stays) or written ("write", a document that no query finds).

    Raises InvalidInput, also when ids, vectors and payloads are not equally many, JournalMismatch, StorageFailed,
    WriteFailed after `deadline` seconds without progress, and what the adapter raises; each carries the `report`.
    """
    _check_options(empty=empty, batch_bytes=batch_bytes, batch_count=batch_count, deadline=deadline)
    stream = Stream(ids, vectors, payloads)
    with ExitStack() as files:
        log = files.enter_context(closing(Journal(Path(journal), empty=empty))) if journal is not None else None
        letters = _dead_letters(log, failed)
        if letters is not None:
            files.enter_context(closing(letters))
        patience = _Patience(deadline, timing)
        run = _Run(adapter, log, letters, empty, batch_bytes, on_progress, patience)
        try:
            run.skip_acknowledged(stream)
            while (window := stream.take(batch_count)) is not None:
                run.settle(window)
        except SparsevecError as error:
            error.report = run.report()
            raise
        return run.report()


def _check_options(*, empty: str, batch_bytes: int, batch_count: int, deadline: float) -> None:
    if empty not in get_args(Empty):
        raise InvalidInput(f"empty must be one of {get_args(Empty)}, found {empty!r}")
    for name, value in {"batch_bytes": batch_bytes, "batch_count": batch_count}.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InvalidInput(f"{name} must be an int of at least 1, found {value!r}")
    if not isinstance(deadline, (int, float)) or not deadline >= 0:
        raise InvalidInput(f"deadline must be a number of seconds, found {deadline!r}")


def _dead_letters(log: Journal | None, failed: str | os.PathLike[str] | None) -> DeadLetters | None:
    if failed is None:
        if log is None:
            return None
        failed = log.path.with_name(log.path.name.removesuffix(".journal") + ".failed.jsonl")
    return DeadLetters(Path(failed), settled=None if log is None else log.settled)


@dataclass(slots=True)
class _Total:
    given: int = 0
    written: int = 0
    skipped: int = 0
    failed: int = 0
    retries: int = 0
    bytes: int = 0
    seconds: float = 0.0

    def add(self, entry: Entry) -> None:
        self.given = entry.stop
        self.written += entry.written
        self.skipped += entry.skipped
        self.failed += entry.failed
        self.retries += entry.retries
        self.bytes += entry.bytes
        self.seconds += entry.seconds


@dataclass(slots=True)
class _Run:
    """One call of `ingest`: settles batches and keeps count."""

    adapter: Adapter
    journal: Journal | None
    letters: DeadLetters | None
    empty: Empty
    batch_bytes: int
    on_progress: Callable[[IngestProgress], None] | None
    patience: _Patience
    total: _Total = field(default_factory=_Total)
    failures: list[IngestFailure] = field(default_factory=list)

    def report(self) -> IngestReport:
        return IngestReport(
            **asdict(self.total),
            failures=tuple(self.failures),
            dead_letters=self.letters.path if self.letters is not None else None,
        )

    def skip_acknowledged(self, stream: Stream) -> None:
        """Pass over what earlier runs settled. Raises JournalMismatch when that was another stream or collection."""
        written: Batch | None = None
        for entry in self.journal.entries if self.journal is not None else ():
            count = entry.stop - entry.start
            batch = stream.take(count)
            if batch is None or len(batch) < count:
                stream.take(1)  # raises what cut the stream short, if anything did
            if batch is None or batch.hash != entry.hash:
                raise JournalMismatch(
                    f"the documents at positions [{entry.start}, {entry.stop}) are not those that the journal calls "
                    "settled; give the same ids, vectors and payloads again, or name another journal"
                )
            self.total.add(entry)
            written = batch if entry.written else written
        if written is not None:
            self._expect_there([document.id for document in written.documents if document.fault is None])
        self.failures += [_failure(letter.id, letter.reason) for letter in islice(self.letters or (), _SAMPLE)]
        self.patience.start()
        self._tell()

    def _expect_there(self, ids: list[Id]) -> None:
        if not self._patiently(partial(self.adapter.fetch, ids)).ids:
            raise JournalMismatch(
                f"the journal says that {ids[0]!r} and others were written, but the collection holds none of them: it "
                "is another one, or was made anew; name another journal"
            )

    def settle(self, window: Batch) -> None:
        """Write all of `window`, in as many requests as it takes."""
        start = 0
        while start < len(window):
            stop = _end(window.documents, start, self.batch_bytes)
            self._settle_batch(window[start:stop])
            start = stop

    def _settle_batch(self, batch: Batch) -> None:
        outcome = self._write(batch)
        if outcome.failed:
            self._bury(batch, outcome.failed)
        entry = Entry(
            start=batch.documents[0].position,
            stop=batch.documents[-1].position + 1,
            hash=batch.hash,
            written=outcome.written,
            skipped=outcome.skipped,
            failed=len(outcome.failed),
            retries=self.patience.retries,
            bytes=batch.size,
            seconds=self.patience.seconds(),
        )
        if self.journal is not None:
            self.journal.append(entry)
        self.total.add(entry)
        self.patience.start()
        self._tell()

    def _tell(self, waiting: str | None = None) -> None:
        if self.on_progress is not None:
            total = self.total
            self.on_progress(IngestProgress(total.given, total.bytes, total.seconds, waiting))

    def _bury(self, batch: Batch, reasons: Mapping[int, str]) -> None:
        letters = [
            _letter(document, batch.vectors[row], batch.vectors.dimension, reasons[document.position])
            for row, document in enumerate(batch.documents)
            if document.position in reasons
        ]
        if self.letters is not None:
            self.letters.append(letters)
        room = _SAMPLE - len(self.failures)
        self.failures += [_failure(letter.id, letter.reason) for letter in letters[:room]]

    # ---- one batch

    def _write(self, batch: Batch) -> _Outcome:
        """What became of each document of `batch`, once all are settled."""
        outcome = _Outcome()
        todo = [self._sort_out(batch, outcome)]
        while todo:
            piece = todo.pop()
            if not len(piece):
                continue
            try:
                answer = self.adapter.upsert(piece.ids, piece.vectors, piece.payloads)
            except BackendDown as error:
                self._pause(error)
                todo += _halves(piece)  # a smaller request may pass where a large one times out
            except (InvalidInput, OutOfLimits) as error:
                if isinstance(error, OutOfLimits) and not error.splittable:
                    raise
                todo += self._split(piece, error, outcome)
            else:
                todo += self._account(piece, answer, outcome)
        return outcome

    def _sort_out(self, batch: Batch, outcome: _Outcome) -> Batch:
        """The documents of `batch` that are to be sent; the others are settled."""
        rows: list[int] = []
        for row, (document, nnz) in enumerate(zip(batch.documents, batch.vectors.row_nnz.tolist(), strict=True)):
            if document.fault is not None:
                outcome.failed[document.position] = document.fault
            elif nnz or self.empty == "write":
                rows.append(row)
            elif self.empty == "skip":
                outcome.skipped += 1
            else:
                outcome.failed[document.position] = _EMPTY
        return batch if len(rows) == len(batch) else batch[rows]

    def _split(self, piece: Batch, error: InvalidInput | OutOfLimits, outcome: _Outcome) -> list[Batch]:
        """The halves of a refused `piece`; a single document has failed."""
        if len(piece) == 1:
            outcome.failed[piece.documents[0].position] = str(error)
            self.patience.progress()
            return []
        if isinstance(error, OutOfLimits):
            self.batch_bytes = min(self.batch_bytes, piece.size // 2)
        return _halves(piece)

    def _account(self, piece: Batch, answer: Written, outcome: _Outcome) -> list[Batch]:
        """What of `piece` is to be sent again, after a pause: all that the answer does not settle."""
        written, left, reason = set(answer.written), [], "the answer leaves out some ids"
        for row, document in enumerate(piece.documents):
            if document.id in written:
                outcome.written += 1
            elif document.id in answer.skipped:
                outcome.skipped += 1
            elif (failure := answer.failed.get(document.id)) is None or failure.retryable:
                left.append(row)
                reason = failure.reason if failure else reason
            else:
                outcome.failed[document.position] = failure.reason
        if len(left) < len(piece):
            self.patience.progress()
        if not left:
            return []
        self._pause(BackendDown(reason))
        return [piece[left]]

    # ---- patience

    def _patiently(self, call: Callable[[], T]) -> T:
        """The answer to `call`, asked again while the backend is down."""
        while True:
            try:
                answer = call()
            except BackendDown as error:
                self._pause(error)
            else:
                return answer

    def _pause(self, error: BackendDown) -> None:
        self._tell(waiting=str(error))
        if not self.patience.pause(error.retry_after):
            self.total.retries += self.patience.retries
            raise WriteFailed(
                f"stopped at position {self.total.given}: no progress for {self.patience.deadline:g} s, tried "
                f"{self.patience.retries + 1} times, last: {error}; everything before that position is settled, "
                f"{self._advice}",
                self.report(),
            ) from error

    @property
    def _advice(self) -> str:
        if self.journal is None:
            return f"give the documents from position {self.total.given} on to go on"
        return f"the same call with the journal {self.journal.path} goes on"


def _halves(piece: Batch) -> list[Batch]:
    """The first on top of the stack, and only that for a single document."""
    half = (len(piece) + 1) // 2
    return [piece[half:], piece[:half]]


_EMPTY = "the vector is empty, no query can find it; empty='skip' or empty='write' accepts it"


@dataclass(slots=True)
class _Outcome:
    """What became of the documents of one batch; `failed` holds reasons by position."""

    written: int = 0
    skipped: int = 0
    failed: dict[int, str] = field(default_factory=dict)


class _Patience:
    """When to try again, and when to give up: full jitter, doubling, capped, and a deadline since the last progress."""

    def __init__(self, deadline: float, timing: Timing) -> None:
        self.deadline = deadline
        self._timing = timing
        self.start()

    def start(self) -> None:
        """A batch begins."""
        self._begun = self._timing.clock()
        self.retries = 0
        self.progress()

    def seconds(self) -> float:
        """Since the batch began."""
        return self._timing.clock() - self._begun

    def progress(self) -> None:
        """Some document was settled."""
        self._trouble: float | None = None
        self._tries = 0

    def pause(self, asked: float | None) -> bool:
        """Sleep before the next try; False when it is too late for one."""
        now = self._timing.clock()
        self._trouble = now if self._trouble is None else self._trouble
        left = self._trouble + self.deadline - now
        if left <= 0:
            return False
        longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(self._tries, 10))
        self._tries += 1
        self.retries += 1
        self._timing.sleep(min(left, max(longest * self._timing.random(), min(asked or 0.0, _LONGEST_ASKED))))
        return True


def _end(documents: list[Document], start: int, limit: int) -> int:
    """Where a request that begins at row `start` ends: before `limit` bytes, and before an id that it holds already."""
    seen: set[Id] = set()
    size = 0
    for row in range(start, len(documents)):
        document = documents[row]
        if document.fault is None:
            size += document.size
            if seen and (size > limit or document.id in seen):
                return row
            seen.add(document.id)
    return len(documents)


def _letter(document: Document, vector: SparseVector, dimension: int, reason: str) -> DeadLetter:
    return DeadLetter(
        position=document.position,
        id=_jsonable(document.id),
        reason=reason,
        dimension=dimension,
        indices=vector.indices.tolist(),
        weights=vector.values.tolist(),
        payload=_jsonable(document.payload),
    )


def _jsonable(value: object) -> object:
    """`value` as it comes back from JSON, or its `repr`."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        return repr(value)


def _failure(id_: object, reason: str) -> IngestFailure:
    if isinstance(id_, bool) or not isinstance(id_, (int, str)):
        id_ = repr(id_)
    return IngestFailure(id=id_, reason=reason)
