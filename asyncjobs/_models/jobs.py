"""What GitLab says about jobs, pipelines and projects: frozen attrs classes filled by msgspec.

Field names are GitLab's own. Only `id`, `status` and `name` of a job are required, so the answer
of a 2017 server and today's both decode; keys we do not know are ignored. The classes know
nothing of HTTP, files or tasks.

GitLab: https://docs.gitlab.com/api/jobs/, lib/api/entities/ci/job.rb and its neighbours.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import attrs
import msgspec

from asyncjobs._models.status import JobStatus

Moment = Annotated[datetime, msgspec.Meta(tz=True)]
"""An aware datetime; a time without an offset is refused, since it could mean anything."""


Id = Annotated[int, msgspec.Meta(gt=0)]
"""A number GitLab gave; what is not positive is no id, and would be refused when it is asked for."""


@attrs.frozen(kw_only=True)
class User:
    """Who started a job, as much of the profile as the token may see."""

    id: int
    username: str | None = None
    name: str | None = None
    state: str | None = None
    avatar_url: str | None = None
    web_url: str | None = None
    created_at: Moment | None = None
    bio: str | None = None
    location: str | None = None
    public_email: str | None = None


@attrs.frozen(kw_only=True)
class Commit:
    """The commit a job ran for; absent from a job when the commit is gone."""

    id: str | None = None
    short_id: str | None = None
    title: str | None = None
    message: str | None = None
    created_at: Moment | None = None
    parent_ids: tuple[str, ...] | None = None
    author_name: str | None = None
    author_email: str | None = None
    authored_date: Moment | None = None
    committer_name: str | None = None
    committer_email: str | None = None
    committed_date: Moment | None = None
    web_url: str | None = None


@attrs.frozen(kw_only=True)
class Pipeline:
    """A pipeline, in the short form inside a job or the long form of its own endpoint."""

    id: Id
    status: JobStatus
    iid: int | None = None
    project_id: int | None = None
    sha: str | None = None
    ref: str | None = None
    source: str | None = None
    name: str | None = None
    created_at: Moment | None = None
    updated_at: Moment | None = None
    web_url: str | None = None
    before_sha: str | None = None
    tag: bool | None = None
    yaml_errors: str | None = None
    user: User | None = None
    started_at: Moment | None = None
    finished_at: Moment | None = None
    committed_at: Moment | None = None
    duration: float | None = None
    """Seconds of work, or None while nothing has run."""
    queued_duration: float | None = None
    """Seconds from creation to start, or None."""
    coverage: str | None = None
    """A string here, although a job's coverage is a number: so the API has it."""


@attrs.frozen(kw_only=True)
class Runner:
    """The runner that took a job."""

    id: int
    description: str | None = None
    ip_address: str | None = None
    active: bool | None = None
    paused: bool | None = None
    is_shared: bool | None = None
    runner_type: str | None = None
    name: str | None = None
    online: bool | None = None
    status: str | None = None


@attrs.frozen(kw_only=True)
class RunnerManager:
    """The machine of a runner that took a job (newer servers)."""

    id: int
    system_id: str | None = None
    version: str | None = None
    revision: str | None = None
    platform: str | None = None
    architecture: str | None = None
    created_at: Moment | None = None
    contacted_at: Moment | None = None
    ip_address: str | None = None
    status: str | None = None


@attrs.frozen(kw_only=True)
class JobArtifact:
    """One stored file of a job: the archive, its metadata, the trace, a report."""

    file_type: str
    size: int | None = None
    """Bytes. For `file_type == "trace"` this is the final length of the log."""
    filename: str | None = None
    file_format: str | None = None
    """`zip`, `gzip` or `raw`."""


@attrs.frozen(kw_only=True)
class ArtifactsFile:
    """The downloadable archive, named only while there is one."""

    filename: str
    size: int | None = None
    """Bytes of the archive as stored."""


@attrs.frozen(kw_only=True)
class JobProject:
    """What a job says about its project."""

    ci_job_token_scope_enabled: bool | None = None


@attrs.frozen(kw_only=True)
class JobBasic:
    """What a job and a bridge have in common."""

    id: Id
    status: JobStatus
    name: str
    stage: str | None = None
    ref: str | None = None
    """The git branch or tag. To name the job itself use a `JobRef`."""
    tag: bool | None = None
    coverage: float | None = None
    allow_failure: bool | None = None
    created_at: Moment | None = None
    started_at: Moment | None = None
    finished_at: Moment | None = None
    erased_at: Moment | None = None
    duration: float | None = None
    """Seconds; grows while the job runs."""
    queued_duration: float | None = None
    """Seconds the job waited for a runner."""
    user: User | None = None
    commit: Commit | None = None
    pipeline: Pipeline | None = None
    failure_reason: str | None = None
    """Sent only when the status is `failed`; an open set of words."""
    web_url: str | None = None
    project: JobProject | None = None
    source: str | None = None


@attrs.frozen(kw_only=True)
class Job(JobBasic):
    """A build job, every field under GitLab's own name.

    GitLab: https://docs.gitlab.com/api/jobs/
    """

    archived: bool | None = None
    """Too old to be retried; says nothing about its log."""
    artifacts: tuple[JobArtifact, ...] = ()
    artifacts_file: ArtifactsFile | None = None
    """Absent when there is no archive to download."""
    artifacts_expire_at: Moment | None = None
    """None means kept for ever, or a server that does not say."""
    tag_list: tuple[str, ...] = ()
    runner: Runner | None = None
    runner_manager: RunnerManager | None = None

    @property
    def trace_size_bytes(self) -> int | None:
        """Final length of the log once the server has archived it, else None."""
        return next((a.size for a in self.artifacts if a.file_type == "trace"), None)


@attrs.frozen(kw_only=True)
class Bridge(JobBasic):
    """A trigger job: it runs nothing itself and points at a downstream pipeline.

    GitLab: https://docs.gitlab.com/api/jobs/#list-all-trigger-jobs-for-a-pipeline
    """

    downstream_pipeline: Pipeline | None = None


@attrs.frozen(kw_only=True)
class Project:
    """A project, in the short form of listings or the long form of its own endpoint."""

    id: Id
    path_with_namespace: str | None = None
    name: str | None = None
    path: str | None = None
    description: str | None = None
    default_branch: str | None = None
    web_url: str | None = None
    visibility: str | None = None
    archived: bool | None = None
    created_at: Moment | None = None
    last_activity_at: Moment | None = None


@attrs.frozen(kw_only=True)
class ArtifactEntry:
    """One entry of an archive's listing, read from its metadata by the server.

    GitLab: lib/api/entities/ci/job_artifact_entry.rb
    """

    name: str
    path: str
    type: str
    """`file` or `directory`."""
    size: int | None = None
    """Bytes, unpacked; files only."""
    mode: str | None = None
    """Unix mode as six octal digits, or None."""
