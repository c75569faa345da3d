"""A framework that is missing, too old, or not what it was, says which version fits."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from pathlib import Path

import pytest

from sparsevec.errors import ClientMissing
from sparsevec.integrations import guest as module

AT_IMPORT = {
    "langchain": "langchain-core",
    "llama_index": "llama-index-core",
    "haystack": "haystack-ai",
    "scikit_learn": "scikit-learn",
    "sentence_transformers": "sentence-transformers",
    "fastembed": "fastembed",
    "hub": "huggingface_hub",
    "ray": "ray",
    "daft": "daft",
}
WHEN_CALLED = {
    "openai": lambda module: module.embedder("small"),
    "onnx": lambda module: module.export(None, "head.onnx", side="query"),
    "wordllama": lambda module: module.embedder(),
}
NOT_GUESTS = {"__init__", "guest", "store", "embedders", "haystack_filters", "workers"}


def test_every_guest_is_tried_here() -> None:
    files = {path.stem for path in Path(module.__file__).parent.glob("*.py")}
    assert files - NOT_GUESTS == {*AT_IMPORT, *WHEN_CALLED}


@pytest.mark.parametrize(("name", "package"), AT_IMPORT.items())
def test_a_version_that_does_not_fit_says_which_does(monkeypatch: pytest.MonkeyPatch, name: str, package: str) -> None:
    monkeypatch.setattr(module, "version", lambda _: "0.0.9")
    monkeypatch.delitem(sys.modules, f"sparsevec.integrations.{name}", raising=False)
    with pytest.raises(ClientMissing, match=rf"{package} 0\.0\.9 is installed, .*expected {package}.*>=\d"):
        importlib.import_module(f"sparsevec.integrations.{name}")


@pytest.mark.parametrize("name", WHEN_CALLED)
def test_one_that_is_imported_when_it_is_called_says_it_then(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(module, "version", lambda _: "0.0.9")
    with pytest.raises(ClientMissing, match=rf"{name} 0\.0\.9 is installed, .*expected {name}>=\d"):
        WHEN_CALLED[name](importlib.import_module(f"sparsevec.integrations.{name}"))


def test_a_package_that_is_not_there_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(module, "version", version)
    missing = pytest.raises(ClientMissing, match=r"langchain-core is not installed.*sparsevec\[langchain\]")
    with missing, module.guest("langchain-core", "langchain"):
        raise AssertionError("the imports are not reached")


def test_a_name_that_has_gone_is_told_with_the_version() -> None:
    gone = pytest.raises(ClientMissing, match=r"langchain-core \d.*VectorShop.*expected langchain-core>=1")
    with gone, module.guest("langchain-core", "langchain"):
        from langchain_core.vectorstores import VectorShop  # noqa: F401


@pytest.mark.parametrize(("older", "newer"), [("0.9", "0.10"), ("1.0rc1", "1.0.1"), ("1", "1.0.0.1")])
def test_releases_are_ordered_by_number(older: str, newer: str) -> None:
    assert module._release(older) < module._release(newer)
    assert module._release("2.0") == module._release("2")
