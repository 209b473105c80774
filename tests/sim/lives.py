"""What clients do in a storm, and what must be true of it: each life is one run of one seed.

A life does its work while everything goes wrong, may be interrupted, and does it once more in the calm.
During the storm a failure is allowed if it has a name; a wrong result never is. In the calm nothing may fail.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from asyncjobs._client import Client
from asyncjobs._errors import (
    AsyncJobsError,
    FanOutError,
    OutcomeUnknownError,
)
from asyncjobs._models import (
    JobFinished,
    JobRef,
    JobRetried,
    JobStarted,
    LogLine,
    TailFailed,
    TraceCursor,
    TraceReset,
)
from asyncjobs._options import Limits, SyncOptions, TailOptions, Timeouts
from asyncjobs._storage import parts
from asyncjobs.testing import FakeJob
from tests.sim.disk import Fault, PowerOffError, SimDisk, SimHops
from tests.sim.loop import SimLoop
from tests.sim.storm import CALM_SECONDS, Storm, Trouble, storm
from tests.sim.world import DEST, World, add

Life = Callable[[SimLoop, int, list[Trouble] | None], Coroutine[Any, Any, int]]
"""Gives the checksum of the wire."""

AFTERWARDS = 3600.0
"""Virtual seconds in which everything has to be done once the storm is over."""


async def until_calm(world: Storm) -> None:
    """Sleep through the rest of the storm, and the minute in which a gate may still be closed."""
    await asyncio.sleep(max(0.0, 1_000.0 + CALM_SECONDS + 60.0 - world.loop.now))


async def interrupted(work: Awaitable[object], after: float) -> None:
    """Do the work and cancel it in the middle; a failure with a name is fine."""
    with suppress(TimeoutError, AsyncJobsError, FanOutError):
        async with asyncio.timeout(after):
            await work


# -- fan out ------------------------------------------------------------------------------------------------


async def fan_out(loop: SimLoop, seed: int, troubles: list[Trouble] | None = None) -> int:
    """Jobs of many projects: each once and none missing, or the target is in the failures."""
    async with storm(loop, seed, troubles, generation=_generation(seed)) as world:
        truth: dict[str, set[int]] = {}
        for number in range(world.chance.randrange(1, 12)):
            project = world.gitlab.add_project(f"group/app{number}")
            pipelines = [project.add_pipeline("main") for _ in range(world.chance.randrange(1, 4))]
            made = [
                pipeline.add_job(f"job {n}")
                for pipeline in pipelines
                for n in range(world.chance.choice([0, 3, 90, 130]))
            ]
            truth[f"group/app{number}"] = {job.id for job in made}
        world.begin()
        limits = Limits(in_flight=world.chance.choice([1, 3, 16]), jobs_index_per_minute=None)
        async with world.client(limits=limits) as client:
            await interrupted(_list(client, truth), world.chance.uniform(0.0, 60.0))
            await _list(client, truth)
            await until_calm(world)
            assert not await _list(client, truth), "failures in the calm"
        _in_time(world)
        return world.wire.digest


def _generation(seed: int) -> str:
    return ("9.1", "18", "19.5")[seed % 3]


async def _list(client: Client, truth: dict[str, set[int]]) -> int:
    found: dict[str, list[int]] = {path: [] for path in truth}
    async with client.stream_jobs(list(truth), on_error="collect") as jobs:
        async for ref, job in jobs:
            found[str(ref.project)].append(job.id)
    failed = {str(failure.target) for failure in jobs.failures}
    for path, ids in found.items():
        assert len(set(ids)) == len(ids), f"{path}: a job was given twice"
        assert set(ids) <= truth[path], f"{path}: jobs of somebody else"
        assert path in failed or set(ids) == truth[path], f"{path}: jobs are missing, and nothing says so"
    return len(failed)


# -- tail ---------------------------------------------------------------------------------------------------


def _log(world: Storm, lines: int) -> bytes:
    kind = world.chance.randrange(4)
    if kind == 0:
        return b".\n" * lines
    if kind == 1:
        return b"".join(b"%d\r%d\n" % (n, n) for n in range(lines))
    return b"".join(b"line %d %d\n" % (n, world.chance.randrange(10**9)) for n in range(lines))


def _plan(world: Storm, job: FakeJob) -> None:
    """A life of up to twenty minutes."""
    steps: list[tuple[float, Any]] = [(world.chance.uniform(0, 60), "running")]
    every = world.chance.choice([3.0, 30.0, 60.0])
    pushes = world.chance.randrange(0, 12)
    steps += [(every, _log(world, world.chance.choice([0, 1, 10, 1000]))) for _ in range(pushes)]
    steps.append((1.0, b"the end, without a newline"))
    steps.append((1.0, world.chance.choice(["success", "failed"])))
    job.script(steps)


class Reader:
    """Takes the events of a tail and keeps what they said, by job."""

    def __init__(self) -> None:
        self.logs: dict[int, bytes] = {}
        self.lines: Counter[int] = Counter()
        self.ended: dict[int, str] = {}
        self.cursors: dict[int, TraceCursor | None] = {}

    def take(self, event: object) -> None:
        """One more."""
        match event:
            case JobStarted(ref=ref):
                assert ref.job_id not in self.logs, "a job was started twice"
                self.logs[ref.job_id] = b""
            case LogLine(ref=ref):
                assert ref.job_id not in self.ended, "a line after the end"
                assert event.offset == len(self.logs[ref.job_id]), "a gap between two lines"
                self.logs[ref.job_id] += event.raw
            case TraceReset():
                raise AssertionError(f"no log was ever rewritten: {event}")
            case JobFinished(ref=ref):
                assert ref.job_id not in self.ended, "a job ended twice"
                self.ended[ref.job_id], self.cursors[ref.job_id] = "finished", event.cursor
            case TailFailed(ref=ref):
                assert ref.job_id not in self.ended, "a job ended twice"
                self.ended[ref.job_id], self.cursors[ref.job_id] = "failed", event.cursor
            case JobRetried(ref=ref):
                self.ended.setdefault(ref.job_id, "retried")
            case _:
                raise AssertionError(f"nobody expected {event}")


async def tail(loop: SimLoop, seed: int, troubles: list[Trouble] | None = None) -> int:
    """Logs of many jobs that grow: each byte once, and an end only where the log ends."""
    async with storm(loop, seed, troubles, generation=_generation(seed)) as world:
        pipeline = world.gitlab.add_project("group/app").add_pipeline("main")
        jobs = {job.id: job for job in (pipeline.add_job(f"job {n}") for n in range(1 + seed % 6))}
        for job in jobs.values():
            job.enqueue()
            _plan(world, job)
        world.begin()
        reader, pauses = Reader(), world.chance.choice([0, 0, 10])
        async with world.client() as client:
            with suppress(FanOutError):
                async with client.tail([f"group/app/-/pipelines/{pipeline.id}"]) as events:
                    async for event in events:
                        reader.take(event)
                        if pauses and world.chance.random() < 0.1:
                            pauses -= 1
                            await asyncio.sleep(world.chance.choice([0.01, 40.0, 200.0]))
            for job_id, how in reader.ended.items():
                if how == "finished":
                    assert reader.logs[job_id] == jobs[job_id].trace, f"job {job_id} ended with another log"
                else:
                    assert jobs[job_id].trace.startswith(reader.logs[job_id])
            await until_calm(world)
            await _finish_tails(client, jobs, reader)
        _in_time(world)
        return world.wire.digest


async def _finish_tails(client: Client, jobs: dict[int, FakeJob], reader: Reader) -> None:
    """Go on with what failed from its cursor, and with what was never met from its start."""
    for job_id, job in jobs.items():
        if reader.ended.get(job_id) == "finished":
            continue
        cursor = reader.cursors.get(job_id)
        known = reader.logs.get(job_id, b"")[: cursor.offset if cursor is not None else 0]
        async with client.follow_trace(JobRef("group/app", job_id), cursor=cursor) as trace:
            async for chunk in trace:
                assert chunk.offset == len(known), "no log was ever rewritten"
                known += chunk.data
        assert trace.job is not None
        assert known == job.trace, f"job {job_id} is not its log after going on"


async def follow(loop: SimLoop, seed: int, troubles: list[Trouble] | None = None) -> int:
    """One log, read by a process that is stopped again and again and goes on from the printed cursor."""
    async with storm(loop, seed, troubles, generation=_generation(seed)) as world:
        job = world.gitlab.add_project("group/app").add_pipeline("main").add_job("job")
        job.enqueue()
        _plan(world, job)
        world.begin()
        known, cursor = b"", ""
        ref = JobRef("group/app", job.id)
        lied_to = any(trouble.where == "*/trace" for trouble in world.troubles)
        # A settle time of 0 believes the first read that proves its end.
        options = TailOptions(settle=10.0 if lied_to else world.chance.choice([0.0, 10.0]))
        for life in range(40):
            if life > 20:
                await until_calm(world)
            patience = world.chance.expovariate(1 / 100) if life < 30 else 10_000.0
            async with world.client() as client:
                try:
                    async with asyncio.timeout(patience):
                        stream = client.follow_trace(ref, cursor=cursor or None, options=options)
                        async with stream as trace:
                            async for chunk in trace:
                                assert chunk.offset == len(known), "no log was ever rewritten"
                                known += chunk.data
                                cursor = str(trace.cursor)
                        assert known == job.trace, "it ended before the log did"
                        break
                except TimeoutError:
                    continue
                except AsyncJobsError:
                    assert not world.calm or loop.now < 1_000 + CALM_SECONDS + 60, "failed in the calm"
        else:
            raise AssertionError("never came to an end")
        _in_time(world)
        return world.wire.digest


# -- sync ---------------------------------------------------------------------------------------------------


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
    chance = {"delivery": ("local", "direct", "proxied")[seed % 3]}
    with _records() as base:
        async with storm(loop, seed, troubles, generation=_generation(seed), **chance) as storm_:
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
    await until_calm(world)
    missing, before = disks.missing_bytes(disk), _sent(world)
    report = await _one_sync(world, disks, disk, None)
    assert report.ok, report.failed
    assert report.bytes_received <= missing, "an archive was fetched that was in its place"
    disks.check_settled(disk)
    assert _sent(world) - before <= missing + 64 * 1024 * (1 + len(jobs))
    _in_time(world)
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
        task = asyncio.ensure_future(client.sync_artifacts(["group/app"], DEST, options=options))
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


def _checked(report: Any, disk: SimDisk) -> Any:
    refs = [
        outcome.ref for outcome in [*report.downloaded, *report.unchanged, *report.skipped, *report.failed]
    ]
    assert len(set(refs)) == len(refs), "a job is in two lists of the report"
    assert disk.open_files == 0, "something was left open"
    return report


# -- actions ------------------------------------------------------------------------------------------------


async def actions(loop: SimLoop, seed: int, troubles: list[Trouble] | None = None) -> int:
    """Retries of jobs, with every trouble also after the server has done what was asked.

    What was said to have failed has not been done, what was said to be done has been done once, and where the
    outcome is said to be unknown it was done once or not at all.
    """
    async with storm(loop, seed, troubles, generation=_generation(seed)) as world:
        pipeline = world.gitlab.add_project("group/app").add_pipeline("main")
        jobs = [pipeline.add_job(f"job {n}") for n in range(8)]
        for job in jobs:
            job.start()
            job.finish("failed")
        world.begin()
        for fault in world.gitlab.faults.waiting:
            # Who is sent away by a limiter, or told when to come again, has not been served.
            refused = fault.name.startswith("429") or fault.options.has("retry_after")
            fault.executed = not refused and world.chance.random() < 0.5
        async with world.client() as client:
            outcomes = await asyncio.gather(
                *(client.retry_job("group/app", job.id) for job in jobs), return_exceptions=True
            )
            await until_calm(world)
        made = Counter(job.name for job in pipeline.jobs)
        for job, outcome in zip(jobs, outcomes, strict=True):
            times = made[job.name] - 1
            assert times <= 1, f"{job.name} was retried {times} times"
            if isinstance(outcome, OutcomeUnknownError):
                continue
            if isinstance(outcome, BaseException):
                assert isinstance(outcome, AsyncJobsError), repr(outcome)
                assert times == 0, f"{job.name} was retried, and the caller was told {outcome!r}"
            else:
                assert times == 1
                assert outcome.id != job.id
        _in_time(world)
        return world.wire.digest


def _in_time(world: Storm) -> None:
    """It took no longer than it may, and no more requests."""
    assert world.loop.now < 1_000.0 + CALM_SECONDS + AFTERWARDS, "hours later"
    assert len(world.gitlab.requests) < 5_000, "thousands of requests"


LIVES: dict[str, Life] = {
    "fan out": fan_out,
    "tail": tail,
    "follow": follow,
    "sync": sync,
    "actions": actions,
}
SEEDS = int(os.environ.get("ASYNCJOBS_SEEDS", "15"))
"""Seeds of each life in one run of the tests."""
