"""How fast a look writes: so many documents a second at most, and slower where the backend says that it is busy."""

from __future__ import annotations

from pathlib import Path

import pytest

import sparsevec as sv
from sparsevec.live.codes import Codes
from sparsevec.live.looks import Looking
from sparsevec.live.reports import Look
from sparsevec.live.rows import pages_of
from sparsevec.live.seen import Seen
from tests.live.conftest import DIMENSION
from tests.live.shops import dense_rows
from tests.misbehaving import Act, Clock, Misbehaving, busy, half_busy, honest

N = 350


def looked(model: Path, tmp_path: Path, clock: Clock, *, rate: float | None, script: list[Act]) -> Look:
    """A look at N documents without codes, in pages of 100, in a time that passes only while somebody waits."""
    adapter = Misbehaving()
    adapter.create(DIMENSION)
    empty = sv.SparseVectors([0] * (N + 1), [], [], DIMENSION)
    adapter.upsert(list(range(N)), empty, [{"emb": row.tolist()} for row in dense_rows(N)])
    adapter.script = script
    codes = Codes(sv.SparseEncoder.load(model))
    looking = Looking(adapter, codes, seen=Seen(tmp_path, "here"), rate=rate, timing=clock.timing)
    return looking.look(pages_of(adapter, "emb", vectors=True, size=100), whole=True)


@pytest.mark.parametrize(("rate", "seconds"), [(100.0, 3.0), (10.0, 30.0), (0.5, 600.0)])
def test_documents_go_out_at_the_rate_that_was_given(model: Path, tmp_path: Path, rate: float, seconds: float) -> None:
    clock = Clock()
    look = looked(model, tmp_path, clock, rate=rate, script=[])
    assert look.written == N
    assert clock.now == pytest.approx(seconds)  # the fourth page waits for the first three


def test_without_a_rate_nobody_waits(model: Path, tmp_path: Path) -> None:
    clock = Clock()
    assert (looked(model, tmp_path, clock, rate=None, script=[]).written, clock.now) == (N, 0.0)


def test_a_backend_that_is_busy_gets_the_quiet_that_it_asks_for(model: Path, tmp_path: Path) -> None:
    clock = Clock()
    look = looked(model, tmp_path, clock, rate=None, script=[busy, busy, honest])
    assert (look.written, look.retries, look.failed, clock.now) == (N, 2, 0, 14.0)


def test_documents_that_it_was_too_busy_for_are_sent_again(model: Path, tmp_path: Path) -> None:
    look = looked(model, tmp_path, Clock(), rate=None, script=[half_busy])
    assert (look.written, look.retries, look.failed) == (N, 1, 0)
