"""Random numbers that nobody else draws from: swapped in for a block, swapped out after it."""

from __future__ import annotations

import os
import random
import threading
from types import TracebackType
from typing import Any, Final

import numpy as np
import torch

__all__ = ["Randomness"]

_ALONE: Final = threading.RLock()
os.register_at_fork(after_in_child=_ALONE._at_fork_reinit)  # type: ignore[attr-defined]  # who held it is not there


class Randomness:
    """A state of its own for the global generators of torch (CPU and the current GPU), NumPy and Python.

        with randomness:
            ...                     # whoever draws here continues this state, and leaves the one outside alone

    All threads share the global generators, so one is in such a block at a time, and others wait.

    numbers: what the state is made from, whole numbers of at least 0; other numbers, other random numbers.
    """

    def __init__(self, *numbers: int) -> None:
        seeds = np.random.SeedSequence(numbers).generate_state(4, np.uint64).tolist()
        with _ALONE:
            outside = _read()
            torch.default_generator.manual_seed(seeds[0])
            if _on_gpu():
                torch.cuda.manual_seed(seeds[1])
            np.random.seed(seeds[2] % 2**32)
            random.seed(seeds[3])
            self._inside, self._outside = _read(), outside
            _write(outside)

    def __enter__(self) -> None:
        _ALONE.acquire()
        self._outside = _read()
        _write(self._inside)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._inside = _read()
        _write(self._outside)
        _ALONE.release()

    def state_dict(self) -> dict[str, Any]:
        """Tensors and numbers only."""
        state = dict(self._inside)
        name, keys, *rest = state["numpy"]
        return state | {"numpy": (name, torch.from_numpy(keys.astype(np.int64)), *rest)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        name, keys, *rest = state["numpy"]
        self._inside = state | {"numpy": (name, keys.numpy().astype(np.uint32), *rest)}


def _on_gpu() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def _read() -> dict[str, Any]:
    state = {"torch": torch.get_rng_state(), "numpy": np.random.get_state(), "python": random.getstate()}
    return state | {"cuda": torch.cuda.get_rng_state()} if _on_gpu() else state


def _write(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    if "cuda" in state and _on_gpu():
        torch.cuda.set_rng_state(state["cuda"])
    np.random.set_state(state["numpy"])
    random.setstate(state["python"])
