"""A server, a simulated disk as earlier runs left it, and what must be true of it after any trouble.

`trouble` runs a sync once for each of its file calls and disturbs it there; after each the folder must be
true, and one plain run must settle it.
"""

from __future__ import annotations

import asyncio
import copy
import hashlib
import io
import os
import random
import shutil
import sqlite3
import zipfile
from pathlib import Path
from typing import Any

import attrs
import msgspec

from asyncjobs._client import Client
from asyncjobs._errors import AsyncJobsError
from asyncjobs._models import SyncReport
from asyncjobs._options import Limits, SyncOptions
from asyncjobs._storage import parts
from asyncjobs.testing import FakeGitLab, FakeJob, FakePipeline
from tests.sim.disk import Fault, FaultKind, PowerOffError, SimDisk, SimHops
from tests.sim.platter import Directory, File

TORTURE = "ASYNCJOBS_TORTURE" in os.environ
SEEDS = int(os.environ.get("ASYNCJOBS_TORTURE", "1"))
DEST = Path("/dest")
GATHER_BYTES = 16 * 1024
"""Small, so that a small archive is many writes."""
AT_ONCE = (1, 3, 2, 4)
"""Downloads at once, by seed. With more than one, who makes the k-th call is up to the sockets."""


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


Tree = frozenset[tuple[str, str]]
"""Files of a folder by path and hash."""


@attrs.define
class World:
    """A server, a disk as earlier runs left it, and what may stand on it."""

    gitlab: FakeGitLab
    jobs: dict[str, FakeJob]
    base: Path
    """Where the real folders of manifests are."""
    options: SyncOptions
    top: Directory = attrs.field(factory=Directory)
    record: Path = Path()
    versions: dict[str, set[str]] = attrs.field(factory=dict)
    """Every hash a path ever had on the server."""
    trees: dict[str, dict[str, Tree]] = attrs.field(factory=dict)
    """What each archive of a path unpacks to, by its hash."""
    lost: set[str] = attrs.field(factory=set)
    """Paths that somebody else deleted, so that the manifest is wrong about them until the next run."""
    runs: int = 0

    def note(self) -> None:
        """Remember what the server has now."""
        for job in self.jobs.values():
            if job.archive is not None:
                self.versions.setdefault(self.path(job), set()).add(job.archive_sha256)
                if self.options.extract:
                    self.trees.setdefault(self.folder(job), {})[job.archive_sha256] = unzipped(job)

    def path(self, job: FakeJob) -> str:
        """Where its archive goes."""
        return f"group-app/{job.pipeline.id}/{job.id}-{job.name}.zip"

    def folder(self, job: FakeJob) -> str:
        """Where it is unpacked."""
        return self.path(job).removesuffix(".zip")

    def wanted(self) -> dict[str, str]:
        """The archives that a complete run leaves, by hash."""
        found = [job for job in self.jobs.values() if job.archive is not None]
        return {self.path(job): job.archive_sha256 for job in found}

    def wanted_files(self) -> dict[str, str]:
        """Every file that a complete run leaves, by hash."""
        files = self.wanted()
        if self.options.extract:
            for job in self.jobs.values():
                if job.archive is not None:
                    files |= {f"{self.folder(job)}/{path}": sha256 for path, sha256 in unzipped(job)}
        return files

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

    async def sync(self, disk: SimDisk, *, concurrency: int = 1, **client_facts: Any) -> SyncReport:
        """One run of one process, on a network that breaks once."""
        self.gitlab.faults.clear()
        self.gitlab.fail_next("stall_midbody", after=150_000, where="*/artifacts/*", origin="storage")
        parts._live.clear()
        limits = Limits(jobs_index_per_minute=None)
        facts = {"limits": limits, "files": disk, **client_facts}
        options = attrs.evolve(self.options, concurrency=concurrency)
        async with Client(self.gitlab.url, private_token=self.gitlab.token, **facts) as client:
            client._storage._record_hops = SimHops(disk)
            return await client.sync_artifacts(["group/app"], DEST, options=options)

    async def download(self, disk: SimDisk, job: FakeJob, dest: Path) -> None:
        """One call of one process."""
        parts._live.clear()
        self.gitlab.faults.clear()
        async with Client(self.gitlab.url, private_token=self.gitlab.token, files=disk) as client:
            await client.download_artifacts("group/app", job.id, dest)

    def after(self, disk: SimDisk) -> None:
        """Time has passed since a run: take its disk, with all that was seen on the platter."""
        settle(disk.top)
        self.top, self.record = disk.top, disk.record_folder(DEST)
        self.gitlab.faults.clear()

    # -- what must hold -------------------------------------------------------------------------------

    def check_truth(self, disk: SimDisk) -> None:
        """Every final file and folder is one version of its job, and the manifest claims what is there."""
        found = {path: digest(raw) for path, raw in disk.tree(DEST).items()}
        for path, sha256 in found.items():
            if path in self.versions:
                assert sha256 in self.versions[path], f"{path} is no version of it"
            elif not any(
                part.startswith(".asyncjobs") or part.endswith(PART_ENDS) for part in path.split("/")
            ):
                assert any(path.startswith(f"{folder}/") for folder in self.trees), f"{path} is nobody's"
        for path, sha256, complete in rows(disk):
            if complete and path not in self.lost:
                assert found.get(path) == sha256, f"the manifest claims {path}"
        for folder, known in self.trees.items():
            tree = self.tree(disk, folder)
            assert tree is None or tree in known.values(), f"{folder} is no version of it: {tree}"
        for folder, sha256, _ in tree_rows(disk):
            if sha256 and folder in self.trees and folder not in self.lost:
                tree = self.tree(disk, folder)
                assert tree == self.trees[folder][sha256], f"the manifest claims {folder}: {tree}"

    def tree(self, disk: SimDisk, folder: str) -> Tree | None:
        """The files of a folder, None when there is no folder."""
        if disk.find(DEST / folder) is None:
            return None
        return frozenset((path, digest(raw)) for path, raw in disk.tree(DEST / folder).items())

    def check_settled(self, disk: SimDisk) -> None:
        """The folder is what the server has, to the last file, and the manifest says the same."""
        found, wanted = {path: digest(raw) for path, raw in disk.tree(DEST).items()}, self.wanted_files()
        assert found == wanted, f"what differs: {sorted(dict(found.items() ^ wanted.items()))}"
        assert {(path, sha256) for path, sha256, complete in rows(disk) if complete} == set(
            self.wanted().items()
        )
        if self.options.extract:
            jobs = [job for job in self.jobs.values() if job.archive is not None]
            assert {(path, sha256) for path, sha256, _ in tree_rows(disk)} == {
                (self.folder(job), job.archive_sha256) for job in jobs
            }
        self.check_cleared(disk)
        assert disk.open_files == 0

    def check_cleared(self, disk: SimDisk) -> None:
        """No folder is half unpacked or half removed."""
        left = [path for path in disk.folders(DEST) if path.rpartition("/")[2].startswith(".asyncjobs-")]
        assert not left, f"folders left over: {left}"

    def missing_bytes(self, disk: SimDisk) -> int:
        """Bytes of archives that are not in their place."""
        found = {path: digest(raw) for path, raw in disk.tree(DEST).items()}
        jobs = [job for job in self.jobs.values() if job.archive is not None]
        return sum(len(job.archive_bytes) for job in jobs if found.get(self.path(job)) != job.archive_sha256)


PART_ENDS = (".part", ".part.json", ".part.json.new")


def unzipped(job: FakeJob) -> Tree:
    """What is in an archive, as the standard library reads it."""
    with zipfile.ZipFile(io.BytesIO(job.archive_bytes)) as archive:
        names = [each for each in archive.namelist() if not each.endswith("/")]
        return frozenset((name, digest(archive.read(name))) for name in names)


def digest(raw: bytes) -> str:
    """SHA-256, as hex."""
    return hashlib.sha256(raw).hexdigest()


def rows(disk: SimDisk) -> list[tuple[str, str, int]]:
    """The manifest as another program reads it."""
    return _select(disk, "SELECT path, sha256, complete FROM files")


def tree_rows(disk: SimDisk) -> list[tuple[str, str, list[str]]]:
    """What the manifest says of unpacked folders."""
    found = _select(disk, "SELECT path, sha256, files FROM trees")
    return [(path, sha256, msgspec.json.decode(files)) for path, sha256, files in found]


def _select(disk: SimDisk, query: str) -> list[Any]:
    path = disk.record_folder(DEST) / "manifest.sqlite3"
    if not path.exists():
        return []
    connection = sqlite3.connect(path)
    try:
        return connection.execute(query).fetchall()
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


async def disturbed(world: World, fault: Fault, *, concurrency: int) -> SimDisk:
    """One run with one fault; the disk as it was left."""
    disk = world.disk()
    disk.arm(fault)
    task = asyncio.ensure_future(world.sync(disk, concurrency=concurrency))
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
    concurrency = AT_ONCE[seed % len(AT_ONCE)]
    for at in range(1 + seed % every, 2000, every):
        fault = Fault(kind, at, seed=seed * 1000 + at)
        try:
            disk = await disturbed(world, fault, concurrency=concurrency)
            if kind not in {"power", "kill"}:
                assert disk.open_files == 0, "something was left open"
            if kind == "cancel":
                world.check_cleared(disk)
            if not fault.fired:
                break
            fired += 1
            disk = disk.reboot(disk.record_folder(DEST), in_order=(at + seed) % 2 == 0)
            await must_settle(world, disk, thrice=at % 4 == 0)
        except AssertionError as error:
            raise AssertionError(f"{fault}, {concurrency} at once: {error}") from error
    return fired


async def must_settle(world: World, disk: SimDisk, *, thrice: bool) -> None:
    """What is there is true; one plain run completes it, and the next, when there is one, receives nothing.

    The second run always ends in the same state, so a third from time to time says enough.
    """
    world.check_truth(disk)
    missing = world.missing_bytes(disk)
    report = await world.sync(disk)
    assert report.ok, report
    assert report.bytes_received == 0 or missing, "an archive was fetched that was in its place"
    world.check_settled(disk)
    if not thrice:
        return
    again = disk.reboot(disk.record_folder(DEST))
    report = await world.sync(again)
    assert report.ok, report
    assert report.bytes_received == 0
    world.check_settled(again)
