"""What Elasticsearch and OpenSearch share, as pure functions: both keep weights in Lucene's FeatureField.

A document is one JSON document of the index: our vector in `field`, every other top-level field is payload. The vector
is always written as an array of one object, because a partial update merges objects but replaces arrays: it is the only
form that every version replaces without a script, and that keeps the other fields.

String ids are the index's own `_id`s. The int 42 is `_id` "int:42"; a string of that very form is refused, so nothing
collides. Dimensions are feature names, in decimal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import orjson

from sparsevec.contract.adapter import Failure
from sparsevec.contract.checks import Id, Payload
from sparsevec.errors import AdapterError, BackendDown, BackendUnsupported, CollectionError, OutOfLimits
from sparsevec.vectors import MAX_DIMENSION, Float32s, SparseVector, SparseVectors

Json = Mapping[str, Any]

# ---- numbers

_MIN_NORMAL = np.finfo(np.float32).tiny


def stored(vectors: SparseVectors) -> SparseVectors:
    """`vectors` as FeatureField keeps them: 9 significant bits, the rest cut off (at most 0.390625 % too low).

    Weights that it refuses (`refusals`) stay as they are.
    """
    values = np.ascontiguousarray(vectors.values)
    cut = (values.view(np.uint32) >> 15 << 15).view(np.float32)
    return SparseVectors(
        vectors.indptr, vectors.indices, np.where(np.abs(values) < _MIN_NORMAL, values, cut), vectors.dimension
    )


def scores(query: SparseVector, documents: SparseVectors) -> Float32s:
    """The `_score` (n,) that Lucene gives each document, to the bit; 0 where nothing is shared.

    float32 products, added up in double, rounded once. The order of adding is Lucene's own; it shows (by 1 ulp) only
    where the weights of one document span more than some 2**29.
    """
    kept = stored(documents)
    at = np.minimum(np.searchsorted(query.indices, kept.indices), max(len(query) - 1, 0))
    shared = np.flatnonzero(query.indices[at] == kept.indices) if len(query) else np.empty(0, np.int64)
    products = query.values[at[shared]] * kept.values[shared]  # float32
    rows = np.repeat(np.arange(len(kept)), kept.row_nnz)[shared]
    return np.bincount(rows, products.astype(np.float64), minlength=len(kept)).astype(np.float32)


def refusals(vectors: SparseVectors) -> dict[int, str]:
    """Why FeatureField would refuse a row, by row number: it takes positive normal floats only."""
    bad = np.flatnonzero(vectors.values < _MIN_NORMAL)[::-1]  # the first of a row is the last to be set
    rows = np.searchsorted(vectors.indptr, bad, side="right") - 1
    return {
        int(row): f"weight {vectors.values[i]} at index {vectors.indices[i]} cannot be held: weights must be positive "
        f"and at least {_MIN_NORMAL:.8g}"
        for row, i in zip(rows, bad, strict=True)
    }


# ---- ids

_INT_ID = re.compile(r"int:(0|[1-9][0-9]{0,19})", re.ASCII)
_MAX_ID_BYTES = 512


def to_id(id_: Id) -> str:
    return id_ if isinstance(id_, str) else f"int:{id_}"


def from_id(text: str) -> Id:
    number = _int_id(text)
    return text if number is None else number


def id_fault(id_: Id) -> str | None:
    """Why this id cannot be an `_id`, or None."""
    if isinstance(id_, str) and _int_id(id_) is not None:
        return f"the string {id_!r} is the _id of the int {_int_id(id_)}; use the int, or another string"
    if (length := len(to_id(id_).encode())) > _MAX_ID_BYTES:
        return f"an _id has at most {_MAX_ID_BYTES} bytes, this one has {length}"
    return None


def _int_id(text: str) -> int | None:
    match = _INT_ID.fullmatch(text)
    number = int(match[1]) if match else 2**64
    return number if number < 2**64 else None


# ---- an index and its field

_OPENSEARCH = 0x08000000  # set in every index.version.created of OpenSearch
_SPARSE_VECTOR = 8_500_002  # the first index version with sparse_vector and `exists` on it: Elasticsearch 8.11
_TERM = 8_08_00_99  # `term` on rank_features
_LINEAR = 7_12_00_99  # `rank_feature` with `linear`
_SUBOBJECTS = 8_03_00_99  # `subobjects: false`
_UNPRUNED = ((8_535_000, 9_000_000), (9_031_000, _OPENSEARCH))  # sparse_vector is pruned unless its mapping says no
_RELEASES = (((9, 1), 9_031_000), ((9, 0), 9_000_000), ((8, 19), 8_535_000), ((8, 11), _SPARSE_VECTOR))
_OURS = "sparsevec"  # our key in the mapping's _meta
_TYPES = {  # of payload fields in an index of ours, by JSON type
    "string": {"type": "keyword", "ignore_above": 8191},  # longer ones would make Lucene refuse the whole document
    "long": {"type": "double"},  # the next value may have decimals
    "double": {"type": "double"},
}


@dataclass(frozen=True, slots=True)
class Index:
    """One concrete index, as `GET /index?flat_settings=true` describes it."""

    name: str
    mappings: Json
    settings: Json

    @property
    def created(self) -> int:
        """Serverless does not tell, and is never old."""
        return int(self.settings.get("index.version.created", _RELEASES[0][1]))

    @property
    def properties(self) -> Json:
        return self.mappings.get("properties", {})  # type: ignore[no-any-return]

    @property
    def window(self) -> int:
        """Most hits that one request may ask for."""
        return int(self.settings.get("index.max_result_window", 10_000))

    def note(self, field: str) -> Json:
        """What we wrote in `_meta` about our field: its `dimension` (None once dropped) and what we `created`."""
        return self.mappings.get("_meta", {}).get(_OURS, {}).get(field, {})  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Field:
    """Where our vectors live, how they are asked for, and which field `exists` finds documents with a vector by."""

    name: str
    type: str
    clause: str
    present: str
    dimension: int | None
    created: str | None  # "index", "field", or None when others made it

    @property
    def marked(self) -> bool:
        """rank_features have no `exists`, so every document of ours carries a marker beside them."""
        return self.present != self.name


def read_index(asked: str, answer: Json) -> Index:
    """The one index behind the name or alias `asked`. Raises CollectionError for several, or a data stream."""
    if len(answer) != 1:
        raise CollectionError(f"{asked!r} stands for {len(answer)} indices, {sorted(answer)}; name one of them")
    ((name, about),) = answer.items()
    if "data_stream" in about:
        raise CollectionError(f"{asked!r} is a data stream, whose documents cannot be updated; use an index")
    return Index(name, about.get("mappings", {}), about.get("settings", {}))


def read_field(index: Index, field: str) -> Field | None:
    """Our field in that index; None when it is not there, or was dropped. Raises BackendUnsupported, saying why."""
    about, note = index.properties.get(field), index.note(field)
    if about is None or (note and note["dimension"] is None):
        return None
    kind = about.get("type", "object")
    if kind != "rank_features" and not (kind == "sparse_vector" and _SPARSE_VECTOR <= index.created < _OPENSEARCH):
        raise BackendUnsupported(
            f"field {field!r} of index {index.name!r} is of type {kind}; sparse_vector (Elasticsearch 8.11 and later) "
            f"or rank_features is due: name another field"
        )
    if about.get("positive_score_impact") in (False, "false"):
        raise BackendUnsupported(
            f"field {field!r} of index {index.name!r} has positive_score_impact: false, which keeps 1/weight; "
            f"name a field without it"
        )
    present = field if kind == "sparse_vector" else marker(field)
    return Field(field, kind, _clause(kind, index.created), present, note.get("dimension"), note.get("created"))


def _clause(kind: str, created: int) -> str:
    return "term" if kind == "sparse_vector" or _TERM <= created < _OPENSEARCH else "linear"


def marker(field: str) -> str:
    return f"_sparsevec_{field}"


def source_fault(index: Index) -> AdapterError | None:
    """Why documents can be neither updated, fetched nor filtered, or None."""
    if index.mappings.get("_source", {}).get("enabled", True) in (False, "false"):
        return BackendUnsupported(
            f"index {index.name!r} keeps no _source, which updates, filters and payloads are made from; "
            f"search without them, or make the index again with _source"
        )
    return None


def write_fault(index: Index) -> AdapterError | None:
    """What makes every write to that index fail, or None."""
    if fault := source_fault(index):
        return fault
    for block in ("read_only_allow_delete", "read_only", "write"):
        if index.settings.get(f"index.blocks.{block}") == "true":
            return CollectionError(
                f"index {index.name!r} is read-only (index.blocks.{block}; a full disk sets read_only_allow_delete); "
                f'free space, then lift it with PUT /{index.name}/_settings {{"index.blocks.{block}": null}}'
            )
    return None


def version_created(engine: str, version: str) -> int:
    """The `index.version.created` that this server gives an index, as far as it matters. Raises BackendUnsupported."""
    major, minor = release = tuple(int(part) for part in version.split(".")[:2])
    plain = major * 1_000_000 + minor * 10_000 + 99
    if engine == "opensearch" and major >= 7:
        raise BackendUnsupported(f"the server is Elasticsearch {version}; use elasticsearch://")
    if engine == "opensearch":
        return _OPENSEARCH ^ plain
    return next((created for since, created in _RELEASES if release >= since), plain)


def field_properties(field: str, created: int) -> dict[str, Any]:
    """The mapping of our field, and of its marker, in an index of that version. Raises BackendUnsupported."""
    if created < _LINEAR:
        raise BackendUnsupported(
            "the index was created before Elasticsearch 7.12, which has no linear rank_feature query"
        )
    if not _SPARSE_VECTOR <= created < _OPENSEARCH:
        return {field: {"type": "rank_features"}, marker(field): {"type": "boolean"}}
    unpruned = any(first <= created < end for first, end in _UNPRUNED)
    return {field: {"type": "sparse_vector", **({"index_options": {"prune": False}} if unpruned else {})}}


def new_index(field: str, dimension: int, created: int, *, shards: int | None, replicas: int | None) -> dict[str, Any]:
    """The body that makes an index of ours on a server of that version.

    Values of mixed types in one field are kept, not refused: `subobjects: false` lets a field be an object here and a
    scalar there, and where it is not known objects are kept without being indexed.
    """
    sizes = {"index.number_of_shards": shards, "index.number_of_replicas": replicas}
    flat = _SUBOBJECTS <= created < _OPENSEARCH
    types = _TYPES if flat else {**_TYPES, "object": {"type": "object", "enabled": False}}
    return {
        "settings": {"index.mapping.ignore_malformed": True, **{k: v for k, v in sizes.items() if v is not None}},
        "mappings": {
            **({"subobjects": False} if flat else {}),
            "date_detection": False,
            "dynamic_templates": [{t: {"match_mapping_type": t, "mapping": mapping}} for t, mapping in types.items()],
            "properties": field_properties(field, created),
            "_meta": {_OURS: {field: {"dimension": dimension, "created": "index"}}},
        },
    }


def mixed_fields(payloads: Iterable[Payload], index: Index) -> dict[str, Any]:
    """The mapping of fields that are new to an index of ours, and of several JSON types within one document.

    A document cannot map a field that it needs as two types at once, but it may hold both when the field is there.
    """
    new: set[str] = set()
    for payload in payloads:
        if any(isinstance(value, (dict, Mapping, list, tuple)) for value in payload.values()):
            kinds: dict[str, set[type]] = {}
            _note_kinds(payload, "", kinds)
            new |= {path for path, found in kinds.items() if len(found) > 1}
    return dict.fromkeys(sorted(new - set(index.properties)), _TYPES["string"])


def _note_kinds(value: object, path: str, kinds: dict[str, set[type]]) -> None:
    if isinstance(value, (dict, Mapping)):
        for key, inner in value.items():
            _note_kinds(inner, f"{path}.{key}" if path else key, kinds)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            _note_kinds(inner, path, kinds)
    elif value is not None:
        kind = next(kind for kind in (bool, int, float, str) if isinstance(value, kind))
        kinds.setdefault(path, set()).add(float if kind is int else kind)


def noted(index: Index, field: str, note: Json) -> dict[str, Any]:
    """The `_meta` to put, with our note on `field` in it: a put replaces the whole of it."""
    meta = index.mappings.get("_meta", {})
    return {**meta, _OURS: {**meta.get(_OURS, {}), field: note}}


# ---- documents to the wire

_RETRYABLE = {409, 429, 502, 503, 504}
_SHARED = {"security_exception", "index_not_found_exception", "index_closed_exception", "cluster_block_exception"}


@dataclass(frozen=True, slots=True)
class Line:
    """One document of a bulk request, as it goes over the wire; `objects` are its payload fields that hold objects."""

    id: Id
    body: bytes
    objects: Payload


def weights(vectors: SparseVectors) -> list[bytes]:
    """Each row as a JSON object, `{"5":0.3,"7":1.5}`: float32 in the shortest decimals that read back the same."""
    pairs = [b'"%b":%b' % pair for pair in zip(_numbers(vectors.indices), _numbers(vectors.values), strict=True)]
    bounds = vectors.indptr.tolist()
    return [b"{%b}" % b",".join(pairs[start:end]) for start, end in pairwise(bounds)]


def _numbers(array: np.ndarray[Any, Any]) -> list[bytes]:
    return (
        orjson.dumps(np.ascontiguousarray(array), option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")
        if len(array)
        else []
    )


def to_line(id_: Id, vector: bytes, payload: Payload, field: Field) -> Line | str:
    """The update, or insert, of one document; or why it cannot be sent."""
    if fault := id_fault(id_):
        return fault
    if taken := {field.name, field.present} & set(payload):
        return f"payload field {min(taken)!r} is where the vectors live; rename it"
    ours = b"%b:[%b]" % (orjson.dumps(field.name), vector)
    if field.marked:
        ours += b",%b:true" % orjson.dumps(field.present)
    if payload:
        ours += b"," + orjson.dumps(dict(payload), default=dict)[1:-1]
    objects = {name: value for name, value in payload.items() if isinstance(value, (dict, Mapping))}
    return Line(id_, b'%b{"doc":{%b},"doc_as_upsert":true}\n' % (_action(to_id(id_)), ours), objects)


def replacement(line: Line) -> bytes:
    """Two updates that replace the objects of a document, which the first one merged with what was there."""
    emptied = orjson.dumps({"doc": {name: [] for name in line.objects}})
    filled = orjson.dumps({"doc": line.objects}, default=dict)
    action = _action(to_id(line.id))
    return b"%b%b\n%b%b\n" % (action, emptied, action, filled)


def _action(id_: str) -> bytes:
    return orjson.dumps({"update": {"_id": id_, "retry_on_conflict": 3}}) + b"\n"


def removals(ids: Iterable[str], field: Field) -> bytes:
    """A bulk body that takes our vector, and nothing else, out of documents."""
    gone = orjson.dumps({"doc": {field.name: [], **({field.present: []} if field.marked else {})}})
    return b"".join(b"%b%b\n" % (_action(id_), gone) for id_ in ids)


def deletions(ids: Iterable[str]) -> bytes:
    return b"".join(orjson.dumps({"delete": {"_id": id_}}) + b"\n" for id_ in ids)


def bulk_items(answer: Any, due: int) -> list[Json]:
    """What became of each action. Raises what every document shares, or BackendDown when one is not accounted for."""
    items = answer.get("items") if isinstance(answer, Mapping) else None
    if not isinstance(items, list) or len(items) != due:
        found = len(items) if isinstance(items, list) else "none"
        raise BackendDown(f"{due} actions were sent and {found} were answered for; which took effect is unknown")
    outcomes: list[Json] = [next(iter(item.values())) for item in items]
    for item in outcomes:
        if read_error(item)[0] in _SHARED:
            raise to_error(item["status"], item)
    return outcomes


def failure(item: Json) -> Failure | None:
    """Why an action did not take effect, or None."""
    if item["status"] < 300:
        return None
    kind, reason = read_error(item)
    return Failure(f"{kind}: {reason}", item["status"] in _RETRYABLE)


def lost_race(item: Json) -> bool:
    """Whether it met a mapping that another shard was just adding: the same action may succeed at once."""
    return item["status"] == 400 and read_error(item)[0] == "illegal_argument_exception"


def check_removed(items: Iterable[Json]) -> None:
    """Raises unless every document of `removals` or `deletions` is gone, or was not there."""
    for item in items:
        if item["status"] != 404 and (fault := failure(item)):
            raise BackendDown(fault.reason) if fault.retryable else to_error(item["status"], item)


# ---- queries to the wire, hits from it

BULK_PATHS = "items.*.status,items.*.result,items.*.error"
SEARCH_PATHS = (
    "responses.status,responses.error,responses.timed_out,responses._shards.failed,responses.hits.hits._id,"
    "responses.hits.hits._score,responses.hits.hits._source,responses.hits.hits.fields"
)


def query_clause(query: SparseVector, field: Field) -> orjson.Fragment:
    """One boosted clause per weight, of which one must match. Never pruned: only `sparse_vector` queries are."""
    pairs = zip(_numbers(query.indices), _numbers(query.values), strict=True)
    if field.clause == "term":
        form = b'{"term":{%b:{"value":"%%b","boost":%%b}}}' % orjson.dumps(field.name).replace(b"%", b"%%")
    else:
        name = orjson.dumps(field.name)[1:-1].replace(b"%", b"%%")
        form = b'{"rank_feature":{"field":"%b.%%b","linear":{},"boost":%%b}}' % name
    clauses = b",".join([form % pair for pair in pairs])
    return orjson.Fragment(b'{"bool":{"should":[%b],"minimum_should_match":1}}' % clauses)


def fetch_body(ids: Sequence[str], field: Field) -> dict[str, Any]:
    """`fields` brings vectors also where `_source` hides them (9.2 and later)."""
    filters = [{"ids": {"values": ids}}, {"exists": {"field": field.present}}]
    source = {"excludes": [field.name, field.present]}
    return {"query": {"bool": {"filter": filters}}, "size": len(ids), "_source": source, "fields": [field.name]}


def search_body(clause: Any, filters: Sequence[Json], size: int, source: Any) -> dict[str, Any]:
    query = {"bool": {"must": [clause], "filter": filters}} if filters else clause
    return {"query": query, "size": size, "_source": source, "track_total_hits": False}


def msearch(bodies: Iterable[Json]) -> bytes:
    return b"".join(b'{"allow_partial_search_results":false}\n%b\n' % orjson.dumps(body) for body in bodies)


def read_hits(response: Json) -> list[Json]:
    """The hits of one search. Raises when the answer is an error, or not of all shards."""
    if "error" in response:
        raise to_error(response.get("status", 500), response)
    if response.get("timed_out") or response.get("_shards", {}).get("failed"):
        raise BackendDown("some shards did not answer in time, or failed; the answer would not have been complete")
    return response.get("hits", {}).get("hits", [])  # type: ignore[no-any-return]


def clause_limit(answer: Json) -> int | None:
    """The number of clauses that the server takes, when this answer says that they were too many."""
    found = re.search(rb"maxClauseCount is set to (\d+)", orjson.dumps(answer["error"])) if "error" in answer else None
    return int(found[1]) if found else None


def split(query: SparseVector, size: int) -> Iterator[SparseVector]:
    for start in range(0, len(query), size):
        yield SparseVector(query.indices[start : start + size], query.values[start : start + size])


def from_wire(found: Sequence[Json], field: Field) -> SparseVectors:
    """The vectors of hits asked for with `fields`. Raises CollectionError for features that are not dimensions."""
    objects = [hit.get("fields", {}).get(field.name) or [{}] for hit in found]
    try:
        rows = [{int(token): weight for token, weight in parts[0].items()} for parts in objects]
    except ValueError as error:
        raise CollectionError(
            f"field {field.name!r} holds features that are not dimensions in decimal ({error}); others wrote it"
        ) from None
    return SparseVectors.from_rows(rows, dimension=field.dimension or MAX_DIMENSION)


# ---- errors


def read_error(answer: Any) -> tuple[str, str]:
    """The type and the reason of an error, with the cause that the server found."""
    error = answer.get("error") if isinstance(answer, Mapping) else None
    if not isinstance(error, Mapping):
        return "error", f"{error or answer}"[:300]
    cause = error.get("caused_by") or next(iter(error.get("root_cause") or [{}]))
    reason, because = f"{error.get('reason')}", f"{cause.get('reason') or ''}"
    return f"{error.get('type')}", reason if not because or because in reason else f"{reason}: {because}"


def to_error(status: int, answer: Any, retry_after: float | None = None) -> AdapterError:
    """Our error for an answer of that HTTP status."""
    kind, reason = read_error(answer)
    said = f"{kind}: {reason}"
    if status == 413:
        return OutOfLimits(f"the request was too large ({said}); send fewer documents at once", splittable=True)
    if kind == "cluster_block_exception" and status in (403, 429):
        return CollectionError(f"{reason} free disk space, then lift the block with PUT INDEX/_settings")
    if status in (408, 429) or status >= 500:
        return BackendDown(f"the backend answered {status} ({said})", retry_after=retry_after)
    if status == 401:
        return BackendUnsupported(
            f"the credentials are missing or wrong ({said}); pass api_key=, basic_auth= or bearer_auth="
        )
    if status == 403:
        return BackendUnsupported(f"the credentials lack a privilege ({said})")
    if kind == "index_not_found_exception":
        return CollectionError(f"the index is not there ({reason}); create(dimension) makes it")
    if kind in ("resource_already_exists_exception", "index_closed_exception"):
        return CollectionError(said)
    if kind == "media_type_header_exception":
        return BackendUnsupported(
            f"the server does not speak the API of Elasticsearch 8, which versions 7.14 to 9 do ({reason}); "
            f"a newer sparsevec may"
        )
    return BackendUnsupported(f"the backend answered {status} ({said})")
