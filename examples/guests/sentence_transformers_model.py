"""sentence-transformers: our encoder behind a dense model, as a SparseEncoder of theirs, saved and loaded as they do.

python examples/guests/sentence_transformers_model.py sentence-transformers/all-MiniLM-L6-v2
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence

import numpy as np
from sentence_transformers import SentenceTransformer, SparseEncoder

import sparsevec as sv
from sparsevec.integrations.sentence_transformers import sparse_encoder

DOES, WHAT = ("shows", "converts", "encrypts", "prints"), ("photographs", "music", "maps", "e-mail", "fonts")
TEXTS = [f"{does} {what}, part {part}" for does in DOES for what in WHAT for part in range(6)]


def main(model: str, texts: Sequence[str] = TEXTS) -> list[str]:
    dense = SentenceTransformer(model, device="cpu")
    rows = np.asarray(dense.encode(list(texts), show_progress_bar=False), np.float32)
    ours = sv.SparseEncoder(rows.shape[1], 1024).fit(rows, budget=sv.Budget(nnz=16))
    with tempfile.TemporaryDirectory() as folder:
        sparse_encoder(dense, ours).save(folder)
        theirs = SparseEncoder(folder, device="cpu", trust_remote_code=True)

    documents = sv.SparseVectors.from_torch(theirs.encode_document(list(texts), show_progress_bar=False))
    queries = sv.SparseVectors.from_torch(theirs.encode_query(texts[:1], show_progress_bar=False))
    with sv.connect("local:") as adapter:
        adapter.create(documents.dimension)
        sv.ingest(adapter, range(len(texts)), documents, [{"text": text} for text in texts]).require_complete()
        (hits,) = adapter.search(queries, k=3, with_payloads=True)
    return [str((hit.payload or {})["text"]) for hit in hits]


if __name__ == "__main__":
    print("\n".join(main(*sys.argv[1:])))
