"""What else searches the same vectors: each baseline gives its rankings, what a pair costs it, its bytes and its time.

    Found(method, setting, rows, multiplications, lookups, preparation, bytes, seconds)         .operations

    exhaustive(gallery, queries, k) -> Found
    pca(gallery, queries, k, *, components) -> Found
    lsh(gallery, queries, k, *, bits, seed) -> Found                 random hyperplanes, Hamming distance
    pq(gallery, queries, k, *, code_bytes) -> Found
    ivf_pq(gallery, queries, k, *, code_bytes, lists, probes) -> Found
    hnsw(gallery, queries, k, *, links, effort) -> Found             distance evaluations counted by faiss
    binary(gallery, queries, k) -> Found                             signs on both sides, Hamming distance
    binary_asymmetric(gallery, queries, k) -> Found                  signs of the gallery, the queries as they are
    inverted_index(method, setting, documents, queries, k) -> Found  any SparseVectors: FLOPs, L1, top-k, CSR
    head(name, gallery, queries, *, dimension, nnz, seed) -> (documents, queries)    "top_k_autoencoder" or "csr"
    hash_table(gallery, queries, gallery_hash, query_hash, k, *, active) -> Found    SDH, its search
    reranked(found, gallery, queries, k) -> Found                    any of them, its rows ranked again, densely
    sweep(gallery, queries, k, *, seed) -> Iterator[Found]           the dense ones, each over its settings

    k_hot(strengths, k, *, conflict) -> (c, d) bool                  SDH, its codes of c classes, exact
    sdh_loss(embeddings, labels, k, *, conflict, margin) -> Tensor   SDH, its loss for a batch: train with it alone

`gallery` (n, d) and `queries` (q, d) are float32 rows of unit length, `rows` (q, k) int64, best first, -1 where fewer
were found. The SDH network is a linear head on the backbone with no activation (`SparseTower(..., activation=identity)`).
"""
