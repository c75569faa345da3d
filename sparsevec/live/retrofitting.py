"""`retrofit`: sparse vectors beside the dense ones that a cluster serves already.

Read `looks` first: everything that is written is written by a look. A retrofit is: see what is there, draw a sample,
fit or load the encoder (`beforehand`), add the field, and look until a look finds nothing left. Nothing is refused
after the first change that could have been refused before it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from sparsevec.contract.adapter import Adapter, Page
from sparsevec.contract.checks import check_seed
from sparsevec.encoder import Budget, SparseEncoder
from sparsevec.errors import CollectionError
from sparsevec.ingestion.patience import check_deadline
from sparsevec.live.beforehand import Found, Lessons, find, learned
from sparsevec.live.changes import checkpoint_of, pages_since
from sparsevec.live.folder import Folder, Note
from sparsevec.live.looks import Looking, patient
from sparsevec.live.opening import USUAL, check_rate, check_sample, opened, place_of
from sparsevec.live.proving import proved
from sparsevec.live.reports import Look, RetrofitReport
from sparsevec.live.rows import DenseSource, pages_of
from sparsevec.live.seen import Seen
from sparsevec.live.telling import Telling
from sparsevec.progress import Listener, check_listener

__all__ = ["retrofit"]

_LOOKS = 5  # at most, of one retrofit: where others write all the time, the last of it is the next catch-up's


def retrofit(
    where: str | Adapter,
    *,
    model: str | os.PathLike[str],
    dense_field: DenseSource | None = None,
    budget: Budget | None = None,
    output_dim: int = 8192,
    queries: Any | None = None,
    refine: bool = False,
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
    `Budget(nnz=32, flops=0.65)`); that needs the extra `train`. With `refine` the codes are fitted to this corpus, for
    which `sample` must be all of it; rows that come or change later get what `encode_document` gives. The folder also
    remembers what was added where.

    Writes go out at `rate` documents a second at most, slower where the backend is busy, each under the version that
    was read where the backend has versions. Nothing else of a document is touched, none is made, and what was deleted
    meanwhile stays deleted. After a kill the same call goes on. `check` verifies at the end that answers are exact.
    `dry_run` changes nothing in the cluster: it says what would be written.

    Raises, before anything is changed, InvalidInput (no dense rows, or of several widths, or not the encoder's),
    CollectionError (no such collection, a field that others made), BackendUnsupported (an index whose other fields
    a write could not keep), StorageFailed (another run works with the folder); later, what `ingest` raises.
    """
    began = time.perf_counter()
    check_rate(rate)
    check_sample(sample)
    check_seed(seed)
    check_deadline(deadline)
    check_listener(on_progress)
    lessons = Lessons(budget or USUAL, output_dim, queries, refine, seed)
    with (
        opened(where, credentials) as adapter,
        Folder(model).locked(make=True) as folder,
        Telling(folder, place_of(adapter), on_progress) as telling,
    ):
        place = place_of(adapter)
        with telling.doing("sample") as told:
            found = find(adapter, folder, dense_field, sample, lessons)
            told |= {"rows": len(found.sample.rows), "looked": found.sample.looked}
        telling.total = found.sample.looked if found.sample.whole else None
        codes = learned(found, lessons, telling, on_progress)
        looking = Looking(adapter, codes, seen=Seen(folder.path, place), rate=rate, deadline=deadline, tell=telling)
        judged = None
        if dry_run:
            telling.stage = "dry run"
            looks, note = [looking.look(_every(found, deadline), whole=True, write=False)], found.note
            telling.look("dry run", looks[0])
        else:
            note = _made(found, codes.encoder)
            looks = list(_looks(found, note, looking, telling))
            note = folder.note_of(note.place, adapter.info()) or note  # with the checkpoint of the last look
            note = folder.keep(note.model_copy(update={"complete": True}))
            if check:
                with telling.doing("verify") as told:
                    judged = proved(adapter, codes.encoder, found.sample.rows)
                    told |= {"exact": None if judged is None else judged.exact}
        report = RetrofitReport(
            place=place,
            backend=found.info.backend,
            dense=found.named,
            model=str(folder.path),
            fingerprint=codes.encoder.fingerprint,
            dimension=codes.encoder.output_dim,
            fitted=found.encoder is None,
            encoder=str(codes.encoder.figures),
            sample=len(found.sample.rows),
            sample_of=found.sample.looked,
            refined=len(codes),
            added=note is not None and note.added == "made",
            looks=tuple(looks),
            verified=judged,
            dry_run=dry_run,
            seconds=time.perf_counter() - began,
        )
        telling.end("dry run" if dry_run else "done", report)
    return report


def _made(found: Found, encoder: SparseEncoder) -> Note:
    """Our field is there, and the folder knows whether it was made here, also when the process ends in between."""
    note = found.note or Note(
        place=place_of(found.adapter),
        dense=found.named,
        made=callable(found.dense),
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
        found.adapter.create(encoder.output_dim, fingerprint=encoder.fingerprint, code_bytes=encoder.residual_bytes)
        added = "made"
    return found.folder.keep(note.model_copy(update={"added": added, "identity": found.adapter.info().identity}))


def _every(found: Found, deadline: float) -> Iterator[Page]:
    return patient(lambda after: pages_of(found.adapter, found.dense, vectors=True, after=after), deadline)


def _looks(found: Found, note: Note, looking: Looking, telling: Telling) -> Iterator[Look]:
    """The backfill, and looks at all again until one finds nothing; those after the second read what changed only."""
    for number in range(_LOOKS):
        telling.stage = "backfill" if number == 0 else f"look {number + 1}"
        checkpoint = checkpoint_of(found.adapter)
        whole = number < 2 or note.checkpoint is None
        pages = (
            _every(found, looking.deadline)
            if whole
            else patient(partial(pages_since, found.adapter, found.dense, note.checkpoint or ""), looking.deadline)
        )
        look = looking.look(pages, whole=whole)
        if not look.failed:  # else what was refused is looked at again
            note = found.folder.keep(note.model_copy(update={"checkpoint": checkpoint}))
        telling.look(telling.stage, look)
        yield look
        if look.settled:
            return
