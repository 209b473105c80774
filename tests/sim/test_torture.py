"""A sync that keeps, updates, repairs, resumes and prunes, disturbed at every single file call.

It is run once in peace to count its calls, then once for each call and each kind of trouble: the power goes,
the process is killed, the call fails, the caller cancels, the disk takes a minute and a half. After each, the
folder must be true, and one plain run must settle it. `ASYNCJOBS_TORTURE=20` tries twenty seeds of each.
"""

from __future__ import annotations

import asyncio
import copy
import hashlib
import os
import random
import shutil
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_asyncio

from asyncjobs._client import Client
from asyncjobs._errors import AsyncJobsError
from asyncjobs._models import SyncReport
from asyncjobs._options import Limits, RetryPolicy, SyncOptions
from asyncjobs._storage import Part, parts, roots
from asyncjobs.testing import FakeGitLab, FakeJob, FakePipeline
from tests.sim.disk import Fault, FaultKind, PowerOffError, SimDisk, SimFolder, SimHops
from tests.sim.platter import Directory, File

SEEDS = int(os.environ.get("ASYNCJOBS_TORTURE", "1"))
DEST = Path("/dest")
GATHER_BYTES = 16 * 1024
"""Small, so that a small archive is many writes."""
OPTIONS = SyncOptions(concurrency=1, prune=True)


def add(pipeline: FakePipeline, name: str, raw: bytes | None = None, *, size: int = 40_000) -> FakeJob:
    """A finished job with a zip around so many bytes, or with the bytes given."""
    job = pipeline.add_job(name)
    job.start()
    if raw is None:
        give(job, size)
    else:
        job.set_artifacts_bytes(raw)
    job.finish("success")
    return job


def give(job: FakeJob, size: int) -> None:
    """A zip of its own."""
    job.set_artifacts({"a.bin": random.Random(job.id * size).randbytes(size)})


@attrs.define
class World:
    """A server, a disk as earlier runs left it, and what may stand on it."""

    gitlab: FakeGitLab
    jobs: dict[str, FakeJob]
    base: Path
    """Where the real folders of manifests are."""
    top: Directory = attrs.field(factory=Directory)
    record: Path = Path()
    versions: dict[str, set[str]] = attrs.field(factory=dict)
    """Every hash a path ever had on the server."""
    runs: int = 0

    def note(self) -> None:
        """Remember what the server has now."""
        for job in self.jobs.values():
            if job.archive is not None:
                self.versions.setdefault(self.path(job), set()).add(job.archive_sha256)

    def path(self, job: FakeJob) -> str:
        """Where its archive goes."""
        return f"group-app/{job.pipeline.id}/{job.id}-{job.name}.zip"

    def wanted(self) -> dict[str, str]:
        """What a complete run leaves, by hash."""
        found = [job for job in self.jobs.values() if job.archive is not None]
        return {self.path(job): job.archive_sha256 for job in found}

    def disk(self) -> SimDisk:
        """The disk as earlier runs left it, for a run of its own."""
        return SimDisk(self.fresh_record(), copy.deepcopy(self.top))

    def fresh_record(self) -> Path:
        """A copy of the manifest's folder."""
        self.runs += 1
        path = self.base / str(self.runs)
        if self.record != Path():
            shutil.copytree(self.record, path)
        else:
            path.mkdir()
        return path

    async def sync(self, disk: SimDisk, **client_facts: Any) -> SyncReport:
        """One run of one process, on a network that breaks once."""
        self.gitlab.faults.clear()
        self.gitlab.fail_next("stall_midbody", after=150_000, where="*/artifacts/*", origin="storage")
        parts._live.clear()
        limits = Limits(jobs_index_per_minute=None)
        facts = {"limits": limits, "files": disk, **client_facts}
        async with Client(self.gitlab.url, private_token=self.gitlab.token, **facts) as client:
            client._storage._record_hops = SimHops(disk)
            return await client.sync_artifacts(["group/app"], DEST, options=OPTIONS)

    async def download(self, disk: SimDisk, job: FakeJob, dest: Path) -> None:
        """One call of one process."""
        parts._live.clear()
        self.gitlab.faults.clear()
        async with Client(self.gitlab.url, private_token=self.gitlab.token, files=disk) as client:
            await client.download_artifacts("group/app", job.id, dest)

    # -- what must hold -------------------------------------------------------------------------------

    def check_truth(self, disk: SimDisk) -> None:
        """Every final file is one version of its job, and the manifest claims only what is there."""
        found = {path: digest(raw) for path, raw in disk.tree(DEST).items()}
        for path, sha256 in found.items():
            if not path.rpartition("/")[2].startswith("."):
                assert sha256 in self.versions[path], f"{path} is no version of it"
        for path, sha256, complete in rows(disk):
            if complete and path != self.path(self.jobs["lost"]):
                assert found.get(path) == sha256, f"the manifest claims {path}"

    def check_settled(self, disk: SimDisk) -> None:
        """The folder is what the server has, to the last file, and the manifest says the same."""
        assert {path: digest(raw) for path, raw in disk.tree(DEST).items()} == self.wanted()
        assert {(path, sha256) for path, sha256, complete in rows(disk) if complete} == set(
            self.wanted().items()
        )
        assert disk.open_files == 0


def digest(raw: bytes) -> str:
    """SHA-256, as hex."""
    return hashlib.sha256(raw).hexdigest()


def rows(disk: SimDisk) -> list[tuple[str, str, int]]:
    """The manifest as another program reads it."""
    path = disk.record_folder(DEST) / "manifest.sqlite3"
    if not path.exists():
        return []
    connection = sqlite3.connect(path)
    try:
        return connection.execute("SELECT path, sha256, complete FROM files").fetchall()
    except sqlite3.OperationalError:
        return []  # the table is not there yet
    finally:
        connection.close()


def settle(directory: Directory) -> None:
    """Time has passed: all that was seen is on the platter."""
    directory.force()
    for entry in directory.seen.values():
        if isinstance(entry, File):
            entry.down = entry.seen
        else:
            settle(entry)


@pytest.fixture
def base(tmp_path: Path) -> Iterator[Path]:
    """A real folder where SQLite's own forcing to the disk costs nothing."""
    memory = Path("/dev/shm")
    path = memory / f"asyncjobs-{os.getpid()}-{tmp_path.name}" if memory.is_dir() else tmp_path / "records"
    path.mkdir()
    yield path
    shutil.rmtree(path)


@pytest_asyncio.fixture
async def world(base: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """A folder after one whole run and one broken off, and a server on which much has changed since."""
    monkeypatch.setattr(parts, "GATHER_BYTES", GATHER_BYTES)
    async with FakeGitLab(generation="18", delivery="direct", jobs_index_limit=None) as gitlab:
        pipeline = gitlab.add_project("group/app").add_pipeline("main")
        jobs = {name: add(pipeline, name) for name in ("kept", "gone", "changed", "lost")}
        made = World(gitlab, jobs, base)
        made.note()
        disk = made.disk()
        assert len((await made.sync(disk)).downloaded) == 4
        # Neither format nor server proves the bytes of this one, so a resume must not be wrong about them.
        jobs["half"] = add(pipeline, "half", b"\x1f\x8b" + random.Random(1).randbytes(300_000))
        report = await made.sync(disk, retry=RetryPolicy(attempts=1))
        assert len(report.failed) == 1
        jobs["new"] = add(pipeline.project.add_pipeline("main"), "new", size=300_000)
        jobs["gone"].erase()
        give(jobs["changed"], 41_000)
        folder = disk.find(DEST / "group-app" / str(pipeline.id))
        assert isinstance(folder, Directory)
        folder.change(made.path(jobs["lost"]).rpartition("/")[2], None)
        made.note()
        settle(disk.top)
        made.top, made.record = disk.top, disk.record_folder(DEST)
        gitlab.faults.clear()
        yield made


async def test_in_peace(world: World) -> None:
    """Undisturbed, the run does all that it is disturbed at: it keeps, updates, repairs, resumes, prunes."""
    disk = world.disk()
    report = await world.sync(disk)
    assert (len(report.downloaded), len(report.unchanged), len(report.removed)) == (4, 1, 1)
    assert report.bytes_received < sum(len(job.archive_bytes) for job in world.jobs.values() if job.archive)
    world.check_settled(disk)
    assert len(disk.calls) > 100


async def disturbed(world: World, fault: Fault) -> SimDisk:
    """One run with one fault; the disk as it was left."""
    disk = world.disk()
    disk.arm(fault)
    task = asyncio.ensure_future(world.sync(disk))
    disk.cancel = task.cancel
    await asyncio.wait({task})
    if not task.cancelled():
        error = task.exception()
        assert error is None or isinstance(error, AsyncJobsError | PowerOffError), repr(error)
        assert fault.kind not in {"power", "kill"} or isinstance(error, PowerOffError) or not fault.fired
    return disk


async def trouble(world: World, kind: FaultKind, seed: int, *, every: int = 1) -> int:
    """Trouble at every call, or at some; how many calls met it.

    Raises:
        AssertionError: It names the fault, which alone brings the failure back.
    """
    fired = 0
    for at in range(1 + seed % every, 1000, every):
        fault = Fault(kind, at, seed=seed * 1000 + at)
        try:
            disk = await disturbed(world, fault)
            if kind not in {"power", "kill"}:
                assert disk.open_files == 0, "something was left open"
            if not fault.fired:
                break
            fired += 1
            disk = disk.reboot(disk.record_folder(DEST), in_order=(at + seed) % 2 == 0)
            await must_settle(world, disk, thrice=at % 4 == 0)
        except AssertionError as error:
            raise AssertionError(f"{fault}: {error}") from error
    return fired


async def must_settle(world: World, disk: SimDisk, *, thrice: bool) -> None:
    """What is there is true; one plain run completes it, and the next, when there is one, receives nothing.

    The second run always ends in the same state, so a third from time to time says enough.
    """
    world.check_truth(disk)
    report = await world.sync(disk)
    assert report.ok, report
    world.check_settled(disk)
    if not thrice:
        return
    again = disk.reboot(disk.record_folder(DEST))
    report = await world.sync(again)
    assert report.ok, report
    assert report.bytes_received == 0
    world.check_settled(again)


@pytest.mark.parametrize("kind", ["power", "kill", "error", "cancel", "slow"])
async def test_trouble_at_every_call(world: World, kind: FaultKind) -> None:
    """Whatever happens at whichever call: nothing wrong under a final name, and one run settles it all."""
    # A disk that is slow breaks little: every fourth call is enough in one go.
    every = 4 if kind == "slow" else 1
    fired = [await trouble(world, kind, seed, every=every) for seed in range(SEEDS)]
    assert min(fired) > 100 // every


@pytest.mark.parametrize("kind", ["power", "kill", "error", "cancel"])
async def test_trouble_at_every_call_of_one_download(world: World, kind: FaultKind) -> None:
    """A single download leaves the old file or the new one, whole, and the next call makes it the new one."""
    old, job, dest = b"old", world.jobs["new"], DEST / "a.zip"
    for at in range(1, 200):
        disk = SimDisk(world.base)
        folder = await disk.open_folder(DEST, create=True)
        writer = await folder.create(dest.name)
        await writer.write([old])
        await writer.finish(sync=True)
        await folder.sync()
        await folder.close()
        disk.arm(Fault(kind, at + len(disk.calls), seed=at))
        task = asyncio.ensure_future(world.download(disk, job, dest))
        disk.cancel = task.cancel
        await asyncio.wait({task})
        if not task.cancelled() and task.exception() is None:
            assert disk.tree(DEST) == {dest.name: job.archive_bytes}
        if disk.fault is None or not disk.fault.fired:
            break
        disk = disk.reboot(world.base, in_order=at % 2 == 0)
        assert disk.tree(DEST)[dest.name] in {old, job.archive_bytes}, disk.fault
        await world.download(disk, job, dest)
        found = disk.tree(DEST)
        assert found[dest.name] == job.archive_bytes
        # Only a power failure can part a partial file from its record, and a folder of the user is not swept.
        assert kind == "power" or len(found) == 1, found
        assert disk.open_files == 0
    assert 15 < at < 199


# -- the net catches ----------------------------------------------------------------------------------------


async def _no_sync(*_: object) -> None:
    pass


async def _finish_unforced(part: Part, *, sync: bool) -> str:
    await part.drain()
    return await part._writer.finish(sync=False)


async def _place_unforced(part: Part, name: str, *, sync: bool) -> None:
    await part._folder.rename(part._data, name)
    part._placed = True
    await part._forget()


async def _folder_unforced(folder: SimFolder, name: str, *, create: bool, sync: bool = False) -> SimFolder:
    return await _real_folder(folder, name, create=create)


_real_folder = SimFolder.folder
PLANTED: dict[str, tuple[object, str, object]] = {
    "bytes are not forced down before the name": (Part, "finish", _finish_unforced),
    "the name is not forced down before the row": (Part, "_place", _place_unforced),
    "new folders are not forced down": (SimFolder, "folder", _folder_unforced),
    "nothing is swept": (roots, "sweep_parts", _no_sync),
}
"""Mistakes that only show when the power goes at the wrong moment."""


@pytest.mark.parametrize("mistake", PLANTED)
async def test_a_planted_mistake_is_found(
    world: World, monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    """The torture would see each of these mistakes, within a few seeds."""
    owner, name, wrong = PLANTED[mistake]
    monkeypatch.setattr(owner, name, wrong)
    for seed in range(4):
        try:
            await trouble(world, "power", seed)
        except AssertionError:
            return
    pytest.fail(f"nobody noticed: {mistake}")
