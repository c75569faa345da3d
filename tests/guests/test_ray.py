"""A dataset written from the workers of a real Ray on this machine, some of which are killed: every row counts once."""

from __future__ import annotations

import copy
import importlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import daft
import numpy as np
import pandas as pd
import pytest
from datasets import Dataset

import sparsevec as sv
from sparsevec.errors import CollectionError, InvalidInput, InvalidVectors, ModelBroken, WrongSpace
from sparsevec.ingestion.dead_letters import read_dead_letters
from sparsevec.vectors import Float32s

os.environ |= {"DAFT_RUNNER": "native", "DO_NOT_TRACK": "true"}  # the page's data frame is not this Ray's
ray = pytest.importorskip("ray")

from sparsevec.integrations.ray import write  # noqa: E402

pytestmark = [pytest.mark.qdrant, pytest.mark.filterwarnings("ignore")]  # Ray's own

PARTS = 6


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, object_store_memory=200 * 2**20)
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def coding(dense: Float32s) -> sv.SparseEncoder:
    return sv.SparseEncoder(24, 256).fit(dense, budget=sv.Budget(nnz=8, residual_bytes=16))


@pytest.fixture(scope="module")
def refined(encoder: sv.SparseEncoder, dense: Float32s) -> tuple[sv.SparseEncoder, sv.SparseVectors]:
    """Of the space of `encoder`, and its documents."""
    model = copy.deepcopy(encoder)
    return model, model.refine(dense)


def dataset(dense: Float32s, **columns: Any) -> Any:
    ids = [f"d{i}" for i in range(len(dense))]
    rows = {"id": ids, "vector": list(dense), "n": list(range(len(dense))), **columns}
    return ray.data.from_items(
        [{name: rows[name][i] for name in rows} for i in range(len(dense))], override_num_blocks=PARTS
    )


def test_the_example_runs(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "examples/guests"))
    report = importlib.import_module("ray_write").main(url)
    assert (report.given, report.written) == (600, 600)


class Frame:
    """As much of a Spark data frame as `mapInPandas` is: partitions of pandas frames, each in a function of its own.
    Spark itself needs a JVM and is not here."""

    def __init__(self, parts: list[pd.DataFrame]) -> None:
        self.parts = parts

    def mapInPandas(self, function: Any, schema: str) -> Frame:  # noqa: N802  its name
        assert schema == "report string"
        return Frame([made for part in self.parts for made in function(iter([part]))])

    def collect(self) -> list[Any]:
        return [row for part in self.parts for row in part.to_dict("records")]

    def count(self) -> int:
        return sum(map(len, self.parts))


def test_the_page_about_many_machines_runs(
    url: str,
    encoder: sv.SparseEncoder,
    refined: tuple[sv.SparseEncoder, sv.SparseVectors],
    dense: Float32s,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    encoder.save("model")
    page = (Path(__file__).parents[2] / "docs/scale.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    onto_ray, made_before, onto_daft, onto_spark, onto_datasets = blocks
    ids, brands = [f"d{at}" for at in range(len(dense))], [f"b{at % 3}" for at in range(len(dense))]
    rows = [{"id": id_, "embedding": row, "brand": b} for id_, row, b in zip(ids, dense, brands, strict=True)]
    about = {"sv": sv, "np": np, "pd": pd, "url": url, "encoder": encoder}

    ran = about | {"dataset": ray.data.from_items(rows, override_num_blocks=PARTS)}
    exec(compile(onto_ray, "scale.md", "exec"), ran)
    assert ran["report"].written == len(dense)

    model, vectors = refined
    ran = about | {"encoder": model, "vectors": vectors, "ids": ids, "brands": brands, "ray": ray}
    ran["write"] = write
    exec(compile(made_before, "scale.md", "exec"), ran)
    with sv.connect(url) as adapter:
        assert adapter.fetch(ids).vectors == vectors

    ran = about | {"url": f"{url}-of-daft", "dataframe": daft.from_pylist(rows)}
    exec(compile(onto_daft, "scale.md", "exec"), ran)
    assert ran["report"].written == len(dense)

    table = pd.DataFrame({"id": ids, "embedding": list(dense), "brand": brands})
    ran = about | {"frame": Frame([table[:400], table[400:]])}
    server = "elasticsearch://HOST:9200/products?field=sparse"
    assert onto_spark.count(server) == 1
    exec(compile(onto_spark.replace(server, url).replace("/models/products", "model"), "scale.md", "exec"), ran)
    assert (ran["report"].given, ran["report"].failed) == (len(dense), 0)

    Dataset.from_list(rows).save_to_disk("dataset")
    before = ["import numpy as np", "import sparsevec as sv", "from datasets import load_from_disk"]
    before += [f"encoder, adapter = sv.SparseEncoder.load('model'), sv.connect({url!r})"]
    before += ["dataset = load_from_disk('dataset')", onto_datasets.replace("num_proc=8", "num_proc=2")]
    Path("page.py").write_text("\n".join([*before, "print(report.written, adapter.count())"]))
    said = subprocess.run([sys.executable, "page.py"], capture_output=True, text=True, check=False)
    assert said.stdout.split() == [str(len(dense))] * 2, said.stderr


def check(url: str, encoder: sv.SparseEncoder, dense: Float32s) -> None:
    with sv.connect(url) as adapter:
        found = adapter.fetch([f"d{i}" for i in range(len(dense))])
        assert adapter.count() == len(dense)
        assert found.vectors == encoder.encode_document(dense)
        assert [payload["n"] for payload in found.payloads] == list(range(len(dense)))


@pytest.mark.parametrize("travels", ["by pickle", "by path"])
def test_every_row_is_written_by_some_worker_and_counted_once(
    travels: str, ours: str, encoder: sv.SparseEncoder, dense: Float32s, tmp_path: Path
) -> None:
    encoder.save(tmp_path / "model")
    model = encoder if travels == "by pickle" else tmp_path / "model"
    report = write(dataset(dense), ours, model=model, payload=["n"])
    assert (report.given, report.written, report.failed) == (len(dense), len(dense), 0)
    assert report.fingerprint == report.collection_fingerprint == encoder.fingerprint
    check(ours, encoder, dense)


def test_residual_codes_are_made_on_the_workers(url: str, coding: sv.SparseEncoder, dense: Float32s) -> None:
    with sv.connect(url) as adapter:
        adapter.create(256, fingerprint=coding.fingerprint, code_bytes=16)
        report = write(dataset(dense), url, model=coding)
        found = adapter.fetch([f"d{i}" for i in range(len(dense))])
        assert report.written == len(dense)
        assert found.codes is not None
        assert np.array_equal(found.codes, coding.residual_codes(dense, coding.encode_document(dense)))


# ---- vectors that were made before


def columns_of(vectors: sv.SparseVectors) -> dict[str, list[Any]]:
    return {"indices": [row.indices for row in vectors], "weights": [row.values for row in vectors]}


def test_what_refine_gave_is_written_as_it_is(
    ours: str, refined: tuple[sv.SparseEncoder, sv.SparseVectors], dense: Float32s
) -> None:
    model, vectors = refined
    table = dataset(dense, **columns_of(vectors)).drop_columns(["vector"])
    report = write(table, ours, model=model, sparse=("indices", "weights"), payload=["n"])
    assert (report.given, report.written, report.fingerprint) == (len(dense), len(dense), model.fingerprint)
    with sv.connect(ours) as adapter:
        found = adapter.fetch([f"d{i}" for i in range(len(dense))])
        assert found.vectors == vectors != model.encode_document(dense)
        assert [payload["n"] for payload in found.payloads] == list(range(len(dense)))


def test_their_residual_codes_are_made_of_the_dense_column(
    url: str, coding: sv.SparseEncoder, dense: Float32s, tmp_path: Path
) -> None:
    before = coding.encode_document(dense, nnz=4)
    rows = [row if i else None for i, row in enumerate(dense.tolist())]
    with sv.connect(url) as adapter:
        adapter.create(256, fingerprint=coding.fingerprint, code_bytes=16)
        table = dataset(dense, **columns_of(before) | {"vector": rows})
        report = write(table, url, model=coding, sparse=("indices", "weights"), failed=tmp_path / "failed.jsonl")
        assert (report.given, report.written, report.failed) == (len(dense), len(dense) - 1, 1)
        (letter,) = read_dead_letters(tmp_path / "failed.jsonl")
        assert (letter.id, letter.reason) == ("d0", "it has no dense row")
        found = adapter.fetch([f"d{i}" for i in range(1, len(dense))])
        assert found.vectors == before[1:]
        assert found.codes is not None
        assert np.array_equal(found.codes, coding.residual_codes(dense[1:], before[1:]))
        with pytest.raises(InvalidInput, match="no column 'vector'"):
            write(table.drop_columns(["vector"]), url, model=coding, sparse=("indices", "weights"))


def test_a_row_of_columns_that_is_no_vector_keeps_no_other_from_being_written(
    ours: str, encoder: sv.SparseEncoder, tmp_path: Path
) -> None:
    indices = [[3, 1], [1], None, [1, None], [256], [2, 2], [], [7]]
    weights = [[1.0, 2.0], [1.0, 2.0], [1.0], [1.0, 2.0], [1.0], [1.0, 2.0], [], [1.0]]
    table = dataset(np.ones((8, 24), np.float32), indices=indices, weights=weights)
    report = write(table, ours, model=encoder, sparse=("indices", "weights"), failed=tmp_path / "failed.jsonl")
    assert (report.given, report.written, report.failed) == (8, 2, 6)
    reasons = {letter.id: letter.reason for letter in read_dead_letters(tmp_path / "failed.jsonl")}
    assert set(reasons) == {"d1", "d2", "d3", "d4", "d5", "d6"}
    assert reasons["d1"] == "its vector has 1 indices and 2 values; expected as many"
    assert reasons["d2"] == "its indices and weights must be lists of numbers, found None"
    assert "an index must be an int, found None" in reasons["d3"]
    assert "must lie in [0, 256)" in reasons["d4"]
    with sv.connect(ours) as adapter:
        assert adapter.fetch(["d0"]).vectors == sv.SparseVectors.from_rows([{1: 2.0, 3: 1.0}], dimension=256)


class Doomed:
    """Kills the worker that holds a block shortly after it began to write: each of the first so many blocks once."""

    def __init__(self, folder: Path, blocks: int) -> None:
        self._folder, self._blocks = folder, blocks

    def __call__(self, rows: Any) -> Any:
        for number in range(self._blocks):
            try:
                os.close(os.open(self._folder / f"killed-{number}", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                continue
            threading.Timer(0.02 * number, os.kill, (os.getpid(), signal.SIGKILL)).start()
            break
        return rows


def test_workers_that_are_killed_change_nothing(
    ours: str, encoder: sv.SparseEncoder, dense: Float32s, tmp_path: Path
) -> None:
    doomed = dataset(dense).map_batches(Doomed(tmp_path, 4))
    report = write(doomed, ours, model=encoder, payload=["n"], batch_count=10)
    assert len(list(tmp_path.glob("killed-*"))) == 4
    assert (report.given, report.written, report.failed, report.skipped) == (len(dense), len(dense), 0, 0)
    check(ours, encoder, dense)
    again = write(dataset(dense), ours, model=encoder, payload=["n"])
    assert (again.given, again.written) == (len(dense), len(dense))
    check(ours, encoder, dense)


def test_what_is_refused_on_workers_is_collected_on_the_driver(
    ours: str, encoder: sv.SparseEncoder, dense: Float32s, tmp_path: Path
) -> None:
    ids: list[Any] = [f"d{i}" if i % 50 else "" for i in range(len(dense))]
    report = write(dataset(dense, id=ids), ours, model=encoder, payload=["n"], failed=tmp_path / "failed.jsonl")
    assert (report.given, report.written, report.failed) == (len(dense), len(dense) - 12, 12)
    assert report.dead_letters == tmp_path / "failed.jsonl"
    letters = list(read_dead_letters(tmp_path / "failed.jsonl"))
    assert sorted(letter.payload["n"] for letter in letters) == list(range(0, len(dense), 50))
    with pytest.raises(InvalidInput, match="is there already"):
        write(dataset(dense), ours, model=encoder, failed=tmp_path / "failed.jsonl")


@pytest.mark.parametrize("below", [150, 0])
def test_blocks_that_a_filter_left_empty_are_passed_over(
    below: int, ours: str, encoder: sv.SparseEncoder, dense: Float32s
) -> None:
    report = write(dataset(dense).filter(lambda row: row["n"] < below), ours, model=encoder)
    assert (report.given, report.written, report.failed) == (below, below, 0)


# ---- bad input


def test_a_part_without_the_column_is_told_where_the_first_part_has_it(
    ours: str, encoder: sv.SparseEncoder, dense: Float32s
) -> None:
    other = ray.data.from_items([{"id": "other", "embedding": dense[0]}])
    with pytest.raises(InvalidInput, match=r"a part of the dataset has no column 'vector'; it has \['id', 'emb"):
        write(dataset(dense).union(other), ours, model=encoder)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"journal": "load.journal"}, "journal= cannot be given to workers, .*expected some of empty, missing,"),
        ({"batch_size": 5}, "batch_size= cannot be given to workers"),
        ({"empty": "perhaps"}, "empty must be one of"),
        ({"deadline": -1}, "deadline"),
        ({"payload": "brand"}, r'payload must be a list of columns, \["brand"\] for one, found \'brand\''),
        ({"vector": 3}, "vector must be the name of a column, found 3"),
        ({"sparse": "indices"}, "sparse must be the columns of indices and of weights, found 'indices'"),
        ({"sparse": ("indices", "weights")}, "the dataset has no column 'indices'"),
        ({"failed": "not/there/failed.jsonl"}, "not/there/failed.jsonl cannot be made: .* is no folder"),
        ({"failed": "x" * 300}, "xxx cannot be made: File name too long; name another file"),
        ({"failed": 3}, "failed must be the path of a file"),
        ({"model": 3}, "model must be an encoder or the folder of one"),
        ({"concurrency": 0}, "concurrency must be an int of at least 1"),
    ],
)
def test_what_cannot_work_is_told_before_anything_is_written(
    wrong: dict[str, Any], message: str, ours: str, encoder: sv.SparseEncoder, dense: Float32s
) -> None:
    with pytest.raises(InvalidInput, match=message):
        write(dataset(dense), ours, **{"model": encoder} | wrong)
    with sv.connect(ours) as adapter:
        assert adapter.count() == 0


def test_what_is_no_dataset_is_named(ours: str, encoder: sv.SparseEncoder) -> None:
    with pytest.raises(InvalidInput, match=r"expected a ray\.data\.Dataset, found list"):
        write([{"id": "d0"}], ours, model=encoder)


def test_a_column_that_is_not_there_is_named_before_anything_is_written(
    ours: str, encoder: sv.SparseEncoder, dense: Float32s
) -> None:
    with pytest.raises(InvalidInput, match=r"no column 'emb'; it has \['id', 'vector', 'n'\]"):
        write(dataset(dense), ours, model=encoder, vector="emb")


def test_rows_of_another_width_are_told_as_the_worker_found_them(ours: str, encoder: sv.SparseEncoder) -> None:
    with pytest.raises(InvalidVectors, match="must have 24 columns"):
        write(dataset(np.ones((60, 5), np.float32)), ours, model=encoder)


def test_a_row_that_cannot_be_encoded_keeps_no_other_from_being_written(
    ours: str, encoder: sv.SparseEncoder, tmp_path: Path
) -> None:
    ragged = [[1.0] * (24 if i else 7) for i in range(10)]
    table = dataset(np.ones((10, 24), np.float32), vector=ragged)
    report = write(table, ours, model=encoder, failed=tmp_path / "failed.jsonl")
    assert (report.given, report.written, report.failed) == (10, 9, 1)
    (letter,) = read_dead_letters(tmp_path / "failed.jsonl")
    assert (letter.id, letter.reason) == ("d0", "its dense row has 7 numbers, and the encoder takes 24")


def test_a_part_without_a_single_row_keeps_no_other_from_being_written(
    ours: str, encoder: sv.SparseEncoder, dense: Float32s, tmp_path: Path
) -> None:
    rows: list[Any] = [None] * 40 + dense[40:80].tolist()
    told = tmp_path / "failed.jsonl"
    for vectors in (rows, [None] * 80):  # a block of the first has some, or none; a whole dataset of none has no type
        report = write(dataset(dense[:80], vector=vectors), ours, model=encoder, failed=told)
        assert (report.given, report.failed) == (80, vectors.count(None))
        assert {letter.reason for letter in read_dead_letters(told)} == {"it has no dense row"}
        told.unlink()
    with sv.connect(ours) as adapter:
        assert adapter.count() == 40


def test_a_collection_that_is_not_there_is_told_before_a_task_begins(
    url: str, encoder: sv.SparseEncoder, dense: Float32s
) -> None:
    with pytest.raises(CollectionError, match="no collection yet"):
        write(dataset(dense), url, model=encoder)


def test_a_model_of_another_space_is_refused(url: str, encoder: sv.SparseEncoder, dense: Float32s) -> None:
    with sv.connect(url) as adapter:
        adapter.create(encoder.output_dim, fingerprint="another")
    with pytest.raises(WrongSpace, match="the collection holds vectors of the space another"):
        write(dataset(dense), url, model=encoder)


def lose(rows: Any, model: Path) -> Any:
    """On the first worker that comes by: its copy of the model is not there."""
    for path in sorted(model.glob("**/*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    return rows


def test_a_worker_without_the_model_says_so(
    ours: str, encoder: sv.SparseEncoder, dense: Float32s, tmp_path: Path
) -> None:
    encoder.save(tmp_path / "model")
    losing = dataset(dense).map_batches(lose, fn_kwargs={"model": tmp_path / "model"})
    with pytest.raises(ModelBroken, match="model"):
        write(losing, ours, model=tmp_path / "model")


def swap(rows: Any, model: Path, other: sv.SparseEncoder) -> Any:
    other.save(model)
    return rows


def test_a_worker_with_another_model_than_the_driver_is_refused(
    ours: str, encoder: sv.SparseEncoder, dense: Float32s, tmp_path: Path
) -> None:
    encoder.save(tmp_path / "model")
    other = sv.SparseEncoder(24, 256, seed=5).fit(dense, budget=sv.Budget(nnz=8))
    swapped = dataset(dense).map_batches(swap, fn_kwargs={"model": tmp_path / "model", "other": other})
    with pytest.raises(WrongSpace, match="another model"):
        write(swapped, ours, model=tmp_path / "model")


def test_a_worker_with_the_head_of_the_drivers_refined_model_is_refused(
    ours: str,
    encoder: sv.SparseEncoder,
    refined: tuple[sv.SparseEncoder, sv.SparseVectors],
    dense: Float32s,
    tmp_path: Path,
) -> None:
    model, _ = refined
    assert model.fingerprint == encoder.fingerprint
    model.save(tmp_path / "model")
    swapped = dataset(dense).map_batches(swap, fn_kwargs={"model": tmp_path / "model", "other": encoder})
    with pytest.raises(WrongSpace, match=r"another model .*config\.json has SHA-256 \w{16}, expected \w{16}"):
        write(swapped, ours, model=tmp_path / "model")
    with sv.connect(ours) as adapter:
        assert adapter.count() == 0


def test_a_folder_that_was_written_again_is_read_again(
    ours: str,
    encoder: sv.SparseEncoder,
    refined: tuple[sv.SparseEncoder, sv.SparseVectors],
    dense: Float32s,
    tmp_path: Path,
) -> None:
    model, _ = refined
    for now in (encoder, model):
        now.save(tmp_path / "model")
        assert write(dataset(dense), ours, model=tmp_path / "model", payload=["n"]).written == len(dense)
        check(ours, now, dense)
