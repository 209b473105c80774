"""List what is in an archive without downloading it: by the server's listing, or by the zip's own directory.

GitLab: https://docs.gitlab.com/api/job_artifacts/ (`artifacts/tree`, newer servers only); on older ones the
end of the zip is fetched with `Range`, which works wherever the storage answers ranges.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from asyncjobs._api import Api
from asyncjobs._artifacts.sources import missing, now
from asyncjobs._errors import ArtifactError, AsyncJobsError, NotFoundError
from asyncjobs._manifest import (
    Member,
    ReadAt,
    find_end,
    iter_members,
    missing_reason,
    parse_content_range,
    remote_size,
)
from asyncjobs._models import ArtifactEntry, JobRef

_TAIL_BYTES = 128 * 1024
_MOST_READS = 6


async def list_members(
    api: Api, ref: JobRef, *, path: str = "", recursive: bool = True
) -> AsyncIterator[ArtifactEntry]:
    """Walk every entry of a job's archive, folders of the server's listing included.

    Args:
        api: The endpoints.
        ref: The job.
        path: A folder inside the archive; empty for its root.
        recursive: Whether to walk into folders.

    Raises:
        ArtifactMissingError: No archive.
        NotFoundError: No such job, or no such path in its archive.
        ArtifactError: A server that neither lists members nor answers ranges.
        IntegrityError: The end of the zip is not that of a zip.
        RequestError, ResponseError: A request failed.
    """
    found = False
    try:
        async for entry in api.iter_artifact_members(ref.project, ref.job_id, path=path, recursive=recursive):
            found = True
            yield entry
        return
    except NotFoundError as error:
        if found:
            raise  # the archive went while it was being listed; what was given cannot be taken back
        unlisted = error
    folder = path.strip("/")
    folders: set[str] = set()
    for member in await _directory(api, ref):
        found = found or member.name.startswith(f"{folder}/")
        for entry in _entries(member, folder, recursive=recursive):
            if entry.type == "directory":
                if entry.path in folders:
                    continue
                folders.add(entry.path)
            yield entry
    if folder and not found:
        raise unlisted


def _entries(member: Member, folder: str, *, recursive: bool) -> Iterator[ArtifactEntry]:
    """What one member is below *folder*: itself, and each folder on the way to it."""
    prefix = f"{folder}/" if folder else ""
    if not member.name.startswith(prefix) or member.name == prefix:
        return
    parts = member.name.removesuffix("/").removeprefix(prefix).split("/")
    for depth in range(1, len(parts) + 1 if recursive else 2):
        name = parts[depth - 1]
        whole = prefix + "/".join(parts[:depth])
        if depth < len(parts) or member.is_folder:
            yield ArtifactEntry(name=name, path=whole, type="directory")
        else:
            yield ArtifactEntry(name=name, path=whole, type="file", size=member.size)


async def _directory(api: Api, ref: JobRef) -> Iterator[Member]:
    """The members as the zip's own directory has them; all that is needed was fetched when this returns."""
    job = await api.get_job(ref.project, ref.job_id)
    size = remote_size(job)
    if size is None:
        raise missing(ref, missing_reason(job, now=now(api)) or "none")
    first, last = max(0, size - _TAIL_BYTES), size
    windows: dict[int, bytes] = {}
    read_at = _reader(windows, size)
    for _ in range(_MOST_READS):
        windows[first] = await _window(api, ref, first, last)
        try:
            end = find_end(read_at, size)
            read_at(end.directory_offset, end.directory_bytes)
        except _NeededError as needed:
            first, last = needed.first, needed.last
        else:
            return iter_members(read_at, end)
    raise ArtifactError(f"job {ref}: the directory of the archive cannot be read in {_MOST_READS} requests")


class _NeededError(Exception):
    """The zip points at bytes that were not fetched yet."""

    def __init__(self, first: int, last: int) -> None:
        super().__init__()
        self.first = first
        self.last = last


def _reader(windows: dict[int, bytes], size: int) -> ReadAt:
    def read_at(offset: int, count: int) -> bytes:
        last = min(size, offset + count)
        for start, data in windows.items():
            if start <= offset and last <= start + len(data):
                return data[offset - start : last - start]
        raise _NeededError(offset, last)

    return read_at


async def _window(api: Api, ref: JobRef, first: int, last: int) -> bytes:
    """The bytes from *first* up to *last*."""
    attempts = api.attempts("read", call=f"the end of the archive of job {ref}")
    while True:
        try:
            async with api.open_artifacts(ref, range_start=first, range_end=last - 1) as body:
                window = parse_content_range(body.headers.get("content-range"))
                if body.status != 206 or window is None or (window.first, window.last) != (first, last - 1):
                    raise ArtifactError(
                        f"job {ref}: this server neither lists the members of an archive nor sends parts"
                        " of it; download the whole archive instead"
                    )
                return await body.read(last - first)
        except ArtifactError:
            raise
        except AsyncJobsError as error:
            await attempts.failed(error)
