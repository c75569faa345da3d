"""Where the milliseconds of an answer by residual codes go on Elasticsearch, and what asking in another way would save.

    python -m benchmarks.answer_wire MODELS [--elasticsearch URL]

The same 20,000 documents and collection of codes of 160 bytes as in the part "elasticsearch, 600 bytes" of
`benchmarks.answers`, whose folder of models MODELS is, beside a `bbq_hnsw` index of their rows. Requests go over one
bare connection, without a client's own time: 100 hits of a query's 128 largest weights, unless a row says otherwise.
Every query is asked in all ways, one after the other and beginning with another one each time; "x" is the median of
the ratios to `bbq_hnsw`, "least" the fastest of all queries, which is what a machine that does other things shows of
one at rest. "ours, in all" is a `Retriever`, beside the official client's whole call for `bbq_hnsw`. Results:
benchmarks/results/answer_wire.md.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import numpy as np
import orjson
import typer
from sparsevec_adapters.lucene.index import Field
from sparsevec_adapters.lucene.queries import bringing_packed, msearch, query_clause, search_body

from benchmarks.answers import FITTING, WIDTHS, Learned, Ours
from benchmarks.debian12 import DATA, RESULTS, Data
from benchmarks.machine import machine
from benchmarks.rivals import ElasticKnn
from benchmarks.timing import table
from sparsevec.answers.retriever import Retriever
from sparsevec.encoder import Budget
from sparsevec.vectors import Float32s

LISTS, K = 128, 100
ABOUT = """\
The same 20,000 documents and collection of codes of 160 bytes as in the part "elasticsearch, 600 bytes" of answers.md
(Debian package descriptions by MiniLM, 32 weights, d 8,192), beside a `bbq_hnsw` index of their rows, on Elasticsearch
9.5. Requests go over one bare connection, without a client's own time: 100 hits of a query's 128 largest weights,
unless a row says otherwise; all of a query's are asked in the row "all lists" alone. Every query is asked in all ways,
one after the other and beginning with another one each time; "x" is the median of the ratios to `bbq_hnsw`, "least" the
fastest of all queries. "ours, in all" is a `Retriever` with 128 lists, beside the official client's whole call for
`bbq_hnsw`.
"""
_LISTS = (144, 128, 112, 96, 80, 64)
_NEEDED = (
    "responses.status,responses.error,responses.timed_out,responses._shards.failed,responses.hits.hits._index,"
    "responses.hits.hits._score,responses.hits.hits.fields"
)
_WARM, _JUDGED = 200, 500  # queries


class Wire:
    """One connection, on which a request is answered by the milliseconds it took and the bytes that came."""

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        self._connection = HTTPConnection(str(place.hostname), place.port)
        self._connection.connect()
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __call__(self, path: str, body: bytes, kind: str = "json", accept: str = "json") -> int:
        headers = {"content-type": f"application/{kind}", "accept": f"application/{accept}"}
        self._connection.request("POST", path, body, headers)
        answer = self._connection.getresponse()
        text = answer.read()
        assert answer.status == 200, text[:300]
        return len(text)


def ways(wire: Wire, ours: Ours, field: Field, bbq: ElasticKnn, queries: Float32s) -> dict[str, Callable[[int], int]]:
    """Each asks the query of a number; what it sends is made beforehand."""
    encoder = ours._retriever.encoder
    index = ours._url.rpartition("/")[2]
    whole, single = bringing_packed(field, codes=True, keyed=True), {"stored_fields": "_none_"}

    def bodies(lists: int | None, k: int, brought: dict[str, Any], *, compact: bool) -> list[dict[str, Any]]:
        clauses = [query_clause(sparse, field, compact=compact) for sparse in encoder.encode_query(queries, lists)]
        return [search_body(clause, [], k, False, brought) for clause in clauses]

    def search(
        lists: int | None = LISTS,
        k: int = K,
        brought: dict[str, Any] = whole,
        accept: str = "json",
        *,
        compact: bool = True,
    ) -> Callable[[int], int]:
        sent = list(map(orjson.dumps, bodies(lists, k, brought, compact=compact)))
        return lambda number: wire(f"/{index}/_search", sent[number], accept=accept)

    batches = [msearch([body]) for body in bodies(LISTS, K, whole, compact=True)]
    asked = [{"field": "emb", "query_vector": row, "k": 10, "num_candidates": 100} for row in queries.tolist()]
    knn = [orjson.dumps({"knn": one, "size": 10, "_source": False}) for one in asked]
    wanted = whole["docvalue_fields"]
    return {
        "bbq_hnsw, default": lambda number: wire(f"/{bbq.index}/_search", knn[number]),
        "ours: `_msearch`": lambda number: wire(f"/{index}/_msearch", batches[number], "x-ndjson"),
        "the same, what is needed alone by `filter_path`": lambda number: wire(
            f"/{index}/_msearch?filter_path={_NEEDED}", batches[number], "x-ndjson"
        ),
        "by `_search`": search(),
        "the same as CBOR": search(accept="cbor"),
        "the same as SMILE": search(accept="smile"),
        "one `term` query a weight": search(compact=False),
        "code and id, as if weights lay in the code's field": search(brought={**whole, "docvalue_fields": wanted[1:]}),
        "code alone": search(brought={**whole, "docvalue_fields": wanted[1:2]}),
        "no fields": search(brought=single),
        "no fields, 10 hits": search(k=10, brought=single),
        "96 lists": search(96),
        "64 lists": search(64),
        "all lists, 184": search(None),
        "64 lists, 200 hits": search(64, 200),
    }


def measured(asks: Mapping[str, Callable[[int], Any]], queries: int) -> Iterator[list[str]]:
    """A line of the table for each way."""
    seconds, sizes = np.empty((len(asks), queries)), np.zeros(len(asks))
    functions = list(asks.values())
    for number in range(min(_WARM, queries)):
        for ask in functions:
            ask(number)
    for number in range(queries):
        for at in np.roll(range(len(functions)), -number).tolist():
            began = time.perf_counter()
            size = functions[at](number)
            seconds[at, number] = time.perf_counter() - began
            sizes[at] += size if isinstance(size, int) else 0
    for name, took, size in zip(asks, 1000 * seconds, sizes / queries, strict=True):
        ratio = np.median(took / (1000 * seconds[0]))
        yield [name, f"{np.median(took):.1f}", f"{took.min():.1f}", f"{ratio:.2f}", f"{size:,.0f}" if size else ""]


def found(learned: Learned, given: Data) -> Iterator[list[str]]:
    """Recall@10 of the exact dense top 10, by lists of a query and candidates; on `local:`, which finds the same."""
    asked = given.queries[-_JUDGED:]
    truth = [set(np.argsort(-(given.documents @ query), kind="stable")[:10].tolist()) for query in asked]
    ours = Ours("found", learned.coded[FITTING], learned.documents, "local:", rerank="residual")
    ours._make()
    ours._write(range(len(given.documents)), given.documents)
    for depth in (K, 2 * K):
        line = [f"{depth} candidates"]
        for lists in (None, *_LISTS):
            retriever = Retriever(
                learned.coded[FITTING], ours._adapter, rerank="residual", candidates=depth, query_nnz=lists
            )
            answers = retriever.search(asked)
            shares = [len(due & set(hits.ids)) / 10 for due, hits in zip(truth, answers, strict=True)]
            line.append(f"{np.mean(shares):.3f}")
        yield line


def main(
    models: Annotated[Path, typer.Argument(help="the folder of models of benchmarks.answers")],
    elasticsearch: Annotated[str, typer.Option(help="url of a node of 9.x")] = "http://127.0.0.1:9200",
    data: Annotated[Path, typer.Option(help="the folder of debian12")] = DATA,
    queries: Annotated[int, typer.Option(help="dev queries")] = 100,
    out: Annotated[Path, typer.Option(help="where the results go")] = RESULTS,
) -> None:
    given = Data.load(data)
    learned = Learned.at(models / "wide", given, given.documents, (*WIDTHS, FITTING), Budget(nnz=32, flops=0.65))
    url = f"elasticsearch://{urlsplit(elasticsearch).netloc}/answers-wire"
    about = learned.coded[FITTING], learned.documents, url
    ours = Ours("ours, in all", *about, rerank="residual", query_nnz=LISTS)
    bbq = ElasticKnn(elasticsearch, "bbq_hnsw", None, of="wire")
    for system in (ours, bbq):
        system.build(given.documents)
    field: Field = ours._adapter._operations._session._known.field
    asked = given.queries[:queries]
    rows = list(measured(ways(Wire(elasticsearch), ours, field, bbq, asked), queries))
    whole = {system.name: partial(_answer, system, asked) for system in (bbq, ours)}
    rows += [[f"**{name}, with its client**", *rest] for name, *rest in measured(whole, queries)]
    measured_on = f"{queries} queries, {machine()}; {time.strftime('%Y-%m-%d')}."
    text = f"# What an answer asks of Elasticsearch\n\n{ABOUT}\n{measured_on}\n\n"
    text += table(["", "median, ms", "least, ms", "x", "bytes"], rows)
    text += f"\nWhat fewer lists find, of the dense top 10 of {_JUDGED} other queries:\n\n"
    text += table(["", "all lists", *map(str, _LISTS)], list(found(learned, given)))
    (out / "answer_wire.md").write_text(text)
    for system in (ours, bbq):
        system.close()


def _answer(system: ElasticKnn | Ours, queries: Float32s, number: int) -> list[int]:
    return system.ask(queries[number], None)


if __name__ == "__main__":
    typer.run(main)
