"""`catch_up` with what others did since, and `follow`, which does so again and again."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

from sparsevec.contract.adapter import Adapter, Info
from sparsevec.encoder import SparseEncoder
from sparsevec.errors import CollectionError, InvalidInput, PlaceForgotten, WrongSpace
from sparsevec.ingestion.patience import check_deadline
from sparsevec.live.changes import checkpoint_of, pages_since
from sparsevec.live.codes import Codes
from sparsevec.live.folder import Folder, Note
from sparsevec.live.looks import Looking, patient
from sparsevec.live.opening import check_rate, opened, place_of
from sparsevec.live.reports import CatchUpReport, Look
from sparsevec.live.rows import DenseSource, pages_of, source_name
from sparsevec.live.sample import drawn, noted_source
from sparsevec.live.seen import Seen
from sparsevec.live.telling import Telling
from sparsevec.progress import Listener, check_listener

__all__ = ["catch_up", "follow", "repeated"]

_Report = TypeVar("_Report")
_SAMPLE = 1000  # dense rows of a field that was filled by hand, which are looked at first


def catch_up(
    where: str | Adapter,
    *,
    model: str | os.PathLike[str],
    dense_field: DenseSource | None = None,
    rate: float | None = None,
    deadline: float = 300.0,
    dry_run: bool = False,
    on_progress: Listener | None = None,
    **credentials: Any,
) -> CatchUpReport:
    """Find what is new, missing or stale since the last look, and write only that.

    Where the backend can say what changed (Elasticsearch, OpenSearch) only that is read; elsewhere, or when that was
    forgotten, every document is, and the report says why. The arguments are those of `retrofit`; the field may also
    have been made and filled by hand, with the encoder in `model` (and, where its codes were refined, `keep_refined`).
    `dry_run` says what would be written. Raises what `retrofit` raises.
    """
    check_rate(rate)
    check_deadline(deadline)
    check_listener(on_progress)
    with (
        opened(where, credentials) as adapter,
        Folder(model).locked() as folder,
        Telling(folder, place_of(adapter), on_progress) as telling,
    ):
        encoder, info, place = folder.load(), adapter.info(), place_of(adapter)
        note = folder.note_of(place, info)
        _check_same(info, encoder, place)
        dense = noted_source(info, dense_field, note)
        if note is None and adapter.count():  # who has no row loses our vector, so that a field of nobody's is refused
            drawn(adapter, dense, _SAMPLE, encoder=encoder)
        known = note or Note(
            place=place,
            dense=source_name(dense),
            made=callable(dense),
            fingerprint=encoder.fingerprint,
            added="was there",
        )
        seen = Seen(folder.path, place)
        telling.stage = "catching up"
        looking = Looking(
            adapter, Codes.load(folder.path, encoder), seen=seen, rate=rate, deadline=deadline, tell=telling
        )
        checkpoint = checkpoint_of(adapter)
        look, why = _caught(dense, known, looking, telling, checkpoint, write=not dry_run)
        telling.look("catch-up", look)
        if not dry_run:
            since = known.checkpoint if look.failed else checkpoint  # what was refused is looked at again
            folder.keep(known.model_copy(update={"checkpoint": since, "identity": info.identity}))
        report = CatchUpReport(place=place, fingerprint=encoder.fingerprint, look=look, why_whole=why, dry_run=dry_run)
        telling.end("caught up", report)
    return report


def _check_same(info: Info, encoder: SparseEncoder, place: str) -> None:
    if not info.exists:
        raise CollectionError(f"{place} is not there; retrofit adds it")
    if info.fingerprint is not None and info.fingerprint != encoder.fingerprint:
        raise WrongSpace(
            f"{place} holds vectors of the encoder {info.fingerprint}, the folder's is {encoder.fingerprint}; name the "
            f"folder of that one"
        )


def _caught(
    dense: DenseSource, note: Note, looking: Looking, telling: Telling, checkpoint: str | None, *, write: bool
) -> tuple[Look, str | None]:
    adapter = looking.adapter
    if checkpoint is None:
        why: str | None = "this backend does not say what changed"
    elif note.checkpoint is None:
        why = "there was no whole look before that anything could have changed since"
    else:
        try:
            pages = patient(partial(pages_since, adapter, dense, note.checkpoint), looking.deadline)
            return looking.look(pages, whole=False, write=write), None
        except PlaceForgotten:
            why = "the index is another one than at the last look"
    telling.total = count = adapter.count()
    size = 4 * count * looking.codes.encoder.input_dim
    telling.before(
        f"every document is read: {why}; {count:,} have a vector of ours, and dense rows of {size / 1e6:,.1f} MB",
        documents=count,
        bytes=size,
    )
    every = patient(lambda after: pages_of(adapter, dense, vectors=True, after=after), looking.deadline)
    return looking.look(every, whole=True, write=write), why


def follow(
    where: str | Adapter,
    *,
    model: str | os.PathLike[str],
    every: float = 60.0,
    sleep: Callable[[float], None] = time.sleep,
    **options: Any,
) -> Iterator[CatchUpReport]:
    """Catch up every so many seconds, for as long as the caller asks for the next report. `options`: `catch_up`'s.

    Raises InvalidInput where `every` is no number of seconds.
    """
    if isinstance(every, bool) or not isinstance(every, (int, float)) or not every >= 0:
        raise InvalidInput(f"every must be a number of seconds, found {every!r:.80}")
    return repeated(partial(catch_up, where, model=model, **options), every, sleep)


def repeated(do: Callable[[], _Report], every: float, sleep: Callable[[float], None] = time.sleep) -> Iterator[_Report]:
    """What `do` reports, again every so many seconds from its beginning, or at once where it took longer."""
    while True:
        began = time.monotonic()
        yield do()
        sleep(max(0.0, every - (time.monotonic() - began)))
