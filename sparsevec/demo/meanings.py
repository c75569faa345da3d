"""What dimensions mean, as far as the texts tell: the word that the documents of a dimension have in common."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from sparsevec.vectors import SparseVectors

__all__ = ["Meanings", "words"]

_WORD = re.compile(r"[^\W\d_]{3,}")
_AT_LEAST = 2  # documents of a dimension that must have a word in common
_MANY = 200  # documents of a dimension that are read


def words(text: str) -> set[str]:
    """Those of three letters and more, in lower case."""
    return set(_WORD.findall(text.lower()))


class Meanings:
    """A name for each dimension of `documents` (n, dimension), from the `texts` (n,) that use it."""

    def __init__(self, documents: SparseVectors, texts: Sequence[str]) -> None:
        self._columns = documents.to_scipy().tocsc()
        self._words = [words(text) for text in texts]
        self._frequency = Counter(word for found in self._words for word in found)
        self._known: dict[int, str] = {}

    def __call__(self, dimension: int) -> str:
        """The word, or `dimension 17` where the texts have none in common."""
        if dimension not in self._known:
            self._known[dimension] = self._name(dimension) or f"dimension {dimension}"
        return self._known[dimension]

    def _name(self, dimension: int) -> str | None:
        """The word that is most frequent in the documents of a dimension beside how frequent it is in all (tf-idf)."""
        start, end = self._columns.indptr[dimension : dimension + 2]
        rows = self._columns.indices[start:end][:_MANY].tolist()
        counts = Counter(word for row in rows for word in self._words[row])
        n = len(self._words)
        scores = {
            word: count / len(rows) * math.log(n / self._frequency[word])
            for word, count in counts.items()
            if count >= _AT_LEAST
        }
        return max(sorted(scores), key=scores.__getitem__, default=None)
