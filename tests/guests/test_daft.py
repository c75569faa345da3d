"""A data frame written by Daft's own runner from several partitions, and by its Ray runner: every row counts once."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sparsevec as sv
from sparsevec.errors import CollectionError, InvalidInput, InvalidVectors, WrongSpace
from sparsevec.ingestion.dead_letters import read_dead_letters
from sparsevec.vectors import Float32s

os.environ["DO_NOT_TRACK"] = "true"  # nothing is sent from tests
os.environ["DAFT_RUNNER"] = "native"  # also where Ray's own tests ran before, in this process
daft = pytest.importorskip("daft")

from sparsevec.integrations.daft import write  # noqa: E402

pytestmark = [pytest.mark.qdrant, pytest.mark.filterwarnings("ignore")]  # Daft's own

ROWS = 100  # of a partition


def frame(dense: Float32s, **columns: Any) -> Any:
    rows = {"id": [f"d{i}" for i in range(len(dense))], "vector": list(dense), "n": list(range(len(dense))), **columns}
    return daft.from_pydict(rows).into_batches(ROWS)


def check(url: str, vectors: sv.SparseVectors) -> None:
    with sv.connect(url) as adapter:
        found = adapter.fetch([f"d{i}" for i in range(len(vectors))])
        assert adapter.count() == len(vectors)
        assert found.vectors == vectors
        assert [payload["n"] for payload in found.payloads] == list(range(len(vectors)))


def test_the_example_runs(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "examples/guests"))
    report = importlib.import_module("daft_write").main(url)
    assert (report.given, report.written) == (600, 600)


@pytest.mark.parametrize("travels", ["by pickle", "by path"])
def test_every_row_is_counted_once_and_a_second_run_changes_nothing(
    travels: str, ours: str, encoder: sv.SparseEncoder, dense: Float32s, tmp_path: Path
) -> None:
    encoder.save(tmp_path / "model")
    model = encoder if travels == "by pickle" else tmp_path / "model"
    for _ in range(2):
        report = write(frame(dense), ours, model=model, payload=["n"])
        assert (report.given, report.written, report.failed) == (len(dense), len(dense), 0)
        assert report.fingerprint == report.collection_fingerprint == encoder.fingerprint
        check(ours, encoder.encode_document(dense))


@pytest.mark.parametrize(
    "kind",
    [
        daft.DataType.list(daft.DataType.float32()),
        daft.DataType.fixed_size_list(daft.DataType.float32(), 24),
        daft.DataType.embedding(daft.DataType.float32(), 24),
        daft.DataType.tensor(daft.DataType.float32(), (24,)),
    ],
    ids=str,
)
def test_dense_rows_are_read_from_any_column_that_holds_them(
    kind: Any, ours: str, encoder: sv.SparseEncoder, dense: Float32s
) -> None:
    cast = frame(dense, vector=dense.tolist()).with_column("vector", daft.col("vector").cast(kind))
    assert write(cast, ours, model=encoder, payload=["n"]).written == len(dense)
    check(ours, encoder.encode_document(dense))


def test_residual_codes_are_made_where_the_rows_are(url: str, dense: Float32s) -> None:
    coding = sv.SparseEncoder(24, 256).fit(dense, budget=sv.Budget(nnz=8, residual_bytes=16))
    with sv.connect(url) as adapter:
        adapter.create(256, fingerprint=coding.fingerprint, code_bytes=16)
        report = write(frame(dense), url, model=coding)
        found = adapter.fetch([f"d{i}" for i in range(len(dense))])
        assert report.written == len(dense)
        assert found.codes is not None
        assert np.array_equal(found.codes, coding.residual_codes(dense, coding.encode_document(dense)))


def test_vectors_that_were_made_before_are_written_as_they_are(
    ours: str, encoder: sv.SparseEncoder, dense: Float32s, tmp_path: Path
) -> None:
    before = encoder.encode_document(dense, nnz=4)
    columns: dict[str, list[Any]] = {"indices": [row.indices.tolist() for row in before]}
    columns["weights"] = [row.values.tolist() for row in before]
    table = frame(dense, **columns).exclude("vector")
    report = write(table, ours, model=encoder, sparse=("indices", "weights"), payload=["n"])
    assert (report.given, report.written, report.fingerprint) == (len(dense), len(dense), encoder.fingerprint)
    check(ours, before)

    columns["indices"][7] = [1, None]
    columns["weights"][8] = None
    told, table = tmp_path / "failed.jsonl", frame(dense, **columns)
    report = write(table, ours, model=encoder, sparse=("indices", "weights"), payload=["n"], failed=told)
    assert (report.given, report.written, report.failed) == (len(dense), len(dense) - 2, 2)
    assert {letter.id for letter in read_dead_letters(told)} == {"d7", "d8"}
    check(ours, before)  # what was there under their ids is


@pytest.mark.parametrize("below", [150, 0])
def test_partitions_that_a_filter_left_empty_are_passed_over(
    below: int, ours: str, encoder: sv.SparseEncoder, dense: Float32s
) -> None:
    report = write(frame(dense).where(daft.col("n") < below), ours, model=encoder)
    assert (report.given, report.written, report.failed) == (below, below, 0)


def test_what_is_refused_in_any_partition_is_collected(
    ours: str, encoder: sv.SparseEncoder, dense: Float32s, tmp_path: Path
) -> None:
    ids = [f"d{i}" if i % 50 else "" for i in range(len(dense))]
    rows: list[Any] = [[1.0] if i == 1 else row for i, row in enumerate(dense.tolist())]
    failed, table = tmp_path / "failed.jsonl", frame(dense, id=ids, vector=rows)
    report = write(table, ours, model=encoder, payload=["n"], failed=failed)
    assert (report.given, report.written, report.failed) == (len(dense), len(dense) - 13, 13)
    assert report.dead_letters == failed
    letters = list(read_dead_letters(failed))
    assert sorted(letter.payload["n"] for letter in letters) == sorted([1, *range(0, len(dense), 50)])
    assert {letter.position for letter in letters} == {0, 1, 50}  # within each partition
    with pytest.raises(InvalidInput, match="is there already"):
        write(frame(dense), ours, model=encoder, failed=failed)


# ---- bad input


def test_rows_of_another_width_are_told(ours: str, encoder: sv.SparseEncoder) -> None:
    kind = daft.DataType.embedding(daft.DataType.float32(), 5)
    other = frame(np.ones((60, 5), np.float32), vector=[[1.0] * 5] * 60)
    with pytest.raises(InvalidVectors, match="must have 24 columns"):
        write(other.with_column("vector", daft.col("vector").cast(kind)), ours, model=encoder)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"vector": "emb"}, r"no column 'emb'; it has \['id', 'vector', 'n'\]"),
        ({"journal": "load.journal"}, "journal= cannot be given to workers"),
        ({"concurrency": 2}, "concurrency= cannot be given to workers"),
        ({"payload": "n"}, "payload must be a list of columns"),
        ({"credentials": "key"}, "credentials must be a mapping"),
        ({"failed": "not/there/failed.jsonl"}, "cannot be made"),
    ],
)
def test_what_cannot_work_is_told_before_anything_is_written(
    wrong: dict[str, Any], message: str, ours: str, encoder: sv.SparseEncoder, dense: Float32s
) -> None:
    with pytest.raises(InvalidInput, match=message):
        write(frame(dense), ours, model=encoder, **wrong)
    with sv.connect(ours) as adapter:
        assert adapter.count() == 0


def test_what_is_no_data_frame_is_named(ours: str, encoder: sv.SparseEncoder) -> None:
    with pytest.raises(InvalidInput, match=r"expected a daft\.DataFrame, found list"):
        write([{"id": "d0"}], ours, model=encoder)


def test_a_collection_that_is_not_there_or_of_another_space_is_told(
    url: str, encoder: sv.SparseEncoder, dense: Float32s
) -> None:
    with pytest.raises(CollectionError, match="no collection yet"):
        write(frame(dense), url, model=encoder)
    with sv.connect(url) as adapter:
        adapter.create(encoder.output_dim, fingerprint="another")
    with pytest.raises(WrongSpace, match="the collection holds vectors of the space another"):
        write(frame(dense), url, model=encoder)


ON_RAY = """
import daft, numpy as np, ray
import sparsevec as sv
from sparsevec.integrations.daft import write

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20)
dense = np.load("dense.npy")
rows = {"id": [f"d{i}" for i in range(len(dense))], "vector": list(dense), "n": list(range(len(dense)))}
for vector in (list(dense), [[1.0]] * len(dense)):
    frame = daft.from_pydict(rows | {"vector": vector}).into_batches(100)
    report = write(frame, URL, model="model", payload=["n"])
    print("counted", report.given, report.written, report.failed)
narrow, one = daft.from_pydict({"id": [1], "vector": [[1.0]]}), daft.DataType.tensor(daft.DataType.float32(), (1,))
try:
    write(narrow.with_column("vector", narrow["vector"].cast(one)), URL, model="model")
except sv.errors.SparsevecError as error:
    print("raised", type(error).__name__)
"""


def test_on_rays_workers_counts_and_errors_come_home(
    ours: str, encoder: sv.SparseEncoder, dense: Float32s, tmp_path: Path
) -> None:
    encoder.save(tmp_path / "model")
    np.save(tmp_path / "dense.npy", dense)
    (tmp_path / "page.py").write_text(ON_RAY.replace("URL", repr(ours)))
    on_ray = os.environ | {"DAFT_RUNNER": "ray"}
    said = subprocess.run(
        [sys.executable, "page.py"], cwd=tmp_path, env=on_ray, capture_output=True, text=True, check=False
    )
    counts = f"counted {len(dense)} {len(dense)} 0\ncounted {len(dense)} 0 {len(dense)}\nraised InvalidVectors"
    assert counts in said.stdout, said.stderr
    check(ours, encoder.encode_document(dense))
