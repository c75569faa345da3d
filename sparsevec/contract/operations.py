"""What an adapter does, written once: `Operations`, a conversation for each clause; and the two adapters made of them.

`SyncAdapter` and `AsyncAdapterBase` turn a backend's `Operations` and a wire into the two contracts. What a
conversation is and how it is driven, `contract.conversation` says; `tests/unit/test_operations.py` has a whole backend.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Protocol, Self, TypeVar

from sparsevec.contract.adapter import says_the_contract
from sparsevec.contract.checks import Id, Payload, Queries, check_k, check_size, ids_or_where
from sparsevec.contract.connection import Connection
from sparsevec.contract.conversation import AsyncWire, Operation, Together, Wire, arun, run
from sparsevec.contract.filters import Where
from sparsevec.contract.in_threads import InThreads
from sparsevec.contract.results import Documents, Finding, Hits, Info, Missing, Page, Version, Written
from sparsevec.contract.searches import Search
from sparsevec.vectors import Float32s, SparseVectors, UInt8s

__all__ = [
    "AsyncAdapterBase",
    "AsyncWire",
    "Connection",
    "InThreads",
    "Operation",
    "Operations",
    "SyncAdapter",
    "Together",
    "Wire",
    "arun",
    "counted",
    "run",
]

Result = TypeVar("Result")


class Operations(Protocol):
    """What a backend does: a conversation for each clause, whose arguments and result are the contract's."""

    def info(self) -> Operation[Info]: ...

    def check(self) -> Operation[list[Finding]]: ...

    def create(self, dimension: int, fingerprint: str | None, code_bytes: int | None) -> Operation[None]: ...

    def upsert(
        self,
        ids: Sequence[Id],
        vectors: SparseVectors,
        payloads: Sequence[Payload] | None,
        *,
        versions: Sequence[Version | None] | None,
        routing: Sequence[str | None] | None,
        missing: Missing | None,
        codes: UInt8s | None,
    ) -> Operation[Written]: ...

    def search(self, queries: Queries, k: int, search: Search) -> Operation[list[Hits]]: ...

    def fetch(self, ids: Sequence[Id], dense: str | None) -> Operation[Documents]: ...

    def matching(self, where: Where, most: int, dense: str | None) -> Operation[Documents | None]: ...

    def page(
        self,
        *,
        vectors: bool,
        payloads: bool,
        dense: str | None,
        after: str | None,
        size: int,
        where: Where | None,
        codes: bool = False,
    ) -> Operation[Page]:
        """One page of a scan: the first, or the one behind `after`; perhaps empty, and more behind it."""

    def delete(self, ids: Sequence[Id]) -> Operation[None]: ...

    def count(self, where: Where | None) -> Operation[int]: ...

    def drop(self) -> Operation[None]: ...

    def slack(self, vectors: SparseVectors) -> Operation[Float32s]: ...

    def stored(self, vectors: SparseVectors) -> SparseVectors:
        """Pure, so not a conversation."""


@says_the_contract
class SyncAdapter(Connection):
    """The contract for threads over a backend's `operations` and a `wire`. A door adds `connect` and `from_client`."""

    def __init__(self, operations: Operations, wire: Wire[Any, Any], place: str, origin: str | None = None) -> None:
        super().__init__(place, origin)
        self._operations, self._wire = operations, wire

    def _run(self, operation: Operation[Result]) -> Result:
        self.check_open()
        return run(operation, self._wire.send)

    def info(self) -> Info:
        return self._run(self._operations.info())

    def check(self) -> list[Finding]:
        return self._run(self._operations.check())

    def create(self, dimension: int, *, fingerprint: str | None = None, code_bytes: int | None = None) -> None:
        self._run(self._operations.create(dimension, fingerprint, code_bytes))

    def upsert(
        self,
        ids: Sequence[Id],
        vectors: SparseVectors,
        payloads: Sequence[Payload] | None = None,
        *,
        versions: Sequence[Version | None] | None = None,
        routing: Sequence[str | None] | None = None,
        missing: Missing | None = None,
        codes: UInt8s | None = None,
    ) -> Written:
        given: dict[str, Any] = {"versions": versions, "routing": routing, "missing": missing, "codes": codes}
        return self._run(self._operations.upsert(ids, vectors, payloads, **given))

    def search(
        self,
        queries: Queries,
        k: int = 10,
        *,
        where: Where | None = None,
        with_payloads: bool = False,
        with_vectors: bool = False,
        with_codes: bool = False,
        rescore: Queries | None = None,
        candidates: int | None = None,
        after: str | None = None,
    ) -> list[Hits]:
        search = Search(where, with_payloads, with_vectors, with_codes, rescore, candidates, after)
        return self._run(self._operations.search(queries, k, search))

    def fetch(self, ids: Sequence[Id], *, dense: str | None = None) -> Documents:
        return self._run(self._operations.fetch(ids, dense))

    def matching(self, where: Where, most: int, *, dense: str | None = None) -> Documents | None:
        return self._run(self._operations.matching(where, check_k(most, "most"), dense))

    def scan(
        self,
        *,
        vectors: bool = False,
        payloads: bool = False,
        codes: bool = False,
        dense: str | None = None,
        after: str | None = None,
        size: int = 1000,
        where: Where | None = None,
    ) -> Iterator[Page]:
        size = check_size(size)
        while True:
            asked: dict[str, Any] = {"vectors": vectors, "payloads": payloads, "codes": codes, "dense": dense}
            page = self._run(self._operations.page(**asked, after=after, size=size, where=where))
            if len(page):
                yield page
            if (after := page.after) is None:
                return

    def delete(self, ids: Sequence[Id] | None = None, *, where: Where | None = None) -> None:
        self._run(_deleting(self._operations, ids, where))

    def count(self, where: Where | None = None) -> int:
        return self._run(self._operations.count(where))

    def drop(self) -> None:
        self._run(self._operations.drop())

    def close(self) -> None:
        if self._close_once():
            self._wire.close()

    def stored(self, vectors: SparseVectors) -> SparseVectors:
        return self._operations.stored(vectors)

    def slack(self, vectors: SparseVectors) -> Float32s:
        return self._run(self._operations.slack(vectors))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def counted(page: Callable[..., Operation[Page]], where: Where | None) -> Operation[int]:
    """How many documents with a vector of ours a scan brings, where the backend cannot count them itself."""
    asked: dict[str, Any] = {"vectors": False, "payloads": False, "dense": None, "size": _LOOKED_AT, "where": where}
    found = yield from page(after=None, **asked)
    many = len(found.held)
    while found.after is not None:
        found = yield from page(after=found.after, **asked)
        many += len(found.held)
    return many


def _deleting(operations: Operations, ids: Sequence[Id] | None, where: Where | None) -> Operation[None]:
    """Of these, or page by page of what a filter leaves."""
    if (given := ids_or_where(ids, where)) is not None:
        yield from operations.delete(given)
        return
    after: str | None = None
    while True:
        page = yield from operations.page(
            vectors=False, payloads=False, dense=None, after=after, size=_LOOKED_AT, where=where
        )
        yield from operations.delete(page.held)
        if (after := page.after) is None:
            return


_LOOKED_AT = 1000  # documents of one request


@says_the_contract
class AsyncAdapterBase(Connection):
    """The contract for asyncio over the same `operations`, and an asynchronous `wire`."""

    def __init__(
        self, operations: Operations, wire: AsyncWire[Any, Any], place: str, origin: str | None = None
    ) -> None:
        super().__init__(place, origin)
        self._operations, self._wire = operations, wire

    async def _run(self, operation: Operation[Result]) -> Result:
        self.check_open()
        return await arun(operation, self._wire.send)

    async def info(self) -> Info:
        return await self._run(self._operations.info())

    async def check(self) -> list[Finding]:
        return await self._run(self._operations.check())

    async def create(self, dimension: int, *, fingerprint: str | None = None, code_bytes: int | None = None) -> None:
        await self._run(self._operations.create(dimension, fingerprint, code_bytes))

    async def upsert(
        self,
        ids: Sequence[Id],
        vectors: SparseVectors,
        payloads: Sequence[Payload] | None = None,
        *,
        versions: Sequence[Version | None] | None = None,
        routing: Sequence[str | None] | None = None,
        missing: Missing | None = None,
        codes: UInt8s | None = None,
    ) -> Written:
        given: dict[str, Any] = {"versions": versions, "routing": routing, "missing": missing, "codes": codes}
        return await self._run(self._operations.upsert(ids, vectors, payloads, **given))

    async def search(
        self,
        queries: Queries,
        k: int = 10,
        *,
        where: Where | None = None,
        with_payloads: bool = False,
        with_vectors: bool = False,
        with_codes: bool = False,
        rescore: Queries | None = None,
        candidates: int | None = None,
        after: str | None = None,
    ) -> list[Hits]:
        search = Search(where, with_payloads, with_vectors, with_codes, rescore, candidates, after)
        return await self._run(self._operations.search(queries, k, search))

    async def fetch(self, ids: Sequence[Id], *, dense: str | None = None) -> Documents:
        return await self._run(self._operations.fetch(ids, dense))

    async def matching(self, where: Where, most: int, *, dense: str | None = None) -> Documents | None:
        return await self._run(self._operations.matching(where, check_k(most, "most"), dense))

    async def scan(
        self,
        *,
        vectors: bool = False,
        payloads: bool = False,
        codes: bool = False,
        dense: str | None = None,
        after: str | None = None,
        size: int = 1000,
        where: Where | None = None,
    ) -> AsyncIterator[Page]:
        size = check_size(size)
        while True:
            asked: dict[str, Any] = {"vectors": vectors, "payloads": payloads, "codes": codes, "dense": dense}
            page = await self._run(self._operations.page(**asked, after=after, size=size, where=where))
            if len(page):
                yield page
            if (after := page.after) is None:
                return

    async def delete(self, ids: Sequence[Id] | None = None, *, where: Where | None = None) -> None:
        await self._run(_deleting(self._operations, ids, where))

    async def count(self, where: Where | None = None) -> int:
        return await self._run(self._operations.count(where))

    async def drop(self) -> None:
        await self._run(self._operations.drop())

    async def close(self) -> None:
        if self._close_once():
            await self._wire.close()

    def stored(self, vectors: SparseVectors) -> SparseVectors:
        return self._operations.stored(vectors)

    async def slack(self, vectors: SparseVectors) -> Float32s:
        return await self._run(self._operations.slack(vectors))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()
