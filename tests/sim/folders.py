"""Lives of folders in a storm, on a disk that fails too; what a life is stands in `tests.sim.lives`."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from asyncjobs._errors import AsyncJobsError
from asyncjobs._options import SyncOptions, Timeouts
from asyncjobs._storage import parts
from tests.sim.disk import Fault, PowerOffError, SimDisk, SimHops
from tests.sim.loop import SimLoop
from tests.sim.storm import Storm, Trouble, storm
from tests.sim.tails import plan
from tests.sim.world import DEST, World, add, digest, rows

DELIVERIES: tuple[Literal["local", "direct", "proxy"], ...] = ("local", "direct", "proxy")


@contextmanager
def _records() -> Iterator[Path]:
    memory = Path("/dev/shm")
    base = Path(tempfile.mkdtemp(prefix="asyncjobs-sim-", dir=memory if memory.is_dir() else None))
    try:
        yield base
    finally:
        shutil.rmtree(base)


async def sync(loop: SimLoop, seed: int, troubles: list[Trouble] | None = None) -> int:
    """Archives to a disk that fails too: each file one version, and one run in the calm completes them."""
    delivery = DELIVERIES[seed // 3 % 3]
    with _records() as base:
        async with storm(loop, seed, troubles, delivery=delivery) as storm_:
            return await _sync(storm_, base)


async def _sync(world: Storm, base: Path) -> int:
    pipeline = world.gitlab.add_project("group/app").add_pipeline("main")
    sizes = world.chance.sample([100, 5_000, 40_000, 70_000, 300_000, 1_500_000], 4)
    jobs = {f"job{n}": add(pipeline, f"job{n}", size=size) for n, size in enumerate(sizes)}
    disks = World(world.gitlab, jobs, base, SyncOptions(extract=world.chance.random() < 0.5))
    disks.note()
    world.begin()
    disk = disks.disk()
    for life in range(world.chance.randrange(1, 4)):
        trouble = world.chance.choice(["none", "cancel", "power", "kill", "error"])
        if trouble != "none":
            at = len(disk.calls) + world.chance.randrange(1, 150)
            disk.arm(Fault(trouble, at, seed=world.seed * 10 + life))  # type: ignore[arg-type]
        await _one_sync(world, disks, disk, world.chance.uniform(1.0, 300.0) if life else None)
        disk = disk.reboot(disk.record_folder(DEST), in_order=life % 2 == 0)
        disks.check_truth(disk)
        if life == 0:
            jobs["late"] = add(pipeline, "late", size=60_000)
            disks.note()
    await world.until_calm()
    missing, before = disks.missing_bytes(disk), _sent(world)
    report = await _one_sync(world, disks, disk, None)
    assert report.ok, report.failed
    assert report.bytes_received <= missing, "an archive was fetched that was in its place"
    disks.check_settled(disk)
    assert _sent(world) - before <= missing + 64 * 1024 * (1 + len(jobs))
    return world.wire.digest


def _sent(world: Storm) -> int:
    return sum(request.sent for request in world.gitlab.requests if "artifacts" in request.path)


async def _one_sync(world: Storm, disks: World, disk: SimDisk, patience: float | None) -> Any:
    """One process: it runs to its end, is cancelled, or dies with the machine."""
    parts._live.clear()
    concurrency = world.chance.randrange(1, 5)
    options = SyncOptions(extract=disks.options.extract, concurrency=concurrency)
    timeouts = Timeouts(idle=20.0, first_byte=10.0)
    async with world.client(files=disk, timeouts=timeouts) as client:
        client._storage._record_hops = SimHops(disk)
        work = client.sync_artifacts(["group/app"], DEST, options=options)
        return await _lived(work, disk, patience)


def _checked(report: Any, disk: SimDisk) -> Any:
    refs = [
        outcome.ref for outcome in [*report.downloaded, *report.unchanged, *report.skipped, *report.failed]
    ]
    assert len(set(refs)) == len(refs), "a job is in two lists of the report"
    assert disk.open_files == 0, "something was left open"
    return report


async def save(loop: SimLoop, seed: int, troubles: list[Trouble] | None = None) -> int:
    """Logs to a disk that fails too: a file has what its log had, and in the calm each is its log."""
    with _records() as base:
        async with storm(loop, seed, troubles) as world:
            return await _save(world, base)


async def _save(world: Storm, base: Path) -> int:
    pipeline = world.gitlab.add_project("group/app").add_pipeline("main")
    jobs = [pipeline.add_job(f"job{n}") for n in range(1 + world.chance.randrange(5))]
    for job in jobs:
        job.enqueue()
        plan(world, job)
    world.begin()
    disk = SimDisk(base)
    for life in range(world.chance.randrange(1, 4)):
        trouble = world.chance.choice(["none", "cancel", "power", "kill", "error"])
        if trouble != "none":
            at = len(disk.calls) + world.chance.randrange(1, 100)
            disk.arm(Fault(trouble, at, seed=world.seed * 10 + life))  # type: ignore[arg-type]
        await _one_save(world, disk, world.chance.uniform(1.0, 300.0))
        disk = disk.reboot(disk.record_folder(DEST), in_order=life % 2 == 0)
        _check_logs(disk, {job.id: job.trace for job in jobs}, whole=False)
    await world.until_calm()
    await asyncio.sleep(600.0)
    report = await _one_save(world, disk, None)
    assert report.ok, report
    _check_logs(disk, {job.id: job.trace for job in jobs}, whole=True)
    return world.wire.digest


def _check_logs(disk: SimDisk, logs: dict[int, bytes], *, whole: bool) -> None:
    found = {path: raw for path, raw in disk.tree(DEST).items() if path.endswith(".log")}
    for path, raw in found.items():
        log = logs[int(path.rpartition("/")[2].partition("-")[0])]
        assert raw == log, f"{path} is not its log"
    assert not whole or len(found) == len(logs), f"logs are missing: {sorted(found)}"
    for path, sha256, complete in rows(disk):
        assert not complete or digest(found[path]) == sha256, f"the manifest claims {path}"


async def _one_save(world: Storm, disk: SimDisk, patience: float | None) -> Any:
    """One process, as in `_one_sync`."""
    parts._live.clear()
    async with world.client(files=disk) as client:
        client._storage._record_hops = SimHops(disk)
        return await _lived(client.save_traces(["group/app"], DEST), disk, patience)


async def _lived(work: Coroutine[Any, Any, Any], disk: SimDisk, patience: float | None) -> Any:
    """What the work gave, or None when it was cancelled, died with the machine, or failed by name."""
    task = asyncio.ensure_future(work)
    disk.cancel = task.cancel
    done, _ = await asyncio.wait({task}, timeout=patience)
    if not done:
        task.cancel()
        await asyncio.wait({task})
    if task.cancelled():
        return None
    error = task.exception()
    assert error is None or isinstance(error, AsyncJobsError | PowerOffError), repr(error)
    return None if error is not None else _checked(task.result(), disk)
