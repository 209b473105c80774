"""`trace` and `tail`: one log byte for byte, or many as they grow."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import click

import asyncjobs
from asyncjobs.cli import records
from asyncjobs.cli.codes import ExitCode, UsageError, explain
from asyncjobs.cli.framework import (
    Session,
    allow_empty_option,
    command,
    filter_options,
    json_option,
    targets_argument,
)
from asyncjobs.cli.params import FOLDER, INTERVAL, MOMENT, SPAN, STATUS
from asyncjobs.cli.sections import SectionFilter
from asyncjobs.cli.silence import telling_of_silence
from asyncjobs.cli.syncing import OnEvent, show_sync, sync_result
from asyncjobs.cli.tailview import TailView
from asyncjobs.cli.targets import Filters, select_jobs
from asyncjobs.cli.text import plain, span

_OPTIONS = asyncjobs.TailOptions()

MOST_TRACES = 1_000
"""Logs `trace` prints one after the other at most; `sync` is made for more."""


@command("trace", short_help="Print logs, exact bytes into a pipe or file.")
@targets_argument()
@filter_options
@click.option("--follow", "-f", is_flag=True, help="Go on until the job ends.")
@click.option("--raw", is_flag=True, help="Exact bytes on a terminal too; a log can then drive the terminal.")
@allow_empty_option
async def trace(
    session: Session,
    targets: tuple[str, ...],
    filters: Filters,
    follow: bool,
    raw: bool,
    allow_empty: bool,
) -> int:
    """Print the log of each job of TARGET as far as it is written.

    Into a pipe or a file go the bytes GitLab has, all of them and nothing else. On a terminal
    colours stay; section markers and everything that could drive the terminal are taken out.

    Examples:
        asyncjobs trace group/app/-/jobs/8 > job.log
        asyncjobs trace group/app/-/pipelines/6 --failed
    """
    done = 0
    errors: list[BaseException] = []
    async with session.client() as client:
        found = await select_jobs(client, session.targets(targets, client), filters, most=MOST_TRACES)
        for job_ref, job in found.jobs:
            if len(found.jobs) > 1:
                session.news.say(f"==> {job_ref} {plain(job.name)} ({plain(job.status)})", style="bold")
            try:
                if follow or job.status.is_final:
                    printed = await _print_stream(session, client, job_ref, job, raw=raw)
                else:
                    printed = await _print_now(session, client, job_ref, raw=raw)
                done += 1
                if not printed:
                    why = "it was erased" if job.erased_at else f"the job is {plain(job.status)}"
                    session.news.say(f"{job_ref}: the log is empty; {why}")
            except asyncjobs.AsyncJobsError as error:
                errors.append(error)
                session.news.error(f"{job_ref}: {explain(error)}")
    session.report(found.failures)
    errors.extend(each.error for each in found.failures)
    return session.result(errors, done=done, allow_empty=allow_empty, what="job")


async def _print_now(session: Session, client: asyncjobs.Client, ref: asyncjobs.JobRef, *, raw: bool) -> bool:
    """A log as far as it is, to standard output; whether there was any."""
    data = await client.get_trace(ref.project, ref.job_id)
    if session.out.is_terminal and not raw:
        page = Page(session)
        await session.out.write(page.feed(data) + page.finish())
    else:
        await session.out.write(data)
    return bool(data)


class Page:
    """A log as it is shown on a terminal: without section markers, and with no power over the terminal."""

    def __init__(self, session: Session) -> None:
        self._sections = SectionFilter()
        self._safe = asyncjobs.TerminalFilter(color=session.out.colour)

    def feed(self, data: bytes) -> bytes:
        """What can be shown by now."""
        return self._safe.feed(self._sections.feed(data)).encode()

    def finish(self) -> bytes:
        """The rest."""
        return (self._safe.feed(self._sections.finish()) + self._safe.finish()).encode()


async def _print_stream(
    session: Session, client: asyncjobs.Client, ref: asyncjobs.JobRef, job: asyncjobs.Job, *, raw: bool
) -> bool:
    """Stream one log to standard output, to the end of the job; whether there was any."""
    printed = False
    page = Page(session) if session.out.is_terminal and not raw else None
    options = SETTLED if _is_settled(job) else asyncjobs.TailOptions()
    async with (
        telling_of_silence(client.statistics, session.news.warn),
        client.follow_trace(ref, options=options) as stream,
    ):
        async for chunk in stream:
            printed = printed or bool(chunk.data)
            await session.out.write(chunk.data if page is None else page.feed(chunk.data))
    if page is not None:
        await session.out.write(page.finish())
    return printed


SETTLED = asyncjobs.TailOptions(settle=0.0)
"""For a job that ended long ago: no last lines are on their way, so there is nothing to wait for."""

SETTLED_SECONDS = 600.0
"""After this long the runner has given up sending, and the server has put the log away."""


def _is_settled(job: asyncjobs.Job) -> bool:
    if job.finished_at is None or not job.status.is_final:
        return False
    return (datetime.now(UTC) - job.finished_at).total_seconds() > SETTLED_SECONDS


@attrs.frozen(kw_only=True)
class LineFilter:
    """Which lines of a log are shown."""

    include: tuple[re.Pattern[str], ...] = ()
    exclude: tuple[re.Pattern[str], ...] = ()

    def passes(self, text: str) -> bool:
        """At least one of `include` is found (when there is any), and none of `exclude`."""
        if self.include and not any(each.search(text) for each in self.include):
            return False
        return not any(each.search(text) for each in self.exclude)


def _pattern(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> tuple[re.Pattern[str], ...]:
    try:
        return tuple(re.compile(value) for value in values)
    except re.error as error:
        raise click.BadParameter(f"not a regular expression: {error}", ctx, param) from None


@command("tail", short_help="Follow the logs of many jobs together until they end.")
@targets_argument()
@click.option("--name", metavar="GLOB", help="Only jobs whose name matches, such as 'test*'.")
@click.option("--stage", metavar="GLOB", help="Only jobs whose stage matches.")
@click.option("--scope", "-s", type=STATUS, multiple=True, help="Only jobs with this status when first seen.")
@click.option("--children", is_flag=True, help="Follow child and downstream pipelines too.")
@click.option(
    "--tail",
    "-n",
    "tail_lines",
    metavar="N",
    type=click.IntRange(min=0),
    show_default="all",
    help="Begin with the last N lines of each log.",
)
@click.option("--since", type=MOMENT, help="Leave out lines before this: 10m, 2h, or a date and time.")
@click.option(
    "--include",
    "-i",
    multiple=True,
    metavar="REGEX",
    callback=_pattern,
    help="Only lines in which this regular expression is found; may be repeated, and one is enough.",
)
@click.option(
    "--exclude",
    "-e",
    multiple=True,
    metavar="REGEX",
    callback=_pattern,
    help="Leave out lines in which this is found; may be repeated.",
)
@click.option(
    "--timestamps", "-t", is_flag=True, help="Show when each line was written, where the runner says so."
)
@click.option(
    "--no-follow", is_flag=True, help="Show what is there now and stop; with --save, only jobs that are over."
)
@click.option("--ordered", is_flag=True, help="One job after the other instead of all merged.")
@click.option("--wait-for-start", is_flag=True, help="Wait for manual and scheduled jobs too.")
@click.option(
    "--interval",
    type=INTERVAL,
    show_default=span(_OPTIONS.min_interval),
    help="Shortest time between two looks at one job.",
)
@click.option(
    "--settle",
    type=SPAN,
    show_default=span(_OPTIONS.settle),
    help="How long to look for last lines after a job's end.",
)
@click.option(
    "--max-open",
    metavar="N",
    type=click.IntRange(min=1),
    show_default=str(_OPTIONS.max_open),
    help="Jobs followed at once; others wait their turn.",
)
@click.option(
    "--save",
    type=FOLDER,
    metavar="DIR",
    help="Write each log to a file of its own in this folder, exact bytes, instead of showing it.",
)
@click.option("--exit-status", is_flag=True, help="End with 1 when a job did not succeed.")
@json_option
@allow_empty_option
async def tail(
    session: Session,
    targets: tuple[str, ...],
    name: str | None,
    stage: str | None,
    scope: tuple[str, ...],
    children: bool,
    tail_lines: int | None,
    since: datetime | None,
    include: tuple[re.Pattern[str], ...],
    exclude: tuple[re.Pattern[str], ...],
    timestamps: bool,
    no_follow: bool,
    ordered: bool,
    wait_for_start: bool,
    interval: float | None,
    settle: float | None,
    max_open: int | None,
    save: Path | None,
    exit_status: bool,
    as_json: bool,
    allow_empty: bool,
) -> int:
    """Follow every job of TARGET until it ends, each line with its job in front.

    Of a project or group, the jobs that are alive; with --save, all jobs of each TARGET, and again
    tomorrow only the new ones. Jobs that start later join, a retried job is followed to its new
    try. Lines go to standard output; what comes (+), goes (-), changes (~) or fails (!) is said on
    standard error.

    Examples:
        asyncjobs tail group/app/-/pipelines/6
        asyncjobs tail group/app group/web --name 'test*' --tail 20
        asyncjobs tail group/app --no-follow --tail 20
        asyncjobs tail group/app/-/pipelines/6 --save logs/
        asyncjobs tail group/app --json | jq -r 'select(.event=="line").text'
    """
    more: dict[str, Any] = {}
    if interval is not None:
        more |= {"min_interval": interval, "max_interval": max(interval, 60.0)}
    if settle is not None:
        more["settle"] = settle
    if max_open is not None:
        more["max_open"] = max_open
    try:
        options = asyncjobs.TailOptions(
            follow=not no_follow,
            name=name,
            stage=stage,
            scope=scope or None,
            children=children,
            tail_lines=tail_lines,
            since=since,
            ordered=ordered,
            wait_for_start=wait_for_start,
            **more,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    lines = LineFilter(include=include, exclude=exclude)
    choosing = (tail_lines is not None, since, include, exclude, timestamps, exit_status)
    if save is not None and any(choosing):
        raise UsageError("--save keeps whole logs; --tail, --since, --include and the like are for showing")
    async with session.client() as client:
        if save is not None:
            return await _save(
                session, client, targets, save, options, as_json=as_json, allow_empty=allow_empty
            )
        return await follow(
            session,
            client,
            session.targets(targets, client),
            options,
            lines=lines,
            timestamps=timestamps,
            as_json=as_json,
            exit_status=exit_status,
            allow_empty=allow_empty,
        )


async def _save(
    session: Session,
    client: asyncjobs.Client,
    targets: tuple[str, ...],
    dest: Path,
    options: asyncjobs.TailOptions,
    *,
    as_json: bool,
    allow_empty: bool,
) -> int:
    """Keep the logs in files; the exit code."""
    asked = session.targets(targets, client)

    async def run(on_event: OnEvent) -> asyncjobs.SyncReport:
        return await client.save_traces(asked, dest, options=options, on_event=on_event)

    report = await show_sync(session, run, dest, as_json=as_json)
    return sync_result(session, report, allow_empty=allow_empty)


async def follow(
    session: Session,
    client: asyncjobs.Client,
    targets: list[asyncjobs.Target],
    options: asyncjobs.TailOptions,
    *,
    lines: LineFilter,
    timestamps: bool = False,
    as_json: bool = False,
    exit_status: bool = False,
    allow_empty: bool = False,
) -> int:
    """Show the events of one tail until it ends; the exit code."""
    view = TailView(
        terminal=session.out.is_terminal,
        colour=session.out.colour,
        news_colour=session.news.colour,
        timestamps=timestamps,
        show_projects=len({getattr(each, "project", each) for each in targets}) > 1
        or any(isinstance(each, asyncjobs.GroupRef) for each in targets),
    )
    finished, unhappy = 0, 0
    errors: list[BaseException] = []
    async with (
        telling_of_silence(client.statistics, session.news.warn),
        client.tail(targets, options=options) as events,
    ):
        try:
            async for event in events:
                await _show(session, view, lines, event, as_json=as_json)
                match event:
                    case asyncjobs.JobFinished():
                        finished += 1
                        unhappy += event.job.status not in {"success", "skipped"}
                    case asyncjobs.TailPaused():
                        # Nobody knows yet how it ends, and --exit-status asks for success.
                        finished += 1
                        unhappy += 1
                    case asyncjobs.TailFailed():
                        errors.append(event.error)
        except asyncjobs.FanOutError as error:
            session.report(error.failures)
            errors.extend(error.exceptions)
    # Of these only what is alive is followed, and whoever meant a job that is over should learn why.
    wide = any(isinstance(each, asyncjobs.ProjectRef | asyncjobs.GroupRef) for each in targets)
    what = "running or waiting job" if wide else "job"
    code = session.result(errors, done=finished, allow_empty=allow_empty, what=what)
    if code == ExitCode.OK and exit_status and unhappy:
        return ExitCode.FAILED
    return code


async def _show(
    session: Session, view: TailView, lines: LineFilter, event: asyncjobs.TailEvent, *, as_json: bool
) -> None:
    """One event to the stream it belongs to."""
    if isinstance(event, asyncjobs.LogLine):
        if not lines.passes(event.text):
            return
        if as_json:
            await session.record(records.tail_event(event))
        else:
            await session.out.write(view.line(event).encode())
        return
    if as_json:
        await session.record(records.tail_event(event))
    if not as_json or isinstance(event, asyncjobs.TailFailed):
        _say(session, view, event)


def _say(session: Session, view: TailView, event: asyncjobs.TailEvent) -> None:
    text = view.news(event)
    if text is not None and (not session.news.quiet or isinstance(event, asyncjobs.TailFailed)):
        session.news.write(text)
