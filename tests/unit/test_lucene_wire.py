"""What goes over the wire to Elasticsearch and OpenSearch, and how what comes back is read: no server needed."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sparsevec_adapters.lucene import answers, documents, errors, ids, queries, weights
from sparsevec_adapters.lucene.claims import Claim
from sparsevec_adapters.lucene.documents import Line
from sparsevec_adapters.lucene.index import Field
from sparsevec_adapters.lucene.text import LOOPS, _assembled, _plain, to_json
from sparsevec_adapters.lucene.wire import parsed

from sparsevec.contract.checks import Id
from sparsevec.errors import (
    AdapterError,
    BackendDown,
    BackendUnsupported,
    CollectionError,
    InvalidInput,
    OutOfLimits,
)
from sparsevec.vectors import SparseVectors
from tests import strategies

CLAIM = Claim("emb", 10, "some-uuid", "index", None, "_sparsevec_emb")
SPARSE = Field("emb", "sparse_vector", "term", "emb", CLAIM)
RANKED = Field("emb", "rank_features", "linear", "_sparsevec_emb", CLAIM)


def rows(*documents: dict[int, float]) -> SparseVectors:
    return SparseVectors.from_rows(documents, dimension=2000)


def line(id_: Id, vectors: SparseVectors, payload: dict[str, Any], field: Field = SPARSE) -> Line:
    ((made,), failed) = documents.to_lines([id_], vectors, [payload], field, ours=True)
    assert not failed
    return made


# ---- numbers


def test_nine_significant_bits_of_a_weight_are_kept() -> None:
    kept = weights.stored(rows({1: 1.0, 2: 0.1, 3: 1.00390625, 4: 1.99999, 5: 3.4e38}))
    assert kept.values.tolist() == [1.0, 0.099853515625, 1.00390625, 1.99609375, 3.39617752923046e38]


@given(strategies.vectors(weights=strategies.signed_weights))
def test_a_kept_weight_is_at_most_one_part_in_256_nearer_to_zero(vectors: SparseVectors) -> None:
    given_, kept = np.abs(vectors.values.astype(float)), np.abs(weights.stored(vectors).values.astype(float))
    assert ((kept <= given_) & (kept > given_ * (1 - 2**-8))).all()
    assert weights.stored(weights.stored(vectors)) == weights.stored(vectors)


def test_a_weight_is_written_in_the_fewest_decimals_of_which_the_same_is_kept() -> None:
    (body,) = to_json(weights.short(rows({1: 0.31415927, 2: 1.0, 3: 0.1, 4: 1.00390625})))
    assert json.loads(body) == {"1": 0.314, "2": 1.0, "3": 0.1, "4": 1.006}


@given(strategies.vectors(weights=strategies.signed_weights))
def test_what_is_kept_of_short_weights_is_the_same(vectors: SparseVectors) -> None:
    assert weights.stored(weights.short(vectors)) == weights.stored(vectors)


@given(st.floats(2.0**-120, 2.0**120, width=32))
def test_a_weight_reads_back_as_the_same_float32(weight: float) -> None:
    (body,) = to_json(rows({7: weight}))
    assert np.float32(json.loads(body)["7"]) == np.float32(weight)


def one_by_one(vectors: SparseVectors) -> list[bytes]:
    """What `to_json` writes, number by number."""
    pairs = [b",".join(b'"%d":%b' % (i, orjson.dumps(float32(v))) for i, v in row.to_dict().items()) for row in vectors]
    return [b"{%b}" % row for row in pairs]


def float32(value: float) -> orjson.Fragment:
    return orjson.Fragment(orjson.dumps(np.float32(value), option=orjson.OPT_SERIALIZE_NUMPY))


@pytest.fixture(scope="module")
def compiled() -> Callable[[SparseVectors], list[bytes]]:
    pytest.importorskip("numba")
    LOOPS.load(wait=True)
    loops = LOOPS.get()
    assert loops is not None
    return partial(_assembled, assemble=loops.assemble)


@given(strategies.vectors(weights=strategies.signed_weights))
def test_rows_from_the_arrays_are_the_same_bytes_as_number_by_number(
    compiled: Callable[[SparseVectors], list[bytes]], vectors: SparseVectors
) -> None:
    assert to_json(vectors) == compiled(vectors) == _plain(vectors) == one_by_one(vectors)


@given(strategies.any_float32)
def test_every_float32_is_written_the_same_by_both_and_reads_back_as_it_was(
    compiled: Callable[[SparseVectors], list[bytes]], weight: float
) -> None:
    vectors = SparseVectors([0, 2], [7, 4_000_000_000], [weight, -weight], 2**32)
    (plain,), (fast,) = _plain(vectors), compiled(vectors)
    assert plain == fast
    assert [np.float32(value) for value in json.loads(plain).values()] == [np.float32(weight), np.float32(-weight)]


def test_the_loop_of_bodies_is_compiled_once_a_process_has_written_a_million_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loads: list[bool] = []
    monkeypatch.setattr(LOOPS, "_left", 1_000_000)
    monkeypatch.setattr(LOOPS, "load", lambda: loads.append(True))
    large = SparseVectors([0, 400_000], np.arange(400_000), np.ones(400_000, np.float32), 400_000)
    for _ in range(2):
        to_json(large)
    assert not loads
    for _ in range(2):
        to_json(large)
    assert loads == [True]


def test_weights_that_are_not_positive_normal_floats_are_refused_by_row() -> None:
    refused = weights.refusals(rows({1: 1.0}, {1: 1.0, 2: -0.5, 3: -1.0}, {}, {5: 1e-39}))
    assert list(refused) == [3, 1]
    assert refused[1] == "weight -0.5 at index 2 cannot be held: weights must be positive and at least 1.1754944e-38"
    assert "index 5" in refused[3]


def test_a_predicted_score_is_the_rounded_sum_of_rounded_products() -> None:
    (query,) = rows({1: 0.3, 2: 1.7, 9: 5.0})
    held = rows({1: 0.1, 2: 2.3, 4: 1.0}, {4: 1.0}, {}, {9: 1.0})
    first = np.float32(0.3) * np.float32(0.099853515625), np.float32(1.7) * np.float32(2.296875)
    assert weights.scores(query, held).tolist() == [np.float32(float(first[0]) + float(first[1])), 0, 0, 5.0]


@given(strategies.vectors(dimension=7, min_rows=1), strategies.vectors(dimension=7))
def test_predicted_scores_are_near_the_dot_products_of_what_is_kept(asked: SparseVectors, held: SparseVectors) -> None:
    exact = held.to_dense().astype(float) @ asked[:1].to_dense()[0].astype(float)
    np.testing.assert_allclose(weights.scores(asked[0], held), exact, rtol=2**-7, atol=1e-38)


# ---- ids


@given(strategies.ids)
def test_ids_come_back_as_they_went(id_: Id) -> None:
    assert ids.id_fault(id_, True) is None
    back = ids.from_id(ids.to_id(id_, True), True)
    assert (back, type(back)) == (id_, type(id_))


odd_ids = st.sampled_from(["int:1\nint:2", "int:", "int:007", "int:999999999999999999", f"int:{2**64 - 1}", "\n", ""])


@given(st.lists(strategies.ids.map(lambda id_: ids.to_id(id_, True)) | odd_ids), st.booleans())
def test_many_ids_are_read_as_each_alone_is(texts: list[str], ours: bool) -> None:
    assert ids.from_ids(texts, ours) == tuple(ids.from_id(text, ours) for text in texts)


def test_the_ids_of_ints_cannot_be_had_by_strings() -> None:
    assert ids.to_id(42, True) == "int:42"
    assert ids.id_fault("int:42", True) == (
        "the string 'int:42' is the _id of the int 42; use the int, or another string"
    )
    for text in ("int:042", "int:-1", "int:", "int:18446744073709551616", "int:4٢", "INT:4", "int:4\n"):
        assert ids.id_fault(text, True) is None
        assert ids.from_id(text, True) == text


def test_in_an_index_of_others_ids_are_spelt_as_they_spell_them() -> None:
    assert (ids.to_id(42, False), ids.from_id("42", False)) == ("42", "42")
    assert (ids.id_fault("int:42", False), ids.from_id("int:42", False)) == (None, "int:42")


def test_an_id_has_at_most_512_bytes() -> None:
    assert ids.id_fault("é" * 256, True) is None
    assert ids.id_fault("é" * 256 + "x", True) == "an _id has at most 512 bytes, this one has 513"


# ---- documents to the wire


def test_a_document_is_one_update_that_replaces_the_vector_and_keeps_other_fields() -> None:
    vectors = rows({5: 0.1, 1999: 3.0})
    assert line("p-1", vectors, {"brand": "acme", "n": [1, None]}).body(create=True) == (
        b'{"update":{"_id":"p-1","retry_on_conflict":3}}\n'
        b'{"doc":{"emb":[{"5":0.1,"1999":3.0}],"brand":"acme","n":[1,null]},"doc_as_upsert":true}\n'
    )


def test_an_int_id_and_an_empty_vector_and_the_marker_of_rank_features() -> None:
    assert line(7, rows({}), {}, RANKED).body(create=True) == (
        b'{"update":{"_id":"int:7","retry_on_conflict":3}}\n'
        b'{"doc":{"emb":[{}],"_sparsevec_emb":true},"doc_as_upsert":true}\n'
    )


def test_a_document_of_others_is_updated_and_never_made() -> None:
    assert line("p-1", rows({5: 0.5}), {}).body() == (
        b'{"update":{"_id":"p-1","retry_on_conflict":3}}\n{"doc":{"emb":[{"5":0.5}]}}\n'
    )


def test_a_routing_and_a_version_go_with_the_document() -> None:
    given_: Any = {"versions": ["17.2"], "routing": ["tenant"]}
    ((made,), _) = documents.to_lines(["a"], rows({1: 1.0}), [{}], SPARSE, ours=False, **given_)
    assert made.body().split(b"\n")[0] == (
        b'{"update":{"_id":"a","routing":"tenant","if_seq_no":17,"if_primary_term":2}}'
    )
    for wrong in ("17", "a.b", "1.2.3", ""):
        with pytest.raises(InvalidInput, match=r"17\.1"):
            documents.read_version(wrong)


def test_objects_are_replaced_by_a_script_where_the_server_runs_one() -> None:
    document = line("a", rows({1: 1.0}), {"maker": {"name": "acme"}, "n": 1})
    action, change = document.body(routing="r", script=True).splitlines()
    assert action == b'{"update":{"_id":"a","routing":"r","retry_on_conflict":3}}'
    assert json.loads(change)["script"]["params"] == {"doc": {"emb": [{"1": 1.0}], "maker": {"name": "acme"}, "n": 1}}
    assert json.loads(change).keys() == {"script"}
    made = json.loads(document.body(create=True, script=True).splitlines()[1])
    assert (made["scripted_upsert"], made["upsert"]) == (True, {})


def test_documents_without_objects_need_no_script() -> None:
    document = line("a", rows({1: 1.0}), {"n": 1, "list": [{"x": 1}]})
    assert document.body(script=True) == document.body()


def test_a_source_is_replaced_only_where_its_objects_hold_more_than_was_given() -> None:
    document = line("a", rows({1: 1.0}), {"maker": {"name": "acme"}})
    assert document.replaced({"maker": {"name": "acme"}, "emb": {"1": 0.5}, "n": 1}) is None
    assert document.replaced({"maker": {"name": "acme", "old": 1}, "emb": {"1": 0.5}, "n": 1}) == {
        "maker": {"name": "acme"},
        "emb": [{"1": 1.0}],
        "n": 1,
    }


def test_a_payload_cannot_name_a_field_of_vectors() -> None:
    payloads: list[dict[str, Any]] = [{"emb": 1}, {"other": 1}]
    sent, failed = documents.to_lines(
        ["a", "b"], rows({1: 1.0}, {1: 1.0}), payloads, SPARSE, ours=True, hidden=["other"]
    )
    assert sent == []
    assert [failure.reason for failure in failed.values()] == [
        f"payload field {name!r} is where the vectors live; rename it" for name in ("emb", "other")
    ]


def test_vectors_and_documents_are_taken_out() -> None:
    assert documents.removal("a", RANKED, script=False) == (
        b'{"update":{"_id":"a","retry_on_conflict":3}}\n{"doc":{"emb":[],"_sparsevec_emb":[]}}\n'
    )
    scripted = json.loads(documents.removal("a", RANKED, "r", script=True).split(b"\n")[1])["script"]
    assert scripted["params"] == {"names": ["emb", "_sparsevec_emb"]}
    assert documents.deletion('b"', "r") == b'{"delete":{"_id":"b\\"","routing":"r"}}\n'


def test_a_document_is_written_anew_without_our_vector_unless_it_changed() -> None:
    hit = {"_id": "a", "_seq_no": 7, "_primary_term": 1, "_routing": "r", "_source": {"t": 1, "emb": [{"1": 1.0}]}}
    assert documents.without({"t": 1}, SPARSE) is None
    kept = documents.without(hit["_source"], SPARSE)
    assert kept is not None
    assert documents.rewriting(hit, kept) == (
        b'{"index":{"_id":"a","if_seq_no":7,"if_primary_term":1,"routing":"r"}}\n{"t":1}\n'
    )


# ---- what became of them


def test_every_item_is_read_and_only_a_busy_backend_is_retryable() -> None:
    def item(status: int, kind: str) -> dict[str, Any]:
        return {"status": status, "error": {"type": kind, "reason": "because"}}

    assert errors.failure({"status": 201, "result": "created"}) is None
    for status, kind, retryable in (
        (429, "es_rejected_execution_exception", True),
        (429, "circuit_breaking_exception", True),
        (503, "unavailable_shards_exception", True),
        (409, "version_conflict_engine_exception", True),
        (500, "i_o_exception", True),
        (500, "process_cluster_event_timeout_exception", True),
        (500, "already_closed_exception", True),
        (500, "null_pointer_exception", False),
        (400, "document_parsing_exception", False),
    ):
        failure = errors.failure(item(status, kind))
        assert failure is not None
        assert (failure.reason, failure.retryable) == (f"{kind}: because", retryable)


def test_a_full_disk_below_another_error_and_a_mapping_that_was_slow_are_retryable() -> None:
    full = {"type": "engine_exception", "reason": "index failed", "caused_by": {"type": "i_o_exception"}}
    slow = {"type": "mapper_exception", "reason": "timed out while waiting for a dynamic mapping update"}
    for error in (full, slow):
        failure = errors.failure({"status": 500, "error": error})
        assert failure is not None
        assert failure.retryable


def test_a_document_that_is_not_there_one_that_changed_and_one_that_was_dropped_are_told_apart() -> None:
    missing = {"status": 404, "error": {"type": "document_missing_exception", "reason": "[a]: document missing"}}
    stale = {"status": 409, "error": {"type": "version_conflict_engine_exception", "reason": "required seqNo [1]"}}
    found = [
        errors.failure(missing),
        errors.failure(stale, guarded=True),
        errors.failure(stale),
        errors.failure({"status": 200, "result": "noop", "_seq_no": -2}),
        errors.failure({"status": 200, "result": "noop", "_version": -3}),
        errors.failure({"status": 200, "result": "noop", "_seq_no": 4}),
    ]
    assert [one and (one.kind, one.retryable) for one in found] == [
        ("missing", False),
        ("stale", False),
        ("refused", True),
        ("refused", False),
        ("refused", False),
        None,
    ]


def test_a_reason_brings_its_cause() -> None:
    error = {
        "type": "mapper_parsing_exception",
        "reason": "failed to parse",
        "caused_by": {"reason": "must be positive"},
    }
    failure = errors.failure({"status": 400, "error": error})
    assert failure is not None
    assert failure.reason == "mapper_parsing_exception: failed to parse: must be positive"


def test_an_answer_that_does_not_account_for_every_document_is_no_answer() -> None:
    for answer in ({"items": [{"update": {"status": 200}}]}, {}, "<html>", None):
        with pytest.raises(BackendDown, match="2 actions were sent"):
            documents.bulk_items(answer, 2)


def test_a_missing_privilege_and_a_missing_index_are_raised_not_counted() -> None:
    for kind, status, raised in (
        ("security_exception", 403, BackendUnsupported),
        ("index_not_found_exception", 404, CollectionError),
    ):
        items = [{"update": {"status": status, "error": {"type": kind, "reason": "no"}}}]
        with pytest.raises(raised):
            documents.bulk_items({"items": items}, 1)


@pytest.mark.parametrize(
    ("status", "kind", "raised"),
    [
        (413, "", OutOfLimits),
        (429, "es_rejected_execution_exception", BackendDown),
        (429, "cluster_block_exception", CollectionError),
        (403, "cluster_block_exception", CollectionError),
        (503, "cluster_block_exception", BackendDown),
        (408, "", BackendDown),
        (500, "", BackendDown),
        (504, "", BackendDown),
        (401, "security_exception", BackendUnsupported),
        (403, "security_exception", BackendUnsupported),
        (404, "index_not_found_exception", CollectionError),
        (400, "resource_already_exists_exception", CollectionError),
        (400, "media_type_header_exception", BackendUnsupported),
        (400, "parsing_exception", BackendUnsupported),
    ],
)
def test_each_answer_has_its_error(status: int, kind: str, raised: type[AdapterError]) -> None:
    error = errors.to_error(status, {"error": {"type": kind, "reason": "because"}, "status": status})
    assert type(error) is raised
    assert "because" in str(error)


@pytest.mark.parametrize(
    ("status", "kind", "reason", "way_out"),
    [
        (403, "cluster_block_exception", "[FORBIDDEN/8/index write (api)];", "]; lift the block with PUT"),
        (429, "cluster_block_exception", "[12/disk usage exceeded];", "]; free disk space, then lift the block"),
        (400, "index_closed_exception", "closed", "closed; open the index with POST INDEX/_open"),
    ],
)
def test_what_keeps_an_index_shut_is_told_with_the_way_to_open_it(
    status: int, kind: str, reason: str, way_out: str
) -> None:
    error = errors.to_error(status, {"error": {"type": kind, "reason": reason}, "status": status})
    assert isinstance(error, CollectionError)
    assert way_out in str(error)


def test_a_busy_backend_says_how_long_to_wait_and_a_large_request_can_be_split() -> None:
    busy, large = errors.to_error(429, "busy", 2.5), errors.to_error(413, None)
    assert isinstance(busy, BackendDown)
    assert busy.retry_after == 2.5
    assert isinstance(large, OutOfLimits)
    assert large.splittable


# ---- queries and hits


def test_a_query_on_sparse_vector_is_one_boosted_term_a_weight_and_is_not_pruned() -> None:
    (query,) = rows({5: 0.1, 12: 2.0})
    body = queries.search_body(queries.query_clause(query, SPARSE), [], 10, False)
    assert queries.msearch([body]) == (
        b'{"allow_partial_search_results":false}\n'
        b'{"query":{"bool":{"should":[{"term":{"emb":{"value":"5","boost":0.1}}},'
        b'{"term":{"emb":{"value":"12","boost":2.0}}}],"minimum_should_match":1}},'
        b'"size":10,"_source":false,"track_total_hits":false}\n'
    )


def test_a_query_on_rank_features_is_linear() -> None:
    (query,) = rows({5: 0.1})
    body = queries.search_body(queries.query_clause(query, RANKED), [{"exists": {"field": "n"}}], 3, ["n"])
    assert queries.msearch([body]) == (
        b'{"allow_partial_search_results":false}\n'
        b'{"query":{"bool":{"must":[{"bool":{"should":[{"rank_feature":{"field":"emb.5","linear":{},"boost":0.1}}],'
        b'"minimum_should_match":1}}],"filter":[{"exists":{"field":"n"}}]}},'
        b'"size":3,"_source":["n"],"track_total_hits":false}\n'
    )


@pytest.mark.parametrize("given", ["\ud800", {1, 2}, 10**400])
def test_what_cannot_be_said_in_json_is_refused_before_it_is_sent(given: Any) -> None:
    with pytest.raises(InvalidInput, match="cannot be sent as JSON"):
        queries.msearch([{"query": {"match": {"text": given}}}])


def test_an_answer_of_some_shards_or_of_part_of_the_time_is_no_answer() -> None:
    assert answers.read_hits({"status": 200, "timed_out": False, "_shards": {"failed": 0}}) == []
    for response in ({"timed_out": True}, {"_shards": {"failed": 1}}, {"status": 503, "error": {"type": "x"}}):
        with pytest.raises(BackendDown):
            answers.read_hits(response)


def test_the_limit_on_clauses_is_read_from_the_refusal() -> None:
    reason = "failed to create query: Query contains too many nested clauses; maxClauseCount is set to 8192"
    assert answers.clause_limit({"error": {"type": "x", "root_cause": [{"reason": reason}]}, "status": 400}) == 8192
    assert answers.clause_limit({"error": {"type": "parsing_exception"}, "status": 400}) is None
    assert answers.clause_limit({"hits": {}}) is None


def test_fetched_vectors_come_as_an_object_or_an_array_of_one() -> None:
    found = [{"fields": {"emb": [{"5": 0.5}]}}, {}, {"fields": {"emb": [{}]}}]
    assert answers.read_vectors(found, SPARSE) == SparseVectors.from_rows([{5: 0.5}, {}, {}], dimension=10)
    with pytest.raises(CollectionError, match="not dimensions"):
        answers.read_vectors([{"fields": {"emb": [{"hello": 0.5}]}}], SPARSE)
    with pytest.raises(CollectionError, match=r"lie in \[0, 10\).*others wrote it"):
        answers.read_vectors([{"fields": {"emb": [{"10": 0.5}]}}], SPARSE)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON, st.sampled_from([None, 1]))
def test_answers_are_read_to_the_last_digit(value: Any, indent: int | None) -> None:
    text = json.dumps({"value": value}, indent=indent).encode()
    assert parsed(text) == json.loads(text)


@pytest.mark.parametrize("integer", [10**19, -(10**18) * 10, 2**64, -(2**63) - 1, 10**30])
@pytest.mark.parametrize("form", ['{"a":%d}', "[1,%d]", "[%d]", '{"a": [ 0.5,\n\t%d]}'])
def test_integers_beyond_64_bits_are_not_rounded(form: str, integer: int) -> None:
    text = form % integer
    assert parsed(text.encode()) == json.loads(text)


def test_half_a_surrogate_is_read_as_python_does() -> None:
    assert parsed(b'{"a":"\\ud800"}') == {"a": "\ud800"}
