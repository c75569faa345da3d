"""`ingest`, on the reference: every document is accounted for, whatever the input."""

from __future__ import annotations

import itertools
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sparsevec as sv
from sparsevec.contract.operations import InThreads
from sparsevec.errors import (
    CollectionError,
    InvalidInput,
    InvalidVectors,
    JournalMismatch,
    WriteFailed,
)
from sparsevec.ingestion.dead_letters import read_dead_letters
from sparsevec.ingestion.ingest import IngestProgress
from sparsevec.progress import Progress
from tests import strategies
from tests.expected import Expected
from tests.misbehaving import Misbehaving

DIMENSION = 8


@pytest.fixture
def adapter() -> Iterator[Misbehaving]:
    adapter = Misbehaving()
    adapter.create(DIMENSION)
    yield adapter
    adapter.close()


def some(n: int) -> sv.SparseVectors:
    """n vectors, each another."""
    return sv.SparseVectors.from_rows([{i % DIMENSION: 1.0 + i} for i in range(n)], dimension=DIMENSION)


EMPTY = sv.SparseVectors.from_rows([{}], dimension=DIMENSION)


def counts(report: sv.IngestReport) -> tuple[int, int, int, int]:
    return report.given, report.written, report.skipped, report.failed


# ---- the stream


def test_what_is_given_is_there_afterwards(adapter: Misbehaving) -> None:
    report = sv.ingest(adapter, ["a", 7], some(2), [{"n": 1}, {"n": 2}])
    found = adapter.fetch(["a", 7])
    assert counts(report) == (2, 2, 0, 0)
    assert found.vectors == some(2)
    assert found.payloads == ({"n": 1}, {"n": 2})


@pytest.mark.parametrize("ends", [[10], [3, 10], [0, 1, 1, 9, 10], list(range(11))])
def test_chunks_of_any_size_are_one_stream(adapter: Misbehaving, ends: list[int]) -> None:
    chunks = (some(10)[start:stop] for start, stop in zip([0, *ends], ends, strict=False))
    sv.ingest(adapter, iter(range(10)), chunks, iter([{"n": i} for i in range(10)]), batch_count=4)
    assert adapter.fetch(range(10)).vectors == some(10)
    assert [len(ids) for ids in adapter.requests] == [4, 4, 2]


def test_no_documents_are_a_run_of_none(adapter: Misbehaving, tmp_path: Path) -> None:
    assert counts(sv.ingest(adapter, [], some(0), journal=tmp_path / "j")) == (0, 0, 0, 0)
    assert counts(sv.ingest(adapter, [], [], journal=tmp_path / "j")) == (0, 0, 0, 0)


def test_no_more_of_the_stream_is_read_than_a_batch_needs(adapter: Misbehaving) -> None:
    read: list[int] = []
    lead: list[int] = []

    def chunks() -> Iterator[sv.SparseVectors]:
        for i in range(100):
            read.append(i)
            yield some(5)

    sv.ingest(
        adapter, range(500), chunks(), batch_count=10, on_progress=lambda p: lead.append(len(read) * 5 - p.documents)
    )
    assert max(lead) == 0


def test_a_request_ends_before_the_bytes_are_too_many(adapter: Misbehaving) -> None:
    sv.ingest(adapter, range(6), some(6), [{"text": "x" * 1000}] * 6, batch_bytes=2500)
    assert adapter.requests == [[0, 1], [2, 3], [4, 5]]


def test_a_document_above_the_limit_is_sent_alone(adapter: Misbehaving) -> None:
    sv.ingest(adapter, range(3), some(3), [{}, {"text": "x" * 1000}, {}], batch_bytes=500)
    assert adapter.requests == [[0], [1], [2]]


def test_an_id_given_twice_is_written_twice_and_the_last_one_wins(adapter: Misbehaving) -> None:
    report = sv.ingest(adapter, [1, "1", 1, 2, 1], some(5), [{"n": i} for i in range(5)])
    found = adapter.fetch([1, "1", 2])
    assert counts(report) == (5, 5, 0, 0)
    assert adapter.requests == [[1, "1"], [1, 2], [1]]
    assert adapter.count() == 3
    assert found.vectors == some(5)[[4, 1, 3]]
    assert [payload["n"] for payload in found.payloads] == [4, 1, 3]


@pytest.mark.parametrize(
    ("ids", "n", "payloads", "message"),
    [
        (range(5), 7, None, "at position 5 ids end, vectors go on"),
        (range(7), 5, None, "at position 5 ids go on, vectors end"),
        (range(7), 7, [{}] * 5, "at position 5 ids go on, vectors go on, payloads end"),
        (range(5), 5, [{}] * 7, "at position 5 ids end, vectors end, payloads go on"),
        (itertools.count(), 5, itertools.repeat({}), "at position 5 ids go on, vectors end, payloads go on"),
        (range(4), 6, [{}] * 4, "at position 4 ids end, vectors go on, payloads end"),
    ],
)
def test_lengths_that_differ_are_an_error_after_all_before_is_written(
    adapter: Misbehaving, ids: Any, n: int, payloads: Any, message: str
) -> None:
    with pytest.raises(InvalidInput, match=message) as stopped:
        sv.ingest(adapter, ids, some(n), payloads, batch_count=2)
    assert stopped.value.report.written == adapter.count() == int(message.split()[2])


def test_what_a_source_raises_gets_out_after_all_before_is_written(adapter: Misbehaving) -> None:
    def chunks() -> Iterator[sv.SparseVectors]:
        yield some(5)
        raise EOFError("the file ends here")

    with pytest.raises(EOFError, match="the file ends here"):
        sv.ingest(adapter, itertools.count(), chunks(), batch_count=100)
    assert adapter.count() == 5


def test_a_chunk_that_is_no_vectors_stops_the_run_there(adapter: Misbehaving) -> None:
    with pytest.raises(InvalidVectors, match="position 3: expected SparseVectors, found ndarray") as stopped:
        sv.ingest(adapter, itertools.count(), [some(3), np.eye(3), some(3)], batch_count=2)
    assert stopped.value.report.written == adapter.count() == 3


def test_a_chunk_of_another_dimension_stops_the_run_there(adapter: Misbehaving) -> None:
    other = sv.SparseVectors.from_rows([{0: 1.0}], dimension=DIMENSION + 1)
    with pytest.raises(InvalidVectors, match="position 3: expected dimension 8 as before, found 9") as stopped:
        sv.ingest(adapter, range(5), [some(3), other, some(1)])
    assert stopped.value.report.written == adapter.count() == 3


def test_vectors_of_another_dimension_than_the_collections_are_refused(adapter: Misbehaving) -> None:
    with pytest.raises(InvalidVectors, match="the collection has dimension 8, the vectors have 9") as stopped:
        sv.ingest(adapter, [1], sv.SparseVectors.from_rows([{0: 1.0}], dimension=9))
    assert counts(stopped.value.report) == (0, 0, 0, 0)


def test_a_collection_that_is_not_there_stops_the_run_at_once() -> None:
    with pytest.raises(CollectionError, match="no collection yet") as stopped:
        sv.ingest(sv.Reference(), [1], some(1))
    assert counts(stopped.value.report) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"empty": "ignore"}, "empty must be one of"),
        ({"batch_count": 0}, "batch_count must be an int of at least 1, found 0"),
        ({"batch_count": 2**70}, "batch_count must be below 2"),
        ({"batch_bytes": 1.5}, "batch_bytes must be an int"),
        ({"deadline": -1}, "deadline must be a number of seconds"),
        ({"deadline": float("nan")}, "deadline must be a number of seconds"),
        ({"deadline": "5"}, "deadline must be a number of seconds"),
    ],
)
def test_an_option_that_is_none_is_refused(adapter: Misbehaving, options: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        sv.ingest(adapter, [1], some(1), **options)


@pytest.mark.parametrize("deadline", [np.float32(5), np.int64(5), float("inf"), 10**400])
def test_a_deadline_is_any_number_of_seconds(adapter: Misbehaving, deadline: Any) -> None:
    assert sv.ingest(adapter, [1], some(1), deadline=deadline).written == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"journal": 5}, "journal must be the path of a file or folder, found 5"),
        ({"failed": b"x"}, "failed must be the path of a file or folder, found b'x'"),
        ({"journal": "half a letter \ud83d"}, "journal must be the path of a file or folder, found"),
        ({"on_progress": 5}, "on_progress must be a function of one argument, found 5"),
        ({"adapter": "reference:"}, r"expected an adapter, found str; sparsevec\.connect"),
        ({"adapter": None}, "expected an adapter, found NoneType"),
        ({"adapter": InThreads(sv.Reference())}, "expected an adapter for threads, found InThreads"),
    ],
)
def test_an_argument_of_another_kind_is_refused_in_words(adapter: Misbehaving, options: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        sv.ingest(**{"adapter": adapter, "ids": [1], "vectors": some(1), **options})
    assert adapter.requests == []


def test_a_uuid_is_refused_with_the_way_out(adapter: Misbehaving) -> None:
    wrong: Any = UUID(int=1)
    report = sv.ingest(adapter, [wrong], some(1))
    assert "str(id) makes one" in report.failures[0].reason


@pytest.mark.parametrize("one", [5, "ab", b"ab"])
@pytest.mark.parametrize("what", ["ids", "vectors", "payloads"])
def test_one_of_something_is_not_several(adapter: Misbehaving, what: str, one: Any) -> None:
    given: dict[str, Any] = {"ids": [1, 2], "vectors": some(2), what: one}
    with pytest.raises(InvalidInput, match=f"expected a sequence of {what}, found {one!r}; a single one goes into"):
        sv.ingest(adapter, **given)
    assert adapter.requests == []


# ---- documents that are refused


BAD_PAYLOADS: list[Any] = [None, "text", [], {"a": float("nan")}, {"a": object()}, {1: 2}, {"a": {2}}, {"a": "\ud800"}]


@given(bad=strategies.not_ids)
def test_a_bad_id_fails_alone(bad: Any) -> None:
    adapter = Misbehaving()
    adapter.create(DIMENSION)
    report = sv.ingest(adapter, [0, bad, 2, bad], some(4))
    assert counts(report) == (4, 2, 0, 2)
    assert "the id " in report.failures[0].reason
    assert adapter.fetch([0, 2]).vectors == some(4)[[0, 2]]
    adapter.close()


@pytest.mark.parametrize("bad", BAD_PAYLOADS)
def test_a_bad_payload_fails_alone(adapter: Misbehaving, bad: Any) -> None:
    report = sv.ingest(adapter, range(3), some(3), [{}, bad, {}])
    assert counts(report) == (3, 2, 0, 1)
    assert report.failures[0].id == 1
    assert "payload of id 1" in report.failures[0].reason


def test_an_empty_vector_fails_by_default_and_the_rest_is_written(adapter: Misbehaving) -> None:
    report = sv.ingest(adapter, range(3), sv.SparseVectors.concat([some(1), EMPTY, some(1)]))
    assert counts(report) == (3, 2, 0, 1)
    assert "the vector is empty" in report.failures[0].reason


def test_an_empty_vector_can_be_skipped_and_what_is_there_stays(adapter: Misbehaving) -> None:
    sv.ingest(adapter, [1], some(1))
    report = sv.ingest(adapter, [1, 2], [EMPTY, EMPTY], empty="skip")
    assert counts(report) == (2, 0, 2, 0)
    assert adapter.fetch([1, 2]).vectors == some(1)


def test_an_empty_vector_can_be_written(adapter: Misbehaving) -> None:
    report = sv.ingest(adapter, [1, 2], [EMPTY, EMPTY], empty="write")
    assert counts(report) == (2, 2, 0, 0)
    assert adapter.count() == 2


def test_dead_letters_can_be_mended_and_ingested_again(adapter: Misbehaving, tmp_path: Path) -> None:
    sv.ingest(adapter, [0, -1, 2], some(3), [{"n": 0}, {"n": 1}, {"n": float("inf")}], failed=tmp_path / "failed.jsonl")
    letters = list(read_dead_letters(tmp_path / "failed.jsonl"))
    rows = [zip(letter.indices, letter.weights, strict=True) for letter in letters]
    sv.ingest(adapter, [1, 2], sv.SparseVectors.from_rows(rows, dimension=letters[0].dimension))
    assert [(letter.position, letter.id) for letter in letters] == [(1, -1), (2, 2)]
    assert letters[0].payload == {"n": 1}
    assert adapter.fetch(range(3)).vectors == some(3)


def test_a_dead_letter_holds_what_json_cannot_carry_as_its_repr(adapter: Misbehaving, tmp_path: Path) -> None:
    failed = tmp_path / "failed.jsonl"
    wrong: list[Any] = [b"x", 1, "\ud800"]
    sv.ingest(adapter, wrong, some(3), [{}, {"a": {2}}, {}], failed=failed)
    letters = list(read_dead_letters(failed))
    assert [letter.id for letter in letters] == ["b'x'", 1, "\ud800"]
    assert letters[1].payload == "{'a': {2}}"
    assert all(json.loads(line) for line in failed.read_text().splitlines())


def test_a_dead_letter_holds_the_type_of_what_is_too_deep_for_its_repr(adapter: Misbehaving, tmp_path: Path) -> None:
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"a": deep}
    sv.ingest(adapter, [1, 2], some(2), [deep, {}], failed=tmp_path / "failed.jsonl")
    (letter,) = read_dead_letters(tmp_path / "failed.jsonl")
    assert letter.payload == "dict that cannot be shown"
    assert adapter.count() == 1


def test_no_file_is_made_when_nothing_fails(adapter: Misbehaving, tmp_path: Path) -> None:
    sv.ingest(adapter, [1], some(1), failed=tmp_path / "failed.jsonl")
    assert not (tmp_path / "failed.jsonl").exists()


def test_dead_letters_of_another_run_are_never_touched(adapter: Misbehaving, tmp_path: Path) -> None:
    failed = tmp_path / "failed.jsonl"
    failed.write_text("precious\n")
    with pytest.raises(JournalMismatch, match="is there already; move it away"):
        sv.ingest(adapter, [1], some(1), failed=failed)
    assert failed.read_text() == "precious\n"
    assert adapter.count() == 0


def test_dead_letters_of_another_run_are_not_touched_by_the_second_call_either(
    adapter: Misbehaving, tmp_path: Path
) -> None:
    sv.ingest(adapter, [1], [EMPTY], failed=tmp_path / "run.failed.jsonl")
    letters = (tmp_path / "run.failed.jsonl").read_text()
    for _ in range(2):
        with pytest.raises(JournalMismatch, match="is there already; move it away"):
            sv.ingest(adapter, [2], some(1), journal=tmp_path / "run.journal")
    assert (tmp_path / "run.failed.jsonl").read_text() == letters


def test_a_journal_and_dead_letters_in_one_file_are_refused(adapter: Misbehaving, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="must be two files"):
        sv.ingest(adapter, [1], some(1), journal=tmp_path / "one", failed=tmp_path / "." / "one")


# ---- the report


def test_the_report_names_the_first_failures_and_the_file_of_all(adapter: Misbehaving, tmp_path: Path) -> None:
    report = sv.ingest(adapter, range(50), [EMPTY] * 50, failed=tmp_path / "failed.jsonl", batch_count=7)
    assert len(report.failures) == 10
    assert len(list(read_dead_letters(tmp_path / "failed.jsonl"))) == 50
    assert "50 documents: 0 written, 0 skipped, 50 failed" in str(report)
    assert "  0: the vector is empty" in str(report)
    assert "and 40 more" in str(report)
    assert str(tmp_path / "failed.jsonl") in str(report)


def test_a_report_can_be_required_to_be_complete(adapter: Misbehaving) -> None:
    sv.ingest(adapter, [1], some(1)).require_complete()
    with pytest.raises(WriteFailed, match="1 documents: 0 written, 0 skipped, 1 failed") as incomplete:
        sv.ingest(adapter, [1], EMPTY).require_complete()
    assert incomplete.value.report.failed == 1


def test_a_report_crosses_a_process_border(adapter: Misbehaving) -> None:
    report = sv.ingest(adapter, [2**64 - 1, "é"], [EMPTY, EMPTY])
    assert sv.IngestReport.model_validate_json(report.model_dump_json()) == report


def test_progress_is_told_after_each_batch(adapter: Misbehaving) -> None:
    told: list[IngestProgress] = []
    sv.ingest(adapter, range(5), some(5), batch_count=2, on_progress=told.append)
    assert [progress.documents for progress in told] == [0, 2, 4, 5]
    assert told[-1].bytes > told[1].bytes > 0
    assert told[-1].rate > 0


def test_progress_is_of_the_kind_that_everything_long_has(adapter: Misbehaving) -> None:
    told: list[Progress] = []
    sv.ingest(adapter, range(4), iter([some(4)]), batch_count=2, on_progress=told.append)
    assert [(p.stage, p.step, p.steps, p.fraction, p.text) for p in told] == [
        ("writing", 0, 4, 0.0, "0 documents"),
        ("writing", 2, 4, 0.5, "2 documents"),
        ("writing", 4, 4, 1.0, "4 documents"),
    ]


def test_progress_of_a_stream_of_unknown_length_has_no_fraction(adapter: Misbehaving) -> None:
    told: list[Progress] = []
    sv.ingest(adapter, iter(range(4)), iter([some(4)]), on_progress=told.append)
    assert [(p.step, p.steps, p.fraction) for p in told] == [(0, 0, 0.0), (4, 0, 0.0)]


# ---- any input at all


payloads = st.one_of(
    st.dictionaries(st.sampled_from("ab"), st.integers(0, 3), max_size=2), st.sampled_from(BAD_PAYLOADS)
)


@given(data=st.data(), empty=st.sampled_from(["error", "skip", "write"]), batch_count=st.integers(1, 9))
def test_whatever_is_given_the_counts_add_up_and_the_collection_holds_it(
    data: st.DataObject, empty: Any, batch_count: int
) -> None:
    vectors = data.draw(strategies.vectors(weights=strategies.signed_weights))
    n = len(vectors)
    ids: list[Any] = data.draw(st.lists(strategies.ids | strategies.not_ids, min_size=n, max_size=n))
    given_payloads = data.draw(st.lists(payloads, min_size=n, max_size=n))
    adapter = sv.Reference()
    adapter.create(vectors.dimension)

    report = sv.ingest(adapter, ids, vectors, given_payloads, empty=empty, batch_count=batch_count)

    expected = Expected(ids, vectors, given_payloads, empty)
    assert counts(report) == expected.counts
    expected.require(adapter)
    adapter.close()


# ---- reports of several runs


def test_reports_of_tasks_add_up(adapter: Misbehaving, tmp_path: Path) -> None:
    first = sv.ingest(adapter, [1, -1, 2], some(3), failed=tmp_path / "first.jsonl")
    second = sv.ingest(adapter, [3, 3, *[-1] * 12], some(14), empty="skip")
    both = sv.IngestReport.of_all([first, second])
    assert counts(both) == (17, 4, 0, 13)
    assert (both.repeated, len(both.failures), both.dead_letters) == (1, 10, None)
    assert both.bytes == first.bytes + second.bytes
    assert counts(sv.IngestReport.of_all([])) == (0, 0, 0, 0)


def test_a_report_names_a_space_where_all_tasks_do(adapter: Misbehaving) -> None:
    ours = sv.ingest(adapter, [1], some(1).with_fingerprint("space"))
    nobodys = sv.ingest(adapter, [], some(0))
    foreign = sv.ingest(adapter, [2], some(1))
    assert sv.IngestReport.of_all([ours, nobodys]).fingerprint == "space"
    assert sv.IngestReport.of_all([ours, foreign]).fingerprint is None
    assert sv.IngestReport.of_all([ours, nobodys, foreign]).collection_fingerprint == "space"


def test_a_run_that_failed_on_a_worker_travels_with_its_report() -> None:
    error = pickle.loads(pickle.dumps(WriteFailed("stopped", sv.IngestReport(given=3, written=3))))
    assert (str(error), error.report.given) == ("stopped", 3)
