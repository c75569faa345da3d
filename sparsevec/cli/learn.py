"""The commands that learn, encode and measure: fit, adopt, encode, eval."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy.typing as npt
import typer
from pydantic import BaseModel

from sparsevec.cli.bars import progress
from sparsevec.cli.options import Codes, Ids, Json, check_output
from sparsevec.cli.screen import as_json_text, failing, figures, note, say
from sparsevec.demo.compare import too_few
from sparsevec.encoder import Budget, Figures, SparseEncoder
from sparsevec.encoder.config import AdoptedConfig
from sparsevec.encoder.store import check_place
from sparsevec.errors import InvalidInput
from sparsevec.files import read_dense, read_ids, read_qrels
from sparsevec.measure.recall import evaluate
from sparsevec.planning.latency import LatencyModel
from sparsevec.vectors import SparseVectors

__all__ = ["adopt", "encode", "evaluate_model", "fit"]

_BLOCK = 4096  # rows encoded between two movements of the bar
_NNZ = 32  # weights of a document where nothing is said
_CONFIG, _VECTORS = "config.json", "header.json"


class Nearness(StrEnum):
    cosine = "cosine"
    dot = "dot"
    l2 = "l2"


@failing
def fit(
    dense: Annotated[Path, typer.Argument(metavar="DENSE.npy", help="Vectors (n, d) of documents, from any model.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder of the model.", show_default=False)],
    queries: Annotated[
        Path | None, typer.Option("--queries", help="A sample of queries (q, d): makes it better.")
    ] = None,
    nnz: Annotated[
        int | None, typer.Option("--nnz", help=f"Weights of a document, in the mean; {_NNZ} without --flops.")
    ] = None,
    flops: Annotated[float | None, typer.Option("--flops", help="F: multiplications of a query-document pair.")] = None,
    query_nnz: Annotated[
        int | None, typer.Option("--query-nnz", help="At most so many weights a query: its lists.")
    ] = None,
    milliseconds: Annotated[
        float | None, typer.Option("--milliseconds", help="Of a query on --engine, as its latency model says.")
    ] = None,
    engine: Annotated[
        Path | None, typer.Option("--engine", help="A file with what `latency --json` printed; for --milliseconds.")
    ] = None,
    residual_bytes: Annotated[
        int | None, typer.Option("--residual-bytes", help="Of a code beside each vector, to answer from: 60 to 300.")
    ] = None,
    similarity: Annotated[
        Nearness, typer.Option("--similarity", help="What your dense search ranks by.")
    ] = Nearness.cosine,
    dimension: Annotated[int, typer.Option("--dimension", "-d", help="Dimensions of the sparse vectors.")] = 8192,
    refine: Annotated[
        bool, typer.Option("--refine", help="Fit the weights to these documents too; they go to OUTPUT/documents.")
    ] = False,
    checkpoint: Annotated[
        Path | None,
        typer.Option("--checkpoint", help="A folder: after a kill, the same command goes on."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Same seed, same vectors.")] = 0,
    device: Annotated[str, typer.Option("--device", help="What torch learns on: cpu, cuda or cuda:1.")] = "cpu",
    as_json: Json = False,
) -> None:
    """Learn an encoder within a budget, without labels, and compare it with what needs no learning.

    ```
    sparsevec fit documents.npy -o model/
    sparsevec fit documents.npy --queries sample.npy --nnz 32 --flops 0.65 --refine -o model/
    ```
    """
    check_output(output, _CONFIG)
    check_place(output)
    if checkpoint is not None and output.resolve() in (checkpoint.resolve(), *checkpoint.resolve().parents):
        raise InvalidInput(
            f"--checkpoint {checkpoint} lies in the folder that the model takes, {output}; name one beside it"
        )
    rows, sample = read_dense(dense), None if queries is None else read_dense(queries)
    if not len(rows):
        raise InvalidInput(f"expected documents to learn from in {dense}, found no rows")
    if nnz is None and flops is None:
        nnz = _NNZ
        note(f"Neither --nnz nor --flops was given: {_NNZ} weights a document.")
    budget = Budget(
        nnz,
        flops,
        query_nnz,
        residual_bytes,
        milliseconds=milliseconds,
        engine=None if engine is None else LatencyModel.load(engine),
    )
    encoder = SparseEncoder(rows.shape[1], dimension, seed, similarity.value)
    part = 0.7 if refine else 1.0  # of the bar, for the first call
    fitting, refining = (None, None) if checkpoint is None else (checkpoint / "fit", checkpoint / "refine")
    with progress("learning") as done:
        encoder.fit(
            rows,
            sample,
            budget=budget,
            on_step=lambda at: done(part * at.fraction),
            checkpoint=fitting,
            device=device,
        )
        if refine:
            documents = encoder.refine(
                rows,
                sample,
                on_step=lambda at: done(part + (1 - part) * at.fraction),
                checkpoint=refining,
                device=device,
            )
        encoder.save(output)
        if refine:
            documents.save(output / "documents")
    fitted = _Fitted.of(output, encoder.config.figures)
    say(fitted, as_json=as_json, good=fitted.good)


class _Fitted(BaseModel):
    model: Path
    good: bool
    poor: list[str]
    """what is poor, in sentences"""
    figures: Figures

    @classmethod
    def of(cls, model: Path, figures: Figures) -> _Fitted:
        poor = [*figures.warnings, *filter(None, [too_few(figures)])]
        return cls(model=model, good=not poor, poor=poor, figures=figures)

    def __str__(self) -> str:
        beside = {"without learning": self.figures.untrained_recall_10, "head alone": self.figures.head_recall_10}
        compared = ", ".join(f"{name} {recall:.3f}" for name, recall in beside.items() if recall is not None)
        lines = [*(f"Not good: {reason}." for reason in self.poor), self.figures.text]
        lines += [f"recall@10 beside it: {compared}"] if compared else []
        return "\n".join([*lines, f"Saved in {self.model}"])


@failing
def adopt(
    model: Annotated[Path, typer.Argument(help="A folder that `fit` wrote.")],
    theirs: Annotated[Path, typer.Argument(metavar="THEIRS.npy", help="Vectors (m, d) of the model that will ask.")],
    ours: Annotated[
        Path,
        typer.Argument(metavar="OURS.npy", help="Vectors of the documents' model: of the same texts, or of answers."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder of the new model.", show_default=False)],
    documents: Annotated[
        Path | None, typer.Option("--documents", help="Dense vectors of what is searched, where OURS is not that.")
    ] = None,
    vectors: Annotated[
        Path | None, typer.Option("--vectors", help="Their sparse vectors, such as MODEL/documents after --refine.")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="What torch learns on: cpu, cuda or cuda:1.")] = "cpu",
    as_json: Json = False,
) -> None:
    """Ask an index by another embedding model, smaller or newer, of any width; nothing is indexed again.

    ```
    sparsevec adopt model/ documents-by-the-other.npy documents.npy -o asking/
    ```
    """
    check_output(output, _CONFIG)
    check_place(output)
    encoder = SparseEncoder.load(model)
    with progress("learning") as done:
        adopted = encoder.adopt(
            read_dense(theirs),
            read_dense(ours),
            documents=None if documents is None else read_dense(documents),
            vectors=None if vectors is None else SparseVectors.load(vectors),
            on_step=lambda at: done(at.fraction),
            device=device,
        )
    adopted.save(output)
    kept = adopted.config.adopted
    assert kept is not None
    say(_Adopted(model=output, figures=adopted.figures, adopted=kept), as_json=as_json)


class _Adopted(BaseModel):
    model: Path
    figures: Figures
    adopted: AdoptedConfig

    def __str__(self) -> str:
        kept = self.adopted
        again = "" if kept.second_look_ndcg_10 is None else f" ({kept.second_look_ndcg_10:.3f} at a second look)"
        return (
            f"{self.figures}\nthe documents' own model, for the same pairs: recall@10 {kept.own_recall_10:.3f}, "
            f"@100 {kept.own_recall_10_at_100:.3f}\nnDCG@10 of the nearest document {kept.answer_ndcg_10:.3f}{again}, "
            f"the documents' own model {kept.own_ndcg_10:.3f}\nSaved in {self.model}"
        )


@failing
def encode(
    model: Annotated[Path, typer.Argument(help="A folder that `fit` wrote.")],
    dense: Annotated[
        Path, typer.Argument(metavar="DENSE.npy", help="Vectors (n, d) of the same model as those of `fit`.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder of the sparse vectors.", show_default=False)
    ],
    query: Annotated[bool, typer.Option("--query", help="They are queries: as long as the budget pays for.")] = False,
    nnz: Annotated[int | None, typer.Option("--nnz", help="Keep so many weights instead of the budget's.")] = None,
    as_json: Json = False,
) -> None:
    """Dense vectors to sparse ones. Needs no torch.

    ```
    sparsevec encode model/ documents.npy -o documents/
    sparsevec encode model/ queries.npy --query -o queries/
    ```
    """
    check_output(output, _VECTORS)
    encoder = SparseEncoder.load(model)
    vectors = _encoded(encoder.encode_query if query else encoder.encode_document, read_dense(dense), nnz)
    vectors.save(output)
    say(_Encoded(vectors=output, n=len(vectors), dimension=vectors.dimension, nnz=vectors.nnz), as_json=as_json)


class _Encoded(BaseModel):
    vectors: Path
    n: int
    dimension: int
    nnz: int

    def __str__(self) -> str:
        mean = self.nnz / max(1, self.n)
        return (
            f"{self.n:,} vectors over {self.dimension:,} dimensions, {mean:.1f} weights each, saved in {self.vectors}"
        )


def _encoded(
    encode: Callable[[npt.ArrayLike, int | None], SparseVectors], rows: npt.NDArray[Any], nnz: int | None
) -> SparseVectors:
    blocks = []
    with progress("encoding") as done:
        for start in range(0, max(1, len(rows)), _BLOCK):
            blocks.append(encode(rows[start : start + _BLOCK], nnz))
            done((start + _BLOCK) / max(1, len(rows)))
    return SparseVectors.concat(blocks)


@failing
def evaluate_model(
    model: Annotated[Path, typer.Argument(help="A folder that `fit` wrote.")],
    dense: Annotated[Path, typer.Argument(metavar="DENSE.npy", help="Vectors (n, d) of the documents.")],
    queries: Annotated[Path, typer.Argument(metavar="QUERIES.npy", help="Vectors (q, d) of queries not learned from.")],
    documents: Codes = None,
    qrels: Annotated[
        Path | None, typer.Option("--qrels", help="Lines of `query document grade`: adds nDCG@10.")
    ] = None,
    ids: Ids = None,
    query_ids: Annotated[Path | None, typer.Option("--query-ids", help="One query id a line, for --qrels.")] = None,
    as_json: Json = False,
) -> None:
    """How much of what the dense search finds, by the similarity of the model, the sparse one finds, and at what cost.

    ```
    sparsevec eval model/ documents.npy queries.npy
    sparsevec eval model/ documents.npy queries.npy --documents model/documents --qrels qrels.tsv --json
    ```
    """
    if qrels is None and (ids is not None or query_ids is not None):
        raise InvalidInput("--ids and --query-ids belong to --qrels: they name what is judged there")
    rows, asked, encoder = read_dense(dense), read_dense(queries), SparseEncoder.load(model)
    judged = None if qrels is None else read_qrels(qrels, read_ids(ids, len(rows)), read_ids(query_ids, len(asked)))
    codes = _encoded(encoder.encode_document, rows, None) if documents is None else SparseVectors.load(documents)
    asking = encoder.encode_query(asked)
    evaluation = evaluate(rows, asked, codes, asking, qrels=judged, similarity=encoder.similarity)
    if as_json:
        typer.echo(as_json_text(evaluation))
    else:
        figures({"sparsevec": evaluation})
