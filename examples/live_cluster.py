"""A cluster in production gets sparse vectors beside its dense ones, while it is edited, searched, and we die.

    python examples/live_cluster.py elasticsearch://localhost:9200/live-example
    python examples/live_cluster.py opensearch://localhost:9200/live-example --documents 20000 --kills 10
    python examples/live_cluster.py qdrant://localhost:6333/live-example

It makes the collection, as an application would, and an editor process that updates, deletes, indexes anew and adds
documents, 50 times a second, and remembers what must be there. Then it retrofits, in a process that is killed with
kill -9 again and again and started again, and searches meanwhile. It moves over to a second encoder, killed as often:
`migrate` fills a field beside the first, and with `switch` the search, which runs on, asks that one. It lets the editor
stop, catches up once with both, and compares: every document byte by byte with what the editor left, every code with
the dense row beside it, every answer with exact arithmetic. In the end it drops the old field, and takes the new one
out again as well. Exit code 1 when anything is not as it should be.
"""

import argparse
import json
import multiprocessing
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np

import sparsevec as sv
from sparsevec.contract.urls import Url

WIDTH, EDITS = 64, 50  # columns of the dense rows; edits a second
RETROFIT = "import sys, sparsevec as sv; print(sv.retrofit(sys.argv[1], model=sys.argv[2], dense_field='emb', rate={}))"
MIGRATE = "import sys, sparsevec as sv; print(sv.migrate(sys.argv[1], model=sys.argv[2], to=sys.argv[3], rate={}))"


def dense_rows(n: int, seed: int) -> Any:
    """(n, WIDTH), of unit length, around 200 centres."""
    rng = np.random.default_rng(seed)
    rows = np.random.default_rng(0).normal(size=(200, WIDTH))[rng.integers(200, size=n)]
    rows = rows + 0.6 * rng.normal(size=rows.shape)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def document(number: int, row: Any) -> dict[str, Any]:
    return {"title": f"product {number}", "brand": f"b{number % 4}", "price": number / 4, "emb": row.tolist()}


# ---- the production side: plain HTTP, as applications speak it


class Elastic:
    """An index of Elasticsearch or OpenSearch; without a k-NN plugin the dense rows are plain arrays."""

    def __init__(self, url: Url) -> None:
        self.base, self.dense = f"http://{url.host}:{url.port}/{url.path}", url.engine == "elasticsearch"

    def ask(self, method: str, path: str, body: Any = None, kind: str = "json") -> Any:
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = Request(self.base + path, data, {"content-type": f"application/{kind}"}, method=method)
        with urlopen(request) as answer:
            return json.load(answer)

    def make(self) -> None:
        emb: Any = {"type": "dense_vector", "dims": WIDTH, "similarity": "cosine"}
        fields = {"emb": emb if self.dense else {"type": "float", "index": False}, "brand": {"type": "keyword"}}
        settings = {"number_of_shards": 2, "number_of_replicas": 0, "max_result_window": 1_000_000}
        self.ask("PUT", "", {"settings": settings, "mappings": {"properties": fields}})

    def put(self, documents: dict[int, Any]) -> None:
        items = [line for id_, one in documents.items() for line in ({"index": {"_id": str(id_)}}, one)]
        for start in range(0, len(items), 1000):
            body = "".join(json.dumps(line) + "\n" for line in items[start : start + 1000])
            assert not self.ask("POST", "/_bulk", body.encode(), "x-ndjson")["errors"]

    def edit(self, id_: int, fields: Any) -> None:
        self.ask("POST", f"/_update/{id_}?retry_on_conflict=20", {"doc": fields})

    def remove(self, id_: int) -> None:
        self.ask("DELETE", f"/_doc/{id_}")

    def documents(self) -> dict[int, Any]:
        self.ask("POST", "/_refresh")
        body: Any = {"size": 1_000_000, "query": {"match_all": {}}}
        try:
            hits = self.ask("POST", "/_search", {**body, "_source": {"exclude_vectors": False}})["hits"]["hits"]
        except HTTPError:  # before 9.2 nothing is left out
            hits = self.ask("POST", "/_search", body)["hits"]["hits"]
        assert len({hit["_id"] for hit in hits}) == len(hits), "a document stands there twice"
        return {int(hit["_id"]): hit["_source"] for hit in hits}

    def drop(self) -> None:
        self.ask("DELETE", "")


class Qdrant:
    """A collection of Qdrant with the dense vector `emb`."""

    def __init__(self, url: Url) -> None:
        self.base = f"http://{url.host}:{url.port}/collections/{url.path}"

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with urlopen(Request(self.base + path, data, {"content-type": "application/json"}, method=method)) as answer:
            return json.load(answer)["result"]

    def make(self) -> None:
        self.ask("PUT", "", {"vectors": {"emb": {"size": WIDTH, "distance": "Dot"}}})

    def put(self, documents: dict[int, Any]) -> None:
        points = [
            {"id": id_, "vector": {"emb": one["emb"]}, "payload": {key: one[key] for key in one if key != "emb"}}
            for id_, one in documents.items()
        ]
        for start in range(0, len(points), 500):
            self.ask("PUT", "/points?wait=true", {"points": points[start : start + 500]})

    def edit(self, id_: int, fields: Any) -> None:
        change: Any = {"set_payload": {"payload": fields, "points": [id_]}}
        if "emb" in fields:
            change = {"update_vectors": {"points": [{"id": id_, "vector": fields}]}}
        self.ask("POST", "/points/batch?wait=true", {"operations": [change]})

    def remove(self, id_: int) -> None:
        self.ask("POST", "/points/delete?wait=true", {"points": [id_]})

    def documents(self) -> dict[int, Any]:
        found = self.ask("POST", "/points/scroll", {"limit": 1_000_000, "with_payload": True, "with_vector": True})
        return {
            point["id"]: point["payload"] | {key: row for key, row in point["vector"].items() if key == "emb"}
            for point in found["points"]
        }

    def drop(self) -> None:
        self.ask("DELETE", "")


def production(url: str) -> Elastic | Qdrant:
    place = Url.parse(url)
    return Qdrant(place) if place.engine == "qdrant" else Elastic(place)


def edit_for_ever(url: str, n: int, stop: Any, left: Path) -> None:
    """Fifty edits a second, a fourth of them each: a field, the dense row, a whole document, one more and one less."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    place, rng, rows = production(url), random.Random(0), dense_rows(10_000, seed=2)
    truth = {number: document(number, row) for number, row in enumerate(dense_rows(n, seed=1))}
    edits = 0
    began = time.monotonic()
    while not stop.is_set():
        number, row = rng.choice(list(truth)) if edits % 50 == 0 else rng.randrange(n), rows[edits % len(rows)]
        if number in truth:
            kind = rng.randrange(4)
            if kind == 0:
                truth[number]["title"] = f"edited {edits}"
                place.edit(number, {"title": f"edited {edits}"})
            elif kind == 1:
                truth[number]["emb"] = row.tolist()
                place.edit(number, {"emb": row.tolist()})
            elif kind == 2:
                truth[number] = document(edits, row)
                place.put({number: truth[number]})
            else:
                del truth[number]
                place.remove(number)
                truth[n + edits] = document(n + edits, row)
                place.put({n + edits: truth[n + edits]})
            edits += 1
        time.sleep(max(0.0, began + edits / EDITS - time.monotonic()))
    left.write_text(json.dumps({"edits": edits, "truth": list(truth.items())}))


def as_bytes(documents: dict[int, Any]) -> dict[int, bytes]:
    """Of every field that is not ours; dense rows as the float32s that engines keep."""
    plain = {}
    for number, fields in documents.items():
        theirs = {key: one for key, one in fields.items() if not key.startswith(("sparse", "_sparsevec_"))}
        theirs["emb"] = np.array(theirs.get("emb", ()), np.float32).tobytes().hex()
        plain[number] = json.dumps(theirs, sort_keys=True).encode()
    return plain


# ---- our side


def killed(call: str, arguments: list[str], n: int, kills: int, filled: Callable[[], int]) -> None:
    """A call in a process that is killed when a part more of n documents has a vector, and started again."""
    command = [sys.executable, "-c", call.format(max(200, n // 10)), *arguments]
    for kill in range(1, kills + 1):
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while running.poll() is None and filled() < kill * 0.9 * n / (kills + 1):
            time.sleep(0.05)
        running.kill()
        assert running.wait() == -signal.SIGKILL, f"it had ended before kill {kill}"
    print(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def encoders(rows: Any, folder: Path) -> tuple[Path, Path]:
    """The folders of one encoder, and of a larger one for later."""
    for name, dimension, nnz in (("model", 512, 12), ("model-2", 1024, 16)):
        encoder = sv.SparseEncoder(WIDTH, dimension)
        encoder.fit(rows, budget=sv.Budget(nnz=nnz, flops=0.5)).save(folder / name)
    return folder / "model", folder / "model-2"


def main(url: str, n: int, kills: int) -> None:
    place, folder = production(url), Path(tempfile.mkdtemp())
    place.make()
    rows = dense_rows(n, seed=1)
    place.put({number: document(number, row) for number, row in enumerate(rows)})
    model, later = encoders(rows[:2000], folder)

    context = multiprocessing.get_context("spawn")
    stop, left = context.Event(), folder / "left.json"
    editor = context.Process(target=edit_for_ever, args=(url, n, stop, left))
    editor.start()
    ours = f"{url}?{'vector_name' if url.startswith('qdrant') else 'field'}=sparse"
    second, searches = f"{ours}_2", 0
    with sv.Serving(ours, model=model) as serving, sv.connect(ours) as one, sv.connect(second) as two:

        def search() -> None:
            """With a filter, as a service would."""
            nonlocal searches
            (answers,) = serving.search(rows[searches % n], k=10, where={"brand": "b1"}, with_payloads=True)
            assert all((hit.payload or {})["brand"] == "b1" for hit in answers)
            searches += 1

        def filled(field: sv.Adapter) -> int:
            """How many documents have a vector; and search meanwhile."""
            if one.info().exists:
                search()
            return field.count() if field.info().exists else 0

        try:
            killed(RETROFIT, [ours, str(model)], n, kills, partial(filled, one))
            killed(MIGRATE, [ours, str(model), str(later)], n, kills, partial(filled, two))
            print(sv.switch(ours, model=model, to=later))
            search()
            assert serving.now().url == second
        finally:
            stop.set()
            editor.join()
    print(sv.catch_up_both(ours, model=model, to=later))
    settled = sv.retrofit(ours, model=model, dense_field="emb"), sv.migrate(ours, model=model, to=later)
    remembered = json.loads(left.read_text())
    truth, found = as_bytes(dict(remembered["truth"])), as_bytes(place.documents())
    revived, lost = len(found.keys() - truth.keys()), len(truth.keys() - found.keys())
    changed = sum(found[number] != truth[number] for number in found.keys() & truth.keys())
    share = min(report.looks[0].right / max(1, report.looks[0].looked) for report in settled)
    print(f"{2 * kills} kills, {remembered['edits']:,} edits, {searches:,} searches, {len(truth):,} documents")
    print(f"{revived} revived, {lost} lost, 0 doubled, {changed} changed; {share:.2%} hold the code of their row")
    print(*(report.verified for report in settled), sep="\n")
    undone = sv.drop_old(ours, model=model, to=later), sv.undo_retrofit(second, model=later)
    print(*undone, sep="\n")
    changed += as_bytes(place.documents()) != truth
    exact = all(report.verified is not None and report.verified.exact for report in settled)
    left_over = any(report.left for report in undone)
    place.drop()
    sys.exit(0 if not (revived or lost or changed or left_over) and share == 1 and exact else 1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="a collection that is not there yet, and is removed at the end")
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=3)
    given = parser.parse_args()
    main(given.url, given.documents, given.kills)
