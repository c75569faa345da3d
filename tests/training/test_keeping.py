"""What is kept of an encoder, by one that was made of too few documents to learn from: that takes no time."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from sparsevec.cli.app import app
from sparsevec.encoder import Budget, SparseEncoder
from sparsevec.errors import InvalidInput, ModelBroken, StorageFailed
from tests.training.conftest import INPUT, clustered

ROWS = clustered(50, seed=1)


def sparsevec(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def few() -> SparseEncoder:
    return SparseEncoder(INPUT, 64).fit(ROWS, budget=Budget(nnz=4))


@pytest.mark.parametrize("named", ["cap", "threshold", "spend", "second_look", "fingerprint", "flops"])
def test_a_config_with_a_changed_figure_is_refused(few: SparseEncoder, named: str, tmp_path: Path) -> None:
    few.save(tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    text = path.read_bytes()
    at = text.index(f'"{named}": '.encode()) + len(named) + 4
    at += next(place for place, byte in enumerate(text[at:]) if chr(byte).isdigit())
    path.write_bytes(text[:at] + bytes([text[at] ^ 1]) + text[at + 1 :])
    with pytest.raises(ModelBroken, match=r"config\.json was changed since it was saved"):
        SparseEncoder.load(tmp_path / "model")


def test_a_config_of_before_there_were_checksums_is_read(few: SparseEncoder, tmp_path: Path) -> None:
    few.save(tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    said = json.loads(path.read_text())
    del said["config_sha256"]
    path.write_text(json.dumps(said))
    assert SparseEncoder.load(tmp_path / "model").encode_query(ROWS) == few.encode_query(ROWS)


def test_a_reader_never_mixes_two_models_however_often_they_are_replaced(few: SparseEncoder, tmp_path: Path) -> None:
    several = [few, SparseEncoder(INPUT, 64).fit(ROWS[::2], budget=Budget(nnz=4))]
    few.save(tmp_path / "model")
    stop = threading.Event()

    def save() -> None:
        for number in range(10_000):
            several[number % 2].save(tmp_path / "model")
            if stop.is_set():
                return

    writer = threading.Thread(target=save)
    writer.start()
    try:
        found = {SparseEncoder.load(tmp_path / "model").fingerprint for _ in range(300)}
    finally:
        stop.set()
        writer.join()
    assert found <= {encoder.fingerprint for encoder in several}


@pytest.mark.parametrize("name", ["retrofit.json", "notes.txt", "documents"])
def test_what_others_keep_beside_a_model_is_not_removed_by_saving_again(
    few: SparseEncoder, name: str, tmp_path: Path
) -> None:
    few.save(tmp_path)
    (tmp_path / name).write_text("mine")
    with pytest.raises(InvalidInput, match=f"holds {name} beside a model, which saving there would remove"):
        few.save(tmp_path)
    assert (tmp_path / name).read_text() == "mine"


def test_codes_that_a_model_made_go_with_it(few: SparseEncoder, tmp_path: Path) -> None:
    few.save(tmp_path)
    few.encode_document(ROWS).save(tmp_path / "documents")
    few.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "config.json", "model.safetensors"]


@pytest.mark.parametrize("learn", [SparseEncoder.fit, SparseEncoder.refine])
def test_a_place_where_no_checkpoint_can_be_written_is_found_before_any_work(
    few: SparseEncoder, learn: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sparsevec.encoder.sparse_encoder as module

    for work in ("fitted", "refined", "recalibrated"):
        monkeypatch.setattr(module, work, lambda *_: pytest.fail("work was done"))
    monkeypatch.setattr(module, "recalibrated", lambda model, *_: model)
    (tmp_path / "file").write_text("in the way")
    given = {"budget": Budget(nnz=4)} if learn is SparseEncoder.fit else {}
    with pytest.raises(StorageFailed, match="file could not be written: File exists"):
        learn(few, clustered(200, seed=2), checkpoint=tmp_path / "file", **given)  # type: ignore[operator]


def test_documents_that_are_too_few_to_learn_from_are_judged_by_what_their_queries_may_spend(
    few: SparseEncoder,
) -> None:
    assert few.figures.flops > few.config.flops
    assert few.judge(ROWS, few.encode_document(ROWS)).reasons == ()


@pytest.mark.parametrize(("flops", "says"), [(1e308, "no more multiplications"), (50.0, "which pays for nnz=")])
def test_more_multiplications_than_can_be_spent_are_refused_as_they_were_asked_for(flops: float, says: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(f"budget flops={flops:g}") + f".*{says}"):
        SparseEncoder(INPUT, 64).fit(ROWS, budget=Budget(flops=flops))


@pytest.mark.parametrize("dimension", [16, 64, 99, 4096])
def test_a_budget_of_one_weight_alone_can_be_met(dimension: int) -> None:
    fitted = SparseEncoder(INPUT, dimension).fit(ROWS, budget=Budget(nnz=1))
    assert fitted.config.flops >= 2 / dimension
    assert fitted.encode_document(ROWS).nnz == len(ROWS)


def test_a_device_whose_tensors_have_no_numbers_is_refused() -> None:
    with pytest.raises(InvalidInput, match="device='meta' cannot be learned on"):
        SparseEncoder(INPUT, 64).fit(clustered(200, seed=2), budget=Budget(nnz=4), device="meta")


@pytest.mark.parametrize("place", ["model", "model/checkpoint"])
def test_fit_says_at_once_that_its_checkpoint_lies_where_the_model_goes(place: str, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", ROWS)
    asked = ("fit", tmp_path / "rows.npy", "-o", tmp_path / "model", "--checkpoint", tmp_path / place, "--nnz", 4)
    refused = sparsevec(*asked)
    assert refused.exit_code == 2
    assert "name one beside it" in refused.output


def test_fit_says_before_it_learns_what_saving_would_remove(few: SparseEncoder, tmp_path: Path) -> None:
    few.save(tmp_path / "model")
    np.save(tmp_path / "rows.npy", ROWS)
    (tmp_path / "model" / "retrofit.json").write_text("{}")
    refused = sparsevec("fit", tmp_path / "rows.npy", "-o", tmp_path / "model", "--nnz", 4)
    assert refused.exit_code == 2
    assert "holds retrofit.json beside a model" in refused.output
    assert "learning" not in refused.output


def test_fit_says_before_it_learns_that_its_folder_cannot_be_written(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", ROWS)
    refused = sparsevec("fit", tmp_path / "rows.npy", "-o", "/proc/model", "--nnz", 4)
    assert refused.exit_code == 1
    assert "/proc/model could not be written" in refused.output
    assert "learning" not in refused.output
