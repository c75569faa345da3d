"""One example for each guest, run as it stands."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastembed import SparseEmbedding
from langchain_core.embeddings import DeterministicFakeEmbedding

from tests.guests import test_embedders
from tests.guests.conftest import TEXTS
from tests.guests.hub import serving
from tests.guests.test_embedders import endpoint  # noqa: F401
from tests.guests.test_guest import AT_IMPORT, WHEN_CALLED

FOLDER = Path(__file__).parents[2] / "examples/guests"


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.chdir(tmp_path)
    yield
    for path in FOLDER.glob("*.py"):
        sys.modules.pop(path.stem, None)


def example(name: str) -> Any:
    return importlib.import_module(name)


def test_every_guest_has_one() -> None:
    begin = {path.stem for path in FOLDER.glob("*.py")}
    named = {guest: [stem for stem in begin if stem.startswith(f"{guest}_")] for guest in {*AT_IMPORT, *WHEN_CALLED}}
    assert {guest: len(stems) for guest, stems in named.items()} == dict.fromkeys(named, 1)
    assert len(begin) == len(named)


def test_wordllama() -> None:
    assert any("photographs" in text for text in example("wordllama_texts").main())


@pytest.mark.usefixtures("endpoint")
def test_openai(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_embedders, "lengths", DeterministicFakeEmbedding(size=24).embed_documents)
    assert example("openai_endpoint").main("small", "shows maps, part 3")[0] == "shows maps, part 3"


def test_langchain() -> None:
    found = example("langchain_store").main()
    assert found[0] == "shows photographs, part 0"
    assert {text.split()[0] for text in found} <= {"shows", "prints"}


def test_llama_index() -> None:
    found = example("llama_index_store").main()
    assert found[0] == "shows photographs, part 0"
    assert {text.split()[0] for text in found} == {"shows"}  # what encrypts was on the page that went


def test_haystack() -> None:
    found = example("haystack_pipeline").main()
    assert found[0] == "shows photographs, part 0"
    assert {text.split()[0] for text in found} == {"shows"}


def test_scikit_learn() -> None:
    nnz, accuracy = example("scikit_learn_pipeline").main()
    assert nnz in (4, 16)
    assert accuracy > 0.9


def test_sentence_transformers(dense_model: Path) -> None:
    assert TEXTS[0] in example("sentence_transformers_model").main(str(dense_model), TEXTS)


def test_fastembed() -> None:
    words = {
        word: at
        for at, word in enumerate(sorted({w for text in example("fastembed_splade").TEXTS for w in text.split()}))
    }

    def embed(texts: list[str]) -> list[SparseEmbedding]:
        """As SPLADE gives them, of the words alone: the model itself is not fetched here."""
        rows = [sorted({words[word] for word in text.split()}) for text in texts]
        return [SparseEmbedding(values=np.ones(len(row), np.float32), indices=np.array(row)) for row in rows]

    assert example("fastembed_splade").main(embed)[0] == "shows maps, part 3"


def test_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with serving() as hub:
        assert example("hub_repository").main("somebody/products-sparse", "hf_own", endpoint=hub.url)


def test_onnx() -> None:
    assert example("onnx_head").main() <= 1e-6
