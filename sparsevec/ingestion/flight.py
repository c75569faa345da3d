"""`Flight`: several requests under way at the same time, settled in the order of the stream.

While requests are under way the next documents are read and encoded. What is under way is all that is in memory: at
most `at_once` batches, and the window that is being cut. A batch is recorded when it and all before it are settled, so
the journal has no gap, and what a crash leaves unrecorded is sent again, which changes nothing. No two requests under
way hold the same id: the second one waits for the first.

The number of requests grows by one with each that is settled, and is halved whenever the backend says that it is down
or busy (429, 503); when it says for how long, nothing is sent in the meantime.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Self

from sparsevec.contract.checks import Id
from sparsevec.ingestion.account import Account
from sparsevec.ingestion.patience import Patience
from sparsevec.ingestion.requests import Outcome, Requests
from sparsevec.ingestion.stream import Batch

__all__ = ["Flight"]


@dataclass(slots=True, eq=False)
class _Flying:
    """A batch under way; `outcome` or `error` when it is done, and `heard` when that has been noticed."""

    batch: Batch
    ids: set[Id]
    patience: Patience
    outcome: Outcome | None = None
    error: BaseException | None = None
    heard: bool = False


class Flight:
    """The requests of one run: `send` batches in order, and `land` at the end of its `with`.

    With one request at a time (`at_once` 1) all is done in the caller's thread, one after the other.
    """

    def __init__(self, requests: Requests, account: Account, patience: Patience, at_once: int) -> None:
        self._requests, self._account, self._patience = requests, account, patience
        self._most, self._allowed = at_once, 1
        self._flying: deque[_Flying] = deque()
        self._events: SimpleQueue[_Flying | str] = SimpleQueue()  # one that is done, or what one waits for
        self._threads = ThreadPoolExecutor(at_once, "sparsevec-ingest") if at_once > 1 else None
        self._in_order = True  # whether what is done may be recorded still

    def send(self, batch: Batch) -> None:
        """Returns when it is under way. Raises what became of one before it."""
        if self._threads is None:
            self._patience.start()
            outcome = self._requests.settle(batch, self._patience)
            self._account.record(batch, outcome, self._patience.retries, self._patience.seconds)
            self._account.tell()
            return
        ids = {document.id for document in batch.documents if document.fault is None}
        while len(self._flying) >= self._allowed or not self._requests.claims.take(ids):
            self._hear()
        if not self._flying:
            self._patience.start()
        flying = _Flying(batch, ids, self._patience.of_request(self._events.put))
        self._flying.append(flying)
        self._threads.submit(copy_context().run, partial(self._settle, flying))

    def _settle(self, flying: _Flying) -> None:
        """In a thread of the pool."""
        try:
            flying.outcome = self._requests.settle(flying.batch, flying.patience)
        except BaseException as error:
            flying.error = error
        self._events.put(flying)

    def land(self) -> None:
        """Wait until all is settled and recorded."""
        while self._flying:
            self._hear()

    def _hear(self) -> None:
        """Wait for news of a request."""
        event = self._events.get()
        if isinstance(event, str):
            self._allowed = max(1, self._allowed // 2)
            self._account.tell(event)
            return
        event.heard = True
        if event.error is None:
            self._allowed = min(self._most, self._allowed + 1)
        self._record()
        if self._flying and (first := self._flying[0]).heard and first.error is not None:
            raise first.error

    def _record(self, *, tell: bool = True) -> None:
        """The batches that are known to be settled, up to the first that is not."""
        while self._flying and (first := self._flying[0]).heard and first.outcome is not None:
            self._in_order = False
            self._flying.popleft()
            self._requests.claims.give_back(first.ids)
            self._account.record(first.batch, first.outcome, first.patience.retries, self._patience.seconds)
            self._in_order = True
            if tell:
                self._account.tell()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Requests under way are answered, for they cannot be called back; what they settled in order is recorded."""
        if self._threads is None:
            return
        if error is not None:
            self._patience.stop()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for flying in self._flying:
            flying.heard = True
        if error is not None and self._in_order:
            with suppress(Exception):  # the first error is the one to hear of
                self._record(tell=False)
        self._account.unsettled_retries = sum(flying.patience.retries for flying in self._flying)
