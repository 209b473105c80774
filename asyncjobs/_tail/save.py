"""Traces saved to files, one per job, exact bytes: `save_traces`.

Reads like a tail, so a running job is followed to its end; writes like a sync, so a file has its name only
when it is whole, the folder's manifest knows it, and a second run reads only what is new. A partial file is
gone on with by the cursor that its own bytes give, unless the machine was restarted since.
"""

from __future__ import annotations

import asyncio
import os
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Final

import attrs

from asyncjobs._api import Api
from asyncjobs._concurrency import CapacityLimiter, first_error
from asyncjobs._errors import (
    AsyncJobsError,
    DestinationError,
    DiskFullError,
    ForbiddenError,
    RequestError,
    ResponseError,
    TraceError,
    UnsafePathError,
)
from asyncjobs._manifest import LOG_FILE_TYPE, Action, OnDisk, Places, Remembered, choose_action, render
from asyncjobs._models import (
    CURSOR_TAIL_BYTES,
    ArtifactOutcome,
    DownloadProgress,
    GroupRef,
    Job,
    JobRef,
    SyncEvent,
    SyncFinished,
    SyncPlanned,
    SyncReport,
    Target,
    TargetFailure,
    TraceChunk,
    TraceCursor,
    as_target,
)
from asyncjobs._options import DEFAULT_TRACE_TEMPLATE, TailOptions, check_template
from asyncjobs._storage import FileRow, Folder, Part, ReadAt, Root, Storage, claim_part, joined
from asyncjobs._tail.follower import Follower
from asyncjobs._tail.many import Targets, one_by_one
from asyncjobs._tail.pipelines import matches
from asyncjobs._tail.statuses import while_watched
from asyncjobs._tail.watch import JobWatch
from asyncjobs._trace.asking import Reset
from asyncjobs._trace.ending import Phase, phase_of
from asyncjobs._trace.place import Place

OnEvent = Callable[[SyncEvent], object]

_VALIDATOR: Final = "trace"
"""A partial log proves itself by its CRC against the server's; this only says that it may be gone on with."""

_RESTARTS: Final = 5
"""How often a log may change its past while it is saved."""

_READ_BYTES: Final = 1 << 20


class _StartOverError(AsyncJobsError):
    """The past of the log changed: what is in the partial file is not true any more."""


@attrs.define(kw_only=True)
class _Save:
    """The state of one run; changed only from the event loop."""

    api: Api
    root: Root
    options: TailOptions
    template: str
    fsync: bool
    on_event: OnEvent | None
    report: SyncReport = attrs.field(factory=SyncReport)
    places: Places = attrs.field(factory=Places)
    seen: set[int] = attrs.field(factory=set)
    received: int = 0

    def tell(self, event: SyncEvent) -> None:
        if self.on_event is not None:
            self.on_event(event)

    def settle(self, kind: str, outcome: ArtifactOutcome) -> None:
        getattr(self.report, kind).append(outcome)
        self.tell(SyncFinished(kind, outcome))


async def save_traces(
    api: Api,
    storage: Storage,
    targets: Targets,
    dest: str | os.PathLike[str],
    *,
    options: TailOptions | None = None,
    path_template: str = DEFAULT_TRACE_TEMPLATE,
    fsync: bool = True,
    on_event: OnEvent | None = None,
) -> SyncReport:
    """Save the traces of jobs below a folder, one file per job, and again tomorrow only what is new.

    Jobs that are over are read to the end, running ones are followed to it; jobs that have not started are
    in `skipped` unless `options.wait_for_start`. The folder may be the one of a sync: they share a manifest.

    Args:
        api: The client's endpoints.
        storage: The client's disk.
        targets: Jobs, pipelines, projects or groups, or their text forms: all jobs of each.
        dest: The folder; made when missing.
        options: `name`, `stage` and `scope` select, `max_open` bounds what is read at once;
            with `follow=False` the logs of jobs that go on are skipped instead of followed.
        path_template: Where a log goes below the folder; the fields are those of `SyncOptions`.
        fsync: Force files to the disk before they get their name.
        on_event: Gets each `SyncPlanned`, `DownloadProgress` and `SyncFinished`.

    Returns:
        Every selected job in exactly one list; why one was skipped or failed stands beside it.

    Raises:
        DiskFullError: No space is left. Finished files stay.
        ManifestError: The folder is in use, or its record is damaged.
        DestinationError: *dest* cannot be a folder.
        ValueError, TypeError: A target that is none, or a template that is not usable.

    Cancellation: finished files stay; partial ones are gone on with by the next run.
    """
    check_template(path_template)
    root = await storage.open_root(dest, durable=fsync)
    try:
        run = _Save(
            api=api,
            root=root,
            options=options or TailOptions(),
            template=path_template,
            fsync=fsync,
            on_event=on_event,
        )
        for path, job_id in await root.ledger.owners():
            run.places.remember(path, job_id)
        await _save_all(run, targets)
        return attrs.evolve(run.report, bytes_received=run.received)
    finally:
        closing = asyncio.ensure_future(root.aclose())
        await joined(closing)
        closing.result()


async def _save_all(run: _Save, targets: Targets) -> None:
    slots = CapacityLimiter(run.options.max_open)

    async def in_slot(target: Target, ref: JobRef, job: Job) -> None:
        try:
            await _save_one(run, target, ref, job)
        finally:
            slots.release()

    cause: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as group:
            async for target, ref, job in _selected(run, targets):
                await slots.acquire()
                group.create_task(in_slot(target, ref, job), name=f"asyncjobs save {ref}")
    except BaseExceptionGroup as errors:
        cause = _first(errors)
    if cause is not None:
        raise cause


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error to raise: a full disk before what followed from it."""
    full, _ = errors.split(DiskFullError)
    return first_error(full or errors)


async def _selected(run: _Save, targets: Targets) -> AsyncIterator[tuple[Target, JobRef, Job]]:
    """The jobs of the targets, each once; a listing that breaks is noted."""
    async for each in one_by_one(targets):
        target = as_target(each)
        async for part in _parts(run, target):
            try:
                async for ref, job in run.api.iter_target_jobs(part, scope=run.options.scope):
                    if job.id not in run.seen and (isinstance(target, JobRef) or matches(job, run.options)):
                        run.seen.add(job.id)
                        yield target, ref, job
            except (RequestError, ResponseError) as error:
                run.report.failures.append(TargetFailure(part, error))


async def _parts(run: _Save, target: Target) -> AsyncIterator[Target]:
    """A group taken apart into its projects, so that one that is refused does not hide the others."""
    if not isinstance(target, GroupRef):
        yield target
        return
    try:
        async for project in run.api.group_members(target):
            yield project
    except (RequestError, ResponseError) as error:
        run.report.failures.append(TargetFailure(target, error))


async def _save_one(run: _Save, target: Target, ref: JobRef, job: Job) -> None:
    """Settle one job, whatever becomes of it.

    Raises:
        DiskFullError: Everything has to stop.
    """
    reason = _not_now(run, job)
    if reason is not None:
        run.settle("skipped", ArtifactOutcome(ref, reason=reason))
        return
    try:
        path = run.places.claim(render(run.template, ref, job), job.id)
        folder, name = await run.root.parent_of(path, create=True)
        try:
            await _settle(run, target, ref, job, folder, name, path)
        finally:
            await folder.close()
    except DiskFullError:
        raise
    except ForbiddenError as error:
        run.settle("skipped", ArtifactOutcome(ref, reason="forbidden", error=error))
    except (RequestError, ResponseError, TraceError, DestinationError, UnsafePathError) as error:
        run.settle("failed", ArtifactOutcome(ref, reason="error", error=error))


def _not_now(run: _Save, job: Job) -> str | None:
    """Why there is nothing to read now, as a reason of `ArtifactOutcome`."""
    if job.erased_at is not None:
        return "erased"
    match phase_of(job, wait_for_start=run.options.wait_for_start):
        case Phase.EMPTY:
            return "none"
        case Phase.BLOCKED:
            return "not_finished"
        case Phase.WAITING if not run.options.wait_for_start:
            return "not_finished"
    # A file of half a log would look like the whole one.
    if not run.options.follow and not job.status.is_final:
        return "not_finished"
    return None


async def _settle(
    run: _Save, target: Target, ref: JobRef, job: Job, folder: Folder, name: str, path: str
) -> None:
    row = await run.root.ledger.row(path)
    where = run.root.path / path
    if row is not None and await _is_there(folder, name, row, job):
        run.settle("unchanged", ArtifactOutcome(ref, where, row.size, row.sha256))
        return
    run.tell(SyncPlanned(ref, where, job.trace_size_bytes))
    part = await claim_part(folder, name, f"trace of {run.api.exchange.root.web_url} {ref.job_id}")
    try:
        last = await _read(run, ref, job, folder, part, where)
        if not part.length:
            await part.discard()
            reason = "erased" if last.erased_at else "none" if last.status.is_final else "not_finished"
            run.settle("skipped", ArtifactOutcome(ref, reason=reason))
            return
        stored = await _place(run, target, ref, last, folder, name, path, part, row)
    except BaseException:
        await part.release()
        raise
    run.settle("downloaded", ArtifactOutcome(ref, where, stored.size, stored.sha256))


async def _is_there(folder: Folder, name: str, row: FileRow, job: Job) -> bool:
    """Whether the file of an earlier run is still the whole log."""
    facts = await folder.facts(name)
    disk = OnDisk(facts.size, facts.mtime_ns) if facts is not None and facts.is_file else None
    known = Remembered(row.job_id, row.remote_size, row.size, row.mtime_ns, row.sha256, row.complete)
    size = job.trace_size_bytes
    action = choose_action(job_id=job.id, size=size, remembered=known, on_disk=disk)
    if action is Action.REHASH and disk is not None:
        disk = attrs.evolve(disk, sha256=await folder.sha256(name))
        action = choose_action(job_id=job.id, size=size, remembered=known, on_disk=disk)
    return action is Action.KEEP or (action is Action.RECORD and row.complete)


async def _read(
    run: _Save, ref: JobRef, job: Job, folder: Folder, part: Part, where: os.PathLike[str]
) -> Job:
    """Bring the whole log into the partial file, and give the job's last record."""
    watch = JobWatch(ref, job)
    if part.doubtful:
        # A cursor made of damaged bytes would prove them by themselves, and windows show the last few only.
        await part.restart()
    following = _follow(run, watch, folder, part, where)
    if job.status.is_final and job.trace_size_bytes is not None:
        return await following  # its status brings nothing new
    return await while_watched(run.api, watch, run.options, following)


async def _follow(run: _Save, watch: JobWatch, folder: Folder, part: Part, where: os.PathLike[str]) -> Job:
    ref = watch.ref
    for _ in range(_RESTARTS):
        place = Place.from_cursor(await _cursor(folder, part, ref)) if part.length else Place()
        await part.note(_VALIDATOR, None)
        follower = Follower(run.api, watch, options=run.options, place=place)
        try:
            last = await follower.run(_FileSink(run, ref, part, where))
            return watch.job or last
        except _StartOverError:
            await part.restart()
        finally:
            run.received += follower.wire_bytes
    raise TraceError(f"the trace of {ref} changed its past {_RESTARTS} times while it was saved")


async def _cursor(folder: Folder, part: Part, ref: JobRef) -> TraceCursor:
    """The cursor of what an earlier run left, from the bytes themselves."""
    length = part.length

    def read(read_at: ReadAt, size: int) -> TraceCursor:
        crc, at, tail = 0, 0, b""
        while at < min(size, length):
            piece = read_at(at, min(_READ_BYTES, length - at))
            crc, at = zlib.crc32(piece, crc), at + len(piece)
            tail = (tail + piece)[-CURSOR_TAIL_BYTES:]
        return TraceCursor(ref, at, crc, tail)

    return await folder.examine(part.data_name, read)


@attrs.frozen
class _FileSink:
    """Puts a tail's bytes into a partial file."""

    run: _Save
    ref: JobRef
    part: Part
    where: os.PathLike[str]

    async def chunk(self, chunk: TraceChunk) -> None:
        await self.part.feed(chunk.data)
        path = self.run.root.path / self.where
        self.run.tell(DownloadProgress(self.ref, path, self.part.length, None))

    async def reset(self, reset: Reset) -> None:
        raise _StartOverError(reset.reason)


async def _place(
    run: _Save,
    target: Target,
    ref: JobRef,
    job: Job,
    folder: Folder,
    name: str,
    path: str,
    part: Part,
    known: FileRow | None,
) -> FileRow:
    """Give the file its name: promise the row, rename, complete the row."""
    size, sha256 = part.length, await part.finish(sync=run.fsync)
    there = await folder.facts(name)
    if there is not None and known is None and not (there.is_file and await folder.sha256(name) == sha256):
        raise DestinationError(
            f"{str(folder.path / name)!r} is there already and is not from a sync of this folder;"
            " move it away, or use another path template"
        )
    facts = await folder.facts(part.data_name)
    row = FileRow(
        path=path,
        target=str(target),
        project=str(ref.project),
        job_id=ref.job_id,
        file_type=LOG_FILE_TYPE,
        remote_size=job.trace_size_bytes,
        size=size,
        # A rename keeps the time, so it is known before the file has its name.
        mtime_ns=0 if facts is None else facts.mtime_ns,
        sha256=sha256,
        complete=False,
        stored_at=run.api.clock.time(),
    )
    await run.root.ledger.put(row)
    await part.place(name, sync=run.fsync)
    row = attrs.evolve(row, complete=True)
    await run.root.ledger.put(row)
    return row
