"""What a search costs stage by stage, in FLOPs (one multiplication and addition = 2), and what is got for them.

    pipeline = Pipeline((embedding(minilm, 128, 16), sparse_head(384, 8192), retrieval(20_000, 0.63)))
    print(pipeline)                             # a query, a document, and each stage's share

Retrieval is 2 n F: F counts the multiplications of one query-document pair (Paria et al., ICLR 2020), each with its
addition. The measures of E2R-FLOPs (Peng et al., EMNLP 2025): ranking quality per PetaFLOP, the mean over queries of
m(q) / (C_q / 10^15), and queries per PetaFLOP, 10^15 / mean C_q.

FLOPs are not milliseconds: an inverted index pays for lists and memory traffic, not for multiplications
(`planning.latency`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sparsevec.contract.checks import as_floats
from sparsevec.errors import InvalidInput
from sparsevec.planning.transformers import Transformer, at_least

__all__ = [
    "Pipeline",
    "Stage",
    "dense_rerank",
    "embedding",
    "model_rerank",
    "quality_per_petaflop",
    "queries_per_petaflop",
    "residual_rerank",
    "retrieval",
    "second_look_rerank",
    "sparse_head",
]

PETA = 1e15


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of a pipeline: FLOPs of every query, and of every document, once, when it is written."""

    name: str
    query: float = 0.0
    document: float = 0.0

    def __post_init__(self) -> None:
        for side in ("query", "document"):
            at_least(0, getattr(self, side), f"FLOPs of a {side}")


def embedding(model: Transformer, document_tokens: float, query_tokens: float, *, name: str = "embedding") -> Stage:
    """The embedding model over texts of so many tokens, in the mean."""
    query, document = _of_a_text(model, query_tokens), _of_a_text(model, document_tokens)
    return Stage(name, query=query, document=document)


def _of_a_text(model: Transformer, tokens: float, outputs: int = 0) -> float:
    if not isinstance(model, Transformer):
        raise InvalidInput(
            f"expected a model's shape, a Transformer, found {model!r:.80}; Transformer.from_config(…) reads it from "
            "the model's config.json"
        )
    return model.flops(tokens, outputs).total


def sparse_head(input_dim: int, dimension: int) -> Stage:
    """From a dense vector to a sparse one: a matrix product (input_dim, dimension), on both sides."""
    product = 2.0 * at_least(0, input_dim, "input_dim") * at_least(0, dimension, "dimension")
    return Stage("sparse head", query=product, document=product)


def retrieval(documents: float, flops: float) -> Stage:
    """The inverted index over so many documents: 2 n F a query."""
    return Stage("retrieval", query=2.0 * at_least(0, documents, "documents") * at_least(0, flops, "F"))


def second_look_rerank(candidates: int, input_dim: int, dimension: int, nnz: float) -> Stage:
    """The second look: a row (input_dim,) for each dimension that candidates use meets the query, and then the stored
    weights of each candidate do."""
    met = _met(candidates, input_dim, dimension, nnz)
    return Stage("re-rank, second look", query=met + 2.0 * candidates * nnz)


def residual_rerank(candidates: int, input_dim: int, dimension: int, nnz: float, width: int) -> Stage:
    """Residual codes of `width` bytes: the decoder's row (input_dim,) of each dimension that candidates use meets the
    query, as do the basis and 256 codewords; and then the stored weights and the bytes of each candidate. A document is
    decoded, turned into the basis and compared with all codewords, once."""
    met, bytes_a_code = _met(candidates, input_dim, dimension, nnz), at_least(1, width, "residual bytes")
    tables = 2.0 * input_dim * (input_dim + 256)
    query = met + tables + 2.0 * candidates * (nnz + bytes_a_code)
    return Stage("re-rank, residual codes", query=query, document=2.0 * nnz * input_dim + tables)


def _met(candidates: int, input_dim: int, dimension: int, nnz: float) -> float:
    """FLOPs of a query that meets a row (input_dim,) for each dimension that candidates use, if these meet by chance;
    those of one query share more dimensions than that, and cost less."""
    for name, number in (("candidates", candidates), ("input_dim", input_dim), ("nnz", nnz)):
        at_least(0, number, name)
    unused = (1 - min(1.0, nnz / at_least(1, dimension, "dimension"))) ** candidates
    return 2.0 * input_dim * dimension * (1 - unused)


def dense_rerank(candidates: int, input_dim: int) -> Stage:
    """The dense rows of the candidates."""
    pair = 2.0 * at_least(0, input_dim, "input_dim")
    return Stage("re-rank, dense", query=at_least(0, candidates, "candidates") * pair)


def model_rerank(
    model: Transformer, candidates: int, tokens: float, outputs: int = 0, *, name: str = "re-rank, model"
) -> Stage:
    """A cross-encoder (`outputs` 0) or a language model, called once a candidate with `tokens` of prompt and texts."""
    return Stage(name, query=at_least(0, candidates, "candidates") * _of_a_text(model, tokens, outputs))


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Stages in the order in which a query passes them."""

    stages: tuple[Stage, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.stages, tuple | list) or not all(isinstance(stage, Stage) for stage in self.stages):
            raise InvalidInput(f"expected a tuple of stages, as retrieval(…) makes them, found {self.stages!r:.80}")
        if not self.stages:
            raise InvalidInput("expected at least one stage, found none")

    @property
    def query(self) -> float:
        """FLOPs of one query through all stages."""
        return sum(stage.query for stage in self.stages)

    @property
    def document(self) -> float:
        """FLOPs of one document, once."""
        return sum(stage.document for stage in self.stages)

    def __str__(self) -> str:
        rows = [("stage", "a query", "share", "a document"), *(self._row(stage) for stage in self.stages)]
        rows.append(("all", counted(self.query), "", counted(self.document)))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(
                [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
            )
            for row in rows
        )

    def _row(self, stage: Stage) -> tuple[str, str, str, str]:
        share = f"{stage.query / self.query:.1%}" if self.query else ""
        return stage.name, counted(stage.query), share, counted(stage.document)


def counted(flops: float) -> str:
    """FLOPs in words: 2.9 GFLOP."""
    for unit, size in (("P", PETA), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if flops >= size:
            return f"{flops / size:.3g} {unit}FLOP"
    return f"{flops:.0f} FLOP" if flops else "–"


def queries_per_petaflop(flops: float | npt.ArrayLike) -> float:
    """QPP = 10^15 / mean_q C_q, of the FLOPs of each query (q,), or of every query."""
    return PETA / float(_costs(flops).mean())


def quality_per_petaflop(quality: Sequence[float] | npt.ArrayLike, flops: float | npt.ArrayLike) -> float:
    """RPP: the mean over queries of m(q) / (C_q / 10^15). `quality` (q,); `flops` (q,), or of every query."""
    measured, costs = as_floats("expected the quality of each query as numbers", quality), _costs(flops)
    if measured.ndim != 1 or not len(measured) or not np.isfinite(measured).all():
        raise InvalidInput(f"expected the quality of each query, finite (q,), found shape {measured.shape}")
    if costs.size not in (1, len(measured)):
        raise InvalidInput(f"expected the FLOPs of {len(measured)} queries, found {costs.size}")
    return float((measured / (costs / PETA)).mean())


def _costs(flops: float | npt.ArrayLike) -> npt.NDArray[np.float64]:
    costs = np.atleast_1d(as_floats("expected FLOPs of queries as numbers", flops))
    if costs.ndim != 1 or not costs.size or not (np.isfinite(costs) & (costs > 0)).all():
        raise InvalidInput("FLOPs of queries must be positive numbers (q,), or one for all")
    return costs
