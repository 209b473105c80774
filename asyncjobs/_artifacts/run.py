"""One run of a sync: what all its jobs share. Events, the report, disk space, paths, the folder's record.

It knows the destination and the caller's options, and neither where jobs come from nor how bytes arrive.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import attrs

from asyncjobs._api import Api
from asyncjobs._artifacts.meter import Bandwidth
from asyncjobs._concurrency import CapacityLimiter
from asyncjobs._errors import AsyncJobsError, DestinationError, DiskFullError
from asyncjobs._manifest import (
    Action,
    OnDisk,
    Places,
    Remembered,
    choose_action,
    render,
)
from asyncjobs._models import (
    ArtifactOutcome,
    DownloadProgress,
    Job,
    JobRef,
    SyncEvent,
    SyncFinished,
    SyncPlanned,
    SyncReport,
)
from asyncjobs._options import SyncOptions
from asyncjobs._storage import FileFacts, FileRow, Folder, Root, Storage, joined

SPARE_BYTES = 32 * 1024 * 1024
"""Left free on the disk: for the manifest, and for whoever shares it."""

_EASE_SECONDS = 1.0
_ROOM_SECONDS = 1.0
"""How long the word of a disk with more than twice the room is good: small files come by the hundred."""

logger = logging.getLogger("asyncjobs")

T = TypeVar("T")

OnEvent = Callable[[SyncEvent], object]


@attrs.define(kw_only=True)
class Run:
    """The shared state of one run; changed only from the event loop."""

    api: Api
    storage: Storage
    root: Root
    options: SyncOptions
    on_event: OnEvent | None
    slots: CapacityLimiter
    bandwidth: Bandwidth
    report: SyncReport = attrs.field(factory=SyncReport)
    places: Places = attrs.field(factory=Places)
    wanted_paths: set[str] = attrs.field(factory=set)
    """Paths that this run selected."""
    undecided_jobs: set[int] = attrs.field(factory=set)
    """Jobs that were selected and have no path in this run, but whose files must stay."""
    received: int = 0
    _reserved: int = 0
    _room: int = 0
    """What was free and not set aside when the disk was asked last, less what was set aside since."""
    _measured_at: float = float("-inf")
    _eased_at: float = float("-inf")

    # -- telling --------------------------------------------------------------------------------------

    def tell(self, event: SyncEvent) -> None:
        """Hand one event to the caller; what it raises ends the sync."""
        if self.on_event is not None:
            self.on_event(event)

    def planned(self, ref: JobRef, path: str, size: int | None) -> None:
        """An archive will be fetched."""
        self.tell(SyncPlanned(ref, self.root.path / path, size))

    def progress(self, value: DownloadProgress) -> None:
        """Bytes arrived."""
        self.tell(value)

    def settle(self, kind: str, outcome: ArtifactOutcome) -> None:
        """Put a job into one list of the report."""
        getattr(self.report, kind).append(outcome)
        self.tell(SyncFinished(kind, outcome))

    def count_wire(self, count: int) -> None:
        """Count bytes that crossed the network."""
        self.received += count

    def final_report(self) -> SyncReport:
        """The report, with what crossed the network."""
        return attrs.evolve(self.report, bytes_received=self.received)

    # -- places ---------------------------------------------------------------------------------------

    def place_for(self, ref: JobRef, job: Job) -> str:
        """The path of one job's archive, which no other job has.

        Raises:
            UnsafePathError: There is none.
        """
        path = render(self.options.path_template, ref, job)
        beside = self.options.extract or bool(self.options.members)
        path = self.places.claim(path, ref.job_id, beside=beside)
        self.wanted_paths.add(path)
        return path

    async def folder_of(self, path: str) -> tuple[Folder | None, str]:
        """The open folder of a path below the root, made unless the run is dry (then None when missing)."""
        try:
            return await self.root.parent_of(path, create=not self.options.dry_run)
        except DestinationError:
            if not self.options.dry_run:
                raise
            return None, path.rpartition("/")[2]

    # -- what is here already -------------------------------------------------------------------------

    async def is_kept(self, row: FileRow | None, job_id: int, size: int | None) -> bool:
        """Whether nothing is to be done for one path; asks no more of the disk than what has the name."""
        if row is None or row.job_id != job_id or self.options.verify:
            return False
        try:
            facts = await self.root.facts(row.path)
        except DestinationError:
            return False  # whoever opens the folder meets it again, and says so
        action = choose_action(job_id=job_id, size=size, remembered=_remembered(row), on_disk=_on_disk(facts))
        return action is Action.KEEP

    async def action_for(
        self, folder: Folder | None, name: str, row: FileRow | None, job_id: int, size: int | None
    ) -> Action:
        """What to do with one path, its file hashed when that is needed to tell."""
        remembered = None if row is None else _remembered(row)
        on_disk = None
        if folder is not None and row is not None and row.job_id == job_id:
            on_disk = _on_disk(await folder.facts(name))
        action = choose_action(
            job_id=job_id, size=size, remembered=remembered, on_disk=on_disk, verify=self.options.verify
        )
        if action is Action.REHASH and folder is not None and on_disk is not None:
            on_disk = attrs.evolve(on_disk, sha256=await folder.sha256(name))
            action = choose_action(job_id=job_id, size=size, remembered=remembered, on_disk=on_disk)
        if action is Action.RECORD and not self.options.dry_run:
            assert row is not None
            assert on_disk is not None
            assert folder is not None
            if self.options.fsync:
                # A run that was killed after the file had its name has not forced the name down.
                await folder.sync()
            row = attrs.evolve(row, complete=True, mtime_ns=on_disk.mtime_ns)
            await self.root.ledger.put(row)
        return action

    @staticmethod
    async def check_replaceable(
        folder: Folder, name: str, row: FileRow | None, facts: FileFacts | None, sha256: str
    ) -> None:
        """Make sure that giving a file its name destroys nothing but our own.

        Args:
            folder: The folder of it.
            name: The name.
            row: The record of an earlier file of this name.
            facts: What has the name now.
            sha256: Of the file that is to get it.

        Raises:
            DestinationError: Something else is there, and it is not the very same file.
        """
        if facts is None or (facts.is_file and row is not None):
            return
        if facts.is_file and await folder.sha256(name) == sha256:
            return  # the record was lost, the file was not
        raise DestinationError(
            f"{str(folder.path / name)!r} is there already and is not from a sync of this folder;"
            " move it away, or use another path template"
        )

    # -- disk space -----------------------------------------------------------------------------------

    async def reserve(self, size: int | None) -> int:
        """Set bytes aside for one download, before it begins.

        Raises:
            DiskFullError: They do not fit beside what the downloads under way still need.
            DestinationError: No freeing of space would help: the whole disk is smaller. One absurd record
                ends nobody else's download.
        """
        if size is None:
            return 0
        if 0 < self.root.disk_bytes < size:
            raise DestinationError(
                f"the server announces {size} bytes, and the whole disk of {str(self.root.path)!r} has"
                f" {self.root.disk_bytes}; choose another disk, or leave the job out"
            )
        now = self.api.clock.monotonic()
        if size > self._room // 2 or now - self._measured_at >= _ROOM_SECONDS:
            free = await self.root.free_bytes()
            self._room, self._measured_at = free - self._reserved - SPARE_BYTES, now
            if size > self._room:
                raise DiskFullError(
                    f"{size} bytes do not fit below {str(self.root.path)!r}: {free} are free,"
                    f" {self._reserved} of them are needed by downloads under way"
                )
        self._room -= size
        self._reserved += size
        return size

    def give_back(self, size: int) -> None:
        """Return what `reserve` set aside."""
        self._reserved -= size

    # -- pace -----------------------------------------------------------------------------------------

    async def ease_off(self) -> None:
        """After running out of file descriptors: half as many downloads at once from now on.

        The caller's slot is given back and taken again, so that it waits for the others. All who fail
        within a second fail for one reason, and count once.
        """
        now = self.api.clock.monotonic()
        if now - self._eased_at >= _EASE_SECONDS:
            self._eased_at = now
            self.slots.limit = max(1, (self.slots.limit or 1) // 2)
            logger.warning(
                "no file descriptor is left: at most %d downloads at once from now on (see ulimit -n)",
                self.slots.limit,
            )
        self.slots.release()
        await self.api.clock.sleep(_EASE_SECONDS)
        await self.slots.acquire()


def _on_disk(facts: FileFacts | None) -> OnDisk | None:
    return OnDisk(facts.size, facts.mtime_ns) if facts is not None and facts.is_file else None


def _remembered(row: FileRow) -> Remembered:
    return Remembered(
        job_id=row.job_id,
        remote_size=row.remote_size,
        size=row.size,
        mtime_ns=row.mtime_ns,
        sha256=row.sha256,
        complete=row.complete,
    )


@asynccontextmanager
async def open_run(
    api: Api,
    storage: Storage,
    dest: str | os.PathLike[str],
    options: SyncOptions,
    on_event: OnEvent | None,
) -> AsyncIterator[Run]:
    """Open and lock the destination for one run, and close it whatever happens.

    Raises:
        ManifestError: In use, damaged, or of a newer release.
        DestinationError: Not a folder, or not permitted.
    """
    root = await storage.open_root(dest, durable=options.fsync, read_only=options.dry_run)
    try:
        run = Run(
            api=api,
            storage=storage,
            root=root,
            options=options,
            on_event=on_event,
            slots=CapacityLimiter(options.concurrency),
            bandwidth=Bandwidth(api.clock, options.bandwidth_limit),
        )
        for path, job_id in await root.ledger.owners():
            run.places.remember(path, job_id)
        yield run
    finally:
        closing = asyncio.ensure_future(root.aclose())
        await joined(closing)
        closing.result()


async def settle_all(run: Run, found: AsyncIterator[T], settle: Callable[[Run, T], Awaitable[None]]) -> None:
    """Settle everything found, a slot for each; when all are taken nothing more is asked for.

    Raises:
        AsyncJobsError: What ends the whole run; the others were cancelled and joined.
    """

    async def in_slot(each: T) -> None:
        try:
            await settle(run, each)
        finally:
            run.slots.release()

    async def everything() -> None:
        async with asyncio.TaskGroup() as group:
            async for each in found:
                await run.slots.acquire()
                group.create_task(in_slot(each))

    # In a task of its own: on 3.11 a task group that fails while its owner is being cancelled hides the
    # cancellation, and leaves the owner marked as cancelled when it is not.
    runner = asyncio.ensure_future(everything())
    try:
        await asyncio.wait({runner})
    except asyncio.CancelledError:
        runner.cancel()
        await joined(runner)
        if not runner.cancelled():
            runner.exception()
        raise
    try:
        runner.result()
    except BaseExceptionGroup as errors:
        cause = first_cause(errors)
    else:
        return
    raise cause


def first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error to raise for a group of tasks that ended together: a full disk before all others."""
    found = list(_leaves(group))
    for kind in (DiskFullError, AsyncJobsError):
        for each in found:
            if isinstance(each, kind):
                return each
    return found[0]


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for each in group.exceptions:
        found += _leaves(each) if isinstance(each, BaseExceptionGroup) else [each]
    return found
