"""Documents that come after `refine`: what the head's codes find of them, and what fitting each alone finds.

    python -m benchmarks.newcomers [--data ../shared/data] [--model FOLDER --codes FOLDER]

16,000 Debian descriptions are fitted and refined (MiniLM, d 8,192, 32 weights, F .65, 6,000 synopses as the sample);
the other 4,000 come later, and neither the head nor the queries' tower has met them. 2,000 synopses ask, of which
nothing was learned or chosen. "All" is the overlap of the sparse with the exact dense top 10 of the 20,000, with a 95
% interval over the queries; "newcomers" and "fitted" are the shares found of those in the dense top tens that came
later, and that were refined; "returned" counts newcomers in the sparse top tens for each that should be there. The
last row is the same codes times the factor at which as many are returned as should be, found on 2,000 other synopses.

Without `--model` and `--codes` (of `save`) both are learned first, in a quarter of an hour.
Results: benchmarks/results/newcomers.md.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer
from rich.console import Console

from benchmarks.machine import machine
from sparsevec.dense import nearest, unit_rows
from sparsevec.encoder import Budget, SparseEncoder
from sparsevec.measure.intervals import Interval, interval, paired_interval
from sparsevec.measure.recall import recalls, sparse_top
from sparsevec.postings import Float64s
from sparsevec.vectors import Float32s, SparseVectors

ROOT = Path(__file__).parents[1]
DATA, RESULTS = ROOT.parent / "shared/data", ROOT / "benchmarks/results/newcomers.md"
FITTED, SAMPLE, DIMENSION = 16_000, 6000, 8192


class Found(NamedTuple):
    all: Float64s
    newcomers: float
    fitted: float
    returned: float


class Searched(NamedTuple):
    """Unit rows of all documents, refined ones first, and of who asks."""

    units: Float32s
    asking: Float32s

    def found(self, refined: SparseVectors, later: SparseVectors, queries: SparseVectors) -> Found:
        truth = nearest(self.units, self.asking, 10)
        top = sparse_top(SparseVectors.concat([refined, later]), queries, 10)
        hit = np.array([np.isin(due, rows) for due, rows in zip(truth.rows, top, strict=True)])
        new = truth.rows >= len(refined)
        returned = float((np.array(top) >= len(refined)).sum() / new.sum())
        all_ = recalls(self.units, self.asking, top, truth)
        return Found(all_, float(hit[new].mean()), float(hit[~new].mean()), returned)


def even_factor(searched: Searched, refined: SparseVectors, later: SparseVectors, queries: SparseVectors) -> float:
    """At which as many newcomers are returned as should be."""
    low, high = 0.85, 1.1
    for _ in range(6):
        middle = (low + high) / 2
        many = searched.found(refined, times(later, middle), queries).returned > 1
        low, high = (low, middle) if many else (middle, high)
    return low


def times(codes: SparseVectors, factor: float) -> SparseVectors:
    values = (codes.values * factor).astype(np.float32)
    return SparseVectors(codes.indptr, codes.indices, values, codes.dimension, fingerprint=codes.fingerprint)


def row(name: str, found: Found, beside: Found, milliseconds: str) -> str:
    less = paired_interval(found.all, beside.all)
    change = "" if found is beside else f"{Interval(*less)}"
    cells = f"{found.all.mean():.3f} ({interval(found.all)}) | {change} | {found.newcomers:.3f} | {found.fitted:.3f}"
    return f"| {name} | {cells} | {found.returned:.2f} | {milliseconds} |"


def main(
    data: Annotated[Path, typer.Option(help="Folder with debian12.")] = DATA,
    model: Annotated[Path | None, typer.Option(help="An encoder that was refined to these 16,000, saved.")] = None,
    codes: Annotated[Path | None, typer.Option(help="Their codes of that.")] = None,
) -> None:
    """Make the table."""
    with np.load(data / "debian12/minilm_20k.npz") as arrays:
        documents, asked, sample = (arrays[name].astype(np.float32) for name in ("docs", "q_dev", "q_train"))
    if model is None or codes is None:
        encoder, budget = SparseEncoder(384, DIMENSION), Budget(nnz=32, flops=0.65)
        encoder.fit(documents[:FITTED], sample[:SAMPLE], budget=budget)
        refined = encoder.refine(documents[:FITTED], sample[:SAMPLE])
    else:
        encoder, refined = SparseEncoder.load(model), SparseVectors.load(codes)
    later, spent = {}, {}
    encoder.encode_document(documents[FITTED : FITTED + 1])
    for weights in ("head", "fitted"):
        began = time.process_time()
        later[weights] = encoder.encode_document(documents[FITTED:], weights=weights)
        spent[weights] = f"{1000 * (time.process_time() - began) / (len(documents) - FITTED):.2f}"
    units = unit_rows(documents)
    chosen = Searched(units, unit_rows(sample[SAMPLE:])), encoder.encode_query(sample[SAMPLE:])
    factor = even_factor(chosen[0], refined, later["fitted"], chosen[1])
    judge, queries = Searched(units, unit_rows(asked)), encoder.encode_query(asked)
    by_head = judge.found(refined, later["head"], queries)
    fitted = judge.found(refined, later["fitted"], queries)
    even = judge.found(refined, times(later["fitted"], factor), queries)
    kept = encoder.config.newcomers
    said = (
        ""
        if kept is None
        else f"The card says {kept.found:.3f} ({kept.found_interval}), {kept.found_by_head:.3f} by the head."
    )
    about = [part.replace("\n", " ") for part in (__doc__ or "").split("\n\n")]
    lines = [
        "# Documents that come later", "", about[0], "", about[2], "",
        "| codes of newcomers | all | all, less the head's | newcomers | fitted | returned | ms a document, one core |",
        "|---|---|---|---|---|---|---|",
        row('`weights="head"`', by_head, by_head, spent["head"]),
        row("fitted alone (what `encode_document` gives)", fitted, by_head, spent["fitted"]),
        row(f"fitted alone, times {factor:.3f}", even, by_head, spent["fitted"]),
        "", f"{said}", "", machine(), "",
    ]  # fmt: skip
    RESULTS.write_text("\n".join(lines))
    Console().print("\n".join(lines))


if __name__ == "__main__":
    typer.run(main)
