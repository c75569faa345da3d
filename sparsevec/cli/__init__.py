"""The command line: the only place that prints, draws progress, or reads the environment."""

import io
import sys

__all__ = ["main"]


def main() -> None:
    try:
        _run()
    except KeyboardInterrupt:  # while it loads: a command says itself that it was stopped
        sys.exit(130)


def _run() -> None:
    try:
        from sparsevec.cli.app import app
    except ModuleNotFoundError as error:
        sys.exit(f"the command line needs {error.name}; install it with: pip install 'sparsevec[cli]'")
    for stream in (sys.stdout, sys.stderr):  # a terminal of another alphabet gets escapes, not a traceback
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app()
