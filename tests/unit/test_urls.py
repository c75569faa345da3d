"""One line of text says where a collection is, and never holds or repeats a secret."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsevec.contract.urls import Url
from sparsevec.errors import InvalidInput

SECRET = "T0p5ecret"
WHERE = "elasticsearch://h1:9200,h2:9201/products?field=sparse"


def test_every_host_of_a_cluster_is_named_in_one_url() -> None:
    url = Url.parse(WHERE)
    assert url.hosts == (("h1", 9200), ("h2", 9201))
    assert (url.host, url.port) == ("h1", 9200)


def test_a_host_without_a_port_has_the_last_ones() -> None:
    assert Url.parse("elasticsearch://h1,h2:9201/x").hosts == (("h1", 9201), ("h2", 9201))
    assert Url.parse("elasticsearch://h1,h2/x").hosts == (("h1", None), ("h2", None))


def test_an_ipv6_address_stands_in_brackets() -> None:
    url = Url.parse("qdrant://[::1]:6333/products")
    assert url.hosts == (("::1", 6333),)
    assert str(url) == "qdrant://[::1]:6333/products"


def test_without_a_host_a_url_has_an_absolute_path_and_options() -> None:
    url = Url.parse("elasticsearch:///products?field=sparse")
    assert (url.hosts, url.host, url.port, url.path) == ((), "", None, "/products")
    assert url.options == {"field": "sparse"}


def test_options_follow_a_path_too_and_a_question_mark_of_its_own_is_escaped() -> None:
    url = Url.parse("local:some/file.db?vector_name=s")
    assert (url.path, url.options) == ("some/file.db", {"vector_name": "s"})
    url = Url.parse("local:///what%3F.db")
    assert (url.path, url.options) == ("/what?.db", {})


@pytest.mark.parametrize(
    "text",
    [
        WHERE,
        "qdrant+https://db.example.org:6334/shoes%20old?vector_name=a%40b",
        "qdrant://h/%E4%B8%96%2Fa%3Fb%23c",
        "elasticsearch:///products?field=sparse",
        "qdrant://h/prefix/products",
        "qdrant://h",
        "reference:",
        "reference:some/file.db",
        "reference:/abs/file with blanks, # and @.db",
        "reference:///abs/file.db",
        "reference:////abs",
        "reference:///what%3F.db",
        "reference:some/file.db?x=1&y=%3F",
        "qdrant+memory:products?vector_name=a",
        "qdrant+edge:C#/x",
        "qdrant+memory://",
        "Elasticsearch://HOST/x",
    ],
)
def test_a_url_written_down_is_the_same_url_when_read(text: str) -> None:
    url = Url.parse(text)
    assert Url.parse(str(url)) == url
    assert eval(repr(url), {"Url": Url}) == url


names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)
hosts = st.lists(st.tuples(st.sampled_from(["a", "b.example", "::1"]), st.sampled_from([1, 9200, 65535])), max_size=3)


@given(hosts, names, st.dictionaries(st.sampled_from(["field", "vector_name"]), names.filter(bool)))
def test_any_name_of_a_collection_survives_its_url(
    where: list[tuple[str, int | None]], path: str, options: dict[str, str]
) -> None:
    url = Url("qdrant", "", tuple(where), path if where else path.replace("?", "%3F"), options)
    assert Url.parse(str(url)) == url


@pytest.mark.parametrize(
    "text",
    [
        f"elasticsearch://elastic:{SECRET}@h:9200/x",
        f"elasticsearch://elastic:{SECRET}#a@h:9200/x",
        f"elasticsearch://elastic:a#{SECRET}@h:9200/x",
        f"elasticsearch://elastic:a/{SECRET}@h:9200/x",
        f"elasticsearch://elastic:1/{SECRET}@h:9200/x",
        f"elasticsearch://elastic:a?{SECRET}@h:9200/x",
        f"elasticsearch://elastic:1?q={SECRET}@h:9200/x",
        f"elasticsearch://elastic:a@{SECRET}@h:9200/x",
        f"elasticsearch://elastic:[{SECRET}@h:9200/x",
        f"elasticsearch://elastic:{SECRET}/x",
        f"elasticsearch://elastic:{SECRET}\n@h/x",
        f"elasticsearch://{SECRET}@h/x",
        f"elasticsearch:/elastic:{SECRET}@h/x",
        f"elasticsearch:elastic:{SECRET}@h/x",
        f"elasticsearch:///elastic:{SECRET}@h/x",
        f"elastic:{SECRET}@h:9200",
        f"//elastic:{SECRET}@h:9200",
        f" elastic {SECRET}@h:9200",
        f"elasticsearch://h/x?api_key={SECRET}",
        f"elasticsearch://h/x?field=a&Password={SECRET}",
        f"elasticsearch:///x?bearer_auth={SECRET}",
        f"local:x.db?api_key={SECRET}",
        f"elasticsearch://h:{SECRET}/x",
        f"elasticsearch://h:99999{SECRET}/x",
    ],
)
def test_a_secret_is_never_repeated_whatever_the_url_looks_like(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Url.parse(text)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("products", "expected a url such as"),
        (":x", "expected a url such as"),
        ("a b://x", "expected a url such as"),
        ("qdrant://h:0/x", "port outside"),
        ("qdrant://h:65536/x", "port outside"),
        ("qdrant://h:port/x", "HOST:PORT"),
        ("qdrant://h1,,h2/x", "HOST:PORT"),
        ("qdrant://::1:6333/x", "HOST:PORT"),
        ("qdrant://h/x#y", "%23"),
        ("qdrant://h/x y", "%20"),
        ("qdrant://h/x\x00", "control character"),
        ("reference:a\x00b", "control character"),
        ("reference:///a%00b", "NUL"),
        ("qdrant://h/x?vector_name=a&vector_name=b", "twice"),
        ("local:x.db?a=1&a=2", "twice"),
    ],
)
def test_a_url_that_means_nothing_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        Url.parse(text)
