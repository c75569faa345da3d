"""The examples run as they stand, each on a real engine, and a second time on what the first run left."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str, url: str, folder: Path, *options: str) -> str:
    command = [sys.executable, str(EXAMPLES / name), url, *options]
    told = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=550)
    assert told.returncode == 0, told.stdout + told.stderr
    return told.stdout


def test_the_pipeline_writes_nothing_the_second_time(tmp_path: Path) -> None:
    first, again = (run("pipeline.py", "reference:pipeline.sqlite", tmp_path) for _ in range(2))
    assert "written" in first
    assert first.splitlines()[-3:] == again.splitlines()[-3:]
    assert "command line" in again.splitlines()[-3]


def test_the_answers_example_ends_in_answers_and_says_why(tmp_path: Path) -> None:
    said = run("answers.py", "reference:", tmp_path)
    assert "1,500 written, 0 skipped, 0 failed" in said
    assert "shared dimensions" in said


@pytest.mark.qdrant
def test_the_qdrant_example(tmp_path: Path) -> None:
    for _ in range(2):
        assert "all 500 hits exact" in run("qdrant.py", f"qdrant+edge:{tmp_path / 'example'}", tmp_path)


def test_the_elasticsearch_example(elasticsearch_url: str, tmp_path: Path) -> None:
    for _ in range(2):
        assert "all 500 hits exact" in run("elasticsearch_field.py", f"{elasticsearch_url}/front-example", tmp_path)


def test_the_opensearch_example(opensearch_url: str, tmp_path: Path) -> None:
    for _ in range(2):
        assert "all 500 hits exact" in run("opensearch.py", f"{opensearch_url}/front-example", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "engine",
    [
        pytest.param("elasticsearch9", marks=pytest.mark.elasticsearch),
        pytest.param("elasticsearch8", marks=pytest.mark.elasticsearch),
        pytest.param("opensearch3", marks=pytest.mark.opensearch),
        pytest.param("qdrant", marks=pytest.mark.qdrant),
    ],
)
def test_a_live_cluster_keeps_every_edit_while_a_retrofit_is_killed_ten_times(
    engine_url: Callable[[str], str], engine: str, tmp_path: Path
) -> None:
    said = run("live_cluster.py", f"{engine_url(engine)}/live-example", tmp_path, "--kills", "10")
    assert "0 revived, 0 lost, 0 doubled, 0 changed; 100.00% hold the code of their row" in said
