"""`Serving`: answers from whichever field serves now, also after a migration has moved over to another encoder.

A service names the collection and the folder of its encoder, once. A `switch` puts one small file into that folder, at
one stroke: where the reads of this folder's field go instead. So the query's encoder and the field that it asks change
together, in every process that sees the folder, between two searches; and back the same way. A service on another
machine needs both folders there, and the file: copy the folder of the new encoder first, then the file.

serving.json    a `Moved`: the field that serves instead, and the folder of its encoder, beside this one
"""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from sparsevec.answers.retriever import AsyncRetriever, Retriever
from sparsevec.answers.scoring import USUAL, Rerank, Usual
from sparsevec.contract.adapter import Adapter, AsyncAdapter, Hits
from sparsevec.contract.connect import aconnect, connect
from sparsevec.encoder import SparseEncoder
from sparsevec.errors import JournalMismatch, printable
from sparsevec.storage import as_path, storage_errors, whole_file

__all__ = ["AsyncServing", "Moved", "Served", "Serving", "forget_moved", "keep_moved", "moved_from"]

_FILE = "serving.json"


class Moved(BaseModel):
    """Where the reads of a field go instead."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str
    model: str
    """the folder of its encoder, from the folder that holds this"""
    dense: str
    """the field or vector with the dense rows that its queries are like"""


def moved_from(model: Path) -> Moved | None:
    """Where the reads of the field with the encoder in `model` go instead; None: nowhere."""
    try:
        with storage_errors(model / _FILE, "read"), suppress(FileNotFoundError, NotADirectoryError):
            return Moved.model_validate_json((model / _FILE).read_bytes())
    except (ValidationError, ValueError) as error:
        raise JournalMismatch(
            f"{printable(model / _FILE)} is not what a switch writes ({printable(error, 200)}); switch again, or "
            f"remove it to go back"
        ) from None
    return None


def keep_moved(model: Path, url: str, to: Path, dense: str) -> None:
    """From the next search on, reads of the field with the encoder in `model` go to `url`. Raises StorageFailed."""
    moved = Moved(url=url, model=os.path.relpath(to, model), dense=dense)
    whole_file(model / _FILE, moved.model_dump_json(indent=2).encode() + b"\n")


def forget_moved(model: Path) -> None:
    """From the next search on, reads go where they went first. Raises StorageFailed."""
    with storage_errors(model / _FILE, "removed"):
        (model / _FILE).unlink(missing_ok=True)


R = TypeVar("R", Retriever, AsyncRetriever)


@dataclass(frozen=True, slots=True)
class Served(Generic[R]):
    """What serves at one moment: an encoder and the field of its vectors, which belong together."""

    retriever: R
    url: str
    model: Path
    dense: str | None
    """what dense queries are to be like, by its name: of which embedding model. None: nobody has said"""


@dataclass(frozen=True, slots=True)
class _Way:
    """From folder to folder, as the files say, and what stands at the end."""

    folders: list[Path]
    seen: list[tuple[int, ...] | None]
    url: str
    dense: str | None

    @property
    def model(self) -> Path:
        return self.folders[-1]

    def is_old(self) -> bool:
        """Whether one of the files is another than it was."""
        return self.seen != [_stamp(folder) for folder in self.folders]


class _Following(Generic[R]):
    """What both kinds of `Serving` share."""

    def __init__(
        self,
        url: str,
        *,
        model: str | os.PathLike[str],
        rerank: Any = USUAL,
        candidates: int | None = None,
        dense_field: str | None = None,
        **credentials: Any,
    ) -> None:
        self._begin, self._dense = (url, as_path(model, "model")), dense_field
        self._rerank: Rerank | Usual = rerank
        self._candidates, self._credentials = candidates, credentials
        self._way: _Way | None = None

    def _walk(self) -> _Way:
        (url, folder), dense = self._begin, self._dense
        folders, seen = [folder], [_stamp(folder)]
        while (moved := moved_from(folder)) is not None:
            folder, url, dense = Path(os.path.normpath(folder / moved.model)), moved.url, moved.dense
            if folder in folders:
                raise JournalMismatch(f"the switches go in a circle: {printable(folder)} leads back to itself; go back")
            folders.append(folder)
            seen.append(_stamp(folder))
        return _Way(folders, seen, url, dense)

    def _served(self, kind: type[R], way: _Way, encoder: SparseEncoder, adapter: Any) -> Served[R]:
        field = way.dense if self._rerank == "dense" else None
        retriever = kind(encoder, adapter, rerank=self._rerank, candidates=self._candidates, dense_field=field)
        return Served(retriever, way.url, way.model, way.dense)

    def __repr__(self) -> str:
        url, model = (self._way.url, self._way.model) if self._way else self._begin
        return f"{type(self).__name__}({url!r}, model={printable(model)!r})"


class Serving(_Following[Retriever]):
    """A `Retriever` of `url` with the encoder in `model`, until a `switch`; from the next search on, of what it says.

        serving = sv.Serving("elasticsearch://HOST:9200/products?field=sparse", model="model/")
        serving.search(queries, k=10)

    For threads. The options are `Retriever`'s, the `credentials` `connect`'s. Raises what both raise, and at a search
    after a switch ModelBroken where the folder that it names is not there.
    """

    def __init__(self, url: str, *, model: str | os.PathLike[str], **options: Any) -> None:
        super().__init__(url, model=model, **options)
        self._lock = threading.Lock()
        self._opened: list[Adapter] = []  # earlier ones too: another thread may be in the middle of a search
        self._now = self._read()

    def now(self) -> Served[Retriever]:
        """What serves at this moment. A service whose queries depend on it, as after a change of the embedding model,
        asks once for each query, and uses what it got for all of that query."""
        with self._lock:
            if self._way is None or self._way.is_old():
                self._now = self._read()
            return self._now

    def search(self, queries: Any, k: int = 10, **options: Any) -> list[Hits]:
        """`Retriever.search` of what serves now."""
        return self.now().retriever.search(queries, k, **options)

    def close(self) -> None:
        """Close every connection that this opened."""
        for adapter in self._opened:
            adapter.close()

    def _read(self) -> Served[Retriever]:
        way = self._walk()
        encoder = SparseEncoder.load(way.model)
        self._opened.append(connect(way.url, **self._credentials))
        served = self._served(Retriever, way, encoder, self._opened[-1])
        self._way = way
        return served

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class AsyncServing(_Following[AsyncRetriever]):
    """The same for asyncio. It connects at the first search, or in its `async with`, and raises there.

    async with sv.AsyncServing("elasticsearch://HOST:9200/products?field=sparse", model="model/") as serving:
        await serving.search(queries, k=10)
    """

    def __init__(self, url: str, *, model: str | os.PathLike[str], **options: Any) -> None:
        super().__init__(url, model=model, **options)
        self._lock = asyncio.Lock()
        self._opened: list[AsyncAdapter] = []
        self._now: Served[AsyncRetriever] | None = None

    async def now(self) -> Served[AsyncRetriever]:
        """What serves at this moment, as `Serving.now` says."""
        async with self._lock:
            if self._now is None or self._way is None or self._way.is_old():
                self._now = await self._read()
            return self._now

    async def search(self, queries: Any, k: int = 10, **options: Any) -> list[Hits]:
        """`AsyncRetriever.search` of what serves now."""
        return await (await self.now()).retriever.search(queries, k, **options)

    async def close(self) -> None:
        """Close every connection that this opened."""
        for adapter in self._opened:
            await adapter.close()

    async def _read(self) -> Served[AsyncRetriever]:
        way = self._walk()
        encoder = await asyncio.to_thread(SparseEncoder.load, way.model)
        self._opened.append(await aconnect(way.url, **self._credentials))
        served = self._served(AsyncRetriever, way, encoder, self._opened[-1])
        self._way = way
        return served

    async def __aenter__(self) -> Self:
        await self.now()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()


def _stamp(folder: Path) -> tuple[int, ...] | None:
    """Another one as soon as the file is another; a file is replaced, never written into."""
    with storage_errors(folder / _FILE, "read"), suppress(FileNotFoundError, NotADirectoryError):
        found = (folder / _FILE).stat()
        return found.st_ino, found.st_mtime_ns, found.st_size
    return None
