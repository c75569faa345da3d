"""docker/compose.yaml and the containers that the fixtures start are the same engines."""

from __future__ import annotations

import re
from pathlib import Path

from sparsevec.testing.engines import ENGINES

COMPOSE = (Path(__file__).parents[2] / "docker" / "compose.yaml").read_text()


def test_compose_pins_the_images_that_the_fixtures_start() -> None:
    assert re.findall(r"image: (.+)", COMPOSE) == [engine.image for engine in ENGINES.values()]


def test_compose_listens_on_loopback_only() -> None:
    ports = re.findall(r"- (\S+:\d+)$", COMPOSE, re.MULTILINE)
    assert len(ports) == 5
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_compose_waits_for_the_health_of_each_engine() -> None:
    services = re.split(r"^  (?=\w+:$)", COMPOSE.partition("services:")[2], flags=re.MULTILINE)[1:]
    assert len(services) == len(ENGINES)
    assert all("healthcheck:" in service for service in services)
