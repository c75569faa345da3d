"""`Database`: the SQLite file behind the engines of this machine, its tables, and what SQLite raises.

SQLite keeps two files, PATH-wal and PATH-shm, beside a file that is open. Where it cannot make them (a read-only mount,
a folder of somebody else's) a file that nobody has open is read without them, and without SQLite's locks. Should it be
written from elsewhere meanwhile, the call that notices raises StorageFailed instead of an answer.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Self
from weakref import WeakSet

from sparsevec.contract.connection import Connection
from sparsevec.contract.deadlines import remaining
from sparsevec.errors import BackendDown, CollectionError, InvalidInput, StorageFailed
from sparsevec.storage import as_path, storage_errors

__all__ = ["SCHEMA", "UPSERT", "Collection", "Database"]

_PATIENCE = 30.0  # seconds to wait for another process that writes to the same file
_PAUSE = 0.005  # seconds between two looks, where SQLite does not wait itself
_APPLICATION_ID = 0x53505643  # "SPVC", in the header of every file of ours
_VERSION = 3  # of the tables below
_PAGE = 2**14  # bytes: a document of up to 500 weights stands in one, without pages of its own
SCHEMA = (
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {_VERSION}",
    "CREATE TABLE collection (dimension INTEGER NOT NULL, fingerprint TEXT, identity TEXT NOT NULL, code_bytes INT)",
    "CREATE TABLE documents (id BLOB PRIMARY KEY, indices BLOB, weights BLOB, payload TEXT, code BLOB) WITHOUT ROWID",
)
_NEEDS = (
    "SQLite needs a file that it can read, in a folder that it can write to (elsewhere only a file can be read that "
    "nobody has open, with no -wal beside it); remount the folder for writing, or copy all of it to another"
)
UPSERT = """
INSERT INTO documents VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (id) DO UPDATE SET indices = ?2, weights = ?3, payload = with_fields(payload, ?4), code = ?5
"""
_SINCE_2 = (  # version 2 knew no codes
    "ALTER TABLE collection ADD COLUMN code_bytes INT",
    "ALTER TABLE documents ADD COLUMN code BLOB",
    f"PRAGMA user_version = {_VERSION}",
)


class Collection(NamedTuple):
    """The one row of the table `collection`."""

    dimension: int
    fingerprint: str | None
    identity: str
    code_bytes: int | None


class Database(Connection):
    """The file of one collection, or without a path a temporary one: opened when somebody has made it, and held by one
    call at a time."""

    _engine: str
    """the url's word for who uses it"""

    def __init__(self, path: str) -> None:
        """Raises CollectionError for a file that is not one of ours, or in no folder; BackendDown, StorageFailed."""
        self._path = str(as_path(path).absolute()) if path else ""
        super().__init__(path or "memory", f"{self._engine}:{self._path}" if path else None)
        self._connection = _opened(self._path, self._engine)
        self._lock = threading.RLock()
        with _forking:
            _databases.add(self)

    @classmethod
    def _again(cls, origin: str) -> Self:
        return cls(origin.partition(":")[2])

    def close(self) -> None:
        """Let go of the file."""
        if self._close_once():
            with self._lock:
                if self._connection is not None:
                    self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def _where(self) -> str:
        return self._path or f"this {self._engine} engine"

    def _look(self) -> Collection | None:
        """None when it is not there."""
        if self._open() is None or not self._rows("SELECT 1 FROM sqlite_master WHERE name = 'collection'"):
            return None
        (row,) = self._rows("SELECT * FROM collection")
        return Collection(*row)

    def _existing(self) -> Collection:
        if (found := self._look()) is None:
            raise self._not_there()
        return found

    def _not_there(self) -> CollectionError:
        nothing = f"no collection at {self._where}: found nothing there"
        found = nothing if self._connection is None else f"{self._where} holds no collection yet"
        return CollectionError(f"{found}; create(dimension) makes one")

    def _open(self, *, make: bool = False) -> _Connection | None:
        """The connection; None while nobody has made the file, unless told to `make` it."""
        with self._held():
            if self._connection is None:
                self._connection = _opened(self._path, self._engine, make=make)
            return self._connection

    @property
    def _database(self) -> _Connection:
        if (database := self._connection or self._open()) is None:
            raise self._not_there()
        return database

    @property
    def _writable(self) -> bool:
        return not self._path or (self._database.as_opened is None and os.access(self._path, os.W_OK))

    def _rows(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._held(), self._errors():  # SQLite finds damage as the rows are fetched
            rows = self._database.execute(statement, values).fetchall()
            self._database.check_unchanged()
            return rows

    def _execute(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        with self._held(), self._errors():
            return self._database.execute(statement, values)

    def _errors(self) -> AbstractContextManager[None]:
        return _storage_errors(self._where, self._engine)

    @contextmanager
    def _legible(self) -> Iterator[None]:
        """What is wrong with a document that somebody else wrote, or a disk changed, as StorageFailed."""
        try:
            yield
        except InvalidInput:
            raise
        except (ValueError, TypeError) as error:  # of JSON, a key or weights, or NULL where one was
            raise _damaged(self._where, error) from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of it, on disk when it ends, or nothing; one thread at a time."""
        with self._held(), self._errors():
            self._wait_at_most(remaining(_PATIENCE))
            try:
                with self._database:  # which also ends what Ctrl-C interrupts as it begins
                    self._database.execute("BEGIN IMMEDIATE")
                    yield
            finally:
                self._wait_at_most(_PATIENCE)

    def _wait_at_most(self, seconds: float) -> None:
        self._database.execute(f"PRAGMA busy_timeout = {int(1000 * seconds)}")

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """All that is read inside is of one moment, and legible."""
        with self._held(), self._errors(), self._legible():
            with self._database:
                self._database.execute("BEGIN")
                yield
            self._database.check_unchanged()

    def _held(self) -> _Held:
        return _Held(self)


_databases: WeakSet[Database] = WeakSet()
_forking = threading.Lock()
_at_rest: list[Database] = []
"""whose locks are held for the moment of a fork"""


def _rest() -> None:
    _forking.acquire()
    for database in list(_databases):
        database._lock.acquire()
        _at_rest.append(database)


def _go_on() -> None:
    while _at_rest:
        _at_rest.pop()._lock.release()
    _forking.release()


def _let_go() -> None:
    """In a forked child. It has no locks of its parent's, but its SQLite believes so as long as it knows the parent's
    connections: whatever the child then opened, the parent would take away what the child writes when it closes."""
    for database in _at_rest:
        if database._path and database._connection is not None:
            with suppress(sqlite3.Error):
                database._connection.close()
    _go_on()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_rest, after_in_parent=_go_on, after_in_child=_let_go)


class _Held:
    """The connection, for this thread alone. Asked before the lock, which a forked child may never get; and after it,
    since another thread may have closed. A class, which costs a search less than a generator does."""

    __slots__ = ("_of",)

    def __init__(self, database: Database) -> None:
        self._of = database

    def __enter__(self) -> None:
        self._of.check_open()
        self._of._lock.acquire()
        try:
            self._of.check_open()
        except BaseException:
            self._of._lock.release()
            raise

    def __exit__(self, *error: object) -> None:
        self._of._lock.release()


class _Connection(sqlite3.Connection):
    """SQLite's, which knows whether it is without locks."""

    read_from = ""
    as_opened: tuple[object, ...] | None = None
    """what the file was like when it was opened without locks; None for all others"""

    def check_unchanged(self) -> None:
        if self.as_opened is not None and _look_of(self.read_from) != self.as_opened:
            raise StorageFailed(
                f"{self.read_from} was written from elsewhere since it was opened here, where it can only be read; "
                "connect again"
            )


def _look_of(path: str) -> tuple[object, ...]:
    try:
        found = Path(path).stat()
    except OSError:
        return ()
    return Path(f"{path}-wal").exists(), found.st_ino, found.st_size, found.st_mtime_ns


def _opened(path: str, engine: str, *, make: bool = False) -> _Connection | None:
    """A connection to the file at `path`; None where it is missing or empty, and this is not to `make` it. Without a
    path to a temporary one that nobody else sees.

    Raises CollectionError for a file that is not one of ours, in words of that `engine`; BackendDown, StorageFailed.
    """
    with storage_errors(path, "opened"):
        if path and not Path(path).parent.is_dir():
            raise CollectionError(f"the folder of {path} does not exist; make it first")
        if path and Path(path).exists() and not Path(path).is_file():
            raise CollectionError(f"{path} is not a regular file; use another path")
        if path and not make and _is_nothing(Path(path)):
            return None
    with _storage_errors(path or engine, engine):
        try:
            return _connected(path)
        except sqlite3.OperationalError as error:
            if make or _code(error) not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
                raise
            found = _look_of(path)
            if not found or found[0]:  # without what -wal holds it is not all
                raise StorageFailed(f"{path} cannot be opened ({error}); {_NEEDS}") from error
            return _connected(path, found)


def _is_nothing(path: Path) -> bool:
    return not path.exists() or (path.is_file() and not path.stat().st_size)


def _connected(path: str, as_opened: tuple[object, ...] | None = None) -> _Connection:
    """To the file at `path`; without locks where it is said what the file is like."""
    place = path if as_opened is None else f"{Path(path).as_uri()}?immutable=1"
    settings: dict[str, Any] = {"isolation_level": None, "check_same_thread": False, "timeout": remaining(_PATIENCE)}
    database = sqlite3.connect(place, uri=as_opened is not None, factory=_Connection, **settings)
    database.read_from, database.as_opened = path, as_opened
    try:
        _prepare(database, path)
        return database
    except BaseException:
        database.close()
        raise


def _prepare(database: _Connection, path: str) -> None:
    database.execute(f"PRAGMA page_size = {_PAGE}")  # of a new file; others keep theirs
    database.create_function("with_fields", 2, _with_fields, deterministic=True)
    if not path:
        return
    ours = database.execute("PRAGMA application_id").fetchone()[0] == _APPLICATION_ID
    if not ours and database.execute("SELECT 1 FROM sqlite_master").fetchone():
        raise CollectionError(f"{path} is an SQLite file of somebody else's; use another path")
    version = database.execute("PRAGMA user_version").fetchone()[0]
    if ours and version not in (2, _VERSION):
        way = "install a newer version" if version > _VERSION else "make it again"
        raise CollectionError(f"{path} was written by another version of sparsevec; {way}")
    if database.as_opened is None:
        _write_ahead(database)
        database.execute("PRAGMA synchronous = FULL")  # a commit is on disk before it returns
    if ours and version == 2:
        if database.as_opened is not None:
            raise StorageFailed(
                f"{path} is of an earlier version, which is read where it can be written; copy it to another folder"
            )
        _add_codes(database)


def _write_ahead(database: _Connection) -> None:
    """Of several who make a file at once SQLite refuses all but one without waiting, busy timeout or not."""
    until = time.monotonic() + remaining(_PATIENCE)
    while True:
        try:
            database.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
        time.sleep(_PAUSE)


def _with_fields(old: str, new: str) -> str:
    """The payload `old` with the fields of `new` in place of its own."""
    return old if new == "{}" else json.dumps({**json.loads(old), **json.loads(new)})


def _add_codes(database: sqlite3.Connection) -> None:
    """What a file of version 2 lacks, unless another process has just added it."""
    database.execute("BEGIN IMMEDIATE")
    with database:
        if database.execute("PRAGMA user_version").fetchone()[0] == 2:
            there = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'collection'").fetchone()
            for statement in _SINCE_2 if there else _SINCE_2[-1:]:
                database.execute(statement)


@contextmanager
def _storage_errors(place: str, engine: str) -> Iterator[None]:
    """What SQLite raises, as errors of ours that name `place`."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = _code(error)
        if code == sqlite3.SQLITE_NOTADB:
            raise CollectionError(f"{place} is not a file of the {engine} engine; use another path") from error
        if code == sqlite3.SQLITE_BUSY:
            raise BackendDown(f"{place} is being written by another process for too long; try again") from error
        if code == sqlite3.SQLITE_CORRUPT:
            raise _damaged(place, error) from error
        if code == sqlite3.SQLITE_ERROR and "no such table" in str(error):
            raise CollectionError(f"{place} was dropped during this call; create(dimension) makes it anew") from error
        if code == sqlite3.SQLITE_CANTOPEN:
            raise StorageFailed(f"{place} cannot be opened ({error}); {_NEEDS}") from error
        if code == sqlite3.SQLITE_READONLY:
            raise StorageFailed(
                f"{place} can only be read ({error}); to write, remount its folder for writing, or copy it to another"
            ) from error
        raise StorageFailed(f"{place}: {error}; what was reported as written is still there") from error


def _code(error: sqlite3.DatabaseError) -> int:
    """SQLite's, without the extension."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _damaged(place: str, error: Exception) -> StorageFailed:
    return StorageFailed(
        f"{place} is damaged or cut short ({error}); restore it from a copy, or remove it and write it again"
    )
