"""`LocalEngine`: the reference's documents and the reference's scores, bit for bit, from an index that keeps up.

SQLite holds the documents, as it does for the reference, and a log of the ids that have changed. A search first reads
what has changed since the last one, whoever wrote it, into a small segment beside a large one; a thread merges them
when the small ones have grown. What is merged is kept beside the file, in the folder `PATH.index`, for this and every
other process to map. Whoever searches may be the one who merges, since a writer need not search; one process at a time,
and where none can write, none.

Nothing is lost with that folder: it is made again from the file, also where one of its files was cut short or says what
cannot be (`segments` has what is looked at when a folder is mapped). Other damage is not seen, unless it is that a
payload cannot be read; deleting the folder mends it. Who cuts a file short under a process that has it mapped ends that
process (SIGBUS), as with any mapped file.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from sparsevec.contract.adapter import Adapter, Documents, Hits, Missing, UInt8s, Version, Written
from sparsevec.contract.checks import Id, Payload, Queries, check_ids, check_k, check_queries, ids_or_where
from sparsevec.contract.deadlines import within
from sparsevec.contract.filters import Where, conditions
from sparsevec.contract.searches import Search, as_given, rescored
from sparsevec.errors import BackendDown, InvalidVectors, SparsevecError
from sparsevec.exact.database import Collection
from sparsevec.exact.local.segments import Row, Segment, Sizes
from sparsevec.exact.local.snapshot import Found, Snapshot
from sparsevec.exact.reference import Reference
from sparsevec.exact.rows import id_of, place_of, read_place, with_dense
from sparsevec.storage import locked, sync_folder
from sparsevec.vectors import SparseVectors

__all__ = ["LocalEngine"]

_TABLES = (
    "DROP TABLE IF EXISTS changes",
    "DROP TABLE IF EXISTS segments",
    "CREATE TABLE changes (sequence INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE)",
    "CREATE TABLE segments (name TEXT NOT NULL, sequence INTEGER NOT NULL)",
)
_TRIGGERS = {
    name: f"CREATE TRIGGER IF NOT EXISTS {name} AFTER {event} ON documents "
    f"BEGIN DELETE FROM changes WHERE id = {row}.id; INSERT INTO changes (id) VALUES ({row}.id); END"
    for name, event, row in (
        ("was_new", "INSERT", "new"),
        ("was_changed", "UPDATE", "new"),
        ("is_gone", "DELETE", "old"),
    )
}
_COLUMNS = """
documents.id AS key, indices, weights, CAST(payload AS BLOB) AS payload, coalesce(code, zeroblob(?1)) AS code
"""
_ALL = f"SELECT {_COLUMNS} FROM documents ORDER BY id"
_SIZES = f"""
SELECT count(*), {", ".join(f"ifnull(sum(length({column})), 0)" for column in Row._fields)}
FROM (SELECT {_COLUMNS} FROM documents)
"""
_CHANGED = f"""
SELECT changes.id, {_COLUMNS} FROM changes LEFT JOIN documents ON documents.id = changes.id
WHERE changes.sequence > ?2 ORDER BY changes.id
"""
_FEW = 1000  # documents that need not be merged, or kept in a folder
_CHUNK = 4096  # documents that are read from the file at once
_AT_ONCE = 64  # documents of a write that are indexed with it
_FORGOTTEN = 3600.0  # seconds after which a folder that no table speaks of is from a writer that was killed
_PATIENCE = 30.0  # seconds that a merge waits for another process that writes
_BRIEFLY = 0.05  # seconds of it, at a time, in which searches wait as well
_GARBLED = (json.JSONDecodeError, UnicodeDecodeError, IndexError)  # of payloads, keys and weights changed on disk

_OURS = re.compile(r"\d+-[0-9a-f]{8}|\.\d+-[0-9a-f]{8}-[0-9a-f]{12}\.new")  # folders that `_keep` makes

_logger = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")


class _Kept(NamedTuple):
    """What `segments` says."""

    name: str
    """of a folder; empty where it was found broken"""
    sequence: int
    """of the last change that is in it; the log begins behind"""


class _NotWhole(Exception):
    """A folder that could not be mapped: broken, or replaced and taken away by another process."""

    def __init__(self, name: str, reason: Exception) -> None:
        super().__init__(str(reason))
        self.name = name


@dataclass(frozen=True, slots=True)
class _State:
    """The collection as this process saw it last."""

    version: tuple[int, int]
    """of the file; of another, or of none, when it has to be looked at again"""
    snapshot: Snapshot
    kept: str | None
    """the folder that the table spoke of"""
    mapped: bool
    """whether the first segment is there, and not in memory"""
    dimension: int
    fingerprint: str | None
    identity: str
    code_bytes: int | None


class LocalEngine(Reference):
    """The exact engine behind `local:` (gone when it is closed) and `local:PATH` (a file like the reference's, and an
    index).

    Searches run beside each other and beside one write. Several processes may use one file; what one has written, and
    merged, the others see at their next call.
    """

    _engine = "local"
    _tables = (*Reference._tables, "changes", "segments")
    _state: _State | None = None
    _merging: threading.Thread | None = None
    _broken: str | None = None
    """the folder that this process found damaged, until a merge replaces it"""

    @property
    def _name(self) -> str:
        return f"local engine (numpy {np.__version__})"

    def search(
        self,
        queries: Queries,
        k: int = 10,
        *,
        where: Where | None = None,
        with_payloads: bool = False,
        with_vectors: bool = False,
        with_codes: bool = False,
        rescore: Queries | None = None,
        candidates: int | None = None,
        after: str | None = None,
    ) -> list[Hits]:
        search = Search(where, with_payloads, with_vectors, with_codes, rescore, candidates, after)
        depth = search.depth(k)
        return self._answered(lambda state: self._ranked(state, queries, k, depth, search))

    def _ranked(self, state: _State, queries: Queries, k: int, depth: int, search: Search) -> list[Hits]:
        asked = check_queries(queries, state.dimension, state.fingerprint)
        second = search.second_look(asked, state.dimension, state.fingerprint)
        search.check_codes(state.code_bytes)
        wanted = conditions(search.where)
        if search.after is not None:
            (ranking,) = state.snapshot.search(asked, len(state.snapshot), wanted)
            return [_read_on(state, ranking, k, search)]
        found = state.snapshot.search(asked, depth, wanted)
        if second is None:
            return [_hits(state, one, search) for one in found]
        return [
            rescored(_hits(state, one, replace(search, with_vectors=True)), query, k, with_vectors=search.with_vectors)
            for one, query in zip(found, second, strict=True)
        ]

    def upsert(
        self,
        ids: Sequence[Id],
        vectors: SparseVectors,
        payloads: Sequence[Payload] | None = None,
        *,
        versions: Sequence[Version | None] | None = None,
        routing: Sequence[str | None] | None = None,
        missing: Missing | None = None,
        codes: UInt8s | None = None,
    ) -> Written:
        options: dict[str, Any] = {"versions": versions, "routing": routing, "missing": missing, "codes": codes}
        written = super().upsert(ids, vectors, payloads, **options)
        self._keep_up(len(vectors))
        return written

    def delete(self, ids: Sequence[Id] | None = None, *, where: Where | None = None) -> None:
        if (ids := ids_or_where(ids, where)) is None:
            ids = self._answered(lambda state: _ids(state.snapshot, state.snapshot.every(conditions(where))))
        given = check_ids(ids)
        super().delete(given)
        self._keep_up(len(given))

    def _keep_up(self, written: int) -> None:
        """A few documents are better indexed by who writes them than by the next search."""
        if written <= _AT_ONCE and self._state is not None:
            self._now()

    def count(self, where: Where | None = None) -> int:
        if where is not None:
            return self._answered(lambda state: len(state.snapshot.every(conditions(where)).rows))
        if self._state is None:
            return super().count()
        return len(self._now().snapshot)

    def matching(self, where: Where, most: int, *, dense: str | None = None) -> Documents | None:
        check_k(most, "most")

        def answer(state: _State) -> Documents | None:
            found = state.snapshot.every(conditions(where))
            if len(found.rows) > most:
                return None
            hits = _hits(state, found, Search(with_payloads=True, with_vectors=True, with_codes=True))
            assert hits.vectors is not None
            return with_dense(Documents(hits.ids, hits.vectors, hits.payloads or (), codes=hits.codes), dense)

        return self._answered(answer)

    def drop(self) -> None:
        super().drop()
        with self._held():
            self._state = None  # SQLite counts no change
        self._settle()
        if self._path:
            with suppress(OSError):  # there is none, or others keep something there
                for folder in self._folders():
                    shutil.rmtree(folder, ignore_errors=True)
                self._folder.rmdir()

    def close(self) -> None:
        """Waits for a merge that is going on."""
        self._settle()
        super().close()

    def _settle(self) -> None:
        if self._merging is not None and threading.current_thread() is not self._merging:
            self._merging.join()

    # ---- the index

    @property
    def _folder(self) -> Path:
        """Beside the file itself, whichever of its names was given."""
        return Path(f"{os.path.realpath(self._path)}.index")

    def _folders(self) -> list[Path]:
        """Those in it that are ours."""
        return [folder for folder in self._folder.iterdir() if _OURS.fullmatch(folder.name)]

    def _answered(self, ask: Callable[[_State], _Answer]) -> _Answer:
        """What `ask` makes of the collection as it is now; where that comes upon a damaged index, of one made anew."""
        while True:
            state = self._now()
            try:
                return ask(state)
            except _GARBLED as error:
                if not state.mapped:
                    with self._legible():
                        raise
                self._give_up(state.kept, error)

    def _give_up(self, name: str | None, reason: Exception) -> None:
        """A folder that is damaged: the next look is at the documents, and a merge then replaces it."""
        _logger.warning("%s is made again from the documents: %s", self._folder / str(name), reason)
        with self._held():
            self._broken = name
            if self._state is not None and self._state.mapped and self._state.kept == name:
                self._state = None

    def _now(self) -> _State:
        """The collection with all that anybody has written so far."""
        with self._held():
            version = self._version()
            if self._state is None or self._state.version != version:
                self._state = self._read_on(version)
                self._merge_in_time(self._state)
            return self._state

    def _version(self) -> tuple[int, int]:
        """Of what other connections have committed, which have none without a path, and of our writes."""
        others = self._rows("PRAGMA data_version")[0][0] if self._path else 0
        return others, self._database.total_changes

    def _read_on(self, version: tuple[int, int]) -> _State:
        self._existing()
        logged, missed = self._prepare(), ""
        while True:
            try:
                with self._reading():
                    return self._as_of_now(version, logged=logged)
            except _NotWhole as error:
                if error.name == missed:  # it is not that another has replaced it since we read its name
                    self._give_up(error.name, error)
                missed = error.name

    def _as_of_now(self, version: tuple[int, int], *, logged: bool) -> _State:
        """Raises _NotWhole."""
        found = self._existing()
        last = self._state if logged and self._state and self._state.identity == found.identity else None
        kept = self._kept() if logged else None
        if last and kept and last.snapshot.sequence < kept.sequence:  # the log begins behind what was kept
            last = None
        name = kept.name if kept else None
        if kept and name not in ("", self._broken, last and last.kept):  # by another, or before we came
            snapshot = self._with_changes(self._mapped(kept, found), found.code_bytes)
            if snapshot is not None:
                return _State(version, snapshot, name, True, *found)
        snapshot = None if last is None else self._with_changes(last.snapshot, found.code_bytes)
        if last is not None and snapshot is not None:
            return _State(version, snapshot, name, last.mapped and last.kept == name, *found)
        whole = self._whole(found.dimension, found.code_bytes)
        return _State(version, Snapshot((whole,), (None,), self._newest() if logged else 0), name, False, *found)

    def _kept(self) -> _Kept | None:
        several = self._rows("SELECT name, sequence FROM segments")
        return _Kept(*several[0]) if several else None

    def _mapped(self, kept: _Kept, of: Collection | _State) -> Snapshot:
        """Raises _NotWhole."""
        try:
            segment = Segment.mapped(self._folder / kept.name, of.dimension, of.code_bytes)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _NotWhole(kept.name, error) from error
        return Snapshot((segment,), (None,), kept.sequence)

    def _with_changes(self, before: Snapshot, code_bytes: int | None) -> Snapshot | None:
        """None when so much has changed that all is better read anew."""
        newest = self._newest()
        if newest == before.sequence:
            return before
        (changes,) = self._rows("SELECT count(*) FROM changes WHERE sequence > ?", (before.sequence,))[0]
        if changes > max(_FEW, len(before)):
            return None
        found = self._rows(_CHANGED, (code_bytes or 0, before.sequence))
        rows = [Row(*columns[1:]) for columns in found if columns[1] is not None]
        return before.changed([columns[0] for columns in found], rows, newest)

    def _whole(self, dimension: int, code_bytes: int | None) -> Segment:
        """All documents, read anew."""
        sizes = Sizes(*self._rows(_SIZES, (code_bytes or 0,))[0])
        cursor = self._execute(_ALL, (code_bytes or 0,))
        chunks = iter(lambda: list(map(Row._make, cursor.fetchmany(_CHUNK))), [])
        return Segment.of_rows(chunks, sizes, dimension, code_bytes)

    def _newest(self) -> int:
        found = self._rows("SELECT seq FROM sqlite_sequence WHERE name = 'changes'")
        return int(found[0][0]) if found else 0

    def _prepare(self) -> bool:
        """The log of changes, in a file that has none: a new one, or one that only the reference has written. False
        where there is none, and none can be written."""
        names = ", ".join(f"'{name}'" for name in _TRIGGERS)
        there = f"SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND name IN ({names})"
        if self._rows(there)[0][0] == len(_TRIGGERS):
            return True
        if not self._writable:
            return False
        with self._transaction():
            if self._rows(there)[0][0] < len(_TRIGGERS):  # nobody else was faster
                for statement in (*_TABLES, *_TRIGGERS.values()):
                    self._execute(statement)
        return True

    # ---- merges

    def _merge_in_time(self, state: _State) -> None:
        """In a thread, when so much stands beside the base that searches would feel it, or nothing is kept yet."""
        if (self._merging is not None and self._merging.is_alive()) or not self._writable:
            return
        beside, base = state.snapshot.beside, len(state.snapshot.segments[0])
        broken = state.kept is not None and state.kept == self._broken
        unkept = self._path and not state.mapped and (base > _FEW or broken)
        if unkept or beside > max(_FEW, base // 4):
            merging = threading.Thread(target=self._merge, args=(state,), name="sparsevec-merges")
            try:
                merging.start()
            except RuntimeError as error:  # at the end of a process, or where there are no threads
                _logger.info("%s: the index was not merged: %s", self._where, error)
                return
            self._merging = merging

    def _merge(self, state: _State) -> None:
        try:
            if self._path:
                self._keep(state)
            else:
                self._go_on_with(state.snapshot.whole(), state, None)
        except InvalidVectors as error:  # in what was mapped
            self._give_up(state.kept, error)
        except (SparsevecError, OSError, _NotWhole) as error:  # searches go on with what they have
            _logger.warning("%s: the index could not be merged: %s", self._where, error)

    def _keep(self, state: _State) -> None:
        """The same in one segment, in a folder and mapped from it; unless another process does that, or just has."""
        if not self._folder.exists():
            self._folder.mkdir(exist_ok=True)
            sync_folder(self._folder.parent)
        with _alone(self._folder) as alone:
            if (found := self._look()) is None or found.identity != state.identity:  # dropped meanwhile
                return
            kept = self._kept()
            if not alone or (kept is not None and kept.name != state.kept):  # which the next search will see
                return
            merged = state.snapshot.whole()
            kept = _Kept(f"{merged.sequence}-{secrets.token_hex(4)}", merged.sequence)
            if self._written(merged.segments[0], kept, state):
                self._go_on_with(self._mapped(kept, state), state, kept.name)
                self._forget()

    def _written(self, segment: Segment, kept: _Kept, state: _State) -> bool:
        """Whether it is in its folder, for all to map; else nothing of it is left."""
        folder, told = self._folder / kept.name, False
        segment.save(folder)
        try:
            told = self._tell(kept, state)
        finally:
            if not told:
                shutil.rmtree(folder, ignore_errors=True)
        return told

    def _tell(self, kept: _Kept, state: _State) -> bool:
        """Cut the log, which others then read on behind what was kept; searches go on while another process writes.
        False when that is of no use any more."""
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                with within(_BRIEFLY), self._transaction():
                    found, now = self._look(), self._kept()
                    damaged = state.mapped and state.kept == self._broken
                    if damaged or found is None or found.identity != state.identity:
                        return False
                    if now is not None and now.name not in ("", state.kept) and now.sequence >= kept.sequence:
                        return False
                    self._execute("DELETE FROM segments")
                    self._execute("INSERT INTO segments VALUES (?, ?)", kept)
                    self._execute("DELETE FROM changes WHERE sequence <= ?", (kept.sequence,))
                    return True
            except BackendDown:
                if time.monotonic() > until:
                    raise
                time.sleep(_BRIEFLY)

    def _go_on_with(self, merged: Snapshot, state: _State, kept: str | None) -> None:
        with self._held():
            if self._state is not None and self._state.identity == state.identity:  # changes since are read again
                self._state = replace(
                    self._state, version=(-1, -1), snapshot=merged, kept=kept, mapped=kept is not None
                )

    def _forget(self) -> None:
        """Folders that were replaced, which whoever maps them keeps, and those of writers that were killed."""
        kept = self._kept()
        for folder in self._folders():
            with suppress(FileNotFoundError):  # another process forgets as well
                age = time.time() - folder.stat().st_mtime
                number = folder.name.partition("-")[0]
                replaced = kept is not None and number.isdecimal() and int(number) <= kept.sequence
                if (kept is None or folder.name != kept.name) and (replaced or age > _FORGOTTEN):
                    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Whether nobody else is inside with this folder; where the filesystem has no locks, everybody believes so."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield locked(handle) is not False
    finally:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)  # a child that was forked meanwhile has the handle as well
        os.close(handle)


def _hits(state: _State, found: Found, search: Search) -> Hits:
    snapshot = state.snapshot
    return Hits(
        ids=_ids(snapshot, found),
        scores=as_given(found.scores),
        payloads=tuple(map(json.loads, snapshot.payloads(found))) if search.with_payloads else None,
        vectors=snapshot.vectors(found).with_fingerprint(state.fingerprint) if search.with_vectors else None,
        codes=snapshot.codes(found) if search.with_codes else None,
    )


def _ids(snapshot: Snapshot, found: Found) -> tuple[Id, ...]:
    if len(snapshot.segments) == 1 and (numbers := snapshot.segments[0].numbers) is not None:
        return tuple(numbers[found.rows].tolist())
    return tuple(map(id_of, snapshot.keys(found)))


def _read_on(state: _State, ranking: Found, k: int, search: Search) -> Hits:
    """The k hits behind `search.after`, which says the exact score and the id of the last one."""
    if search.after:
        score, key = read_place(search.after)
        behind = ranking.scores < score
        level = np.flatnonzero(ranking.scores == score)
        behind[level] = [other > key for other in state.snapshot.keys(ranking.some(level))]
        ranking = ranking.some(np.flatnonzero(behind))
    page = ranking.some(np.arange(min(k, len(ranking.rows))))
    hits = _hits(state, page, search)
    if len(page.rows) == len(ranking.rows):
        return hits
    (last,) = state.snapshot.keys(page.some(np.array([k - 1])))
    return replace(hits, after=place_of(float(page.scores[-1]), last))


_contract: type[Adapter] = LocalEngine
