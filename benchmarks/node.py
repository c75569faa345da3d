"""A node to measure on: from Maven Central, with 2 GB of heap and its JVM's options as the engine ships them.

    python -m benchmarks.node elasticsearch9

Those that the tests start compile Java less well and know no vector instructions, so that they start fast; milliseconds
of such a node, and of a dense index above all, are not what a user sees. Prints its url, and stops when interrupted.
"""

from __future__ import annotations

import signal
from contextlib import suppress
from typing import Annotated

import typer

from sparsevec.testing.engines import ENGINES
from sparsevec.testing.nodes import Node, Unavailable

RELEASES = {name: engine.release for name, engine in ENGINES.items() if engine.release is not None}


def main(engine: Annotated[str, typer.Argument(help=f"one of {', '.join(RELEASES)}")]) -> None:
    if (release := RELEASES.get(engine)) is None:
        raise typer.BadParameter(f"found {engine!r}, expected one of {', '.join(RELEASES)}")
    try:
        with suppress(KeyboardInterrupt), Node(release, shipped=True).start() as node:
            print(node.url, flush=True)
            signal.pause()
    except Unavailable as error:
        print(error)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    typer.run(main)
