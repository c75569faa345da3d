"""The commands that say what a search costs: cost, latency."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from pydantic import BaseModel, ValidationError

from sparsevec.cli.credentials import connected
from sparsevec.cli.options import Json, Target, belongs, given
from sparsevec.cli.screen import failing, say
from sparsevec.encoder import SparseEncoder
from sparsevec.errors import InvalidInput, printable
from sparsevec.measure.cost import r_sub
from sparsevec.measure.labels import run_quality
from sparsevec.measure.recall import Evaluation
from sparsevec.planning.latency import LatencyModel, features, latency_model, touched_by_chance
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
    second_look_rerank,
    sparse_head,
)
from sparsevec.planning.transformers import Transformer, at_least
from sparsevec.vectors import SparseVectors

__all__ = ["cost", "latency"]


@failing
def cost(
    ctx: typer.Context,
    documents: Annotated[float, typer.Option("--documents", help="How many are searched: 20000, 1e6.")],
    model: Annotated[
        Path | None, typer.Option("--model", help="The embedding model's config.json, or its folder.")
    ] = None,
    document_tokens: Annotated[float, typer.Option("--document-tokens", help="Tokens of a document, mean.")] = 128,
    query_tokens: Annotated[float, typer.Option("--query-tokens", help="Tokens of a query, mean.")] = 16,
    encoder: Annotated[
        Path | None, typer.Option("--encoder", help="A folder that `fit` wrote: gives the next six.")
    ] = None,
    input_dim: Annotated[int, typer.Option("--input-dim", help="Columns of the dense vectors.")] = 384,
    dimension: Annotated[int, typer.Option("--dimension", "-d", help="Dimensions of the sparse vectors.")] = 8192,
    nnz: Annotated[float, typer.Option("--nnz", help="Weights of a document.")] = 32,
    query_nnz: Annotated[float, typer.Option("--query-nnz", help="Weights of a query, mean.")] = 180,
    flops: Annotated[float, typer.Option("--flops", help="F, multiplications of a query-document pair.")] = 0.65,
    residual_bytes: Annotated[
        int, typer.Option("--residual-bytes", help="Of a residual code, for --rerank residual.")
    ] = 100,
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
    evaluation: Annotated[
        Path | None, typer.Option("--evaluation", help="A file with what `eval --json` printed: adds quality, too.")
    ] = None,
    engine: Annotated[
        Path | None, typer.Option("--engine", help="A file with what `latency --json` printed: adds milliseconds.")
    ] = None,
    measure: Annotated[str, typer.Option("--measure", help="Of quality, for --run: nDCG@10, AP, P@5.")] = "nDCG@10",
    as_json: Json = False,
) -> None:
    """What a query costs stage by stage, in FLOPs (a multiplication and an addition are 2), and a document, once.

    ```
    sparsevec cost --model all-MiniLM-L6-v2/config.json --documents 1e6 --rerank dense
    sparsevec cost --documents 20000 --encoder model/ --run run.trec --qrels qrels.trec
    sparsevec cost --documents 20000 --encoder model/ --rerank dense --evaluation eval.json
    ```
    """
    if (run is None) != (qrels is None):
        raise InvalidInput("--run and --qrels belong together: a run is judged by judgements")
    if run is not None and evaluation is not None:
        raise InvalidInput("expected --run or --evaluation, found both: one of them says the quality")
    by_model = rerank is not None and rerank not in _WAYS
    belongs(ctx, ("document_tokens", "query_tokens"), "--model", there=model is not None)
    belongs(ctx, ("rerank_tokens", "rerank_outputs"), "--rerank with a model's config.json", there=by_model)
    belongs(ctx, ("residual_bytes",), "--rerank residual", there=rerank == "residual")
    belongs(ctx, ("measure",), "--run", there=run is not None)
    adopted, counts = None, {"--documents": documents, "--input-dim": input_dim, "--dimension": dimension}
    for name, number in {**counts, "--nnz": nnz, "--query-nnz": query_nnz}.items():
        at_least(1, number, name)
    at_least(0, candidates, "--candidates")
    if max(nnz, query_nnz) > dimension:
        raise InvalidInput(f"{max(nnz, query_nnz):g} weights do not fit in --dimension {dimension}")
    if at_least(0, flops, "F") > min(nnz, query_nnz):
        raise InvalidInput(
            f"--flops {flops:g} cannot be: a pair has no more multiplications than either side has weights, "
            f"{min(nnz, query_nnz):g}"
        )
    if encoder is not None:
        config = SparseEncoder.load(encoder).config
        said = given(ctx, ("input_dim", "dimension", "nnz", "query_nnz", "flops"))
        said += [] if config.residual is None else given(ctx, ("residual_bytes",))
        if said:
            raise InvalidInput(f"expected --encoder, which says it, or {said[0]}, found both; leave one out")
        input_dim, dimension, nnz, flops = config.input_dim, config.output_dim, config.nnz, config.figures.flops
        query_nnz, adopted = config.figures.query_active_dims, config.adopted
        residual_bytes = residual_bytes if config.residual is None else config.residual.bytes
    stages: list[Stage] = []
    if model is not None:
        stages.append(embedding(Transformer.from_config(model), document_tokens, query_tokens))
    if adopted is not None:
        stages.append(Stage("map of an adopted model", query=2.0 * adopted.columns * input_dim))
    stages += [sparse_head(input_dim, dimension), retrieval(documents, flops)]
    if rerank is not None:
        sizes = candidates, input_dim, dimension, nnz
        stages.append(_second_stage(rerank, sizes, residual_bytes, rerank_tokens, rerank_outputs))
    pipeline = Pipeline(tuple(stages))
    quality = None if run is None or qrels is None else list(run_quality(run, qrels, measure).values())
    if evaluation is not None:
        measure, quality = _evaluated(evaluation)
    costs = _Costs.of(pipeline, documents, input_dim, quality, measure)
    searched = _Search.of(documents, dimension, nnz, query_nnz, flops, candidates, engine)
    say(costs.model_copy(update={"search": searched}), as_json=as_json)


_WAYS = ("second-look", "residual", "dense")


def _second_stage(
    rerank: str, sizes: tuple[int, int, int, float], residual_bytes: int, tokens: float, outputs: int
) -> Stage:
    """sizes: candidates, input_dim, dimension, nnz."""
    candidates, input_dim, *_ = sizes
    if rerank == "dense":
        return dense_rerank(candidates, input_dim)
    if rerank == "residual":
        return residual_rerank(*sizes, residual_bytes)
    if rerank == "second-look":
        return second_look_rerank(*sizes)
    if not Path(rerank).exists():
        raise InvalidInput(
            f"--rerank must be second-look, residual, dense, or the path of a model's config.json, found {rerank!r:.80}"
        )
    return model_rerank(Transformer.from_config(rerank), candidates, tokens, outputs)


def _evaluated(path: Path) -> tuple[str, list[float]]:
    """The name and the mean of a measure: by labels where there were any."""
    try:
        found = Evaluation.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        said = f"{error.errors()[0]['msg']}" if isinstance(error, ValidationError) else f"{error.strerror}"
        raise InvalidInput(f"expected in {printable(path)} what `sparsevec eval --json` prints; {said}") from error
    if found.ndcg_10 is None:
        return "overlap with the dense top 10", [found.recall_10]
    return "nDCG@10", [found.ndcg_10]


class _Search(BaseModel):
    """What retrieval is, in every word that is used for its cost."""

    flops: float
    """F"""
    r_sub: float
    lists: float
    postings: float
    milliseconds: float | None
    warning: str | None
    said: str

    @classmethod
    def of(
        cls,
        documents: float,
        dimension: int,
        nnz: float,
        query_nnz: float,
        flops: float,
        candidates: int,
        engine: Path | None,
    ) -> _Search:
        spread = r_sub(flops, nnz, query_nnz, dimension)
        said = (
            f"Retrieval: F {flops:.3g} multiplications a pair, R_sub {spread:.2f} (1: dimensions evenly used); a query "
            f"reads {query_nnz:.0f} lists, {documents * flops:,.0f} postings = {counted(2 * documents * flops)}"
        )
        taken, warning = None, None
        if engine is not None:
            model = LatencyModel.load(engine)
            features = model.counted(query_nnz, flops, touched_by_chance(flops), candidates, documents)
            taken = float(model.predict(features)[0])
            warning = " ".join(filter(None, [model.warning(features, documents), model.doubt])) or None
            said += f", {taken:.3g} ms on {model.engine} for {candidates} hits"
        return cls(
            flops=flops,
            r_sub=spread,
            lists=query_nnz,
            postings=documents * flops,
            milliseconds=taken,
            warning=warning,
            said=f"{said}.",
        )


class _Costs(BaseModel):
    search: _Search | None = None
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
        searched = [] if self.search is None else [self.search.said, *filter(None, [self.search.warning])]
        lines = [
            self.table,
            *searched,
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
    expected = None if queries is None else features(SparseVectors.load(queries), documents, k)
    with connected(url) as adapter:
        found = latency_model(adapter, documents, rounds=rounds)
    say(
        _Latency(
            **found.model_dump(),
            said=str(found),
            milliseconds=None if expected is None else float(found.predict(expected).mean()),
            shares=None if expected is None else found.shares(expected),
            warning=None if expected is None else found.warning(expected),
            doubt=found.doubt,
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
    doubt: str | None

    def __str__(self) -> str:
        lines = [self.said]
        if self.milliseconds is not None and self.shares is not None:
            parts = ", ".join(f"{name} {share:.0%}" for name, share in self.shares.items())
            lines.append(f"These queries: {self.milliseconds:.3g} ms ({parts})")
        return "\n".join([*lines, *filter(None, [self.warning, self.doubt])])
