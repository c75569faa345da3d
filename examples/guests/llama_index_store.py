"""LlamaIndex: an index over a collection, asked with filters, and one document's nodes taken away.

python examples/guests/llama_index_store.py
"""

from __future__ import annotations

import numpy as np
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import MetadataFilters, VectorStoreQuery

import sparsevec as sv
from sparsevec.integrations.llama_index import SparsevecVectorStore

DOES, WHAT = ("shows", "converts", "encrypts", "prints"), ("photographs", "music", "maps", "e-mail", "fonts")
TEXTS = [f"{does} {what}, part {part}" for does in DOES for what in WHAT for part in range(6)]


def main(url: str = "local:") -> list[str]:
    dense = np.random.default_rng(0).normal(size=(len(TEXTS), 32)).astype(np.float32)  # yours: an embed_model's
    encoder = sv.SparseEncoder(32, 1024).fit(dense, budget=sv.Budget(nnz=16))

    store = SparsevecVectorStore(sv.Retriever(encoder, sv.connect(url)))
    nodes = [
        TextNode(
            text=text,
            embedding=row.tolist(),
            metadata={"does": text.split()[0]},
            relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=f"page {at // 60}")},
        )
        for at, (text, row) in enumerate(zip(TEXTS, dense, strict=True))
    ]
    store.add(nodes)
    store.delete("page 1")

    filters = MetadataFilters.from_dicts([{"key": "does", "value": ["shows", "encrypts"], "operator": "in"}])
    found = store.query(VectorStoreQuery(query_embedding=dense[0].tolist(), similarity_top_k=3, filters=filters))
    return [node.get_content() for node in found.nodes or []]


if __name__ == "__main__":
    print("\n".join(main()))
