"""The local engine keeps up with every write, whoever makes it, and says what the reference says."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparsevec import connect
from sparsevec.contract.adapter import Adapter, Documents, Hits
from sparsevec.errors import CollectionError, StorageFailed
from sparsevec.exact.local import LocalEngine, engine
from sparsevec.exact.local.segments import Segment
from sparsevec.exact.local.snapshot import Snapshot
from sparsevec.exact.local.texts import Texts
from sparsevec.exact.reference import Reference
from sparsevec.exact.rows import key_of
from sparsevec.postings import blocks
from sparsevec.vectors import SparseVectors
from tests.full_disk import files_up_to

DIMENSION = 24
FILTERS: list[dict[str, Any] | None] = [
    None,
    {"brand": "acme"},
    {"brand": ["acme", 1, True]},
    {"price": {"gte": 2, "lt": 40.5}},
    {"price": {"gt": 2**60}},
    {"made": {"gte": "2024-01-02"}},
    {"tags": {"not": "b"}, "deep.x": {"exists": False}},
    {"$any": [{"tags": ["a", "c"]}, {"$not": {"brand": {"exists": True}}}]},
]


def some_payload(rng: np.random.Generator) -> dict[str, Any]:
    fields = {
        "brand": ["acme", "other", 1, True, None, 1.0][rng.integers(6)],
        "price": [int(rng.integers(60)), 2**60 + 1, 2.5, "7", None][rng.integers(5)],
        "made": ["2024-01-01", "2024-01-02T03:00:00+02:00", "soon", 5][rng.integers(4)],
        "tags": [[], ["a"], ["a", "b"], "c", None][rng.integers(5)],
        "deep": [{}, {"x": 1}, {"x": None}, [{"x": 2}, {}]][rng.integers(4)],
    }
    return {name: value for name, value in fields.items() if rng.random() < 0.8}


def some_vectors(rng: np.random.Generator, n: int) -> SparseVectors:
    """Of few different weights, so that many scores are equal."""
    rows = rng.choice([0.0, 0.0, 0.0, 0.5, 1.0, -1.0], (n, DIMENSION))
    return SparseVectors.from_dense(rows)


def some_ids(rng: np.random.Generator, n: int) -> list[int | str]:
    numbers = rng.choice(400, n, replace=False).tolist()
    return [str(number) if number % 3 == 0 else number for number in numbers]


def write(rng: np.random.Generator, *adapters: Adapter) -> None:
    n = int(rng.choice([1, 2, 5, 40]))
    ids, vectors = some_ids(rng, n), some_vectors(rng, n)
    payloads, kind = [some_payload(rng) for _ in ids], rng.random()
    codes = rng.integers(0, 256, (n, 3)).astype(np.uint8)
    for adapter in adapters:
        if kind < 0.3:
            adapter.delete(ids)
        else:
            adapter.upsert(ids, vectors, payloads, codes=codes)


def asked(rng: np.random.Generator, adapter: Adapter, k: int, where: Any) -> list[Hits]:
    return adapter.search(some_vectors(rng, 3), k, where=where, with_payloads=True, with_vectors=True, with_codes=True)


def parts(documents: Documents | None) -> Any:
    assert documents is not None
    assert documents.codes is not None
    return documents.ids, documents.vectors, documents.payloads, documents.codes.tolist()


def require_the_same(seed: list[int], one: Adapter, other: Adapter) -> None:
    for number, where in enumerate(FILTERS):
        for k in (7, 1000):
            found, expected = (
                asked(np.random.default_rng([*seed, number]), adapter, k, where) for adapter in (one, other)
            )
            assert [hits.scores.tobytes() for hits in found] == [hits.scores.tobytes() for hits in expected]
            assert found == expected
        assert parts(one.matching(where or {}, 1000)) == parts(other.matching(where or {}, 1000))
    assert one.count() == other.count()


@pytest.fixture(autouse=True)
def _merges_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_FEW", 20)


@pytest.mark.parametrize("place", ["", "{}/local.db"])
@pytest.mark.parametrize("seed", range(2))
def test_after_every_write_the_answers_are_the_references(place: str, seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    with LocalEngine(place.format(tmp_path)) as local, Reference() as reference:
        for adapter in (local, reference):
            adapter.create(DIMENSION, code_bytes=3)
        for step in range(30):
            write(rng, local, reference)
            if step % 6 == 0:
                require_the_same([seed, step], local, reference)
        require_the_same([seed], local, reference)


def test_a_ranking_is_read_on_over_all_segments(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    with LocalEngine() as local, Reference() as reference:
        for adapter in (local, reference):
            adapter.create(DIMENSION, code_bytes=3)
        for _ in range(15):
            write(rng, local, reference)
            local.search(some_vectors(rng, 1), 1)
        query = some_vectors(rng, 1)
        after: str | None = ""
        while after is not None:
            (found,), (expected,) = (adapter.search(query, 7, after=after) for adapter in (local, reference))
            assert found == expected
            after = found.after
            assert after == expected.after


def test_what_another_process_wrote_is_found(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    with LocalEngine(f"{tmp_path}/f") as one, LocalEngine(f"{tmp_path}/f") as other, Reference() as reference:
        for adapter in (one, reference):
            adapter.create(DIMENSION, code_bytes=3)
        for step in range(16):
            write(rng, (one, other)[step % 2], reference)
            require_the_same([6, step], (other, one)[step % 3 == 0], reference)


def test_a_file_that_the_reference_writes_is_searched(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    with Reference(f"{tmp_path}/f") as reference:
        reference.create(DIMENSION, code_bytes=3)
        write(rng, reference)
        with LocalEngine(f"{tmp_path}/f") as local:
            for step in range(10):
                require_the_same([7, step], local, reference)
                write(rng, reference)


def test_a_collection_that_was_dropped_and_made_again_is_another(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    with LocalEngine(f"{tmp_path}/f") as one, LocalEngine(f"{tmp_path}/f") as other, Reference() as reference:
        for adapter in (one, reference):
            adapter.create(DIMENSION, code_bytes=3)
        for _ in range(6):
            write(rng, one, reference)
            require_the_same([8], other, reference)
        for adapter in (one, reference):
            adapter.drop()
            adapter.create(DIMENSION, code_bytes=3)
        write(rng, one, reference)
        require_the_same([9], other, reference)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[tuple[Path, Reference]]:
    """A file whose index is kept beside it, and the same documents in a reference."""
    rng, path = np.random.default_rng(10), tmp_path / "kept.db"
    with Reference() as reference:
        reference.create(DIMENSION, code_bytes=3)
        with LocalEngine(str(path)) as local:
            local.create(DIMENSION, code_bytes=3)
            for _ in range(20):
                write(rng, local, reference)
            local.search(some_vectors(rng, 1), 1)
        yield path, reference


def index_of(path: Path) -> Path:
    (folder,) = path.with_name("kept.db.index").iterdir()
    return folder


def test_the_index_of_a_file_is_mapped_when_it_is_opened_again(
    kept: tuple[Path, Reference], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, reference = kept
    with LocalEngine(str(path)) as local:
        require_the_same([10], local, reference)
        assert local._state is not None
        lists = local._state.snapshot.segments[0].lists.lists
        assert any(
            isinstance(base, np.memmap) for base in (lists.weights.base, getattr(lists.weights.base, "base", None))
        )


def cut_short(folder: Path) -> None:
    with (folder / "weights").open("r+b") as file:
        file.truncate(5)


def garbled(name: str) -> Callable[[Path], object]:
    """As after a bad sector: of the same length, and nothing it could be."""
    return lambda folder: (folder / name).write_bytes(b"\xff" * (folder / name).stat().st_size)


def header(**fields: object) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        found = json.loads((folder / "header.json").read_text())
        (folder / "header.json").write_text(json.dumps({**found, **fields}))

    return change


HARMS: list[Callable[[Path], object]] = [
    cut_short,
    *map(garbled, ("bases", "starts", "numbers", "dimensions", "indptr", "key_ends", "payload_ends", "payloads")),
    header(arrays=[]),
    header(arrays={}),
    header(dimension=DIMENSION + 1),
    header(arrays={"key_ends": ["<f8", [3]]}),
    header(arrays={"key_ends": ["<i8", [float("inf")]]}),
    lambda folder: (folder / "header.json").write_text("[]"),
    lambda folder: (folder / "numbers").unlink(),
    lambda folder: (folder / "header.json").write_text("{"),
    lambda folder: (folder / "header.json").write_text("{}"),
    shutil.rmtree,
    lambda folder: shutil.rmtree(folder.parent),
]


@pytest.mark.parametrize("harm", HARMS)
def test_an_index_that_is_not_whole_is_made_again(kept: tuple[Path, Reference], harm: Callable[[Path], object]) -> None:
    path, reference = kept
    harm(index_of(path))
    with LocalEngine(str(path)) as local:
        require_the_same([11], local, reference)
    with LocalEngine(str(path)) as local:
        local.search(some_vectors(np.random.default_rng(0), 1), 1)
    assert (index_of(path) / "weights").stat().st_size > 5


def test_a_merge_of_a_damaged_index_comes_to_nothing_and_it_is_made_again(kept: tuple[Path, Reference]) -> None:
    path, reference = kept
    rng, before = np.random.default_rng(15), index_of(path)
    garbled("indices")(before)
    with LocalEngine(str(path)) as local:
        for _ in range(15):
            write(rng, local, reference)
            local.search(some_vectors(rng, 1), 1)
            merged(local)
        require_the_same([15], local, reference)
    assert index_of(path) != before


def merged(local: LocalEngine) -> None:
    """All that it has begun to merge."""
    for merging in filter(None, [local._merging]):
        merging.join()


class Raced(LocalEngine):
    before_mapping: Callable[[], object] = staticmethod(lambda: None)

    def _mapped(self, *given: Any) -> Snapshot:
        meanwhile, self.before_mapping = self.before_mapping, lambda: None
        meanwhile()
        return super()._mapped(*given)


def test_an_index_that_another_replaces_while_it_is_looked_for_is_looked_for_again(
    kept: tuple[Path, Reference], caplog: pytest.LogCaptureFixture
) -> None:
    path, reference = kept
    before = index_of(path)
    with Raced(str(path)) as reader, LocalEngine(str(path)) as writer:

        def replace() -> None:
            rng = np.random.default_rng(16)
            for _ in range(12):
                write(rng, writer, reference)
                writer.search(some_vectors(rng, 1), 1)
                merged(writer)
            assert not before.exists()

        writer.search(some_vectors(np.random.default_rng(0), 1), 1)
        reader.before_mapping = replace
        require_the_same([16], reader, reference)
        assert reader._state is not None
        assert reader._state.mapped
    assert caplog.records == []


def test_an_index_that_is_not_whole_is_gone_without_while_another_process_writes(
    kept: tuple[Path, Reference],
) -> None:
    path, reference = kept
    before = index_of(path)
    cut_short(before)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with LocalEngine(str(path)) as local:
        require_the_same([17], local, reference)
        holder.execute("ROLLBACK")
        holder.close()
        merged(local)
        require_the_same([18], local, reference)
    assert index_of(path) != before


def test_one_process_merges_at_a_time_and_the_next_when_it_has_ended(
    kept: tuple[Path, Reference], caplog: pytest.LogCaptureFixture
) -> None:
    path, reference = kept
    rng, before = np.random.default_rng(19), index_of(path)
    with LocalEngine(str(path)) as local:
        with engine._alone(before.parent):
            for _ in range(12):
                write(rng, local, reference)
                local.search(some_vectors(rng, 1), 1)
            merged(local)
            assert index_of(path) == before
        write(rng, local, reference)
        require_the_same([19], local, reference)
        merged(local)
        assert index_of(path) != before
    assert caplog.records == []


def test_what_another_process_has_merged_is_taken_over_by_who_has_read_on_meanwhile(
    kept: tuple[Path, Reference], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, reference = kept
    rng = np.random.default_rng(20)
    with LocalEngine(str(path)) as one, LocalEngine(str(path)) as other:
        tell = one._tell

        def late(*given: Any) -> bool:
            write(rng, other, reference)
            other.search(some_vectors(rng, 1), 1)
            return tell(*given)

        monkeypatch.setattr(one, "_tell", late)
        for _ in range(12):
            write(rng, one, reference)
            one.search(some_vectors(rng, 1), 1)
            merged(one)
            require_the_same([20], other, reference)
            merged(other)
            assert one._state is not None
            assert index_of(path).name == one._state.kept  # the other has not merged the same once more
        require_the_same([20], one, reference)


def test_a_folder_that_another_process_takes_away_is_no_matter(
    kept: tuple[Path, Reference], caplog: pytest.LogCaptureFixture
) -> None:
    path, reference = kept
    rng, before = np.random.default_rng(22), index_of(path)
    (before.parent / "1-gone").symlink_to("nowhere")  # listed, and not there
    with LocalEngine(str(path)) as local:
        for _ in range(12):
            write(rng, local, reference)
            local.search(some_vectors(rng, 1), 1)
            merged(local)
        assert local._state is not None
        assert local._state.kept != before.name
    assert not before.exists()
    assert caplog.records == []


def test_several_processes_write_and_merge_without_a_word(tmp_path: Path) -> None:
    path = tmp_path / "f"
    with LocalEngine(str(path)) as local:
        local.create(DIMENSION, code_bytes=3)
        script = WRITER.replace("while True", "while step < 20")
        command = [sys.executable, "-c", script, str(path)]
        both: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": Path(__file__).parents[2]}
        writers = [subprocess.Popen([*command, seed], **both) for seed in "12"]
        said = [writer.communicate() for writer in writers]
        assert [(writer.returncode, errors) for writer, (_, errors) in zip(writers, said, strict=True)] == [
            (0, b"")
        ] * 2
        with connect(f"reference:{path}") as reference:
            require_the_same([21], local, reference)


def test_a_reader_keeps_the_index_that_it_has_mapped_when_another_replaces_it(kept: tuple[Path, Reference]) -> None:
    path, reference = kept
    rng = np.random.default_rng(12)
    with LocalEngine(str(path)) as reader, LocalEngine(str(path)) as writer:
        require_the_same([12], reader, reference)
        before = index_of(path)
        for _ in range(12):
            write(rng, writer, reference)
            writer.search(some_vectors(rng, 1), 1)
            require_the_same([13], reader, reference)
    assert index_of(path) != before


WRITER = """
import sys, numpy as np
from sparsevec.exact.local import LocalEngine, engine
from tests.unit.test_local import DIMENSION, some_ids, some_payload, some_vectors
engine._FEW = 20
rng, step = np.random.default_rng(int(sys.argv[2])), 0
with LocalEngine(sys.argv[1]) as local:
    while True:
        ids = some_ids(rng, 30)
        local.upsert(ids, some_vectors(rng, 30), [some_payload(rng) for _ in ids], codes=np.zeros((30, 3), np.uint8))
        local.search(some_vectors(rng, 1), 5)
        step += 1
        print(step, flush=True)
"""


def test_killed_while_it_writes_and_merges_the_next_finds_what_the_file_holds(tmp_path: Path) -> None:
    path = tmp_path / "f"
    with LocalEngine(str(path)) as local:
        local.create(DIMENSION, code_bytes=3)
    for kill in range(4):
        command = [sys.executable, "-c", WRITER, str(path), str(kill)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as writer:
            assert writer.stdout is not None
            for _ in range(3 + kill):
                assert writer.stdout.readline()
            os.kill(writer.pid, signal.SIGKILL)
        with LocalEngine(str(path)) as local, connect(f"reference:{path}") as reference:
            require_the_same([14, kill], local, reference)


def test_a_file_of_wide_documents_is_little_larger_than_their_weights(tmp_path: Path) -> None:
    """SQLite gives each row that is longer than a quarter of a page pages of its own."""
    vectors = SparseVectors.from_dense(np.ones((300, 200)))
    with LocalEngine(f"{tmp_path}/f") as local:
        local.create(200)
        local.upsert(range(300), vectors)
    assert (tmp_path / "f").stat().st_size < 1.5 * 8 * vectors.nnz


def test_a_segment_is_smaller_than_two_copies_of_its_vectors() -> None:
    """8 bytes as it was given and 6 in a posting list, whatever memory was needed to get there."""
    vectors = SparseVectors.from_dense(np.ones((2000, 50)))
    with LocalEngine() as local:
        local.create(50)
        local.upsert(range(2000), vectors)
        local.search(vectors[:1], 1)
        assert local._state is not None
        arrays = local._state.snapshot.segments[0]._arrays()
    assert sum(array.nbytes for array in arrays.values()) < 2 * 8 * vectors.nnz


@pytest.mark.parametrize("ids", [range(100), range(2**64 - 100, 2**64), [*range(99), "12345678"], ["1", "a"]])
def test_many_ids_come_back_as_they_were_given(ids: list[int | str]) -> None:
    with LocalEngine() as local:
        local.create(1)
        local.upsert(list(ids), SparseVectors.from_dense(np.arange(len(ids), 0, -1)[:, None]))
        (hits,) = local.search(SparseVectors.from_dense(np.ones((1, 1))), 100)
    assert hits.ids == tuple(ids)


@pytest.mark.parametrize("weight", [3e38, -3e38])
def test_a_score_beyond_float32_is_infinite_and_ranks_as_it_is(weight: float) -> None:
    documents = SparseVectors.from_dense(np.array([[1e38], [3e38], [1.0]]))
    for adapter in (LocalEngine(), Reference()):
        with adapter:
            adapter.create(1)
            adapter.upsert([1, 2, 3], documents)
            (hits,) = adapter.search(SparseVectors.from_dense(np.array([[weight]])), 3)
        assert hits.ids == ((2, 1, 3) if weight > 0 else (3, 1, 2))
        expected = [np.inf, np.inf, 3e38] if weight > 0 else [-3e38, -np.inf, -np.inf]
        assert hits.scores.tolist() == np.array(expected, np.float32).tolist()


def test_ids_that_can_be_gone_through_once_are_deleted() -> None:
    with LocalEngine() as local:
        local.create(2)
        local.upsert([1, 2, 3], SparseVectors.from_dense(np.ones((3, 2))))
        local.delete(iter([1, 2]))  # type: ignore[arg-type]
        assert local.count() == 1


def test_a_file_under_two_names_has_one_index(kept: tuple[Path, Reference], caplog: pytest.LogCaptureFixture) -> None:
    path, reference = kept
    link, before = path.with_name("link.db"), index_of(path)
    link.symlink_to(path.name)
    for name in (link, path, link):
        with LocalEngine(str(name)) as local:
            require_the_same([20], local, reference)
            assert local._state is not None
            assert local._state.mapped
    assert index_of(path) == before
    assert caplog.records == []
    with LocalEngine(str(link)) as local:
        local.drop()
    assert {left.name for left in path.parent.iterdir()} == {"kept.db", "link.db"}


def test_what_others_keep_in_the_folder_of_an_index_stays(tmp_path: Path) -> None:
    rng, theirs = np.random.default_rng(21), [tmp_path / "f.index" / name for name in ("2019-photos", "notes", "1-x")]
    for folder in theirs:
        folder.mkdir(parents=True)
        os.utime(folder, (0, 0))
    with LocalEngine(f"{tmp_path}/f") as local:
        local.create(DIMENSION, code_bytes=3)
        for _ in range(20):
            write(rng, local)
            local.search(some_vectors(rng, 1), 1)
    assert len(list((tmp_path / "f.index").iterdir())) == 1 + len(theirs)
    with LocalEngine(f"{tmp_path}/f") as local:
        local.drop()
    assert set((tmp_path / "f.index").iterdir()) == set(theirs)


class Late(LocalEngine):
    """Begins to merge when somebody waits for that."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.awaited = threading.Event()

    def _keep(self, *given: Any) -> None:
        self.awaited.wait(10)
        super()._keep(*given)

    def _settle(self) -> None:
        self.awaited.set()
        super()._settle()


def test_nothing_is_left_of_what_was_dropped_amid_a_merge(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Late(f"{tmp_path}/f") as local:
        local.create(DIMENSION)
        local.upsert(range(50), some_vectors(np.random.default_rng(0), 50))
        local.search(some_vectors(np.random.default_rng(0), 1), 1)
        assert local._merging is not None
        local.drop()
    assert [left.name for left in tmp_path.iterdir()] == ["f"]
    assert caplog.records == []


def test_an_index_whose_last_bytes_find_no_room_is_not_kept(tmp_path: Path) -> None:
    vectors = some_vectors(np.random.default_rng(0), 500)
    segment = Segment(Texts.of(map(key_of, range(500))), vectors, Texts.of([b"{}"] * 500), None)
    segment.save(tmp_path / "whole")
    largest = max(path.stat().st_size for path in (tmp_path / "whole").iterdir())
    with files_up_to(largest - 1), pytest.raises(StorageFailed, match="too large"):
        segment.save(tmp_path / "short")
    assert not (tmp_path / "short").exists()


def test_what_was_dropped_answers_nothing_any_more(tmp_path: Path) -> None:
    vectors = some_vectors(np.random.default_rng(0), 5)
    for path in ("", f"{tmp_path}/f"):
        with LocalEngine(path) as local:
            local.create(DIMENSION)
            local.upsert(range(5), vectors)
            local.search(vectors, 1)
            local.drop()
            for ask in (local.count, lambda: local.count({}), lambda: local.search(vectors, 1)):
                with pytest.raises(CollectionError, match="holds no collection yet"):
                    ask()


def test_where_no_thread_can_be_started_searches_and_writes_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end of a process, whose other threads go on, or where it has as many as it may."""

    def start(thread: threading.Thread) -> None:
        raise RuntimeError(f"can't start {thread.name}")

    vectors, over = some_vectors(np.random.default_rng(0), 50), ThreadPoolExecutor(1)
    over.shutdown()
    blocks.LOOPS.load(wait=True)
    monkeypatch.setattr(blocks, "_pool", lambda: over)
    monkeypatch.setattr(threading.Thread, "start", start)
    with LocalEngine(f"{tmp_path}/f") as local, Reference() as reference:
        for adapter in (local, reference):
            adapter.create(DIMENSION)
            adapter.upsert(range(50), vectors)
        assert local.search(vectors, 7) == reference.search(vectors, 7)
        local.upsert([50], vectors[:1])
        assert local.count() == 51
