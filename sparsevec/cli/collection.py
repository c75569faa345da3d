"""The commands that write and ask: index, search, verify."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy.typing as npt
import typer

from sparsevec.cli.bars import progress
from sparsevec.cli.credentials import connected
from sparsevec.cli.documents import Beside, Documents, beside, of_dense, of_texts, of_vectors
from sparsevec.cli.options import (
    EMBEDDER,
    Candidates,
    Codes,
    Embedder,
    Filter,
    Ids,
    Json,
    Payloads,
    Rerank,
    Reranking,
    RowsField,
    Target,
    TextField,
    TopK,
    check_file,
    read_vector,
    read_where,
    retriever,
)
from sparsevec.cli.screen import answers, failing, say
from sparsevec.cli.texts import read_texts
from sparsevec.contract.adapter import Adapter, Hits
from sparsevec.contract.checks import Payload, dense_row
from sparsevec.demo.report import Found, Search
from sparsevec.encoder import SparseEncoder
from sparsevec.errors import CollectionError, InvalidInput
from sparsevec.exact.verify import verify as verified
from sparsevec.files import DenseFile, holds_texts, read_dense, read_table
from sparsevec.ingestion.ingest import ingest
from sparsevec.integrations.embedders import embed, named
from sparsevec.vectors import MAX_DIMENSION, SparseVectors

__all__ = ["index", "search", "verify"]

_USUAL = {"rerank": Rerank.usual, "dense_field": None, "candidates": None}


class Missing(StrEnum):
    """What becomes of ids that are not there."""

    fail = "fail"
    skip = "skip"
    create = "create"


class Empty(StrEnum):
    """What becomes of vectors without weights."""

    error = "error"
    skip = "skip"
    write = "write"


# ---- write


@failing
def index(
    url: Target,
    documents: Annotated[
        Path,
        typer.Argument(
            metavar="DOCS",
            help="A folder of sparse vectors; with --model dense vectors (.npy, .parquet, .jsonl, …), or texts, one a "
            "line, or .jsonl with a field for them.",
        ),
    ],
    model: Annotated[
        Path | None, typer.Option("--model", help="Of texts and dense vectors: what encodes them, as they are written.")
    ] = None,
    codes: Codes = None,
    embedder: Embedder = EMBEDDER,
    field: TextField = "text",
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
        bool,
        typer.Option(
            "--create",
            help="Make the collection, or the sparse field in it, where it is not there. One that is there is used "
            "when it is of the same dimension and the same encoder.",
        ),
    ] = False,
    empty: Annotated[Empty, typer.Option("--empty", help="What becomes of vectors without weights.")] = Empty.error,
    skip_empty: Annotated[bool, typer.Option("--skip-empty", help="The same as --empty skip.")] = False,
    missing: Annotated[
        Missing | None,
        typer.Option(
            "--missing",
            help="What becomes of ids that are not there; without: create in a collection that sparsevec made, fail in "
            "one that others made.",
        ),
    ] = None,
    deadline: Annotated[
        float, typer.Option("--deadline", help="Give up after so many seconds without progress.")
    ] = 300.0,
    as_json: Json = False,
) -> None:
    """Write sparse vectors to a backend, every document accounted for. Running it twice changes nothing.

    ```
    sparsevec index qdrant://localhost:6333/products docs/ --create --journal products.journal
    sparsevec index "elasticsearch://localhost:9200/products?field=sparse" docs/ --ids ids.jsonl
    sparsevec index qdrant://localhost:6333/products products.parquet --model model/ --create
    sparsevec index local:products.db products.jsonl --model model/ --embedder wordllama --create
    ```
    """
    files = Beside(ids, payloads)
    texts = model is not None and holds_texts(documents, field)
    if codes is not None and (model is None or texts):
        raise InvalidInput("--documents belongs to --model and dense vectors: it names their sparse ones")
    if skip_empty and empty == Empty.write:
        raise InvalidInput("expected --skip-empty or --empty write, found both")
    check_file(journal)
    check_file(failed)
    if model is None:
        given = of_vectors(documents, files)
    elif texts:
        given = of_texts(documents, SparseEncoder.load(model), embedder, field, files)
    else:
        given = of_dense(documents, SparseEncoder.load(model), codes, files)
    with connected(url) as adapter, progress("writing") as done:
        given = _prepare(adapter, given, create=create)
        report = ingest(
            adapter,
            given.ids,
            given.vectors,
            given.payloads,
            codes=None if given.codes is None else given.codes(adapter),
            journal=journal,
            failed=failed,
            empty="skip" if skip_empty else empty.value,
            missing=None if missing is None else missing.value,
            deadline=deadline,
            on_progress=lambda told: done(told.documents / max(1, given.n), told.waiting),
        )
    say(report, as_json=as_json, sound=not report.failed)


def _prepare(adapter: Adapter, given: Documents, *, create: bool) -> Documents:
    """The collection is there, and of the vectors' dimension; the documents, without codes where it keeps none.

    Raises CollectionError; `upsert` looks at the space.
    """
    found = adapter.info()
    if not found.exists and not create:
        raise CollectionError(f"{found.backend}: the collection is not there; --create makes it")
    if not found.exists:
        adapter.create(given.dimension, fingerprint=given.fingerprint, code_bytes=given.code_bytes)
        return given
    if found.dimension not in (None, given.dimension):
        raise CollectionError(
            f"the collection is there and has dimension {found.dimension}, the vectors have {given.dimension}; "
            "name another, or take it away first with: sparsevec drop URL"
        )
    return given if found.code_bytes is not None else given._replace(codes=None)


# ---- ask


@failing
def search(
    url: Target,
    queries: Annotated[
        Path | None,
        typer.Argument(help="A folder of sparse vectors; with --model a file of dense ones, or of texts as for index."),
    ] = None,
    model: Annotated[
        Path | None, typer.Option("--model", help="What encodes the queries; the answers are re-ranked by it, too.")
    ] = None,
    rerank: Reranking = Rerank.usual,
    dense_field: RowsField = None,
    candidates: Candidates = None,
    text: Annotated[
        str | None, typer.Option("--text", help="One query in words, for --model, embedded as its documents were.")
    ] = None,
    embedder: Embedder = EMBEDDER,
    field: TextField = "text",
    vector: Annotated[str | None, typer.Option("--vector", help='One sparse query: \'{"3": 0.5, "17": 1.2}\'.')] = None,
    k: TopK = 10,
    where: Filter = None,
    as_json: Json = False,
) -> None:
    """The best documents of each query, with their scores and payloads.

    ```
    sparsevec search qdrant://localhost:6333/products queries/ -k 3
    sparsevec search local:products.db queries.npy --model model/ --where '{"brand": "acme"}'
    sparsevec search local:products.db questions.txt --model model/ --embedder wordllama
    sparsevec search local:products.db --text "shoes for rain" --model model/ --embedder wordllama
    sparsevec search reference:products.db --vector '{"3": 0.5, "17": 1.2}'
    ```
    """
    if sum(given is not None for given in (queries, vector, text)) != 1:
        raise InvalidInput("expected a file of queries, --text or --vector, one of the three")
    if text is not None and model is None:
        raise InvalidInput("--text needs --model, the folder that `fit` wrote, to encode the query with")
    again: dict[str, Any] = {"rerank": rerank, "dense_field": dense_field, "candidates": candidates}
    if again != _USUAL and (model is None or vector is not None):
        raise InvalidInput("--rerank, --dense-field and --candidates belong to --model and dense queries")
    wanted: dict[str, Any] = {"where": read_where(where), "with_payloads": True}
    with connected(url) as adapter:
        if model is None or vector is not None:
            hits = adapter.search(_sparse(queries, vector, adapter), k, **wanted)
        else:
            dense = _dense(queries, text, embedder, field)
            hits = retriever(SparseEncoder.load(model), adapter, **again).search(dense, k, **wanted)
    if as_json:
        typer.echo(json.dumps([[hit._asdict() for hit in found] for found in hits]))
    else:
        answers([Search(f"query {number}", _found(found)) for number, found in enumerate(hits)])


def _dense(path: Path | None, text: str | None, embedder: str, field: str) -> npt.NDArray[Any]:
    if path is None:
        assert text is not None  # one of the three
        return embed([text], named(embedder))
    return embed(read_texts(path, field), named(embedder)) if holds_texts(path, field) else read_dense(path)


def _sparse(path: Path | None, vector: str | None, adapter: Adapter) -> SparseVectors:
    if vector is not None:
        return SparseVectors.from_rows([read_vector(vector)], dimension=adapter.info().dimension or MAX_DIMENSION)
    assert path is not None  # one of the three
    return SparseVectors.load(path)


def _found(hits: Hits) -> list[Found]:
    return [Found(hit.id, hit.score, json.dumps(_brief(hit.payload), ensure_ascii=False)) for hit in hits]


def _brief(payload: Payload | None) -> dict[str, Any]:
    """With dense rows, which some engines keep among the other fields, as how many numbers they are."""
    fields = (payload or {}).items()
    return {name: f"{len(value)} numbers" if _is_row(value) else value for name, value in fields}


def _is_row(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 8 and dense_row(value) is not None


@failing
def verify(
    url: Target,
    documents: Annotated[
        Path,
        typer.Argument(
            metavar="DOCS", help="The sparse vectors that the collection should hold; with --model the dense ones."
        ),
    ],
    queries: Annotated[
        Path, typer.Argument(metavar="QUERIES", help="A folder of sparse vectors to ask; with --model dense ones.")
    ],
    model: Annotated[
        Path | None, typer.Option("--model", help="What encoded them; the re-ranked answers are verified, too.")
    ] = None,
    codes: Codes = None,
    rerank: Reranking = Rerank.usual,
    dense_field: RowsField = None,
    candidates: Candidates = None,
    k: TopK = 10,
    ids: Ids = None,
    where: Filter = None,
    payloads: Payloads = None,
    as_json: Json = False,
) -> None:
    """Ask the backend and check every answer against exact arithmetic. Exit code 1 when one is wrong.

    ```
    sparsevec verify qdrant://localhost:6333/products docs/ queries/ -k 10 --ids ids.jsonl
    sparsevec verify qdrant://localhost:6333/products products.parquet queries.npy --model model/
    ```
    """
    again: dict[str, Any] = {"rerank": rerank, "dense_field": dense_field, "candidates": candidates}
    if model is None and (codes is not None or again != _USUAL):
        raise InvalidInput("--documents, --rerank, --dense-field and --candidates belong to --model")
    files = Beside(ids, payloads)
    with connected(url) as adapter:
        if model is None:
            vectors = SparseVectors.load(documents)
            about = _about(files, where, len(vectors))
            report = verified(adapter, vectors, SparseVectors.load(queries), k, **about)
        else:
            table = read_table(documents)
            about = _about(files, where, len(table.rows), table)
            known = None if codes is None else SparseVectors.load(codes)
            asked = retriever(SparseEncoder.load(model), adapter, **again)
            report = verified(asked, table.rows, read_dense(queries), k, vectors=known, **about)
    say(report, as_json=as_json, sound=report.exact)


def _about(files: Beside, where: str | None, n: int, table: DenseFile | None = None) -> dict[str, Any]:
    ids, payloads = beside(files, n, table)
    return {"ids": ids, "payloads": None if payloads is None else list(payloads), "where": read_where(where)}
