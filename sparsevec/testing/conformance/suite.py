"""What the clauses of the suite stand on: the fixtures and hooks that whoever runs it fills in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import pytest

from sparsevec.contract.adapter import Adapter
from sparsevec.contract.checks import Id

__all__ = ["Others", "Suite"]


class Others(Protocol):
    """A collection that an application made under the adapter's name, by the engine's own client, without our vector.

    It holds three documents or more, with fields of several types.
    """

    @property
    def ids(self) -> tuple[Id, ...]:
        """Of its documents, as hits give them: in the application's spelling."""

    @property
    def asked(self) -> tuple[Id, ...]:
        """The same as a user of ours may ask for them: ints where they look like ints (C10)."""

    @property
    def absent(self) -> Id:
        """An id in the application's spelling that is not there."""

    def documents(self) -> Mapping[Id, Mapping[str, Any]]:
        """Every document as the application reads it, fields of ours among them where the engine shows them."""

    def edit(self, id_: Id, fields: Mapping[str, Any]) -> None:
        """Change fields of a document that is there."""

    def remove(self, id_: Id) -> None:
        """Delete a document."""


class Suite:
    """Fixtures and hooks; the package's docstring says how they are filled in."""

    @pytest.fixture
    def adapter(self) -> Any:
        """Fresh for every test; its collection is not there yet."""
        raise NotImplementedError("give your test class a fixture `adapter`; the suite's docstring shows how")

    @pytest.fixture
    def others(self) -> Any:
        """`Others`, made under the name of the collection of `adapter`."""
        pytest.skip("no fixture `others` makes a collection here as an application would")

    @pytest.fixture
    def routed(self) -> Any:
        """`Others` on several shards, whose documents have a routing of their own."""
        pytest.skip("no fixture `routed` makes a collection whose documents have a routing")

    @pytest.fixture
    def versioned(self, adapter: Adapter) -> Adapter:
        """`adapter`, when its backend has versions of documents."""
        if not adapter.info().capabilities.versions:
            pytest.skip("the backend has no versions of documents: capabilities.versions is False")
        return adapter

    @pytest.fixture
    def steady(self, adapter: Adapter) -> Adapter:
        """`adapter`, when its backend reads on from one point in time."""
        if not adapter.info().capabilities.point_in_time:
            pytest.skip("the backend has no point in time: capabilities.point_in_time is False")
        return adapter

    def reopen(self, adapter: Adapter) -> Adapter:
        """An adapter of the same collection after the backend was restarted, if your fixture can restart it."""
        return adapter

    def another(self, adapter: Adapter) -> Adapter:
        """A second adapter of the same collection, as another process would open it, if your fixture can."""
        return adapter
