"""The README's snippets run as they stand, twice, on what the package brings."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from benchmarks.answers_table import short

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
USE, *_ = re.findall(r"^## Use it\n.*?^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
SERVER = "qdrant://localhost:6333/products?vector_name=sparse"


def run(url: str) -> dict[str, object]:
    """The snippet, with `url` in the place of the server, and 256 dimensions, so that it takes a second."""
    assert SERVER in USE
    snippet = USE.replace(SERVER, url).replace("output_dim=8192", "output_dim=256")
    names: dict[str, object] = {}
    exec(compile(snippet, "README.md", "exec"), names)
    return names


@pytest.mark.usefixtures("brief")
def test_the_snippet_runs_twice_and_its_filter_finds_something(brought: Path) -> None:
    for _ in range(2):
        names = run("local:products.db")
        hits = names["hits"]
        assert isinstance(hits, list)
        assert all(len(found) > 0 for found in hits)
        assert {hit.payload["brand"] for found in hits for hit in found} == {"acme"}


def test_the_commands_of_the_readme_are_there() -> None:
    from sparsevec.cli.app import app

    known = {command.name for command in app.registered_commands}
    named = set(re.findall(r"^\s*(?:\.venv/bin/)?sparsevec ([a-z]+)", README, re.MULTILINE))
    assert {"demo"} <= named <= known
    assert known <= set(re.findall(r"(?<=`)[a-z]+(?=`)|(?<=sparsevec\s)[a-z]+", README))


def test_nobody_is_told_to_install_what_is_on_no_index() -> None:
    assert "pip install sparsevec" not in README
    assert "pip install 'sparsevec" not in README


def test_the_extras_of_the_readme_are_those_of_the_package() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (listed,) = re.findall(r"The extras:(.*?)\n\n", README, re.DOTALL)
    assert set(re.findall(r"`([a-z-]+)`", listed)) - {"fit", "refine"} == set(extras) - {"dev", "bench"}


def test_the_table_of_answers_is_that_of_the_benchmark() -> None:
    measured = json.loads((ROOT / "benchmarks/results/answers.json").read_text())["elasticsearch"]["rows"]
    (table,) = re.findall(r"^\*\*Beside Elasticsearch.*?\n\n(\|.*?)\n\n", README, re.DOTALL | re.MULTILINE)
    shown = table.splitlines()
    assert len(shown) > 10
    assert set(shown) <= set(short(measured))
