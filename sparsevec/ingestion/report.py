"""What a run says of itself: counts that add up, how far it is, and what became of each document that was refused."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from itertools import chain, islice
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from sparsevec.errors import WriteFailed, printable
from sparsevec.progress import Progress

__all__ = ["SAMPLE", "Counts", "IngestFailure", "IngestProgress", "IngestReport"]

SAMPLE = 10
"""failures that a report names"""


class Counts(BaseModel):
    """Of some documents. `missing` and `stale` are among the skipped and failed; `bytes` are estimated, `seconds` are
    those spent writing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    written: int = Field(default=0, ge=0)
    skipped: int = Field(default=0, ge=0)
    failed: int = Field(default=0, ge=0)
    missing: int = Field(default=0, ge=0)
    stale: int = Field(default=0, ge=0)
    retries: int = Field(default=0, ge=0)
    bytes: int = Field(default=0, ge=0)
    seconds: float = Field(default=0.0, ge=0)

    def plus(self, other: Counts) -> Counts:
        """Of both together."""
        return Counts(**{name: getattr(self, name) + getattr(other, name) for name in Counts.model_fields})


class IngestFailure(BaseModel):
    """A document that was refused, and why. `id` is its `repr` where it is not an id at all."""

    model_config = ConfigDict(frozen=True)

    id: int | str
    reason: str

    @classmethod
    def of(cls, id_: object, reason: str) -> Self:
        """For whatever stood in the place of an id."""
        return cls(id=id_ if isinstance(id_, (int, str)) and not isinstance(id_, bool) else repr(id_), reason=reason)


class IngestReport(Counts):
    """What became of the documents: `written + skipped + failed == given`, the first `given` of the stream.

    All counts are over all runs with one journal. `failures` names the first few; all of them are in the file
    `dead_letters`.
    """

    given: int = 0
    repeated: int = 0
    """of the given, how many had an id that was given before: each counts, and the collection holds the last"""
    unreached: int = 0
    """documents behind the given, which a run that was stopped never came to, where it was known that there are such"""
    fingerprint: str | None = None
    """of the space that the vectors live in; None: they name none, or not all the same"""
    collection_fingerprint: str | None = None
    """of the space that the collection is of; None: it names none"""
    failures: tuple[IngestFailure, ...] = ()
    dead_letters: Path | None = None

    @classmethod
    def of_all(cls, reports: Iterable[IngestReport]) -> Self:
        """Of runs side by side, such as the tasks of one job: counts added up (`seconds` too, which passed at the same
        time), a fingerprint where all name the same, the first few failures, and no file of dead letters."""
        given = list(reports)
        counts = reduce(Counts.plus, given, Counts())
        spaces = {report.fingerprint for report in given if report.given}
        held = {report.collection_fingerprint for report in given}
        return cls(
            **counts.model_dump(),
            given=sum(report.given for report in given),
            repeated=sum(report.repeated for report in given),
            unreached=sum(report.unreached for report in given),
            fingerprint=spaces.pop() if len(spaces) == 1 else None,
            collection_fingerprint=held.pop() if len(held) == 1 else None,
            failures=tuple(islice(chain.from_iterable(report.failures for report in given), SAMPLE)),
        )

    def require_complete(self) -> None:
        """Raise WriteFailed when a document was refused."""
        if self.failed:
            raise WriteFailed(str(self), self)

    def __str__(self) -> str:
        counts = f"{self.given:,} documents: {self.written:,} written, {self.skipped:,} skipped, {self.failed:,} failed"
        lines = [f"{counts}, in {self.seconds:.1f} s with {self.retries:,} retries"]
        if self.missing or self.stale:
            lines.append(f"  of these {self.missing:,} were not there, {self.stale:,} had changed since they were read")
        if self.unreached:
            lines.append(f"  {self.unreached:,} more were not reached")
        if self.repeated:
            lines.append(f"  {self.repeated:,} gave an id again: each counts, the collection holds the last of each id")
        if self.written and self.fingerprint is None:
            lines.append("  the vectors name no space (foreign): nobody can check that queries are of the same encoder")
        lines += [f"  {failure.id!r}: {printable(failure.reason)}" for failure in self.failures]
        if self.failed > len(self.failures):
            lines.append(f"  and {self.failed - len(self.failures):,} more")
        if self.failed and self.dead_letters:
            lines.append(f"  all in {printable(self.dead_letters)}")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class IngestProgress(Progress):
    """How far a run is. `steps` and `fraction` are 0 while nobody can tell how many documents there will be."""

    @classmethod
    def of(cls, given: int, total: int | None, counts: Counts, waiting: str | None) -> Self:
        """After `given` documents of `total`, None where nobody knows; `waiting` says for what, while it pauses."""
        figures = {"documents": given, "bytes": counts.bytes}
        fraction = min(1.0, given / total) if total else 0.0
        text = waiting if waiting is not None else f"{given:,} documents"
        stage = "writing" if waiting is None else "waiting"
        return cls(stage, given, total or 0, fraction, counts.seconds, text, figures)

    @property
    def documents(self) -> int:
        """That are settled, over all runs with one journal."""
        return self.step

    @property
    def bytes(self) -> int:
        """Of these, estimated."""
        return int(self.figures["bytes"])

    @property
    def waiting(self) -> str | None:
        """For what, while the run pauses before it tries again."""
        return self.text if self.stage == "waiting" else None

    @property
    def rate(self) -> float:
        """Documents per second of writing."""
        return self.documents / self.seconds if self.seconds else 0.0
