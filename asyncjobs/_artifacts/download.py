"""One archive, or one file out of an archive, to one place on the disk.

GitLab: https://docs.gitlab.com/api/job_artifacts/
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from asyncjobs._api import Api
from asyncjobs._artifacts.meter import Bandwidth, Meter
from asyncjobs._artifacts.picking import whole_archive
from asyncjobs._artifacts.routes import check_path, routes_of
from asyncjobs._artifacts.sources import (
    is_missing,
    job_source,
    member_source,
    missing,
    not_in_archive,
    now,
    read_job,
    ref_source,
    resolve_ref,
    why_missing,
)
from asyncjobs._artifacts.transfer import Fetched, Source, fetch_whole
from asyncjobs._errors import NotFoundError, ResponseError
from asyncjobs._manifest import missing_reason
from asyncjobs._models import ArtifactFile, DownloadProgress, Job, JobRef
from asyncjobs._options import ExtractLimits
from asyncjobs._storage import Folder, Storage, sweep_beside

OnProgress = Callable[[DownloadProgress], object]
StrPath = str | os.PathLike[str]

_DEAD_SECONDS = 3600.0
"""A partial file that nothing vouches for is left over when nobody wrote to it for so long: a living download
waits at most for `RetryPolicy`, and one that was wrong about this fails and leaves nothing."""


async def download_artifacts(
    api: Api,
    storage: Storage,
    project: int | str,
    job_id: int,
    dest: StrPath,
    *,
    on_progress: OnProgress | None = None,
) -> ArtifactFile:
    """Download a job's archive to the file *dest*: streamed, resumed, verified, and named last.

    A file that is there is replaced once the new one is whole. What a broken or cancelled call leaves is
    `.NAME.*.part` beside it, which the next call for the same archive goes on with. What a power failure
    left without its record is deleted by the next call for *dest* once it is an hour old.

    Args:
        api: The endpoints.
        storage: The disk.
        project: Id or full path.
        job_id: The job.
        dest: A file; its folder must exist. A folder, device, pipe or socket is refused before anything
            is sent.
        on_progress: Called with a `DownloadProgress` about every MiB; it must return at once.

    Raises:
        ArtifactMissingError: There is no archive; `.reason` says why, `lost` when its record lists one that
            the server does not find.
        NotFoundError: No such job, or the token may not see it.
        ForbiddenError: The token may not read the archive.
        IntegrityError: What arrived is not what was announced; nothing is kept.
        DestinationError: *dest* cannot be written; `DiskFullError` when the disk is full.
        RequestError, ResponseError: The retry policy is used up; what arrived is kept for the next call.

    Cancellation: *dest* is as it was; the bytes so far are kept for the next call when they can be resumed.
    GitLab: https://docs.gitlab.com/api/job_artifacts/#download-job-artifacts-by-job-id
    """
    folder, _ = await storage.open_destination(dest)
    await folder.close()  # asked early; opened again when there is something to write
    ref = JobRef(project, job_id)
    return await _download_job(api, storage, ref, await read_job(api, ref), dest, on_progress)


async def _download_job(
    api: Api, storage: Storage, ref: JobRef, job: Job | None, dest: StrPath, on_progress: OnProgress | None
) -> ArtifactFile:
    if job is not None and job.artifacts_file is None:
        raise missing(ref, missing_reason(job, now=now(api)) or "none")
    try:
        return await _to_file(storage, api, job_source(api, ref, job), ref, dest, on_progress)
    except NotFoundError as error:
        reason = await why_missing(api, ref) if is_missing(error) else None
        if reason is None:
            raise
        raise missing(ref, reason) from error


async def download_ref_artifacts(
    api: Api,
    storage: Storage,
    project: int | str,
    ref: str,
    job_name: str,
    dest: StrPath,
    *,
    on_progress: OnProgress | None = None,
) -> ArtifactFile:
    """Download the archive of the newest successful pipeline of a branch or tag.

    The branch is resolved to a job id first, so that a resume cannot mix two archives; only when the token
    may not list pipelines is the server asked by ref, and then nothing is resumed.

    Args:
        api: The endpoints.
        storage: The disk.
        project: Id or full path.
        ref: Branch or tag; no commit.
        job_name: The job in the pipeline.
        dest: As for `download_artifacts`.
        on_progress: As for `download_artifacts`.

    Raises:
        NotFoundError: No successful pipeline, no such job in the newest one, or no archive.
        ArtifactError, RequestError, ResponseError: As for `download_artifacts`.

    Cancellation: as for `download_artifacts`.
    GitLab: https://docs.gitlab.com/api/job_artifacts/#download-job-artifacts-by-reference-name
    """
    folder, _ = await storage.open_destination(dest)
    await folder.close()
    found = await resolve_ref(api, project, ref, job_name)
    if found is not None:
        return await _download_job(api, storage, *found, dest, on_progress)
    return await _to_file(storage, api, ref_source(api, project, ref, job_name), None, dest, on_progress)


async def download_artifact_member(
    api: Api,
    storage: Storage,
    project: int | str,
    job_id: int,
    member: str,
    dest: StrPath,
    *,
    on_progress: OnProgress | None = None,
) -> ArtifactFile:
    """Download one file out of a job's archive. Its byte count is checked; nothing is resumed.

    A server without that endpoint (before GitLab 10) sends the whole archive, which is kept beside *dest*
    until the file is taken out of it; then the file's checksum is checked as well. So does every server for
    a file called `tree` at the root, whose address is that of the listing.

    Args:
        api: The endpoints.
        storage: The disk.
        project: Id or full path.
        job_id: The job.
        member: The file's path in the archive.
        dest: As for `download_artifacts`.
        on_progress: As for `download_artifacts`; told of the archive's bytes when all of it is sent.

    Raises:
        NotFoundError: No such job, archive or file.
        BadResponseError: Something else came with a good status, such as a sign-in page.
        ValueError: A path that is absolute or climbs.
        UnsafeArchiveError: The whole archive was sent, and the file must not be unpacked or is larger than
            the defaults of `ExtractLimits`.
        ArtifactError, RequestError, ResponseError: As for `download_artifacts`.

    Cancellation: *dest* is as it was. Nothing of the file is kept; of an archive under way the bytes so far.
    GitLab: https://docs.gitlab.com/api/job_artifacts/#download-a-single-artifact-file-by-job-id
    """
    ref = JobRef(project, job_id)
    check_path(member)
    routes = routes_of(api)
    if not routes.lack_member:
        source = member_source(api, ref, member, None)
        try:
            return await _to_file(storage, api, source, ref, dest, on_progress)
        except ResponseError as error:
            if not routes.learn_from_member(member, error):
                raise
    return await _out_of_archive(storage, api, ref, member, dest, on_progress)


async def _out_of_archive(
    storage: Storage, api: Api, ref: JobRef, member: str, dest: StrPath, on_progress: OnProgress | None
) -> ArtifactFile:
    async with _destination(storage, api, dest) as (folder, name):
        source = job_source(api, ref, await read_job(api, ref))
        path, beside = folder.path / name, f"{name}.archive"
        await _sweep(folder, beside, api)
        meter = Meter(Bandwidth(api.clock, None), ref, path, on_progress)
        limits = ExtractLimits()
        async with whole_archive(api, folder, beside, source, meter, limits) as archive:
            found = await archive.plan(lambda each: each == member)
            if not found:
                raise not_in_archive(ref, member)
            fetched = await archive.pick(found[0], folder, name, fsync=True)
            return await _placed(fetched, path, name)


async def _to_file(
    storage: Storage,
    api: Api,
    source: Source,
    ref: JobRef | None,
    dest: StrPath,
    on_progress: OnProgress | None,
) -> ArtifactFile:
    async with _destination(storage, api, dest) as (folder, name):
        path = folder.path / name
        meter = Meter(Bandwidth(api.clock, None), ref, path, on_progress)
        return await _placed(await fetch_whole(api, folder, name, source, meter, fsync=True), path, name)


@asynccontextmanager
async def _destination(storage: Storage, api: Api, dest: StrPath) -> AsyncIterator[tuple[Folder, str]]:
    folder, name = await storage.open_destination(dest)
    try:
        await _sweep(folder, name, api)
        yield folder, name
    finally:
        await folder.close()


async def _sweep(folder: Folder, name: str, api: Api) -> None:
    await sweep_beside(folder, name, before_ns=int((api.clock.time() - _DEAD_SECONDS) * 1e9))


async def _placed(fetched: Fetched, path: Path, name: str) -> ArtifactFile:
    try:
        await fetched.part.place(name, sync=True)
    except BaseException:
        await fetched.part.release()
        raise
    return ArtifactFile(path, fetched.size, fetched.sha256)
