"""The embedded engine under an editor and kill -9; servers: tests/integration/test_examples.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.live.embedded import hammer


@pytest.mark.slow
@pytest.mark.qdrant
def test_an_embedded_engine_keeps_every_edit_while_its_process_is_killed_ten_times(tmp_path: Path) -> None:
    told = hammer(tmp_path, int(os.environ.get("SPARSEVEC_LIVE_DOCUMENTS", "2000")), kills=10)
    print(told)
    assert (told["revived"], told["lost"], told["changed"], told["left by undo"]) == (0, 0, 0, 0)
    assert (told["right"], told["exact"], told["as it was"]) == (1, True, True)
