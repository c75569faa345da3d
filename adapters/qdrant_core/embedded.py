"""The embedded engine's own types, errors and folder (qdrant-edge-py)."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sparsevec.contract.adapter import Finding
from sparsevec.contract.checks import check_code_bytes, check_making
from sparsevec.errors import (
    AdapterClosed,
    AdapterError,
    ClientMissing,
    CollectionError,
    InvalidInput,
    InvalidVectors,
    SparsevecError,
    StorageFailed,
)

try:
    import qdrant_edge as edge
except ImportError as error:
    raise ClientMissing.extra("qdrant-edge-py", "qdrant") from error

__all__ = ["Folder", "Marker", "close_shard", "engine_errors", "filter_to_engine"]

_FORMAT = "sparsevec.qdrant-edge/1"
_RESERVE = 64 * 2**20  # bytes; the engine maps files that it grows in steps, and dies of a bus error where it cannot


# ---- filters


def filter_to_engine(given: Any) -> edge.Filter | None:
    """From the JSON of the REST API, as `filters.to_wire` makes it; a filter of the engine's own as it is."""
    if given is None or isinstance(given, edge.Filter):
        return given
    return _filter(given)


def _filter(given: Mapping[str, Any]) -> edge.Filter:
    if unknown := sorted(set(given) - {"must", "should", "must_not"}):
        raise InvalidInput(f"the embedded engine's filters are made of must, should and must_not, found {unknown}")

    def part(kind: str) -> list[Any] | None:
        some = given.get(kind) or []
        return [_condition(one) for one in ([some] if isinstance(some, dict) else some)] or None

    return edge.Filter(must=part("must"), should=part("should"), must_not=part("must_not"))


def _condition(given: Any) -> Any:
    match given:
        case {"key": str(key), "match": {"any": values}}:
            return edge.FieldCondition(key, match=edge.MatchAny(list(values)))
        case {"key": str(key), "match": {"except": values}}:
            return edge.FieldCondition(key, match=edge.MatchExcept(list(values)))
        case {"key": str(key), "match": {"value": value}}:
            # A Python bool would be read as an int; numpy's is not one.
            plain: Any = np.bool_(value) if isinstance(value, bool) else value
            return edge.FieldCondition(key, match=edge.MatchValue(plain))
        case {"key": str(key), "range": bounds} if any(isinstance(limit, str) for limit in bounds.values()):
            return edge.FieldCondition(key, range=edge.RangeDateTime(**bounds))
        case {"key": str(key), "range": bounds}:
            return edge.FieldCondition(key, range=edge.RangeFloat(**bounds))
        case {"key": str(key), "values_count": bounds}:
            return edge.FieldCondition(key, values_count=edge.ValuesCount(**bounds))
        case {"is_empty": {"key": str(key)}}:
            return edge.IsEmptyCondition(key)
        case {"is_null": {"key": str(key)}}:
            return edge.IsNullCondition(key)
        case {"has_id": ids}:
            return edge.HasIdCondition(set(ids))
        case {"has_vector": str(name)}:
            return edge.HasVectorCondition(name)
        case dict() if given.keys() <= {"must", "should", "must_not"}:
            return _filter(given)
    raise InvalidInput(
        f"the embedded engine's filter cannot be made of {given!r:.200}; give a qdrant_edge.Filter, or say it as a "
        "mapping of fields to conditions"
    )


# ---- errors


@contextmanager
def engine_errors(place: object) -> Iterator[None]:
    """Around the engine's calls and nothing else: it raises bare exceptions, which only their words tell apart."""
    try:
        yield
    except SparsevecError:
        raise
    except OSError as error:
        raise StorageFailed(f"{place}: {error}; what was reported as written is still there") from error
    except Exception as error:
        if type(error) is not Exception:  # of Python's own, so a bug of ours
            raise
        raise _translated(place, error) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # Ctrl-C, not the engine
            raise
        raise AdapterError(f"the engine in {place} panicked: {error}; close this adapter and connect again") from error


def _translated(place: object, error: Exception) -> AdapterError | StorageFailed:
    text = str(error)
    if "WouldBlock" in text:
        return CollectionError(f"{place} is open in another process or adapter; close it there first")
    if "No space left" in text or "os error 28" in text:
        return StorageFailed(
            f"{place}: no space left on the device; what was reported as written is still there. Make room, close this "
            "adapter and connect again"
        )
    if "not initialized" in text:
        return AdapterClosed(f"the engine in {place} was closed or dropped meanwhile; connect again")
    return AdapterError(f"the engine in {place} refused: {text}")


def close_shard(shard: edge.EdgeShard) -> None:
    """Flushes it and lets go of its files, after the calls of other threads that are under way."""
    while True:
        try:
            return shard.close()
        except RuntimeError as error:
            if "borrowed" not in str(error):
                raise
            time.sleep(0.001)  # the engine refuses instead of waiting


# ---- the folder


@dataclass(frozen=True, slots=True)
class Marker:
    """What `sparsevec.json` says of a collection.

    Raises InvalidVectors and InvalidInput for a dimension, a fingerprint and a code that no vectors could have.
    """

    dimension: int
    fingerprint: str | None = None
    identity: str | None = None
    code_bytes: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "dimension", check_making(self.dimension, self.fingerprint))
        object.__setattr__(self, "code_bytes", check_code_bytes(self.code_bytes))


class Folder:
    """The folder on disk: `sparsevec.json`, which makes it ours, and `shard/`, which is the engine's."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.shard = path / "shard"
        self._marker = path / "sparsevec.json"

    def __str__(self) -> str:
        return str(self._path)

    def read(self) -> Marker | None:
        """Of the collection in it; None when there is none. Raises CollectionError when the folder is not ours."""
        try:
            if not self._path.parent.is_dir():
                raise CollectionError(f"the folder of {self} does not exist; make it first")
            if not self._path.exists() or not any(self._path.iterdir()):
                return None
            said = json.loads(self._marker.read_text())
        except (OSError, ValueError, RecursionError) as error:
            raise CollectionError(f"{self} is not a folder of ours ({error}); use another path") from error
        if not isinstance(said, dict) or said.get("format") != _FORMAT:
            raise CollectionError(f"{self._marker} does not say {_FORMAT!r}; use another path")
        if said.get("dimension") is None:
            return None
        try:
            return Marker(said["dimension"], said.get("fingerprint"), said.get("identity"), said.get("code_bytes"))
        except (InvalidInput, InvalidVectors) as error:
            raise CollectionError(f"{self._marker} is damaged ({error}); use another path") from error

    @contextmanager
    def making(self) -> Iterator[None]:
        """Inside, no other adapter makes a collection here, and what an interrupted `create` or `drop` left is gone.

        Raises CollectionError when there is a collection already, or one in the making.
        """
        self._path.mkdir(exist_ok=True)
        handle = os.open(self._path, os.O_RDONLY)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise CollectionError(f"another adapter is making a collection in {self} at this moment") from error
            if self.read() is not None:
                raise CollectionError(f"{self} holds a collection already; drop() it first, or use another path")
            self.mark(None)
            self._remove_shard()
            yield
        finally:
            os.close(handle)

    def mark(self, marker: Marker | None) -> None:
        """Write the marker, whole or not at all."""
        said = {"format": _FORMAT, **({"dimension": None} if marker is None else asdict(marker))}
        partial = self._marker.with_suffix(".part")
        with partial.open("w") as file:
            json.dump(said, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self._marker)

    def clear(self) -> None:
        """Not ours any more, and gone when nobody else keeps anything in it."""
        if self._marker.exists():
            self.mark(None)
            self._remove_shard()
            self._marker.unlink()
            with suppress(OSError):
                self._path.rmdir()

    def check_space(self, size: int) -> None:
        """Raises StorageFailed unless `size` bytes, as the engine holds them, and a reserve fit on the disk."""
        at = self._path if self._path.exists() else self._path.parent
        needed, free = _RESERVE + 4 * size, shutil.disk_usage(at).free  # log, vectors, postings, and a copy of these
        if free < needed:
            raise StorageFailed(
                f"{self}: {free >> 20} MiB are free on its disk, and this write may need {needed >> 20}: the engine "
                "cannot survive a full disk, so nothing was written. Make room, or use another disk"
            )

    def space_finding(self) -> Finding:
        at = self._path if self._path.exists() else self._path.parent
        free = shutil.disk_usage(at).free
        if free < _RESERVE:
            return Finding("blocking", "disk", f"{free >> 20} MiB are free", "the engine cannot survive a full disk")
        return Finding("fine", "disk", f"{free >> 20} MiB are free")

    def _remove_shard(self) -> None:
        if self.shard.exists():
            shutil.rmtree(self.shard)
