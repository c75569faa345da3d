"""What README and the pages load."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def brought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with three files of vectors, and the place where a snippet runs."""
    centres = np.random.default_rng(0).normal(size=(20, 16))
    for name, n in {"documents": 600, "queries": 100}.items():
        rng = np.random.default_rng(n)
        np.save(tmp_path / name, (centres[rng.integers(20, size=n)] + rng.normal(size=(n, 16))).astype(np.float32))
    turn = np.random.default_rng(1).normal(size=(16, 12))  # what another model makes of the same texts
    np.save(tmp_path / "documents-by-the-other", np.tanh(np.load(tmp_path / "documents.npy") @ turn / 8))
    monkeypatch.chdir(tmp_path)
    return tmp_path
