"""What an id and a query are, and the checks at the border of every adapter; those of payloads are in `payloads`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, Union
from uuid import UUID

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from sparsevec.contract.capabilities import Capabilities
from sparsevec.contract.payloads import CheckedPayloads, Payload, checked_payload, is_unicode, key_fault, payload_fault
from sparsevec.errors import CollectionError, InvalidInput, InvalidVectors, WrongSpace, described
from sparsevec.vectors import MAX_DIMENSION, Float32s, SparseVector, SparseVectors, UInt8s

if TYPE_CHECKING:
    from scipy.sparse import sparray, spmatrix

__all__ = [
    "MAX_CODE_BYTES",
    "CheckedPayloads",
    "Id",
    "Payload",
    "Queries",
    "check_adapter",
    "check_async_adapter",
    "check_batch",
    "check_code_bytes",
    "check_codes",
    "check_dimension",
    "check_ids",
    "check_k",
    "check_making",
    "check_options",
    "check_queries",
    "check_seed",
    "check_several",
    "check_size",
    "check_space",
    "check_vectors",
    "checked_payload",
    "dense_row",
    "first_repeated",
    "gathered_codes",
    "id_fault",
    "ids_or_where",
    "key_fault",
    "payload_fault",
    "plain_id",
]

MAX_CODE_BYTES = 32_000  # Lucene's doc values hold 32,766 bytes

Id: TypeAlias = int | str
"""An int in [0, 2**64) or a non-empty string (C10)."""

Ids = TypeVar("Ids", bound=Iterable[Id])
One = TypeVar("One")

Queries: TypeAlias = Union[SparseVectors, SparseVector, "sparray", "spmatrix"]
"""A batch (q, dimension), or one row of it."""


def check_adapter(adapter: object, verb: str = "search") -> None:
    """Raises InvalidInput for a url, a client, or an adapter for asyncio, in place of an adapter that has `verb`."""
    if iscoroutinefunction(_method(adapter, verb)):
        raise InvalidInput(
            f"expected an adapter for threads, found {type(adapter).__name__}, which is one for asyncio; connect(url) "
            "makes one for threads, and await asyncio.to_thread(...) runs this beside a loop"
        )


def check_async_adapter(adapter: object) -> None:
    """The same the other way round."""
    if not iscoroutinefunction(_method(adapter, "search")):
        raise InvalidInput(
            f"expected an adapter for asyncio, found {type(adapter).__name__}, which is one for threads; "
            "await aconnect(url) makes one for asyncio"
        )


def _method(adapter: object, verb: str) -> object:
    if not all(callable(getattr(adapter, name, None)) for name in (verb, "info", "stored")):  # clients lack the last
        raise InvalidInput(
            f"expected an adapter, found {type(adapter).__name__}; sparsevec.connect makes one from a url or a client"
        )
    return getattr(adapter, verb)


def check_ids(ids: Iterable[Id]) -> list[Id]:
    """The ids as plain ints and strings. Raises InvalidInput, naming the first that is neither (C10)."""
    given = list(check_several("ids", ids))
    for position, id_ in enumerate(given):
        if fault := id_fault(id_):
            raise InvalidInput(f"id {position} {fault}")
    return list(map(plain_id, given))


def plain_id(id_: Any) -> Id:
    """An id as Python's own int or str: of a number of NumPy's or a member of an enumeration, what it stands for."""
    return str.__str__(id_) if isinstance(id_, str) else int(id_)


def check_several(what: str, given: Iterable[One]) -> Iterator[One]:
    """Raises InvalidInput for what is none of several ids, payloads and so on: text and bytes are one of them."""
    if not isinstance(given, (str, bytes)):
        with suppress(TypeError):
            return iter(given)
    raise InvalidInput(f"expected a sequence of {what}, found {given!r:.80}; a single one goes into a list")


def id_fault(id_: object) -> str | None:
    """Why `id_` is not an id (C10), or None."""
    if type(id_) is int and 0 <= id_ < 2**64:  # the usual one first
        return None
    if isinstance(id_, str) and id_:
        return None if is_unicode(id_) else f"is not valid unicode: {id_!r:.80}"
    if isinstance(id_, (int, np.integer)) and not isinstance(id_, bool) and 0 <= id_ < 2**64:
        return None
    advice = "; str(id) makes one" if isinstance(id_, UUID) else ""
    return f"must be an int in [0, 2**64) or a non-empty string, found {described(id_)}{advice}"


def check_batch(
    ids: Iterable[Id], vectors: SparseVectors, payloads: Sequence[Payload] | None, dimension: int | None
) -> tuple[list[Id], list[Payload]]:
    """The ids and payloads of one write ({} where none was given), equally long and each id once.

    Raises InvalidInput for ids and payloads, InvalidVectors for a dimension that is not the collection's, and for
    anything but SparseVectors.
    """
    checked = check_ids(ids)
    check_vectors(vectors)
    check_dimension(vectors, dimension)
    if len(checked) != len(vectors):
        raise InvalidInput(f"expected as many ids as vectors, found {len(checked)} ids and {len(vectors)} vectors")
    if payloads is None:
        payloads = [{}] * len(checked)
    elif not isinstance(payloads, CheckedPayloads):
        payloads = list(check_several("payloads", payloads))
    if len(payloads) != len(checked):
        raise InvalidInput(f"expected as many payloads as ids, found {len(payloads)} payloads and {len(checked)} ids")
    if len(set(checked)) < len(checked):
        raise InvalidInput(
            f"id {first_repeated(checked)!r} stands twice in one write; an id may be written again in a later one"
        )
    return checked, list(payloads) if isinstance(payloads, CheckedPayloads) else _walked(checked, payloads)


def first_repeated(ids: Iterable[Id]) -> Id:
    """The first that stands there twice, of ids of which one does."""
    return next(id_ for id_, times in Counter(ids).items() if times > 1)


def check_making(dimension: int, fingerprint: str | None) -> int:
    """The dimension of a collection to be made, a plain int. Raises InvalidVectors for what no vectors could have."""
    return SparseVectors([0], [], [], dimension, fingerprint=fingerprint).dimension


def check_code_bytes(code_bytes: int | None) -> int | None:
    """Raises InvalidInput unless it is None or an int in [1, MAX_CODE_BYTES]."""
    if code_bytes is None:
        return None
    if isinstance(code_bytes, bool) or not isinstance(code_bytes, (int, np.integer)):
        raise InvalidInput(f"code_bytes must be an int or None, found {code_bytes!r:.80}")
    if not 0 < code_bytes <= MAX_CODE_BYTES:
        raise InvalidInput(f"code_bytes must lie in [1, {MAX_CODE_BYTES}], found {code_bytes}")
    return int(code_bytes)


def check_codes(codes: object, vectors: SparseVectors, code_bytes: int | None) -> UInt8s | None:
    """The residual codes of one write, (n, code_bytes), as the collection keeps them; None where it keeps none (C19).

    Rows without weights need none, and have zeros. Raises InvalidInput for codes that are missing, that the collection
    does not keep, or of another shape or type.
    """
    if code_bytes is None:
        if codes is not None:
            raise InvalidInput(
                "the collection keeps no residual codes; create(dimension, code_bytes=...) makes one "
                "that does, or leave codes= out"
            )
        return None
    if codes is None:
        if vectors.nnz:
            raise InvalidInput(
                f"the collection keeps a residual code of {code_bytes} bytes beside each vector, and a vector without "
                "its code would be ranked wrongly; give codes= (encoder.residual_codes makes them)"
            )
        return np.zeros((len(vectors), code_bytes), np.uint8)
    if not isinstance(codes, np.ndarray) or codes.dtype != np.uint8:
        found = f"{type(codes).__name__} of {codes.dtype}" if isinstance(codes, np.ndarray) else type(codes).__name__
        raise InvalidInput(f"expected codes as an array of uint8, found {found}")
    if codes.shape != (len(vectors), code_bytes):
        raise InvalidInput(
            f"expected codes of shape ({len(vectors)}, {code_bytes}), one row of the collection's {code_bytes} bytes a "
            f"document, found {codes.shape}"
        )
    return np.ascontiguousarray(codes)


def gathered_codes(codes: Iterable[Any], names: Sequence[object], width: int, *, strict: bool) -> UInt8s:
    """The residual codes of m documents as a backend gives them, (width,) each or None, as (m, width).

    A document without one has zeros; `strict` raises CollectionError for it, since its rank would be wrong (C19).
    """
    held = list(codes)
    missing = [row for row, code in enumerate(held) if code is None]
    if missing and strict:
        raise CollectionError(
            f"{names[missing[0]]!r} has a vector and no residual code of {width} bytes beside it: something else wrote "
            "it, or a copy left the codes behind; write it again"
        )
    for row in missing:
        held[row] = [0] * width
    return np.array(held, np.float32).astype(np.uint8).reshape(len(names), width)


def _walked(ids: list[Id], payloads: Sequence[Payload]) -> list[Payload]:
    walked: list[Payload] = []
    for id_, payload in zip(ids, payloads, strict=True):
        fault, clean = checked_payload(payload)
        if fault is not None:
            raise InvalidInput(f"payload of id {id_!r}: {fault}")
        walked.append(clean)
    return walked


def check_vectors(vectors: object, what: str = "vectors") -> SparseVectors:
    """Raises InvalidVectors for anything but SparseVectors, saying how they are made."""
    if isinstance(vectors, SparseVectors):
        return vectors
    shape = getattr(vectors, "shape", None)
    found = type(vectors).__name__ + (f" of shape {tuple(shape)}" if isinstance(shape, tuple) else "")
    raise InvalidVectors(
        f"expected {what} as SparseVectors, found {found}; encoder.encode_document(dense) makes them from dense rows, "
        "SparseVectors.from_scipy from a scipy matrix, SparseVectors.from_rows from {index: weight} mappings"
    )


def check_dimension(vectors: SparseVectors, dimension: int | None) -> None:
    """Raises InvalidVectors when `vectors` are not of the collection's `dimension` (None: it does not say)."""
    if dimension is not None and vectors.dimension != dimension:
        raise InvalidVectors(f"the collection has dimension {dimension}, the vectors have {vectors.dimension}")


def check_queries(queries: Queries, dimension: int | None, fingerprint: str | None = None) -> SparseVectors:
    """The queries of one search as a batch: one row counts as a batch of one, and scipy's matrices are taken.

    Raises InvalidInput for anything else, InvalidVectors for another dimension than the collection's (None: it does not
    say), WrongSpace for queries of another space than the collection's `fingerprint` (C18).
    """
    if isinstance(queries, SparseVector):
        last = int(queries.indices[-1]) if len(queries) else 0
        size = queries.dimension or dimension or min(MAX_DIMENSION, last + 1)
        parts = queries.indices, queries.values
        queries = SparseVectors([0, len(queries)], *parts, size, fingerprint=queries.fingerprint)
    elif sp.issparse(queries):
        matrix: Any = queries
        queries = SparseVectors.from_scipy(matrix if matrix.ndim == 2 else matrix.reshape(1, -1))
    if not isinstance(queries, SparseVectors):
        raise InvalidInput(
            f"expected queries as SparseVectors, found {type(queries).__name__}; encoder.encode_query(dense) makes "
            "them from dense rows, SparseVectors.from_rows from {index: weight} mappings"
        )
    check_dimension(queries, dimension)
    check_space(queries, fingerprint)
    return queries


def as_real(given: object) -> float | None:
    """A number of any size, a whole one beyond the floats as infinite; None for what is none, a truth value too."""
    if isinstance(given, bool) or not isinstance(given, int | float | np.integer | np.floating):
        return None
    try:
        return float(given)
    except OverflowError:
        return math.inf if given > 0 else -math.inf


def is_positive(number: object) -> bool:
    """Whether it is a finite number above 0."""
    real = as_real(number)
    return real is not None and 0 < real < math.inf


def as_floats(expected: str, given: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """An array of any shape, NaN and infinity too. Raises InvalidInput for what is not made of numbers."""
    try:
        return np.asarray(given, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInput(f"{expected}, found {given!r:.80}") from error


def check_space(vectors: SparseVectors, fingerprint: str | None) -> None:
    """Raises WrongSpace when `vectors` and the collection both name a space, and not the same (C18)."""
    if vectors.fingerprint is not None and fingerprint is not None and vectors.fingerprint != fingerprint:
        raise WrongSpace(
            f"the collection holds vectors of the space {fingerprint}, these are of {vectors.fingerprint}: made by "
            "another encoder, so their dimensions mean other things. Encode with the encoder of the collection, or use "
            "another collection; if you know better, vectors.with_fingerprint(None) are accepted anywhere"
        )


def check_options(
    backend: str,
    can: Capabilities,
    *,
    versions: Sequence[str | None] | None,
    routing: Sequence[str | None] | None,
    missing: str | None,
) -> None:
    """Raises InvalidInput for a `missing` that is none, and for versions or routing where the backend has none."""
    if missing not in (None, "fail", "skip", "create"):
        raise InvalidInput(f"missing must be 'fail', 'skip' or 'create', found {missing!r:.80}")
    for what, given in (("versions", versions), ("routing", routing)):
        if given is not None and (isinstance(given, (str, bytes)) or not hasattr(given, "__len__")):
            raise InvalidInput(f"expected {what} as a list, one for each document, found {given!r:.80}")
    if versions is not None and not can.versions and any(version is not None for version in versions):
        raise InvalidInput(f"{backend} has no versions of documents, so none can be guarded; leave versions= out")
    if routing is not None and not can.routing and any(route is not None for route in routing):
        raise InvalidInput(f"{backend} has no routing; leave routing= out")


def check_pattern(pattern: str) -> str:
    """Raises InvalidInput for what names no collections: no text, none at all, or no valid unicode."""
    if not isinstance(pattern, str) or not pattern or not is_unicode(pattern):
        raise InvalidInput(f"expected a name or a pattern such as 'products-*', found {pattern!r:.80}")
    return pattern


def check_seed(seed: object) -> int:
    """Raises InvalidInput unless it is a whole number of at least 0, and below 2**63."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise InvalidInput(f"seed must be a whole number of at least 0, found {described(seed)}")
    if seed >= 2**63:
        raise InvalidInput(f"seed must be below 2**63, found {described(seed)}")
    return int(seed)


def check_k(k: int, what: str = "k") -> int:
    """Raises InvalidInput unless k, named as `what` it is, is an int of at least 1, and below 2**63."""
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise InvalidInput(f"{what} must be an int of at least 1, found {described(k)}")
    if k >= 2**63:
        raise InvalidInput(f"{what} must be below 2**63, found {described(k)}; for all there are, give their number")
    return int(k)


def check_size(size: int) -> int:
    """Raises InvalidInput unless the `size` of a page is an int of at least 1."""
    return check_k(size, "size")


def ids_or_where(ids: Ids | None, where: object) -> Ids | None:
    """The ids; None where a filter says which. Raises InvalidInput unless one of the two is given."""
    if (ids is None) == (where is None):
        raise InvalidInput("expected ids or where=, one of the two; where={} stands for every document")
    return ids


def dense_row(value: object) -> Float32s | None:
    """The dense row (d,) that a field of a document holds; None when it holds something else."""
    if not isinstance(value, (list, tuple)) or not value:
        return None
    if any(isinstance(number, bool) or not isinstance(number, (int, float)) for number in value):
        return None
    return np.asarray(value, np.float32)
