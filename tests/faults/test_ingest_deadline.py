"""A server that holds a request: `deadline` is kept, and nothing is lost."""

from __future__ import annotations

import time

import pytest

from sparsevec.errors import WriteFailed
from sparsevec.ingestion.patience import SYSTEM_TIME
from tests.faults.conftest import Collection, documents
from tests.faults.proxy import held


def test_a_server_that_holds_the_request_does_not_hold_the_run(collection: Collection) -> None:
    given = documents(50)
    collection.proxy.script = lambda exchange: held(300) if exchange.writes else None
    began = time.monotonic()
    with pytest.raises(WriteFailed, match="no progress for 3 s") as stopped:
        collection.ingest(given, deadline=3, timing=SYSTEM_TIME)
    assert time.monotonic() - began < 100  # and not 300
    assert stopped.value.report.given == 0


def test_what_a_server_held_for_once_is_written_once(collection: Collection) -> None:
    given = documents(50)
    holds = iter([held(300)])
    collection.proxy.script = lambda exchange: next(holds, None) if exchange.writes else None
    began = time.monotonic()
    report = collection.ingest(given, deadline=10)
    assert time.monotonic() - began < 100  # and not 300
    collection.check(report, given)
