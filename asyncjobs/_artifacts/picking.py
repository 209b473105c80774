"""Single files from a server that sends only whole archives: fetched once, read with care, deleted again.

The archive is a partial file beside its place and never gets a name of its own, so a crash leaves what any
broken download leaves. Which files may be taken out is decided in `asyncjobs._manifest`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import attrs

from asyncjobs._api import Api
from asyncjobs._artifacts import meter as wire
from asyncjobs._artifacts.members import Walk
from asyncjobs._artifacts.transfer import Fetched, Source, fetch_whole
from asyncjobs._errors import ArtifactError
from asyncjobs._manifest import (
    Kind,
    Meter,
    PlannedMember,
    ReadAt,
    find_end,
    iter_members,
    plan_members,
    unpack,
)
from asyncjobs._models import ArtifactEntry
from asyncjobs._options import ExtractLimits
from asyncjobs._storage import Folder, claim_part, examine_beside


@attrs.frozen
class Archive:
    """A whole, verified archive beside its place."""

    _folder: Folder
    _data_name: str
    _key: str
    _limits: ExtractLimits
    _came_out: Meter
    """Over all files taken out."""

    async def entries(self) -> list[ArtifactEntry]:
        """Everything in it, as its directory has it."""

        def work(read_at: ReadAt, size: int) -> list[ArtifactEntry]:
            walk, members = Walk(), iter_members(read_at, find_end(read_at, size))
            return [entry for member in members for entry in walk.entries_of(member)]

        return await self._folder.examine(self._data_name, work)

    async def plan(self, wanted: Callable[[str], bool]) -> tuple[PlannedMember, ...]:
        """The files that are wanted and may be taken out.

        Raises:
            UnsafeArchiveError: One of them must not be.
        """
        return await self._folder.examine(
            self._data_name, lambda read_at, size: plan_members(read_at, size, wanted, self._limits)
        )

    async def pick(self, member: PlannedMember, folder: Folder, name: str, *, fsync: bool) -> Fetched:
        """Take one file out, checked, to a partial file beside *name*; `Fetched.part.place` names it.

        Raises:
            IntegrityError: Its size or checksum is wrong.
            UnsafeArchiveError: More comes out than the limits allow.

        Cancellation: nothing of the file is kept.
        """
        part = await claim_part(folder, name, f"{self._key} member {'/'.join(member.parts)}")
        try:
            if part.length:
                await part.restart()
            await self._folder.pour(
                self._data_name, lambda read_at, _: unpack(read_at, member, self._came_out), part.feed
            )
            sha256 = await part.finish(sync=fsync)
            kind, facts, other = await examine_beside(folder, part.data_name, name, lambda *_: Kind.RAW)
            return Fetched(part, part.length, sha256, kind, facts.mtime_ns, other)
        except BaseException:
            await part.release()
            raise


@asynccontextmanager
async def whole_archive(
    api: Api, folder: Folder, name: str, source: Source, meter: wire.Meter, limits: ExtractLimits
) -> AsyncIterator[Archive]:
    """Fetch a whole archive beside *name*, and delete it when it has served.

    Raises:
        ArtifactError: It is no zip.
        AsyncJobsError: As `fetch_whole`.

    Cancellation: while it is being fetched, what is here is kept for the next call when the server can go on
    from it; afterwards it is deleted.
    """
    # Not forced to the disk: it outlives no restart, and everything taken out is checked.
    fetched = await fetch_whole(api, folder, name, source, meter, fsync=False)
    try:
        if fetched.kind is not Kind.ZIP:
            raise ArtifactError(f"{source.call} is {fetched.kind}: only a zip has single files in it")
        yield Archive(folder, fetched.part.data_name, source.key, limits, Meter(limits))
    finally:
        await fetched.part.discard()
