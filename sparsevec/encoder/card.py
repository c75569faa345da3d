"""The model card: what a person who finds the folder needs to know, with the figures that were measured."""

from __future__ import annotations

from sparsevec.encoder.store import Config

__all__ = ["card"]


def card(config: Config) -> str:
    """`README.md` of a model folder."""
    figures = config.figures
    sample = "a sample of queries" if figures.query_sample else "documents standing in for queries"
    refined = "a head and a query tower" + (", refined to one corpus" if config.stage == "refined" else "")
    return f"""# A sparse encoder for dense vectors of {config.input_dim} dimensions

Made by sparsevec: {refined}. Learned without labels, from documents and {sample},
seed {config.seed}, in {figures.seconds:.0f} seconds.

```python
import sparsevec as sv

encoder = sv.SparseEncoder.load("this folder")
documents = encoder.encode_document(dense)  # (n, {config.input_dim}) to SparseVectors of dimension {config.output_dim}
queries = encoder.encode_query(dense)
```

| | budget | measured |
|---|---|---|
| weights of a document | {config.nnz} | {figures.active_dims:.2f} |
| weights of a query | | {figures.query_active_dims:.1f} |
| F, multiplications per query-document pair | {config.flops:.3g} | {figures.flops:.3f} |
| R_sub, F over that of dimensions used equally often | | {figures.r_sub:.2f} |
| dimensions that no document uses | | {figures.dead_dims} of {config.output_dim} |
| longest posting list, share of the documents | | {figures.max_document_frequency:.3f} |
| overlap with the exact dense top 10 | | {figures.recall_10:.3f} |
| dense top 10 found in the sparse top 100 | | {figures.recall_10_at_100:.3f} |

Measured with {figures.queries} queries that were not trained on, over {figures.documents} documents of the corpus the
encoder was made for. On other data, measure again. Weights of the vectors this was learned from are what it knows: it
sees the world as the dense model does, with the same gaps.
"""
