"""Credentials, from the environment: by engine, or for whichever engine takes them.

    SPARSEVEC_ELASTICSEARCH_API_KEY, or _USER and _PASSWORD; _CA_CERTS, a file
    SPARSEVEC_OPENSEARCH_USER and _PASSWORD; _CA_CERTS
    SPARSEVEC_QDRANT_API_KEY; _CA_CERTS
    SPARSEVEC_API_KEY, SPARSEVEC_USER and SPARSEVEC_PASSWORD, SPARSEVEC_CA_CERTS: for an engine that has none of its own

No message holds a secret.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from sparsevec.contract.adapter import Adapter
from sparsevec.contract.connect import connect
from sparsevec.contract.urls import Url
from sparsevec.errors import InvalidInput

__all__ = ["SPELLED", "connected", "credentials", "secrets_of"]

# What `connect` of each engine calls them; an engine of somebody else's may take all three.
_TAKES: Mapping[str, Mapping[str, str]] = {
    "elasticsearch": {"api_key": "api_key", "basic_auth": "basic_auth", "ca_certs": "ca_certs"},
    "opensearch": {"basic_auth": "basic_auth", "ca_certs": "ca_certs"},
    "qdrant": {"api_key": "api_key", "ca_certs": "verify"},
}

SPELLED: Mapping[str, str] = {
    "api_key": "SPARSEVEC_[ENGINE_]API_KEY",
    "basic_auth": "SPARSEVEC_[ENGINE_]USER and _PASSWORD",
    "ca_certs": "SPARSEVEC_[ENGINE_]CA_CERTS",
    "verify": "SPARSEVEC_[ENGINE_]CA_CERTS",
}
"""How the environment spells what `connect` calls so."""


def connected(url: str) -> Adapter:
    """The adapter behind `url`, with the credentials of the environment where it names a server."""
    return connect(url, **secrets_of(url))


def secrets_of(url: str) -> dict[str, Any]:
    """What the environment has for the server that `url` names; nothing where it names none."""
    place = Url.parse(url)
    return credentials(place.engine, os.environ) if place.host else {}


def credentials(engine: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """The keyword arguments of `connect` for a server of `engine`. Raises InvalidInput for what it does not take."""
    prefix = f"SPARSEVEC_{engine.upper().replace('-', '_')}_"
    own, shared = _read(prefix, environment), _read("SPARSEVEC_", environment)
    takes = _TAKES.get(engine, {name: name for name in own})
    if unfit := [name for name in own if name not in takes]:
        raise InvalidInput(f"{engine} takes {_listed(prefix, takes)} from the environment; unset that of {unfit}")
    if {"api_key", "basic_auth"} <= set(own):
        raise InvalidInput(f"expected {prefix}API_KEY or {prefix}USER with {prefix}PASSWORD, found both; unset one")
    if own.keys() & {"api_key", "basic_auth"}:
        shared.pop("api_key", None)
        shared.pop("basic_auth", None)
    elif "api_key" in shared and "api_key" in takes:
        shared.pop("basic_auth", None)  # a client takes one of the two
    found = {name: secret for name, secret in shared.items() if name in takes} | own
    return {takes[name]: secret for name, secret in found.items()}


def _read(prefix: str, environment: Mapping[str, str]) -> dict[str, Any]:
    def value(name: str) -> str | None:
        return environment.get(prefix + name) or None

    user, password = value("USER"), value("PASSWORD")
    if (user is None) != (password is None):
        raise InvalidInput(f"expected {prefix}USER and {prefix}PASSWORD, found only one of them; set both or none")
    basic = None if user is None else (user, password)
    found = {"api_key": value("API_KEY"), "basic_auth": basic, "ca_certs": value("CA_CERTS")}
    return {name: secret for name, secret in found.items() if secret}


def _listed(prefix: str, takes: Mapping[str, str]) -> str:
    names = {"api_key": "API_KEY", "basic_auth": "USER with _PASSWORD", "ca_certs": "CA_CERTS"}
    return ", ".join(prefix + names[name] for name in takes)
