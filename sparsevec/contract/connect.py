"""`connect` and `aconnect`: from a url, or a client object of the caller's, to an adapter."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from inspect import signature
from typing import Any

from sparsevec.contract.adapter import Adapter, AsyncAdapter
from sparsevec.contract.operations import InThreads
from sparsevec.contract.urls import Url
from sparsevec.errors import AdapterNotFound, InvalidInput

__all__ = ["aconnect", "connect"]

_ADAPTERS, _ASYNC_ADAPTERS = "sparsevec.adapters", "sparsevec.async_adapters"  # by the engine of a url, or its variant
_CLIENTS, _ASYNC_CLIENTS = "sparsevec.clients", "sparsevec.async_clients"  # by the package that a client comes from
_OTHER_NAMES = {"http": "elasticsearch", "https": "elasticsearch+https", "es": "elasticsearch", "os": "opensearch"}


def connect(where: Any, **options: Any) -> Adapter:
    """The adapter behind a url such as `qdrant://localhost:6333/products`, or around a ready client object.

    Credentials (`api_key=`, `basic_auth=`, ...) are keyword arguments, never part of the url. With a client object the
    keyword arguments say the rest (`collection=`, `index=`, ...), and the caller still owns and closes it.
    Raises AdapterNotFound, ClientMissing, InvalidInput, or what the adapter finds wrong.
    """
    if not isinstance(where, str):
        return _of_client(where, _CLIENTS, options)  # type: ignore[no-any-return]
    url = Url.parse(where)
    return _found(_ADAPTERS, f"{url.engine}-{url.variant}", url.engine).connect(url, **options)  # type: ignore[no-any-return]


async def aconnect(where: Any, **options: Any) -> AsyncAdapter:
    """The same for asyncio. A backend of this machine, such as `local:`, works in threads.

    A client object must be an asynchronous one: AsyncElasticsearch, AsyncOpenSearch, AsyncQdrantClient.
    """
    if not isinstance(where, str):
        return _of_client(where, _ASYNC_CLIENTS, options)  # type: ignore[no-any-return]
    url = Url.parse(where)
    variant = f"{url.engine}-{url.variant}"  # of this machine, where it has a door of its own and that only for threads
    known = (variant,) if _entry(_ADAPTERS, variant) else (variant, url.engine)
    if entry := _entry(_ASYNC_ADAPTERS, *known):
        return entry.load().connect(url, **options)  # type: ignore[no-any-return]
    return InThreads(await asyncio.to_thread(connect, where, **options))


def _of_client(client: object, group: str, options: dict[str, Any]) -> Any:
    package = type(client).__module__.partition(".")[0]
    if client is None or package == "builtins" or isinstance(client, (type, os.PathLike)):
        raise InvalidInput(
            f"expected a url such as 'qdrant://localhost:6333/products', or a client object, found {client!r:.80}"
        )
    make = _found(group, package).from_client
    try:
        signature(make).bind(client, **options)
    except TypeError as error:
        known = ", ".join(f"{name}=" for name in list(signature(make).parameters)[1:])
        raise InvalidInput(f"beside a client of {package} expected {known}: {error}") from None
    return make(client, **options)


@cache
def _known(group: str) -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=group)}


def _entry(group: str, *names: str) -> EntryPoint | None:
    known = _known(group)
    return next((known[name] for name in names if name in known), None)


def _found(group: str, *names: str) -> Any:
    if entry := _entry(group, *names):
        return entry.load()
    _known.cache_clear()  # it may have been installed since
    if entry := _entry(group, *names):
        return entry.load()
    known = sorted(_known(group))
    raise AdapterNotFound(f"no adapter answers to {names[-1]!r}; there are {known}{_meant(names[-1], known)}")


def _meant(name: str, known: Iterable[str]) -> str:
    meant = _OTHER_NAMES.get(name) or next(iter(get_close_matches(name, known, 1)), None)
    return f"; did you mean {meant}://?" if meant else ""
