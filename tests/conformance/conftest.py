"""Who must conform: one row of BACKENDS each.

A row says how to open an adapter, given the test's `request` (for `tmp_path`, or the url of an engine that another
fixture starts); calling what it returns again opens the same collection again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest

from sparsevec.adapter import Adapter
from sparsevec.connect import connect

Opener = Callable[[], Adapter]


@dataclass(frozen=True)
class Backend:
    """`forgets`: what it holds is gone with its adapter. `shared`: it outlives the test, so the collection is dropped.
    `cannot`: test name -> why it fails there, and it must."""

    name: str
    opener: Callable[[pytest.FixtureRequest], Opener]
    forgets: bool = False
    shared: bool = False
    marks: tuple[pytest.MarkDecorator, ...] = ()
    cannot: Mapping[str, str] = field(default_factory=dict)


def at(url: str) -> Callable[[pytest.FixtureRequest], Opener]:
    """The opener of a url in which {tmp_path} is the test's own folder."""
    return lambda request: lambda: connect(url.format(tmp_path=request.getfixturevalue("tmp_path")))


BACKENDS = [
    Backend("reference", at("reference:"), forgets=True),
    Backend("reference-on-disk", at("reference:{tmp_path}/reference.sqlite")),
    Backend("qdrant-edge", at("qdrant+edge:{tmp_path}/edge"), marks=(pytest.mark.qdrant,)),
    Backend("qdrant-memory", at("qdrant+memory:"), forgets=True, marks=(pytest.mark.qdrant,)),
]


@pytest.fixture(params=[pytest.param(backend, id=backend.name, marks=backend.marks) for backend in BACKENDS])
def backend(request: pytest.FixtureRequest) -> Backend:
    """One row; a test that it cannot pass must fail, for the reason given."""
    row: Backend = request.param
    name = request.node.originalname
    if name in row.cannot:
        request.applymarker(pytest.mark.xfail(strict=True, reason=row.cannot[name]))
    return row
