"""Copy and switch: sparse vectors where a vector or field cannot be added to the collection that serves.

    sv.copy_beside(URL, model="model/", dense_field="emb")    # URL names the alias that readers and writers go by
    sv.switch_copy(URL, model="model/")                       # moves every alias at one stroke
    sv.drop_copied(URL, model="model/")                       # removes the old collection, when told

For Qdrant before 1.18, and for indices that take no updates but can be read back whole (time series, append-only,
derived `_source`). The new collection gets everything that the old one holds, the sparse field, and then what was
written to the old one meanwhile, until nothing differs: every document is compared by a mark of all that is not ours,
so that a run that was killed is made again and passes over what is right.

What is written in the moment of the switch. Nobody needs to stop: before the aliases move, a mark of each document of
the new collection is put into the folder; after it, who wrote a document since is known, in either collection. What
came late to the old one is brought over, and where both were written the new one stands, for it was written later; the
report names these. So a document that is written whole is not lost (Qdrant has no versions: but for a write to the new
collection in the milliseconds between the look at a document that came late and its copy). What an application does to
a document that came late, in the seconds before it is brought over, it does to the state before: an edit of one field
loses the late edit of another (named), and a document that was made and deleted within these seconds comes back. Who
cannot have that stops writing while `switch_copy` runs.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from sparsevec.contract.adapter import Adapter
from sparsevec.contract.checks import check_seed
from sparsevec.contract.connect import connect
from sparsevec.contract.copies import Copies, RawId
from sparsevec.contract.urls import Url
from sparsevec.encoder import Budget, SparseEncoder
from sparsevec.errors import BackendUnsupported, CollectionError, InvalidInput, JournalMismatch, printable
from sparsevec.ingestion.patience import check_deadline
from sparsevec.live.beforehand import Lessons
from sparsevec.live.catching_up import catch_up
from sparsevec.live.comparing import CopyLook, Marked, compared, late
from sparsevec.live.folder import Folder, Note
from sparsevec.live.opening import USUAL, check_sample, check_urls, place_of
from sparsevec.live.reports import CatchUpReport, RetrofitReport
from sparsevec.live.retrofitting import retrofit
from sparsevec.live.rows import DenseSource, source_name
from sparsevec.live.sample import dense_source, drawn
from sparsevec.progress import Listener
from sparsevec.storage import whole_file

__all__ = ["CopyReport", "copy_beside", "drop_copied", "switch_copy"]

_STATE, _MARKS = "copy.json", "copy-marks.npz"
_ROWS = 16  # dense rows that are looked at for their width


class CopyReport(BaseModel):
    """What was copied, and who serves now."""

    model_config = ConfigDict(frozen=True)

    place: str
    old: str
    new: str
    switched: bool
    """the aliases stand for the new collection"""
    looks: tuple[CopyLook, ...]
    filled: RetrofitReport | None = None
    """of the sparse vectors in the copy"""
    caught: CatchUpReport | None = None

    @property
    def settled(self) -> bool:
        """The last look found the same in both."""
        return not self.looks or self.looks[-1].settled

    @property
    def complete(self) -> bool:
        """No document was refused, by the copy or by the sparse vectors."""
        filled = self.filled is None or self.filled.complete
        return filled and not (self.looks and self.looks[-1].refused) and (self.caught is None or self.caught.complete)

    def __str__(self) -> str:
        serves = self.new if self.switched else self.old
        lines = [f"{self.place}: {self.old} copied to {self.new}; {serves} serves"]
        lines += [f"  {look}" for look in self.looks]
        lines += [f"  {self.filled}"] if self.filled is not None else []
        lines += [f"  {self.caught}"] if self.caught is not None else []
        return "\n".join(lines)


class _Copy(BaseModel):
    """What the folder knows of a copy."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str
    old: str
    new: str
    state: Literal["filling", "switching", "switched"] = "filling"
    refused: tuple[RawId, ...] = ()
    """came late to the old collection in the switch, and are in that one alone"""


def copy_beside(
    where: str,
    *,
    model: str | os.PathLike[str],
    name: str | None = None,
    dense_field: DenseSource | None = None,
    budget: Budget | None = None,
    output_dim: int = 8192,
    queries: Any | None = None,
    sample: int = 20_000,
    seed: int = 0,
    deadline: float = 300.0,
    on_progress: Listener | None = None,
    credentials: dict[str, Any] | None = None,
    **options: Any,
) -> CopyReport:
    """Copy the collection that an alias stands for to a new one, and `retrofit` that one. Reads stay where they are.

    `where`: a url with the alias, and the field or vector to make. `name`: of the new collection, by default the old
    one's with `-sparse`. `options`: those of `retrofit`, as are the other arguments. May be called again, after a kill
    too, and copies what differs since. Raises, before anything is made, InvalidInput where the url names the collection
    itself (nothing could be moved under its readers), BackendUnsupported with the reason where documents cannot be read
    back whole, CollectionError where the new name is taken or the alias stands for another collection by now,
    StorageFailed while another copy or switch works with the folder; and what `retrofit` raises.
    """
    if options.get("dry_run"):
        raise InvalidInput("a copy is made or not, expected no dry_run=; check and preview change nothing")
    check_sample(sample)
    check_seed(seed)
    check_deadline(deadline)
    secrets = credentials or {}
    with ExitStack() as stack:
        first, _ = _opened(stack, where, Path(model), secrets)
        stack.enter_context(Folder(model).locked(make=True, whose="copy"))
        kept = _kept(Path(model), where)
        if kept is not None and kept.state != "filling":
            raise InvalidInput(f"{kept.old} was copied to {kept.new}, which serves now; a catch-up does the rest")
        collection = kept.old if kept is not None else first.stands_for()
        copy = kept or _Copy(url=where, old=collection, new=name or f"{collection}-sparse")
        _expect(first, copy, copy.old)
        old, new = (stack.enter_context(connect(_named(where, one), **secrets)) for one in (copy.old, copy.new))
        dense = dense_source(old.info(), dense_field)
        with Folder(model).locked(make=True) as folder:
            if not folder.has_encoder():
                lessons = Lessons(budget or USUAL, output_dim, queries, False, seed)
                folder.save(lessons.fitted(drawn(old, dense, sample, seed=seed).rows, on_progress))
            encoder = folder.load()
            drawn(old, dense, _ROWS, encoder=encoder)  # refuses rows of another width
            _made(folder, copy, old, new, encoder, dense, fresh=kept is None)
        looks = compared(old, new, deadline)
        given: dict[str, Any] = {"dense_field": dense_field, "sample": sample, "seed": seed, "on_progress": on_progress}
        filled = retrofit(_named(where, copy.new), model=model, deadline=deadline, **given, **options, **secrets)
        _expect(first, copy, copy.old)
        looks += compared(old, new, deadline)
    return _report(first, copy, looks, filled=filled)


def _report(
    first: Adapter,
    copy: _Copy,
    looks: list[CopyLook],
    filled: RetrofitReport | None = None,
    caught: CatchUpReport | None = None,
) -> CopyReport:
    return CopyReport(
        place=place_of(first),
        old=copy.old,
        new=copy.new,
        switched=caught is not None,
        looks=tuple(looks),
        filled=filled,
        caught=caught,
    )


def _opened(stack: ExitStack, where: str, folder: Path, secrets: dict[str, Any]) -> tuple[Any, _Copy | None]:
    """An adapter by the alias, and what the folder knows."""
    check_urls(where)
    first = stack.enter_context(connect(where, **secrets))
    _copies(first).stands_for()  # over a wire that copies
    kept = _kept(folder, where)
    stands_for = _copies(first).stands_for()
    asked = Url.parse(where).path.rpartition("/")[2]
    if kept is None and stands_for == asked:
        raise InvalidInput(
            f"{asked!r} is the collection itself, and nothing can be moved under those who read it by that name; make "
            f"an alias of it, let readers and writers go by that, and name the alias here"
        )
    return first, kept


def _kept(folder: Path, where: str) -> _Copy | None:
    kept = _read(folder)
    if kept is not None and kept.url != where:
        raise InvalidInput(
            f"{printable(folder)} holds a copy of {kept.url}; name another folder, or drop that one first"
        )
    return kept


def _expect(first: Copies, copy: _Copy, *serving: str) -> None:
    """Raises CollectionError where others moved the alias: what serves would be written over, or moved for nothing."""
    if (now := first.stands_for()) not in serving:
        raise CollectionError(
            f"{copy.url} stands for {now!r} now, expected {' or '.join(map(repr, serving))}; {copy.old!r} was copied "
            f"to {copy.new!r}: let it stand for that again, or copy {now!r} with another folder"
        )


def _copies(adapter: Any) -> Copies:
    if not isinstance(adapter, Copies):
        raise BackendUnsupported(f"{place_of(adapter)} cannot be copied and switched: it has no aliases")
    return adapter


def _named(where: str, name: str) -> str:
    url = Url.parse(where)
    prefix, slash, _ = url.path.rpartition("/")
    return str(replace(url, path=f"{prefix}{slash}{name}"))


def _made(
    folder: Folder, copy: _Copy, old: Adapter, new: Adapter, encoder: SparseEncoder, dense: DenseSource, *, fresh: bool
) -> None:
    """The new collection is there, and the folder knows it, also when the process ends in between."""
    there = _there(new)
    if there and fresh:
        raise CollectionError(f"{copy.new} is there already, and this folder did not make it; name another with name=")
    if not there:
        _keep(folder.path, copy)
        try:
            _copies(old).make_twin(copy.new, encoder.output_dim, encoder.fingerprint or "", encoder.residual_bytes)
        except (BackendUnsupported, CollectionError):  # nothing was made, and another name may be given
            (folder.path / _STATE).unlink(missing_ok=True)
            raise
    info, place = new.info(), place_of(new)
    if info.exists and folder.note_of(place, info) is None:  # a vector that could only be made with the collection
        identity, fingerprint = info.identity, encoder.fingerprint or ""
        name, made = source_name(dense), callable(dense)
        folder.keep(Note(place=place, dense=name, made=made, fingerprint=fingerprint, added="made", identity=identity))


def _there(adapter: Adapter) -> bool:
    try:
        _copies(adapter).stands_for()
    except CollectionError:
        return False
    return True


# ---- the switch, and the end


def switch_copy(
    where: str,
    *,
    model: str | os.PathLike[str],
    dense_field: DenseSource | None = None,
    deadline: float = 300.0,
    credentials: dict[str, Any] | None = None,
) -> CopyReport:
    """Move every alias of the old collection to its copy, at one stroke, and bring over what came late.

    Before that the copy is made the same once more, counts and contents of every document, and its vectors are caught
    up with. The old collection stays. `dense_field`: as for `copy_beside`, where it is a function. May be called again
    after a kill, and where the new collection refused some of what came late, which is then tried alone. Raises
    InvalidInput where the folder knows of no copy, CollectionError where the copy did not take every document or the
    alias stands for a third collection, and then nothing is moved; StorageFailed as `copy_beside` does.
    """
    check_deadline(deadline)
    secrets = credentials or {}
    with ExitStack() as stack:
        first, copy, old, new = _known(stack, where, Path(model), secrets)
        serving = {"filling": [copy.old], "switching": [copy.old, copy.new], "switched": [copy.new]}
        _expect(first, copy, *serving[copy.state])
        looks: list[CopyLook] = []
        folder = Path(model)
        if copy.state == "filling" or (copy.state == "switching" and first.stands_for() == copy.old):
            looks += compared(old, new, deadline)
            if looks[-1].refused:
                raise CollectionError(f"{copy.new} did not take every document, and nothing is moved: {looks[-1]}")
            catch_up(_named(where, copy.new), model=model, dense_field=dense_field, deadline=deadline, **secrets)
            looks += compared(old, new, deadline)
            Marked.of(new).keep(folder / _MARKS)
            _expect(first, copy, copy.old)
            _keep(folder, copy.model_copy(update={"state": "switching"}))
            old.move_names(copy.new)
        again = copy.refused if copy.state == "switched" and _there(old) else None
        if copy.state != "switched" or again:  # once: what is deleted from now on stays deleted
            look, refused = late(old, new, Marked.read(folder / _MARKS), deadline, again)
            looks.append(look)
            _keep(folder, copy.model_copy(update={"state": "switched", "refused": tuple(refused)}))
        caught = catch_up(where, model=model, dense_field=dense_field, deadline=deadline, **secrets)
    return _report(first, copy, looks, caught=caught)


def drop_copied(where: str, *, model: str | os.PathLike[str], credentials: dict[str, Any] | None = None) -> str:
    """Remove the old collection after a switch, with all that is in it; gives its name. Nothing brings it back.

    Raises InvalidInput where nothing was switched yet, CollectionError where an alias stands for it still, or it alone
    holds documents that came late and were refused.
    """
    with ExitStack() as stack:
        _, copy, old, _ = _known(stack, where, Path(model), credentials or {})
        if copy.state != "switched":
            raise InvalidInput(f"{copy.old} serves still; switch first")
        there = _there(old)
        if there and copy.refused:
            raise CollectionError(
                f"{copy.old} alone holds {len(copy.refused):,} documents that {copy.new} refused in the switch, such "
                f"as {copy.refused[0]!r}; mend what refuses them, or delete them there, and switch once more"
            )
        if there:
            old.remove_whole()
        for name in (_MARKS, _STATE):
            (Path(model) / name).unlink(missing_ok=True)
    return copy.old


def _known(stack: ExitStack, where: str, folder: Path, secrets: dict[str, Any]) -> tuple[Any, _Copy, Any, Any]:
    stack.enter_context(Folder(folder).locked(whose="copy"))
    first, copy = _opened(stack, where, folder, secrets)
    if copy is None:
        raise InvalidInput(f"{printable(folder)} knows of no copy of {where}; copy it first")
    old, new = (stack.enter_context(connect(_named(where, name), **secrets)) for name in (copy.old, copy.new))
    return first, copy, old, new


def _read(folder: Path) -> _Copy | None:
    try:
        return _Copy.model_validate_json((folder / _STATE).read_bytes())
    except FileNotFoundError:
        return None
    except (ValidationError, ValueError) as error:
        raise JournalMismatch(
            f"{printable(folder / _STATE)} is not what a copy writes: {printable(error, 200)}"
        ) from None


def _keep(folder: Path, copy: _Copy) -> None:
    whole_file(folder / _STATE, copy.model_dump_json(indent=2).encode() + b"\n", private=True)
