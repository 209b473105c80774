"""Which jobs a project or group means to a tail: those that are alive, and new ones, however short they live.

`GET /projects/:id/jobs` is limited per user, so each look is one listing: in turn of the jobs that are alive,
however old, because a person may have played one, and of the newest, whatever has become of them meanwhile.
GitLab: https://docs.gitlab.com/api/jobs/#list-all-jobs-for-a-project
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from datetime import datetime
from typing import Final

from asyncjobs._api import Api
from asyncjobs._errors import ResponseError
from asyncjobs._models import GroupRef, Job, JobRef, ProjectRef, job_ref
from asyncjobs._models.status import ALIVE, NEWEST_FIRST
from asyncjobs._options import TailOptions
from asyncjobs._tail.pipelines import matches

SLACK_SECONDS: Final = 3.0
"""How exactly the server's clock is known; what is that much older than the last look is looked at again."""

Found = Callable[[JobRef, Job], None]
"""A job that is meant; it may have been found before."""


class Discovery:
    """Looks for the jobs of one project or group.

    Args:
        api: The client's endpoints.
        target: The project or group.
        options: Filters; with a scope of their own only jobs that have it when they are looked at.
        found: Called for each job that is meant.
    """

    def __init__(self, api: Api, target: ProjectRef | GroupRef, options: TailOptions, found: Found) -> None:
        self._api = api
        self._target = target
        self._options = options
        self._found = found
        self._scope = list(options.scope or sorted(ALIVE))
        self._maybe_unknown = [] if options.scope else list(NEWEST_FIRST)
        self._since: float | None = None
        """The server's time at which the newest jobs were looked at last."""
        self._newest_next = False

    async def look(self, *, last: bool) -> None:
        """Look once.

        Args:
            last: Nothing is followed any more, so what is missed now is missed for ever.

        Raises:
            RequestError, ResponseError: The listing could not be completed; the next look makes up for it.
        """
        began = self._api.clock.monotonic()
        newest = self._since is not None and (self._newest_next or last) and not self._options.scope
        if newest:
            await self._look_at_newest()
        else:
            await self._look_at_scope()
        self._newest_next = not newest
        if newest or self._since is None:
            self._since = self._api.exchange.budget.server_time(began) - SLACK_SECONDS

    async def _look_at_scope(self) -> None:
        while True:
            try:
                async for ref, job in self._api.iter_target_jobs(self._target, scope=self._scope):
                    self._tell(ref, job)
                return
            except ResponseError as error:
                if error.status != 400 or not self._maybe_unknown:
                    raise
            # A status newer than the server: no job of it can have that one.
            unknown = self._maybe_unknown.pop(0)
            self._scope = [each for each in self._scope if each != unknown]

    async def _look_at_newest(self) -> None:
        async for project in self._projects():
            fresh: list[Job] = []
            async with aclosing(self._api.project_job_pages(project, None)) as pages:
                async for page in pages:
                    fresh += [job for job in page if self._is_fresh(job)]
                    if page and not self._is_since(page[-1].created_at):
                        break
            # Attempts of one job in their order, so that each is told to replace the one before.
            for job in sorted(fresh, key=lambda job: job.id):
                self._tell(job_ref(project, job.id), job)

    async def _projects(self) -> AsyncIterator[int | str]:
        if isinstance(self._target, ProjectRef):
            yield self._target.project
            return
        async for member in self._api.group_members(self._target):
            yield member.project

    def _is_fresh(self, job: Job) -> bool:
        """Whether *job* was made or began since the last such look, and has or will have a log."""
        if job.status.is_blocked or (job.status.is_final and job.started_at is None):
            return False
        return self._is_since(job.created_at) or self._is_since(job.started_at)

    def _is_since(self, moment: datetime | None) -> bool:
        return moment is not None and self._since is not None and moment.timestamp() >= self._since

    def _tell(self, ref: JobRef, job: Job) -> None:
        if matches(job, self._options):
            self._found(ref, job)
