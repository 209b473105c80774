"""One job of a sync, from its record to its outcome: keep, repair, fetch, unpack, or say why not.

Whatever goes wrong with one job is its outcome and nobody else's; only a full disk, a broken record of the
folder and cancellation go further.
"""

from __future__ import annotations

import attrs

from asyncjobs._artifacts.matching import sync_members
from asyncjobs._artifacts.placing import Place, fetch_and_place
from asyncjobs._artifacts.run import Run
from asyncjobs._artifacts.sources import is_missing, job_source, missing, now, why_missing
from asyncjobs._errors import (
    ArtifactError,
    AsyncJobsError,
    ClosedError,
    DiskFullError,
    ForbiddenError,
    ManifestError,
    TooManyFilesError,
)
from asyncjobs._manifest import (
    Action,
    Kind,
    Meter,
    PlannedMember,
    ReadAt,
    folder_beside,
    missing_reason,
    plan_extraction,
    recognise,
    remote_size,
    unpack,
)
from asyncjobs._models import ArtifactOutcome, Job, JobRef
from asyncjobs._storage import UNFINISHED, Folder, TreeRow

_FATAL = (DiskFullError, ManifestError, ClosedError)
_DESCRIPTOR_TRIES = 6
"""Each time with half as many at once: from 64 to one."""
_UNSURE = frozenset({"not_finished", "forbidden", "too_large"})
"""Reasons that say nothing about the archive being gone, so its file of an earlier run stays."""


async def settle_job(run: Run, target: str, ref: JobRef, job: Job) -> None:
    """Bring one job to its outcome.

    Raises:
        DiskFullError, ManifestError: Nothing more can be done for anybody.

    Cancellation: a partial file is kept for the next run when it can be resumed.
    """
    options = run.options
    size = remote_size(job, options.file_type)
    reason = missing_reason(job, now=now(run.api), max_bytes=options.max_bytes, file_type=options.file_type)
    if reason is not None:
        _skip(run, ref, size, reason)
        return
    try:
        path = run.place_for(ref, job)
        if options.members:
            await sync_members(run, target, ref, path, job_source(run.api, ref, job), size)
            return
        source = job_source(run.api, ref, job, file_type=options.file_type)
    except _FATAL:
        raise
    except AsyncJobsError as error:
        _fail(run, ref, size, error)
        return
    place = Place(target=target, ref=ref, path=path, size=size, source=source, file_type=options.file_type)
    await settle_file(run, place)


def _skip(run: Run, ref: JobRef, size: int | None, reason: str) -> None:
    if reason in _UNSURE:
        run.undecided_jobs.add(ref.job_id)
    run.settle("skipped", ArtifactOutcome(ref, size=size, reason=reason))


def _fail(
    run: Run,
    ref: JobRef,
    size: int | None,
    error: AsyncJobsError,
    path: str | None = None,
    reason: str = "error",
) -> None:
    run.undecided_jobs.add(ref.job_id)
    where = None if path is None else run.root.path / path
    run.settle("failed", ArtifactOutcome(ref, where, size, reason=reason, error=error))


async def settle_file(run: Run, place: Place) -> None:
    """Bring one file to its outcome; see `settle_job`."""
    ref = place.ref
    for left in range(_DESCRIPTOR_TRIES, -1, -1):
        try:
            await _settle(run, place)
            return
        except TooManyFilesError as error:
            if not left:
                _fail(run, ref, place.size, error, place.path)
                return
            await run.ease_off()
        except _FATAL:
            raise
        except AsyncJobsError as error:
            reason = await _reason_of(run, place, error)
            if reason is None:
                _fail(run, ref, place.size, error, place.path)
            elif reason == "lost":
                # Data that should be there: nothing to be content with, whatever the status was.
                _fail(run, ref, place.size, missing(ref, reason), place.path, reason)
            else:
                _skip(run, ref, place.size, reason)
                run.wanted_paths.discard(place.path)
            return


async def _reason_of(run: Run, place: Place, error: AsyncJobsError) -> str | None:
    """Why there is nothing to have, when that is what *error* means."""
    if place.source.sha256 is not None:
        return None
    if isinstance(error, ForbiddenError) and not error.from_storage:
        return "forbidden"
    if not is_missing(error):
        return None
    try:
        return await why_missing(run.api, place.ref, file_type=place.file_type)
    except AsyncJobsError:
        return None


async def _settle(run: Run, place: Place) -> None:
    ref, size = place.ref, place.size
    where = run.root.path / place.path
    row = await run.root.ledger.row(place.path)
    # From a lock file: the very bytes are wanted.
    is_another = row is not None and place.source.sha256 not in {None, row.sha256}
    is_simple = row is not None and row.target == place.target and not is_another and not run.options.extract
    if row is not None and is_simple and await run.is_kept(row, ref.job_id, size):
        # Of a folder that is as it should be this is all that is done: it is not even opened.
        run.settle("unchanged", ArtifactOutcome(ref, where, row.size, row.sha256))
        return
    folder, name = await run.folder_of(place.path)
    try:
        action = await run.action_for(folder, name, row, ref.job_id, size)
        if is_another:
            action = Action.UPDATE
        if action in {Action.KEEP, Action.RECORD}:
            assert row is not None
            if row.target != place.target and not run.options.dry_run:
                # Pruning goes by the target that selected a file last.
                await run.root.ledger.put(attrs.evolve(row, target=place.target, complete=True))
            await _unpack(run, folder, name, place.path, row.sha256)
            run.settle("unchanged", ArtifactOutcome(ref, where, row.size, row.sha256))
            return
        run.planned(ref, place.path, size)
        if run.options.dry_run or folder is None:
            run.settle("skipped", ArtifactOutcome(ref, where, size, reason="dry_run"))
            return
        row = await fetch_and_place(run, place, folder, name, row)
        await _unpack(run, folder, name, place.path, row.sha256)
        run.settle("downloaded", ArtifactOutcome(ref, where, row.size, row.sha256))
    finally:
        if folder is not None:
            await folder.close()


async def _unpack(run: Run, folder: Folder | None, name: str, path: str, sha256: str) -> None:
    """Unpack an archive beside itself, unless exactly that was done before.

    Raises:
        UnsafeArchiveError: The archive must not be unpacked; it stays as it is.
        ArtifactError: It is no zip.
        DestinationError: Something of somebody else is in the way.
    """
    if not run.options.extract or run.options.dry_run or folder is None:
        return
    into_path = folder_beside(path)
    into = into_path.rpartition("/")[2]
    before = await run.root.ledger.tree(into_path)
    facts = await folder.facts(into)
    if before is not None and before.sha256 == sha256 and facts is not None and facts.is_folder:
        return
    kind = await folder.examine(name, lambda read_at, _: recognise(read_at(0, 16)))
    if kind is not Kind.ZIP:
        raise ArtifactError(f"{path!r} is stored, but it is {kind} and only zip archives are unpacked")
    limits = run.options.extract_limits
    meter = Meter(limits)

    def plan(read_at: ReadAt, size: int) -> tuple[PlannedMember, ...]:
        return plan_extraction(read_at, size, limits).members

    known = () if before is None else before.files

    async def promise(files: tuple[str, ...]) -> None:
        # Without it a crash between the name and the row would leave a folder that nobody claims.
        both = tuple(dict.fromkeys((*known, *files)))
        await run.root.ledger.put_tree(TreeRow(into_path, UNFINISHED, both))

    files = await run.storage.unpack(
        folder,
        name,
        into,
        plan,
        lambda read_at, member: unpack(read_at, member, meter),
        promise,
        sync=run.options.fsync,
        replace=None if before is None else known,
    )
    await run.root.ledger.put_tree(TreeRow(into_path, sha256, files))
