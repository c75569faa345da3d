"""The suite that ships, over every backend in `conftest.BACKENDS`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from sparsevec.contract.adapter import Adapter
from sparsevec.testing.conformance import Conformance, Others
from tests.conformance.conftest import Backend, Place, Theirs


class TestConformance(Conformance):
    @pytest.fixture
    def adapter(self, backend: Backend, place: Place) -> Iterator[Adapter]:
        self._backend, self._place = backend, place
        self._opened = [backend.connect(place.url)]
        yield self._opened[0]
        for opened in self._opened:
            opened.close()
        if backend.shared:
            with closing(backend.connect(place.url)) as again:
                again.drop()

    @pytest.fixture
    def others(self, place: Place) -> Iterator[Others]:
        yield from self._made(place.others, "every collection there is ours")

    @pytest.fixture
    def routed(self, place: Place) -> Iterator[Others]:
        yield from self._made(place.routed, "documents there have no routing")

    def _made(self, make: Callable[[], Theirs] | None, why_not: str) -> Iterator[Others]:
        if make is None:
            pytest.skip(why_not)
        with closing(make()) as theirs:
            yield theirs

    def reopen(self, adapter: Adapter) -> Adapter:
        if self._backend.forgets:
            return adapter
        adapter.close()
        self._place.restart()
        return self._open()

    def another(self, adapter: Adapter) -> Adapter:
        return adapter if self._backend.forgets or self._backend.alone else self._open()

    def _open(self) -> Adapter:
        self._opened.append(self._backend.connect(self._place.url))
        return self._opened[-1]
