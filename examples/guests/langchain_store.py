"""LangChain: a vector store whose answers are re-ranked, with filters, and a document that is taken away by one.

python examples/guests/langchain_store.py
"""

from __future__ import annotations

import numpy as np
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding

import sparsevec as sv
from sparsevec.integrations.langchain import SparsevecVectorStore

DOES, WHAT = ("shows", "converts", "encrypts", "prints"), ("photographs", "music", "maps", "e-mail", "fonts")
TEXTS = [f"{does} {what}, part {part}" for does in DOES for what in WHAT for part in range(6)]


def main(url: str = "local:") -> list[str]:
    embeddings = DeterministicFakeEmbedding(size=32)  # yours: any model of LangChain's
    known = np.asarray(embeddings.embed_documents(TEXTS), np.float32)
    encoder = sv.SparseEncoder(32, 1024).fit(known, budget=sv.Budget(nnz=16))

    store = SparsevecVectorStore(embeddings, sv.Retriever(encoder, sv.connect(url)))
    documents = [Document(text, metadata={"does": text.split()[0], "at": at}) for at, text in enumerate(TEXTS)]
    store.add_documents(documents)
    store.delete(where={"does": "prints", "at": {"lt": 100}})

    retriever = store.as_retriever(search_kwargs={"k": 3, "filter": {"does": ["prints", "shows"]}})
    return [document.page_content for document in retriever.invoke(TEXTS[0])]


if __name__ == "__main__":
    print("\n".join(main()))
