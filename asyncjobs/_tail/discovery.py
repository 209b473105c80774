"""Which jobs a project means to a tail: those that are alive, and new ones, however short they live.

`GET /projects/:id/jobs` is limited per user, so each look is one listing: in turn of the jobs that are alive,
however old, because a person may have played one, and of the newest, whatever has become of them meanwhile.
GitLab: https://docs.gitlab.com/api/jobs/#list-all-jobs-for-a-project
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from datetime import datetime
from typing import Final

from asyncjobs._api import Api
from asyncjobs._errors import ResponseError
from asyncjobs._models import Job, JobRef, ProjectRef, job_ref
from asyncjobs._models.status import ALIVE, NEWEST_FIRST
from asyncjobs._options import TailOptions
from asyncjobs._tail.pipelines import matches

SLACK_SECONDS: Final = 3.0
"""How exactly the server's clock is known; what is that much older than the last look is looked at again."""

Found = Callable[[JobRef, Job], None]
"""A job that is meant; it may have been found before."""


class LivingScope:
    """The statuses of jobs that are meant, as far as the server knows them; shared by all looks of a tail.

    Args:
        options: Their own scope, if they have one, is taken as it is.
    """

    def __init__(self, options: TailOptions) -> None:
        self.values = tuple(options.scope or sorted(ALIVE))
        self._maybe_unknown = [] if options.scope else list(NEWEST_FIRST)

    def refused(self, values: tuple[str, ...]) -> bool:
        """Leave out the newest status after a 400; False when that cannot be the reason."""
        if values != self.values:
            return True  # another look has met it meanwhile
        if not self._maybe_unknown:
            return False
        # A status newer than the server: no job of it can have that one.
        unknown = self._maybe_unknown.pop(0)
        self.values = tuple(each for each in values if each != unknown)
        return True


class Discovery:
    """Looks for the jobs of one project.

    Args:
        api: The client's endpoints.
        target: The project.
        options: Filters; with a scope of their own only jobs that have it when they are looked at.
        scope: The statuses of jobs that are alive, or that scope.
        found: Called for each job that is meant.
        since: When the tail began, on the client's monotonic clock: what has ended by then is not new.
    """

    def __init__(
        self,
        api: Api,
        target: ProjectRef,
        options: TailOptions,
        scope: LivingScope,
        found: Found,
        *,
        since: float,
    ) -> None:
        self._api = api
        self._target = target
        self._options = options
        self._found = found
        self._scope = scope
        self._began = since
        self._since: float | None = None
        """The server's time at which the newest jobs were looked at last."""
        self._newest_next = True

    async def look(self, *, last: bool) -> bool:
        """Look once; False when new jobs that have ended by now are left to the next look.

        Args:
            last: Nothing is followed any more, so what is missed now is missed for ever.

        Raises:
            RequestError, ResponseError: The listing could not be completed; the next look makes up for it.
        """
        began = self._api.clock.monotonic()
        if self._since is None or self._options.scope:
            await self._look_at_scope()
            # With the first answer the server's clock is known.
            self._since = self._server_time(self._began)
            return True
        newest, self._newest_next = self._newest_next or last, not self._newest_next
        if not newest:
            await self._look_at_scope()
            return False
        await self._look_at_newest()
        self._since = self._server_time(began)
        return True

    def _server_time(self, moment: float) -> float:
        return self._api.exchange.budget.server_time(moment) - SLACK_SECONDS

    async def _look_at_scope(self) -> None:
        while True:
            scope = self._scope.values
            try:
                async for ref, job in self._api.iter_target_jobs(self._target, scope=scope):
                    self._tell(ref, job)
                return
            except ResponseError as error:
                if error.status != 400 or not self._scope.refused(scope):
                    raise

    async def _look_at_newest(self) -> None:
        project, fresh = self._target.project, list[Job]()
        async with aclosing(self._api.project_job_pages(project, None)) as pages:
            async for page in pages:
                fresh += [job for job in page if self._is_fresh(job)]
                if page and not self._is_since(page[-1].created_at):
                    break
        # Attempts of one job in their order, so that each is told to replace the one before.
        for job in sorted(fresh, key=lambda job: job.id):
            self._tell(job_ref(project, job.id), job)

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
