"""Single files from a server that sends only whole archives, disturbed at every file call.

A part of the calls in each run; `ASYNCJOBS_TORTURE=2` tries every call, two seeds of each.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from asyncjobs._artifacts import matching
from asyncjobs._options import SyncOptions
from asyncjobs._storage import UNFINISHED, Ledger, Part, TreeRow, parts
from asyncjobs.testing import FakeGitLab, FakeJob, FakePipeline
from tests.sim.disk import FaultKind, SimDisk
from tests.sim.platter import Directory
from tests.sim.world import DEST, GATHER_BYTES, SEEDS, TORTURE, World, digest, trouble

OPTIONS = SyncOptions(members=("report/*",), prune=True)


class MembersWorld(World):
    """A world of which only some files of each archive are wanted."""

    def wanted(self) -> dict[str, str]:
        """The files that a complete run leaves, by hash."""
        found: dict[str, str] = {}
        for job in self.jobs.values():
            if job.archive is not None:
                found |= {f"{self.folder(job)}/{path}": digest(raw) for path, raw in files_of(job).items()}
        return found

    def note(self) -> None:
        """Remember what the server has now."""
        for path, sha256 in self.wanted().items():
            self.versions.setdefault(path, set()).add(sha256)

    def missing_bytes(self, disk: SimDisk) -> int:
        """Whether a file is not in its place, as a number."""
        found = {path: digest(raw) for path, raw in disk.tree(DEST).items()}
        return sum(found.get(path) != sha256 for path, sha256 in self.wanted().items())


def files_of(job: FakeJob) -> dict[str, bytes]:
    """The files of a job that are wanted."""
    chance = random.Random(job.id)
    return {"report/a.xml": chance.randbytes(20_000), "report/deep/b.xml": b"<b n='%d'/>" % job.id}


def made(pipeline: FakePipeline, name: str, *, size: int = 1_000) -> FakeJob:
    """A finished job with an archive."""
    job = pipeline.add_job(name)
    job.start()
    job.set_artifacts({**files_of(job), "big.bin": random.Random(job.id + 1).randbytes(size)})
    job.finish("success")
    return job


@pytest_asyncio.fixture
async def world(base: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """Files of an earlier run, one of them deleted by somebody else, and a server that has more."""
    monkeypatch.setattr(parts, "GATHER_BYTES", GATHER_BYTES)
    async with FakeGitLab(generation="9.1", delivery="direct", jobs_index_limit=None) as gitlab:
        pipeline = gitlab.add_project("group/app").add_pipeline("main")
        jobs = {name: made(pipeline, name) for name in ("kept", "lost")}
        world = MembersWorld(gitlab, jobs, base, OPTIONS)
        world.note()
        disk = world.disk()
        assert len((await world.sync(disk)).downloaded) == 2
        world.check_settled(disk)
        jobs["new"] = made(pipeline, "new", size=200_000)
        path = f"{world.folder(jobs['lost'])}/report/a.xml"
        folder = disk.find((DEST / path).parent)
        assert isinstance(folder, Directory)
        folder.change("a.xml", None)
        world.lost.add(path)
        world.note()
        world.after(disk)
        yield world


async def test_in_peace(world: World) -> None:
    """Undisturbed, the run takes what is missing out of two archives and keeps neither."""
    disk = world.disk()
    report = await world.sync(disk)
    assert (len(report.downloaded), len(report.unchanged)) == (2, 1)
    assert "pour" in disk.calls
    world.check_settled(disk)


@pytest.mark.parametrize("kind", ["power", "kill", "error", "cancel"])
async def test_trouble_at_every_call(world: World, kind: FaultKind) -> None:
    """Whatever happens at whichever call: no file is wrong, no archive is left over, one run settles it."""
    every = 1 if TORTURE else 4
    fired = [await trouble(world, kind, seed, every=every) for seed in range(SEEDS)]
    assert min(fired) > 80 // every


async def _left(*_: object, **__: object) -> None:
    pass


async def _without_mark(ledger: Ledger, row: TreeRow) -> None:
    if row.sha256 != UNFINISHED:
        await _real_put_tree(ledger, row)


_real_put_tree = Ledger.put_tree
PLANTED: dict[str, tuple[object, str, object, FaultKind]] = {
    "an archive of an earlier run is left": (matching, "drop_part", _left, "kill"),
    "a job that was begun looks done": (Ledger, "put_tree", _without_mark, "kill"),
    "the archive is not deleted when it has served": (Part, "discard", _left, "cancel"),
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
