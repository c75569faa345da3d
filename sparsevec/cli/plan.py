"""The commands that say what a search costs: cost, latency, frontier."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from pydantic import BaseModel

from sparsevec.cli.bars import progress
from sparsevec.cli.credentials import connected
from sparsevec.cli.options import Json, Target
from sparsevec.cli.screen import failing, say
from sparsevec.encoder import SparseEncoder
from sparsevec.errors import InvalidInput
from sparsevec.files import read_dense
from sparsevec.measure.labels import run_quality
from sparsevec.planning.frontier import CostLimits, Frontier
from sparsevec.planning.halving import DIMENSIONS, WEIGHTS, WIDTHS, find_frontier, shapes_of
from sparsevec.planning.latency import LatencyModel, features, latency_model
from sparsevec.planning.picture import page
from sparsevec.planning.stages import (
    Pipeline,
    Stage,
    counted,
    dense_rerank,
    embedding,
    model_rerank,
    quality_per_petaflop,
    queries_per_petaflop,
    residual_rerank,
    retrieval,
    sparse_head,
)
from sparsevec.planning.transformers import Transformer
from sparsevec.storage import whole_file
from sparsevec.vectors import SparseVectors

__all__ = ["cost", "frontier", "latency"]


@failing
def cost(
    documents: Annotated[float, typer.Option("--documents", help="How many are searched: 20000, 1e6.")],
    model: Annotated[
        Path | None, typer.Option("--model", help="The embedding model's config.json, or its folder.")
    ] = None,
    document_tokens: Annotated[float, typer.Option("--document-tokens", help="Tokens of a document, mean.")] = 128,
    query_tokens: Annotated[float, typer.Option("--query-tokens", help="Tokens of a query, mean.")] = 16,
    encoder: Annotated[
        Path | None, typer.Option("--encoder", help="A folder that `fit` wrote: gives the next four.")
    ] = None,
    input_dim: Annotated[int, typer.Option("--input-dim", help="Columns of the dense vectors.")] = 384,
    dimension: Annotated[int, typer.Option("--dimension", "-d", help="Dimensions of the sparse vectors.")] = 8192,
    nnz: Annotated[float, typer.Option("--nnz", help="Weights of a document.")] = 32,
    flops: Annotated[float, typer.Option("--flops", help="F, multiplications of a query-document pair.")] = 0.65,
    candidates: Annotated[int, typer.Option("--candidates", help="How many the second stage looks at.")] = 100,
    rerank: Annotated[
        str | None,
        typer.Option("--rerank", help="second-look, residual, dense, or a model's config.json: a cross-encoder."),
    ] = None,
    rerank_tokens: Annotated[
        float, typer.Option("--rerank-tokens", help="Tokens of prompt, query and document.")
    ] = 160,
    rerank_outputs: Annotated[int, typer.Option("--rerank-outputs", help="Tokens that it generates; 0: a score.")] = 0,
    run: Annotated[Path | None, typer.Option("--run", help="A TREC run of the pipeline: adds quality.")] = None,
    qrels: Annotated[Path | None, typer.Option("--qrels", help="TREC judgements, for --run.")] = None,
    measure: Annotated[str, typer.Option("--measure", help="Of quality, for --run: nDCG@10, AP, P@5.")] = "nDCG@10",
    as_json: Json = False,
) -> None:
    """What a query costs stage by stage, in FLOPs (a multiplication and an addition are 2), and a document, once.

    ```
    sparsevec cost --model all-MiniLM-L6-v2/config.json --documents 1e6 --rerank dense
    sparsevec cost --documents 20000 --encoder model/ --run run.trec --qrels qrels.trec
    ```
    """
    if (run is None) != (qrels is None):
        raise InvalidInput("--run and --qrels belong together: a run is judged by judgements")
    if encoder is not None:
        config = SparseEncoder.load(encoder).config
        input_dim, dimension, nnz, flops = config.input_dim, config.output_dim, config.nnz, config.figures.flops
    stages: list[Stage] = []
    if model is not None:
        stages.append(embedding(Transformer.from_config(model), document_tokens, query_tokens))
    stages += [sparse_head(input_dim, dimension), retrieval(documents, flops)]
    if rerank is not None:
        stages.append(_second_stage(rerank, candidates, input_dim, nnz, rerank_tokens, rerank_outputs))
    pipeline = Pipeline(tuple(stages))
    quality = None if run is None or qrels is None else list(run_quality(run, qrels, measure).values())
    say(_Costs.of(pipeline, documents, input_dim, quality, measure), as_json=as_json)


def _second_stage(rerank: str, candidates: int, input_dim: int, nnz: float, tokens: float, outputs: int) -> Stage:
    if rerank == "dense":
        return dense_rerank(candidates, input_dim)
    if rerank == "residual":
        return residual_rerank(candidates, input_dim, nnz)
    if rerank == "second-look":
        return Stage("re-rank, second look", query=2.0 * candidates * nnz)
    if not Path(rerank).exists():
        raise InvalidInput(
            f"--rerank must be second-look, residual, dense, or the path of a model's config.json, found {rerank!r:.80}"
        )
    return model_rerank(Transformer.from_config(rerank), candidates, tokens, outputs)


class _Costs(BaseModel):
    stages: list[Stage]
    query: float
    """FLOPs of one query"""
    document: float
    """FLOPs of one document, when it is written"""
    dense_scan: float
    """FLOPs of a query that multiplies every dense row instead of retrieval"""
    queries_per_petaflop: float
    measure: str | None = None
    quality: float | None = None
    quality_per_petaflop: float | None = None
    table: str

    @classmethod
    def of(
        cls, pipeline: Pipeline, documents: float, input_dim: int, quality: list[float] | None, measure: str
    ) -> _Costs:
        judged: dict[str, Any] = {}
        if quality is not None:
            judged = {
                "measure": measure,
                "quality": float(np.mean(quality)),
                "quality_per_petaflop": quality_per_petaflop(quality, pipeline.query),
            }
        return cls(
            stages=list(pipeline.stages),
            query=pipeline.query,
            document=pipeline.document,
            dense_scan=2.0 * documents * input_dim,
            queries_per_petaflop=queries_per_petaflop(pipeline.query),
            table=str(pipeline),
            **judged,
        )

    def __str__(self) -> str:
        lines = [
            self.table,
            f"A scan of the dense rows in place of retrieval: {counted(self.dense_scan)} a query.",
            f"{self.queries_per_petaflop:,.0f} queries a PetaFLOP.",
        ]
        if self.quality is not None:
            lines.append(f"{self.measure} {self.quality:.3f}: {self.quality_per_petaflop:,.0f} a PetaFLOP and query.")
        return "\n".join(lines)


@failing
def latency(
    url: Target,
    vectors: Annotated[Path, typer.Argument(metavar="DOCUMENTS", help="The sparse vectors that the collection holds.")],
    queries: Annotated[
        Path | None, typer.Option("--queries", help="Sparse vectors of queries: says what they take, and why.")
    ] = None,
    k: Annotated[int, typer.Option("-k", help="Hits of each of these queries.")] = 10,
    rounds: Annotated[int, typer.Option("--rounds", help="How often each probe is timed.")] = 7,
    as_json: Json = False,
) -> None:
    """Probe the engine at URL: what a request, a list, a posting, a touched document and a hit cost in milliseconds.

    ```
    sparsevec latency "elasticsearch://localhost:9200/products?field=sparse" model/documents/ --queries queries/
    ```
    """
    documents = SparseVectors.load(vectors)
    with connected(url) as adapter:
        found = latency_model(adapter, documents, rounds=rounds)
    expected = None
    if queries is not None:
        expected = features(SparseVectors.load(queries), documents, k)
    say(
        _Latency(
            **found.model_dump(),
            said=str(found),
            milliseconds=None if expected is None else float(found.predict(expected).mean()),
            shares=None if expected is None else found.shares(expected),
            warning=None if expected is None else found.warning(expected),
        ),
        as_json=as_json,
    )


class _Latency(BaseModel):
    engine: str
    documents: int
    base: float
    per_list: float
    per_posting: float
    per_touched: float
    per_hit: float
    probes: int
    error_median: float
    error_95: float
    said: str
    milliseconds: float | None
    """of the queries that were given, mean"""
    shares: dict[str, float] | None
    warning: str | None

    def __str__(self) -> str:
        lines = [self.said]
        if self.milliseconds is not None and self.shares is not None:
            parts = ", ".join(f"{name} {share:.0%}" for name, share in self.shares.items())
            lines.append(f"These queries: {self.milliseconds:.3g} ms ({parts})")
        return "\n".join([*lines, *filter(None, [self.warning])])


class Goals(StrEnum):
    answers = "answers"
    candidates = "candidates"


@failing
def frontier(
    dense: Annotated[Path, typer.Argument(metavar="DENSE.npy", help="Vectors (n, d) of documents, from any model.")],
    seconds: Annotated[float, typer.Option("--seconds", help="How long it may look.")] = 900,
    queries: Annotated[Path | None, typer.Option("--queries", help="Vectors (q, d) of real queries.")] = None,
    flops: Annotated[float | None, typer.Option("--flops", help="At most this F, multiplications of a pair.")] = None,
    most_bytes: Annotated[
        float | None, typer.Option("--bytes", help="At most so many bytes a document, 8 a weight.")
    ] = None,
    milliseconds: Annotated[
        float | None, typer.Option("--milliseconds", help="At most so many a query on --engine.")
    ] = None,
    engine: Annotated[
        Path | None, typer.Option("--engine", help="A file with what `latency --json` printed; for milliseconds.")
    ] = None,
    goal: Annotated[
        Goals, typer.Option("--goal", help="Recall of the final answers, or of the 100 that you re-rank yourself.")
    ] = Goals.answers,
    dimension: Annotated[
        list[int] | None, typer.Option("--dimension", "-d", help=f"That compete; without: {DIMENSIONS}.")
    ] = None,
    nnz: Annotated[
        list[int] | None, typer.Option("--nnz", help=f"Weights of a document that compete; without: {WEIGHTS}.")
    ] = None,
    residual_bytes: Annotated[
        list[int] | None, typer.Option("--residual-bytes", help=f"That compete, beside none; without: {WIDTHS}.")
    ] = None,
    refine: Annotated[bool, typer.Option("--refine", help="Refine every run, as `fit --refine` does.")] = False,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the runs and the page go.")] = Path(
        "sparsevec-frontier"
    ),
    seed: Annotated[int, typer.Option("--seed", help="Same seed, same runs.")] = 0,
    as_json: Json = False,
) -> None:
    """Which dimension, weights, length of query and residual bytes are best for a budget, found on your own vectors.

    Many small runs, fewer larger ones, and a law that predicts what was not run. After a kill the same command goes on;
    with other limits it answers from the runs that are there.

    ```
    sparsevec frontier documents.npy --queries sample.npy --flops 0.65 --seconds 900
    sparsevec frontier documents.npy --bytes 300 --milliseconds 3 --engine latency.json
    ```
    """
    limits = CostLimits(flops, most_bytes, milliseconds)
    rows, sample = read_dense(dense), None if queries is None else read_dense(queries)
    model = None if engine is None else LatencyModel.load(engine)
    with progress("looking") as done:
        found = find_frontier(
            rows,
            sample,
            limits=limits,
            seconds=seconds,
            goal=goal.value,
            shapes=shapes_of(dimension or DIMENSIONS, nnz or WEIGHTS),
            widths=residual_bytes or WIDTHS,
            refine=refine,
            latency=model,
            folder=output,
            seed=seed,
            on_step=lambda at: done(at.fraction),
        )
    whole_file(output / "frontier.html", page(found).encode())
    say(_Found(page=output / "frontier.html", frontier=found), as_json=as_json)


class _Found(BaseModel):
    page: Path
    frontier: Frontier

    def __str__(self) -> str:
        *others, advice = str(self.frontier).split("\n")
        return "\n".join([*others, f"The page: {self.page}", advice])
