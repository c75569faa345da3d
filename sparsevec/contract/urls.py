"""`Url`: where a collection is, as one line of text without secrets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from sparsevec.errors import InvalidInput

__all__ = ["Url"]


@dataclass(frozen=True, slots=True)
class Url:
    """`engine[+variant]://host[,host]:port/path?options`, or `engine[+variant]:path`. Never holds credentials.

    `host` and `port` are those of the first host; `hosts` has them all, for the engines that take several. A port
    behind the last host is that of each host without one.
    """

    engine: str
    variant: str
    host: str
    port: int | None
    path: str
    options: Mapping[str, str]
    hosts: tuple[tuple[str, int | None], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Url:
        """Raises InvalidInput; a url with credentials is refused without repeating them."""
        engine, colon, rest = text.partition(":")
        if not colon or not engine:
            raise InvalidInput(f"expected a url such as qdrant://localhost:6333/products, found {text!r:.80}")
        engine, _, variant = engine.partition("+")
        if not rest.startswith("//") or rest.startswith("///"):  # a path, perhaps an absolute one
            return cls(engine, variant, "", None, rest.removeprefix("//"), {})
        if "@" in rest:  # wherever it stands: a secret may hold / ? and #
            raise InvalidInput(
                f"the {engine} url holds credentials (before the @); pass them as keyword arguments, such as api_key="
            )
        try:
            parts = urlsplit("x:" + rest)
        except ValueError as error:
            raise InvalidInput(f"the {engine} url cannot be read: {error}") from None
        hosts = _hosts(engine, parts.netloc)
        host, port = hosts[0] if hosts else ("", None)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        return cls(engine, variant, host, port, unquote(parts.path.strip("/")), options, hosts)

    def __str__(self) -> str:
        """The url that `parse` reads as this one."""
        scheme = f"{self.engine}+{self.variant}" if self.variant else self.engine
        if not self.hosts:
            return f"{scheme}:{self.path}"
        hosts = ",".join(
            (f"[{host}]" if ":" in host else host) + (f":{port}" if port is not None else "")
            for host, port in self.hosts
        )
        return f"{scheme}://{hosts}/{quote(self.path)}" + (f"?{urlencode(self.options)}" if self.options else "")

    def option(self, name: str, default: str) -> str:
        return self.options.get(name, default)

    def expect_options(self, *known: str) -> None:
        """Raise InvalidInput when the url has an option that nobody would read."""
        if unknown := sorted(set(self.options) - set(known)):
            raise InvalidInput(f"the {self.engine} url has options {unknown}; it knows {sorted(known)}")


def _hosts(engine: str, text: str) -> tuple[tuple[str, int | None], ...]:
    """The hosts of `h1,h2:9201`, each with its port."""
    found: list[tuple[str, int | None]] = []
    for one in text.split(",") if text else ():
        try:
            parts = urlsplit(f"//{one}")
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if not host:
            raise InvalidInput(
                f"the {engine} url must name hosts as HOST, HOST:PORT or HOST,HOST:PORT, a port being a number below "
                f"65536; found something else between // and the next /"
            )
        found.append((host, port))
    last = found[-1][1] if found else None
    return tuple((host, last if port is None else port) for host, port in found)
