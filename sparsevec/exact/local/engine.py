"""`LocalEngine`: the reference's documents and the reference's scores, bit for bit, from an index that keeps up.

SQLite holds the documents, as it does for the reference, and a log of the ids that have changed. A search first reads
what has changed since the last one, whoever wrote it, into a small segment beside a large one; a thread merges them
when the small ones have grown. What is merged is kept beside the file, in the folder `PATH.index`, for this and every
other process to map. Nothing is lost with that folder: it is made again from the file, also where one of its files was
cut short. Who cuts one short under a process that has it mapped ends that process (SIGBUS), as with any mapped file.
"""

from __future__ import annotations

import json
import logging
import secrets
import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sparsevec.contract.adapter import Adapter, Documents, Hits, Missing, UInt8s, Version, Written
from sparsevec.contract.checks import Id, Payload, Queries, check_k, check_queries, ids_or_where
from sparsevec.contract.filters import Where, conditions
from sparsevec.contract.searches import Search, rescored
from sparsevec.errors import SparsevecError
from sparsevec.exact.local.segments import Row, Segment, Sizes
from sparsevec.exact.local.snapshot import Found, Snapshot
from sparsevec.exact.reference import Reference
from sparsevec.exact.rows import id_of, place_of, read_place, with_dense
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

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _State:
    """The collection as this process saw it last."""

    version: tuple[int, int]
    """of the file; of another, or of none, when it has to be looked at again"""
    snapshot: Snapshot
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
        state = self._now()
        asked = check_queries(queries, state.dimension, state.fingerprint)
        second = search.second_look(asked, state.dimension, state.fingerprint)
        search.check_codes(state.code_bytes)
        wanted = conditions(where)
        if after is not None:
            (ranking,) = state.snapshot.search(asked, len(state.snapshot), wanted)
            return [_read_on(state, ranking, k, search)]
        found = state.snapshot.search(asked, depth, wanted)
        if second is None:
            return [_hits(state, one, search) for one in found]
        return [
            rescored(_hits(state, one, replace(search, with_vectors=True)), query, k, with_vectors=with_vectors)
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
            state = self._now()
            ids = _ids(state.snapshot, state.snapshot.every(conditions(where)))
        super().delete(ids)
        self._keep_up(len(ids))

    def _keep_up(self, written: int) -> None:
        """A few documents are better indexed by who writes them than by the next search."""
        if written <= _AT_ONCE and self._state is not None:
            self._now()

    def count(self, where: Where | None = None) -> int:
        if where is not None:
            return len(self._now().snapshot.every(conditions(where)).rows)
        if self._state is None:
            return super().count()
        return len(self._now().snapshot)

    def matching(self, where: Where, most: int, *, dense: str | None = None) -> Documents | None:
        check_k(most, "most")
        state = self._now()
        found = state.snapshot.every(conditions(where))
        if len(found.rows) > most:
            return None
        hits = _hits(state, found, Search(with_payloads=True, with_vectors=True, with_codes=True))
        assert hits.vectors is not None
        return with_dense(Documents(hits.ids, hits.vectors, hits.payloads or (), codes=hits.codes), dense)

    def drop(self) -> None:
        super().drop()
        if self._path:
            shutil.rmtree(self._folder, ignore_errors=True)

    def close(self) -> None:
        """Waits for a merge that is going on."""
        if self._merging is not None and threading.current_thread() is not self._merging:
            self._merging.join()
        super().close()

    # ---- the index

    @property
    def _folder(self) -> Path:
        return Path(f"{self._path}.index")

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
        others = self._execute("PRAGMA data_version").fetchone()[0] if self._path else 0
        return others, self._database.total_changes

    def _read_on(self, version: tuple[int, int]) -> _State:
        self._existing()
        self._prepare()
        with self._reading():
            dimension, fingerprint, identity, code_bytes = self._existing()
            before = self._state.snapshot if self._state and self._state.identity == identity else None
            kept = self._rows("SELECT name, sequence FROM segments")
            if kept and (before is None or before.sequence < kept[0][1]):  # the log begins behind what was kept
                before = self._mapped(*kept[0]) if kept[0][0] else None
            snapshot = None if before is None else self._with_changes(before, code_bytes)
            if snapshot is None:
                snapshot = Snapshot((self._whole(dimension, code_bytes),), (None,), self._newest())
            return _State(version, snapshot, dimension, fingerprint, identity, code_bytes)

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

    def _prepare(self) -> None:
        """The log of changes, in a file that has none: a new one, or one that only the reference has written."""
        names = ", ".join(f"'{name}'" for name in _TRIGGERS)
        there = f"SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND name IN ({names})"
        if self._rows(there)[0][0] == len(_TRIGGERS):
            return
        with self._transaction():
            if self._rows(there)[0][0] < len(_TRIGGERS):  # nobody else was faster
                for statement in (*_TABLES, *_TRIGGERS.values()):
                    self._execute(statement)

    # ---- merges

    def _merge_in_time(self, state: _State) -> None:
        """In a thread, when so much stands beside the base that searches would feel it, or nothing is kept yet."""
        if self._merging is not None and self._merging.is_alive():
            return
        beside, base = state.snapshot.beside, len(state.snapshot.segments[0])
        unkept = self._path and base > _FEW and not self._rows("SELECT 1 FROM segments WHERE name <> ''")
        if unkept or beside > max(_FEW, base // 4):
            self._merging = threading.Thread(target=self._merge, args=(state,), name="sparsevec-merges")
            self._merging.start()

    def _merge(self, state: _State) -> None:
        try:
            merged = state.snapshot.whole()
            if self._path:
                merged = self._keep(merged, state.identity)
            with self._held():
                if self._state is not None and self._state.identity == state.identity:  # changes since are read again
                    self._state = replace(self._state, version=(-1, -1), snapshot=merged)
        except (SparsevecError, OSError) as error:  # searches go on with what they have
            _logger.warning("%s: the index could not be merged: %s", self._where, error)

    def _keep(self, merged: Snapshot, identity: str) -> Snapshot:
        """The same, in a folder and mapped from it; and the log is cut, which others then read on behind it."""
        name = f"{merged.sequence}-{secrets.token_hex(4)}"
        merged.segments[0].save(self._folder / name)
        with self._transaction():
            kept = self._rows("SELECT 1 FROM segments WHERE name <> '' AND sequence >= ?", (merged.sequence,))
            found = self._look()
            if found is not None and found.identity == identity and not kept:
                self._execute("DELETE FROM segments")
                self._execute("INSERT INTO segments VALUES (?, ?)", (name, merged.sequence))
                self._execute("DELETE FROM changes WHERE sequence <= ?", (merged.sequence,))
        mapped = self._mapped(name, merged.sequence)
        self._forget()
        return merged if mapped is None else mapped

    def _mapped(self, name: str, sequence: int) -> Snapshot | None:
        """What was kept; None where it is not there, or not whole, and has to be made again from the documents."""
        try:
            return Snapshot((Segment.mapped(self._folder / name),), (None,), sequence)
        except (OSError, ValueError, KeyError, TypeError) as error:
            _logger.warning("%s is made again from the documents: %s", self._folder / name, error)
            self._execute("UPDATE segments SET name = '' WHERE name = ?", (name,))
            return None

    def _forget(self) -> None:
        """Folders that were replaced, which whoever maps them keeps, and those of writers that were killed."""
        named = dict(self._rows("SELECT name, sequence FROM segments"))
        for folder in self._folder.iterdir():
            age = time.time() - folder.stat().st_mtime
            number = folder.name.partition("-")[0]
            replaced = number.isdecimal() and any(int(number) <= sequence for sequence in named.values())
            if folder.name not in named and (replaced or age > _FORGOTTEN):
                shutil.rmtree(folder, ignore_errors=True)


def _hits(state: _State, found: Found, search: Search) -> Hits:
    snapshot = state.snapshot
    return Hits(
        ids=_ids(snapshot, found),
        scores=found.scores.astype(np.float32),
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
