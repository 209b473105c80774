"""What a job's archive, a branch's archive or a file out of an archive is, as something to fetch.

Resolves branches to job ids first, because the newest archive of a branch may change while it is read, and
tells why there is nothing to fetch.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime

from asyncjobs._api import Api, Body
from asyncjobs._artifacts.transfer import Source
from asyncjobs._errors import (
    ArtifactMissingError,
    AsyncJobsError,
    AuthenticationError,
    ForbiddenError,
    NotFoundError,
)
from asyncjobs._manifest import lost_reason, remote_size, why_no_member
from asyncjobs._models import Job, JobRef, Pipeline

_MAX_CHILD_PIPELINES = 50

WHY_NOT = {
    "none": "it made no archive",
    "expired": "its archive has expired",
    "erased": "it was erased",
    "forbidden": "this token may not read its archive",
    "not_finished": "it has not finished",
    "too_large": "its archive is larger than allowed",
    "lost": "the server does not find the archive that its record lists",
}
"""Each reason for a missing archive as the end of a sentence that begins with the job."""


def job_source(api: Api, ref: JobRef, job: Job | None, *, file_type: str = "archive") -> Source:
    """The stored file of one job.

    Args:
        api: The endpoints.
        ref: The job.
        job: Its record, or None when the token may not read it: then less can be checked.
        file_type: Which stored file.
    """
    expected = None if job is None else remote_size(job, file_type)

    def open_body(start: int | None, validator: str | None) -> AbstractAsyncContextManager[Body]:
        return api.open_artifacts(ref, file_type=file_type, range_start=start, if_range=validator)

    return Source(
        key=f"{api.exchange.root.web_url} job {ref.job_id} {file_type}",
        call=f"the {file_type} of job {ref}",
        open=open_body,
        expected=expected,
        file_format=None if job is None else _format(job, file_type),
    )


def _format(job: Job, file_type: str) -> str | None:
    return next((each.file_format for each in job.artifacts if each.file_type == file_type), None)


def ref_source(api: Api, project: int | str, ref: str, job_name: str) -> Source:
    """The archive of whatever job is the newest successful one of a branch: never resumed."""

    def open_body(_: int | None, __: str | None) -> AbstractAsyncContextManager[Body]:
        return api.open_ref_artifacts(project, ref, job_name)

    call = f"the archive of {job_name} on {ref} in {project}"
    key = f"{api.exchange.root.web_url} {call}"
    return Source(key=key, call=call, open=open_body, resumable=False)


def member_source(api: Api, ref: JobRef, member: str, size: int | None) -> Source:
    """One file out of a job's archive; the server unpacks it on the way and offers no ranges.

    What is certainly not the file is a `BadResponseError`.
    """

    @asynccontextmanager
    async def open_body(_: int | None, __: str | None) -> AsyncIterator[Body]:
        async with api.open_artifact_member(ref, member) as body:
            why = why_no_member(body.headers, from_api=body.from_api)
            if why is not None:
                raise await api.exchange.refused(why, body)
            yield body

    return Source(
        key=f"{api.exchange.root.web_url} job {ref.job_id} member {member}",
        call=f"{member} of job {ref}",
        open=open_body,
        expected=size,
        any_bytes=True,
        resumable=False,
    )


def now(api: Api) -> datetime:
    """The wall clock, aware."""
    return datetime.fromtimestamp(api.clock.time(), UTC)


async def read_job(api: Api, ref: JobRef) -> Job | None:
    """The job's record, or None when this token may not read it (a job token may still download).

    Raises:
        RequestError, ServerError: The question could not be answered.
    """
    try:
        return await api.get_job(ref.project, ref.job_id)
    except (AuthenticationError, ForbiddenError, NotFoundError):
        return None


async def why_missing(api: Api, ref: JobRef, *, file_type: str = "archive") -> str | None:
    """Ask why a download answered 404: a reason, or None when the record cannot be read either."""
    job = await read_job(api, ref)
    return None if job is None else lost_reason(job, now=now(api), file_type=file_type)


def missing(ref: JobRef, reason: str) -> ArtifactMissingError:
    """The error for a job without an archive."""
    return ArtifactMissingError(f"job {ref}: nothing to download, {WHY_NOT[reason]}", reason=reason)


def not_in_archive(ref: JobRef, member: str) -> NotFoundError:
    """The error of a server for a file that is not in an archive, when the archive itself had to say so."""
    return NotFoundError(f"404 {member!r} is not in the archive of job {ref}", status=404)


async def resolve_ref(api: Api, project: int | str, ref: str, job_name: str) -> tuple[JobRef, Job] | None:
    """Find the job whose archive a branch or tag stands for, by GitLab's own rule.

    The newest pipeline of the ref that succeeded; in it, then in its child pipelines, a job of that name with
    an archive (app/models/project.rb, `latest_successful_build_for_ref`).

    Returns:
        The job, or None when it cannot be found this way: the server has the last word then.
    """
    try:
        async for pipeline in api.iter_project_pipelines(project, {"ref": ref, "status": "success"}):
            return await _in_pipeline(api, project, pipeline, job_name)
    except (AuthenticationError, ForbiddenError, NotFoundError):
        # A job token may download by ref without being allowed to list pipelines.
        return None
    return None


async def _in_pipeline(
    api: Api, project: int | str, pipeline: Pipeline, job_name: str
) -> tuple[JobRef, Job] | None:
    waiting, seen = [pipeline.id], {pipeline.id}
    while waiting and len(seen) <= _MAX_CHILD_PIPELINES:
        current = waiting.pop(0)
        async for job in api.iter_pipeline_jobs(project, current):
            if job.name == job_name and job.artifacts_file is not None:
                return JobRef(project, job.id), job
        async for bridge in api.iter_pipeline_bridges(project, current):
            child = bridge.downstream_pipeline
            if child is not None and child.id not in seen and child.project_id == pipeline.project_id:
                seen.add(child.id)
                waiting.append(child.id)
    return None


def is_missing(error: AsyncJobsError) -> bool:
    """Whether a failed download means that there is nothing (rather than that something broke)."""
    return isinstance(error, NotFoundError) and not error.from_storage
