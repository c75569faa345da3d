"""Which engines tests can run against here, and how they are had.

In this order: a url in the environment, docker (testcontainers), a node unpacked from Maven Central (`nodes`). Qdrant's
embedded engine comes with the package `qdrant-edge-py`.
"""

from __future__ import annotations

import http.client
import os
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from importlib import metadata
from urllib.parse import urlsplit

from sparsevec.testing.http import ask, until
from sparsevec.testing.nodes import Node, Release, Unavailable

__all__ = ["ENGINES", "Engine", "Engines", "OtherVersion", "Running", "Unavailable"]

_PATIENCE = 300  # seconds until a container that does not answer is given up


@dataclass(frozen=True)
class Engine:
    """One row of the table. `name` is what SPARSEVEC_REQUIRE calls it, `family` the engine of a `connect` url."""

    name: str
    family: str
    image: str
    port: int
    ready: str  # answers 200 when the engine takes requests
    environment: Mapping[str, str] = field(default_factory=dict)
    release: Release | None = None

    @property
    def url_variable(self) -> str:
        """The environment's own for this version, SPARSEVEC_ELASTICSEARCH8_URL, or the one for the family."""
        own = f"SPARSEVEC_{self.name.upper()}_URL"
        return own if own in os.environ else f"SPARSEVEC_{self.family.upper()}_URL"

    @property
    def image_variable(self) -> str:
        return f"SPARSEVEC_{self.name.upper()}_IMAGE"


_HEALTH = "/_cluster/health?wait_for_status=yellow&timeout=1s"
_ELASTIC = {
    "discovery.type": "single-node",
    "xpack.security.enabled": "false",
    "ES_JAVA_OPTS": "-Xms512m -Xmx512m",
    "cluster.routing.allocation.disk.threshold_enabled": "false",
}
_OPENSEARCH = {
    "discovery.type": "single-node",
    "DISABLE_SECURITY_PLUGIN": "true",
    "DISABLE_INSTALL_DEMO_CONFIG": "true",
    "OPENSEARCH_JAVA_OPTS": "-Xms512m -Xmx512m",
    "cluster.routing.allocation.disk.threshold_enabled": "false",
}


def _elasticsearch(version: str, java: int) -> Engine:
    major = version.partition(".")[0]
    image = f"docker.elastic.co/elasticsearch/elasticsearch:{version}"
    release = Release("elasticsearch", version, java)
    return Engine(f"elasticsearch{major}", "elasticsearch", image, 9200, _HEALTH, _ELASTIC, release)


def _opensearch(version: str, java: int) -> Engine:
    major, image = version.partition(".")[0], f"opensearchproject/opensearch:{version}"
    release = Release("opensearch", version, java)
    return Engine(f"opensearch{major}", "opensearch", image, 9200, _HEALTH, _OPENSEARCH, release)


ENGINES: Mapping[str, Engine] = {
    engine.name: engine
    for engine in (
        Engine("qdrant", "qdrant", "qdrant/qdrant:v1.19.2", 6333, "/readyz"),
        _elasticsearch("8.19.21", java=17),
        _elasticsearch("9.5.3", java=21),
        _opensearch("3.8.0", java=21),
    )
}


def engine(name: str) -> Engine:
    """The row called `name`, or of a family (`elasticsearch`) the newest, under that name."""
    family = [row for row in ENGINES.values() if row.family == name]
    return ENGINES[name] if name in ENGINES else replace(family[-1], name=name)


@dataclass(frozen=True)
class Running:
    """An engine that answers: `url` without a collection, for `sparsevec.contract.connect(f"{url}/products")`."""

    engine: Engine
    version: str
    how: str
    url: str


class OtherVersion(Unavailable):
    """The cluster that the environment names is one of another version."""


class Engines:
    """The engines of one test session: each is started when it is first asked for, and stopped by `close`."""

    def __init__(self) -> None:
        self.running: dict[str, Running] = {}
        self.missing: dict[str, Unavailable] = {}
        self._open = ExitStack()

    def get(self, name: str) -> Running:
        """The engine called `name`, running. Raises Unavailable, saying what was tried.

        A family's name means the version that the environment names, whichever it is, or the newest.
        """
        if name in self.missing:
            raise self.missing[name]
        if name not in self.running:
            try:
                self.running[name] = self._find(engine(name))
            except Unavailable as error:
                self.missing[name] = error
                raise
        return self.running[name]

    def _find(self, engine: Engine) -> Running:
        if engine.url_variable in os.environ:
            return _given(engine)
        reasons = [f"{engine.url_variable} is not set"]
        ways: list[Callable[[Engine, ExitStack], Running]] = [_container, _node]
        for way in ways:
            try:
                return way(engine, self._open)
            except Unavailable as error:
                reasons.append(str(error))
        raise Unavailable("; ".join(reasons))

    def close(self) -> None:
        self._open.close()


def _given(engine: Engine) -> Running:
    """The cluster that the environment names, when its version is the engine's."""
    variable = engine.url_variable
    where = urlsplit(os.environ[variable])
    secure = where.scheme.endswith("https")
    port = where.port or engine.port
    try:
        version = _version(where.hostname or "", port, secure=secure)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unavailable(f"{variable} is set, but no engine answers there: {error}") from error
    if engine.name not in (engine.family, engine.family + version.partition(".")[0]):
        raise OtherVersion(f"{variable} is {engine.family} {version}")
    scheme = engine.family + ("+https" if secure else "")
    return Running(engine, version, variable, f"{scheme}://{where.hostname}:{port}")


def _container(engine: Engine, stop: ExitStack) -> Running:
    try:
        from docker.errors import DockerException
        from testcontainers.core.container import DockerContainer
    except ImportError:
        raise Unavailable("testcontainers is not installed (pip install 'sparsevec[testing]')") from None
    if not _docker_listens():
        raise Unavailable("no docker daemon answers")
    image = os.environ.get(engine.image_variable, engine.image)
    try:
        container = DockerContainer(image).with_exposed_ports(engine.port)
        for name, value in engine.environment.items():
            container = container.with_env(name, value)
        stop.enter_context(container)
        host, port = container.get_container_host_ip(), int(container.get_exposed_port(engine.port))
    except DockerException as error:
        raise Unavailable(f"no docker daemon gave a container of {image}: {error!s:.200}") from error
    try:
        until(lambda: ask(host, port, engine.ready), _PATIENCE, lambda: None)
    except TimeoutError as error:
        raise Unavailable(f"the container of {image} did not become healthy: {error}") from error
    return Running(engine, _version(host, port), f"docker: {image}", f"{engine.family}://{host}:{port}")


def _docker_listens() -> bool:
    """Asked before the client is: docker's own leaves a socket open when nobody answers."""
    where = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if not where.startswith("unix://"):
        return True
    with socket.socket(socket.AF_UNIX) as asking:
        return asking.connect_ex(where.removeprefix("unix://")) == 0


def _node(engine: Engine, stop: ExitStack) -> Running:
    if engine.release is None:
        raise Unavailable("Maven Central has no node of it")
    node = stop.enter_context(Node(engine.release)).start()
    how = f"node from Maven Central, JDK {node.java}"
    return Running(engine, _version("127.0.0.1", node.port), how, f"{engine.family}://127.0.0.1:{node.port}")


def _version(host: str, port: int, *, secure: bool = False) -> str:
    """Of whichever engine listens there. A node without the module that answers `GET /` is asked another way."""
    with suppress(http.client.HTTPException):
        banner = ask(host, port, "/", secure=secure)
        return str(banner["version"]["number"] if isinstance(banner["version"], dict) else banner["version"])
    nodes = ask(host, port, "/_nodes/_local?filter_path=nodes.*.version", secure=secure)["nodes"]
    (node,) = nodes.values()
    return str(node["version"])


def embedded_qdrant() -> str | None:
    """The version of Qdrant's embedded engine, when these tests have loaded it."""
    return metadata.version("qdrant-edge-py") if "qdrant_edge" in sys.modules else None
