"""The commands that say what a search costs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import sparsevec as sv
from sparsevec.cli.app import app

MINILM = {
    "model_type": "bert",
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
}


NO_ERROR = {"error_median": 0, "error_95": 0}


def sparsevec(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(MINILM))
    return path


def test_cost_says_each_stage_and_what_a_dense_scan_would_cost(config: Path) -> None:
    said = sparsevec("cost", "--model", config, "--documents", "1e6", "--rerank", "dense")
    assert said.exit_code == 0, said.output
    assert "retrieval        1.3 MFLOP" in said.output
    assert "768 MFLOP" in said.output


def test_cost_adds_quality_per_petaflop_from_a_run(config: Path, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a Q0 d1 1 2.0 x\na Q0 d2 2 1.0 x\nb Q0 d9 1 1.0 x\n")
    (tmp_path / "qrels").write_text("a 0 d1 1\nb 0 d1 1\nc 0 d1 1\n")
    judged = ("--run", tmp_path / "run", "--qrels", tmp_path / "qrels")
    said = sparsevec("cost", "--documents", 1000, "--model", config, *judged, "--json")
    told = json.loads(said.output)
    assert told["quality"] == pytest.approx(1 / 3)  # a is right, b wrong, c not answered
    assert told["quality_per_petaflop"] == pytest.approx(told["queries_per_petaflop"] / 3)


def test_cost_adds_quality_per_petaflop_from_an_evaluation(tmp_path: Path) -> None:
    rows = np.eye(20, dtype=np.float32)
    vectors, file = sv.SparseVectors.from_dense(rows), tmp_path / "eval.json"
    asked = ("cost", "--documents", 20, "--evaluation", file, "--json")
    file.write_text(sv.evaluate(rows, rows, vectors, vectors, qrels={0: {0: 1}, 1: {2: 1}}).model_dump_json())
    told = json.loads(sparsevec(*asked).output)
    assert (told["measure"], told["quality"]) == ("nDCG@10", 0.5)
    assert told["quality_per_petaflop"] == pytest.approx(told["queries_per_petaflop"] / 2)
    file.write_text(sv.evaluate(rows, rows, vectors, vectors).model_dump_json())
    assert "overlap with the dense top 10" in sparsevec(*asked).output
    file.write_text("{}")
    assert "what `sparsevec eval --json` prints; Field required" in sparsevec(*asked).output
    assert "found both" in sparsevec(*asked, "--run", file, "--qrels", file).output


def test_cost_says_retrieval_in_every_word_that_is_used_for_it(tmp_path: Path) -> None:
    engine = {"engine": "busy", "documents": 100, "base": 1.0, "per_list": 0.1, "per_posting": 0.001, "per_touched": 0}
    (tmp_path / "engine.json").write_text(json.dumps({**engine, "per_hit": 0, "probes": 81} | NO_ERROR))
    asked = ("--documents", 1000, "-d", 4096, "--nnz", 32, "--query-nnz", 64, "--flops", 0.5)
    told = json.loads(sparsevec("cost", *asked, "--engine", tmp_path / "engine.json", "--json").output)["search"]
    assert (told["flops"], told["r_sub"], told["lists"], told["postings"]) == (0.5, 1.0, 64, 500)
    assert told["milliseconds"] == pytest.approx(1 + 6.4 + 0.5)
    assert "on busy with 1,000 documents F is 6% of a query's time" in told["warning"]
    assert "500 postings = 1 kFLOP, 7.9 ms on busy for 100 hits" in told["said"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--run", "x"], "belong together"),
        (["--rerank", "magic"], "second-look, residual, dense"),
        (["--model", "nowhere"], "no file"),
        (["--flops", "-1"], "at least 0"),
        (["--documents", "-1"], "--documents must be a number of at least 1, found -1"),
        (["--nnz", "-3"], "--nnz must be a number of at least 1, found -3"),
        (["--query-nnz", "nan"], "--query-nnz must be a number of at least 1, found nan"),
        (["--dimension", "0"], "--dimension must be a number of at least 1, found 0"),
        (["--candidates", "-5"], "--candidates must be a number of at least 0, found -5"),
        (["--dimension", "64"], "180 weights do not fit in --dimension 64"),
        (["--flops", "5", "--nnz", "4"], "--flops 5 cannot be: a pair has no more multiplications"),
        (["--query-tokens", "16"], "--query-tokens belongs to --model, without which it changes nothing"),
        (["--rerank", "dense", "--rerank-tokens", "9"], "--rerank-tokens belongs to --rerank with a model's config"),
        (["--residual-bytes", "60"], "--residual-bytes belongs to --rerank residual"),
        (["--measure", "AP"], "--measure belongs to --run"),
    ],
)
def test_cost_refuses_what_it_cannot_count(options: list[str], said: str) -> None:
    refused = sparsevec("cost", "--documents", 10, *options)
    assert refused.exit_code == 2
    assert said in refused.output


def test_a_measure_or_a_file_that_is_unknown_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a Q0 d1 1 2.0 x\n")
    (tmp_path / "qrels").write_text("a 0 d1 1\n")
    judged = ["cost", "--documents", "10", "--run", str(tmp_path / "run"), "--qrels", str(tmp_path / "qrels")]
    for measure in ("speed@3", "P@0", "P", "P(depth=3)@5", "nDCG(gains=5)@10"):  # P@0 would end the process
        refused = sparsevec(*judged, "--measure", measure)
        assert (refused.exit_code, "nDCG@10" in refused.output) == (2, True), measure
    for measure in ("AP(rel=0)", "alpha_nDCG@10"):
        refused = sparsevec(*judged, "--measure", measure)
        assert (refused.exit_code, "cannot be computed of these files" in refused.output) == (2, True), measure
    (tmp_path / "run").write_text("one two\n")
    assert "lines of" in sparsevec(*judged).output


@pytest.mark.parametrize(
    ("run", "qrels", "said"),
    [
        ("a Q0 d1 1 2.0 x\n", "", "expected judgements"),
        ("", "a 0 d1 1\n", "found none in the one and a in the other"),
        ("1 Q0 d1 1 2.0 x\n", "q1 0 d1 1\n", "expected the same query ids, found 1 in the one and q1 in the other"),
        ("a Q0 d1 1 nan x\n", "a 0 d1 1\n", "expected finite scores"),
    ],
)
def test_a_run_that_nothing_judges_is_refused(tmp_path: Path, run: str, qrels: str, said: str) -> None:
    (tmp_path / "run").write_text(run)
    (tmp_path / "qrels").write_text(qrels)
    refused = sparsevec("cost", "--documents", 10, "--run", tmp_path / "run", "--qrels", tmp_path / "qrels")
    assert refused.exit_code == 2
    assert said in " ".join(refused.output.split())


def test_latency_says_what_an_engine_takes_and_for_what(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = np.where(rng.random((300, 64)) < 0.1, rng.random((300, 64)), 0).astype(np.float32)
    documents = sv.SparseVectors.from_dense(rows)
    documents.save(tmp_path / "documents")
    documents[:20].save(tmp_path / "queries")
    url = f"reference:{tmp_path / 'collection'}"
    with sv.connect(url) as adapter:
        adapter.create(64)
        adapter.upsert(range(300), documents)
    said = sparsevec("latency", url, tmp_path / "documents", "--queries", tmp_path / "queries", "--rounds", 1, "--json")
    assert said.exit_code == 0, said.output
    told = json.loads(said.output)
    assert told["milliseconds"] > 0
    assert sum(told["shares"].values()) == pytest.approx(1)
    assert "µs a list" in told["said"]


def test_fit_keeps_to_milliseconds_of_an_engine_that_was_probed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "dense.npy", rng.standard_normal((60, 16)).astype(np.float32))
    engine = {"engine": "x", "documents": 60, "base": 0.5, "per_list": 0.1, "per_posting": 0, "per_touched": 0}
    (tmp_path / "engine.json").write_text(json.dumps({**engine, "per_hit": 0, "probes": 81, "said": "more"} | NO_ERROR))
    asked = ("fit", tmp_path / "dense.npy", "-d", 256, "--nnz", 4, "--engine", tmp_path / "engine.json")
    said = sparsevec(*asked, "--milliseconds", 1.51, "-o", tmp_path / "model")
    assert said.exit_code == 0, said.output
    assert sv.SparseEncoder.load(tmp_path / "model").config.query_nnz == 10
    refused = sparsevec(*asked, "--milliseconds", 0.2, "-o", tmp_path / "model")
    assert refused.exit_code == 2
    assert "raise milliseconds to 1.37" in refused.output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--queries", "wide"], "queries have dimension 300, documents 64"),
        (["--queries", "documents", "-k", "-3"], "k must be an int of at least 1, found -3"),
    ],
)
def test_latency_looks_at_its_queries_before_it_probes(tmp_path: Path, options: list[str], said: str) -> None:
    sv.SparseVectors.from_rows([{1: 1.0}], dimension=64).save(tmp_path / "documents")
    sv.SparseVectors.from_rows([{299: 1.0}], dimension=300).save(tmp_path / "wide")
    given = [str(tmp_path / option) if option in ("wide", "documents") else option for option in options]
    refused = sparsevec("latency", f"reference:{tmp_path / 'nothing'}", tmp_path / "documents", *given)
    assert refused.exit_code == 2
    assert said in refused.output
