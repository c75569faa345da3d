"""Going on: pass over what earlier runs settled, when it is the same stream and the same collection."""

from __future__ import annotations

from collections import deque
from functools import partial

from sparsevec.contract.adapter import Adapter, Info
from sparsevec.contract.checks import Id
from sparsevec.errors import JournalMismatch
from sparsevec.ingestion.account import Account
from sparsevec.ingestion.journal import Entry
from sparsevec.ingestion.patience import Patience
from sparsevec.ingestion.stream import Batch, Stream

__all__ = ["pass_over_settled"]

_ASKED = 100  # documents that a collection without identity is asked for


def pass_over_settled(stream: Stream, account: Account, adapter: Adapter, info: Info, patience: Patience) -> None:
    """Count what the journal calls settled. Raises JournalMismatch when that was another stream or collection."""
    surely: deque[Id] = deque(maxlen=_ASKED)  # written, as every document of their batch that could be
    perhaps: list[Id] = []
    for entry in account.entries:
        batch = _same(stream, entry, account)
        ids = [document.id for document in batch.documents if document.fault is None]
        if entry.written == len(ids):
            surely.extend(ids[-10:])
        elif entry.written:
            perhaps = ids
        account.add(batch, entry)
    if info.identity is None:
        _expect_there(list(surely), perhaps, adapter, patience)


def _same(stream: Stream, entry: Entry, account: Account) -> Batch:
    """The documents that `entry` settled. Raises JournalMismatch when the stream has others."""
    count = entry.stop - entry.start
    batch = stream.pass_over(count)
    if batch is None or len(batch) < count:
        stream.pass_over(1)  # raises what cut the stream short, if anything did
    if batch is None or account.hash(batch) != entry.hash:
        raise JournalMismatch(
            f"the documents at positions [{entry.start}, {entry.stop}) are not those that the journal calls settled; "
            "give the same ids, vectors, payloads and routing again, or name another journal"
        )
    return batch


def _expect_there(surely: list[Id], perhaps: list[Id], adapter: Adapter, patience: Patience) -> None:
    """A collection without an identity is known by its documents; some may have been deleted since."""
    asked = list(dict.fromkeys(surely or perhaps))
    if not asked:
        return
    found = len(patience.ask(partial(adapter.fetch, asked)).ids)
    if found == 0 or (surely and 2 * found < len(asked)):
        raise JournalMismatch(
            f"of {len(asked)} documents that the journal calls written, {asked[0]!r} among them, the collection holds "
            f"{found}: it is another one, or was made anew; name another journal"
        )
