"""A framework that is missing, too old, or not what it was, says which version fits."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys

import pytest

from sparsevec.errors import ClientMissing
from sparsevec.integrations import guest as module

STORES = {"langchain": "langchain-core", "llama_index": "llama-index-core", "haystack": "haystack-ai"}


@pytest.mark.parametrize(("name", "package"), STORES.items())
def test_a_version_that_does_not_fit_says_which_does(monkeypatch: pytest.MonkeyPatch, name: str, package: str) -> None:
    monkeypatch.setattr(module, "version", lambda _: "0.0.9")
    monkeypatch.delitem(sys.modules, f"sparsevec.integrations.{name}", raising=False)
    with pytest.raises(ClientMissing, match=rf"{package} 0\.0\.9 is installed, .*expected {package}>=\d"):
        importlib.import_module(f"sparsevec.integrations.{name}")


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
