"""The judge itself, judged against arithmetic that is spelled out."""

from __future__ import annotations

import os
import pickle
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsevec.contract.connect import connect
from sparsevec.contract.deadlines import within
from sparsevec.contract.urls import Url
from sparsevec.dense import best
from sparsevec.errors import AdapterClosed, BackendDown, CollectionError, InvalidInput, StorageFailed, WrongSpace
from sparsevec.exact import database
from sparsevec.exact.database import _Connection
from sparsevec.exact.reference import Reference
from sparsevec.postings import PostingLists
from sparsevec.testing.forks import in_a_forked_child
from sparsevec.vectors import SparseVector, SparseVectors
from tests.strategies import signed_weights, vectors


def spelled_out(query: SparseVector, document: SparseVector) -> float:
    total, weights = 0.0, document.to_dict()
    for index, weight in query.to_dict().items():
        total += float(weight) * float(weights.get(index, 0.0))
    return total


@given(st.data(), st.sampled_from([1, 7, 2**32]))
def test_scores_are_float64_sums_in_ascending_dimension_order_bit_for_bit(data: st.DataObject, dimension: int) -> None:
    documents = data.draw(vectors(dimension=dimension, weights=signed_weights))
    queries = data.draw(vectors(dimension=dimension, weights=signed_weights, min_rows=1))
    lists = PostingLists(documents)
    for query in queries:
        rows, scores = lists.scores(query)
        sharing = [row for row, document in enumerate(documents) if set(query.to_dict()) & set(document.to_dict())]
        assert rows.tolist() == sharing
        assert scores.tolist() == [spelled_out(query, documents[row]) for row in sharing]


def test_scores_are_the_same_bit_for_bit_in_any_batch_and_block() -> None:
    rng = np.random.default_rng(0)
    dense = rng.lognormal(size=(500, 64)) * (rng.random((500, 64)) < 0.3)
    documents, query = SparseVectors.from_dense(dense), SparseVectors.from_dense(rng.lognormal(size=(1, 64)))[0]
    _, whole = PostingLists(documents).scores(query)
    one_by_one = np.concatenate([PostingLists(documents[i : i + 1]).scores(query)[1] for i in range(500)])
    assert np.array_equal(whole.view(np.int64), one_by_one.view(np.int64))


@given(st.lists(st.sampled_from([0.0, 1.0, 2.0, -1.0])), st.integers(1, 12))
def test_best_is_what_a_stable_sort_would_say(scores: list[float], k: int) -> None:
    due = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:k]
    assert best(np.array(scores), k).tolist() == due


def test_ties_go_to_the_lower_id_and_ints_come_before_strings() -> None:
    reference = Reference()
    reference.create(1)
    ids: list[int | str] = ["é", "b", "10", 10, 2**64 - 1, 9]
    reference.upsert(ids, SparseVectors.from_rows([{0: 1.0}] * 6, dimension=1))
    (hits,) = reference.search(SparseVectors.from_rows([{0: 1.0}], dimension=1), k=6)
    assert hits.ids == (9, 10, 2**64 - 1, "10", "b", "é")


def test_a_file_holds_what_was_written_when_it_is_opened_again(tmp_path: Path) -> None:
    url, documents = f"reference:{tmp_path / 'r.db'}", SparseVectors.from_rows([{0: 1.0}, {}], dimension=2**32)
    first = Reference.connect(Url.parse(url))
    first.create(2**32)
    first.upsert([1, "1"], documents, [{"a": 1}, {}])
    first.close()
    again = Reference.connect(Url.parse(url))
    assert (again.info().dimension, again.count()) == (2**32, 2)
    assert again.fetch(["1", 1, 7]).vectors == documents[[1, 0]]
    again.close()


def foreign_database(file: Path) -> None:
    sqlite3.connect(file).execute("CREATE TABLE theirs (x)").connection.close()


def later_version(file: Path) -> None:
    with Reference(str(file)) as adapter:
        adapter.create(8)
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA user_version = 1000")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (foreign_database, "somebody else's"),
        (
            lambda file: file.write_bytes(b"not a database, and longer than a header" * 40),
            "not a file of the reference engine",
        ),
        (Path.mkdir, "is not a regular file; use another path"),
        (os.mkfifo, "is not a regular file; use another path"),
        (later_version, "another version of sparsevec; install a newer version"),
    ],
)
def test_a_path_that_is_not_ours_is_refused_and_left_alone(tmp_path: Path, make: Iterable[Path], message: str) -> None:
    file = tmp_path / "theirs"
    make(file)  # type: ignore[operator]
    before = file.read_bytes() if file.is_file() else None
    with pytest.raises((CollectionError, StorageFailed), match=message):
        Reference(str(file))
    assert (file.read_bytes() if file.is_file() else None) == before


def test_a_file_that_was_cut_short_is_called_damaged(tmp_path: Path) -> None:
    file = tmp_path / "kept.db"
    with Reference(str(file)) as adapter:
        adapter.create(8)
        adapter.upsert(range(2000), SparseVectors.from_dense(np.ones((2000, 8), np.float32)))
    with file.open("r+b") as cut:
        cut.truncate(file.stat().st_size // 2)
    with (
        pytest.raises(StorageFailed, match=r"damaged or cut short .*restore it from a copy"),
        Reference(str(file)) as it,
    ):
        it.fetch(list(range(2000)))


def test_a_folder_that_does_not_exist_is_named() -> None:
    with pytest.raises(CollectionError, match=r"/nowhere/at/all\.db does not exist"):
        Reference("/nowhere/at/all.db")


@pytest.mark.parametrize("url", ["reference://host/x", "reference+fast:x"])
def test_a_reference_url_has_no_host_and_no_variant(url: str) -> None:
    with pytest.raises(InvalidInput, match="reference:PATH"):
        Reference.connect(Url.parse(url))


ONE = SparseVectors.from_rows([{0: 1.0}], dimension=1)


@pytest.fixture(params=["reference", "local"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_each_engine_speaks_of_itself(engine: str, tmp_path: Path) -> None:
    file = tmp_path / "theirs"
    file.write_bytes(b"not a database, and longer than a header" * 40)
    with pytest.raises(CollectionError, match=f"not a file of the {engine} engine"):
        connect(f"{engine}:{file}")
    with pytest.raises(InvalidInput, match=f"expected `{engine}:` or `{engine}:PATH`"):
        connect(f"{engine}://host/x")
    with connect(f"{engine}:") as adapter, pytest.raises(CollectionError, match=f"this {engine} engine holds no"):
        adapter.count()


def test_reading_where_nothing_is_leaves_nothing(engine: str, tmp_path: Path) -> None:
    with connect(f"{engine}:{tmp_path}/typo.db") as adapter:
        assert not adapter.info().exists
        assert adapter.check()
        for read in (
            adapter.count,
            lambda: adapter.count({"brand": "acme"}),
            lambda: adapter.search(ONE),
            lambda: adapter.fetch([1]),
            lambda: adapter.matching({}, 1),
            lambda: list(adapter.scan()),
            lambda: adapter.delete([1]),
            lambda: adapter.delete(where={}),
            lambda: adapter.upsert([1], ONE),
        ):
            with pytest.raises(CollectionError, match=r"no collection at .*typo\.db: found nothing there; create\("):
                read()
        adapter.drop()
    assert list(tmp_path.iterdir()) == []


def test_an_empty_file_stays_empty_until_a_collection_is_made_in_it(engine: str, tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    with connect(f"{engine}:{tmp_path}/f") as adapter:
        assert not adapter.info().exists
        assert (tmp_path / "f").stat().st_size == 0
        adapter.create(1)
        assert adapter.upsert([1], ONE).written == (1,)


def test_a_file_that_another_makes_later_is_found(engine: str, tmp_path: Path) -> None:
    with connect(f"{engine}:{tmp_path}/f") as early, connect(f"{engine}:{tmp_path}/f") as other:
        assert not early.info().exists
        other.create(1)
        other.upsert([1], ONE)
        assert early.count() == len(early.search(ONE)[0]) == 1


def test_the_file_is_made_where_it_was_named_whatever_folder_the_process_is_in(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with connect(f"{engine}:f") as adapter:
        monkeypatch.chdir("/")
        adapter.create(1)
    assert (tmp_path / "f").is_file()


def test_an_option_of_the_url_is_refused_and_no_part_of_a_file_name(engine: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=rf"the {engine} url has options \['vector_name'\]; it knows none"):
        connect(f"{engine}:{tmp_path}/x.db?vector_name=s")
    with connect(f"{engine}://{tmp_path}/x%3Fvector_name=s") as adapter:
        adapter.create(1)
    assert (tmp_path / "x?vector_name=s").is_file()


def test_several_processes_write_to_one_file_and_each_sees_the_others(engine: str, tmp_path: Path) -> None:
    url = f"{engine}:{tmp_path}/shared"
    write = """if True:
        import sys
        import sparsevec as sv
        with sv.connect(sys.argv[1]) as adapter:
            for i in range(25):
                adapter.upsert([f"{sys.argv[2]}-{i}"], sv.SparseVectors.from_rows([{0: 1.0}], dimension=1))
        """
    with connect(url) as adapter:
        adapter.create(1)
        others = [subprocess.Popen([sys.executable, "-c", write, url, name]) for name in "abc"]
        assert [other.wait() for other in others] == [0, 0, 0]
        assert adapter.count() == 75
        assert len(adapter.search(ONE, 100)[0]) == 75


def test_a_file_that_another_process_holds_is_waited_for_until_the_deadline(tmp_path: Path) -> None:
    with connect(f"reference:{tmp_path}/held") as adapter:
        adapter.create(1)
        holder = sqlite3.connect(tmp_path / "held", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        with within(0.1), pytest.raises(BackendDown, match="written by another process"):
            adapter.upsert([1], ONE)
        holder.execute("ROLLBACK")
        holder.close()
        assert adapter.upsert([1], ONE).written == (1,)


def test_a_file_that_others_make_at_the_same_moment_is_opened_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite refuses one of several at once, without waiting; so seldom that a stand-in has to do it here."""
    asked: list[str] = []

    class Refused(_Connection):
        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            if "journal_mode" in sql:
                asked.append(sql)
                if len(asked) <= 2:
                    error = sqlite3.OperationalError("database is locked")
                    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
                    raise error
            return super().execute(sql, *parameters)

    monkeypatch.setattr(database, "_Connection", Refused)
    with connect(f"reference:{tmp_path}/made") as adapter:
        adapter.create(1)
        assert adapter.upsert([1], ONE).written == (1,)
    assert len(asked) == 3


def test_the_first_vectors_decide_when_two_encoders_write_at_once(tmp_path: Path) -> None:
    """The second looked before the first had written."""
    first, second = connect(f"reference:{tmp_path}/f"), Raced(str(tmp_path / "f"))
    first.create(1)
    second.before_writing = lambda: first.upsert([1], ONE.with_fingerprint("space-a"))
    with pytest.raises(WrongSpace, match=r"space-a.*space-b"):
        second.upsert([2], ONE.with_fingerprint("space-b"))
    assert first.count() == 1
    first.close()
    second.close()


class Raced(Reference):
    before_writing: Callable[[], object] = staticmethod(lambda: None)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self.before_writing()
        with super()._transaction():
            yield


def test_a_forked_child_may_not_use_it_and_closes_nothing_of_its_parents(engine: str, tmp_path: Path) -> None:
    with connect(f"{engine}:{tmp_path}/f") as adapter:
        adapter.create(1)
        assert adapter.upsert([1], ONE).written == (1,)
        assert in_a_forked_child(adapter.count).startswith("AdapterClosed: ")
        assert in_a_forked_child(adapter.close) == "returned None"
        assert adapter.upsert([2], ONE).written == (2,)
        assert adapter.count() == 2


def test_it_is_sent_to_another_process_as_its_path_and_not_at_all_when_it_is_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with connect("local:f") as adapter:
        adapter.create(1)
        sent = pickle.dumps(adapter)
    monkeypatch.chdir("/")
    with pickle.loads(sent) as again:
        assert again.info().dimension == 1
    with connect("local:") as memory, pytest.raises(InvalidInput, match="cannot be copied"):
        pickle.dumps(memory)


def test_a_write_to_a_collection_that_is_made_anew_meanwhile_is_refused(engine: str, tmp_path: Path) -> None:
    class Meanwhile(list[dict[str, int]]):
        def __iter__(self) -> Iterator[dict[str, int]]:
            adapter.drop()
            adapter.create(2)
            return super().__iter__()

    with connect(f"{engine}:{tmp_path}/f") as adapter:
        adapter.create(100)
        with pytest.raises(CollectionError, match="made anew"):
            adapter.upsert([1], SparseVectors.from_rows([{99: 1.0}], dimension=100), Meanwhile([{}]))
        assert adapter.count() == len(adapter.search(SparseVectors.from_rows([{1: 1.0}], dimension=2))[0]) == 0


def test_a_closed_one_says_so_and_nothing_else(engine: str) -> None:
    adapter = connect(f"{engine}:")
    adapter.close()
    adapter.close()
    with pytest.raises(AdapterClosed, match="was closed; connect again"):
        adapter.count()
    assert "(closed)" in repr(adapter)


def test_a_page_of_all_there_are_can_be_as_large_as_a_number_of_the_machine() -> None:
    with connect("reference:") as adapter:
        adapter.create(1)
        adapter.upsert([1, 2], SparseVectors.concat([ONE] * 2))
        assert [page.ids for page in adapter.scan(size=sys.maxsize)] == [(1, 2)]


def test_a_field_that_holds_a_dense_row_can_be_scanned() -> None:
    with connect("reference:") as adapter:
        adapter.create(1)
        adapter.upsert([1, 2, 3], SparseVectors.concat([ONE] * 3), [{"emb": [1, 0.5]}, {"emb": [True]}, {}])
        (page,) = adapter.scan(dense="emb")
        assert page.dense is not None
        assert [None if row is None else row.tolist() for row in page.dense] == [[1.0, 0.5], None, None]
        assert page.after is None
