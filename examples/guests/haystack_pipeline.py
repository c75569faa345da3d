"""Haystack: a document store and a retriever in a pipeline, which goes through its file.

python examples/guests/haystack_pipeline.py
"""

from __future__ import annotations

import tempfile

import numpy as np
from haystack import Document, Pipeline
from haystack.components.writers import DocumentWriter
from haystack.document_stores.types import DuplicatePolicy

import sparsevec as sv
from sparsevec.integrations.haystack import SparsevecDocumentStore, SparsevecRetriever

DOES, WHAT = ("shows", "converts", "encrypts", "prints"), ("photographs", "music", "maps", "e-mail", "fonts")
TEXTS = [f"{does} {what}, part {part}" for does in DOES for what in WHAT for part in range(6)]


def main() -> list[str]:
    dense = np.random.default_rng(0).normal(size=(len(TEXTS), 32)).astype(np.float32)  # yours: an embedder component's
    with tempfile.TemporaryDirectory() as folder:
        sv.SparseEncoder(32, 1024).fit(dense, budget=sv.Budget(nnz=16)).save(f"{folder}/model")
        store = SparsevecDocumentStore(f"reference:{folder}/documents.db", f"{folder}/model")
        shows = {"field": "meta.does", "operator": "==", "value": "shows"}
        pipeline = Pipeline()
        pipeline.add_component("writer", DocumentWriter(store, policy=DuplicatePolicy.OVERWRITE))
        pipeline.add_component("retriever", SparsevecRetriever(store, filters=shows, top_k=3))

        documents = [
            Document(content=text, meta={"does": text.split()[0]}, embedding=row.tolist())
            for text, row in zip(TEXTS, dense, strict=True)
        ]
        again = Pipeline.loads(pipeline.dumps(), allowed_modules=["sparsevec.integrations.haystack"])
        asked = {"writer": {"documents": documents}, "retriever": {"query_embedding": dense[0].tolist()}}
        again.run({"writer": asked["writer"], "retriever": asked["retriever"]})
        found = again.run({"writer": {"documents": []}, "retriever": asked["retriever"]})
        assert store.count_documents_by_filter(shows) == 30
        return [str(document.content) for document in found["retriever"]["documents"]]


if __name__ == "__main__":
    print("\n".join(main()))
