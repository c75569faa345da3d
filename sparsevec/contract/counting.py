"""A search that is told in the same request whether its filter leaves few documents. Not every engine counts beside a
search; `Counts` is what those that do offer beside the contract, and `Retriever` uses it.

    adapter.matching_or_search(queries, 100, Search(where={"brand": "acme"}, with_vectors=True), 200)
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from sparsevec.contract.checks import Queries, check_k
from sparsevec.contract.operations import Operation
from sparsevec.contract.results import Documents, Hits
from sparsevec.contract.searches import Search

__all__ = ["AsyncCounts", "CountOperations", "Counts", "SyncCounts"]


@runtime_checkable
class Counts(Protocol):
    """What an adapter for threads offers whose engine counts beside a search; the twin for asyncio has the same to
    await."""

    def matching_or_search(
        self, queries: Queries, k: int, search: Search, most: int, *, dense: str | None = None
    ) -> Documents | list[Hits]:
        """What `matching` brings where `search.where` leaves at most `most` documents, else what the search finds.

        They are counted beside the first query, or as they are read where the last filter on these fields left few: one
        query is one request as long as such filters leave few, or many, and two where that changes. What is counted is
        what the engine lets through. Where a query finds fewer than k, that is judged by what it holds, in more
        requests: a filter that the engine does not decide is seen to leave few only there.
        Documents have no payload where the search asks for vectors and not for payloads.
        Raises what `matching` and `search` raise.
        """


class CountOperations(Protocol):
    """The conversation behind it."""

    def matching_or_search(
        self, queries: Queries, k: int, search: Search, most: int, dense: str | None
    ) -> Operation[Documents | list[Hits]]: ...


class SyncCounts:
    """`Counts` beside a SyncAdapter, over operations that are CountOperations too."""

    _operations: Any
    _run: Any

    def matching_or_search(
        self, queries: Queries, k: int, search: Search, most: int, *, dense: str | None = None
    ) -> Documents | list[Hits]:
        most = check_k(most, "most")
        found: Documents | list[Hits] = self._run(self._operations.matching_or_search(queries, k, search, most, dense))
        return found


class AsyncCounts:
    """The same beside an AsyncAdapterBase."""

    _operations: Any
    _run: Any

    async def matching_or_search(
        self, queries: Queries, k: int, search: Search, most: int, *, dense: str | None = None
    ) -> Documents | list[Hits]:
        most = check_k(most, "most")
        asking = self._operations.matching_or_search(queries, k, search, most, dense)
        found: Documents | list[Hits] = await self._run(asking)
        return found
