"""200,000 short texts as static embeddings, for what is to be measured on more than the 20,000 of debian12.

The sentences of Debian package descriptions, of abstracts of SciFact and Cranfield, the utterances of CLINC150 and, to
fill up, the synopses of Debian packages: each once, in random order, embedded by the model that comes in the package
`wordllama` (256 columns). Queries are other synopses of Debian packages, and so is the sample that an encoder learns
from: questions about a part of the documents, by which a sentence is found, not a package.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sparsevec.dense import unit_rows
from sparsevec.integrations.wordllama import embedder
from sparsevec.vectors import Float32s

__all__ = ["Texts"]

_SENTENCE = re.compile(r"(?<=[.!?;:])\s+")
_WORDS = 4  # of the shortest sentence
_SAMPLE = 8000
_AT_ONCE = 5000  # texts


class Texts(NamedTuple):
    """Unit rows of `n` documents, of the sample of queries, and of queries that nobody learns from."""

    documents: Float32s
    sample: Float32s
    queries: Float32s

    @classmethod
    def load(cls, data: Path, n: int, kept: Path) -> Texts:
        """Embedded once (minutes), into the file `kept`."""
        if not kept.exists():
            synopses = _said(data / "debian12/queries.train.jsonl.gz")
            documents = list(dict.fromkeys([*_sentences(data), *synopses[_SAMPLE:]]))[:n]
            shuffled = [documents[row] for row in np.random.default_rng(0).permutation(len(documents))]
            parts = shuffled, synopses[:_SAMPLE], _said(data / "debian12/queries.dev.jsonl.gz")
            kept.parent.mkdir(parents=True, exist_ok=True)
            np.savez(kept, *map(_embedded, parts))
        with np.load(kept) as arrays:
            return cls(*(arrays[name] for name in arrays.files))


def _sentences(data: Path) -> Iterator[str]:
    for one in ("debian12", "scifact", "cranfield"):
        for text in _said(data / one / "docs.jsonl.gz"):
            yield from (part for part in _SENTENCE.split(text) if len(part.split()) >= _WORDS)
    for path in sorted((data / "clinc150").glob("*.jsonl.gz")):
        yield from _said(path)


def _said(path: Path) -> list[str]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line)["text"] for line in file]


def _embedded(texts: list[str]) -> Float32s:
    embed = embedder()
    return unit_rows(np.concatenate([embed(texts[at : at + _AT_ONCE]) for at in range(0, len(texts), _AT_ONCE)]))
