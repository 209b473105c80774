"""`completion`: the script that lets a shell complete commands, options and statuses."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from asyncjobs.cli.framework import AppCommand, help_text

SHELLS = ("bash", "zsh", "fish")


def _print_script(shell: str) -> None:
    """Print the completion script for SHELL.

    Examples:
        eval "$(asyncjobs completion bash)"
        asyncjobs completion fish > ~/.config/fish/completions/asyncjobs.fish
    """
    maker = get_completion_class(shell)
    assert maker is not None
    root = click.get_current_context().find_root().command
    click.echo(maker(root, {}, "asyncjobs", "_ASYNCJOBS_COMPLETE").source())


completion = click.command(
    "completion",
    cls=AppCommand,
    help=help_text(_print_script.__doc__ or ""),
    short_help="Print the completion script of a shell.",
)(click.argument("shell", type=click.Choice(SHELLS))(_print_script))
