"""Queries that reconstruct their dense row, beside those of the tower: the same budget, and less is found.

    python -m benchmarks.decoder_queries [--data ../shared/data] [--model FOLDER --codes FOLDER]

4,000 Debian descriptions, d 4,096, 32 weights, F .65, refined with 1,500 synopses as the sample. Asked by synopses it
has not met and by queries of three other collections, 100 each. A query of the decoder is the w >= 0 with the least
|D^T w - (x - mean)|^2 + price sum(w), where D is the ridge decoder of the documents' codes, by 25 steps of accelerated
proximal gradient; beside the tower, the distance to the tower's own query counts as well. The price is found for each
kind of queries so that these spend the budget's F. R10 is the overlap with the exact dense top 10, @100
the share of it in the first 100; the last column is the paired 95 % interval of the difference in @100. Without
`--model` and `--codes` (of `save`) both are learned first, in two minutes. Results:
benchmarks/results/decoder_queries.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.machine import machine
from benchmarks.query_kinds import DATA, FLOPS, ROOT, Kind, at, kinds
from sparsevec.dense import nearest, unit_rows
from sparsevec.encoder import Budget, SparseEncoder
from sparsevec.encoder.learning.decoder import ridge_decoder
from sparsevec.measure.cost import flops
from sparsevec.measure.intervals import paired_interval
from sparsevec.measure.recall import sparse_top
from sparsevec.vectors import Float32s, SparseVectors

PAGE = ROOT / "benchmarks/results/decoder_queries.md"
ROWS, SAMPLE, ASKED, RIDGE, STEPS, HALVINGS = 4000, 1500, 100, 1.0, 25, 10
WAYS = {"the decoder": 0.0, "the decoder, beside the tower": 0.3}
"""what the distance to the tower's query counts for, beside the decoder's largest singular value"""


def reconstructing(decoder: Float32s, rows: Float32s, tower: Float32s, share: float, price: np.float32) -> Float32s:
    """(q, dimension) for centred rows (q, columns) and the tower's queries (FISTA: Beck and Teboulle, 2009)."""
    largest = np.float32(np.linalg.norm(decoder.T @ decoder, 2))
    pull, wanted = share * largest, rows @ decoder.T
    fit = (tower * wanted).sum(axis=1) / np.square(tower @ decoder).sum(axis=1)  # the tower's, as long as it explains
    start, found, ahead, pace = tower * fit[:, None], np.zeros_like(wanted), np.zeros_like(wanted), 1.0
    for _ in range(STEPS):
        slope = (ahead @ decoder) @ decoder.T - wanted + price + pull * (ahead - start)
        better = np.maximum(ahead - slope / (largest + pull), 0)
        faster = (1 + np.sqrt(1 + 4 * pace**2)) / 2
        ahead, found, pace = better + np.float32((pace - 1) / faster) * (better - found), better, faster
    return found


def within_budget(
    decoder: Float32s, rows: Float32s, tower: Float32s, share: float, codes: SparseVectors
) -> SparseVectors:
    """The queries of the least price that spend no more than F on average."""
    usual, low, high = float((rows @ decoder.T).max(axis=1).mean()), -4.0, 2.0  # powers of ten

    def at_price(power: float) -> SparseVectors:
        price = np.float32(usual * 10**power)
        return SparseVectors.from_dense(reconstructing(decoder, rows, tower, share, price))

    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if flops(at_price(middle), codes) > FLOPS else (low, middle)
    return at_price(high)


def table(encoder: SparseEncoder, codes: SparseVectors, documents: Float32s, data: Path) -> Iterator[str]:
    units, mean = unit_rows(documents), encoder.head("query").mean
    decoder = ridge_decoder(codes.to_scipy(), units - mean, RIDGE, 15)
    yield "| asked by | queries of | F | weights | R10 | @100 | @100 less the tower's |"
    yield "|---|---|---|---|---|---|---|"
    for kind in kinds(data, documents):
        if kind.itself is None:
            yield from cells(encoder, codes, (units, decoder, mean), kind)


def cells(
    encoder: SparseEncoder, codes: SparseVectors, searched: tuple[Float32s, Float32s, Float32s], kind: Kind
) -> Iterator[str]:
    units, decoder, mean = searched
    asked = unit_rows(kind.rows[:ASKED])
    truth, tower = nearest(units, asked, 10), encoder.encode_query(asked)
    ways = {"the tower": tower}
    for name, share in WAYS.items():
        ways[name] = within_budget(decoder, asked - mean, tower.to_dense(), share, codes)
    before = at(units, asked, sparse_top(codes, tower, 100), truth)
    for name, queries in ways.items():
        found = at(units, asked, sparse_top(codes, queries, 100), truth)
        less = "" if queries is tower else str(paired_interval(found[1], before[1]))
        spent = f"{flops(queries, codes):.2f} | {queries.nnz / len(queries):.0f}"
        yield f"| {kind.name} | {name} | {spent} | {found[0].mean():.3f} | {found[1].mean():.3f} | {less} |"


def learned(documents: Float32s, sample: Float32s) -> tuple[SparseEncoder, SparseVectors]:
    encoder = SparseEncoder(384, 4096).fit(documents, sample, budget=Budget(nnz=32, flops=FLOPS))
    return encoder, encoder.refine(documents, sample)


def main(
    data: Annotated[Path, typer.Option(help="Folder with the sets.")] = DATA,
    model: Annotated[Path | None, typer.Option(help="An encoder that was refined, saved.")] = None,
    codes: Annotated[Path | None, typer.Option(help="The documents' codes of that.")] = None,
) -> None:
    """Make the table, and keep it as a page."""
    with np.load(data / "debian12/minilm_20k.npz") as arrays:
        documents, sample = arrays["docs"][:ROWS].astype(np.float32), arrays["q_train"][:SAMPLE].astype(np.float32)
    if model is None or codes is None:
        made = learned(documents, sample)
    else:
        made = SparseEncoder.load(model), SparseVectors.load(codes)
    about = [part.replace("\n", " ") for part in (__doc__ or "").split("\n\n")]
    lines = ["# Queries by the decoder", "", about[0], "", about[2], "", *table(*made, documents, data), "", machine()]
    PAGE.write_text("\n".join([*lines, ""]))
    typer.echo(PAGE.read_text())


if __name__ == "__main__":
    typer.run(main)
