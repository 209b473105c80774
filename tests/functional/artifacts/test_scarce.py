"""What runs out: file descriptors, and disks that a server's word is larger than."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from asyncjobs._api import Api
from asyncjobs._artifacts import placing, sync_artifacts, sync_locked, transfer
from asyncjobs._errors import DestinationError, DiskFullError
from asyncjobs._manifest import LockedFile, dump_lock
from asyncjobs._options import SyncOptions
from asyncjobs._storage import Storage
from asyncjobs.testing import FakeGitLab, FakePipeline, GeneratedArchive
from tests.functional.artifacts.disk import tree

ABSURD = 10**18


class Boastful(GeneratedArchive):
    """An archive whose record says more than any disk holds."""

    @property
    def size(self) -> int:
        """What the record says."""
        return ABSURD


def archives(pipeline: FakePipeline, count: int) -> dict[str, bytes]:
    """So many finished jobs; what a sync with the template below should leave."""
    found = {}
    for number in range(count):
        job = pipeline.add_job(f"build {number}")
        job.start()
        job.set_artifacts({"out.bin": os.urandom(20_000)})
        job.finish("success")
        found[f"{job.id}.zip"] = job.archive_bytes
    return found


TEMPLATE = "{job_id}.zip"


async def test_running_out_of_descriptors_halves_the_downloads_and_says_so(
    gitlab: FakeGitLab,
    api: Api,
    storage: Storage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """EMFILE of the system lowers the concurrency for the rest of the sync, once for all who met it."""
    expected = archives(gitlab.add_project("group/app").add_pipeline("main"), 16)
    loop = asyncio.get_running_loop()
    began, running = loop.time(), [0]
    entered: list[tuple[float, int]] = []
    real_open, real_fetch = os.open, transfer.fetch_whole

    def scarce(path: Any, flags: int, *args: Any, **facts: Any) -> int:
        if flags & os.O_EXCL and running[0] > 3:
            raise OSError(errno.EMFILE, "Too many open files")
        return real_open(path, flags, *args, **facts)

    async def fetch(*args: Any, **facts: Any) -> Any:
        running[0] += 1
        entered.append((loop.time() - began, running[0]))
        try:
            fetched = await real_fetch(*args, **facts)
            await asyncio.sleep(3)
        finally:
            running[0] -= 1
        return fetched

    monkeypatch.setattr(os, "open", scarce)
    monkeypatch.setattr(placing, "fetch_whole", fetch)
    options = SyncOptions(concurrency=8, path_template=TEMPLATE)
    report = await sync_artifacts(api, storage, ["group/app"], tmp_path, options=options)
    monkeypatch.undo()
    assert report.ok
    assert tree(tmp_path) == expected
    told = [each.getMessage() for each in caplog.records if "file descriptor" in each.getMessage()]
    assert [text.partition("at most ")[2][:1] for text in told] == ["4", "2"]
    later = [count for when, count in entered if when > 4]
    assert len(later) >= 8
    assert max(later) == 2


async def test_a_size_beyond_the_whole_disk_fails_its_own_job(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path
) -> None:
    """One absurd record ends nobody else's download."""
    pipeline = gitlab.add_project("group/app").add_pipeline("main")
    job = pipeline.add_job("absurd")
    job.start()
    job.set_archive(Boastful(10))
    job.finish("success")
    expected = archives(pipeline, 4)
    options = SyncOptions(concurrency=1, path_template=TEMPLATE)
    report = await sync_artifacts(api, storage, ["group/app"], tmp_path, options=options)
    assert tree(tmp_path) == expected
    (failed,) = report.failed
    assert failed.ref.job_id == job.id
    assert isinstance(failed.error, DestinationError)
    assert not isinstance(failed.error, DiskFullError)
    assert str(ABSURD) in str(failed.error)
    assert gitlab.requests.count(f"*/jobs/{job.id}/artifacts") == 0


async def test_a_size_in_a_lock_beyond_the_whole_disk_fails_its_own_file(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path
) -> None:
    """The same for a list of files, which anybody may have written."""
    archives(gitlab.add_project("group/app").add_pipeline("main"), 1)
    lock = dump_lock([LockedFile(path="a.zip", project="group/app", job_id=1, size=ABSURD, sha256="0" * 64)])
    report = await sync_locked(api, storage, lock, tmp_path)
    assert [type(each.error) for each in report.failed] == [DestinationError]


async def test_a_size_that_the_disk_could_hold_when_emptied_ends_the_sync(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path
) -> None:
    """Up to the size of the disk it is a matter of free space, which the user can make: DiskFullError."""
    archives(gitlab.add_project("group/app").add_pipeline("main"), 1)
    disk = os.statvfs(tmp_path)
    size = disk.f_blocks * disk.f_frsize
    lock = dump_lock([LockedFile(path="a.zip", project="group/app", job_id=1, size=size, sha256="0" * 64)])
    with pytest.raises(DiskFullError, match="do not fit"):
        await sync_locked(api, storage, lock, tmp_path)
