"""From dense vectors to final answers with a filter: learn, write, ask, and see why.

    python examples/answers.py                                     in memory
    python examples/answers.py qdrant://localhost:6333/answers     any backend, in a collection of our own

The documents are 1,500 descriptions of Debian packages with their MiniLM vectors; a minute on two cores.
"""

import sys

import sparsevec as sv
from sparsevec.demo import shipped


def main(url: str) -> None:
    corpus = shipped()
    dense, ids = corpus.dense[:1500], list(corpus.ids[:1500])
    payloads = [{"text": str(given["text"]), "long": len(str(given["text"])) > 400} for given in corpus.payloads[:1500]]

    encoder = sv.SparseEncoder(input_dim=dense.shape[1], output_dim=1024)
    encoder.fit(dense, queries=corpus.sample, budget=sv.Budget(nnz=16, residual_bytes=100))
    print(encoder.figures)

    with sv.Retriever(encoder, sv.connect(url), rerank="residual") as retriever:
        print(retriever.add(ids, dense, payloads))
        question, query = corpus.words[0], corpus.word_vectors[0]
        print(f"\n{question}")
        (answers,) = retriever.search(query, k=10, where={"long": True}, with_payloads=True)
        for hit in answers:
            print(f"  {hit.score:.3f}  {hit.id}: {(hit.payload or {})['text'][:80]}")
        print(f"\nwhy the first: {retriever.explain(query, answers[0].id)}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "reference:")
