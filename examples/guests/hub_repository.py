"""Hugging Face: an encoder pushed as a repository, with its figures in the card's metadata, and pulled again.

HF_TOKEN=... python examples/guests/hub_repository.py somebody/products-sparse
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

import sparsevec as sv
from sparsevec.integrations.hub import pull, push


def main(name: str, token: str | None = None, **places: Any) -> bool:
    """`places`: `endpoint`, of another hub."""
    dense = np.random.default_rng(0).normal(size=(200, 32)).astype(np.float32)
    encoder = sv.SparseEncoder(32, 1024).fit(dense, budget=sv.Budget(nnz=16))
    print(push(encoder, name, token=token, **places))
    again = pull(name, token=token, **places)
    return again.encode_document(dense) == encoder.encode_document(dense)


if __name__ == "__main__":
    print("the same codes:", main(*sys.argv[1:]))
