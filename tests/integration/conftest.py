"""A place on each Lucene engine, for the tests that look at all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.integration.lucene import ENGINES, Place, place_at


@pytest.fixture(params=ENGINES)
def place(engine_url: Callable[[str], str], request: pytest.FixtureRequest) -> Iterator[Place]:
    with place_at(engine_url(request.param)) as place:
        yield place
