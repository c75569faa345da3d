"""The reference behind a script of faults that no healthy engine produces on demand."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from sparsevec.contract.adapter import Failure, Info, Missing, UInt8s, Version, Written
from sparsevec.contract.capabilities import Capabilities
from sparsevec.contract.checks import Id, Payload
from sparsevec.errors import BackendDown, BackendUnsupported, CollectionError, OutOfLimits
from sparsevec.exact.reference import Reference
from sparsevec.ingestion.patience import Timing
from sparsevec.vectors import SparseVectors

Write: TypeAlias = Callable[[Sequence[Id], SparseVectors, Sequence[Payload]], Written]
Act: TypeAlias = Callable[[Write, Sequence[Id], SparseVectors, Sequence[Payload]], Written]


class Interrupted(Exception):
    """An exception of nobody's that we know."""


class Misbehaving(Reference):
    """Each request is answered by the next act of `script`, as it should be when there is none left.

    `refuses` are ids that it never takes, `holds` is how many documents it takes at once, `requests` what it was sent
    and `told` with which options.
    """

    def __init__(
        self, path: str = "", *, script: Iterable[Act] = (), refuses: Collection[Id] = (), holds: int = 10**9
    ) -> None:
        super().__init__(path)
        self.script = list(script)
        self.refuses = refuses
        self.holds = holds
        self.requests: list[list[Id]] = []
        self.told: list[dict[str, Any]] = []
        self.missing: Missing | None = None

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
        self.requests.append(list(ids))
        self.told.append(
            {"versions": versions, "routing": routing, "missing": missing} | ({} if codes is None else {"codes": codes})
        )
        self.missing = missing
        act = self.script.pop(0) if self.script else honest
        return act(self._write, ids, vectors, payloads or [{}] * len(ids))

    def _write(self, ids: Sequence[Id], vectors: SparseVectors, payloads: Sequence[Payload]) -> Written:
        if len(ids) > self.holds:
            raise OutOfLimits(f"413: at most {self.holds} documents a request", splittable=True)
        taken = [row for row, id_ in enumerate(ids) if id_ not in self.refuses]
        chosen = [ids[row] for row in taken]
        answer = super().upsert(chosen, vectors[taken], [payloads[row] for row in taken], missing=self.missing)
        refused = {id_: Failure("400: the mapping does not allow it") for id_ in ids if id_ in self.refuses}
        return Written(answer.written, skipped=answer.skipped, failed={**answer.failed, **refused})


class Guarding(Misbehaving):
    """A collection of others without an identity, whose documents have a version, which each write raises by one."""

    def __init__(self, *, script: Iterable[Act] = ()) -> None:
        super().__init__(script=script)
        self.versions: dict[Id, int] = {}

    def info(self) -> Info:
        return replace(
            super().info(), ours=False, identity=None, capabilities=Capabilities(versions=True, routing=True)
        )

    def _write(self, ids: Sequence[Id], vectors: SparseVectors, payloads: Sequence[Payload]) -> Written:
        given = self.told[-1]["versions"] or [None] * len(ids)
        expected = dict(zip(self.requests[-1], given, strict=True))
        current = [row for row, id_ in enumerate(ids) if expected[id_] in (None, str(self.versions.get(id_, 0)))]
        answer = super()._write([ids[row] for row in current], vectors[current], [payloads[row] for row in current])
        self.versions |= {id_: self.versions.get(id_, 0) + 1 for id_ in answer.written}
        stale = {ids[row]: Failure("it has changed", kind="stale") for row in range(len(ids)) if row not in current}
        return Written(answer.written, failed={**answer.failed, **stale})


def honest(write: Write, ids: Sequence[Id], vectors: SparseVectors, payloads: Sequence[Payload]) -> Written:
    return write(ids, vectors, payloads)


def down(*request: Any) -> Written:
    raise BackendDown("connection refused")


def busy(*request: Any) -> Written:
    raise BackendDown("429: too many requests", retry_after=7.0)


def lost(write: Write, ids: Sequence[Id], vectors: SparseVectors, payloads: Sequence[Payload]) -> Written:
    write(ids, vectors, payloads)
    raise BackendDown("connection reset after the write")


def half_lost(write: Write, ids: Sequence[Id], vectors: SparseVectors, payloads: Sequence[Payload]) -> Written:
    half = len(ids) // 2
    write(ids[:half], vectors[:half], payloads[:half])
    raise BackendDown("504: timed out in the middle")


def half_busy(write: Write, ids: Sequence[Id], vectors: SparseVectors, payloads: Sequence[Payload]) -> Written:
    half = len(ids) // 2
    answer = write(ids[half:], vectors[half:], payloads[half:])
    queue_full = {id_: Failure("429: the queue is full", retryable=True) for id_ in ids[:half]}
    return Written(answer.written, failed={**answer.failed, **queue_full})


def forgetful(write: Write, ids: Sequence[Id], vectors: SparseVectors, payloads: Sequence[Payload]) -> Written:
    answer = write(ids, vectors, payloads)
    return Written(answer.written[::2], failed=answer.failed)


def too_large(write: Write, ids: Sequence[Id], vectors: SparseVectors, payloads: Sequence[Payload]) -> Written:
    if len(ids) == 1:
        return write(ids, vectors, payloads)
    raise OutOfLimits("413: the request is too large", splittable=True)


def closed(*request: Any) -> Written:
    raise CollectionError("the index was closed")


def unlicensed(*request: Any) -> Written:
    raise BackendUnsupported("the licence has expired")


def interrupted(*request: Any) -> Written:
    raise Interrupted("by the caller")


PASSING = [honest, down, busy, lost, half_lost, half_busy, forgetful, too_large]
STOPPING = [closed, unlicensed, interrupted]


class Clock:
    """A time that passes only while somebody sleeps; `pauses` are the seconds slept."""

    def __init__(self, draw: float = 1.0) -> None:
        self.now = 0.0
        self.pauses: list[float] = []
        self.timing = Timing(clock=lambda: self.now, sleep=self._sleep, random=lambda: draw)

    def _sleep(self, seconds: float) -> None:
        self.now += seconds
        self.pauses.append(seconds)
