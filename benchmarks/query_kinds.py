"""What queries of another kind find of 20,000 Debian descriptions, and what finding as much as a scan would cost.

    python -m benchmarks.query_kinds [--data ../shared/data] [--model FOLDER --codes FOLDER]

The encoder was learned with package synopses as its sample. It is asked by 2,000 other synopses, by documents (each for
the others), by claims of SciFact, utterances of CLINC and questions of Cranfield, of which nothing was learned. Beside
it a scan of one bit a component, which learns nothing and reads every document. R10 is the overlap with the exact dense
top 10, @100 the share of it in the first 100, with a 95 % interval over the queries. With a purse of 2 a query may
spend twice the F of the budget. Without `--model` and `--codes` (of `SparseEncoder.save` and `SparseVectors.save`; d
8,192, 32 weights, F .65, refined) both are learned first, in a quarter of an hour. Results:
benchmarks/results/query_kinds.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer

from benchmarks.machine import machine
from sparsevec.dense import Nearest, nearest, unit_rows
from sparsevec.encoder import Budget, SparseEncoder
from sparsevec.encoder.calibration import query_purse
from sparsevec.encoder.head import encoded
from sparsevec.encoder.model import query_projection
from sparsevec.encoder.one_bit import one_bit_top
from sparsevec.encoder.recipe import CalibrationRecipe
from sparsevec.measure.cost import flops, usage
from sparsevec.measure.intervals import interval
from sparsevec.measure.recall import recalls, sparse_top
from sparsevec.vectors import Float32s, Int64s, SparseVectors

ROOT = Path(__file__).parents[1]
DATA, PAGE = ROOT.parent / "shared/data", ROOT / "benchmarks/results/query_kinds.md"
FLOPS, PURSES, ASKED = 0.65, (1, 2, 4), 500


class Kind(NamedTuple):
    name: str
    rows: Float32s
    itself: Int64s | None
    """of documents that ask"""


def kinds(data: Path, documents: Float32s) -> Iterator[Kind]:
    def rows(file: str, name: str) -> Float32s:
        with np.load(data / file) as arrays:
            found: Float32s = arrays[name].astype(np.float32)
        return found

    yield Kind("Debian, other synopses", rows("debian12/minilm_20k.npz", "q_dev"), None)
    own = np.arange(0, len(documents), len(documents) // ASKED)[:ASKED]
    yield Kind("Debian, documents", documents[own], own)
    yield Kind("SciFact, claims", rows("scifact/minilm.npz", "queries"), None)
    yield Kind("CLINC, utterances", rows("clinc150/minilm.npz", "test_x")[::9][:ASKED], None)
    yield Kind("Cranfield, questions", rows("cranfield/minilm.npz", "queries"), None)


def learned(documents: Float32s, sample: Float32s) -> tuple[SparseEncoder, SparseVectors]:
    encoder = SparseEncoder(384, 8192).fit(documents, sample, budget=Budget(nnz=32, flops=FLOPS))
    return encoder, encoder.refine(documents, sample)


def table(encoder: SparseEncoder, codes: SparseVectors, documents: Float32s, data: Path) -> Iterator[str]:
    units, each = unit_rows(documents), list(kinds(data, documents))
    tensors = {name: getattr(encoder.head("query"), name) for name in ("weights", "bias", "mean")}
    asked_by = query_projection({f"query_{name}": tensors[name] for name in ("weights", "bias")} | tensors)
    prices, sixteenths = usage(codes).astype(np.float32).astype(np.float64), CalibrationRecipe().refined_sixteenths
    yield "| asked by | queries | purse | F | weights | R10 | @100 | scan: R10 | @100 | @100 less the scan's |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for kind in each:
        asked = unit_rows(kind.rows)
        truth = nearest(units, asked, 10, itself=kind.itself)
        scan = at(units, asked, one_bit_top(units, asked, 100, itself=kind.itself), truth)
        for times in PURSES:
            bought = query_purse([each[0].rows[:ASKED]], asked_by, prices, times * FLOPS, sixteenths)
            queries = encoded(kind.rows, asked_by, *bought)
            ours = at(units, asked, sparse_top(codes, queries, 100, itself=kind.itself), truth)
            cells = [kind.name, len(asked), times, f"{flops(queries, codes):.3f}", f"{queries.nnz / len(queries):.0f}"]
            cells += [f"{ours[0].mean():.3f}", f"{ours[1].mean():.3f} ({interval(ours[1])})"]
            cells += [*(f"{each.mean():.3f}" for each in scan), f"{interval(ours[1] - scan[1])}"]
            yield "| " + " | ".join(map(str, cells)) + " |"


def at(units: Float32s, asked: Float32s, found: list[Int64s], truth: Nearest) -> list[np.ndarray]:
    return [recalls(units, asked, [rows[:k] for rows in found], truth) for k in (10, 100)]


def main(
    data: Annotated[Path, typer.Option(help="Folder with the sets.")] = DATA,
    model: Annotated[Path | None, typer.Option(help="An encoder that was refined, saved.")] = None,
    codes: Annotated[Path | None, typer.Option(help="The documents' codes of that.")] = None,
) -> None:
    """Make the table, and keep it as a page."""
    with np.load(data / "debian12/minilm_20k.npz") as arrays:
        documents, sample = arrays["docs"].astype(np.float32), arrays["q_train"].astype(np.float32)
    if model is None or codes is None:
        made = learned(documents, sample)
    else:
        made = SparseEncoder.load(model), SparseVectors.load(codes)
    about = (__doc__ or "").split("\n\n")
    lines = ["# Queries of another kind", "", about[0], "", about[2], "", *table(*made, documents, data), "", machine()]
    PAGE.write_text("\n".join([*lines, ""]))
    typer.echo(PAGE.read_text())


if __name__ == "__main__":
    typer.run(main)
