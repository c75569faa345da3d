"""A run as a file, and what it tells: log lines, a status, metrics, JSON; never a secret."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.metrics import set_meter_provider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from typer.testing import CliRunner

import sparsevec as sv
from sparsevec.cli.app import app
from sparsevec.errors import InvalidInput
from sparsevec.live.metrics import OUTCOMES, _instruments
from sparsevec.live.settings import Settings
from tests.live.conftest import N
from tests.live.shops import LuceneShop, dense_rows

FILE = '[retrofit]\nurl = "qdrant://localhost/x"\nmodel = "model"\n'


def written(folder: Path, text: str) -> Path:
    (folder / "sparsevec.toml").write_text(text)
    return folder / "sparsevec.toml"


def test_what_is_given_beside_a_file_goes_first_and_paths_are_beside_it(tmp_path: Path) -> None:
    settings = Settings.read(written(tmp_path, FILE + "rate = 500\nnnz = 16\n"), {"rate": 9.0, "sample": None})
    assert (settings.rate, settings.nnz, settings.model) == (9.0, 16, tmp_path / "model")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[retrofit", "cannot be read as TOML"),
        ("", r"must hold one table, \[retrofit\], found \[\]"),
        (FILE + "[more]\n", "must hold one table"),
        (FILE + "speed = 3\n", "speed: Extra inputs are not permitted"),
        (FILE + "rate = -1\n", "rate: Input should be greater than 0"),
        (FILE + 'api_key = "s3cret"\n', "a secret belongs into the environment"),
        ('[retrofit]\nmodel = "m"\n', "url: Field required"),
        ('[retrofit]\nmodel = "m"\nurl = "qdrant://u:s3cret@h/x"\n', "seems to hold credentials before an @"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_without_its_secrets(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as refused:
        Settings.read(written(tmp_path, text), {})
    assert "s3cret" not in str(refused.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read as TOML"):
        Settings.read(tmp_path / "none.toml", {})


def test_a_line_of_cron_is_enough(lucene: LuceneShop, model: Path) -> None:
    file = written(model.parent, f'[retrofit]\nurl = "{lucene.url}"\nmodel = "model"\ndense_field = "emb"\n')

    def told(*options: str) -> Any:
        ended = CliRunner().invoke(app, ["retrofit", "--config", str(file), "--json", *options])
        assert ended.exit_code == 0, ended.output
        return json.loads(ended.stdout)

    assert sum(look["written"] for look in told()["looks"]) == N
    lucene.edit(3, {"emb": dense_rows(1, seed=9)[0].tolist()})
    assert told("--catch-up", "--dry-run")["look"]["stale"] == 1
    assert told("--catch-up")["look"]["written"] == 1
    assert told("--undo")["taken"] == N


def test_a_dry_catch_up_changes_nothing(lucene: LuceneShop, model: Path) -> None:
    sv.retrofit(lucene.url, model=model, dense_field="emb")
    lucene.edit(3, {"emb": dense_rows(1, seed=9)[0].tolist()})
    dry = [sv.catch_up(lucene.url, model=model, dry_run=True) for _ in range(2)]
    assert [(one.look.stale, one.look.moved, one.look.written, one.dry_run) for one in dry] == [(1, 1, 0, True)] * 2
    assert sv.catch_up(lucene.url, model=model).look.written == 1


def test_each_stage_ends_in_one_line_that_a_machine_reads(
    lucene: LuceneShop, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "sparsevec.live"):
        sv.retrofit(lucene.url, model=model, dense_field="emb")
    lines = [record for record in caplog.records if record.name == "sparsevec.live"]
    figures = [json.loads(line.getMessage().removeprefix("live ")) for line in lines]
    assert [one["stage"] for one in figures] == ["sample", "backfill", "look 2", "verify", "done"]
    assert figures == [line.sparsevec for line in lines]  # type: ignore[attr-defined]
    assert figures[1]["written"] == N


def test_another_process_reads_how_far_it_is(lucene: LuceneShop, model: Path) -> None:
    seen: list[dict[str, Any]] = []
    sv.retrofit(
        lucene.url,
        model=model,
        dense_field="emb",
        on_progress=lambda _: seen.append(json.loads((model / "status.json").read_text())),
    )
    assert {one["stage"] for one in seen} <= {"sample", "backfill", "look 2", "verify"}
    assert json.loads((model / "status.json").read_text())["report"]["looks"][0]["written"] == N


def test_and_what_stopped_it(lucene: LuceneShop, model: Path) -> None:
    with pytest.raises(InvalidInput, match="none of 300 documents has a dense row"):
        sv.retrofit(lucene.url, model=model, dense_field="title")
    status = json.loads((model / "status.json").read_text())
    assert (status["stage"], status["stopped"].partition(":")[0]) == ("sample", "InvalidInput")


def test_a_catch_up_makes_no_folder(lucene: LuceneShop, tmp_path: Path) -> None:
    for call in (sv.catch_up, sv.undo_retrofit):
        with pytest.raises(InvalidInput, match=r"there is no folder .*modle; name the one of the retrofit"):
            call(lucene.url, model=tmp_path / "modle")
    assert list(tmp_path.iterdir()) == []


def test_a_command_without_a_folder_is_told_the_option() -> None:
    with pytest.raises(InvalidInput, match="--model: it is given neither here nor by --config FILE"):
        Settings.read(None, {"url": "qdrant://localhost:6333/x"})


@pytest.fixture(scope="module")
def reader() -> InMemoryMetricReader:
    """What an application sets up once; a process has one provider."""
    reading = InMemoryMetricReader()
    set_meter_provider(MeterProvider([reading]))
    _instruments.cache_clear()
    return reading


def test_open_telemetry_counts_what_reports_count(
    lucene: LuceneShop, model: Path, reader: InMemoryMetricReader
) -> None:
    report = sv.retrofit(lucene.url, model=model, dense_field="emb")
    (resource,) = reader.get_metrics_data().resource_metrics
    (scope,) = resource.scope_metrics
    found = {
        (point.attributes["stage"], point.attributes["outcome"]): point.value
        for one in scope.metrics
        if one.name == "sparsevec.live.documents"
        for point in one.data.data_points
        if point.attributes["place"] == report.place
    }
    expected = {
        (stage, outcome): getattr(look, outcome)
        for stage, look in zip(("backfill", "look 2"), report.looks, strict=True)
        for outcome in OUTCOMES
    }
    assert found == {key: count for key, count in expected.items() if count}
