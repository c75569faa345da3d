"""Texts to dense vectors, by whatever embeds them: checked, in batches, from texts that need not fit in memory.

    embedder = named("wordllama")                         # or any callable: list of n texts -> (n, d)
    dense = embed(texts, embedder)
    for some, rows in embedded(texts, embedder): ...  # as far as it comes, a batch at a time

`named` knows: `wordllama` (comes whole from its package, 256 columns, no torch), `sentence-transformers:MODEL`, and
`openai:MODEL`, any endpoint that speaks OpenAI's protocol. Each needs the extra of its name.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from sparsevec.contract.checks import check_k, check_several
from sparsevec.dense import as_array
from sparsevec.errors import EmbedderFailed, InvalidInput, InvalidVectors, SparsevecError, printable

__all__ = [
    "Embedded",
    "Embedder",
    "as_far_as_it_comes",
    "as_far_as_it_comes_async",
    "embed",
    "embedded",
    "named",
    "real_numbers",
]

Embedder: TypeAlias = Callable[[list[str]], Any]
"""n texts to (n, d): an array, a tensor or lists of numbers."""

_KNOWN = {
    "wordllama": "wordllama",
    "sentence-transformers": "sentence_transformers",
    "openai": "openai",
}


def named(spec: str) -> Embedder:
    """The embedder that `spec` names: `wordllama`, `sentence-transformers:MODEL`, `openai:MODEL`.

    Raises InvalidInput for another, ClientMissing when its package is not installed.
    """
    kind, _, model = spec.partition(":") if isinstance(spec, str) else ("", "", "")
    if kind not in _KNOWN:
        raise InvalidInput(f"expected an embedder, one of {', '.join(_KNOWN)}, found {spec!r:.80}")
    made: Embedder = import_module(f"sparsevec.integrations.{_KNOWN[kind]}").embedder(model)
    return made


def embed(
    texts: Iterable[str],
    embedder: Embedder,
    *,
    batch: int = 256,
    on_batch: Callable[[int], None] = lambda _: None,
) -> npt.NDArray[np.float32]:
    """(n, d) float32, in the order of the `texts`. `on_batch` is called with how many have been embedded.

    Raises InvalidInput without a text, and what `embedded` raises.
    """
    rows: list[npt.NDArray[np.float32]] = []
    done = 0
    for some, found in embedded(texts, embedder, batch=batch):
        rows.append(found)
        done += len(some)
        on_batch(done)
    if not rows:
        raise InvalidInput("expected at least one text, found none")
    return np.concatenate(rows)


def embedded(
    texts: Iterable[str], embedder: Embedder, *, batch: int = 256
) -> Iterator[tuple[list[str], npt.NDArray[np.float32]]]:
    """Some texts and their rows (m, d) float32, in order, as many at once as `batch`.

    Raises InvalidInput for a text that is none, EmbedderFailed when the embedder raised (errors of ours pass as they
    are), and InvalidVectors when it returned another number of rows, another width than before, or a number that is not
    finite; each names the texts. What came before it has been given.
    """
    check_k(batch, "batch")
    done, width = 0, None
    for some in _batches(texts, batch):
        with _typed(some, done):
            found = embedder(some)
        rows = _checked(found, some, done, width)
        yield some, rows
        done, width = done + len(some), rows.shape[1]


class Embedded(NamedTuple):
    """The rows (d,) of the first texts, and the error of ours that stopped there; None where all are embedded."""

    rows: Sequence[npt.NDArray[np.float32]]
    broken: SparsevecError | None = None

    def whole(self) -> Sequence[npt.NDArray[np.float32]]:
        """The rows of all. Raises what stopped it."""
        if self.broken is not None:
            raise self.broken
        return self.rows


def as_far_as_it_comes(texts: Iterable[str], embedder: Embedder) -> Embedded:
    """What `embedded` gives, and what it raised."""
    rows: list[npt.NDArray[np.float32]] = []
    try:
        for _, found in embedded(texts, embedder):
            rows.extend(found)
    except SparsevecError as error:
        return Embedded(rows, error)
    return Embedded(rows)


async def as_far_as_it_comes_async(
    texts: Iterable[str], embedder: Callable[[list[str]], Awaitable[Any]], *, batch: int = 256
) -> Embedded:
    """The same by an asynchronous embedder."""
    rows: list[npt.NDArray[np.float32]] = []
    try:
        for some in _batches(texts, batch):
            with _typed(some, len(rows)):
                found = await embedder(some)
            rows.extend(_checked(found, some, len(rows), len(rows[0]) if rows else None))
    except SparsevecError as error:
        return Embedded(rows, error)
    return Embedded(rows)


@contextmanager
def _typed(texts: list[str], first: int) -> Iterator[None]:
    try:
        yield
    except SparsevecError:
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {printable(error, 300)}"
        raise EmbedderFailed(f"the embedder failed for {_which(texts, first)}: {said}") from error


def _which(texts: Sequence[str], first: int) -> str:
    return f"text {first}" if len(texts) == 1 else f"texts {first} to {first + len(texts) - 1}"


def _batches(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    source, done = check_several("texts", texts), 0
    while some := list(islice(source, size)):
        wrong = next((at for at, text in enumerate(some) if not isinstance(text, str)), None)
        if wrong is not None:
            raise InvalidInput(f"text {done + wrong} must be a string, found {type(some[wrong]).__name__}")
        yield some
        done += len(some)


def _checked(found: Any, texts: Sequence[str], first: int, width: int | None) -> npt.NDArray[np.float32]:
    which = _which(texts, first)
    rows = real_numbers(found, f"what the embedder returned for {which}")
    if rows.ndim != 2 or len(rows) != len(texts) or not rows.shape[1]:
        raise InvalidVectors(f"expected a row for each of {which} ({len(texts)}, d), found shape {rows.shape}")
    if width is not None and rows.shape[1] != width:
        raise InvalidVectors(f"the embedder changed its width: {width} columns before, {rows.shape[1]} for {which}")
    if not np.isfinite(rows).all():
        at = int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
        raise InvalidVectors(f"the embedder returned NaN or infinity for text {first + at}: {texts[at]!r:.60}")
    return rows


def real_numbers(given: Any, what: str) -> npt.NDArray[np.float32]:
    """Whatever holds rows, or one row, as an array. Raises InvalidVectors for what is not made of real numbers."""
    rows = as_array(given, what)
    if rows.dtype.kind not in "fiu":
        raise InvalidVectors(f"{what} is not made of real numbers: found {rows.dtype}")
    with np.errstate(over="ignore"):  # what becomes infinite is refused as such
        return rows.astype(np.float32)  # a copy: an embedder may fill the same array again
