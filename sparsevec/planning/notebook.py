"""The runs of a frontier on disk: one file, whole or not there, of one collection of rows and no other."""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from sparsevec.errors import CheckpointMismatch, InvalidInput, printable
from sparsevec.planning.trials import Rows, Shape, Trial
from sparsevec.storage import as_path, storage_errors, whole_file

__all__ = ["Notebook", "Settings"]

_FILE, _RUNNING = "trials.json", "running"


class Settings(BaseModel):
    """What all trials of a notebook have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int
    """a checksum"""
    widths: tuple[int, ...]
    refine: bool
    seed: int

    @classmethod
    def of(cls, rows: Rows, widths: tuple[int, ...], refine: bool, seed: int) -> Settings:
        checksum = 0
        for part in (rows.documents, rows.sample, rows.asking):
            checksum = zlib.crc32(b"" if part is None else np.ascontiguousarray(part).data, checksum)
        return cls(rows=checksum, widths=widths, refine=refine, seed=seed)


class _Kept(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: Literal["sparsevec.frontier/1"] = "sparsevec.frontier/1"
    settings: Settings
    trials: tuple[Trial, ...] = ()


class Notebook:
    """The trials that were made, in memory and, where there is a `folder`, on disk; and a place for the one that runs.

    Raises CheckpointMismatch for a folder with trials of other rows or settings, InvalidInput for one with something
    else.
    """

    def __init__(self, settings: Settings, folder: str | os.PathLike[str] | None) -> None:
        self._folder = None if folder is None else as_path(folder, "folder")
        self._kept = _Kept(settings=settings) if self._folder is None else _read(self._folder, settings)

    @property
    def settings(self) -> Settings:
        return self._kept.settings

    @property
    def trials(self) -> tuple[Trial, ...]:
        return self._kept.trials

    @property
    def seconds(self) -> float:
        """That all trials took."""
        return sum(trial.seconds for trial in self.trials)

    def add(self, trials: Sequence[Trial]) -> None:
        """Of one training; on disk when this returns. Raises StorageFailed."""
        self._kept = self._kept.model_copy(update={"trials": (*self.trials, *trials)})
        if self._folder is not None:
            whole_file(self._folder / _FILE, self._kept.model_dump_json(indent=1).encode() + b"\n")
            shutil.rmtree(self._folder / _RUNNING, ignore_errors=True)

    def checkpoint(self, shape: Shape, documents: int) -> Path | None:
        """A folder for the training of the trial that runs, so that a kill costs seconds."""
        if self._folder is None:
            return None
        return self._folder / _RUNNING / f"{shape.dimension}-{shape.nnz}-{documents}"


def _read(folder: Path, settings: Settings) -> _Kept:
    if folder.exists() and not folder.is_dir():
        raise InvalidInput(f"the trials need a folder, found the file {printable(folder)}")
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / _FILE).exists():
            return _Kept(settings=settings)
        content = (folder / _FILE).read_bytes()
    try:
        kept = _Kept.model_validate_json(content)
    except ValidationError as error:
        wrong = error.errors()[0]
        at = "".join(f"{name}: " for name in wrong["loc"])
        raise InvalidInput(
            f"{printable(folder / _FILE)} is not what a frontier writes; {at}{wrong['msg']}; name another folder, or "
            "take that file away"
        ) from error
    if kept.settings != settings:
        theirs, ours = kept.settings.model_dump(), settings.model_dump()
        other = ", ".join(f"{name} {theirs[name]} not {ours[name]}" for name in ours if theirs[name] != ours[name])
        raise CheckpointMismatch(
            f"the trials in {printable(folder)} are of other rows or settings ({other}); name another folder, or ask "
            "with the same"
        )
    return kept
