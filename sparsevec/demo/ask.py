"""A question of one's own, in words: the demo's documents embedded on this machine, offline, without a model to fetch.

The first question learns and writes, a minute; `folder` keeps the model and the collection, and the next one is
answered at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sparsevec.answers.retriever import Retriever
from sparsevec.contract.adapter import Adapter, Hits
from sparsevec.contract.connect import connect
from sparsevec.demo.corpus import shipped
from sparsevec.demo.run import collection_url
from sparsevec.demo.stages import Stages, Watch
from sparsevec.encoder import Budget, SparseEncoder
from sparsevec.errors import InvalidInput
from sparsevec.ingestion.ingest import ingest
from sparsevec.integrations.embedders import Embedder, embed, named
from sparsevec.storage import storage_errors

__all__ = ["Asked", "ask"]

_DIMENSION, _NNZ = 4096, 32  # those of the demo itself


@dataclass(frozen=True, slots=True)
class Asked:
    """Questions and their answers, best first, with payloads; `seconds` of each step."""

    questions: tuple[str, ...]
    answers: tuple[Hits, ...]
    seconds: dict[str, float]


def ask(
    questions: Sequence[str],
    folder: Path,
    *,
    k: int = 5,
    embedder: str = "wordllama",
    engine: str = "qdrant+edge",
    watch: Watch = lambda *_: None,
) -> Asked:
    """The k packages of Debian that answer each question best; leaves `model/` and `collection/` in `folder`.

    Raises InvalidInput for a question without words, and what `named` raises.
    """
    if not questions or not all(question.strip() for question in questions):
        raise InvalidInput("expected a question in words, found an empty one")
    stages = Stages(watch)
    with stages.stage("load the embedder"):
        embeds = named(embedder)
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
    with connect(collection_url(engine, folder)) as adapter:
        encoder = _made(folder, adapter, embeds, stages)
        with stages.stage("answer"):
            asked = embed(questions, embeds)
            if asked.shape[1] != encoder.input_dim:
                raise InvalidInput(
                    f"{folder} was made with another embedder, of {encoder.input_dim} columns; {embedder} has "
                    f"{asked.shape[1]}: name a new folder with -o"
                )
            found = Retriever(encoder, adapter).search(asked, k, with_payloads=True)
    return Asked(tuple(questions), tuple(found), dict(stages.seconds))


def _made(folder: Path, adapter: Adapter, embeds: Embedder, stages: Stages) -> SparseEncoder:
    """The encoder of this folder; its model is saved last, so where it is there, the collection is whole."""
    model = folder / "model"
    if model.exists():
        return SparseEncoder.load(model)
    corpus = shipped()
    texts = [str(payload["text"]) for payload in corpus.payloads]
    with stages.stage("embed the documents") as done:
        dense = embed(texts, embeds, on_batch=lambda count: done(count / len(texts)))
    encoder = SparseEncoder(dense.shape[1], _DIMENSION)
    with stages.stage("learn an encoder") as done:
        encoder.fit(dense, budget=Budget(nnz=_NNZ), on_step=lambda at: done(at.fraction))
    with stages.stage("write to the embedded engine") as done:
        vectors = encoder.encode_document(dense)
        adapter.drop()  # that of a run which was cut off
        adapter.create(vectors.dimension, fingerprint=vectors.fingerprint)
        ingest(adapter, corpus.ids, vectors, corpus.payloads, on_progress=lambda at: done(at.documents / len(texts)))
    encoder.save(model)
    return encoder
