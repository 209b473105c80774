"""Every endpoint of the Jobs API as a method: one exchange and its retries, or a lazy walk over pages.

GitLab: https://docs.gitlab.com/api/jobs/, https://docs.gitlab.com/api/job_artifacts/,
https://docs.gitlab.com/api/pipelines/, https://docs.gitlab.com/api/groups/, https://docs.gitlab.com/api/projects/
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Hashable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Literal, TypeVar

import attrs

from asyncjobs._api.attempts import Attempts
from asyncjobs._api.body import Body
from asyncjobs._api.exchange import ACCEPT_ANY, ACCEPT_TEXT, Exchange
from asyncjobs._clock import Clock
from asyncjobs._concurrency import Lane
from asyncjobs._errors import BadResponseError, NotFoundError, ResponseError
from asyncjobs._models import ArtifactEntry, Bridge, Job, JobRef, Pipeline, Project
from asyncjobs._models.calls import EndpointClass, Kind
from asyncjobs._options import Scope
from asyncjobs._protocol import bodies, requests
from asyncjobs._protocol.bodies import Shape
from asyncjobs._protocol.paging import PageGuard, PagingError, Seen, next_position, page_query
from asyncjobs._protocol.requests import Request
from asyncjobs._protocol.traces import why_no_log
from asyncjobs._protocol.urls import safe_url

T = TypeVar("T")

_TRACE_GOOD = frozenset({200, 204, 206, 304, 416})
_ARCHIVE_GOOD = frozenset({200, 206, 416})

Streamed = Literal["trace", "poll", "download", "read"]
"""A log for whoever waits for it, a poll of one, an archive, or a part of an archive."""

# A refusal closes the gate at which the next attempt waits: with another class here it would not wait at all.
_STREAMED: dict[Streamed, tuple[Kind, EndpointClass]] = {
    "trace": (Kind.READ, EndpointClass.TRACE),
    "poll": (Kind.POLL, EndpointClass.TRACE),
    "download": (Kind.DOWNLOAD, EndpointClass.ARTIFACT),
    "read": (Kind.READ, EndpointClass.ARTIFACT),
}

Key = Callable[[T], Hashable]


def _id_of(item: object) -> Hashable:
    return item.id  # type: ignore[attr-defined, no-any-return]  # every listed model but ArtifactEntry has one


def _with_query(request: Request, query: tuple[tuple[str, str], ...]) -> Request:
    return attrs.evolve(request, query=query)


def _with_headers(request: Request, headers: list[tuple[str, str]]) -> Request:
    return attrs.evolve(request, headers=(*request.headers, *headers))


class Endpoints:
    """The Jobs API. Projects are ids or full paths; errors are those of `asyncjobs._errors`.

    Cancelling a call that reads leaves nothing behind. Cancelling one that changes something leaves
    open whether it happened.
    """

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange

    @property
    def clock(self) -> Clock:
        """The clock of this client."""
        return self.exchange.clock

    @property
    def random(self) -> random.Random:
        """The one source of chance of this client."""
        return self.exchange.chance

    def attempts(self, what: Streamed, *, call: str = "") -> Attempts:
        """The retry state of a call whose body the caller streams itself."""
        kind, endpoint = _STREAMED[what]
        return self.exchange.attempts(kind, endpoint, call=call)

    # -- listings ---------------------------------------------------------------------------------

    async def project_job_pages(
        self, project: int | str, scope: Scope = None
    ) -> AsyncGenerator[list[Job], None]:
        """Pages of a project's jobs, newest first; by keyset where the server has it."""
        began = False
        try:
            async for page in self.pages(requests.project_jobs(project, scope), bodies.JOBS):
                began = True
                yield page
                del page
            return
        except ResponseError as error:
            # 405: this server refuses keyset for the order asked; 400: it does not know the parameter.
            if began or error.status not in {400, 405}:
                raise
        async for page in self.pages(requests.project_jobs(project, scope, keyset=False), bodies.JOBS):
            yield page
            del page

    async def iter_project_jobs(self, project: int | str, *, scope: Scope = None) -> AsyncIterator[Job]:
        """Walk the jobs of a project, newest first, retried ones included, bridges not.

        GitLab counts these requests per user (600 a minute by default) over all projects.

        Raises:
            RequestError, ResponseError: A page could not be had; nothing is skipped silently.
        """
        async for page in self.project_job_pages(project, scope):
            for job in page:
                yield job

    def pipeline_job_pages(
        self,
        project: int | str,
        pipeline_id: int,
        scope: Scope = None,
        *,
        include_retried: bool = False,
        lane: Lane = Lane.CONTROL,
    ) -> AsyncIterator[list[Job]]:
        """Pages of a pipeline's jobs."""
        request = requests.pipeline_jobs(project, pipeline_id, scope, include_retried=include_retried)
        return self.pages(request, bodies.JOBS, lane=lane)

    async def iter_pipeline_jobs(
        self,
        project: int | str,
        pipeline_id: int,
        *,
        scope: Scope = None,
        include_retried: bool = False,
        lane: Lane = Lane.CONTROL,
    ) -> AsyncIterator[Job]:
        """Walk the jobs of a pipeline, the latest attempt of each unless *include_retried*.

        A caller who may see the pipeline but not its jobs gets none, without an error: so GitLab does it.
        """
        pages = self.pipeline_job_pages(
            project, pipeline_id, scope, include_retried=include_retried, lane=lane
        )
        async for page in pages:
            for job in page:
                yield job

    async def iter_pipeline_bridges(
        self, project: int | str, pipeline_id: int, *, scope: Scope = None, lane: Lane = Lane.CONTROL
    ) -> AsyncIterator[Bridge]:
        """Walk the trigger jobs of a pipeline, under whichever of its two names the server has the route.

        An old server with neither has none to give: then the walk is empty.

        Raises:
            NotFoundError: No such pipeline, or the token may not see it.
        """
        began = False
        older = requests.pipeline_bridges(project, pipeline_id, scope)
        try:
            async for page in self.pages(older, bodies.BRIDGES, lane=lane):
                began = True
                for bridge in page:
                    yield bridge
            return
        except NotFoundError as error:
            if began:
                raise
            missing = error
        newer = requests.pipeline_bridges(project, pipeline_id, scope, newer_name=True)
        try:
            async for page in self.pages(newer, bodies.BRIDGES, lane=lane):
                began = True
                for bridge in page:
                    yield bridge
            return
        except NotFoundError:
            if began:
                raise
        # An unknown route and an unknown pipeline are both 404: only the pipeline itself tells them apart.
        try:
            await self.get_pipeline(project, pipeline_id, lane=lane)
        except NotFoundError:
            raise missing from None

    async def iter_project_pipelines(
        self, project: int | str, filters: Mapping[str, object], *, lane: Lane = Lane.CONTROL
    ) -> AsyncIterator[Pipeline]:
        """Walk the pipelines of a project, newest first.

        Args:
            project: Id or full path.
            filters: GitLab's own: `scope`, `status`, `ref`, `sha`, `username`, `updated_after`,
                `updated_before`, `created_after`, `source`, `name`, `order_by`, `sort`.
                Datetimes must be aware.
            lane: Where the requests queue.
        """
        async for page in self.pages(
            requests.project_pipelines(project, filters), bodies.PIPELINES, lane=lane
        ):
            for pipeline in page:
                yield pipeline

    async def iter_group_projects(
        self, group: int | str, *, include_subgroups: bool = True
    ) -> AsyncIterator[Project]:
        """Walk the projects of a group, and of its subgroups; projects only shared with it are not in it."""
        request = requests.group_projects(group, include_subgroups=include_subgroups)
        async for page in self.pages(request, bodies.PROJECTS):
            for project in page:
                yield project

    async def iter_artifact_members(
        self, project: int | str, job_id: int, *, path: str = "", recursive: bool = True
    ) -> AsyncIterator[ArtifactEntry]:
        """Walk the entries of a job's archive without downloading it.

        Raises:
            NotFoundError: No archive, no such path, or a server older than this endpoint (18.x).
        """
        request = requests.artifact_tree(project, job_id, path=path, recursive=recursive)
        async for page in self.pages(request, bodies.ENTRIES, key=lambda entry: entry.path):
            for entry in page:
                yield entry

    async def pages(
        self,
        request: Request,
        shape: Shape[list[T]],
        *,
        lane: Lane = Lane.CONTROL,
        key: Key[T] = _id_of,
    ) -> AsyncIterator[list[T]]:
        """Walk the pages of any listing: follow `next`, drop what stood on a page before, notice circles.

        Raises:
            BadResponseError: Paging that cannot be followed.
        """
        guard, seen, query = PageGuard(), Seen(), request.query
        while True:
            asked = _with_query(request, query)
            page, headers = await self.exchange.fetch(asked, shape.read, lane=lane)
            try:
                position = next_position(headers)
                if position:
                    guard.advance(position)
            except PagingError as error:
                raise BadResponseError(
                    f"the listing cannot be followed: {error}",
                    status=200,
                    method="GET",
                    url=safe_url(self.exchange.root.url(request.path)),
                ) from None
            fresh = seen.new([key(item) for item in page])
            # An empty page ends a keyset listing, whatever its link says.
            over = not position or not page
            if not all(fresh):
                page = [item for item, new in zip(page, fresh, strict=True) if new]
            yield page
            # A page kept here while the next is on its way is 0.4 MB in every worker: measured, it makes
            # decoding 1.6 times as slow, because no memory is free to be used again.
            del page
            if over:
                return
            query = page_query(request.query, position)

    # -- single objects ---------------------------------------------------------------------------

    async def get_job(self, project: int | str, job_id: int, *, lane: Lane = Lane.CONTROL) -> Job:
        """Get one job. A bridge's id is not found here.

        Raises:
            NotFoundError: No such job, or the token may not see it.
        """
        return (await self.exchange.fetch(requests.job(project, job_id), bodies.JOB.read, lane=lane))[0]

    async def get_current_job(self) -> Job:
        """Get the job that the job token belongs to.

        Raises:
            NotFoundError: The client has another kind of token.
        """
        return await self._job(requests.current_job())

    async def get_pipeline(
        self, project: int | str, pipeline_id: int, *, lane: Lane = Lane.CONTROL
    ) -> Pipeline:
        """Get one pipeline."""
        request = requests.pipeline(project, pipeline_id)
        return (await self.exchange.fetch(request, bodies.PIPELINE.read, lane=lane))[0]

    async def get_project(self, project: int | str) -> Project:
        """Get one project."""
        request = requests.project(project)
        return (await self.exchange.fetch(request, bodies.PROJECT.read, lane=Lane.CONTROL))[0]

    # -- actions ----------------------------------------------------------------------------------

    async def cancel_job(self, project: int | str, job_id: int, *, force: bool = False) -> Job:
        """Cancel a job; a running one may pass through `canceling`. *force* needs a maintainer.

        Raises:
            OutcomeUnknownError: Sent and not answered clearly.
        """
        return await self._job(requests.cancel_job(project, job_id, force=force))

    async def retry_job(self, project: int | str, job_id: int) -> Job:
        """Retry a finished job; gives the new job, which has a new id.

        Raises:
            ForbiddenError: The job is not retryable.
            OutcomeUnknownError: Sent and not answered clearly; it is never sent again on doubt.
        """
        return await self._job(requests.retry_job(project, job_id))

    async def erase_job(self, project: int | str, job_id: int) -> Job:
        """Erase the artifacts and the trace of a finished job.

        Raises:
            ForbiddenError: The job is not erasable.
            OutcomeUnknownError: Sent and not answered clearly.
        """
        return await self._job(requests.erase_job(project, job_id))

    async def play_job(
        self, project: int | str, job_id: int, *, variables: Mapping[str, str] | None = None
    ) -> Job | Bridge:
        """Start a manual job, or trigger a manual bridge.

        Raises:
            ResponseError: 400 when the job cannot be played.
            OutcomeUnknownError: Sent and not answered clearly.
        """
        request = requests.play_job(project, job_id, variables)
        return (await self.exchange.fetch(request, bodies.read_played, lane=Lane.CONTROL))[0]

    async def keep_artifacts(self, project: int | str, job_id: int) -> Job:
        """Keep a job's artifacts for ever.

        Raises:
            NotFoundError: There is no archive.
        """
        return await self._job(requests.keep_artifacts(project, job_id))

    async def delete_artifacts(self, project: int | str, job_id: int) -> None:
        """Delete a job's artifacts; its trace stays."""
        await self._nothing(requests.delete_artifacts(project, job_id))

    async def delete_project_artifacts(self, project: int | str) -> None:
        """Delete the artifacts of every job of a project; the server goes on with it after it answered."""
        await self._nothing(requests.delete_project_artifacts(project))

    async def _job(self, request: Request) -> Job:
        return (await self.exchange.fetch(request, bodies.JOB.read, lane=Lane.CONTROL))[0]

    async def _nothing(self, request: Request) -> None:
        await self.exchange.fetch(request, lambda _: None, lane=Lane.CONTROL)

    # -- bodies that are streamed -----------------------------------------------------------------

    @asynccontextmanager
    async def open_trace(
        self,
        ref: JobRef,
        *,
        offset: int | None = None,
        limit: int | None = None,
        range_start: int | None = None,
        if_none_match: str | None = None,
    ) -> AsyncIterator[Body]:
        """Ask for a trace once, in the tail lane; the caller decides what the answer means.

        Args:
            ref: The job.
            offset: First byte wanted, honoured by newer servers and ignored by the others.
            limit: Most bytes wanted, likewise.
            range_start: Ask with `Range`, which only archived logs honour.
            if_none_match: The ETag of what is known already.

        Raises:
            BadResponseError: A body that is certainly no log, such as a sign-in page.
            RequestError, ResponseError: Any status but 200, 204, 206, 304 and 416.
        """
        headers = [("If-None-Match", if_none_match)] if if_none_match is not None else []
        headers += [("Range", f"bytes={range_start}-")] if range_start is not None else []
        request = requests.trace(ref.project, ref.job_id, offset=offset, limit=limit)
        # A range counts the bytes of the encoding, so only the plain text can be asked for in parts.
        accept = ACCEPT_TEXT if range_start is None else ACCEPT_ANY
        async with self.exchange.open(
            _with_headers(request, headers),
            lane=Lane.TAIL,
            accept=accept,
            good=_TRACE_GOOD,
            ratio_limit=False,
        ) as body:
            why = why_no_log(body.status, body.headers.get("content-type"), ranged=range_start is not None)
            if why is not None:
                raise await self.exchange.refused(why, body)
            yield body

    def open_artifacts(
        self,
        ref: JobRef,
        *,
        file_type: str = "archive",
        range_start: int | None = None,
        range_end: int | None = None,
        if_range: str | None = None,
    ) -> AbstractAsyncContextManager[Body]:
        """Ask for a job's archive once, in the bulk lane, following redirects to a fresh signed link.

        Raises:
            RequestError, ResponseError: Any status but 200, 206 and 416.
        """
        request = requests.artifacts(ref.project, ref.job_id, file_type=file_type)
        return self._bulk(request, range_start=range_start, range_end=range_end, if_range=if_range)

    def open_ref_artifacts(
        self, project: int | str, ref: str, job_name: str
    ) -> AbstractAsyncContextManager[Body]:
        """Ask for the archive of the newest successful pipeline of a branch or tag: a moving target."""
        return self._bulk(requests.ref_artifacts(project, ref, job_name))

    def open_artifact_member(self, ref: JobRef, member: str) -> AbstractAsyncContextManager[Body]:
        """Ask for one file out of a job's archive; the server unpacks it and offers no ranges."""
        return self._bulk(requests.artifact_member(ref.project, ref.job_id, member))

    def _bulk(
        self,
        request: Request,
        *,
        range_start: int | None = None,
        range_end: int | None = None,
        if_range: str | None = None,
    ) -> AbstractAsyncContextManager[Body]:
        headers = []
        if range_start is not None:
            headers.append(("Range", f"bytes={range_start}-{'' if range_end is None else range_end}"))
        if if_range is not None:
            headers.append(("If-Range", if_range))
        return self.exchange.open(
            _with_headers(request, headers), lane=Lane.BULK, accept=ACCEPT_ANY, good=_ARCHIVE_GOOD
        )
