"""API keys and cloud ids: which host is asked, and what it is told. Nodes without Elastic's security cannot be had for
this, so a stand-in on loopback records what comes and answers that nothing is there."""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from sparsevec import connect

pytest.importorskip("elasticsearch")

KEY = b64encode(b"the-id:the-secret").decode()


class Recorder(ThreadingHTTPServer):
    """Answers every request as a cluster of 9.5.3 without indices would, and keeps its path and credentials."""

    def __init__(self, certificate: Path) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.asked: list[tuple[str, str | None]] = []


class Answering(BaseHTTPRequestHandler):
    server: Recorder

    def do_GET(self) -> None:
        self.server.asked.append((self.path.partition("?")[0], self.headers["Authorization"]))
        there = self.path.startswith("/_nodes")
        body = json.dumps({"nodes": {"n": {"version": "9.5.3"}}} if there else {"status": 404}).encode()
        self.send_response(200 if there else 404)
        self.send_header("X-Elastic-Product", "Elasticsearch")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing: the test says what happened."""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with key.pem, and cert.pem for 127.0.0.1, signed by itself."""
    folder = tmp_path_factory.mktemp("tls")
    subject = ["-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject, *files]
    subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.fixture
def cluster(certificate: Path) -> Iterator[Recorder]:
    with Recorder(certificate) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize("api_key", [KEY, ("the-id", "the-secret")], ids=["encoded", "id-and-key"])
def test_an_api_key_goes_with_every_request(cluster: Recorder, certificate: Path, api_key: Any) -> None:
    url = f"elasticsearch+https://127.0.0.1:{cluster.server_port}/products"
    with connect(url, api_key=api_key, ca_certs=str(certificate / "cert.pem")) as adapter:
        assert not adapter.info().exists
    assert cluster.asked == [("/products", f"ApiKey {KEY}"), ("/_nodes/_local/http", f"ApiKey {KEY}")]


def test_a_cloud_id_says_where_the_cluster_is(cluster: Recorder, certificate: Path) -> None:
    """The id is `NAME:base64(DOMAIN[:PORT]$CLUSTER$KIBANA)`, and the host CLUSTER.DOMAIN: here 127 and 0.0.1."""
    place = b64encode(f"0.0.1:{cluster.server_port}$127$kibana".encode()).decode()
    credentials: dict[str, Any] = {"cloud_id": f"shop:{place}", "api_key": KEY}
    with connect("elasticsearch:///products", **credentials, ca_certs=str(certificate / "cert.pem")) as adapter:
        assert adapter.info().backend == "elasticsearch 9.5.3"
        assert "the-secret" not in repr(adapter)
    assert cluster.asked[0] == ("/products", f"ApiKey {KEY}")
