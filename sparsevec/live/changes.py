"""What changed in a collection since a checkpoint, where a backend can say so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from sparsevec.contract.adapter import Adapter, Page
from sparsevec.live.rows import DenseSource, pages_of

__all__ = ["checkpoint_of", "pages_since"]


@runtime_checkable
class SaysChanges(Protocol):
    """An adapter whose backend knows what changed. Not part of the contract: most cannot."""

    def checkpoint(self) -> str | None:
        """Where the collection is now: every write that was acknowledged before is behind it. None: it cannot tell."""

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
        """As `scan`, of the documents that were written since that checkpoint.

        Raises PlaceForgotten when it is of another collection.
        """


def checkpoint_of(adapter: Adapter) -> str | None:
    """Where the collection is now; None where its backend cannot say what changes from there on."""
    return adapter.checkpoint() if isinstance(adapter, SaysChanges) else None


def pages_since(adapter: Adapter, dense: DenseSource, checkpoint: str, after: str | None) -> Iterator[Page]:
    """The pages of what changed, with dense rows and vectors."""
    assert isinstance(adapter, SaysChanges)  # it gave the checkpoint
    return pages_of(_Changed(adapter, checkpoint), dense, vectors=True, after=after)  # type: ignore[arg-type]


class _Changed:
    """`changed` under the name of `scan`."""

    def __init__(self, adapter: SaysChanges, since: str) -> None:
        self._adapter, self._since = adapter, since

    def scan(
        self,
        *,
        vectors: bool = False,
        payloads: bool = False,
        dense: str | None = None,
        after: str | None = None,
        size: int = 1000,
    ) -> Iterator[Page]:
        return self._adapter.changed(
            self._since, vectors=vectors, payloads=payloads, dense=dense, after=after, size=size
        )
