"""A model on disk: `model.safetensors`, `config.json` and `README.md`, a whole folder or none."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from sparsevec.encoder.head import Cut
from sparsevec.errors import InvalidInput, ModelBroken, StorageFailed
from sparsevec.vectors import Float32s

__all__ = ["Config", "CutConfig", "Figures", "read", "write"]

FORMAT: Literal["sparsevec.model/1"] = "sparsevec.model/1"
_CONFIG, _TENSORS, _CARD = "config.json", "model.safetensors", "README.md"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CutConfig(_Strict):
    """`head.Cut`, as JSON."""

    cap: int = Field(ge=1)
    threshold: float = Field(ge=0, le=1)
    sixteenths: int = Field(ge=1, le=16)

    @classmethod
    def of(cls, cut: Cut) -> CutConfig:
        return cls(cap=cut.cap, threshold=cut.threshold, sixteenths=cut.sixteenths)

    def cut(self) -> Cut:
        return Cut(self.cap, self.threshold, self.sixteenths)


class Figures(_Strict):
    """Measured with queries that were not trained on."""

    documents: int
    """searched over"""
    queries: int
    """asked; none was trained on"""
    query_sample: bool
    """False when documents stood in for queries"""
    active_dims: float
    query_active_dims: float
    flops: float
    r_sub: float
    dead_dims: int
    max_document_frequency: float
    recall_10: float
    """overlap of the sparse with the exact dense top 10"""
    recall_10_at_100: float
    """share of the dense top 10 inside the sparse top 100"""
    seconds: float
    """of training"""


class Config(_Strict):
    """`config.json`."""

    format: Literal["sparsevec.model/1"] = FORMAT
    input_dim: int = Field(ge=1)
    output_dim: int = Field(ge=1)
    seed: int
    nnz: int = Field(ge=1)
    flops: float = Field(gt=0)
    stage: Literal["head", "refined"]
    documents: CutConfig
    queries: CutConfig
    figures: Figures
    tensors_sha256: str = ""


def write(folder: Path, config: Config, tensors: dict[str, Float32s], card: str) -> None:
    """Write beside `folder`, then take its place. Raises StorageFailed; InvalidInput when something else is there."""
    if folder.exists() and not (folder / _CONFIG).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidInput(f"{folder} holds something that is not a model of ours; choose an empty or a new folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            _fill(new, config, tensors, card)
            _take_place(new, folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    except OSError as error:
        raise StorageFailed(f"could not write the model to {folder}: {error}; what was there is untouched") from error


def _fill(folder: Path, config: Config, tensors: dict[str, Float32s], card: str) -> None:
    packed = save_tensors({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()})
    config = config.model_copy(update={"tensors_sha256": hashlib.sha256(packed).hexdigest()})
    contents = {_TENSORS: packed, _CARD: card.encode(), _CONFIG: config.model_dump_json(indent=2).encode() + b"\n"}
    for name, content in contents.items():
        with (folder / name).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    folder.chmod(0o755)  # mkdtemp made it private


def _take_place(new: Path, folder: Path) -> None:
    if not folder.exists():
        new.rename(folder)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
    folder.rename(old)  # onto the empty folder just made
    try:
        new.rename(folder)
    except OSError:
        old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def read(folder: Path) -> tuple[Config, dict[str, Float32s]]:
    """What `write` wrote; raises ModelBroken, saying what is missing or wrong."""
    again = "it is not a whole model folder; save it again with SparseEncoder.save"
    try:
        config = Config.model_validate_json((folder / _CONFIG).read_bytes())
        packed = (folder / _TENSORS).read_bytes()
    except OSError as error:
        raise ModelBroken(
            f"{folder}: {error.strerror or error} ({Path(error.filename or '').name}); {again}"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ModelBroken(f"{folder}/{_CONFIG}: {where}: {first['msg']}; {again}") from error
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
    return config, tensors


def _fault(config: Config, tensors: dict[str, Float32s]) -> str | None:
    matrix, vector = (config.output_dim, config.input_dim), (config.output_dim,)
    due = {"mean": (config.input_dim,), "weights": matrix, "bias": vector}
    due |= {"query_weights": matrix, "query_bias": vector}
    found = {name: tensor.shape for name, tensor in tensors.items()}
    if found != due:
        return f"holds {found}, these sizes need {due}"
    bad = [name for name, tensor in tensors.items() if tensor.dtype != np.float32 or not np.isfinite(tensor).all()]
    return f"{', '.join(bad)} must be finite float32" if bad else None
