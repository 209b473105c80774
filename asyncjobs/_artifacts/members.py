"""List what is in an archive without downloading it: by the server's listing, or by the zip's own directory.

GitLab: https://docs.gitlab.com/api/job_artifacts/ (`artifacts/tree`, newer servers only); on older ones the
end of the zip is fetched with `Range`, which works wherever the storage answers ranges.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from asyncjobs._api import Api
from asyncjobs._artifacts.sources import missing, now
from asyncjobs._errors import ArtifactError, AsyncJobsError, NotFoundError
from asyncjobs._manifest import find_end, iter_members, missing_reason, parse_content_range, remote_size
from asyncjobs._models import ArtifactEntry, JobRef

_TAIL_BYTES = 128 * 1024
_MOST_READS = 6


async def list_members(api: Api, ref: JobRef) -> AsyncIterator[ArtifactEntry]:
    """Walk every entry of a job's archive, folders of the server's listing included.

    Raises:
        ArtifactMissingError: No archive.
        ArtifactError: A server that neither lists members nor answers ranges.
        IntegrityError: The end of the zip is not that of a zip.
        RequestError, ResponseError: A request failed.
    """
    try:
        async for entry in api.iter_artifact_members(ref.project, ref.job_id):
            yield entry
        return
    except NotFoundError:
        pass
    for entry in await _by_ranges(api, ref):
        yield entry


async def _by_ranges(api: Api, ref: JobRef) -> list[ArtifactEntry]:
    job = await api.get_job(ref.project, ref.job_id)
    size = remote_size(job)
    if size is None:
        raise missing(ref, missing_reason(job, now=now(api)) or "none")
    windows = {max(0, size - _TAIL_BYTES): await _window(api, ref, max(0, size - _TAIL_BYTES), size)}
    for _ in range(_MOST_READS):
        try:
            return list(_entries(windows, size))
        except _NeededError as needed:
            first, last = needed.first, needed.last
        windows[first] = await _window(api, ref, first, last)
    raise ArtifactError(f"job {ref}: the directory of the archive cannot be read in {_MOST_READS} requests")


class _NeededError(Exception):
    """The zip points at bytes that were not fetched yet."""

    def __init__(self, first: int, last: int) -> None:
        super().__init__()
        self.first = first
        self.last = last


def _entries(windows: dict[int, bytes], size: int) -> Iterator[ArtifactEntry]:
    def read_at(offset: int, count: int) -> bytes:
        last = min(size, offset + count)
        for start, data in windows.items():
            if start <= offset and last <= start + len(data):
                return data[offset - start : last - start]
        raise _NeededError(offset, last)

    for member in iter_members(read_at, find_end(read_at, size)):
        path = member.name.removesuffix("/")
        name = path.rpartition("/")[2]
        if member.is_folder:
            yield ArtifactEntry(name=name, path=path, type="directory")
        else:
            yield ArtifactEntry(name=name, path=path, type="file", size=member.size)


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
