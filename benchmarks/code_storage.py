"""Where a residual code lies, and what an index of ours weighs: bytes after a merge, and what reading 100 hits costs.

    python -m benchmarks.code_storage elasticsearch://127.0.0.1:9200 [opensearch://127.0.0.1:9201 ...] [--n 6000]

Bytes are the engine's own: `_stats/store` after a merge into one segment, and `_disk_usage` field by field. Times are
medians over 60 queries of 64 weights, k = 100: the engine's `took`, and the whole request at the client. The documents
are made up (32 of 8,192 dimensions, squared: some are common), codes are 100 random bytes, which nothing compresses.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.request import Request, urlopen

import numpy as np

from benchmarks.machine import machine

WIDTH, NNZ, DIMENSION, K = 100, 32, 8192, 100
PACKED = 86  # bytes of 32 weights of 8,192 dimensions (adapters/lucene/packing.py)


def call(base: str, method: str, path: str, body: bytes | Mapping[str, Any] | None = None) -> Any:
    raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    kind = "application/x-ndjson" if path.endswith(("_bulk", "_msearch")) else "application/json"
    with urlopen(Request(base + path, raw, {"content-type": kind}, method=method), timeout=120) as answer:
        return json.loads(answer.read())


def documents(n: int) -> Iterator[tuple[list[int], np.ndarray, bytes]]:
    rng = np.random.default_rng(0)
    for _ in range(n):
        chosen = np.unique((rng.random(2 * NNZ) ** 2 * DIMENSION).astype(int))[:NNZ]
        yield chosen.tolist(), rng.lognormal(-1, 0.7, len(chosen)).astype(np.float32), rng.bytes(WIDTH)


def shortest(weight: np.float32) -> float:
    """The fewest digits that Lucene keeps the same 9 bits of."""
    kept = np.float32(weight).view(np.uint32) >> 15
    for digits in range(1, 9):
        short = np.float32(f"{weight:.{digits}g}")
        if short.view(np.uint32) >> 15 == kept:
            return float(f"{weight:.{digits}g}")
    return float(weight)


def flat(width: int) -> dict[str, Any]:
    how = {"similarity": "l2_norm", "index_options": {"type": "flat"}}
    return {"type": "dense_vector", "dims": width, "element_type": "byte", **how}


Variant = Mapping[str, Any]
VARIANTS: dict[str, Variant] = {
    "no code": {},
    "no code, best_compression": {"settings": {"index.codec": "best_compression"}},
    "no code, short decimals": {"short": True},
    "no code, short decimals, best_compression": {"short": True, "settings": {"index.codec": "best_compression"}},
    "no code, vectors in _source": {
        "settings": {"index.mapping.exclude_source_vectors": False},
        "only": "elasticsearch9",
    },
    "no code, vectors in _source, short decimals": {
        "short": True,
        "settings": {"index.mapping.exclude_source_vectors": False},
        "only": "elasticsearch9",
    },
    "no code, vectors in _source, short decimals, best_compression": {
        "short": True,
        "only": "elasticsearch9",
        "settings": {"index.codec": "best_compression", "index.mapping.exclude_source_vectors": False},
    },
    "code in _source": {"code": {"type": "binary"}},
    "code in doc values": {"code": {"type": "binary", "doc_values": True}},
    "code in doc values, best_compression": {
        "code": {"type": "binary", "doc_values": True},
        "settings": {"index.codec": "best_compression"},
    },
    "code in a flat byte vector": {
        "code": flat(WIDTH),
        "hex": True,
        "only": "elasticsearch9",
    },
    "code in a flat byte vector, best_compression": {
        "code": flat(WIDTH),
        "hex": True,
        "only": "elasticsearch9",
        "settings": {"index.codec": "best_compression"},
    },
    "code and id in doc values": {
        "code": {"type": "binary", "doc_values": True},
        "id": {"type": "keyword", "index": False},
    },
    "code and id in one value": {"code": {"type": "binary", "doc_values": True}, "record": True},
    "code, packed weights and id in doc values": {
        "code": {"type": "binary", "doc_values": True},
        "weights": {"type": "binary", "doc_values": True},
        "id": {"type": "keyword", "index": False},
        "short": True,
    },
    "code and packed weights in flat byte vectors, id in doc values": {
        "code": flat(WIDTH),
        "weights": flat(PACKED),
        "id": {"type": "keyword", "index": False},
        "hex": True,
        "only": "elasticsearch9",
    },
    "code in doc values, the smallest of ours": {
        "code": {"type": "binary", "doc_values": True},
        "short": True,
        "settings": {"index.codec": "best_compression", "index.mapping.exclude_source_vectors": False},
    },
}


def make(base: str, index: str, engine: str, variant: Variant, n: int) -> None:
    field = "rank_features" if engine.startswith("opensearch") else "sparse_vector"
    extra = {name: variant[name] for name in ("code", "weights", "id") if name in variant}
    settings = {"index.number_of_shards": 1, "index.number_of_replicas": 0, **variant.get("settings", {})}
    if engine != "elasticsearch9":
        settings.pop("index.mapping.exclude_source_vectors", None)
    options = {"index_options": {"prune": False}} if field == "sparse_vector" else {}
    mapping = {"properties": {"emb": {"type": field, **options}, **extra}}
    call(base, "PUT", f"/{index}", {"settings": settings, "mappings": mapping})
    lines: list[str] = []
    for number, (chosen, weights, code) in enumerate(documents(n)):
        plain = map(shortest, weights) if variant.get("short") else (float(str(w)) for w in weights)
        document: dict[str, Any] = {"emb": [dict(zip(map(str, chosen), plain, strict=True))]}
        name = f"int:{number}"
        if "weights" in variant:  # as little to be compressed as codes are
            packed = np.random.default_rng(number).bytes(PACKED)
            document["weights"] = packed.hex() if "hex" in variant else base64.b64encode(packed).decode()
        if "hex" in variant:
            document["code"] = code.hex()
        elif "code" in variant:
            document["code"] = base64.b64encode(code + (name.encode() if variant.get("record") else b"")).decode()
        if "id" in variant:
            document["id"] = name
        document["title"] = f"document number {number}"
        lines += [json.dumps({"index": {"_id": name}}), json.dumps(document)]
        if len(lines) >= 2000 or number == n - 1:
            answer = call(base, "POST", f"/{index}/_bulk", ("\n".join(lines) + "\n").encode())
            assert not answer["errors"], answer["items"][0]
            lines = []
    call(base, "POST", f"/{index}/_flush")
    call(base, "POST", f"/{index}/_forcemerge?max_num_segments=1")
    call(base, "POST", f"/{index}/_refresh")


def weigh(base: str, index: str, n: int) -> tuple[float, dict[str, float]]:
    stored = call(base, "GET", f"/{index}/_stats/store")["indices"][index]["primaries"]["store"]["size_in_bytes"]
    fields: dict[str, float] = {}
    try:
        usage = call(base, "POST", f"/{index}/_disk_usage?run_expensive_tasks=true")[index]["fields"]
        fields = {name: about["total_in_bytes"] / n for name, about in usage.items()}
        fields |= {
            f"{name} term vectors": about["term_vectors_in_bytes"] / n
            for name, about in usage.items()
            if about.get("term_vectors_in_bytes")
        }
    except OSError:
        pass  # OpenSearch has no such API
    return stored / n, fields


READS: dict[str, Mapping[str, Any]] = {
    "_id": {"_source": False},
    "_id, code from _source": {"_source": ["code"]},
    "_id, code from doc values": {"_source": False, "docvalue_fields": ["code"]},
    "code and id from doc values": {"stored_fields": "_none_", "docvalue_fields": ["code", "id"]},
    "code from doc values, no id": {"stored_fields": "_none_", "docvalue_fields": ["code"]},
    "_id, weights by fields": {"_source": False, "fields": ["emb"]},
    "_id, weights from _source": {"_source": ["emb"]},
    "_id, code from doc values, weights by fields": {"_source": False, "docvalue_fields": ["code"], "fields": ["emb"]},
}


PACKED_READS: dict[str, Mapping[str, Any]] = {
    "code and packed weights from doc values": {"docvalue_fields": ["code", "weights"], "_source": False},
    "code, packed weights and id from doc values": {
        "stored_fields": "_none_",
        "docvalue_fields": ["code", "weights", "id"],
    },
}


def read(base: str, index: str, engine: str, how: Mapping[str, Any], size: int = K) -> tuple[float, float, float]:
    """Medians: `took`, ms at the client, and bytes of the answer a hit."""
    took, client, weight = [], [], []
    rng = np.random.default_rng(1)
    for _ in range(60):
        dims = np.unique((rng.random(64) ** 2 * DIMENSION).astype(int))
        boosts = rng.lognormal(-1, 0.7, len(dims))
        if engine.startswith("opensearch"):
            clauses = [
                {"rank_feature": {"field": f"emb.{d}", "linear": {}, "boost": float(b)}}
                for d, b in zip(dims, boosts, strict=True)
            ]
        else:
            clauses = [
                {"term": {"emb": {"value": str(d), "boost": float(b)}}} for d, b in zip(dims, boosts, strict=True)
            ]
        body = {"query": {"bool": {"should": clauses}}, "size": size, "track_total_hits": False, **how}
        began = time.perf_counter()
        answer = call(base, "POST", f"/{index}/_search?filter_path=took,hits.hits", body)
        client.append(1000 * (time.perf_counter() - began))
        took.append(answer["took"])
        weight.append(len(json.dumps(answer)) / max(1, len(answer["hits"]["hits"])))
    return statistics.median(took), statistics.median(client), statistics.median(weight)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("urls", nargs="+")
    parser.add_argument("--n", type=int, default=6000)
    parser.add_argument("--prefix", default="code-storage")
    parser.add_argument("--bytes", action="store_true", help="no times")
    given = parser.parse_args(arguments)
    print(f"{machine()}; load average {os.getloadavg()[0]:.1f}; {time.strftime('%Y-%m-%d')}")
    for url in given.urls:
        base = "http:" + url.partition(":")[2].rstrip("/")
        (node,) = call(base, "GET", "/_nodes/_local/http?filter_path=nodes.*.version")["nodes"].values()
        name = url.partition(":")[0]
        engine = name if name == "opensearch" else f"{name}{node['version'].partition('.')[0]}"
        print(f"\n{engine} {node['version']}, {given.n:,} documents")
        made: list[str] = []
        try:
            for number, (name, variant) in enumerate(VARIANTS.items()):
                if variant.get("only", engine) != engine:
                    continue
                index = f"{given.prefix}-{number}"
                made.append(index)
                make(base, index, engine, variant, given.n)
                whole, fields = weigh(base, index, given.n)
                shown = ", ".join(f"{field} {size:.0f}" for field, size in sorted(fields.items()) if size >= 1)
                print(f"  {name}: {whole:.0f} B a document ({shown})", flush=True)
            wanted = {name: f"{given.prefix}-{number}" for number, name in enumerate(VARIANTS)}
            if given.bytes:
                continue
            index, plain = wanted["code and id in doc values"], wanted["no code"]
            packed = wanted["code, packed weights and id in doc values"]
            asked = [(index, name, how) for name, how in READS.items()]
            asked += [(packed, name, how) for name, how in PACKED_READS.items()]
            for round_ in range(2):  # the first warms up
                for at, name, how in asked:
                    took, client, weight = read(base, at, engine, how)
                    if round_:
                        print(
                            f"  {name}: took {took:.1f} ms, {client:.1f} ms at the client, {weight:.0f} B a hit",
                            flush=True,
                        )
            took, client, _ = read(base, plain, engine, READS["_id"])
            print(f"  no code, _id: took {took:.1f} ms, {client:.1f} ms at the client")
        finally:
            for index in made:
                call(base, "DELETE", f"/{index}?ignore_unavailable=true")


if __name__ == "__main__":
    main()
