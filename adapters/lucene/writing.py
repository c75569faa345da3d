"""`upsert` and `delete`, and how our vectors are taken out of the documents of others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sparsevec.contract.adapter import Failure, Missing, UInt8s, Version, Written
from sparsevec.contract.capabilities import Capabilities
from sparsevec.contract.checks import (
    Id,
    Payload,
    check_batch,
    check_codes,
    check_ids,
    check_options,
    check_space,
    first_repeated,
)
from sparsevec.contract.operations import Operation
from sparsevec.contract.payloads import is_unicode
from sparsevec.errors import BackendDown, BackendUnsupported, CollectionError, InvalidInput, OutOfLimits
from sparsevec.vectors import SparseVectors

from .documents import (
    BULK_PATHS,
    Line,
    bulk_items,
    check_removed,
    deletion,
    lost_race,
    lost_routing,
    read_version,
    removal,
    rewriting,
    to_lines,
    went_to,
    without,
)
from .errors import failure, says
from .firsts import ROUNDS, adopt, pack, prepare
from .hazards import default_pipeline, final_pipeline, writable, write_fault
from .ids import to_id
from .index import Field, Index, Target
from .session import Session

__all__ = ["CAN", "Writing"]

Json = Mapping[str, Any]

CAN = Capabilities(negative_weights=False, versions=True, routing=True, requests_at_once=4, point_in_time=True)
_PATIENCE = "30s"  # that a bulk request waits for a shard; less than the clients wait for the answer


@dataclass(frozen=True, slots=True)
class _Sent:
    """One action under way, and how it is said, with a routing or without."""

    key: str
    body: Callable[[str | None], bytes]
    plain: bool = False
    """whether it can be said without a script, too: where the server runs none it is"""


class Writing:
    def __init__(self, session: Session) -> None:
        self._session = session

    # ---- upsert

    def upsert(
        self,
        ids: Sequence[Id],
        vectors: SparseVectors,
        payloads: Sequence[Payload] | None,
        *,
        versions: Sequence[Version | None] | None,
        routing: Sequence[str | None] | None,
        missing: Missing | None,
        codes: UInt8s | None,
    ) -> Operation[Written]:
        check_options(self._session.engine, CAN, versions=versions, routing=routing, missing=missing)
        known = yield from self._session.fresh()
        if write_fault(known.target, self._session.field):
            known = yield from self._session.existing(0.0)  # what was in the way may be gone
        ids, payloads = check_batch(ids, vectors, payloads, known.field.dimension)
        _check_lengths(ids, versions=versions, routing=routing)
        _check_guards(versions or (), routing or ())
        check_space(vectors, known.field.fingerprint)
        codes = check_codes(codes, vectors, known.field.code_bytes)
        index = writable(known.target, self._session.field)
        _check_spelling(ids, index.ours)
        missing = missing or ("create" if index.ours else "fail")
        if missing == "create" and (fault := _create_fault(known.target, index)):
            raise fault
        yield from prepare(self._session, known, payloads)
        yield from adopt(self._session, known, vectors)
        if codes is not None and vectors.nnz:
            known = yield from pack(self._session, known, vectors)
        lines, failed = to_lines(
            ids,
            vectors,
            payloads,
            known.field,
            ours=index.ours,
            hidden=[claim.field for claim in index.claims],
            versions=versions,
            routing=routing,
            codes=codes,
        )
        lines, too_large = yield from self._fitting(lines)
        written, skipped, refused = yield from self._send(index, lines, missing)
        return Written(written, skipped, failed | too_large | refused)

    def _fitting(self, lines: Sequence[Line]) -> Operation[tuple[list[Line], dict[Id, Failure]]]:
        """Those that a request can hold, and a failure for each of the others (C9)."""
        server = yield from self._session.serving()
        large = {line.id: len(line.body()) for line in lines if len(line.doc) > server.max_body - 2000}
        reason = "too large: {:,} bytes, and a request of this server holds {:,} (http.max_content_length)"
        failed = {id_: Failure(reason.format(size, server.max_body)) for id_, size in large.items()}
        return [line for line in lines if line.id not in large], failed

    def _send(
        self, index: Index, lines: Sequence[Line], missing: Missing
    ) -> Operation[tuple[tuple[Id, ...], dict[Id, str], dict[Id, Failure]]]:
        items = yield from self._write(index, lines, missing)
        written: list[Id] = []
        skipped: dict[Id, str] = {}
        failed: dict[Id, Failure] = {}
        for line, item in zip(lines, items, strict=True):
            fault = failure(item, guarded=line.version is not None)
            if fault is None:
                written.append(line.id)
            elif fault.kind == "missing" and missing == "skip":
                skipped[line.id] = fault.reason
            else:
                failed[line.id] = fault
        return tuple(written), skipped, failed

    def _write(self, index: Index, lines: Sequence[Line], missing: Missing) -> Operation[list[Json]]:
        """The bulk item of each document: as they are most likely to pass, then whatever needs another look."""
        if missing == "create" and index.ours:  # where nobody routes, a missing document is made at once
            items = yield from self._ours(index, lines)
        else:
            items = yield from self._routed(index, [self._sent(index, line, create=False) for line in lines])
        if missing == "create":
            gone = [i for i, item in enumerate(items) if lost_routing(item) and lines[i].version is None]
            made = yield from self._items(index, [self._sent(index, lines[i], create=True) for i in gone])
            for i, item in zip(gone, made, strict=True):
                items[i] = item
        if not self._session.scripts:
            merged = {lines[i].key: i for i, item in enumerate(items) if lines[i].objects and _was_there(item)}
            replaced = yield from self._replace(index, {key: lines[i] for key, i in merged.items()})
            for key, item in replaced.items():
                items[merged[key]] = item
        return items

    def _sent(self, index: Index, line: Line, *, create: bool) -> _Sent:
        twice = default_pipeline(index) is not None

        def body(routing: str | None) -> bytes:
            return line.body(create=create, twice=twice, routing=routing, script=self._session.scripts)

        return _Sent(line.key, body, plain=True)

    def _first(self, index: Index, line: Line) -> _Sent:
        return _Sent(line.key, line.creation) if line.version is None else self._sent(index, line, create=False)

    def _replace(self, index: Index, lines: Mapping[str, Line]) -> Operation[dict[str, Json]]:
        """Without scripts an update merges objects: those that kept more than was given are written anew, whole."""
        if lines and (fault := final_pipeline(index)):
            reason = f"its objects were merged with those that were there: this server runs no scripts, and {fault}"
            return {key: {"status": 400, "error": {"type": "objects_merged", "reason": reason}} for key in lines}
        items = yield from self._rewrite(index, list(lines), lambda key, source: lines[key].replaced(source))
        return {key: item for (key, _), item in items.items()}

    def _ours(self, index: Index, lines: Sequence[Line]) -> Operation[list[Json]]:
        """`create`, and an update for those that are there (409), so that what else they hold stays (C3).

        An update that makes what is missing costs the server 1.4 times as much, and a refused `create` costs something
        as well: where most of a write was there, the next one begins with updates, until most of one was not.
        """
        news = self._session.news
        sent = [
            self._sent(index, line, create=True) if line.version is None and not news else self._first(index, line)
            for line in lines
        ]
        items = yield from self._routed(index, sent)
        there = [i for i, item in enumerate(items) if lines[i].version is None and _is_there(item, created=news)]
        self._session.news = 2 * len(there) <= len(lines)
        if not news:
            return items
        updated = yield from self._routed(index, [self._sent(index, lines[i], create=True) for i in there])
        for i, item in zip(there, updated, strict=True):
            items[i] = item
        return items

    def _routed(self, index: Index, sent: Sequence[_Sent]) -> Operation[list[Json]]:
        """The items of actions on documents that may have a routing: where one is not found, it is looked for."""
        items = yield from self._items(index, sent)
        raced = [i for i, item in enumerate(items) if lost_race(item)]
        again = yield from self._items(index, [sent[i] for i in raced])
        for i, item in zip(raced, again, strict=True):
            items[i] = item
        lost = [i for i, item in enumerate(items) if lost_routing(item)]
        if not lost:
            return items
        yield from self._session.refresh(force=True)
        found = yield from self._session.locate(index, [sent[i].key for i in lost])
        routing = {hit["_id"]: hit["_routing"] for hit in found if "_routing" in hit}
        lost = [i for i in lost if sent[i].key in routing]
        again = yield from self._items(index, [sent[i] for i in lost], [routing[sent[i].key] for i in lost])
        for i, item in zip(lost, again, strict=True):
            items[i] = item
        return items

    def _items(
        self, index: Index, sent: Sequence[_Sent], routings: Sequence[str | None] | None = None
    ) -> Operation[list[Json]]:
        """What became of each action; where the server runs no scripts, of the same in plain words."""
        if not sent:
            return []
        bodies = [one.body(routings[i] if routings else None) for i, one in enumerate(sent)]
        size, server = sum(map(len, bodies)), (yield from self._session.serving())
        if size > server.max_body:
            raise OutOfLimits(
                f"the request has {size} bytes, the server takes {server.max_body} (http.max_content_length); "
                f"send fewer documents at once",
                splittable=len(bodies) > 1,
            )
        waits = yield from self._session.write_params()
        params = {"timeout": _PATIENCE, "filter_path": BULK_PATHS, "pipeline": "_none", **waits}
        try:
            answer = yield from self._session.bulk(index, bodies, params)
            items = bulk_items(answer, len(sent))
        except OutOfLimits as error:
            if len(sent) > 1:
                raise
            return [{"status": 413, "error": {"type": "too large", "reason": str(error)}}]
        except CollectionError:
            yield from self._say_why()
            raise
        except BackendUnsupported:
            if index.name == self._session.asked or not self._session.by_index:
                raise
            self._session.by_index = False
            return (yield from self._items(index, sent, routings))
        yield from self._expect_there(index, items)
        refused = [i for i, item in enumerate(items) if sent[i].plain and _no_scripts(item)]
        if refused:
            self._session.scripts = False
            again = yield from self._items(
                index, [sent[i] for i in refused], [routings[i] for i in refused] if routings else None
            )
            for i, item in zip(refused, again, strict=True):
                items[i] = item
        return items

    def _expect_there(self, index: Index, items: Sequence[Json]) -> Operation[None]:
        """Raises BackendDown where the name stands for another index than it did before: others will not find there
        what was written. Raises CollectionError where that is one that the server made for it, without our field.

        Of an alias, each write asks. An index itself can only have been removed and made again; what a server makes of
        its own accord, for a document that is written to an index which was removed, begins to count its writes anew.
        """
        moved = {to for item in items if (to := went_to(item))} - {index.name}
        made = any(_is_first(item) for item in items)
        if not moved and (made or index.name != self._session.asked):
            now = yield from self._session.stands_for()
            here = now.write if now is not None else None
            if here is not None and (here.name, here.uuid) == (index.name, index.uuid):
                return
            if made and here is not None and here.live(self._session.field) is None:
                self._session.forget()
                raise CollectionError(
                    f"index {index.name!r} was removed while it was written to, and the server has made another for "
                    "what was written, without our field; remove that one too, create(dimension) makes ours anew, and "
                    "write all again"
                )
            moved = set(now.names) if now is not None else {"nothing"}
        if moved:
            self._session.forget()
            perhaps = f"; look whether the server has made an index {index.name!r} for what was written" if made else ""
            raise BackendDown(
                f"{self._session.asked!r} was moved to {sorted(moved)} or made anew while it was written to{perhaps}"
            )

    def _say_why(self) -> Operation[None]:
        """Look again: what every document was refused for stands in the settings of the index."""
        target = yield from self._session.look()
        if target is not None:
            writable(target, self._session.field)

    # ---- delete

    def delete(self, ids: Sequence[Id]) -> Operation[None]:
        known = yield from self._session.existing(0.0)  # a second field of ours may live there since
        index = writable(known.target, self._session.field)
        keys = [to_id(id_, index.ours) for id_ in check_ids(ids)]
        if index.belongs_to(known.field.name):
            items = yield from self._routed(index, [_Sent(key, _deletion(key)) for key in keys])
            check_removed(items)
        else:
            yield from self.remove(index, known.field, keys)

    def remove(
        self, index: Index, field: Field, keys: Sequence[str], routings: Sequence[str | None] | None = None
    ) -> Operation[None]:
        """Our vector, and nothing else, out of documents, and out of their `_source` where the engine allows.

        `routings`: where they are known; an `_id` may be there several times, with one each.
        """
        if self._session.scripts:
            items = yield from self._removed(index, field, keys, routings, script=True)
            self._session.scripts = not any(_no_scripts(item) for item in items)
            if self._session.scripts:
                check_removed(items)
                return
        if final_pipeline(index) is None:
            rewritten = yield from self._rewrite(index, keys, lambda _, source: without(source, field))
            check_removed(rewritten.values())
        else:  # a document written anew would run through it
            items = yield from self._removed(index, field, keys, routings, script=False)
            check_removed(items)

    def _removed(
        self, index: Index, field: Field, keys: Sequence[str], routings: Sequence[str | None] | None, *, script: bool
    ) -> Operation[list[Json]]:
        sent = [_Sent(key, _removal(key, field, script=script)) for key in keys]
        return (yield from (self._routed(index, sent) if routings is None else self._items(index, sent, routings)))

    def _rewrite(
        self, index: Index, keys: Sequence[str], change: Callable[[str, Json], Json | None]
    ) -> Operation[dict[tuple[str, str | None], Json]]:
        """Write documents anew, as `change(key, source)` says, None to leave one: the bulk item of each by key and
        routing."""
        whole = yield from self._session.whole_source(index)
        done: dict[tuple[str, str | None], Json] = {}
        for _ in range(ROUNDS):
            if not keys:
                break
            yield from self._session.refresh(force=True)
            found = yield from self._session.locate(index, keys, whole or True)
            changed = [(hit, change(hit["_id"], hit["_source"])) for hit in found]
            sent = [(hit, to) for hit, to in changed if to is not None]
            items = yield from self._items(index, [_Sent(hit["_id"], _rewriting(hit, to)) for hit, to in sent])
            left: dict[str, None] = {}
            for (hit, _), item in zip(sent, items, strict=True):
                if item["status"] in (404, 409):  # what others made of it may need nothing any more
                    left[hit["_id"]] = None
                else:
                    done[hit["_id"], hit.get("_routing")] = item
            keys = list(left)
        if keys:
            raise BackendDown(f"others write to the same {len(keys)} documents all the time, such as {keys[0]!r}")
        return done


def _is_there(item: Json, *, created: bool) -> bool:
    """Whether a document was there before the action: one that was to be `created`, or was updated."""
    return item["status"] == 409 if created else _was_there(item)


def _deletion(key: str) -> Callable[[str | None], bytes]:
    return lambda routing: deletion(key, routing)


def _removal(key: str, field: Field, *, script: bool) -> Callable[[str | None], bytes]:
    return lambda routing: removal(key, field, routing, script=script)


def _rewriting(hit: Json, source: Json) -> Callable[[str | None], bytes]:
    return lambda _: rewriting(hit, source)


def _is_first(item: Json) -> bool:
    """Whether it is the first write of all that its shard has seen."""
    return item.get("_seq_no") == 0 and item.get("result") == "created"


def _was_there(item: Json) -> bool:
    return item.get("result") in ("updated", "noop")


def _no_scripts(item: Json) -> bool:
    return says(item, "script_lang not supported") or says(item, "cannot execute")  # [inline] or [update] scripts


def _create_fault(target: Target, index: Index) -> BackendUnsupported | CollectionError | None:
    if len(target.indices) > 1:
        return CollectionError(
            f'{target.asked!r} stands for several indices, in any of which a document may be; missing="create" could '
            f"make it twice: name one of {sorted(target.names)}"
        )
    return final_pipeline(index)  # type: ignore[return-value]


def _check_lengths(ids: Sequence[Id], **given: Sequence[object] | None) -> None:
    for name, values in given.items():
        if values is not None and len(values) != len(ids):
            raise InvalidInput(f"expected as many {name} as ids, found {len(values)} and {len(ids)}")


def _check_guards(versions: Sequence[Version | None], routing: Sequence[object]) -> None:
    for version in versions:
        if version is not None:
            read_version(version)
    for route in routing:
        if route is not None and not (isinstance(route, str) and route and is_unicode(route)):
            raise InvalidInput(f"expected routing as scan gives it, a non-empty string or None, found {route!r:.80}")


def _check_spelling(ids: Sequence[Id], ours: bool) -> None:
    keys = [] if ours else [to_id(id_, ours) for id_ in ids]
    if len(set(keys)) < len(keys):
        twice = str(first_repeated(keys))
        raise InvalidInput(f"the ids {int(twice)} and {twice!r} are one _id in an index that others made; give it once")
