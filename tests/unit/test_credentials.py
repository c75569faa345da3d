"""Credentials that a client could not use, or would only fail over later: refused by `connect`, and never repeated."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import certifi
import pytest

from sparsevec import aconnect, connect
from sparsevec.contract.credentials import refused
from sparsevec.errors import InvalidInput

ELASTICSEARCH, OPENSEARCH = "elasticsearch+https://localhost/x", "opensearch+https://localhost/x"
QDRANT = "qdrant+https://localhost/x"
CERTIFICATES = certifi.where()

WRONG: list[tuple[str, str, Any, str]] = [
    (ELASTICSEARCH, "api_key", 12, "must be a string, or a pair (id, key) of strings, found int"),
    (ELASTICSEARCH, "api_key", b"hush", "must be a string, or a pair (id, key) of strings, found bytes"),
    (ELASTICSEARCH, "api_key", ("hush",), "must be a string, or a pair (id, key) of strings, found tuple"),
    (ELASTICSEARCH, "api_key", "hush\n", "holds a character that no header can carry"),
    (ELASTICSEARCH, "basic_auth", 3, "must be a pair (user, password) of strings, found int"),
    (ELASTICSEARCH, "basic_auth", ("hush", None), "must be a pair (user, password) of strings, found tuple"),
    (ELASTICSEARCH, "basic_auth", ("me", "hush\r"), "holds a character that no header can carry"),
    (ELASTICSEARCH, "bearer_auth", 3, "must be a string, found int"),
    (ELASTICSEARCH, "ca_certs", 3, "must be the path of a file, found int"),
    (ELASTICSEARCH, "ca_certs", "/nowhere.pem", "names no file: '/nowhere.pem'"),
    (ELASTICSEARCH, "client_key", "/", "names no file: '/'"),
    (ELASTICSEARCH, "cloud_id", 3, "must be a string, found int"),
    (ELASTICSEARCH, "request_timeout", "x", "must be a positive number of seconds, found 'x'"),
    (ELASTICSEARCH, "request_timeout", True, "must be a positive number of seconds, found True"),
    (ELASTICSEARCH, "ssl_assert_fingerprint", 3, "must be a string, found int"),
    (ELASTICSEARCH, "ssl_context", 3, "must be an ssl.SSLContext, found int"),
    (ELASTICSEARCH, "verify_certs", "no", "must be True or False, found str"),
    (OPENSEARCH, "basic_auth", 3, "must be a pair (user, password) of strings, found int"),
    (OPENSEARCH, "http_auth", ("hush", 3), "must be a pair (user, password) of strings, found tuple"),
    (OPENSEARCH, "ca_certs", 3, "must be the path of a file, found int"),
    (OPENSEARCH, "timeout", 0, "must be a positive number of seconds, found 0"),
    (QDRANT, "api_key", 12, "must be a string, found int"),
    (QDRANT, "api_key", ("me", "hush"), "must be a string, found tuple"),
    (QDRANT, "auth_token_provider", "hush", "must be a function, found str"),
    (QDRANT, "headers", [("x-key", "hush")], "must be a mapping of names to strings, found list"),
    (QDRANT, "headers", {"x-key": "hush\n"}, "of 'x-key' holds a character that no header can carry"),
    (QDRANT, "headers", {"x-key": 3}, "of 'x-key' must be a string, found int"),
    (QDRANT, "timeout", "x", "must be a positive number of seconds, found 'x'"),
    (QDRANT, "timeout", float("inf"), "must be a positive number of seconds, found inf"),
    (QDRANT, "verify", 3, "must be the path of a file, found int"),
    (QDRANT, "verify", "/nowhere.pem", "names no file: '/nowhere.pem'"),
]


def within_a_loop(url: str, **credentials: Any) -> object:
    return asyncio.run(aconnect(url, **credentials))


@pytest.mark.parametrize("door", [connect, within_a_loop])
@pytest.mark.parametrize(("url", "name", "value", "words"), WRONG)
def test_a_credential_of_the_wrong_kind_is_refused_without_repeating_a_secret(
    door: Callable[..., object], url: str, name: str, value: Any, words: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        door(url, **{name: value})
    assert str(caught.value).startswith(f"{name}= {words}")
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "credentials"),
    [
        (ELASTICSEARCH, {"api_key": ("id", "key"), "request_timeout": 3, "verify_certs": True}),
        (ELASTICSEARCH, {"basic_auth": ["me", "pass"], "client_key": None}),
        (ELASTICSEARCH, {"bearer_auth": "token", "ca_certs": Path(CERTIFICATES)}),
        (OPENSEARCH, {"http_auth": print, "timeout": 0.5}),
        (OPENSEARCH, {"basic_auth": ("me", "p\u00e4ss")}),
        (OPENSEARCH, {"basic_auth": "me:pass", "ssl_context": ssl.create_default_context()}),
        (QDRANT, {"api_key": "key", "timeout": 0.5, "verify": False, "headers": {"x-key": "k"}}),
        (QDRANT, {"verify": CERTIFICATES}),
        (QDRANT, {"verify": Path(CERTIFICATES).parent}),
        (QDRANT, {"auth_token_provider": lambda: "token", "timeout": None}),
    ],
)
def test_what_a_client_takes_is_given_to_it(url: str, credentials: dict[str, Any]) -> None:
    connect(url, **credentials).close()


@pytest.mark.parametrize("url", [ELASTICSEARCH, OPENSEARCH, QDRANT])
def test_a_name_that_no_client_takes_is_refused_with_those_that_it_does(url: str) -> None:
    with pytest.raises(InvalidInput, match=r"expected some of \[.*\] as keyword arguments, found \['password'\]"):
        connect(url, password="hush")


def test_certificates_that_are_none_are_refused_by_the_client_in_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("none")
    with pytest.raises(InvalidInput, match="the Qdrant client does not take these credentials: "):
        connect(QDRANT, verify=str(tmp_path / "ca.pem"))


@pytest.mark.parametrize(
    "credentials",
    [{"api_key": "e"}, {"basic_auth": ("me", "a str")}, {"http_auth": ["ins", "x"]}, {"headers": {"x-key": "str"}}],
)
def test_words_of_a_client_that_repeat_a_secret_are_left_out(credentials: dict[str, Any]) -> None:
    said = str(refused("Our", TypeError("expected a str instance"), credentials))
    assert said.endswith("TypeError, whose message is left out because it repeats one of them")


def test_a_character_of_a_secret_that_a_client_cannot_encode_is_not_repeated() -> None:
    with pytest.raises(InvalidInput, match=r"it cannot encode a character in them$"):
        connect(ELASTICSEARCH, basic_auth=("me", "p\u00e4ss"))


def test_words_of_a_client_that_repeat_none_are_kept() -> None:
    said = str(refused("Our", TypeError("expected a str instance"), {"api_key": "hush", "basic_auth": ("", "")}))
    assert said.endswith("does not take these credentials: expected a str instance")
