"""The pytest plugin: fixtures that hand out running engines, and a table at the end that says which there were.

    def test_mine(elasticsearch_url):          # once on Elasticsearch 8, once on 9
        adapter = sparsevec.connect(f"{elasticsearch_url}/my-index")

A test whose engine cannot be had is skipped with the reason. Where the engine is demanded, by `pytest -m elasticsearch`
or by SPARSEVEC_REQUIRE=elasticsearch8,opensearch3, its absence fails. Where no test asks for an engine it does nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sparsevec.testing.engines import Engines

__all__ = ["elasticsearch_url", "engine_url", "engines", "opensearch_url", "qdrant_url"]

pytest.register_assert_rewrite("sparsevec.testing.conformance")

_FAMILIES = ("qdrant", "elasticsearch", "opensearch")
_EMBEDDED = "qdrant-edge"
_ENGINES = pytest.StashKey["Engines"]()


@pytest.fixture(scope="session")
def engines(request: pytest.FixtureRequest) -> Iterator[Engines]:
    """Every engine of this session, started when first asked for and stopped at its end."""
    from sparsevec.testing.engines import Engines

    found = request.config.stash[_ENGINES] = Engines()
    yield found
    found.close()


@pytest.fixture(scope="session")
def engine_url(engines: Engines, request: pytest.FixtureRequest) -> Callable[[str], str]:
    """A function from an engine's name, such as `opensearch3`, to its url without a collection. Skips, or fails."""
    from sparsevec.testing.engines import OtherVersion, Unavailable, engine

    def url(name: str) -> str:
        try:
            return engines.get(name).url
        except Unavailable as error:
            absence = error
        selected = engine(name).family in _selected(request.config) and not isinstance(absence, OtherVersion)
        if selected or name in _required():
            pytest.fail(f"{name} is demanded, and cannot be had: {absence}", pytrace=False)
        pytest.skip(f"{name} cannot be had: {absence}")

    return url


@pytest.fixture(scope="session")
def qdrant_url(engine_url: Callable[[str], str]) -> str:
    """`qdrant://HOST:PORT` of a Qdrant server."""
    return engine_url("qdrant")


@pytest.fixture(scope="session", params=["elasticsearch8", "elasticsearch9"])
def elasticsearch_url(engine_url: Callable[[str], str], request: pytest.FixtureRequest) -> str:
    """`elasticsearch://HOST:PORT` of a node, once for each version; choose with `indirect` parametrisation."""
    return engine_url(request.param)


@pytest.fixture(scope="session")
def opensearch_url(engine_url: Callable[[str], str]) -> str:
    """`opensearch://HOST:PORT` of a node."""
    return engine_url("opensearch3")


def _required() -> set[str]:
    return {name.strip() for name in os.environ.get("SPARSEVEC_REQUIRE", "").split(",")} - {""}


def _selected(config: pytest.Config) -> set[str]:
    """The families that `-m` asks for: `elasticsearch and not slow` asks for one, `not elasticsearch` for none."""
    wanted = re.sub(r"\bnot\s+\w+", "", config.getoption("markexpr", ""))
    return set(_FAMILIES) & set(re.findall(r"\w+", wanted))


# ---- markers and the table


def pytest_configure(config: pytest.Config) -> None:
    for family in _FAMILIES:
        config.addinivalue_line("markers", f"{family}: needs {family}; `-m {family}` makes its absence a failure")


def pytest_itemcollected(item: pytest.Item) -> None:
    for family in _FAMILIES:
        if f"{family}_url" in getattr(item, "fixturenames", ()):
            item.add_marker(family)


def _rows(config: pytest.Config) -> dict[str, tuple[str, str]]:
    """For each engine its version ("" where it did not run) and how it was had, or why not."""
    from sparsevec.testing.engines import ENGINES, Engines, embedded_qdrant

    engines = config.stash.get(_ENGINES, Engines())
    rows = dict.fromkeys(ENGINES, ("", "no test asked for it"))
    rows |= {name: ("", str(error)) for name, error in engines.missing.items()}
    rows |= {name: (running.version, running.how) for name, running in engines.running.items()}
    if version := embedded_qdrant():
        return {_EMBEDDED: (version, "embedded: qdrant-edge-py"), **rows}
    return {_EMBEDDED: ("", "no test loaded qdrant-edge-py"), **rows}


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A run in which a demanded engine did nothing is not a success."""
    if exitstatus == pytest.ExitCode.OK and _required() and _absent(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _absent(config: pytest.Config) -> list[str]:
    rows = _rows(config)
    return sorted(name for name in _required() if not rows.get(name, ("", ""))[0])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if _ENGINES not in config.stash and not _required():
        return
    terminalreporter.section("engines")
    for name, (version, words) in _rows(config).items():
        terminalreporter.line(f"{name:<16}{version or 'did not run':<13}{words}")
    if absent := _absent(config):
        terminalreporter.line(f"SPARSEVEC_REQUIRE demands {', '.join(absent)}, which did not run", red=True)
