"""What changed from version to version, by the `index.version.created` of an index."""

from __future__ import annotations

from sparsevec.errors import BackendUnsupported

__all__ = [
    "LINEAR",
    "OPENSEARCH",
    "SPARSE_VECTOR",
    "SUBOBJECTS",
    "TERM",
    "UNPRUNED",
    "codes_as_vectors",
    "hides_vectors",
    "version_created",
]

OPENSEARCH = 0x08000000  # set in every index.version.created of OpenSearch
SPARSE_VECTOR = 8_500_002  # the first index version with sparse_vector and `exists` on it: Elasticsearch 8.11
TERM = 8_08_00_99  # `term` on rank_features
LINEAR = 7_12_00_99  # `rank_feature` with `linear`
SUBOBJECTS = 8_03_00_99  # `subobjects: false`
UNPRUNED = ((8_535_000, 9_000_000), (9_031_000, OPENSEARCH))  # sparse_vector is pruned unless its mapping says no
_RELEASES = (((9, 1), 9_031_000), ((9, 0), 9_000_000), ((8, 19), 8_535_000), ((8, 11), SPARSE_VECTOR))


def version_created(engine: str, version: str) -> int:
    """The `index.version.created` that this server gives an index, as far as it matters. Raises BackendUnsupported."""
    major, minor = release = _release(version)
    plain = major * 1_000_000 + minor * 10_000 + 99
    if engine == "opensearch" and major >= 7:
        raise BackendUnsupported(f"the server is Elasticsearch {version}; use elasticsearch://")
    if engine == "opensearch":
        return OPENSEARCH ^ plain
    return next((created for since, created in _RELEASES if release >= since), plain)


def hides_vectors(engine: str, version: str | None, created: int) -> bool:
    """Whether answers leave vectors out of `_source` unless told not to: Elasticsearch 9.2 and later, serverless."""
    if engine != "elasticsearch":
        return False
    return created > _RELEASES[0][1] if version is None else _release(version) >= (9, 2)


def codes_as_vectors(engine: str, version: str | None, created: int) -> bool:
    """Whether a byte vector is kept out of `_source`, comes back by `docvalue_fields` as base64, and survives partial
    updates: seen on 9.5, and not asked of servers before it."""
    hides = engine == "elasticsearch" and version is not None and _release(version) >= (9, 5)
    return hides and _RELEASES[0][1] <= created < OPENSEARCH


def _release(version: str) -> tuple[int, int]:
    major, minor = (int(part) for part in version.split(".")[:2])
    return major, minor
