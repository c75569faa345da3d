"""The borders of the house hold: an import that is not on the list of pyproject.toml fails `lint-imports`."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
LINT = "from importlinter.cli import lint_imports_command; lint_imports_command(['--no-cache'])"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The code, as import-linter sees it, to be spoilt."""
    if not (REPOSITORY / "adapters").exists():
        pytest.skip("this is not a checkout")
    leave = shutil.ignore_patterns("__pycache__", "data", "*.json*")
    shutil.copytree(REPOSITORY / "sparsevec", tmp_path / "sparsevec", ignore=leave)
    shutil.copytree(REPOSITORY / "adapters", tmp_path / "sparsevec_adapters", ignore=leave)
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    return tmp_path


def lint(folder: Path) -> str:
    """What it prints, on one line: it wraps where it likes."""
    run = subprocess.run([sys.executable, "-c", LINT], cwd=folder, capture_output=True, text=True, check=False)
    return " ".join((run.stdout + run.stderr).split())


@pytest.mark.parametrize(
    ("file", "stray"),
    [
        ("sparsevec_adapters/qdrant.py", "sparsevec.training.losses"),
        ("sparsevec_adapters/qdrant.py", "sparsevec.storage"),
        ("sparsevec_adapters/opensearch.py", "sparsevec_adapters.qdrant_core"),
        ("sparsevec_adapters/opensearch.py", "sparsevec_adapters.elasticsearch"),
        ("sparsevec/contract/adapter.py", "sparsevec.exact.reference"),
        ("sparsevec/measure/cost.py", "sparsevec.testing.engines"),
        ("sparsevec/ingestion/ingest.py", "sparsevec.exact.verify"),
        ("sparsevec/exact/verify.py", "sparsevec_adapters.qdrant"),
        ("sparsevec/encoder/model.py", "torch"),
        ("sparsevec/ingestion/ingest.py", "qdrant_client"),
    ],
)
def test_a_stray_import_is_found(copy: Path, file: str, stray: str) -> None:
    spoilt, arrow = copy / file, f"{file.removesuffix('.py').replace('/', '.')} -> {stray}"
    assert arrow not in lint(copy)
    spoilt.write_text(spoilt.read_text() + f"\nimport {stray}\n")
    assert arrow in lint(copy)


def test_a_wing_that_stands_in_no_layer_is_found(copy: Path) -> None:
    (copy / "sparsevec" / "extension").mkdir()
    (copy / "sparsevec" / "extension" / "__init__.py").touch()
    assert "sparsevec.extension" in lint(copy)
