"""An index set up for a load is as it was afterwards, however the load ends; on real nodes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sparsevec import aconnect, ingest
from sparsevec.errors import CollectionError, InvalidInput
from tests.integration.lucene import Place, rows

SETTINGS = ("index.refresh_interval", "index.number_of_replicas")


def settings(place: Place) -> dict[str, Any]:
    (about,) = place.http("GET", "_settings?flat_settings=true").values()
    return {name: about["settings"].get(name) for name in SETTINGS}


def test_inside_nothing_is_copied_or_shown_and_afterwards_all_of_it_is(place: Place) -> None:
    adapter: Any = place.connect()
    adapter.create(100)
    place.http("PUT", "_settings", {"index.refresh_interval": "7s", "index.number_of_replicas": 1})
    with adapter.loading(replicas=0):
        ingest(adapter, range(3), rows({1: 1.0}, {2: 1.0}, {3: 1.0}))
        assert settings(place) == {"index.refresh_interval": "-1", "index.number_of_replicas": "0"}
        assert place.http("GET", "_count")["count"] == 0
        assert any(finding.subject == "refresh" for finding in adapter.check())
    assert settings(place) == {"index.refresh_interval": "7s", "index.number_of_replicas": "1"}
    assert place.http("GET", "_count")["count"] == 3
    assert not any(finding.subject == "refresh" for finding in adapter.check())


@pytest.mark.parametrize("end", [KeyboardInterrupt, ValueError, SystemExit])
def test_an_exception_and_ctrl_c_bring_the_settings_back_as_well(place: Place, end: type[BaseException]) -> None:
    adapter: Any = place.connect()
    adapter.create(100)
    before = settings(place)
    with pytest.raises(end), adapter.loading(replicas=1):
        raise end
    assert settings(place) == before


def test_what_is_not_chosen_is_left_alone(place: Place) -> None:
    adapter: Any = place.connect()
    adapter.create(100)
    before = settings(place)
    with adapter.loading(refresh=True):
        assert settings(place) == before


def test_the_settings_of_others_are_not_touched(place: Place) -> None:
    place.make({"title": {"type": "keyword"}})
    adapter: Any = place.connect()
    adapter.create(100)
    with pytest.raises(CollectionError, match="made by others"), adapter.loading(replicas=0):
        pass


@pytest.mark.parametrize("replicas", [-1, True, "0"])
def test_a_number_of_replicas_that_is_none_is_refused(place: Place, replicas: Any) -> None:
    adapter: Any = place.connect()
    adapter.create(100)
    with pytest.raises(InvalidInput, match="replicas must be an int of at least 0"), adapter.loading(replicas=replicas):
        pass


def test_settings_that_cannot_be_brought_back_are_told(place: Place) -> None:
    adapter: Any = place.connect()
    adapter.create(100)
    with pytest.raises(CollectionError, match=r"PUT /test-\w+/_settings"), adapter.loading():
        place.http("DELETE")
    place.make({})


def test_the_same_for_asyncio(place: Place) -> None:
    async def load() -> None:
        adapter: Any = await aconnect(f"{place.engine_url}/{place.index}?field=emb&replicas=0")
        await adapter.create(100)
        async with adapter.loading():
            await adapter.upsert([1], rows({1: 1.0}))
            assert settings(place)["index.refresh_interval"] == "-1"
        assert settings(place)["index.refresh_interval"] is None
        await adapter.close()

    asyncio.run(load())
