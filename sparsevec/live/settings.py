"""`Settings`: one retrofit and all that comes after it as a file, so that a line of cron is short.

    # sparsevec.toml                                 sparsevec retrofit --config sparsevec.toml
    [retrofit]                                       sparsevec retrofit --config sparsevec.toml --catch-up
    url = "elasticsearch://localhost:9200/products?field=sparse"
    model = "model/"                                 # beside the file, where it is not absolute
    dense_field = "emb"
    rate = 500

Secrets are no part of it: they come from the environment.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sparsevec.contract.urls import Url
from sparsevec.encoder import Budget
from sparsevec.errors import InvalidInput, printable

__all__ = ["Settings"]

_TABLE = "retrofit"
_SECRETS = ("api_key", "password", "user", "token", "secret", "auth", "credential")


class Settings(BaseModel):
    """What `retrofit`, `catch_up`, `undo_retrofit` and `migrate` are called with; the names are theirs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str
    """the collection with the field or vector, or a pattern or an alias of several"""
    model: Path
    dense_field: str | None = None
    to: Path | None = None
    """of a migration: the folder of the second encoder"""
    into: str | None = None
    """of a migration: the url of the second field; by default that of the first with the next number"""
    nnz: int = Field(32, ge=1)
    """of an encoder that is learned: weights of a document"""
    flops: float | None = Field(None, gt=0)
    dimension: int = Field(8192, ge=1)
    queries: Path | None = None
    """dense vectors of real queries, to learn from"""
    refine: bool = False
    sample: int = Field(20_000, ge=16)
    rate: float | None = Field(None, gt=0)
    """documents a second that are written at most"""
    every: float | None = Field(None, gt=0)
    """with a catch-up: again every so many seconds"""
    deadline: float = Field(300.0, gt=0)
    """seconds without progress after which a run gives up"""
    verify: bool = True

    @property
    def budget(self) -> Budget:
        return Budget(nnz=self.nnz, flops=self.flops)

    @classmethod
    def read(cls, file: str | os.PathLike[str] | None, given: Mapping[str, Any]) -> Settings:
        """Of the file, where there is one, and of what was `given` beside it, which goes first; None is not given.

        Raises InvalidInput for a file that is no TOML, for names that nobody reads and for values that make no sense.
        """
        said = {name: value for name, value in given.items() if value is not None}
        kept = {} if file is None else _table(Path(file))
        if secrets := [name for name in kept if any(one in name.lower() for one in _SECRETS)]:
            raise InvalidInput(
                f"{printable(file)} holds {secrets[0]!r}; a secret belongs into the environment: SPARSEVEC_API_KEY, or "
                f"SPARSEVEC_USER and SPARSEVEC_PASSWORD"
            )
        for name in ("model", "to", "queries"):
            if file is not None and isinstance(kept.get(name), str):
                kept[name] = Path(file).parent / kept[name]
        try:
            settings = cls.model_validate({**kept, **said})
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            name = ".".join(map(str, first["loc"]))
            if file is not None:
                raise InvalidInput(f"{printable(file)}: {name}: {first['msg']}") from None
            option = "URL" if name == "url" else f"--{name.replace('_', '-')}"
            lacking = "it is given neither here nor by --config FILE"
            raise InvalidInput(f"{option}: {lacking if first['type'] == 'missing' else first['msg']}") from None
        Url.parse(settings.url)
        return settings


def _table(file: Path) -> dict[str, Any]:
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{printable(file)} cannot be read as TOML: {printable(error)}") from None
    table = found.get(_TABLE)
    if not isinstance(table, dict) or len(found) > 1:
        raise InvalidInput(f"{printable(file)} must hold one table, [{_TABLE}], found {sorted(found)}")
    return table
