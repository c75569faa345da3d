"""What people bring to `ingest`: vectors of other libraries, payloads of pandas, sources that can start anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import pytest
import scipy.sparse as sp
import torch

import sparsevec as sv
from sparsevec.contract import payloads
from sparsevec.errors import InvalidVectors, JournalMismatch
from sparsevec.ingestion.dead_letters import read_dead_letters
from tests.misbehaving import Interrupted, Misbehaving, honest, interrupted

DIMENSION = 8
N = 6
ROWS = [{i % DIMENSION: 1.0 + i} for i in range(N)]
VECTORS = sv.SparseVectors.from_rows(ROWS, dimension=DIMENSION)


@pytest.fixture
def adapter() -> Iterator[Misbehaving]:
    with Misbehaving() as adapter:
        adapter.create(DIMENSION)
        yield adapter


# ---- vectors

TENSOR = torch.from_numpy(VECTORS.to_dense())
KINDS: dict[str, Callable[[], Any]] = {
    "scipy's array": lambda: VECTORS.to_scipy(),
    "scipy's matrix": lambda: sp.csr_matrix(VECTORS.to_scipy()),
    "a COO tensor": lambda: TENSOR.to_sparse(),
    "a COO tensor of half precision with gradients": lambda: TENSOR.half().to_sparse().requires_grad_(),
    "a CSR tensor": lambda: TENSOR.to_sparse_csr(),
    "rows": lambda: ROWS,
}


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
@pytest.mark.parametrize("kind", KINDS)
def test_sparse_vectors_of_others_are_taken(adapter: Misbehaving, kind: str) -> None:
    sv.ingest(adapter, range(N), KINDS[kind]())
    assert adapter.fetch(range(N)).vectors == VECTORS


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
@pytest.mark.parametrize("kind", KINDS)
def test_they_are_taken_as_chunks_too(adapter: Misbehaving, kind: str) -> None:
    sv.ingest(adapter, range(3 * N), [VECTORS, KINDS[kind](), KINDS[kind]()], batch_count=4)
    assert adapter.fetch(range(2 * N, 3 * N)).vectors == VECTORS


def test_a_chunk_of_rows_may_be_empty(adapter: Misbehaving) -> None:
    report = sv.ingest(adapter, range(N), [[], ROWS[:2], [], ROWS[2:], []])
    assert report.written == N
    assert adapter.fetch(range(N)).vectors == VECTORS


@pytest.mark.parametrize("dense", [TENSOR, TENSOR.numpy(), TENSOR.numpy().tolist()])
def test_dense_rows_may_be_embeddings_and_are_refused(adapter: Misbehaving, dense: Any) -> None:
    with pytest.raises(InvalidVectors, match=r"encoder\.encode_each of dense embeddings"):
        sv.ingest(adapter, range(N), dense)
    assert adapter.requests == []


def test_rows_without_a_dimension_are_refused(tmp_path: Path) -> None:
    class Silent(Misbehaving):
        def info(self) -> Any:
            return super().info().__class__("silent", super().info().capabilities, exists=True)

    with Silent() as adapter, pytest.raises(InvalidVectors, match="rows do not say their dimension"):
        sv.ingest(adapter, range(N), ROWS)


# ---- payloads


def test_scalars_of_numpy_are_taken_as_the_numbers_they_are(adapter: Misbehaving) -> None:
    payload = {"n": np.int64(3), "ok": np.bool_(True), "x": [np.float32(0.5)], "in": {"s": np.str_("a")}}
    report = sv.ingest(adapter, [1], VECTORS[:1], [payload])
    assert (report.written, report.failed) == (1, 0)
    assert adapter.fetch([1]).payloads == ({"n": 3, "ok": True, "x": [0.5], "in": {"s": "a"}},)


def test_subclasses_are_taken_as_what_they_are_of_so_that_every_client_can_send_them() -> None:
    class Seconds(float):
        pass

    class Point(NamedTuple):
        x: int
        y: Seconds

    given = {np.str_("at"): Point(1, Seconds(0.5)), "in": [{np.str_("s"): Seconds(2.0)}]}
    fault, plain = payloads.checked_payload(given)
    assert fault is None
    assert orjson.loads(orjson.dumps(plain)) == {"at": [1, 0.5], "in": [{"s": 2.0}]}


@pytest.mark.parametrize("value", [np.float64("nan"), np.datetime64("2026-01-01"), np.uint64(2**63), np.arange(2)])
def test_scalars_of_numpy_that_are_no_json_fail_alone(adapter: Misbehaving, value: Any) -> None:
    report = sv.ingest(adapter, range(2), VECTORS[:2], [{"n": value}, {}])
    assert (report.written, report.failed) == (1, 1)
    assert "payload of id 0: n: " in report.failures[0].reason


def test_a_payload_is_walked_once_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    walked: list[Any] = []
    walk = payloads._fields_fault

    def counting(fields: Any, *rest: Any) -> Any:
        walked.append(fields)
        return walk(fields, *rest)

    monkeypatch.setattr(payloads, "_fields_fault", counting)
    with sv.Reference() as adapter:
        adapter.create(DIMENSION)
        sv.ingest(adapter, range(N), VECTORS, [{"n": i} for i in range(N)])
    assert walked == [{"n": i} for i in range(N)]


# ---- a source that can start anywhere


@dataclass
class Encoding:
    """Encodes three rows at a time; `encoded` are those that it was asked for."""

    identity: str = "products by model/"
    encoded: list[int] = field(default_factory=list)

    def start(self, position: int) -> Iterator[sv.SparseVectors]:
        for start in range(position, N, 3):
            rows = range(start, min(N, start + 3))
            self.encoded += rows
            yield VECTORS[list(rows)]


def interrupt(adapter: Misbehaving, journal: Path) -> None:
    """After the first four documents, in batches of two."""
    adapter.script = [honest, honest, interrupted]
    with pytest.raises(Interrupted):
        sv.ingest(adapter, range(N), Encoding(), batch_count=2, journal=journal)
    adapter.requests.clear()


def test_what_is_settled_is_not_encoded_again(adapter: Misbehaving, tmp_path: Path) -> None:
    interrupt(adapter, tmp_path / "j")
    source = Encoding()
    report = sv.ingest(adapter, range(N), source, batch_count=2, journal=tmp_path / "j")
    assert source.encoded == [4, 5]
    assert (report.given, report.written) == (N, N)
    assert adapter.fetch(range(N)).vectors == VECTORS


def test_a_finished_run_encodes_nothing(adapter: Misbehaving, tmp_path: Path) -> None:
    first = sv.ingest(adapter, range(N), Encoding(), journal=tmp_path / "j")
    source = Encoding()
    assert sv.ingest(adapter, range(N), source, journal=tmp_path / "j") == first
    assert source.encoded == []


def test_another_source_is_refused(adapter: Misbehaving, tmp_path: Path) -> None:
    interrupt(adapter, tmp_path / "j")
    for other in (Encoding("products by another model"), VECTORS):
        with pytest.raises(JournalMismatch, match=r"is of a run with .*source='products by model/'"):
            sv.ingest(adapter, range(N), other, journal=tmp_path / "j")


def test_other_ids_under_the_same_source_are_refused(adapter: Misbehaving, tmp_path: Path) -> None:
    interrupt(adapter, tmp_path / "j")
    with pytest.raises(JournalMismatch, match=r"positions \[0, 2\) are not those"):
        sv.ingest(adapter, range(1, N + 1), Encoding(), journal=tmp_path / "j")


@pytest.mark.parametrize("identity", [None, "", 7, "half \ud800"])
def test_a_source_whose_identity_is_none_is_refused(adapter: Misbehaving, identity: Any) -> None:
    with pytest.raises(sv.errors.InvalidInput, match="identity of a source must be a non-empty string"):
        sv.ingest(adapter, range(N), Encoding(identity))


def test_without_a_journal_it_starts_at_the_beginning(adapter: Misbehaving) -> None:
    assert sv.ingest(adapter, range(N), Encoding()).written == N


def test_a_source_that_is_shorter_says_where_it_ends(adapter: Misbehaving, tmp_path: Path) -> None:
    interrupt(adapter, tmp_path / "j")
    with pytest.raises(sv.errors.InvalidInput, match="at position 6 ids go on, vectors end"):
        sv.ingest(adapter, range(N + 1), Encoding(), journal=tmp_path / "j")


@dataclass
class Stumbling(Encoding):
    """Cannot encode the documents 1 and 4."""

    def start(self, position: int) -> Iterator[Any]:
        row = position
        for vectors in super().start(position):
            rows = range(row, row := row + len(vectors))
            yield sv.Encoded(vectors, {at: "no direction" for at, n in enumerate(rows) if n in (1, 4)})


def test_rows_that_were_not_encoded_have_failed_and_the_others_are_written(
    adapter: Misbehaving, tmp_path: Path
) -> None:
    report = sv.ingest(adapter, range(N), Stumbling().start(0), batch_count=2, failed=tmp_path / "f", empty="write")
    assert (report.given, report.written, report.failed) == (N, N - 2, 2)
    letters = [(letter.position, letter.id, letter.reason) for letter in read_dead_letters(tmp_path / "f")]
    assert letters == [(1, 1, "no direction"), (4, 4, "no direction")]
    assert adapter.fetch(range(N)).ids == (0, 2, 3, 5)


@pytest.mark.parametrize("after", range(4))
def test_a_run_that_goes_on_counts_them_once(adapter: Misbehaving, tmp_path: Path, after: int) -> None:
    adapter.script = [*[honest] * after, interrupted]
    with pytest.raises(Interrupted):
        sv.ingest(adapter, range(N), Stumbling(), batch_count=1, journal=tmp_path / "j")
    adapter.script = []
    for _ in range(2):
        report = sv.ingest(adapter, range(N), Stumbling(), batch_count=2, journal=tmp_path / "j")
        assert (report.given, report.written, report.failed) == (N, N - 2, 2)
    assert [letter.position for letter in read_dead_letters(tmp_path / "j.failed.jsonl")] == [1, 4]


def test_where_none_was_encoded_all_have_failed(adapter: Misbehaving) -> None:
    report = sv.ingest(adapter, range(N), sv.Encoded(VECTORS, dict.fromkeys(range(N), "no direction")))
    assert (report.given, report.failed, adapter.requests) == (N, N, [])


def test_dead_letters_have_their_vectors_after_a_restart_too(adapter: Misbehaving, tmp_path: Path) -> None:
    interrupt(adapter, tmp_path / "j")
    adapter.refuses = [5]
    sv.ingest(adapter, range(N), Encoding(), journal=tmp_path / "j")
    (letter,) = read_dead_letters(tmp_path / "j.failed.jsonl")
    assert (letter.position, letter.weights) == (5, [6.0])
