"""fastembed: its sparse embeddings written, searched, and every answer proved exact.

python examples/guests/fastembed_splade.py          # fetches SPLADE, 500 MB, the first time
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from fastembed import SparseTextEmbedding

import sparsevec as sv
from sparsevec.integrations.fastembed import dimension_of, from_fastembed

DOES, WHAT = ("shows", "converts", "encrypts", "prints"), ("photographs", "music", "maps", "e-mail", "fonts")
TEXTS = [f"{does} {what}, part {part}" for does in DOES for what in WHAT for part in range(6)]
MODEL = "prithivida/Splade_PP_en_v1"


def main(embed: Callable[[list[str]], Iterable[Any]]) -> list[str]:
    dimension = dimension_of(MODEL)
    documents = from_fastembed(embed(TEXTS), dimension=dimension)
    queries = from_fastembed(embed(["shows maps, part 3"]), dimension=dimension)
    with sv.connect("local:") as adapter:
        adapter.create(dimension)
        sv.ingest(adapter, range(len(TEXTS)), documents, [{"text": text} for text in TEXTS]).require_complete()
        sv.verify(adapter, documents, queries, k=10).require_exact()
        (hits,) = adapter.search(queries, k=3, with_payloads=True)
    return [str((hit.payload or {})["text"]) for hit in hits]


if __name__ == "__main__":
    print("\n".join(main(SparseTextEmbedding(MODEL).embed)))
