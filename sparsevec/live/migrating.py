"""`migrate`: another encoder, later: its field beside the first, filled, verified; reads switched; the old one dropped.

    sv.migrate(URL, model="model/", to="model-2/")      # as often as needed; nothing that serves changes
    sv.switch(URL, model="model/", to="model-2/")       # every `Serving` with model/ asks the new field from now on
    sv.drop_old(URL, model="model/", to="model-2/")     # takes the vectors of the first out

A migration is a retrofit of a second field, so all that is said of one holds: it is resumed, guarded, accounted, caught
up with and taken back like that, and the first field is caught up with as before. The new encoder may be learned from
another dense field, as when the embedding model changes. Which field serves is said by a file in the first folder
(`serving`); the cluster needs to know nothing of it.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from functools import partial
from typing import Any

from pydantic import BaseModel, ConfigDict

from sparsevec.contract.adapter import Adapter
from sparsevec.contract.urls import Url
from sparsevec.errors import CollectionError, InvalidInput, printable
from sparsevec.exact.verify import VerifyReport
from sparsevec.live.catching_up import catch_up
from sparsevec.live.folder import Folder, Note
from sparsevec.live.many import EachReport, each
from sparsevec.live.opening import check_urls, opened, place_of
from sparsevec.live.proving import proved
from sparsevec.live.reports import CatchUpReport, RetrofitReport
from sparsevec.live.retrofitting import retrofit
from sparsevec.live.rows import DenseSource
from sparsevec.live.sample import drawn, noted_source
from sparsevec.live.serving import forget_moved, keep_moved, moved_from
from sparsevec.live.undoing import UndoReport, undo_retrofit
from sparsevec.progress import Listener
from sparsevec.storage import as_path

__all__ = ["SwitchReport", "catch_up_both", "drop_old", "field_beside", "migrate", "switch", "switch_back"]

_NAMING = ("field", "vector_name")  # options of a url that name the field or vector in a collection
_TRIES = 5  # catch-ups before a switch, while others write
_ASKING = 50  # dense rows that ask, to verify


class SwitchReport(BaseModel):
    """Where reads go now, and what was seen before they did."""

    model_config = ConfigDict(frozen=True)

    reads: str
    """the url of the field that serves"""
    model: str
    """the folder of its encoder"""
    old: int | None = None
    """documents with a vector in the field that served before"""
    new: int | None = None
    caught: tuple[CatchUpReport, ...] = ()
    """what was written at last"""
    verified: VerifyReport | None = None
    """None: not asked for, too many documents for memory, or others wrote all along"""

    @property
    def complete(self) -> bool:
        """Always: what is not complete is not switched."""
        return True

    def __str__(self) -> str:
        lines = [f"reads go to {self.reads} with the encoder in {self.model}"]
        if self.new is not None:
            lines.append(f"  {self.new:,} documents have a vector there, {self.old:,} one in the field before")
        lines += [f"  {caught}" for caught in self.caught]
        lines += [f"  {self.verified}"] if self.verified is not None else []
        return "\n".join(lines)


def field_beside(where: str, into: str | None = None) -> str:
    """The url of the second field: `into`, or that of the first with the next number: `sparse`, `sparse_2`, `sparse_3`.

    Raises InvalidInput when the url names no field or vector, so that there can be no second in the collection.
    """
    check_urls(where, *([] if into is None else [into]))
    if into is not None:
        if str(Url.parse(into)) == str(Url.parse(where)):
            raise InvalidInput("the second field is to be another one than the first; name it with into=")
        return str(Url.parse(into))
    url = Url.parse(where)
    options = [name for name in _NAMING if name in url.options]
    if not options:
        raise InvalidInput(
            "the url names no field or vector (?field=, ?vector_name=), so there is no name for a second one beside "
            "it; name it in the url, or that of the second with into="
        )
    name, number = re.fullmatch(r"(.*?)(?:_(\d+))?", url.options[options[0]], re.DOTALL).groups()  # type: ignore[union-attr]
    return str(replace(url, options={**url.options, options[0]: f"{name}_{int(number or 1) + 1}"}))


def migrate(
    where: str,
    *,
    model: str | os.PathLike[str],
    to: str | os.PathLike[str],
    into: str | None = None,
    dense_field: DenseSource | None = None,
    credentials: dict[str, Any] | None = None,
    **options: Any,
) -> RetrofitReport:
    """Fill a second field, with the encoder in `to`, beside the one of `where` with the encoder in `model`.

    `into`: the url of the second field; by default that of the first with the next number. `dense_field`: by default
    the one that the first was filled from. Without an encoder in `to` one is learned there. The other arguments are
    `retrofit`'s, and so is the report. Nothing of the first field changes, and reads go on there until `switch`. May be
    called again, after a kill too. Raises InvalidInput where both folders are one, or `model` holds no encoder, and
    what `retrofit` raises.
    """
    second, secrets = field_beside(where, into), credentials or {}
    first = _first(model, to)
    if dense_field is None:
        with opened(where, secrets) as adapter:
            info = adapter.info()
            note = first.note_of(place_of(adapter), info)
            dense_field = None if note is None else noted_source(info, None, note)
    return retrofit(second, model=to, dense_field=dense_field, **options, **secrets)


def _first(model: str | os.PathLike[str], to: str | os.PathLike[str]) -> Folder:
    """The folder of the first field, which is only read: a catch-up may work there."""
    if as_path(model, "model").resolve() == as_path(to, "to").resolve():
        raise InvalidInput("each field has a folder of its own: to= must be another one than model=")
    first = Folder(model)
    first.load()
    return first


def switch(
    where: str,
    *,
    model: str | os.PathLike[str],
    to: str | os.PathLike[str],
    into: str | None = None,
    dense_field: DenseSource | None = None,
    check: bool = True,
    deadline: float = 300.0,
    **credentials: Any,
) -> SwitchReport:
    """Let every `Serving` of `where` with `model` ask the second field from its next search on.

    Before that the second field is caught up with until nothing is left to do, must hold a vector of as many documents
    as the first, and is verified (`check`). `dense_field`: as for `migrate`, where it is a function. Nothing in the
    cluster is changed but that, and both fields stay, so `switch_back` undoes it. Raises InvalidInput where the second
    field is not filled yet, CollectionError where it would answer with fewer documents or not exactly, and then reads
    go on as before; and what `catch_up` raises.
    """
    second, first = field_beside(where, into), _first(model, to)
    note = _filled(first, second, to, credentials)
    with opened(second, credentials) as new:
        dense = noted_source(new.info(), dense_field, note)
    caught: list[CatchUpReport] = []
    while len(caught) < _TRIES and not (caught and caught[-1].look.settled):
        caught.append(catch_up(second, model=to, dense_field=dense, deadline=deadline, **credentials))
        if not caught[-1].complete:
            raise CollectionError(f"the second field cannot be completed, and reads stay where they are: {caught[-1]}")
    with opened(where, credentials) as old, opened(second, credentials) as new:
        before = old.count() if old.info().exists else 0
        after = new.count()
        if after < before:
            raise CollectionError(
                f"the first field holds vectors of {before:,} documents and the second of {after:,}, so that "
                f"{before - after:,} would not be found any more; reads stay where they are. Give these documents a "
                f"dense row that can be encoded (a catch-up of the second names some), and switch again"
            )
        verified = _verified(new, to, dense) if check else None
    with Folder(to).locked() as folder:
        folder.keep(_note(folder, second, credentials).model_copy(update={"serves": True}))
        keep_moved(first.path, second, folder.path, note.dense)
    return SwitchReport(reads=second, model=str(to), old=before, new=after, caught=tuple(caught), verified=verified)


def _filled(first: Folder, second: str, to: str | os.PathLike[str], secrets: dict[str, Any]) -> Note:
    """What the folder says of the second field."""
    if (moved := moved_from(first.path)) is not None and moved.url != second:
        raise InvalidInput(
            f"reads of {printable(first.path)} go to {moved.url} already; migrate from there, or switch back first"
        )
    note = _note(Folder(to), second, secrets)
    if not note.complete:
        raise InvalidInput(f"{note.place} is not filled to its end yet; migrate again, which goes on, and then switch")
    return note


def _note(folder: Folder, second: str, secrets: dict[str, Any]) -> Note:
    with opened(second, secrets) as adapter:
        place, note = place_of(adapter), folder.note_of(place_of(adapter), adapter.info())
    if note is None:
        raise InvalidInput(f"{printable(folder.path)} knows of no migration to {place}; migrate first")
    return note


def _verified(new: Adapter, to: str | os.PathLike[str], dense: DenseSource) -> VerifyReport | None:
    encoder = Folder(to).load()
    report = proved(new, encoder, drawn(new, dense, _ASKING, encoder=encoder).rows)
    if report is not None and not report.exact:
        raise CollectionError(f"the second field does not answer exactly, and reads stay where they are: {report}")
    return report


def switch_back(
    where: str,
    *,
    model: str | os.PathLike[str],
    to: str | os.PathLike[str],
    into: str | None = None,
    **credentials: Any,
) -> SwitchReport:
    """Let every `Serving` ask the first field again. At once: it is not caught up with before.

    Raises CollectionError where the first field was dropped.
    """
    second, first = field_beside(where, into), _first(model, to)
    with opened(where, credentials) as adapter:
        if not adapter.info().exists:
            raise CollectionError(f"{place_of(adapter)} was dropped, so that no reads can go back there")
    with Folder(to).locked() as folder:
        note = _note(folder, second, credentials)
        forget_moved(first.path)
        folder.keep(note.model_copy(update={"serves": False}))
    return SwitchReport(reads=where, model=str(model))


def drop_old(
    where: str,
    *,
    model: str | os.PathLike[str],
    to: str | os.PathLike[str],
    into: str | None = None,
    deadline: float = 300.0,
    on_progress: Listener | None = None,
    **credentials: Any,
) -> UndoReport:
    """Take the first field out, when reads were switched to the second and every service follows.

    Who still asks the first is refused from then on, for it is not there. The first folder stays: in it stands where
    reads go. Raises InvalidInput where reads have not been switched, and what `undo_retrofit` raises.
    """
    second, first = field_beside(where, into), _first(model, to)
    moved = moved_from(first.path)
    if moved is None or moved.url != second:
        raise InvalidInput(f"reads go to {where} still; switch first, and drop it when every service follows")
    with Folder(to).locked() as folder:
        folder.keep(_note(folder, second, credentials).model_copy(update={"serves": False}))
    return undo_retrofit(where, model=model, deadline=deadline, on_progress=on_progress, **credentials)


def catch_up_both(
    where: str,
    *,
    model: str | os.PathLike[str],
    to: str | os.PathLike[str],
    into: str | None = None,
    credentials: dict[str, Any] | None = None,
    **options: Any,
) -> EachReport:
    """`catch_up` with the first field and with the second, each where it is there: before, during and after a
    migration the same call. Raises CollectionError where neither is."""
    secrets = credentials or {}
    folders = {where: model, field_beside(where, into): to}
    there = {}
    for url, folder in folders.items():
        with opened(url, secrets) as adapter:
            if adapter.info().exists:
                there[place_of(adapter)] = partial(catch_up, url, model=folder, **options, **secrets)
    if not there:
        raise CollectionError(
            f"{' and '.join(folders)} are not there, so there is nothing to catch up with; retrofit first"
        )
    return each(where, there)
