"""How fast a backfill fills a collection that serves, beside bulk updates of bodies that are ready.

    python -m benchmarks.backfill --url elasticsearch://HOST:PORT [--url qdrant://HOST:PORT] [--documents 20000]

A collection holds documents with dense rows of 384 numbers. `retrofit` reads them, encodes them (8,192 dimensions, 32
weights) and writes the codes under the versions that it read; what it is measured by is its first look, in which it
does all of that. The other ways send the same codes into the same collection as updates that were made beforehand, one
at a time and four in flight, without reading, encoding or guarding anything: the least that a backfill could do. The
ways take turns in who is first; a document is a little longer for whoever comes later. Of each the median of the
rounds, and of its ratio to the ready bodies of the same round with its least and most. Encoding alone, which ready
bodies have behind them, says how fast a backfill can be at most with one processor: on Qdrant, which takes ready bodies
faster than a processor encodes, no backfill comes near them.

And what a catch-up that reads every document would save if eight bytes lay beside each vector, to be read in its stead
(`sparsevec.live.codes` needs none): a scan of the dense rows alone, and with our vectors. Every round adds to
benchmarks/results/backfill.json, so that a run that was stopped goes on; backfill.md is made of that.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import numpy.typing as npt
import qdrant_edge as edge

import sparsevec as sv
from benchmarks.machine import machine

WIDTH, DIMENSION, WEIGHTS, BATCH = 384, 8192, 32, 1000
RESULTS = Path(__file__).parent / "results"
READY, READY_4, MARKED, OURS = (
    "ready bodies, one at a time",
    "ready bodies, 4 in flight",
    "the same, marked",
    "retrofit",
)
ENCODING = "encoding alone"
Rows = npt.NDArray[np.float32]


def dense_rows(n: int) -> Rows:
    """(n, WIDTH) unit rows around a thousand centres."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(1000, WIDTH))[rng.integers(1000, size=n)] + 0.8 * rng.normal(size=(n, WIDTH))
    units: Rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return units


def weights(codes: sv.SparseVectors) -> list[dict[str, float]]:
    return [{str(index): float(f"{weight:.9g}") for index, weight in one} for one in codes]


class Place:
    """A collection of a server that holds `rows`, and bodies for it that are ready."""

    def __init__(self, url: str, rows: Rows) -> None:
        self.url, self.rows = f"{url}/live-backfill", rows
        self.base = f"http://{url.partition('://')[2]}"
        self.option = "field"

    def http(self, method: str, path: str, body: Any = None, kind: str = "json") -> Any:
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = Request(f"{self.base}/{path}", data, {"content-type": f"application/{kind}"}, method=method)
        with urlopen(request) as answer:
            return json.load(answer)

    def adapter(self, field: str) -> sv.Adapter:
        return sv.connect(f"{self.url}?{self.option}={field}")

    def send(self, bodies: list[bytes], threads: int) -> float:
        began = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(self.post, bodies))
        return time.perf_counter() - began

    def post(self, body: bytes) -> None:
        raise NotImplementedError

    def make(self) -> None:
        raise NotImplementedError

    def bodies(self, field: str, codes: list[dict[str, float]]) -> list[bytes]:
        raise NotImplementedError

    def drop(self) -> None:
        """Whether it is there or not."""
        raise NotImplementedError


class Lucene(Place):
    def make(self) -> None:
        dense: Any = {"type": "dense_vector", "dims": WIDTH, "index": False}
        if self.url.startswith("opensearch"):
            dense = {"type": "float", "index": False, "doc_values": False}
        settings = {"number_of_shards": 1, "number_of_replicas": 0}
        mapping = {"properties": {"emb": dense, "title": {"type": "text"}}}
        self.http("PUT", "live-backfill", {"settings": settings, "mappings": mapping})
        for start in range(0, len(self.rows), BATCH):
            lines = [
                line
                for row in range(start, min(start + BATCH, len(self.rows)))
                for line in (
                    {"index": {"_id": str(row)}},
                    {"title": f"product {row}", "emb": self.rows[row].tolist()},
                )
            ]
            self.post(self._bulk(lines))
        self.http("POST", "live-backfill/_refresh")

    @staticmethod
    def _bulk(lines: list[Any]) -> bytes:
        return "".join(json.dumps(line) + "\n" for line in lines).encode()

    def post(self, body: bytes) -> None:
        answer = self.http("POST", "live-backfill/_bulk?filter_path=errors", body, "x-ndjson")
        assert answer == {"errors": False}

    def bodies(self, field: str, codes: list[dict[str, float]]) -> list[bytes]:
        def line(row: int, code: dict[str, float]) -> list[Any]:
            return [{"update": {"_id": str(row)}}, {"doc": {field: [code]}}]

        lines = [line(row, code) for row, code in enumerate(codes)]
        return [
            self._bulk([part for one in lines[at : at + BATCH] for part in one]) for at in range(0, len(lines), BATCH)
        ]

    def drop(self) -> None:
        self.http("DELETE", "live-backfill?ignore_unavailable=true")


class Qdrant(Place):
    def __init__(self, url: str, rows: Rows) -> None:
        super().__init__(url, rows)
        self.option = "vector_name"

    def make(self) -> None:
        vectors = {"emb": {"size": WIDTH, "distance": "Dot"}}
        self.http("PUT", "collections/live-backfill", {"vectors": vectors})
        for start in range(0, len(self.rows), BATCH):
            points = [
                {"id": row, "vector": {"emb": self.rows[row].tolist()}, "payload": {"title": f"product {row}"}}
                for row in range(start, min(start + BATCH, len(self.rows)))
            ]
            self.http("PUT", "collections/live-backfill/points?wait=true", {"points": points})

    def post(self, body: bytes) -> None:
        self.http("PUT", "collections/live-backfill/points/vectors?wait=true", body)

    def bodies(self, field: str, codes: list[dict[str, float]]) -> list[bytes]:
        points = [
            {"id": row, "vector": {field: {"indices": [*map(int, code)], "values": [*code.values()]}}}
            for row, code in enumerate(codes)
        ]
        return [json.dumps({"points": points[at : at + BATCH]}).encode() for at in range(0, len(points), BATCH)]

    def drop(self) -> None:
        self.http("DELETE", "collections/live-backfill")


def retrofitted(where: str | sv.Adapter, folder: Path) -> float:
    """Seconds of the first look."""
    report = sv.retrofit(where, model=folder, dense_field="emb", sample=1000, check=False)
    assert report.complete
    return report.looks[0].seconds


def round_of(place: Place, encoder: sv.SparseEncoder, codes: sv.SparseVectors, first: int) -> dict[str, float]:
    """Seconds of each way, in one collection; number `first` begins."""
    ready = weights(codes)
    ways = [OURS, READY, READY_4]
    found: dict[str, float] = {}
    place.drop()  # that of a run that was killed
    place.make()
    try:
        for number in range(len(ways)):
            way = ways[(first + number) % len(ways)]
            field = f"f{ways.index(way)}"
            if way == OURS:
                with tempfile.TemporaryDirectory() as folder:
                    encoder.save(Path(folder) / "model")
                    found[way] = retrofitted(f"{place.url}?{place.option}={field}", Path(folder) / "model")
                continue
            with place.adapter(field) as adapter:
                adapter.create(DIMENSION)
            found[way] = place.send(place.bodies(field, ready), 1 if way == READY else 4)
        with place.adapter("f0") as adapter:
            found["scan of the dense rows"] = scanned(adapter, vectors=False)
            found["and of our vectors"] = scanned(adapter, vectors=True)
        found[ENCODING] = encoded(encoder, place.rows)
    finally:
        place.drop()
    return found


def encoded(encoder: sv.SparseEncoder, rows: Rows) -> float:
    began = time.perf_counter()
    for start in range(0, len(rows), BATCH):
        encoder.encode_document(rows[start : start + BATCH])
    return time.perf_counter() - began


def scanned(adapter: sv.Adapter, *, vectors: bool) -> float:
    began = time.perf_counter()
    assert sum(len(page) for page in adapter.scan(dense="emb", vectors=vectors)) > 0
    return time.perf_counter() - began


# ---- the embedded engine, whose dense rows are payload


@contextmanager
def embedded(rows: Rows) -> Iterator[sv.Adapter]:
    with tempfile.TemporaryDirectory() as folder, sv.connect(f"qdrant+edge:{folder}/edge") as adapter:
        adapter.create(DIMENSION)
        for start in range(0, len(rows), BATCH):
            some = rows[start : start + BATCH]
            empty = sv.SparseVectors(np.zeros(len(some) + 1, np.int64), [], [], DIMENSION)
            adapter.upsert(range(start, start + len(some)), empty, [{"emb": row.tolist()} for row in some])
        yield adapter


def embedded_round(rows: Rows, encoder: sv.SparseEncoder, codes: sv.SparseVectors, first: int) -> dict[str, float]:
    def ours() -> float:
        with embedded(rows) as adapter, tempfile.TemporaryDirectory() as folder:
            encoder.save(Path(folder) / "model")
            return retrofitted(adapter, Path(folder) / "model")

    def ready() -> float:
        with embedded(rows) as adapter:
            operations = [
                edge.UpdateOperation.update_vectors(
                    [
                        edge.PointVectors(row, {"sparse": wire(codes[row])})
                        for row in range(at, min(at + BATCH, len(rows)))
                    ]
                )
                for at in range(0, len(rows), BATCH)
            ]
            began = time.perf_counter()
            for operation in operations:
                adapter._shard.update(operation)  # type: ignore[attr-defined]
            return time.perf_counter() - began

    def wire(one: sv.SparseVector) -> Any:
        return edge.SparseVector(one.indices.tolist(), one.values.tolist())

    ways: list[tuple[str, Callable[[], float]]] = [(OURS, ours), (READY, ready)]
    return {name: way() for name, way in (ways if first % 2 == 0 else ways[::-1])}


# ---- tables


def table(runs: list[dict[str, float]], n: int) -> dict[str, dict[str, float]]:
    """Of each way the median of its documents a second, and of its ratio to each of the ready ways."""
    found: dict[str, dict[str, float]] = {}
    for way in runs[0]:
        found[way] = {"documents a second": n / statistics.median(run[way] for run in runs)}
        for base in (READY, READY_4):
            if base in runs[0]:
                ratios = [run[base] / run[way] for run in runs]
                found[way][f"of {base}"] = statistics.median(ratios)
                found[way][f"of {base}: least"], found[way][f"of {base}: most"] = min(ratios), max(ratios)
    return found


def markdown(results: dict[str, Any]) -> str:
    lines = [f"# backfill\n\n{(__doc__ or '').strip()}\n"]
    for title, about in results.items():
        names = list(next(iter(about["table"].values())))
        lines += [f"\n## {title}\n\n{about['documents']:,} documents, {about['rounds']} rounds, {about['machine']}\n"]
        lines += [f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
        lines += [
            f"| {way} | {' | '.join(f'{one:,.{2 if one < 20 else 0}f}' for one in figures.values())} |"
            for way, figures in about["table"].items()
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", action="append", default=[], help="of a node, without an index; several may be given")
    parser.add_argument("--edge", action="store_true", help="the embedded engine as well")
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=4)
    asked = parser.parse_args()
    rows = dense_rows(asked.documents)
    encoder = sv.SparseEncoder(WIDTH, DIMENSION).fit(rows[:99], budget=sv.Budget(nnz=WEIGHTS))  # too few to learn from
    codes = encoder.encode_document(rows)
    for url in [*asked.url, *(["qdrant+edge:"] if asked.edge else [])]:
        if url == "qdrant+edge:":
            with embedded(rows[:1]) as adapter:
                name = adapter.info().backend
            round_at = partial(embedded_round, rows, encoder, codes)
        else:
            place = (Qdrant if url.startswith("qdrant") else Lucene)(url, rows)
            with place.adapter("f0") as adapter:
                name = adapter.info().backend
            round_at = partial(round_of, place, encoder, codes)
        runs = runs_of(name, asked.documents)
        while len(runs) < asked.rounds:
            runs.append(round_at(len(runs)))
            keep(name, asked.documents, runs)
    print((RESULTS / "backfill.md").read_text())


def runs_of(name: str, n: int) -> list[dict[str, float]]:
    """Those of an earlier run with as many documents; to measure anew, take its entry out of the file."""
    about = read().get(name, {})
    found: list[dict[str, float]] = about.get("runs", []) if about.get("documents") == n else []
    return found


def read() -> dict[str, Any]:
    kept = RESULTS / "backfill.json"
    return json.loads(kept.read_text()) if kept.exists() else {}


def keep(name: str, n: int, runs: list[dict[str, float]]) -> None:
    about = {"machine": machine(), "documents": n, "rounds": len(runs), "table": table(runs, n), "runs": runs}
    results = {**read(), name: about}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "backfill.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    (RESULTS / "backfill.md").write_text(markdown(results))


if __name__ == "__main__":
    main()
