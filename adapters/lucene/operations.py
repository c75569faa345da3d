"""`LuceneOperations`: the contract over one index. What Elasticsearch and OpenSearch do differently is in their doors.

Writes are acknowledged from the translog, on disk. They become searchable at the next refresh, so this adapter
refreshes once before the first read after a write, and before its own first read: bulk loading pays for no refresh, and
whoever reads through an adapter sees every write that was reported before. Other readers see it within the
refresh_interval of the index, 1 s by default. Where the privilege to refresh is missing, every write waits for that.
With `refresh="index"` nobody refreshes: reads see what the index shows by itself.

What is known of an index is read once, and again when it is old or an answer looks odd: hits of another index, or none
at all (an alias was moved, a field was dropped).
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Literal, TypeAlias
from urllib.parse import quote
from uuid import uuid4

import numpy as np

from sparsevec.contract.adapter import Finding, Info
from sparsevec.contract.capabilities import Capabilities
from sparsevec.contract.checks import check_code_bytes, check_making
from sparsevec.contract.counting import CountOperations
from sparsevec.contract.operations import Operation, Operations
from sparsevec.contract.ranking import RankOperations
from sparsevec.errors import BackendDown, BackendUnsupported, CollectionError, InvalidInput
from sparsevec.vectors import Float32s, SparseVectors

from . import weights
from .answers import read_hits
from .claims import Claim, claim_name
from .copying import Copying
from .hazards import hazards, writable, write_fault
from .index import Index, Target, dense_fields, field_properties, read_fields
from .loading import LoadingOperations
from .mapping import new_index
from .ranking import Ranking
from .scanning import Scanning
from .searching import Searching
from .session import PAGE, Refresh, Session
from .surroundings import surroundings
from .versions import codes_as_vectors, hides_vectors, version_created
from .wire import ask, good, json, path_of
from .writing import CAN, Writing

__all__ = ["Favour", "LuceneOperations"]

_log = logging.getLogger(__name__)
_SAMPLE = 200  # documents that `check` looks at
Favour: TypeAlias = Literal["time", "bytes"]
"""What `create` makes a collection with residual codes for: answers in a third of the time, or a document that is some
100 bytes (Elasticsearch 9.5) or 220 bytes smaller: its weights packed beside the code, or not."""


class LuceneOperations:
    """Sparse vectors in `field` of `index`. `shards`, `replicas` and `favour` are of what `create` makes."""

    def __init__(
        self,
        engine: str,
        index: str,
        field: str = "sparse",
        *,
        shards: int | None = None,
        replicas: int | None = None,
        refresh: Refresh = "reader",
        favour: Favour = "time",
    ) -> None:
        if favour not in ("time", "bytes"):
            raise InvalidInput(f"favour must be 'time' or 'bytes', found {favour!r:.80}")
        self._session = session = Session(engine, index, field, refresh)
        self._shards, self._replicas, self._packs = shards, replicas, favour == "time"
        self._writing, self._searching, self._scanning = Writing(session), Searching(session), Scanning(session)
        self.upsert, self.delete = self._writing.upsert, self._writing.delete
        self.search, self.fetch, self.count = self._searching.search, self._searching.fetch, self._scanning.count
        self.loading = LoadingOperations(session)
        ranking = Ranking(session)
        self.nearest, self.by_text = ranking.nearest, ranking.by_text
        self.matching, self.matching_or_search = self._searching.matching, self._searching.matching_or_search
        self.page = self._scanning.page
        self.checkpoint, self.changed_page = self._scanning.checkpoint, self._scanning.changed_page
        copying = Copying(session, self._scanning.whole)
        self.stands_for, self.make_twin, self.move_names = copying.stands_for, copying.make_twin, copying.move_names
        self.whole_page, self.take, self.discard = copying.whole_page, copying.take, copying.discard
        self.remove_whole = copying.remove_whole

    # ---- what is there

    def names(self, pattern: str) -> Operation[list[str]]:
        """Of the open indices that a pattern stands for."""
        answer = yield from ask("GET", path_of("_resolve", "index", quote(pattern, safe="*,")))
        if answer.status == 404:  # a name without wildcards that nobody has
            return []
        found = good(answer)
        indices = {one["name"] for one in found["indices"] if "open" in one.get("attributes", ["open"])}
        for alias in found["aliases"]:
            indices |= set(_listed(alias["indices"]))
        for stream in found["data_streams"]:
            indices |= set(_listed(stream["backing_indices"]))
        return sorted(indices)

    def info(self) -> Operation[Info]:
        target = yield from self._session.look()
        server = yield from self._session.serving()
        field = read_fields(target, self._session.field) if target else None
        most = self._session.max_clauses
        can = Capabilities(
            negative_weights=CAN.negative_weights,
            versions=CAN.versions,
            routing=CAN.routing,
            point_in_time=CAN.point_in_time,
            query_weights=most if most < 2**31 else None,
            request_bytes=server.max_body,
            requests_at_once=CAN.requests_at_once,
        )
        return Info(
            backend=f"{self._session.engine} {server.version or 'of unknown version'}",
            capabilities=can,
            exists=field is not None,
            ours=target.ours if target else True,
            dimension=field.dimension if field else None,
            fingerprint=field.fingerprint if field else None,
            identity=field.claim.identity if field and field.claim else None,
            dense=dense_fields(target) if target else {},
            code_bytes=field.code_bytes if field else None,
        )

    def check(self) -> Operation[list[Finding]]:
        server = yield from self._session.serving()
        name = f"{self._session.engine} {server.version or 'of unknown version'}"
        found = [Finding("fine", "version", name)]
        try:
            target = yield from self._session.look()
            if target is None:
                return [*found, Finding("fine", "index", f"{self._session.asked!r} is not there; create makes it")]
            found.append(self._on_field(target))
        except (BackendUnsupported, CollectionError) as error:
            reason, _, advice = str(error).partition("; ")
            return [*found, Finding("blocking", "index", reason, advice)]
        found += self._on_codes(target)
        found += [hazard.finding() for hazard in hazards(target, self._session.field)]
        if target.write is not None:
            found += yield from surroundings(target.write, self._session.field, server.max_body, not target.ours)
        if not target.ours and not any(one.subject == "closed" for one in found):
            found += yield from self._on_documents(target)
        return found

    def _on_field(self, target: Target) -> Finding:
        field = read_fields(target, self._session.field)
        whose = "made by sparsevec" if target.ours else "made by others"
        names = ", ".join(sorted(target.names))
        if field is None:
            for index in target.indices:
                field_properties(self._session.field, index.created)  # refuses versions that are too old
            return Finding("fine", "index", f"{names}, {whose}, has no field {self._session.field!r} of ours yet")
        return Finding("fine", "index", f"{names}, {whose}, has the field {field.name!r} of type {field.type}")

    def _on_codes(self, target: Target) -> list[Finding]:
        """How the weights that residual codes are scored with come to a search."""
        field = read_fields(target, self._session.field)
        if field is None or field.claim is None or field.code is None or field.claim.packed:
            return []
        said = "residual codes are kept without the weights beside them (favour=bytes, or an earlier sparsevec made it)"
        advice = "answers are right, and take two to three times as long; a new collection by favour=time is quicker"
        return [Finding("warning", "codes", said, advice)]

    def _on_documents(self, target: Target) -> Operation[list[Finding]]:
        """What only documents tell: whether they have a routing, or versions that somebody else counts."""
        body = {"query": {"exists": {"field": "_routing"}}, "size": 0, "track_total_hits": True}
        routed = yield from json("POST", self._session.path("_search"), body)
        read_hits(routed)
        body = {"size": min(_SAMPLE, target.window), "_source": False, "version": True, "seq_no_primary_term": True}
        sample = read_hits((yield from json("POST", self._session.path("_search"), body)))
        external = [hit for hit in sample if hit["_version"] > hit["_seq_no"] + 1]  # more changes than the shard saw
        found = []
        if count := routed["hits"]["total"]["value"]:
            advice = "writes look for it where it is not given; scan tells it, and routing= spares the look"
            found.append(Finding("warning", "routing", f"{count} documents have a routing of their own", advice))
        if external:
            said = (
                f"{len(external)} of {len(sample)} documents looked at have external versions (version_type=external)"
            )
            advice = (
                "each write of sparsevec raises a document's version by one, so the next event of its source, which "
                "counts by itself, is refused as stale (409): let the source count in larger steps, such as a timestamp"
            )
            found.append(Finding("warning", "versions", said, advice))
        else:
            said = f"none of {len(sample)} documents looked at has an external version"
            found.append(Finding("fine", "versions", said))
        return found

    # ---- create and drop

    def create(self, dimension: int, fingerprint: str | None, code_bytes: int | None) -> Operation[None]:
        code_bytes = check_code_bytes(code_bytes)
        dimension = check_making(dimension, fingerprint)
        session = self._session
        target = yield from session.look()
        noted = (session.field, dimension, uuid4().hex, "index", fingerprint, claim_name(session.field))
        claim = Claim(*noted, code_bytes=code_bytes, packed=self._packs and code_bytes is not None)
        if target is None and (yield from self._make_index(claim)):
            yield from session.look()
            return
        target = target or (yield from session.look())  # another `create` made it in the meantime
        if target is None:
            raise CollectionError(f"index {session.asked!r} was made and removed while it was created; try again")
        yield from self._add_field(target, claim)

    def _make_index(self, claim: Claim) -> Operation[bool]:
        """Make an index of ours; False when somebody else was first."""
        version = (yield from self._session.serving()).version
        if version is None:
            raise BackendUnsupported(
                "the credentials lack the privilege `monitor`, which creating an index needs to choose its mapping; "
                "or make the index yourself, and create(dimension) adds the field to it"
            )
        created = version_created(self._session.engine, version)
        server = (self._session.engine, version, created)
        body = new_index(
            claim,
            created,
            hides=hides_vectors(*server) and claim.code_bytes is None,
            vector_codes=codes_as_vectors(*server),
            shards=self._shards,
            replicas=self._replicas,
        )
        try:
            yield from json("PUT", self._session.path(), body)
        except CollectionError as error:
            if "already_exists" not in str(error):
                raise
            return False
        return True

    def _add_field(self, target: Target, claim: Claim) -> Operation[None]:
        """Claim our field in an index that is there; of two that claim it at once the server refuses one (C1)."""
        there = CollectionError(
            f"index {target.asked!r} has a field {claim.field!r} already; name another, or drop() it first"
        )
        if read_fields(target, claim.field) is not None:
            raise there
        if fault := write_fault(target, claim.field):
            raise fault
        version = (yield from self._session.serving()).version if claim.code_bytes else None
        for index in target.indices:
            claim = replace(claim, made="field", name=index.next_claim(claim.field))
            properties = field_properties(claim.field, index.created)
            vectors = codes_as_vectors(self._session.engine, version, index.created)
            if claim.field in index.properties:  # dropped before
                properties = {}
            try:
                yield from self._session.put_mapping(index, {**properties, **claim.properties(vector_codes=vectors)})
            except BackendUnsupported as error:
                if "null_value" not in str(error):
                    raise
                raise there from error
        yield from self._session.look()

    def drop(self) -> Operation[None]:
        """What stays in an index of others: the mapping of our field, as mappings do, and of the notes beside it."""
        known = yield from self._session.find()
        if known is None:
            return
        field = known.field
        if field.claim is None:
            raise CollectionError(
                f"field {field.name!r} of index {self._session.asked!r} was made by others, so drop() leaves it; "
                f"delete(ids) takes vectors out of it"
            )
        for index in known.target.indices:
            if index.belongs_to(field.name):
                yield from json("DELETE", path_of(index.name))
            else:
                yield from self._empty(index)
        self._session.forget()

    def _empty(self, index: Index) -> Operation[None]:
        """Every vector of ours out of the documents of an index, then the claim."""
        field = read_fields(Target(index.name, (index,)), self._session.field)
        assert field is not None
        assert field.claim is not None
        writable(Target(index.name, (index,)), self._session.field)
        removed: set[tuple[str, str | None]] = set()
        while holders := (yield from self._holders(index, field.present)):
            if removed.issuperset(holders):
                raise BackendDown(
                    f"vectors of {index.name!r} are written while they are dropped, such as of {holders[0][0]!r}"
                )
            keys, routings = zip(*holders, strict=True)
            yield from self._writing.remove(index, field, keys, routings)
            removed.update(holders)
        yield from self._session.put_mapping(index, field.claim.dropping())
        _log.info(
            "took %d vectors out of index %s; the mapping of field %s stays", len(removed), index.name, field.name
        )

    def _holders(self, index: Index, present: str) -> Operation[list[tuple[str, str | None]]]:
        """`_id` and routing of some documents with a vector of ours."""
        yield from self._session.refresh(force=True)
        size = min(PAGE, index.window) // 2 or 1
        body = {"query": {"exists": {"field": present}}, "size": size, "_source": False}
        answer = yield from json(
            "POST", path_of(index.name, "_search"), body, {"allow_partial_search_results": "false"}
        )
        return [(hit["_id"], hit.get("_routing")) for hit in read_hits(answer)]

    # ---- numbers

    def stored(self, vectors: SparseVectors) -> SparseVectors:
        return weights.stored(vectors)

    def slack(self, vectors: SparseVectors) -> Operation[Float32s]:
        yield from ()  # a conversation without a request
        return np.zeros(vectors.nnz, np.float32)


def _listed(names: str | list[str]) -> list[str]:
    return [names] if isinstance(names, str) else names


_contract: type[Operations] = LuceneOperations
_ranks: type[RankOperations] = LuceneOperations
_counts: type[CountOperations] = LuceneOperations
