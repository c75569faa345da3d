"""Searches to the wire."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from sparsevec.errors import InvalidInput
from sparsevec.vectors import SparseVector

from .index import Field
from .text import numbers, row_to_json

__all__ = [
    "anyone_body",
    "bringing",
    "bringing_packed",
    "count_body",
    "fetch_body",
    "find_body",
    "holding",
    "msearch",
    "page_body",
    "query_clause",
    "reading_body",
    "search_body",
    "split",
]

Json = Mapping[str, Any]

HOLDS = "holds"  # the name of the clause that documents with a vector of ours match


def query_clause(query: SparseVector, field: Field, *, compact: bool = False) -> orjson.Fragment:
    """One boosted clause per weight, of which one must match; the same query in a quarter of the bytes where `compact`,
    for fields of type sparse_vector. Never pruned: only `sparse_vector` queries are, unless told not to."""
    if compact and field.type == "sparse_vector":
        form = b'{"sparse_vector":{"field":%b,"query_vector":%b,"prune":false}}'
        return orjson.Fragment(form % (orjson.dumps(field.name), row_to_json(query)))
    pairs = zip(numbers(query.indices), numbers(query.values), strict=True)
    if field.clause == "term":
        form = b'{"term":{%b:{"value":"%%b","boost":%%b}}}' % orjson.dumps(field.name).replace(b"%", b"%%")
    else:
        name = orjson.dumps(field.name)[1:-1].replace(b"%", b"%%")
        form = b'{"rank_feature":{"field":"%b.%%b","linear":{},"boost":%%b}}' % name
    clauses = b",".join([form % pair for pair in pairs])
    return orjson.Fragment(b'{"bool":{"should":[%b],"minimum_should_match":1}}' % clauses)


def search_body(
    clause: Any, filters: Sequence[Json], size: int, source: Any, brought: Json | None = None
) -> dict[str, Any]:
    """`brought`: what hits bring beside their `_source`, as `bringing` says it."""
    query = {"bool": {"must": [clause], "filter": filters}} if filters else clause
    body = {"query": query, "size": size, "_source": source, "track_total_hits": False, **(brought or {})}
    if "stored_fields" in body:
        del body["_source"]  # which the engine would find to contradict it
    return body


def bringing(field: Field, *, vectors: bool, codes: bool) -> dict[str, Any]:
    """What brings vectors, also where `_source` hides them (9.2 and later), and codes, from doc values: they need no
    `_source`, which would have to be unpacked for each hit."""
    return {
        **({"fields": [field.name]} if vectors else {}),
        **({"docvalue_fields": [_base64(field.code, field.code_type)]} if codes and field.code else {}),
    }


def bringing_packed(field: Field, *, codes: bool, keyed: bool) -> dict[str, Any]:
    """What brings packed weights, and codes, and the id where `keyed`, from doc values alone: no stored field of a hit
    is read."""
    wanted = [_base64(field.weights, field.weights_type), *([_base64(field.code, field.code_type)] if codes else [])]
    if not keyed:
        return {"docvalue_fields": wanted}
    return {"docvalue_fields": [*wanted, field.key], "stored_fields": "_none_"}


def _base64(name: str | None, kind: str) -> Any:
    return name if kind == "binary" else {"field": name, "format": "binary"}


def reading_body(body: Json, point: str, keep: str, size: int, place: Sequence[Any] | None) -> dict[str, Any]:
    """A page of a ranking, in a point in time; ties stand in the order of the shards."""
    return {
        **body,
        "pit": {"id": point, "keep_alive": keep},
        "sort": [{"_score": "desc"}, {"_shard_doc": "asc"}],
        "size": size,
        **({} if place is None else {"search_after": place}),
    }


def fetch_body(
    filters: Sequence[Json],
    field: Field,
    hidden: Sequence[str],
    size: int,
    dense: str | None = None,
    *,
    packed_by: orjson.Fragment | None = None,
    bare: bool = False,
) -> dict[str, Any]:
    """`fields` brings vectors also where `_source` hides them (9.2 and later); packed weights come in their place, and
    with them the score that a query has, `packed_by` which these are to be told. `bare`: without a payload."""
    query, fields = holding(filters, field), [] if dense is None else [dense]
    if packed_by is None:
        brought = bringing(field, vectors=False, codes=True) | {"fields": [field.name, *fields]}
    else:
        query["bool"]["should"] = [packed_by]
        brought = bringing_packed(field, codes=True, keyed=bare and field.key is not None)
        brought |= {"fields": fields} if fields else {}
    if "stored_fields" not in brought:
        brought["_source"] = False if bare else {"excludes": sorted({field.name, *hidden})}
    return {"query": query, "size": size, "track_total_hits": size + 1, **brought}


def count_body(filters: Sequence[Json], field: Field, most: int) -> dict[str, Any]:
    """How many documents with a vector of ours match, counted no further than `most` + 1."""
    return {"query": holding(filters, field), "size": 0, "track_total_hits": most + 1}


def anyone_body(field: Field) -> dict[str, Any]:
    """One document with a vector of ours, whichever: its `_index` says what was searched where nothing was found."""
    return {"query": holding([], field), "size": 1, "_source": False, "track_total_hits": False, "terminate_after": 1}


def holding(filters: Sequence[Json], field: Field) -> dict[str, Any]:
    """Documents with a vector of ours that pass the filters."""
    return {"bool": {"filter": [*filters, {"exists": {"field": field.present}}]}}


def find_body(keys: Sequence[str], size: int, source: Any = False) -> dict[str, Any]:
    """Where documents are (`_routing`), and in which version."""
    return {"query": {"ids": {"values": keys}}, "size": size, "_source": source, "seq_no_primary_term": True}


def page_body(
    point: str,
    keep: str,
    field: Field | None,
    after: Sequence[Any] | None,
    size: int,
    source: Any,
    vectors: bool,
    behind: int | None = None,
    *,
    codes: bool = False,
    filters: Sequence[Json] = (),
) -> dict[str, Any]:
    """One page of everything in a point in time, or of what was written `behind` a `_seq_no`, that passes the filters,
    in the order of the shards."""
    holds = [{"exists": {"field": field.present, "_name": HOLDS}}] if field else []
    every = {"match_all": {}} if behind is None else {"range": {"_seq_no": {"gt": behind}}}
    return {
        "pit": {"id": point, "keep_alive": keep},
        "query": {"bool": {"must": [every], "should": holds, **({"filter": filters} if filters else {})}},
        "sort": [{"_shard_doc": "asc"}],
        "size": size,
        "_source": source,
        "track_total_hits": False,
        "seq_no_primary_term": True,
        **(bringing(field, vectors=vectors, codes=codes) if field else {}),
        **({} if after is None else {"search_after": after}),
    }


def msearch(bodies: Iterable[Json]) -> bytes:
    """Raises InvalidInput for what is no JSON: an engine's own filter and words are sent as they were given."""
    try:
        return b"".join(b'{"allow_partial_search_results":false}\n%b\n' % orjson.dumps(body) for body in bodies)
    except orjson.JSONEncodeError as error:
        raise InvalidInput(
            f"this search cannot be sent as JSON ({error}); give words and filters of strings in valid unicode, "
            "numbers, True, False, None, lists and dicts"
        ) from None


def split(query: SparseVector, size: int) -> Iterator[SparseVector]:
    for start in range(0, len(query), size):
        yield SparseVector(query.indices[start : start + size], query.values[start : start + size])
