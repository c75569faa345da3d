"""The pages run as they stand, and say every command and every option."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer.main

import sparsevec
from sparsevec.cli.app import app

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(path for folder in ("start", "how", "concepts") for path in (DOCS / folder).glob("*.md"))
PYTHON = [path for path in PAGES if "```python" in path.read_text() and path.name != "guests.md"]  # that: tests/guests
SERVERS = {
    "qdrant://localhost:6333/products?vector_name=sparse": "reference:products.db",
    "elasticsearch://localhost:9200/products?field=sparse": "reference:cluster.db",
}
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("page", PYTHON, ids=lambda page: page.stem)
def test_a_page_runs_from_its_first_line_to_its_last(brought: Path, page: Path) -> None:
    code = "\n".join(blocks(page, "python")).replace("8192)", "256)").replace("output_dim=8192", "output_dim=256")
    for server, here in SERVERS.items():
        code = code.replace(server, here)
    exec(compile(code, page.name, "exec"), {"__name__": page.stem})


@pytest.mark.parametrize("page", [*PYTHON, DOCS / "testing.md"], ids=lambda page: page.stem)
def test_a_page_imports_from_public_modules_only(page: Path) -> None:
    code = ast.walk(ast.parse("\n".join(blocks(page, "python"))))
    modules = {str(node.module) for node in code if isinstance(node, ast.ImportFrom)}
    ours = {module for module in modules if module.startswith("sparsevec")}
    assert {module for module in ours if not module.startswith("sparsevec.integrations")} <= {*sparsevec.PUBLIC_MODULES}


def test_the_reference_has_what_a_cluster_that_serves_needs() -> None:
    """Each function of it that is public, by the place where it stands."""
    page = (DOCS / "reference/python.md").read_text()
    homes = {name: home for name, home in sparsevec._HOME_OF.items() if ".live." in home and name[0].islower()}
    assert [name for name, home in homes.items() if f"::: {home}.{name}\n" not in page] == []


@pytest.mark.elasticsearch
def test_the_page_about_testing_runs(engine_url: Callable[[str], str], tmp_path: Path) -> None:
    """Its tests, by a pytest of their own; of the suite one clause, against the reference."""
    head = ["import pytest, sparsevec", "from sparsevec import connect"]
    head += ["from sparsevec.testing.conformance import Conformance"]
    code = "\n\n".join([*head, *blocks(DOCS / "testing.md", "python")])
    server = "opensearch://localhost:9200/conformance"
    assert code.count(server) == 4
    (tmp_path / "test_page.py").write_text(code.replace(server, f"reference:{tmp_path}/page.db"))
    urls = {f"SPARSEVEC_ELASTICSEARCH{n}_URL": engine_url(f"elasticsearch{n}") for n in (8, 9)}
    mine = {name: value for name, value in os.environ.items() if name != "SPARSEVEC_REQUIRE" and "PYTEST" not in name}
    asked = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "my_pipeline or c5_"]
    ran = subprocess.run([*asked, "test_page.py"], cwd=tmp_path, env=mine | urls, capture_output=True, text=True)
    passed = re.search(r"(\d+) passed", ran.stdout)
    assert (ran.returncode, passed is not None) == (0, True), ran.stdout + ran.stderr
    assert int(passed[1] if passed else 0) > 4  # the pipeline on both versions, and both classes


@pytest.mark.parametrize("page", [*PAGES, DOCS / "index.md"], ids=lambda page: page.stem)
def test_commands_and_options_of_a_page_are_there(page: Path) -> None:
    for line in "\n".join(blocks(page, "sh")).splitlines():
        for name, given in re.findall(r"sparsevec ([a-z]+)(.*)", line.split("  #")[0]):
            options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
            assert set(re.findall(r"(?<= )--?[a-z-]+", given)) <= options


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_and_each_of_its_options_does(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    assert [option.name for option in command.params if not option.help and option.name != "help"] == []


def hook(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, DOCS / f"site/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_the_comparisons_are_the_files_that_the_benchmarks_wrote() -> None:
    included, root = hook("included"), DOCS.parent
    page = included.on_page_markdown((DOCS / "comparisons.md").read_text())
    for path in (root / "benchmarks/results").rglob("*.md"):
        lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
        assert [line for line in lines if line not in page] == []


def test_the_pages_have_the_times_of_codes_beside_elasticsearch_that_were_measured() -> None:
    measured = json.loads((DOCS.parent / "benchmarks/results/answers.json").read_text())["elasticsearch"]["rows"]
    took = {row["name"]: f"{row['cells']['fresh all']['ratio']:.1f}" for row in measured}
    plain, short = (
        [took[f"codes of {width} bytes{favour}"] for width in (50, 100, 200)] for favour in ("", ", in favour of bytes")
    )
    residuals, first = (
        " ".join((DOCS / name).read_text().split()) for name in ("concepts/residuals.md", "comparisons.md")
    )
    for three in (plain, short):
        assert f"{three[0]}, {three[1]} and {three[2]} times" in residuals
        assert f"{three[1]} times" in first.split("HNSW over float32")[0]


def test_the_reference_has_every_option_of_every_command() -> None:
    page = hook("commands").on_page_markdown((DOCS / "reference/commands.md").read_text())
    for name, command in COMMANDS.items():
        part = page.split(f"## sparsevec {name}\n")[1].split("\n## ")[0]
        assert [o for parameter in command.params for o in parameter.opts if o.startswith("-") and o not in part] == []
