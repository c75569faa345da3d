"""`InThreads`: an adapter of this machine, for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, Self

from sparsevec.contract.adapter import Adapter, AsyncAdapter, says_the_contract
from sparsevec.contract.checks import Id, Payload, Queries
from sparsevec.contract.filters import Where
from sparsevec.contract.results import Documents, Finding, Hits, Info, Missing, Page, Version, Written
from sparsevec.vectors import Float32s, SparseVectors, UInt8s

__all__ = ["InThreads"]


@says_the_contract
class InThreads:
    """An adapter of this machine (`reference:`, `local:`, `qdrant+edge:`) for asyncio: each call in a thread (C15).

    A call that is cancelled goes on in its thread to its end: nothing waits for it.
    """

    def __init__(self, adapter: Adapter) -> None:
        self._adapter = adapter

    async def info(self) -> Info:
        return await asyncio.to_thread(self._adapter.info)

    async def check(self) -> list[Finding]:
        return await asyncio.to_thread(self._adapter.check)

    async def create(self, dimension: int, *, fingerprint: str | None = None, code_bytes: int | None = None) -> None:
        await asyncio.to_thread(self._adapter.create, dimension, fingerprint=fingerprint, code_bytes=code_bytes)

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
        return await asyncio.to_thread(self._adapter.upsert, ids, vectors, payloads, **given)

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
        return await asyncio.to_thread(
            self._adapter.search,
            queries,
            k,
            where=where,
            with_payloads=with_payloads,
            with_vectors=with_vectors,
            with_codes=with_codes,
            rescore=rescore,
            candidates=candidates,
            after=after,
        )

    async def fetch(self, ids: Sequence[Id], *, dense: str | None = None) -> Documents:
        return await asyncio.to_thread(self._adapter.fetch, ids, dense=dense)

    async def matching(self, where: Where, most: int, *, dense: str | None = None) -> Documents | None:
        return await asyncio.to_thread(self._adapter.matching, where, most, dense=dense)

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
        asked: dict[str, Any] = {"vectors": vectors, "payloads": payloads, "codes": codes, "dense": dense}
        pages = self._adapter.scan(**asked, after=after, size=size, where=where)
        while (page := await asyncio.to_thread(next, pages, None)) is not None:
            yield page

    async def delete(self, ids: Sequence[Id] | None = None, *, where: Where | None = None) -> None:
        await asyncio.to_thread(self._adapter.delete, ids, where=where)

    async def count(self, where: Where | None = None) -> int:
        return await asyncio.to_thread(self._adapter.count, where)

    async def drop(self) -> None:
        await asyncio.to_thread(self._adapter.drop)

    async def close(self) -> None:
        await asyncio.to_thread(self._adapter.close)

    def stored(self, vectors: SparseVectors) -> SparseVectors:
        return self._adapter.stored(vectors)

    async def slack(self, vectors: SparseVectors) -> Float32s:
        return await asyncio.to_thread(self._adapter.slack, vectors)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<InThreads {self._adapter!r}>"


_async_contract: type[AsyncAdapter] = InThreads
