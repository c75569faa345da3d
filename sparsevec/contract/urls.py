"""`Url`: where a collection is, as one line of text without secrets."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, unquote, urlencode

from sparsevec.errors import InvalidInput

__all__ = ["Url"]

_ENGINE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*(\+[A-Za-z0-9_.-]*)?")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+(?:%[\w.-]+)?\]|[\w.-]+)(?::([0-9]{0,5}))?")
_SECRET = re.compile(r"pass|pwd|secret|token|credential|auth|api_?key|^key$", re.IGNORECASE)
_LOGIN = re.compile(r":.*@|@[\w.-]+:[0-9]", re.DOTALL)  # in what is otherwise a path
_EXAMPLE = "qdrant://localhost:6333/products"


@dataclass(frozen=True, slots=True, repr=False)
class Url:
    """`engine[+variant]://host[,host][:port]/path[?options]`, or `engine[+variant]:path[?options]`. Never holds
    credentials.

    `str` gives a url that parses to the same. A name may hold any character as %xx. The path behind `engine:` is taken
    as it stands, up to a `?`; one that holds a `?` itself is written `engine:///absolute/path`, and in it %3F.
    """

    engine: str
    variant: str
    hosts: tuple[tuple[str, int | None], ...]
    """(name or address, port) of each; a host without a port of its own has the last one's. An IPv6 address stands
    here without its brackets."""
    path: str
    options: Mapping[str, str]

    @classmethod
    def parse(cls, text: str) -> Url:
        """Raises InvalidInput, which repeats nothing of a url that may hold a password."""
        engine, colon, rest = text.partition(":")
        if not colon or not _ENGINE.fullmatch(engine):
            raise InvalidInput(f"expected a url such as {_EXAMPLE}{_found(text)}")
        engine, _, variant = engine.lower().partition("+")
        networked = rest.startswith("//") and not rest.startswith("///")
        if "@" in rest and (networked or _LOGIN.search(rest)):
            raise InvalidInput(
                f"the {engine} url seems to hold credentials before an @; give them apart from it, as api_key= or "
                "basic_auth=, and write an @ that belongs to a name as %40"
            )
        if fault := _fault(rest) or (_network_fault(*_split(rest)) if networked else None):
            raise InvalidInput(f"the {engine} url {fault}")
        authority, path, query = _split(rest)
        if rest.startswith("//"):
            path = unquote(path.strip("/") if networked else path)  # without a host it may be absolute
        if "\0" in path:
            raise InvalidInput(f"the {engine} url names no path or collection that can be: it holds a NUL, %00")
        return cls(engine, variant, _hosts(authority), path, dict(parse_qsl(query, keep_blank_values=True)))

    @property
    def scheme(self) -> str:
        """The engine, and its variant where it has one."""
        return f"{self.engine}+{self.variant}" if self.variant else self.engine

    @property
    def host(self) -> str:
        """The first host; empty without one."""
        return self.hosts[0][0] if self.hosts else ""

    @property
    def port(self) -> int | None:
        """Of the first host; None where the url says none."""
        return self.hosts[0][1] if self.hosts else None

    def option(self, name: str, default: str) -> str:
        """The value of one option, `default` where the url does not give it."""
        return self.options.get(name, default)

    def expect_options(self, *known: str) -> None:
        """Raise InvalidInput when the url has an option that nobody would read."""
        if unknown := sorted(set(self.options) - set(known)):
            knows = sorted(known) or f"none; a ? of its path is written %3F, in {self.scheme}:///ABSOLUTE/PATH"
            raise InvalidInput(f"the {self.scheme} url has options {unknown}; it knows {knows}")

    def __str__(self) -> str:
        options = f"?{urlencode(self.options)}" if self.options else ""
        if self.hosts:
            path = quote(self.path, safe="" if self.path.strip("/") != self.path else "/")
            return f"{self.scheme}://{','.join(_address(*host) for host in self.hosts)}/{path}{options}"
        if self.path.startswith("//") or "?" in self.path:
            return f"{self.scheme}://{quote(self.path)}{options}"
        return f"{self.scheme}:{self.path}{options}"

    def __repr__(self) -> str:
        return f"Url.parse({str(self)!r})"


def _found(text: str) -> str:
    return "" if "@" in text else f", found {text!r:.80}"


def _split(rest: str) -> tuple[str, str, str]:
    """Authority, path with its slash, and query."""
    before, _, query = rest.partition("?")
    if not before.startswith("//"):
        return "", before, query
    authority, slash, path = before.removeprefix("//").partition("/")
    return authority, slash + path, query


def _fault(rest: str) -> str | None:
    """What is wrong with all that follows the engine, or None; says nothing of what stands there."""
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in rest):
        return "holds a control character; write it as %xx"
    names = [name for name, _ in parse_qsl(_split(rest)[2], keep_blank_values=True)]
    if secrets := [name for name in names if _SECRET.search(name)]:
        return f"holds a credential in its option {secrets[0]!r:.40}; pass it as a keyword argument"
    return "gives an option twice" if len(set(names)) < len(names) else None


def _network_fault(authority: str, path: str, query: str) -> str | None:
    if "#" in authority + path + query or " " in authority + path + query:
        return "holds a # or a blank; in a name write %23 and %20"
    if authority and not all(_HOST.fullmatch(host) for host in authority.split(",")):
        return f"does not name its hosts as HOST, HOST:PORT or [IPV6]:PORT, with commas between; expected {_EXAMPLE}"
    if any(port is not None and not 0 < port < 65536 for _, port in _hosts(authority)):
        return "has a port outside [1, 65535]"
    return None


def _hosts(authority: str) -> tuple[tuple[str, int | None], ...]:
    if not authority:
        return ()
    found = [match.groups() for host in authority.split(",") if (match := _HOST.fullmatch(host))]
    last = found[-1][1]
    return tuple((name.strip("[]").lower(), int(port or last) if port or last else None) for name, port in found)


def _address(host: str, port: int | None) -> str:
    name = f"[{host}]" if ":" in host else host
    return name if port is None else f"{name}:{port}"
