"""wordllama: texts to a local collection and a question to it, offline, without torch for the embedding.

pip install '.[text,train]'
python examples/guests/wordllama_texts.py
"""

from __future__ import annotations

import sparsevec as sv
from sparsevec.integrations.embedders import embed, named

DOES, WHAT = ("shows", "converts", "encrypts", "prints"), ("photographs", "music", "maps", "e-mail", "fonts")
TEXTS = [f"{does} {what}, part {part}" for does in DOES for what in WHAT for part in range(6)]


def main(question: str = "look at pictures on the screen") -> list[str]:
    embedder = named("wordllama")
    dense = embed(TEXTS, embedder)
    encoder = sv.SparseEncoder(dense.shape[1], 1024).fit(dense, budget=sv.Budget(nnz=16))
    with sv.Retriever(encoder, sv.connect("local:")) as retriever:
        retriever.add(range(len(TEXTS)), dense, [{"text": text} for text in TEXTS]).require_complete()
        (hits,) = retriever.search(embed([question], embedder), k=3, with_payloads=True)
    return [str((hit.payload or {})["text"]) for hit in hits]


if __name__ == "__main__":
    print("\n".join(main()))
