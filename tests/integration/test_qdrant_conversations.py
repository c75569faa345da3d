"""Whole conversations without a server: what is asked, in which order, and what is made of the answers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from sparsevec_adapters.qdrant_core import collection as notes
from sparsevec_adapters.qdrant_core.errors import PointMissing
from sparsevec_adapters.qdrant_core.operations import QdrantOperations
from sparsevec_adapters.qdrant_core.requests import Request, rest

from sparsevec.contract.adapter import DenseField
from sparsevec.contract.operations import Operation, run
from sparsevec.contract.searches import Search
from sparsevec.errors import BackendDown, CollectionError
from sparsevec.vectors import SparseVectors

UUID = "1b4e28ba-2fa1-11d2-883f-0016d3cca427"
DONE = {"operation_id": 1, "status": "completed"}
ROWS = SparseVectors.from_rows([{1: 0.1}, {}, {2: 0.5, 7: 2.0}], dimension=10)


def described(metadata: Mapping[str, Any] | None = None, **params: Any) -> dict[str, Any]:
    params = {"vectors": {}, "sparse_vectors": {"sparse": {}}, **params}
    return {"status": "green", "payload_schema": {}, "config": {"params": params, "metadata": metadata}}


OURS = described({"sparsevec": {"made": True}, "sparsevec:sparse:id": {"dimension": 10, "since": 1}})
THEIRS = described({"sparsevec:sparse:id": {"dimension": 10, "since": 1}}, vectors={"dense": {"size": 2}})


class Script:
    """Answers in turn, and what was asked."""

    def __init__(self, *answers: Any) -> None:
        self._answers, self.asked = list(answers), list[tuple[str, Any]]()

    def send(self, request: Request) -> Any:
        method, path = rest(request)
        self.asked.append((f"{method} {path}", orjson.loads(request.body) if request.body else None))
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def run(self, operation: Operation[Any]) -> Any:
        result = run(operation, self.send)
        assert not self._answers, "the conversation ended early"
        return result


def upsert(ids: Any, rows: SparseVectors, payloads: Any = None, missing: Any = None) -> Any:
    return QdrantOperations("kb", "sparse").upsert(
        ids, rows, payloads, versions=None, routing=None, missing=missing, codes=None
    )


def test_in_a_collection_of_ours_a_write_is_one_request_that_can_wipe_nothing() -> None:
    script = Script(OURS, {"version": "1.19.2"}, [DONE] * 2)
    assert script.run(upsert([5, "a", UUID], ROWS)).written == (5, "a", UUID)
    (_, _), (_, _), (path, body) = script.asked
    assert path == "POST /collections/kb/points/batch?wait=true"
    insert, vectors = body["operations"]
    point = "6bc786dc-0a41-57d7-a833-ff005407cb51"
    assert insert["upsert"] == {
        "points": [
            {"id": 5, "vector": {}, "payload": {}},
            {"id": point, "vector": {}, "payload": {"_sparsevec_id": "a"}},
            {"id": UUID, "vector": {}, "payload": {}},
        ],
        "update_mode": "insert_only",
    }
    assert vectors["update_vectors"]["points"] == [
        {"id": 5, "vector": {"sparse": {"indices": [1], "values": [0.1]}}},
        {"id": point, "vector": {"sparse": {"indices": [10], "values": [0.0]}}},
        {"id": UUID, "vector": {"sparse": {"indices": [2, 7], "values": [0.5, 2.0]}}},
    ]


def test_payloads_go_with_new_points_and_are_set_on_known_ones() -> None:
    script = Script(OURS, {"version": "1.19.2"}, [{"id": UUID, "payload": None}], [DONE] * 3)
    script.run(upsert([5, 6, UUID], ROWS, [{"n": 1}, {}, {"t": "x"}]))
    assert script.asked[2][1] == {"ids": [5, UUID], "with_payload": False, "with_vector": False}
    insert, _, *fields = script.asked[3][1]["operations"]
    assert [point["payload"] for point in insert["upsert"]["points"]] == [{"n": 1}, {}, {}]
    assert fields == [{"set_payload": {"payload": {"t": "x"}, "points": [UUID]}}]


def test_only_a_null_makes_a_payload_be_read_and_written_whole() -> None:
    script = Script(OURS, {"version": "1.19.2"}, [{"id": 5, "payload": {"n": 1, "m": 2}}], [DONE] * 3)
    script.run(upsert([5, 6, 7], ROWS, [{"n": None}, {"n": None}, {}]))
    insert, _, *fields = script.asked[3][1]["operations"]
    assert [point["payload"] for point in insert["upsert"]["points"]] == [{}, {"n": None}, {}]
    assert fields == [{"overwrite_payload": {"payload": {"n": None, "m": 2}, "points": [5]}}]


def test_in_a_collection_of_others_the_vector_is_updated_and_nothing_else_is_asked() -> None:
    script = Script(THEIRS, [DONE])
    assert script.run(upsert([5, 6, 7], ROWS)).written == (5, 6, 7)
    (operation,) = script.asked[1][1]["operations"]
    assert [point["id"] for point in operation["update_vectors"]["points"]] == [5, 6, 7]


def test_one_missing_id_is_named_by_the_server_and_the_rest_is_sent_again() -> None:
    missing = PointMissing("the server answered 404: Not found: No point with id 6 found", "6")
    script = Script(THEIRS, missing, [{"id": 5}, {"id": 7}], [DONE])
    written = script.run(upsert([5, 6, 7], ROWS))
    assert (written.written, written.failed[6].kind) == ((5, 7), "missing")
    assert script.asked[2] == (
        "POST /collections/kb/points",
        {"ids": [5, 6, 7], "with_payload": False, "with_vector": False},
    )
    (operation,) = script.asked[3][1]["operations"]
    assert [point["id"] for point in operation["update_vectors"]["points"]] == [5, 7]


def test_an_id_that_is_named_missing_and_there_again_at_once_is_missing() -> None:
    script = Script(THEIRS, PointMissing("No point", "6"), [{"id": 5}, {"id": 6}, {"id": 7}], [DONE])
    assert script.run(upsert([5, 6, 7], ROWS)).written == (5, 7)


def test_a_write_that_is_not_yet_applied_is_not_written() -> None:
    with pytest.raises(BackendDown, match="has not applied it yet"):
        Script(THEIRS, [{**DONE, "status": "acknowledged"}]).run(upsert([5, 6, 7], ROWS))


def test_what_was_read_is_forgotten_when_the_collection_is_gone() -> None:
    operations = QdrantOperations("kb", "sparse")
    script = Script(OURS, CollectionError("gone"), CollectionError("gone"))
    with pytest.raises(CollectionError, match="gone"):
        run(operations.search(ROWS[:1], 3, Search()), script.send)
    with pytest.raises(CollectionError, match="create"):
        run(operations.search(ROWS[:1], 3, Search()), script.send)
    assert [path for path, _ in script.asked][2] == "GET /collections/kb"


def test_create_makes_the_collection_and_its_notes_in_one_request() -> None:
    script = Script(CollectionError("not found"), {"version": "1.16.0"}, True)
    script.run(QdrantOperations("kb", "sparse").create(10, "space", None))
    path, body = script.asked[-1]
    assert (path, body["sparse_vectors"], body["vectors"]) == ("PUT /collections/kb", {"sparse": {}}, {})
    assert body["metadata"]["sparsevec"] == {"made": True}
    (note,) = notes.read("kb", described(body["metadata"])).notes
    assert (note.vector, note.dimension, note.fingerprint) == ("sparse", 10, "space")


def test_a_note_that_a_killed_create_left_is_cleared_away_by_the_next() -> None:
    left = {"sparsevec:sparse:old": {"dimension": 64, "since": 1}}
    script = Script(described(left, sparse_vectors={}), {"version": "1.18.0"}, True)
    conversation = QdrantOperations("kb", "sparse").create(10, None, None)
    with pytest.raises(IndexError):  # the script ends here: what matters was asked
        script.run(conversation)
    path, body = script.asked[2]
    assert path == "PATCH /collections/kb"
    assert body["metadata"]["sparsevec:sparse:old"] is None


@pytest.mark.parametrize(("ahead", "counts"), [(-1, True), (1, True), (-3600, False), (3600, False)])
def test_a_bid_of_a_clock_that_was_ahead_does_not_count_until_that_time_comes(ahead: float, counts: bool) -> None:
    bid = {"sparsevec-bid:id:a-writer": {"fingerprint": "blue", "since": time.time() + ahead}}
    found = notes.read("kb", described({"sparsevec:sparse:id": {"dimension": 10, "since": 1}, **bid}))
    assert found.has_rivals(found.notes[0], "red") is counts


def test_notes_of_vectors_whose_names_hold_colons_are_told_apart() -> None:
    metadata = {"sparsevec:a:1": {"dimension": 5}, "sparsevec:a:b:2": {"dimension": 6}, "sparsevec": {"made": True}}
    found = notes.read("kb", described(metadata, sparse_vectors={"a": {}, "a:b": {}}))
    assert [found.note_of(name).dimension for name in ("a", "a:b")] == [5, 6]


def test_a_collection_that_version_0_1_made_is_ours() -> None:
    found = notes.read("kb", described({"sparsevec": {"dimension": 5, "vector_name": "sparse"}}))
    assert found.ours
    assert found.note_of("sparse").dimension == 5


def test_a_dense_vector_without_a_name_is_seen() -> None:
    found = notes.read("kb", described(vectors={"size": 3, "distance": "Dot"}))
    assert found.dense == {"": DenseField(3, "Dot")}


def test_a_search_asks_for_no_payload_but_our_ids() -> None:
    points = {"points": [{"id": 5, "score": 2.0, "payload": {}}, {"id": UUID, "score": 1.0, "payload": None}]}
    script = Script(OURS, [points])
    (first, empty) = script.run(QdrantOperations("kb", "sparse").search(ROWS[:2], 2, Search()))
    assert (first.ids, first.scores.tolist(), empty.ids) == ((5, UUID), [2.0, 1.0], ())
    (search,) = script.asked[1][1]["searches"]
    assert search == {
        "query": {"indices": [1], "values": [0.1]},
        "using": "sparse",
        "limit": 2,
        "filter": None,
        "with_payload": ["_sparsevec_id"],
    }
