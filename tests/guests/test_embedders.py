"""Texts in: any callable, a package, a sentence-transformers model, an endpoint."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import sparsevec as sv
from sparsevec.cli.app import app
from sparsevec.errors import BackendDown, BackendUnsupported, EmbedderFailed, InvalidInput, InvalidVectors
from sparsevec.integrations import openai
from sparsevec.integrations.embedders import embed, named

TEXTS = ["a cat sat", "on a mat", "the dog ran", "far away", "home"]


def lengths(texts: list[str]) -> list[list[float]]:
    return [[float(len(text)), float(text.count("a")), 1.0] for text in texts]


# ---- any callable


def test_rows_come_in_the_order_of_the_texts_whatever_the_batch() -> None:
    expected = np.array(lengths(TEXTS), np.float32)
    for batch in (1, 2, 5, 100):
        assert np.array_equal(embed(iter(TEXTS), lengths, batch=batch), expected)


def test_it_says_how_far_it_is() -> None:
    seen: list[int] = []
    embed(TEXTS, lengths, batch=2, on_batch=seen.append)
    assert seen == [2, 4, 5]


@pytest.mark.parametrize(
    "embedder",
    [
        lambda texts: torch.ones(len(texts), 4, requires_grad=True),
        lambda texts: [torch.ones(4, requires_grad=True) for _ in texts],
        lambda texts: torch.ones(len(texts), 4, dtype=torch.bfloat16),
    ],
)
def test_tensors_are_taken_with_a_gradient_row_by_row_and_of_sixteen_bits(embedder: Callable[..., Any]) -> None:
    assert np.array_equal(embed(TEXTS, embedder), np.ones((5, 4), np.float32))


@pytest.mark.parametrize(
    ("embedder", "said"),
    [
        (lambda texts: [[1.0] * (2 if "home" in texts else 3) for _ in texts], "changed its width: 3 .* 2 for text 4"),
        (lambda texts: [[float("nan") if text == "far away" else 1.0] for text in texts], "text 3: 'far away'"),
        (lambda texts: [[1e300]] * len(texts), "NaN or infinity for text 0"),
        (lambda _: np.ones((1, 2)), "a row for each of texts 0 to 1"),
        (lambda _: "no", "texts 0 to 1 is not made of real numbers"),
        (lambda _: [["1"], ["2"]], "texts 0 to 1 is not made of real numbers: found <U1"),
        (lambda _: np.ones((2, 1), complex), "real numbers: found complex128"),
        (lambda _: np.ma.masked_equal([[1.0], [0.0]], 0), "masked array"),
        (lambda texts: [[]] * len(texts), "expected a row for each"),
    ],
)
def test_an_embedder_that_goes_wrong_is_named_with_its_texts(embedder: Callable[..., Any], said: str) -> None:
    with pytest.raises(InvalidVectors, match=said):
        embed(TEXTS, embedder, batch=2)


def test_an_error_of_its_own_is_typed_with_its_texts_and_its_cause() -> None:
    def tired(texts: list[str]) -> Any:
        raise TimeoutError("no more tokens") if "home" in texts else BackendDown("away")

    with pytest.raises(EmbedderFailed, match="text 0: TimeoutError: no more tokens") as failed:
        embed(["home"], tired)
    assert isinstance(failed.value.__cause__, TimeoutError)
    with pytest.raises(BackendDown, match="away"):  # errors of ours pass as they are
        embed(TEXTS[:2], tired)


def test_what_is_no_text_is_named() -> None:
    with pytest.raises(InvalidInput, match="text 1 must be a string, found NoneType"):
        embed(["a", None], lengths)  # type: ignore[list-item]
    with pytest.raises(InvalidInput, match="at least one text"):
        embed([], lengths)
    with pytest.raises(InvalidInput, match="expected a sequence of texts, found 'a text'"):
        embed("a text", lengths)
    with pytest.raises(InvalidInput, match=r"batch must be an int of at least 1, found 1\.5"):
        embed(["a"], lengths, batch=1.5)  # type: ignore[arg-type]
    for spec in ("word2vec", None):
        with pytest.raises(InvalidInput, match="one of wordllama"):
            named(spec)  # type: ignore[arg-type]


def test_an_embedder_may_fill_the_same_array_again() -> None:
    buffer = np.empty((2, 3), np.float32)

    def embedder(texts: list[str]) -> np.ndarray:
        buffer[: len(texts)] = lengths(texts)
        return buffer[: len(texts)]

    assert np.array_equal(embed(TEXTS, embedder, batch=2), np.array(lengths(TEXTS), np.float32))


# ---- a package


def test_wordllama_embeds_offline_and_near_texts_are_near() -> None:
    rows = embed(["a photo viewer", "a program to look at pictures", "a compiler for Fortran"], named("wordllama"))
    assert rows.shape == (3, 256)
    assert rows[0] @ rows[1] > rows[0] @ rows[2]


def test_wordllama_leaves_the_logging_of_the_process_alone() -> None:
    said = "from logging import root; from sparsevec.integrations.embedders import named; named('wordllama'); "
    run = [sys.executable, "-c", f"{said} print(root.level, root.handlers)"]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout == "30 []\n"


def test_wordllama_has_one_model() -> None:
    with pytest.raises(InvalidInput, match="one model"):
        named("wordllama:large")


# ---- sentence-transformers


def test_a_sentence_transformers_model_embeds(dense_model: Path) -> None:
    rows = embed(TEXTS, named(f"sentence-transformers:{dense_model}"), batch=2)
    assert rows.shape == (5, 16)


def test_a_sentence_transformers_model_that_was_cut_short_is_named(dense_model: Path, tmp_path: Path) -> None:
    shutil.copytree(dense_model, tmp_path / "cut")
    (weights,) = (tmp_path / "cut").rglob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(InvalidInput, match="no sentence-transformers model at"):
        named(f"sentence-transformers:{tmp_path / 'cut'}")


# ---- an endpoint


class Endpoint(BaseHTTPRequestHandler):
    """Answers as OpenAI's does: rows out of order, and first with the statuses of `failures`."""

    failures: ClassVar[list[int]] = []
    asked: ClassVar[list[dict[str, Any]]] = []
    instead: ClassVar[Any] = None
    """what it says in place of rows"""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body | {"authorization": self.headers.get("Authorization")})
        if (status := self.failures.pop(0) if self.failures else 200) != 200:
            self._say(status, {"error": {"message": "not now\x1b[0m"}})
            return
        if self.instead is not None:
            self._say(200, self.instead)
            return
        rows = [{"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(lengths(body["input"]))]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        self._say(200, {"object": "list", "data": rows[::-1], "model": body["model"], "usage": usage})

    def _say(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Retry-After-Ms", "1")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Silent."""


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    Endpoint.failures, Endpoint.asked, Endpoint.instead = [], [], None
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    yield url
    server.shutdown()
    server.server_close()


def test_an_endpoint_embeds_and_rows_are_put_in_order(endpoint: str) -> None:
    assert np.array_equal(embed(TEXTS, named("openai:small"), batch=2), np.array(lengths(TEXTS), np.float32))
    assert [body["input"] for body in Endpoint.asked] == [TEXTS[:2], TEXTS[2:4], TEXTS[4:]]
    assert {body["authorization"] for body in Endpoint.asked} == {"Bearer sk-secret"}


def test_a_busy_endpoint_is_asked_again(endpoint: str) -> None:
    Endpoint.failures = [503, 429]
    assert len(embed(TEXTS, named("openai:small"))) == 5
    assert len(Endpoint.asked) == 3


def test_an_endpoint_that_stays_busy_is_down_and_one_that_refuses_says_why(endpoint: str) -> None:
    Endpoint.failures = [429] * 2
    with pytest.raises(BackendDown, match="said 429") as down:
        embed(TEXTS, openai.embedder("small", retries=1))
    Endpoint.failures = [529]
    with pytest.raises(BackendDown, match="said 529"):
        embed(TEXTS, openai.embedder("small", retries=0))
    Endpoint.failures = [401]
    with pytest.raises(BackendUnsupported, match=r"not now\\x1b\[0m") as refused:
        embed(TEXTS, named("openai:small"))
    assert "sk-secret" not in f"{down.value}{refused.value}"


@pytest.mark.parametrize("instead", [{"error": "no quota"}, {"data": None, "said": "no quota"}, ["no quota"]])
def test_an_endpoint_that_gives_something_else_is_told_with_what_it_said(endpoint: str, instead: Any) -> None:
    Endpoint.instead = instead
    with pytest.raises(BackendUnsupported, match=r"gave no embeddings, but: .*no quota"):
        embed(TEXTS, named("openai:small"))


def test_an_address_that_is_none_is_refused_without_repeating_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://user:hidden:1/v1")
    with pytest.raises(InvalidInput, match="OPENAI_BASE_URL, must be the address of an endpoint") as refused:
        named("openai:small")
    assert "hidden" not in str(refused.value)


def test_texts_of_a_pipe_are_embedded(endpoint: str, tmp_path: Path) -> None:
    out, into = os.pipe()
    os.write(into, b"a cat\nhome\n")
    os.close(into)
    said = ["embed", f"/dev/fd/{out}", "-o", str(tmp_path / "rows.npy"), "--embedder", "openai:small"]
    ran = CliRunner().invoke(app, said)
    os.close(out)
    assert ran.exit_code == 0, ran.output
    assert np.array_equal(np.load(tmp_path / "rows.npy"), lengths(["a cat", "home"]))


def test_an_endpoint_that_is_not_there_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://user:hidden@127.0.0.1:9/v1")
    with pytest.raises(BackendDown) as down:
        embed(TEXTS, openai.embedder("small", retries=0))
    assert "hidden" not in str(down.value)
    with pytest.raises(InvalidInput, match="name one"):
        named("openai")


# ---- from a file of texts into a collection


@pytest.fixture(scope="module")
def of_three_columns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("three") / "model"
    rows = np.random.default_rng(0).normal(size=(120, 3)).astype(np.float32)
    sv.SparseEncoder(3, 64).fit(rows, budget=sv.Budget(nnz=4)).save(folder)
    return folder


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "texts.jsonl"
    said = [{"id": f"t{at}", "text": "a" * (at % 7) + f" word {at}", "n": at} for at in range(600)]
    path.write_text("".join(f"{json.dumps(one)}\n" for one in said))
    return path


def indexed(url: str, lines: Path, model: Path, *more: str) -> Any:
    said = ["index", url, str(lines), "--model", str(model), "--embedder", "openai:small", "--create", "--json", *more]
    result = CliRunner().invoke(app, said)
    return result.exit_code, json.loads(result.stdout)


def test_a_file_of_texts_is_written_and_asked(
    endpoint: str, lines: Path, of_three_columns: Path, tmp_path: Path
) -> None:
    url = f"reference:{tmp_path}/texts.db"
    code, report = indexed(url, lines, of_three_columns)
    assert (code, report["given"], report["written"]) == (0, 600, 600)
    with sv.connect(url) as adapter:
        assert adapter.fetch(["t3"]).payloads == ({"id": "t3", "text": "aaa word 3", "n": 3},)
        told = embed(["aaa word 3"], named("openai:small"))
        found = sv.Retriever(sv.SparseEncoder.load(of_three_columns), adapter).search(told, 5)
    said = ["search", url, "--text", "aaa word 3", "--model", of_three_columns, "--embedder", "openai:small", "-k", "5"]
    asked = CliRunner().invoke(app, [*map(str, said), "--json"])
    assert [hit["id"] for hit in json.loads(asked.stdout)[0]] == list(found[0].ids)
    (tmp_path / "questions.txt").write_text("aaa word 3\na word 7\n")
    said = ["search", url, tmp_path / "questions.txt", "--model", of_three_columns, "--embedder", "openai:small"]
    asked = CliRunner().invoke(app, [*map(str, said), "-k", "5", "--json"])
    assert [len(hits) for hits in json.loads(asked.stdout)] == [5, 5]
    assert [hit["id"] for hit in json.loads(asked.stdout)[0]] == list(found[0].ids)


def test_an_embedder_that_fails_in_the_middle_of_a_file_is_accounted_and_goes_on(
    endpoint: str, lines: Path, of_three_columns: Path, tmp_path: Path
) -> None:
    url, journal = f"reference:{tmp_path}/texts.db", ("--journal", f"{tmp_path}/run.journal")
    Endpoint.failures = [200, 401]
    code, said = indexed(url, lines, of_three_columns, *journal)
    counts = {name: said["report"][name] for name in ("given", "written", "skipped", "failed", "unreached")}
    assert (code, said["kind"]) == (1, "BackendUnsupported")
    assert counts == {"given": 256, "written": 256, "skipped": 0, "failed": 0, "unreached": 344}
    code, report = indexed(url, lines, of_three_columns, *journal)
    assert (code, report["given"], report["written"], report["unreached"]) == (0, 600, 600, 0)


def test_a_file_in_which_some_have_an_id_is_refused(
    endpoint: str, of_three_columns: Path, lines: Path, tmp_path: Path
) -> None:
    lines.write_text('{"text": "a"}\n{"id": 3, "text": "b"}\n')
    code, said = indexed(f"reference:{tmp_path}/texts.db", lines, of_three_columns)
    assert (code, said["kind"]) == (2, "InvalidInput")
    assert "1 of 2 lines" in said["error"]
    assert Endpoint.asked == []
