"""Only the members of an archive that match: listed first, then fetched one by one into a folder.

The names come from the server, so each is checked before it becomes a path; two that one disk could take for
the same are refused. A server that sends no single files sends the archive, once, and they are taken out of
it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from fnmatch import fnmatchcase
from functools import partial

import attrs

from asyncjobs._artifacts.members import UnlistedError, list_members
from asyncjobs._artifacts.meter import Meter
from asyncjobs._artifacts.picking import Archive, whole_archive
from asyncjobs._artifacts.placing import Fetch, Place, fetch_and_place
from asyncjobs._artifacts.routes import routes_of
from asyncjobs._artifacts.run import Run
from asyncjobs._artifacts.sources import member_source, not_in_archive
from asyncjobs._artifacts.transfer import Fetched, Source
from asyncjobs._errors import (
    ArtifactError,
    AsyncJobsError,
    BadResponseError,
    ClosedError,
    DiskFullError,
    ManifestError,
    NotFoundError,
    ResponseError,
    UnsafePathError,
)
from asyncjobs._manifest import Action, check_member, collision_key, folder_beside, is_shadowed
from asyncjobs._models import ArtifactEntry, ArtifactOutcome, JobRef
from asyncjobs._storage import UNFINISHED, Folder, TreeRow, drop_part

_FATAL = (DiskFullError, ManifestError, ClosedError)


@attrs.define
class _Supply:
    """Where the members of one job come from: one by one, or out of the archive, fetched when needed."""

    run: Run
    ref: JobRef
    path: str
    """Of the archive, if it were kept."""
    source: Source
    size: int | None
    before: TreeRow | None
    """What an earlier run brought."""
    _stack: AsyncExitStack
    _archive: Archive | None = None

    async def archive(self) -> Archive:
        """The whole archive, beside its place.

        Raises:
            DiskFullError: It does not fit.
        """
        if self._archive is None:
            run = self.run
            if self.before is not None:
                # Else a run that finds every file in its place would not look for what is left of it.
                await run.root.ledger.put_tree(attrs.evolve(self.before, sha256=UNFINISHED))
            folder, name = await run.folder_of(self.path)
            assert folder is not None, "only dry runs lack a folder"
            self._stack.push_async_callback(folder.close)
            self._stack.callback(run.give_back, await run.reserve(self.size))
            meter = Meter(run.bandwidth, self.ref, run.root.path / self.path, run.progress, run.count_wire)
            limits = run.options.extract_limits
            opening = whole_archive(run.api, folder, name, self.source, meter, limits)
            self._archive = await self._stack.enter_async_context(opening)
        return self._archive

    async def pick(self, member: str, folder: Folder, name: str) -> Fetched:
        """One member out of the archive."""
        archive = await self.archive()
        found = await archive.plan(lambda each: each == member)
        if not found:
            raise not_in_archive(self.ref, member)
        return await archive.pick(found[0], folder, name, fsync=self.run.options.fsync)

    async def cleared(self, entries: Sequence[ArtifactEntry]) -> None:
        """Delete the archive, also one of an earlier run that was not needed in this one."""
        await self._stack.aclose()
        if not routes_of(self.run.api).lack_member and not any(is_shadowed(each.path) for each in entries):
            return
        folder, name = await self.run.folder_of(self.path)
        if folder is not None:
            try:
                await drop_part(folder, name)
                if self.run.options.fsync:
                    await folder.sync()  # or the power brings it back, when nobody looks for it any more
            finally:
                await folder.close()


async def sync_members(
    run: Run, target: str, ref: JobRef, path: str, source: Source, archive_size: int | None
) -> None:
    """Bring the matching members of one job to their places, as one outcome.

    Args:
        run: The run.
        target: The sync target that the job belongs to, as text.
        ref: The job.
        path: Where its archive would go.
        source: The archive.
        archive_size: Its bytes, as the job's record has them.

    Raises:
        DiskFullError, ManifestError: Nothing more can be done for anybody.
    """
    into = folder_beside(path)
    run.wanted_paths.discard(path)
    try:
        mark = f"members {json.dumps(run.options.members)} of {archive_size}"
        before = await run.root.ledger.tree(into)
        if before is not None and before.sha256 == mark and await _all_here(run, ref, into, before.files):
            run.settle("unchanged", ArtifactOutcome(ref, run.root.path / into, None))
            return
        async with AsyncExitStack() as stack:
            supply = _Supply(run, ref, path, source, archive_size, before, stack)
            entries = await _matching(run, ref, supply)
            size = sum(each.size or 0 for each in entries)
            if not entries:
                run.settle("skipped", ArtifactOutcome(ref, reason="filtered"))
                return
            run.planned(ref, into, size)
            if run.options.dry_run:
                run.wanted_paths.update(f"{into}/{each.path}" for each in entries)
                run.settle("skipped", ArtifactOutcome(ref, run.root.path / into, size, reason="dry_run"))
                return
            await _each(run, target, ref, into, entries, supply)
            # Before the row that says that there is nothing left to do here.
            await supply.cleared(entries)
        await run.root.ledger.put_tree(TreeRow(into, mark, tuple(each.path for each in entries)))
        run.settle("downloaded", ArtifactOutcome(ref, run.root.path / into, size))
    except _FATAL:
        raise
    except AsyncJobsError as error:
        run.undecided_jobs.add(ref.job_id)
        run.settle("failed", ArtifactOutcome(ref, run.root.path / into, reason="error", error=error))


async def _each(
    run: Run, target: str, ref: JobRef, into: str, entries: Sequence[ArtifactEntry], supply: _Supply
) -> None:
    """Bring each member to its place; what is wrong with one of them does not keep the others away.

    Raises:
        AsyncJobsError: The first that failed, once all others were tried; or at once what all would meet.
    """
    failure: AsyncJobsError | None = None
    for each in entries:
        try:
            await _one(run, target, ref, f"{into}/{each.path}", each, supply)
        except _FATAL:
            raise
        except (ArtifactError, BadResponseError, NotFoundError) as error:
            failure = failure or error
    if failure is not None:
        raise failure


async def _all_here(run: Run, ref: JobRef, into: str, files: tuple[str, ...]) -> bool:
    for each in files:
        path = f"{into}/{each}"
        run.wanted_paths.add(path)
        row = await run.root.ledger.row(path)
        size = None if row is None else row.remote_size
        if await run.is_kept(row, ref.job_id, size):
            continue
        folder, name = await run.folder_of(path)
        if folder is None:
            return False
        try:
            action = await run.action_for(folder, name, row, ref.job_id, size)
        finally:
            await folder.close()
        if action not in {Action.KEEP, Action.RECORD}:
            return False
    return True


async def _matching(run: Run, ref: JobRef, supply: _Supply) -> list[ArtifactEntry]:
    """The members to fetch.

    Raises:
        UnsafePathError: One of them would leave its folder, or two would meet.
    """
    globs = run.options.members

    def wanted(entry: ArtifactEntry) -> bool:
        return entry.type == "file" and any(fnmatchcase(entry.path, glob) for glob in globs)

    try:
        listing = list_members(run.api, ref, archive_size=supply.size)
        found = [each async for each in listing if wanted(each)]
    except UnlistedError:
        if run.options.dry_run:
            raise
        found = [each for each in await (await supply.archive()).entries() if wanted(each)]
    keys: set[str] = set()
    for each in found:
        check_member(each.path)
        key = collision_key(each.path)
        if key in keys:
            raise UnsafePathError(f"member {each.path[:120]!r}: two members have this name on some disks")
        keys.add(key)
    return found


async def _one(run: Run, target: str, ref: JobRef, path: str, entry: ArtifactEntry, supply: _Supply) -> None:
    run.wanted_paths.add(path)
    folder, name = await run.folder_of(path)
    assert folder is not None, "only dry runs lack a folder"
    try:
        row = await run.root.ledger.row(path)
        action = await run.action_for(folder, name, row, ref.job_id, entry.size)
        if action in {Action.KEEP, Action.RECORD}:
            return
        place = Place(
            target=target,
            ref=ref,
            path=path,
            size=entry.size,
            source=member_source(run.api, ref, entry.path, entry.size),
            file_type="member",
            member=entry.path,
        )
        routes = routes_of(run.api)
        if not routes.lack_member:
            try:
                await fetch_and_place(run, place, folder, name, row)
                return
            except ResponseError as error:
                if not routes.learn_from_member(entry.path, error):
                    raise
        pick: Fetch = partial(supply.pick, entry.path)
        await fetch_and_place(run, place, folder, name, row, pick)
    finally:
        await folder.close()
