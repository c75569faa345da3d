"""The command line, end to end on small data: what it prints, what it leaves behind and how it exits."""

from __future__ import annotations

import gc
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from rich.progress import Progress
from typer.testing import CliRunner, Result

import sparsevec as sv
from sparsevec.cli.app import app
from sparsevec.cli.bars import Bars, Lines
from sparsevec.cli.credentials import credentials
from sparsevec.cli.documents import Beside, of_dense
from sparsevec.cli.texts import read_texts
from sparsevec.ingestion.dead_letters import read_dead_letters
from tests.conftest import brief_trainings

ENGINES = ["reference", "qdrant+edge"]


def sparsevec(*arguments: object, **environment: str) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200", **environment})


def clustered(n: int, seed: int) -> np.ndarray:
    """(n, 16) float32 around 20 centres that are the same for every seed."""
    centres = np.random.default_rng(0).normal(size=(20, 16))
    rng = np.random.default_rng(seed)
    return (centres[rng.integers(20, size=n)] + 0.3 * rng.normal(size=(n, 16))).astype(np.float32)


@dataclass(frozen=True)
class Place:
    """A folder in which fit and encode have been run."""

    path: Path

    def __truediv__(self, name: str) -> Path:
        return self.path / name


@pytest.fixture(scope="module", autouse=True)
def brief() -> Iterator[None]:
    """What is asked is what the commands say and leave."""
    with brief_trainings():
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place(tmp_path_factory.mktemp("place"))
    np.save(place / "dense.npy", clustered(400, 1))
    np.save(place / "asked.npy", clustered(30, 2))
    np.save(place / "sample.npy", clustered(100, 3))
    (place / "ids.jsonl").write_text("".join(f'{{"id": "doc-{n}"}}\n' for n in range(400)))
    (place / "payloads.jsonl").write_text("".join(f'{{"parity": {n % 2}}}\n' for n in range(400)))
    fitted = sparsevec(
        "fit", place / "dense.npy", "--queries", place / "sample.npy", "--nnz", 8, "-d", 256, "-o", place / "model"
    )  # fmt: skip
    assert fitted.exit_code == 0, fitted.output
    assert sparsevec("encode", place / "model", place / "dense.npy", "-o", place / "docs").exit_code == 0
    assert sparsevec("encode", place / "model", place / "asked.npy", "--query", "-o", place / "asked").exit_code == 0
    return place


@pytest.fixture(params=ENGINES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"{request.param}:{tmp_path / 'collection'}"


def read(result: Result) -> Any:
    return json.loads(result.stdout)


# ---- the way through


def test_encode_writes_what_the_model_says(place: Place) -> None:
    documents = sv.SparseVectors.load(place / "docs")
    assert (len(documents), documents.dimension) == (400, 256)
    assert documents.nnz / 400 == pytest.approx(8, rel=0.2)


def test_what_was_indexed_is_found_and_verified(place: Place, url: str) -> None:
    indexed = sparsevec("index", url, place / "docs", "--create", "--json")
    assert (indexed.exit_code, read(indexed)["written"]) == (0, 400)
    searched = sparsevec("search", url, place / "asked", "-k", 3, "--json")
    assert [len(hits) for hits in read(searched)] == [3] * 30
    verified = sparsevec("verify", url, place / "docs", place / "asked", "--json")
    assert (verified.exit_code, read(verified)["exact"], read(verified)["queries"]) == (0, True, 30)


def test_ids_payloads_and_filters_go_all_the_way(place: Place, url: str) -> None:
    named = ["--ids", place / "ids.jsonl", "--payloads", place / "payloads.jsonl"]
    assert sparsevec("index", url, place / "docs", "--create", *named).exit_code == 0
    searched = sparsevec("search", url, place / "asked", "-k", 2, "--where", '{"parity": 1}', "--json")
    assert {hit["payload"]["parity"] for hits in read(searched) for hit in hits} == {1}
    assert all(hit["id"].startswith("doc-") for hits in read(searched) for hit in hits)
    verified = sparsevec("verify", url, place / "docs", place / "asked", *named, "--where", '{"parity": 1}')
    assert verified.exit_code == 0, verified.output


def test_indexing_again_with_the_journal_writes_nothing_twice(place: Place, url: str, tmp_path: Path) -> None:
    command = ["index", url, place / "docs", "--journal", tmp_path / "run.journal", "--json"]
    first, again = sparsevec(*command, "--create"), sparsevec(*command)
    assert read(first)["written"] == read(again)["written"] == 400
    assert sparsevec("verify", url, place / "docs", place / "asked").exit_code == 0


def test_dense_queries_are_encoded_with_the_model_on_the_way(place: Place, url: str) -> None:
    sparsevec("index", url, place / "docs", "--create")
    asked = ["search", url, place / "asked.npy", "--model", place / "model", "--json"]
    assert read(sparsevec(*asked, "--rerank", "none")) == read(sparsevec("search", url, place / "asked", "--json"))
    encoder = sv.SparseEncoder.load(place / "model")
    with sv.connect(url) as adapter:
        usual = sv.Retriever(encoder, adapter).search(np.load(place / "asked.npy"))
        again = sv.Retriever(encoder, adapter, rerank="second look").search(np.load(place / "asked.npy"))
    assert [[hit["id"] for hit in hits] for hits in read(sparsevec(*asked))] == [list(hits.ids) for hits in usual]
    looked = read(sparsevec(*asked, "--rerank", "second-look"))
    assert [[hit["score"] for hit in hits] for hits in looked] == [list(hits.scores) for hits in again]


def test_a_file_of_dense_vectors_is_encoded_as_it_is_written(place: Place, url: str, tmp_path: Path) -> None:
    rows = np.load(place / "dense.npy").tolist()
    lines = [{"id": f"doc-{n}", "vector": row, "parity": n % 2} for n, row in enumerate(rows)]
    (tmp_path / "dense.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    model = ["--model", place / "model"]
    indexed = sparsevec("index", url, tmp_path / "dense.jsonl", *model, "--create", "--json")
    assert (indexed.exit_code, read(indexed)["written"]) == (0, 400)
    with sv.connect(url) as adapter:
        held = adapter.fetch(["doc-7"])
    assert held.payloads[0]["parity"] == 1
    assert held.vectors[0].indices.tolist() == sv.SparseVectors.load(place / "docs")[7].indices.tolist()
    files = [tmp_path / "dense.jsonl", place / "asked.npy"]
    verified = sparsevec("verify", url, *files, *model, "--where", '{"parity": 1}', "--json")
    assert (verified.exit_code, read(verified)["exact"], read(verified)["answers"]) == (0, True, 300)


def test_documents_that_were_passed_on_are_not_kept(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparsevec.cli.documents._BLOCK", 100)
    encoder = sv.SparseEncoder.load(place / "model")
    given = of_dense(place / "dense.npy", encoder, None, Beside(None, None))
    passed = 0
    for part in given.vectors:
        passed += len(part)
        assert sum(type(one) is sv.Encoded for one in gc.get_objects()) <= 3
    assert passed == 400


@pytest.fixture(scope="module")
def residual(place: Place) -> Place:
    """A folder with a model that has residual codes, and codes of the documents that its encoder would not make."""
    made = Place(place / "residual")
    encoder = sv.SparseEncoder(16, 256).fit(clustered(1200, 1), budget=sv.Budget(nnz=8, residual_bytes=12))
    encoder.save(made / "model")
    encoder.encode_document(np.load(place / "dense.npy"), 4).save(made / "codes")
    return made


def test_codes_that_were_made_before_go_in_with_the_residual_codes_of_their_dense_rows(
    place: Place, residual: Place, url: str, tmp_path: Path
) -> None:
    given = ["--model", residual / "model", "--documents", residual / "codes"]
    indexed = sparsevec("index", url, place / "dense.npy", *given, "--create", "--json")
    assert (indexed.exit_code, read(indexed)["written"]) == (0, 400)
    with sv.connect(url) as adapter:
        assert adapter.info().code_bytes == 12
    files = [place / "dense.npy", place / "asked.npy"]
    verified = sparsevec("verify", url, *files, *given, "--rerank", "residual", "--json")
    assert (verified.exit_code, read(verified)["exact"], read(verified)["answers"]) == (0, True, 300)
    np.save(tmp_path / "few.npy", clustered(3, 1))
    refused = sparsevec("index", url, tmp_path / "few.npy", *given)
    assert (refused.exit_code, "holds 400 documents" in refused.output) == (2, True), refused.output


@pytest.mark.parametrize("coded", [False, True])
def test_a_row_that_cannot_be_encoded_is_a_dead_letter_and_the_others_are_written(
    place: Place, residual: Place, url: str, tmp_path: Path, coded: bool
) -> None:
    rows = np.load(place / "dense.npy")
    rows[3], rows[5, 0] = 0, np.nan
    np.save(tmp_path / "rows.npy", rows)
    model = ["--model", (residual if coded else place) / "model", "--journal", tmp_path / "j", "--create", "--json"]
    for _ in range(2):
        indexed = sparsevec("index", url, tmp_path / "rows.npy", *model)
        report = read(indexed)
        assert (indexed.exit_code, report["given"], report["written"], report["failed"]) == (1, 400, 398, 2)
    letters = [(letter.position, letter.id, letter.reason) for letter in read_dead_letters(tmp_path / "j.failed.jsonl")]
    zero, nan = "its dense row is zero and has no direction", "its dense row holds NaN or infinity"
    assert letters == [(3, 3, zero), (5, 5, nan)]


def test_lines_of_bare_vectors_are_vectors_too(place: Place, url: str, tmp_path: Path) -> None:
    rows = np.load(place / "dense.npy")[:5].tolist()
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    indexed = sparsevec("index", url, tmp_path / "rows.jsonl", "--model", place / "model", "--create", "--json")
    assert (indexed.exit_code, read(indexed)["written"]) == (0, 5)


def test_lines_with_neither_a_text_nor_a_vector_are_told_what_they_have(place: Place, tmp_path: Path) -> None:
    (tmp_path / "lines.jsonl").write_text('{"id": 1, "title": "a pump"}\n')
    command = ["index", f"reference:{tmp_path}/x", tmp_path / "lines.jsonl", "--model", place / "model"]
    refused = sparsevec(*command, "--create")
    assert (refused.exit_code, "line 1 has no text at 'text'" in refused.output) == (2, True), refused.output


def test_documents_that_cannot_be_read_leave_no_collection_behind(place: Place, tmp_path: Path) -> None:
    for documents in (place / "model", tmp_path / "nowhere.npy", place / "ids.jsonl"):
        refused = sparsevec("index", f"local:{tmp_path}/here", documents, "--model", place / "model", "--create")
        assert refused.exit_code == 2, refused.output
    assert list(tmp_path.iterdir()) == []


def test_a_dense_row_among_the_fields_hides_no_other(url: str) -> None:
    with sv.connect(url) as adapter:
        adapter.create(8)
        adapter.upsert(["a"], sv.SparseVectors.from_rows([{1: 1.0}], dimension=8), [{"emb": [0.5] * 64, "title": "t"}])
    shown = sparsevec("search", url, "--vector", '{"1": 1}').stdout
    assert '{"emb": "64 numbers", "title": "t"}' in shown
    assert "0.5" not in shown


def test_one_query_can_be_given_on_the_spot(place: Place, url: str) -> None:
    sparsevec("index", url, place / "docs", "--create")
    index = int(sv.SparseVectors.load(place / "docs")[7].indices[0])
    result = sparsevec("search", url, "--vector", json.dumps({index: 2.5}), "-k", 400, "--json")
    assert 7 in [hit["id"] for hit in read(result)[0]]


@pytest.mark.usefixtures("brief")
def test_refined_documents_lie_beside_the_model_and_eval_measures_them(place: Place, tmp_path: Path) -> None:
    model = tmp_path / "model"
    fitted = sparsevec("fit", place / "dense.npy", "--nnz", 8, "-d", 256, "--refine", "-o", model)
    assert fitted.exit_code == 0, fitted.output
    result = sparsevec(
        "eval", model, place / "dense.npy", place / "asked.npy", "--documents", model / "documents", "--json"
    )
    assert read(result)["documents"] == 400
    assert read(result)["recall_10"] > 0.3
    assert read(result)["active_dims"] == pytest.approx(8, rel=0.2)


def test_eval_reads_relevance_by_id(place: Place, tmp_path: Path) -> None:
    (tmp_path / "qrels.tsv").write_text("query_id\tdoc_id\trel\n0\tdoc-3\t1\n1\tdoc-5\t1\n")
    command = ["eval", place / "model", place / "dense.npy", place / "asked.npy"]
    result = sparsevec(*command, "--ids", place / "ids.jsonl", "--qrels", tmp_path / "qrels.tsv", "--json")
    assert 0 <= read(result)["ndcg_10"] <= 1
    assert read(sparsevec(*command, "--json"))["ndcg_10"] is None


def test_reports_are_words_without_json(place: Place, url: str) -> None:
    indexed = sparsevec("index", url, place / "docs", "--create")
    assert "400 documents: 400 written, 0 skipped, 0 failed" in indexed.stdout
    assert "all 300 hits exact" in sparsevec("verify", url, place / "docs", place / "asked").stdout
    assert "query 0" in sparsevec("search", url, place / "asked").stdout
    evaluated = sparsevec("eval", place / "model", place / "dense.npy", place / "asked.npy")
    assert "recall@10" in evaluated.stdout


# ---- loss and inexactness: exit code 1


def test_a_lost_document_makes_verify_fail_and_say_which(place: Place, tmp_path: Path) -> None:
    url = f"reference:{tmp_path / 'collection'}"
    sparsevec("index", url, place / "docs", "--create")
    lost = read(sparsevec("search", url, place / "asked", "-k", 1, "--json"))[0][0]["id"]
    adapter = sv.connect(url)
    adapter.delete([lost])
    adapter.close()
    verified = sparsevec("verify", url, place / "docs", place / "asked", "--json")
    assert (verified.exit_code, read(verified)["exact"]) == (1, False)
    assert f"id {lost} was left out" in read(verified)["offences"][0]["reason"]


def test_a_document_that_failed_makes_index_fail(place: Place, tmp_path: Path) -> None:
    holes = sv.SparseVectors.concat([sv.SparseVectors.load(place / "docs"), sv.SparseVectors([0, 0], [], [], 256)])
    holes.save(tmp_path / "holes")
    url = f"reference:{tmp_path / 'collection'}"
    failed = sparsevec("index", url, tmp_path / "holes", "--create", "--json")
    assert (failed.exit_code, read(failed)["written"], read(failed)["failed"]) == (1, 400, 1)
    skipped = sparsevec("index", url, tmp_path / "holes", "--skip-empty", "--json")
    assert (skipped.exit_code, read(skipped)["skipped"]) == (0, 1)


def test_indexing_twice_with_create_changes_nothing(place: Place, url: str) -> None:
    command = ["index", url, place / "docs", "--create", "--json"]
    first, again = sparsevec(*command), sparsevec(*command)
    assert (first.exit_code, again.exit_code) == (0, 0), again.output
    assert read(sparsevec("info", url, "--json"))["count"] == 400


def test_a_collection_of_another_dimension_is_not_written_to(place: Place, url: str, tmp_path: Path) -> None:
    sparsevec("index", url, place / "docs", "--create")
    sv.SparseVectors([0, 1], [0], [1.0], 99).save(tmp_path / "others")
    refused = sparsevec("index", url, tmp_path / "others", "--create")
    assert refused.exit_code == 1
    assert "has dimension 256, the vectors have 99" in " ".join(refused.stderr.split())
    assert "sparsevec drop" in refused.stderr


def test_ids_that_are_not_there_can_be_skipped(place: Place, url: str, tmp_path: Path) -> None:
    sparsevec("index", url, place / "docs", "--create")
    (tmp_path / "others.jsonl").write_text("".join(f"{n + 390}\n" for n in range(400)))
    command = ["index", url, place / "docs", "--ids", tmp_path / "others.jsonl", "--missing", "skip", "--json"]
    told = read(sparsevec(*command))
    assert (told["written"], told["skipped"]) == (10, 390)


def test_without_create_a_missing_collection_is_not_made(place: Place, url: str) -> None:
    refused = sparsevec("index", url, place / "docs")
    assert (refused.exit_code, "--create makes it" in refused.stderr) == (1, True)
    assert read(sparsevec("info", url, "--json"))["exists"] is False


# ---- looking, and taking away


def test_info_says_what_is_there(place: Place, url: str) -> None:
    assert "no collection of ours is there yet" in sparsevec("info", url).stdout
    sparsevec("index", url, place / "docs", "--create")
    told = read(sparsevec("info", url, "--json"))
    assert (told["exists"], told["ours"], told["count"], told["dimension"]) == (True, True, 400, 256)
    assert told["capabilities"]["empty_vectors"] is True
    assert "400 vectors of 256 dimensions" in sparsevec("info", url).stdout


def test_check_prints_each_finding(url: str) -> None:
    told = sparsevec("check", url)
    assert (told.exit_code, "fine" in told.stdout, "version" in told.stdout) == (0, True, True)
    assert {"level", "subject", "found", "advice"} == set(read(sparsevec("check", url, "--json"))[0])


def test_what_is_in_the_way_makes_check_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [sv.Finding("fine", "version", "9"), sv.Finding("blocking", "routing", "is required", "name \x1b[31mit")]
    monkeypatch.setattr(sv.Reference, "check", lambda _: found)
    told = sparsevec("check", f"reference:{tmp_path / 'x'}")
    assert told.exit_code == 1
    assert "blocking" in told.stdout
    assert "\x1b[31mit" not in told.stdout
    assert "\\x1b[31mit" in told.stdout
    assert str(found[1]) == r"blocking routing: is required; name \x1b[31mit"


def test_drop_asks_and_takes_everything_of_ours(place: Place, url: str) -> None:
    sparsevec("index", url, place / "docs", "--create")
    unasked = sparsevec("drop", url)
    assert (unasked.exit_code, read(sparsevec("info", url, "--json"))["count"]) == (1, 400)
    assert "400 vectors" in unasked.output
    assert read(sparsevec("drop", url, "--yes", "--json")) == {"before": 400, "after": 0, "failures": []}
    assert read(sparsevec("info", url, "--json"))["exists"] is False
    assert sparsevec("drop", url, "--yes").exit_code == 0


def test_drop_with_json_asks_nobody(place: Place, url: str) -> None:
    sparsevec("index", url, place / "docs", "--create")
    refused = sparsevec("drop", url, "--json")
    assert (refused.exit_code, "--yes" in read(refused)["error"]) == (2, True)


def test_without_an_input_nobody_is_asked(place: Place, tmp_path: Path) -> None:
    sparsevec("index", f"reference:{tmp_path}/x", place / "docs", "--create")
    asked = [sys.executable, "-m", "sparsevec", "drop", f"reference:{tmp_path}/x"]
    refused = subprocess.run(["sh", "-c", '"$@" <&-', "sh", *asked], capture_output=True, text=True)
    told = "InvalidInput: without an input nobody can be asked whether to delete; add --yes\n"
    assert (refused.returncode, refused.stderr) == (2, told)


def test_a_full_disk_under_the_answer_is_told_on_stderr(place: Place, tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        asked = [sys.executable, "-m", "sparsevec", "info", f"reference:{tmp_path}/x", "--json"]
        told = subprocess.run(asked, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (told.returncode, told.stderr) == (1, "StorageFailed: No space left on device\n")


def test_delete_takes_these_ids_and_no_others(place: Place, url: str, tmp_path: Path) -> None:
    sparsevec("index", url, place / "docs", "--create")
    (tmp_path / "gone.jsonl").write_text('3\n{"id": 5}\n3\n12345\n')
    deleted = sparsevec("delete", url, "--ids", tmp_path / "gone.jsonl", "--yes", "--json")
    assert read(deleted) == {"before": 400, "after": 398, "failures": []}
    asked = sparsevec("delete", url, "--ids", tmp_path / "gone.jsonl")
    assert (asked.exit_code, "Take away 3 of the 398 vectors" in asked.output) == (1, True)


def test_delete_takes_what_a_filter_leaves(place: Place, url: str, tmp_path: Path) -> None:
    (tmp_path / "payloads.jsonl").write_text("".join(f'{{"shop": {row % 4}}}\n' for row in range(400)))
    sparsevec("index", url, place / "docs", "--payloads", tmp_path / "payloads.jsonl", "--create")
    asked = sparsevec("delete", url, "--where", '{"shop": 1}')
    assert (asked.exit_code, "Take away 100 of the 400 vectors" in asked.output) == (1, True)
    deleted = sparsevec("delete", url, "--where", '{"shop": 1}', "--yes", "--json")
    assert read(deleted) == {"before": 400, "after": 300, "failures": []}
    neither = sparsevec("delete", url, "--yes")
    assert (neither.exit_code, "--ids or --where" in neither.stderr) == (2, True)


def test_an_empty_file_is_called_empty(place: Place, url: str, tmp_path: Path) -> None:
    for name in ("texts.txt", "documents.jsonl", "documents.parquet"):
        (tmp_path / name).touch()
        refused = sparsevec("index", url, tmp_path / name, "--model", place / "model", "--create")
        assert (refused.exit_code, f"{name} is empty" in " ".join(refused.stderr.split())) == (2, True)


def test_an_empty_corpus_is_encoded_written_and_verified_as_one(place: Place, url: str, tmp_path: Path) -> None:
    np.save(tmp_path / "none.npy", np.zeros((0, 16), np.float32))
    encoded = sparsevec("encode", place / "model", tmp_path / "none.npy", "-o", tmp_path / "none")
    assert encoded.exit_code == 0, encoded.output
    indexed = sparsevec("index", url, tmp_path / "none", "--create", "--json")
    assert (indexed.exit_code, read(indexed)["given"]) == (0, 0)
    verified = sparsevec("verify", url, tmp_path / "none", place / "asked", "--json")
    assert (verified.exit_code, read(verified)["hits"]) == (0, 0)
    evaluated = sparsevec("eval", place / "model", tmp_path / "none.npy", place / "asked.npy")
    assert evaluated.exit_code == 2
    assert "at least one document" in " ".join(evaluated.stderr.split())


# ---- wrong usage: exit code 2, one line, no traceback


def wrong_inputs(folder: Path) -> dict[str, Path]:
    """Files that are not what a command expects, by what is wrong with them."""
    files = {name: folder / f"{name}.npy" for name in ("missing", "text", "vector", "zeros", "pickled", "nan", "empty")}
    files["text"].write_text("hello")
    np.save(files["vector"], np.zeros(16, np.float32))
    np.save(files["zeros"], np.zeros((400, 16), np.int64))
    np.save(files["nan"], np.full((400, 16), np.nan, np.float32))
    np.save(files["empty"], np.zeros((0, 16), np.float32))
    np.save(files["pickled"], np.array([{}], object))
    return files


WRONG = {
    "missing": "No such file",
    "text": "not a NumPy .npy file",
    "vector": "shape (16,)",
    "zeros": "is zero and has no direction",
    "pickled": "pickled objects are never loaded",
    "nan": "NaN or infinity",
    "empty": "documents",
}


@pytest.mark.parametrize("fault", WRONG)
def test_dense_vectors_that_are_none_are_refused_in_one_line(fault: str, tmp_path: Path) -> None:
    result = sparsevec("fit", wrong_inputs(tmp_path)[fault], "--nnz", 8, "-d", 256, "-o", tmp_path / "model")
    assert result.exit_code == 2, result.output
    assert WRONG[fault] in " ".join(result.stderr.split())
    assert "Traceback" not in result.output
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["verify", "nonsense:x", "docs", "asked"], "no adapter answers"),
        (["verify", "reference:x", "model", "asked"], "not a whole folder written by SparseVectors.save"),
        (["encode", "docs", "dense.npy", "-o", "out"], "docs"),
        (["encode", "model", "wide.npy", "-o", "out"], "16"),
        (["search", "reference:x"], "one of the three"),
        (["search", "reference:x", "asked", "--rerank", "none"], "--candidates belong to --model"),
        (["search", "reference:x", "asked", "--candidates", "50"], "--candidates belong to --model"),
        (["verify", "reference:x", "docs", "asked", "--dense-field", "emb"], "--candidates belong to --model"),
        (["search", "qdrant://127.0.0.1:1/x", "--text", "shoes"], "--text needs --model"),
        (["index", "reference:x", "docs", "--documents", "docs"], "--documents belongs to --model"),
        (["verify", "reference:x", "docs", "asked", "--documents", "docs"], "belong to --model"),
        (["search", "reference:x", "--vector", "[1]"], "must be a JSON object"),
        (["search", "reference:x", "--vector", '{"a": 1}'], "whole numbers"),
        (
            ["search", "reference:x", "--vector", '{"3": 1, "03": 2}'],
            "whole numbers, such as 3, to weights: found '03'",
        ),
        (["search", "reference:x", "--vector", '{"3": 1, "3": 2}'], "--vector says '3' more than once"),
        (["search", "reference:x", "--vector", "[1]"], "InvalidInput: --vector must be a JSON object, found [1]"),
        (
            ["delete", "reference:x", "--where", '{"a": {"lt": 1, "lt": 2}}', "--yes"],
            "--where says 'lt' more than once",
        ),
        (["index", "reference:x", "docs", "--create", "--ids", "short.jsonl"], "expected 400"),
        (
            ["encode", "model", "dense.npy", "-o", "dense.npy"],
            "expected a folder to write to, found the file dense.npy",
        ),
        (["encode", "model", "dense.npy", "-o", "dense.npy/deep"], "found the file dense.npy"),
        (["fit", "dense.npy", "-o", "dense.npy"], "expected a folder to write to"),
        (["fit", "dense.npy", "-o", "docs"], "holds something else than this command writes"),
        (["encode", "nowhere", "dense.npy", "-o", "out"], "nowhere"),
        (["index", "reference:x", "nowhere"], "nowhere"),
        (["index", "reference:x", "docs", "--create", "--journal", "away/j"], "the folder of away/j does not exist"),
        (["index", "reference:x", "docs", "--create", "--failed", "docs"], "found the folder docs"),
        (["embed", "ids.jsonl", "-o", "away/x.npy"], "the folder of away/x.npy does not exist"),
        (["preview", "reference:x", "--model", "model"], "is not there, or declares no field"),
        (["preview", "reference:x", "--scratch"], "made on a server that a url names"),
        (["search", "http://localhost:9200/x", "asked"], "did you mean elasticsearch://"),
        (["demo", "nowhere"], "nowhere"),
        (["demo", "--embedder", "wordllama"], "--embedder belongs to --ask"),
        (["demo", "--ask", "words", "--nnz", "4"], "--nnz is of a demo without --ask"),
        (["demo", "--engine", "qdrant"], "one of ['qdrant+edge', 'local', 'reference']"),
        (["index", "reference:x", "docs", "--create", "--ids", "broken.jsonl"], "line 2, is not JSON"),
        (["eval", "model", "dense.npy", "asked.npy", "--qrels", "short.jsonl"], "a known document and a grade"),
        (["eval", "model", "dense.npy", "asked.npy", "--ids", "ids.jsonl"], "belong to --qrels"),
        (["eval", "model", "dense.npy", "asked.npy", "--query-ids", "ids.jsonl"], "belong to --qrels"),
        (
            ["verify", "reference:x", "dense.npy", "none.npy", "--model", "model"],
            "queries to judge the answers of, one at least, found none",
        ),
        (["verify", "reference:x", "docs", "none"], "queries to judge the answers of, one at least, found none"),
        (["index", "qdrant://user:secret@localhost/x", "docs"], "seems to hold credentials"),
        (["index", "elasticsearch://u:secret@h/x", "docs"], "as SPARSEVEC_[ENGINE_]API_KEY or SPARSEVEC_[ENGINE_]USER"),
        (
            ["search", "reference:x", "asked.npy"],
            "encoded by a model first: SparseEncoder.encode_document, on the command line --model",
        ),
        (["preview", "reference:x", "--model", "model"], "name it with --dense-field"),
        (["migrate", "reference:x", "--model", "model", "--to", "new"], "or that of the second with --into"),
        (
            ["migrate", "qdrant://h/x?vector_name=a", "--model", "model", "--to", "model"],
            "--to must be another one than --model",
        ),
        (["frontier", "narrow.npy", "--bytes", "1"], "bytes=1 cannot be met"),
    ],
)
def test_wrong_usage_is_told_as_text_and_as_json(
    place: Place, arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(place / "wide.npy", np.ones((3, 17), np.float32))
    np.save(place / "narrow.npy", np.ones((600, 16), np.float32))
    np.save(place / "none.npy", np.zeros((0, 16), np.float32))
    sv.SparseVectors.from_rows([], dimension=256).save(place / "none")
    (place / "short.jsonl").write_text("1\n2\n")
    (place / "broken.jsonl").write_text("1\n{\n")
    monkeypatch.chdir(place.path)
    arguments = [argument.replace("reference:x", f"reference:{tmp_path / 'x'}") for argument in arguments]
    result = sparsevec(*arguments)
    assert result.exit_code == 2, result.output
    assert words in " ".join(result.stderr.split())
    assert "Traceback" not in result.output
    assert "secret" not in result.output
    assert list(tmp_path.iterdir()) == []


def test_with_json_an_error_is_an_object_too(place: Place, tmp_path: Path) -> None:
    result = sparsevec("verify", "nonsense:x", place / "docs", place / "asked", "--json")
    assert result.exit_code == 2
    assert read(result)["kind"] == "AdapterNotFound"
    assert "no adapter answers" in read(result)["error"]


def test_without_a_collection_a_search_says_what_to_do(place: Place, url: str) -> None:
    result = sparsevec("search", url, place / "asked")
    assert result.exit_code == 1
    assert "create" in result.stderr


@pytest.mark.parametrize("engine", ["reference", "local", "qdrant+edge"])
@pytest.mark.parametrize(
    "command",
    [
        ["info", "URL"],
        ["check", "URL"],
        ["search", "URL", "asked"],
        ["search", "URL", "asked.npy", "--model", "model"],
        ["verify", "URL", "docs", "asked"],
        ["index", "URL", "docs", "--journal", "journal"],
        ["latency", "URL", "docs"],
        ["preview", "URL", "--model", "model", "--dense-field", "emb"],
        ["delete", "URL", "--where", "{}", "--yes"],
        ["drop", "URL", "--yes"],
    ],
)
def test_who_only_reads_leaves_nothing_where_nothing_is(
    place: Place, command: list[str], engine: str, tmp_path: Path
) -> None:
    given = {"URL": f"{engine}:{tmp_path}/typo.db", "journal": tmp_path / "journal"}
    given |= {name: place / name for name in ("asked", "asked.npy", "docs", "model")}
    result = sparsevec(*[given.get(word, word) for word in command])
    assert result.exit_code == (0 if command[0] in ("info", "check", "drop") else 1), result.output
    assert list(tmp_path.iterdir()) == []


KEY, BASIC = {"SPARSEVEC_API_KEY": "k"}, {"SPARSEVEC_USER": "u", "SPARSEVEC_PASSWORD": "p"}


@pytest.mark.parametrize(
    ("engine", "environment", "given"),
    [
        ("elasticsearch", {}, {}),
        ("elasticsearch", {"SPARSEVEC_ELASTICSEARCH_API_KEY": "e"}, {"api_key": "e"}),
        ("elasticsearch", {"SPARSEVEC_ELASTICSEARCH_CA_CERTS": "ca.pem"}, {"ca_certs": "ca.pem"}),
        ("elasticsearch", {"SPARSEVEC_OPENSEARCH_USER": "o", "SPARSEVEC_OPENSEARCH_PASSWORD": "p"}, {}),
        ("elasticsearch", KEY | BASIC, {"api_key": "k"}),
        ("elasticsearch", KEY | {"SPARSEVEC_ELASTICSEARCH_USER": "e", "SPARSEVEC_ELASTICSEARCH_PASSWORD": "s"},
         {"basic_auth": ("e", "s")}),
        ("opensearch", KEY, {}),
        ("opensearch", KEY | BASIC, {"basic_auth": ("u", "p")}),
        ("qdrant", KEY | BASIC, {"api_key": "k"}),
        ("qdrant", {"SPARSEVEC_QDRANT_CA_CERTS": "ca.pem"}, {"verify": "ca.pem"}),
        ("mine", {"SPARSEVEC_MINE_API_KEY": "m"}, {"api_key": "m"}),
    ],
)  # fmt: skip
def test_an_engine_is_given_the_credentials_that_it_takes(
    engine: str, environment: dict[str, str], given: dict[str, Any]
) -> None:
    assert credentials(engine, environment) == given


def taken(engine: str) -> set[str]:
    """What an engine takes from the environment."""
    found: set[str] = set()
    for names in ({"API_KEY"}, {"USER", "PASSWORD"}, {"CA_CERTS"}):
        with suppress(sv.errors.InvalidInput):
            credentials(engine, {f"SPARSEVEC_{engine.upper()}_{name}": "x" for name in names})
            found |= names
    return found


@pytest.mark.parametrize("engine", ["elasticsearch", "opensearch", "qdrant"])
def test_the_help_lists_what_an_engine_takes_from_the_environment_and_nothing_else(engine: str) -> None:
    (line,) = re.findall(rf"SPARSEVEC_{engine.upper()}_.*", sparsevec("--help").stdout)
    assert set(re.findall("API_KEY|USER|PASSWORD|CA_CERTS", line)) == taken(engine)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"SPARSEVEC_CA_CERTS": "/nowhere.pem"}, "SPARSEVEC_[ENGINE_]CA_CERTS names no file: '/nowhere.pem'"),
        ({"SPARSEVEC_API_KEY": "hush\n"}, "SPARSEVEC_[ENGINE_]API_KEY holds a character that no header can carry"),
    ],
)
@pytest.mark.parametrize("engine", ["elasticsearch", "qdrant"])
def test_a_credential_that_is_refused_is_named_as_the_environment_has_it(
    engine: str, environment: dict[str, str], words: str
) -> None:
    result = sparsevec("info", f"{engine}+https://localhost/x", **environment)
    assert (result.exit_code, words in result.stderr, "hush" in result.output) == (2, True, False)


def test_a_check_advises_in_the_words_of_the_command(url: str) -> None:
    with sv.connect(url) as adapter:
        adapter.create(4)
        adapter.upsert([1], sv.SparseVectors.from_rows([{1: 1.0}], dimension=4))
    told = sparsevec("check", url, "--dense-field", "emb")
    assert "holds them with --dense-field" in told.stdout
    assert "dense_field=" not in told.output + sparsevec("check", url, "--dense-field", "emb", "--json").output


@pytest.mark.parametrize(
    ("engine", "environment", "words"),
    [
        ("opensearch", {"SPARSEVEC_OPENSEARCH_API_KEY": "hush"}, "unset that of ['api_key']"),
        ("elasticsearch", {"SPARSEVEC_ELASTICSEARCH_USER": "hush"}, "found only one of them"),
        ("qdrant", {"SPARSEVEC_QDRANT_USER": "hush", "SPARSEVEC_QDRANT_PASSWORD": "hush"}, "takes SPARSEVEC_QDRANT"),
        ("elasticsearch", {"SPARSEVEC_ELASTICSEARCH_API_KEY": "hush", "SPARSEVEC_ELASTICSEARCH_USER": "hush",
                           "SPARSEVEC_ELASTICSEARCH_PASSWORD": "hush"}, "found both; unset one"),
    ],
)  # fmt: skip
def test_credentials_that_cannot_be_meant_are_refused_without_repeating_them(
    engine: str, environment: dict[str, str], words: str
) -> None:
    with pytest.raises(sv.errors.InvalidInput) as caught:
        credentials(engine, environment)
    assert words in str(caught.value)
    assert "hush" not in str(caught.value)


def test_credentials_are_never_printed(place: Place) -> None:
    url = "qdrant://localhost:1/products"  # nobody listens there
    result = sparsevec("verify", url, place / "docs", place / "asked", SPARSEVEC_QDRANT_API_KEY="hush-hush")
    assert result.exit_code == 1
    assert "hush-hush" not in result.output


# ---- the screen


def test_what_others_wrote_does_not_move_the_terminal(place: Place, tmp_path: Path) -> None:
    url = f"reference:{tmp_path / 'x'}"
    with sv.connect(url) as adapter:
        adapter.create(4)
        adapter.upsert(["\x1b]0;owned\x07"], sv.SparseVectors.from_rows([{1: 1.0}], dimension=4), [{"t": "\u202egnp"}])
    told = sparsevec("search", url, "--vector", '{"1": 1}')
    assert told.exit_code == 0, told.output
    assert not {"\x1b]", "\x07", "\u202e"} & set(re.findall("\x1b\\]|\x07|\u202e", told.output))
    assert "\\x1b]0;owned" in told.stdout


@pytest.mark.usefixtures("brief")
def test_fit_says_who_asked_what_the_baselines_find_and_what_it_assumed(place: Place, tmp_path: Path) -> None:
    told = sparsevec("fit", place / "dense.npy", "-d", 256, "--refine", "-o", tmp_path / "model")
    assert told.exit_code == 0, told.output
    assert "32 weights a document" in told.stderr
    words = " ".join(told.stdout.split())
    assert "50 documents asked as queries, for want of a sample, not learned from" in words
    assert "recall@10 beside it: without learning" in words
    assert "head alone" in words


def test_where_a_filter_leaves_nothing_the_screen_does_not_blame_the_query(tmp_path: Path) -> None:
    url = f"reference:{tmp_path / 'x'}"
    with sv.connect(url) as adapter:
        adapter.create(4)
        adapter.upsert([1], sv.SparseVectors.from_rows([{1: 1.0}], dimension=4), [{"brand": "acme"}])
    told = sparsevec("search", url, "--vector", '{"1": 1}', "--where", '{"brand": "zeta"}')
    assert "none that the filter leaves" in told.stdout


def test_fit_compares_with_nothing_where_nothing_was_learned(tmp_path: Path) -> None:
    np.save(tmp_path / "few.npy", np.random.default_rng(0).normal(size=(30, 16)).astype(np.float32))
    told = sparsevec("fit", tmp_path / "few.npy", "--nnz", 8, "-d", 256, "-o", tmp_path / "model")
    assert told.exit_code == 0, told.output
    assert "too few to learn from" in told.stdout
    assert "beside it" not in told.stdout


@pytest.mark.usefixtures("brief")
def test_fit_can_be_resumed_from_its_checkpoint(place: Place, tmp_path: Path) -> None:
    command = [
        "fit",
        place / "dense.npy",
        "--nnz",
        8,
        "-d",
        256,
        "--refine",
        "--checkpoint",
        tmp_path / "kept",
        "--json",
    ]
    models = [tmp_path / "first", tmp_path / "again"]
    told = [sparsevec(*command, "-o", model) for model in models]
    assert [one.exit_code for one in told] == [0, 0], told[0].output + told[1].output
    assert (models[0] / "model.safetensors").read_bytes() == (models[1] / "model.safetensors").read_bytes()


def test_without_a_terminal_progress_is_lines_and_each_stage_ends_once(place: Place, tmp_path: Path) -> None:
    told = sparsevec("encode", place / "model", place / "dense.npy", "-o", tmp_path / "docs")
    assert re.fullmatch(r"encoding: done in \d+\.\d s\n", told.stderr)


def test_without_a_terminal_it_is_not_silent_while_it_waits() -> None:
    ticks = iter([0.0, 0.0, 6.0, 6.0, 7.0, 12.0, 12.0])
    console = Console(file=io.StringIO(), width=100)
    lines = Lines(console, clock=lambda: next(ticks))
    lines.waiting = "connection refused"
    for share in (0.0, 0.25, 0.3, 0.5):
        lines("writing", share)
    assert console.file.getvalue().splitlines() == [  # type: ignore[attr-defined]
        "writing: 25% after 6 s, waiting: connection refused",
        "writing: 50% after 12 s, waiting: connection refused",
    ]


def test_with_a_terminal_a_bar_never_runs_backwards() -> None:
    bars = Bars(Progress(console=Console(file=io.StringIO())))
    for share in (0.0, 0.9, 0.1):
        bars("learning", share)
    assert [task.completed for task in bars.tasks] == [0.9]


@pytest.mark.parametrize(
    "script", [["-m", "sparsevec"], ["-c", "from sparsevec.cli import main; main()"]], ids=" ".join
)
def test_it_says_its_version(script: list[str]) -> None:
    told = subprocess.run([sys.executable, *script, "--version"], capture_output=True, text=True, check=True)
    assert told.stdout == f"sparsevec {sv.__version__}\n"


COMMANDS = [
    "demo",
    "fit",
    "encode",
    "index",
    "search",
    "verify",
    "eval",
    "info",
    "check",
    "delete",
    "drop",
    "retrofit",
    "preview",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_teaches_by_example(command: str) -> None:
    result = sparsevec(command, "--help")
    assert result.exit_code == 0
    assert f"sparsevec {command} " in result.stdout


# ---- the demo, on a folder of one's own


@pytest.mark.usefixtures("brief")
def test_the_demo_takes_a_folder_and_leaves_a_page(place: Place, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    np.save(folder / "documents.npy", clustered(400, 1))
    np.save(folder / "queries.npy", clustered(240, 2))
    (folder / "documents.jsonl").write_text("".join(f'{{"id": "d{n}", "text": "text {n}"}}\n' for n in range(400)))
    output = tmp_path / "out"
    result = sparsevec("demo", folder, "-o", output, "-d", 256, "--nnz", 8, "--engine", "reference", "--json")
    assert result.exit_code == 0, result.output
    told = read(result)
    assert (told["ingest"]["written"], told["verify"]["exact"]) == (400, True)
    assert told["evaluations"]["sparsevec"]["recall_10"] > 0.3
    assert "text " in (output / "report.html").read_text()
    again = sparsevec("demo", folder, "-o", output, "-d", 256, "--nnz", 8, "--engine", "reference")
    assert again.exit_code == 0, again.output
    assert "report.html" in again.stdout.replace("\n", "")


@pytest.mark.usefixtures("brief")
def test_the_demo_does_without_queries_and_texts(tmp_path: Path) -> None:
    np.save(tmp_path / "documents.npy", clustered(400, 1))
    result = sparsevec("demo", tmp_path, "-o", tmp_path / "out", "-d", 256, "--nnz", 8, "--json")
    assert result.exit_code == 0, result.output
    assert read(result)["verify"]["exact"] is True


def test_the_demo_wants_one_line_for_each_document(tmp_path: Path) -> None:
    np.save(tmp_path / "documents.npy", clustered(400, 1))
    (tmp_path / "documents.jsonl").write_text('{"id": 1}\n')
    result = sparsevec("demo", tmp_path, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "one JSON object for each of the 400 vectors" in " ".join(result.stderr.split())


def test_the_demo_of_an_empty_folder_says_what_is_due(tmp_path: Path) -> None:
    result = sparsevec("demo", tmp_path, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "documents.npy cannot be read: No such file" in " ".join(result.stderr.split())


@pytest.mark.parametrize(("ids", "words"), [("aab", "gives the id 'a' twice"), (["a", "", "b"], "id 1 must be an int")])
def test_ids_of_the_demo_that_cannot_be_written_are_refused_before_anything_is_learned(
    ids: str | list[str], words: str, tmp_path: Path
) -> None:
    np.save(tmp_path / "documents.npy", clustered(3, 1))
    (tmp_path / "documents.jsonl").write_text("".join(f'{{"id": "{id_}"}}\n' for id_ in ids))
    result = sparsevec("demo", tmp_path, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())
    assert not (tmp_path / "out").exists()


def test_the_demo_names_all_that_is_missing_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sparsevec.demo.run.find_spec", lambda _: None)
    result = sparsevec("demo", "-o", tmp_path / "out")
    told = " ".join(result.stderr.split())
    assert result.exit_code == 2
    assert "the demo needs torch, matplotlib, ir_measures, qdrant_edge" in told
    assert "pip install 'sparsevec[demo]'" in told


def test_lines_of_the_demo_that_are_no_objects_are_named(tmp_path: Path) -> None:
    np.save(tmp_path / "documents.npy", clustered(3, 1))
    (tmp_path / "documents.jsonl").write_text('{"id": 1}\n2\n{}\n')
    result = sparsevec("demo", tmp_path, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "documents.jsonl, line 2: expected a JSON object, found 2" in " ".join(result.stderr.split())


def test_a_terminal_of_another_alphabet_gets_escapes(tmp_path: Path) -> None:
    with sv.connect(f"local:{tmp_path}/products.db") as adapter:
        adapter.create(4)
    command = [sys.executable, "-m", "sparsevec", "check", f"local:{tmp_path}/products.db"]
    latin = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    ran = subprocess.run(command, capture_output=True, env=latin, check=False)
    assert (ran.returncode, ran.stdout[:6], ran.stderr) == (0, rb"\u2713", b"")


# ---- without the extra


def test_without_the_extra_the_command_says_what_to_install() -> None:
    script = "import sys; sys.modules['typer'] = None; from sparsevec.cli import main; main()"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.strip() == "the command line needs typer; install it with: pip install 'sparsevec[cli]'"


INTERRUPTED = """
import sys
from sparsevec.cli import main
class Stop:
    def find_spec(name, *_):
        if name == "typer":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Stop)
main()
"""


def test_ctrl_c_while_it_loads_is_no_traceback() -> None:
    result = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (130, "")


@pytest.mark.parametrize("line", ["[1, 2]", '{"number": 1}', "1.5", "-1", "null"])
def test_a_line_that_is_no_id_is_named_and_nothing_deleted(place: Place, url: str, tmp_path: Path, line: str) -> None:
    assert sparsevec("index", url, place / "docs", "--create").exit_code == 0
    (tmp_path / "gone.jsonl").write_text(f"3\n{line}\n")
    refused = sparsevec("delete", url, "--ids", tmp_path / "gone.jsonl", "--yes")
    assert (refused.exit_code, "id 1 must be an int" in refused.output) == (2, True)
    assert read(sparsevec("info", url, "--json"))["count"] == 400


def test_a_filter_of_too_many_brackets_is_refused_in_one_line(place: Place, url: str) -> None:
    refused = sparsevec("search", url, place / "asked", "--where", "[" * 100_000)
    assert (refused.exit_code, "--where is not JSON" in refused.output) == (2, True)


def test_texts_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    for texts in (tmp_path / "missing.txt", tmp_path):
        refused = sparsevec("embed", texts, "-o", tmp_path / "x.npy")
        assert (refused.exit_code, f"{texts} cannot be read" in refused.output) == (2, True)


def test_lines_of_json_are_known_by_their_name_in_capitals_too(tmp_path: Path) -> None:
    (tmp_path / "TEXTS.JSONL").write_text('{"text": "a cat"}\n')
    assert list(read_texts(tmp_path / "TEXTS.JSONL", "text")) == ["a cat"]


@pytest.mark.usefixtures("brief")
def test_the_documents_of_another_model_are_not_evaluated(place: Place, tmp_path: Path) -> None:
    other = sv.SparseEncoder(16, 256, seed=1).fit(np.load(place / "dense.npy"), budget=sv.Budget(nnz=8))
    other.encode_document(np.load(place / "dense.npy")).save(tmp_path / "others")
    asked = ("eval", place / "model", place / "dense.npy", place / "asked.npy", "--documents", tmp_path / "others")
    refused = sparsevec(*asked)
    assert (refused.exit_code, "made by another encoder" in " ".join(refused.output.split())) == (2, True)


def test_what_becomes_of_empty_vectors_is_said_once(place: Place, tmp_path: Path) -> None:
    said = ("index", f"local:{tmp_path}/x.db", place / "docs", "--create", "--skip-empty")
    refused = sparsevec(*said, "--empty", "write")
    assert (refused.exit_code, "--skip-empty or --empty write, found both" in refused.output) == (2, True)
    assert sparsevec(*said, "--empty", "skip").exit_code == 0
