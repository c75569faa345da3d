"""What a look, a retrofit and a catch-up say of themselves."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from sparsevec.errors import printable
from sparsevec.exact.verify import VerifyReport
from sparsevec.ingestion.report import IngestFailure

__all__ = ["CatchUpReport", "Look", "RetrofitReport"]


class Look(BaseModel):
    """What one walk found and did. looked = right + missing + stale + without + faulty + cleared, and
    missing + stale = written + gone + changed + failed, but for those that failed to be cleared."""

    model_config = ConfigDict(frozen=True)

    whole: bool
    """every document was read, not only what the backend says has changed"""
    looked: int = 0
    right: int = 0
    """held the code of their present row already"""
    missing: int = 0
    """had a row, and no vector of ours"""
    stale: int = 0
    """held a vector that is not the code of their row"""
    moved: int | None = None
    """held a vector of ours, and another row than at the last look: those whose code moved with it are `stale`, the
    others cost nothing. None: there was no look before with this folder"""
    without: int = 0
    """have no dense row, and no vector of ours"""
    cleared: int = 0
    """had no dense row any more: our vector was taken out"""
    faulty: int = 0
    """have a dense row that cannot be encoded: of another width, zero, not finite, or much longer than any that the
    encoder was learned from where lengths count; the others are written"""
    written: int = 0
    gone: int = 0
    """were deleted between the look and the write, and stay deleted"""
    changed: int = 0
    """were changed between the look and the write, and left alone: the next look sees them as they are"""
    failed: int = 0
    """were refused by the backend"""
    failures: tuple[IngestFailure, ...] = ()
    """the first few that were faulty or failed"""
    retries: int = 0
    seconds: float = 0.0

    @property
    def wanted(self) -> int:
        """Documents that need a write: all of which a dry run says so."""
        return self.missing + self.stale + self.cleared

    @property
    def settled(self) -> bool:
        """Nothing was left to do, so that a next look would find nothing but what others do meanwhile."""
        return not (self.written or self.changed or self.cleared)

    def __str__(self) -> str:
        read = "all" if self.whole else "what changed"
        parts = {
            "held the code of their row": self.right,
            "had none": self.missing,
            "had another": self.stale,
            "have no row": self.without,
            "lost their row": self.cleared,
            "have a row that cannot be encoded": self.faulty,
        }
        found = ", ".join(f"{count:,} {what}" for what, count in parts.items() if count)
        if self.moved:
            found += f" ({self.moved:,} rows moved since the last look, {self.stale:,} codes with them)"
        outcome = {
            "were deleted meanwhile": self.gone,
            "changed meanwhile": self.changed,
            "were refused": self.failed,
        }
        told = ", ".join([f"{self.written:,} written", *(f"{n:,} {what}" for what, n in outcome.items() if n)])
        if not (self.whole or self.looked):
            return f"nothing has changed since the last look, in {self.seconds:.1f} s"
        lines = [f"{self.looked:,} documents looked at ({read}): {found or 'none'}; {told}, in {self.seconds:.1f} s"]
        return "\n".join([*lines, *(f"  {one.id!r}: {printable(one.reason)}" for one in self.failures)])


class CatchUpReport(BaseModel):
    """What one catch-up found and wrote."""

    model_config = ConfigDict(frozen=True)

    place: str
    fingerprint: str
    look: Look
    why_whole: str | None = None
    """why every document was read, where what changed could not be asked for"""
    dry_run: bool = False

    @property
    def complete(self) -> bool:
        """No document was refused."""
        return not self.look.failed

    def __str__(self) -> str:
        why = f"\n  every document was read: {self.why_whole}" if self.why_whole else ""
        return f"{self.place}: {self.look}{why}" + (_dry(self.look) if self.dry_run else "")


class RetrofitReport(BaseModel):
    """What a retrofit did. `looks` are its walks through the documents; the last says what is left."""

    model_config = ConfigDict(frozen=True)

    place: str
    backend: str
    dense: str
    model: str
    """the folder of the encoder and of what a later catch-up or undo needs"""
    fingerprint: str
    dimension: int
    fitted: bool
    """the encoder was learned here, from a sample; False: it was there"""
    encoder: str
    """its figures, measured on rows that it did not learn from"""
    sample: int
    sample_of: int
    """documents that the sample was drawn from"""
    refined: int = 0
    """rows whose codes were refined to this corpus; the others have the head's"""
    added: bool
    """our field was added, by this run or an earlier one with the same folder"""
    looks: tuple[Look, ...]
    verified: VerifyReport | None = None
    """of a sample of rows as queries; None: not asked for, too many documents for memory, or others wrote all along"""
    dry_run: bool = False
    seconds: float = 0.0

    @property
    def written(self) -> int:
        return sum(look.written for look in self.looks)

    @property
    def looked_again(self) -> int:
        """Documents that changed under a look, or were found stale by a later one."""
        return sum(look.changed for look in self.looks) + sum(look.stale for look in self.looks[1:])

    @property
    def settled(self) -> bool:
        """The last look found nothing left to do."""
        return self.looks[-1].settled

    @property
    def complete(self) -> bool:
        """No document was refused, and every hit that was judged is exact."""
        return not any(look.failed for look in self.looks) and (self.verified is None or self.verified.exact)

    def __str__(self) -> str:
        how = f"learned from {self.sample:,} of {self.sample_of:,} documents" if self.fitted else "as it was there"
        refined = f", {self.refined:,} codes refined" if self.refined else ""
        lines = [
            f"{self.place} on {self.backend}: sparse vectors of {self.dense!r}",
            f"  encoder {self.fingerprint} in {self.model}, {how}{refined}: {self.encoder}",
            *(f"  look {number}: {look}" for number, look in enumerate(self.looks, 1)),
        ]
        if self.dry_run:
            return "\n".join(lines) + _dry(self.looks[-1])
        left = "nothing is left to do" if self.settled else "others write at this moment: the rest is a catch-up's"
        lines.append(f"  {self.written:,} written, {self.looked_again:,} looked at again; {left}")
        if self.verified is not None:
            lines.append(f"  {self.verified}")
        else:
            lines.append("  not verified: not asked for, nothing to ask, or others write at this moment")
        return "\n".join(lines)


def _dry(look: Look) -> str:
    return f"\n  a dry run: nothing was changed; {look.wanted:,} documents would be written"
