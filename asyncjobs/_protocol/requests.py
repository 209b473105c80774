"""Every endpoint of the Jobs API as a value: method, encoded path, query, class and retry kind.

Nothing is sent here. The page is https://docs.gitlab.com/api/jobs/ with its neighbours for job
artifacts, pipelines, groups and projects; each function is one row of theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

import attrs
import msgspec

from asyncjobs._models.calls import EndpointClass, Kind
from asyncjobs._options import Scope, scope_values
from asyncjobs._protocol.urls import member_path, segment

PER_PAGE = 100


@attrs.frozen(kw_only=True)
class Request:
    """One request to the API, before anything of the network is known."""

    method: str = "GET"
    path: str
    """Encoded, below the API root, beginning with a slash."""
    query: tuple[tuple[str, str], ...] = ()
    endpoint: EndpointClass = EndpointClass.OTHER
    kind: Kind = Kind.READ
    call: str = ""
    """What a person would say this does, for errors: `retry job 8 of group/app`."""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = attrs.field(default=None, repr=False)
    """Job variables travel here, and many of them are secrets."""


def _project(project: int | str) -> str:
    return "/projects/" + segment(project, what="project")


def _job(project: int | str, job_id: int) -> str:
    return f"{_project(project)}/jobs/{segment(job_id, what='job id')}"


def _pipeline(project: int | str, pipeline_id: int) -> str:
    return f"{_project(project)}/pipelines/{segment(pipeline_id, what='pipeline id')}"


def _scopes(scope: Scope) -> tuple[tuple[str, str], ...]:
    return tuple(("scope[]", each) for each in scope_values(scope))


_PAGED = (("per_page", str(PER_PAGE)),)
_KEYSET = (("pagination", "keyset"), ("order_by", "id"), ("sort", "desc"))


def project_jobs(project: int | str, scope: Scope, *, keyset: bool = True) -> Request:
    """`GET /projects/:id/jobs`, newest first. Servers without keyset ignore the wish and page by number."""
    return Request(
        path=f"{_project(project)}/jobs",
        query=(*_PAGED, *(_KEYSET if keyset else ()), *_scopes(scope)),
        endpoint=EndpointClass.JOBS_INDEX,
        call=f"list the jobs of {project}",
    )


def pipeline_jobs(project: int | str, pipeline_id: int, scope: Scope, *, include_retried: bool) -> Request:
    """`GET /projects/:id/pipelines/:pipeline_id/jobs`."""
    retried = (("include_retried", "true"),) if include_retried else ()
    return Request(
        path=f"{_pipeline(project, pipeline_id)}/jobs",
        query=(*_PAGED, *retried, *_scopes(scope)),
        call=f"list the jobs of pipeline {pipeline_id} of {project}",
    )


def pipeline_bridges(
    project: int | str, pipeline_id: int, scope: Scope, *, newer_name: bool = False
) -> Request:
    """`GET .../bridges`, called `trigger_jobs` from 19.2 on."""
    return Request(
        path=f"{_pipeline(project, pipeline_id)}/{'trigger_jobs' if newer_name else 'bridges'}",
        query=(*_PAGED, *_scopes(scope)),
        call=f"list the trigger jobs of pipeline {pipeline_id} of {project}",
    )


def job(project: int | str, job_id: int) -> Request:
    """`GET /projects/:id/jobs/:job_id`."""
    return Request(path=_job(project, job_id), call=f"get job {job_id} of {project}")


def current_job() -> Request:
    """`GET /job`, for a job token only."""
    return Request(path="/job", call="get the job of this job token")


def trace(project: int | str, job_id: int, *, offset: int | None = None, limit: int | None = None) -> Request:
    """`GET .../trace`; the window is honoured by newer servers and ignored by the others."""
    window = [("byte_offset", offset), ("byte_limit", limit)]
    return Request(
        path=f"{_job(project, job_id)}/trace",
        query=tuple((name, str(value)) for name, value in window if value is not None),
        endpoint=EndpointClass.TRACE,
        kind=Kind.POLL,
        call=f"read the trace of job {job_id} of {project}",
    )


def cancel_job(project: int | str, job_id: int, *, force: bool) -> Request:
    """`POST .../cancel`."""
    query = (("force", "true"),) if force else ()
    return _write("cancel", project, job_id, kind=Kind.WRITE, query=query)


def retry_job(project: int | str, job_id: int) -> Request:
    """`POST .../retry`; the answer is a new job."""
    return _write("retry", project, job_id, kind=Kind.ONCE)


def erase_job(project: int | str, job_id: int) -> Request:
    """`POST .../erase`."""
    return _write("erase", project, job_id, kind=Kind.ONCE)


def play_job(project: int | str, job_id: int, variables: Mapping[str, str] | None) -> Request:
    """`POST .../play`, with variables as GitLab's `job_variables_attributes`."""
    body = None
    if variables:
        attributes = [{"key": key, "value": value} for key, value in variables.items()]
        body = msgspec.json.encode({"job_variables_attributes": attributes})
    return _write("play", project, job_id, kind=Kind.ONCE, body=body)


def keep_artifacts(project: int | str, job_id: int) -> Request:
    """`POST .../artifacts/keep`."""
    return Request(
        method="POST",
        path=f"{_job(project, job_id)}/artifacts/keep",
        endpoint=EndpointClass.ARTIFACT,
        kind=Kind.WRITE,
        call=f"keep the artifacts of job {job_id} of {project}",
    )


def delete_artifacts(project: int | str, job_id: int) -> Request:
    """`DELETE .../artifacts`."""
    return Request(
        method="DELETE",
        path=f"{_job(project, job_id)}/artifacts",
        endpoint=EndpointClass.ARTIFACT,
        kind=Kind.WRITE,
        call=f"delete the artifacts of job {job_id} of {project}",
    )


def delete_project_artifacts(project: int | str) -> Request:
    """`DELETE /projects/:id/artifacts`; the server only begins with it before it answers."""
    return Request(
        method="DELETE",
        path=f"{_project(project)}/artifacts",
        endpoint=EndpointClass.ARTIFACT,
        kind=Kind.WRITE,
        call=f"delete all artifacts of {project}",
    )


def _write(
    verb: str,
    project: int | str,
    job_id: int,
    *,
    kind: Kind,
    query: tuple[tuple[str, str], ...] = (),
    body: bytes | None = None,
) -> Request:
    return Request(
        method="POST",
        path=f"{_job(project, job_id)}/{verb}",
        query=query,
        kind=kind,
        call=f"{verb} job {job_id} of {project}",
        headers=(("Content-Type", "application/json"),) if body is not None else (),
        body=body,
    )


def artifacts(project: int | str, job_id: int, *, file_type: str = "archive") -> Request:
    """`GET .../artifacts`; `file_type` other than the archive needs 19.4."""
    return Request(
        path=f"{_job(project, job_id)}/artifacts",
        query=() if file_type == "archive" else (("file_type", file_type),),
        endpoint=EndpointClass.ARTIFACT,
        kind=Kind.DOWNLOAD,
        call=f"download the artifacts of job {job_id} of {project}",
    )


def ref_artifacts(project: int | str, ref: str, job_name: str) -> Request:
    """`GET /projects/:id/jobs/artifacts/:ref_name/download?job=`."""
    return Request(
        path=f"{_project(project)}/jobs/artifacts/{segment(ref, what='ref')}/download",
        query=(("job", job_name),),
        endpoint=EndpointClass.ARTIFACT,
        kind=Kind.DOWNLOAD,
        call=f"download the artifacts of {job_name} on {ref} of {project}",
    )


def artifact_member(project: int | str, job_id: int, member: str) -> Request:
    """`GET .../artifacts/*artifact_path`: one file, unpacked by the server."""
    return Request(
        path=f"{_job(project, job_id)}/artifacts/{member_path(member)}",
        endpoint=EndpointClass.ARTIFACT,
        kind=Kind.DOWNLOAD,
        call=f"download {member} of job {job_id} of {project}",
    )


def artifact_tree(project: int | str, job_id: int, *, path: str, recursive: bool) -> Request:
    """`GET .../artifacts/tree`, from 18.x/19.x on."""
    query = [("path", path)] if path else []
    query += [("recursive", "true")] if recursive else []
    return Request(
        path=f"{_job(project, job_id)}/artifacts/tree",
        query=(*_PAGED, *query),
        endpoint=EndpointClass.ARTIFACT,
        call=f"list the artifacts of job {job_id} of {project}",
    )


def project_pipelines(project: int | str, filters: Mapping[str, object]) -> Request:
    """`GET /projects/:id/pipelines` with GitLab's own filter names."""
    return Request(
        path=f"{_project(project)}/pipelines",
        query=(*_PAGED, *_filters(filters)),
        call=f"list the pipelines of {project}",
    )


def pipeline(project: int | str, pipeline_id: int) -> Request:
    """`GET /projects/:id/pipelines/:pipeline_id`."""
    return Request(path=_pipeline(project, pipeline_id), call=f"get pipeline {pipeline_id} of {project}")


def group_projects(group: int | str, *, include_subgroups: bool) -> Request:
    """`GET /groups/:id/projects`. Projects only shared with the group are left out: they are not in it."""
    return Request(
        path=f"/groups/{segment(group, what='group')}/projects",
        query=(
            *_PAGED,
            ("include_subgroups", "true" if include_subgroups else "false"),
            ("with_shared", "false"),
            ("simple", "true"),
            ("order_by", "id"),
            ("sort", "asc"),
        ),
        endpoint=EndpointClass.PROJECT,
        call=f"list the projects of group {group}",
    )


def project(project_id: int | str) -> Request:
    """`GET /projects/:id`."""
    return Request(
        path=_project(project_id), endpoint=EndpointClass.PROJECT, call=f"get project {project_id}"
    )


def _filters(filters: Mapping[str, object]) -> Iterable[tuple[str, str]]:
    for name, value in filters.items():
        if value is None:
            continue
        if isinstance(value, bool):
            yield name, "true" if value else "false"
        elif isinstance(value, datetime):
            if value.tzinfo is None:
                raise ValueError(f"{name} must be an aware datetime")
            yield name, value.isoformat()
        elif isinstance(value, str | int):
            yield name, str(value)
        else:
            raise TypeError(
                f"{name} must be a string, a number, a bool or a datetime, not {type(value).__name__}"
            )
