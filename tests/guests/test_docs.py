"""The pages about guests and about many machines run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/how/guests.md"


def test_the_page_runs() -> None:
    code = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    exec(compile("\n".join(code), PAGE.name, "exec"), {"__name__": "guests"})
