"""The tables, as text: every row that was measured, and what the paper claims beside what these rows say."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.paper.claims import answers
from benchmarks.paper.measure import Row

__all__ = ["SAID", "brief", "brief_columns", "cells", "columns", "lines", "markdown"]

SAID = {True: "yes", False: "no", None: "cannot tell"}


def columns(ks: Sequence[str]) -> list[str]:
    names = ["", "", *(f"P@{k}" for k in ks), "mAP@100", "F", "operations", "nnz doc / query", "R_sub", "dead"]
    return [*names, "longest list", "touched", "bytes", "µs a query", "train s"]


def cells(row: Row) -> list[str]:
    """One row, in the order of `columns`."""
    lengths = "" if row.nnz is None else f"{row.nnz:.1f} / {_said(row.query_nnz, '.1f')}"
    setting = row.setting if row.weight is None or "λ" in row.setting else f"{row.setting} (λ={row.weight:.3g})"
    quality = [*(f"{value:.3f}" for value in row.precision.values()), _said(row.average_precision, ".3f")]
    prices = [f"{row.multiplications:.3g}", f"{row.operations:.3g}", lengths, _said(row.r_sub, ".2f")]
    lists = [_said(row.dead, "d"), _said(row.longest_list, ".3f"), _said(row.touched, ".3f")]
    return [
        row.method,
        setting,
        *quality,
        *prices,
        *lists,
        f"{row.bytes:.0f}",
        f"{row.microseconds:.0f}",
        _said(row.seconds, ".0f"),
    ]


def _said(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def brief_columns(ks: Sequence[str]) -> list[str]:
    return ["", "", *(f"P@{k}" for k in ks), "ops", "nnz", "R_sub", "µs"]


def brief(row: Row) -> list[str]:
    """One row for a terminal of eighty columns, in the order of `brief_columns`."""
    quality = [f"{value:.3f}" for value in row.precision.values()]
    costs = [f"{row.operations:.3g}", _said(row.nnz, ".0f"), _said(row.r_sub, ".2f"), f"{row.microseconds:.0f}"]
    return [row.method, row.setting, *quality, *costs]


def lines(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table in Markdown."""
    return ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows)]


def markdown(name: str, about: str, rows: Sequence[Row], queries: int, machine: str) -> str:
    """The page of one collection."""
    ks = list(rows[0].precision)
    claims = [[answer.claim, SAID[answer.holds], answer.figures] for answer in answers(rows, ks[0], queries)]
    return "\n".join(
        [
            f"# {name}",
            "",
            about,
            "",
            *lines(columns(ks), [cells(row) for row in rows]),
            "",
            "## What the paper claims, and what these rows say",
            "",
            *lines(["claim", "here", "figures"], claims),
            "",
            machine,
            "",
        ]
    )
