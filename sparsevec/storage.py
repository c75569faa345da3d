"""Files and folders that are whole or not there: the only place that fsyncs and renames.

What is replaced stays whole for whoever reads it: a new file or folder is filled beside the old one, synced, and takes
its place atomically; an open or mapped old one lives on until its reader lets go. A name that is a symbolic link
stays one: what it points to is replaced.

A process that is killed in between leaves the old or the new one at its name, and perhaps a `.NAME-….new` beside it,
which nobody reads and anybody may delete; a folder of that name goes with the next one that is written there. Where the
filesystem cannot exchange two names, it may leave the old folder as `.NAME-….old`.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO, TypeVar

import numpy as np
import numpy.typing as npt

from sparsevec.errors import InvalidInput, StorageFailed, printable

__all__ = [
    "append_synced",
    "as_path",
    "check_writable",
    "locked",
    "read_folder",
    "storage_errors",
    "sync_folder",
    "whole_file",
    "whole_folder",
    "write_array",
]

Read = TypeVar("Read")

_NOT_FOR_FOLDERS = (errno.EINVAL, errno.EBADF, errno.ENOTSUP)  # how some network filesystems refuse to sync one


def as_path(path: object, what: str = "") -> Path:
    """Raises InvalidInput for what names no file or folder; `what` it is called in the message."""
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if not isinstance(text, str) or not text or not _is_name(text):
        expected = f"{what} must be" if what else "expected"
        raise InvalidInput(f"{expected} the path of a file or folder, found {path!r:.80}")
    return Path(text)


def _is_name(text: str) -> bool:
    """Whether the system takes it; half a character, as JSON and Windows may bring, is none."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


@contextmanager
def storage_errors(place: object, doing: str = "written") -> Iterator[None]:
    """What the operating system refuses, as StorageFailed that names `place`."""
    try:
        yield
    except OSError as error:
        if isinstance(error, StorageFailed):
            raise
        raise StorageFailed(f"{printable(place)} could not be {doing}: {error.strerror or error}") from error


def check_writable(folder: Path, place: Path | None = None) -> None:
    """Before any work is done: make `folder` where it is not there, and a file in it that is gone again.

    Raises StorageFailed, of `place` where the folder serves another one.
    """
    with storage_errors(place or folder):
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()


def whole_file(path: str | os.PathLike[str], *content: bytes | memoryview, private: bool = False) -> None:
    """Write the parts of `content` to the file at `path`, all or nothing, on disk when this returns; what was there is
    replaced.

    The file keeps the mode of the one that it replaces; `private`: it is readable by its owner alone. Raises
    StorageFailed, and then what was there still is.
    """
    with storage_errors(path):
        target = _target(path, stat.S_ISREG, "is not a regular file")
        new = _beside(target)
        try:
            handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666)  # less the umask
            with os.fdopen(handle, "wb") as file:
                if target.exists() and not private:
                    os.fchmod(file.fileno(), stat.S_IMODE(target.stat().st_mode))
                for part in content:
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, target)  # noqa: PTH105
        except BaseException:
            new.unlink(missing_ok=True)
            raise
        sync_folder(target.parent)


def whole_folder(path: str | os.PathLike[str], fill: Callable[[Path], None]) -> None:
    """Let `fill` write files into a new folder, then put it in the place of `path`, all or nothing.

    Folders on the way are made. Whether what is at `path` may be replaced is the caller's to check, but a file is
    refused. Raises StorageFailed, and then what was there still is.
    """
    with storage_errors(path):
        target = _target(path, stat.S_ISDIR, "is not a folder")
        _make_folders(target.parent)
        _forget(target)
        new, lock = _made(target)
        try:
            fill(new)
            _sync_tree(new)
            if target.exists():
                new.chmod(stat.S_IMODE(target.stat().st_mode))
                _exchange(new, target)
            else:
                new.rename(target)
            sync_folder(target.parent)
        finally:
            shutil.rmtree(new, ignore_errors=True)  # what was replaced, or what came to nothing
            os.close(lock)


def locked(handle: int) -> bool | None:
    """Lock an open file or folder until it is closed: False where another has it, None where the filesystem has no
    locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if isinstance(error, BlockingIOError) else None
    return True


def write_array(path: Path, array: npt.NDArray[Any]) -> None:
    """The file that np.save makes, which loses in silence the end of an array that finds no room."""
    array = np.ascontiguousarray(array)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(array.data)


def _target(path: str | os.PathLike[str], expected: Callable[[int], bool], otherwise: str) -> Path:
    target = Path(os.path.realpath(as_path(path)))
    if target.exists() and not expected(target.stat().st_mode):
        raise StorageFailed(f"{printable(path)} {otherwise}; choose another name, or move it away")
    return target


def _beside(target: Path, kind: str = "new") -> Path:
    """A new name in the same folder, so on the same filesystem."""
    return target.with_name(f".{target.name[:60]}-{secrets.token_hex(6)}.{kind}")


def _made(target: Path) -> tuple[Path, int]:
    """A new folder beside it, and a handle that keeps it from `_forget` of others while it is open."""
    while True:
        new = _beside(target)
        new.mkdir()
        with suppress(FileNotFoundError):
            handle = os.open(new, os.O_RDONLY | os.O_DIRECTORY)
            if locked(handle) is not False and new.exists():
                return new, handle
            os.close(handle)  # somebody forgets it, between its making and its lock


def _forget(target: Path) -> None:
    """Remove the folders beside it that killed processes left: that are locked by nobody."""
    ours = re.compile(rf"\.{re.escape(target.name[:60])}-[0-9a-f]{{12}}\.new")
    for left in filter(lambda path: ours.fullmatch(path.name), target.parent.iterdir()):
        with suppress(OSError):  # no folder, of another user, or gone
            handle = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if locked(handle):
                    shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(handle)


def _make_folders(folder: Path) -> None:
    if folder.exists():
        os.close(os.open(folder, os.O_RDONLY | os.O_DIRECTORY))  # a file is refused here, in words that fit
        return
    _make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def _sync_tree(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            _sync_tree(path)
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())
    sync_folder(folder)


def _exchange(new: Path, target: Path) -> None:
    """Let the two folders change names: atomically where the system can do that, else by way of a third name."""
    if _exchanged(new, target):
        return
    old = _beside(target, "old")
    target.rename(old)
    try:
        new.rename(target)
    except BaseException:
        old.rename(target)
        raise
    old.rename(new)


def _exchanged(one: Path, other: Path) -> bool:
    """False where this system or this filesystem has no such call."""
    call = _RENAME.get(sys.platform)
    function = getattr(ctypes.CDLL(None, use_errno=True), call[0], None) if call else None
    if call is None or function is None:
        return False
    paths = os.fsencode(one), os.fsencode(other)
    arguments = (_CWD, paths[0], _CWD, paths[1], call[1]) if call[0] == "renameat2" else (*paths, call[1])
    if function(*arguments) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(other))


_CWD = -100  # AT_FDCWD: paths are as they are
_RENAME = {"linux": ("renameat2", 2), "darwin": ("renamex_np", 2)}  # RENAME_EXCHANGE, RENAME_SWAP


def read_folder(path: str | os.PathLike[str], read: Callable[[Callable[[str], BinaryIO]], Read]) -> Read:
    """What `read` makes of the files of one folder, all of one generation, whoever replaces it meanwhile.

    `read` is given a function that opens a file of the folder by its name. It is called again when the folder was
    replaced, and the old one taken away, before every file was open. Raises what `read` raises, and OSError.
    """
    while True:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return read(lambda name: os.fdopen(os.open(name, os.O_RDONLY, dir_fd=folder), "rb"))  # noqa: B023
        except FileNotFoundError:
            if not _replaced(path, folder):
                raise
        finally:
            os.close(folder)


def _replaced(path: str | os.PathLike[str], folder: int) -> bool:
    with suppress(FileNotFoundError):
        return not os.path.samestat(os.stat(path), os.fstat(folder))  # noqa: PTH116
    return False


def append_synced(handle: int, content: bytes) -> None:
    """Append to an open file, all of it and on disk when this returns; whatever is raised, none of it is there then."""
    end = os.fstat(handle).st_size
    left = memoryview(content)
    try:
        while left:
            left = left[os.write(handle, left) :]
        os.fsync(handle)
    except BaseException:  # a full disk, or Ctrl-C
        with suppress(OSError):
            os.ftruncate(handle, end)
        raise


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """A new name is found again after a power cut only when its folder was synced as well."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NOT_FOR_FOLDERS:
            raise
    finally:
        os.close(handle)
