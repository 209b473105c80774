"""Many traces at once, as lines: `tail`.

One task per pipeline asks for statuses, one task per job follows its trace, one queue brings their events to
the consumer. All live in a task group inside the context manager; a slow consumer holds everybody back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Any, Final, Protocol, Self

from asyncjobs._api import Api
from asyncjobs._concurrency import CapacityLimiter, first_error
from asyncjobs._errors import AsyncJobsError, ClosedError, FanOutError, RequestError, ResponseError
from asyncjobs._models import (
    GroupRef,
    Job,
    JobFinished,
    JobRef,
    JobRetried,
    JobStarted,
    PipelineRef,
    ProjectRef,
    TailEvent,
    TailFailed,
    TailPaused,
    Target,
    TargetFailure,
    TraceCursor,
    as_cursor,
    as_target,
)
from asyncjobs._options import TailOptions
from asyncjobs._tail.discovery import Discovery, LivingScope
from asyncjobs._tail.follower import Follower
from asyncjobs._tail.last_lines import place_of_last_lines
from asyncjobs._tail.lines import EVENT_BYTES, Item, LineSink
from asyncjobs._tail.pipelines import IDLE_ERRORS, PipelineWatch
from asyncjobs._tail.queue import EventQueue
from asyncjobs._tail.statuses import StatusPace, watch_one
from asyncjobs._tail.watch import JobWatch, Waker
from asyncjobs._trace.ending import FINAL_ERRORS, Patience, Phase, is_definite, phase_of
from asyncjobs._trace.given import Given
from asyncjobs._trace.place import Place

Targets = Target | str | Iterable[Target | str] | AsyncIterable[Target | str]
"""One target or many, also lazily."""

BUFFER_BYTES: Final = 1 << 20
"""Weight of events that may wait for a slow consumer, all jobs together."""

DISCOVERY_SECONDS: Final = 30.0
"""Between two looks for new jobs of a project or group; GitLab counts these listings per user."""


class Look(Protocol):
    """One look for jobs; *last* when nothing is followed any more."""

    async def __call__(self, *, last: bool) -> bool:
        """Look; False when something that is new by now is left to the next look."""
        ...


_OUTSIDE: Final = "a tail is read inside its `async with`"


class TailStream:
    """The events of many tails. Use it as `async with`, then iterate it once; several tasks may share that.

    Per job: `JobStarted`, its lines and resets, then `JobFinished` or `TailFailed`; lines of different jobs
    come as they arrive. A named job that cannot be found gives `TailFailed` alone; with `follow=False` a job
    that goes on ends with `TailPaused`. Iteration ends when no job is followed any more. It then raises
    `FanOutError` when a pipeline, project or group could not be read: a broken tail never looks like a
    finished one.
    """

    def __init__(
        self,
        api: Api,
        targets: Targets,
        *,
        options: TailOptions | None = None,
        cursors: Iterable[TraceCursor | str] = (),
    ) -> None:
        self.failures: list[TargetFailure] = []
        """Pipelines, projects and groups that could not be read; a job that could not is a `TailFailed`."""
        self._api = api
        self._targets = one_by_one(targets)
        self._options = options or TailOptions()
        self._scope = LivingScope(self._options)
        self._queue: EventQueue[Item] = EventQueue(BUFFER_BYTES)
        self._given = Given()
        self._starts = {cursor.ref.job_id: cursor for cursor in map(as_cursor, cursors)}
        self._open = CapacityLimiter(1 if self._options.ordered else self._options.max_open)
        self._pipelines: dict[int, PipelineWatch] = {}
        self._projects: set[ProjectRef] = set()
        self._jobs: set[int] = set()
        self._ended = 0
        """How many jobs were followed to their end."""
        self._going = 0
        """Jobs that are followed, and whatever may bring more of them."""
        self._looking = 0
        """Looks among these."""
        self._discoverers: list[Waker] = []
        self._last: asyncio.Event | None = None
        self._group: asyncio.TaskGroup | None = None
        self._runner: asyncio.Task[None] | None = None
        self._left = False
        self._entered_at = 0.0

    async def __aenter__(self) -> Self:
        if self._runner is not None:
            raise ClosedError("a tail is entered once; ask for a new one")
        self._entered_at = self._api.clock.monotonic()
        self._runner = asyncio.create_task(self._run(), name="asyncjobs tail")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left = True
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.wait([self._runner])

    def __aiter__(self) -> AsyncIterator[TailEvent]:
        return self

    async def __anext__(self) -> TailEvent:
        """The next event.

        Raises:
            FanOutError: At the end, when pipelines, projects or groups could not be read.
            ClosedError: The context was left, or never entered.

        Cancellation: no event is lost.
        """
        if self._left or self._runner is None:
            raise ClosedError(_OUTSIDE)
        try:
            while (event := self._given.take(await self._queue.get())) is None:
                pass
        except StopAsyncIteration:
            if self._left:  # while another task waited here: for it this is no end
                raise ClosedError(_OUTSIDE) from None
            raise
        return event

    @property
    def cursors(self) -> dict[JobRef, TraceCursor]:
        """The place after the last line that iteration gave, of each log that was begun and has not ended.

        Give them to another tail, in another process too: it goes on there, and the lines join without a gap.
        The events that end a job carry its cursor themselves, and it is no longer here then.
        """
        return self._given.cursors()

    @property
    def open_tails(self) -> int:
        """Traces followed right now."""
        return self._open.in_flight

    # -- the task group ---------------------------------------------------------------------------

    async def _run(self) -> None:
        error: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as self._group:
                with self._something_going():
                    async for target in self._targets:
                        self._add(as_target(target))
            if self.failures:
                errors = [failure.error for failure in self.failures]
                error = FanOutError("targets could not be tailed", errors, self.failures)
        except ExceptionGroup as group:
            error = first_error(group)
        finally:
            self._queue.close(error)

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Start a task that follows a job or may bring one."""
        self._going += 1
        self._start(name, work).add_done_callback(self._gone)

    def _start(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        assert self._group is not None
        return self._group.create_task(work, name=f"asyncjobs {name}")

    def _add(self, target: Target) -> None:
        match target:
            case JobRef():
                self._spawn(f"find {target}", self._find(target))
            case PipelineRef():
                self._watch(target, 1, everything=True)
            case ProjectRef():
                self._discover(target)
            case GroupRef():
                self._look_for(target, partial(self._look_at_members, target))

    # -- targets ----------------------------------------------------------------------------------

    async def _find(self, ref: JobRef) -> None:
        """Follow a job that is named itself, through its pipeline where it names one."""
        if ref.job_id in self._jobs:
            return
        try:
            job = await self._api.get_job(ref.project, ref.job_id)
        except (RequestError, ResponseError) as error:
            # A tail of its own that broke, not a target with unknown jobs in it.
            await self._put(TailFailed(ref, error, None))
            return
        self._found(ref, job, named=True)

    def _found(self, ref: JobRef, job: Job, *, named: bool) -> None:
        known = None if job.pipeline is None else self._pipelines.get(job.pipeline.id)
        if job.id in self._jobs and (known is None or not known.is_over):
            return
        if not self._options.follow:
            self._follow(JobWatch(ref, job), None)
            return
        if job.pipeline is None:
            watch = JobWatch(ref, job)
            self._follow(watch, None)
            self._spawn(f"status {ref}", self._status(watch))
            return
        pipeline = self._watch(PipelineRef(ref.project, job.pipeline.id), 1, everything=False)
        pipeline.want(ref, job, named=named)
        if pipeline.is_over and pipeline.has_work:
            pipeline.is_over = False
            # Asked for as a whole and at its end: it goes on, now that a job of it is alive again.
            self._spawn(f"statuses {pipeline.ref}", self._statuses(pipeline))

    async def _status(self, watch: JobWatch) -> None:
        """Ask for the status of a job that is in no pipeline's listing, as long as it is followed."""
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(watch_one(self._api, watch, self._options))
            await watch.finished()
            # A log that is never archived would be asked about for ever.
            asking.cancel()

    def _discover(self, target: ProjectRef) -> None:
        if target not in self._projects:
            self._projects.add(target)
            found = partial(self._found, named=False)
            discovery = Discovery(
                self._api, target, self._options, self._scope, found, since=self._entered_at
            )
            self._look_for(target, discovery.look)

    async def _look_at_members(self, target: GroupRef, *, last: bool) -> bool:  # noqa: ARG002 -- a kind of look
        """Each project of a group is looked at by itself: one that is refused does not hide the others."""
        async for project in self._api.group_members(target):
            self._discover(project)
        return True

    def _look_for(self, target: ProjectRef | GroupRef, look: Look) -> None:
        self._going += 1  # until the first look is over
        self._looking += 1
        self._start(f"discover {target}", self._keep_looking(target, look))

    async def _keep_looking(self, target: ProjectRef | GroupRef, look: Look) -> None:
        """Look for jobs that are alive, and for new ones while any job is followed."""
        waker, patience, idle_errors, seen, last = Waker(self._api.clock), Patience(), 0, False, False
        self._discoverers.append(waker)
        while True:
            ended = self._ended
            try:
                if not await look(last=last):
                    ended = -1
                seen, idle_errors = True, 0
                patience.worked()
            except (RequestError, ResponseError) as error:
                idle_errors = idle_errors + 1 if last else 0
                if not seen or patience.failed(error) or idle_errors >= IDLE_ERRORS:
                    self._fail(target, error)
                    return
                failed, ended = True, -1
            else:
                failed = False
            finally:
                self._looking -= 1
                self._gone()
            if not (self._options.follow and self._options.join):
                return
            if failed:
                await self._api.clock.sleep(DISCOVERY_SECONDS * self._api.random.random())
            due = self._api.clock.monotonic() + DISCOVERY_SECONDS * self._api.random.uniform(0.9, 1.1)
            while not (last := self._is_last(ended)) and (wait := due - self._api.clock.monotonic()) > 0:
                if not self._going:
                    return
                await waker.sleep(wait)
            self._going += 1
            self._looking += 1

    def _is_last(self, ended: int) -> bool:
        """Whether all has ended but looks, and some of it since *ended* had: what began meanwhile is new."""
        return self._going == self._looking and self._ended != ended

    @contextmanager
    def _something_going(self) -> Iterator[None]:
        """While something may still be found, nobody who looks for new jobs gives up."""
        self._going += 1
        try:
            yield
        finally:
            self._gone()

    def _gone(self, _: object = None) -> None:
        self._going -= 1
        if self._going == self._looking:
            for waker in self._discoverers:
                waker.ring()

    def _fail(self, target: Target, error: AsyncJobsError) -> None:
        self.failures.append(TargetFailure(target, error))

    def _watch(self, ref: PipelineRef, depth: int, *, everything: bool) -> PipelineWatch:
        watch = self._pipelines.get(ref.pipeline_id)
        if watch is None:
            watch = PipelineWatch(
                self._api,
                ref,
                options=self._options,
                follow=self._follow,
                descend=self._descend,
                depth=depth,
                all_pages=lambda: sum(each.pages for each in self._pipelines.values() if not each.is_over),
            )
            self._pipelines[ref.pipeline_id] = watch
            self._spawn(f"statuses {ref}", self._statuses(watch))
        watch.everything = watch.everything or everything
        return watch

    async def _statuses(self, watch: PipelineWatch) -> None:
        await watch.run()
        watch.is_over = True
        if not watch.everything:
            # Forgotten, so that a job found later in the same pipeline is watched again.
            self._pipelines.pop(watch.ref.pipeline_id, None)
        elif watch.failure is not None:
            self._fail(watch.ref, watch.failure)

    def _descend(self, ref: PipelineRef, depth: int) -> None:
        if ref.pipeline_id not in self._pipelines:
            self._watch(ref, depth, everything=True)

    # -- jobs -------------------------------------------------------------------------------------

    def _follow(self, watch: JobWatch, older: JobWatch | None) -> None:
        if not self._options.follow and watch.ref.job_id in self._jobs:
            return
        self._jobs.add(watch.ref.job_id)
        before, turn = None, None
        if self._options.ordered:
            before, self._last = self._last, asyncio.Event()
            turn = self._last
        self._spawn(f"tail {watch.ref}", self._tail(watch, older, before, turn))

    async def _tail(
        self,
        watch: JobWatch,
        older: JobWatch | None,
        before: asyncio.Event | None,
        turn: asyncio.Event | None,
    ) -> None:
        """Follow one job from its first status to its last byte."""
        try:
            if before is not None:
                await before.wait()
            if older is not None:
                await older.finished()
                await self._put(JobRetried(older.ref, watch.ref))
            await self._started(watch)
        finally:
            self._ended += 1
            watch.done()
            if turn is not None:
                turn.set()

    async def _started(self, watch: JobWatch) -> None:
        while self._options.follow and watch.failure is None and self._phase(watch) is Phase.WAITING:
            await watch.wait(self._api.clock, None)
        async with self._open:
            job = await self._job(watch)
            if job is None:
                return
            await self._put(JobStarted(watch.ref, job))
            await self._read(watch, job)

    def _phase(self, watch: JobWatch) -> Phase:
        assert watch.job is not None
        return phase_of(watch.job, wait_for_start=self._options.wait_for_start)

    async def _job(self, watch: JobWatch) -> Job | None:
        if watch.failure is not None:
            await self._put(TailFailed(watch.ref, watch.failure, None))
            return None
        return watch.job

    async def _read(self, watch: JobWatch, job: Job) -> None:
        follower = sink = None
        try:
            follower = Follower(
                self._api,
                watch,
                options=self._options,
                place=await self._entry(watch),
                crowd=lambda: self._open.in_flight,
            )
            place = follower.reader.place
            sink = LineSink(
                self._queue,
                watch.ref,
                job.name,
                place=lambda: place.cursor(watch.ref),
                since=self._options.since,
            )
            await sink.enter()
            last = await follower.run(sink)
        except AsyncJobsError as error:
            if sink is not None:
                await sink.finish()
            cursor = None if follower is None else follower.reader.place.cursor(watch.ref)
            await self._put(TailFailed(watch.ref, error, cursor))
            return
        await sink.finish()
        cursor = follower.reader.place.cursor(watch.ref)
        if self._options.follow or last.status.is_final:
            await self._put(JobFinished(watch.ref, last, cursor))
        else:
            await self._put(TailPaused(watch.ref, last, cursor))

    async def _entry(self, watch: JobWatch) -> Place | None:
        """Where to enter a log, None for its beginning; an outage is outlasted as polls outlast it.

        Raises:
            AsyncJobsError: The log cannot be read.
        """
        start = self._starts.get(watch.ref.job_id)
        if start is not None:
            return Place.from_cursor(start)
        pace, errors = StatusPace(self._api.random, self._options), 0
        while self._options.tail_lines is not None and watch.job is not None:
            phase = self._phase(watch)
            if phase not in {Phase.RUNNING, Phase.FINAL}:
                break
            try:
                return await place_of_last_lines(
                    self._api, watch.ref, self._options.tail_lines, size=watch.job.trace_size_bytes
                )
            except (RequestError, ResponseError) as error:
                errors += phase is Phase.FINAL
                if is_definite(error) or errors >= FINAL_ERRORS or not self._options.follow:
                    raise
            await watch.wait(self._api.clock, pace.failed())
            if watch.failure is not None:
                raise watch.failure
        return None

    async def _put(self, event: TailEvent) -> None:
        await self._queue.put([event], EVENT_BYTES)


def tail(
    api: Api,
    targets: Targets,
    *,
    options: TailOptions | None = None,
    cursors: Iterable[TraceCursor | str] = (),
) -> TailStream:
    """Follow many jobs at once, line by line.

    A job or a pipeline is followed to its end; a project or a group means its jobs that are alive now, and
    new ones while any is followed. A retried job is followed to its new attempt. With `follow=False` the
    jobs there are now are read as far as their logs go now, and that is all.

    Args:
        api: The client's endpoints.
        targets: References or their text forms, one or many.
        options: Filters, intervals, order, and how much at once.
        cursors: Where to go on in the logs of some jobs; the others begin as the options say.

    Raises:
        ValueError: A text that is no cursor.

    Cancellation: leaving the context stops every tail; `cursors` of the stream stay valid.
    """
    return TailStream(api, targets, options=options, cursors=cursors)


async def one_by_one(targets: Targets) -> AsyncIterator[Target | str]:
    """The targets, whatever they came in."""
    if isinstance(targets, str | Target):
        yield targets
    elif isinstance(targets, AsyncIterable):
        async for target in targets:
            yield target
    else:
        for target in targets:
            yield target
