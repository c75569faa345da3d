"""wordllama: static token embeddings of 256 columns in a package of 19 MB; no torch, nothing fetched. Extra `text`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sparsevec.errors import InvalidInput
from sparsevec.integrations.guest import guest

__all__ = ["embedder"]


def embedder(model: str = "") -> Any:
    """Texts to rows of length 1 (n, 256). Raises ClientMissing; InvalidInput for a model: there is one."""
    if model:
        raise InvalidInput(f"wordllama brings one model; write --embedder wordllama, found wordllama:{model!s:.40}")
    with guest("wordllama", "text"), _logging_kept():
        import wordllama
    inside = Path(wordllama.__file__).parent  # where the package keeps the weights; elsewhere it would download them
    loaded = wordllama.WordLlama.load(cache_dir=inside, disable_download=True)
    return lambda texts: loaded.embed(texts, norm=True)


@contextmanager
def _logging_kept() -> Iterator[None]:
    """What the process logs, and where, is not the package's to decide: its import calls logging.basicConfig."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers
