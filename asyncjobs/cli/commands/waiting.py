"""`wait`: until jobs or pipelines are over, with their result as exit code."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import attrs
import click

import asyncjobs
from asyncjobs.cli import records
from asyncjobs.cli.codes import ExitCode, NothingMatched, UsageError, exit_code_of_many, explain
from asyncjobs.cli.framework import Session, command, json_option, targets_argument
from asyncjobs.cli.params import INTERVAL, SPAN
from asyncjobs.cli.tables import job_words
from asyncjobs.cli.text import duration, plain

SLOWEST_LOOK = 15.0
"""Seconds between two looks once nothing has changed for a while."""

MOST_MISSES = 5
"""Looks in a row that may fail (each after the client's own retries) before a target is given up."""

Subject = asyncjobs.JobRef | asyncjobs.PipelineRef


@attrs.frozen
class Result:
    """How one target ended."""

    ref: asyncjobs.Target
    value: asyncjobs.Job | asyncjobs.Pipeline | None = None
    error: BaseException | None = None

    @property
    def good(self) -> bool:
        """It succeeded, or was skipped on purpose."""
        return self.value is not None and self.value.status in {"success", "skipped"}


@command("wait", short_help="Wait until jobs or pipelines end; the exit code tells how.")
@targets_argument()
@click.option("--ref", metavar="REF", help="For a project: its latest pipeline of this branch or tag.")
@click.option(
    "--interval", type=INTERVAL, default="2s", show_default=True, help="Shortest time between two looks."
)
@click.option(
    "--max-wait",
    type=SPAN,
    show_default="no limit",
    help="Give up after so long (end with 1): 90s, 30m, 2h.",
)
@click.option("--wait-for-start", is_flag=True, help="Wait for manual and scheduled ones too.")
@json_option
async def wait(
    session: Session,
    targets: tuple[str, ...],
    ref: str | None,
    interval: float,
    max_wait: float | None,
    wait_for_start: bool,
    as_json: bool,
) -> int:
    """Wait until every TARGET is over: jobs, pipelines, or the latest pipeline of a project.

    Ends with 0 when all succeeded or were skipped, with 4 when no project has a pipeline, else with
    1. What is manual or scheduled may never start: it is reported and not waited for, and counts as
    not succeeded.

    Examples:
        asyncjobs wait group/app/-/pipelines/6 && deploy
        asyncjobs wait group/app --ref main --max-wait 30m
    """
    async with session.client() as client:
        asked = session.targets(targets, client)
        for each in asked:
            if isinstance(each, asyncjobs.GroupRef):
                raise UsageError(f"{each}: a group never ends; give projects, pipelines or jobs")

        async def one(target: asyncjobs.Target) -> Result:
            watch = Watch(
                client,
                interval=interval,
                wait_for_start=wait_for_start,
                on_change=lambda subject, status: session.news.say(f"{subject} {plain(status)}"),
            )
            try:
                async with asyncio.timeout(max_wait):
                    result = await watch.run(await _subject(client, target, ref))
            except asyncjobs.AsyncJobsError as error:
                result = Result(target, error=error)
            except TimeoutError:
                result = Result(target, error=WaitedEnough(watch.last_status, max_wait or 0.0))
            await _tell(session, result, as_json=as_json)
            return result

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(target)) for target in dict.fromkeys(asked)]
    results = [task.result() for task in tasks]
    errors = [each.error for each in results if each.error is not None]
    if errors:
        return exit_code_of_many(errors, done=len(results) - len(errors))
    return ExitCode.OK if all(each.good for each in results) else ExitCode.FAILED


class WaitedEnough(asyncjobs.AsyncJobsError):
    """`--max-wait` passed first."""

    def __init__(self, status: str, seconds: float) -> None:
        super().__init__(f"still {status or 'unknown'} after {duration(seconds)}")


async def _subject(client: asyncjobs.Client, target: asyncjobs.Target, ref: str | None) -> Subject:
    """What to look at: the target itself, or the latest pipeline of a project."""
    if isinstance(target, asyncjobs.JobRef | asyncjobs.PipelineRef):
        return target
    assert isinstance(target, asyncjobs.ProjectRef)
    filters: dict[str, Any] = {} if ref is None else {"ref": ref}
    async for pipeline in client.iter_project_pipelines(target.project, **filters):
        return asyncjobs.PipelineRef(target.project, pipeline.id)
    raise NothingMatched(f"no pipeline{f' for {ref}' if ref else ''}; check the project and --ref")


class Watch:
    """Looks at one job or pipeline until it is over, ever more rarely while nothing changes."""

    def __init__(
        self,
        client: asyncjobs.Client,
        *,
        interval: float,
        wait_for_start: bool,
        on_change: Callable[[Subject, str], None],
    ) -> None:
        self._client = client
        self._interval = interval
        self._wait_for_start = wait_for_start
        self._on_change = on_change
        self.last_status = ""

    async def run(self, ref: Subject) -> Result:
        """The result, once there is one.

        Raises:
            AsyncJobsError: The target cannot be read, or `MOST_MISSES` looks in a row failed.
        """
        pause, misses = self._interval, 0
        while True:
            try:
                value = await self._look(ref)
                misses = 0
            except (asyncjobs.RequestError, asyncjobs.ServerError, asyncjobs.RateLimitedError):
                # A server being upgraded while we wait is no reason to fail a deployment.
                misses += 1
                if misses >= MOST_MISSES:
                    raise
            else:
                if value.status.is_final or (value.status.is_blocked and not self._wait_for_start):
                    return Result(ref, value)
                if value.status != self.last_status:
                    self.last_status, pause = str(value.status), self._interval
                    self._on_change(ref, self.last_status)
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, max(SLOWEST_LOOK, self._interval))

    async def _look(self, ref: Subject) -> asyncjobs.Job | asyncjobs.Pipeline:
        if isinstance(ref, asyncjobs.JobRef):
            return await self._client.get_job(ref.project, ref.job_id)
        return await self._client.get_pipeline(ref.project, ref.pipeline_id)


async def _tell(session: Session, result: Result, *, as_json: bool) -> None:
    """One line for each target as it ends: data when there is a result, an error otherwise."""
    if result.error is not None or result.value is None:
        error = result.error
        session.news.error(f"{result.ref}: {explain(error) if error else 'no result'}")
        if as_json and error is not None:
            await session.record(records.failure(result.ref, error))
        return
    if as_json:
        await session.record(records.job(result.ref, result.value))
        return
    status, took = result.value.status, duration(result.value.duration)
    await session.out.row(f"{plain(status)}\t{result.ref}\t{took}\n", job_words(status, result.ref, took))
