"""What a Qdrant server says over gRPC when something is wrong is told apart as over REST."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from sparsevec import connect
from sparsevec.errors import (
    AdapterError,
    BackendDown,
    BackendUnsupported,
    CollectionError,
    OutOfLimits,
    SparsevecError,
    StorageFailed,
)
from tests.faults.conftest import DIMENSION, documents
from tests.integration.qdrant_grpc_shim import QdrantGrpcShim
from tests.integration.qdrant_shim import QdrantShim

pytestmark = pytest.mark.qdrant


@pytest.fixture
def front(tmp_path: Path) -> Iterator[QdrantGrpcShim]:
    with QdrantShim(tmp_path) as shim:
        front = QdrantGrpcShim(shim)
        yield front
        front.close()


@pytest.mark.parametrize(
    ("code", "details", "error"),
    [
        (grpc.StatusCode.UNAVAILABLE, "shard is not available", BackendDown),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "Timeout", BackendDown),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Rate limiting exceeded", BackendDown),
        (grpc.StatusCode.INTERNAL, "Service internal error", BackendDown),
        (grpc.StatusCode.INTERNAL, "No space left on device", StorageFailed),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max (5 vs. 4)", OutOfLimits),
        (grpc.StatusCode.NOT_FOUND, "Collection `x` doesn't exist!", CollectionError),
        (grpc.StatusCode.PERMISSION_DENIED, "Forbidden", BackendUnsupported),
        (grpc.StatusCode.UNAUTHENTICATED, "Must provide an API key", BackendUnsupported),
        (grpc.StatusCode.INVALID_ARGUMENT, "Validation error in body", AdapterError),
    ],
)
def test_a_status_is_told_with_the_servers_reason(
    front: QdrantGrpcShim, code: grpc.StatusCode, details: str, error: type[SparsevecError]
) -> None:
    given = documents(3)
    with closing(connect(f"qdrant+grpc://127.0.0.1:{front.port}/faults")) as adapter:
        adapter.create(DIMENSION)
        front.fault = (code, details)
        with pytest.raises(error) as refused:
            adapter.upsert(given.ids, given.vectors)
        assert type(refused.value) is error
        assert details in str(refused.value)
        assert adapter.upsert(given.ids, given.vectors).written == tuple(given.ids)


def test_nobody_listening_is_a_backend_that_is_down() -> None:
    with closing(connect("qdrant+grpc://127.0.0.1:1/faults", timeout=1)) as adapter, pytest.raises(BackendDown):
        adapter.count()
