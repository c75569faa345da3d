"""An index and our field in it, read from a literal `GET /index`: no server needed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sparsevec_adapters.lucene import mapping, versions
from sparsevec_adapters.lucene.claims import Claim
from sparsevec_adapters.lucene.index import Field, Index, field_properties, read_field, read_fields, read_target

from sparsevec.errors import BackendUnsupported, CollectionError

ELASTICSEARCH_8 = 8_537_000
ELASTICSEARCH_9 = 9_111_000
OPENSEARCH_3 = 137_297_827


def index(created: int = ELASTICSEARCH_8, settings: dict[str, str] | None = None, **mappings: Any) -> Index:
    return Index("products", mappings, {"index.version.created": str(created), **(settings or {})})


def test_a_new_index_on_elasticsearch_turns_pruning_off_and_remembers_its_dimension() -> None:
    created = versions.version_created("elasticsearch", "9.5.3")
    claim = Claim("emb", 64, "u", "index", "space-1", "_sparsevec_emb")
    assert mapping.new_index(claim, created, shards=3, replicas=None) == {
        "settings": {"index.mapping.ignore_malformed": True, "index.number_of_shards": 3},
        "mappings": {
            "subobjects": False,
            "date_detection": False,
            "dynamic_templates": [
                {"string": {"match_mapping_type": "string", "mapping": {"type": "keyword", "ignore_above": 8191}}},
                {"long": {"match_mapping_type": "long", "mapping": {"type": "double", "coerce": False}}},
                {"double": {"match_mapping_type": "double", "mapping": {"type": "double", "coerce": False}}},
            ],
            "properties": {
                "emb": {"type": "sparse_vector", "index_options": {"prune": False}},
                "_sparsevec_emb": {
                    "type": "keyword",
                    "null_value": '{"sparsevec":{"field":"emb","dimension":64,"identity":"u","made":"index",'
                    '"fingerprint":"space-1"}}',
                },
            },
        },
    }


@pytest.mark.parametrize(
    ("engine", "version", "mapped"),
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
def test_the_mapping_is_what_the_version_has(engine: str, version: str, mapped: dict[str, Any]) -> None:
    properties = field_properties("emb", versions.version_created(engine, version))
    assert properties == {"emb": mapped}


def test_versions_without_a_linear_query_are_refused() -> None:
    with pytest.raises(BackendUnsupported, match=r"7\.12"):
        field_properties("emb", versions.version_created("elasticsearch", "7.11.2"))
    with pytest.raises(BackendUnsupported, match="elasticsearch://"):
        versions.version_created("opensearch", "8.19.21")


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
    found = read_field(index(created, properties={"emb": {"type": kind}}), "emb")
    assert found == Field("emb", kind, clause, present)


@pytest.mark.parametrize(
    ("created", "mapped", "words"),
    [
        (ELASTICSEARCH_9, {"type": "dense_vector"}, "dense_vector"),
        (ELASTICSEARCH_9, {"properties": {}}, "object"),
        (OPENSEARCH_3, {"type": "sparse_vector"}, "sparse_vector"),
        (7_17_29_99, {"type": "sparse_vector"}, "sparse_vector"),
        (ELASTICSEARCH_9, {"type": "rank_features", "positive_score_impact": False}, "positive_score_impact"),
    ],
)
def test_a_field_that_cannot_hold_our_vectors_is_refused(created: int, mapped: dict[str, Any], words: str) -> None:
    with pytest.raises(BackendUnsupported, match=words):
        read_field(index(created, properties={"emb": mapped}), "emb")


def claims(*noted: Claim, **properties: Any) -> dict[str, Any]:
    return {**{claim.name: claim.mapping() for claim in noted}, **properties}


VECTOR = {"type": "sparse_vector"}
FIRST = Claim("emb", 64, "u1", "field", None, "_sparsevec_emb")


def test_a_claim_is_read_as_it_was_noted() -> None:
    there = index(properties=claims(FIRST, emb=VECTOR, n={"type": "long"}))
    assert there.claims == (FIRST,)
    assert (there.ours, there.hidden) == (False, ["_sparsevec_*", "emb"])
    assert read_field(there, "emb") == Field("emb", "sparse_vector", "term", "emb", FIRST)


def test_a_dropped_field_is_not_there_and_the_next_claim_has_another_name() -> None:
    properties = claims(FIRST, emb=VECTOR)
    properties |= FIRST.dropping()
    assert read_field(index(properties=properties), "emb") is None
    assert index(properties=properties).next_claim("emb") == "_sparsevec_emb~2"
    second = Claim("emb", 32, "u2", "field", "space", "_sparsevec_emb~2")
    again = read_field(index(properties={**properties, **claims(second)}), "emb")
    assert again is not None
    assert (again.dimension, again.fingerprint) == (32, "space")


def test_a_fingerprint_that_was_adopted_is_the_claims() -> None:
    properties = claims(FIRST, emb=VECTOR) | FIRST.adopting("space-7")
    found = read_field(index(properties=properties), "emb")
    assert found is not None
    assert found.fingerprint == "space-7"


def test_notes_of_others_are_no_claims() -> None:
    theirs = {"_sparsevec_x": {"type": "keyword", "null_value": "{"}, "_sparsevec_y": {"type": "keyword"}}
    theirs["_sparsevec_z"] = {"type": "keyword", "null_value": "[1]"}
    assert index(properties=theirs).claims == ()


def test_documents_belong_to_a_field_that_is_alone_in_an_index_of_ours() -> None:
    made, other = (
        Claim("emb", 8, "u", "index", None, "_sparsevec_emb"),
        Claim("b", 8, "v", "field", None, "_sparsevec_b"),
    )
    assert index(properties=claims(made)).belongs_to("emb")
    assert not index(properties=claims(made, other)).belongs_to("emb")
    assert not index(properties=claims(other)).belongs_to("b")
    assert index(properties=claims(made, other) | made.dropping()).belongs_to("b")


ABOUT: dict[str, Any] = {"mappings": {}, "settings": {}}


def test_a_name_stands_for_an_index_or_an_alias_with_a_place_to_write_to() -> None:
    def written(**aliases: Any) -> str | None:
        read = read_target("alias", {name: {**ABOUT, "aliases": {"alias": a}} for name, a in aliases.items()})
        return read.write.name if read.write else None

    assert read_target("products", {"products": ABOUT}).write is not None
    assert written(a={}) == "a"
    assert written(a={"is_write_index": False}) is None
    assert written(a={}, b={}) is None
    assert written(a={}, b={"is_write_index": True}) == "b"
    with pytest.raises(CollectionError, match="data stream"):
        read_target("logs", {".ds-logs-1": {**ABOUT, "data_stream": "logs"}})


def test_indices_of_one_alias_must_agree_about_the_field() -> None:
    def read(*dimensions: int | None) -> Field | None:
        answer = {
            str(i): {"mappings": {"properties": claims(replace(FIRST, dimension=d), emb=VECTOR) if d else {}}}
            for i, d in enumerate(dimensions)
        }
        return read_fields(read_target("alias", answer), "emb")

    assert read(None, None) is None
    assert (found := read(8, 8)) is not None
    assert found.dimension == 8
    with pytest.raises(CollectionError, match="differs"):
        read(8, 9)
    with pytest.raises(CollectionError, match="have no field"):
        read(8, None)


def test_new_fields_of_several_types_in_one_document_are_mapped_beforehand() -> None:
    payloads: list[dict[str, Any]] = [
        {"a": [1, "x"], "same": [1, 2.5, None], "o": {"b": [True, 1]}, "flat": 1},
        {"l": [{"c": "x"}, {"c": [[2]]}], "known": [1, "x"]},
    ]
    mapped = mapping.mixed_fields(payloads, index(properties={"known": {"type": "keyword"}}))
    assert list(mapped) == ["a", "l.c", "o.b"]
    assert mapped["a"] == {"type": "keyword", "ignore_above": 8191}
