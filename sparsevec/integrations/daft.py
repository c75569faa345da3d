"""Daft: write a data frame from where its partitions are, each row accounted for in one report.

    from sparsevec.integrations.daft import write

    adapter.create(8192, fingerprint=encoder.fingerprint)
    report = write(frame, "elasticsearch://HOST:9200/products?field=sparse", model="model/", payload=["brand"])
    report.require_complete()                       # report.given == frame.count_rows()

On Daft's native runner codes are made by the threads of this process, on its Ray runner by the workers of a cluster. A
partition that was written twice has written the same documents under the same ids, which changes nothing. Extra `daft`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from sparsevec import IngestReport, SparseEncoder
from sparsevec.errors import InvalidInput
from sparsevec.integrations.guest import guest
from sparsevec.integrations.workers import Columns, Job, Part, collected, own_errors, prepared

with guest("daft", "daft"):
    from daft import DataFrame
    from daft.io.sink import DataSink, WriteResult
    from daft.recordbatch import MicroPartition

__all__ = ["write"]


def write(
    dataframe: Any,
    url: str,
    *,
    model: str | os.PathLike[str] | SparseEncoder,
    id: str = "id",  # noqa: A002
    vector: str = "vector",
    sparse: tuple[str, str] | None = None,
    payload: Sequence[str] = (),
    credentials: Mapping[str, Any] | None = None,
    failed: str | os.PathLike[str] | None = None,
    **options: Any,
) -> IngestReport:
    """Encode the column `vector` (dense rows) of `dataframe` and write it to the collection at `url`, which is there.

    Takes, does and raises what `sparsevec.integrations.ray.write` does: `id`, `sparse` and `payload` name columns,
    `model` is an encoder or its folder, `options` (`empty`, `missing`, `batch_count`, `batch_bytes`, `in_flight`,
    `deadline`, `on_progress`) go to `ingest` of each partition. A fixed-size list, embedding or tensor of another width
    raises InvalidVectors; of lists that differ each row is judged by itself.
    """
    if not isinstance(dataframe, DataFrame):
        raise InvalidInput(f"expected a daft.DataFrame, found {type(dataframe).__name__}; daft.from_... makes one")
    columns = Columns(id, vector, sparse, payload)
    job = prepared(url, model=model, columns=columns, credentials=credentials, failed=failed, options=options)
    job.check(dataframe.column_names)
    sink = _Sink(job)
    with own_errors():
        dataframe.write_sink(sink)
    return collected(sink.parts, failed)


class _Partition:
    """Rows of a partition as `workers.Table`."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows

    @property
    def names(self) -> list[str]:
        return list(self._rows.column_names())

    def __len__(self) -> int:
        return len(self._rows)

    def part(self, start: int, stop: int) -> _Partition:
        return _Partition(self._rows.slice(start, stop))

    def plain(self, name: str) -> list[Any]:
        return list(self._rows.get_column_by_name(name).to_pylist())

    def numbers(self, name: str) -> Any:
        column = self._rows.get_column_by_name(name)
        kind = column.datatype()
        lists = kind.is_list() or kind.is_fixed_size_list()
        rows = column.to_arrow().to_numpy(zero_copy_only=False) if lists else column.to_pylist()
        one_width = kind.is_fixed_size_list() or kind.is_embedding() or kind.is_fixed_shape_tensor()
        return np.stack(rows) if one_width and all(row is not None for row in rows) else rows


class _Sink(DataSink):  # type: ignore[misc]  # Daft has no types where it is not installed
    def __init__(self, job: Job) -> None:
        self._job = job
        self.parts: list[Part | None] = []
        """of the partitions, once each"""

    def name(self) -> str:
        return "sparsevec"

    def schema(self) -> Any:
        return _told([]).schema()

    def write(self, micropartitions: Iterator[Any]) -> Iterator[Any]:
        for rows in micropartitions:
            if (part := self._job.run([_Partition(rows)])) is not None:
                yield WriteResult(part, part.report.bytes, part.report.written)

    def safe_write(self, micropartitions: Iterator[Any]) -> Iterator[Any]:
        """As `write`: an error of ours can travel, and Daft's own would lose, between processes, which one it was."""
        return self.write(micropartitions)

    def finalize(self, write_results: list[Any]) -> Any:
        self.parts = [result.result for result in write_results]
        return _told(self.parts)


def _told(parts: list[Part | None]) -> Any:
    """What Daft expects of a sink: a row of counts."""
    report = collected(parts, None)
    return MicroPartition.from_pydict({name: [getattr(report, name)] for name in ("given", "written", "failed")})
