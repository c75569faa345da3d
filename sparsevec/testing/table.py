"""The table of which backend passed which clause, collected from the reports of a run."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path

import pytest

__all__ = ["Table"]

_CLAUSES = [f"C{number}" for number in range(1, 22)]
_HEAD = """\
# Which backend passes which clause

Written by the conformance suite (`pytest tests/conformance --conformance-table=docs/conformance.md`). The clauses stand
in `sparsevec/contract/adapter.py`; `-async` is the asynchronous adapter, held to the same tests.

"""
_FOOT = """
A figure is the number of tests passed. ✗: so many failed. †: so many are known to fail, for a reason that
`pytest -rx` shows. –: the clause does not apply to the backend. ‡: this backend could not be had where this was
written; its row is of an earlier run. One that never could is not listed.
"""
_EARLIER = " ‡"


class Table:
    """Counts outcomes by backend and clause."""

    def __init__(self) -> None:
        self._cells: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))

    def record(self, backend: str, clause: str, report: pytest.TestReport) -> None:
        """One phase of one test; a failure outside the call counts as one, a success there as nothing."""
        if report.when == "call" or not report.passed:
            outcome = "known" if hasattr(report, "wasxfail") else report.outcome
            self._cells[backend][clause][outcome] += 1

    def write(self, path: str | os.PathLike[str]) -> None:
        """To a Markdown file, which is replaced; but it keeps the rows of backends that were all skipped this time."""
        file = Path(path)
        earlier = _rows(file.read_text(encoding="utf-8")) if file.exists() else {}
        file.write_text(_HEAD + "\n".join(self._lines(earlier)) + "\n" + _FOOT, encoding="utf-8")

    def _lines(self, earlier: Mapping[str, str]) -> list[str]:
        lines = ["| backend | " + " | ".join(_CLAUSES) + " |", "|---" * (1 + len(_CLAUSES)) + "|"]
        for backend, cells in self._cells.items():
            if any(outcome != "skipped" for cell in cells.values() for outcome in cell):
                lines.append(f"| {backend} | " + " | ".join(_cell(cells[clause]) for clause in _CLAUSES) + " |")
            elif backend in earlier:
                lines.append(f"| {backend}{_EARLIER} | {earlier[backend]}")
        return lines


def _rows(text: str) -> dict[str, str]:
    """By backend what stands in a table of the same clauses."""
    rows = [line[2:].partition(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {name.removesuffix(_EARLIER): cells for name, _, cells in rows if cells.count("|") == len(_CLAUSES)}


def _cell(counts: Counter[str]) -> str:
    parts = [f"{counts['failed']} ✗" if counts["failed"] else "", f"{counts['known']} †" if counts["known"] else ""]
    return " ".join([*([str(counts["passed"])] if counts["passed"] else []), *filter(None, parts)]) or "–"
