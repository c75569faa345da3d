"""`sparsevec demo`: from dense vectors to searches that are proved exact, on an engine that needs no server.

The corpus that ships with the package is described in demo/data/README.md.
"""

from __future__ import annotations

import json
import lzma
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from sparsevec.contract.adapter import Adapter, Hits
from sparsevec.contract.checks import Id, Payload, check_ids
from sparsevec.contract.connect import connect
from sparsevec.demo.report import Curve, Found, Search, Story, page
from sparsevec.dense import unit_rows as unit
from sparsevec.encoder import Budget, Progress, SparseEncoder
from sparsevec.errors import InvalidInput
from sparsevec.exact.verify import VerifyReport, verify
from sparsevec.files import read_dense, read_objects
from sparsevec.ingestion.ingest import IngestReport, ingest
from sparsevec.measure.cost import usage
from sparsevec.measure.recall import Evaluation, Qrels, evaluate, evaluate_dense
from sparsevec.vectors import Float32s, SparseVectors

__all__ = ["Corpus", "Outcome", "Watch", "from_folder", "run", "shipped"]

Watch: TypeAlias = Callable[[str, float], None]
"""Hears of each stage by name how much of it is done, 0 to 1."""

_DATA = Path(__file__).parent / "data"
_ASKED = 500  # queries that are measured and verified
_SHOWN = 12  # searches on the page
_ENOUGH = 200  # queries, to learn from half of them
_EXCERPT = 110  # characters of a document in a search
_BLOCK = 2048  # rows projected at a time
_SENTENCE_END = re.compile(r"(?<=\w{3})[.!?]\s")  # not that of "e.g."
_OURS = "sparsevec"


@dataclass(frozen=True, slots=True)
class Corpus:
    """What a demo is about."""

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
    """other queries, to measure and verify with"""
    answers: Qrels | None
    """what is relevant to them, where that is known"""
    words: Sequence[str]
    """queries that a person can judge"""
    word_vectors: Float32s


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a demo came to: the `story` that the page tells, and where it is."""

    story: Story
    page: Path
    written: IngestReport
    verdict: VerifyReport


def shipped() -> Corpus:
    """8,000 packages of Debian 12 with their MiniLM vectors."""
    packed = np.load(_DATA / "vectors.npz")
    parts = ("documents", "sample", "dev", "everyday")
    vectors = {name: packed[f"{name}_int8"] * packed[f"{name}_scale"] for name in parts}
    with lzma.open(_DATA / "documents.jsonl.xz", "rt", encoding="utf-8") as lines:
        packages = [json.loads(line) for line in lines]
    queries = json.loads((_DATA / "queries.json").read_text(encoding="utf-8"))
    row = {package["id"]: number for number, package in enumerate(packages)}
    return Corpus(
        about=f"{len(packages):,} package descriptions of Debian 12 with their MiniLM vectors",
        dense=vectors["documents"],
        ids=[package["id"] for package in packages],
        payloads=[{"section": package["section"], "text": package["text"]} for package in packages],
        sample=vectors["sample"],
        asked=vectors["dev"],
        answers={query: {row[answer]: 1} for query, answer in enumerate(queries["dev_answers"])},
        words=queries["everyday"],
        word_vectors=vectors["everyday"],
    )


def from_folder(folder: Path) -> Corpus:
    """`documents.npy` (n, d) and, where they are there, `queries.npy` (q, d), `documents.jsonl` and `queries.jsonl`.

    Lines are objects; `id` and `text` are used where they are given. Of many queries half are learned from and the
    others asked; without queries, documents are asked for their neighbours.
    """
    dense = read_dense(folder / "documents.npy")
    payloads = _objects(folder / "documents.jsonl", len(dense))
    texts = [str(payload.get("text", payload.get("id", row))) for row, payload in enumerate(payloads)]
    if (folder / "queries.npy").exists():
        queries = read_dense(folder / "queries.npy")
        lines = _objects(folder / "queries.jsonl", len(queries))
        words = [str(line.get("text", f"query {row}")) for row, line in enumerate(lines)]
        enough = len(queries) >= _ENOUGH
        sample, asked, words = (queries[::2], queries[1::2], words[1::2]) if enough else (None, queries, words)
    else:
        picked = np.random.default_rng(0).permutation(len(dense))[:_ASKED]
        sample, asked, words = None, dense[picked], [f"like: {texts[row]}" for row in picked]
    return Corpus(
        about=f"{len(dense):,} vectors of {dense.shape[1]} dimensions from {folder}",
        dense=dense,
        ids=_distinct(check_ids(payload.get("id", row) for row, payload in enumerate(payloads))),
        payloads=[{"text": text} for text in texts],
        sample=sample,
        asked=asked[:_ASKED],
        answers=None,
        words=[word[:_EXCERPT] for word in words[:_SHOWN]],
        word_vectors=asked[:_SHOWN],
    )


def _objects(path: Path, n: int) -> list[dict[str, Any]]:
    """One for each of n vectors, empty without the file."""
    lines = list(read_objects(path)) if path.exists() else [{} for _ in range(n)]
    if len(lines) != n:
        raise InvalidInput(f"{path} must hold one JSON object for each of the {n} vectors, found {len(lines)} lines")
    return lines


def _distinct(ids: list[Id]) -> list[Id]:
    if len(set(ids)) < len(ids):
        twice = next(id_ for id_, times in Counter(ids).items() if times > 1)
        raise InvalidInput(f"documents.jsonl gives the id {twice!r} twice; each document needs its own")
    return ids


def run(
    corpus: Corpus, folder: Path, *, dimension: int = 4096, nnz: int = 32, watch: Watch = lambda *_: None
) -> Outcome:
    """Learn, write, search, verify and measure; leaves `model/`, `collection/` and `report.html` in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    stages = _Stages(watch)
    with closing(connect(f"qdrant+edge:{folder / 'collection'}")) as adapter:  # what is missing is missed at once
        learned = _learn(corpus, dimension, Budget(nnz=nnz), stages)
        learned.encoder.save(folder / "model")
        served = _serve(corpus, learned, adapter, stages)
    rows, curves, usages = _compare(corpus, learned, nnz, stages)
    story = Story(
        title=f"Dense search with {rows[_OURS].flops:.2g} multiplications, not {corpus.dense.shape[1]}",
        corpus=f"Learned on this machine from {corpus.about}, without labels.",
        engine=served.verdict.backend,
        seconds=stages.seconds,
        written=str(served.written),
        verdict=str(served.verdict),
        exact=served.verdict.exact,
        rows=rows,
        curves=curves,
        usages=usages,
        searches=served.searches,
    )
    (folder / "report.html").write_text(page(story), encoding="utf-8")
    return Outcome(story, folder / "report.html", served.written, served.verdict)


class _Stages:
    """Times each stage and tells `watch` how far it is."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[Callable[[float], None]]:
        self._watch(name, 0.0)
        began = time.perf_counter()
        yield lambda share: self._watch(name, share)
        self.seconds[name] = time.perf_counter() - began
        self._watch(name, 1.0)


# ---- learn


@dataclass(frozen=True, slots=True)
class _Learned:
    encoder: SparseEncoder
    head: SparseVectors
    """documents as the head alone encodes them"""
    head_queries: SparseVectors
    documents: SparseVectors
    """refined"""
    queries: SparseVectors


def _learn(corpus: Corpus, dimension: int, budget: Budget, stages: _Stages) -> _Learned:
    encoder = SparseEncoder(corpus.dense.shape[1], dimension)
    with stages.stage("learn an encoder") as done:
        encoder.fit(corpus.dense, corpus.sample, budget=budget, on_step=_steps(done))
        head, head_queries = encoder.encode_document(corpus.dense), encoder.encode_query(corpus.asked)
    with stages.stage("fit the weights to these documents") as done:
        documents = encoder.refine(corpus.dense, corpus.sample, on_step=_steps(done))
        queries = encoder.encode_query(corpus.asked)
    return _Learned(encoder, head, head_queries, documents, queries)


def _steps(done: Callable[[float], None]) -> Callable[[Progress], None]:
    return lambda progress: done(progress.fraction)


# ---- serve


@dataclass(frozen=True, slots=True)
class _Served:
    written: IngestReport
    searches: list[Search]
    verdict: VerifyReport


def _serve(corpus: Corpus, learned: _Learned, adapter: Adapter, stages: _Stages) -> _Served:
    documents = learned.documents
    with stages.stage("write to the embedded engine") as done:
        adapter.drop()  # that of an earlier demo
        adapter.create(documents.dimension)
        written = ingest(
            adapter,
            corpus.ids,
            documents,
            corpus.payloads,
            on_progress=lambda progress: done(progress.documents / len(documents)),
        )
    with stages.stage("search"):
        searches = _searches(adapter, corpus, learned.encoder)
    with stages.stage("verify every answer"):
        verdict = verify(adapter, documents, learned.queries, ids=corpus.ids)
    return _Served(written, searches, verdict)


def _searches(adapter: Adapter, corpus: Corpus, encoder: SparseEncoder) -> list[Search]:
    answers = adapter.search(encoder.encode_query(corpus.word_vectors), 3, with_payloads=True)
    return [Search(words, _found(hits)) for words, hits in zip(corpus.words, answers, strict=True)]


def _found(hits: Hits) -> list[Found]:
    scored = zip(hits.ids, hits.scores.tolist(), hits.payloads or (), strict=True)
    return [Found(id_, score, _excerpt(payload["text"])) for id_, score, payload in scored]


def _excerpt(text: str) -> str:
    sentence = _SENTENCE_END.split(text.strip(" ,"), maxsplit=1)[0]
    return sentence if len(sentence) <= _EXCERPT else sentence[:_EXCERPT].rsplit(" ", 1)[0] + " …"


# ---- compare


def _compare(
    corpus: Corpus, learned: _Learned, nnz: int, stages: _Stages
) -> tuple[dict[str, Evaluation], list[Curve], dict[str, npt.NDArray[np.float64]]]:
    """The table, the curves and the usages; ours beside what one could do without learning."""
    with stages.stage("measure, and the baselines beside it") as done:
        whole = evaluate_dense(corpus.dense, corpus.asked, unit(corpus.dense), unit(corpus.asked), qrels=corpus.answers)
        pca = _pca(corpus)
        done(0.2)
        ks = [k for k in (nnz // 2, nnz, 2 * nnz) if k]
        random = _projected(corpus, _random_directions(corpus, learned.documents.dimension), ks)
        landmarks = _projected(corpus, _some_documents(corpus, learned.documents.dimension), ks)
        done(0.4)
        projected = {k: _sparse(corpus, *codes) for k, codes in random.items()}
        nearby = {k: _sparse(corpus, *codes) for k, codes in landmarks.items()}
        done(0.7)
        head = _sparse(corpus, learned.head, learned.head_queries)
        ours = _sparse(corpus, learned.documents, learned.queries)
        shorter = [m for m in (nnz // 4, nnz // 2, nnz, 2 * nnz) if 0 < m < ours.query_active_dims]
        queries = [learned.encoder.encode_query(corpus.asked, nnz=m) for m in shorter]
        curve = [_sparse(corpus, learned.documents, cut) for cut in queries]
    middle = list(pca)[len(pca) // 2]
    rows = {
        "dense": whole,
        f"PCA, {middle} dimensions": pca[middle],
        f"random projection, {nnz} largest": projected[nnz],
        f"{nnz} nearest of some documents": nearby[nnz],
        "sparsevec, before fitting to the corpus": head,
        _OURS: ours,
    }
    curves = [
        Curve(_OURS, [*curve, ours]),
        Curve("PCA", list(pca.values())),
        Curve("random projection", list(projected.values())),
        Curve("nearest of some documents", list(nearby.values())),
        Curve("dense", [whole]),
    ]
    usages = {_OURS: usage(learned.documents), "nearest of some documents": usage(landmarks[nnz][0])}
    return rows, curves, usages | _word_usage(corpus, learned.documents.dimension)


def _word_usage(corpus: Corpus, dimension: int) -> dict[str, npt.NDArray[np.float64]]:
    """The share of texts that hold each of the `dimension` commonest words; nothing where the texts are no words."""
    words = Counter(
        word for payload in corpus.payloads for word in set(re.findall(r"[^\W\d_]{2,}", payload["text"].lower()))
    )
    shares = np.array([count / len(corpus.payloads) for _, count in words.most_common(dimension)])
    return {"the words of the texts": shares} if len(shares) > 1 else {}


def _sparse(corpus: Corpus, documents: SparseVectors, queries: SparseVectors) -> Evaluation:
    return evaluate(corpus.dense, corpus.asked, documents, queries, qrels=corpus.answers)


def _pca(corpus: Corpus) -> dict[int, Evaluation]:
    """A 24th, 12th, 6th and third of the principal components of unit rows, compared by cosine."""
    rows, asked = _centred(corpus)
    axes = np.linalg.eigh(np.cov(rows.T))[1][:, ::-1].astype(np.float32)
    rows, asked = rows @ axes, asked @ axes
    sizes = sorted({max(1, rows.shape[1] // share) for share in (24, 12, 6, 3)})
    codes = {m: (unit(rows[:, :m]), unit(asked[:, :m])) for m in sizes}
    return {m: evaluate_dense(corpus.dense, corpus.asked, *both, qrels=corpus.answers) for m, both in codes.items()}


def _random_directions(corpus: Corpus, dimension: int) -> Float32s:
    return np.random.default_rng(0).standard_normal((corpus.dense.shape[1], dimension), np.float32)


def _some_documents(corpus: Corpus, dimension: int) -> Float32s:
    """`dimension` documents as directions, some more than once when there are fewer."""
    return _centred(corpus)[0][np.random.default_rng(0).permutation(dimension) % len(corpus.dense)].T


def _projected(
    corpus: Corpus, directions: Float32s, ks: Iterable[int]
) -> dict[int, tuple[SparseVectors, SparseVectors]]:
    """By k, the k largest projections of documents and of queries on `directions` (d, dimension)."""
    rows, asked = _centred(corpus)
    return {k: (_largest(rows, directions, k), _largest(asked, directions, k)) for k in ks}


def _centred(corpus: Corpus) -> tuple[Float32s, Float32s]:
    """Unit documents and queries, less the documents' mean."""
    rows = unit(corpus.dense)
    mean = rows.mean(axis=0)
    return rows - mean, unit(corpus.asked) - mean


def _largest(rows: Float32s, directions: Float32s, k: int) -> SparseVectors:
    """Rows (n, d) projected, with all but their k largest entries gone, at length 1."""
    starts = range(0, len(rows), _BLOCK)
    return SparseVectors.concat([_cut(rows[start : start + _BLOCK] @ directions, k) for start in starts])


def _cut(projections: Float32s, k: int) -> SparseVectors:
    threshold = np.partition(projections, -k, axis=1)[:, -k, None]
    kept = np.where(projections >= np.maximum(threshold, 0), projections, 0)
    return SparseVectors.from_dense(kept / np.linalg.norm(kept, axis=1, keepdims=True))
