"""`SparseTower`: a backbone of yours with a sparse head on top; what it gives can be indexed and searched."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from sparsevec.errors import InvalidInput, ModelBroken
from sparsevec.storage import as_path, whole_file
from sparsevec.training.activations import Activation, relu, unit
from sparsevec.training.settings import check_real, check_whole
from sparsevec.vectors import SparseVectors

__all__ = ["SparseTower"]


class SparseTower(nn.Module):
    """backbone -> (b, width) -> linear -> activation -> unit length: inputs -> (b, dimension).

    normalize: give rows of length 1, as the regularisers expect them; a row of zeros stays one. The activation and the
    length are computed in float32 at least, also under autocast.
    """

    def __init__(
        self,
        backbone: nn.Module,
        width: int,
        dimension: int,
        *,
        activation: Activation = relu,
        normalize: bool = True,
    ) -> None:
        super().__init__()
        for name, number in (("width", width), ("dimension", dimension)):
            check_whole(f"{name} must be a whole number of at least 1", number, 1)
        if not callable(backbone) or not callable(activation):
            raise InvalidInput(
                f"expected a backbone and an activation that can be called, found {backbone!r:.80} and "
                f"{activation!r:.80}; give an nn.Module, and relu or another function of a row"
            )
        self.backbone, self.head = backbone, nn.Linear(width, dimension)
        self.activation, self.normalize = activation, normalize

    def forward(self, inputs: Any) -> Tensor:
        """(b, dimension); raises InvalidInput when the backbone gives anything but (b, width)."""
        features = self.backbone(inputs)
        if not isinstance(features, Tensor) or features.ndim != 2 or features.shape[1] != self.head.in_features:
            found = f"shape {tuple(features.shape)}" if isinstance(features, Tensor) else type(features).__name__
            raise InvalidInput(
                f"the backbone must give (b, {self.head.in_features}), as width={self.head.in_features} says, "
                f"found {found}; set width to what it gives, or wrap it so that it gives one row an input"
            )
        raw: Tensor = self.head(features)
        with torch.autocast(raw.device.type, enabled=False):
            codes = self.activation(raw.to(torch.promote_types(raw.dtype, torch.float32)))
            return unit(codes) if self.normalize else codes

    def encode(self, batches: Iterable[Any], *, threshold: float = 0.0) -> SparseVectors:
        """The inputs of all `batches`, encoded in eval mode; weights of a magnitude up to `threshold` are left out.

        Queries and documents may be cut differently: call it with another threshold for each. Tensors are moved to the
        device of the head. Raises InvalidVectors when a weight is not finite.
        """
        check_real("threshold must be a magnitude of at least 0", threshold, lambda real: real >= 0)
        device, rows = self.head.weight.device, [SparseVectors.from_dense(np.empty((0, self.head.out_features)))]
        with _evaluating(self), torch.inference_mode():
            for batch in batches:
                codes = self(batch.to(device) if isinstance(batch, Tensor) else batch)
                rows.append(SparseVectors.from_torch(codes.masked_fill(codes.abs() <= threshold, 0)))
        return SparseVectors.concat(rows)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the weights as safetensors, a whole file or none, with what makes codes of them: activation and length.

        Raises StorageFailed.
        """
        tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in self.state_dict().items()}
        checksum = {"sha256": _checksum(tensors)}
        whole_file(path, safetensors.torch.save(tensors, metadata=self._settings() | checksum))

    def _settings(self) -> dict[str, str]:
        return {"activation": _described(self.activation), "normalize": str(self.normalize)}

    def load(self, path: str | os.PathLike[str]) -> None:
        """Put back the weights that a tower of the same make has saved.

        Raises ModelBroken, and changes nothing, when the file is not whole or holds those of another tower: other
        shapes, another activation, or another `normalize`.
        """
        try:
            content = as_path(path).read_bytes()
            found = safetensors.torch.load(content)
        except OSError as error:
            raise ModelBroken(
                f"{path} cannot be read: {error.strerror}; name what SparseTower.save has written"
            ) from error
        except safetensors.SafetensorError as error:
            raise ModelBroken(f"{path} is not a whole file of weights: {error}; save the tower again") from error
        saved, settings = _metadata(content), self._settings()
        if saved.get("sha256", checksum := _checksum(found)) != checksum:
            raise ModelBroken(f"{path} was changed since it was saved: its SHA-256 is another; save the tower again")
        here, there = ({name: tuple(t.shape) for name, t in tensors.items()} for tensors in (self.state_dict(), found))
        if wrong := [name for name in {**here, **there} if here.get(name) != there.get(name)]:
            raise ModelBroken(
                f"{path} holds {wrong[0]} as {there.get(wrong[0])}, this tower has {here.get(wrong[0])}; "
                "make the tower with the backbone, width and dimension that were saved"
            )
        if wrong := [name for name in settings if saved.get(name, settings[name]) != settings[name]]:
            raise ModelBroken(
                f"{path} was saved by a tower with {wrong[0]}={saved[wrong[0]]}, this one has "
                f"{wrong[0]}={settings[wrong[0]]}, and would give other codes; make the tower as the saved one was"
            )
        self.load_state_dict(found)


def _described(activation: object) -> str:
    """The same for the same computation: a function's name, a partial's arguments, a module's kind and settings."""
    if isinstance(activation, partial):
        arguments = [repr(argument) for argument in activation.args]
        arguments += [f"{name}={value!r}" for name, value in sorted(activation.keywords.items())]
        return f"{_described(activation.func)}({', '.join(arguments)})"
    if isinstance(activation, nn.Module):
        plain = {name: value for name, value in vars(activation).items() if isinstance(value, int | float | str)}
        settings = ", ".join(f"{name}={value!r}" for name, value in sorted(plain.items()) if name != "training")
        return f"{type(activation).__qualname__}({settings})"
    return str(getattr(activation, "__qualname__", type(activation).__qualname__))


def _metadata(content: bytes) -> dict[str, str]:
    """Of a whole safetensors file: 8 bytes that say how long the header is, then the header as JSON."""
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return dict(header.get("__metadata__") or {})


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    """Of names and numbers."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode inside; afterwards each part has the mode it had, also one that was frozen alone."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
