"""A synced folder as a list of job ids and hashes, and the same files from that list elsewhere."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable

import attrs

from asyncjobs._api import Api
from asyncjobs._artifacts.one import settle_file
from asyncjobs._artifacts.placing import Place
from asyncjobs._artifacts.run import OnEvent, Run, open_run, settle_all
from asyncjobs._artifacts.sources import job_source
from asyncjobs._manifest import LOG_FILE_TYPE, LockedFile, dump_lock, load_lock
from asyncjobs._models import JobRef, SyncReport
from asyncjobs._options import SyncOptions
from asyncjobs._storage import Storage


async def write_lock(storage: Storage, dest: str | os.PathLike[str]) -> bytes:
    """The lock file of a synced folder: a list of job ids, paths and hashes that `sync_locked` replays.

    Logs that were saved in the same folder are not in it: GitLab offers them to no download.

    Args:
        storage: The disk.
        dest: A folder that `sync_artifacts` filled.

    Raises:
        ManifestError: The folder has no usable record.
        DestinationError: Not a folder.
    """
    root = await storage.open_root(dest, read_only=True)
    try:
        rows = await root.ledger.rows()
    finally:
        await root.aclose()
    return dump_lock(
        LockedFile(
            path=each.path,
            project=int(each.project) if each.project.isdigit() else each.project,
            job_id=each.job_id,
            size=each.size,
            sha256=each.sha256,
            file_type=each.file_type,
        )
        for each in rows
        if each.complete and not each.member and each.file_type != LOG_FILE_TYPE
    )


async def sync_locked(
    api: Api,
    storage: Storage,
    lock: bytes,
    dest: str | os.PathLike[str],
    *,
    options: SyncOptions | None = None,
    on_event: OnEvent | None = None,
) -> SyncReport:
    """Bring exactly the files of a lock file below *dest*, each in its place with its hash.

    Args:
        api: The endpoints.
        storage: The disk.
        lock: What `write_lock` made.
        dest: A folder, made when it is missing.
        options: Concurrency, limits and checks; what selects or names jobs is not looked at.
        on_event: As for `sync_artifacts`.

    Returns:
        A file that is gone, or differs by one byte, is in `failed`, and nothing of it under its name.

    Raises:
        ManifestError: Not a lock file, or as for `sync_artifacts`.
        DiskFullError, DestinationError: As for `sync_artifacts`.

    Cancellation: as for `sync_artifacts`.
    """
    options = options or SyncOptions()
    files = load_lock(lock)
    async with open_run(api, storage, dest, options, on_event) as run:
        await settle_all(run, _each(files), _settle_locked)
        return run.final_report()


async def _settle_locked(run: Run, file: LockedFile) -> None:
    ref = JobRef(file.project, file.job_id)
    source = job_source(run.api, ref, None, file_type=file.file_type)
    source = attrs.evolve(source, expected=file.size, sha256=file.sha256)
    place = Place(
        target="lock", ref=ref, path=file.path, size=file.size, source=source, file_type=file.file_type
    )
    await settle_file(run, place)


async def _each(files: Iterable[LockedFile]) -> AsyncIterator[LockedFile]:
    for file in files:
        yield file
