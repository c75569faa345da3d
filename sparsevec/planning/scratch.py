"""`probed`: what a query takes on an engine, from a temporary collection there, for postings that are not there yet.

The collection is named after the one it is for, with `-sparsevec-scratch-` and the time, holds the codes of a sample
and nothing else, and is removed after any end of the run that lets Python act. One that a killed run left, more than
an hour ago, is removed by the next; what `create` did not make is never touched.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from sparsevec.contract.adapter import Adapter
from sparsevec.contract.connect import connect
from sparsevec.contract.urls import Url
from sparsevec.errors import CollectionError, InvalidInput
from sparsevec.ingestion.ingest import ingest
from sparsevec.live.many import collections
from sparsevec.planning.latency import LatencyModel, latency_model
from sparsevec.vectors import SparseVectors

__all__ = ["probed", "server_of"]

_MARK = "-sparsevec-scratch-"
_LEFT = 3600  # seconds after which nobody works with one any more


def probed(where: object, codes: SparseVectors, credentials: Mapping[str, Any]) -> LatencyModel:
    """A latency model of the engine that the url `where` names, over a collection of these `codes`.

    Raises what `server_of`, `create` and `ingest` raise.
    """
    with _scratch(server_of(where), credentials) as adapter:
        adapter.create(codes.dimension, fingerprint=codes.fingerprint)
        ingest(adapter, np.arange(len(codes)), codes).require_complete()
        return latency_model(adapter, codes)


def server_of(where: object) -> Url:
    """The url of a server. Raises InvalidInput for an adapter or a folder."""
    if not isinstance(where, str) or not (url := Url.parse(where)).hosts:
        raise InvalidInput(
            "a temporary collection is made on a server that a url names; pass that, or leave scratch out"
        )
    return url


@contextmanager
def _scratch(url: Url, credentials: Mapping[str, Any]) -> Iterator[Adapter]:
    prefix, slash, name = url.path.rpartition("/")
    base = replace(url, path=f"{prefix}{slash}{name.replace('*', '').replace(',', '-')}{_MARK}")
    for left in _left(base, credentials, time.time()):
        with connect(left, **credentials) as adapter:
            adapter.drop()
    with connect(str(replace(base, path=f"{base.path}{int(time.time() * 1000)}")), **credentials) as adapter:
        try:
            yield adapter
        finally:
            adapter.drop()


def _left(base: Url, credentials: Mapping[str, Any], now: float) -> Iterator[str]:
    """Urls of what killed runs left."""
    pattern = replace(base, path=f"{base.path}*")
    try:
        found = collections(str(pattern), **credentials)
    except CollectionError:
        return
    for url in found:
        made = Url.parse(url).path.rpartition(_MARK)[2]
        if made.isdigit() and int(made) / 1000 < now - _LEFT:
            yield url
