"""The commands. Each reads files, calls what a Python user would call, and says what came of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import numpy.typing as npt
import typer
from pydantic import BaseModel

import sparsevec as sv
from sparsevec.cli.options import read_vector, read_where
from sparsevec.cli.screen import answers, failing, figures, out, progress, say, stages
from sparsevec.contract.adapter import Adapter, Hits
from sparsevec.contract.urls import Url
from sparsevec.demo.report import Found, Search
from sparsevec.demo.run import from_folder, run, shipped
from sparsevec.encoder import Budget, Figures, SparseEncoder
from sparsevec.errors import InvalidInput
from sparsevec.exact.verify import VerifyReport, verify
from sparsevec.files import read_dense, read_ids, read_objects, read_qrels
from sparsevec.ingestion.ingest import IngestReport, ingest
from sparsevec.measure.recall import Evaluation, evaluate
from sparsevec.vectors import MAX_DIMENSION, SparseVectors

__all__ = ["app"]

app = typer.Typer(
    name="sparsevec",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_show_locals=False,  # they may hold credentials
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of words.")]
TopK = Annotated[int, typer.Option("-k", help="How many hits of each query.")]
Ids = Annotated[
    Path | None,
    typer.Option("--ids", help='One id a line, as JSON: 42, "a", or an object with an id. Without: 0, 1, 2, …'),
]
Payloads = Annotated[
    Path | None, typer.Option("--payloads", help="One JSON object a line, the payload of each document.")
]
Filter = Annotated[
    str | None, typer.Option("--where", help='A filter on payloads: \'{"brand": "acme", "price": {"lt": 9}}\'.')
]
Target = Annotated[
    str,
    typer.Argument(
        metavar="URL",
        help="Where the documents are: qdrant://HOST:PORT/COLLECTION, elasticsearch://HOST:PORT/INDEX?field=…, "
        "qdrant+edge:PATH, local:PATH, reference:PATH.",
    ),
]

_BLOCK = 4096  # rows encoded between two movements of the bar


@app.callback()
def main() -> None:
    """Sparse vectors for the search cluster you already run: learned to a budget, and proved exact.

    Start with `sparsevec demo`. Then, with your own vectors:

        sparsevec fit documents.npy --queries sample.npy --nnz 32 --refine -o model/
        sparsevec index qdrant://localhost:6333/products model/documents/ --create
        sparsevec encode model/ queries.npy --query -o queries/
        sparsevec verify qdrant://localhost:6333/products model/documents/ queries/

    Credentials come from the environment: SPARSEVEC_API_KEY, or SPARSEVEC_USER and SPARSEVEC_PASSWORD.
    Exit code 1: something was lost or is not exact. 2: the command was used wrongly.
    """


@app.command()
@failing
def demo(
    folder: Annotated[
        Path | None,
        typer.Argument(help="Your own documents.npy (queries.npy, documents.jsonl, queries.jsonl); else Debian's."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the page, the model and the engine go.")] = Path(
        "sparsevec-demo"
    ),
    dimension: Annotated[int, typer.Option("--dimension", "-d", help="Dimensions of the sparse vectors.")] = 4096,
    nnz: Annotated[int, typer.Option("--nnz", help="Weights of a document.")] = 32,
    as_json: Json = False,
) -> None:
    """Learn an encoder, write to an embedded engine, search, verify, and make a page of it. Needs no server.

    Without a folder: 8,000 package descriptions of Debian and their MiniLM vectors, in about two minutes.

    ```
    sparsevec demo
    sparsevec demo my-vectors/ -o report/
    ```
    """
    corpus = shipped() if folder is None else from_folder(folder)
    if not as_json:
        out.print(f"Learning sparse vectors from {corpus.about}.\n", highlight=False)
    with stages() as watch:
        outcome = run(corpus, output, dimension=dimension, nnz=nnz, watch=watch)
    if not as_json:
        out.print()
        answers(outcome.story.searches[:5])
        out.print()
        figures(outcome.story.rows)
        out.print(f"\n{outcome.written}", highlight=False, markup=False)
    told = _Demo(
        page=outcome.page,
        seconds=dict(outcome.story.seconds),
        ingest=outcome.written,
        verify=outcome.verdict,
        evaluations=dict(outcome.story.rows),
    )
    say(told, as_json=as_json, sound=outcome.verdict.exact and not outcome.written.failed)


class _Demo(BaseModel):
    page: Path
    seconds: dict[str, float]
    ingest: IngestReport
    verify: VerifyReport
    evaluations: dict[str, Evaluation]

    def __str__(self) -> str:
        return f"{self.verify}\n{sum(self.seconds.values()):.0f} s in all. The page: {self.page}"


@app.command()
@failing
def fit(
    dense: Annotated[Path, typer.Argument(metavar="DENSE.npy", help="Vectors (n, d) of documents, from any model.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder of the model.")],
    queries: Annotated[
        Path | None, typer.Option("--queries", help="A sample of queries (q, d): makes it better.")
    ] = None,
    nnz: Annotated[int | None, typer.Option("--nnz", help="Weights of a document, in the mean.")] = None,
    flops: Annotated[float | None, typer.Option("--flops", help="F: multiplications of a query-document pair.")] = None,
    dimension: Annotated[int, typer.Option("--dimension", "-d", help="Dimensions of the sparse vectors.")] = 8192,
    refine: Annotated[
        bool, typer.Option("--refine", help="Fit the weights to these documents too; they go to OUTPUT/documents.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="Same seed, same vectors.")] = 0,
    as_json: Json = False,
) -> None:
    """Learn an encoder within a budget, without labels.

    ```
    sparsevec fit documents.npy --nnz 32 -o model/
    sparsevec fit documents.npy --queries sample.npy --nnz 32 --flops 0.65 --refine -o model/
    ```
    """
    rows, sample = read_dense(dense), None if queries is None else read_dense(queries)
    budget = Budget(nnz=nnz, flops=flops)
    encoder = SparseEncoder(rows.shape[1], dimension, seed)
    with progress("learning") as done:
        encoder.fit(rows, sample, budget=budget, on_step=lambda at: done(at.fraction))
    if refine:
        with progress("fitting the weights") as done:
            documents = encoder.refine(rows, sample, on_step=lambda at: done(at.fraction))
    encoder.save(output)
    if refine:
        documents.save(output / "documents")
    say(_Fitted(model=output, figures=encoder.config.figures), as_json=as_json)


class _Fitted(BaseModel):
    model: Path
    figures: Figures

    def __str__(self) -> str:
        measured = self.figures
        return (
            f"{measured.active_dims:.1f} weights a document, {measured.query_active_dims:.1f} a query, "
            f"F {measured.flops:.3f}, recall@10 {measured.recall_10:.3f}, @100 {measured.recall_10_at_100:.3f} "
            f"on {measured.queries} queries not learned from. Saved in {self.model}"
        )


@app.command()
@failing
def encode(
    model: Annotated[Path, typer.Argument(help="A folder that `fit` wrote.")],
    dense: Annotated[
        Path, typer.Argument(metavar="DENSE.npy", help="Vectors (n, d) of the same model as those of `fit`.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder of the sparse vectors.")],
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


@app.command()
@failing
def index(
    url: Target,
    documents: Annotated[Path, typer.Argument(metavar="DOCS", help="A folder of sparse vectors.")],
    ids: Ids = None,
    payloads: Payloads = None,
    journal: Annotated[
        Path | None,
        typer.Option("--journal", help="Makes the run resumable: after a crash, run the same command again."),
    ] = None,
    failed: Annotated[
        Path | None,
        typer.Option("--failed", help="Where refused documents go, with the reason; without: beside the journal."),
    ] = None,
    create: Annotated[
        bool, typer.Option("--create", help="Make the collection (or the sparse field in it) first, unless resuming.")
    ] = False,
    skip_empty: Annotated[
        bool, typer.Option("--skip-empty", help="Skip vectors without weights instead of failing them.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write sparse vectors to a backend, every document accounted for. Running it twice changes nothing.

    ```
    sparsevec index qdrant://localhost:6333/products docs/ --create --journal products.journal
    sparsevec index "elasticsearch://localhost:9200/products?field=sparse" docs/ --ids ids.jsonl
    ```
    """
    vectors = SparseVectors.load(documents, mmap=True)
    with closing(_connect(url)) as adapter, progress("writing") as done:
        if create and not (journal and journal.exists()):
            adapter.create(vectors.dimension)
        report = ingest(
            adapter,
            read_ids(ids, len(vectors)),
            vectors,
            None if payloads is None else read_objects(payloads),
            journal=journal,
            failed=failed,
            empty="skip" if skip_empty else "error",
            on_progress=lambda told: done(told.documents / max(1, len(vectors)), told.waiting),
        )
    say(report, as_json=as_json, sound=not report.failed)


def _connect(url: str) -> Adapter:
    """With the credentials of the environment where `url` names a server."""
    return sv.connect(url, **(_credentials() if Url.parse(url).host else {}))


def _credentials() -> dict[str, Any]:
    found: dict[str, Any] = {"api_key": os.environ.get("SPARSEVEC_API_KEY")}
    user, password = os.environ.get("SPARSEVEC_USER"), os.environ.get("SPARSEVEC_PASSWORD")
    if user and password:
        found["basic_auth"] = (user, password)
    return {name: secret for name, secret in found.items() if secret}


@app.command()
@failing
def search(
    url: Target,
    queries: Annotated[
        Path | None, typer.Argument(help="A folder of sparse vectors, or with --model a .npy file.")
    ] = None,
    model: Annotated[Path | None, typer.Option("--model", help="Encode the queries with this model first.")] = None,
    vector: Annotated[str | None, typer.Option("--vector", help='One sparse query: \'{"3": 0.5, "17": 1.2}\'.')] = None,
    k: TopK = 10,
    where: Filter = None,
    as_json: Json = False,
) -> None:
    """The best documents of each query, with their scores and payloads.

    ```
    sparsevec search qdrant://localhost:6333/products queries/ -k 3
    sparsevec search local:products.db queries.npy --model model/ --where '{"brand": "acme"}'
    sparsevec search reference:products.db --vector '{"3": 0.5, "17": 1.2}'
    ```
    """
    with closing(_connect(url)) as adapter:
        asked = _queries(queries, model, vector, adapter.info().dimension)
        hits = adapter.search(asked, k, where=read_where(where), with_payloads=True)
    if as_json:
        typer.echo(json.dumps([_as_json(found) for found in hits]))
    else:
        answers([Search(f"query {number}", _found(found)) for number, found in enumerate(hits)])


def _queries(path: Path | None, model: Path | None, vector: str | None, dimension: int | None) -> SparseVectors:
    if (path is None) == (vector is None):
        raise InvalidInput("expected a file of queries or --vector, one of the two")
    if vector is not None:
        return SparseVectors.from_rows([read_vector(vector)], dimension=dimension or MAX_DIMENSION)
    assert path is not None
    return SparseVectors.load(path) if model is None else SparseEncoder.load(model).encode_query(read_dense(path))


def _found(hits: Hits) -> list[Found]:
    scored = zip(hits.ids, hits.scores.tolist(), hits.payloads or (), strict=True)
    return [Found(id_, score, json.dumps(payload, ensure_ascii=False)) for id_, score, payload in scored]


def _as_json(hits: Hits) -> list[dict[str, Any]]:
    scored = zip(hits.ids, hits.scores.tolist(), hits.payloads or (), strict=True)
    return [{"id": id_, "score": score, "payload": payload} for id_, score, payload in scored]


@app.command(name="verify")
@failing
def verify_(
    url: Target,
    documents: Annotated[
        Path, typer.Argument(metavar="DOCS", help="The sparse vectors that the collection should hold.")
    ],
    queries: Annotated[Path, typer.Argument(metavar="QUERIES", help="A folder of sparse vectors to ask.")],
    k: TopK = 10,
    ids: Ids = None,
    where: Filter = None,
    payloads: Payloads = None,
    as_json: Json = False,
) -> None:
    """Ask the backend and check every answer against exact arithmetic. Exit code 1 when one is wrong.

    ```
    sparsevec verify qdrant://localhost:6333/products docs/ queries/ -k 10 --ids ids.jsonl
    ```
    """
    vectors = SparseVectors.load(documents)
    with closing(_connect(url)) as adapter:
        report = verify(
            adapter,
            vectors,
            SparseVectors.load(queries),
            k,
            ids=read_ids(ids, len(vectors)),
            where=read_where(where),
            payloads=None if payloads is None else list(read_objects(payloads)),
        )
    say(report, as_json=as_json, sound=report.exact)


@app.command(name="eval")
@failing
def eval_(
    model: Annotated[Path, typer.Argument(help="A folder that `fit` wrote.")],
    dense: Annotated[Path, typer.Argument(metavar="DENSE.npy", help="Vectors (n, d) of the documents.")],
    queries: Annotated[Path, typer.Argument(metavar="QUERIES.npy", help="Vectors (q, d) of queries not learned from.")],
    documents: Annotated[
        Path | None,
        typer.Option("--documents", help="The documents' sparse vectors, such as MODEL/documents after --refine."),
    ] = None,
    qrels: Annotated[
        Path | None, typer.Option("--qrels", help="Lines of `query document grade`: adds nDCG@10.")
    ] = None,
    ids: Ids = None,
    query_ids: Annotated[Path | None, typer.Option("--query-ids", help="One query id a line, for --qrels.")] = None,
    as_json: Json = False,
) -> None:
    """How much of what the dense vectors find is found by the sparse ones, and at what cost.

    ```
    sparsevec eval model/ documents.npy queries.npy
    sparsevec eval model/ documents.npy queries.npy --documents model/documents --qrels qrels.tsv --json
    ```
    """
    rows, asked, encoder = read_dense(dense), read_dense(queries), SparseEncoder.load(model)
    judged = None if qrels is None else read_qrels(qrels, read_ids(ids, len(rows)), read_ids(query_ids, len(asked)))
    codes = _encoded(encoder.encode_document, rows, None) if documents is None else SparseVectors.load(documents)
    evaluation = evaluate(rows, asked, codes, encoder.encode_query(asked), qrels=judged)
    if as_json:
        typer.echo(evaluation.model_dump_json())
    else:
        figures({"sparsevec": evaluation})
