"""From a source to a file under its name, in the one order in which a crash anywhere is understood later.

Download and verify beside the target; promise the row; rename; complete the row. A file without a row was put
there by somebody else, and is never replaced unless it is the very same.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import attrs

from asyncjobs._artifacts.meter import Meter
from asyncjobs._artifacts.run import Run
from asyncjobs._artifacts.transfer import Fetched, Source, fetch_whole
from asyncjobs._models import JobRef
from asyncjobs._storage import FileRow, Folder


@attrs.frozen(kw_only=True)
class Place:
    """One file of a sync: where it goes and what it is."""

    target: str
    """The sync target it belongs to, as text."""
    ref: JobRef
    path: str
    """Below the root."""
    size: int | None
    """Bytes the server announces."""
    source: Source
    file_type: str = "archive"
    member: str = ""


Fetch = Callable[[Folder, str], Awaitable[Fetched]]
"""Brings a whole, verified file to a folder, beside the name that it will get."""


async def fetch_and_place(
    run: Run, place: Place, folder: Folder, name: str, known: FileRow | None, fetch: Fetch | None = None
) -> FileRow:
    """Fetch a file and give it its name.

    Args:
        run: The run.
        place: What goes where.
        folder: The open folder of it.
        name: Its name there.
        known: The row of an earlier run for the path.
        fetch: Where it comes from, when that is not the place's own source.

    Raises:
        DiskFullError: It does not fit.
        DestinationError: Something of somebody else has the name, or the whole disk is smaller than the file.
        AsyncJobsError: It could not be had; see `fetch_whole`.

    Cancellation: the target is as it was, or complete; a partial file is kept when it can be resumed.
    """
    fsync = run.options.fsync
    reserved = await run.reserve(place.size)
    try:
        fetched = await (_from_source(run, place, folder, name) if fetch is None else fetch(folder, name))
        try:
            await run.check_replaceable(folder, name, known, fetched.in_its_place, fetched.sha256)
            row = FileRow(
                path=place.path,
                target=place.target,
                project=str(place.ref.project),
                job_id=place.ref.job_id,
                file_type=place.file_type,
                member=place.member,
                remote_size=place.size,
                size=fetched.size,
                # A rename keeps the time, so it is known before the file has its name.
                mtime_ns=fetched.mtime_ns,
                sha256=fetched.sha256,
                complete=False,
                stored_at=run.api.clock.time(),
            )
            await run.root.ledger.put(row)
            await fetched.part.place(name, sync=fsync)
        except BaseException:
            await fetched.part.release()
            raise
    finally:
        run.give_back(reserved)
    row = attrs.evolve(row, complete=True)
    await run.root.ledger.put(row)
    return row


async def _from_source(run: Run, place: Place, folder: Folder, name: str) -> Fetched:
    meter = Meter(run.bandwidth, place.ref, run.root.path / place.path, run.progress, run.count_wire)
    return await fetch_whole(
        run.api,
        folder,
        name,
        place.source,
        meter,
        fsync=run.options.fsync,
        check_crcs=run.options.verify_members,
    )
