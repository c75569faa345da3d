"""What the pytest plugin does in somebody's test run when an engine cannot be had, and when it can."""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sparsevec.testing.nodes import Unavailable, jdk, jdks

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest_plugins = ["pytester"]

EXAMPLE = Path(__file__).parents[2] / "examples" / "conformance" / "test_my_cluster.py"
NOBODY_LISTENS = "http://127.0.0.1:1"


@pytest.fixture
def theirs(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Somebody's tests; the clusters that their environment names do not answer."""
    monkeypatch.delenv("SPARSEVEC_REQUIRE", raising=False)
    for family in ("QDRANT", "ELASTICSEARCH", "OPENSEARCH"):
        monkeypatch.setenv(f"SPARSEVEC_{family}_URL", NOBODY_LISTENS)
    pytester.makepyfile("""
        def test_on_elasticsearch(elasticsearch_url): pass
        def test_on_opensearch(opensearch_url): pass
        def test_on_qdrant(qdrant_url): pass
        def test_on_nothing(): pass
    """)
    return pytester


def test_a_test_whose_engine_cannot_be_had_is_skipped_with_the_reason(theirs: pytest.Pytester) -> None:
    result = theirs.runpytest_subprocess("-rs")
    result.assert_outcomes(passed=1, skipped=4)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*elasticsearch9*SPARSEVEC_ELASTICSEARCH_URL is set, but no engine answers there*"])


def test_the_table_says_for_each_engine_why_it_did_not_run(theirs: pytest.Pytester) -> None:
    result = theirs.runpytest_subprocess("-k", "not elasticsearch")
    result.stdout.fnmatch_lines(
        [
            "qdrant-edge *did not run*no test loaded qdrant-edge-py",
            "qdrant *did not run*SPARSEVEC_QDRANT_URL is set, but no engine answers there: *refused*",
            "elasticsearch8 *did not run*no test asked for it",
            "opensearch3 *did not run*SPARSEVEC_OPENSEARCH_URL is set, but no engine answers there: *refused*",
        ]
    )


@pytest.mark.parametrize(("marker", "failures"), [("elasticsearch", 2), ("opensearch", 1), ("qdrant", 1)])
def test_an_engine_selected_by_its_marker_fails_when_it_cannot_be_had(
    theirs: pytest.Pytester, marker: str, failures: int
) -> None:
    result = theirs.runpytest_subprocess("-m", marker, "--strict-markers")
    result.assert_outcomes(errors=failures, deselected=5 - failures)


def test_an_engine_deselected_by_its_marker_is_not_demanded(theirs: pytest.Pytester) -> None:
    theirs.runpytest_subprocess("-m", "not elasticsearch").assert_outcomes(passed=1, skipped=2, deselected=2)


def test_an_engine_required_by_name_fails_when_it_cannot_be_had(
    theirs: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARSEVEC_REQUIRE", "elasticsearch8, qdrant")
    theirs.runpytest_subprocess().assert_outcomes(passed=1, skipped=2, errors=2)


def test_a_run_that_never_asks_for_a_required_engine_fails(
    theirs: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARSEVEC_REQUIRE", "opensearch3,qdrant-edge")
    result = theirs.runpytest_subprocess("-k", "nothing")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["SPARSEVEC_REQUIRE demands opensearch3, qdrant-edge, which did not run"])


def test_a_required_engine_with_an_unknown_name_fails_the_run(
    theirs: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARSEVEC_REQUIRE", "elasticsearch17")
    assert theirs.runpytest_subprocess("-k", "nothing").ret == pytest.ExitCode.TESTS_FAILED


def test_a_run_without_engines_shows_no_table(theirs: pytest.Pytester) -> None:
    result = theirs.runpytest_subprocess("-k", "nothing")
    result.assert_outcomes(passed=1, deselected=4)
    result.stdout.no_fnmatch_line("*did not run*")


def test_the_plugin_loads_neither_torch_nor_a_client() -> None:
    heavy = "{'torch', 'elasticsearch', 'opensearchpy', 'qdrant_client', 'qdrant_edge', 'testcontainers', 'docker'}"
    code = f"import sys, sparsevec.testing.plugin; sys.exit(', '.join({heavy} & set(sys.modules)) or 0)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture
def elasticsearch_7(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Something that answers `GET /` as Elasticsearch 7.17 does."""
    with http.server.HTTPServer(("127.0.0.1", 0), Banner) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Banner(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"version": {"number": "7.17.29"}}'
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Quiet."""


def test_a_given_cluster_of_another_version_is_not_the_one_that_was_asked_for(
    theirs: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, elasticsearch_7: str
) -> None:
    monkeypatch.setenv("SPARSEVEC_ELASTICSEARCH_URL", elasticsearch_7)
    result = theirs.runpytest_subprocess("-m", "elasticsearch", "-rs")
    result.assert_outcomes(skipped=2, deselected=3)
    result.stdout.fnmatch_lines(["*SPARSEVEC_ELASTICSEARCH_URL is elasticsearch 7.17.29"])


def test_a_given_cluster_of_any_version_can_be_asked_for(
    theirs: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, elasticsearch_7: str
) -> None:
    monkeypatch.setenv("SPARSEVEC_ELASTICSEARCH_URL", elasticsearch_7)
    theirs.makepyfile(
        test_any="""
        import pytest
        @pytest.mark.parametrize("elasticsearch_url", ["elasticsearch"], indirect=True)
        def test_it(elasticsearch_url): assert elasticsearch_url.startswith("elasticsearch://127.0.0.1:")
    """
    )
    result = theirs.runpytest_subprocess("test_any.py")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["elasticsearch *7.17.29 *SPARSEVEC_ELASTICSEARCH_URL"])


def test_a_jdk_that_is_too_old_is_none() -> None:
    with pytest.raises(Unavailable, match="no JDK 999 or later"):
        jdk(999)


def test_a_jdk_is_read_from_the_file_it_carries(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path_factory.mktemp("jdk")
    (home / "bin").mkdir()
    (home / "bin" / "javac").touch()
    (home / "release").write_text('IMPLEMENTOR="Somebody"\nJAVA_VERSION="99.0.1"\n')
    monkeypatch.setenv("JAVA99_HOME", str(home))
    assert jdks()[99] == home
    assert jdk(98) == (99, home)


def test_the_example_holds_a_given_cluster_to_the_contract(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, opensearch_url: str
) -> None:
    """Some clauses of it: `tests/conformance` runs all of them."""
    monkeypatch.setenv("SPARSEVEC_OPENSEARCH_URL", opensearch_url.replace("opensearch", "http"))
    monkeypatch.delenv("SPARSEVEC_REQUIRE", raising=False)
    pytester.copy_example(str(EXAMPLE))
    result = pytester.runpytest_subprocess("-k", "c1_ or c5 or c13 or c14")
    assert result.ret == 0
    assert result.parseoutcomes()["passed"] >= 3
    result.stdout.fnmatch_lines(["opensearch3 *SPARSEVEC_OPENSEARCH_URL"])


# ---- pytest-xdist: what ran in a worker has run


def test_an_engine_that_ran_in_a_worker_has_run(
    theirs: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, elasticsearch_7: str
) -> None:
    pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    monkeypatch.setenv("SPARSEVEC_ELASTICSEARCH_URL", elasticsearch_7)
    monkeypatch.setenv("SPARSEVEC_REQUIRE", "elasticsearch")
    theirs.makepyfile(
        test_any="""
        import pytest
        @pytest.mark.parametrize("elasticsearch_url", ["elasticsearch"], indirect=True)
        def test_it(elasticsearch_url): pass
        def test_another(): pass
    """
    )
    result = theirs.runpytest_subprocess("test_any.py", "-n", "2")
    result.assert_outcomes(passed=2)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["elasticsearch *7.17.29 *SPARSEVEC_ELASTICSEARCH_URL"])


def test_an_engine_that_ran_in_no_worker_has_not(theirs: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    monkeypatch.setenv("SPARSEVEC_REQUIRE", "opensearch3")
    result = theirs.runpytest_subprocess("-k", "nothing", "-n", "2")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["SPARSEVEC_REQUIRE demands opensearch3, which did not run"])


# ---- the table of clauses


THEIR_SUITE = """
    import pytest
    import sparsevec
    from sparsevec.testing.conformance import Conformance
    class TestTheirs(Conformance):
        @pytest.fixture
        def adapter(self):
            with sparsevec.connect("reference:") as adapter:
                yield adapter
        def test_c13_drop_forgets_everything_and_may_be_called_twice(self):
            assert False
        @pytest.mark.xfail(strict=True, reason="known")
        def test_c2_written_documents_are_searchable_at_once(self):
            assert False
"""


def test_the_table_says_which_backend_passes_which_clause(theirs: pytest.Pytester) -> None:
    theirs.makepyfile(test_suite=THEIR_SUITE)
    clauses = "c1_ or c2_ or c13 or c17_routing"
    theirs.runpytest_subprocess("test_suite.py", "-k", clauses, "--conformance-table=clauses.md")
    head, _, row = [line for line in (theirs.path / "clauses.md").read_text().splitlines() if line.startswith("|")]
    cells = dict(zip(head.split(" | "), row.split(" | "), strict=True))
    assert (cells["| backend"], cells["C1"], cells["C2"], cells["C13"]) == ("| TestTheirs", "6", "1 1 †", "2 1 ✗")
    assert (cells["C3"], cells["C17"]) == ("–", "–")


def test_the_table_keeps_the_row_of_a_backend_that_could_not_be_had_this_time(theirs: pytest.Pytester) -> None:
    theirs.makepyfile(test_suite=THEIR_SUITE)
    asked = "test_suite.py", "-k", "c9_", "--conformance-table=clauses.md"
    theirs.runpytest_subprocess(*asked)
    there = (theirs.path / "clauses.md").read_text()
    theirs.makepyfile(
        test_suite=THEIR_SUITE.replace("with sparsevec", "pytest.skip('no server')\n            with sparsevec")
    )
    for _ in range(2):
        theirs.runpytest_subprocess(*asked)
        assert (theirs.path / "clauses.md").read_text() == there.replace("| TestTheirs |", "| TestTheirs ‡ |")


def test_a_run_without_the_suite_writes_a_table_without_rows(theirs: pytest.Pytester) -> None:
    theirs.runpytest_subprocess("-k", "nothing", "--conformance-table=clauses.md").assert_outcomes(
        passed=1, deselected=4
    )
    assert "| backend | C1 |" in (theirs.path / "clauses.md").read_text()
