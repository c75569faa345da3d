"""`Requests`: documents cut into requests, and each request sent until all of it is settled.

Settled: written, skipped, or refused for good. A backend that is down is asked again, with smaller requests. One that
is busy is asked the same again, for more requests would be more to do, and less only after some refusals in a row;
later, where a request as large has passed. What is too large is halved. A single document that is refused for now until
patience ends, while the backend takes another, can never pass: it has failed. When the backend takes no other either,
patience is over and the run with it.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from sparsevec.contract.adapter import Adapter, Failure, Missing, Written
from sparsevec.contract.checks import Id
from sparsevec.errors import BackendDown, InvalidInput, OutOfLimits
from sparsevec.ingestion.journal import Empty
from sparsevec.ingestion.patience import OutOfPatience, Patience
from sparsevec.ingestion.stream import Batch

__all__ = ["Claims", "Outcome", "Requests"]

_EMPTY = "the vector is empty, no query can find it; empty='skip' or empty='write' accepts it"
_PROOFS = 2  # times that another document must pass, and this one not
_BUSY, _STILL_BUSY = 3, 12  # refusals in a row after which the request itself may be the cause, which others were not


@dataclass(slots=True)
class Outcome:
    """What became of the documents of one batch: counts, and the reasons of those that failed, by position."""

    written: int = 0
    skipped: int = 0
    missing: int = 0
    stale: int = 0
    failed: dict[int, str] = field(default_factory=dict)

    def fail(self, position: int, failure: Failure) -> None:
        self.failed[position] = failure.reason
        self.missing += failure.kind == "missing"
        self.stale += failure.kind == "stale"


class Claims:
    """Ids of documents that are under way, so that no two requests hold the same one: the later wins, in order."""

    def __init__(self) -> None:
        self._ids: set[Id] = set()
        self._lock = threading.Lock()

    def take(self, ids: set[Id]) -> bool:
        """All of them, or none where one is taken."""
        with self._lock:
            if not self._ids.isdisjoint(ids):
                return False
            self._ids |= ids
            return True

    def give_back(self, ids: set[Id]) -> None:
        with self._lock:
            self._ids -= ids


class Requests:
    """Of one run, to one adapter; `limit` is how many bytes a request holds, roughly. Several batches may be settled
    at the same time, each in a thread of its own, whose ids are claimed.

    Documents before the position `sent_before` may have been sent by a run that was killed.
    """

    def __init__(
        self, adapter: Adapter, *, empty: Empty, missing: Missing | None, limit: int, sent_before: int = 0
    ) -> None:
        self.adapter, self.missing, self.sent_before = adapter, missing, sent_before
        self.claims = Claims()
        self.window: Batch | None = None
        """that was cut last"""
        self.witness: Batch | None = None
        """one document that this backend took"""
        self.passed = 0
        """bytes of the largest request that was answered"""
        self._empty, self._limit = empty, limit

    def cut(self, window: Batch) -> Iterator[Batch]:
        """`window` in requests: each ends before `limit` bytes, and before an id that it holds already."""
        self.window = window
        start = 0
        while start < len(window):
            stop = self._end(window, start)
            yield window[start:stop]
            start = stop

    def shrink(self, size: int) -> None:
        """A request of `size` bytes was too large."""
        self._limit = min(self._limit, max(1, size // 2))

    def _end(self, window: Batch, start: int) -> int:
        seen: set[Id] = set()
        size = 0
        for row in range(start, len(window)):
            document = window.documents[row]
            if document.fault is None:
                size += document.size
                if seen and (size > self._limit or document.id in seen):
                    return row
                seen.add(document.id)
        return len(window)

    def settle(self, batch: Batch, patience: Patience) -> Outcome:
        """What became of each document of `batch`, once all are settled. Raises OutOfPatience, and what stops a run."""
        outcome = Outcome()
        _Settling(self, patience, self.sort_out(batch, outcome), outcome).run()
        return outcome

    def sort_out(self, batch: Batch, outcome: Outcome) -> Batch:
        """The documents of `batch` that are to be sent; the others are settled."""
        rows: list[int] = []
        for row, (document, nnz) in enumerate(zip(batch.documents, batch.vectors.row_nnz.tolist(), strict=True)):
            if (fault := batch.fault(document)) is not None:
                outcome.failed[document.position] = fault
            elif nnz or self._empty == "write":
                rows.append(row)
            elif self._empty == "skip":
                outcome.skipped += 1
            else:
                outcome.failed[document.position] = _EMPTY
        return batch if len(rows) == len(batch) else batch[rows]


class _Settling:
    """Of one batch, in one thread."""

    def __init__(self, requests: Requests, patience: Patience, batch: Batch, outcome: Outcome) -> None:
        self._requests, self._adapter, self._patience = requests, requests.adapter, patience
        self._batch, self._outcome = batch, outcome
        self._taken: Batch | None = None  # one document of this batch that the backend took
        self._unsure: set[int] = set()  # positions of what was sent and perhaps written, the answer being lost
        self._proofs: Counter[int] = Counter()  # by position
        self._busy = 0  # refusals in a row

    def run(self) -> None:
        todo = [self._batch]
        while todo:
            piece = todo.pop()
            if len(piece):
                todo += self._settle_piece(piece)

    def _settle_piece(self, piece: Batch) -> list[Batch]:
        """What of `piece` is to be sent again, the first on top of the stack."""
        try:
            answer = self._send(piece)
        except BackendDown as error:
            self._unsure.update(document.position for document in piece.documents)
            self._busy = self._busy + 1 if error.busy else 0
            most = _BUSY if piece.size > self._requests.passed else _STILL_BUSY
            whole = self._busy % most > 0
            left = self._again(piece, error)
            if left is None:
                return []
            return [left] if whole else _halves(left)  # a smaller one may pass where a large one times out
        except OutOfLimits as error:
            if len(piece) > 1 and not error.splittable:
                raise
            if len(piece) > 1:
                self._requests.shrink(piece.size)
            return self._split(piece, error)
        except InvalidInput as error:
            return self._split(piece, error)
        self._busy, self._requests.passed = 0, max(self._requests.passed, piece.size)
        return self._account(piece, answer)

    def _send(self, piece: Batch) -> Written:
        versions, routing, codes = piece.versions, piece.routing, piece.codes
        with self._patience.bounded():
            return self._adapter.upsert(
                piece.ids,
                piece.vectors,
                piece.payloads,
                versions=versions if any(versions) else None,
                routing=routing if any(routing) else None,
                missing=self._requests.missing,
                **({} if codes is None else {"codes": codes}),
            )

    def _split(self, piece: Batch, error: InvalidInput | OutOfLimits) -> list[Batch]:
        """The halves of a refused `piece`; a single document has failed."""
        if len(piece) > 1:
            return _halves(piece)
        self._outcome.failed[piece.documents[0].position] = str(error)
        self._patience.progress()
        return []

    def _account(self, piece: Batch, answer: Written) -> list[Batch]:
        """What of `piece` is to be sent again, after a pause: all that the answer does not settle."""
        outcome, missing = self._outcome, self._requests.missing
        written, left, reason = set(answer.written), [], "the answer leaves out some ids"
        taken: int | None = None
        for row, document in enumerate(piece.documents):
            failure = answer.failed.get(document.id)
            if document.id in written:
                outcome.written += 1
                taken = row
            elif document.id in answer.skipped:
                outcome.skipped += 1
                outcome.missing += missing == "skip"
            elif failure is None or failure.retryable:
                left.append(row)
                reason = failure.reason if failure else reason
            elif failure.kind == "stale" and self._is_ours(piece[row : row + 1]):
                outcome.written += 1
            else:
                outcome.fail(document.position, failure)
        if taken is not None:
            self._taken = self._requests.witness = piece[taken : taken + 1]
        if len(left) < len(piece):
            self._patience.progress()
        remains = self._again(piece[left], BackendDown(reason)) if left else None
        return [remains] if remains else []

    def _is_ours(self, one: Batch) -> bool:
        """Whether a document has changed since it was read because we wrote it, in a request whose answer was lost."""
        position = one.documents[0].position
        if position not in self._unsure and position >= self._requests.sent_before:
            return False
        found = self._patience.ask(lambda: self._adapter.fetch(one.ids))
        return self._adapter.stored(found.vectors) == self._adapter.stored(one.vectors)

    def _again(self, piece: Batch, error: BackendDown) -> Batch | None:
        """`piece`, after a pause. When patience is over: None for a document that can never pass, which has failed."""
        try:
            self._patience.wait(error)
        except OutOfPatience:
            if len(piece) > 1 or not self._takes_another_than(piece):
                raise
            position = piece.documents[0].position
            self._proofs[position] += 1
            if self._proofs[position] < _PROOFS:
                return piece
            seconds = f"{self._patience.deadline:g} s"
            self._outcome.failed[position] = (
                f"refused for {seconds}, while the backend took other documents; last: {error}"
            )
            self._patience.progress()
            return None
        return piece

    def _takes_another_than(self, one: Batch) -> bool:
        """Whether the backend takes a document that it took before, or another of the window, at this moment."""
        first = self._taken or self._requests.witness
        return any(map(self._takes, [first] if first is not None else self._others(one)))

    def _takes(self, witness: Batch) -> bool:
        """False as well for one that is under way in another request, for then it may be an old state of it."""
        (id_,) = witness.ids
        claimed = set(witness.ids) - set(self._batch.ids)
        if not self._requests.claims.take(claimed):
            return False
        try:
            answer = self._send(witness)
        except (BackendDown, InvalidInput, OutOfLimits):
            return False
        finally:
            self._requests.claims.give_back(claimed)
        failure = answer.failed.get(id_)
        return not failure.retryable if failure else id_ in {*answer.written, *answer.skipped}

    def _others(self, one: Batch) -> list[Batch]:
        """A document that may be sent before its turn: it has no version, which would be another afterwards."""
        window = self._requests.window or self._batch
        for row, document in enumerate(window.documents):
            if document.fault is None and document.version is None and document.id != one.ids[0]:
                other = self._requests.sort_out(window[row : row + 1], Outcome())
                if len(other):
                    return [other]
        return []


def _halves(piece: Batch) -> list[Batch]:
    """The first on top of the stack, and only that for a single document."""
    half = (len(piece) + 1) // 2
    return [piece[half:], piece[:half]]
