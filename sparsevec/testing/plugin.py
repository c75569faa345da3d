"""The pytest plugin: fixtures that hand out running engines, and a table at the end that says which there were.

    def test_mine(elasticsearch_url):          # once on Elasticsearch 8, once on 9
        adapter = sparsevec.connect(f"{elasticsearch_url}/my-index")

A test whose engine cannot be had is skipped with the reason. Where the engine is demanded, by `pytest -m elasticsearch`
or by SPARSEVEC_REQUIRE=elasticsearch8,opensearch3, its absence fails. Where no test asks for an engine it does nothing,
and loads nothing but this module.

`pytest --conformance-table=FILE` writes which backend passed which clause of `sparsevec.testing.conformance`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sparsevec.testing.engines import Engines
    from sparsevec.testing.table import Table

__all__ = ["elasticsearch_url", "engine_url", "engines", "opensearch_url", "qdrant_url"]

pytest.register_assert_rewrite("sparsevec.testing.conformance")

_FAMILIES = ("qdrant", "elasticsearch", "opensearch")
_EMBEDDED = "qdrant-edge"
_ENGINES = pytest.StashKey["Engines"]()
_TABLE = pytest.StashKey["Table"]()
_ELSEWHERE = pytest.StashKey[dict[str, tuple[str, str]]]()  # the engines that ran in the workers of pytest-xdist
_SUITE = "sparsevec.testing.conformance."
_CLAUSE = re.compile(r"test_c(\d+)_")


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


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("sparsevec")
    group.addoption("--conformance-table", metavar="FILE", help="write which backend passed which clause, as Markdown")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("conformance_table") and not _is_worker(config):
        from sparsevec.testing.table import Table

        config.stash[_TABLE] = Table()
        config.pluginmanager.register(_Recorder(config.stash[_TABLE]))
    for family in _FAMILIES:
        config.addinivalue_line("markers", f"{family}: needs {family}; `-m {family}` makes its absence a failure")


def pytest_itemcollected(item: pytest.Item) -> None:
    for family in _FAMILIES:
        if f"{family}_url" in getattr(item, "fixturenames", ()):
            item.add_marker(family)
    if clause := _clause(item):
        item.user_properties += [("sparsevec_clause", clause), ("sparsevec_backend", _backend(item))]


def _clause(item: pytest.Item) -> str | None:
    """Of a test of the suite: `C3`."""
    found = _CLAUSE.match(item.name)
    bases = getattr(getattr(item, "cls", None), "__mro__", ())
    ours = any(base.__module__.startswith(_SUITE) for base in bases)
    return f"C{found[1]}" if found and ours else None


def _backend(item: pytest.Item) -> str:
    """Its parameter `backend`, or the class that gave the suite its adapter."""
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    backend = parameters.get("backend", getattr(item, "cls", None))
    return str(getattr(backend, "name", getattr(backend, "__name__", backend)))


class _Recorder:
    def __init__(self, table: Table) -> None:
        self._table = table

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        properties = dict(report.user_properties)
        if "sparsevec_clause" in properties:
            self._table.record(str(properties["sparsevec_backend"]), str(properties["sparsevec_clause"]), report)


def _rows(config: pytest.Config) -> dict[str, tuple[str, str]]:
    """For each engine its version ("" where it did not run) and how it was had, or why not."""
    from sparsevec.testing.engines import ENGINES

    rows = {_EMBEDDED: ("", "no test loaded qdrant-edge-py"), **dict.fromkeys(ENGINES, ("", "no test asked for it"))}
    return rows | _merged(config.stash.get(_ELSEWHERE, {}), _tried(config))


def _tried(config: pytest.Config) -> dict[str, tuple[str, str]]:
    """The rows of the engines that tests of this process asked for."""
    from sparsevec.testing.engines import Engines, embedded_qdrant

    engines = config.stash.get(_ENGINES, Engines())
    rows = {name: ("", str(error)) for name, error in engines.missing.items()}
    rows |= {name: (running.version, running.how) for name, running in engines.running.items()}
    if version := embedded_qdrant():
        rows[_EMBEDDED] = (version, "embedded: qdrant-edge-py")
    return rows


def _merged(*parts: dict[str, tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """An engine that ran in one process has run."""
    rows: dict[str, tuple[str, str]] = {}
    for part in parts:
        rows |= {name: row for name, row in part.items() if row[0] or not rows.get(name, ("", ""))[0]}
    return rows


def _is_worker(config: pytest.Config) -> bool:
    """Of pytest-xdist: it tells the process that started it, and judges nothing."""
    return hasattr(config, "workerinput")


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    """A worker of pytest-xdist has ended; its engines have run for this session."""
    config: pytest.Config = node.config  # type: ignore[attr-defined]
    told = getattr(node, "workeroutput", {}).get("sparsevec_engines", {})
    config.stash[_ELSEWHERE] = _merged(config.stash.get(_ELSEWHERE, {}), {n: (v, w) for n, (v, w) in told.items()})


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A run in which a demanded engine did nothing is not a success."""
    config = session.config
    if _is_worker(config):
        config.workeroutput["sparsevec_engines"] = _tried(config)  # type: ignore[attr-defined]
        return
    if exitstatus == pytest.ExitCode.OK and _required() and _absent(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _absent(config: pytest.Config) -> list[str]:
    rows = _rows(config)
    return sorted(name for name in _required() if not rows.get(name, ("", ""))[0])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if table := config.stash.get(_TABLE, None):
        table.write(config.getoption("conformance_table"))
        terminalreporter.line(f"conformance table: {config.getoption('conformance_table')}")
    if _ENGINES not in config.stash and _ELSEWHERE not in config.stash and not _required():
        return
    terminalreporter.section("engines")
    for name, (version, words) in _rows(config).items():
        terminalreporter.line(f"{name:<16}{version or 'did not run':<13}{words}")
    if absent := _absent(config):
        terminalreporter.line(f"SPARSEVEC_REQUIRE demands {', '.join(absent)}, which did not run", red=True)
