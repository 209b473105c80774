"""Writes the list of flags in docs/command.md from the command itself: `python -m tests.unit.cli.reference`.

The test beside it fails when the list there is not the one this would write.
"""

from __future__ import annotations

from pathlib import Path

import click

from asyncjobs.cli.app import app
from asyncjobs.cli.framework import help_rows

COMMAND = Path(__file__).parents[3] / "docs" / "command.md"
BEGIN = "<!-- flags: written by `python -m tests.unit.cli.reference` -->"
END = "<!-- end of flags -->"


def flags() -> str:
    """The whole list in Markdown."""
    blocks = [_table("Every command", app, app.global_params)]
    for name, command in app.commands.items():
        taken = set(getattr(command, "global_params", ()))
        own = [each for each in command.params if isinstance(each, click.Option) and each not in taken]
        usage = " ".join(each.make_metavar(click.Context(command)) for each in _arguments(command))
        blocks.append(_table(f"`{' '.join(filter(None, ('asyncjobs', name, usage)))}`", command, own))
    return "\n".join(blocks)


def _arguments(command: click.Command) -> list[click.Argument]:
    return [each for each in command.params if isinstance(each, click.Argument)]


def _table(title: str, command: click.Command, options: list[click.Option]) -> str:
    lines = [f"**{title}**", ""]
    rows = help_rows(options, click.Context(command))
    if rows:
        lines += ["| Flag | What it does |", "|---|---|"]
        lines += [f"| `{_cell(flag)}` | {_cell(text)} |" for flag, text in rows]
    else:
        lines.append("No flags of its own.")
    return "\n".join([*lines, ""])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("*", "\\*").replace("{", "&#123;")


def updated(text: str) -> str:
    """The page with the list as it is now."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n\n{flags()}\n{END}{tail}"


if __name__ == "__main__":
    COMMAND.write_text(updated(COMMAND.read_text(encoding="utf-8")), encoding="utf-8")
