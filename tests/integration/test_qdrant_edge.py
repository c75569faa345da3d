"""The folder of the embedded engine: whose it is, who has it open, and what is left of it after an accident."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import Any
from uuid import UUID, uuid5

import pytest
import qdrant_edge
from sparsevec_adapters.qdrant_core.ids import NAMESPACE

import sparsevec as sv
from sparsevec.contract.adapter import Adapter
from sparsevec.errors import AdapterError, CollectionError, InvalidInput, StorageFailed
from sparsevec.exact.verify import verify
from sparsevec.testing.conformance.documents import ask, corpus, fill, rows
from sparsevec.testing.forks import in_a_forked_child


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "edge"


@pytest.fixture
def adapter(folder: Path) -> Iterator[Adapter]:
    adapter = sv.connect(f"qdrant+edge:{folder}")
    yield adapter
    adapter.close()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_nothing_is_made_before_create_and_nothing_is_left_after_drop(folder: Path, adapter: Adapter) -> None:
    assert not folder.exists()
    fill(adapter, [1], rows({1: 1.0}))
    adapter.drop()
    assert not folder.exists()


def test_a_folder_that_is_not_ours_is_refused_and_left_as_it_is(folder: Path) -> None:
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    (folder / "shard").mkdir()
    before = contents(folder)
    with pytest.raises(CollectionError, match="not a folder of ours"):
        sv.connect(f"qdrant+edge:{folder}")
    assert contents(folder) == before


def test_a_marker_of_somebody_elses_is_refused(folder: Path) -> None:
    folder.mkdir()
    (folder / "sparsevec.json").write_text(json.dumps({"format": "something/1"}))
    with pytest.raises(CollectionError, match="does not say"):
        sv.connect(f"qdrant+edge:{folder}")


@pytest.mark.parametrize(
    "damage", [{"dimension": "x"}, {"dimension": 7.5}, {"dimension": []}, {"fingerprint": 5}, {"code_bytes": "x"}]
)
def test_a_damaged_marker_is_named_as_that(folder: Path, adapter: Adapter, damage: dict[str, object]) -> None:
    fill(adapter, [1], rows({1: 1.0}))
    adapter.close()
    marker = folder / "sparsevec.json"
    marker.write_text(json.dumps({**json.loads(marker.read_text()), **damage}))
    with pytest.raises(CollectionError, match=r"sparsevec\.json is damaged"):
        sv.connect(f"qdrant+edge:{folder}")


def test_a_file_and_a_folder_that_nobody_made_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "missing" / "edge", tmp_path / ("x" * 300) / "edge"):
        with pytest.raises(CollectionError):
            sv.connect(f"qdrant+edge:{path}")


def test_an_empty_path_is_refused() -> None:
    with pytest.raises(InvalidInput):
        sv.connect("qdrant+edge:")


def test_an_option_of_the_url_is_refused_and_no_part_of_a_folder_name(folder: Path) -> None:
    with pytest.raises(InvalidInput, match=r"the qdrant\+edge url has options \['vector_name'\]; it knows none"):
        sv.connect(f"qdrant+edge:{folder}?vector_name=s")
    assert list(folder.parent.iterdir()) == []


def test_the_folder_is_made_where_it_was_named_whatever_folder_the_process_is_in(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    with sv.connect(f"qdrant+edge:{folder.name}") as adapter:
        monkeypatch.chdir("/")
        adapter.create(1)
    assert (folder / "sparsevec.json").is_file()


def test_an_empty_folder_will_do(folder: Path) -> None:
    folder.mkdir()
    adapter = sv.connect(f"qdrant+edge:{folder}")
    fill(adapter, [1], rows({1: 1.0}))
    adapter.close()


def test_files_of_others_in_our_folder_survive_a_drop(folder: Path, adapter: Adapter) -> None:
    fill(adapter, [1], rows({1: 1.0}))
    (folder / "notes.txt").write_text("mine")
    adapter.drop()
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_another_process_that_has_it_open_is_named_as_the_reason(folder: Path, adapter: Adapter) -> None:
    fill(adapter, [1], rows({1: 1.0}))
    program = f"import sparsevec; sparsevec.connect('qdrant+edge:{folder}')"
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "CollectionError" in other.stderr
    assert "open in another process" in other.stderr
    assert ask(adapter, {1: 1.0}).ids == (1,)


@pytest.mark.parametrize("marker", [{"format": "sparsevec.qdrant-edge/1", "dimension": None}])
def test_an_interrupted_create_or_drop_can_be_done_again(folder: Path, marker: object) -> None:
    (folder / "shard" / "segments").mkdir(parents=True)
    (folder / "shard" / "segments" / "half.dat").write_text("half")
    (folder / "sparsevec.json").write_text(json.dumps(marker))
    adapter = sv.connect(f"qdrant+edge:{folder}")
    assert adapter.info().dimension is None
    fill(adapter, [1], rows({1: 1.0}))
    adapter.close()


def test_a_disk_that_is_gone_is_found_by_check_in_words(tmp_path: Path) -> None:
    parent = tmp_path / "disk"
    parent.mkdir()
    with closing(sv.connect(f"qdrant+edge:{parent}/edge")) as adapter:
        parent.rmdir()
        with pytest.raises(StorageFailed):
            adapter.check()


@pytest.mark.parametrize("end", ["close", "drop"])
def test_the_end_waits_for_the_searches_of_other_threads(
    folder: Path, adapter: Adapter, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """The engine refuses to close while another thread is inside it."""
    fill(adapter, [1], rows({1: 1.0}))
    busy = Busy(adapter._shard)  # type: ignore[attr-defined]
    monkeypatch.setattr(adapter, "_shard", busy)
    getattr(adapter, end)()
    assert busy.refusals == 0
    with closing(sv.connect(f"qdrant+edge:{folder}")) as again:
        assert again.info().exists == (end == "close")


class Busy:
    """A shard that other threads are searching."""

    def __init__(self, shard: Any) -> None:
        self._shard, self.refusals = shard, 3

    def close(self) -> None:
        if self.refusals:
            self.refusals -= 1
            raise RuntimeError("Already borrowed")
        self._shard.close()


def test_a_shard_that_is_gone_or_broken_is_an_error_of_ours(folder: Path, adapter: Adapter) -> None:
    fill(adapter, [1], rows({1: 1.0}))
    adapter.close()
    (segment,) = (folder / "shard" / "segments").iterdir()
    (segment / "segment.json").write_text("{}")
    with pytest.raises(AdapterError):
        sv.connect(f"qdrant+edge:{folder}")


def test_a_panic_of_the_engine_is_an_error_of_ours(folder: Path, adapter: Adapter) -> None:
    """Provoked behind the adapter's back, by what `SparseVectors` makes impossible: fewer values than indices."""
    fill(adapter, [1], rows({1: 1.0}))
    adapter.close()
    shard = qdrant_edge.EdgeShard.load(str(folder / "shard"))
    malformed = qdrant_edge.Point(2, {"sparse": qdrant_edge.SparseVector([1, 2], [1.0])})
    with pytest.raises(BaseException, match="out of bounds") as panic:
        shard.update(qdrant_edge.UpdateOperation.upsert_points([malformed]))
    assert not isinstance(panic.value, Exception)
    shard.close()
    with pytest.raises(AdapterError, match="panicked"):
        sv.connect(f"qdrant+edge:{folder}")


def test_a_string_id_keeps_its_point_for_ever(folder: Path, adapter: Adapter) -> None:
    """The namespace is part of what is stored: were it changed, every string id would become another point."""
    fill(adapter, ["42"], rows({1: 1.0}))
    adapter.close()
    assert UUID("6f1b9a0e-5c2d-5e0b-9d3a-7a1c53505643") == NAMESPACE
    shard = qdrant_edge.EdgeShard.load(str(folder / "shard"))
    (record,) = shard.retrieve([uuid5(NAMESPACE, "42")], with_payload=True, with_vector=False)
    assert record.payload == {"_sparsevec_id": "42"}
    shard.close()


def test_other_vectors_that_were_put_beside_ours_survive_a_rewrite(folder: Path, adapter: Adapter) -> None:
    fill(adapter, [1], rows({1: 1.0}), [{"n": 1}])
    adapter.close()
    shard = qdrant_edge.EdgeShard.load(str(folder / "shard"))
    shard.update(qdrant_edge.UpdateOperation.create_dense_vector("dense", 2, qdrant_edge.Distance.Dot))
    shard.update(qdrant_edge.UpdateOperation.update_vectors([qdrant_edge.PointVectors(1, {"dense": [1.0, 2.0]})]))
    shard.close()
    again = sv.connect(f"qdrant+edge:{folder}")
    again.upsert([1], rows({2: 5.0}))
    again.close()
    shard = qdrant_edge.EdgeShard.load(str(folder / "shard"))
    (record,) = shard.retrieve([1], with_payload=True, with_vector=["dense"])
    assert (record.vector, record.payload) == ({"dense": [1.0, 2.0]}, {"n": 1})
    shard.close()


def test_it_stays_exact_after_many_rewrites_and_deletes_and_a_reopening(folder: Path, adapter: Adapter) -> None:
    documents = corpus(2000)
    fill(adapter, range(1000), documents[:1000])
    adapter.upsert(range(1000), documents[1000:])
    adapter.delete(range(0, 1000, 3))
    kept = [i for i in range(1000) if i % 3]
    expected, queries = documents[[1000 + i for i in kept]], corpus(30, seed=5)
    verify(adapter, expected, queries, ids=kept).require_exact()
    adapter.close()
    again = sv.connect(f"qdrant+edge:{folder}")
    verify(again, expected, queries, ids=kept).require_exact()
    again.close()


def test_a_child_forked_amid_a_write_closes_nothing_and_does_not_wait_for_the_writer(adapter: Adapter) -> None:
    fill(adapter, [1], rows({1: 1.0}))
    begun, forked = Event(), Event()

    def write() -> None:
        with adapter._writing:  # type: ignore[attr-defined]
            begun.set()
            forked.wait()

    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(write)
        begun.wait()
        said = in_a_forked_child(adapter.close)
        forked.set()
        writer.result()
    assert said == "returned None"
    assert ask(adapter, {1: 1.0}).ids == (1,)
