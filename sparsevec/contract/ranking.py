"""Rankings that an engine makes by itself, beside ours: of its text fields, and of its dense rows. Not every backend
has both; `Ranks` is what those that do offer beside the contract, and `Retriever` uses it.

    adapter.by_text(["parse json fast"], 100, field="text", where={"brand": "acme"})
    adapter.nearest(rows, 10, dense="emb", among=[hits.ids for hits in found])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from sparsevec.contract.adapter import Hits
from sparsevec.contract.checks import Id
from sparsevec.contract.filters import Where
from sparsevec.contract.operations import Operation
from sparsevec.vectors import Float32s

__all__ = ["AsyncRanks", "RankOperations", "Ranks", "SyncRanks"]


@runtime_checkable
class Ranks(Protocol):
    """What an adapter for threads offers whose engine ranks by itself; the twin for asyncio has the same to await."""

    def nearest(
        self,
        rows: Float32s,
        k: int,
        *,
        dense: str,
        among: Sequence[Sequence[Id]] | None = None,
        where: Where | None = None,
        with_payloads: bool = False,
    ) -> list[Hits]:
        """The k documents of each of rows (q, d) whose dense row, in the declared field `dense`, is nearest to it.

        `among` those ids of each query: exactly. Else by the engine's own index, which is approximate as a rule. Scores
        are the engine's, where more is better: of a distance, its negative. Raises BackendUnsupported where it cannot
        do that, InvalidInput for a field that is not declared to hold dense rows.
        """

    def by_text(
        self, texts: Sequence[str], k: int, *, field: str, where: Where | None = None, with_payloads: bool = False
    ) -> list[Hits]:
        """The k documents of each text by the engine's own ranking of the text field, with its scores, as a rule BM25.

        Raises BackendUnsupported where the engine ranks no text.
        """


class RankOperations(Protocol):
    """The conversations behind it."""

    def nearest(
        self,
        rows: Float32s,
        k: int,
        dense: str,
        among: Sequence[Sequence[Id]] | None,
        where: Where | None,
        with_payloads: bool,
    ) -> Operation[list[Hits]]: ...

    def by_text(
        self, texts: Sequence[str], k: int, field: str, where: Where | None, with_payloads: bool
    ) -> Operation[list[Hits]]: ...


class SyncRanks:
    """`Ranks` beside a SyncAdapter, over operations that are RankOperations too."""

    _operations: Any
    _run: Any

    def nearest(
        self,
        rows: Float32s,
        k: int,
        *,
        dense: str,
        among: Sequence[Sequence[Id]] | None = None,
        where: Where | None = None,
        with_payloads: bool = False,
    ) -> list[Hits]:
        found: list[Hits] = self._run(self._operations.nearest(rows, k, dense, among, where, with_payloads))
        return found

    def by_text(
        self, texts: Sequence[str], k: int, *, field: str, where: Where | None = None, with_payloads: bool = False
    ) -> list[Hits]:
        found: list[Hits] = self._run(self._operations.by_text(texts, k, field, where, with_payloads))
        return found


class AsyncRanks:
    """The same beside an AsyncAdapterBase."""

    _operations: Any
    _run: Any

    async def nearest(
        self,
        rows: Float32s,
        k: int,
        *,
        dense: str,
        among: Sequence[Sequence[Id]] | None = None,
        where: Where | None = None,
        with_payloads: bool = False,
    ) -> list[Hits]:
        found: list[Hits] = await self._run(self._operations.nearest(rows, k, dense, among, where, with_payloads))
        return found

    async def by_text(
        self, texts: Sequence[str], k: int, *, field: str, where: Where | None = None, with_payloads: bool = False
    ) -> list[Hits]:
        found: list[Hits] = await self._run(self._operations.by_text(texts, k, field, where, with_payloads))
        return found
