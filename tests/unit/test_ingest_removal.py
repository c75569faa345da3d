"""`remove`: every id is accounted for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

import sparsevec as sv
from sparsevec.contract.checks import Id
from sparsevec.contract.filters import Where
from sparsevec.errors import BackendDown, CollectionError, InvalidInput, WriteFailed
from sparsevec.ingestion.removal import RemovalReport, remove
from tests.misbehaving import Clock

N = 10
VECTORS = sv.SparseVectors.from_rows([{i: 1.0} for i in range(N)], dimension=N)


class Stubborn(sv.Reference):
    """Before each delete it does what the next of `script` does."""

    def __init__(self, *script: Callable[[Sequence[Id]], None]) -> None:
        super().__init__()
        self.create(N)
        self.upsert(range(N), VECTORS)
        self.script, self.requests = list(script), []  # type: ignore[var-annotated]

    def delete(self, ids: Sequence[Id] | None = None, *, where: Where | None = None) -> None:
        assert ids is not None
        assert where is None
        self.requests.append(list(ids))
        if self.script:
            self.script.pop(0)(ids)
        super().delete(ids)


def down(ids: Sequence[Id]) -> None:
    raise BackendDown("503: busy")


def dislikes_six(ids: Sequence[Id]) -> None:
    if 6 in ids:
        raise InvalidInput("ids that are 6 are not for us")


def test_what_is_removed_is_gone_and_an_unknown_id_is_no_error() -> None:
    adapter = Stubborn()
    report = remove(adapter, [1, 2, 99], batch_count=2)
    assert (report.given, report.deleted, report.failed) == (3, 3, 0)
    assert adapter.count() == N - 2
    assert adapter.requests == [[1, 2], [99]]


def test_what_a_filter_leaves_is_removed_page_by_page_and_counted() -> None:
    clock, adapter = Clock(), Stubborn(down)
    adapter.upsert(range(N), VECTORS, [{"even": i % 2 == 0} for i in range(N)])
    report = remove(adapter, where={"even": True}, batch_count=2, timing=clock.timing)
    assert (report.given, report.deleted, report.failed, report.retries) == (5, 5, 0, 1)
    assert (adapter.count(), adapter.count({"even": True})) == (5, 0)
    assert adapter.requests[-1] == [8]
    assert remove(adapter, where={"even": True}).given == 0


def test_ids_or_a_filter_are_expected_one_of_the_two() -> None:
    with pytest.raises(InvalidInput, match="one of the two"):
        remove(Stubborn())
    with pytest.raises(InvalidInput, match="one of the two"):
        remove(Stubborn(), [1], where={})


def test_a_bad_id_fails_alone() -> None:
    adapter = Stubborn()
    report = remove(adapter, [1, -1, 2])
    assert (report.given, report.deleted, report.failed) == (3, 2, 1)
    assert "the id must be an int" in report.failures[0].reason
    with pytest.raises(WriteFailed, match="3 ids: 2 deleted, 1 failed"):
        report.require_complete()


def test_an_id_that_only_the_backend_dislikes_fails_alone() -> None:
    adapter = Stubborn(*[dislikes_six] * 20)
    report = remove(adapter, range(N))
    assert (report.given, report.deleted, report.failed) == (N, N - 1, 1)
    assert (report.failures[0].id, report.failures[0].reason) == (6, "ids that are 6 are not for us")


def test_a_backend_that_is_down_is_asked_again() -> None:
    clock = Clock()
    report = remove(Stubborn(down, down), range(N), timing=clock.timing)
    assert (report.deleted, report.retries) == (N, 2)
    assert clock.pauses == pytest.approx([0.2, 0.4])


def test_a_backend_that_is_gone_stops_the_run_with_the_report() -> None:
    adapter = Stubborn(lambda _ids: None, *[down] * 1000)
    with pytest.raises(WriteFailed, match=r"stopped behind 4 ids: no progress for 30 s.*503: busy") as stopped:
        remove(adapter, range(N), batch_count=4, deadline=30, timing=Clock().timing)
    assert stopped.value.report.deleted == 4
    assert adapter.count() == N - 4


def test_a_collection_that_is_not_there_stops_the_run_at_once() -> None:
    with pytest.raises(CollectionError) as stopped:
        remove(sv.Reference(), [1])
    assert stopped.value.report == RemovalReport()


def test_a_source_that_raises_leaves_with_the_report() -> None:
    def ids() -> Iterator[int]:
        yield from range(4)
        raise EOFError("the file ends here")

    with pytest.raises(EOFError) as stopped:
        remove(Stubborn(), ids(), batch_count=2)
    assert stopped.value.report.deleted == 4  # type: ignore[attr-defined]
    assert "4 ids: 4 deleted" in stopped.value.__notes__[0]


def test_progress_is_told_after_each_request() -> None:
    told: list[int] = []
    remove(Stubborn(), range(5), batch_count=2, on_progress=lambda report: told.append(report.given))
    assert told == [2, 4, 5]


@pytest.mark.parametrize(
    "options", [{"batch_count": 0}, {"deadline": "5"}, {"ids": "abc"}, {"ids": 5}, {"on_progress": 5}]
)
def test_an_option_that_is_none_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        remove(Stubborn(), **{"ids": [1], **options})
