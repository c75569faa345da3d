"""What `import sparsevec` brings, and what it leaves alone."""

from __future__ import annotations

import subprocess
import sys

import pytest

import sparsevec

HEAVY = (
    "torch",
    "numba",
    "qdrant_client",
    "qdrant_edge",
    "elasticsearch",
    "opensearchpy",
    "typer",
    "rich",
    "matplotlib",
)


def test_importing_it_loads_neither_torch_nor_a_client_library() -> None:
    loaded = f"import sparsevec, sys; print([name for name in {HEAVY!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("name", sparsevec.__all__)
def test_every_public_name_is_there_and_is_no_module(name: str) -> None:
    assert not hasattr(getattr(sparsevec, name), "__path__")
    assert getattr(sparsevec, name).__doc__


def test_the_adapters_folder_says_how_to_install_it_when_it_is_imported_under_its_own_name() -> None:
    found = subprocess.run([sys.executable, "-c", "import adapters"], capture_output=True, text=True, check=False)
    assert "install it with: pip install" in found.stderr
