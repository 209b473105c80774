"""`cancel`, `retry`, `play`, `erase`, `keep`: calls that change jobs.

A job that is named is acted on. A pipeline, project or group stands for many, so it needs a filter
or a yes; what cannot be undone needs a yes in any case.
"""

from __future__ import annotations

import asyncio
import functools
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any, TextIO

import attrs
import click

import asyncjobs
from asyncjobs.cli import records
from asyncjobs.cli.codes import ExitCode, UsageError, explain
from asyncjobs.cli.framework import (
    Body,
    Session,
    allow_empty_option,
    command,
    filter_options,
    json_option,
    targets_argument,
)
from asyncjobs.cli.tables import job_line, job_words
from asyncjobs.cli.targets import Filters, Selection, select_jobs
from asyncjobs.cli.text import count, plain

AT_ONCE = 8
"""Calls under way at once; the server counts writes more strictly than reads."""

_LONGEST_ANSWER = 4096
"""Bytes a terminal gives as one line at most (termios(3))."""

MOST_JOBS = 1_000
"""Jobs one command changes at most."""

Changed = asyncjobs.Job | asyncjobs.Bridge
Act = Callable[[asyncjobs.Client, asyncjobs.JobRef], Awaitable[Changed]]

yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask.")


@attrs.frozen(kw_only=True)
class Wish:
    """What all commands that change jobs are asked: which jobs, and how to go about it."""

    targets: tuple[str, ...]
    filters: Filters
    yes: bool
    as_json: bool
    allow_empty: bool


def changing(function: Body) -> Body:
    """The argument and options of every command that changes jobs; they arrive as one value, `wish`."""

    @functools.wraps(function)
    def collect(
        *args: Any,
        targets: tuple[str, ...],
        filters: Filters,
        yes: bool,
        as_json: bool,
        allow_empty: bool,
        **more: Any,
    ) -> Awaitable[int]:
        wish = Wish(targets=targets, filters=filters, yes=yes, as_json=as_json, allow_empty=allow_empty)
        return function(*args, wish=wish, **more)

    decorated: Body = collect
    for option in (allow_empty_option, json_option, yes_option, filter_options, targets_argument()):
        decorated = option(decorated)
    return decorated


_CANCELABLE = (
    "created",
    "waiting_for_resource",
    "preparing",
    "waiting_for_callback",
    "pending",
    "running",
    "scheduled",
)
_NOTHING = "Nothing was changed."
_ADVICE = "What was sent before has happened; look with `asyncjobs jobs`."


async def act(
    session: Session,
    wish: Wish,
    *,
    verb: str,
    statuses: tuple[str, ...],
    call: Act,
    final: bool = False,
    needs_archive: bool = False,
    missing: str = "",
) -> int:
    """Do one thing to every job meant; the changed jobs on standard output; the exit code.

    Where a target stands for many jobs and no status was asked for, those with one of *statuses*
    are meant: the ones for which *verb* makes sense; with *needs_archive*, of these the ones that
    have one. With *final* it cannot be undone, so ask in any case. *missing* is the advice for
    a job that is not found.
    """
    filters = wish.filters
    done = 0
    errors: list[BaseException] = []
    async with session.client() as client:
        asked = session.targets(wish.targets, client)
        named = [each for each in asked if isinstance(each, asyncjobs.JobRef)]
        many: list[asyncjobs.Target] = [each for each in asked if not isinstance(each, asyncjobs.JobRef)]
        if filters.given:
            named, many = [], asked
        meant = {each.job_id: each for each in named}
        if many:
            by_name = {each.job_id for each in asked if isinstance(each, asyncjobs.JobRef)}

            def accept(job: asyncjobs.Job) -> bool:
                return not needs_archive or job.id in by_name or _has_archive(job)

            if not filters.scope and statuses:
                found = await _sensible(client, many, filters, statuses, accept)
            else:
                found = await select_jobs(client, many, filters, most=MOST_JOBS, accept=accept)
            session.report(found.failures)
            errors.extend(each.error for each in found.failures)
            if found.passed_over:
                session.news.say(f"{count(found.passed_over, 'job')} without an archive passed over")
            meant |= {ref.job_id: ref for ref, _ in found.jobs}
        chosen = list(meant.values())
        if chosen and (many or final) and not wish.yes and not await _agreed(verb, chosen):
            session.news.warn("nothing was done")
            return ExitCode.FAILED
        session.advice = _ADVICE
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(ref: asyncjobs.JobRef) -> tuple[asyncjobs.JobRef, Changed | asyncjobs.AsyncJobsError]:
            async with gate:
                try:
                    return ref, await call(client, ref)
                except asyncjobs.AsyncJobsError as error:
                    return ref, error

        tasks = [asyncio.ensure_future(one(ref)) for ref in chosen]
        try:
            for task in tasks:
                ref, changed = await task
                if isinstance(changed, asyncjobs.AsyncJobsError):
                    errors.append(changed)
                    session.news.error(f"{ref}: {explain(changed, missing=missing)}")
                    continue
                done += 1
                # A retry answers with the new job, which is what one wants to follow.
                new = asyncjobs.JobRef(ref.project, changed.id)
                if wish.as_json:
                    await session.record(records.job(new, changed))
                else:
                    await session.out.row(
                        job_line(new, changed), job_words(changed.status, new, changed.name)
                    )
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    return session.result(errors, done=done, allow_empty=wish.allow_empty, what="job")


def _has_archive(job: asyncjobs.Job) -> bool:
    return job.artifacts_file is not None or any(each.file_type == "archive" for each in job.artifacts)


async def _sensible(
    client: asyncjobs.Client,
    targets: list[asyncjobs.Target],
    filters: Filters,
    statuses: tuple[str, ...],
    accept: Callable[[asyncjobs.Job], bool],
) -> Selection:
    """The jobs with one of *statuses*, on servers older than some of these words as well."""
    wanted = Filters(scope=statuses, ref=filters.ref, name=filters.name)
    found = await select_jobs(client, targets, wanted, most=MOST_JOBS, accept=accept)
    # A server answers 400 to a status that is newer than it is: there the choice is made here.
    older = [each for each in found.failures if _status_of(each.error) == 400]
    if not older:
        return found
    any_status = Filters(ref=filters.ref, name=filters.name)
    more = await select_jobs(
        client, [each.target for each in older], any_status, most=MOST_JOBS, accept=accept
    )
    return Selection(
        jobs=found.jobs + [(ref, job) for ref, job in more.jobs if job.status in statuses],
        failures=[each for each in found.failures if each not in older] + more.failures,
        passed_over=found.passed_over + more.passed_over,
    )


def _status_of(error: asyncjobs.AsyncJobsError) -> int | None:
    return error.status if isinstance(error, asyncjobs.ResponseError) else None


async def _agreed(verb: str, chosen: list[asyncjobs.JobRef]) -> bool:
    """Ask on the terminal.

    Raises:
        UsageError: Nobody is there to ask.
    """
    what = count(len(chosen), "job")
    if sys.stdin is None or not sys.stdin.isatty():
        raise UsageError(f"would {verb} {what}; say --yes to do it without being asked")
    shown = ", ".join(str(each) for each in chosen[:3]) + (", …" if len(chosen) > 3 else "")
    answers = {"y": True, "yes": True, "n": False, "no": False, "": False}
    while True:
        click.echo(f"{verb} {what} ({shown})? [y/N]: ", nl=False, err=True)
        try:
            answer = (await _typed(sys.stdin)).strip().lower()
        except asyncio.CancelledError:
            click.echo(err=True)  # what is said next has a line of its own
            raise
        if answer in answers:
            return answers[answer]


async def _typed(terminal: TextIO) -> str:
    """The next line typed; empty at the end of the input.

    Waits in the event loop: a thread in `input` could not be stopped before somebody presses a key.
    """
    try:
        descriptor = terminal.fileno()
    except OSError:  # a stand-in for a terminal has none, and its lines are there
        return terminal.readline()
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
    return os.read(descriptor, _LONGEST_ANSWER).decode(errors="replace")


@command("cancel", short_help="Cancel jobs that are waiting or running.", advice=_NOTHING)
@click.option("--force", is_flag=True, help="Do not let a job tidy up first (GitLab 18 and newer).")
@changing
async def cancel(session: Session, wish: Wish, force: bool) -> int:
    """Cancel each job of TARGET. Of pipelines, projects and groups: those waiting, scheduled or running.

    A job that is over stays as it is, and is said.

    Examples:
        asyncjobs cancel group/app/-/jobs/8
        asyncjobs cancel group/app/-/pipelines/6 --name 'deploy*' --yes
    """

    async def call(client: asyncjobs.Client, ref: asyncjobs.JobRef) -> asyncjobs.Job:
        job = await client.cancel_job(ref.project, ref.job_id, force=force)
        if job.status.is_final and job.status != "canceled":
            session.news.warn(f"{ref}: it was over already ({plain(job.status)}), nothing was canceled")
        return job

    return await act(session, wish, verb="cancel", statuses=_CANCELABLE, call=call)


@command("retry", short_help="Retry jobs; prints the new ones.", advice=_NOTHING)
@changing
async def retry(session: Session, wish: Wish) -> int:
    """Retry each job of TARGET; each gets a new id. Of pipelines and more: the failed and canceled ones.

    Examples:
        asyncjobs retry group/app/-/jobs/8
        asyncjobs retry group/app/-/pipelines/6 --yes | cut -f1 | asyncjobs tail -
    """
    return await act(
        session,
        wish,
        verb="retry",
        statuses=("failed", "canceled"),
        call=lambda client, job: client.retry_job(job.project, job.job_id),
    )


def _variables(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str] | None:
    pairs = [value.partition("=") for value in values]
    if any(not key or not equals for key, equals, _ in pairs):
        raise click.BadParameter("say KEY=VALUE", ctx, param)
    return {key: value for key, _, value in pairs} or None


@command("play", short_help="Start manual jobs.", advice=_NOTHING)
@click.option(
    "--var",
    "variables",
    multiple=True,
    metavar="KEY=VALUE",
    callback=_variables,
    help="A variable for the job; may be repeated.",
)
@changing
async def play(session: Session, wish: Wish, variables: dict[str, str] | None) -> int:
    """Start each manual job of TARGET.

    Examples:
        asyncjobs play group/app/-/jobs/8 --var ENVIRONMENT=staging
    """
    return await act(
        session,
        wish,
        verb="play",
        statuses=("manual",),
        call=lambda client, job: client.play_job(job.project, job.job_id, variables=variables),
    )


@command("erase", short_help="Erase logs and archives of jobs, for good.", advice=_NOTHING)
@changing
async def erase(session: Session, wish: Wish) -> int:
    """Erase the log and the artifacts of each job of TARGET. This cannot be undone, so it asks.

    Examples:
        asyncjobs erase group/app/-/jobs/8 --yes
    """
    return await act(
        session,
        wish,
        verb="erase",
        statuses=("success", "failed", "canceled"),
        call=lambda client, job: client.erase_job(job.project, job.job_id),
        final=True,
    )


@command("keep", short_help="Keep artifacts beyond their expiry date.", advice=_NOTHING)
@changing
async def keep(session: Session, wish: Wish) -> int:
    """Keep the artifacts of each job of TARGET for ever. Of pipelines and more: those that have an archive.

    Examples:
        asyncjobs keep group/app/-/jobs/8
    """
    return await act(
        session,
        wish,
        verb="keep the artifacts of",
        statuses=("success", "failed"),
        call=lambda client, job: client.keep_artifacts(job.project, job.job_id),
        needs_archive=True,
        missing="it may have no artifacts: see `asyncjobs show`",
    )
