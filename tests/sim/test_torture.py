"""A sync that keeps, updates, repairs, resumes and prunes, disturbed at every single file call.

It is run once in peace to count its calls, then once for each call and each kind of trouble: the power goes,
the process is killed, the call fails, the caller cancels, the disk takes a minute and a half. After each, the
folder must be true, and one plain run must settle it. `ASYNCJOBS_TORTURE=20` tries twenty seeds of each.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from asyncjobs._options import RetryPolicy, SyncOptions
from asyncjobs._storage import Part, parts, roots
from asyncjobs.testing import FakeGitLab
from tests.sim.disk import Fault, FaultKind, SimDisk, SimFolder
from tests.sim.platter import Directory
from tests.sim.world import DEST, GATHER_BYTES, SEEDS, TORTURE, World, add, disturbed, give, trouble

OPTIONS = SyncOptions(prune=True)


@pytest_asyncio.fixture
async def world(base: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """A folder after one whole run and one broken off, and a server on which much has changed since."""
    monkeypatch.setattr(parts, "GATHER_BYTES", GATHER_BYTES)
    async with FakeGitLab(generation="18", delivery="direct", jobs_index_limit=None) as gitlab:
        pipeline = gitlab.add_project("group/app").add_pipeline("main")
        jobs = {name: add(pipeline, name) for name in ("kept", "gone", "changed", "lost")}
        made = World(gitlab, jobs, base, OPTIONS)
        made.lost.add(made.path(jobs["lost"]))
        made.note()
        disk = made.disk()
        assert len((await made.sync(disk)).downloaded) == 4
        # Neither format nor server proves the bytes of this one, so a resume must not be wrong about them.
        jobs["half"] = add(pipeline, "half", b"\x28\xb5\x2f\xfd" + random.Random(1).randbytes(300_000))
        report = await made.sync(disk, retry=RetryPolicy(attempts=1))
        assert len(report.failed) == 1
        jobs["new"] = add(pipeline.project.add_pipeline("main"), "new", size=300_000)
        jobs["gone"].erase()
        give(jobs["changed"], 41_000)
        folder = disk.find(DEST / "group-app" / str(pipeline.id))
        assert isinstance(folder, Directory)
        folder.change(made.path(jobs["lost"]).rpartition("/")[2], None)
        made.note()
        made.after(disk)
        yield made


async def test_in_peace(world: World) -> None:
    """Undisturbed, the run does all that it is disturbed at: it keeps, updates, repairs, resumes, prunes."""
    disk = world.disk()
    report = await world.sync(disk)
    assert (len(report.downloaded), len(report.unchanged), len(report.removed)) == (4, 1, 1)
    assert report.bytes_received < sum(len(job.archive_bytes) for job in world.jobs.values() if job.archive)
    world.check_settled(disk)
    assert len(disk.calls) > 100


@pytest.mark.parametrize("kind", ["power", "kill", "error", "cancel", "slow"])
async def test_trouble_at_every_call(world: World, kind: FaultKind) -> None:
    """Whatever happens at whichever call: nothing wrong under a final name, and one run settles it all."""
    # A disk that is slow breaks little: every fourth call is enough in one go.
    every = 4 if kind == "slow" else 1
    fired = [await trouble(world, kind, seed, every=every) for seed in range(SEEDS)]
    assert min(fired) > 100 // every


@pytest.mark.parametrize("kind", ["power", "kill", "error", "cancel"])
async def test_trouble_among_several_downloads(world: World, kind: FaultKind) -> None:
    """The same with several downloads at once: what strikes one of them leaves the others true as well."""
    every = 1 if TORTURE else 8
    fired = [await trouble(world, kind, seed, every=every) for seed in range(1, 4)]
    assert min(fired) > 100 // every


async def test_the_power_goes_after_the_run_that_followed_a_kill(world: World) -> None:
    """A run that ended well is on the platter, with all that a killed one had begun and never forced down."""
    for at in range(1, 400):
        fault = Fault("kill", at)
        disk = await disturbed(world, fault, concurrency=1)
        if not fault.fired:
            break
        disk = disk.reboot(disk.record_folder(DEST))
        assert (await world.sync(disk)).ok
        disk.arm(Fault("power", len(disk.calls), seed=at))
        after = disk.reboot(disk.record_folder(DEST))
        world.check_truth(after)
        assert not world.missing_bytes(after), fault
    assert at > 100


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
        # A power failure parts partial files from their records; the time of this disk is long ago.
        assert len(found) == 1, f"{disk.fault}: {sorted(found)}"
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


async def _folder_unforced(folder: SimFolder, *names: str, create: bool, sync: bool = False) -> SimFolder:
    return await _real_folder(folder, *names, create=create)


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
