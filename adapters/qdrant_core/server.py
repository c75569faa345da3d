"""What conversations with a Qdrant server have in common: one request, the collection as last read, the version."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sparsevec.contract.capabilities import Capabilities
from sparsevec.contract.checks import Id
from sparsevec.contract.operations import Operation
from sparsevec.errors import BackendUnsupported, CollectionError

from .collection import Collection, read
from .ids import Point, id_to_wire
from .requests import Request

__all__ = ["ADDS_VECTORS", "INSERTS_ONLY", "LOWEST", "REQUEST_BYTES", "Server", "parts"]

LOWEST = (1, 16)  # the lowest version supported: collections carry metadata
INSERTS_ONLY = (1, 17)
ADDS_VECTORS = (1, 18)
REQUEST_BYTES = 32 * 2**20  # the server's own limit, `service.max_request_size_mb`


class Server:
    """The sparse vector `vector` of the collection `name`. Several threads, or tasks, may run its conversations: what
    they share are three values that are replaced whole, never changed: the collection as last read, the server's
    version, and whether vectors without a fingerprint are in it."""

    def __init__(self, name: str, vector: str, *, backend: str = "qdrant", request_bytes: int = REQUEST_BYTES) -> None:
        """`request_bytes`: what the server, or a proxy before it, takes. `backend`: what it is called in reports."""
        self._name, self._vector, self._backend = name, vector, backend
        self._can = Capabilities(rescores=True, request_bytes=request_bytes, requests_at_once=4)
        self._request_bytes = request_bytes
        self._seen: Collection | None = None
        self._server: str | None = None
        self._foreign = False  # holds vectors without a fingerprint, so none is adopted any more

    # ---- requests

    def _ask(self, call: str, *, vector: str = "", **body: Any) -> Operation[Any]:
        """One request. What was read of the collection is forgotten when the server says that it is another now."""
        name = "" if call in ("info", "get_aliases", "get_collections") else self._name
        try:
            return (yield Request(call, name, body, vector))
        except CollectionError:
            self._seen = None
            raise

    def _look(self) -> Operation[Collection | None]:
        """The collection as it is now; None when there is none."""
        self._seen = None
        try:
            answer = yield from self._ask("get_collection")
        except CollectionError:
            return None
        self._seen = read(self._name, answer)
        return self._seen

    def _existing(self, *, anew: bool = False) -> Operation[Collection]:
        """The collection, with our vector in it. Raises CollectionError, BackendUnsupported for scores with IDF."""
        found = (None if anew else self._seen) or (yield from self._look())
        if found is None or self._vector not in found.sparse:
            self._seen = None
            if found is not None and self._vector in found.dense:
                raise CollectionError(
                    f"{self._vector!r} of collection {self._name} is a dense vector; choose another ?vector_name="
                )
            raise CollectionError(
                f"there is no collection {self._name} with a vector {self._vector!r} yet; create(dimension) makes it"
            )
        if (modifier := found.modifier(self._vector)) != "none":
            raise BackendUnsupported(
                f"the vector {self._vector!r} of collection {self._name} has modifier {modifier!r}: the server "
                "multiplies query weights by it, so its scores are no dot products; use a vector without it"
            )
        return found

    def _version(self, *, anew: bool = False) -> Operation[str]:
        if anew or self._server is None:
            self._server = str((yield from self._ask("info"))["version"])
        return self._server

    def _need(self, since: tuple[int, int], what: str) -> Operation[None]:
        version = yield from self._version(anew=True)
        if parts(version) < since:
            raise BackendUnsupported(f"Qdrant {version} is too old: {since[0]}.{since[1]} is expected for {what}")

    def _spelled(self, found: Collection, id_: Id) -> Point:
        return id_to_wire(id_, theirs=not found.ours)

    def _note(self, found: Collection) -> tuple[int | None, str | None]:
        """The dimension and the fingerprint of our vector, where `create` noted them."""
        note = found.note_of(self._vector)
        return (note.dimension, note.fingerprint) if note else (None, None)

    def _codes(self, found: Collection) -> tuple[str | None, int | None]:
        """The vector that residual codes lie in, and how wide they are, where `create` noted them."""
        note = found.note_of(self._vector)
        return (note.code, note.code_bytes) if note else (None, None)

    def _own(self, found: Collection) -> list[str]:
        """Every vector of a point that is ours."""
        code, _ = self._codes(found)
        return [self._vector, *([code] if code else [])]

    def _narrowed(self, clause: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """A filter for points with our vector that pass a clause."""
        return {"must": [{"has_vector": self._vector}, *([clause] if clause else [])]}

    def _holding_and(self, clause: Mapping[str, Any] | None = None) -> Operation[int]:
        """How many points with our vector the clause lets through."""
        return int((yield from self._ask("count", filter=self._narrowed(clause), exact=True))["count"])


def parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])
