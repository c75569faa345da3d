"""What else searches the same vectors: each baseline gives its rankings, what a pair costs it, its bytes and its time.

    Found(method, setting, rows, multiplications, lookups, preparation, bytes, seconds)         .rankings

    exhaustive(gallery, queries, k) -> Found
    pca(gallery, queries, k, *, components) -> Found
    lsh(gallery, queries, k, *, bits, seed) -> Found                 random hyperplanes, Hamming distance
    pq(gallery, queries, k, *, code_bytes) -> Found
    ivf_pq(gallery, queries, k, *, code_bytes, lists, probes) -> Iterator[Found]     one for each number of probes
    hnsw(gallery, queries, k, *, links, efforts) -> Iterator[Found]  one for each effort; evaluations counted by faiss
    binary(gallery, queries, k) -> Found                             signs on both sides, Hamming distance
    binary_asymmetric(gallery, queries, k) -> Found                  signs of the gallery, the queries as they are
    inverted_index(method, setting, documents, queries, k) -> Found  any SparseVectors: FLOPs, L1, top-k, CSR
    head(name, gallery, queries, *, dimension, nnz, seed) -> (documents, queries)    "top_k_autoencoder" or "csr"
    hash_table(gallery, queries, gallery_hash, query_hash, k, *, active) -> Found    SDH, its search
    reranked(found, gallery, queries, k) -> Found                    any of them, its rows ranked again, densely
    sweep(gallery, queries, k, *, seed) -> Iterator[Found]           the dense ones, each over its settings

`gallery` (n, d) and `queries` (q, d) are float32 rows of unit length, `rows` (q, k) int64, best first, -1 where fewer
were found. What SDH learns is in `benchmarks.paper.sdh`: `sdh_loss`, for a linear head without activation.

Nothing here learns from labels but SDH. Costs are counted, not estimated from the settings, where they depend on the
data (IVF-PQ, HNSW, SDH, the inverted index). Times: `benchmarks.paper.timing`, with what a query needs first included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import faiss
import numpy as np
import numpy.typing as npt

from benchmarks import baselines
from benchmarks.paper.sdh import HashTable
from benchmarks.paper.timing import seconds_a_query
from sparsevec.answers.retrieval import Retrieval
from sparsevec.dense import unit_rows as unit
from sparsevec.encoder.calibration import document_cut
from sparsevec.encoder.head import Projection, encoded
from sparsevec.errors import InvalidInput
from sparsevec.measure.cost import POSTING_BYTES, flops
from sparsevec.vectors import Float32s, Int64s, SparseVectors

__all__ = [
    "Found",
    "binary",
    "binary_asymmetric",
    "exhaustive",
    "hash_table",
    "head",
    "hnsw",
    "inverted_index",
    "ivf_pq",
    "lsh",
    "pca",
    "pq",
    "reranked",
    "sweep",
]

TIMED = 200  # queries; they take turns, so that none stays in the cache
CENTROIDS = 256  # of a byte of product quantisation

faiss.omp_set_num_threads(1)
_COUNTED: Any = faiss.cvar  # faiss counts distances here, for all searches since the last reset


@dataclass(frozen=True, slots=True)
class Found:
    """What a method found, and what that took."""

    method: str
    setting: str
    rows: Int64s
    """(q, k), best first; -1 where fewer were found"""
    multiplications: float
    """of a query and a document, floating point, in the mean over all pairs"""
    lookups: float
    """of a pair: table entries read and added, postings of a hash bucket, or words of 64 bits compared"""
    preparation: float
    """multiplications of a query before it meets a document: projections, tables, coarse centroids"""
    bytes: float
    """of a document, in the structure that is searched"""
    seconds: float
    """of a query asked alone, on one thread, preparation included"""

    @property
    def rankings(self) -> list[Int64s]:
        """`rows` as `sparsevec.measure.labels.quality` takes them."""
        return [row[row >= 0] for row in self.rows]


Search = Callable[[Float32s], Int64s]  # (b, d) -> (b, k)


def _timed(search: Callable[[Float32s], object], queries: Float32s) -> float:
    return seconds_a_query(search, [queries[row : row + 1] for row in range(min(TIMED, len(queries)))])


def _searched(index: Any, k: int) -> Search:
    return lambda queries: index.search(queries, k)[1].astype(np.int64)


# ---- dense vectors, as they are and shortened


def exhaustive(gallery: Float32s, queries: Float32s, k: int) -> Found:
    """The truth: every pair, d multiplications each."""
    d = gallery.shape[1]
    search = _searched(_flat(gallery), k)
    return Found("dense", f"{d}", search(queries), d, 0, 0, 4 * d, _timed(search, queries))


def _flat(gallery: Float32s) -> Any:
    index = faiss.IndexFlatIP(gallery.shape[1])
    index.add(np.ascontiguousarray(gallery))
    return index


def pca(gallery: Float32s, queries: Float32s, k: int, *, components: int) -> Found:
    """The first `components` principal components of the gallery, at unit length."""
    mean = gallery.mean(axis=0)
    _, directions = np.linalg.eigh((gallery - mean).T @ (gallery - mean))
    first = np.ascontiguousarray(directions[:, ::-1][:, :components])
    index = _flat(unit((gallery - mean) @ first))

    def search(rows: Float32s) -> Int64s:
        return _searched(index, k)((rows - mean) @ first)  # the length of a query does not change its ranking

    d = gallery.shape[1]
    seconds = _timed(search, queries)
    return Found("PCA", f"{components}", search(queries), components, 0, components * d, 4 * components, seconds)


# ---- bits


def lsh(gallery: Float32s, queries: Float32s, k: int, *, bits: int, seed: int) -> Found:
    """On which side of `bits` random hyperplanes, Gaussian, a row lies (Charikar, 2002); a multiple of 8."""
    d = gallery.shape[1]
    planes = np.random.default_rng(seed).standard_normal((d, bits), np.float32)
    rows, seconds = _hamming(gallery, queries, k, lambda batch: batch @ planes)
    return Found("LSH", f"{bits} bits", rows, 0, bits / 64, bits * d, bits / 8, seconds)


def binary(gallery: Float32s, queries: Float32s, k: int) -> Found:
    """The sign of each column, about the gallery's mean."""
    d, mean = gallery.shape[1], gallery.mean(axis=0)
    rows, seconds = _hamming(gallery, queries, k, lambda batch: batch - mean)
    return Found("binary", f"{d} bits", rows, 0, d / 64, 0, d / 8, seconds)


def _hamming(
    gallery: Float32s, queries: Float32s, k: int, sides: Callable[[Float32s], Float32s]
) -> tuple[Int64s, float]:
    """The k nearest in Hamming distance of the signs of `sides`, and the seconds."""

    def codes(rows: Float32s) -> npt.NDArray[np.uint8]:
        return np.packbits(sides(rows) > 0, axis=1)

    index = faiss.IndexBinaryFlat(8 * codes(gallery[:1]).shape[1])
    index.add(codes(gallery))

    def search(rows: Float32s) -> Int64s:
        return index.search(codes(rows), k)[1].astype(np.int64)

    return search(queries), _timed(search, queries)


def binary_asymmetric(gallery: Float32s, queries: Float32s, k: int) -> Found:
    """The sign of each column, the queries as they are: eight signs are one look-up in a table made for the query."""
    d, mean = gallery.shape[1], gallery.mean(axis=0)
    groups = (d + 7) // 8
    signs = np.ones((len(gallery), 8 * groups), np.float32)
    signs[:, :d] = np.where(gallery > mean, 1, -1)
    index = faiss.IndexPQ(8 * groups, groups, 8, faiss.METRIC_INNER_PRODUCT)
    byte = np.unpackbits(np.arange(CENTROIDS, dtype=np.uint8)[:, None], axis=1)
    faiss.copy_array_to_vector(np.tile(2 * byte.astype(np.float32) - 1, (groups, 1)).ravel(), index.pq.centroids)
    index.is_trained = True
    index.add(signs)

    def search(rows: Float32s) -> Int64s:
        return _searched(index, k)(np.pad(rows, ((0, 0), (0, 8 * groups - d))))

    seconds = _timed(search, queries)
    return Found("binary, asymmetric", f"{d} bits", search(queries), 0, groups, CENTROIDS * d, d / 8, seconds)


# ---- quantised, clustered, linked


def pq(gallery: Float32s, queries: Float32s, k: int, *, code_bytes: int) -> Found:
    """Product quantisation (Jégou et al., 2011), a byte for each of `code_bytes` parts."""
    d = gallery.shape[1]
    _check_parts(gallery, code_bytes)
    index = faiss.IndexPQ(d, code_bytes, 8, faiss.METRIC_INNER_PRODUCT)
    index.pq.cp.min_points_per_centroid = 1  # no advice on small galleries
    index.train(gallery)
    index.add(gallery)
    search = _searched(index, k)
    seconds = _timed(search, queries)
    return Found("PQ", f"{code_bytes} bytes", search(queries), 0, code_bytes, CENTROIDS * d, code_bytes, seconds)


def ivf_pq(
    gallery: Float32s, queries: Float32s, k: int, *, code_bytes: int, lists: int, probes: Sequence[int]
) -> Iterator[Found]:
    """PQ of the residuals in the nearest of `lists` clusters, as many as `probes` says, one search for each.

    8 bytes more than PQ, for the document's number.
    """
    n, d = gallery.shape
    _check_parts(gallery, code_bytes)
    coarse = faiss.IndexFlatIP(d)
    index = faiss.IndexIVFPQ(coarse, d, lists, code_bytes, 8, faiss.METRIC_INNER_PRODUCT)
    index.cp.min_points_per_centroid = index.pq.cp.min_points_per_centroid = 1
    index.train(gallery)
    index.add(gallery)
    search, preparation = _searched(index, k), (lists + CENTROIDS) * d
    for index.nprobe in probes:
        _COUNTED.indexIVF_stats.reset()
        rows = search(queries)
        lookups = code_bytes * _COUNTED.indexIVF_stats.ndis / (len(queries) * n)
        setting, seconds = f"{code_bytes} bytes, {index.nprobe} of {lists} lists", _timed(search, queries)
        yield Found("IVF-PQ", setting, rows, 0, lookups, preparation, code_bytes + 8, seconds)


def _check_parts(gallery: Float32s, code_bytes: int) -> None:
    n, d = gallery.shape
    if d % code_bytes or n < CENTROIDS:
        raise InvalidInput(
            f"product quantisation into {code_bytes} bytes needs columns in as many equal parts and at least "
            f"{CENTROIDS} rows to learn from, found {n} rows of {d}"
        )


def hnsw(gallery: Float32s, queries: Float32s, k: int, *, links: int, efforts: Sequence[int]) -> Iterator[Found]:
    """A graph of near neighbours (Malkov & Yashunin, 2016), `links` a row; one search for each width of the beam."""
    n, d = gallery.shape
    index: Any = faiss.IndexHNSWFlat(d, links)  # by L2: at unit length the same ranking
    index.hnsw.efConstruction = 200
    index.add(gallery)
    search, size = _searched(index, k), 4 * d + 4 * index.hnsw.neighbors.size() / n
    for index.hnsw.efSearch in efforts:
        _COUNTED.hnsw_stats.reset()
        rows = search(queries)
        multiplications = d * _COUNTED.hnsw_stats.ndis / (len(queries) * n)
        setting = f"{links} links, beam {index.hnsw.efSearch}"
        yield Found("HNSW", setting, rows, multiplications, 0, 0, size, _timed(search, queries))


# ---- sparse


def inverted_index(method: str, setting: str, documents: SparseVectors, queries: SparseVectors, k: int) -> Found:
    """Any sparse vectors in our own exact index. The network that makes the queries is nobody's cost here."""
    index = Retrieval(documents)
    rows = _matrix([ranking.rows for ranking in index.search(queries, k)], k)
    alone = [queries[row : row + 1] for row in range(min(TIMED, len(queries)))]
    seconds = seconds_a_query(lambda query: index.search(query, k), alone)
    size = POSTING_BYTES * documents.nnz / len(documents)
    return Found(method, setting, rows, flops(queries, documents), 0, 0, size, seconds)


def _matrix(rankings: Sequence[Int64s], k: int) -> Int64s:
    rows = np.full((len(rankings), k), -1, np.int64)
    for row, ranking in zip(rows, rankings, strict=True):
        row[: len(ranking)] = ranking
    return rows


def head(
    name: Literal["top_k_autoencoder", "csr"],
    gallery: Float32s,
    queries: Float32s,
    *,
    dimension: int,
    nnz: int,
    seed: int,
) -> tuple[SparseVectors, SparseVectors]:
    """(documents, queries) of a head of `benchmarks.baselines` learned from the gallery alone, cut to `nnz` a document.

    Queries are encoded as documents are.
    """
    learned = getattr(baselines, name)(gallery, dimension, nnz, seed)
    projection = Projection(learned.weights, learned.bias, learned.mean)
    cut = document_cut(gallery, projection, nnz, 16)
    return encoded(gallery, projection, cut), encoded(queries, projection, cut)


def hash_table(
    gallery: Float32s,
    queries: Float32s,
    gallery_hash: Float32s,
    query_hash: Float32s,
    k: int,
    *,
    active: int,
) -> Found:
    """SDH: candidates that share a bucket, ranked densely; `_hash` (n or q, buckets) are the hash head's outputs."""
    (n, d), table = gallery.shape, HashTable(gallery, gallery_hash, active)
    pairs = list(zip(queries, query_hash, strict=True))
    opened = [table.candidates(strengths, k) for _, strengths in pairs]
    rows = _matrix([table.search(query, strengths, k) for query, strengths in pairs], k)
    multiplications = d * float(np.mean([len(candidates) for candidates, _ in opened])) / n
    lookups = float(np.mean([read for _, read in opened])) / n
    seconds = seconds_a_query(lambda pair: table.search(*pair, k), pairs[:TIMED])
    setting = f"{active} of {gallery_hash.shape[1]} buckets"
    return Found("SDH", setting, rows, multiplications, lookups, 0, 4 * d + 4 * active, seconds)


# ---- together


def reranked(found: Found, gallery: Float32s, queries: Float32s, k: int) -> Found:
    """The rows of `found` ranked again by the dense rows, the k best kept: d multiplications each, 4 d bytes more."""
    n, d = gallery.shape
    pairs = list(zip(found.rankings, queries, strict=True))

    def rank(pair: tuple[Int64s, Float32s]) -> Int64s:
        rows, query = pair
        return rows[np.argsort(-(gallery[rows] @ query), kind="stable")[:k]]

    again = d * float((found.rows >= 0).sum(axis=1).mean()) / n
    return replace(
        found,
        setting=f"{found.setting}, {found.rows.shape[1]} re-ranked",
        rows=_matrix([rank(pair) for pair in pairs], k),
        multiplications=found.multiplications + again,
        bytes=found.bytes + 4 * d,
        seconds=found.seconds + seconds_a_query(rank, pairs[:TIMED]),
    )


def sweep(gallery: Float32s, queries: Float32s, k: int, *, seed: int) -> Iterator[Found]:
    """Every baseline that learns nothing from labels nor by gradients, from the least to the most it can spend."""
    n, d = gallery.shape
    halves = [d >> times for times in range(d.bit_length()) if d % (1 << times) == 0]  # d, d / 2, d / 4, ...
    yield exhaustive(gallery, queries, k)
    yield from (pca(gallery, queries, k, components=m) for m in range(1, d) if m & (m - 1) == 0)
    yield from (lsh(gallery, queries, k, bits=bits, seed=seed) for bits in (16, 32, 64, 128, 256, 512))
    yield binary(gallery, queries, k)
    yield binary_asymmetric(gallery, queries, k)
    yield from (pq(gallery, queries, k, code_bytes=m) for m in reversed(halves[1:]) if m <= 64)
    lists, code_bytes = max(1, int(n**0.5) // 8 * 8), next(m for m in halves[2:] or halves if m <= 32)
    probes = [count for count in (1, 2, 4, 8, 16, 32) if count <= lists]
    yield from ivf_pq(gallery, queries, k, code_bytes=code_bytes, lists=lists, probes=probes)
    yield from hnsw(gallery, queries, k, links=16, efforts=(4, 8, 16, 32, 64, 128, 256))
