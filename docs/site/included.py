"""Writes a file of the repository into the page that asks for it; below a page's own heading, two levels lower. A hook.

A mark with "the rest of" stands for what is in a folder and not on the page yet. So a table on a page is the file that
a benchmark wrote, and nobody copies figures.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_MARK = re.compile(r"^<!-- include: (\S+) -->$", re.MULTILINE)
_REST = re.compile(r"^<!-- include the rest of: (\S+) -->$", re.MULTILINE)
_HEADING = re.compile(r"^(#+ )", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page, with the file that each mark names in the place of the mark."""
    named = set(_MARK.findall(markdown))
    markdown = _REST.sub(
        lambda found: "\n".join(f"<!-- include: {path} -->" for path in _rest(found[1], named)), markdown
    )
    below = re.search(r"^# ", markdown, re.MULTILINE) is not None
    return _MARK.sub(lambda found: _lower(_text(found[1])) if below else _text(found[1]), markdown)


def _rest(folder: str, named: set[str]) -> list[str]:
    found = (str(path.relative_to(ROOT)) for path in sorted((ROOT / folder).rglob("*.md")))
    return [path for path in found if path not in named]


def _text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def _lower(text: str) -> str:
    """The same, its headings two levels lower."""
    parts = re.split(r"(^```.*?^```$)", text, flags=re.DOTALL | re.MULTILINE)  # every other one is code
    return "".join(part if at % 2 else _HEADING.sub(r"##\1", part) for at, part in enumerate(parts))
