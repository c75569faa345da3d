"""Documents to the wire: the actions of a bulk request, and what became of them.

A document is one JSON document of the index: our vector in `field`, every other top-level field is payload. The vector
is always written as an array of one object, because a partial update merges objects but replaces arrays: it is the only
form that every version replaces without a script, and that keeps the other fields.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from sparsevec.contract.adapter import Failure, UInt8s, Version
from sparsevec.contract.checks import Id, Payload
from sparsevec.errors import BackendDown, InvalidInput
from sparsevec.vectors import SparseVectors

from .errors import error_type, failure, to_error
from .ids import id_fault, to_id
from .index import Field
from .text import to_json
from .weights import refusals, short

__all__ = [
    "BULK_PATHS",
    "Line",
    "bulk_items",
    "check_removed",
    "deletion",
    "lost_race",
    "lost_routing",
    "read_version",
    "removal",
    "rewriting",
    "to_lines",
    "went_to",
    "without",
]

Json = Mapping[str, Any]

BULK_PATHS = "items.*.status,items.*.result,items.*.error,items.*._index,items.*._seq_no"
_VERSION = re.compile(r"([0-9]{1,19})\.([1-9][0-9]{0,18})")
_SHARED = {"security_exception", "index_not_found_exception", "index_closed_exception", "cluster_block_exception"}
_REPLACE = (  # `doc` would merge objects; a document that has all of this already is left alone
    "boolean same = true; for (field in params.doc.entrySet()) { String name = field.getKey(); "
    "if (!ctx._source.containsKey(name) || ctx._source[name] != field.getValue()) "
    "{ ctx._source[name] = field.getValue(); same = false } } if (same) { ctx.op = 'none' }"
)
_REMOVE = (
    "boolean had = false; for (name in params.names) { if (ctx._source.containsKey(name)) "
    "{ ctx._source.remove(name); had = true } } if (!had) { ctx.op = 'none' }"
)


class Line(NamedTuple):
    """One document of a bulk request: `doc` is the JSON of its fields, `objects` those of them that are objects."""

    id: Id
    key: str
    doc: bytes
    objects: Payload
    version: Version | None = None
    routing: str | None = None

    def body(
        self, *, create: bool = False, twice: bool = False, routing: str | None = None, script: bool = False
    ) -> bytes:
        """Its update, which makes it where it is not there only when told to `create`.

        With a `script` objects replace what was there; without, they are merged with it: see `replaced`. Said `twice`,
        as the change and as what is made, it passes by a default pipeline, which runs over what is said once.
        """
        guard = {} if self.version is None else read_version(self.version)
        action = _update(self.key, routing or self.routing, guard)
        if script and self.objects:
            upsert = b',"scripted_upsert":true,"upsert":{}' if create else b""
            source = orjson.dumps(_REPLACE)
            change = b'{"script":{"lang":"painless","source":%b,"params":{"doc":%b}}%b}'
            return b"%b%b\n" % (action, change % (source, self.doc, upsert))
        made = b',"upsert":%b' % self.doc if twice else b',"doc_as_upsert":true'
        upsert = made if create else b""
        return b'%b{"doc":%b%b}\n' % (action, self.doc, upsert)

    def replaced(self, source: Json) -> Json | None:
        """`source` with its objects in place of what they were merged with; None where that changes nothing."""
        given = orjson.loads(self.doc)
        if all(source.get(name) == given[name] for name in self.objects):
            return None
        return {**source, **given}

    def creation(self, routing: str | None = None) -> bytes:
        """Its making, which the server refuses where it is there: 0.7 of the server's work of an update."""
        if routing is None and self.routing is None:
            return b'{"create":{"_id":%b}}\n%b\n' % (orjson.dumps(self.key), self.doc)
        action = {"create": {"_id": self.key, "routing": routing or self.routing}}
        return b"%b\n%b\n" % (orjson.dumps(action), self.doc)


def _update(key: str, routing: str | None = None, guard: Mapping[str, int] | None = None) -> bytes:
    action: dict[str, Any] = {"_id": key, **({} if routing is None else {"routing": routing})}
    action |= guard or {"retry_on_conflict": 3}
    return orjson.dumps({"update": action}) + b"\n"


def read_version(version: Version) -> dict[str, int]:
    """A version as `scan` gave it, "seq_no.primary_term", as a bulk request takes it. Raises InvalidInput."""
    read = _VERSION.fullmatch(version) if isinstance(version, str) else None
    if read is None or max(seq_no := int(read[1]), term := int(read[2])) >= 2**63:
        raise InvalidInput(f"expected versions as scan gives them, such as '17.1', found {version!r:.80}")
    return {"if_seq_no": seq_no, "if_primary_term": term}


def to_lines(
    ids: Sequence[Id],
    vectors: SparseVectors,
    payloads: Sequence[Payload],
    field: Field,
    *,
    ours: bool,
    hidden: Iterable[str] = (),
    versions: Sequence[Version | None] | None = None,
    routing: Sequence[str | None] | None = None,
    codes: UInt8s | None = None,
) -> tuple[list[Line], dict[Id, Failure]]:
    """The documents to send, and those that the backend would refuse. `hidden` fields cannot be payload."""
    sent: list[Line] = []
    failed: dict[Id, Failure] = {}
    refused = refusals(vectors)
    taken = {field.name, field.present, *hidden}
    before, behind = _around(field)
    packed = None if codes is None or field.packing is None else field.packing.packed(vectors)
    for row, (id_, vector, payload) in enumerate(zip(ids, to_json(short(vectors)), payloads, strict=True)):
        if fault := refused.get(row) or id_fault(id_, ours) or _payload_fault(payload, taken):
            failed[id_] = Failure(fault)
            continue
        objects = {name: value for name, value in payload.items() if isinstance(value, dict)}
        version, route = versions[row] if versions else None, routing[row] if routing else None
        code = b"" if codes is None else _bytes(field.code, codes[row], field.code_type)
        if packed is not None:
            records, holds = packed
            code += _bytes(field.weights, records[row] if holds[row] else None, field.weights_type)
        if codes is not None and field.key:
            code += b",%b:%b" % (orjson.dumps(field.key), orjson.dumps(to_id(id_, ours)))
        doc = b"".join((before, vector, behind, code, _fields(payload)))
        sent.append(Line(id_, to_id(id_, ours), doc, objects, version, route))
    return sent, failed


def _payload_fault(payload: Payload, taken: set[str]) -> str | None:
    if taken.isdisjoint(payload):
        return None
    names = taken & set(payload)
    return f"payload field {min(names)!r} is where the vectors live; rename it"


def _around(field: Field) -> tuple[bytes, bytes]:
    """What stands before the vector in every document, and behind it."""
    mark = b",%b:true" % orjson.dumps(field.present) if field.marked else b""
    return b"{%b:[" % orjson.dumps(field.name), b"]%b" % mark


def _bytes(name: str | None, value: UInt8s | None, kind: str) -> bytes:
    """A value (width,) of a field of that type; None takes away what was there."""
    if value is None:
        return b",%b:null" % orjson.dumps(name)
    text = value.tobytes().hex().encode() if kind == "dense_vector" else b64encode(value.tobytes())
    return b',%b:"%b"' % (orjson.dumps(name), text)


def _fields(payload: Payload) -> bytes:
    return b",%b" % orjson.dumps(dict(payload), default=dict)[1:] if payload else b"}"


def deletion(key: str, routing: str | None = None) -> bytes:
    return orjson.dumps({"delete": {"_id": key, **({} if routing is None else {"routing": routing})}}) + b"\n"


def removal(key: str, field: Field, routing: str | None = None, *, script: bool) -> bytes:
    """The update that takes our vector, and nothing else, out of a document: altogether where scripts are run, else
    it leaves an empty list."""
    names = field.names
    change: Json = {"doc": {name: None if name in field.values else [] for name in names}}
    if script:
        change = {"script": {"lang": "painless", "source": _REMOVE, "params": {"names": names}}}
    return b"%b%b\n" % (_update(key, routing), orjson.dumps(change))


def without(source: Json, field: Field) -> Json | None:
    """`source` without our vector; None where it has none."""
    if field.name not in source:
        return None
    return {name: value for name, value in source.items() if name not in {*field.names, field.present}}


def rewriting(hit: Json, source: Json) -> bytes:
    """The action that writes a document anew as `source`, unless it changed since it was found."""
    action = {"_id": hit["_id"], "if_seq_no": hit["_seq_no"], "if_primary_term": hit["_primary_term"]}
    if "_routing" in hit:
        action["routing"] = hit["_routing"]
    return b"%b\n%b\n" % (orjson.dumps({"index": action}), _as_read(source))


def _as_read(source: Json) -> bytes:
    """A document of others as `wire.parsed` read it, which also takes what orjson does not."""
    try:
        return orjson.dumps(source)
    except TypeError:
        return json.dumps(source).encode()


def bulk_items(answer: Any, expected: int) -> list[Json]:
    """What became of each action. Raises what every document shares, or BackendDown when one is not accounted for."""
    items = answer.get("items") if isinstance(answer, Mapping) else None
    if not isinstance(items, list) or len(items) != expected:
        found = len(items) if isinstance(items, list) else "none"
        raise BackendDown(f"{expected} actions were sent and {found} were answered for; which took effect is unknown")
    outcomes: list[Json] = [next(iter(item.values())) for item in items]
    for item in outcomes:
        if error_type(item) in _SHARED:
            raise to_error(item["status"], item)
    return outcomes


def lost_race(item: Json) -> bool:
    """Whether it met a mapping that another shard was just adding: the same action may succeed at once."""
    return item["status"] == 400 and error_type(item) == "illegal_argument_exception"


def lost_routing(item: Json) -> bool:
    """Whether a document was not found where its id alone says, so that it may have a routing of its own."""
    return (item["status"] == 404 and "error" not in item) or error_type(item) in (
        "document_missing_exception",
        "routing_missing_exception",
    )


def went_to(item: Json) -> str | None:
    """The index of a bulk item: of one refused for want of a routing, its error has that, the item the alias asked."""
    error = item.get("error")
    return (error.get("index") if isinstance(error, dict) else None) or item.get("_index")


def check_removed(items: Iterable[Json]) -> None:
    """Raises unless every document of `removal` or `deletion` is without our vector, or was not there: InvalidInput
    where the server has something against one of them."""
    for item in items:
        if item["status"] != 404 and not lost_routing(item) and (fault := failure(item)):
            if fault.retryable:
                raise BackendDown(fault.reason)
            if item["status"] == 400:
                raise InvalidInput(fault.reason)
            raise to_error(item["status"], item)
