"""A stream of batches that does not end, and that can be found again at the place where it was left."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from sparsevec.errors import CheckpointMismatch, InvalidInput
from sparsevec.training.randomness import Randomness

__all__ = ["Batches"]

Batch = TypeVar("Batch")
_END = object()


class Batches(Generic[Batch]):
    """Iterates `batches` again whenever it ends.

    Each epoch draws from random numbers made of `seed`, `place` (of this process among several) and the epoch alone:
    from the global generators, from the `generator` of a DataLoader or its sampler, or through `set_epoch`. So a stream
    is found again by going through its last epoch only. What it keeps of itself beyond an epoch cannot be found again,
    such as workers that outlive it (persistent_workers): `load_state_dict` compares the last batch and raises
    CheckpointMismatch when it is another one.
    """

    def __init__(self, batches: Iterable[Batch], seed: int, place: int) -> None:
        self._batches, self._seed, self._place = batches, seed, place
        self._epoch, self._taken = -1, 0
        self._last: Any = None
        self._random = Randomness(seed)
        self._iterator: Iterator[Batch] = iter(())

    @property
    def epoch(self) -> int:
        """Counted from 0."""
        return max(0, self._epoch)

    def __next__(self) -> Batch:
        """Raises InvalidInput when there is none."""
        if not self._advance():
            self._begin(self._epoch + 1)
            if not self._advance():
                raise InvalidInput(
                    "the batches ended after one pass and cannot be gone through again; give a list, a DataLoader or "
                    "another iterable that starts anew, or a generator that lasts for all steps"
                    if self._epoch
                    else "no batch came: give an iterable of at least one batch"
                )
        batch: Batch = self._last
        return batch

    def _begin(self, epoch: int) -> None:
        self._epoch, self._taken = epoch, 0
        self._random = Randomness(self._seed, self._place, epoch)
        sources = self._batches, getattr(self._batches, "sampler", None), getattr(self._batches, "batch_sampler", None)
        with self._random:
            for source in sources:
                if callable(set_epoch := getattr(source, "set_epoch", None)):
                    set_epoch(epoch)
                if isinstance(generator := getattr(source, "generator", None), torch.Generator):
                    generator.manual_seed(int(torch.randint(2**62, ())))
            self._iterator = iter(self._batches)

    def _advance(self) -> bool:
        """Whether there was another batch in this epoch; then it is the last."""
        with self._random:
            batch = next(self._iterator, _END)
        if batch is not _END:
            self._taken, self._last = self._taken + 1, batch
        return batch is not _END

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "taken": self._taken, "last": _fingerprint(self._last)}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        self._begin(state["epoch"])
        for _ in range(state["taken"]):
            self._advance()
        if (self._taken, _fingerprint(self._last)) != (state["taken"], state["last"]):
            raise CheckpointMismatch(
                f"batch {state['taken']} of epoch {state['epoch'] + 1} is not the one that the checkpoint saw: the "
                "data have changed, or are drawn from random numbers of their own; give the same data, drawn from the "
                "global generators, from the DataLoader's `generator` or by `set_epoch`, without persistent_workers"
            )


def _fingerprint(batch: Any) -> int:
    """A checksum of the tensors, arrays, numbers and texts inside; other things count by their type alone."""
    if isinstance(batch, Tensor) and batch.layout == torch.strided:
        return zlib.crc32(batch.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    if isinstance(batch, np.ndarray) and batch.dtype != object:
        return zlib.crc32(np.ascontiguousarray(batch).data)
    if isinstance(batch, str | bytes | int | float | None):
        return zlib.crc32(repr(batch).encode())
    parts = [*batch.keys(), *batch.values()] if isinstance(batch, Mapping) else batch
    inside = [_fingerprint(part) for part in parts] if isinstance(parts, Sequence) else []
    return zlib.crc32(repr((type(batch).__name__, inside)).encode())
