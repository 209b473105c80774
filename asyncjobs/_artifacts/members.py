"""List what is in an archive without downloading it: by the server's listing, or by the zip's own directory.

GitLab: https://docs.gitlab.com/api/job_artifacts/ (`artifacts/tree`, newer servers only); on older ones the
end of the zip is fetched with `Range`, which works wherever the storage answers ranges.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import attrs

from asyncjobs._api import Api
from asyncjobs._artifacts.routes import routes_of
from asyncjobs._artifacts.sources import missing, not_in_archive, now
from asyncjobs._errors import ArtifactError, AsyncJobsError, BadResponseError, NotFoundError
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


class UnlistedError(ArtifactError):
    """This server shows what is in an archive only by sending all of it."""


async def list_members(
    api: Api, ref: JobRef, *, path: str = "", recursive: bool = True, archive_size: int | None = None
) -> AsyncIterator[ArtifactEntry]:
    """Walk every entry of a job's archive, folders of the server's listing included.

    Args:
        api: The endpoints.
        ref: The job.
        path: A folder inside the archive; empty for its root.
        recursive: Whether to walk into folders.
        archive_size: Bytes of the archive, when its job's record has been read already.

    Raises:
        ArtifactMissingError: No archive.
        NotFoundError: No such job, or no such path in its archive.
        ArtifactError: A server that neither lists members nor answers ranges.
        IntegrityError: The end of the zip is not that of a zip.
        RequestError, ResponseError: A request failed.
    """
    routes = routes_of(api)
    unlisted: NotFoundError | None = None
    if not routes.lack_tree:
        found = False
        try:
            entries = api.iter_artifact_members(ref.project, ref.job_id, path=path, recursive=recursive)
            async for entry in entries:
                found = True
                yield entry
            if found:
                return
            # No archive is empty: this is a file called `tree` that happens to be a list of nothing.
        except NotFoundError as error:
            if found:
                raise  # the archive went while it was being listed; what was given cannot be taken back
            routes.learn_from_tree(error)
            unlisted = error
        except BadResponseError:
            if found:
                raise
            # An older server took this for a request for the file `tree`, and there is one.
    folder = path.strip("/")
    walk = Walk(folder, recursive=recursive)
    there = not folder
    for member in await _directory(api, ref, archive_size):
        there = there or member.name.startswith(f"{folder}/")
        for entry in walk.entries_of(member):
            yield entry
    if not there:
        raise unlisted or not_in_archive(ref, path)


@attrs.define
class Walk:
    """Turns the members of a zip into entries, each folder on the way to them once."""

    folder: str = ""
    """Only what is below it."""
    recursive: bool = attrs.field(default=True, kw_only=True)
    _folders: set[str] = attrs.field(factory=set, init=False)

    def entries_of(self, member: Member) -> Iterator[ArtifactEntry]:
        """What one member adds: itself, and each folder on the way to it that is new."""
        prefix = f"{self.folder}/" if self.folder else ""
        if not member.name.startswith(prefix) or member.name == prefix:
            return
        parts = member.name.removesuffix("/").removeprefix(prefix).split("/")
        for depth in range(1, len(parts) + 1 if self.recursive else 2):
            name = parts[depth - 1]
            whole = prefix + "/".join(parts[:depth])
            if depth == len(parts) and not member.is_folder:
                yield ArtifactEntry(name=name, path=whole, type="file", size=member.size)
            elif whole not in self._folders:
                self._folders.add(whole)
                yield ArtifactEntry(name=name, path=whole, type="directory")


async def _directory(api: Api, ref: JobRef, size: int | None) -> Iterator[Member]:
    """The members as the zip's own directory has them; all that is needed was fetched when this returns."""
    if size is None:
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
                    raise UnlistedError(
                        f"job {ref}: this server neither lists the members of an archive nor sends parts"
                        " of it; download the whole archive instead"
                    )
                return await body.read(last - first)
        except ArtifactError:
            raise
        except AsyncJobsError as error:
            await attempts.failed(error)
