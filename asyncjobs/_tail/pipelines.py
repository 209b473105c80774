"""One pipeline of a tail: statuses of all its jobs in one listing, new jobs, new attempts, child pipelines.

Decides which jobs are followed and tells them their newest record; following is somebody else's task.
GitLab: https://docs.gitlab.com/api/jobs/#list-all-jobs-for-a-pipeline
"""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Final

from asyncjobs._api import Api
from asyncjobs._concurrency import Lane
from asyncjobs._errors import AsyncJobsError, NotFoundError, RequestError, ResponseError
from asyncjobs._models import Job, JobRef, PipelineRef
from asyncjobs._options import TailOptions, scope_values
from asyncjobs._tail.statuses import StatusPace
from asyncjobs._tail.watch import JobWatch, Waker
from asyncjobs._trace.ending import Patience

PAGE: Final = 100
"""Jobs on a page of a listing: up to so many are as cheap as one."""

PAGES_PER_SECOND: Final = 4.0
"""Pages of statuses that all pipelines of one tail ask for together, at most on average."""

IDLE_ERRORS: Final = 3
"""Failed looks in a row, each with its own retries, that end a watch while no job depends on it."""

Follow = Callable[[JobWatch, JobWatch | None], None]
"""Begin to follow a job; the second is the attempt it replaces."""

Descend = Callable[[PipelineRef, int], None]
"""Begin to watch a downstream pipeline of the given depth."""


def matches(job: Job, options: TailOptions) -> bool:
    """Whether the filters by name and stage let *job* through."""
    return (options.name is None or fnmatchcase(job.name, options.name)) and (
        options.stage is None or fnmatchcase(job.stage or "", options.stage)
    )


class PipelineWatch:
    """Watches one pipeline while any of its jobs is followed.

    Args:
        api: The client's endpoints.
        ref: The pipeline.
        options: Filters, intervals, whether to look for new jobs and for children.
        follow: Called for each job to follow.
        descend: Called for each downstream pipeline.
        depth: 1 for a pipeline that was asked for, more for downstream ones.
        all_pages: How many pages the listings of all pipelines of the tail have: the more, the rarer each is
            asked.
    """

    def __init__(
        self,
        api: Api,
        ref: PipelineRef,
        *,
        options: TailOptions,
        follow: Follow,
        descend: Descend,
        depth: int,
        all_pages: Callable[[], int],
    ) -> None:
        self.ref = ref
        self.depth = depth
        self.everything = False
        """All jobs are wanted, not only the ones named."""
        self.failure: AsyncJobsError | None = None
        self.is_over = False
        """Nobody runs it any more."""
        self._api = api
        self._options = options
        self._scope = scope_values(options.scope)
        self._follow = follow
        self._descend = descend
        self._all_pages = all_pages
        self._waker = Waker(api.clock)
        self._watches: dict[int, JobWatch] = {}
        self._newest: dict[str, JobWatch] = {}
        self._seen: set[int] = set()
        self._listed = False
        self._ever_listed = False
        self._project_id: int | None = None
        self._jobs_seen = 0
        self._in_listing: set[int] = set()
        self._patience: dict[int, Patience] = {}
        """For each job that was not found when asked for by itself."""
        self._wanted: dict[int, Job] = {}

    def want(self, ref: JobRef, job: Job, *, named: bool) -> None:
        """Follow a job that was asked for by itself or found elsewhere, whatever the filters say.

        A found one that replaces a followed one waits for the next listing, which knows the attempts between.
        """
        if job.id in self._watches:
            if self.is_over:
                self._update(self._watches[job.id], job)
            return
        older = self._newest.get(job.name)
        if named or older is None or older.ref.job_id > job.id:
            self._begin(ref, job, None)
            return
        self._wanted[job.id] = job
        self._listed = False
        self._waker.ring()

    @property
    def pages(self) -> int:
        """How many pages its listing has."""
        return max(1, -(-self._jobs_seen // PAGE))

    @property
    def has_work(self) -> bool:
        """A job is followed, or is going to be."""
        return bool(self._active() or self._wanted)

    async def run(self) -> None:
        """Watch until no job is followed any more and none is new.

        When the pipeline can no longer be read, the jobs followed are told so, and `failure` says why.
        Without following, one look is all: what it found is read, whatever becomes of the pipeline.
        """
        self.failure = None
        if not self._options.follow:
            try:
                await self._look()
            except (RequestError, ResponseError) as error:
                self.failure = error
            return
        pace, patience, idle_errors = StatusPace(self._api.random, self._options), Patience(), 0
        while True:
            was_active = self._active()
            try:
                changed = await self._look()
                over = not (was_active or self.has_work or await self._may_grow())
            except (RequestError, ResponseError) as error:
                idle_errors = 0 if self._active() else idle_errors + 1
                unknown = not self._ever_listed and not self._active()
                if unknown or patience.failed(error) or idle_errors >= IDLE_ERRORS:
                    self._fail(error)
                    return
                delay = pace.failed()
            else:
                if over:
                    return
                patience.worked()
                idle_errors = 0
                ended = all(watch.job is not None and watch.job.status.is_final for watch in self._active())
                least = self._all_pages() / PAGES_PER_SECOND
                delay = pace.asked(changed=changed, over=ended, least=least)
            await self._waker.sleep(delay)

    def _ended(self) -> None:
        """Look once more at once when the last job ended: for a new attempt, or to be done."""
        if not self._active():
            self._waker.ring()

    def _active(self) -> list[JobWatch]:
        return [watch for watch in self._watches.values() if not watch.is_done]

    async def _look(self) -> bool:
        """Ask once; True when anything changed."""
        active = self._active()
        if not self.everything and self._listed and active and len(active) <= self.pages:
            changed = await self._ask_each(active)
            # A new attempt can only come after the end of the old one: then the pipeline is listed again.
            if any(watch.job is not None and watch.job.status.is_final for watch in active):
                self._listed = False
            return changed
        changed = await self._list()
        # A server without `include_retried` (9.1) leaves out a job as soon as it is retried, often before
        # anybody saw its end; and a deleted job is in no listing. An end that is known needs no asking.
        lost = [
            watch
            for watch in self._active()
            if watch.ref.job_id not in self._in_listing
            and not (watch.job is not None and watch.job.status.is_final)
        ]
        changed = await self._ask_each(lost) or changed
        if self._options.children and self.everything:
            await self._look_downstream()
        return changed

    async def _ask_each(self, watches: list[JobWatch]) -> bool:
        """Ask for each job by itself; one that is gone ends its own tail only."""
        changed = False
        for watch in watches:
            if watch.failure is not None:
                continue
            patience = self._patience.setdefault(watch.ref.job_id, Patience())
            try:
                job = await self._api.get_job(watch.ref.project, watch.ref.job_id, lane=Lane.TAIL)
            except NotFoundError as error:
                if patience.failed(error):
                    watch.fail(error)
                continue
            del self._patience[watch.ref.job_id]
            changed = self._update(watch, job) or changed
        return changed

    async def _list(self) -> bool:
        listing = self._api.iter_pipeline_jobs(
            self.ref.project, self.ref.pipeline_id, include_retried=True, lane=Lane.TAIL
        )
        jobs = [job async for job in listing]
        first, self._ever_listed = not self._ever_listed, True
        self._listed, self._jobs_seen = True, len(jobs)
        self._in_listing = {job.id for job in jobs}
        jobs += [job for job in self._wanted.values() if job.id not in self._in_listing]
        self._wanted.clear()
        newest = {job.name: job for job in sorted(jobs, key=lambda job: job.id)}
        changed = False
        for job in sorted(jobs, key=lambda job: job.id):
            if job.pipeline is not None:
                self._project_id = job.pipeline.project_id
            watch = self._watches.get(job.id)
            if watch is not None:
                changed = self._update(watch, job) or changed
            elif (older := self._newest.get(job.name)) is not None and older.ref.job_id < job.id:
                # In order of id: attempts that came and went since the last look are followed in their turn.
                self._begin(JobRef(older.ref.project, job.id), job, older)
                changed = True
            elif newest[job.name] is job:
                changed = self._meet(job, first=first) or changed
        return changed

    def _update(self, watch: JobWatch, job: Job) -> bool:
        before = watch.job
        watch.update(job)
        was_blocked = before is not None and before.status.is_blocked
        if watch.is_done and was_blocked and not job.status.is_blocked and not job.status.is_final:
            # Somebody played a job that had been reported as manual.
            self._begin(watch.ref, job, None)
        return before is None or before.status != job.status

    def _meet(self, job: Job, *, first: bool) -> bool:
        """Decide about a job that is not followed, is the newest of its name and replaces none followed."""
        if not self.everything or job.id in self._seen or not (first or self._options.join):
            return False
        self._seen.add(job.id)
        if (not self._scope or job.status in self._scope) and matches(job, self._options):
            self._begin(JobRef(self.ref.project, job.id), job, None)
            return True
        return False

    def _begin(self, ref: JobRef, job: Job, older: JobWatch | None) -> None:
        watch = JobWatch(ref, job, on_done=self._ended)
        self._watches[job.id] = watch
        newest = self._newest.get(job.name)
        if newest is None or newest.ref.job_id <= job.id:
            self._newest[job.name] = watch
        self._follow(watch, older)

    async def _may_grow(self) -> bool:
        """An empty pipeline may be one whose jobs are still being made."""
        if self._jobs_seen or not self.everything or not self._options.join:
            return False
        pipeline = await self._api.get_pipeline(self.ref.project, self.ref.pipeline_id, lane=Lane.TAIL)
        return pipeline.status.is_alive

    async def _look_downstream(self) -> None:
        if self.depth >= self._options.max_depth:
            return
        bridges = self._api.iter_pipeline_bridges(self.ref.project, self.ref.pipeline_id, lane=Lane.TAIL)
        async for bridge in bridges:
            child = bridge.downstream_pipeline
            if child is None:
                continue
            same = child.project_id is None or child.project_id == self._project_id
            project = self.ref.project if same or child.project_id is None else child.project_id
            self._descend(PipelineRef(project, child.id), self.depth + 1)

    def _fail(self, error: AsyncJobsError) -> None:
        self.failure = error
        for job in self._wanted.values():
            self._begin(JobRef(self.ref.project, job.id), job, None)
        self._wanted.clear()
        for watch in self._active():
            watch.fail(error)
