"""The folder that `SparseVectors.save` writes: three .npy files and a header, complete or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from sparsevec.arrays import frozen
from sparsevec.errors import InvalidInput, InvalidVectors, printable
from sparsevec.storage import as_path, read_folder, whole_folder, write_array

__all__ = ["PARTS", "read_arrays", "write_arrays"]

PARTS = ("indptr", "indices", "values")

_FORMAT = "sparsevec.vectors/1"
_HEADER = "header.json"


def write_arrays(
    path: str | os.PathLike[str], arrays: Mapping[str, npt.NDArray[Any]], header: Mapping[str, Any]
) -> None:
    """`arrays` are the PARTS. Raises StorageFailed, and InvalidInput for a folder that holds anything else."""
    folder = as_path(path)
    if fault := _not_ours(folder):
        raise InvalidInput(f"{printable(folder)} {fault}; choose an empty or a new folder")

    def fill(new: Path) -> None:
        for name, array in arrays.items():
            write_array(new / f"{name}.npy", array)
        (new / _HEADER).write_text(json.dumps({"format": _FORMAT, **header}))

    whole_folder(folder, fill)


def read_arrays(path: str | os.PathLike[str], mmap: bool) -> tuple[dict[str, Any], list[npt.NDArray[Any]]]:
    """The header and the PARTS, all of one `write_arrays`. Raises InvalidVectors."""
    found, folder = as_path(path), printable(path)
    try:
        header, parts = read_folder(found, lambda open_file: _opened(open_file, mmap))
    except Exception as error:  # NumPy parses a header as Python: TokenError, SyntaxError and more, by the byte
        raise InvalidVectors(
            f"{folder} is not a whole folder written by SparseVectors.save: {_found(found, error)}"
        ) from error
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise InvalidVectors(f"{folder} does not say {_FORMAT!r}; it was not written by SparseVectors.save")
    return header, parts


def _not_ours(folder: Path) -> str | None:
    """Why what is there must not be replaced, or None."""
    if not folder.exists():
        return None
    if not folder.is_dir():
        return "is a file"
    names = {path.name for path in folder.iterdir()}
    if others := sorted(names - {_HEADER, *(f"{part}.npy" for part in PARTS)}):
        return f"holds {printable(', '.join(others), 80)}, which SparseVectors.save did not write"
    return "holds vectors without the header that SparseVectors.save writes" if names and _HEADER not in names else None


def _found(path: Path, error: Exception) -> str:
    """What is there instead."""
    try:
        names = sorted(each.name for each in path.iterdir())
    except FileNotFoundError:
        return "it is not there"
    except NotADirectoryError:
        return (
            "it is a file; dense vectors are encoded by a model first: SparseEncoder.encode_document, on the command "
            "line --model or `sparsevec encode`"
        )
    except OSError as unreadable:
        return str(unreadable)
    if _HEADER in names:
        return str(error)
    return f"it holds {printable(', '.join(names), 80)}" if names else "it is empty"


def _opened(open_file: Any, mmap: bool) -> tuple[Any, list[npt.NDArray[Any]]]:
    with open_file(_HEADER) as file:
        header = json.loads(file.read())
    parts = []
    for part in PARTS:
        with open_file(f"{part}.npy") as file:
            parts.append(_mapped(file) if mmap else frozen(np.lib.format.read_array(file, allow_pickle=False)))
    return header, parts


def _mapped(file: BinaryIO) -> npt.NDArray[Any]:
    """The array of an open .npy file, left on disk; the file may lose its name."""
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(file)
    if dtype.hasobject or len(shape) != 1:
        raise ValueError(f"found {dtype} of shape {shape}")
    return np.memmap(file, dtype, "r", file.tell(), shape) if shape[0] else frozen(np.empty(0, dtype))
