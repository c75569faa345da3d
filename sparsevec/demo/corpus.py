"""What a demo is about: the corpus that ships with the package (data/README.md), or a folder of one's own."""

from __future__ import annotations

import json
import lzma
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np

from sparsevec.contract.checks import Id, Payload, check_ids, first_repeated, payload_fault
from sparsevec.dense import dense_rows
from sparsevec.errors import InvalidInput
from sparsevec.files import DenseFile, read_objects, read_table
from sparsevec.measure.recall import Qrels
from sparsevec.vectors import Float32s

__all__ = ["Corpus", "from_folder", "shipped"]

_ASKED = 500  # queries that are measured and verified
_SHOWN = 12  # searches on the page
_ENOUGH = 200  # queries, to learn from half of them
_WORDS = 110  # characters of a query
_ASIDE = 8  # of so many documents one is set aside to ask, where there are no queries
_FORMATS = ("npy", "npz", "parquet", "arrow", "feather", "csv", "tsv")


@dataclass(frozen=True, slots=True)
class Corpus:
    """Documents to learn from and to search, and queries that are no part of them."""

    about: str
    """in a sentence"""
    dense: Float32s
    """(n, d), one row a document"""
    ids: Sequence[Id]
    payloads: Sequence[Payload]
    """each with a `text`"""
    sample: Float32s | None
    """queries to learn from"""
    asked: Float32s
    """others, that nobody learns from, to measure and verify with"""
    asking: str
    """who asks, in a sentence"""
    answers: Qrels | None
    """what is relevant to them, where that is known"""
    words: Sequence[str]
    """queries that a person can judge"""
    word_vectors: Float32s


def shipped() -> Corpus:
    """8,000 packages of Debian 12 with their MiniLM vectors."""
    with as_file(files("sparsevec.demo") / "data") as data:
        with np.load(data / "vectors.npz") as packed:
            parts = ("documents", "sample", "dev", "everyday")
            vectors = {name: packed[f"{name}_int8"] * packed[f"{name}_scale"] for name in parts}
        with lzma.open(data / "documents.jsonl.xz", "rt", encoding="utf-8") as lines:
            packages = [json.loads(line) for line in lines]
        queries = json.loads((data / "queries.json").read_text(encoding="utf-8"))
    row = {package["id"]: number for number, package in enumerate(packages)}
    return Corpus(
        about=f"{len(packages):,} package descriptions of Debian 12 with their MiniLM vectors",
        dense=vectors["documents"],
        ids=[package["id"] for package in packages],
        payloads=[{"section": package["section"], "text": package["text"]} for package in packages],
        sample=vectors["sample"],
        asked=vectors["dev"],
        asking=f"Measured with {len(vectors['dev'])} queries that nobody learned from.",
        answers={query: {row[answer]: 1} for query, answer in enumerate(queries["dev_answers"])},
        words=queries["everyday"],
        word_vectors=vectors["everyday"],
    )


def from_folder(folder: Path) -> Corpus:
    """Documents, as `documents.npy` (n, d) or another format of vectors, and where they are there `queries.npy` (q, d),
    `documents.jsonl` and `queries.jsonl`.

    Lines are objects, as are the other columns of a table: `id` is the id, `text` is what is shown, and every field but
    the id becomes the payload. Of many queries half are learned from and the others asked; without queries, some
    documents are set aside to ask. Raises InvalidInput or InvalidVectors, before anything is learned.
    """
    path = _file(folder, "documents")
    found = read_table(path)
    dense, asking = dense_rows(found.rows, what=path.name), _file(folder, "queries").exists()
    lines = _lines(folder, path, found, len(dense))
    ids = _distinct(check_ids(line.get("id", row) for row, line in enumerate(lines)))
    payloads = [_payload(line, row) for row, line in enumerate(lines)]
    if len(dense) < (least := 2 if asking else _ASIDE):
        beside = "" if asking else ", or queries beside it (queries.npy)"
        raise InvalidInput(f"{path} must hold at least {least} documents{beside}, found {len(dense)}")
    about = f"{len(dense):,} vectors of {dense.shape[1]} dimensions from {folder}"
    if asking:
        return _with_queries(folder, about, dense, ids, payloads)
    return _without_queries(about, dense, ids, payloads)


def _with_queries(folder: Path, about: str, dense: Float32s, ids: Sequence[Id], payloads: Sequence[Payload]) -> Corpus:
    path = _file(folder, "queries")
    queries = dense_rows(read_table(path).rows, dense.shape[1], path.name)
    if not len(queries):
        raise InvalidInput(f"{path} holds no query; take it away, and some of the documents are asked instead")
    lines = _objects(folder / "queries.jsonl", len(queries))
    words = [str(line.get("text", f"query {row}")) for row, line in enumerate(lines)]
    enough = len(queries) >= _ENOUGH
    sample, asked, words = (queries[::2], queries[1::2], words[1::2]) if enough else (None, queries, words)
    asked = asked[:_ASKED]
    learned = "half of the queries and the documents" if enough else "the documents alone"
    return Corpus(
        about=about,
        dense=dense,
        ids=ids,
        payloads=payloads,
        sample=sample,
        asked=asked,
        asking=f"Measured with {len(asked):,} queries that nobody learned from; it learned from {learned}.",
        answers=None,
        words=[word[:_WORDS] for word in words[:_SHOWN]],
        word_vectors=asked[:_SHOWN],
    )


def _without_queries(about: str, dense: Float32s, ids: Sequence[Id], payloads: Sequence[Payload]) -> Corpus:
    aside = np.random.default_rng(0).permutation(len(dense))[: min(_ASKED, len(dense) // _ASIDE)]
    kept = np.setdiff1d(np.arange(len(dense)), aside)
    asked = np.asarray(dense[aside])
    return Corpus(
        about=about,
        dense=np.asarray(dense[kept]),
        ids=[ids[row] for row in kept],
        payloads=[payloads[row] for row in kept],
        sample=None,
        asked=asked,
        asking=f"There were no queries (queries.npy), so {len(aside):,} documents were set aside and asked instead: "
        "neither learned from nor written. Real queries are often harder than documents.",
        answers=None,
        words=[f"like: {payloads[row]['text']}"[:_WORDS] for row in aside[:_SHOWN]],
        word_vectors=asked[:_SHOWN],
    )


def _file(folder: Path, name: str) -> Path:
    """The file of vectors of that name, in the first format that is there; .npy where there is none."""
    there = (folder / f"{name}.{kind}" for kind in _FORMATS)
    return next((path for path in there if path.exists()), folder / f"{name}.npy")


def _lines(folder: Path, path: Path, found: DenseFile, n: int) -> list[dict[str, Any]]:
    """What stands beside each vector: in documents.jsonl, or in the other columns of the same table."""
    beside = folder / "documents.jsonl"
    if beside.exists() and beside != path:
        return _objects(beside, n)
    lines: list[dict[str, Any]] = [dict(payload) for payload in found.payloads or ({} for _ in range(n))]
    for line, id_ in zip(lines, found.ids if found.ids is not None else (), strict=False):
        line["id"] = id_
    return lines


def _objects(path: Path, n: int) -> list[dict[str, Any]]:
    """One for each of n vectors, empty without the file."""
    lines = list(read_objects(path)) if path.exists() else [{} for _ in range(n)]
    if len(lines) != n:
        raise InvalidInput(f"{path} must hold one JSON object for each of the {n} vectors, found {len(lines)} lines")
    return lines


def _payload(line: dict[str, Any], row: int) -> Payload:
    """Every field but the id, and a `text` to show."""
    payload = {name: value for name, value in line.items() if name != "id"}
    payload["text"] = str(line.get("text", line.get("id", row)))
    if fault := payload_fault(payload):
        raise InvalidInput(f"document {row}, line {row + 1}: {fault}")
    return payload


def _distinct(ids: list[Id]) -> list[Id]:
    if len(set(ids)) < len(ids):
        raise InvalidInput(f"documents.jsonl gives the id {first_repeated(ids)!r} twice; each document needs its own")
    return ids
