"""The bridge between click and coroutines: one decorator, and help pages that keep global options apart.

A command is a coroutine function `async def f(session, **arguments) -> int`; its result is the
exit code. Everything it needs of the outside stands in its `Session`.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import inspect
import logging
import os
import re
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from difflib import get_close_matches
from typing import Any, TypeVar

import attrs
import click

import asyncjobs
from asyncjobs.cli import records
from asyncjobs.cli.codes import TOKEN_ADVICE, ExitCode, exit_code_of_many, explain
from asyncjobs.cli.output import News, Output
from asyncjobs.cli.params import STATUS
from asyncjobs.cli.runner import Runner
from asyncjobs.cli.settings import Settings, global_options, settings_of
from asyncjobs.cli.targets import Filters, read_target


@attrs.define
class Session:
    """One run of one command: its streams and settings."""

    settings: Settings
    out: Output
    news: News
    advice: str = ""
    """What is said after "stopped by SIGINT."; a command may know better once it knows its arguments."""

    def client(self) -> asyncjobs.Client:
        """A client for the configured GitLab; to be entered with `async with`."""
        return self.settings.client()

    def targets(self, texts: Iterable[str], client: asyncjobs.Client) -> list[asyncjobs.Target]:
        """The targets of the command line.

        Raises:
            UsageError: One is none, or is on another server.
        """
        return [read_target(text, client.url) for text in texts]

    async def record(self, fields: dict[str, Any]) -> None:
        """One JSON line on standard output."""
        await self.out.write(records.line(fields, terminal=self.out.is_terminal))

    def report(self, failures: Iterable[asyncjobs.TargetFailure]) -> None:
        """One line of error for each target that could not be read."""
        for failure in failures:
            bare = isinstance(failure.target, asyncjobs.ProjectRef) and isinstance(
                failure.target.project, int
            )
            missing = "a bare number is a project's; a job is group/app/-/jobs/8" if bare else ""
            self.news.error(f"{failure.target}: {explain(failure.error, missing=missing)}")

    def result(
        self, failures: Iterable[BaseException | None], *, done: int, allow_empty: bool, what: str
    ) -> ExitCode:
        """The exit code of a command that did *done* things and failed at some."""
        failed = list(failures)
        if failed:
            return exit_code_of_many(failed, done=done)
        if done or allow_empty:
            return ExitCode.OK
        self.news.warn(f"no {what} matched")
        return ExitCode.NOTHING_MATCHED


class AppCommand(click.Command):
    """A command that takes the global options too and lists them last."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.global_params = global_options()
        self.params.extend(self.global_params)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Own options first, global ones under their own heading."""
        write_options(self, ctx, formatter, self.global_params)


class AppGroup(click.Group):
    """The top: its own options are the global ones."""

    command_class = AppCommand

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.global_params = global_options()
        self.params.extend(self.global_params)
        self.headings: dict[str, str] = {}

    def add(self, heading: str, *commands: click.Command) -> None:
        """Add commands that are listed together under *heading*."""
        for command in commands:
            self.add_command(command)
            assert command.name is not None
            self.headings[command.name] = heading

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """In the order in which they were added, which is the order in which they are learnt."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; a typo is answered with the name that comes nearest."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = get_close_matches(args[0], self.commands, n=1)
            if not near or near[0] in error.format_message():  # newer releases of click say it themselves
                raise
            raise click.UsageError(f"{error.format_message()} Did you mean {near[0]!r}?", ctx) from None

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        formatter: click.HelpFormatter,
    ) -> None:
        """One block of commands for each heading."""
        blocks: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            blocks.setdefault(self.headings.get(name, "Commands"), []).append(
                (name, command.get_short_help_str(limit=100))
            )
        for heading, rows in blocks.items():
            with formatter.section(heading):
                formatter.write_dl(rows)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Commands first: that is what one looks for."""
        self.format_commands(ctx, formatter)
        write_options(self, ctx, formatter, self.global_params)


def write_options(
    command: click.Command,
    ctx: click.Context,
    formatter: click.HelpFormatter,
    global_params: list[click.Option],
) -> None:
    """The two blocks of options of a help page."""
    own = [
        param
        for param in command.get_params(ctx)
        if param not in global_params and not isinstance(param, click.Argument)
    ]
    for heading, params in (("Options", own), ("Global options", global_params)):
        rows = help_rows(params, ctx)
        if rows:
            with formatter.section(heading):
                formatter.write_dl(rows)


def help_rows(params: Iterable[click.Parameter], ctx: click.Context) -> list[tuple[str, str]]:
    """Each option with its text. Where click puts a default into parentheses, these go."""
    rows = (param.get_help_record(ctx) for param in params)
    return [(flag, _DEFAULT.sub(r"\1", text)) for flag, text in filter(None, rows)]


_DEFAULT = re.compile(r"(?<=\[default: )\((.*)\)(?=[;\]])")

Body = Callable[..., Awaitable[int]]
_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])


def command(name: str, *, advice: str = "", **more: Any) -> Callable[[Body], click.Command]:
    """Make a click command of a coroutine function.

    Args:
        name: As typed.
        advice: What is said after "stopped by SIGINT."
        more: For `click.command`.
    """

    def decorate(body: Body) -> click.Command:
        @functools.wraps(body)
        def invoke(**arguments: Any) -> None:
            ctx = click.get_current_context()
            if "-" in arguments.get("targets", ()):
                # Read before the event loop runs, so that Ctrl-C works while nothing comes.
                arguments["targets"] = tuple(expand_stdin(arguments["targets"], _read_stdin()))
            ctx.exit(run(settings_of(ctx), lambda session: body(session, **arguments), advice=advice))

        return click.command(name, cls=AppCommand, help=help_text(body.__doc__ or ""), **more)(invoke)

    return decorate


def help_text(docstring: str) -> str:
    """A docstring for click: a paragraph of examples keeps its lines."""
    paragraphs = inspect.cleandoc(docstring).split("\n\n")
    return "\n\n".join(f"\b\n{each}" if each.startswith("Examples:") else each for each in paragraphs)


def _read_stdin() -> Iterator[str]:
    if sys.stdin is None:
        raise click.UsageError("- stands for targets on standard input, but that is closed")
    try:
        yield from sys.stdin
    except UnicodeDecodeError:
        raise click.UsageError("- stands for targets on standard input, but that is no text") from None


def expand_stdin(texts: Iterable[str], stdin: Iterable[str]) -> Iterator[str]:
    """The words of the command line, with `-` standing for the lines of standard input.

    Empty lines there, and those that begin with `#`, are for people.
    """
    for text in texts:
        if text == "-":
            yield from (line.strip() for line in stdin if line.strip() and not line.lstrip().startswith("#"))
        else:
            yield text


def run(settings: Settings, body: Callable[[Session], Awaitable[int]], *, advice: str = "") -> int:
    """Run a command's coroutine with its streams; the exit code."""
    TOKEN_ADVICE.set(settings.token_advice(os.environ))
    session = Session(
        settings,
        Output(no_color=settings.no_color),
        News(no_color=settings.no_color, quiet=settings.quiet),
        advice,
    )

    async def work() -> int:
        return int(await _while_read(session.out, body(session)))

    handler = _log_to(session.news) if settings.verbose else None
    try:
        runner = Runner(session.news, tracebacks=settings.verbose > 1, advice=lambda: session.advice)
        return runner.run(work())
    finally:
        session.out.close()
        if handler is not None:
            logging.getLogger("asyncjobs").removeHandler(handler)


async def _while_read(out: Output, work: Awaitable[int]) -> int:
    """Do *work* as long as somebody reads its data: a log may be silent for an hour after `head` has left.

    Raises:
        BrokenPipeError: The reader of standard output went away first.
    """
    doing, leaving = asyncio.ensure_future(work), asyncio.ensure_future(out.abandoned())
    try:
        await asyncio.wait({doing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            return doing.result()
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
    finally:
        for each in (doing, leaving):
            each.cancel()
        await asyncio.gather(doing, leaving, return_exceptions=True)


def _log_to(news: News) -> logging.Handler:
    """Show the library's debug log, which it keeps free of secrets."""
    handler = logging.StreamHandler(news.stream)
    handler.setFormatter(logging.Formatter("%(asctime)s.%(msecs)03d %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("asyncjobs")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    return handler


def quiet_server_log(settings: Settings) -> None:
    """Keep the web server of the fake quiet: a client that leaves in the middle of an answer is no news."""
    if not settings.verbose:
        logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)


def targets_argument() -> Callable[[_Decorated], _Decorated]:
    """The words a command works on."""
    return click.argument("targets", metavar="TARGET...", nargs=-1, required=True)


def filter_options(function: Body) -> Body:
    """Which jobs of the targets are meant: four options that arrive as one value, `filters`."""

    @functools.wraps(function)
    def collect(
        *args: Any, scope: tuple[str, ...], failed: bool, ref: str | None, name: str | None, **more: Any
    ) -> Awaitable[int]:
        statuses = (*scope, "failed") if failed else scope
        return function(*args, filters=Filters(scope=statuses, ref=ref, name=name), **more)

    decorated: Body = collect
    for option in (
        click.option("--name", metavar="GLOB", help="Only jobs whose name matches, such as 'test*'."),
        click.option("--ref", metavar="REF", help="Only jobs of this branch or tag."),
        click.option("--failed", is_flag=True, help="Short for --scope failed."),
        click.option(
            "--scope", "-s", type=STATUS, multiple=True, help="Only jobs with this status; may be repeated."
        ),
    ):
        decorated = option(decorated)
    return decorated


allow_empty_option = click.option(
    "--allow-empty", is_flag=True, help="Finding nothing is fine: end with 0 instead of 4."
)
json_option = click.option("--json", "as_json", is_flag=True, help="JSON lines on standard output.")
