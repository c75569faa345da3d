"""Files and folders that are whole or not there: the only place that fsyncs and renames.

What is replaced stays whole for whoever reads it: a new file or folder is filled beside the old one, synced, and takes
its place by a rename; an open or mapped old one lives on until its reader lets go.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sparsevec.errors import StorageFailed

__all__ = ["append_synced", "storage_errors", "sync_folder", "whole_file", "whole_folder"]

_FILE_MODE, _FOLDER_MODE = 0o666, 0o777  # less the umask, as open() and mkdir() have it


@contextmanager
def storage_errors(place: object, doing: str = "written") -> Iterator[None]:
    """What the operating system refuses, as StorageFailed that names `place`."""
    try:
        yield
    except OSError as error:
        if isinstance(error, StorageFailed):
            raise
        raise StorageFailed(f"{place} could not be {doing}: {error.strerror or error}") from error


def whole_file(path: str | os.PathLike[str], content: bytes, *, private: bool = False) -> None:
    """Write `content` to the file at `path`, all or nothing, on disk when this returns; what was there is replaced.

    `private`: readable by its owner alone. Raises StorageFailed, and then what was there still is.
    """
    target = Path(path)
    with storage_errors(target):
        handle, name = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                os.fchmod(file.fileno(), 0o600 if private else _FILE_MODE & ~_umask())
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, target)  # noqa: PTH105
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        sync_folder(target.parent)


def whole_folder(path: str | os.PathLike[str], fill: Callable[[Path], None]) -> None:
    """Let `fill` write files into a new folder, then put it in the place of `path`, all or nothing.

    Whether what is at `path` may be replaced is the caller's to check. Raises StorageFailed, and then what was there
    still is.
    """
    target = Path(path)
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            fill(new)
            _sync_files(new)
            new.chmod(_FOLDER_MODE & ~_umask())
            _take_place(new, target)
        finally:
            shutil.rmtree(new, ignore_errors=True)
        sync_folder(target.parent)


def _sync_files(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        else:
            sync_folder(path)
    sync_folder(folder)


def _take_place(new: Path, target: Path) -> None:
    if not target.exists():
        new.rename(target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
    target.rename(old)  # onto the empty folder just made
    try:
        new.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def append_synced(handle: int, content: bytes) -> None:
    """Append to an open file, all of it and on disk when this returns. Raises OSError, and then none of it is there."""
    end = os.fstat(handle).st_size
    left = memoryview(content)
    try:
        while left:
            left = left[os.write(handle, left) :]
        os.fsync(handle)
    except OSError:
        os.ftruncate(handle, end)
        raise


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """A new name is found again after a power cut only when its folder was synced as well."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    current = os.umask(0o077)  # the only way to read it is to set it
    os.umask(current)
    return current
