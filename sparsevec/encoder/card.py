"""The model card: what a person who finds the folder needs to know, with the figures that were measured."""

from __future__ import annotations

from sparsevec.encoder.config import Config, Figures
from sparsevec.measure.intervals import Interval

__all__ = ["card"]

_NEAR = {
    "cosine": "Near means a high cosine.",
    "dot": "Near means a high inner product.",
    "l2": "Near means a small Euclidean distance.",
}
_MADE = {
    "untrained": "directions that nobody learned",
    "head": "a head and a query tower",
    "refined": "a head and a query tower, refined to one corpus",
}
_LEARNED_FROM = {
    "sample": "a sample of queries",
    "documents": "documents standing in for queries",
    "pairs": "pairs of rows of two models",
}
_MEASURED_WITH = {
    "sample": "queries",
    "documents": "documents, asked as queries for want of a sample,",
    "pairs": "pairs, for what the documents' own model finds by their other row,",
}
_ASKED = {
    "sample": "queries of the sample",
    "documents": "documents",
    "off-topic": "off-topic queries: two unlike documents mixed, and noise",
}


def card(config: Config) -> str:
    """`README.md` of a model folder."""
    figures = config.figures
    sample = _LEARNED_FROM[figures.asked]
    made = _MADE[config.stage]
    asked = _MEASURED_WITH[figures.asked]
    warning = "".join(f"**{said[0].upper()}{said[1:]}.**\n\n" for said in figures.warnings)
    rows = [
        ("weights of a document", f"{config.nnz}", f"{figures.active_dims:.2f}"),
        ("weights of a query", str(config.query_nnz or ""), f"{figures.query_active_dims:.1f}"),
        ("F, multiplications per query-document pair", f"{config.flops:.3g}", f"{figures.flops:.3f}"),
        ("R_sub, F over that of dimensions used equally often", "", f"{figures.r_sub:.2f}"),
        ("dimensions that no document uses", "", f"{figures.dead_dims} of {config.output_dim}"),
        ("longest posting list, share of the documents", "", f"{figures.max_document_frequency:.3f}"),
        ("overlap with the exact dense top 10", "", _quality(figures.recall_10, figures.recall_10_interval)),
        (
            "dense top 10 found in the sparse top 100",
            "",
            _quality(figures.recall_10_at_100, figures.recall_10_at_100_interval),
        ),
    ]
    if config.stage == "refined" and figures.head_recall_10 is not None:
        rows.append(("overlap by the head, before refining", "", f"{figures.head_recall_10:.3f}"))
    if (later := config.newcomers) is not None:
        found = _quality(later.found, later.found_interval)
        beside = f"; in the head's codes {later.found_by_head:.3f}, as refining left them {later.found_refined:.3f}"
        rows.append(("documents taken for newcomers, of those due in the top 10", "", f"{found}{beside}"))
    if config.residual is not None and figures.residual_recall_10 is not None:
        residual = f"overlap of the sparse top 300, re-ranked by residual codes of {config.residual.bytes} bytes"
        rows.append((residual, "", f"{figures.residual_recall_10:.3f}"))
    if config.learned_nnz is not None:
        rows.append(("weights of a document that were learned for, before `at`", f"{config.learned_nnz}", ""))
    if (theirs := config.adopted) is not None:
        own = f"{theirs.own_recall_10:.3f}, in the sparse top 100 {theirs.own_recall_10_at_100:.3f}"
        again = "" if theirs.second_look_ndcg_10 is None else f", {theirs.second_look_ndcg_10:.3f} at a second look"
        rows += [
            ("overlap for the same pairs, asked by the documents' own model", "", own),
            ("nDCG@10 of the document nearest to the pair's own row", "", f"{theirs.answer_ndcg_10:.3f}{again}"),
            ("the same, asked by the documents' own model", "", f"{theirs.own_ndcg_10:.3f}"),
        ]
    if (untrained := figures.untrained_recall_10) is not None:
        rows.append(("overlap without learning, by dot products with random documents", "", f"{untrained:.3f}"))
    table = "\n".join(f"| {name} | {budget} | {measured} |" for name, budget, measured in rows)
    return f"""# A sparse encoder for dense vectors of {config.input_dim} dimensions

{warning}Made by sparsevec: {made}. Without labels, from documents and {sample},
seed {config.seed}, in {figures.seconds:.0f} seconds. {_NEAR[config.similarity]}

```python
import sparsevec as sv

encoder = sv.SparseEncoder.load("this folder")
documents = encoder.encode_document(dense)  # (n, {config.input_dim}) to SparseVectors of dimension {config.output_dim}
queries = encoder.encode_query(dense){_adopted(config)}
```

Documents live in the space `{config.fingerprint}`: search them with queries of this encoder only.

| | budget | measured |
|---|---|---|
{table}

Measured with {figures.queries} {asked} that were not trained on, over {figures.documents} documents of the
corpus the encoder was made for; in brackets 95 % intervals over these queries.{_later(config)}
{_kinds(figures)}
On other data, measure again. Weights of the vectors this was learned from are what it knows: it sees the world as the
dense model does, with the same gaps.
"""


def _later(config: Config) -> str:
    if config.newcomers is None:
        return ""
    return """

Documents that come later are fitted alone by `encode_document`, in .4 ms each, 1 ms without numba; `weights="head"`
takes .07 ms and finds fewer. Their share above is of documents that the queries' tower has met: of real newcomers,
expect less."""


def _adopted(config: Config) -> str:
    return "" if config.adopted is None else f"  # (q, {config.adopted.columns}), of the model that was adopted"


def _kinds(figures: Figures) -> str:
    """Who else may ask."""
    if not figures.kinds:
        return ""
    rows = [
        f"| {_ASKED[kind.kind]} | {kind.queries} | {kind.flops:.3f} | {kind.recall_10:.3f} | "
        f"{_quality(kind.recall_10_at_100, kind.recall_10_at_100_interval)} | {kind.scan_recall_10:.3f} | "
        f"{kind.scan_recall_10_at_100:.3f} |"
        for kind in figures.kinds
    ]
    return "\n".join(
        [
            "",
            "Asked by others, beside a scan of one bit a component, which learns nothing and reads every document:",
            "",
            "| asked by | queries | F | top 10 | in 100 | scan: top 10 | in 100 |",
            "|---|---|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def _quality(figure: float, interval: Interval | None) -> str:
    return f"{figure:.3f}" if interval is None else f"{figure:.3f} ({interval})"
