"""Hold your own cluster to the contract of sparsevec, clause by clause:

    SPARSEVEC_OPENSEARCH_URL=http://localhost:9200 pytest examples/conformance/test_my_cluster.py

Without the variable the fixture `opensearch_url` starts an engine: in docker, or from Maven Central.
"""

from collections.abc import Iterator
from contextlib import closing

import pytest

from sparsevec import Adapter, connect
from sparsevec.testing.conformance import Conformance


class TestMyCluster(Conformance):
    @pytest.fixture
    def adapter(self, opensearch_url: str) -> Iterator[Adapter]:
        url = f"{opensearch_url}/conformance?shards=3&replicas=0"
        with closing(connect(url)) as adapter:
            yield adapter
        with closing(connect(url)) as adapter:
            adapter.drop()
