"""What `fit` and `refine` of a large collection take and find: seconds and memory, stage by stage.

    python -m benchmarks.large ../shared/data [--documents 1000000] [--checkpoint FOLDER]
    python -m benchmarks.large ../shared/data --texts KEPT.npz --documents 200000
    python -m benchmarks.large ../shared/data --documents 20000 --device cuda

Noisy copies of the 20,000 documents of debian12, as far from them as near neighbours are, and its sample of queries;
20,000 are the documents themselves. Or the texts of `benchmarks.static_texts`, whose rows are kept in a file. With
--checkpoint a run that was killed goes on from there, and only what was left of it is in the table. R10 and @100 are of
1,000 queries that nobody learned from, searched in all documents; the card searches 200,000 at most. One row a
collection and device, the others are kept: benchmarks/results/large.json and .md.
"""

from __future__ import annotations

import argparse
import json
import resource
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import sparsevec as sv
from benchmarks.debian12 import DIMENSION, SEED, A, Data
from benchmarks.machine import machine
from benchmarks.static_texts import Texts
from benchmarks.stream import megabytes
from benchmarks.timing import RESULTS, keep, table
from sparsevec.dense import unit_rows
from sparsevec.measure.recall import evaluate

NOISE = 0.5  # the length of what is added to a unit row
ASKED = 1000  # dev queries
# What is to be said by hand of rows as they are kept; to be taken out when such a row is measured again.
REMARKS = {
    "1,000,000 copies": """\
Refining gave the sample .596 and took half of the candidates of off-topic queries, so that the head was kept: R10 and
@100 of the table are the head's, of 1,000 queries that nobody learned from, searched in all of the million. The card
searches at most 200,000 evenly spaced documents, here every fifth, where fewer compete, so its recall is higher. On the
H100 of the rows above, which was lent for a quarter of an hour, a run was cut off at step 10,397 of 13,029 of refining,
215 s after it had begun to refine: 76 steps a second, here 16.
"""
}
COLUMNS = ("documents", "learned on", "fit s", "refine s", "R10", "95 %", "@100", "nnz", "F", "rows MB", "peak MB")


def copies(data: Path, n: int) -> Texts:
    """n unit rows, as many of each document; fewer than two of each are the documents themselves."""
    few, generator = Data.load(data / "debian12"), np.random.default_rng(SEED)
    columns, each = few.documents.shape[1], n // len(few.documents)
    if each < 2:
        return Texts(few.documents, few.sample, few.queries)
    rows = np.empty((each * len(few.documents), columns), np.float32)
    for number, document in enumerate(few.documents):
        noise = generator.standard_normal((each, columns), np.float32)
        some = slice(number * each, (number + 1) * each)
        rows[some] = unit_rows(document + noise * np.float32(NOISE / np.sqrt(columns)))
    return Texts(rows, few.sample, few.queries)


class Watch:
    """Seconds and the largest memory of each stage of each phase, as the events name them."""

    def __init__(self) -> None:
        self.stages: dict[str, list[float]] = {}
        self.begin("")
        self._said = 0.0
        threading.Thread(target=self._look, daemon=True).start()

    def begin(self, phase: str) -> None:
        self.phase, self._name = phase, "begin"

    def __call__(self, event: sv.Progress) -> None:
        self._name = event.stage
        if time.monotonic() - self._said > 60:
            self._said = time.monotonic()
            print(f"{event.seconds:6.0f} s  {megabytes():5} MB  {self.phase} {event.text}", flush=True)

    def _look(self) -> None:
        last = time.monotonic()
        while True:
            time.sleep(0.05)
            now = time.monotonic()
            if self.phase:
                stage = self.stages.setdefault(f"{self.phase}: {self._name}", [0.0, 0.0])
                stage[0] += now - last
                stage[1] = max(stage[1], megabytes())
            last = now


def measured(name: str, data: Texts, checkpoint: Path | None, device: str) -> dict[str, Any]:
    (rows, sample, queries), watch = data, Watch()
    encoder, seconds = sv.SparseEncoder(rows.shape[1], DIMENSION, SEED), []
    began = time.monotonic()
    watch.begin("fit")
    head = None if checkpoint is None else checkpoint / "head"
    if head is not None and head.exists():
        encoder = sv.SparseEncoder.load(head)
    else:
        encoder.fit(rows, sample, budget=A, on_step=watch, checkpoint=checkpoint, device=device)
        if head is not None:
            encoder.save(head)
    seconds.append(time.monotonic() - began)
    watch.begin("refine")
    codes = encoder.refine(rows, sample, on_step=watch, checkpoint=checkpoint, device=device)
    seconds.append(time.monotonic() - began - seconds[0])
    watch.begin("")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    if checkpoint is not None:
        encoder.save(checkpoint / "refined")
    queries = queries[:ASKED]
    found = evaluate(rows, queries, codes, encoder.encode_query(queries))
    return {
        "documents": name,
        "learned on": learned_on(device),
        "fit s": seconds[0],
        "refine s": seconds[1],
        "R10": found.recall_10,
        "95 %": list(found.recall_10_interval or ()),
        "@100": found.recall_10_at_100,
        "nnz": codes.nnz / len(codes),
        "F": found.flops,
        "rows MB": rows.nbytes // 2**20,
        "peak MB": peak,
        "stages": watch.stages,
        "card": str(encoder.figures),
    }


def learned_on(device: str) -> str:
    return machine() if device == "cpu" else f"{torch.cuda.get_device_name(device)} beside {machine()}"


def written(found: list[dict[str, Any]]) -> None:
    whole = table(COLUMNS, [[_cell(row[name]) for name in COLUMNS] for row in found])
    stages = [
        f"Stages of {row['documents']} on {row['learned on']}:\n\n"
        + table(("stage", "s", "peak MB"), [(name, *numbers) for name, numbers in row["stages"].items()])
        + (f"\n{remark}" if (remark := REMARKS.get(row["documents"])) else "")
        + f"\nIts card: {row['card']}\n"
        for row in found
    ]
    keep("large", str(__doc__), [whole, *stages], found, "what each row names")


def _cell(value: Any) -> Any:
    return "-".join(f"{number:.3f}" for number in value) if isinstance(value, list) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    if not (options.data / "debian12").is_dir():
        parser.error(f"{options.data} holds no debian12: nothing to measure; name the folder of the real sets")
    if options.texts is None:
        data = copies(options.data, options.documents)
        kind = "copies" if len(data.documents) > 20_000 else "descriptions"
    else:
        data, kind = Texts.load(options.data, options.documents, options.texts), "texts"
    row = measured(f"{len(data.documents):,} {kind}", data, options.checkpoint, options.device)
    file = RESULTS / "large.json"
    kept = json.loads(file.read_text())["rows"] if file.exists() else []
    others = [other for other in kept if any(other[name] != row[name] for name in ("documents", "learned on"))]
    written(sorted([*others, row], key=lambda other: int(other["rows MB"])))


if __name__ == "__main__":
    main()
