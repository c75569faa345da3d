"""`retrofit`: sparse vectors beside the dense ones that a cluster serves already, and `catch_up` with what others did.

Read `looks` first: everything that is written is written by a look. A retrofit is: see what is there, draw a sample,
fit or load the encoder, add the field, and look until a look finds nothing left. Nothing is refused after the first
change that could have been refused before it.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from sparsevec.contract.adapter import Adapter, Info, Page
from sparsevec.contract.checks import Id
from sparsevec.contract.connect import connect
from sparsevec.encoder import Budget, SparseEncoder
from sparsevec.errors import BackendUnsupported, CollectionError, InvalidInput, PlaceForgotten, WrongSpace
from sparsevec.exact.verify import VerifyReport, verify
from sparsevec.live.changes import checkpoint_of, pages_since
from sparsevec.live.folder import Folder, Note, place_of
from sparsevec.live.looks import Look, Looking, patient
from sparsevec.live.rows import DenseSource, pages_of, source_name
from sparsevec.live.sample import Sample, dense_source, drawn
from sparsevec.progress import Listener, Progress
from sparsevec.vectors import SparseVectors

__all__ = ["CatchUpReport", "RetrofitReport", "catch_up", "follow", "opened", "retrofit"]

_log = logging.getLogger(__name__)
_LOOKS = 5  # at most, of one retrofit: where others write all the time, the last of it is the next catch-up's
_QUERIES = 50  # rows of the sample that ask, to verify
_TRIES = 3  # of a verification while others write
_IN_MEMORY = 200_000  # documents of a verification: 32 weights each are 50 MB


class CatchUpReport(BaseModel):
    """What one catch-up found and wrote."""

    model_config = ConfigDict(frozen=True)

    place: str
    fingerprint: str
    look: Look
    why_whole: str | None = None
    """why every document was read, where what changed could not be asked for"""

    @property
    def complete(self) -> bool:
        return not self.look.failed

    def __str__(self) -> str:
        why = f"\n  every document was read: {self.why_whole}" if self.why_whole else ""
        return f"{self.place}: {self.look}{why}"


class RetrofitReport(BaseModel):
    """What a retrofit did. `looks` are its walks through the documents; the last says what is left."""

    model_config = ConfigDict(frozen=True)

    place: str
    backend: str
    dense: str
    model: str
    """the folder of the encoder and of what a later catch-up or undo needs"""
    fingerprint: str
    dimension: int
    fitted: bool
    """the encoder was learned here, from a sample; False: it was there"""
    encoder: str
    """its figures, measured on rows that it did not learn from"""
    sample: int
    sample_of: int
    """documents that the sample was drawn from"""
    added: bool
    """our field was added, by this run or an earlier one with the same folder"""
    looks: tuple[Look, ...]
    verified: VerifyReport | None = None
    """of a sample of rows as queries; None: not asked for, too many documents for memory, or others wrote all along"""
    dry_run: bool = False
    seconds: float = 0.0

    @property
    def written(self) -> int:
        return sum(look.written for look in self.looks)

    @property
    def looked_again(self) -> int:
        """Documents that changed under a look, or were found stale by a later one."""
        return sum(look.changed for look in self.looks) + sum(look.stale for look in self.looks[1:])

    @property
    def settled(self) -> bool:
        """The last look found nothing left to do."""
        return self.looks[-1].settled

    @property
    def complete(self) -> bool:
        """No document was refused, and every hit that was judged is exact."""
        return not any(look.failed for look in self.looks) and (self.verified is None or self.verified.exact)

    def __str__(self) -> str:
        how = f"learned from {self.sample:,} of {self.sample_of:,} documents" if self.fitted else "as it was there"
        lines = [
            f"{self.place} on {self.backend}: sparse vectors of {self.dense!r}",
            f"  encoder {self.fingerprint} in {self.model}, {how}: {self.encoder}",
            *(f"  look {number}: {look}" for number, look in enumerate(self.looks, 1)),
        ]
        if self.dry_run:
            return "\n".join([*lines, "  a dry run: nothing was changed"])
        left = "nothing is left to do" if self.settled else "others write at this moment: the rest is a catch-up's"
        lines.append(f"  {self.written:,} written, {self.looked_again:,} looked at again; {left}")
        if self.verified is not None:
            lines.append(f"  {self.verified}")
        else:
            lines.append("  not verified: not asked for, or others write at this moment")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class _Found:
    """What is there before anything is changed."""

    adapter: Adapter
    folder: Folder
    info: Info
    dense: DenseSource
    note: Note | None
    encoder: SparseEncoder | None
    sample: Sample

    @property
    def named(self) -> str:
        return source_name(self.dense)


def retrofit(
    where: str | Adapter,
    *,
    model: str | os.PathLike[str],
    dense_field: DenseSource | None = None,
    budget: Budget | None = None,
    output_dim: int = 8192,
    queries: Any | None = None,
    sample: int = 20_000,
    seed: int = 0,
    rate: float | None = None,
    deadline: float = 300.0,
    check: bool = True,
    dry_run: bool = False,
    on_progress: Listener | None = None,
    **credentials: Any,
) -> RetrofitReport:
    """Add a field of sparse vectors to a collection that serves, made from the dense vectors it holds.

    `where`: a url that names the field or vector to add (`?field=`, `?vector_name=`), or an adapter. `dense_field`: the
    field or vector with dense rows, where there are several; or a function that makes a row (d,), or None, of a
    document. `model`: a folder with an encoder; without one, an encoder of `output_dim` dimensions is learned there
    from a `sample` of the rows, and from `queries` (q, d) where there are some, within `budget` (by default
    `Budget(nnz=32, flops=0.65)`); that needs the extra `train`. The folder also remembers what was added where.

    Writes go out at `rate` documents a second at most, slower where the backend is busy, each under the version that
    was read where the backend has versions. Nothing else of a document is touched, none is made, and what was deleted
    meanwhile stays deleted. After a kill the same call goes on. `check` verifies at the end that answers are exact.
    `dry_run` changes nothing in the cluster: it says what would be written.

    Raises, before anything is changed, InvalidInput (no dense rows, or of several widths, or not the encoder's),
    CollectionError (no such collection, a field that others made), BackendUnsupported (an index whose other fields
    a write could not keep), StorageFailed (another run works with the folder); later, what `ingest` raises.
    """
    began = time.perf_counter()
    _check_numbers(rate=rate, sample=sample)
    budget = budget or Budget(nnz=32, flops=0.65)
    with opened(where, credentials) as adapter, Folder(model).locked() as folder:
        found = _found(adapter, folder, dense_field, sample, seed)
        encoder = found.encoder or _fitted(found, budget, output_dim, queries, seed, on_progress)
        telling = _Telling(folder, place_of(adapter), on_progress, found.sample)
        looking = Looking(adapter, encoder, rate=rate, deadline=deadline, tell=telling)
        if dry_run:
            looks, note, judged = [looking.look(_every(found, deadline), whole=True, write=False)], found.note, None
        else:
            note = _made(found, encoder)
            looks = list(_looks(found, note, looking, telling))
            note = folder.note_of(note.place, adapter.info()) or note  # with the checkpoint of the last look
            note = folder.keep(note.model_copy(update={"complete": looks[-1].settled}))
            judged = _judged(found, encoder) if check else None
        report = RetrofitReport(
            place=place_of(adapter),
            backend=found.info.backend,
            dense=found.named,
            model=str(folder.path),
            fingerprint=encoder.fingerprint,
            dimension=encoder.output_dim,
            fitted=found.encoder is None,
            encoder=str(encoder.figures),
            sample=len(found.sample.rows),
            sample_of=found.sample.looked,
            added=note is not None and note.added == "made",
            looks=tuple(looks),
            verified=judged,
            dry_run=dry_run,
            seconds=time.perf_counter() - began,
        )
        telling.end("dry run" if dry_run else "done", report)
    _log.info("retrofit of %s: %d written, %d looked at again", report.place, report.written, report.looked_again)
    return report


def _check_numbers(*, rate: float | None, sample: int) -> None:
    if rate is not None and (isinstance(rate, bool) or not isinstance(rate, (int, float)) or not rate > 0):
        raise InvalidInput(f"rate must be a positive number of documents a second, or None, found {rate!r:.80}")
    if isinstance(sample, bool) or not isinstance(sample, int) or sample < 16:
        raise InvalidInput(f"sample must be at least 16 rows, found {sample!r:.80}")


@contextmanager
def opened(where: str | Adapter, credentials: Mapping[str, Any]) -> Iterator[Adapter]:
    """The adapter of a url, closed at the end; or the caller's, which stays open."""
    if isinstance(where, str):
        with connect(where, **credentials) as adapter:
            yield adapter
        return
    if credentials:
        raise InvalidInput(f"credentials {sorted(credentials)} go with a url; an adapter has its own")
    yield where


# ---- before anything is changed


def _found(adapter: Adapter, folder: Folder, dense_field: DenseSource | None, most: int, seed: int) -> _Found:
    info = adapter.info()
    if blocking := [finding for finding in adapter.check() if finding.level == "blocking"]:
        raise BackendUnsupported("; ".join(f"{finding.found}: {finding.advice}" for finding in blocking))
    note = folder.note_of(place_of(adapter), info)
    encoder = folder.load() if folder.has_encoder() else None
    _check_field(info, note, encoder)
    dense = dense_source(info, dense_field)
    if note is not None and note.dense != source_name(dense):
        raise InvalidInput(
            f"{note.place} was filled from {note.dense!r}, this call names {source_name(dense)!r}; undo it first, or "
            f"name another field for the vectors of that one"
        )
    found = drawn(adapter, dense, most, width=encoder.input_dim if encoder else None, seed=seed)
    return _Found(adapter, folder, info, dense, note, encoder, found)


def _check_field(info: Info, note: Note | None, encoder: SparseEncoder | None) -> None:
    """Our field must not be there, or be what an earlier run with this folder left, or an empty collection of ours."""
    if not info.exists:
        return
    if info.fingerprint is not None and encoder is not None and info.fingerprint != encoder.fingerprint:
        raise WrongSpace(
            f"the field holds vectors of the encoder {info.fingerprint}, the folder's is {encoder.fingerprint}; name "
            f"another field, and move over to it"
        )
    known = note is not None and (encoder is None or note.fingerprint == encoder.fingerprint)
    if not known and not (info.ours and info.fingerprint is None):
        who = f"an encoder {info.fingerprint}" if info.fingerprint else "others"
        raise CollectionError(
            f"the field is there already, with vectors of {who}, and this folder does not know it; name another field, "
            f"catch up with it if the encoder is the same, or drop it first"
        )


def _fitted(
    found: _Found, budget: Budget, output_dim: int, queries: Any | None, seed: int, on_progress: Listener | None
) -> SparseEncoder:
    encoder = SparseEncoder(found.sample.width, output_dim, seed)
    _log.info("retrofit learns an encoder from %d rows", len(found.sample.rows))
    encoder.fit(found.sample.rows, queries, budget=budget, on_step=on_progress)
    found.folder.save(encoder)
    return encoder


# ---- changing


def _made(found: _Found, encoder: SparseEncoder) -> Note:
    """Our field is there, and the folder knows whether it was made here, also when the process ends in between."""
    note = found.note or Note(
        place=place_of(found.adapter),
        dense=found.named,
        fingerprint=encoder.fingerprint,
        added="was there" if found.info.exists else "making",
    )
    if found.info.exists:
        if found.info.dimension not in (None, encoder.output_dim):
            raise CollectionError(
                f"the collection has {found.info.dimension} dimensions, the encoder makes {encoder.output_dim}; name "
                f"another folder with model="
            )
        added = "made" if note.added == "making" else note.added
    else:
        found.folder.keep(note.model_copy(update={"added": "making"}))
        found.adapter.create(encoder.output_dim, fingerprint=encoder.fingerprint)
        added = "made"
    return found.folder.keep(note.model_copy(update={"added": added, "identity": found.adapter.info().identity}))


def _every(found: _Found, deadline: float) -> Iterator[Page]:
    return patient(lambda after: pages_of(found.adapter, found.dense, vectors=True, after=after), deadline)


def _looks(found: _Found, note: Note, looking: Looking, telling: _Telling) -> Iterator[Look]:
    """The backfill, and looks at all again until one finds nothing; those after the second read what changed only."""
    for number in range(_LOOKS):
        telling.stage = "backfill" if number == 0 else f"look {number + 1}"
        checkpoint = checkpoint_of(found.adapter)
        whole = number < 2 or note.checkpoint is None
        pages = (
            _every(found, looking.deadline)
            if whole
            else patient(partial(_since, found.adapter, found.dense, note.checkpoint or ""), looking.deadline)
        )
        look = looking.look(pages, whole=whole)
        note = found.folder.keep(note.model_copy(update={"checkpoint": checkpoint}))
        _log.info("%s of %s: %s", telling.stage, note.place, str(look).partition("\n")[0])
        yield look
        if look.settled:
            return


def _since(adapter: Adapter, dense: DenseSource, checkpoint: str, after: str | None) -> Iterator[Page]:
    return pages_since(adapter, dense, checkpoint, after)


# ---- after it


def _judged(found: _Found, encoder: SparseEncoder) -> VerifyReport | None:
    """Whether the backend answers what exact arithmetic says of all that it holds. None when that is too much to hold
    in memory, or others write all the time, so that what was read is not what was searched."""
    queries = encoder.encode_query(found.sample.rows[:_QUERIES])
    for _ in range(_TRIES):
        if (held := _held(found.adapter)) is None:
            return None
        report = verify(found.adapter, held[1], queries, 10, ids=held[0])
        if report.exact or _held(found.adapter) == held:
            return report
    return None


def _held(adapter: Adapter) -> tuple[list[Id], SparseVectors] | None:
    """Every vector of ours, by id; None when there are none, or more than fit in memory."""
    ids: list[Id] = []
    parts: list[SparseVectors] = []
    for page in adapter.scan(vectors=True):
        assert page.vectors is not None
        assert page.holds is not None
        rows = np.flatnonzero(page.holds)
        ids += [page.ids[row] for row in rows.tolist()]
        parts.append(page.vectors[rows])
        if len(ids) > _IN_MEMORY:
            return None
    order = sorted(range(len(ids)), key=lambda row: str(ids[row]))
    return ([ids[row] for row in order], SparseVectors.concat(parts)[order]) if ids else None


class _Telling:
    """How far it is: to the folder's status file, and to the caller."""

    def __init__(self, folder: Folder, place: str, listener: Listener | None, sample: Sample | None) -> None:
        self._folder, self._place, self._listener = folder, place, listener
        self._total = sample.looked if sample is not None and sample.whole else None
        self._began = time.monotonic()
        self.stage = "looking"

    def __call__(self, looked: int, written: int) -> None:
        seconds = time.monotonic() - self._began
        self._folder.tell(
            {"place": self._place, "stage": self.stage, "looked": looked, "total": self._total, "written": written}
        )
        if self._listener is not None:
            fraction = min(1.0, looked / self._total) if self._total else 0.0
            text = f"{looked:,} documents looked at, {written:,} to be written"
            figures = {"looked": looked, "written": written}
            self._listener(Progress(self.stage, looked, self._total or 0, fraction, seconds, text, figures))

    def end(self, stage: str, report: BaseModel) -> None:
        figures = {"place": self._place, "stage": stage, "report": report.model_dump(mode="json")}
        self._folder.tell(figures, at_once=True)


# ---- afterwards


def catch_up(
    where: str | Adapter,
    *,
    model: str | os.PathLike[str],
    dense_field: DenseSource | None = None,
    rate: float | None = None,
    deadline: float = 300.0,
    on_progress: Listener | None = None,
    **credentials: Any,
) -> CatchUpReport:
    """Find what is new, missing or stale since the last look, and write only that.

    Where the backend can say what changed (Elasticsearch, OpenSearch) only that is read; elsewhere, or when that was
    forgotten, every document is, and the report says why. The arguments are those of `retrofit`; the field may also
    have been made and filled by hand, with the encoder in `model`. Raises what `retrofit` raises.
    """
    _check_numbers(rate=rate, sample=16)
    with opened(where, credentials) as adapter, Folder(model).locked() as folder:
        encoder, info, place = folder.load(), adapter.info(), place_of(adapter)
        note = folder.note_of(place, info)
        _check_same(info, encoder, place)
        if dense_field is None and note is not None and note.dense:
            dense_field = note.dense
        dense = dense_source(info, dense_field)
        known = note or Note(place=place, dense=source_name(dense), fingerprint=encoder.fingerprint, added="was there")
        telling = _Telling(folder, place, on_progress, None)
        telling.stage = "catching up"
        looking = Looking(adapter, encoder, rate=rate, deadline=deadline, tell=telling)
        checkpoint = checkpoint_of(adapter)
        look, why = _caught(adapter, dense, known, looking, checkpoint)
        folder.keep(known.model_copy(update={"checkpoint": checkpoint, "identity": info.identity}))
        report = CatchUpReport(place=place, fingerprint=encoder.fingerprint, look=look, why_whole=why)
        telling.end("caught up", report)
    _log.info("catch-up of %s", str(report).partition("\n")[0])
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
    adapter: Adapter, dense: DenseSource, note: Note, looking: Looking, checkpoint: str | None
) -> tuple[Look, str | None]:
    if checkpoint is None:
        why: str | None = "this backend does not say what changed"
    elif note.checkpoint is None:
        why = "there was no whole look before that anything could have changed since"
    else:
        try:
            pages = patient(partial(_since, adapter, dense, note.checkpoint), looking.deadline)
            return looking.look(pages, whole=False), None
        except PlaceForgotten:
            why = "the index is another one than at the last look"
    every = patient(lambda after: pages_of(adapter, dense, vectors=True, after=after), looking.deadline)
    return looking.look(every, whole=True), why


def follow(
    where: str | Adapter,
    *,
    model: str | os.PathLike[str],
    every: float = 60.0,
    sleep: Callable[[float], None] = time.sleep,
    **options: Any,
) -> Iterator[CatchUpReport]:
    """Catch up every so many seconds, for as long as the caller asks for the next report. `options`: `catch_up`'s."""
    while True:
        began = time.monotonic()
        yield catch_up(where, model=model, **options)
        sleep(max(0.0, every - (time.monotonic() - began)))
