"""How fast documents are written, beside what an engine's own client does, and beside bytes that are ready.

    python -m benchmarks.ingest [--url elasticsearch://HOST:PORT] [--qdrant qdrant://HOST:PORT]

Every way writes the same documents into a new index of one shard without replicas; what it wrote is counted, and its
answers are verified. The ways take turns, so that what else the machine does meets all of them alike: judge by the
ratios, which are medians over the rounds. Seconds of the client are processor time of this process, those of the server
what its node says of itself; qdrant-edge has both in one. Its points that are made beforehand show what is left to
gain: its calls hold Python's lock, so that nothing can go on beside them. Writes benchmarks/results/ingest.json and
ingest.md, keeping the tables of earlier runs that this one does not measure.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import qdrant_edge as edge
from elasticsearch import Elasticsearch, helpers
from qdrant_client import QdrantClient, models

import sparsevec as sv
from benchmarks.machine import machine

DIMENSION, BATCH = 8192, 1000
RESULTS = Path(__file__).parent / "results"


def documents(n: int, weights: int) -> sv.SparseVectors:
    draw = np.random.default_rng(weights)
    indices = np.concatenate([np.sort(draw.choice(DIMENSION, weights, replace=False)) for _ in range(n)])
    return sv.SparseVectors(
        np.arange(n + 1) * weights, indices, draw.random(n * weights, np.float32) + np.float32(0.01), DIMENSION
    )


def starts(n: int) -> range:
    return range(0, n, BATCH)


# ---- Elasticsearch


@dataclass
class Cluster:
    """A node, and an index of ours in it that each way of writing finds empty."""

    url: str
    index: str = "ingest-benchmark"

    @property
    def host(self) -> str:
        return self.url.replace("elasticsearch://", "http://")

    def http(self, method: str, path: str, body: bytes | None = None, kind: str = "json") -> Any:
        asked = Request(f"{self.host}/{path}", body, {"content-type": f"application/{kind}"}, method=method)
        with urlopen(asked) as answer:
            return json.load(answer)

    def adapter(self) -> Any:
        return sv.connect(f"{self.url}/{self.index}?field=emb&shards=1&replicas=0")

    def version(self) -> str:
        (node,) = self.http("GET", "_nodes/_local")["nodes"].values()
        return str(node["version"])

    def cpu(self) -> float:
        """Seconds of processor time of the node so far."""
        (node,) = self.http("GET", "_nodes/_local/stats/process")["nodes"].values()
        return float(node["process"]["cpu"]["total_in_millis"]) / 1000


def product(in_flight: int | None) -> Callable[[Cluster, sv.SparseVectors], None]:
    def write(cluster: Cluster, vectors: sv.SparseVectors) -> None:
        with cluster.adapter() as adapter:
            sv.ingest(adapter, [f"d{i}" for i in range(len(vectors))], vectors, in_flight=in_flight).require_complete()

    return write


def actions(vectors: sv.SparseVectors, index: str) -> Iterator[dict[str, Any]]:
    """As one writes them from arrays for the client's helpers."""
    for row, (start, end) in enumerate(zip(vectors.indptr[:-1], vectors.indptr[1:], strict=True)):
        names, values = map(str, vectors.indices[start:end].tolist()), vectors.values[start:end].tolist()
        vector = dict(zip(names, values, strict=True))
        yield {"_op_type": "create", "_index": index, "_id": f"d{row}", "_source": {"emb": [vector]}}


def bulk(cluster: Cluster, vectors: sv.SparseVectors) -> None:
    with Elasticsearch(cluster.host, request_timeout=120) as client:
        helpers.bulk(client, actions(vectors, cluster.index), chunk_size=BATCH)


def parallel_bulk(cluster: Cluster, vectors: sv.SparseVectors) -> None:
    with Elasticsearch(cluster.host, request_timeout=120) as client:
        for done, item in helpers.parallel_bulk(
            client, actions(vectors, cluster.index), thread_count=2, chunk_size=BATCH
        ):
            assert done, item


class Ready:
    """Bodies made beforehand, sent as they are by so many threads: what is left is the server."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._made: dict[int, list[bytes]] = {}

    def __call__(self, cluster: Cluster, vectors: sv.SparseVectors) -> None:
        def send(body: bytes) -> None:
            answer = cluster.http("POST", f"{cluster.index}/_bulk?filter_path=errors", body, "x-ndjson")
            assert answer == {"errors": False}

        with ThreadPoolExecutor(self._threads) as threads:
            list(threads.map(send, self._made[id(vectors)]))

    def prepare(self, cluster: Cluster, vectors: sv.SparseVectors) -> None:
        if id(vectors) not in self._made:
            given = list(actions(vectors, cluster.index))
            lines = [json.dumps({"create": {"_id": one["_id"]}}) + f"\n{json.dumps(one['_source'])}\n" for one in given]
            self._made[id(vectors)] = ["".join(lines[at : at + BATCH]).encode() for at in starts(len(lines))]


ELASTICSEARCH: dict[str, Callable[[Cluster, sv.SparseVectors], None]] = {
    "sparsevec": product(None),
    "sparsevec, one at a time": product(1),
    "helpers.bulk": bulk,
    "helpers.parallel_bulk, 2 threads": parallel_bulk,
    "ready bytes, one at a time": Ready(1),
    "ready bytes, 2 threads": Ready(2),
    "ready bytes, 4 threads": Ready(4),
}


def measure_elasticsearch(cluster: Cluster, vectors: sv.SparseVectors, name: str) -> dict[str, float]:
    way = ELASTICSEARCH[name]
    if isinstance(way, Ready):
        way.prepare(cluster, vectors)
    with cluster.adapter() as adapter:
        adapter.drop()
        adapter.create(DIMENSION)
        server, client, began = cluster.cpu(), time.process_time(), time.perf_counter()
        way(cluster, vectors)
        took = time.perf_counter() - began, time.process_time() - client, cluster.cpu() - server
        assert adapter.count() == len(vectors)
        ids = [f"d{i}" for i in range(len(vectors))]
        sv.verify(adapter, vectors, vectors[:20], k=10, ids=ids).require_exact()
        adapter.drop()
    return row(len(vectors), *took)


def row(n: int, wall: float, client: float, server: float | None = None) -> dict[str, float]:
    figures = {"documents a second": n / wall, "client µs": 1e6 * client / n}
    return figures if server is None else {**figures, "server µs": 1e6 * server / n}


# ---- Qdrant's embedded engine


def edge_product(in_flight: int | None) -> Callable[[Path, sv.SparseVectors], None]:
    def write(folder: Path, vectors: sv.SparseVectors) -> None:
        with sv.connect(f"qdrant+edge:{folder}") as adapter:
            adapter.create(DIMENSION)
            sv.ingest(adapter, range(len(vectors)), vectors, in_flight=in_flight).require_complete()

    return write


def edge_loop(folder: Path, vectors: sv.SparseVectors) -> None:
    """As its documentation writes points: from each row's lists."""
    shard = new_shard(folder)
    for at in starts(len(vectors)):
        points = [point(row, vectors) for row in range(at, min(at + BATCH, len(vectors)))]
        shard.update(edge.UpdateOperation.upsert_points(points))
    shard.close()


def new_shard(folder: Path) -> edge.EdgeShard:
    folder.mkdir()
    config = edge.EdgeConfig(sparse_vectors={"sparse": edge.EdgeSparseVectorParams()})
    return edge.EdgeShard.create(str(folder), config)


def point(row: int, vectors: sv.SparseVectors) -> edge.Point:
    start, end = vectors.indptr[row], vectors.indptr[row + 1]
    given = vectors.indices[start:end].tolist(), vectors.values[start:end].tolist()
    return edge.Point(row, {"sparse": edge.SparseVector(*given)}, {})


class ReadyPoints:
    """Points made beforehand."""

    def __init__(self) -> None:
        self._made: dict[int, list[edge.Point]] = {}

    def __call__(self, folder: Path, vectors: sv.SparseVectors) -> None:
        shard, points = new_shard(folder), self._made[id(vectors)]
        for at in starts(len(points)):
            shard.update(edge.UpdateOperation.upsert_points(points[at : at + BATCH]))
        shard.close()

    def prepare(self, vectors: sv.SparseVectors) -> None:
        if id(vectors) not in self._made:
            self._made[id(vectors)] = [point(row, vectors) for row in range(len(vectors))]


EDGE: dict[str, Callable[[Path, sv.SparseVectors], None]] = {
    "sparsevec": edge_product(None),
    "plain loop": edge_loop,
    "ready points": ReadyPoints(),
}


def measure_edge(vectors: sv.SparseVectors, name: str) -> dict[str, float]:
    folder, way = Path(tempfile.mkdtemp(prefix="sparsevec-benchmark-")), EDGE[name]
    if isinstance(way, ReadyPoints):
        way.prepare(vectors)
    try:
        client, began = time.process_time(), time.perf_counter()
        way(folder / "shard", vectors)
        return row(len(vectors), time.perf_counter() - began, time.process_time() - client)
    finally:
        shutil.rmtree(folder)


# ---- a Qdrant server


Took = tuple[float, float]
"""Seconds on the wall, and of this process, from the first document on: the client is connected already."""


def timed(write: Callable[[], Any]) -> Took:
    client, began = time.process_time(), time.perf_counter()
    write()
    return time.perf_counter() - began, time.process_time() - client


def server_product(in_flight: int | None) -> Callable[[str, sv.SparseVectors], Took]:
    def write(url: str, vectors: sv.SparseVectors) -> Took:
        with at_server(url) as adapter:
            adapter.count()
            ids = range(len(vectors))
            return timed(lambda: sv.ingest(adapter, ids, vectors, in_flight=in_flight).require_complete())

    return write


def upload_points(url: str, vectors: sv.SparseVectors) -> Took:
    """As the client's documentation writes points."""
    host, port = url.partition("://")[2].split(":")
    client = QdrantClient(host=host, port=int(port), https=False, check_compatibility=False)
    client.count("ingest-benchmark")

    def points() -> Iterator[models.PointStruct]:
        for number, row in enumerate(vectors):
            vector = models.SparseVector(indices=row.indices.tolist(), values=row.values.tolist())
            yield models.PointStruct(id=number, vector={"sparse": vector})

    took = timed(lambda: client.upload_points("ingest-benchmark", points(), batch_size=BATCH, wait=True))
    client.close()
    return took


def at_server(url: str) -> Any:
    return sv.connect(f"{url}/ingest-benchmark?vector_name=sparse")


SERVER: dict[str, Callable[[str, sv.SparseVectors], Took]] = {
    "sparsevec": server_product(None),
    "sparsevec, one at a time": server_product(1),
    "upload_points": upload_points,
}


def measure_server(url: str, vectors: sv.SparseVectors, name: str) -> dict[str, float]:
    with at_server(url) as adapter:
        adapter.drop()
        adapter.create(DIMENSION)
        took = SERVER[name](url, vectors)
        assert adapter.count() == len(vectors)
        sv.verify(adapter, vectors, vectors[:20], k=10, ids=range(len(vectors))).require_exact()
        adapter.drop()
    return row(len(vectors), *took)


# ---- rounds and tables


def medians(ways: list[str], measure: Callable[[str], dict[str, float]], rounds: int, base: str) -> dict[str, Any]:
    """Of each way its median figures, and its ratio of documents a second to `base`, the median of the rounds'."""
    runs = [{way: measure(way) for way in ways} for _ in range(rounds)]
    table = {}
    for way in ways:
        figures = {name: statistics.median(run[way][name] for run in runs) for name in runs[0][way]}
        ratios = [run[way]["documents a second"] / run[base]["documents a second"] for run in runs]
        spread = {"least": min(ratios), "most": max(ratios)}
        table[way] = {**figures, f"of {base}": statistics.median(ratios), **spread}
    return table


def markdown(results: dict[str, Any]) -> str:
    lines = [f"# ingest\n\n{(__doc__ or '').strip()}"]
    for title, table in results.items():
        names = list(next(iter(table["ways"].values())))
        lines += [f"\n## {title}\n\n{table['measured']}\n"]
        lines += [f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
        lines += [
            f"| {way} | {' | '.join(f'{figures[name]:,.{2 if figures[name] < 20 else 0}f}' for name in names)} |"
            for way, figures in table["ways"].items()
        ]
    return "\n".join(lines) + "\n"


def keep(title: str, asked: argparse.Namespace, ways: dict[str, Any]) -> None:
    """This table, in place of an earlier one of the same title."""
    file = RESULTS / "ingest.json"
    busy = f"load average {os.getloadavg()[0]:.1f} at the end; {time.strftime('%Y-%m-%d')}"
    measured = f"{machine()}, {asked.documents:,} documents, {asked.rounds} rounds; {busy}."
    before = json.loads(file.read_text()) if file.exists() else {}
    results = dict(sorted({**before, title: {"measured": measured, "ways": ways}}.items()))
    file.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    (RESULTS / "ingest.md").write_text(markdown(results))
    print(markdown({title: results[title]}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="of an Elasticsearch node, without an index")
    parser.add_argument("--qdrant", help="of a Qdrant server, without a collection")
    parser.add_argument("--edge", action="store_true", help="qdrant-edge, which needs no server")
    parser.add_argument("--weights", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    for weights in asked.weights:
        vectors = documents(asked.documents, weights)
        if asked.url:
            cluster = Cluster(asked.url)
            ways = medians(
                list(ELASTICSEARCH), partial(measure_elasticsearch, cluster, vectors), asked.rounds, "helpers.bulk"
            )
            keep(f"Elasticsearch {cluster.version()}, {weights} weights", asked, ways)
        if asked.qdrant:
            ways = medians(list(SERVER), partial(measure_server, asked.qdrant, vectors), asked.rounds, "upload_points")
            keep(f"a Qdrant server over REST, {weights} weights", asked, ways)
        if asked.edge:
            ways = medians(list(EDGE), partial(measure_edge, vectors), asked.rounds, "plain loop")
            keep(f"qdrant-edge, {weights} weights", asked, ways)


if __name__ == "__main__":
    main()
