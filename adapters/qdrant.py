"""`qdrant://HOST:PORT/COLLECTION?vector_name=sparse`: a Qdrant server, over REST or gRPC (qdrant-client).

A collection that `create` makes carries a note of ours in its metadata: the dimension and the vector's name. In one
that others made we add a sparse vector and write into that; their vectors, payload fields and settings stay as they
are, `delete` takes our vector off a document and leaves the document, and `drop` removes the vector only if `create`
added it.

Writes wait until they are applied, and only the status `completed` counts. Nothing is sent twice from here: retries are
`ingest`'s. Requests are sized before they are sent, because a server answers a body over its limit by closing the
connection, which looks like a network fault for ever.

Rounding. An index of datatype float32 keeps weights as they are. float16 and uint8 take effect when the server
optimises a segment, a moment that cannot be known, so `stored` is what was given and `slack` the largest change.
float16 rounds a weight w to the nearest float16: |w - float16(w)|. uint8 rounds each list of postings, which belongs to
one dimension of one segment, to 255 steps between its least and greatest weight: half a step, (max - min) / 510, and
the float32 arithmetic of finding the step and undoing it, 4 roundings of at most max |w|. A segment's range lies within
that of all documents; so judge all documents of a uint8 collection at once, not a part.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias
from uuid import UUID

import numpy as np

from sparsevec.contract.adapter import Adapter, Documents, Failure, Hits, Written
from sparsevec.contract.checks import Id, Payload, check_batch, check_dimension, check_ids, check_k
from sparsevec.contract.filters import Condition, Where, conditions
from sparsevec.contract.urls import Url
from sparsevec.errors import (
    AdapterError,
    BackendDown,
    BackendUnsupported,
    ClientMissing,
    CollectionError,
    InvalidInput,
    OutOfLimits,
    SparsevecError,
    StorageFailed,
)
from sparsevec.vectors import MAX_DIMENSION, Float32s, SparseVector, SparseVectors

from .qdrant_core.documents import (
    ORIGINAL,
    Test,
    has_null,
    id_from_wire,
    id_to_wire,
    paths,
    payload_from_wire,
    payload_to_wire,
    tests,
    vectors_from_wire,
)

try:
    import grpc
    import httpx
    from qdrant_client import QdrantClient, models
    from qdrant_client.common.client_exceptions import QdrantException, ResourceExhaustedResponse
    from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse
except ImportError as error:
    raise ClientMissing.extra("qdrant-client", "qdrant") from error

__all__ = ["QdrantAdapter"]

Point: TypeAlias = int | str | UUID  # Qdrant's own ids, as qdrant-client types them; UUIDs go as strings

_NOTE = "sparsevec"  # the key of ours in a collection's metadata
_METADATA_SINCE = (1, 16)
_NEW_VECTORS_SINCE = (1, 18)
_VARIANTS = {"": "http", "http": "http", "https": "https", "grpc": "http", "grpcs": "https"}
_OPTIONS = frozenset({"api_key", "auth_token_provider", "headers", "timeout", "verify"})
_REQUEST_BYTES = 32 * 2**20  # the server's own limit, `service.max_request_size_mb`
_WEIGHT_BYTES = 36  # of JSON: an index of at most 10 digits, a float64 of at most 24 characters, two commas
_POINT_BYTES = 1024  # of JSON around them: names, and the point twice when it is known already
_QUERIES = 64  # to a request
_FETCHED = 1000  # documents to a request
_LARGE_K = 10_000  # beyond it the server is asked for no more than it has


@dataclass(frozen=True, slots=True)
class _Collection:
    """What a server says of a collection that has our vector. `dimension` is None when others made it."""

    dimension: int | None
    datatype: str

    @property
    def is_ours(self) -> bool:
        return self.dimension is not None


class QdrantAdapter:
    """The sparse vector `vector_name` of one collection of the server behind `client`."""

    def __init__(
        self,
        client: QdrantClient,
        *,
        collection: str,
        vector_name: str = "sparse",
        max_request_bytes: int = _REQUEST_BYTES,
        owns_client: bool = False,
    ) -> None:
        """`owns_client`: `close` closes it too. `max_request_bytes`: what the server, or a proxy before it, takes."""
        self._client = client
        self._name = collection
        self._vector = vector_name
        self._max_request_bytes = max_request_bytes
        self._owns_client = owns_client
        self._closed = False
        self._seen: _Collection | None = None
        self._added = False  # our vector, to a collection of others, by this object

    @classmethod
    def connect(cls, url: Url, **credentials: Any) -> QdrantAdapter:
        """`timeout` (seconds, 60 when not given), `api_key`, `verify` (a CA file), ... are keyword arguments."""
        url.expect_options("vector_name")
        if unknown := sorted(set(credentials) - _OPTIONS):
            raise InvalidInput(f"a qdrant url takes the keyword arguments {sorted(_OPTIONS)}, found {unknown}")
        if url.variant == "memory":
            return cls(QdrantClient(":memory:"), collection=url.path or "sparsevec", owns_client=True)
        if url.variant not in _VARIANTS:
            raise InvalidInput(
                f"expected qdrant, qdrant+https, qdrant+grpc, qdrant+grpcs or qdrant+memory, found {url}"
            )
        if not url.host or not url.path:
            raise InvalidInput("a qdrant url names a server and a collection: qdrant://HOST:PORT/COLLECTION")
        with _client_errors():
            client = _client(url, {"timeout": 60, **credentials})
        return cls(client, collection=url.path, vector_name=url.option("vector_name", "sparse"), owns_client=True)

    @classmethod
    def from_client(cls, client: QdrantClient, *, collection: str, vector_name: str = "sparse") -> QdrantAdapter:
        """Around a client of the caller's, which stays the caller's to close."""
        return cls(client, collection=collection, vector_name=vector_name)

    @property
    def name(self) -> str:
        options = self._client.init_options
        local = bool(options.get("path")) or options.get("location") == ":memory:"
        return f"{'qdrant-client in local mode' if local else 'qdrant'} {self._version()}"

    @property
    def dimension(self) -> int | None:
        seen = self._look()
        return None if seen is None else seen.dimension

    def create(self, dimension: int) -> None:
        SparseVectors([0], [], [], dimension)  # refuses a dimension that vectors could not have
        if (found := self._info()) is None:
            self._need(_METADATA_SINCE, "collections that carry metadata")
            with self._errors():
                self._client.create_collection(
                    self._name,
                    vectors_config={},
                    sparse_vectors_config={self._vector: models.SparseVectorParams()},
                    metadata={_NOTE: {"dimension": dimension, "vector_name": self._vector}},
                )
            return
        if self._vector in _vector_names(found):
            raise CollectionError(
                f"collection {self._name} has a vector {self._vector!r} already; drop() it first, or use another name"
            )
        self._need(
            _NEW_VECTORS_SINCE,
            f"adding a vector to the collection {self._name}; until then make a new collection with both vectors, "
            "copy the points and switch an alias",
        )
        with self._errors():
            config = models.SparseVectorNameConfig(sparse=models.SparseVectorConfig())
            self._client.create_vector_name(self._name, self._vector, config)
        self._added = True

    def upsert(self, ids: Sequence[Id], vectors: SparseVectors, payloads: Sequence[Payload] | None = None) -> Written:
        collection = self._existing()
        ids, payloads = check_batch(ids, vectors, payloads, collection.dimension)
        sizes = [_size(id_, row, payload) for id_, row, payload in zip(ids, vectors, payloads, strict=True)]
        failed = {id_: f for id_, row, s in zip(ids, vectors, sizes, strict=True) if (f := self._fault(row, s))}
        sent = [i for i, id_ in enumerate(ids) if id_ not in failed]
        self._write([ids[i] for i in sent], vectors[sent], [payloads[i] for i in sent], sum(sizes[i] for i in sent))
        return Written(tuple(ids[i] for i in sent), failed=failed)

    def _fault(self, row: SparseVector, size: int) -> Failure | None:
        """Why the collection cannot hold a document of `size` bytes, if it cannot."""
        if size > self._max_request_bytes:
            return Failure(f"about {size} bytes of JSON, more than the {self._max_request_bytes} a request may have")
        largest = np.finfo(np.float16).max
        if self._existing().datatype == "float16" and np.any(over := np.abs(row.values) > largest):
            return Failure(f"weight {row.values[over][0]} in a float16 collection, which holds at most {largest}")
        return None

    def _write(self, ids: Sequence[Id], vectors: SparseVectors, payloads: Sequence[Payload], size: int) -> None:
        if size > self._max_request_bytes:
            raise OutOfLimits(
                f"{len(ids)} documents are about {size} bytes of JSON, more than the {self._max_request_bytes} that "
                "one request may have; send fewer at a time",
                splittable=True,
            )
        points = [_point(id_) for id_ in ids]
        if not points:
            return
        some_empty = bool((vectors.row_nnz == 0).any())
        known = self._known(points, with_payload=some_empty or any(map(has_null, payloads)), with_vectors=some_empty)
        operations = self._operations(known, points, ids, vectors, payloads)
        with self._errors():
            results = self._client.batch_update_points(self._name, operations, wait=True)
        self._require_completed(results)

    def _operations(
        self,
        known: Mapping[Point, models.Record],
        points: Sequence[Point],
        ids: Sequence[Id],
        vectors: SparseVectors,
        payloads: Sequence[Payload],
    ) -> list[models.UpdateOperation]:
        """New points whole; of known ones our vector and the fields given, because an upsert would wipe the rest.

        A known one whose vector becomes empty is sent whole with all that it has: over REST a server refuses to update
        a vector to an empty one.
        """
        new, old = [], []
        fields: list[models.UpdateOperation] = []
        for point, id_, row, payload in zip(points, ids, vectors, payloads, strict=True):
            vector: Any = {self._vector: _to_wire(row)}
            if point not in known:
                new.append(models.PointStruct(id=point, vector=vector, payload=payload_to_wire(id_, payload)))
                continue
            if not len(row):
                every = {**_every_vector(known[point]), **vector}
                new.append(models.PointStruct(id=point, vector=every, payload=_merged(known[point], payload)))
                continue
            old.append(models.PointVectors(id=point, vector=vector))
            if has_null(payload):
                whole = models.SetPayload(payload=_merged(known[point], payload), points=[point])
                fields.append(models.OverwritePayloadOperation(overwrite_payload=whole))
            elif payload:
                given = models.SetPayload(payload=dict(payload), points=[point])
                fields.append(models.SetPayloadOperation(set_payload=given))
        operations: list[models.UpdateOperation] = []
        if new:
            operations.append(models.UpsertOperation(upsert=models.PointsList(points=new)))
        if old:
            operations.append(models.UpdateVectorsOperation(update_vectors=models.UpdateVectors(points=old)))
        return operations + fields

    def search(
        self, queries: SparseVectors, k: int, *, where: Where | None = None, with_payloads: bool = False
    ) -> list[Hits]:
        check_k(k)
        check_dimension(queries, self._existing().dimension)
        wanted = _to_filter(conditions(where))
        limit = k if k <= _LARGE_K else max(1, min(k, self.count()))
        answers = [_no_hits(with_payloads)] * len(queries)
        asked = np.flatnonzero(queries.row_nnz)
        for start in range(0, len(asked), _QUERIES):
            block = asked[start : start + _QUERIES]
            requests = [
                models.QueryRequest(
                    query=_to_wire(query),
                    using=self._vector,
                    limit=limit,
                    filter=wanted,
                    with_payload=True if with_payloads else [ORIGINAL],
                )
                for query in queries[block]
            ]
            with self._errors():
                found = self._client.query_batch_points(self._name, requests)
            for row, answer in zip(block, found, strict=True):
                answers[row] = _from_wire(answer.points, with_payloads)
        return answers

    def fetch(self, ids: Sequence[Id]) -> Documents:
        dimension = self._existing().dimension or MAX_DIMENSION
        points = [_point(id_) for id_ in check_ids(ids)]
        found: dict[Point, models.Record] = {}
        for start in range(0, len(points), _FETCHED):
            with self._errors():
                records = self._client.retrieve(
                    self._name, points[start : start + _FETCHED], with_payload=True, with_vectors=[self._vector]
                )
            found |= {record.id: record for record in records if self._vector in _vectors(record)}
        present = [(id_, found[point]) for id_, point in zip(check_ids(ids), points, strict=True) if point in found]
        rows = [_vectors(record)[self._vector] for _, record in present]
        vectors = vectors_from_wire([(row.indices, row.values) for row in rows], dimension)
        payloads = tuple(payload_from_wire(record.payload) for _, record in present)
        return Documents(tuple(id_ for id_, _ in present), vectors, payloads)

    def delete(self, ids: Sequence[Id]) -> None:
        collection = self._existing()
        points = [_point(id_) for id_ in check_ids(ids)]
        if not collection.is_ours:
            points = list(self._known(points))  # an unknown one would be an error
        if not points:
            return
        with self._errors():
            if collection.is_ours:
                result = self._client.delete(self._name, points, wait=True)
            else:
                result = self._client.delete_vectors(self._name, [self._vector], points, wait=True)
        self._require_completed([result])

    def count(self) -> int:
        self._existing()
        holding = models.Filter(must=[models.HasVectorCondition(has_vector=self._vector)])
        with self._errors():
            return self._client.count(self._name, count_filter=holding, exact=True).count

    def drop(self) -> None:
        seen = self._look()
        if seen is None:
            return
        if not seen.is_ours and not self._added:
            raise CollectionError(
                f"collection {self._name} and its vector {self._vector!r} were not made here, so they are not dropped; "
                "if you mean it, call delete_vector_name or delete_collection of qdrant-client yourself"
            )
        with self._errors():
            if seen.is_ours:
                self._client.delete_collection(self._name)
            else:
                self._client.delete_vector_name(self._name, self._vector)
        self._seen, self._added = None, False

    def close(self) -> None:
        if self._owns_client and not self._closed:
            with _client_errors():
                self._client.close()
        self._closed = True

    def stored(self, vectors: SparseVectors) -> SparseVectors:
        return vectors

    def slack(self, vectors: SparseVectors) -> Float32s:
        seen = self._seen or self._look()
        return _SLACKS[seen.datatype if seen else "float32"](vectors)

    # ---- the server

    def _known(
        self, points: list[Point], *, with_payload: bool = False, with_vectors: bool = False
    ) -> dict[Point, models.Record]:
        """Those of `points` that are there, with as much as is asked for."""
        with self._errors():
            found = self._client.retrieve(self._name, points, with_payload=with_payload, with_vectors=with_vectors)
        return {record.id: record for record in found}

    def _require_completed(self, results: Sequence[models.UpdateResult]) -> None:
        if unfinished := {result.status.value for result in results} - {"completed"}:
            raise BackendDown(f"collection {self._name} took a write and has not applied it yet: {sorted(unfinished)}")

    def _existing(self) -> _Collection:
        if (seen := self._seen or self._look()) is None:
            raise CollectionError(
                f"there is no collection {self._name} with a vector {self._vector!r} yet; create(dimension) makes it"
            )
        return seen

    def _look(self) -> _Collection | None:
        """What the server says now; None when our vector is not there. Raises BackendUnsupported for IDF scores."""
        info = self._info()
        sparse = (info.config.params.sparse_vectors or {}) if info else {}
        self._seen = None
        if info is None or self._vector not in sparse:
            return None
        params = sparse[self._vector]
        if params.modifier not in (None, models.Modifier.NONE):
            raise BackendUnsupported(
                f"the vector {self._vector!r} of collection {self._name} has modifier {params.modifier.value!r}: the "
                "server multiplies query weights by it, so its scores are no dot products; use a vector without it"
            )
        datatype = (params.index and params.index.datatype) or models.Datatype.FLOAT32
        self._seen = _Collection(_noted_dimension(info, self._vector), datatype.value)
        return self._seen

    def _info(self) -> models.CollectionInfo | None:
        with self._errors():
            if not self._client.collection_exists(self._name):
                return None
            return self._client.get_collection(self._name)

    def _version(self) -> str:
        with self._errors():
            return self._client.info().version

    def _need(self, since: tuple[int, int], what: str) -> None:
        version = self._version()
        if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < since:
            raise BackendUnsupported(f"Qdrant {version} is too old: {since[0]}.{since[1]} is due for {what}")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        if self._closed:
            raise AdapterError(f"this adapter of collection {self._name} is closed; connect again")
        try:
            with _client_errors():
                yield
        except CollectionError:
            self._seen = None  # dropped or made again behind our back: look again
            raise


def _client(url: Url, options: Mapping[str, Any]) -> QdrantClient:
    over_grpc = url.variant.startswith("grpc")
    ports: dict[str, Any] = {"grpc_port": url.port or 6334} if over_grpc else {"port": url.port or 6333}
    return QdrantClient(
        host=url.host,
        https=_VARIANTS[url.variant] == "https",
        prefer_grpc=over_grpc,
        check_compatibility=False,
        **ports,
        **options,
    )


def _vector_names(info: models.CollectionInfo) -> set[str]:
    dense = info.config.params.vectors
    return {*(info.config.params.sparse_vectors or {}), *(dense if isinstance(dense, dict) else {})}


def _noted_dimension(info: models.CollectionInfo, vector_name: str) -> int | None:
    """The dimension, if `create` made the collection for this vector."""
    note = (info.config.metadata or {}).get(_NOTE, {})
    return int(note["dimension"]) if note.get("vector_name") == vector_name else None


# ---- rounding, see the module docstring


def _no_slack(vectors: SparseVectors) -> Float32s:
    return np.zeros(vectors.nnz, np.float32)


def _float16_slack(vectors: SparseVectors) -> Float32s:
    return np.abs(vectors.values - vectors.values.astype(np.float16).astype(np.float32))


def _uint8_slack(vectors: SparseVectors) -> Float32s:
    _, postings = np.unique(vectors.indices, return_inverse=True)
    least = np.full(postings.max(initial=-1) + 1, np.inf)
    greatest = -least
    np.minimum.at(least, postings, vectors.values)
    np.maximum.at(greatest, postings, vectors.values)
    largest = np.maximum(np.abs(least), np.abs(greatest))
    slack = (greatest - least) / 510 + 4 * 2.0**-24 * largest
    return np.where(greatest > least, slack, 0)[postings].astype(np.float32)


_SLACKS: Mapping[str, Callable[[SparseVectors], Float32s]] = {
    "float32": _no_slack,
    "float16": _float16_slack,
    "uint8": _uint8_slack,
}


# ---- to and from the client's types


def _point(id_: Id) -> Point:
    point = id_to_wire(id_)
    return str(point) if isinstance(point, UUID) else point


def _size(id_: Id, row: SparseVector, payload: Payload) -> int:
    """At most so many bytes of JSON, whether the document is new or not."""
    return len(row) * _WEIGHT_BYTES + len(json.dumps(payload_to_wire(id_, payload))) + _POINT_BYTES


def _to_wire(row: SparseVector) -> models.SparseVector:
    return models.SparseVector(indices=row.indices.tolist(), values=row.values.tolist())


def _to_filter(wanted: Sequence[Condition]) -> models.Filter | None:
    if not wanted:
        return None
    return models.Filter(must=[_any(condition) for condition in wanted])


def _any(condition: Condition) -> models.Filter:
    return models.Filter(should=[_field(path, test) for path in paths(condition.field) for test in tests(condition)])


def _field(path: str, test: Test) -> models.FieldCondition:
    if isinstance(test, tuple):
        return models.FieldCondition(key=path, match=models.MatchAny(any=list(test)))
    if isinstance(test, int):
        return models.FieldCondition(key=path, match=models.MatchValue(value=test))
    return models.FieldCondition(key=path, range=models.Range(**test))


def _no_hits(with_payloads: bool) -> Hits:
    return _from_wire([], with_payloads)


def _from_wire(points: Sequence[models.ScoredPoint], with_payloads: bool) -> Hits:
    ids = tuple(id_from_wire(point.id, point.payload) for point in points)
    payloads = tuple(payload_from_wire(point.payload) for point in points) if with_payloads else None
    return Hits(ids, np.array([point.score for point in points], np.float32), payloads)


def _vectors(record: models.Record) -> Mapping[str, Any]:
    return record.vector if isinstance(record.vector, dict) else {}


def _merged(record: models.Record, payload: Payload) -> dict[str, Any]:
    return {**(record.payload or {}), **payload}


def _every_vector(record: models.Record) -> Mapping[str, Any]:
    """The one without a name too, which comes alone when a point has no other."""
    return {"": record.vector} if isinstance(record.vector, list) else _vectors(record)


# ---- the client's errors


@contextmanager
def _client_errors() -> Iterator[None]:
    try:
        yield
    except SparsevecError:
        raise
    except ResourceExhaustedResponse as error:
        raise BackendDown(f"the server is overloaded: {error}", retry_after=error.retry_after_s) from error
    except QdrantException as error:  # 429 with a Retry-After that is no number of seconds
        raise BackendDown(f"the server is overloaded: {error}") from error
    except UnexpectedResponse as error:
        raise _by_status(error.status_code or 0, _reason(error)) from error
    except ResponseHandlingException as error:
        raise _by_transport(error.source) from error
    except json.JSONDecodeError as error:
        raise _by_transport(error) from error
    except grpc.RpcError as error:
        raise _by_code(error) from error
    except Exception as error:  # a refusal of the client itself: ValueError, RuntimeError, AssertionError, ...
        if "not found" in str(error):
            raise CollectionError(str(error)) from error
        raise AdapterError(f"qdrant-client refused: {error}") from error


def _reason(error: UnexpectedResponse) -> str:
    """The server's own words, or the beginning of whatever answered in its place."""
    try:
        return str(error.structured()["status"]["error"])
    except (ValueError, KeyError, TypeError):
        return f"{error.reason_phrase} {error.content[:200]!r}"


def _by_status(status: int, reason: str) -> SparsevecError:
    said = f"the server answered {status}: {reason}"
    if refused := _refusal(said):
        return refused
    if status in (408, 429, 500, 502, 503, 504):
        return BackendDown(said)
    if status == 507:
        return StorageFailed(f"{said}; what was reported as written is still there")
    if status == 413:
        return OutOfLimits(said, splittable=True)
    if status in (401, 403):
        return BackendUnsupported(f"{said}; pass an api_key= that may do this")
    if status in (404, 409):
        return CollectionError(said)
    return AdapterError(said)


def _refusal(said: str) -> SparsevecError | None:
    """What only the words tell apart."""
    if "CERTIFICATE_VERIFY_FAILED" in said:
        advice = "pass verify=PATH of its CA file; over gRPC set GRPC_DEFAULT_SSL_ROOTS_FILE_PATH to it as well"
        return BackendUnsupported(f"the server's certificate is not trusted: {said}; {advice}")
    if "No point with id" in said:  # deleted since it was looked up
        return BackendDown(f"{said}; it was deleted in the meantime, so send the write again")
    if "No space left" in said or "available disk space" in said:
        return StorageFailed(f"{said}; what was reported as written is still there")
    if re.search("payload has exceeded limit|larger than max|Limit exceeded .* for .upsert", said, re.IGNORECASE):
        return OutOfLimits(said, splittable=True)
    if "Limit exceeded" in said:
        return OutOfLimits(said)
    return None


def _by_transport(source: Exception) -> SparsevecError:
    if refused := _refusal(str(source)):
        return refused
    if isinstance(source, httpx.TransportError):
        return BackendDown(f"no answer from the server: {type(source).__name__} {source}")
    if isinstance(source, ValueError):  # not JSON, or not Qdrant's: the answer was lost on the way
        return BackendDown(f"the server's answer cannot be read: {source}")
    return AdapterError(f"the request could not be made: {source}")


_GRPC_STATUS = {
    "CANCELLED": 408,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 408,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "ABORTED": 503,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "UNAUTHENTICATED": 401,
}


def _by_code(error: grpc.RpcError) -> SparsevecError:
    """A gRPC status as the HTTP status that says the same."""
    code = error.code().name
    return _by_status(_GRPC_STATUS.get(code, 400), f"{code} {error.details()}")


_contract: type[Adapter] = QdrantAdapter
