"""From targets to jobs: what a job, pipeline, project or group stands for, and which of its jobs are meant.

Fan-out and sync share it. A listing goes the way that costs fewer requests of the kind GitLab
limits per user (`GET /projects/:id/jobs`): with a moment to look back to, through the pipelines
updated since.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable
from datetime import datetime
from fnmatch import fnmatchcase

import attrs

from asyncjobs._api.endpoints import Endpoints
from asyncjobs._models import (
    GroupRef,
    Job,
    JobRef,
    PipelineRef,
    Project,
    ProjectRef,
    Target,
    as_target,
    job_ref,
)
from asyncjobs._options import Scope, scope_values
from asyncjobs._protocol.urls import own_address

JobPage = tuple[int | str, list[Job]]
"""A project, as it was named, and some of its jobs."""


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

    def among(self, page: list[Job]) -> list[Job]:
        """The jobs of *page* that are meant."""
        everything = not self.scope and self.ref is None and self.name is None and self.since is None
        return page if everything else [job for job in page if self.matches(job)]

    def matches(self, job: Job) -> bool:
        """Whether *job* is meant."""
        return (
            (not self.scope or job.status in self.scope)
            and (self.ref is None or job.ref == self.ref)
            and (self.name is None or fnmatchcase(job.name, self.name))
            and (self.since is None or job.created_at is None or job.created_at >= self.since)
        )


Targets = Target | str | Iterable[Target | str] | AsyncIterable[Target | str]
"""One target or many, as references or text, also lazily."""


class Api(Endpoints):
    """The endpoints, and the jobs of any target."""

    async def each_target(self, targets: Targets) -> AsyncIterator[Target]:
        """*targets* one by one, texts parsed; a web address must be one of this GitLab.

        Raises:
            ValueError: Not a target, or the address of another host.
            TypeError: Neither a reference nor text.
        """
        if isinstance(targets, str | Target):
            targets = [targets]
        if isinstance(targets, AsyncIterable):
            async for target in targets:
                yield self.own_target(target)
        else:
            for target in targets:
                yield self.own_target(target)

    def own_target(self, target: Target | str) -> Target:
        """One target, its text parsed; what the address of another GitLab names is not here.

        Raises:
            ValueError: Not a target, or the address of another host.
            TypeError: Neither a reference nor text.
        """
        if isinstance(target, str) and "://" in target:
            target = own_address(self.exchange.root, target)
        return as_target(target)

    async def job_pages(
        self, target: Target, wanted: JobFilter, *, include_retried: bool = False
    ) -> AsyncIterator[JobPage]:
        """Pages of the jobs of *target* that *wanted* matches, each with its project; a page may be empty.

        A job that is named itself is given whatever the filter says about its status.

        Raises:
            RequestError, ResponseError: The listing could not be completed.
        """
        match target:
            case JobRef():
                yield target.project, [await self.get_job(target.project, target.job_id)]
            case PipelineRef():
                pages = self.pipeline_job_pages(
                    target.project, target.pipeline_id, wanted.scope or None, include_retried=include_retried
                )
                async for page in pages:
                    yield target.project, wanted.among(page)
                    del page  # see `Endpoints.pages`
            case ProjectRef():
                async for named in self._project_pages(target, wanted, include_retried=include_retried):
                    yield named
                    del named
            case GroupRef():
                async for project in self.group_members(target):
                    async for named in self._project_pages(project, wanted, include_retried=include_retried):
                        yield named
                        del named

    async def group_members(self, target: GroupRef) -> AsyncIterator[ProjectRef]:
        """The projects of a group, as references by path where the server names it."""
        async for project in self.iter_group_projects(
            target.group, include_subgroups=target.include_subgroups
        ):
            yield _project_ref(project)

    async def _project_pages(
        self, target: ProjectRef, wanted: JobFilter, *, include_retried: bool
    ) -> AsyncIterator[JobPage]:
        if wanted.since is None and wanted.ref is None:
            async for page in self.project_job_pages(target.project, wanted.scope or None):
                yield target.project, wanted.among(page)
                del page  # see `Endpoints.pages`
            return
        # A job's creation moves its pipeline's update time, so every job since then is in one of these.
        filters = {"ref": wanted.ref, "updated_after": wanted.since}
        async for pipeline in self.iter_project_pipelines(target.project, filters):
            pages = self.pipeline_job_pages(
                target.project, pipeline.id, wanted.scope or None, include_retried=include_retried
            )
            async for page in pages:
                yield target.project, wanted.among(page)
                del page

    async def iter_target_jobs(
        self,
        target: Target,
        *,
        scope: Scope = None,
        ref: str | None = None,
        name: str | None = None,
        since: datetime | None = None,
        include_retried: bool = False,
    ) -> AsyncIterator[tuple[JobRef, Job]]:
        """The same, job by job."""
        wanted = JobFilter(scope=scope, ref=ref, name=name, since=since)
        async for project, page in self.job_pages(target, wanted, include_retried=include_retried):
            for job in page:
                yield job_ref(project, job.id), job


def _project_ref(project: Project) -> ProjectRef:
    """By path, which people read, unless the server's path is none."""
    try:
        return ProjectRef(project.path_with_namespace or project.id)
    except ValueError:
        return ProjectRef(project.id)
