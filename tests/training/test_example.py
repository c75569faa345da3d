"""`examples/own_network.py` runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_network.py"


def test_somebody_elses_network_is_trained_and_searched_with_every_answer_exact(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", str(EXAMPLE)]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    found, chance = (int(share) for share in re.findall(r"(\d+)%", said.splitlines()[-1]))
    assert "hits exact" in said
    assert chance == 5
    assert found > 4 * chance
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) < 60
