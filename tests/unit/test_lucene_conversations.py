"""Whole conversations with a server, driven by hand: what is asked, in which order, and what is made of each answer."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from sparsevec_adapters.lucene.operations import LuceneOperations
from sparsevec_adapters.lucene.wire import Answer, Request, retry_after

from sparsevec.contract.searches import Search
from sparsevec.errors import BackendDown, BackendUnsupported, CollectionError, InvalidInput, WrongSpace
from sparsevec.vectors import SparseVectors

NODE = Answer(200, {"nodes": {"n": {"version": "9.5.3", "http": {"max_content_length_in_bytes": 100_000}}}})
DONE = Answer(200, {"acknowledged": True})
REFRESHED = Answer(200, {"_shards": {"failed": 0}})
CONFLICT = {"type": "illegal_argument_exception", "reason": "Cannot update parameter [null_value] from [x] to [y]"}


def note(made: str = "field", field: str = "emb", fingerprint: str | None = None) -> dict[str, Any]:
    about = {"field": field, "dimension": 9, "identity": "u", "made": made, "fingerprint": fingerprint}
    return {f"_sparsevec_{field}": {"type": "keyword", "null_value": json.dumps({"sparsevec": about})}}


def there(name: str = "products", *, settings: dict[str, str] | None = None, **properties: Any) -> Answer:
    """The answer to `GET /products`, of an index with these fields."""
    settings = {"index.version.created": "9111000", **(settings or {})}
    return Answer(200, {name: {"aliases": {}, "mappings": {"properties": properties}, "settings": settings}})


OTHERS = there(emb={"type": "sparse_vector"}, title={"type": "keyword", "normalizer": "lowercase"}, **note())
DECIDED = there(emb={"type": "sparse_vector"}, title={"type": "keyword"}, **note())
OURS = there(emb={"type": "sparse_vector"}, **note("index"))


def items(*outcomes: dict[str, Any], kind: str = "update") -> Answer:
    return Answer(200, {"items": [{kind: {"_index": "products", **outcome}} for outcome in outcomes]})


WRITTEN = {"status": 200, "result": "updated", "_seq_no": 3}
MISSING = {"status": 404, "error": {"type": "document_missing_exception", "reason": "document missing"}}


def talk(operation: Generator[Any, Any, Any], *answers: Answer) -> tuple[Any, list[Request]]:
    """The result of a conversation that is given these answers, all of them, and the requests that it sent."""
    left, sent = list(answers), []
    try:
        request = next(operation)
        while True:
            sent.append(request)
            request = operation.send(left.pop(0))
    except StopIteration as end:
        assert left == []
        return end.value, sent


def said(requests: Sequence[Request]) -> list[str]:
    return [str(request) for request in requests]


def lines(request: Request) -> list[Any]:
    assert request.body is not None
    return [json.loads(line) for line in request.body.splitlines()]


def rows(*documents: dict[int, float], fingerprint: str | None = None) -> SparseVectors:
    return SparseVectors.from_rows(documents, dimension=9).with_fingerprint(fingerprint)


@pytest.fixture
def lucene() -> LuceneOperations:
    """One that knows that it may refresh; the first write of another asks for that."""
    operations = LuceneOperations("elasticsearch", "products", "emb")
    operations._session._may_refresh = True
    return operations


def upsert(lucene: LuceneOperations, ids: list[Any], vectors: SparseVectors, **given: Any) -> Generator[Any, Any, Any]:
    options: dict[str, Any] = {
        "payloads": None,
        "versions": None,
        "routing": None,
        "missing": None,
        "codes": None,
        **given,
    }
    conversation: Generator[Any, Any, Any] = lucene.upsert(ids, vectors, **options)
    return conversation


# ---- create


def test_create_claims_the_field_beside_what_others_have() -> None:
    lucene = LuceneOperations("elasticsearch", "products", "emb")
    _, sent = talk(lucene.create(9, "space", None), there(title={"type": "keyword"}), DONE, OTHERS)
    assert said(sent) == ["GET /products", "PUT /products/_mapping", "GET /products"]
    (body,) = lines(sent[1])
    assert body["properties"]["emb"] == {"type": "sparse_vector", "index_options": {"prune": False}}
    claim = json.loads(body["properties"]["_sparsevec_emb"]["null_value"])["sparsevec"]
    assert (claim["field"], claim["dimension"], claim["made"], claim["fingerprint"]) == ("emb", 9, "field", "space")
    assert body.keys() == {"properties"}


def test_a_create_that_loses_the_race_is_told_so(lucene: LuceneOperations) -> None:
    refused = Answer(400, {"error": CONFLICT, "status": 400})
    with pytest.raises(CollectionError, match="already"):
        talk(lucene.create(9, None, None), there(title={"type": "keyword"}), refused)


def test_a_create_that_finds_the_index_just_made_adds_its_field(lucene: LuceneOperations) -> None:
    exists = Answer(400, {"error": {"type": "resource_already_exists_exception", "reason": "already_exists"}})
    other = there(other={"type": "sparse_vector"}, **note("index", "other"))
    _, sent = talk(lucene.create(9, None, None), Answer(404, {}), NODE, exists, other, DONE, OURS)
    assert said(sent)[2:] == ["PUT /products", "GET /products", "PUT /products/_mapping", "GET /products"]


def test_create_touches_no_index_that_would_lose_something(lucene: LuceneOperations) -> None:
    settings = {"index.mode": "time_series"}
    with pytest.raises(BackendUnsupported, match="time series"):
        talk(lucene.create(9, None, None), there(settings=settings))


# ---- upsert


NO_SCRIPTS = {"status": 400, "error": {"type": "illegal_argument_exception", "reason": "script_lang not supported"}}


def located(*found: dict[str, Any]) -> Answer:
    return Answer(200, {"_shards": {"failed": 0}, "timed_out": False, "hits": {"hits": list(found)}})


def test_where_no_scripts_run_an_object_is_merged_and_written_anew_where_that_left_something(
    lucene: LuceneOperations,
) -> None:
    stays = {"_id": "b", "_seq_no": 4, "_primary_term": 1, "_source": {"maker": {"a": 1}, "title": "b"}}
    holds = {"_id": "c", "_seq_no": 5, "_primary_term": 1, "_source": {"maker": {"a": 1, "old": 1}, "title": "c"}}
    payloads = [{"n": 1}, {"maker": {"a": 1}}, {"maker": {"a": 1}}]
    report, sent = talk(
        upsert(lucene, ["a", "b", "c"], rows({1: 0.5}, {1: 0.5}, {1: 0.5}), payloads=payloads),
        OTHERS,
        NODE,
        items(WRITTEN, NO_SCRIPTS, NO_SCRIPTS),
        items(WRITTEN, WRITTEN),
        REFRESHED,
        located(stays, holds),
        items(WRITTEN, kind="index"),
    )
    assert report.written == ("a", "b", "c")
    assert [list(change) for change in lines(sent[2])[1::2]] == [["doc"], ["script"], ["script"]]
    assert [list(change) for change in lines(sent[3])[1::2]] == [["doc"], ["doc"]]
    action, written = lines(sent[6])
    assert action == {"index": {"_id": "c", "if_seq_no": 5, "if_primary_term": 1}}
    assert (written["maker"], written["title"], written["emb"]) == ({"a": 1}, "c", [{"1": 0.5}])


@pytest.mark.parametrize(
    ("answer", "waits"),
    [(REFRESHED, None), (Answer(403, {"error": {"type": "security_exception"}}), ["wait_for"])],
)
def test_the_first_write_asks_whether_a_reader_may_refresh_and_waits_itself_where_none_may(
    answer: Answer, waits: list[str] | None
) -> None:
    lucene = LuceneOperations("elasticsearch", "products", "emb")
    _, sent = talk(upsert(lucene, ["a"], rows({1: 0.5})), OTHERS, NODE, answer, items(WRITTEN))
    assert said(sent)[-2:] == ["POST /products/_refresh", "POST /products/_bulk"]
    assert parse_qs(urlsplit(sent[-1].target).query).get("refresh") == waits
    _, sent = talk(upsert(lucene, ["a"], rows({1: 0.5})), items(WRITTEN))  # asked once
    assert parse_qs(urlsplit(sent[-1].target).query).get("refresh") == waits


def test_objects_that_only_a_final_pipeline_could_rewrite_are_reported(lucene: LuceneOperations) -> None:
    piped = there(
        settings={"index.final_pipeline": "stamp"},
        emb={"type": "sparse_vector"},
        _sparsevec_emb_present={"type": "keyword"},
        **note(),
    )
    report, _ = talk(
        upsert(lucene, ["a"], rows({1: 0.5}), payloads=[{"maker": {"a": 1}}]),
        piped,
        NODE,
        items(NO_SCRIPTS),
        items(WRITTEN),
    )
    assert "merged" in report.failed["a"].reason


def test_a_document_of_others_is_updated_where_it_is(lucene: LuceneOperations) -> None:
    report, sent = talk(upsert(lucene, [3], rows({1: 0.5})), OTHERS, NODE, items(WRITTEN))
    assert said(sent) == ["GET /products", "GET /_nodes/_local/http", "POST /products/_bulk"]
    assert "pipeline=_none" in sent[2].target
    assert lines(sent[2]) == [{"update": {"_id": "3", "retry_on_conflict": 3}}, {"doc": {"emb": [{"1": 0.5}]}}]
    assert report.written == (3,)


def test_a_document_that_is_missing_is_looked_for_by_its_routing_and_reported(lucene: LuceneOperations) -> None:
    found = Answer(200, {"hits": {"hits": [{"_id": "b", "_routing": "tenant"}]}})
    report, sent = talk(
        upsert(lucene, ["a", "b", "c"], rows({1: 1.0}, {1: 1.0}, {1: 1.0})),
        *(OTHERS, NODE, items(WRITTEN, MISSING, MISSING), REFRESHED, found, items(WRITTEN)),
    )
    assert said(sent)[3:] == ["POST /products/_refresh", "POST /products/_search", "POST /products/_bulk"]
    assert lines(sent[5])[0] == {"update": {"_id": "b", "routing": "tenant", "retry_on_conflict": 3}}
    assert report.written == ("a", "b")
    assert report.failed["c"].kind == "missing"


@pytest.mark.parametrize(("missing", "skipped"), [("skip", ["c"]), ("create", [])])
def test_a_document_that_is_missing_is_skipped_or_made_when_told(
    lucene: LuceneOperations, missing: str, skipped: list[str]
) -> None:
    nobody = Answer(200, {"hits": {"hits": []}})
    made = [items({"status": 201, "result": "created", "_seq_no": 8})] if missing == "create" else []
    report, sent = talk(
        upsert(lucene, ["c"], rows({1: 1.0}), missing=missing), OTHERS, NODE, items(MISSING), REFRESHED, nobody, *made
    )
    assert list(report.skipped) == skipped
    assert ("doc_as_upsert" in str(sent[-1].body)) == (missing == "create")


def test_a_document_that_changed_since_its_version_is_left_alone(lucene: LuceneOperations) -> None:
    stale = {"status": 409, "error": {"type": "version_conflict_engine_exception", "reason": "required seqNo [4]"}}
    report, sent = talk(upsert(lucene, ["a"], rows({1: 1.0}), versions=["4.1"]), OTHERS, NODE, items(stale))
    assert lines(sent[2])[0] == {"update": {"_id": "a", "if_seq_no": 4, "if_primary_term": 1}}
    assert report.failed["a"].kind == "stale"


CREATED = {"status": 201, "result": "created", "_seq_no": 8}
THERE = {"status": 409, "error": {"type": "version_conflict_engine_exception", "reason": "document already exists"}}


def test_a_document_of_ours_is_made_and_updated_where_it_is_there(lucene: LuceneOperations) -> None:
    report, sent = talk(
        upsert(lucene, [3, "b"], rows({1: 0.5}, {2: 0.5}), payloads=[{"n": 1}, {}]),
        *(OURS, NODE, items(THERE, CREATED, kind="create"), items(WRITTEN)),
    )
    doc = {"emb": [{"1": 0.5}], "n": 1}
    assert lines(sent[2]) == [{"create": {"_id": "int:3"}}, doc, {"create": {"_id": "b"}}, {"emb": [{"2": 0.5}]}]
    assert lines(sent[3]) == [
        {"update": {"_id": "int:3", "retry_on_conflict": 3}},
        {"doc": doc, "doc_as_upsert": True},
    ]
    assert report.written == (3, "b")


def test_where_most_documents_were_there_the_next_write_begins_with_updates(lucene: LuceneOperations) -> None:
    begins = []
    for answers in (
        [OURS, NODE, items(THERE, THERE, CREATED, kind="create"), items(WRITTEN, WRITTEN)],
        [items(WRITTEN, CREATED, {**WRITTEN, "result": "noop"})],
        [items(WRITTEN, CREATED, CREATED)],
        [items(CREATED, CREATED, CREATED, kind="create")],
    ):
        report, sent = talk(upsert(lucene, ["a", "b", "c"], rows({1: 1.0}, {1: 1.0}, {1: 1.0})), *answers)
        begins.append(next(iter(lines(next(one for one in sent if "_bulk" in str(one)))[0])))
        assert report.written == ("a", "b", "c")
    assert begins == ["create", "update", "update", "create"]


def test_a_document_of_ours_with_a_version_is_not_made(lucene: LuceneOperations) -> None:
    report, sent = talk(upsert(lucene, ["a"], rows({1: 1.0}), versions=["4.1"]), OURS, NODE, items(THERE))
    assert lines(sent[2])[0] == {"update": {"_id": "a", "if_seq_no": 4, "if_primary_term": 1}}
    assert report.failed["a"].kind == "stale"


def test_a_document_of_ours_that_is_refused_for_now_was_not_there(lucene: LuceneOperations) -> None:
    busy = {"status": 429, "error": {"type": "es_rejected_execution_exception", "reason": "the queue is full"}}
    report, _ = talk(upsert(lucene, ["a"], rows({1: 1.0})), OURS, NODE, items(busy, kind="create"))
    assert report.failed["a"].retryable


@pytest.mark.parametrize("page", ["OK", None, []])
def test_an_answer_of_something_between_that_is_no_object_is_a_backend_that_is_down(
    lucene: LuceneOperations, page: Any
) -> None:
    with pytest.raises(BackendDown, match="is not a JSON object"):
        talk(upsert(lucene, ["a"], rows({1: 1.0})), OURS, Answer(200, page))


def test_seconds_to_wait_that_are_no_number_are_not_heard() -> None:
    assert [retry_after([("Retry-After", text)]) for text in ("7", "\u00b2", "1.5", "tomorrow", "")] == [7, *[None] * 4]


def test_writes_that_went_to_another_index_are_not_reported_as_written(lucene: LuceneOperations) -> None:
    elsewhere = items({**WRITTEN, "_index": "products-2"})
    with pytest.raises(BackendDown, match="was moved"):
        talk(upsert(lucene, ["a"], rows({1: 1.0})), OTHERS, NODE, elsewhere)


def test_the_first_document_of_a_shard_asks_whether_the_index_is_still_the_one_that_was_looked_at(
    lucene: LuceneOperations,
) -> None:
    first, ours = {**CREATED, "_seq_no": 0}, {"index.uuid": "ours"}
    there_still = there(emb={"type": "sparse_vector"}, settings=ours, **note("index"))
    written = (there_still, NODE, items(first, kind="create"))
    report, requests = talk(upsert(lucene, ["a"], rows({1: 1.0})), *written, there_still)
    assert (report.written, said(requests)[-1]) == (("a",), "GET /products")
    made_anew = there(emb={"type": "sparse_vector"}, settings={"index.uuid": "another"}, **note("index"))
    with pytest.raises(BackendDown, match=r"made anew .*look whether the server has made an index 'products'"):
        talk(upsert(lucene, ["a"], rows({1: 1.0})), items(first, kind="create"), made_anew)


def test_an_index_that_the_server_makes_for_what_was_written_to_a_removed_one_is_no_backend_that_is_down(
    lucene: LuceneOperations,
) -> None:
    ours = there(emb={"type": "sparse_vector"}, settings={"index.uuid": "ours"}, **note("index"))
    made_by_the_server = there(emb={"type": "object"}, settings={"index.uuid": "another"})
    first = items({**CREATED, "_seq_no": 0}, kind="create")
    with pytest.raises(CollectionError, match="'products' was removed while it was written to, and the server"):
        talk(upsert(lucene, ["a"], rows({1: 1.0})), ours, NODE, first, made_by_the_server)


@pytest.mark.parametrize(
    ("now", "said_of_it"),
    [(Answer(404, {}), "was moved to ['nothing']"), (there("products-2"), "was moved to ['products-2']")],
)
def test_behind_an_alias_the_index_itself_is_written_to_and_the_alias_looked_at_afterwards(
    lucene: LuceneOperations, now: Answer, said_of_it: str
) -> None:
    index = there("products-1", emb={"type": "sparse_vector"}, **note())
    wrote = Answer(200, {"items": [{"update": {"_index": "products-1", **WRITTEN}}]})
    report, requests = talk(upsert(lucene, ["a"], rows({1: 1.0})), index, NODE, wrote, index)
    assert report.written == ("a",)
    assert said(requests) == ["GET /products", "GET /_nodes/_local/http", "POST /products-1/_bulk", "GET /products"]
    with pytest.raises(BackendDown) as moved:
        talk(upsert(lucene, ["a"], rows({1: 1.0})), wrote, now)
    assert said_of_it in str(moved.value)


def test_one_document_that_is_too_large_fails_alone(lucene: LuceneOperations) -> None:
    payloads = [{"t": "x" * 200_000}, {}]
    report, _ = talk(
        upsert(lucene, ["large", "small"], rows({1: 1.0}, {1: 1.0}), payloads=payloads), OTHERS, NODE, items(WRITTEN)
    )
    assert report.written == ("small",)
    assert "too large" in report.failed["large"].reason


def test_the_first_vectors_say_which_space_the_collection_is_of(lucene: LuceneOperations) -> None:
    ours = note() | {"_sparsevec_emb~space": {"type": "keyword", "null_value": "space-1"}}
    adopted = there(emb={"type": "sparse_vector"}, **ours)
    empty = Answer(200, {"count": 0, "_shards": {"failed": 0}})
    given = upsert(lucene, ["a"], rows({1: 1.0}, fingerprint="space-1"))
    _, sent = talk(given, OTHERS, REFRESHED, empty, OTHERS, DONE, NODE, items(WRITTEN))
    assert lines(sent[4]) == [{"properties": {"_sparsevec_emb~space": {"type": "keyword", "null_value": "space-1"}}}]
    with pytest.raises(WrongSpace, match="space-1"):
        talk(upsert(lucene, ["a"], rows({1: 1.0}, fingerprint="space-2")), adopted)


def test_vectors_of_a_space_that_another_writer_was_faster_to_adopt_are_refused(lucene: LuceneOperations) -> None:
    theirs = note() | {"_sparsevec_emb~space": {"type": "keyword", "null_value": "space-1"}}
    empty, refused = Answer(200, {"count": 0}), Answer(400, {"error": CONFLICT, "status": 400})
    given = upsert(lucene, ["a"], rows({1: 1.0}, fingerprint="space-2"))
    lucene_answers = [OTHERS, REFRESHED, empty, OTHERS, refused, there(emb={"type": "sparse_vector"}, **theirs)]
    with pytest.raises(WrongSpace, match="space-1"):
        talk(given, *lucene_answers)


def test_two_spellings_of_one_id_of_others_are_refused(lucene: LuceneOperations) -> None:
    with pytest.raises(InvalidInput, match="are one _id"):
        talk(upsert(lucene, [3, "3"], rows({1: 1.0}, {1: 1.0})), OTHERS)


# ---- search


def hits(*ids: str, index: str = "products") -> Answer:
    found = [{"_id": id_, "_index": index, "_score": 1.0} for id_ in ids]
    return Answer(200, {"responses": [{"status": 200, "hits": {"hits": found}, "_shards": {"failed": 0}}]})


def test_metadata_and_refresh_are_asked_for_once(lucene: LuceneOperations) -> None:
    _, sent = talk(lucene.search(rows({1: 1.0}), 3, Search()), OTHERS, REFRESHED, hits("a"))
    assert said(sent) == ["GET /products", "POST /products/_refresh", "POST /products/_msearch"]
    _, sent = talk(
        lucene.search(rows({1: 1.0}), 3, Search(where={"title": "x"})),
        hits("a"),
    )
    assert said(sent) == ["POST /products/_msearch"]


def test_a_query_is_said_in_its_short_form_and_in_clauses_to_a_server_that_does_not_know_it(
    lucene: LuceneOperations,
) -> None:
    unknown = Answer(400, {"error": {"type": "parsing_exception", "reason": "unknown query [sparse_vector]"}})
    (answer,), sent = talk(lucene.search(rows({1: 0.5, 3: 2.0}), 3, Search()), OTHERS, REFRESHED, unknown, hits("a"))
    short = {"sparse_vector": {"field": "emb", "query_vector": {"1": 0.5, "3": 2.0}, "prune": False}}
    clauses = [{"term": {"emb": {"value": "1", "boost": 0.5}}}, {"term": {"emb": {"value": "3", "boost": 2.0}}}]
    assert lines(sent[2])[1]["query"] == short
    assert lines(sent[3])[1]["query"] == {"bool": {"should": clauses, "minimum_should_match": 1}}
    assert answer.ids == ("a",)
    _, sent = talk(lucene.search(rows({1: 0.5}), 3, Search()), hits("a"))
    assert "term" in str(sent[0].body)


def test_a_batch_of_queries_is_asked_in_several_requests_at_the_same_time(lucene: LuceneOperations) -> None:
    asking = lucene.search(rows(*[{1: 1.0}] * 70), 3, Search())
    next(asking)
    asking.send(OTHERS)
    together = asking.send(REFRESHED)
    assert [len(lines(request)) // 2 for request in together.requests] == [32, 32, 6]
    found = [{"status": 200, "hits": {"hits": [{"_id": "a", "_index": "products", "_score": 1.0}]}}]
    with pytest.raises(StopIteration) as end:
        asking.send([Answer(200, {"responses": found * n}) for n in (32, 32, 6)])
    assert [answer.ids for answer in end.value.value] == [("a",)] * 70


def test_a_refresh_can_be_left_to_the_index() -> None:
    lucene = LuceneOperations("elasticsearch", "products", "emb", refresh="index")
    _, sent = talk(lucene.search(rows({1: 1.0}), 3, Search()), OTHERS, hits("a"))
    assert said(sent) == ["GET /products", "POST /products/_msearch"]


def test_finding_nothing_is_believed_when_the_index_is_still_the_same(lucene: LuceneOperations) -> None:
    (answer,), sent = talk(lucene.search(rows({1: 1.0}), 3, Search()), OTHERS, REFRESHED, hits(), OTHERS)
    assert answer.ids == ()
    assert said(sent)[-1] == "GET /products"


def test_an_alias_that_was_moved_to_an_index_without_our_field_is_noticed(lucene: LuceneOperations) -> None:
    with pytest.raises(CollectionError, match="has no field"):
        talk(lucene.search(rows({1: 1.0}), 3, Search()), OTHERS, REFRESHED, hits(), there("products-2"))


def test_hits_of_another_index_are_asked_for_again(lucene: LuceneOperations) -> None:
    moved = there("products-2", emb={"type": "sparse_vector"}, **note("index"))
    (answer,), sent = talk(
        lucene.search(rows({1: 1.0}), 3, Search()),
        *(OTHERS, REFRESHED, hits("int:7", index="products-2"), moved, REFRESHED, hits("int:7", index="products-2")),
    )
    assert answer.ids == (7,)
    assert said(sent).count("POST /products/_msearch") == 2


def test_a_filter_on_a_field_that_was_not_there_looks_again(lucene: LuceneOperations) -> None:
    now = there(emb={"type": "sparse_vector"}, new={"type": "keyword"}, **note())
    _, sent = talk(lucene.search(rows({1: 1.0}), 3, Search(where={"new": "x"})), OTHERS, now, REFRESHED, hits(), now)
    assert said(sent)[:2] == ["GET /products", "GET /products"]
    assert lines(sent[3])[1]["query"]["bool"]["filter"] == [{"terms": {"new": ["x"]}}]


# ---- a search that counts what its filter leaves


def responses(*answers: Answer) -> Answer:
    """To several searches of one request."""
    return Answer(200, {"responses": [one for answer in answers for one in answer.body["responses"]]})


def counted(n: int) -> Answer:
    return Answer(200, {"responses": [{"status": 200, "hits": {"total": {"value": n}, "hits": []}}]})


def searched(*ids: str, index: str = "products") -> Answer:
    """Hits that the filter lets through."""
    found = [{"_id": id_, "_index": index, "_score": 1.0, "_source": {"title": "x"}} for id_ in ids]
    return Answer(200, {"responses": [{"status": 200, "hits": {"hits": found}}]})


FILTERED = Search(where={"title": "x"})


def matching_or_search(lucene: LuceneOperations, vectors: SparseVectors, most: int = 2) -> Generator[Any, Any, Any]:
    conversation: Generator[Any, Any, Any] = lucene.matching_or_search(vectors, 1, FILTERED, most, None)
    return conversation


def passing(*titles: str, index: str = "products") -> Answer:
    """Documents that pass a filter's clauses."""
    found = [{"_id": title, "_index": index, "_source": {"title": title}} for title in titles]
    return Answer(200, {"responses": [{"status": 200, "hits": {"total": {"value": len(found)}, "hits": found}}]})


def left(*titles: str, index: str = "products") -> Answer:
    """The same, and any document beside them."""
    return responses(passing(*titles, index=index), searched("any", index=index))


def test_what_a_filter_leaves_is_counted_beside_the_search(lucene: LuceneOperations) -> None:
    found = searched("a")
    (answer,), sent = talk(matching_or_search(lucene, rows({1: 1.0})), OTHERS, REFRESHED, responses(counted(3), found))
    assert said(sent) == ["GET /products", "POST /products/_refresh", "POST /products/_msearch"]
    count, search = lines(sent[2])[1::2]
    assert (count["size"], count["track_total_hits"]) == (0, 3)
    assert count["query"]["bool"]["filter"] == [*search["query"]["bool"]["filter"], {"exists": {"field": "emb"}}]
    assert answer.ids == ("a",)


def test_where_few_are_left_they_are_read_and_no_more_is_asked(lucene: LuceneOperations) -> None:
    asked = rows({1: 1.0}, {2: 1.0}, {3: 1.0})
    documents, sent = talk(
        matching_or_search(lucene, asked), OTHERS, REFRESHED, responses(counted(2), hits()), left("x", "y")
    )
    assert said(sent)[2:] == ["POST /products/_msearch"] * 2
    assert [len(lines(request)) // 2 for request in sent[2:]] == [2, 2]
    assert lines(sent[3])[1]["size"] == 2
    assert documents.ids == ("x",)


def test_what_the_last_filter_on_a_field_left_says_whether_to_search_or_to_read_first(lucene: LuceneOperations) -> None:
    few, many = responses(counted(1), hits()), responses(counted(3), searched("a"))
    one = rows({1: 1.0})
    _, sent = talk(matching_or_search(lucene, one), OTHERS, REFRESHED, few, left("x"))
    assert len(sent) == 4
    documents, sent = talk(matching_or_search(lucene, one), left("x", "y"))
    assert (documents.ids, lines(sent[0])[1]["track_total_hits"]) == (("x",), 3)
    (answer,), sent = talk(matching_or_search(lucene, one), left("x", "y", "z"), searched("a"))
    assert (answer.ids, len(sent)) == (("a",), 2)
    (answer,), sent = talk(matching_or_search(lucene, one), many)
    assert (answer.ids, len(sent)) == (("a",), 1)


def test_of_several_queries_the_first_goes_with_the_count(lucene: LuceneOperations) -> None:
    found = searched("a")
    first, others = responses(counted(3), found), responses(found, found)
    answers, sent = talk(
        matching_or_search(lucene, rows({1: 1.0}, {2: 1.0}, {3: 1.0})), OTHERS, REFRESHED, first, others
    )
    assert [len(lines(request)) // 2 for request in sent[2:]] == [2, 2]
    assert [answer.ids for answer in answers] == [("a",), ("a",), ("a",)]


def test_without_a_query_that_has_weights_the_count_goes_alone(lucene: LuceneOperations) -> None:
    documents, sent = talk(matching_or_search(lucene, rows({})), OTHERS, REFRESHED, counted(1), left("x"))
    assert [len(lines(request)) // 2 for request in sent[2:]] == [1, 2]
    assert documents.ids == ("x",)


def test_where_hits_are_fewer_than_asked_for_documents_that_pass_are_judged(lucene: LuceneOperations) -> None:
    one, fewer = rows({1: 1.0}), responses(counted(3), hits())
    (answer,), sent = talk(matching_or_search(lucene, one), OTHERS, REFRESHED, fewer, OTHERS, passing("x", "x", "x"))
    assert (answer.ids, len(sent)) == ((), 5)
    assert (lines(sent[-1])[1]["size"], lines(sent[-1])[1]["_source"]) == (3, ["title"])
    page = passing("x", "y", "z").body["responses"][0]
    read = [passing("x", "y", "z"), Answer(200, {**page, "_scroll_id": "S"}), DONE, passing("x")]
    documents, sent = talk(matching_or_search(lucene, one), fewer, OTHERS, *read)
    assert documents.ids == ("x",)


def test_where_the_server_decides_no_source_is_asked_for_and_no_document_judged(lucene: LuceneOperations) -> None:
    one, fewer = rows({1: 1.0}), responses(counted(3), hits())
    (answer,), sent = talk(matching_or_search(lucene, one), DECIDED, REFRESHED, fewer, DECIDED)
    assert lines(sent[2])[3]["_source"] is False
    assert (answer.ids, said(sent)[3:]) == ((), ["GET /products"])  # nothing was found: is it another index by now?


@pytest.mark.parametrize("alone", [True, False])
def test_of_few_documents_whose_vectors_alone_are_wanted_no_source_is_asked_for(
    lucene: LuceneOperations, alone: bool
) -> None:
    few = responses(counted(1), hits()), responses(passing("x"), searched("any"))
    asked = Search(where={"title": "x"}, with_vectors=alone)
    documents, sent = talk(lucene.matching_or_search(rows({1: 1.0}), 1, asked, 2, None), DECIDED, REFRESHED, *few)
    assert documents.ids == ("x",)
    assert (lines(sent[-1])[1]["_source"] is False) == alone


def test_where_hits_are_of_another_index_what_is_left_there_is_counted_again(lucene: LuceneOperations) -> None:
    moved = there("products-2", emb={"type": "sparse_vector"}, title={"type": "keyword"}, **note())
    elsewhere = responses(counted(3), searched("a", index="products-2"))
    documents, sent = talk(
        matching_or_search(lucene, rows({1: 1.0})),
        *(OTHERS, REFRESHED, elsewhere, moved, REFRESHED, responses(counted(1), hits()), left("x", index="products-2")),
    )
    assert documents.ids == ("x",)
    assert said(sent).count("POST /products/_msearch") == 3


def test_where_what_is_left_is_of_another_index_or_nothing_at_all_the_name_is_looked_at_again(
    lucene: LuceneOperations,
) -> None:
    moved = there("products-2", emb={"type": "sparse_vector"}, title={"type": "keyword"}, **note(fingerprint="b"))
    few, one = responses(counted(1), hits()), rows({1: 1.0}, fingerprint="b")
    talk(matching_or_search(lucene, rows({1: 1.0})), OTHERS, REFRESHED, few, left("x"))
    documents, sent = talk(
        matching_or_search(lucene, rows({1: 1.0})),
        left(index="products-2"),
        moved,
        REFRESHED,
        left("x", index="products-2"),
    )
    assert said(sent)[1] == "GET /products"
    assert documents.vectors.fingerprint == "b"
    with pytest.raises(WrongSpace):
        talk(matching_or_search(lucene, rows({1: 1.0}, fingerprint="a")), left(index="products-2"))
    nothing = responses(passing(), searched())
    documents, sent = talk(matching_or_search(lucene, one), nothing, moved)
    assert (documents.ids, len(sent)) == ((), 2)


# ---- count


def test_a_filter_that_the_server_decides_is_counted_without_looking_at_a_document(lucene: LuceneOperations) -> None:
    many = Answer(200, {"count": 7, "_shards": {"failed": 0}})
    count, sent = talk(lucene.count({"title": "acme"}), DECIDED, REFRESHED, many)
    assert (count, said(sent)[-2:]) == (7, ["POST /products/_refresh", "POST /products/_count"])
    assert lines(sent[-1])[0]["query"]["bool"]["filter"][0] == {"terms": {"title": ["acme"]}}


def test_where_as_many_must_match_as_may_no_document_is_looked_at(lucene: LuceneOperations) -> None:
    now = there(emb={"type": "sparse_vector"}, brand={"type": "keyword"}, **note())
    many = Answer(200, {"count": 7, "_shards": {"failed": 0}})
    count, sent = talk(lucene.count({"brand": ["acme", True]}), now, REFRESHED, many, many)
    assert (count, said(sent)[-2:]) == (7, ["POST /products/_count"] * 2)
    assert lines(sent[-1])[0]["query"]["bool"]["filter"][0] == {"terms": {"brand": ["acme"]}}


def test_where_fewer_must_match_than_may_documents_are_looked_at(lucene: LuceneOperations) -> None:
    now = there(emb={"type": "sparse_vector"}, brand={"type": "keyword"}, **note())
    may, must = (Answer(200, {"count": n, "_shards": {"failed": 0}}) for n in (2, 1))
    hit = {"_index": "products", "_id": "a", "_seq_no": 4, "_primary_term": 1, "sort": [7]}
    hit |= {"matched_queries": ["holds"]}
    found = [{**hit, "_source": {"brand": brand}} for brand in ("acme", "other")]
    page = Answer(200, {"pit_id": "P2", "_shards": {"total": 1}, "hits": {"hits": found}})
    asked = [now, REFRESHED, may, must, now, Answer(200, {"id": "P1"}), page, DONE]
    count, sent = talk(lucene.count({"brand": ["acme", True]}), *asked)
    assert (count, lines(sent[-2])[0]["_source"]) == (1, {"includes": ["brand"]})


# ---- scan


def test_a_scan_goes_by_shard_and_document_in_one_point_in_time(lucene: LuceneOperations) -> None:
    hit = {"_index": "products", "_id": "a", "_seq_no": 4, "_primary_term": 1, "_routing": "t", "sort": [7]}
    hit |= {"matched_queries": ["holds"]}
    page = Answer(200, {"pit_id": "P2", "_shards": {"total": 1}, "hits": {"hits": [hit, {**hit, "_id": "b"}]}})
    asked: dict[str, Any] = {"vectors": False, "payloads": False, "dense": None, "size": 1, "where": None}
    first, sent = talk(lucene.page(**asked, after=None), OTHERS, REFRESHED, Answer(200, {"id": "P1"}), page)
    assert said(sent)[2:] == ["POST /products/_pit", "POST /_search"]
    assert lines(sent[-1])[0]["size"] == 2  # one more, to know whether this is the last
    assert (first.ids, first.holds.tolist(), first.routing, first.versions) == (("a",), [True], ("t",), ("4.1",))
    last = Answer(200, {"pit_id": "P3", "_shards": {"total": 1}, "hits": {"hits": []}})
    end, sent = talk(lucene.page(**asked, after=first.after), OTHERS, last, DONE)
    assert lines(sent[1])[0]["search_after"] == [7]
    assert lines(sent[1])[0]["pit"]["id"] == "P2"
    assert (len(end), end.after) == (0, None)
    assert said(sent)[-1] == "DELETE /_pit"


@pytest.mark.parametrize(("beside", "narrowed"), [("t", {}), ("t" * 1000, {"includes": ["dense"]})])
def test_documents_that_are_mostly_their_dense_row_are_read_whole(
    lucene: LuceneOperations, beside: str, narrowed: Any
) -> None:
    about = {"_index": "products", "_seq_no": 4, "_primary_term": 1, "sort": [7]}
    hit = {"_id": "a", **about, "_source": {"title": beside, "dense": [0.25] * 64}}
    probe = Answer(200, {"_shards": {"total": 1}, "hits": {"hits": [hit, {"_id": "b"}]}})
    page = Answer(200, {"pit_id": "P2", "_shards": {"total": 1}, "hits": {"hits": [hit, hit]}})
    asked: dict[str, Any] = {"vectors": False, "payloads": False, "dense": "dense", "size": 1, "where": None}
    begin = OTHERS, REFRESHED, Answer(200, {"id": "P1"}), NODE
    first, sent = talk(lucene.page(**asked, after=None), *begin, probe, page)
    assert said(sent)[-2:] == ["POST /products/_search", "POST /_search"]
    assert lines(sent[-2])[0] == {"size": 16, "_source": {"exclude_vectors": False}}
    assert lines(sent[-1])[0]["_source"] == {"exclude_vectors": False, **narrowed}
    assert [row.tolist() for row in first.dense] == [[0.25] * 64]
    _, sent = talk(lucene.page(**asked, after=first.after), OTHERS, page)  # asked once
    assert lines(sent[-1])[0]["_source"] == {"exclude_vectors": False, **narrowed}


@pytest.mark.parametrize(
    "answer",
    [
        Answer(404, {"error": {"type": "x", "root_cause": [{"type": "search_context_missing_exception"}]}}),
        Answer(200, {"_shards": {"total": 0}, "hits": {"hits": []}}),
    ],
)
def test_a_place_that_the_server_forgot_is_said_to_be_gone(lucene: LuceneOperations, answer: Answer) -> None:
    asked: dict[str, Any] = {"vectors": False, "payloads": False, "dense": None, "size": 1, "where": None}
    with pytest.raises(InvalidInput, match="scan from the start"):
        talk(lucene.page(**asked, after='["P",[1]]'), OTHERS, answer)
    with pytest.raises(InvalidInput, match="as a page of scan gave it"):
        talk(lucene.page(**asked, after="nonsense"), OTHERS)


# ---- delete and drop


def test_where_two_fields_of_ours_live_a_delete_takes_a_vector_and_leaves_the_document(
    lucene: LuceneOperations,
) -> None:
    both = there(emb={"type": "sparse_vector"}, other={"type": "sparse_vector"}, **note("index"), **note(field="other"))
    _, sent = talk(lucene.delete([3]), both, NODE, items(WRITTEN))
    assert lines(sent[2])[0]["update"]["_id"] == "int:3"
    assert lines(sent[2])[1]["script"]["params"] == {"names": ["emb"]}


def test_where_no_scripts_are_run_documents_are_written_anew_without_our_vector(lucene: LuceneOperations) -> None:
    reason = {"reason": "script_lang not supported [painless]", "type": "illegal_argument_exception"}
    no = {"status": 400, "error": {"type": "illegal_argument_exception", "reason": "failed", "caused_by": reason}}
    source = {"title": "t", "emb": [{"1": 1.0}]}
    found = {"hits": {"hits": [{"_id": "a", "_seq_no": 1, "_primary_term": 1, "_source": source}]}}
    answers = [OTHERS, NODE, items(no), items(no), REFRESHED, Answer(200, found), items(WRITTEN, kind="index")]
    _, sent = talk(lucene.delete(["a"]), *answers)
    assert lines(sent[5])[0]["_source"] == {"exclude_vectors": False}
    assert lines(sent[6]) == [{"index": {"_id": "a", "if_seq_no": 1, "if_primary_term": 1}}, {"title": "t"}]


def test_a_document_that_another_took_our_vector_out_of_in_the_meantime_is_settled(lucene: LuceneOperations) -> None:
    reason = {"reason": "script_lang not supported [painless]", "type": "illegal_argument_exception"}
    no = {"status": 400, "error": {"type": "illegal_argument_exception", "reason": "failed", "caused_by": reason}}
    conflict = {"status": 409, "error": {"type": "version_conflict_engine_exception", "reason": "current [2]"}}

    def found(source: dict[str, Any]) -> Answer:
        hit = {"_id": "a", "_seq_no": 1, "_primary_term": 1, "_source": source}
        return Answer(200, {"hits": {"hits": [hit]}})

    before = [OTHERS, NODE, items(no), items(no), REFRESHED, found({"emb": [{"1": 1.0}]})]
    talk(lucene.delete(["a"]), *before, items(conflict, kind="index"), REFRESHED, found({"title": "t"}))


def test_dropping_one_of_two_fields_leaves_the_other_and_the_index(lucene: LuceneOperations) -> None:
    both = there(emb={"type": "sparse_vector"}, other={"type": "sparse_vector"}, **note("index"), **note(field="other"))
    nobody = Answer(200, {"hits": {"hits": []}})
    _, sent = talk(lucene.drop(), both, REFRESHED, nobody, DONE)
    assert said(sent)[-1] == "PUT /products/_mapping"
    assert lines(sent[-1])[0]["properties"]["_sparsevec_emb"]["meta"] == {"dropped": "true"}


def test_dropping_the_only_field_of_an_index_of_ours_removes_it(lucene: LuceneOperations) -> None:
    _, sent = talk(lucene.drop(), OURS, DONE)
    assert said(sent) == ["GET /products", "DELETE /products"]


# ---- a copy of whole documents


def test_documents_that_are_too_large_for_one_request_are_copied_in_several(lucene: LuceneOperations) -> None:
    found = [{"_id": name, "_source": {"title": name}, "_seq_no": 1, "_primary_term": 1} for name in "abc"]
    hits = Answer(200, {"hits": {"hits": found}, "_shards": {"failed": 0}, "timed_out": False})
    large = Answer(413, {"error": "too large"})
    written = [items({"_id": name, "status": 201}, kind="index") for name in "ab"]
    taken, requests = talk(
        lucene.take("old", ["a", "b", "c"], None),
        REFRESHED,
        OURS,
        NODE,
        hits,
        large,
        written[0],
        large,
        written[1],
        large,
    )
    bulks = [request for request in requests if "_bulk" in request.target]
    assert [[line["index"]["_id"] for line in lines(bulk)[::2]] for bulk in bulks] == [
        ["a", "b", "c"],
        ["a"],
        ["b", "c"],
        ["b"],
        ["c"],
    ]
    assert {bulk.target for bulk in bulks} == {"/_bulk?pipeline=_none"}
    assert (list(taken.refused), taken.left) == (["c"], ())
    assert "too large" in taken.refused["c"]


@pytest.mark.parametrize(("here", "left"), [("as it is there", ()), ("another, written here", ("a",))])
def test_a_document_that_an_earlier_try_has_brought_is_not_called_written_in_both(
    lucene: LuceneOperations, here: str, left: tuple[str, ...]
) -> None:
    def hits(title: str) -> Answer:
        found = [{"_id": "a", "_source": {"title": title}, "_seq_no": 1, "_primary_term": 1}]
        return Answer(200, {"hits": {"hits": found}, "_shards": {"failed": 0}, "timed_out": False})

    there, before = (REFRESHED, OURS, NODE, hits("as it is there")), np.array([7], np.uint64)
    taken, requests = talk(lucene.take("old", ["a"], before), *there, OURS, REFRESHED, OURS, hits(here))
    assert (taken.left, dict(taken.refused)) == (left, {})
    assert not [request for request in requests if "_bulk" in request.target]


def test_late_documents_that_a_final_pipeline_changes_once_more_are_put_back_and_dropped_ones_are_named(
    lucene: LuceneOperations,
) -> None:
    late = [
        {"_id": "a", "_source": {"n": 1}, "_seq_no": 1, "_primary_term": 1},
        {"_id": "a", "_routing": "t", "_source": {"n": 2}, "_seq_no": 2, "_primary_term": 1},
        {"_id": "b", "_source": {"n": 3}, "_seq_no": 3, "_primary_term": 1},
    ]
    piped = there(settings={"index.final_pipeline": "counts"}, emb={"type": "sparse_vector"}, **note("index"))
    copied = [{"_id": one["_id"], "status": 201, "_seq_no": 7 + n, "_primary_term": 1} for n, one in enumerate(late)]
    dropped = {"_id": "b", "status": 200, "result": "noop", "_version": -3}
    changed = {"_id": "a", "status": 409, "error": {"type": "version_conflict_engine_exception", "reason": "changed"}}
    taken, requests = talk(
        lucene.take("old", ["a", '["a","t"]', "b"], np.array([7], np.uint64)),
        *(REFRESHED, piped, NODE, located(*late), piped, REFRESHED, piped, located()),
        items(*copied[:2], dropped, kind="create"),
        piped,
        items({**copied[0], "result": "updated"}, changed),
    )
    assert lines(requests[-1]) == [
        {"update": {"_index": "products", "_id": "a", "if_seq_no": 7, "if_primary_term": 1}},
        {"doc": {"n": 1}},
        {"update": {"_index": "products", "_id": "a", "routing": "t", "if_seq_no": 8, "if_primary_term": 1}},
        {"doc": {"n": 2}},
    ]
    assert (dict(taken.refused), taken.left) == ({"b": "an ingest pipeline of the index dropped it"}, ())
