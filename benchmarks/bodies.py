"""How long the body of a request takes, from arrays to bytes, beside what each client makes of the same documents.

    OMP_NUM_THREADS=1 python -m benchmarks.bodies

1,000 documents without payloads to a body, as a bulk load sends them. "ours, without numba": where it is
not installed, or has not compiled yet; only the Lucene body uses it. "short decimals": the part of the Lucene
body that finds the fewest decimals of which the field keeps the same weight. "the client's own": from a dict or a model
a document, made of the arrays' lists, to bytes by the client's own classes. What comes out is read back and compared
with the vectors: the same weights, to the bit on Qdrant, and on Lucene to what its field keeps. Microseconds of the
processor a document, medians of turns.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import orjson
import typer
from elasticsearch.serializer import JsonSerializer
from qdrant_client import grpc, models
from qdrant_client.conversions.conversion import RestToGrpc
from sparsevec_adapters.lucene import text
from sparsevec_adapters.lucene.documents import to_lines
from sparsevec_adapters.lucene.index import Field
from sparsevec_adapters.lucene.weights import short, stored
from sparsevec_adapters.qdrant_core.points import Updates, update_batch

from benchmarks.ingest import documents
from benchmarks.timing import keep, medians, table
from sparsevec.compiler import Loops
from sparsevec.vectors import SparseVectors

N, NAME = 1000, "emb"


def lucene(vectors: SparseVectors) -> bytes:
    lines, failed = to_lines([f"d{i}" for i in range(N)], vectors, [{}] * N, FIELD, ours=True)
    assert not failed
    return b"".join([line.creation() for line in lines])


def lucene_client(vectors: SparseVectors) -> bytes:
    to_bytes, lines = JsonSerializer().dumps, []
    for row, vector in enumerate(vectors):
        weights = dict(zip(map(str, vector.indices.tolist()), vector.values.tolist(), strict=True))
        lines += [to_bytes({"create": {"_id": f"d{row}"}}), to_bytes({NAME: [weights]})]
    return b"\n".join(lines)


def rest(vectors: SparseVectors) -> bytes:
    return orjson.dumps({"operations": [Updates(range(N), vectors, NAME, vectors.dimension).to_json()]})


def models_of(vectors: SparseVectors) -> models.UpdateVectorsOperation:
    rows = [models.SparseVector(indices=row.indices.tolist(), values=row.values.tolist()) for row in vectors]
    points = [models.PointVectors(id=number, vector={NAME: row}) for number, row in enumerate(rows)]
    return models.UpdateVectorsOperation(update_vectors=models.UpdateVectors(points=points))


def rest_client(vectors: SparseVectors) -> bytes:
    return models.UpdateOperations(operations=[models_of(vectors)]).model_dump_json(exclude_none=True).encode()


def over_grpc(vectors: SparseVectors) -> Any:
    return update_batch("c", [Updates(range(N), vectors, NAME, vectors.dimension)], 60).SerializeToString()


def grpc_client(vectors: SparseVectors) -> Any:
    operation = RestToGrpc.convert_update_operation(models_of(vectors))
    return grpc.UpdateBatchPoints(collection_name="c", wait=True, operations=[operation]).SerializeToString()


def check(vectors: SparseVectors) -> None:
    rows = [json.loads(line)[NAME][0] for line in lucene(vectors).splitlines()[1::2]]
    assert stored(SparseVectors.from_rows(rows, dimension=vectors.dimension)) == stored(vectors)
    points = json.loads(rest(vectors))["operations"][0]["update_vectors"]["points"]
    given = [zip(*point["vector"][NAME].values(), strict=True) for point in points]
    assert SparseVectors.from_rows(given, dimension=vectors.dimension) == vectors
    (operation,) = grpc.UpdateBatchPoints.FromString(over_grpc(vectors)).operations
    found = [point.vectors.vectors.vectors[NAME].sparse for point in operation.update_vectors.points]
    given = [zip(one.indices, one.values, strict=True) for one in found]
    assert SparseVectors.from_rows(given, dimension=vectors.dimension) == vectors


FIELD = Field(NAME, "sparse_vector", "sparse_vector", NAME)


def main() -> None:
    compiled, plain = text.LOOPS, Loops("no module", worth=0)
    compiled.load(wait=True)

    def with_(loops: Loops, vectors: SparseVectors) -> Callable[[], Any]:
        def make() -> bytes:
            text.LOOPS = loops
            return lucene(vectors)

        return make

    rows = []
    for weights in (32, 128):
        vectors = documents(N, weights)
        check(vectors)
        bodies: dict[str, dict[str, Callable[[], Any]]] = {
            "Elasticsearch, OpenSearch": {
                "ours": with_(compiled, vectors),
                "ours, without numba": with_(plain, vectors),
                "short decimals": lambda v=vectors: short(v),  # type: ignore[misc]
                "the client's own": lambda v=vectors: lucene_client(v),  # type: ignore[misc]
            },
            "Qdrant, REST": {
                "ours": lambda v=vectors: rest(v),  # type: ignore[misc]
                "the client's own": lambda v=vectors: rest_client(v),  # type: ignore[misc]
            },
            "Qdrant, gRPC": {
                "ours": lambda v=vectors: over_grpc(v),  # type: ignore[misc]
                "the client's own": lambda v=vectors: grpc_client(v),  # type: ignore[misc]
            },
        }
        for body, ways in bodies.items():
            took = medians(ways, 15)
            rows.append({"body": body, "weights": weights, **{way: 1000 * ms / N for way, ms in took.items()}})
    columns = ["body", "weights", "ours", "ours, without numba", "short decimals", "the client's own"]
    keep("bodies", __doc__ or "", [table(columns, [[row.get(name) for name in columns] for row in rows])], rows)


if __name__ == "__main__":
    typer.run(main)
