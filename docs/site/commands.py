"""Writes the command line's own help into the page that asks for it; a hook of mkdocs."""

from __future__ import annotations

import re
from typing import Any

import typer.main

from sparsevec.cli.app import app

_MARK = "<!-- commands -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page, with every command in the place of the mark."""
    return markdown.replace(_MARK, reference()) if _MARK in markdown else markdown


def reference() -> str:
    """Every command: what it does, its arguments and its options."""
    group: Any = typer.main.get_command(app)
    return "\n".join(_command(name, command) for name, command in group.commands.items())


def _command(name: str, command: Any) -> str:
    said = re.sub(r"^```$", "```sh", (command.help or "").strip(), count=1, flags=re.MULTILINE)
    rows = [_row(parameter) for parameter in command.params]
    table = "\n".join(["| option | what it says |", "|---|---|", *rows]) if rows else ""
    return f"## sparsevec {name}\n\n{said}\n\n{table}\n"


def _row(parameter: Any) -> str:
    if parameter.param_type_name == "option":
        names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    else:
        names = f"`{parameter.metavar or parameter.name.upper()}`"
    said = (getattr(parameter, "help", None) or "").replace("|", "\\|")
    default = parameter.default
    shown = "" if default in (None, False, ()) or parameter.required else f" Default: `{default}`."
    return f"| {names} | {said}{shown} |"
