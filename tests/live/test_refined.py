"""Codes that were refined to a corpus, or that have a residual beside them, stay right while others edit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sparsevec as sv
from sparsevec.errors import InvalidInput, InvalidVectors, ModelBroken, WrongSpace
from sparsevec.live.codes import Codes
from tests.conftest import brief_looks, brief_trainings
from tests.live.conftest import DIMENSION, N
from tests.live.shops import WIDTH, LuceneShop, Shop, dense_rows

BUDGET = sv.Budget(nnz=6, flops=0.5)


def held(shop: Shop) -> dict[int, sv.SparseVector]:
    with sv.connect(shop.url) as adapter:
        pages = [(page.ids, adapter.stored(page.vectors)) for page in adapter.scan(vectors=True) if page.vectors]
    return {int(id_): one for ids, vectors in pages for id_, one in zip(ids, vectors, strict=True)}


def stored(shop: Shop, vectors: sv.SparseVectors) -> dict[int, sv.SparseVector]:
    with sv.connect(shop.url) as adapter:
        return dict(enumerate(adapter.stored(vectors)))


@pytest.fixture(scope="module")
def refining(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, sv.SparseVectors]:
    """A folder with an encoder, refined to the rows of a shop, and the codes that it gave them.

    These are random rows, of which 37 judge: whether refining does better, and is kept, is up to the seed.
    """
    folder = tmp_path_factory.mktemp("refined") / "model"
    for seed in range(12):
        with brief_looks():
            encoder = sv.SparseEncoder(WIDTH, DIMENSION, seed=seed).fit(dense_rows(600, seed=1), budget=BUDGET)
            documents = encoder.refine(dense_rows(N))
        if encoder.config.stage == "refined":
            break
    encoder.save(folder)
    sv.keep_refined(folder, dense_rows(N), documents)
    return folder, documents


def test_refining_gives_other_codes_than_the_head(refining: tuple[Path, sv.SparseVectors]) -> None:
    folder, documents = refining
    assert documents != sv.SparseEncoder.load(folder).encode_document(dense_rows(N))


def test_a_retrofit_writes_refined_codes_and_a_catch_up_keeps_them(
    shop: Shop, refining: tuple[Path, sv.SparseVectors]
) -> None:
    folder, documents = refining
    report = sv.retrofit(shop.url, model=folder, dense_field="emb")
    assert (report.refined, report.written, report.complete) == (N, N, True)
    assert held(shop) == stored(shop, documents)
    new = dense_rows(2, seed=9)
    shop.edit(3, {"emb": new[0].tolist()})
    shop.edit(4, {"title": "the row stays"})
    shop.put({5: {"title": "whole, the row stays", "emb": dense_rows(N)[5].tolist()}, N: {"emb": new[1].tolist()}})
    look = sv.catch_up(shop.url, model=folder).look
    assert (look.stale + look.missing, look.written) == (3, 3)
    head = stored(shop, sv.SparseEncoder.load(folder).encode_document(new))
    assert held(shop) == {**stored(shop, documents), 3: head[0], N: head[1]}
    sv.undo_retrofit(shop.url, model=folder)


def test_documents_that_were_filled_by_hand_with_refined_codes_are_right(
    lucene: LuceneShop, refining: tuple[Path, sv.SparseVectors]
) -> None:
    folder, documents = refining
    with sv.connect(lucene.url) as adapter:
        adapter.create(DIMENSION, fingerprint=documents.fingerprint)
        sv.ingest(adapter, [str(i) for i in range(N)], documents)
    look = sv.catch_up(lucene.url, model=folder, dense_field="emb").look
    assert (look.right, look.written) == (N, 0)


@pytest.mark.usefixtures("brief")
def test_a_retrofit_refines_where_it_is_told_to(lucene: LuceneShop, model: Path) -> None:
    report = sv.retrofit(lucene.url, model=model, dense_field="emb", refine=True)
    assert (report.refined, report.written) == (N, N)
    again = sv.retrofit(lucene.url, model=model, dense_field="emb", refine=True)
    assert (again.refined, again.written) == (N, 0)


def test_refining_a_part_of_the_rows_is_refused(lucene: LuceneShop, model: Path) -> None:
    with pytest.raises(InvalidInput, match=r"takes every dense row at once.*raise sample="):
        sv.retrofit(lucene.url, model=model, dense_field="emb", refine=True, sample=100)


def test_a_row_that_moves_without_its_code_is_counted_and_costs_nothing(shop: Shop, model: Path) -> None:
    sv.retrofit(shop.url, model=model, dense_field="emb")
    before = held(shop)
    shop.edit(3, {"emb": (2 * dense_rows(N)[3]).tolist()})  # of another length, and the same direction
    shop.edit(4, {"emb": dense_rows(1, seed=9)[0].tolist()})
    look = sv.catch_up(shop.url, model=model).look
    assert (look.moved, look.stale, look.written) == (2, 1, 1)
    assert {number for number, one in held(shop).items() if one != before[number]} == {4}
    assert sv.catch_up(shop.url, model=model).look.moved == 0


def test_nobody_knows_what_moved_before_the_first_look(lucene: LuceneShop, model: Path) -> None:
    report = sv.retrofit(lucene.url, model=model, dense_field="emb", dry_run=True)
    assert report.looks[0].moved is None


def test_rows_that_an_engine_moves_by_one_unit_in_the_last_place_keep_their_refined_codes(
    refining: tuple[Path, sv.SparseVectors],
) -> None:
    folder, documents = refining
    codes = Codes.load(folder, sv.SparseEncoder.load(folder))
    rows = dense_rows(N)
    assert codes.of(np.nextafter(rows, np.float32(2))) == documents


# ---- residual codes


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an encoder with residual codes of 12 bytes."""
    folder = tmp_path_factory.mktemp("coded") / "model"
    encoder = sv.SparseEncoder(WIDTH, DIMENSION)
    with brief_trainings():
        encoder.fit(dense_rows(600, seed=1), budget=sv.Budget(nnz=6, flops=0.5, residual_bytes=12))
    encoder.save(folder)
    return folder


@pytest.mark.parametrize("moves", [2.0, 1.0])
def test_residual_codes_are_written_beside_the_vectors_and_follow_the_rows(
    lucene: LuceneShop, coded: Path, tmp_path: Path, moves: float
) -> None:
    sv.SparseEncoder.load(coded).save(tmp_path / "model")
    encoder = sv.SparseEncoder.load(tmp_path / "model")
    assert sv.retrofit(lucene.url, model=tmp_path / "model", dense_field="emb").complete
    rows = dense_rows(N)
    rows[3] = moves * dense_rows(1, seed=9)[0]
    lucene.edit(3, {"emb": rows[3].tolist()})
    assert sv.catch_up(lucene.url, model=tmp_path / "model").look.written == 1
    with sv.connect(lucene.url) as adapter:
        found = adapter.fetch([str(i) for i in range(N)])
        expected = encoder.residual_codes(rows, adapter.stored(encoder.encode_document(rows)))
        assert adapter.info().code_bytes == 12
    assert found.codes is not None
    assert np.array_equal(found.codes, expected)
    assert sv.undo_retrofit(lucene.url, model=tmp_path / "model").left == 0


def test_a_collection_that_was_there_with_room_for_residual_codes_is_emptied_by_undo(
    coded: Path, tmp_path: Path
) -> None:
    model, url = tmp_path / "model", f"reference:{tmp_path / 'collection'}"
    sv.SparseEncoder.load(coded).save(model)
    rows = [{"emb": row.tolist()} for row in dense_rows(60)]
    empty = sv.SparseVectors(np.zeros(61, np.int64), [], [], DIMENSION)
    with sv.connect(url) as adapter:
        adapter.create(DIMENSION, code_bytes=12)
        adapter.upsert(range(60), empty, rows, codes=np.zeros((60, 12), np.uint8))
    assert sv.retrofit(url, model=model, dense_field="emb").written == 60
    undone = sv.undo_retrofit(url, model=model)
    assert (undone.taken, undone.left) == (60, 0)
    with sv.connect(url) as adapter:
        found = adapter.fetch(range(60))
    assert (found.vectors.nnz, list(found.payloads)) == (0, rows)
    assert found.codes is not None
    assert not found.codes.any()


def test_a_residual_code_that_was_not_written_because_its_document_changed_is_written_by_the_next_look(
    lucene: LuceneShop, coded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "model"
    sv.SparseEncoder.load(coded).save(model)
    encoder, before = sv.SparseEncoder.load(model), dense_rows(N)
    assert sv.retrofit(lucene.url, model=model, dense_field="emb", check=False).complete
    rows = before + 3e-4 * np.random.default_rng(1).normal(size=before.shape).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    with sv.connect(lucene.url) as adapter:
        codes = [adapter.stored(encoder.encode_document(one)) for one in (before, rows)]
    residuals = [encoder.residual_codes(one, code) for one, code in zip((before, rows), codes, strict=True)]
    moved = [i for i in range(N) if codes[0][i] == codes[1][i] and (residuals[0][i] != residuals[1][i]).any()]
    for i in moved:  # only their residual codes tell
        lucene.edit(i, {"emb": rows[i].tolist()})
    real, edited = type(adapter).upsert, list[int]()

    def upsert(self: Any, *given: Any, **options: Any) -> Any:
        """Somebody edits a document between the look and the write."""
        if not edited:
            lucene.edit(moved[0], {"title": "another"})
            edited.append(moved[0])
        return real(self, *given, **options)

    monkeypatch.setattr(type(adapter), "upsert", upsert)
    looks = [sv.catch_up(lucene.url, model=model).look for _ in range(3)]
    assert (looks[0].written, looks[0].changed) == (len(moved) - 1, 1)
    assert [look.written for look in looks[1:]] == [1, 0]
    with sv.connect(lucene.url) as adapter:
        found = adapter.fetch([str(i) for i in moved])
    assert found.codes is not None
    assert np.array_equal(found.codes, residuals[1][moved])


# ---- what is refused


def test_codes_of_other_rows_or_of_another_encoder_are_refused(
    refining: tuple[Path, sv.SparseVectors], tmp_path: Path
) -> None:
    folder, documents = refining
    sv.SparseEncoder(WIDTH, DIMENSION, 5).fit(dense_rows(200, seed=1), budget=BUDGET).save(tmp_path / "other")
    with pytest.raises(InvalidVectors, match="expected a code of each dense row, 299, found 300"):
        sv.keep_refined(folder, dense_rows(N)[:-1], documents)
    with pytest.raises(WrongSpace, match="save the encoder that refined them"):
        sv.keep_refined(tmp_path / "other", dense_rows(N), documents)


@pytest.mark.parametrize(
    ("content", "said"), [(b"no array", "is not what refining writes"), (None, "3.* keys for 300")]
)
def test_a_broken_folder_of_refined_codes_is_named(
    refining: tuple[Path, sv.SparseVectors], tmp_path: Path, content: bytes | None, said: str
) -> None:
    folder, documents = refining
    encoder = sv.SparseEncoder.load(folder)
    encoder.save(tmp_path / "model")
    sv.keep_refined(tmp_path / "model", dense_rows(N), documents)
    keys = tmp_path / "model/refined/keys.npy"
    np.save(keys, np.zeros(3, np.uint64))
    keys.write_bytes(content or keys.read_bytes())
    with pytest.raises(ModelBroken, match=said):
        Codes.load(tmp_path / "model", encoder)
