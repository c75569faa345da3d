"""wordllama: static token embeddings of 256 columns in a package of 19 MB; no torch, nothing fetched. Extra `text`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sparsevec.errors import InvalidInput
from sparsevec.integrations.guest import guest

__all__ = ["embedder"]


def embedder(model: str = "") -> Any:
    """Texts to rows of length 1 (n, 256). Raises ClientMissing; InvalidInput for a model: there is one."""
    if model:
        raise InvalidInput(f"wordllama brings one model; write --embedder wordllama, found wordllama:{model:.40}")
    with guest("wordllama", "text"):
        import wordllama
    inside = Path(wordllama.__file__).parent  # where the package keeps the weights; elsewhere it would download them
    loaded = wordllama.WordLlama.load(cache_dir=inside, disable_download=True)
    return lambda texts: loaded.embed(texts, norm=True)
