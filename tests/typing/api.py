"""How the package is used, for the type checker: `mypy --strict` reads this, nothing runs it.

Each function is a promise: these calls are accepted, and what they give has these types.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import assert_never, assert_type

import asyncjobs
from asyncjobs import (
    ArtifactEntry,
    ArtifactFile,
    ArtifactOutcome,
    Bridge,
    Client,
    GroupRef,
    Job,
    JobFinished,
    JobRef,
    JobRetried,
    JobStarted,
    JobStatus,
    Limits,
    LogLine,
    Pipeline,
    PipelineRef,
    Project,
    ProjectRef,
    RetryPolicy,
    Statistics,
    SyncEvent,
    SyncOptions,
    SyncReport,
    TailEvent,
    TailFailed,
    TailOptions,
    TailPaused,
    Target,
    TargetFailure,
    Timeouts,
    TraceChunk,
    TraceCursor,
    TraceReset,
)


async def keyring() -> str:
    """A source of tokens."""
    return "glpat-from-a-keyring"


async def clients() -> None:
    """A client takes a string or an async callable as its token, and options as values."""
    async with Client("https://gitlab.example.com", private_token="glpat-x") as client:
        assert_type(client, Client)
        assert_type(client.statistics(), Statistics)
    async with Client("https://gitlab.example.com", oauth_token=keyring, ca_file=Path("ca.pem")):
        pass
    async with Client.from_env(
        limits=Limits(in_flight=4, downloads=None),
        timeouts=Timeouts(idle=None),
        retry=RetryPolicy(attempts=1),
    ) as client:
        assert_type(client.url, str)
    assert_type(Client.from_config("work", proxy="http://proxy:3128"), Client)


async def endpoints(client: Client) -> None:
    """One method, one endpoint, one type."""
    assert_type(client.iter_project_jobs("group/app", scope="failed"), AsyncIterator[Job])
    assert_type(client.iter_project_jobs(1, scope=JobStatus.FAILED), AsyncIterator[Job])
    assert_type(client.iter_project_jobs(1, scope=["failed", JobStatus.RUNNING]), AsyncIterator[Job])
    assert_type(client.iter_pipeline_jobs(1, 6, include_retried=True), AsyncIterator[Job])
    assert_type(client.iter_pipeline_bridges(1, 6), AsyncIterator[Bridge])
    assert_type(client.iter_project_pipelines(1, updated_after=datetime.now(UTC)), AsyncIterator[Pipeline])
    assert_type(client.iter_group_projects("group"), AsyncIterator[Project])
    assert_type(client.iter_artifact_members(1, 8, path="out"), AsyncIterator[ArtifactEntry])
    assert_type(await client.get_job("group/app", 8), Job)
    assert_type(await client.get_current_job(), Job)
    assert_type(await client.get_trace("group/app", 8), bytes)
    assert_type(await client.read_trace("group/app", 8, offset=10, limit=None), TraceChunk)
    assert_type(await client.cancel_job("group/app", 8, force=True), Job)
    assert_type(await client.retry_job("group/app", 8), Job)
    assert_type(await client.play_job("group/app", 8, variables={"A": "1"}), Job | Bridge)
    assert_type(await client.keep_artifacts("group/app", 8), Job)
    assert_type(await client.get_pipeline(1, 6), Pipeline)
    assert_type(await client.get_project("group/app"), Project)
    assert_type(await client.download_artifacts(1, 8, "a.zip"), ArtifactFile)
    assert_type(await client.download_ref_artifacts(1, "main", "build", Path("a.zip")), ArtifactFile)


def models(job: Job) -> None:
    """Fields are typed, None where GitLab may say null."""
    assert_type(job.id, int)
    assert_type(job.status, JobStatus)
    assert_type(job.status.is_final, bool)
    assert_type(job.created_at, datetime | None)
    assert_type(job.duration, float | None)
    assert_type(job.tag_list, tuple[str, ...])
    if job.pipeline is not None:
        assert_type(job.pipeline.status, JobStatus)
    if job.artifacts_file is not None:
        assert_type(job.artifacts_file.size, int | None)


def targets() -> list[Target | str]:
    """Targets are references or text, also mixed."""
    assert_type(asyncjobs.parse_target("group/app"), Target)
    return ["group/app", ProjectRef(1), PipelineRef("group/app", 6), JobRef(1, 8), GroupRef("group", False)]


async def fan_out(client: Client) -> None:
    """Jobs come with their reference; failures stand beside their targets."""
    async with client.stream_jobs(targets(), scope="failed", on_error="collect") as jobs:
        async for ref, job in jobs:
            assert_type(ref, JobRef)
            assert_type(job, Job)
    assert_type(jobs.failures, list[TargetFailure])
    try:
        async with client.stream_jobs(["group/app"]) as jobs:
            pass
    except asyncjobs.FanOutError as group:
        for error in group.exceptions:
            if isinstance(error, asyncjobs.ResponseError):
                assert_type(error.status, int)
                assert_type(error.retry_after, float | None)


async def follow(client: Client, saved: str) -> TraceCursor:
    """One trace as bytes, from a saved place."""
    async with client.follow_trace(JobRef(1, 8), cursor=TraceCursor.parse(saved)) as trace:
        async for chunk in trace:
            assert_type(chunk.data, bytes)
            assert_type(chunk.offset, int)
    return trace.cursor


def describe(event: TailEvent) -> str:
    """Every event of a tail, none forgotten: the type checker sees to it."""
    match event:
        case LogLine():
            assert_type(event.raw, bytes)
            return event.text
        case JobStarted() | JobFinished() | TailPaused():
            return event.job.name
        case JobRetried():
            return str(event.new_ref)
        case TraceReset():
            return event.reason
        case TailFailed():
            return str(event.error)
        case _:
            assert_never(event)


async def tail(client: Client) -> None:
    """Many jobs as events."""
    options = TailOptions(min_interval=1.0, children=True, tail_lines=10)
    async with client.tail(["group/app/-/pipelines/6"], options=options) as events:
        async for event in events:
            assert_type(event.ref, JobRef)
            describe(event)


async def sync(client: Client) -> None:
    """A folder made to match, with progress as values."""

    def show(event: SyncEvent) -> None:
        assert_type(event, SyncEvent)

    report = await client.sync_artifacts(
        targets(), Path("out"), options=SyncOptions(scope="success", members=("*.xml",)), on_event=show
    )
    assert_type(report, SyncReport)
    assert_type(report.downloaded, list[ArtifactOutcome])
    assert_type(report.ok, bool)
    assert_type(report.bytes_received, int)
