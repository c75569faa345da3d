"""How well a latency model predicts what an engine takes for a query, on probes that its fit has not seen.

    python -m benchmarks.latency CODES/ URL... [--rows 4000]

CODES is a folder of `SparseVectors`, the codes of documents. A collection of the first rows is made at each URL, probed
and dropped. Errors are |predicted - measured| / measured, each probe predicted by coefficients from the other half of
them; milliseconds are at the client, one query at a time, medians of seven rounds. Each is probed three times, and the
middle one by its error is kept. How busy the machine was stands beside it (load a core), for a model of a noisy engine
errs by the noise. Rows are kept engine by engine: benchmarks/results/latency.json and .md.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

import sparsevec as sv
from benchmarks.machine import machine
from sparsevec.planning.latency import latency_model
from sparsevec.vectors import SparseVectors

RESULTS = Path(__file__).parent / "results"
WANTED = (0.15, 0.35)  # median and 95th percentile of the error
TIMES = 3  # that each is probed, one after the other: kept is the one whose error is in the middle


def measured(url: str, codes: SparseVectors) -> dict[str, Any]:
    """The model of a collection that is made for it, and what stands beside it."""
    with sv.connect(url) as adapter:
        adapter.create(codes.dimension)
        try:
            sv.ingest(adapter, np.arange(len(codes)), codes).require_complete()
            models = [latency_model(adapter, codes) for _ in range(TIMES)]
        finally:
            adapter.drop()
    model = sorted(models, key=lambda one: one.error_median)[TIMES // 2]
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    return model.model_dump(exclude={"hits"}) | {"load": load, "machine": machine()}


def markdown(rows: dict[str, dict[str, Any]]) -> str:
    out = ["# What a latency model misses", "", *(__doc__ or "").split("\n\n")[2:3], ""]
    out += [
        "| engine | documents | request ms | µs a list | ns a posting | ns a touched document | µs a hit "
        "| median error (wanted 0.15) | 95 % within (0.35) | load a core |",
        "|---" * 10 + "|",
    ]
    for name, row in rows.items():
        taken = [1e3 * row["per_list"], 1e6 * row["per_posting"], 1e6 * row["per_touched"], 1e3 * row["per_hit"]]
        figures = [f"{row['base']:.3g}", *(f"{figure:.3g}" for figure in taken)]
        errors = [
            f"{error:.2f}" if error <= wanted else f"**{error:.2f}**"
            for error, wanted in zip((row["error_median"], row["error_95"]), WANTED, strict=True)
        ]
        cells = [name, f"{row['documents']:,}", *figures, *errors, f"{row['load']:.1f}"]
        out.append(f"| {' | '.join(cells)} |")
    return "\n".join([*out, "", *sorted({row["machine"] for row in rows.values()}), ""])


def main(
    codes: Annotated[Path, typer.Argument(help="A folder of SparseVectors.")],
    urls: Annotated[list[str], typer.Argument(help="As `connect` takes them; what is there is not touched.")],
    rows: Annotated[int, typer.Option(help="Documents of each collection.")] = 4000,
) -> None:
    results = RESULTS / "latency.json"
    kept: dict[str, dict[str, Any]] = json.loads(results.read_text()) if results.exists() else {}
    some = SparseVectors.load(codes)[:rows]
    for url in urls:
        found = measured(url, some)
        kept = dict(sorted((kept | {found["engine"]: found}).items()))
        results.write_text(json.dumps(kept, indent=1) + "\n")
        (RESULTS / "latency.md").write_text(markdown(kept))
        print(found, flush=True)


if __name__ == "__main__":
    typer.run(main)
