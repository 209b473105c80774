"""Only the members of an archive that match: listed first, then fetched one by one into a folder.

The names come from the server, so each is checked before it becomes a path; two that one disk could take for
the same are refused.
"""

from __future__ import annotations

import json
from fnmatch import fnmatchcase

from asyncjobs._artifacts.members import list_members
from asyncjobs._artifacts.placing import Place, fetch_and_place
from asyncjobs._artifacts.run import Run
from asyncjobs._artifacts.sources import member_source
from asyncjobs._errors import AsyncJobsError, ClosedError, DiskFullError, ManifestError, UnsafePathError
from asyncjobs._manifest import Action, check_member, collision_key, folder_beside
from asyncjobs._models import ArtifactEntry, ArtifactOutcome, JobRef
from asyncjobs._storage import TreeRow


async def sync_members(run: Run, target: str, ref: JobRef, path: str, archive_size: int | None) -> None:
    """Bring the matching members of one job to their places, as one outcome.

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
        entries = await _matching(run, ref)
        size = sum(each.size or 0 for each in entries)
        if not entries:
            run.settle("skipped", ArtifactOutcome(ref, reason="filtered"))
            return
        run.planned(ref, into, size)
        if run.options.dry_run:
            run.wanted_paths.update(f"{into}/{each.path}" for each in entries)
            run.settle("skipped", ArtifactOutcome(ref, run.root.path / into, size, reason="dry_run"))
            return
        for each in entries:
            await _one(run, target, ref, f"{into}/{each.path}", each)
        await run.root.ledger.put_tree(TreeRow(into, mark, tuple(each.path for each in entries)))
        run.settle("downloaded", ArtifactOutcome(ref, run.root.path / into, size))
    except (DiskFullError, ManifestError, ClosedError):
        raise
    except AsyncJobsError as error:
        run.undecided_jobs.add(ref.job_id)
        run.settle("failed", ArtifactOutcome(ref, run.root.path / into, reason="error", error=error))


async def _all_here(run: Run, ref: JobRef, into: str, files: tuple[str, ...]) -> bool:
    for each in files:
        path = f"{into}/{each}"
        run.wanted_paths.add(path)
        row = await run.root.ledger.row(path)
        folder, name = await run.folder_of(path)
        if folder is None:
            return False
        try:
            action, _ = await run.action_for(
                folder, name, path, ref.job_id, None if row is None else row.remote_size
            )
        finally:
            await folder.close()
        if action not in {Action.KEEP, Action.RECORD}:
            return False
    return True


async def _matching(run: Run, ref: JobRef) -> list[ArtifactEntry]:
    """The members to fetch.

    Raises:
        UnsafePathError: One of them would leave its folder, or two would meet.
    """
    found: list[ArtifactEntry] = []
    keys: set[str] = set()
    async for entry in list_members(run.api, ref):
        wanted = entry.type == "file" and any(fnmatchcase(entry.path, glob) for glob in run.options.members)
        if not wanted:
            continue
        check_member(entry.path)
        key = collision_key(entry.path)
        if key in keys:
            raise UnsafePathError(f"member {entry.path[:120]!r}: two members have this name on some disks")
        keys.add(key)
        found.append(entry)
    return found


async def _one(run: Run, target: str, ref: JobRef, path: str, entry: ArtifactEntry) -> None:
    run.wanted_paths.add(path)
    folder, name = await run.folder_of(path)
    assert folder is not None, "only dry runs lack a folder"
    try:
        action, row = await run.action_for(folder, name, path, ref.job_id, entry.size)
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
        await fetch_and_place(run, place, folder, name, row)
    finally:
        await folder.close()
