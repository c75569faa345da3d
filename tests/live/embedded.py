"""An application and a retrofit in one embedded engine, which one process at a time can open: so the editor is a thread
of the process that retrofits, through the same adapter, and kill -9 ends both in mid-write.

    python -m tests.live.embedded FOLDER N RATE [--last]

The editor does 50 edits a second and writes each into `edits.jsonl` before it does it; after a kill the last is done
again. With `--last` the process goes on to the end: the editor stops, one catch-up, and a line of JSON says how the
collection differs from what was written down. `hammer` runs it all.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import sparsevec as sv
from tests.live.shops import WIDTH, dense_rows

DIMENSION, EDITS = 256, 50  # edits a second
Documents = dict[int, dict[str, Any]]


def document(number: int, row: Any) -> dict[str, Any]:
    return {"title": f"product {number}", "brand": f"b{number % 4}", "emb": row.tolist()}


class Editor(threading.Thread):
    """An application: edits of a field, of the dense row, of whole documents, removals and additions, a fourth each."""

    def __init__(self, adapter: sv.Adapter, log: Path, n: int) -> None:
        super().__init__(daemon=True)
        self._adapter, self._log, self._n = adapter, log, n
        self.truth: Documents = {number: document(number, row) for number, row in enumerate(dense_rows(n))}
        self.edits, self._ended = 0, threading.Event()
        last: tuple[int, Any, bool] | None = None
        for line in log.read_text().splitlines() if log.exists() else []:
            last = tuple(json.loads(line))
            self._note(*last)
        if last is not None:
            self._apply(*last)

    def _note(self, number: int, fields: Any, whole: bool) -> None:
        self.edits += 1
        if fields is None:
            self.truth.pop(number, None)
        else:
            self.truth[number] = fields if whole else {**self.truth[number], **fields}

    def _apply(self, number: int, fields: Any, whole: bool) -> None:
        if whole or fields is None:
            self._adapter.delete([number])
        if fields is not None:
            kept = self._adapter.fetch([number]).vectors
            empty = sv.SparseVectors([0, 0], [], [], DIMENSION)
            self._adapter.upsert([number], kept if len(kept) else empty, [fields])

    def _drawn(self, rng: random.Random, rows: Any) -> Iterator[tuple[int, Any, bool]]:
        number, row, kind = rng.randrange(self._n), rows[rng.randrange(len(rows))], rng.randrange(4)
        if number not in self.truth:
            return
        if kind == 0:
            yield number, {"title": f"edited {self.edits}"}, False
        elif kind == 1:
            yield number, {"emb": row.tolist()}, False
        elif kind == 2:
            yield number, document(self.edits, row), True
        else:
            yield number, None, True
            yield self._n + self.edits, document(self.edits, row), True

    def run(self) -> None:
        rng, rows, began, first = random.Random(self.edits), dense_rows(10_000, seed=2), time.monotonic(), self.edits
        with self._log.open("a") as log:
            while not self._ended.is_set():
                for edit in self._drawn(rng, rows):
                    log.write(json.dumps(edit) + "\n")
                    log.flush()
                    self._note(*edit)
                    self._apply(*edit)
                time.sleep(max(0.0, began + (self.edits - first) / EDITS - time.monotonic()))

    def stop(self) -> None:
        self._ended.set()
        self.join()


def found(adapter: sv.Adapter) -> dict[int, bytes]:
    pages = list(adapter.scan(payloads=True))
    shown = [(int(id_), payload) for page in pages for id_, payload in zip(page.ids, page.payloads or (), strict=True)]
    assert len({number for number, _ in shown}) == len(shown)
    return as_bytes(dict(shown))


def as_bytes(documents: Any) -> dict[int, bytes]:
    """Dense rows as float32: the engine reads its own JSON back with the last bit of a float64 off."""
    rows = {number: np.array(fields["emb"], np.float32).tobytes().hex() for number, fields in documents.items()}
    plain = {number: {**fields, "emb": rows[number]} for number, fields in documents.items()}
    return {number: json.dumps(fields, sort_keys=True).encode() for number, fields in plain.items()}


def work(folder: Path, n: int, rate: float, *, last: bool) -> None:
    with sv.connect(f"qdrant+edge:{folder / 'edge'}") as adapter:
        editor = Editor(adapter, folder / "edits.jsonl", n)
        editor.start()
        sv.retrofit(adapter, model=folder / "model", dense_field="emb", rate=rate, check=False)
        if not last:
            time.sleep(600)  # until we are killed
        editor.stop()
        caught = sv.catch_up(adapter, model=folder / "model")
        settled = sv.retrofit(adapter, model=folder / "model", dense_field="emb")
        truth, there = as_bytes(editor.truth), found(adapter)
        undone = sv.undo_retrofit(adapter, model=folder / "model")
        told = {
            "edits": editor.edits,
            "documents": len(truth),
            "revived": len(there.keys() - truth.keys()),
            "lost": len(truth.keys() - there.keys()),
            "changed": sum(there[number] != truth[number] for number in there.keys() & truth.keys()),
            "caught up": str(caught.look),
            "right": settled.looks[0].right / settled.looks[0].looked,
            "exact": settled.verified is not None and settled.verified.exact,
            "left by undo": undone.left,
            "as it was": found(adapter) == truth,
        }
    print(json.dumps(told))


def hammer(folder: Path, n: int, kills: int) -> dict[str, Any]:
    """A retrofit of `n` documents that is killed so many times; what the last process said."""
    rows = dense_rows(n)
    encoder = sv.SparseEncoder(WIDTH, DIMENSION).fit(rows[:600], budget=sv.Budget(nnz=6, flops=0.5))
    encoder.save(folder / "model")
    with sv.connect(f"qdrant+edge:{folder / 'edge'}") as adapter:
        adapter.create(DIMENSION)
        for start in range(0, n, 1000):
            some = rows[start : start + 1000]
            empty = sv.SparseVectors(np.zeros(len(some) + 1, np.int64), [], [], DIMENSION)
            numbers = range(start, start + len(some))
            adapter.upsert(numbers, empty, [document(number, rows[number]) for number in numbers])
    command = [sys.executable, "-m", "tests.live.embedded", str(folder), str(n), str(max(200, n // 10))]
    root = Path(__file__).parents[2]
    for kill in range(kills):
        running = subprocess.Popen(command, cwd=root)
        while running.poll() is None and written(folder, running.pid) < min(n, 500 + 137 * kill):
            time.sleep(0.05)
        running.kill()
        assert running.wait() == -signal.SIGKILL, f"it had ended before kill {kill + 1}"
    ended = subprocess.run([*command, "--last"], cwd=root, check=True, stdout=subprocess.PIPE, text=True)
    told: dict[str, Any] = json.loads(ended.stdout)
    return told


def written(folder: Path, pid: int) -> int:
    """What the status file says of that process; a catch-up of everything counts as well."""
    try:
        status = json.loads((folder / "model/status.json").read_text())
    except FileNotFoundError:
        return 0
    return status.get("written", 1_000_000 if status["stage"] == "done" else 0) if status["pid"] == pid else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("n", type=int)
    parser.add_argument("rate", type=float)
    parser.add_argument("--last", action="store_true")
    given = parser.parse_args()
    work(given.folder, given.n, given.rate, last=given.last)
