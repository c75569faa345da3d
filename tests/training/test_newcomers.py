"""Documents that come after `refine`: the same bits however they come, and found more often than by the head."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsevec.dense import nearest, unit_rows
from sparsevec.encoder import SparseEncoder
from sparsevec.encoder.model import Model
from sparsevec.encoder.newcomers import _TABLE, TENSORS
from sparsevec.errors import InvalidInput, ModelBroken
from sparsevec.live.codes import Codes, keep_refined
from sparsevec.measure.intervals import paired_interval
from sparsevec.measure.recall import recalls, sparse_top
from sparsevec.vectors import Float32s, SparseVectors
from tests.training.conftest import INPUT, clustered

LATER = clustered(500, seed=5)
Refined = tuple[SparseEncoder, SparseVectors]


@pytest.fixture(scope="module")
def folder(refined: Refined, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("newcomers") / "model"
    refined[0].save(path)
    return path


def without_newcomers(encoder: SparseEncoder) -> SparseEncoder:
    """As it would be, had it been refined before newcomers were fitted."""
    model, older = encoder._fitted(), SparseEncoder(INPUT, encoder.output_dim)
    tensors = {name: tensor for name, tensor in model.tensors.items() if name not in TENSORS}
    older._model = Model(model.config.model_copy(update={"newcomers": None}), tensors)
    return older


# ---- the bits


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 499), min_size=1, max_size=40))
def test_a_row_alone_gives_the_code_it_gives_among_others_in_any_order(refined: Refined, rows: list[int]) -> None:
    encoder, _ = refined
    together = encoder.encode_document(LATER[rows])
    assert all(encoder.encode_document(LATER[row : row + 1]) == together[at : at + 1] for at, row in enumerate(rows))


def test_another_process_with_other_threads_makes_the_same_codes_without_torch(
    refined: Refined, folder: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "rows.npy", LATER)
    made = "import sys, numpy, sparsevec; "
    made += f"codes = sparsevec.SparseEncoder.load({str(folder)!r}).encode_document(numpy.load('rows.npy')); "
    made += "assert 'torch' not in sys.modules; codes.save('codes')"
    environment = os.environ | {"OMP_NUM_THREADS": "4", "OPENBLAS_NUM_THREADS": "4"}
    subprocess.run([sys.executable, "-c", made], cwd=tmp_path, env=environment, check=True)
    assert SparseVectors.load(tmp_path / "codes") == refined[0].encode_document(LATER)


def test_the_logistic_function_is_the_same_numbers_on_every_machine() -> None:
    assert zlib.crc32(_TABLE.astype("<f8").tobytes()) == 3383636941


def test_saved_loaded_and_pickled_it_makes_the_same_codes(refined: Refined, folder: Path) -> None:
    expected = refined[0].encode_document(LATER)
    for same in (SparseEncoder.load(folder), pickle.loads(pickle.dumps(refined[0]))):
        assert same.encode_document(LATER) == expected


def test_an_encoder_that_adopted_another_model_fits_newcomers_to_the_same_bits(
    refined: Refined, documents: Float32s
) -> None:
    encoder, corpus = refined
    turned = np.linalg.qr(np.random.default_rng(0).standard_normal((INPUT, INPUT)))[0].astype(np.float32)
    adopted = encoder.adopt(documents @ turned, documents, vectors=corpus)
    assert adopted.encode_document(LATER) == encoder.encode_document(LATER)


# ---- what they are worth


def test_newcomers_and_the_others_are_found_more_often_than_in_the_heads_codes(
    refined: Refined, documents: Float32s, unseen_queries: Float32s
) -> None:
    encoder, corpus = refined
    asked = encoder.encode_query(unseen_queries)
    units, asking = unit_rows(np.concatenate([documents, LATER])), unit_rows(unseen_queries)
    truth, found, shares = nearest(units, asking, 10), [], []
    new = truth.rows >= len(documents)
    for codes in (encoder.encode_document(LATER), encoder.encode_document(LATER, weights="head")):
        top = sparse_top(SparseVectors.concat([corpus, codes]), asked, 10)
        hit = np.array([np.isin(due, rows) for due, rows in zip(truth.rows, top, strict=True)])
        found.append(recalls(units, asking, top, truth))
        shares.append((hit[new].mean(), hit[~new].mean()))
    assert paired_interval(*found).low > 0
    assert shares[0] > shares[1]
    assert shares[0][1] > shares[1][1]


def test_the_head_fits_nobody(encoder: SparseEncoder) -> None:
    assert encoder.config.newcomers is None
    assert encoder.encode_document(LATER) == encoder.encode_document(LATER, weights="head")


def test_newcomers_have_no_more_weights_than_are_wanted_and_none_below_zero(refined: Refined) -> None:
    encoder, _ = refined
    for nnz in (1, 3, 16):
        codes = encoder.encode_document(LATER, nnz)
        assert codes.row_nnz.max() <= nnz
        assert codes.row_nnz.min() >= 1
        assert codes.values.min() > 0
        assert codes.fingerprint == encoder.fingerprint


def test_the_card_says_what_share_newcomers_get(refined: Refined, folder: Path) -> None:
    kept = refined[0].config.newcomers
    assert kept is not None
    assert f"{kept.found:.3f} ({kept.found_interval})" in (folder / "README.md").read_text()
    assert kept.found_interval.low <= kept.found <= kept.found_interval.high


def test_drift_knows_newcomers_whichever_way_they_were_encoded(refined: Refined, documents: Float32s) -> None:
    encoder, corpus = refined
    rows = np.concatenate([documents, LATER])
    fitted, by_head = (encoder.encode_document(LATER, weights=way) for way in ("fitted", "head"))
    for codes in (fitted, by_head):
        assert encoder.judge(rows, SparseVectors.concat([corpus, codes])).newcomers == len(LATER)


# ---- models, whole and broken


def test_a_model_that_was_refined_before_newcomers_were_fitted_gives_the_heads_codes(
    refined: Refined, tmp_path: Path
) -> None:
    without_newcomers(refined[0]).save(tmp_path / "older")
    older = SparseEncoder.load(tmp_path / "older")
    assert older.encode_document(LATER) == refined[0].encode_document(LATER, weights="head")


def test_tensors_of_newcomers_that_do_not_fit_are_refused(refined: Refined, tmp_path: Path) -> None:
    model = refined[0]._fitted()
    odd = model.tensors | {"asking_indices": model.tensors["asking_indices"].astype(np.float32)}
    Model(model.config, odd).save(tmp_path / "odd")
    with pytest.raises(ModelBroken, match="asking_indices must be int32"):
        SparseEncoder.load(tmp_path / "odd")
    fewer = {name: tensor for name, tensor in model.tensors.items() if name != "asking_sums"}
    Model(model.config, fewer).save(tmp_path / "fewer")
    with pytest.raises(ModelBroken, match="asking_sums"):
        SparseEncoder.load(tmp_path / "fewer")


def test_other_words_for_weights_are_refused(refined: Refined) -> None:
    with pytest.raises(InvalidInput, match=r'weights must be "fitted" or "head", found \'alone\''):
        refined[0].encode_document(LATER, weights="alone")  # type: ignore[arg-type]


# ---- on a live cluster


def test_rows_that_were_refined_keep_their_codes_and_later_ones_are_fitted(
    refined: Refined, documents: Float32s, folder: Path
) -> None:
    encoder, corpus = refined
    keep_refined(folder, documents, corpus)
    mixed = np.concatenate([LATER[:2], documents[7:9], LATER[2:3]])
    later = encoder.encode_document(LATER[:3])
    expected = SparseVectors.concat([later[:2], corpus[7:9], later[2:]])
    assert Codes.load(folder, SparseEncoder.load(folder)).of(mixed) == expected
