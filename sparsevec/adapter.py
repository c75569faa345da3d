"""What a backend promises. Tests, issues and commits cite the numbers.

C1   `create(dimension)` makes an empty collection (or adds our vector to one that others made and that lacks it);
     a second `create` raises CollectionError
C2   when a write has been reported as written, it is searchable and survives a restart of the backend
C3   writing an id again replaces its vector, and nothing else of that document; payload fields that are given with it
     replace those fields, the others stay
C4   a hit's score is the dot product of the query with `stored(vector)`
C5   a document that shares no dimension with the query is not a hit
C6   hits come best first, at most k, each id once; k above the count truncates
C7   no document left out scores higher than one returned; ties may fall either way
C8   the i-th answer belongs to the i-th query; an empty query has no hits
C9   a write reports each id as written, skipped or failed with a reason; the three add up to what was given
C10  ids are ints in [0, 2**64) or non-empty strings; `42` and `"42"` are different ids; what went in comes out
C11  `where` filters on payload fields (equality, any-of, range); the same filter means the same everywhere
C12  `delete(ids)` removes them from search and count; deleting an unknown id is not an error
C13  `drop()` forgets everything and may be called twice; it touches nothing it did not create
C14  the client's own exceptions never escape: they are translated, cause kept

An adapter sends one request and classifies each id; batching, retries and the journal are `ingest`'s. What a backend
cannot hold (a negative weight, an id too long) is reported as failed before anything is sent.

A filter is a mapping from a field to a condition: a scalar (equal), a list of scalars (any of these) or a range
`{"gte": 1, "lt": 5}` of numbers. Types count: `1`, `"1"` and `True` differ. A field that holds a list matches when one
of its elements does; a field that is missing never does. A dot in a field walks into nested objects.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, cast, runtime_checkable
from urllib.parse import parse_qsl, unquote, urlsplit

import numpy as np

from sparsevec.errors import InvalidInput, InvalidVectors
from sparsevec.vectors import Float32s, SparseVectors

__all__ = [
    "Adapter",
    "AnyOf",
    "Condition",
    "Documents",
    "Failure",
    "Hits",
    "Id",
    "Payload",
    "Range",
    "Url",
    "Where",
    "Written",
    "check_batch",
    "check_dimension",
    "check_ids",
    "check_k",
    "conditions",
    "id_fault",
    "matches",
    "payload_fault",
]

Id: TypeAlias = int | str
Payload: TypeAlias = Mapping[str, Any]
Scalar: TypeAlias = str | int | float | bool
Where: TypeAlias = Mapping[str, Scalar | Sequence[Scalar] | Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Hits:
    """The answer to one query: `ids` and `scores` (m,) float32, best first; `payloads` when they were asked for."""

    ids: tuple[Id, ...]
    scores: Float32s
    payloads: tuple[Payload, ...] | None = None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an id was not written. `retryable`: the backend was busy, the same write may succeed later."""

    reason: str
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class Written:
    """What became of each id of one write; the three parts add up to what was given (C9)."""

    written: tuple[Id, ...] = ()
    skipped: Mapping[Id, str] = field(default_factory=dict)
    failed: Mapping[Id, Failure] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Documents:
    """What `fetch` found: `ids` in the order asked for, unknown ones left out; vectors and payloads to match."""

    ids: tuple[Id, ...]
    vectors: SparseVectors
    payloads: tuple[Payload, ...]


@runtime_checkable
class Adapter(Protocol):
    """One collection of one backend: the clauses are in the module docstring, the errors in `sparsevec.errors`."""

    @classmethod
    def connect(cls, url: Url, **credentials: Any) -> Adapter:
        """To the collection that `url` names, whether it is there already or not."""

    @property
    def name(self) -> str:
        """For reports: the engine and its version, such as `elasticsearch 9.5.3`."""

    @property
    def dimension(self) -> int | None:
        """Of the collection; None when it is not there, or was made by others and does not say."""

    def create(self, dimension: int) -> None: ...  # C1

    def upsert(self, ids: Sequence[Id], vectors: SparseVectors, payloads: Sequence[Payload] | None = None) -> Written:
        """Write one request's worth of documents (C2, C3, C9); an empty vector is a document without weights."""

    def search(
        self, queries: SparseVectors, k: int, *, where: Where | None = None, with_payloads: bool = False
    ) -> list[Hits]: ...  # C4 to C8, C11

    def fetch(self, ids: Sequence[Id]) -> Documents:
        """The documents that are there. A vector comes back as given or as stored: `stored` of either is the same."""

    def delete(self, ids: Sequence[Id]) -> None: ...  # C12

    def count(self) -> int:
        """Documents that hold a vector of ours, empty ones included where the backend can tell."""

    def drop(self) -> None: ...  # C13

    def close(self) -> None:
        """Let go of connections and files that this adapter opened; a client of the caller's stays open."""

    def stored(self, vectors: SparseVectors) -> SparseVectors:
        """What the backend keeps of `vectors`: the same, or rounded. Pure: needs no server."""

    def slack(self, vectors: SparseVectors) -> Float32s:
        """By how much each weight of `stored(vectors)` may be off, (nnz,): zeros, unless the rounding depends on when
        the backend optimises (Qdrant's float16 and uint8 indexes)."""


# ---- urls


@dataclass(frozen=True, slots=True)
class Url:
    """`engine[+variant]://host:port/path?options`, or `engine[+variant]:path`. Never holds credentials."""

    engine: str
    variant: str
    host: str
    port: int | None
    path: str
    options: Mapping[str, str]

    @classmethod
    def parse(cls, text: str) -> Url:
        """Raises InvalidInput; a url with credentials is refused without repeating them."""
        engine, colon, rest = text.partition(":")
        if not colon or not engine:
            raise InvalidInput(f"expected a url such as qdrant://localhost:6333/products, found {text!r:.80}")
        engine, _, variant = engine.partition("+")
        if not rest.startswith("//") or rest.startswith("///"):  # a path, perhaps an absolute one
            return cls(engine, variant, "", None, rest.removeprefix("//"), {})
        try:
            parts = urlsplit("x:" + rest)
            port = parts.port
        except ValueError as error:
            raise InvalidInput(f"the {engine} url cannot be read: {error}") from None
        if parts.username is not None or parts.password is not None:
            raise InvalidInput(
                f"the {engine} url holds credentials (before the @); pass them as keyword arguments, such as api_key="
            )
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        return cls(engine, variant, parts.hostname or "", port, unquote(parts.path.strip("/")), options)

    def option(self, name: str, default: str) -> str:
        return self.options.get(name, default)

    def expect_options(self, *known: str) -> None:
        """Raise InvalidInput when the url has an option that nobody would read."""
        if unknown := sorted(set(self.options) - set(known)):
            raise InvalidInput(f"the {self.engine} url has options {unknown}; it knows {sorted(known)}")


# ---- checks at the border


def check_ids(ids: Iterable[Id]) -> list[Id]:
    """The ids as plain ints and strings. Raises InvalidInput, naming the first that is neither (C10)."""
    ids = list(ids)
    for position, id_ in enumerate(ids):
        if fault := id_fault(id_):
            raise InvalidInput(f"id {position} {fault}")
    return [str(id_) if isinstance(id_, str) else int(id_) for id_ in ids]


def id_fault(id_: object) -> str | None:
    """Why `id_` is not an id (C10), or None."""
    if isinstance(id_, str) and id_:
        return None if _is_unicode(id_) else f"is not valid unicode: {id_!r:.80}"
    if isinstance(id_, (int, np.integer)) and not isinstance(id_, bool) and 0 <= id_ < 2**64:
        return None
    return f"must be an int in [0, 2**64) or a non-empty string, found {id_!r:.80}"


def _is_unicode(text: str) -> bool:
    """Whether UTF-8 can carry it: a lone surrogate, as `os.fsdecode` makes them, cannot be sent."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_batch(
    ids: Iterable[Id], vectors: SparseVectors, payloads: Sequence[Payload] | None, dimension: int | None
) -> tuple[list[Id], list[Payload]]:
    """The ids and payloads of one write ({} where none was given), equally long and each id once.

    Raises InvalidInput for ids and payloads, InvalidVectors for a dimension that is not the collection's.
    """
    checked = check_ids(ids)
    check_dimension(vectors, dimension)
    if len(checked) != len(vectors):
        raise InvalidInput(f"as many ids as vectors are due, found {len(checked)} ids and {len(vectors)} vectors")
    if payloads is None:
        payloads = [{}] * len(checked)
    if len(payloads) != len(checked):
        raise InvalidInput(f"as many payloads as ids are due, found {len(payloads)} payloads and {len(checked)} ids")
    if len(set(checked)) < len(checked):
        twice = next(id_ for id_ in checked if checked.count(id_) > 1)
        raise InvalidInput(f"id {twice!r} stands twice in one write; an id may be written again in a later one")
    for id_, payload in zip(checked, payloads, strict=True):
        if fault := payload_fault(payload):
            raise InvalidInput(f"payload of id {id_!r}: {fault}")
    return checked, list(payloads)


def check_dimension(vectors: SparseVectors, dimension: int | None) -> None:
    """Raises InvalidVectors when `vectors` are not of the collection's `dimension` (None: it does not say)."""
    if dimension is not None and vectors.dimension != dimension:
        raise InvalidVectors(f"the collection has dimension {dimension}, the vectors have {vectors.dimension}")


def check_k(k: int) -> int:
    """Raises InvalidInput unless k is an int of at least 1."""
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise InvalidInput(f"k must be an int of at least 1, found {k!r}")
    return int(k)


def payload_fault(payload: object) -> str | None:
    """Why `payload` is not a dict of fields to JSON values that every backend holds, or None."""
    if not isinstance(payload, dict):  # another mapping would be refused by each client's JSON encoder
        return f"expected JSON (a dict of fields to values), found {type(payload).__name__}"
    return _json_fault(payload, "")


def _json_fault(value: object, path: str, depth: int = 0) -> str | None:
    if isinstance(value, str):
        return None if _is_unicode(value) else f"{path}: {value!r:.80} is not valid unicode"
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, int):
        return None if -(2**63) <= value < 2**63 else f"{path}: {value} does not fit in 64 bits"
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{path}: {value} is not a JSON number"
    if depth > _DEEPEST:
        return f"{path:.80}: nested more than {_DEEPEST} deep, or holding itself"
    if isinstance(value, dict):
        for key, inner in value.items():
            if fault := _key_fault(key) or _json_fault(inner, f"{path}.{key}" if path else key, depth + 1):
                return fault
        return None
    if isinstance(value, (list, tuple)):
        return next((fault for inner in value if (fault := _json_fault(inner, f"{path}[]", depth + 1))), None)
    return f"{path}: expected a JSON value, found {type(value).__name__}"


def _key_fault(key: object) -> str | None:
    if not isinstance(key, str) or not key or not _KEY_TABOO.isdisjoint(key) or key.startswith("_sparsevec"):
        return f'a field must be a non-empty string without . [ ] " that does not begin with _sparsevec, found {key!r}'
    return None if _is_unicode(key) else f"a field must be valid unicode, found {key!r}"


_DEEPEST = 100  # parsers stop somewhere beyond
_KEY_TABOO = frozenset('.[]"')


# ---- filters


@dataclass(frozen=True, slots=True)
class AnyOf:
    """The field equals one of `values`."""

    field: str
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """The field is a number within `bounds`: (`gt` | `gte` | `lt` | `lte`, number) pairs."""

    field: str
    bounds: tuple[tuple[str, float], ...]


Condition: TypeAlias = AnyOf | Range

_BOUNDS: dict[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}


def conditions(where: Where | None) -> tuple[Condition, ...]:
    """A filter, read and checked; all of its conditions must hold. Raises InvalidInput."""
    return tuple(_condition(name, value) for name, value in (where or {}).items())


def _condition(name: object, value: object) -> Condition:
    if not isinstance(name, str) or any(_key_fault(key) for key in name.split(".")):
        raise InvalidInput(f"a filter's field must be a non-empty string, found {name!r}")
    if isinstance(value, Mapping):
        if not value or any(b not in _BOUNDS or not _number(n) for b, n in value.items()):
            raise InvalidInput(f"the range of {name!r} must give numbers for some of {list(_BOUNDS)}, found {value!r}")
        return Range(name, tuple(value.items()))
    values = tuple(value) if isinstance(value, (list, tuple, set, frozenset)) else (value,)
    if not values or any(not isinstance(v, (str, bool)) and not _number(v) for v in values):
        raise InvalidInput(f"the filter on {name!r} must be a scalar, some scalars or a range, found {value!r}")
    return AnyOf(name, cast("tuple[Scalar, ...]", values))


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def matches(payload: Payload, wanted: Iterable[Condition]) -> bool:
    """What a filter means (C11), as a function of one document."""
    return all(any(_holds(c, value) for value in _values(payload, c.field.split("."))) for c in wanted)


def _values(value: object, path: Sequence[str]) -> list[object]:
    if isinstance(value, (list, tuple)):
        return [found for inner in value for found in _values(inner, path)]
    if not path:
        return [value]
    return _values(value[path[0]], path[1:]) if isinstance(value, Mapping) and path[0] in value else []


def _holds(condition: Condition, value: object) -> bool:
    if isinstance(condition, Range):
        return _number(value) and all(_BOUNDS[bound](value, limit) for bound, limit in condition.bounds)
    return any(_kind(value) == _kind(wanted) and value == wanted for wanted in condition.values)


def _kind(value: object) -> type:
    return float if _number(value) else type(value)  # 1 and 1.0 are one number, True and "1" are not
