"""`Lines`: an append-only file of lines, held by one process, readable by its owner only."""

from __future__ import annotations

import fcntl  # POSIX only, like the promise that a lock ends with its process
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from weakref import WeakSet

from sparsevec.errors import JournalMismatch, StorageFailed, printable
from sparsevec.storage import append_synced, storage_errors, sync_folder

__all__ = ["Lines"]


class Lines:
    """The file at `path`, made when it is missing; a line is whole and on disk, or not there.

    Raises JournalMismatch when another run holds it, or it is no file; StorageFailed.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._shown = path, printable(path)
        with storage_errors(path, "opened"):
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            _held.add(self)
            try:
                self._hold()
                sync_folder(path.parent)
            except BaseException:
                self.close()
                raise

    def _hold(self) -> None:
        about = os.fstat(self._file)
        if not stat.S_ISREG(about.st_mode):
            raise JournalMismatch(f"{self._shown} is not a regular file; name another")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise JournalMismatch(f"another run holds {self._shown}; wait for it, or name another file") from error
        if not about.st_size:
            os.fchmod(self._file, 0o600)  # payloads stand in it

    def read(self) -> bytes:
        with storage_errors(self.path, "read"):
            return self.path.read_bytes()

    def append(self, lines: Iterable[str]) -> None:
        """On disk when this returns. Raises StorageFailed, and then none of them is there."""
        try:
            append_synced(self._file, "".join(line + "\n" for line in lines).encode())
        except OSError as error:
            raise StorageFailed(
                f"{self._shown} could not be appended to: {error.strerror or error}; what it held before is still "
                "there, make room and go on"
            ) from error

    def cut(self, end: int) -> None:
        """Forget what follows the first `end` bytes."""
        with storage_errors(self.path):
            os.ftruncate(self._file, end)

    def close(self) -> None:
        if self._file >= 0:
            _held.discard(self)
            os.close(self._file)
            self._file = -1


_held: WeakSet[Lines] = WeakSet()


def _let_go() -> None:
    """A forked child shares its parent's files, and would hold them when the parent has let go."""
    for lines in list(_held):
        lines.close()


os.register_at_fork(after_in_child=_let_go)
