"""The command as a whole: its list of commands, its version, and what happens around any of them."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from collections.abc import Sequence
from typing import TextIO

import click

import asyncjobs
from asyncjobs.cli.codes import ExitCode, exit_code, explain
from asyncjobs.cli.commands.actions import cancel, erase, keep, play, retry
from asyncjobs.cli.commands.archives import download, sync
from asyncjobs.cli.commands.completion import completion
from asyncjobs.cli.commands.demo import demo
from asyncjobs.cli.commands.listing import jobs, show
from asyncjobs.cli.commands.logs import tail, trace
from asyncjobs.cli.commands.server import fake_server
from asyncjobs.cli.commands.waiting import wait
from asyncjobs.cli.framework import AppGroup
from asyncjobs.cli.output import News, abandon_stdout
from asyncjobs.cli.text import plain

EPILOG = """\
A TARGET is group/app, group/app/-/pipelines/6, group/app/-/jobs/8, groups/group, the web address of
one of them, or - for targets on standard input.

A SPAN is 90s, 15m or 1h30m; WHEN is a span before now, or a date or time; a SIZE is 500k, 20M or 1.5G.

The token comes from GITLAB_TOKEN, GITLAB_PRIVATE_TOKEN, GITLAB_OAUTH_TOKEN or CI_JOB_TOKEN, the
server from GITLAB_URL, CI_SERVER_URL or CI_API_V4_URL.

Exit codes: 0 all well, 1 something failed (the rest was done), 2 usage, 3 not authorised, 4 nothing
matched, 5 disk full, 130 and 143 stopped by a signal.
"""


def _print_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(f"asyncjobs {asyncjobs.__version__} (Python {platform.python_version()})")
        ctx.exit()


@click.group(
    cls=AppGroup,
    name="asyncjobs",
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=False,
    invoke_without_command=True,
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version.",
)
@click.pass_context
def app(ctx: click.Context) -> None:
    """GitLab jobs, many at once: list them, tail their logs, sync their artifacts.

    Try `asyncjobs demo`: it needs no account and no network.
    """
    if ctx.invoked_subcommand is None:
        # Help was not asked for, so it is no data and no success.
        click.echo(ctx.get_help(), err=True)
        ctx.exit(ExitCode.USAGE)


app.add("Look", jobs, show, trace, tail, wait)
app.add("Fetch", download, sync)
app.add("Change", cancel, retry, play, erase, keep)
app.add("Try", demo, fake_server, completion)


_BY_SIGNAL = {ExitCode.INTERRUPTED, ExitCode.TERMINATED}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code. Says everything there is to say on standard error."""
    _complete_streams()
    for stream in (sys.stdout, sys.stderr):
        _survive_odd_names(stream)
    try:
        result = app.main(
            args=None if arguments is None else list(arguments), prog_name="asyncjobs", standalone_mode=False
        )
        # With `standalone_mode` off click gives the code of `ctx.exit`, or what the function returned.
        code = result if isinstance(result, int) else ExitCode.OK
        if code not in _BY_SIGNAL:
            # After a signal a thread may be stuck in a write and hold the stream's lock for ever.
            sys.stdout.flush()
    except click.ClickException as error:
        News(no_color="--no-color" in (sys.argv if arguments is None else arguments)).error(_usage(error))
        return ExitCode.USAGE if isinstance(error, click.UsageError) else error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    except OSError as error:
        abandon_stdout()
        code = exit_code(error)
        if code != ExitCode.BROKEN_PIPE:
            sys.stderr.write(f"asyncjobs: {explain(error)}\n")
    return code


def _usage(error: click.ClickException) -> str:
    """What click found wrong with the command line, in one line like every other error."""
    said = plain(error.format_message()).removesuffix(".")
    place = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "asyncjobs"
    return f"{said[:1].lower()}{said[1:]}{' See' if said.endswith(('?', ')')) else '; see'} `{place} --help`"


def _complete_streams() -> None:
    """A stream that the caller closed (`>&-`) is None in Python: give it one that says so when it is used.

    The numbers of closed streams are taken first, or the next socket would be standard output.
    News that nobody wants are lost, as was asked. Data that cannot be written are an error, with the
    system's own words for it, as with `cat >&-`: a null device that was opened for reading has them.
    """
    for name, mode in (("stdin", os.O_WRONLY), ("stdout", os.O_RDONLY), ("stderr", os.O_WRONLY)):
        if getattr(sys, name) is not None:
            continue
        opened = os.open(os.devnull, mode)
        if name != "stdin":
            setattr(sys, name, open(opened, "w"))  # noqa: PTH123, SIM115 - a descriptor; as long as the process


def _survive_odd_names(stream: TextIO) -> None:
    """A job's name that the terminal's encoding lacks is shown with marks, not with a traceback."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        with contextlib.suppress(OSError, ValueError):
            reconfigure(errors="backslashreplace")


def leave(code: int) -> None:
    """End the process after a signal, without waiting for threads that may be stuck in a write."""
    if code in _BY_SIGNAL:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
