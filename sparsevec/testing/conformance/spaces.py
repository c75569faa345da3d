"""C18: a collection remembers which encoder's vectors it holds."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from sparsevec.contract.adapter import Adapter
from sparsevec.errors import BackendDown, WrongSpace
from sparsevec.testing.conformance.documents import DIMENSION, fill, rows
from sparsevec.testing.conformance.suite import Suite

__all__ = ["Spaces"]

SPACE, OTHER = "5bace0000000000a", "5bace0000000000b"
ROW = rows({1: 1.0})


class Spaces(Suite):
    def test_c18_create_notes_the_fingerprint(self, adapter: Adapter) -> None:
        adapter.create(DIMENSION, fingerprint=SPACE)
        assert adapter.info().fingerprint == SPACE
        assert self.another(adapter).info().fingerprint == SPACE

    def test_c18_without_one_the_first_vectors_give_theirs(self, adapter: Adapter) -> None:
        adapter.create(DIMENSION)
        assert adapter.info().fingerprint is None
        assert adapter.upsert([1], ROW.with_fingerprint(SPACE)).written == (1,)
        assert adapter.info().fingerprint == SPACE

    def test_c18_vectors_of_another_space_are_refused_whole_with_both_names(self, adapter: Adapter) -> None:
        adapter.create(DIMENSION, fingerprint=SPACE)
        with pytest.raises(WrongSpace, match=rf"(?s){SPACE}.*{OTHER}"):
            adapter.upsert([1], ROW.with_fingerprint(OTHER))
        assert adapter.count() == 0

    def test_c18_queries_of_another_space_are_refused_with_both_names(self, adapter: Adapter) -> None:
        adapter.create(DIMENSION)
        adapter.upsert([1], ROW.with_fingerprint(SPACE))
        with pytest.raises(WrongSpace, match=rf"(?s){SPACE}.*{OTHER}"):
            adapter.search(ROW.with_fingerprint(OTHER), 5)
        with pytest.raises(WrongSpace, match=rf"(?s){SPACE}.*{OTHER}"):
            adapter.search(ROW, 5, rescore=ROW.with_fingerprint(OTHER))

    def test_c18_another_adapter_refuses_them_as_well(self, adapter: Adapter) -> None:
        adapter.create(DIMENSION, fingerprint=SPACE)
        another = self.another(adapter)
        with pytest.raises(WrongSpace):
            another.upsert([1], ROW.with_fingerprint(OTHER))
        with pytest.raises(WrongSpace):
            another.search(ROW.with_fingerprint(OTHER), 5)

    def test_c18_vectors_and_queries_of_the_same_space_are_taken(self, adapter: Adapter) -> None:
        adapter.create(DIMENSION, fingerprint=SPACE)
        assert adapter.upsert([1], ROW.with_fingerprint(SPACE)).written == (1,)
        assert adapter.search(ROW.with_fingerprint(SPACE), 5)[0].ids == (1,)

    def test_c18_foreign_vectors_and_queries_are_accepted(self, adapter: Adapter) -> None:
        adapter.create(DIMENSION, fingerprint=SPACE)
        assert adapter.upsert([1], ROW).written == (1,)
        assert adapter.search(ROW, 5)[0].ids == (1,)
        assert adapter.info().fingerprint == SPACE

    def test_c18_a_collection_of_foreign_vectors_stays_foreign(self, adapter: Adapter) -> None:
        fill(adapter, [1], ROW)
        assert adapter.upsert([2], ROW.with_fingerprint(SPACE)).written == (2,)
        assert adapter.info().fingerprint is None
        assert len(adapter.search(ROW.with_fingerprint(OTHER), 5)[0]) == 2

    def test_c18_of_writers_of_two_spaces_that_are_first_at_once_one_at_most_writes(self, adapter: Adapter) -> None:
        adapter.create(DIMENSION)
        writers = {space: self.another(adapter) for space in (SPACE, OTHER)}

        def write(space: str) -> list[str]:
            try:
                writers[space].upsert([space], ROW.with_fingerprint(space))
            except (WrongSpace, BackendDown):
                return []
            return [space]

        with ThreadPoolExecutor(2) as pool:
            written = [space for spaces in pool.map(write, writers) for space in spaces]
        assert written in ([], [adapter.info().fingerprint])
        assert adapter.count() == len(written)

    def test_c18_the_fingerprint_survives_a_restart_and_goes_with_a_drop(self, adapter: Adapter) -> None:
        adapter.create(DIMENSION, fingerprint=SPACE)
        adapter = self.reopen(adapter)
        assert adapter.info().fingerprint == SPACE
        adapter.drop()
        adapter.create(DIMENSION)
        assert adapter.info().fingerprint is None

    def test_c18_each_create_gives_the_collection_an_identity_of_its_own(self, adapter: Adapter) -> None:
        adapter.create(DIMENSION)
        first = adapter.info().identity
        assert first
        assert self.another(adapter).info().identity == first
        adapter.drop()
        adapter.create(DIMENSION)
        assert adapter.info().identity not in (None, first)
