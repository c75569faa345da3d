"""What goes over the wire to Elasticsearch and OpenSearch, and how what comes back is read: no server needed."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sparsevec_adapters.lucene import documents as lucene
from sparsevec_adapters.lucene.documents import Field, Index, Line

from sparsevec.contract.checks import Id
from sparsevec.errors import AdapterError, BackendDown, BackendUnsupported, CollectionError, OutOfLimits
from sparsevec.vectors import SparseVectors
from tests import strategies

ELASTICSEARCH_8 = 8_537_000
ELASTICSEARCH_9 = 9_111_000
OPENSEARCH_3 = 137_297_827

SPARSE = Field("emb", "sparse_vector", "term", "emb", 10, "index")
RANKED = Field("emb", "rank_features", "linear", "_sparsevec_emb", 10, "index")


def rows(*documents: dict[int, float]) -> SparseVectors:
    return SparseVectors.from_rows(documents, dimension=2000)


def index(created: int = ELASTICSEARCH_8, settings: dict[str, str] | None = None, **mappings: Any) -> Index:
    return Index("products", mappings, {"index.version.created": str(created), **(settings or {})})


def line(id_: Id, vectors: SparseVectors, payload: dict[str, Any], field: Field = SPARSE) -> Line:
    (vector,) = lucene.weights(vectors)
    made = lucene.to_line(id_, vector, payload, field)
    assert isinstance(made, Line)
    return made


# ---- numbers


def test_nine_significant_bits_of_a_weight_are_kept() -> None:
    kept = lucene.stored(rows({1: 1.0, 2: 0.1, 3: 1.00390625, 4: 1.99999, 5: 3.4e38}))
    assert kept.values.tolist() == [1.0, 0.099853515625, 1.00390625, 1.99609375, 3.39617752923046e38]


@given(strategies.vectors(weights=strategies.signed_weights))
def test_a_kept_weight_is_at_most_one_part_in_256_nearer_to_zero(vectors: SparseVectors) -> None:
    given_, kept = np.abs(vectors.values.astype(float)), np.abs(lucene.stored(vectors).values.astype(float))
    assert ((kept <= given_) & (kept > given_ * (1 - 2**-8))).all()
    assert lucene.stored(lucene.stored(vectors)) == lucene.stored(vectors)


@given(st.floats(2.0**-120, 2.0**120, width=32))
def test_a_weight_reads_back_as_the_same_float32(weight: float) -> None:
    (body,) = lucene.weights(rows({7: weight}))
    assert np.float32(json.loads(body)["7"]) == np.float32(weight)


def test_weights_that_are_not_positive_normal_floats_are_refused_by_row() -> None:
    refused = lucene.refusals(rows({1: 1.0}, {1: 1.0, 2: -0.5, 3: -1.0}, {}, {5: 1e-39}))
    assert list(refused) == [3, 1]
    assert refused[1] == "weight -0.5 at index 2 cannot be held: weights must be positive and at least 1.1754944e-38"
    assert "index 5" in refused[3]


def test_a_predicted_score_is_the_rounded_sum_of_rounded_products() -> None:
    (query,) = rows({1: 0.3, 2: 1.7, 9: 5.0})
    documents = rows({1: 0.1, 2: 2.3, 4: 1.0}, {4: 1.0}, {}, {9: 1.0})
    first = np.float32(0.3) * np.float32(0.099853515625), np.float32(1.7) * np.float32(2.296875)
    assert lucene.scores(query, documents).tolist() == [np.float32(float(first[0]) + float(first[1])), 0, 0, 5.0]


@given(strategies.vectors(dimension=7, min_rows=1), strategies.vectors(dimension=7))
def test_predicted_scores_are_near_the_dot_products_of_what_is_kept(
    queries: SparseVectors, documents: SparseVectors
) -> None:
    exact = documents.to_dense().astype(float) @ queries[:1].to_dense()[0].astype(float)
    np.testing.assert_allclose(lucene.scores(queries[0], documents), exact, rtol=2**-7, atol=1e-38)


# ---- ids


@given(strategies.ids)
def test_ids_come_back_as_they_went(id_: Id) -> None:
    assert lucene.id_fault(id_) is None
    back = lucene.from_id(lucene.to_id(id_))
    assert (back, type(back)) == (id_, type(id_))


def test_the_ids_of_ints_cannot_be_had_by_strings() -> None:
    assert lucene.to_id(42) == "int:42"
    assert lucene.id_fault("int:42") == ("the string 'int:42' is the _id of the int 42; use the int, or another string")
    for text in ("int:042", "int:-1", "int:", "int:18446744073709551616", "int:4٢", "INT:4", "int:4\n"):
        assert lucene.id_fault(text) is None
        assert lucene.from_id(text) == text


def test_an_id_has_at_most_512_bytes() -> None:
    assert lucene.id_fault("é" * 256) is None
    assert lucene.id_fault("é" * 256 + "x") == "an _id has at most 512 bytes, this one has 513"


# ---- documents to the wire


def test_a_document_is_one_update_that_replaces_the_vector_and_keeps_other_fields() -> None:
    vectors = rows({5: 0.1, 1999: 3.0})
    assert line("p-1", vectors, {"brand": "acme", "n": [1, None]}).body == (
        b'{"update":{"_id":"p-1","retry_on_conflict":3}}\n'
        b'{"doc":{"emb":[{"5":0.1,"1999":3.0}],"brand":"acme","n":[1,null]},"doc_as_upsert":true}\n'
    )


def test_an_int_id_and_an_empty_vector_and_the_marker_of_rank_features() -> None:
    assert line(7, rows({}), {}, RANKED).body == (
        b'{"update":{"_id":"int:7","retry_on_conflict":3}}\n'
        b'{"doc":{"emb":[{}],"_sparsevec_emb":true},"doc_as_upsert":true}\n'
    )


def test_objects_of_a_document_that_was_there_are_emptied_and_filled_again() -> None:
    document = line("a", rows({1: 1.0}), {"maker": {"name": "acme"}, "n": 1, "list": [{"x": 1}]})
    assert lucene.replacement(document) == (
        b'{"update":{"_id":"a","retry_on_conflict":3}}\n{"doc":{"maker":[]}}\n'
        b'{"update":{"_id":"a","retry_on_conflict":3}}\n{"doc":{"maker":{"name":"acme"}}}\n'
    )


def test_a_payload_cannot_name_the_field_of_the_vectors() -> None:
    assert lucene.to_line("a", b"{}", {"emb": 1}, SPARSE) == "payload field 'emb' is where the vectors live; rename it"


def test_vectors_and_documents_are_taken_out() -> None:
    assert lucene.removals(["a"], RANKED) == (
        b'{"update":{"_id":"a","retry_on_conflict":3}}\n{"doc":{"emb":[],"_sparsevec_emb":[]}}\n'
    )
    assert lucene.deletions(["a", 'b"']) == b'{"delete":{"_id":"a"}}\n{"delete":{"_id":"b\\""}}\n'


# ---- what became of them


def test_every_item_is_read_and_only_a_busy_backend_is_retryable() -> None:
    def item(status: int, kind: str) -> dict[str, Any]:
        return {"status": status, "error": {"type": kind, "reason": "because"}}

    assert lucene.failure({"status": 201, "result": "created"}) is None
    for status, kind, retryable in (
        (429, "es_rejected_execution_exception", True),
        (429, "circuit_breaking_exception", True),
        (503, "unavailable_shards_exception", True),
        (409, "version_conflict_engine_exception", True),
        (400, "document_parsing_exception", False),
    ):
        failure = lucene.failure(item(status, kind))
        assert failure is not None
        assert (failure.reason, failure.retryable) == (f"{kind}: because", retryable)


def test_a_reason_brings_its_cause() -> None:
    error = {
        "type": "mapper_parsing_exception",
        "reason": "failed to parse",
        "caused_by": {"reason": "must be positive"},
    }
    failure = lucene.failure({"status": 400, "error": error})
    assert failure is not None
    assert failure.reason == "mapper_parsing_exception: failed to parse: must be positive"


def test_an_answer_that_does_not_account_for_every_document_is_no_answer() -> None:
    for answer in ({"items": [{"update": {"status": 200}}]}, {}, "<html>", None):
        with pytest.raises(BackendDown, match="2 actions were sent"):
            lucene.bulk_items(answer, 2)


def test_a_missing_privilege_and_a_missing_index_are_raised_not_counted() -> None:
    for kind, status, raised in (
        ("security_exception", 403, BackendUnsupported),
        ("index_not_found_exception", 404, CollectionError),
    ):
        items = [{"update": {"status": status, "error": {"type": kind, "reason": "no"}}}]
        with pytest.raises(raised):
            lucene.bulk_items({"items": items}, 1)


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
    error = lucene.to_error(status, {"error": {"type": kind, "reason": "because"}, "status": status})
    assert type(error) is raised
    assert "because" in str(error)


def test_a_busy_backend_says_how_long_to_wait_and_a_large_request_can_be_split() -> None:
    busy, large = lucene.to_error(429, "busy", 2.5), lucene.to_error(413, None)
    assert isinstance(busy, BackendDown)
    assert busy.retry_after == 2.5
    assert isinstance(large, OutOfLimits)
    assert large.splittable


# ---- queries and hits


def test_a_query_on_sparse_vector_is_one_boosted_term_a_weight_and_is_not_pruned() -> None:
    (query,) = rows({5: 0.1, 12: 2.0})
    body = lucene.search_body(lucene.query_clause(query, SPARSE), [], 10, False)
    assert lucene.msearch([body]) == (
        b'{"allow_partial_search_results":false}\n'
        b'{"query":{"bool":{"should":[{"term":{"emb":{"value":"5","boost":0.1}}},'
        b'{"term":{"emb":{"value":"12","boost":2.0}}}],"minimum_should_match":1}},'
        b'"size":10,"_source":false,"track_total_hits":false}\n'
    )


def test_a_query_on_rank_features_is_linear() -> None:
    (query,) = rows({5: 0.1})
    body = lucene.search_body(lucene.query_clause(query, RANKED), [{"exists": {"field": "n"}}], 3, ["n"])
    assert lucene.msearch([body]) == (
        b'{"allow_partial_search_results":false}\n'
        b'{"query":{"bool":{"must":[{"bool":{"should":[{"rank_feature":{"field":"emb.5","linear":{},"boost":0.1}}],'
        b'"minimum_should_match":1}}],"filter":[{"exists":{"field":"n"}}]}},'
        b'"size":3,"_source":["n"],"track_total_hits":false}\n'
    )


def test_an_answer_of_some_shards_or_of_part_of_the_time_is_no_answer() -> None:
    assert lucene.read_hits({"status": 200, "timed_out": False, "_shards": {"failed": 0}}) == []
    for response in ({"timed_out": True}, {"_shards": {"failed": 1}}, {"status": 503, "error": {"type": "x"}}):
        with pytest.raises(BackendDown):
            lucene.read_hits(response)


def test_the_limit_on_clauses_is_read_from_the_refusal() -> None:
    reason = "failed to create query: Query contains too many nested clauses; maxClauseCount is set to 8192"
    assert lucene.clause_limit({"error": {"type": "x", "root_cause": [{"reason": reason}]}, "status": 400}) == 8192
    assert lucene.clause_limit({"error": {"type": "parsing_exception"}, "status": 400}) is None
    assert lucene.clause_limit({"hits": {}}) is None


def test_fetched_vectors_come_as_an_object_or_an_array_of_one() -> None:
    found = [{"fields": {"emb": [{"5": 0.5}]}}, {}, {"fields": {"emb": [{}]}}]
    assert lucene.from_wire(found, SPARSE) == SparseVectors.from_rows([{5: 0.5}, {}, {}], dimension=10)
    with pytest.raises(CollectionError, match="not dimensions"):
        lucene.from_wire([{"fields": {"emb": [{"hello": 0.5}]}}], SPARSE)


# ---- mappings


def test_a_new_index_on_elasticsearch_turns_pruning_off_and_remembers_its_dimension() -> None:
    created = lucene.version_created("elasticsearch", "9.5.3")
    assert lucene.new_index("emb", 64, created, shards=3, replicas=None) == {
        "settings": {"index.mapping.ignore_malformed": True, "index.number_of_shards": 3},
        "mappings": {
            "subobjects": False,
            "date_detection": False,
            "dynamic_templates": [
                {"string": {"match_mapping_type": "string", "mapping": {"type": "keyword", "ignore_above": 8191}}},
                {"long": {"match_mapping_type": "long", "mapping": {"type": "double"}}},
                {"double": {"match_mapping_type": "double", "mapping": {"type": "double"}}},
            ],
            "properties": {"emb": {"type": "sparse_vector", "index_options": {"prune": False}}},
            "_meta": {"sparsevec": {"emb": {"dimension": 64, "created": "index"}}},
        },
    }


@pytest.mark.parametrize(
    ("engine", "version", "mapping"),
    [
        ("elasticsearch", "9.5.3", {"type": "sparse_vector", "index_options": {"prune": False}}),
        ("elasticsearch", "9.1.0", {"type": "sparse_vector", "index_options": {"prune": False}}),
        ("elasticsearch", "9.0.4", {"type": "sparse_vector"}),
        ("elasticsearch", "8.19.0", {"type": "sparse_vector", "index_options": {"prune": False}}),
        ("elasticsearch", "8.18.2", {"type": "sparse_vector"}),
        ("elasticsearch", "8.11.0", {"type": "sparse_vector"}),
        ("elasticsearch", "8.10.4", {"type": "rank_features"}),
        ("elasticsearch", "7.17.29", {"type": "rank_features"}),
        ("opensearch", "3.8.0", {"type": "rank_features"}),
        ("opensearch", "1.3.0", {"type": "rank_features"}),
    ],
)
def test_the_mapping_is_what_the_version_has(engine: str, version: str, mapping: dict[str, Any]) -> None:
    properties = lucene.field_properties("emb", lucene.version_created(engine, version))
    assert properties["emb"] == mapping
    assert ("_sparsevec_emb" in properties) == (mapping["type"] == "rank_features")


def test_versions_without_a_linear_query_are_refused() -> None:
    with pytest.raises(BackendUnsupported, match=r"7\.12"):
        lucene.field_properties("emb", lucene.version_created("elasticsearch", "7.11.2"))
    with pytest.raises(BackendUnsupported, match="elasticsearch://"):
        lucene.version_created("opensearch", "8.19.21")


@pytest.mark.parametrize(
    ("created", "kind", "clause", "present"),
    [
        (ELASTICSEARCH_9, "sparse_vector", "term", "emb"),
        (ELASTICSEARCH_8, "rank_features", "term", "_sparsevec_emb"),
        (8_08_00_99, "rank_features", "term", "_sparsevec_emb"),
        (8_07_01_99, "rank_features", "linear", "_sparsevec_emb"),
        (7_17_29_99, "rank_features", "linear", "_sparsevec_emb"),
        (OPENSEARCH_3, "rank_features", "linear", "_sparsevec_emb"),
    ],
)
def test_the_query_is_what_the_version_of_the_index_has(created: int, kind: str, clause: str, present: str) -> None:
    found = lucene.read_field(index(created, properties={"emb": {"type": kind}}), "emb")
    assert found == Field("emb", kind, clause, present, None, None)


@pytest.mark.parametrize(
    ("created", "mapping", "words"),
    [
        (ELASTICSEARCH_9, {"type": "dense_vector"}, "dense_vector"),
        (ELASTICSEARCH_9, {"properties": {}}, "object"),
        (OPENSEARCH_3, {"type": "sparse_vector"}, "sparse_vector"),
        (7_17_29_99, {"type": "sparse_vector"}, "sparse_vector"),
        (ELASTICSEARCH_9, {"type": "rank_features", "positive_score_impact": False}, "positive_score_impact"),
    ],
)
def test_a_field_that_cannot_hold_our_vectors_is_refused(created: int, mapping: dict[str, Any], words: str) -> None:
    with pytest.raises(BackendUnsupported, match=words):
        lucene.read_field(index(created, properties={"emb": mapping}), "emb")


def test_a_dropped_field_is_not_there_and_other_notes_stay() -> None:
    mine = {"emb": {"dimension": 64, "created": "field"}, "other": {"dimension": 8, "created": "field"}}
    there = index(properties={"emb": {"type": "sparse_vector"}}, _meta={"team": "search", "sparsevec": mine})
    assert lucene.read_field(there, "emb") == Field("emb", "sparse_vector", "term", "emb", 64, "field")
    meta = lucene.noted(there, "emb", {"dimension": None, "created": "field"})
    assert meta["team"] == "search"
    assert meta["sparsevec"]["other"] == {"dimension": 8, "created": "field"}
    assert lucene.read_field(index(properties={"emb": {"type": "sparse_vector"}}, _meta=meta), "emb") is None


def test_a_name_must_stand_for_one_index() -> None:
    about: dict[str, Any] = {"mappings": {}, "settings": {}}
    assert lucene.read_index("alias", {"products-7": about}).name == "products-7"
    with pytest.raises(CollectionError, match="2 indices"):
        lucene.read_index("alias", {"a": about, "b": about})
    with pytest.raises(CollectionError, match="data stream"):
        lucene.read_index("logs", {".ds-logs-1": {**about, "data_stream": "logs"}})


def test_what_makes_every_write_fail_is_found_before() -> None:
    assert lucene.write_fault(index()) is None
    for block in ("read_only_allow_delete", "read_only", "write"):
        fault = lucene.write_fault(index(settings={f"index.blocks.{block}": "true"}))
        assert isinstance(fault, CollectionError)
        assert block in str(fault)
    assert isinstance(lucene.write_fault(index(_source={"enabled": False})), BackendUnsupported)


def test_new_fields_of_several_types_in_one_document_are_mapped_beforehand() -> None:
    payloads: list[dict[str, Any]] = [
        {"a": [1, "x"], "same": [1, 2.5, None], "o": {"b": [True, 1]}, "flat": 1},
        {"l": [{"c": "x"}, {"c": [[2]]}], "known": [1, "x"]},
    ]
    mapped = lucene.mixed_fields(payloads, index(properties={"known": {"type": "keyword"}}))
    assert list(mapped) == ["a", "l.c", "o.b"]
    assert mapped["a"] == {"type": "keyword", "ignore_above": 8191}
