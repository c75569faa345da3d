"""What a retrofit finds before it changes anything, and what it learns from that: everything that can be refused is
refused here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sparsevec.contract.adapter import Adapter, Info
from sparsevec.encoder import Budget, SparseEncoder
from sparsevec.errors import BackendUnsupported, CollectionError, InvalidInput, WrongSpace
from sparsevec.live.codes import Codes, keep_refined
from sparsevec.live.folder import Folder, Note
from sparsevec.live.opening import place_of
from sparsevec.live.rows import DenseSource, source_name
from sparsevec.live.sample import Sample, drawn, noted_source
from sparsevec.live.telling import Telling
from sparsevec.progress import Listener
from sparsevec.similarity import misfit
from sparsevec.vectors import Float32s

__all__ = ["Found", "Lessons", "check_order", "find", "learned"]


@dataclass(frozen=True, slots=True)
class Found:
    """What is there."""

    adapter: Adapter
    folder: Folder
    info: Info
    dense: DenseSource
    note: Note | None
    encoder: SparseEncoder | None
    """in the folder"""
    sample: Sample

    @property
    def named(self) -> str:
        return source_name(self.dense)


@dataclass(frozen=True, slots=True)
class Lessons:
    """How an encoder is learned, where there is none, and whether its codes are refined to this corpus."""

    budget: Budget
    output_dim: int
    queries: Any | None
    refine: bool
    seed: int

    def fitted(self, rows: Float32s, on_progress: Listener | None) -> SparseEncoder:
        """Learned from dense rows (n, input_dim). Raises what `SparseEncoder.fit` raises."""
        encoder = SparseEncoder(rows.shape[1], self.output_dim, self.seed)
        return encoder.fit(rows, self.queries, budget=self.budget, on_step=on_progress)


def find(adapter: Adapter, folder: Folder, asked: DenseSource | None, most: int, lessons: Lessons) -> Found:
    """Raises what `retrofit` raises before it changes anything."""
    info = adapter.info()
    if blocking := [finding for finding in adapter.check() if finding.level == "blocking"]:
        raise BackendUnsupported("; ".join(f"{finding.found}: {finding.advice}" for finding in blocking))
    note = folder.note_of(place_of(adapter), info)
    encoder = folder.load() if folder.has_encoder() else None
    _check_field(info, note, encoder)
    dense = noted_source(info, asked, note)
    sample = drawn(adapter, dense, most, encoder=encoder, seed=lessons.seed)
    check_order(info, dense, encoder, sample)
    if lessons.refine:
        _check_refining(info, encoder, sample)
    return Found(adapter, folder, info, dense, note, encoder, sample)


def _check_field(info: Info, note: Note | None, encoder: SparseEncoder | None) -> None:
    """Our field must not be there, or be what an earlier run with this folder left, or an empty collection of ours."""
    if not info.exists:
        return
    if info.fingerprint is not None and encoder is not None and info.fingerprint != encoder.fingerprint:
        raise WrongSpace(
            f"the field holds vectors of the encoder {info.fingerprint}, the folder's is {encoder.fingerprint}; name "
            f"another field, and move over to it"
        )
    known = note is not None and (encoder is None or note.fingerprint == encoder.fingerprint)
    if not known and not (info.ours and info.fingerprint is None):
        who = f"an encoder {info.fingerprint}" if info.fingerprint else "others"
        raise CollectionError(
            f"the field is there already, with vectors of {who}, and this folder does not know it; name another field, "
            f"catch up with it if the encoder is the same, or drop it first"
        )
    kept = info.code_bytes
    if encoder is not None and kept is not None and kept != encoder.residual_bytes:
        raise InvalidInput(
            f"the field keeps residual codes of {kept} bytes, and those of the encoder have "
            f"{encoder.residual_bytes or 0}; name another field"
        )


def check_order(info: Info, dense: DenseSource, encoder: SparseEncoder | None, sample: Sample) -> None:
    """Sparse scores must rank as the field does that they stand in for. An encoder that is learned here ranks by the
    cosine."""
    declared = info.dense.get(dense) if isinstance(dense, str) else None
    near = encoder.similarity if encoder else "cosine"
    if declared is not None and (fault := misfit(near, declared.similarity, sample.rows)):
        raise InvalidInput(fault)


def _check_refining(info: Info, encoder: SparseEncoder | None, sample: Sample) -> None:
    if not sample.whole or len(sample.rows) + len(sample.faults) + sample.without < sample.looked:
        raise InvalidInput(
            f"refining takes every dense row at once, and the sample of {len(sample.rows):,} is not all of "
            f"{sample.looked:,} documents or more; raise sample= as far as memory allows, or leave refine out"
        )
    if info.exists and info.code_bytes is not None and encoder is not None:
        raise InvalidInput(
            "the field holds residual codes of the encoder as it was before refining; refine into another field"
        )


def learned(found: Found, lessons: Lessons, telling: Telling, on_progress: Listener | None) -> Codes:
    """The codes of rows: of the encoder that is there or is learned now, refined where that is asked for."""
    rows, folder = found.sample.rows, found.folder
    encoder = found.encoder
    if encoder is None:
        with telling.doing("fit", tells=True) as told:
            encoder = lessons.fitted(rows, on_progress)
            told |= {"rows": len(rows), "encoder": encoder.fingerprint}
        if not lessons.refine:
            folder.save(encoder)
    codes = Codes.load(folder.path, encoder)
    if lessons.refine and not len(codes):
        with telling.doing("refine", tells=True) as told:
            documents = encoder.refine(rows, lessons.queries, on_step=on_progress)
            folder.save(encoder)
            told |= {"rows": len(rows), "kept": keep_refined(folder.path, rows, documents)}
        codes = Codes.load(folder.path, encoder)
    return codes
