"""The engines that tests run against are the real ones, in the versions that the table says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.request import urlopen

if TYPE_CHECKING:
    from collections.abc import Callable


def test_an_elasticsearch_node_answers(elasticsearch_url: str) -> None:
    assert health(elasticsearch_url) in ("green", "yellow")


def test_an_opensearch_node_answers(opensearch_url: str) -> None:
    assert health(opensearch_url) in ("green", "yellow")


def test_an_engine_can_be_asked_for_by_name(engine_url: Callable[[str], str], opensearch_url: str) -> None:
    assert engine_url("opensearch3") == opensearch_url


def health(url: str) -> str:
    _, at, address = url.partition("://")
    with urlopen(f"http{at}{address}/_cluster/health") as answer:
        return str(json.load(answer)["status"])
