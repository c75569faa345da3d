"""`sparsevec demo`: from dense vectors to searches that are proved exact, on an engine that needs no server."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import numpy as np

from sparsevec.answers.retriever import Retriever
from sparsevec.answers.scoring import Rerank
from sparsevec.contract.adapter import Adapter, Hits
from sparsevec.contract.checks import Id
from sparsevec.contract.connect import connect
from sparsevec.demo.compare import OURS, Learned, compared
from sparsevec.demo.corpus import Corpus
from sparsevec.demo.meanings import Meanings
from sparsevec.demo.report import Found, Reason, Search, Story, page
from sparsevec.demo.stages import Stages, Watch
from sparsevec.dense import unit_rows as unit
from sparsevec.encoder import Budget, SparseEncoder
from sparsevec.encoder.store import check_place
from sparsevec.errors import ClientMissing, InvalidInput, printable
from sparsevec.exact.verify import VerifyReport, verify
from sparsevec.ingestion.ingest import IngestReport
from sparsevec.measure.recall import dense_top, judged
from sparsevec.storage import storage_errors, whole_file
from sparsevec.vectors import Float32s

__all__ = ["Outcome", "collection_url", "require", "run"]

_EXCERPT = 110  # characters of a document in a search
_REASONS, _EXAMPLES = 4, 4  # of a hit: dimensions, and documents that use each
_HITS, _LIKE = 3, 4  # documents of a search, and of `more like this`
_LIKED = 300  # documents that know others like them
_CODE, _ENOUGH = 192, 2000  # bytes of a residual code, and documents to learn one from
_CANDIDATES = 200
_SENTENCE_END = re.compile(r"(?<=\w{3})[.!?]\s")  # not that of "e.g."
_ENGINES = {"qdrant+edge": "qdrant_edge", "local": "numpy", "reference": "numpy"}  # and what each needs


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a demo came to: the `story` that the page tells, and where it is."""

    story: Story
    page: Path
    written: IngestReport
    verdict: VerifyReport


def require(engine: str) -> None:
    """Raises InvalidInput for an engine that a demo cannot use, ClientMissing that names all that is missing."""
    if engine not in _ENGINES:
        raise InvalidInput(f"expected an engine of this machine, one of {list(_ENGINES)}, found {engine!r:.80}")
    missing = [name for name in ("torch", "matplotlib", "ir_measures", _ENGINES[engine]) if find_spec(name) is None]
    if missing:
        raise ClientMissing(
            f"the demo needs {', '.join(missing)}; install all that it needs with: pip install 'sparsevec[demo]'"
        )


def run(
    load: Callable[[], Corpus],
    folder: Path,
    *,
    dimension: int = 4096,
    nnz: int = 32,
    engine: str = "qdrant+edge",
    watch: Watch = lambda *_: None,
) -> Outcome:
    """Learn, write, search, verify and measure; leaves `model/`, `collection/` and `report.html` in `folder`.

    Raises, before anything is learned, what `load`, `collection_url`, `connect` and `check_place` raise.
    """
    stages = Stages(watch)
    with stages.stage("read the vectors"):
        corpus = load()
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        check_place(folder / "model")
    with connect(collection_url(engine, folder)) as adapter:
        learned = _learn(corpus, dimension, Budget(nnz=nnz, residual_bytes=_code_bytes(corpus)), stages)
        served = _serve(corpus, learned, adapter, stages)
    with stages.stage("measure, and the baselines beside it"):
        found = compared(corpus, learned, nnz)
        rows, poor = found.rows, found.poor
    with stages.stage("save the model and draw the page"):
        learned.encoder.save(folder / "model")
        good = (
            f"{served.recall_10:.1%} of the dense top 10, with {rows[OURS].flops:.2g} multiplications a document, not "
            f"{corpus.dense.shape[1]}"
        )
        story = Story(
            title=f"Not good on these vectors: {poor}" if poor else good,
            good=poor is None,
            corpus=f"Learned on this machine from {corpus.about}, without labels.",
            asked=corpus.asking,
            engine=served.verdict.backend,
            seconds=stages.seconds,
            written=str(served.written),
            verdict=str(served.verdict),
            answers=served.recall_10,
            code_bytes=learned.encoder.residual_bytes or 0,
            exact=served.verdict.exact,
            rows=rows,
            curves=found.curves,
            usages=found.usages,
            searches=served.searches,
            likes=served.likes,
        )
        text = page(story).encode()
    whole_file(folder / "report.html", text)
    return Outcome(story, folder / "report.html", served.written, served.verdict)


def collection_url(engine: str, folder: Path) -> str:
    """Of the collection in a folder of any name that is valid unicode. Raises InvalidInput for another."""
    try:
        return f"{engine}://{quote(str((folder / 'collection').absolute()))}"
    except UnicodeEncodeError:
        raise InvalidInput(
            f"the name of {printable(folder)} is not valid unicode; name another folder with -o"
        ) from None


def _code_bytes(corpus: Corpus) -> int | None:
    """None where the rows are so short, or so few, that there is nothing to learn a code from."""
    n, columns = corpus.dense.shape
    return min(_CODE, columns // 2) if columns >= 16 and n >= _ENOUGH else None


# ---- learn


def _learn(corpus: Corpus, dimension: int, budget: Budget, stages: Stages) -> Learned:
    encoder = SparseEncoder(corpus.dense.shape[1], dimension)
    with stages.stage("learn an encoder") as done:
        encoder.fit(corpus.dense, corpus.sample, budget=budget, on_step=lambda at: done(at.fraction))
        head, head_queries = encoder.encode_document(corpus.dense), encoder.encode_query(corpus.asked)
    with stages.stage("fit the weights to these documents") as done:
        documents = encoder.refine(corpus.dense, corpus.sample, on_step=lambda at: done(at.fraction))
        queries = encoder.encode_query(corpus.asked)
    return Learned(encoder, head, head_queries, documents, queries)


# ---- serve


@dataclass(frozen=True, slots=True)
class _Served:
    written: IngestReport
    searches: list[Search]
    likes: dict[int, list[Found]]
    verdict: VerifyReport
    recall_10: float
    """overlap of the final answers with the exact dense top 10"""


def _serve(corpus: Corpus, learned: Learned, adapter: Adapter, stages: Stages) -> _Served:
    documents = learned.documents
    rerank: Rerank = "second look" if learned.encoder.residual_bytes is None else "residual"
    retriever = Retriever(learned.encoder, adapter, rerank=rerank, candidates=_CANDIDATES)
    with stages.stage("write to the embedded engine") as done:
        adapter.drop()  # that of an earlier demo
        written = retriever.add(
            corpus.ids,
            corpus.dense,
            corpus.payloads,
            vectors=documents,
            on_progress=lambda progress: done(progress.documents / len(documents)),
        )
    with stages.stage("search") as done:
        shelf = _Shelf(corpus, learned, adapter, retriever)
        searches = shelf.searches()
        done(0.5)
        likes = shelf.likes(searches)
    with stages.stage("verify every answer"):
        verdict = verify(retriever, corpus.dense, corpus.asked, ids=corpus.ids, vectors=documents)
        row = {id_: number for number, id_ in enumerate(corpus.ids)}
        answers = [np.array([row[id_] for id_ in hits.ids], np.int64) for hits in retriever.search(corpus.asked)]
        found = judged(unit(corpus.dense), unit(corpus.asked), answers).recall_10
    return _Served(written, searches, likes, verdict, float(found.mean()))


class _Shelf:
    """Searches, as a person reads them."""

    def __init__(self, corpus: Corpus, learned: Learned, adapter: Adapter, retriever: Retriever) -> None:
        self._corpus, self._learned, self._adapter, self._retriever = corpus, learned, adapter, retriever
        self._row = {id_: row for row, id_ in enumerate(corpus.ids)}
        self._texts = [str(payload["text"]) for payload in corpus.payloads]
        self._meanings = Meanings(learned.documents, self._texts)

    def searches(self) -> list[Search]:
        """Of the queries in words, the final answers and beside them the exact dense ones."""
        corpus = self._corpus
        answers = self._retriever.search(corpus.word_vectors, _HITS)
        rows, asked = unit(corpus.dense), unit(corpus.word_vectors)
        nearest = dense_top(rows, asked, _HITS)
        return [
            Search(
                corpus.words[number],
                self._found(corpus.word_vectors[number], answers[number]),
                [self._shown(row, float(rows[row] @ asked[number])) for row in nearest[number].tolist()],
            )
            for number in range(len(answers))
        ]

    def _found(self, query: Float32s, hits: Hits) -> list[Found]:
        return [self._shown(self._row[hit.id], hit.score, self._why(query, hit.id)) for hit in hits]

    def _why(self, query: Float32s, id_: Id) -> list[Reason]:
        """What the score of a hit is made of, the largest parts first, each with documents that use the dimension."""
        why = self._retriever.explain(query, id_, examples=_EXAMPLES)
        reasons = [
            Reason(self._meanings(one.dimension), one.score, [str(hit.id) for hit in one.examples if hit.id != id_])
            for one in why.contributions[:_REASONS]
        ]
        others = why.contributions[_REASONS:]
        if others:
            reasons.append(Reason(f"{len(others)} other dimensions", sum(one.score for one in others)))
        if why.residual is not None:
            reasons.append(Reason("what all documents share", why.constant))
            reasons.append(Reason("residual code", why.residual))
        return reasons

    def likes(self, searches: Sequence[Search]) -> dict[int, list[Found]]:
        """By row, the documents most like those that are shown, and like these again."""
        found: dict[int, list[Found]] = {}
        wanted = [hit.row for search in searches for hit in (*search.found, *search.dense)]
        while wanted and len(found) < _LIKED:
            rows = list(dict.fromkeys(row for row in wanted if row not in found))[: _LIKED - len(found)]
            if not rows:
                break
            found |= self._like(rows)
            wanted = [hit.row for row in rows for hit in found[row]]
        return found

    def _like(self, rows: Sequence[int]) -> dict[int, list[Found]]:
        answers = self._adapter.search(self._learned.documents[rows], _LIKE + 1)
        others = [[(self._row[hit.id], hit.score) for hit in hits] for hits in answers]
        return {
            row: [self._shown(other, score) for other, score in near if other != row][:_LIKE]
            for row, near in zip(rows, others, strict=True)
        }

    def _shown(self, row: int, score: float, why: Sequence[Reason] = ()) -> Found:
        id_: Id = self._corpus.ids[row]
        return Found(id_, score, _excerpt(self._texts[row]), row, why)


def _excerpt(text: str) -> str:
    sentence = _SENTENCE_END.split(text.strip(" ,"), maxsplit=1)[0]
    return sentence if len(sentence) <= _EXCERPT else sentence[:_EXCERPT].rsplit(" ", 1)[0] + " …"
