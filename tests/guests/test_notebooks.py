"""The notebooks run as they stand, and show their pictures."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / "examples/notebooks"


@pytest.mark.parametrize(
    ("name", "pictures"), [("your_vectors", 2), ("beside_your_cluster", 1)], ids=lambda part: str(part)
)
def test_a_notebook_runs_to_its_end_and_shows_its_pictures(name: str, pictures: int, tmp_path: Path) -> None:
    book = nbformat.read(FOLDER / f"{name}.ipynb", 4)
    NotebookClient(book, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == pictures
    assert not [output for output in outputs if output["output_type"] == "error"]


def test_there_is_no_notebook_that_is_not_run() -> None:
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == {"your_vectors", "beside_your_cluster"}
