"""A node that sparsevec.testing starts leaves nothing behind, however it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sparsevec.testing.engines import ENGINES
from sparsevec.testing.nodes import Node, Release, Unavailable, jdk

STARTER = """
import signal
from sparsevec.testing.engines import ENGINES
from sparsevec.testing.nodes import Node
node = Node(ENGINES["opensearch3"].release)
node.launch()
print(node.folder, flush=True)
signal.pause()
"""


@pytest.fixture(scope="module")
def release() -> Release:
    release = ENGINES["opensearch3"].release
    assert release is not None
    try:
        jdk(release.java)
        release.unpacked()
    except Unavailable as error:
        pytest.skip(str(error))
    return release


def test_a_node_that_is_stopped_leaves_nothing_behind(release: Release) -> None:
    with Node(release) as node:
        node.launch()
        assert processes(node.folder)
    assert not node.folder.exists()
    assert not processes(node.folder)


def test_a_node_whose_test_run_is_killed_leaves_nothing_behind(release: Release) -> None:
    with subprocess.Popen([sys.executable, "-c", STARTER], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        folder = Path(run.stdout.readline().strip())
        assert processes(folder)
        run.send_signal(signal.SIGKILL)
    eventually(lambda: not folder.exists() and not processes(folder))


def processes(folder: Path) -> list[str]:
    """That mention the folder."""
    shown = subprocess.run(["ps", "-wweo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return [line for line in shown.splitlines() if str(folder) in line]


def eventually(holds: Callable[[], bool]) -> None:
    """Until it does; a test's own time limit ends the wait."""
    while not holds():
        time.sleep(0.05)
