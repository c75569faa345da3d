"""A training on disk: one file, a whole one or none, that continues the same training and no other.

    sparsevec.checkpoint/1 SHA-256-of-what-follows
    torch.save of {configuration, step, shared, own}

`shared` are the states that all processes have in common, `own` a list with those of each process. It is read with
weights_only, so that a file from elsewhere can run nothing.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from sparsevec.errors import CheckpointMismatch, InvalidInput, ModelBroken, StorageFailed
from sparsevec.storage import as_path, storage_errors, whole_file
from sparsevec.training import together

__all__ = ["Checkpoint", "Stateful"]

_MAGIC = b"sparsevec.checkpoint/1 "
_HEADER = len(_MAGIC) + 64 + 1


class Stateful(Protocol):
    """Anything whose state can be taken and put back."""

    def state_dict(self) -> Any: ...

    def load_state_dict(self, state: Any, /) -> Any: ...


class Checkpoint:
    """The file at `path`, written `every` so many steps, for a training that `configuration` describes by its settings.

    Without a path nothing is kept. shared: parts whose state is the same in all processes; None stands for a part that
    this training does not have. own: parts whose states differ. Raises InvalidInput.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        every: int,
        configuration: Mapping[str, str],
        shared: Mapping[str, Stateful | None],
        own: Mapping[str, Stateful],
    ) -> None:
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise InvalidInput(f"a checkpoint is written every 1 or more steps, found every={every!r}")
        self._path, self._every = None if path is None else as_path(path, "checkpoint"), every
        self._configuration, self._own = dict(configuration), own
        self._unread = True  # until one is written after a step: by then the optimizer has all of its state
        self._shared = {name: part for name, part in shared.items() if part is not None}

    def resume(self) -> int:
        """Put all parts back and return how many steps they have made; 0 when there is no file, and one is written.

        Raises ModelBroken for what is not a whole checkpoint, CheckpointMismatch for that of another training,
        StorageFailed when it cannot be read or written, InvalidInput for a state that it could not hold.
        """
        if (path := self._path) is None:
            return 0
        packed = together.by_first(lambda: _read(path))
        if packed is None:
            self._save(path, 0)  # before any work is done, find what cannot be written
            return 0
        found = _unpacked(path, packed)
        if fault := _difference(self._configuration, found["configuration"]):
            raise CheckpointMismatch(
                f"{path} is of another training: {fault}; train as then, or give another file for this one"
            )
        for name, part in self._shared.items():
            part.load_state_dict(found["shared"][name])
        for name, part in self._own.items():
            part.load_state_dict(found["own"][together.place()][name])
        step: int = found["step"]
        return step

    def save_when_due(self, step: int, last: int) -> None:
        """Write the file anew after every so many steps and the last. Raises StorageFailed, and leaves the old one."""
        if self._path is not None and (step % self._every == 0 or step == last):
            self._save(self._path, step)

    def _save(self, path: Path, step: int) -> None:
        content = {
            "configuration": self._configuration,
            "step": step,
            "shared": {name: part.state_dict() for name, part in self._shared.items()},
            "own": together.each({name: part.state_dict() for name, part in self._own.items()}),
        }
        unread, self._unread = self._unread, self._unread and step == 0
        together.by_first(lambda: _write(path, content, unread))


def _write(path: Path, content: dict[str, Any], unread: bool) -> None:
    """unread: whether such content was never read back. Raises InvalidInput for what could not be."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    packed = buffer.getbuffer()  # no copy: of a large corpus it is as much as a tenth of all memory
    if unread:
        _check_readable(packed)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    whole_file(path, _MAGIC + hashlib.sha256(packed).hexdigest().encode() + b"\n", packed)


def _check_readable(packed: memoryview) -> None:
    try:
        _loaded(packed)
    except pickle.UnpicklingError as error:
        raise InvalidInput(
            "a checkpoint keeps tensors, numbers and texts; the state of the optimizer, the scheduler or a schedule "
            f"holds something else: {_short(error)}"
        ) from error


def _loaded(packed: bytes | memoryview) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(io.BytesIO(packed), map_location="cpu", weights_only=True)
    return loaded


def _short(error: Exception) -> str:
    """torch's answer without its advice to trust the file."""
    named = re.search(r"GLOBAL (\S+)", str(error))
    return named[1] if named else str(error).splitlines()[0]


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageFailed(f"could not read {path}: {error}; name a file that can be read and written") from error


def _unpacked(path: Path, content: bytes) -> dict[str, Any]:
    header, packed = content[:_HEADER], content[_HEADER:]
    again = "restore it from a copy, or remove it to train from the start"
    if not header.startswith(_MAGIC):
        raise ModelBroken(f"{path} ({len(content)} bytes) does not begin as a checkpoint of ours does; {again}")
    if header[len(_MAGIC) :] != hashlib.sha256(packed).hexdigest().encode() + b"\n":
        raise ModelBroken(f"{path} ({len(content)} bytes) was cut short or changed: its SHA-256 is another; {again}")
    try:
        return _loaded(packed)
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise ModelBroken(f"{path} holds what cannot be read back: {_short(error)}; {again}") from error


def _difference(here: Mapping[str, str], there: Mapping[str, str]) -> str | None:
    """What is set otherwise, up to three of it."""
    names = [name for name in {**here, **there} if here.get(name) != there.get(name)]
    said = [f"{name} is {here.get(name, 'not there')}, in the file {there.get(name, 'not there')}" for name in names]
    return "; ".join(said[:3]) + (f"; and {len(said) - 3} more" if len(said) > 3 else "") if said else None
