"""`jobs` and `show`: what GitLab says about jobs."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

import click

import asyncjobs
from asyncjobs.cli import records
from asyncjobs.cli.details import job_details
from asyncjobs.cli.framework import (
    Session,
    allow_empty_option,
    command,
    filter_options,
    json_option,
    targets_argument,
)
from asyncjobs.cli.params import MOMENT
from asyncjobs.cli.tables import job_line, jobs_table
from asyncjobs.cli.targets import Filters, Once, select_jobs
from asyncjobs.cli.text import count

MOST_SHOWN = 10_000
"""Jobs `show` prints at most; more than that is a listing."""


@command("jobs", short_help="List jobs of projects, pipelines and groups, all at once.")
@targets_argument()
@filter_options
@click.option("--since", type=MOMENT, help="Only jobs created after this: 2h, 3d, or a date.")
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(min=0),
    show_default="200 on a terminal, else all",
    help="Stop after so many; 0 means all.",
)
@json_option
@allow_empty_option
async def jobs(
    session: Session,
    targets: tuple[str, ...],
    filters: Filters,
    since: datetime | None,
    limit: int | None,
    as_json: bool,
    allow_empty: bool,
) -> int:
    """List the jobs of every TARGET as they arrive, each once.

    A table for every 200 on a terminal; elsewhere one job a line, separated by tabs: target, status, name,
    stage, ref, created_at, duration, failure_reason. With --json the fields of a job that GitLab
    documents, under its names; null is what the server did not send.

    Examples:
        asyncjobs jobs group/app --failed
        asyncjobs jobs groups/group --scope running --json | jq -r .target
    """
    as_table = session.out.is_terminal and not as_json
    most = limit if limit is not None else (DEFAULT_LIMIT if as_table else 0)
    shown: list[tuple[asyncjobs.JobRef, asyncjobs.Job]] = []
    done, cut = 0, False
    async with session.client() as client:
        asked = session.targets(targets, client)
        once = Once(len(asked))
        sign = contextlib.AsyncExitStack()
        if as_table:
            sign.enter_context(session.news.waiting("listing jobs"))
        async with (
            sign,
            client.stream_jobs(
                asked,
                scope=filters.scope or None,
                ref=filters.ref,
                name=filters.name,
                updated_after=since,
                on_error="collect",
            ) as stream,
        ):
            async for job_ref, job in stream:
                if not once.is_new(job_ref):
                    continue
                if most and done >= most:
                    cut = True
                    break
                done += 1
                if as_table:
                    shown.append((job_ref, job))
                    if len(shown) == PAGE:
                        await sign.aclose()
                        await _show_table(session, shown)
                        shown.clear()
                elif as_json:
                    await session.record(records.job(job_ref, job))
                else:
                    await session.out.write(job_line(job_ref, job).encode())
        failures = list(stream.failures)
    if shown:
        await _show_table(session, shown)
    if cut and limit is None:
        session.news.warn(f"only the first {count(most, 'job')} shown; --limit 0 shows all")
    session.report(failures)
    return session.result((each.error for each in failures), done=done, allow_empty=allow_empty, what="job")


DEFAULT_LIMIT = 200
"""Rows somebody may still want to read."""

PAGE = 200
"""Rows of one table: who wants more sees it as it comes, in tables with headings of their own."""


async def _show_table(session: Session, rows: list[tuple[asyncjobs.JobRef, asyncjobs.Job]]) -> None:
    """One table, the newest jobs of each project first."""
    rows.sort(key=lambda row: (str(row[0].project), -row[0].job_id))
    await session.out.show(jobs_table(rows, width=session.out.console.width, now=datetime.now(UTC)))


@command("show", short_help="Everything GitLab says about jobs.")
@targets_argument()
@filter_options
@json_option
@allow_empty_option
async def show(
    session: Session,
    targets: tuple[str, ...],
    filters: Filters,
    as_json: bool,
    allow_empty: bool,
) -> int:
    """Show each job of TARGET in full: status and reason, times, runner, commit, artifacts.

    Examples:
        asyncjobs show group/app/-/jobs/8
        asyncjobs show group/app/-/pipelines/6 --failed
    """
    async with session.client() as client:
        found = await select_jobs(client, session.targets(targets, client), filters, most=MOST_SHOWN)
    for number, (job_ref, job) in enumerate(found.jobs):
        if as_json:
            await session.record(records.job(job_ref, job))
        else:
            if number:
                await session.out.write(b"\n")
            await session.out.show(job_details(job_ref, job, now=datetime.now(UTC)))
    session.report(found.failures)
    return session.result(
        (each.error for each in found.failures), done=len(found.jobs), allow_empty=allow_empty, what="job"
    )
