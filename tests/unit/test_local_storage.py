"""What the engines of this machine say of a file that is damaged, and of one that can only be read."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparsevec import connect
from sparsevec.contract.adapter import Adapter
from sparsevec.errors import CollectionError, InvalidInput, InvalidVectors, StorageFailed
from sparsevec.exact.database import Collection, _connected, _look_of
from sparsevec.exact.local import LocalEngine
from sparsevec.exact.reference import Reference
from sparsevec.testing.forks import in_a_forked_child
from sparsevec.vectors import SparseVectors

DOCUMENTS = SparseVectors.from_dense(np.ones((2000, 8), np.float32))
READS: dict[str, Callable[[Adapter], object]] = {
    "search": lambda adapter: adapter.search(DOCUMENTS[:1], with_payloads=True),
    "filter": lambda adapter: adapter.search(DOCUMENTS[:1], where={"n": 1}),
    "fetch": lambda adapter: adapter.fetch(list(range(2000))),
    "scan": lambda adapter: list(adapter.scan(vectors=True, payloads=True)),
    "count": lambda adapter: adapter.count({"n": 1}),
    "matching": lambda adapter: adapter.matching({"n": 1}, 5000),
    "delete": lambda adapter: adapter.delete(where={"n": 1}),
}


@pytest.fixture(params=["reference", "local"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def filled(path: Path) -> Path:
    with Reference(str(path)) as adapter:
        adapter.create(8)
        adapter.upsert(range(2000), DOCUMENTS, [{"n": number % 3} for number in range(2000)])
    return path


def garble_pages(path: Path) -> None:
    """The heads of some pages that hold documents."""
    content = bytearray(path.read_bytes())
    for page in range(3, len(content) >> 14, 2):
        content[page << 14 : (page << 14) + 8] = b"\xff" * 8
    path.write_bytes(content)


def set_all(column: str, value: bytes | str | None) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with sqlite3.connect(path) as database:
            database.execute(f"UPDATE documents SET {column} = ?", (value,))
        database.close()

    return change


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize(
    "damage",
    [
        garble_pages,
        set_all("payload", '{"n": '),
        set_all("indices", b"\xff" * 32),
        set_all("weights", b"\xff" * 32),
        *(set_all(column, None) for column in ("payload", "indices", "weights")),
    ],
)
def test_damage_is_told_whoever_comes_upon_it(
    engine: str, damage: Callable[[Path], None], read: str, tmp_path: Path
) -> None:
    damage(filled(tmp_path / "f"))
    with (
        connect(f"{engine}:{tmp_path}/f") as adapter,
        pytest.raises(StorageFailed, match=r"f is damaged or cut short \("),
    ):
        READS[read](adapter)


@pytest.mark.parametrize(("path", "error"), [("f\0", InvalidInput), ("f" * 300, StorageFailed)])
def test_a_path_that_names_no_file_is_refused(engine: str, path: str, error: type[Exception], tmp_path: Path) -> None:
    with pytest.raises(error, match=r"fff|expected the path of a file"):
        {"local": LocalEngine, "reference": Reference}[engine](f"{tmp_path}/{path}")


@pytest.mark.parametrize("fingerprint", [5, b"x", ["a"]])
def test_a_fingerprint_that_is_no_text_is_refused_before_it_is_kept(engine: str, fingerprint: Any) -> None:
    with connect(f"{engine}:") as adapter:
        with pytest.raises(InvalidVectors, match="fingerprint must be a printable string or None"):
            adapter.create(8, fingerprint=fingerprint)
        assert not adapter.info().exists


INTERRUPTED = """
import os, signal, sqlite3, sys, threading, time, numpy as np
from sparsevec import connect
from sparsevec.vectors import SparseVectors
vectors, waits = SparseVectors.from_dense(np.ones((1, 8))), threading.Event()
other = sqlite3.connect(sys.argv[2], timeout=1, isolation_level=None, check_same_thread=False)

def interrupt():
    waits.wait()
    time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGINT)
    other.execute("ROLLBACK")

with connect(f"{sys.argv[1]}:{sys.argv[2]}") as adapter:
    adapter.count()
    other.execute("BEGIN IMMEDIATE")
    adapter._connection.set_trace_callback(lambda said: said.startswith("BEGIN") and waits.set())
    threading.Thread(target=interrupt).start()
    try:
        adapter.upsert([5000], vectors)
    except KeyboardInterrupt:
        print("interrupted")
    other.execute("BEGIN IMMEDIATE")
    other.execute("ROLLBACK")
    adapter.upsert([5001], vectors)
    print(adapter.count())
"""


def test_a_write_that_is_interrupted_as_it_waits_for_another_leaves_nothing_open(engine: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", INTERRUPTED, engine, str(filled(tmp_path / "f"))]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (said.stdout, said.stderr) == ("interrupted\n2001\n", "")


def test_a_collection_that_another_drops_amid_a_call_is_told_as_that(engine: str, tmp_path: Path) -> None:
    path = filled(tmp_path / "f")
    other = sqlite3.connect(path, isolation_level=None)

    class Late({"local": LocalEngine, "reference": Reference}[engine]):  # type: ignore[misc]
        def _existing(self) -> Collection:
            found: Collection = super()._existing()
            other.execute("DROP TABLE IF EXISTS documents")
            return found

    with Late(str(path)) as adapter, pytest.raises(CollectionError, match="f was dropped during this call"):
        adapter.fetch([1])
    other.close()


# ---- forks


def beside(call: Callable[[], object]) -> int:
    """A child that was forked for it, and goes on until it is killed."""
    if child := os.fork():
        return child
    try:
        call()
        signal.pause()
    finally:
        os._exit(1)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_what_a_forked_child_writes_is_there_whenever_its_parent_closes(engine: str, tmp_path: Path) -> None:
    path, wrote, closed = filled(tmp_path / "f"), os.pipe(), os.pipe()

    def write() -> None:
        adapter = connect(f"{engine}:{path}")
        adapter.upsert([5000], DOCUMENTS[:1])
        os.write(wrote[1], b".")
        os.read(closed[0], 1)
        adapter.upsert([5001], DOCUMENTS[:1])
        os.write(wrote[1], b".")

    with connect(f"{engine}:{path}") as parent:
        parent.upsert([4999], DOCUMENTS[:1])
        child = beside(write)
        assert os.read(wrote[0], 1)
    os.write(closed[1], b".")
    assert os.read(wrote[0], 1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with connect(f"{engine}:{path}") as adapter:
        assert adapter.fetch([4999, 5000, 5001]).ids == (4999, 5000, 5001)


def test_a_child_that_is_forked_amid_a_write_can_write_itself(engine: str, tmp_path: Path) -> None:
    path, amid = filled(tmp_path / "f"), threading.Event()
    with {"local": LocalEngine, "reference": Reference}[engine](str(path)) as parent:

        def write() -> None:
            with parent._transaction():
                parent._execute("DELETE FROM documents WHERE id = x''")
                amid.set()
                time.sleep(0.3)

        def write_as_well() -> object:
            with connect(f"{engine}:{path}") as adapter:
                return adapter.upsert([5000], DOCUMENTS[:1]).written

        writing = threading.Thread(target=write)
        writing.start()
        amid.wait()
        assert in_a_forked_child(write_as_well) == "returned (5000,)"
        writing.join()
        assert parent.count() == 2001


# ---- where nothing can be written


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that others may look into."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


def as_a_guest(call: Callable[[], Any], folder: Path) -> str:
    """What became of it in a process that may read the folder, and write nothing."""

    def within() -> Any:
        os.setuid(os.getuid() or 65534)
        return call()

    for path in folder.rglob("*"):
        path.chmod(0o555)
    folder.chmod(0o555)
    try:
        return in_a_forked_child(within)
    finally:
        folder.chmod(0o755)


def test_what_was_closed_is_read_where_nothing_can_be_written(engine: str, folder: Path) -> None:
    path = filled(folder / "f # ?")
    with LocalEngine(str(path)) as local:
        expected = local.search(DOCUMENTS[:2], 3)

    def read() -> object:
        with {"local": LocalEngine, "reference": Reference}[engine](str(path)) as adapter:
            assert adapter.search(DOCUMENTS[:2], 3) == expected
            return adapter.count(), adapter.count({"n": 1}), len(adapter.fetch([1, 7]).ids)

    assert as_a_guest(read, folder) == "returned (2000, 667, 2)"
    shutil.rmtree(f"{path}.index")
    assert as_a_guest(read, folder) == "returned (2000, 667, 2)"


def test_a_file_that_only_the_reference_wrote_is_searched_where_nothing_can_be_written(folder: Path) -> None:
    path = filled(folder / "f")

    def read() -> object:
        with connect(f"local:{path}") as adapter:
            return [len(adapter.search(DOCUMENTS[:1], 5000)[0]) for _ in range(2)]

    assert as_a_guest(read, folder) == "returned [2000, 2000]"


def test_a_file_of_an_earlier_version_says_there_that_it_must_be_copied(engine: str, folder: Path) -> None:
    path = filled(folder / "f")
    with closing(sqlite3.connect(path)) as database:
        database.executescript(
            "ALTER TABLE collection DROP COLUMN code_bytes; ALTER TABLE documents DROP COLUMN code; "
            "PRAGMA user_version = 2"
        )
    found = as_a_guest(lambda: connect(f"{engine}:{path}"), folder)
    assert "StorageFailed" in found
    assert "copy it to another folder" in found


def test_a_write_there_says_that_it_can_only_be_read(engine: str, folder: Path) -> None:
    path = filled(folder / "f")

    def write() -> object:
        with connect(f"{engine}:{path}") as adapter, pytest.raises(StorageFailed) as refused:
            adapter.upsert([1], DOCUMENTS[:1])
        return str(refused.value)

    said = as_a_guest(write, folder)
    assert f"{path} can only be read (" in said
    assert "to write, remount its folder for writing, or copy it to another" in said


def test_what_another_process_has_open_is_read_as_it_is_now(engine: str, folder: Path) -> None:
    path = filled(folder / "f")

    def read() -> object:
        with connect(f"{engine}:{path}") as adapter:
            return adapter.count(), len(adapter.search(DOCUMENTS[:1], 5000)[0])

    with connect(f"reference:{path}") as writer:
        writer.delete(range(5))
        assert as_a_guest(read, folder) == "returned (1995, 1995)"


def test_a_file_that_was_not_closed_is_not_read_without_its_end(engine: str, folder: Path) -> None:
    with connect(f"reference:{filled(folder / 'open')}") as writer:
        writer.delete(range(5))
        for end in ("", "-wal"):
            shutil.copy(f"{folder}/open{end}", f"{folder}/f{end}")
    said = as_a_guest(lambda: connect(f"{engine}:{folder}/f"), folder)
    assert said.startswith(f"StorageFailed: {folder}/f cannot be opened (")
    assert "SQLite needs a file that it can read" in said


def test_a_file_that_is_written_from_elsewhere_is_not_read_without_locks(engine: str, tmp_path: Path) -> None:
    path = filled(tmp_path / "f")
    with {"local": LocalEngine, "reference": Reference}[engine](str(path)) as adapter:
        adapter._database.close()
        adapter._connection = _connected(str(path), _look_of(str(path)))
        assert adapter.count() == len(adapter.search(DOCUMENTS[:1], 5000)[0]) == 2000
        with connect(f"reference:{path}") as writer:
            writer.delete(range(5))
        for read in READS.values():
            with pytest.raises(StorageFailed, match="was written from elsewhere since it was opened here"):
                read(adapter)
