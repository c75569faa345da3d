"""Behind `ray` and `daft`: what a worker does with its part of a dataset, and what the driver makes of all parts.

    job = prepared(url, model=..., columns=Columns(...), ...)                 # the driver tells all that can be wrong
    part = job.run(tables)                                                    # each worker
    report = collected(parts, failed)                                         # the driver again

A worker counts what it was given, writes it with the patience of `ingest`, and refuses another model than the driver's.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, tee
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias

from sparsevec import Adapter, Encoded, IngestReport, SparseEncoder, SparseVectors, connect, ingest
from sparsevec.errors import (
    CollectionError,
    InvalidInput,
    InvalidVectors,
    ModelBroken,
    SparsevecError,
    WrongSpace,
    printable,
)
from sparsevec.storage import as_path, whole_file

__all__ = ["Columns", "Job", "Part", "Table", "collected", "own_errors", "prepared"]

_Made: TypeAlias = tuple[Encoded, Any]

_ROWS = 1000  # that are encoded at once
_OPTIONS = ("empty", "missing", "batch_bytes", "batch_count", "in_flight", "deadline", "on_progress")
"""of `ingest`, which a task can keep that knows its own rows alone"""


class Table(Protocol):
    """Some rows, as a worker holds them."""

    @property
    def names(self) -> Sequence[str]:
        """Of the columns."""

    def __len__(self) -> int: ...

    def part(self, start: int, stop: int) -> Table:
        """Some of the rows."""

    def plain(self, name: str) -> list[Any]:
        """A column, its values as Python has them."""

    def numbers(self, name: str) -> Any:
        """A column of lists: an array, or row by row where some are None or of another width."""


@dataclass(frozen=True)
class Columns:
    """Of a dataset, by name. `sparse`: of indices, and of weights. Raises InvalidInput for what is no name."""

    id: str
    vector: str
    sparse: tuple[str, str] | None
    payload: Sequence[str]

    def __post_init__(self) -> None:
        for name, given in {"id": self.id, "vector": self.vector}.items():
            if not isinstance(given, str):
                raise InvalidInput(f"{name} must be the name of a column, found {given!r:.80}")
        if self.sparse is not None and not (_are_names(self.sparse) and len(self.sparse) == 2):
            raise InvalidInput(f"sparse must be the columns of indices and of weights, found {self.sparse!r:.80}")
        if not _are_names(self.payload):
            raise InvalidInput(f'payload must be a list of columns, ["brand"] for one, found {self.payload!r:.80}')


def _are_names(given: object) -> bool:
    return isinstance(given, list | tuple) and all(isinstance(name, str) for name in given)


@dataclass(frozen=True)
class Part:
    """What one task brings home: its report, and the lines of its dead letters."""

    report: IngestReport
    letters: str


def prepared(
    url: str,
    *,
    model: str | os.PathLike[str] | SparseEncoder,
    columns: Columns,
    credentials: Mapping[str, Any] | None,
    failed: str | os.PathLike[str] | None,
    options: Mapping[str, Any],
) -> Job:
    """What each task is to do, looked at on the driver before any begins; its columns are to be checked where they are
    known. Raises InvalidInput, ModelBroken, CollectionError, WrongSpace, and what the adapter raises."""
    if odd := [name for name in options if name not in _OPTIONS]:
        raise InvalidInput(
            f"{odd[0]}= cannot be given to workers, each of which knows its own rows alone; expected some of "
            f"{', '.join(_OPTIONS)}, and the same call again to go on"
        )
    if not isinstance(credentials, Mapping | None):
        raise InvalidInput(f"credentials must be a mapping, as connect takes them, found {type(credentials).__name__}")
    _check_failed(failed)
    found, known = _Model.of(model), dict(credentials or {})
    return Job(url, found, columns, _keeps_codes(url, known, found, options), known, dict(options))


def _check_failed(failed: str | os.PathLike[str] | None) -> None:
    if failed is None:
        return
    path, shown = Path(os.path.realpath(as_path(failed, "failed"))), printable(failed)
    try:
        if path.exists() and not (path.is_file() and path.stat().st_size == 0):
            raise InvalidInput(f"{shown} is there already; move it away, or name another file")
        if not (path.parent.is_dir() and os.access(path.parent, os.W_OK | os.X_OK)):
            folder = printable(path.parent)
            raise InvalidInput(f"{shown} cannot be made: {folder} is no folder that can be written to")
    except OSError as error:  # a name that is too long
        raise InvalidInput(f"{shown} cannot be made: {error.strerror or error}; name another file") from error


def _keeps_codes(url: str, credentials: Mapping[str, Any], model: _Model, options: Mapping[str, Any]) -> bool:
    """Whether the collection keeps residual codes; it is there and of the model's space, and the options are right."""
    with connect(url, **credentials) as adapter:
        info = adapter.info()
        if not info.exists:
            raise CollectionError(f"{adapter!r} has no collection yet; adapter.create(dimension) makes one")
        if None not in (info.fingerprint, model.fingerprint) and info.fingerprint != model.fingerprint:
            raise WrongSpace(
                f"the collection holds vectors of the space {info.fingerprint}, the model makes those of "
                f"{model.fingerprint}; write with the encoder of the collection, or to another collection"
            )
        coded = info.code_bytes is not None
        ingest(adapter, (), (), codes=() if coded else None, **options)  # of no documents: looks at the options
    return coded


# ---- on a worker


@dataclass(frozen=True)
class _Model:
    """An encoder, or where each worker finds it and which one it is."""

    encoder: SparseEncoder | None
    folder: str
    digest: str
    fingerprint: str | None

    @classmethod
    def of(cls, model: str | os.PathLike[str] | SparseEncoder) -> _Model:
        if isinstance(model, SparseEncoder):
            return cls(model, "", "", model.fingerprint)
        if not isinstance(model, str | os.PathLike):
            raise InvalidInput(f"model must be an encoder or the folder of one, found {model!r:.80}")
        folder = str(Path(model).absolute())
        digest = _digest(folder)
        return cls(None, folder, digest, _loaded(folder, digest).fingerprint)

    def load(self) -> SparseEncoder:
        if self.encoder is not None:
            return self.encoder
        _check_same(self.folder, self.digest)  # also where it was read before: nobody should rely on that
        return _loaded(self.folder, self.digest)


@lru_cache(maxsize=2)  # a worker runs many tasks
def _loaded(folder: str, digest: str) -> SparseEncoder:
    encoder = SparseEncoder.load(folder)
    _check_same(folder, digest)  # another may have taken its place meanwhile
    return encoder


def _check_same(folder: str, digest: str) -> None:
    if (found := _digest(folder)) != digest:
        raise WrongSpace(
            f"this worker has another model in {folder} than the driver: its config.json has SHA-256 {found}, expected "
            f"{digest}; copy one folder to all, or pass the encoder itself as model="
        )


def _digest(folder: str) -> str:
    """Of `config.json`, which says the SHA-256 of the weights beside it, as `SparseEncoder.load` checks: of a model and
    the one that it was refined to, which share a fingerprint, it differs."""
    try:
        return hashlib.sha256((Path(folder) / "config.json").read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise ModelBroken(
            f"{folder}: {error.strerror or error} (config.json); it is not a whole model folder; save it again with "
            "SparseEncoder.save"
        ) from error


@dataclass(frozen=True)
class Job:
    """What each task does. `coded`: residual codes are made, too."""

    url: str
    model: _Model
    columns: Columns
    coded: bool
    credentials: dict[str, Any] = field(repr=False)
    options: dict[str, Any]

    def check(self, there: Sequence[str], what: str = "the dataset") -> None:
        """Raises InvalidInput unless all that are read are among the columns of `what`."""
        columns = self.columns
        dense = [columns.vector] if self.coded or columns.sparse is None else []
        named = [columns.id, *dense, *(columns.sparse or ()), *columns.payload]
        if lacking := [name for name in named if name not in there]:
            raise InvalidInput(f"{what} has no column {lacking[0]!r}; it has {list(there)}")

    def run(self, tables: Iterable[Table]) -> Part | None:
        """One task; None where there was no row."""
        held = [table for table in tables if len(table)]  # one that a filter left empty may have no columns either
        if not held:
            return None
        for table in held:
            self.check(table.names, "a part of the dataset")
        parts = [table.part(at, min(at + _ROWS, len(table))) for table in held for at in range(0, len(table), _ROWS)]
        encoder = self.model.load()
        with tempfile.TemporaryDirectory() as folder, connect(self.url, **self.credentials) as adapter:
            letters = Path(folder) / "failed.jsonl"
            made: Iterator[_Made] = (self._made(encoder, part, adapter) for part in parts)
            again: Iterator[_Made] | None = None
            if self.coded:  # a second reader that reads nothing would keep all of it
                made, again = tee(made)
            report = ingest(
                adapter,
                chain.from_iterable(part.plain(self.columns.id) for part in parts),
                (vectors for vectors, _ in made),
                chain.from_iterable(map(self._payloads, parts)) if self.columns.payload else None,
                codes=None if again is None else chain.from_iterable(codes for _, codes in again),
                failed=letters,
                **self.options,
            )
            return Part(report, letters.read_text() if letters.exists() else "")

    def _made(self, encoder: SparseEncoder, part: Table, adapter: Adapter) -> _Made:
        """Vectors and, for a collection that keeps them, residual codes."""
        vector, sparse = self.columns.vector, self.columns.sparse
        if sparse is not None and not self.coded:
            return _given(encoder, part, *sparse), None
        dense = part.numbers(vector)
        made = encoder.encode_each(dense) if sparse is None else _given(encoder, part, *sparse)
        if not self.coded:
            return made, None
        faults = made.faults if sparse is None else {**encoder.document_faults(dense), **made.faults}
        codes = encoder.residual_codes(dense, adapter.stored(made.vectors), faults=faults)
        return Encoded(made.vectors, faults), codes

    def _payloads(self, part: Table) -> list[dict[str, Any]]:
        columns = [part.plain(name) for name in self.columns.payload]
        return [dict(zip(self.columns.payload, row, strict=True)) for row in zip(*columns, strict=True)]


class _Row(NamedTuple):
    indices: Any
    values: Any


def _given(encoder: SparseEncoder, part: Table, indices: str, weights: str) -> Encoded:
    """Vectors that were made before; of rows that are none an empty one, and why."""
    dimension, faults = encoder.output_dim, dict[int, str]()
    rows = list(map(_Row, part.numbers(indices), part.numbers(weights)))
    try:
        if not all(map(_are_lists, rows)):
            raise InvalidVectors("some rows are no lists")
        vectors = SparseVectors.from_rows(rows, dimension=dimension)
    except InvalidVectors:  # row by row, as they are: in an array one null makes floats of all
        found = [_one(row, dimension) for row in map(_Row, part.plain(indices), part.plain(weights))]
        faults = {number: fault for number, fault in enumerate(found) if isinstance(fault, str)}
        none = SparseVectors.from_rows([{}], dimension=dimension)
        vectors = SparseVectors.concat([none if isinstance(vector, str) else vector for vector in found])
    return Encoded(vectors.with_fingerprint(encoder.fingerprint), faults)


def _are_lists(row: _Row) -> bool:
    return all(isinstance(given, list) or getattr(given, "ndim", 0) == 1 for given in row)


def _one(row: _Row, dimension: int) -> SparseVectors | str:
    """The vector (1, dimension), or why it is none."""
    if not _are_lists(row):
        odd = next(given for given in row if not _are_lists(_Row(given, given)))
        return f"its indices and weights must be lists of numbers, found {odd!r:.80}"
    try:
        return SparseVectors.from_rows([row], dimension=dimension)
    except InvalidVectors as error:
        return str(error).replace("row 0", "its vector", 1)


# ---- on the driver again


@contextmanager
def own_errors() -> Iterator[None]:
    """What a task ended with, as the error of ours that it was, however it was wrapped on its way."""
    try:
        yield
    except Exception as error:
        own = _own(error)
        if own is None or own is error:
            raise
        raise own from error


def _own(error: BaseException) -> SparsevecError | None:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(found := getattr(seen, "cause", None), SparsevecError):  # Ray's
            return found
        if isinstance(seen, SparsevecError):
            return seen
        seen = found if isinstance(found, BaseException) else seen.__cause__
    return None


def collected(parts: Iterable[Part | None], failed: str | os.PathLike[str] | None) -> IngestReport:
    """The reports of all tasks added up, and their dead letters in one file."""
    made = [part for part in parts if part is not None]
    report = IngestReport.of_all([part.report for part in made]).model_copy(update={"dead_letters": None})
    if failed is None or not report.failed:
        return report
    try:
        whole_file(failed, "".join(part.letters for part in made).encode(), private=True)  # payloads stand in it
    except SparsevecError as error:
        error.report = report
        raise
    return report.model_copy(update={"dead_letters": Path(failed)})
