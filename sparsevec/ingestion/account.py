"""`Account`: what became of the documents of one run, on disk first and then in the report."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path
from typing import Self

import numpy as np

from sparsevec.errors import printable
from sparsevec.ingestion.dead_letters import DeadLetter, DeadLetters
from sparsevec.ingestion.journal import Entry, Header, Journal
from sparsevec.ingestion.patience import Patience
from sparsevec.ingestion.report import SAMPLE, Counts, IngestFailure, IngestProgress, IngestReport
from sparsevec.ingestion.requests import Outcome
from sparsevec.ingestion.stream import Batch

__all__ = ["Account"]


class Account:
    """Of one run; the files are held until the end of its `with`."""

    def __init__(self, patience: Patience, on_progress: Callable[[IngestProgress], None] | None) -> None:
        self.given = 0
        self.total: int | None = None
        """of the stream, where it can be told"""
        self.entries: list[Entry] = []
        """of earlier runs"""
        self.resumed = False
        """whether there was an earlier run, which may have been killed in the middle of its requests"""
        self.collection_fingerprint: str | None = None
        self.unsettled_retries = 0
        """of requests that were given up with the run"""
        self._journal: Journal | None = None
        self._letters: DeadLetters | None = None
        self._source: str | None = None
        self._counts, self._ids = Counts(), _Ids()
        self._spaces: set[str | None] = set()
        self._failures: list[IngestFailure] = []
        self._files = ExitStack()
        self._patience, self._on_progress = patience, on_progress
        patience.on_wait = self.tell

    def open(self, journal: str | os.PathLike[str] | None, failed: str | os.PathLike[str] | None, run: Header) -> None:
        """The journal and the dead letters of this `run`. Raises JournalMismatch, and changes nothing, when they are of
        another; StorageFailed."""
        self._source = run.source
        settled = None
        if journal is not None:
            self._journal = self._files.enter_context(closing(Journal(Path(journal))))
            settled, self.entries = self._journal.settled, self._journal.entries
            self.resumed = settled is not None
            failed = failed if failed is not None else _beside(self._journal.path)
        if failed is not None:
            self._letters = self._files.enter_context(closing(DeadLetters(Path(failed), settled=settled)))
        if self._journal is not None:
            self._journal.bind(run)  # a new run's header, once nothing speaks against it
        if self._letters is not None:
            self._letters.cut()
            first = islice(self._letters, SAMPLE)
            self._failures = [IngestFailure.of(letter.id, letter.reason) for letter in first]

    def hash(self, batch: Batch) -> str:
        """Of its documents, without the vectors where their source has an identity."""
        return batch.hash(vectors=self._source is None)

    def record(self, batch: Batch, outcome: Outcome, retries: int, seconds: float) -> None:
        """First the dead letters, then the journal, then the report: what is reported is on disk."""
        letters = [
            DeadLetter.of(document, batch.vectors[row], batch.vectors.dimension, outcome.failed[document.position])
            for row, document in enumerate(batch.documents)
            if document.position in outcome.failed
        ]
        if letters and self._letters is not None:
            self._letters.append(letters)
        entry = self._entry(batch, outcome, retries, seconds)
        if self._journal is not None:
            self._journal.append(entry)
        room = SAMPLE - len(self._failures)
        self._failures += [IngestFailure.of(letter.id, letter.reason) for letter in letters[:room]]
        self.add(batch, entry)

    def _entry(self, batch: Batch, outcome: Outcome, retries: int, seconds: float) -> Entry:
        return Entry(
            start=batch.documents[0].position,
            stop=batch.documents[-1].position + 1,
            hash=self.hash(batch) if self._journal is not None else "",
            fingerprint=batch.vectors.fingerprint,
            written=outcome.written,
            skipped=outcome.skipped,
            failed=len(outcome.failed),
            missing=outcome.missing,
            stale=outcome.stale,
            retries=retries,
            bytes=batch.size,
            seconds=seconds,
        )

    def add(self, batch: Batch, entry: Entry) -> None:
        """Count what is settled, by this run or an earlier one."""
        self.given = entry.stop
        self._counts = self._counts.plus(entry)
        self._ids.add(batch)
        self._spaces.add(entry.fingerprint)
        self._patience.start()

    @property
    def space(self) -> str | None:
        """The fingerprint that some of the vectors named."""
        return next((space for space in self._spaces if space is not None), None)

    def report(self) -> IngestReport:
        counts = self._counts.plus(Counts(retries=self._patience.retries + self.unsettled_retries))
        return IngestReport(
            **counts.model_dump(),
            given=self.given,
            repeated=self._ids.repeated,
            fingerprint=self.space if len(self._spaces) == 1 else None,
            collection_fingerprint=self.collection_fingerprint,
            failures=tuple(self._failures),
            dead_letters=self._letters.path if self._letters is not None else None,
        )

    @property
    def advice(self) -> str:
        """How to go on after a run that was stopped."""
        if self._journal is None:
            return f"give the documents from position {self.given} on to go on"
        return f"the same call with the journal {printable(self._journal.path)} goes on"

    def tell(self, waiting: str | None = None) -> None:
        """Say how far the run is to whoever watches."""
        if self._on_progress is not None:
            self._on_progress(IngestProgress.of(self.given, self.total, self._counts, waiting))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._files.close()


class _Ids:
    """How many ids were given before: 8 bytes are kept of each, up to `most` of them."""

    def __init__(self, most: int = 2**25) -> None:
        self._seen, self._most = array("Q"), most

    def add(self, batch: Batch) -> None:
        room = self._most - len(self._seen)
        ids = [document.id for document in batch.documents if document.fault is None]
        self._seen.extend(id_ if isinstance(id_, int) else hash(id_) & (2**64 - 1) for id_ in ids[: max(0, room)])

    @property
    def repeated(self) -> int:
        """Of those, as many as an id was given again."""
        return len(self._seen) - len(np.unique(np.array(self._seen)))


def _beside(journal: Path) -> Path:
    return journal.with_name(journal.name.removesuffix(".journal") + ".failed.jsonl")
