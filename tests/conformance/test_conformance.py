"""The suite that ships, over every backend in `conftest.BACKENDS`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sparsevec.contract.adapter import Adapter
from sparsevec.testing.conformance import Conformance
from tests.conformance.conftest import Backend


class TestConformance(Conformance):
    @pytest.fixture
    def adapter(self, backend: Backend, request: pytest.FixtureRequest) -> Iterator[Adapter]:
        self._backend, self._open = backend, backend.opener(request)
        adapter = self._open()
        self._opened = [adapter]
        yield adapter
        for opened in self._opened:
            opened.close()
        if backend.shared:
            again = self._open()
            again.drop()
            again.close()

    def reopen(self, adapter: Adapter) -> Adapter:
        if self._backend.forgets:
            return adapter
        adapter.close()
        self._opened.append(self._open())
        return self._opened[-1]
