"""Any endpoint of OpenAI's protocol: texts embedded there, searched here.

OPENAI_BASE_URL=http://localhost:8000/v1 OPENAI_API_KEY=... python examples/guests/openai_endpoint.py MODEL
"""

from __future__ import annotations

import sys

import sparsevec as sv
from sparsevec.integrations.embedders import embed, named

DOES, WHAT = ("shows", "converts", "encrypts", "prints"), ("photographs", "music", "maps", "e-mail", "fonts")
TEXTS = [f"{does} {what}, part {part}" for does in DOES for what in WHAT for part in range(6)]


def main(model: str, question: str = "look at pictures on the screen") -> list[str]:
    embedder = named(f"openai:{model}")  # retried there, checked here
    dense = embed(TEXTS, embedder, batch=64)
    encoder = sv.SparseEncoder(dense.shape[1], 1024).fit(dense, budget=sv.Budget(nnz=16))
    with sv.Retriever(encoder, sv.connect("local:")) as retriever:
        retriever.add(range(len(TEXTS)), dense, [{"text": text} for text in TEXTS]).require_complete()
        (hits,) = retriever.search(embed([question], embedder), k=3, with_payloads=True)
    return [str((hit.payload or {})["text"]) for hit in hits]


if __name__ == "__main__":
    print("\n".join(main(*sys.argv[1:])))
