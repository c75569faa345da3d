"""Engines that are overloaded, killed, full or fussy: what was reported as written is there, once and exact."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from sparsevec.errors import CollectionError
from sparsevec.ingestion.ingest import IngestProgress, Timing
from sparsevec.testing.engines import ENGINES
from sparsevec.testing.nodes import Node, free_ports
from tests.faults.conftest import Collection, Documents, collection_at, documents, http
from tests.faults.proxy import Exchange, in_turn

NODES = (
    pytest.param("elasticsearch9", marks=pytest.mark.elasticsearch),
    pytest.param("opensearch3", marks=pytest.mark.opensearch),
)


def node(name: str, **settings: str | int) -> Node:
    """A node of this test's own, not yet started, to be set up and killed as it likes."""
    release = ENGINES[name].release
    assert release is not None
    return Node(release, {setting.replace("__", "."): value for setting, value in settings.items()})


def url(name: str, of: Node) -> str:
    return f"{ENGINES[name].family}://127.0.0.1:{of.port}"


# ---- overloaded


@pytest.mark.parametrize("name", NODES)
def test_documents_that_a_full_queue_turns_away_are_sent_again(name: str) -> None:
    """429 per item, in answers of status 200: one write thread, a queue of one, eight shards, four writers."""
    given = [documents(400, seed=seed) for seed in range(4)]
    patient = Timing(sleep=lambda seconds: time.sleep(seconds / 10))
    with node(name, thread_pool__write__size=1, thread_pool__write__queue_size=1) as crowded:
        crowded.start()
        with collection_at(url(name, crowded), shards=8) as collection, ThreadPoolExecutor(4) as writers:
            reports = list(writers.map(lambda one: collection.ingest(one, batch_count=100, timing=patient), given))
            (stats,) = http("GET", f"{crowded.url}/_nodes/stats/thread_pool")["nodes"].values()
            assert stats["thread_pool"]["write"]["rejected"] > 0
            assert [(report.written, report.failed) for report in reports] == [(400, 0)] * 4
            collection.check_holds(*given)


# ---- killed


class PowerCuts:
    """Kills the node when so many documents are settled; whoever pauses waits until it is up again."""

    def __init__(self, victim: Node, *after: int) -> None:
        self._victim, self._left = victim, list(after)
        self._switch = threading.RLock()  # several requests are under way

    def on_progress(self, progress: IngestProgress) -> None:
        if self._left and progress.documents >= self._left[0]:
            self._left.pop(0)
            self._cut()

    def under_way(self, exchange: Exchange) -> None:
        """A fault: the power fails when the whole request has arrived, before anything is answered."""
        with exchange.send():
            self._cut()
        exchange.reset()

    def _cut(self) -> None:
        with self._switch:
            self._victim.revive()
            self._victim.kill()

    def pause(self, _seconds: float) -> None:
        """In place of `time.sleep`."""
        with self._switch:
            self._victim.revive()


@pytest.mark.parametrize("name", NODES)
def test_a_node_that_is_killed_and_comes_back_has_everything(name: str) -> None:
    given = documents(1000)
    with node(name) as victim:
        cuts = PowerCuts(victim.start(), 400)
        with collection_at(url(name, victim)) as collection:
            collection.proxy.script = in_turn([None] * 7 + [cuts.under_way])
            report = collection.ingest(
                given, batch_count=100, on_progress=cuts.on_progress, timing=Timing(sleep=cuts.pause)
            )
            assert report.retries >= 2
            collection.check(report, given)


@pytest.mark.slow
@pytest.mark.elasticsearch
def test_one_node_of_three_is_killed_and_nobody_notices() -> None:
    given = documents(2000)
    with ExitStack() as stack:
        nodes = [stack.enter_context(each) for each in cluster_of_three("elasticsearch9")]
        for each in nodes:
            each.launch()
        for each in nodes:
            each.wait("/_cluster/health?wait_for_nodes=3&wait_for_status=green&timeout=180s")
        place = collection_at(url("elasticsearch9", nodes[0]), shards=3, replicas=1)
        collection = stack.enter_context(place)
        cuts = PowerCuts(nodes[2], 600)
        patient = Timing(sleep=lambda seconds: time.sleep(min(seconds, 1)))
        report = collection.ingest(given, batch_count=100, on_progress=cuts.on_progress, timing=patient)
        collection.check(report, given)


def cluster_of_three(name: str) -> Iterator[Node]:
    transports = free_ports(3)
    for number, port in enumerate(transports):
        yield node(
            name,
            cluster__name="three",
            node__name=f"node-{number}",
            transport__port=port,
            discovery__type="multi-node",
            discovery__seed_hosts=",".join(f"127.0.0.1:{port}" for port in transports),
            cluster__initial_master_nodes="node-0,node-1,node-2",
        )


# ---- full or read-only


@pytest.mark.parametrize("block", ["read_only_allow_delete", "read_only", "write"])
def test_an_index_that_becomes_read_only_ends_the_run_soon_and_says_why(
    block: str, collection: Collection, tmp_path: Path
) -> None:
    """`read_only_allow_delete` is what a full disk sets."""
    given = documents(300)
    resumable: dict[str, Any] = {"batch_count": 50, "journal": tmp_path / "faults.journal"}
    settings = f"{collection.engine}/_settings"

    def disk_full(progress: IngestProgress) -> None:
        http("PUT", settings, {f"index.blocks.{block}": progress.documents >= 100})

    with pytest.raises(CollectionError, match=rf"read-only \(index\.blocks\.{block}") as stopped:
        collection.ingest(given, on_progress=disk_full, **resumable)
    report = stopped.value.report
    assert collection.pauses == []
    assert (report.written, report.failed) == (report.given, 0)
    assert 100 <= report.given < 300  # and what was under way when the block came

    http("PUT", settings, {f"index.blocks.{block}": None})
    collection.check(collection.ingest(given, **resumable), given)


def test_an_index_that_becomes_read_only_under_a_request_ends_the_run_soon(collection: Collection) -> None:
    """After everything was checked: the server itself refuses each document, with 429 or 403."""
    given = documents(100)

    def disk_full(exchange: Exchange) -> None:
        http("PUT", f"{collection.engine}/_settings", {"index.blocks.read_only_allow_delete": True})
        exchange.answer(exchange.forward())

    collection.proxy.script = in_turn([None, disk_full])
    with pytest.raises(CollectionError, match="read-only"):
        collection.ingest(given, batch_count=50, in_flight=1)
    assert collection.pauses == []
    http("PUT", f"{collection.engine}/_settings", {"index.blocks.read_only_allow_delete": None})
    collection.check_holds(given[:50])


@pytest.mark.slow
@pytest.mark.elasticsearch
def test_a_disk_that_is_full_ends_the_run_soon_and_says_why(tmp_path: Path) -> None:
    """For real: the node finds less free than its flood stage demands, and blocks the index by itself."""
    given = documents(300)
    resumable: dict[str, Any] = {"batch_count": 50, "in_flight": 1, "journal": tmp_path / "faults.journal"}
    with node("elasticsearch9", cluster__info__update__interval="10s") as full:
        full.start()
        with collection_at(url("elasticsearch9", full)) as collection:

            def demand(space: str | None) -> None:
                stages = ("low", "high", "flood_stage")
                settings = {f"cluster.routing.allocation.disk.watermark.{stage}": space for stage in stages}
                settings["cluster.routing.allocation.disk.threshold_enabled"] = None if space is None else "true"
                http("PUT", f"{full.url}/_cluster/settings", {"persistent": settings})

            def until_blocked(blocked: bool) -> None:
                name = "index.blocks.read_only_allow_delete"
                while blocked == (name not in str(http("GET", f"{collection.engine}/_settings?flat_settings=true"))):
                    time.sleep(0.2)

            def fills(exchange: Exchange) -> None:
                demand("900tb")
                until_blocked(True)
                exchange.answer(exchange.forward())

            collection.proxy.script = in_turn([None, fills])
            with pytest.raises(CollectionError, match=r"flood-stage|a full disk") as stopped:
                collection.ingest(given, **resumable)
            assert 50 <= stopped.value.report.given == stopped.value.report.written < 300
            demand("1b")
            until_blocked(False)
            collection.check(collection.ingest(given, **resumable), given)


# ---- fussy


def test_one_refused_document_among_a_thousand_fails_alone_and_is_kept(cluster: str, tmp_path: Path) -> None:
    """By the mapping of an index that others made."""
    given = documents(1000)
    given = Documents([f"id-{i}" for i in range(1000)], given.vectors, given.payloads)
    given.payloads[617]["number"] = "not a number"
    with collection_at(cluster, mapping={"properties": {"number": {"type": "long"}}}) as collection:
        for id_ in given.ids:
            http("PUT", f"{collection.engine}/_doc/{id_}", {})
        report = collection.ingest(given, failed=tmp_path / "failed.jsonl")
        assert (report.given, report.written, report.skipped, report.failed) == (1000, 999, 0, 1)
        assert report.failures[0].id == given.ids[617]
        assert "not a number" in report.failures[0].reason
        assert (tmp_path / "failed.jsonl").read_text().count("\n") == 1
        collection.check_holds(given.without(617))
