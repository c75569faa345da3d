"""`Url`: where a collection is, as one line of text without secrets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

from sparsevec.errors import InvalidInput

__all__ = ["Url"]


@dataclass(frozen=True, slots=True)
class Url:
    """`engine[+variant]://host:port/path?options`, or `engine[+variant]:path`. Never holds credentials."""

    engine: str
    variant: str
    host: str
    port: int | None
    path: str
    options: Mapping[str, str]

    @classmethod
    def parse(cls, text: str) -> Url:
        """Raises InvalidInput; a url with credentials is refused without repeating them."""
        engine, colon, rest = text.partition(":")
        if not colon or not engine:
            raise InvalidInput(f"expected a url such as qdrant://localhost:6333/products, found {text!r:.80}")
        engine, _, variant = engine.partition("+")
        if not rest.startswith("//") or rest.startswith("///"):  # a path, perhaps an absolute one
            return cls(engine, variant, "", None, rest.removeprefix("//"), {})
        try:
            parts = urlsplit("x:" + rest)
            port = parts.port
        except ValueError as error:
            raise InvalidInput(f"the {engine} url cannot be read: {error}") from None
        if parts.username is not None or parts.password is not None:
            raise InvalidInput(
                f"the {engine} url holds credentials (before the @); pass them as keyword arguments, such as api_key="
            )
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        return cls(engine, variant, parts.hostname or "", port, unquote(parts.path.strip("/")), options)

    def option(self, name: str, default: str) -> str:
        return self.options.get(name, default)

    def expect_options(self, *known: str) -> None:
        """Raise InvalidInput when the url has an option that nobody would read."""
        if unknown := sorted(set(self.options) - set(known)):
            raise InvalidInput(f"the {self.engine} url has options {unknown}; it knows {sorted(known)}")
