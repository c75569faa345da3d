"""What a collection holds after a stream of documents was ingested, worked out one document at a time."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sparsevec.contract.adapter import Adapter
from sparsevec.contract.checks import Id, id_fault, payload_fault
from sparsevec.vectors import SparseVectors


class Expected:
    """`documents` by id, as (vector, payload); `failed` are the positions of those that are refused."""

    def __init__(
        self,
        ids: Sequence[Any],
        vectors: SparseVectors,
        payloads: Sequence[Any],
        empty: str,
        *,
        refused: Collection[Id] = (),
    ) -> None:
        self.documents: dict[Id, tuple[dict[int, float], Mapping[str, Any]]] = {}
        self.written, self.skipped, self.failed = 0, 0, []
        for position, (id_, vector, payload) in enumerate(zip(ids, vectors, payloads, strict=True)):
            if id_fault(id_) or payload_fault(payload) or (empty == "error" and not len(vector)):
                self.failed.append(position)
            elif empty == "skip" and not len(vector):
                self.skipped += 1
            elif id_ in refused:
                self.failed.append(position)
            else:
                self.written += 1
                _, before = self.documents.get(id_, ({}, {}))
                self.documents[id_] = (vector.to_dict(), {**before, **json.loads(json.dumps(payload))})

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """given, written, skipped, failed."""
        return self.written + self.skipped + len(self.failed), self.written, self.skipped, len(self.failed)

    def require(self, adapter: Adapter) -> None:
        """That `adapter` holds these documents and no other."""
        found = adapter.fetch(list(self.documents))
        held = zip((row.to_dict() for row in found.vectors), found.payloads, strict=True)
        assert dict(zip(found.ids, held, strict=True)) == self.documents
        assert adapter.count() == len(self.documents)
