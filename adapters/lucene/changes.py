"""What the doors for threads have beyond the contract: what changed since a checkpoint, by the `_seq_no` of Lucene, and
which indices a pattern or an alias stands for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sparsevec.contract.adapter import Page
from sparsevec.contract.checks import check_pattern, check_size
from sparsevec.contract.operations import SyncAdapter

from .operations import LuceneOperations

__all__ = ["SaysChanges"]


class SaysChanges(SyncAdapter):
    """Over `LuceneOperations`."""

    _operations: LuceneOperations

    def names(self, pattern: str) -> list[str]:
        """Of the open indices that `pattern` stands for: names, wildcards, aliases, data streams, commas between.

        Raises InvalidInput for what is no text.
        """
        return self._run(self._operations.names(check_pattern(pattern)))

    def checkpoint(self) -> str | None:
        """Where the index is now: `changed` brings what is written after it, and perhaps a little of what was before.

        None where the backend does not tell: without the privilege `monitor` or to refresh, and serverless. Everything
        that was acknowledged before is seen by a scan that begins after this.
        """
        return self._run(self._operations.checkpoint())

    def changed(
        self,
        since: str,
        *,
        vectors: bool = False,
        payloads: bool = False,
        dense: str | None = None,
        after: str | None = None,
        size: int = 1000,
    ) -> Iterator[Page]:
        """As `scan`, of the documents that were written since that checkpoint; deleted ones are not told.

        Raises PlaceForgotten for a checkpoint of another index: scan from the start.
        """
        asked: dict[str, Any] = {"vectors": vectors, "payloads": payloads, "dense": dense, "size": check_size(size)}
        while True:
            page = self._run(self._operations.changed_page(since, after=after, **asked))
            if len(page):
                yield page
            if (after := page.after) is None:
                return
