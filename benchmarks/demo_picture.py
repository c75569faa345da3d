"""Draws what `sparsevec demo` prints as docs/images/demo.svg, for the README.

python -m benchmarks.demo_picture
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

TARGET = Path(__file__).parents[1] / "docs/images/demo.svg"
WIDTH = 112


def main(folder: str = ".") -> None:
    colours = {"TTY_COMPATIBLE": "1", "TTY_INTERACTIVE": "0", "COLUMNS": str(WIDTH), "FORCE_COLOR": "1"}
    command = [str(Path(sys.executable).with_name("sparsevec")), "demo"]
    told = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | colours,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    console.print(Text.from_ansi(told.stdout))
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    console.save_svg(str(TARGET), title="sparsevec demo")


if __name__ == "__main__":
    main(*sys.argv[1:])
