"""What `import sparsevec` brings, what it leaves alone, and what is public."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import sparsevec

ROOT = Path(__file__).parents[2]
CLIENTS = ("torch", "numba", "qdrant_client", "qdrant_edge", "elasticsearch", "opensearchpy", "typer", "rich")
HEAVY = ("numpy", "scipy", "pydantic", "safetensors", "matplotlib", *CLIENTS)


def loaded_by(script: str, names: tuple[str, ...]) -> str:
    code = f"{script}; import sys; print([name for name in {names!r} if name in sys.modules])"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_it_loads_nothing_heavy() -> None:
    assert loaded_by("import sparsevec", HEAVY) == "[]"


def test_the_pytest_plugin_costs_other_projects_nothing() -> None:
    assert loaded_by("import sparsevec.testing.plugin", HEAVY) == "[]"


def test_using_its_names_loads_neither_torch_nor_a_client_library() -> None:
    used = "import sparsevec as sv; sv.SparseEncoder, sv.connect, sv.ingest, sv.verify, sv.Hits, sv.evaluate"
    assert loaded_by(used, CLIENTS) == "[]"


@pytest.mark.parametrize(
    ("script", "gone", "extra"),
    [
        ("sparsevec.connect('elasticsearch://h:1/x')", "orjson", "elasticsearch"),
        ("sparsevec.connect('elasticsearch://h:1/x')", "elasticsearch", "elasticsearch"),
        ("sparsevec.connect('opensearch://h:1/x')", "orjson", "opensearch"),
        ("sparsevec.connect('opensearch://h:1/x')", "opensearchpy", "opensearch"),
        ("sparsevec.connect('qdrant+memory:')", "orjson", "qdrant"),
        ("sparsevec.connect('qdrant+memory:')", "qdrant_client", "qdrant"),
        ("import sparsevec.training", "torch", "train"),
    ],
)
def test_what_is_not_installed_is_named_with_the_extra_that_brings_it(script: str, gone: str, extra: str) -> None:
    code = f"import sys, sparsevec; sys.modules[{gone!r}] = None; {script}"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    said = f"ClientMissing: {gone} is not installed; install it with: pip install 'sparsevec[{extra}]'"
    assert said in ran.stderr.splitlines()[-1]


@pytest.mark.parametrize("name", sparsevec.__all__)
def test_every_public_name_is_there_and_says_what_it_is(name: str) -> None:
    assert getattr(sparsevec, name).__doc__


@pytest.mark.parametrize("name", sparsevec.__all__)
def test_every_method_of_a_public_class_says_what_it_does(name: str) -> None:
    found = getattr(sparsevec, name)
    ours = {
        method
        for kind in getattr(found, "__mro__", ())
        if kind.__module__.startswith("sparsevec")
        for method, value in vars(kind).items()
        if not method.startswith("_") and callable(getattr(value, "__func__", value))
    }
    assert [method for method in sorted(ours) if not inspect.getdoc(getattr(found, method))] == []


def test_what_is_public_at_the_top_is_this_and_nothing_else() -> None:
    assert sparsevec.__all__ == [
        "Adapter",
        "AsyncAdapter",
        "AsyncRetriever",
        "AsyncServing",
        "Budget",
        "Capabilities",
        "CatchUpReport",
        "CopyReport",
        "Cost",
        "CostLimits",
        "DenseField",
        "Documents",
        "EachReport",
        "Encoded",
        "EngineFilter",
        "Evaluation",
        "Explanation",
        "Finding",
        "Frontier",
        "Hit",
        "Hits",
        "Info",
        "IngestProgress",
        "IngestReport",
        "LatencyModel",
        "LocalEngine",
        "Page",
        "Preview",
        "Progress",
        "Reference",
        "RemovalReport",
        "Restartable",
        "Retriever",
        "RetrofitReport",
        "Served",
        "Serving",
        "SparseEncoder",
        "SparseVector",
        "SparseVectors",
        "SwitchReport",
        "UndoReport",
        "VerifyReport",
        "Written",
        "aconnect",
        "catch_up",
        "catch_up_both",
        "catch_up_each",
        "check",
        "connect",
        "copy_beside",
        "cost",
        "drop_copied",
        "drop_old",
        "errors",
        "evaluate",
        "explain",
        "find_frontier",
        "follow",
        "ingest",
        "keep_refined",
        "latency_model",
        "migrate",
        "preview",
        "read_dead_letters",
        "reciprocal_rank_fusion",
        "remove",
        "retrofit",
        "retrofit_each",
        "switch",
        "switch_back",
        "switch_copy",
        "undo_each",
        "undo_retrofit",
        "verify",
        "weighted_sum",
    ]


def test_type_checkers_see_the_names_where_they_are_loaded_from() -> None:
    tree = ast.parse(Path(sparsevec.__file__).read_bytes())
    (seen,) = [node for node in tree.body if isinstance(node, ast.If)]
    homes = {
        alias.asname: f"{node.module}.{alias.name}" if alias.name == "errors" else str(node.module)
        for node in ast.walk(seen)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert homes == sparsevec._HOME_OF


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = sparsevec.nonsense


@pytest.mark.parametrize("name", sparsevec.PUBLIC_MODULES)
def test_every_public_module_says_what_it_is_and_what_of_it_is_public(name: str) -> None:
    module = import_module(name)
    assert module.__doc__
    assert all(hasattr(module, public) for public in module.__all__)


@pytest.mark.parametrize("path", sorted((ROOT / "examples").rglob("*.py")), ids=lambda path: path.name)
def test_an_example_uses_public_modules_only(path: Path) -> None:
    imported = {
        name
        for node in ast.walk(ast.parse(path.read_bytes()))
        for name in (
            [node.module]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else []
        )
        if str(name).partition(".")[0] == "sparsevec"
    }
    guests = {f"sparsevec.integrations.{guest.stem}" for guest in (ROOT / "sparsevec/integrations").glob("*.py")}
    assert imported <= {*sparsevec.PUBLIC_MODULES, *guests} - {f"sparsevec.integrations.{own}" for own in OWN}


OWN = ("guest", "store", "workers")  # of the guests' folder, for themselves


def test_the_adapters_folder_says_how_to_install_it_when_it_is_imported_under_its_own_name() -> None:
    found = subprocess.run([sys.executable, "-c", "import adapters"], capture_output=True, text=True, check=False)
    assert "install it with: pip install" in found.stderr
