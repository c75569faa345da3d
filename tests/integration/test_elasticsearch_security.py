"""Credentials, privileges and limits: Elasticsearch 9 with security on, users of its file realm, behind TLS."""

from __future__ import annotations

import base64
import hashlib
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from elasticsearch import Elasticsearch

from sparsevec import connect, ingest
from sparsevec.errors import BackendDown, BackendUnsupported, InvalidInput, OutOfLimits
from sparsevec.testing.engines import ENGINES
from sparsevec.testing.nodes import Node, Unavailable
from tests.integration.lucene import found, rows

pytestmark = pytest.mark.elasticsearch

SECRET = "a-secret-of-this-test"
ROLES = """
everything: {cluster: [monitor], indices: [{names: ['*'], privileges: [all]}]}
writer: {indices: [{names: ['*'], privileges: [read, write, view_index_metadata]}]}
reader: {indices: [{names: ['*'], privileges: [read, view_index_metadata]}]}
aliased: {indices: [{names: ['alias-*'], privileges: [read, write, view_index_metadata]}]}
health: {cluster: [monitor]}
"""
USERS = ("everything", "writer", "reader", "aliased")
LARGEST = 50_000  # bytes of a request


def stored_password(password: str) -> str:
    salt = b"0123456789abcdef0123456789abcdef"
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, 1000, 32)
    return "{PBKDF2}1000$" + "$".join(base64.b64encode(part).decode() for part in (salt, digest))


@pytest.fixture(scope="module")
def node() -> Iterator[str]:
    """HOST:PORT of the node. Anybody may ask for its health, as the fixture that starts it does."""
    settings: dict[str, str | int] = {
        "xpack.security.enabled": "true",
        "xpack.security.http.ssl.enabled": "false",
        "xpack.security.transport.ssl.enabled": "false",
        "xpack.security.authc.anonymous.roles": "health",
        "xpack.security.authc.anonymous.authz_exception": "false",
        "http.max_content_length": f"{LARGEST}b",
    }
    files = {
        "roles.yml": ROLES,
        "users": "".join(f"{user}:{stored_password(SECRET)}\n" for user in USERS),
        "users_roles": "".join(f"{user}:{user}\n" for user in USERS),
    }
    release = ENGINES["elasticsearch9"].release
    assert release is not None
    try:
        running = Node(release, settings, files)
    except Unavailable as error:
        pytest.skip(f"no node of Elasticsearch 9 can be had: {error}")
    with running:
        running.start()
        yield f"127.0.0.1:{running.port}"


@pytest.fixture
def index(node: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """The url of an index with one document in it."""
    url = f"elasticsearch://{node}/{request.node.name.replace('_', '-')}?field=emb&replicas=0"
    with closing(connect(url, basic_auth=("everything", SECRET))) as adapter:
        adapter.create(100)
        assert adapter.upsert(["first"], rows({1: 1.0})).written == ("first",)
        assert adapter.count() == 1  # refreshes: not all users of these tests may
        yield url
        adapter.drop()


def test_wrong_and_missing_credentials_are_named_and_never_repeated(index: str) -> None:
    for credentials in ({"basic_auth": ("everything", "wrong-" + SECRET)}, {"api_key": "wrong-" + SECRET}, {}):
        adapter = connect(index, **credentials)
        with pytest.raises(BackendUnsupported, match="credentials") as refused:
            adapter.count()
        assert SECRET not in f"{refused.value} {refused.value.__cause__!r} {adapter!r} {vars(adapter)}"


def test_a_writer_without_the_privilege_to_refresh_still_sees_what_it_wrote(index: str) -> None:
    adapter = connect(index, basic_auth=("writer", SECRET))
    assert found(adapter, {1: 1.0}) == ("first",)
    for i in range(3):
        adapter.upsert([i], rows({1: 2.0 + i}))
        assert found(adapter, {1: 1.0})[0] == i
    adapter.delete([2])
    assert adapter.count() == 3


def test_the_first_write_without_the_privilege_to_refresh_is_seen_by_the_next_count(index: str) -> None:
    adapter = connect(index, basic_auth=("writer", SECRET))
    assert adapter.upsert(["second"], rows({1: 2.0})).written == ("second",)
    assert (adapter.count(), found(adapter, {1: 1.0})) == (2, ("second", "first"))
    adapter = connect(index, basic_auth=("writer", SECRET))
    adapter.delete(["second"])
    assert adapter.count() == 1


def test_a_writer_who_may_use_an_alias_alone_writes_by_the_alias(node: str) -> None:
    made, alias = f"elasticsearch://{node}/the-index?field=emb&replicas=0", f"elasticsearch://{node}/alias-1?field=emb"
    with closing(connect(made, basic_auth=("everything", SECRET))) as adapter:
        adapter.create(100)
        token = base64.b64encode(f"everything:{SECRET}".encode()).decode()
        headers = {"authorization": f"Basic {token}"}
        with urlopen(Request(f"http://{node}/the-index/_alias/alias-1", headers=headers, method="PUT")) as answer:
            assert answer.status == 200
        with closing(connect(alias, basic_auth=("aliased", SECRET))) as writer:
            assert writer.count() == 0
            assert writer.upsert([1, 2], rows({1: 1.0}, {1: 2.0})).written == (1, 2)
            assert writer.upsert([2], rows({1: 3.0})).written == (2,)
            assert found(writer, {1: 1.0}) == (2, 1)
        adapter.drop()


def test_a_reader_reads_and_is_told_which_privilege_a_write_lacks(index: str) -> None:
    adapter = connect(index, basic_auth=("reader", SECRET))
    assert found(adapter, {1: 1.0}) == ("first",)
    with pytest.raises(BackendUnsupported, match=r"lack a privilege.*indices:data/write"):
        adapter.upsert(["second"], rows({1: 1.0}))
    assert adapter.count() == 1


def test_creating_an_index_without_the_privileges_says_so(node: str) -> None:
    adapter = connect(f"elasticsearch://{node}/nowhere", basic_auth=("writer", SECRET))
    with pytest.raises(BackendUnsupported, match="privilege"):
        adapter.create(100)


def test_a_request_is_sized_by_the_limit_of_the_node_before_it_is_sent(index: str) -> None:
    adapter = connect(index, basic_auth=("everything", SECRET))
    documents = rows(*(dict.fromkeys(range(100), 0.1) for _ in range(200)))
    with pytest.raises(OutOfLimits, match=str(LARGEST)) as refused:
        adapter.upsert(range(200), documents)
    assert refused.value.splittable
    assert ingest(adapter, range(200), documents).written == 200
    assert adapter.count() == 201


# ---- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with key.pem, and cert.pem for 127.0.0.1, signed by itself."""
    folder = tmp_path_factory.mktemp("tls")
    subject = ["-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject, *files]
    subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def tls(node: str, certificate: Path) -> Iterator[int]:
    """The port of a TLS terminator in front of the node."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener, context, node), daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def serve(listener: socket.socket, context: ssl.SSLContext, node: str) -> None:
    host, _, port = node.partition(":")
    with suppress(OSError):
        while True:
            client, _ = listener.accept()
            with suppress(OSError):
                secured = context.wrap_socket(client, server_side=True)
                backend = socket.create_connection((host, int(port)))
                for source, sink in ((secured, backend), (backend, secured)):
                    threading.Thread(target=pump, args=(source, sink), daemon=True).start()


def pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError), source, sink:
        while data := source.recv(65536):
            sink.sendall(data)


def test_https_with_a_ca_file_or_a_fingerprint(index: str, tls: int, certificate: Path) -> None:
    url = f"elasticsearch+https://127.0.0.1:{tls}/{index.rpartition('/')[2]}"
    pem = (certificate / "cert.pem").read_text()
    fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
    for trust in ({"ca_certs": str(certificate / "cert.pem")}, {"ssl_assert_fingerprint": fingerprint}):
        with closing(connect(url, basic_auth=("everything", SECRET), **trust)) as adapter:
            assert found(adapter, {1: 1.0}) == ("first",)
    with closing(connect(url)) as adapter, pytest.raises(BackendUnsupported, match="ca_certs"):
        adapter.count()


def test_what_is_wrong_with_a_certificate_is_told_apart(index: str, tls: int, certificate: Path, node: str) -> None:
    def refusal(host: str, **trust: str) -> str:
        url = f"elasticsearch+https://{host}/{index.rpartition('/')[2]}"
        with (
            closing(connect(url, basic_auth=("everything", SECRET), **trust)) as adapter,
            pytest.raises(BackendUnsupported) as refused,
        ):
            adapter.count()
        assert SECRET not in str(refused.value)
        return str(refused.value)

    authority = str(certificate / "cert.pem")
    assert "authority is not trusted" in refusal(f"127.0.0.1:{tls}")
    assert "another name" in refusal(f"localhost:{tls}", ca_certs=authority)
    assert "ssl_assert_fingerprint" in refusal(f"127.0.0.1:{tls}", ssl_assert_fingerprint="00" * 32)
    assert "speaks no TLS" in refusal(node, ca_certs=authority)


def test_a_certificate_file_that_is_not_there_is_named() -> None:
    with pytest.raises(InvalidInput, match="ca_certs= names no file"):
        connect("elasticsearch+https://localhost/products", ca_certs="/nowhere/ca.pem")


@pytest.mark.parametrize(
    "credentials", [{"bearer_auth": SECRET + "\n"}, {"api_key": SECRET + "\r"}, {"api_key": SECRET + "é"}]
)
def test_a_secret_that_no_header_can_carry_is_refused_and_not_repeated(credentials: dict[str, str]) -> None:
    with pytest.raises(InvalidInput, match="strip") as refused:
        connect("elasticsearch://localhost/products", **credentials)
    assert SECRET not in f"{refused.value} {refused.value.__cause__!r}"


# ---- a client of the caller's


def test_a_client_of_the_callers_stays_open(index: str, node: str) -> None:
    client = Elasticsearch(f"http://{node}", basic_auth=("everything", SECRET))
    name = index.rpartition("/")[2].partition("?")[0]
    adapter = connect(client, index=name, field="emb")
    assert found(adapter, {1: 1.0}) == ("first",)
    adapter.close()
    assert client.count(index=name)["count"] == 1
    client.close()


def test_part_of_a_client_is_refused() -> None:
    with closing(Elasticsearch("http://127.0.0.1:1")) as client, pytest.raises(InvalidInput, match="IndicesClient"):
        connect(client.indices, index="products")


def test_a_server_that_is_not_there_is_down() -> None:
    with pytest.raises(BackendDown, match="no answer"):
        connect("elasticsearch://127.0.0.1:1/products").count()


@pytest.mark.parametrize(
    ("url", "options", "words"),
    [
        ("elasticsearch:///products", {}, "cloud_id"),
        ("elasticsearch://localhost/products", {"cloud_id": "x:eA=="}, "cloud_id"),
        ("elasticsearch://localhost/products", {"password": SECRET}, "password"),
        ("elasticsearch+grpc://localhost/products", {}, "grpc"),
        ("elasticsearch://localhost/products", {"api_key": SECRET, "bearer_auth": SECRET}, "api_key"),
    ],
)
def test_a_url_and_credentials_that_do_not_fit_are_refused(url: str, options: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as refused:
        connect(url, **options)
    assert SECRET not in str(refused.value)
