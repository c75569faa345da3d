"""Ray Data: write a dataset from the workers that hold it, each row accounted for on the driver.

    from sparsevec.integrations.ray import write

    adapter.create(8192, fingerprint=encoder.fingerprint)
    report = write(dataset, "elasticsearch://HOST:9200/products?field=sparse", model="model/", payload=["brand"])
    report.require_complete()                       # report.given == dataset.count()

Vectors come in, codes are made on the workers, and each task sends its own rows with the patience of `ingest`. A task
that was killed is run again by Ray, and one that ran twice writes the same documents twice under the same ids, which
changes nothing; Ray hands each task's report over once, so `given` is the number of rows. Extra `ray`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, tee
from pathlib import Path
from typing import Any, TypeAlias

from sparsevec import Adapter, Encoded, IngestReport, SparseEncoder, connect, ingest
from sparsevec.errors import CollectionError, InvalidInput, SparsevecError, WrongSpace
from sparsevec.integrations.guest import guest
from sparsevec.storage import whole_file

with guest("ray", "ray"):
    from ray.data import Datasink
    from ray.data.block import BlockAccessor

__all__ = ["write"]

_Made: TypeAlias = tuple[Encoded, Any]

_ROWS = 1000  # that are encoded at once


def write(
    dataset: Any,
    url: str,
    *,
    model: str | os.PathLike[str] | SparseEncoder,
    id: str = "id",  # noqa: A002
    vector: str = "vector",
    payload: Sequence[str] = (),
    credentials: Mapping[str, Any] | None = None,
    failed: str | os.PathLike[str] | None = None,
    concurrency: int | None = None,
    ray_remote_args: Mapping[str, Any] | None = None,
    **options: Any,
) -> IngestReport:
    """Encode the column `vector` (dense rows) of `dataset` and write it to the collection at `url`, which is there.

    `id` and `payload` name the other columns. `model`: a fitted encoder, which travels to the workers, or the folder of
    one, which every worker reads where it is; one that is not the driver's is refused. `credentials` go to `connect` on
    each worker. Where the collection keeps residual codes they are made there, too. Documents that are refused are
    collected on the driver in the file `failed`, made with the first; their positions count within their task.
    `concurrency` (tasks at a time) and `ray_remote_args` go to Ray, `options` (`empty`, `missing`, `in_flight`,
    `deadline`, ...) to `ingest` in each task.

    A row that cannot be encoded is refused like any other document. Raises InvalidInput for columns that are not there,
    InvalidVectors for a tensor column of another width, ModelBroken where the model is not, CollectionError without a
    collection, WrongSpace (C18), and what `ingest` raises in a task, with that task's report. The same call again goes
    on: what is written stays as it is.
    """
    job = _Job(url, _model(model), (id, vector, *payload), dict(credentials or {}), options)
    _check_columns(dataset, job.columns)
    _check_collection(job)
    if failed is not None and Path(failed).exists() and Path(failed).stat().st_size:
        raise InvalidInput(f"{os.fspath(failed)} is there already; move it away, or name another file")
    sink = _Sink(job)
    try:
        dataset.write_datasink(sink, concurrency=concurrency, ray_remote_args=dict(ray_remote_args or {}))
    except Exception as error:
        raise _ours(error) from error
    return _collected(sink.parts, failed)


@dataclass(frozen=True)
class _Model:
    """An encoder, or where each worker finds it and which one it is."""

    encoder: SparseEncoder | None
    folder: str
    fingerprint: str | None

    def load(self) -> SparseEncoder:
        encoder = self.encoder or _loaded(self.folder)
        if encoder.fingerprint != self.fingerprint:
            raise WrongSpace(
                f"this worker has another model in {self.folder} than the driver: {encoder.fingerprint}, expected "
                f"{self.fingerprint}; copy one folder to all, or pass the encoder itself as model="
            )
        return encoder


@lru_cache(maxsize=2)  # a worker runs many tasks
def _loaded(folder: str) -> SparseEncoder:
    return SparseEncoder.load(folder)


def _model(model: str | os.PathLike[str] | SparseEncoder) -> _Model:
    if isinstance(model, SparseEncoder):
        return _Model(model, "", model.fingerprint)
    folder = str(Path(model).absolute())
    return _Model(None, folder, SparseEncoder.load(folder).fingerprint)


@dataclass(frozen=True)
class _Job:
    """What each task does. `columns`: of ids, vectors and payload."""

    url: str
    model: _Model
    columns: tuple[str, ...]
    credentials: dict[str, Any] = field(repr=False)
    options: dict[str, Any]

    def run(self, blocks: Iterable[Any]) -> _Part:
        """One task: its report, and the lines of its dead letters."""
        encoder, tables = self.model.load(), [BlockAccessor.for_block(block) for block in blocks]
        with tempfile.TemporaryDirectory() as folder, connect(self.url, **self.credentials) as adapter:
            letters, coded = Path(folder) / "failed.jsonl", adapter.info().code_bytes is not None
            parts = (self._encoded(encoder, table, adapter, coded) for table in tables)
            made: Iterator[_Made] = chain.from_iterable(parts)
            again: Iterator[_Made] | None = None
            if coded:  # a second reader that reads nothing would keep all of it
                made, again = tee(made)
            report = ingest(
                adapter,
                chain.from_iterable(map(self._ids, tables)),
                (vectors for vectors, _ in made),
                chain.from_iterable(map(self._payloads, tables)) if len(self.columns) > 2 else None,
                codes=None if again is None else chain.from_iterable(codes for _, codes in again),
                failed=letters,
                **self.options,
            )
            return _Part(report, letters.read_text() if letters.exists() else "")

    def _ids(self, table: Any) -> list[Any]:
        return list(table.to_arrow().column(self.columns[0]).to_pylist())

    def _encoded(self, encoder: SparseEncoder, table: Any, adapter: Adapter, coded: bool) -> Iterator[_Made]:
        """Vectors and, for a collection that keeps them, residual codes; a few rows at a time."""
        for start in range(0, table.num_rows(), _ROWS):
            part = BlockAccessor.for_block(table.slice(start, min(start + _ROWS, table.num_rows()), copy=False))
            dense = part.to_numpy(self.columns[1])
            made, codes = encoder.encode_each(dense), None
            if coded:
                codes = encoder.residual_codes(dense, adapter.stored(made.vectors), faults=made.faults)
            yield made, codes

    def _payloads(self, table: Any) -> list[dict[str, Any]]:
        return list(table.to_arrow().select(self.columns[2:]).to_pylist())


@dataclass(frozen=True)
class _Part:
    """What one task brings home."""

    report: IngestReport
    letters: str


class _Sink(Datasink):  # type: ignore[misc]  # Ray has no types where it is not installed
    def __init__(self, job: _Job) -> None:
        self._job = job
        self.parts: list[_Part] = []
        """of the tasks that succeeded, once each"""

    def get_name(self) -> str:
        return "sparsevec"

    def write(self, blocks: Iterable[Any], _context: Any) -> _Part:
        return self._job.run(blocks)

    def on_write_complete(self, result: Any) -> None:
        self.parts = [part for part in result.write_returns if part is not None]


def _check_columns(dataset: Any, columns: Sequence[str]) -> None:
    schema = dataset.schema()
    there = [] if schema is None else list(schema.names)
    if schema is not None and (lacking := [name for name in columns if name not in there]):
        raise InvalidInput(f"the dataset has no column {lacking[0]!r}; it has {there}")


def _check_collection(job: _Job) -> None:
    with connect(job.url, **job.credentials) as adapter:
        info = adapter.info()
        if not info.exists:
            raise CollectionError(f"{adapter!r} has no collection yet; adapter.create(dimension) makes one")
    if None not in (info.fingerprint, job.model.fingerprint) and info.fingerprint != job.model.fingerprint:
        raise WrongSpace(
            f"the collection holds vectors of the space {info.fingerprint}, the model makes those of "
            f"{job.model.fingerprint}; write with the encoder of the collection, or to another collection"
        )


def _ours(error: BaseException) -> BaseException:
    """The error of ours that a task ended with, or the one that Ray has."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(found := getattr(seen, "cause", None), SparsevecError):
            return found
        if isinstance(seen, SparsevecError):
            return seen
        seen = found if isinstance(found, BaseException) else seen.__cause__
    return error


def _collected(parts: Sequence[_Part], failed: str | os.PathLike[str] | None) -> IngestReport:
    """The reports of all tasks added up, and their dead letters in one file."""
    report = IngestReport.of_all([part.report for part in parts])
    if failed is None or not report.failed:
        return report.model_copy(update={"dead_letters": None})
    whole_file(failed, "".join(part.letters for part in parts).encode(), private=True)  # payloads stand in it
    return report.model_copy(update={"dead_letters": Path(failed)})
