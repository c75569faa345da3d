"""`Requests`: documents cut into requests, and each request sent until all of it is settled.

Settled: written, skipped, or refused for good. A backend that is down or busy is asked again, with smaller requests;
what is too large is halved. A single document that is refused for now until patience ends, while the backend takes
another, can never pass: it has failed. When the backend takes no other either, patience is over and the run with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from sparsevec.contract.adapter import Adapter, Failure, Missing, Written
from sparsevec.contract.checks import Id
from sparsevec.errors import BackendDown, InvalidInput, OutOfLimits
from sparsevec.ingestion.journal import Empty
from sparsevec.ingestion.patience import OutOfPatience, Patience
from sparsevec.ingestion.stream import Batch

__all__ = ["Outcome", "Requests"]

_EMPTY = "the vector is empty, no query can find it; empty='skip' or empty='write' accepts it"
_PROOFS = 2  # times that another document must pass, and this one not


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


class Requests:
    """Of one run, to one adapter; `limit` is how many bytes a request holds, roughly."""

    def __init__(
        self, adapter: Adapter, patience: Patience, *, empty: Empty, missing: Missing | None, limit: int
    ) -> None:
        self._adapter, self._patience = adapter, patience
        self._empty, self._missing, self._limit = empty, missing, limit
        self._witness: Batch | None = None  # one document that this backend took
        self._window: Batch | None = None
        self._unsure: set[int] = set()  # positions of what was sent and perhaps written, the answer being lost
        self._proofs: Counter[int] = Counter()  # by position

    def cut(self, window: Batch) -> Iterator[Batch]:
        """`window` in requests: each ends before `limit` bytes, and before an id that it holds already."""
        self._window = window
        start = 0
        while start < len(window):
            stop = self._end(window, start)
            yield window[start:stop]
            start = stop

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

    def settle(self, batch: Batch) -> Outcome:
        """What became of each document of `batch`, once all are settled. Raises OutOfPatience, and what stops a run."""
        outcome = Outcome()
        self._unsure.clear()
        self._proofs.clear()
        todo = [self._sort_out(batch, outcome)]
        while todo:
            piece = todo.pop()
            if len(piece):
                todo += self._settle_piece(piece, outcome)
        return outcome

    def _sort_out(self, batch: Batch, outcome: Outcome) -> Batch:
        """The documents of `batch` that are to be sent; the others are settled."""
        rows: list[int] = []
        for row, (document, nnz) in enumerate(zip(batch.documents, batch.vectors.row_nnz.tolist(), strict=True)):
            if document.fault is not None:
                outcome.failed[document.position] = document.fault
            elif nnz or self._empty == "write":
                rows.append(row)
            elif self._empty == "skip":
                outcome.skipped += 1
            else:
                outcome.failed[document.position] = _EMPTY
        return batch if len(rows) == len(batch) else batch[rows]

    def _settle_piece(self, piece: Batch, outcome: Outcome) -> list[Batch]:
        """What of `piece` is to be sent again, the first on top of the stack."""
        try:
            answer = self._send(piece)
        except BackendDown as error:
            self._unsure.update(document.position for document in piece.documents)
            left = self._again(piece, error, outcome)
            return _halves(left) if left else []  # a smaller request may pass where a large one times out
        except OutOfLimits as error:
            if len(piece) > 1 and not error.splittable:
                raise
            self._limit = min(self._limit, max(1, piece.size // 2)) if len(piece) > 1 else self._limit
            return self._split(piece, error, outcome)
        except InvalidInput as error:
            return self._split(piece, error, outcome)
        return self._account(piece, answer, outcome)

    def _send(self, piece: Batch) -> Written:
        versions, routing, codes = piece.versions, piece.routing, piece.codes
        with self._patience.bounded():
            return self._adapter.upsert(
                piece.ids,
                piece.vectors,
                piece.payloads,
                versions=versions if any(versions) else None,
                routing=routing if any(routing) else None,
                missing=self._missing,
                **({} if codes is None else {"codes": codes}),
            )

    def _split(self, piece: Batch, error: InvalidInput | OutOfLimits, outcome: Outcome) -> list[Batch]:
        """The halves of a refused `piece`; a single document has failed."""
        if len(piece) > 1:
            return _halves(piece)
        outcome.failed[piece.documents[0].position] = str(error)
        self._patience.progress()
        return []

    def _account(self, piece: Batch, answer: Written, outcome: Outcome) -> list[Batch]:
        """What of `piece` is to be sent again, after a pause: all that the answer does not settle."""
        written, left, reason = set(answer.written), [], "the answer leaves out some ids"
        taken: int | None = None
        for row, document in enumerate(piece.documents):
            failure = answer.failed.get(document.id)
            if document.id in written:
                outcome.written += 1
                taken = row
            elif document.id in answer.skipped:
                outcome.skipped += 1
                outcome.missing += self._missing == "skip"
            elif failure is None or failure.retryable:
                left.append(row)
                reason = failure.reason if failure else reason
            elif failure.kind == "stale" and self._is_ours(piece[row : row + 1]):
                outcome.written += 1
            else:
                outcome.fail(document.position, failure)
        if taken is not None:
            self._witness = piece[taken : taken + 1]
        if len(left) < len(piece):
            self._patience.progress()
        remains = self._again(piece[left], BackendDown(reason), outcome) if left else None
        return [remains] if remains else []

    def _is_ours(self, one: Batch) -> bool:
        """Whether a document has changed since it was read because we wrote it, in a request whose answer was lost."""
        if one.documents[0].position not in self._unsure:
            return False
        found = self._patience.ask(lambda: self._adapter.fetch(one.ids))
        return self._adapter.stored(found.vectors) == self._adapter.stored(one.vectors)

    def _again(self, piece: Batch, error: BackendDown, outcome: Outcome) -> Batch | None:
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
            outcome.failed[position] = f"refused for {seconds}, while the backend took other documents; last: {error}"
            self._patience.progress()
            return None
        return piece

    def _takes_another_than(self, one: Batch) -> bool:
        """Whether the backend takes a document that it took before, or another of this window, at this moment."""
        if (witness := self._witness or self._other(one)) is None:
            return False
        try:
            answer = self._send(witness)
        except (BackendDown, InvalidInput, OutOfLimits):
            return False
        failure = answer.failed.get(witness.ids[0])
        return not failure.retryable if failure else witness.ids[0] in {*answer.written, *answer.skipped}

    def _other(self, one: Batch) -> Batch | None:
        """A document that may be sent before its turn: it has no version, which would be another afterwards."""
        documents = self._window.documents if self._window is not None else []
        for row, document in enumerate(documents):
            if document.fault is None and document.version is None and document.id != one.ids[0]:
                assert self._window is not None
                if len(other := self._sort_out(self._window[row : row + 1], Outcome())):
                    return other
        return None


def _halves(piece: Batch) -> list[Batch]:
    """The first on top of the stack, and only that for a single document."""
    half = (len(piece) + 1) // 2
    return [piece[half:], piece[:half]]
