"""The command line: the only place that prints, draws progress, or reads the environment."""

import sys

__all__ = ["main"]


def main() -> None:
    try:
        from sparsevec.cli.app import app
    except ModuleNotFoundError as error:
        sys.exit(f"the command line needs {error.name}; install it with: pip install 'sparsevec[cli]'")
    app()
