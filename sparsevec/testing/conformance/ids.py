"""C10: what went in as an id comes out."""

from __future__ import annotations

from sparsevec.contract.adapter import Adapter
from sparsevec.contract.checks import Id
from sparsevec.testing.conformance.documents import (
    DIMENSION,
    ask,
    fill,
    rows,
)
from sparsevec.testing.conformance.suite import Suite

__all__ = ["Ids"]


class Ids(Suite):
    def test_c10_ids_come_out_as_they_went_in(self, adapter: Adapter) -> None:
        uuid = "1b4e28ba-2fa1-11d2-883f-0016d3cca427"
        ids: list[Id] = [0, 42, 2**63, 2**64 - 1, "0", "42", str(2**64 - 1), "é", "e\u0301", " ", "a b", "a/b?c=d#e%20"]
        ids += ['"\\\n\t', "日本語", "🙂", "_id", "-", "..", "x" * 400]
        ids += [uuid, uuid.upper(), uuid.replace("-", ""), f"{{{uuid}}}"]
        fill(adapter, ids, rows(*({i: 1.0} for i in range(len(ids)))))
        assert adapter.count() == len(ids)
        answers = adapter.search(rows(*({i: 1.0} for i in range(len(ids)))), 2)
        assert [hits.ids for hits in answers] == [(id_,) for id_ in ids]
        assert adapter.fetch(ids[::-1]).ids == tuple(ids[::-1])

    def test_c10_an_int_and_its_decimal_string_are_two_documents(self, adapter: Adapter) -> None:
        fill(adapter, [42, "42"], rows({1: 1.0}, {1: 2.0}))
        adapter.delete([42])
        assert ask(adapter, {1: 1.0}).ids == ("42",)
        adapter.upsert([42], rows({1: 5.0}))
        assert ask(adapter, {1: 1.0}).ids == (42, "42")

    def test_c10_a_very_long_id_is_written_or_reported(self, adapter: Adapter) -> None:
        adapter.create(DIMENSION)
        long = "x" * 5000
        report = adapter.upsert([long, 1], rows({1: 2.0}, {1: 1.0}))
        assert {*report.written, *report.failed} == {long, 1}
        assert 1 in report.written
        assert set(ask(adapter, {1: 1.0}).ids) == set(report.written)
