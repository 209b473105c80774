"""A sync that unpacks, disturbed at every single file call: a folder under its name is whole, always.

A part of the calls in each run; `ASYNCJOBS_TORTURE=2` tries every call, two seeds of each.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from asyncjobs._options import SyncOptions
from asyncjobs._storage import UNFINISHED, BlockingFolder, Ledger, TreeRow, parts, roots, storage, unpack
from asyncjobs.testing import FakeGitLab, FakeJob, FakePipeline
from tests.sim.disk import FaultKind, SimDisk
from tests.sim.platter import Directory
from tests.sim.trees import SimFile
from tests.sim.world import DEST, GATHER_BYTES, SEEDS, TORTURE, World, trouble

OPTIONS = SyncOptions(prune=True, extract=True)


def pack(job: FakeJob, version: int) -> None:
    """An archive with folders, an empty file, and one that is more than one piece."""
    chance = random.Random(job.id * 100 + version)
    files = {"a.bin": chance.randbytes(3_000 + version), "d/empty": b"", "d/e/log.txt": b"line\n" * version}
    job.set_artifacts(files if version % 2 else {**files, "only/here": b"x"})


def made(pipeline: FakePipeline, name: str) -> FakeJob:
    """A finished job with its first archive."""
    job = pipeline.add_job(name)
    job.start()
    pack(job, 1)
    job.finish("success")
    return job


@pytest_asyncio.fixture
async def world(base: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """Folders of an earlier run, and a server on which some archives are new, others, or gone."""
    monkeypatch.setattr(parts, "GATHER_BYTES", GATHER_BYTES)
    async with FakeGitLab(generation="18", delivery="direct", jobs_index_limit=None) as gitlab:
        pipeline = gitlab.add_project("group/app").add_pipeline("main")
        jobs = {name: made(pipeline, name) for name in ("kept", "gone", "changed", "bare")}
        world = World(gitlab, jobs, base, OPTIONS)
        world.note()
        disk = world.disk()
        assert len((await world.sync(disk)).downloaded) == 4
        world.check_settled(disk)
        jobs["new"] = made(pipeline, "new")
        jobs["gone"].erase()
        pack(jobs["changed"], 2)
        lose(disk, world.folder(jobs["bare"]))
        world.lost.add(world.folder(jobs["bare"]))
        world.note()
        world.after(disk)
        yield world


def lose(disk: SimDisk, path: str) -> None:
    """Somebody else deletes a folder."""
    above, _, name = path.rpartition("/")
    folder = disk.find(DEST / above)
    assert isinstance(folder, Directory)
    folder.change(name, None)


async def test_in_peace(world: World) -> None:
    """Undisturbed, the run does all that it is disturbed at: keeps, makes, replaces, makes anew, removes."""
    disk = world.disk()
    report = await world.sync(disk)
    assert (len(report.downloaded), len(report.unchanged), len(report.removed)) == (2, 2, 1)
    assert {"tree create", "tree write", "tree fsync", "tree rename", "tree rmdir"} <= set(disk.calls)
    world.check_settled(disk)


@pytest.mark.parametrize("kind", ["power", "kill", "error", "cancel"])
async def test_trouble_at_every_call(world: World, kind: FaultKind) -> None:
    """Whatever happens at whichever call: no folder is half, nothing is left over, one run settles it all."""
    every = 1 if TORTURE else 4
    fired = [await trouble(world, kind, seed, every=every) for seed in range(SEEDS)]
    assert min(fired) > 200 // every


@pytest.mark.parametrize("kind", ["power", "cancel"])
async def test_trouble_among_several(world: World, kind: FaultKind) -> None:
    """The same with several jobs at once."""
    every = 1 if TORTURE else 16
    fired = [await trouble(world, kind, seed, every=every) for seed in range(1, 4)]
    assert min(fired) > 200 // every


# -- the net catches ----------------------------------------------------------------------------------------


def _nothing(*_: object) -> None:
    pass


async def _no_sweep(*_: object) -> None:
    pass


async def _without_promise(ledger: Ledger, row: TreeRow) -> None:
    if row.sha256 != UNFINISHED:
        await _real_put_tree(ledger, row)


def _file_unforced(file: SimFile, *, executable: bool, sync: bool) -> None:
    _real_finish(file, executable=executable, sync=False)


def _placed_unforced(top: BlockingFolder, fresh: str, into: str, *, sync: bool, replace: object) -> None:
    _real_place(top, fresh, into, sync=False, replace=replace)  # type: ignore[arg-type]  # passed on


def _removed_under_its_name(top: BlockingFolder, name: str, files: object, *, sync: bool) -> None:
    unpack.clear(top, name)


_real_put_tree, _real_finish, _real_place = Ledger.put_tree, SimFile.finish, unpack.place
PLANTED: dict[str, tuple[object, str, object, FaultKind]] = {
    "no promise before the name": (Ledger, "put_tree", _without_promise, "kill"),
    "files are not forced down": (SimFile, "finish", _file_unforced, "power"),
    "names below are not forced down": (unpack, "_sync_below", _nothing, "power"),
    "the name is not forced down before the old one goes": (storage, "place", _placed_unforced, "power"),
    "pruned under its name": (storage, "remove_tree", _removed_under_its_name, "kill"),
    "nothing is swept": (roots, "sweep_trees", _no_sweep, "kill"),
    "a cancelled unpacking is not cleared away": (storage, "_cleared", _no_sweep, "cancel"),
}
"""Mistakes that only show when something goes wrong at the right moment."""


@pytest.mark.parametrize("mistake", PLANTED)
async def test_a_planted_mistake_is_found(
    world: World, monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    """The torture would see each of these mistakes, within a few seeds."""
    owner, name, wrong, kind = PLANTED[mistake]
    monkeypatch.setattr(owner, name, wrong)
    for seed in range(0, 12, 4):  # one at a time, so that a seed finds what it found before
        try:
            await trouble(world, kind, seed, every=3)
        except AssertionError:
            return
    pytest.fail(f"nobody noticed: {mistake}")
