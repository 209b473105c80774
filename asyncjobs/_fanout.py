"""Jobs across many projects and pipelines, as they come, under one budget; nothing is lost silently.

Knows targets and failures. How jobs are listed is the business of `_api`; traces and disks are
not known here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Literal, Self

from asyncjobs._api import Api
from asyncjobs._api.targets import JobFilter, JobPage, Targets
from asyncjobs._concurrency import Emit, Fan
from asyncjobs._errors import AsyncJobsError, ClosedError, FanOutError, RequestError, ResponseError
from asyncjobs._models import GroupRef, Job, JobRef, Target, TargetFailure, job_ref

OnError = Literal["raise", "collect", "stop"]

_DEFAULT_CONCURRENCY = 32
_OUTSIDE = "jobs are read inside their `async with`"


class JobStream:
    """The jobs of many targets, as an async context manager that is also an async iterator.

    Several tasks may share the iteration: each job goes to one of them.

    Iterating gives `(JobRef, Job)` in order of arrival. With `on_error="raise"` (the default) every
    other target is finished first and then `FanOutError` is raised; `"collect"` only fills
    `failures`; `"stop"` cancels the rest and raises after what had arrived was given.

    Every target is read for itself, so a job that two targets share (a project and one of its pipelines, or
    the same project twice) is given for each: knowing all jobs ever given would not be bounded. Job ids are
    unique within a GitLab, for whoever wants each job once. Within one target no job is given twice.

    Memory is bounded by concurrency times a page of 100 jobs, for ten targets or a hundred
    thousand: a slow consumer stops the fetching. Leaving the context cancels what is under way.
    """

    def __init__(self, api: Api, targets: Targets, wanted: JobFilter, *, on_error: OnError) -> None:
        if on_error not in {"raise", "collect", "stop"}:
            raise ValueError(f"on_error must be 'raise', 'collect' or 'stop', not {on_error!r}")
        self.failures: list[TargetFailure] = []
        """Targets that could not be read completely, in the order in which that was found out."""
        self._api = api
        self._wanted = wanted
        self._on_error = on_error
        self._fan: Fan[Target, JobPage] = Fan(
            self._projects_of(targets),
            self._list,
            concurrency=api.exchange.budget.limits.in_flight or _DEFAULT_CONCURRENCY,
        )
        self._project: int | str = 0
        self._page: list[Job] = []
        self._turning = asyncio.Lock()
        self._entered = False
        self._left = False

    async def __aenter__(self) -> Self:
        if self._entered or self._left:
            raise ClosedError("a stream of jobs is entered once; ask for a new one")
        await self._fan.__aenter__()
        self._entered = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered, self._left = False, True
        await self._fan.__aexit__(kind, error, trace)

    def __aiter__(self) -> AsyncIterator[tuple[JobRef, Job]]:
        return self

    async def __anext__(self) -> tuple[JobRef, Job]:
        """The next job.

        Raises:
            FanOutError: After the last job, when targets failed and `on_error` is not `"collect"`.
            ValueError, TypeError: A target that is none.
            ClosedError: The client was closed; or the context was left, or never entered: the end would look
                like no more jobs.
        """
        if not self._entered:
            raise ClosedError(_OUTSIDE)
        if not self._page:
            async with self._turning:  # one page at a time, also when several tasks share the iteration
                await self._turn_page()
        job = self._page.pop()
        return job_ref(self._project, job.id), job

    async def _turn_page(self) -> None:
        while not self._page:
            try:
                self._project, page = await anext(self._fan)
            except StopAsyncIteration:
                if self._left:  # while another task waited here: for it this is no end
                    raise ClosedError(_OUTSIDE) from None
                self._raise_failures()
                raise
            page.reverse()
            self._page = page

    def _raise_failures(self) -> None:
        if self.failures and self._on_error != "collect":
            count = len(self.failures)
            raise FanOutError(
                f"{count} target{'s' if count > 1 else ''} could not be read",
                [failure.error for failure in self.failures],
                self.failures,
            )

    async def _projects_of(self, targets: Targets) -> AsyncIterator[Target]:
        """The targets, groups taken apart into their projects so that these are read side by side."""
        async for target in self._api.each_target(targets):
            if not isinstance(target, GroupRef):
                yield target
                continue
            try:
                async for project in self._api.group_members(target):
                    yield project
            except (RequestError, ResponseError) as error:
                self._failed(target, error)

    async def _list(self, target: Target, emit: Emit[JobPage]) -> None:
        try:
            async for page in self._api.job_pages(target, self._wanted):
                if page[1]:
                    await emit(page)
                del page  # see `Endpoints.pages`
        except (RequestError, ResponseError) as error:
            self._failed(target, error)

    def _failed(self, target: Target, error: AsyncJobsError) -> None:
        self.failures.append(TargetFailure(target, error))
        if self._on_error == "stop":
            self._fan.stop()
