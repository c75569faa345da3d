"""Urls, hosts and clients of Elasticsearch and OpenSearch: no server needed."""

from __future__ import annotations

import copy
import pickle

import pytest

from sparsevec import connect
from sparsevec.contract.urls import Url
from sparsevec.errors import InvalidInput


def test_a_port_behind_the_last_host_is_that_of_all() -> None:
    url = Url.parse("elasticsearch://h1,h2:9201/products?field=emb")
    assert url.hosts == (("h1", 9201), ("h2", 9201))
    assert (url.host, url.port) == ("h1", 9201)
    assert Url.parse("elasticsearch://h1:1,[::1]:2/x").hosts == (("h1", 1), ("::1", 2))
    assert Url.parse("elasticsearch://h1/x").hosts == (("h1", None),)


@pytest.mark.parametrize(
    "text", ["elasticsearch+https://h1:1,[::1]:2/a%20b?field=emb", "qdrant://localhost/x", "reference:/a/b"]
)
def test_a_url_is_read_back_from_its_text(text: str) -> None:
    assert Url.parse(str(Url.parse(text))) == Url.parse(text)


@pytest.mark.parametrize("secret", ["hunter2", "hun/ter2", "hun#ter2", "hun?ter2", "hun:ter2", "h,2"])
def test_a_secret_in_a_url_is_refused_and_not_repeated(secret: str) -> None:
    with pytest.raises(InvalidInput, match="credentials") as refused:
        Url.parse(f"elasticsearch://elastic:{secret}@localhost:9200/products")
    assert secret not in str(refused.value)


@pytest.mark.parametrize("hosts", ["h:x", "h:99999", ",h", "h,,h2"])
def test_hosts_that_are_none_are_refused(hosts: str) -> None:
    with pytest.raises(InvalidInput, match=r"HOST:PORT|a port outside"):
        Url.parse(f"elasticsearch://{hosts}/products")


@pytest.mark.parametrize("engine", ["elasticsearch", "opensearch"])
def test_an_adapter_is_copied_by_its_url_and_says_why_not_where_it_has_secrets(engine: str) -> None:
    with connect(f"{engine}://h1,h2:9201/products?field=emb") as adapter:
        with pickle.loads(pickle.dumps(adapter)) as again:
            assert repr(again) == repr(adapter)
        assert "index 'products' at h1:9201,h2:9201, field 'emb'" in repr(adapter)
    with connect(f"{engine}://localhost/products", basic_auth=("a", "hunter2")) as adapter:
        with pytest.raises(InvalidInput, match="credentials"):
            copy.copy(adapter)
        assert "hunter2" not in repr(adapter)


@pytest.mark.parametrize("option", ["refresh=never", "favour=space", "field=a.b", "shards=many", "fields=emb"])
def test_options_that_nobody_could_follow_are_refused(option: str) -> None:
    with pytest.raises(InvalidInput):
        connect(f"opensearch://localhost/products?{option}")


def test_a_url_of_the_cloud_has_no_host_and_its_options_are_read() -> None:
    with pytest.raises(InvalidInput, match="fields"):
        connect("elasticsearch:///products?fields=emb", cloud_id="x:eA==")
