"""What a backend promises. Tests, issues and commits cite the numbers.

C1   `create(dimension)` makes an empty collection, or adds our vector to one that others made; a second `create` raises
     CollectionError, also when two run at once
C2   when a write has been reported as written, it survives a restart of the backend, and this adapter's next search
     sees it; other readers see it after the backend's own refresh
C3   writing an id again replaces its vector, and nothing else of that document; payload fields that are given with it
     replace those fields, the others stay
C4   a hit's score is the dot product of the query with `stored(vector)`
C5   a document that shares no dimension with the query is not a hit
C6   hits come best first, at most k, each id once; k above the count truncates
C7   no document left out scores higher than one returned; ties may fall either way; a search that timed out or failed
     in part is an error, never a short answer
C8   the i-th answer belongs to the i-th query; an empty query has no hits
C9   a write reports each id as written, skipped or failed with a reason; the three add up to what was given, and
     "written" means that the vector is there
C10  ids are ints in [0, 2**64) or non-empty strings; `42` and `"42"` are different ids; what went in comes out. In a
     collection that others made, ids are theirs: an int is asked for in their spelling, and hits give theirs
C11  `where` filters on payload fields (`contract.filters` says what a filter means); the same filter means the same
     everywhere; one that a backend cannot answer is refused with the reason, never answered with nothing. It narrows
     `search`, `scan`, `count` and `delete` alike; `matching` brings every document that a filter leaves, where they are
     few
C12  `delete(ids)`, or of what `where` leaves, removes them from search and count; deleting an unknown id is not an
     error; what others stored under that id stays where the collection is theirs
C13  `drop()` forgets everything of ours and may be called twice; it touches nothing it did not create
C14  the client's own exceptions never escape: they are translated, cause kept; our own bugs are not translated
C15  several threads may use one adapter; after a fork it says that it must be connected anew
C16  `scan` yields each document once, with what was asked for, and a later call goes on or starts again without doing
     anything twice
C17  in a collection that others made, a write changes documents that are there and never makes one unless told
     (`missing=`); where the backend has versions and one is given, a document that changed since is left alone and
     reported; routing is kept, no pipeline of theirs runs where that can be avoided, and an index whose other fields a
     write could not keep is refused before it is touched
C18  a collection remembers the fingerprint of the space that its vectors live in; queries and vectors of another are
     refused with both names. Vectors without a fingerprint are foreign, and accepted
C19  a collection made with `code_bytes` keeps a residual code of so many bytes beside each vector: written in the same
     request, replaced and deleted with it, and given back byte for byte by `search`, `fetch` and `scan`. A write
     without codes is refused there, codes are refused elsewhere, and no payload ever shows them. `with_vectors` brings
     what the backend keeps of each hit's vector in the same request
C20  `rescore` re-orders the `candidates` best by a second query: the score of a hit is its dot product with
     `stored(vector)`, weights of either sign; who shares no dimension with it is no hit. The candidates are exact (C7)
C21  `after` reads on in the whole ranking of one query, page by page, each document once, ties too, beyond any limit
     of k; where capabilities say so, as the collection was at the first page. Elsewhere each document that stays as it
     is comes once, and one that is written, moved or deleted meanwhile may come twice or not at all. A place belongs to
     its query and filter; with others it gives no ranking, and nobody checks that

A collection is *ours* when `create` made it, and *others'* when it was there already.

An adapter sends one request and classifies each id; batching, retries and the journal are `ingest`'s. What a backend
cannot hold (a negative weight, an id too long) is reported as failed before anything is sent.

`Adapter` is the contract for threads, `AsyncAdapter` the same for asyncio; what their methods give back is in
`contract.results`, and how one conversation serves both in `contract.operations`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

from sparsevec.contract.checks import Id, Payload, Queries
from sparsevec.contract.filters import Where
from sparsevec.contract.results import (
    DenseField,
    Documents,
    Failure,
    Finding,
    Hit,
    Hits,
    Info,
    Missing,
    Page,
    Version,
    Written,
)
from sparsevec.contract.urls import Url
from sparsevec.vectors import Float32s, SparseVectors, UInt8s

__all__ = [
    "Adapter",
    "AsyncAdapter",
    "DenseField",
    "Documents",
    "Failure",
    "Finding",
    "Hit",
    "Hits",
    "Info",
    "Missing",
    "Page",
    "UInt8s",
    "Version",
    "Written",
    "says_the_contract",
]


@runtime_checkable
class Adapter(Protocol):
    """One collection of one backend, for threads: the clauses are in the module docstring, the errors in
    `sparsevec.errors`. Any method raises BackendDown when no answer came, and AdapterClosed after `close` and in a
    forked child. Adapters are context managers."""

    @classmethod
    def connect(cls, url: Url, **credentials: Any) -> Adapter:
        """To the collection that `url` names, whether it is there already or not. Raises InvalidInput."""

    def info(self) -> Info:
        """What the backend says of itself and of the collection; asked anew at every call."""

    def check(self) -> list[Finding]:
        """Look, and touch nothing: what would go wrong with a vector of ours here, and what is fine (C17).

        What is blocking here, `create` and `upsert` refuse with the same words, before they change anything.
        """

    def create(self, dimension: int, *, fingerprint: str | None = None, code_bytes: int | None = None) -> None:
        """Make the collection, or add our vector to one that others made (C1). `code_bytes`: of a residual code, which
        every document is to have beside its vector (C19).

        Without a `fingerprint` the first vectors that are written give theirs (C18). Raises CollectionError when our
        vector is there already, BackendUnsupported when writes could not be kept apart from what others hold (C17).
        """

    def upsert(
        self,
        ids: Sequence[Id],
        vectors: SparseVectors,
        payloads: Sequence[Payload] | None = None,
        *,
        versions: Sequence[Version | None] | None = None,
        routing: Sequence[str | None] | None = None,
        missing: Missing | None = None,
        codes: UInt8s | None = None,
    ) -> Written:
        """Write one request's worth of n documents (C2, C3, C9, C17); an empty row is a document without weights.

        `missing` says what becomes of an id that is not there: None stands for "create" in a collection of ours and
        "fail" in one of others. `versions` and `routing` are those that `scan` gave, where the backend has them.
        `codes` (n, code_bytes) uint8 are expected where the collection keeps codes, and only there (C19); without them,
        rows without weights are taken, and have zeros for a code.
        Raises InvalidInput, InvalidVectors, WrongSpace (C18), OutOfLimits for a request that is too large.
        """

    def search(
        self,
        queries: Queries,
        k: int = 10,
        *,
        where: Where | None = None,
        with_payloads: bool = False,
        with_vectors: bool = False,
        with_codes: bool = False,
        rescore: Queries | None = None,
        candidates: int | None = None,
        after: str | None = None,
    ) -> list[Hits]:
        """The k best documents of each query (C4 to C8), of those that match `where` (C11).

        `queries`: SparseVectors (q, dimension), one row of them, or a scipy matrix. `with_vectors` and `with_codes`
        bring what a re-ranking needs in the same request (C19). `rescore`, a second query for each, re-orders the
        `candidates` best (k of them when not given) and gives the k best of these (C20). `after=""` begins to read the
        ranking of one query from a point in time, and `after=hits.after` goes on behind `hits` (C21).

        Raises InvalidInput, also where the backend has forgotten the place of `after`, InvalidVectors, WrongSpace
        (C18), CollectionError for codes of a collection without, and OutOfLimits for what this backend cannot answer.
        """

    def fetch(self, ids: Sequence[Id], *, dense: str | None = None) -> Documents:
        """The documents that hold a vector of ours. It comes back as given or as stored: `stored` of either is one.

        `dense` names a field or vector that holds dense rows, to be brought as well.
        """

    def matching(self, where: Where, most: int, *, dense: str | None = None) -> Documents | None:
        """Every document that holds a vector of ours and matches `where` (C11), in no order; empty ones too.

        None when there are more than `most`, or when the backend cannot rule that out without looking at them. So few
        documents may be answered from all of them, without a search.
        """

    def scan(
        self,
        *,
        vectors: bool = False,
        payloads: bool = False,
        codes: bool = False,
        dense: str | None = None,
        after: str | None = None,
        size: int = 1000,
        where: Where | None = None,
    ) -> Iterator[Page]:
        """Every document of the collection that `where` leaves (C11), others' too, in pages of at most `size` (C16).

        `codes` brings residual codes, where the collection keeps them (C19). `dense` names a field or vector that holds
        dense rows. `after`, of an earlier page, goes on behind it; where the backend has forgotten that place,
        InvalidInput says so, and scan again from the start.
        """

    def delete(self, ids: Sequence[Id] | None = None, *, where: Where | None = None) -> None:
        """Remove documents, or our vector from those of others (C12): these, or what a filter leaves (C11).

        What is written while those that match are deleted may stay. Raises InvalidInput unless one of the two is given;
        `sparsevec.remove` does the same in requests that are accounted for.
        """

    def count(self, where: Where | None = None) -> int:
        """Documents that hold a vector of ours, empty ones included where the backend can tell, and match `where`
        (C11); where the backend cannot decide that, they are looked at."""

    def drop(self) -> None:
        """Forget everything of ours (C13). Raises CollectionError for a vector that others made."""

    def close(self) -> None:
        """Let go of connections and files that this adapter opened; a client of the caller's stays open."""

    def stored(self, vectors: SparseVectors) -> SparseVectors:
        """What the backend keeps of `vectors`: the same, or rounded. Pure: needs no server."""

    def slack(self, vectors: SparseVectors) -> Float32s:
        """By how much each weight of `stored(vectors)` may be off, (nnz,): zeros, unless the rounding depends on when
        the backend optimises (Qdrant's float16 and uint8 indexes)."""

    def __enter__(self) -> Adapter: ...

    def __exit__(self, *error: object) -> None: ...


Kind = TypeVar("Kind", bound=type)


def says_the_contract(kind: Kind) -> Kind:
    """A class whose methods say what the contract says of them, where they have nothing of their own to say."""
    for name, clause in vars(Adapter).items():
        own = vars(kind).get(name)
        function = getattr(own, "__func__", own)  # of a class method
        if not name.startswith("_") and function is not None and not function.__doc__:
            function.__doc__ = getattr(clause, "__func__", clause).__doc__
    return kind


@says_the_contract
@runtime_checkable
class AsyncAdapter(Protocol):
    """The same contract for asyncio: the same names, to be awaited; several calls may run at a time."""

    async def info(self) -> Info: ...

    async def check(self) -> list[Finding]: ...

    async def create(
        self, dimension: int, *, fingerprint: str | None = None, code_bytes: int | None = None
    ) -> None: ...

    async def upsert(
        self,
        ids: Sequence[Id],
        vectors: SparseVectors,
        payloads: Sequence[Payload] | None = None,
        *,
        versions: Sequence[Version | None] | None = None,
        routing: Sequence[str | None] | None = None,
        missing: Missing | None = None,
        codes: UInt8s | None = None,
    ) -> Written: ...

    async def search(
        self,
        queries: Queries,
        k: int = 10,
        *,
        where: Where | None = None,
        with_payloads: bool = False,
        with_vectors: bool = False,
        with_codes: bool = False,
        rescore: Queries | None = None,
        candidates: int | None = None,
        after: str | None = None,
    ) -> list[Hits]: ...

    async def fetch(self, ids: Sequence[Id], *, dense: str | None = None) -> Documents: ...

    async def matching(self, where: Where, most: int, *, dense: str | None = None) -> Documents | None: ...

    def scan(
        self,
        *,
        vectors: bool = False,
        payloads: bool = False,
        codes: bool = False,
        dense: str | None = None,
        after: str | None = None,
        size: int = 1000,
        where: Where | None = None,
    ) -> AsyncIterator[Page]: ...

    async def delete(self, ids: Sequence[Id] | None = None, *, where: Where | None = None) -> None: ...

    async def count(self, where: Where | None = None) -> int: ...

    async def drop(self) -> None: ...

    async def close(self) -> None: ...

    def stored(self, vectors: SparseVectors) -> SparseVectors: ...

    async def slack(self, vectors: SparseVectors) -> Float32s: ...

    async def __aenter__(self) -> AsyncAdapter: ...

    async def __aexit__(self, *error: object) -> None: ...
