"""A model on disk: `model.safetensors`, `config.json` and `README.md`, a whole folder or none."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from sparsevec.encoder import newcomers
from sparsevec.encoder.config import FORMAT, Config
from sparsevec.encoder.residual import name_of, shapes
from sparsevec.errors import InvalidInput, ModelBroken, printable
from sparsevec.measure.cost import POSTING_BYTES
from sparsevec.similarity import COLUMNS
from sparsevec.storage import check_writable, read_folder, storage_errors, whole_folder
from sparsevec.vectors import Float32s

__all__ = ["check_place", "fingerprint", "read", "write"]

_CONFIG, _TENSORS, _CARD = "config.json", "model.safetensors", "README.md"
_OF_IT = {"documents": "header.json", "refined": "keys.npy"}
"""Folders of codes that a model made and of which another has no use, by a file in each."""


def fingerprint(tensors: Mapping[str, Float32s]) -> str:
    """The name of the space that documents are encoded into: the same for whatever query tower asks in it."""
    digest = hashlib.sha256()
    for name in ("mean", "weights", "bias"):
        digest.update(np.ascontiguousarray(tensors[name], "<f4").tobytes())
    return digest.hexdigest()[:16]


def check_place(folder: Path) -> None:
    """Raises InvalidInput when what is at `folder` must not be replaced by a model, StorageFailed when it cannot be."""
    with storage_errors(folder):
        names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        whole = not folder.exists() or (folder.is_dir() and (not names or (folder / _CONFIG).is_file()))
        beside = next(path for path in folder.absolute().parents if path.exists())
        if beside.is_dir():
            check_writable(beside, folder)  # where it would be written first
    if not whole:
        raise InvalidInput(f"{folder} holds something that is not a model of ours; choose an empty or a new folder")
    of_it = {name for name, file in _OF_IT.items() if (folder / name / file).is_file()}
    if others := sorted(names - {_CONFIG, _TENSORS, _CARD} - of_it):
        raise InvalidInput(
            f"{folder} holds {printable(', '.join(others), 80)} beside a model, which saving there would remove; "
            "choose an empty or a new folder, or move that away"
        )


def write(folder: Path, config: Config, tensors: dict[str, Float32s], card: str) -> None:
    """Write beside `folder`, then take its place. Raises what `check_place` raises."""
    check_place(folder)
    packed = save_tensors({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()})
    config = config.model_copy(update={"tensors_sha256": hashlib.sha256(packed).hexdigest()})
    config = config.model_copy(update={"config_sha256": _checksum(json.loads(config.model_dump_json()))})
    contents = {_TENSORS: packed, _CARD: card.encode(), _CONFIG: config.model_dump_json(indent=2).encode() + b"\n"}

    def fill(new: Path) -> None:
        for name, content in contents.items():
            (new / name).write_bytes(content)

    whole_folder(folder, fill)


def _checksum(raw: dict[str, Any]) -> str:
    """Of what `config.json` says besides: cuts and purses make codes as much as tensors do."""
    said = {name: value for name, value in raw.items() if name != "config_sha256"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def read(folder: Path) -> tuple[Config, dict[str, Float32s]]:
    """What `write` wrote, all of one `write`; raises ModelBroken, saying what is missing or wrong."""
    again = "it is not a whole model folder; save it again with SparseEncoder.save"
    try:
        said, packed = read_folder(folder, _contents)
        raw = json.loads(said)
    except OSError as error:
        raise ModelBroken(
            f"{folder}: {error.strerror or error} ({Path(error.filename or '').name}); {again}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ModelBroken(f"{folder}/{_CONFIG} is not JSON: {error}; {again}") from error
    if (newer := _newer(raw)) is not None:
        raise ModelBroken(
            f"{folder}/{_CONFIG} is of format {newer}, and this version of sparsevec reads up to {FORMAT}; install a "
            "newer version"
        )
    try:
        config = Config.model_validate_json(json.dumps(_upgraded(raw)))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ModelBroken(f"{folder}/{_CONFIG}: {where}: {first['msg']}; {again}") from error
    if config.config_sha256 not in ("", _checksum(raw)):  # models of before have none
        raise ModelBroken(f"{folder}/{_CONFIG} was changed since it was saved: its SHA-256 is another; {again}")
    if (found := hashlib.sha256(packed).hexdigest()) != config.tensors_sha256:
        raise ModelBroken(
            f"{folder}/{_TENSORS} ({len(packed)} bytes) has SHA-256 {found[:12]}…, "
            f"{_CONFIG} says {config.tensors_sha256[:12]}…: it was cut short or belongs to another model; {again}"
        )
    try:
        tensors = load_tensors(packed)
    except (SafetensorError, ValueError) as error:
        raise ModelBroken(f"{folder}/{_TENSORS}: {error}; {again}") from error
    if fault := _fault(config, tensors):
        raise ModelBroken(f"{folder}/{_TENSORS}: {fault}; {again}")
    if not config.fingerprint:
        config = config.model_copy(update={"fingerprint": fingerprint(tensors)})
    return config, tensors


def _contents(open_file: Callable[[str], BinaryIO]) -> tuple[bytes, bytes]:
    with open_file(_CONFIG) as config, open_file(_TENSORS) as tensors:
        return config.read(), tensors.read()


def _newer(raw: Any) -> str | None:
    """The format of a `config.json` that a later version wrote, which may be whole."""
    name = raw.get("format") if isinstance(raw, dict) else None
    found = re.fullmatch(r"sparsevec\.model/([1-9][0-9]{0,8})", str(name))
    return found[0] if found is not None and int(found[1]) > int(FORMAT.rpartition("/")[2]) else None


def _upgraded(raw: Any) -> Any:
    """The `config.json` of format 1 with what format 2 says besides; any other is left as it is."""
    if not isinstance(raw, dict) or raw.get("format") != "sparsevec.model/1":
        return raw
    try:
        figures = dict(raw["figures"])
        figures["asked"] = "sample" if figures.pop("query_sample") else "documents"
        figures["sparsity_ratio"] = 1 - figures["active_dims"] / raw["output_dim"]
        figures["bytes"] = round(figures["active_dims"] * POSTING_BYTES)
        figures["dense_bytes"] = 4 * raw["input_dim"]
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return raw
    if raw.get("stage") == "head":
        figures["head_recall_10"] = figures.get("recall_10")
    return raw | {"format": FORMAT, "figures": figures}


def _fault(config: Config, tensors: dict[str, Float32s]) -> str | None:
    """Why these are not the tensors that `config` says, by name, shape, type and value."""
    columns = config.input_dim + COLUMNS[config.similarity]
    matrix, vector = (config.output_dim, columns), (config.output_dim,)
    expected = {"mean": (columns,), "weights": matrix, "bias": vector}
    expected |= {"query_weights": matrix, "query_bias": vector}
    if config.similarity != "cosine":
        expected |= {"similarity": (config.input_dim + 2,)}
    if config.queries.spend is not None:
        expected |= {"prices": vector}
    if config.second_look is not None:
        expected |= {"second_look": matrix}
    if config.residual is not None:
        expected |= shapes(config.output_dim, columns, config.residual.groups)
    if config.adopted is not None:
        theirs = config.adopted.columns
        expected |= {"adopted_weights": (columns, theirs), "adopted_bias": (columns,), "adopted_mean": (theirs,)}
    if (later := config.newcomers) is not None:
        expected |= newcomers.shapes(later.asking, columns, later.weights)
    found = {name: tensor.shape for name, tensor in tensors.items()}
    if found != expected:
        return f"holds {found}, these sizes need {expected}"
    numbers = {name: tensor for name, tensor in tensors.items() if name not in newcomers.WHOLE}
    if odd := [name for name in newcomers.WHOLE if name in tensors and tensors[name].dtype != np.int32]:
        return f"{', '.join(odd)} must be int32"
    bad = [name for name, tensor in numbers.items() if tensor.dtype != np.float32 or not np.isfinite(tensor).all()]
    if bad:
        return f"{', '.join(bad)} must be finite float32"
    if config.residual is not None and name_of(tensors, tensors["mean"]) != config.residual.name:
        return f"its residual codes are not those of {config.residual.name}"
    return None
