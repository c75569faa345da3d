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
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sparsevec import IngestReport, SparseEncoder
from sparsevec.contract.checks import check_k
from sparsevec.errors import InvalidInput
from sparsevec.integrations.guest import guest
from sparsevec.integrations.workers import Columns, Job, Part, collected, own_errors, prepared

with guest("ray", "ray"):
    from ray.data import Dataset, Datasink
    from ray.data.block import BlockAccessor

__all__ = ["write"]


def write(
    dataset: Any,
    url: str,
    *,
    model: str | os.PathLike[str] | SparseEncoder,
    id: str = "id",  # noqa: A002
    vector: str = "vector",
    sparse: tuple[str, str] | None = None,
    payload: Sequence[str] = (),
    credentials: Mapping[str, Any] | None = None,
    failed: str | os.PathLike[str] | None = None,
    concurrency: int | None = None,
    ray_remote_args: Mapping[str, Any] | None = None,
    **options: Any,
) -> IngestReport:
    """Encode the column `vector` (dense rows) of `dataset` and write it to the collection at `url`, which is there.

    `id` and `payload` name the other columns. `model`: a fitted encoder, which travels to the workers, or the folder of
    one, which every worker reads where it is; one that is not the driver's is refused, also a refined one of the same
    space. `credentials` go to `connect` on each worker. Where the collection keeps residual codes they are made there,
    too. `sparse=("indices", "weights")` names two columns of lists with the model's vectors, which were made before, by
    `refine` for instance: they are written as they are, and `vector` is read for residual codes only.

    Documents that are refused are collected on the driver in the file `failed`, made with the first; their positions
    count within their task. `concurrency` (tasks at a time) and `ray_remote_args` go to Ray, `options` (`empty`,
    `missing`, `batch_count`, `batch_bytes`, `in_flight`, `deadline`, `on_progress`) to `ingest` in each task.

    A row that cannot be encoded is refused like any other document. Raises InvalidInput for options that cannot work on
    workers, a file `failed` that cannot be made and columns that are not there, before anything is written; where only
    a part of the dataset lacks a column, when a task meets it. InvalidVectors for a tensor column of another width,
    ModelBroken where the model is not, CollectionError without a collection, WrongSpace (C18, or two models), and what
    `ingest` raises in a task, with that task's report. The same call again goes on: what is written stays as it is.
    """
    if not isinstance(dataset, Dataset):
        raise InvalidInput(f"expected a ray.data.Dataset, found {type(dataset).__name__}; ray.data.from_... makes one")
    if concurrency is not None:
        check_k(concurrency, "concurrency")
    columns = Columns(id, vector, sparse, payload)
    job = prepared(url, model=model, columns=columns, credentials=credentials, failed=failed, options=options)
    if (schema := dataset.schema()) is not None and schema.names:  # a dataset without a row may have none
        job.check(schema.names)
    sink = _Sink(job)
    with own_errors():
        dataset.write_datasink(sink, concurrency=concurrency, ray_remote_args=dict(ray_remote_args or {}))
    return collected(sink.parts, failed)


class _Block:
    """A block of a dataset as `workers.Table`."""

    def __init__(self, block: Any) -> None:
        self._rows = BlockAccessor.for_block(block)

    @property
    def names(self) -> list[str]:
        return list(self._rows.column_names())

    def __len__(self) -> int:
        return int(self._rows.num_rows())

    def part(self, start: int, stop: int) -> _Block:
        return _Block(self._rows.slice(start, stop, copy=False))

    def plain(self, name: str) -> list[Any]:
        return list(self._rows.to_arrow().column(name).to_pylist())

    def numbers(self, name: str) -> Any:
        found = self._rows.to_numpy(name)
        return found if found.ndim > 1 or found.dtype == object else self.plain(name)  # NaN for all, where all are None


class _Sink(Datasink):  # type: ignore[misc]  # Ray has no types where it is not installed
    def __init__(self, job: Job) -> None:
        self._job = job
        self.parts: list[Part | None] = []
        """of the tasks that succeeded, once each"""

    def get_name(self) -> str:
        return "sparsevec"

    def write(self, blocks: Iterable[Any], _context: Any) -> Part | None:
        return self._job.run(map(_Block, blocks))

    def on_write_complete(self, result: Any) -> None:
        self.parts = list(result.write_returns)
