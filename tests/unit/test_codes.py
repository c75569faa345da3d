"""Residual codes on their way through `ingest` and `verify`, and in files of before."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from sparsevec.contract.connect import connect
from sparsevec.errors import InvalidInput, JournalMismatch
from sparsevec.exact.verify import verify
from sparsevec.ingestion.ingest import ingest
from sparsevec.testing.conformance.coding import WIDTH, codes_of, same
from sparsevec.testing.conformance.documents import corpus, rows


def test_codes_are_ingested_beside_their_vectors(tmp_path: Path) -> None:
    codes, vectors = codes_of(25), rows(*({1: float(i + 1)} for i in range(25)))
    with connect("local:") as adapter:
        adapter.create(vectors.dimension, code_bytes=WIDTH)
        report = ingest(adapter, range(25), vectors, codes=codes, batch_count=4, journal=tmp_path / "journal")
        assert report.written == 25
        assert same(adapter.fetch(range(25)).codes, codes)
        again = ingest(adapter, range(25), vectors, codes=iter(codes), batch_count=4, journal=tmp_path / "journal")
        assert again.given == 25
        with pytest.raises(JournalMismatch):
            ingest(adapter, range(25), vectors, codes=codes[::-1], batch_count=4, journal=tmp_path / "journal")


def test_codes_that_are_missing_or_too_many_stop_an_ingest_before_it_begins() -> None:
    with connect("local:") as adapter:
        adapter.create(1000, code_bytes=WIDTH)
        with pytest.raises(InvalidInput, match="codes="):
            ingest(adapter, [1], rows({1: 1.0}))
        adapter.drop()
        adapter.create(1000)
        with pytest.raises(InvalidInput, match="code_bytes"):
            ingest(adapter, [1], rows({1: 1.0}), codes=codes_of(1))


def test_a_code_that_is_none_is_a_dead_letter() -> None:
    with connect("local:") as adapter:
        adapter.create(1000, code_bytes=WIDTH)
        codes = [*codes_of(1), [1, 2, 3], *codes_of(1)]
        report = ingest(adapter, [1, 2, 3], rows({1: 1.0}, {1: 1.0}, {1: 1.0}), codes=codes)
        assert (report.written, report.failed) == (2, 1)
        assert "uint8" in report.failures[0].reason


def test_a_file_of_the_version_before_codes_is_read_and_written_on(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite"
    with closing(sqlite3.connect(path)) as old:
        old.executescript(f"""
            PRAGMA application_id = {0x53505643}; PRAGMA user_version = 2;
            CREATE TABLE collection (dimension INTEGER NOT NULL, fingerprint TEXT, identity TEXT NOT NULL);
            CREATE TABLE documents (id BLOB PRIMARY KEY, indices BLOB, weights BLOB, payload TEXT) WITHOUT ROWID;
            INSERT INTO collection VALUES (1000, NULL, 'x');
            INSERT INTO documents VALUES (X'690000000000000001', X'01000000', X'0000803F', '{{"n": 1}}');
        """)
    with connect(f"reference:{path}") as adapter:
        assert adapter.fetch([1]).payloads == ({"n": 1},)
        assert adapter.info().code_bytes is None
        adapter.upsert([2], rows({1: 2.0}))
        assert [hits.ids for hits in adapter.search(rows({1: 1.0}))] == [(2, 1)]


def test_verify_compares_the_codes_of_hits_byte_for_byte() -> None:
    documents, codes = corpus(60), codes_of(60)
    with connect("local:") as adapter:
        adapter.create(documents.dimension, code_bytes=WIDTH)
        adapter.upsert(range(60), documents, codes=codes)
        assert verify(adapter, documents, corpus(5, seed=1), codes=codes).exact
        adapter.upsert([17], documents[17:18], codes=codes[17:18] ^ np.uint8(1))
        report = verify(adapter, documents, documents, 60, codes=codes)
        assert {offence.id for offence in report.offences} == {17}
        assert "residual code" in report.offences[0].reason
        with pytest.raises(InvalidInput, match="shape"):
            verify(adapter, documents, documents, codes=codes[:, 1:])
