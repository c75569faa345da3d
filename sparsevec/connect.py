"""`connect`: from a url, or a client object of the caller's, to an adapter."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

from sparsevec.adapter import Adapter, Url
from sparsevec.errors import AdapterNotFound

__all__ = ["connect"]

_ADAPTERS = "sparsevec.adapters"  # by the engine of a url, with or without its variant
_CLIENTS = "sparsevec.clients"  # by the package that a client object comes from


def connect(where: Any, **options: Any) -> Adapter:
    """The adapter behind a url such as `qdrant://localhost:6333/products`, or around a ready client object.

    Credentials (`api_key=`, `basic_auth=`, ...) are keyword arguments, never part of the url. With a client object the
    keyword arguments say the rest (`collection=`, `index=`, ...), and the caller still owns and closes it.
    Raises AdapterNotFound, ClientMissing, InvalidInput, or what the adapter finds wrong.
    """
    if not isinstance(where, str):
        package = type(where).__module__.partition(".")[0]
        return _load(_CLIENTS, package).from_client(where, **options)  # type: ignore[no-any-return]
    url = Url.parse(where)
    return _load(_ADAPTERS, f"{url.engine}-{url.variant}", url.engine).connect(url, **options)  # type: ignore[no-any-return]


def _load(group: str, *names: str) -> Any:
    known: dict[str, EntryPoint] = {entry.name: entry for entry in entry_points(group=group)}
    for name in names:
        if name in known:
            return known[name].load()
    raise AdapterNotFound(f"no adapter answers to {names[-1]!r}; there are {sorted(known)}")
