"""An index set up for a large load, and set back afterwards: what searches need while nobody searches costs writes.

    with adapter.loading(replicas=0):
        sparsevec.ingest(adapter, ids, vectors, journal="load.journal")

Inside, the index refreshes only when this adapter reads, and has so many replicas. Both settings come back as they were
however the block ends. What a kill -9 leaves behind, `check` tells, with the request that sets it right.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import orjson

from sparsevec.contract.operations import AsyncAdapterBase, Operation, SyncAdapter
from sparsevec.errors import CollectionError, InvalidInput, SparsevecError

from .session import Session
from .wire import json, path_of

if TYPE_CHECKING:
    from .operations import LuceneOperations

__all__ = ["AsyncLoading", "Loading", "LoadingOperations"]

_REFRESH, _REPLICAS = "index.refresh_interval", "index.number_of_replicas"


class LoadingOperations:
    def __init__(self, session: Session) -> None:
        self._session = session

    def begin(self, *, refresh: bool, replicas: int | None) -> Operation[tuple[str, dict[str, Any]]]:
        """The index, and the settings to bring back. Raises CollectionError for an index that others made."""
        if replicas is not None and (isinstance(replicas, bool) or not isinstance(replicas, int) or replicas < 0):
            raise InvalidInput(f"replicas must be an int of at least 0, or None to leave them, found {replicas!r:.80}")
        known = yield from self._session.existing(0.0)
        index = known.target.write
        if index is None or not index.ours:
            raise CollectionError(
                f"index {self._session.asked!r} was made by others, who rely on its settings; load without loading(), "
                "or change them yourself"
            )
        wanted: dict[str, Any] = {} if refresh else {_REFRESH: "-1"}
        wanted |= {} if replicas is None else {_REPLICAS: replicas}
        before = {name: index.settings.get(name) for name in wanted}
        yield from self._put(index.name, wanted)
        return index.name, before

    def end(self, index: str, before: Mapping[str, Any]) -> Operation[None]:
        """Bring the settings back, and show what was written. Raises CollectionError saying what to do instead."""
        try:
            yield from self._put(index, before)
        except SparsevecError as error:
            said = orjson.dumps(before).decode()
            raise CollectionError(
                f"the settings of index {index} were not brought back: PUT /{index}/_settings {said}"
            ) from error
        yield from self._session.refresh(force=True)

    def _put(self, index: str, settings: Mapping[str, Any]) -> Operation[None]:
        if settings:
            try:
                yield from json("PUT", path_of(index, "_settings"), settings)
            finally:
                self._session.forget()


class Loading(SyncAdapter):
    """`loading`, for threads."""

    _operations: LuceneOperations

    @contextmanager
    def loading(self, *, refresh: bool = False, replicas: int | None = None) -> Iterator[None]:
        """Inside, no refreshes but those that reads of this adapter need, unless `refresh`; and so many `replicas`
        (None: as many as there are). Both are brought back however the block ends.

        With 0 replicas a node that is lost takes the documents with it, until the copies are made at the end. Raises
        CollectionError for an index that others made, and where the settings could not be brought back.
        """
        index, before = self._run(self._operations.loading.begin(refresh=refresh, replicas=replicas))
        try:
            yield
        finally:
            self._run(self._operations.loading.end(index, before))


class AsyncLoading(AsyncAdapterBase):
    """The same for asyncio."""

    _operations: LuceneOperations

    @asynccontextmanager
    async def loading(self, *, refresh: bool = False, replicas: int | None = None) -> AsyncIterator[None]:
        """As `Loading.loading`."""
        index, before = await self._run(self._operations.loading.begin(refresh=refresh, replicas=replicas))
        try:
            yield
        finally:
            await self._run(self._operations.loading.end(index, before))
