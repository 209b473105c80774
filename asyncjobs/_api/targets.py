"""From targets to jobs: what a job, pipeline, project or group stands for, and which of its jobs are meant.

Fan-out and sync share it. A listing goes the way that costs fewer requests of the kind GitLab
limits per user (`GET /projects/:id/jobs`): with a moment to look back to, through the pipelines
updated since.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from fnmatch import fnmatchcase

import attrs

from asyncjobs._api.endpoints import Endpoints
from asyncjobs._models import GroupRef, Job, JobRef, PipelineRef, Project, ProjectRef, Target, job_refs
from asyncjobs._options import Scope, scope_values


@attrs.frozen(kw_only=True)
class JobFilter:
    """Which jobs of a target are meant."""

    scope: tuple[str, ...] = attrs.field(default=(), converter=scope_values)
    """Statuses; none means all."""
    ref: str | None = None
    """Branch or tag."""
    name: str | None = None
    """Glob over the job's name, case-sensitive."""
    since: datetime | None = None
    """Created at or after this moment."""

    @property
    def is_empty(self) -> bool:
        """Every job is meant."""
        return not self.scope and self.ref is None and self.name is None and self.since is None

    def matches(self, job: Job) -> bool:
        """Whether *job* is meant."""
        return (
            (not self.scope or job.status in self.scope)
            and (self.ref is None or job.ref == self.ref)
            and (self.name is None or fnmatchcase(job.name, self.name))
            and (self.since is None or job.created_at is None or job.created_at >= self.since)
        )


class Api(Endpoints):
    """The endpoints, and the jobs of any target."""

    async def target_pages(
        self, target: Target, wanted: JobFilter, *, include_retried: bool = False
    ) -> AsyncIterator[list[tuple[JobRef, Job]]]:
        """Pages of the jobs of *target* that *wanted* matches; a page may be empty.

        A job that is named itself is given whatever the filter says about its status.

        Raises:
            RequestError, ResponseError: The listing could not be completed.
        """
        match target:
            case JobRef():
                yield [(target, await self.get_job(target.project, target.job_id))]
            case PipelineRef():
                pages = self.pipeline_job_pages(
                    target.project, target.pipeline_id, wanted.scope, include_retried=include_retried
                )
                async for page in pages:
                    yield _named(target.project, page, wanted)
            case ProjectRef():
                async for named in self._project_pages(target, wanted, include_retried=include_retried):
                    yield named
            case GroupRef():
                async for project in self.group_members(target):
                    async for named in self._project_pages(project, wanted, include_retried=include_retried):
                        yield named

    async def group_members(self, target: GroupRef) -> AsyncIterator[ProjectRef]:
        """The projects of a group, as references by path where the server names it."""
        async for project in self.iter_group_projects(
            target.group, include_subgroups=target.include_subgroups
        ):
            yield _project_ref(project)

    async def _project_pages(
        self, target: ProjectRef, wanted: JobFilter, *, include_retried: bool
    ) -> AsyncIterator[list[tuple[JobRef, Job]]]:
        if wanted.since is None and wanted.ref is None:
            async for page in self.project_job_pages(target.project, wanted.scope):
                yield _named(target.project, page, wanted)
            return
        # A job's creation moves its pipeline's update time, so every job since then is in one of these.
        filters = {"ref": wanted.ref, "updated_after": wanted.since}
        pipelines = self.iter_project_pipelines(target.project, filters)
        async for pipeline in pipelines:
            pages = self.pipeline_job_pages(
                target.project, pipeline.id, wanted.scope, include_retried=include_retried
            )
            async for page in pages:
                yield _named(target.project, page, wanted)

    async def iter_target_jobs(
        self,
        target: Target,
        *,
        scope: Scope = (),
        ref: str | None = None,
        name: str | None = None,
        since: datetime | None = None,
        include_retried: bool = False,
    ) -> AsyncIterator[tuple[JobRef, Job]]:
        """The same, job by job."""
        wanted = JobFilter(scope=scope, ref=ref, name=name, since=since)
        async for page in self.target_pages(target, wanted, include_retried=include_retried):
            for named in page:
                yield named


def _project_ref(project: Project) -> ProjectRef:
    """By path, which people read, unless the server's path is none."""
    try:
        return ProjectRef(project.path_with_namespace or project.id)
    except ValueError:
        return ProjectRef(project.id)


def _named(project: int | str, page: list[Job], wanted: JobFilter) -> list[tuple[JobRef, Job]]:
    meant = page if wanted.is_empty else [job for job in page if wanted.matches(job)]
    return list(zip(job_refs(project, [job.id for job in meant]), meant, strict=True))
