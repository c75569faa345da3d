"""The SQLite file behind the engines of this machine: its tables, opening one of ours, and what SQLite raises."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sparsevec.contract.deadlines import remaining
from sparsevec.errors import BackendDown, CollectionError, StorageFailed

__all__ = ["PATIENCE", "SCHEMA", "UPSERT", "opened", "storage_errors"]

PATIENCE = 30.0  # seconds to wait for another process that writes to the same file
_APPLICATION_ID = 0x53505643  # "SPVC", in the header of every file of ours
_VERSION = 3  # of the tables below
_PAGE = 2**14  # bytes: a document of up to 500 weights stands in one, without pages of its own
SCHEMA = (
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {_VERSION}",
    "CREATE TABLE collection (dimension INTEGER NOT NULL, fingerprint TEXT, identity TEXT NOT NULL, code_bytes INT)",
    "CREATE TABLE documents (id BLOB PRIMARY KEY, indices BLOB, weights BLOB, payload TEXT, code BLOB) WITHOUT ROWID",
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


def opened(path: str, engine: str, *, make: bool = False) -> sqlite3.Connection | None:
    """A connection to the file at `path`, None where there is none and it is not to `make` one; without a path to a
    temporary one that nobody else sees.

    Raises CollectionError for a file that is not one of ours, in words of that `engine`; BackendDown, StorageFailed.
    """
    if path and not Path(path).parent.is_dir():
        raise CollectionError(f"the folder of {path} does not exist; make it first")
    if path and not make and not Path(path).exists():
        return None
    with storage_errors(path or engine, engine):
        timeout = remaining(PATIENCE)
        database = sqlite3.connect(path, isolation_level=None, timeout=timeout, check_same_thread=False)
        try:
            _prepare(database, path)
        except BaseException:
            database.close()
            raise
        return database


def _prepare(database: sqlite3.Connection, path: str) -> None:
    database.execute(f"PRAGMA page_size = {_PAGE}")  # of a new file; others keep theirs
    database.create_function("with_fields", 2, _with_fields, deterministic=True)
    if not path:
        return
    ours = database.execute("PRAGMA application_id").fetchone()[0] == _APPLICATION_ID
    if not ours and database.execute("SELECT 1 FROM sqlite_master").fetchone():
        raise CollectionError(f"{path} is an SQLite file of somebody else's; use another path")
    version = database.execute("PRAGMA user_version").fetchone()[0]
    if ours and version not in (2, _VERSION):
        raise CollectionError(f"{path} was written by another version of sparsevec; make it again")
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")  # a commit is on disk before it returns
    if ours and version == 2:
        _add_codes(database)


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
def storage_errors(place: str, engine: str) -> Iterator[None]:
    """What SQLite raises, as errors of ours that name `place`."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without the extension
        if code == sqlite3.SQLITE_NOTADB:
            raise CollectionError(f"{place} is not a file of the {engine} engine; use another path") from error
        if code == sqlite3.SQLITE_BUSY:
            raise BackendDown(f"{place} is being written by another process for too long; try again") from error
        if code == sqlite3.SQLITE_CORRUPT:
            raise StorageFailed(
                f"{place} is damaged or cut short ({error}); restore it from a copy, or remove it and write it again"
            ) from error
        raise StorageFailed(f"{place}: {error}; what was reported as written is still there") from error
