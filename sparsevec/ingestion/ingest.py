"""`ingest`: write a stream of documents, larger than memory if need be, and account for every one of them.

Read this first, then the rooms beside it, in the order of a document's way:

    chunks          what people bring as vectors; a source that can start anywhere
    stream          documents in order, from sources side by side, each checked on its own
    requests        cut into requests, each sent until all of it is settled: halved, sent again, refused for good
    patience        when to ask a backend again, and when to give up
    flight          several requests under way, settled in order, fewer when the backend is busy
    dead_letters    what was refused, with the reason
    journal         what was settled, so that the same call goes on after a crash (lines: how both are on disk)
    resume          passing over what is settled already
    account         the three in order, and the report of it: counts that add up

`removal` deletes through the same account.

An adapter's `upsert` sends one request and says what became of each id; here is everything around it. The stream is
settled in order: a document is settled when it is written, skipped, or refused for good, and
`written + skipped + failed == given` at any moment, for `given` counts the settled documents, always the first of the
stream.

- A backend that is down or busy is asked again, with growing pauses, until `deadline` seconds have passed without any
  progress. Then the run stops with WriteFailed: a backend that is gone must not turn a million documents into failures.
- A document that is refused for good, or that can never pass, becomes a dead letter, and the run goes on.
- Anything else stops the run at once, Ctrl-C and a source that raises too. The exception carries the `report`; the same
  call with the same journal goes on.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import NoReturn, get_args

from sparsevec.contract.adapter import Adapter, Info, Missing, UInt8s, Version
from sparsevec.contract.checks import Id, Payload, check_adapter, check_k, check_options, check_space
from sparsevec.errors import CollectionError, InvalidInput, SparsevecError, WriteFailed, printable
from sparsevec.ingestion.account import Account
from sparsevec.ingestion.chunks import Restartable, Vectors
from sparsevec.ingestion.flight import Flight
from sparsevec.ingestion.journal import Empty, Header
from sparsevec.ingestion.patience import SYSTEM_TIME, OutOfPatience, Patience, Timing, check_deadline
from sparsevec.ingestion.report import IngestFailure, IngestProgress, IngestReport
from sparsevec.ingestion.requests import Requests
from sparsevec.ingestion.resume import pass_over_settled
from sparsevec.ingestion.stream import Batch, Stream
from sparsevec.progress import check_listener
from sparsevec.storage import as_path

__all__ = ["IngestFailure", "IngestProgress", "IngestReport", "Restartable", "Timing", "ingest"]

_log = logging.getLogger(__name__)


def ingest(
    adapter: Adapter,
    ids: Iterable[Id],
    vectors: Vectors,
    payloads: Iterable[Payload] | None = None,
    *,
    journal: str | os.PathLike[str] | None = None,
    failed: str | os.PathLike[str] | None = None,
    empty: Empty = "error",
    missing: Missing | None = None,
    versions: Iterable[Version | None] | None = None,
    routing: Iterable[str | None] | None = None,
    codes: Iterable[UInt8s] | None = None,
    batch_bytes: int = 4 * 2**20,
    batch_count: int = 1000,
    in_flight: int | None = None,
    deadline: float = 300.0,
    on_progress: Callable[[IngestProgress], None] | None = None,
    timing: Timing = SYSTEM_TIME,
) -> IngestReport:
    """Write documents: the i-th id with the i-th row of `vectors`, its payload, version and routing.

    `vectors`: SparseVectors, a scipy sparse matrix, a sparse torch tensor or a list of `{index: weight}`; or chunks of
    such, of any size; or a `Restartable`, which begins behind what a journal calls settled and encodes nothing again.
    An id that is given again is written again, in order: the last one wins, and each counts.

    `journal` makes the run resumable: the same call goes on after the last acknowledged batch, and changes nothing when
    all are. Documents that are refused go to the file `failed`, by default beside the journal (`x.journal`,
    `x.failed.jsonl`); without either they are only counted, and the first few named. Both files are readable by their
    owner only. `empty` vectors are refused ("error"), skipped ("skip", what the collection holds under the id stays) or
    written ("write", a document that no query finds). `missing`, `versions` and `routing` go to `Adapter.upsert`
    (C17): documents that are not there, or that changed since `versions` were read, are counted among the failed.
    `codes`: residual codes, an array (n, code_bytes) of uint8 or its rows one by one, for a collection that keeps them
    (C19).

    A request holds at most `batch_count` documents of about `batch_bytes`, fewer when the backend asks for it. While
    requests are under way, `in_flight` of them at most, the next documents are read and encoded; a backend that is busy
    gets fewer. None leaves the number to the backend (`Capabilities.requests_at_once`: 4 for a server, 1 for an engine
    in this process, with which all is done in the caller's thread). Memory holds `in_flight` requests and one more.
    `deadline` is how many seconds may pass without progress; a request waits for its answer no longer than half of what
    is left of them, or a second.

    Raises InvalidInput, also when the sources are not equally long, WrongSpace before anything of another space is
    written, JournalMismatch, StorageFailed, WriteFailed at the deadline, and what the adapter or a source raises, or
    KeyboardInterrupt. Whatever it is, its attribute `report` says what was settled before. Requests that are under way
    are waited for, however a run ends: nothing writes after `ingest` has returned.
    """
    check_adapter(adapter, "upsert")
    _check_files(journal, failed)
    _check(empty=empty, missing=missing, deadline=deadline)
    _check_counts(batch_bytes=batch_bytes, batch_count=batch_count, in_flight=in_flight)
    check_listener(on_progress)
    patience = Patience(deadline, timing)
    account = Account(patience, on_progress)
    try:
        with account:
            info = _look(adapter, patience)
            stream = Stream(ids, vectors, payloads, versions, routing, codes, dimension=info.dimension)
            account.total = stream.total
            _check_coded(codes, info)
            account.open(journal, failed, _header(empty, missing, stream, info))
            pass_over_settled(stream, account, adapter, info, patience)
            _begin(adapter, account)
            at_once = in_flight or info.capabilities.requests_at_once
            perhaps = account.given + at_once * batch_count if account.resumed else 0
            requests = Requests(adapter, empty=empty, missing=missing, limit=batch_bytes, sent_before=perhaps)
            with Flight(requests, account, patience, at_once) as flight:
                for window in _windows(stream, batch_count, flight):
                    _check_window(window, info, account)
                    for batch in requests.cut(window):
                        flight.send(batch)
            return _end(adapter, info, account)
    except BaseException as error:
        _leave(error, account)


def _check(*, empty: str, missing: str | None, deadline: float) -> None:
    if empty not in get_args(Empty):
        raise InvalidInput(f"empty must be one of {get_args(Empty)}, found {empty!r:.80}")
    if missing is not None and missing not in get_args(Missing):
        raise InvalidInput(f"missing must be one of {get_args(Missing)} or None, found {missing!r:.80}")
    check_deadline(deadline)


def _check_counts(**counts: int | None) -> None:
    for name, count in counts.items():
        if count is not None:
            check_k(count, name)


def _check_files(journal: object, failed: object) -> None:
    files = [as_path(path, name) for name, path in (("journal", journal), ("failed", failed)) if path is not None]
    if len({os.path.realpath(path) for path in files}) < len(files):
        raise InvalidInput(f"journal and failed must be two files, found {printable(files[0])} twice")


def _look(adapter: Adapter, patience: Patience) -> Info:
    info = patience.ask(adapter.info)
    if not info.exists:
        raise CollectionError(f"{adapter!r} has no collection yet; adapter.create(dimension) makes one")
    return info


def _check_coded(codes: object, info: Info) -> None:
    """Raises InvalidInput for codes that the collection does not keep, or that it expects and are not given (C19)."""
    if codes is None and info.code_bytes is not None:
        raise InvalidInput(f"the collection keeps residual codes of {info.code_bytes} bytes; give codes= as well")
    if codes is not None and info.code_bytes is None:
        raise InvalidInput(
            "the collection keeps no residual codes; create(dimension, code_bytes=...) makes one that does, or leave "
            "codes= out"
        )


def _header(empty: Empty, missing: Missing | None, stream: Stream, info: Info) -> Header:
    return Header(
        empty=empty,
        missing=missing,
        source=stream.identity,
        collection=info.identity,
        fingerprint=info.fingerprint,
    )


def _begin(adapter: Adapter, account: Account) -> None:
    _log.info("ingest into %r begins, %d documents are settled already", adapter, account.given)
    account.tell()


def _windows(stream: Stream, count: int, flight: Flight) -> Iterator[Batch]:
    """All of the stream; at its end, and before a source's own error, all that came before is settled."""
    try:
        while (window := stream.take(count)) is not None:
            yield window
    except Exception:
        flight.land()
        raise
    flight.land()


def _check_window(window: Batch, info: Info, account: Account) -> None:
    """Before any of it is sent. Raises InvalidInput for what this backend has not, WrongSpace (C18)."""
    versions, routing = window.versions, window.routing if any(window.routing) else None
    check_options(info.backend, info.capabilities, versions=versions, routing=routing, missing=None)
    check_space(window.vectors, info.fingerprint or account.space)


def _end(adapter: Adapter, info: Info, account: Account) -> IngestReport:
    account.collection_fingerprint = info.fingerprint
    if info.fingerprint is None and account.space is not None:
        with suppress(SparsevecError):  # the first vectors that are written say of which space a collection is
            account.collection_fingerprint = adapter.info().fingerprint
    report = account.report()
    _log.info("ingest into %r ends: %s", adapter, str(report).partition("\n")[0])
    return report


def _leave(error: BaseException, account: Account) -> NoReturn:
    """Raise `error`, with the report of what was settled."""
    report = account.report()
    if account.total is not None:
        report = report.model_copy(update={"unreached": max(0, account.total - report.given)})
    _log.info("ingest stops at position %d: %s", report.given, type(error).__name__)
    if isinstance(error, OutOfPatience):
        place = f"stopped at position {report.given}"
        settled = f"everything before that position is settled, {account.advice}"
        raise WriteFailed(f"{place}: {error}; {settled}", report) from error.__cause__
    with suppress(Exception):  # an exception of others' may take no attribute
        error.report = report  # type: ignore[attr-defined]
    if not isinstance(error, SparsevecError):
        error.add_note(f"ingest: {report}\n  {account.advice}")
    raise error
