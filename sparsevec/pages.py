"""What all our pages have in common: a template filled, one style, cards, legends and tables. Each page is one HTML
file that needs nothing beside itself, readable in light and dark and on a phone."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from string import Template

from sparsevec.errors import printable

__all__ = ["cards", "filled", "legend", "table", "text"]


def filled(package: str, name: str, **words: str) -> str:
    """The template `name` of a package; `words` are HTML already."""
    style = (files("sparsevec") / "pages.css").read_text(encoding="utf-8")
    return Template((files(package) / name).read_text(encoding="utf-8")).substitute(words, style=style)


def text(words: object) -> str:
    """Escaped, for a person: line breaks stay, other control characters stand as escapes."""
    return html.escape("\n".join(printable(line, 10_000) for line in str(words).split("\n")))


def cards(figures: Iterable[tuple[str, str]]) -> str:
    """Figures, each with the words under it."""
    return "".join(f"<div><b>{text(figure)}</b><span>{text(words)}</span></div>" for figure, words in figures)


def legend(colours: Mapping[str, str]) -> str:
    """Names, each with its colour."""
    return "".join(f'<li><i style="background:{colour}"></i>{text(name)}</li>' for name, colour in colours.items())


def table(header: Sequence[str], rows: Iterable[Sequence[str]], taken: int | None = None) -> str:
    """Each cell knows its column, so that a phone can show a row as a block; `taken`: the number of a row to mark."""
    head = "".join(f"<th>{text(name)}</th>" for name in header)
    body = "".join(_row(header, row, number == taken) for number, row in enumerate(rows))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _row(header: Sequence[str], row: Sequence[str], taken: bool) -> str:
    cells = (f'<td data-label="{text(name)}">{text(cell)}</td>' for name, cell in zip(header, row, strict=True))
    return f"<tr{' class=taken' if taken else ''}>{''.join(cells)}</tr>"
