"""Credentials, looked at before a client sees them: what each of them may be, and what goes wrong with them.

An adapter says for each name that it takes what the value may be: `{"api_key": key, "ca_certs": file}`. No message
repeats a value that may be secret.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from ssl import SSLContext
from typing import Any, TypeAlias

from sparsevec.contract.checks import as_real
from sparsevec.errors import InvalidInput

__all__ = [
    "Fault",
    "certificates",
    "check_credentials",
    "file",
    "function",
    "headers",
    "key",
    "key_or_pair",
    "login",
    "login_or_signer",
    "refused",
    "seconds",
    "switch",
    "text",
    "tls",
    "trust",
]

_SECRETS = ("api_key", "basic_auth", "bearer_auth", "headers", "http_auth")

Fault: TypeAlias = Callable[[Any], str | None]
"""Why a value is not what it is to be, or None."""


def check_credentials(credentials: Mapping[str, Any], known: Mapping[str, Fault]) -> None:
    """Raises InvalidInput for a name that is not `known`, and for a value with a fault; None stands for none given."""
    if unknown := sorted(set(credentials) - set(known)):
        raise InvalidInput(f"expected some of {list(known)} as keyword arguments, found {unknown}")
    for name, value in credentials.items():
        if value is not None and (fault := known[name](value)) is not None:
            raise InvalidInput(f"{name}= {fault}")


def refused(client: str, error: Exception, credentials: Mapping[str, Any]) -> InvalidInput:
    """For what a client does not take: in its own words, unless they repeat a secret. A short secret stands in words of
    every kind, and what is left around it would give it away."""
    said = str(error)
    if isinstance(error, UnicodeError):  # says which character, and where
        said = "it cannot encode a character in them"
    elif any(secret in said for name in _SECRETS for secret in _texts(credentials.get(name)) if secret):
        said = f"{type(error).__name__}, whose message is left out because it repeats one of them"
    return InvalidInput(f"the {client} client does not take these credentials: {said}")


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _texts(inner)
    elif isinstance(value, Mapping):
        yield from _texts(list(value.values()))


# ---- what a value may be


def key(value: object) -> str | None:
    """A string of ASCII that a header can carry."""
    return _unfit("a string", value) if not isinstance(value, str) else _uncarried(value, value.isascii())


def key_or_pair(value: object) -> str | None:
    """A key, or its id and itself."""
    if not (isinstance(value, str) or _is_pair(value)):
        return _unfit("a string, or a pair (id, key) of strings", value)
    return next(filter(None, map(key, _texts(value))), None)


def login(value: object) -> str | None:
    """A user and a password, or both as a client wants them in one string."""
    if not (isinstance(value, str) or _is_pair(value)):
        return _unfit("a pair (user, password) of strings", value)
    return next(filter(None, map(_uncarried, _texts(value))), None)


def login_or_signer(value: object) -> str | None:
    """The same, or what signs each request."""
    return None if callable(value) else login(value)


def headers(value: object) -> str | None:
    if not isinstance(value, Mapping):
        return _unfit("a mapping of names to strings", value)
    return next((f"of {name!r:.80} {fault}" for name, given in value.items() if (fault := key(given))), None)


def file(value: object) -> str | None:
    return _absent(value) or (None if Path(value).is_file() else _nowhere(value))  # type: ignore[arg-type]


def certificates(value: object) -> str | None:
    """A file of certificates, or a folder of such files."""
    return _absent(value) or (None if Path(value).exists() else _nowhere(value))  # type: ignore[arg-type]


def trust(value: object) -> str | None:
    """Certificates, a context of TLS, or whether any are looked at."""
    return None if isinstance(value, bool | SSLContext) else certificates(value)


def tls(value: object) -> str | None:
    return None if isinstance(value, SSLContext) else _unfit("an ssl.SSLContext", value)


def text(value: object) -> str | None:
    return None if isinstance(value, str) else _unfit("a string", value)


def seconds(value: object) -> str | None:
    number = as_real(value)
    if number is not None and 0 < number < math.inf:
        return None
    return f"must be a positive number of seconds, found {value!r:.80}"


def switch(value: object) -> str | None:
    return None if isinstance(value, bool) else _unfit("True or False", value)


def function(value: object) -> str | None:
    return None if callable(value) else _unfit("a function", value)


def _is_pair(value: object) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2 and all(isinstance(one, str) for one in value)


def _uncarried(value: str, also: bool = True) -> str | None:
    if value.isprintable() and also:
        return None
    return "holds a character that no header can carry, such as a line break; strip what was read from a file"


def _absent(value: object) -> str | None:
    return None if isinstance(value, (str, os.PathLike)) else _unfit("the path of a file", value)


def _nowhere(value: object) -> str:
    return f"names no file: {str(value)!r}"


def _unfit(expected: str, found: object) -> str:
    return f"must be {expected}, found {type(found).__name__}"
