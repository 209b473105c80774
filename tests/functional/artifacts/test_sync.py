"""A folder equal to the remote archives, and again tomorrow, whatever happened in between."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from asyncjobs._api import Api
from asyncjobs._artifacts import (
    download_artifacts,
    placing,
    sync_artifacts,
    sync_locked,
    transfer,
    write_lock,
)
from asyncjobs._client import Client
from asyncjobs._errors import (
    ArtifactMissingError,
    DestinationError,
    DiskFullError,
    ForbiddenError,
    IntegrityError,
    ManifestError,
    NotFoundError,
    TooManyFilesError,
    UnsafeArchiveError,
)
from asyncjobs._models import DownloadProgress, SyncEvent, SyncFinished, SyncPlanned, SyncReport
from asyncjobs._options import ExtractLimits, SyncOptions
from asyncjobs._storage import Storage
from asyncjobs._storage.files import DiskFolder
from asyncjobs.testing import FakeGitLab, FakeJob, FakePipeline
from tests.functional.artifacts.disk import damage, listing, overwrite, tree
from tests.unit.manifest.hostile_zips import Entry, build


def add(pipeline: FakePipeline, name: str, files: dict[str, bytes] | None = None, **facts: Any) -> FakeJob:
    """A finished job, with an archive when *files* are given."""
    job = pipeline.add_job(name)
    job.start()
    if files is not None:
        job.set_artifacts(files, **facts)
    job.finish("success")
    return job


def world(gitlab: FakeGitLab, jobs: int = 4) -> list[FakeJob]:
    """A project with some archives."""
    pipeline = gitlab.add_project("group/app").add_pipeline("main")
    return [add(pipeline, f"build {number}", {"out.bin": os.urandom(50_000)}) for number in range(jobs)]


def truth(jobs: list[FakeJob]) -> dict[str, bytes]:
    """What the default layout should hold."""
    pipeline = jobs[0].pipeline.id
    return {
        f"group-app/{pipeline}/{job.id}-{job.name.replace(' ', '-')}.zip": job.archive_bytes for job in jobs
    }


def kinds(report: SyncReport) -> tuple[int, int, int, int]:
    """How many outcomes each list has."""
    return len(report.downloaded), len(report.unchanged), len(report.skipped), len(report.failed)


@pytest.mark.parametrize("delivery", ["local", "direct", "proxy"])
async def test_second_run_moves_no_body_bytes(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path, delivery: Any
) -> None:
    """The first run makes the folder equal to the server; the second receives nothing."""
    gitlab.settings.delivery = delivery
    jobs = world(gitlab)
    report = await sync_artifacts(api, storage, ["group/app"], tmp_path)
    assert kinds(report) == (4, 0, 0, 0)
    assert report.ok
    assert tree(tmp_path) == truth(jobs)
    assert {each.sha256 for each in report.downloaded} == {job.archive_sha256 for job in jobs}
    assert report.bytes_received == sum(len(job.archive_bytes) for job in jobs)
    again = await sync_artifacts(api, storage, ["group/app"], tmp_path)
    assert kinds(again) == (0, 4, 0, 0)
    assert again.bytes_received == 0


async def test_new_damaged_and_lost_files_are_fetched(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path
) -> None:
    """Only what is new, cut, changed or gone is downloaded again."""
    jobs = world(gitlab)
    await sync_artifacts(api, storage, ["group/app"], tmp_path)
    paths = list(truth(jobs))
    os.truncate(tmp_path / paths[0], 100)
    damage(tmp_path, paths[1].rpartition("/")[2], 5000)
    (tmp_path / paths[2]).unlink()
    os.utime(tmp_path / paths[3])
    jobs.append(add(jobs[0].pipeline, "new", {"x": b"y"}))
    report = await sync_artifacts(api, storage, ["group/app"], tmp_path)
    assert kinds(report) == (4, 1, 0, 0)
    assert tree(tmp_path) == truth(jobs)
    assert kinds(await sync_artifacts(api, storage, ["group/app"], tmp_path)) == (0, 5, 0, 0)


async def test_a_project_that_is_refused_hides_none_of_its_group(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path
) -> None:
    """The others are fetched, the failure names the project, and nothing of the group is pruned."""
    jobs = [
        add(gitlab.add_project(f"group/app{n}").add_pipeline("main"), "build", {"x": b"%d" % n})
        for n in range(3)
    ]
    await sync_artifacts(api, storage, ["groups/group"], tmp_path)
    assert len(tree(tmp_path)) == 3
    shutil.rmtree(tmp_path / "group-app2")
    jobs[1].erase()
    gitlab.faults.add("403", where="*/projects/group/app0/jobs")
    report = await sync_artifacts(api, storage, ["groups/group"], tmp_path, options=SyncOptions(prune=True))
    assert [str(outcome.ref.project) for outcome in report.downloaded] == ["group/app2"]
    (failure,) = report.failures
    assert str(failure.target) == "group/app0"
    assert isinstance(failure.error, ForbiddenError)
    assert not report.removed
    assert len(tree(tmp_path)) == 3


async def test_verify_sees_damage_that_kept_size_and_time(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path
) -> None:
    """`verify` hashes every file and repairs what differs; without it size and time are trusted."""
    jobs = world(gitlab, 2)
    await sync_artifacts(api, storage, ["group/app"], tmp_path)
    path = tmp_path / next(iter(truth(jobs)))
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    damage(tmp_path, path.name, 5000)
    os.utime(path, ns=times)
    assert kinds(await sync_artifacts(api, storage, ["group/app"], tmp_path)) == (0, 2, 0, 0)
    report = await sync_artifacts(api, storage, ["group/app"], tmp_path, options=SyncOptions(verify=True))
    assert kinds(report) == (1, 1, 0, 0)
    assert tree(tmp_path) == truth(jobs)


async def test_what_is_not_there_has_a_reason(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path
) -> None:
    """None, erased, not finished and too large are reasons beside what was fetched, and not failures."""
    jobs = world(gitlab, 1)
    pipeline = jobs[0].pipeline
    none = add(pipeline, "none")
    erased = add(pipeline, "erased", {"a": b"b"})
    erased.erase()
    running = pipeline.add_job("running")
    running.start()
    large = add(pipeline, "large", {"a": os.urandom(90_000)})
    report = await sync_artifacts(
        api, storage, ["group/app"], tmp_path, options=SyncOptions(max_bytes=80_000)
    )
    assert {each.ref.job_id: each.reason for each in report.skipped} == {
        none.id: "none",
        erased.id: "erased",
        running.id: "not_finished",
        large.id: "too_large",
    }
    assert kinds(report) == (1, 0, 4, 0)
    assert report.ok


@pytest.mark.parametrize(
    ("status", "expires", "kind", "reason"),
    [
        ("403", None, "skipped", "forbidden"),
        ("404", -1.0, "skipped", "expired"),
        ("404", None, "failed", "lost"),
        ("404", 3600.0, "failed", "lost"),
    ],
)
async def test_refusals_during_the_download_are_reasons_too(
    gitlab: FakeGitLab,
    api: Api,
    storage: Storage,
    tmp_path: Path,
    status: str,
    expires: float | None,
    kind: str,
    reason: str,
) -> None:
    """An archive that the record names and the server refuses is forbidden, or expired; else it is lost."""
    (job,) = world(gitlab, 1)
    gitlab.fail_next(status, where="*/artifacts", times=9)
    if expires is not None:
        job.artifacts_expire_at = api.clock.time() + expires
    report = await sync_artifacts(api, storage, ["group/app"], tmp_path)
    assert [each.reason for each in getattr(report, kind)] == [reason]
    assert report.ok is (kind == "skipped")
    with pytest.raises(ForbiddenError if status == "403" else ArtifactMissingError) as caught:
        await download_artifacts(api, storage, "group/app", job.id, tmp_path / "a.zip")
    assert getattr(caught.value, "reason", reason) == reason or status == "403"


async def test_a_lost_archive_keeps_the_file_of_an_earlier_run(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path
) -> None:
    """Neither pruning nor anything else takes away what the server does not find any more."""
    (job,) = world(gitlab, 1)
    await sync_artifacts(api, storage, ["group/app"], tmp_path)
    before = tree(tmp_path)
    job.set_artifacts({"another.bin": os.urandom(5000)})
    gitlab.fail_next("404", where="*/artifacts", times=9)
    report = await sync_artifacts(api, storage, ["group/app"], tmp_path, options=SyncOptions(prune=True))
    assert [each.reason for each in report.failed] == ["lost"]
    assert isinstance(report.failed[0].error, ArtifactMissingError)
    assert tree(tmp_path) == before


async def test_a_failing_job_is_an_outcome_and_the_rest_is_done(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path
) -> None:
    """One archive that cannot be had does not stop the others, and the next run gets it."""
    jobs = world(gitlab)
    gitlab.fail_next("400", where=f"*/jobs/{jobs[1].id}/artifacts", times=1)
    report = await sync_artifacts(api, storage, ["group/app"], tmp_path)
    assert kinds(report) == (3, 0, 0, 1)
    assert report.failed[0].ref.job_id == jobs[1].id
    assert report.failed[0].error is not None
    assert not report.ok
    assert kinds(await sync_artifacts(api, storage, ["group/app"], tmp_path)) == (1, 3, 0, 0)


async def test_a_failing_target_is_told_and_the_rest_is_done(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path
) -> None:
    """A target that cannot be listed stands in `failures`; targets may come lazily and overlap."""
    jobs = world(gitlab)

    async def targets() -> AsyncIterator[str]:
        yield "group/missing"
        yield f"group/app/-/pipelines/{jobs[0].pipeline.id}"
        yield "group/app"
        yield f"group/app/-/jobs/{jobs[0].id}"

    report = await sync_artifacts(api, storage, targets(), tmp_path)
    assert kinds(report) == (4, 0, 0, 0)
    assert [str(each.target) for each in report.failures] == ["group/missing"]
    assert isinstance(report.failures[0].error, NotFoundError)


async def test_targets_that_are_none_raise(api: Api, storage: Storage, tmp_path: Path) -> None:
    """Text that is no target is a ValueError at once, not a failure among others."""
    with pytest.raises(ValueError, match="not a target"):
        await sync_artifacts(api, storage, ["no target at all"], tmp_path)


async def test_dry_run_plans_and_writes_nothing(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path
) -> None:
    """A dry run names the same paths and sizes that the real one then makes, and creates nothing."""
    jobs = world(gitlab)
    dest = tmp_path / "dest"
    events: list[SyncEvent] = []
    report = await sync_artifacts(
        api, storage, ["group/app"], dest, options=SyncOptions(dry_run=True), on_event=events.append
    )
    assert listing(tmp_path) == []
    planned = {
        each.path.relative_to(dest).as_posix(): each.size for each in events if isinstance(each, SyncPlanned)
    }
    assert planned == {path: len(raw) for path, raw in truth(jobs).items()}
    assert {each.reason for each in report.skipped} == {"dry_run"}
    assert report.bytes_received == 0
    await sync_artifacts(api, storage, ["group/app"], dest)
    assert set(tree(dest)) == set(planned)
    again = await sync_artifacts(api, storage, ["group/app"], dest, options=SyncOptions(dry_run=True))
    assert kinds(again) == (0, 4, 0, 0)


async def test_events_tell_the_whole_story(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path
) -> None:
    """Each download is planned, told of, and finished in the list of the report it went to."""
    jobs = world(gitlab, 2)
    events: list[SyncEvent] = []
    await sync_artifacts(api, storage, ["group/app"], tmp_path, on_event=events.append)
    for job in jobs:
        mine = [each for each in events if not isinstance(each, SyncFinished) and each.ref is not None]
        mine = [each for each in mine if each.ref is not None and each.ref.job_id == job.id]
        assert isinstance(mine[0], SyncPlanned)
        last = mine[-1]
        assert isinstance(last, DownloadProgress)
        assert (last.received, last.total) == (len(job.archive_bytes),) * 2
    finished = [each for each in events if isinstance(each, SyncFinished)]
    assert [each.kind for each in finished] == ["downloaded"] * 2


async def test_a_callback_that_raises_ends_the_sync_with_its_own_error(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path
) -> None:
    """What the caller's own function raises reaches the caller as it is, and no task is left."""
    world(gitlab)

    def callback(event: SyncEvent) -> None:
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        await sync_artifacts(api, storage, ["group/app"], tmp_path, on_event=callback)
    await sync_artifacts(api, storage, ["group/app"], tmp_path)


async def test_filters_choose(gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path) -> None:
    """Name globs and scopes decide which jobs take part at all."""
    jobs = world(gitlab)
    report = await sync_artifacts(
        api, storage, ["group/app"], tmp_path, options=SyncOptions(name="build [12]", scope="success")
    )
    assert {each.ref.job_id for each in report.downloaded} == {jobs[1].id, jobs[2].id}
    assert kinds(report) == (2, 0, 0, 0)


# -- places -----------------------------------------------------------------------------------------------


async def test_jobs_of_one_name_do_not_meet(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path
) -> None:
    """A template without ids gives jobs with one name two places, the same ones in every run."""
    pipeline = gitlab.add_project("group/app").add_pipeline("main")
    jobs = [add(pipeline, name, {"x": name.encode() * 10}) for name in ("Test", "test", "TEST")]
    options = SyncOptions(path_template="{job_name}.zip")
    await sync_artifacts(api, storage, ["group/app"], tmp_path, options=options)
    first = tree(tmp_path)
    assert len({path.casefold() for path in first}) == 3
    assert sorted(first.values()) == sorted(job.archive_bytes for job in jobs)
    jobs.append(add(pipeline, "tEst", {"x": b"fourth"}))
    report = await sync_artifacts(api, storage, ["group/app"], tmp_path, options=options)
    assert kinds(report) == (1, 3, 0, 0)
    assert first.items() <= tree(tmp_path).items()


async def test_names_of_the_server_never_lead_out(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path
) -> None:
    """Job names full of tricks end as harmless files below the destination."""
    pipeline = gitlab.add_project("group/app").add_pipeline("main")
    names = ["../../evil", "/etc/passwd", "CON", "a\\b", "x:y", "n\u202eam", "." * 5, "q" * 250]
    for name in names:
        add(pipeline, name, {"x": b"y"})
    dest = tmp_path / "dest"
    report = await sync_artifacts(
        api, storage, ["group/app"], dest, options=SyncOptions(path_template="{job_name}")
    )
    assert kinds(report) == (len(names), 0, 0, 0)
    assert listing(tmp_path) == ["dest"]
    assert all("/" not in path and path.isascii() for path in tree(dest))


async def test_files_of_others_are_never_replaced(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path
) -> None:
    """A file that no sync put there stays, and the job fails with advice; the very same file is adopted."""
    jobs = world(gitlab, 2)
    mine, same = truth(jobs)
    write(tmp_path / mine, b"precious")
    write(tmp_path / same, jobs[1].archive_bytes)
    report = await sync_artifacts(api, storage, ["group/app"], tmp_path)
    assert kinds(report) == (1, 0, 0, 1)
    assert isinstance(report.failed[0].error, DestinationError)
    assert tree(tmp_path)[mine] == b"precious"
    assert kinds(await sync_artifacts(api, storage, ["group/app"], tmp_path))[1] == 1


def write(path: Path, raw: bytes) -> None:
    """Put a file of somebody else somewhere."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)


async def test_planted_links_are_not_followed(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path
) -> None:
    """A link in place of a folder or of a file leads nowhere: what it points at stays as it was."""
    jobs = world(gitlab, 2)
    outside, dest = tmp_path / "outside", tmp_path / "dest"
    write(outside / "victim", b"victim")
    path = next(iter(truth(jobs)))
    plant(dest / path, outside / "victim")
    report = await sync_artifacts(api, storage, ["group/app"], dest)
    assert kinds(report) == (1, 0, 0, 1)
    assert tree(outside) == {"victim": b"victim"}
    other = tmp_path / "other"
    plant(other / "group-app", outside)
    report = await sync_artifacts(api, storage, ["group/app"], other)
    assert kinds(report) == (0, 0, 0, 2)
    assert tree(outside) == {"victim": b"victim"}


def plant(link: Path, target: Path) -> None:
    """Put a symbolic link somewhere."""
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target)


# -- prune, lock, two at once -----------------------------------------------------------------------------


async def test_prune_deletes_what_is_gone_and_nothing_else(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path
) -> None:
    """Files of erased jobs go with their folders; files of others, unselected jobs and strangers stay."""
    jobs = world(gitlab)
    await sync_artifacts(api, storage, ["group/app"], tmp_path, options=SyncOptions(extract=True))
    write(tmp_path / "stranger", b"x")
    paths = list(truth(jobs))
    jobs[0].erase()
    assert kinds(await sync_artifacts(api, storage, ["group/app"], tmp_path))[2] == 1
    assert paths[0] in tree(tmp_path)
    dry = await sync_artifacts(
        api, storage, ["group/app"], tmp_path, options=SyncOptions(prune=True, dry_run=True)
    )
    assert dry.removed == [tmp_path / paths[0]]
    assert paths[0] in tree(tmp_path)
    narrow = SyncOptions(prune=True, name="build 3")
    report = await sync_artifacts(api, storage, ["group/app"], tmp_path, options=narrow)
    assert report.removed == [tmp_path / paths[0]]
    left = tree(tmp_path)
    assert paths[0] not in left
    assert paths[0].replace(".zip", "/out.bin") not in left
    assert {"stranger", *paths[1:]} <= set(left)


@pytest.mark.parametrize("trouble", ["listing", "download", "job", "hidden project"])
async def test_prune_deletes_nothing_on_doubt(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path, trouble: str
) -> None:
    """A failed listing, download or question, or a project out of sight, keeps every file."""
    jobs = world(gitlab)
    await sync_artifacts(api, storage, ["group/app"], tmp_path)
    jobs[0].erase()
    before = tree(tmp_path)
    targets = ["group/app"]
    if trouble == "listing":
        targets.append("group/missing")
    elif trouble == "download":
        add(jobs[0].pipeline, "broken", {"a": b"b"})
        gitlab.fail_next("400", where="*/artifacts", times=1)
    elif trouble == "job":
        gitlab.fail_next("403", where=f"*/jobs/{jobs[0].id}", times=9)
    else:
        gitlab.fail_next("404", where=f"*/jobs/{jobs[0].id}", times=9)
        gitlab.fail_next("404", where="*/projects/group/app", times=9)
    report = await sync_artifacts(api, storage, targets, tmp_path, options=SyncOptions(prune=True))
    assert report.removed == []
    assert before.items() <= tree(tmp_path).items()


async def test_prune_of_a_folder_that_somebody_deleted(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path
) -> None:
    """Files that went with their folder are forgotten, and the sync ends well."""
    jobs = world(gitlab, 2)
    await sync_artifacts(api, storage, ["group/app"], tmp_path)
    remove_tree(tmp_path / "group-app")
    for job in jobs:
        job.erase()
    report = await sync_artifacts(api, storage, ["group/app"], tmp_path, options=SyncOptions(prune=True))
    assert len(report.removed) == 2
    assert report.ok
    again = await sync_artifacts(api, storage, ["group/app"], tmp_path, options=SyncOptions(prune=True))
    assert again.removed == []


def remove_tree(path: Path) -> None:
    """Delete a folder with all that is in it."""
    shutil.rmtree(path)


@pytest.mark.parametrize("doubt", ["too_large", "forbidden", "not_finished"])
async def test_a_reason_that_is_no_absence_keeps_the_file(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path, doubt: str
) -> None:
    """A job left out for size, permission or status keeps the file of an earlier run, also in prune.

    Even when the archive is gone by the time that pruning asks about it.
    """
    jobs = world(gitlab, 2)
    await sync_artifacts(api, storage, ["group/app"], tmp_path)
    before = tree(tmp_path)
    options = SyncOptions(prune=True, max_bytes=10 if doubt == "too_large" else None)
    if doubt == "forbidden":
        damage(tmp_path, next(iter(before)).rpartition("/")[2], 100)
        before = tree(tmp_path)
        gitlab.fail_next("403", where=f"*/jobs/{jobs[0].id}/artifacts", times=9)
    elif doubt == "not_finished":
        jobs[0]._status = "a status of tomorrow"

    def erase_meanwhile(event: SyncEvent) -> None:
        if isinstance(event, SyncFinished) and event.outcome.ref.job_id == jobs[0].id:
            jobs[0]._status = "success"
            if jobs[0].erasable:
                jobs[0].erase()

    report = await sync_artifacts(
        api, storage, ["group/app"], tmp_path, options=options, on_event=erase_meanwhile
    )
    assert doubt in {each.reason for each in report.skipped}
    assert report.removed == []
    assert tree(tmp_path) == before


async def test_prune_refuses_to_delete_too_much(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path
) -> None:
    """More deletions than allowed are an error, and then nothing is deleted."""
    jobs = world(gitlab)
    await sync_artifacts(api, storage, ["group/app"], tmp_path)
    for job in jobs:
        job.erase()
    with pytest.raises(DestinationError, match="max_delete=3"):
        await sync_artifacts(
            api, storage, ["group/app"], tmp_path, options=SyncOptions(prune=True, max_delete=3)
        )
    assert len(tree(tmp_path)) == 4


async def test_a_lock_reproduces_the_same_files(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path
) -> None:
    """The lock of one folder makes an equal folder elsewhere, and again without a byte."""
    jobs = world(gitlab)
    await sync_artifacts(api, storage, ["group/app"], tmp_path / "one")
    lock = await write_lock(storage, tmp_path / "one")
    report = await sync_locked(api, storage, lock, tmp_path / "two")
    assert kinds(report) == (4, 0, 0, 0)
    assert tree(tmp_path / "two") == tree(tmp_path / "one") == truth(jobs)
    assert await write_lock(storage, tmp_path / "two") == lock
    again = await sync_locked(api, storage, lock, tmp_path / "two")
    assert (kinds(again), again.bytes_received) == ((0, 4, 0, 0), 0)


async def test_a_lock_that_no_longer_holds_fails_loudly(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path
) -> None:
    """An archive that differs by one byte, or is gone, is a failure, and nothing has its name."""
    jobs = world(gitlab, 2)
    await sync_artifacts(api, storage, ["group/app"], tmp_path / "one")
    lock = await write_lock(storage, tmp_path / "one")
    raw = bytearray(jobs[0].archive_bytes)
    raw[60] ^= 1
    jobs[0].set_artifacts_bytes(bytes(raw))
    jobs[1].erase()
    report = await sync_locked(api, storage, lock, tmp_path / "two")
    assert kinds(report) == (0, 0, 0, 2)
    assert {type(each.error) for each in report.failed} == {IntegrityError, NotFoundError}
    assert tree(tmp_path / "two") == {}


async def test_two_syncs_of_one_folder_do_not_run_at_once(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path
) -> None:
    """The second one is told who has the folder; it may use another one meanwhile."""
    world(gitlab)
    runs = [sync_artifacts(api, storage, ["group/app"], tmp_path / "one") for _ in range(2)]
    results = await asyncio.gather(*runs, return_exceptions=True)
    assert sorted(type(each).__name__ for each in results) == ["ManifestError", "SyncReport"]
    assert any(isinstance(each, ManifestError) and "is being synced by" in str(each) for each in results)


# -- members and unpacking --------------------------------------------------------------------------------


GLOBS: Any = ("report/*.xml",)


@pytest.mark.parametrize("generation", ["19.5", "18"])
async def test_members_are_listed_and_fetched_alone(tmp_path: Path, generation: Any) -> None:
    """Only the members that match come, from servers with a listing and without one; again nothing moves."""
    storage = Storage()
    async with FakeGitLab(generation=generation) as gitlab:
        pipeline = gitlab.add_project("group/app").add_pipeline("main")
        files = {"report/junit.xml": b"<x/>", "report/deep/b.xml": b"<y/>", "big.bin": os.urandom(300_000)}
        add(pipeline, "test", files)
        add(pipeline, "other", {"nothing": b"here"})
        async with Client(gitlab.url, private_token=gitlab.token) as client:
            options = SyncOptions(members=GLOBS)
            report = await sync_artifacts(client._api, storage, ["group/app"], tmp_path, options=options)
            again = await sync_artifacts(client._api, storage, ["group/app"], tmp_path, options=options)
    await storage.aclose()
    assert kinds(report) == (1, 0, 1, 0)
    assert report.skipped[0].reason == "filtered"
    found = {path.split("/", 3)[3]: raw for path, raw in tree(tmp_path).items()}
    assert found == {"report/junit.xml": b"<x/>", "report/deep/b.xml": b"<y/>"}
    assert kinds(again) == (0, 1, 1, 0)
    assert report.bytes_received == 8
    assert again.bytes_received == 0


async def test_unpacking_follows_the_archive(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path
) -> None:
    """With `extract` a folder stands beside each zip; a hostile one is stored and not unpacked."""
    jobs = world(gitlab, 1)
    evil = add(jobs[0].pipeline, "evil")
    evil.set_artifacts_bytes(build([Entry(name=b"../evil")]))
    gz = add(jobs[0].pipeline, "gz")
    gz.set_artifacts_bytes(b"\x1f\x8b" + bytes(100))
    report = await sync_artifacts(
        api, storage, ["group/app"], tmp_path / "dest", options=SyncOptions(extract=True)
    )
    assert kinds(report) == (1, 0, 0, 2)
    errors = {each.ref.job_id: each.error for each in report.failed}
    assert isinstance(errors[evil.id], UnsafeArchiveError)
    assert "only zip archives are unpacked" in str(errors[gz.id])
    found = tree(tmp_path / "dest")
    path = next(iter(truth(jobs)))
    assert path.replace(".zip", "/out.bin") in found
    assert len(found) == 4
    assert listing(tmp_path) == ["dest"]


async def test_a_lost_manifest_is_made_anew(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path
) -> None:
    """Without the record of earlier runs files and folders are compared, recorded again, and stay."""
    jobs = world(gitlab, 2)
    options = SyncOptions(extract=True)
    await sync_artifacts(api, storage, ["group/app"], tmp_path, options=options)
    before = tree(tmp_path)
    assert len(before) == 4
    remove_tree(tmp_path / ".asyncjobs")
    report = await sync_artifacts(api, storage, ["group/app"], tmp_path, options=options)
    assert report.ok
    assert kinds(await sync_artifacts(api, storage, ["group/app"], tmp_path, options=options)) == (0, 2, 0, 0)
    assert tree(tmp_path) == before
    remove_tree(tmp_path / ".asyncjobs")
    overwrite(tmp_path / next(iter(truth(jobs))).removesuffix(".zip"), "out.bin", "mine")
    report = await sync_artifacts(api, storage, ["group/app"], tmp_path, options=options)
    assert len(report.failed) == 1
    assert "no sync put there" in str(report.failed[0].error)
    assert b"mine" in tree(tmp_path).values()


async def test_extract_limits_of_the_caller_count(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path
) -> None:
    """An archive over a limit of the options is stored, not unpacked, and says which limit it was."""
    jobs = world(gitlab, 1)
    tight = SyncOptions(extract=True, extract_limits=ExtractLimits(total_bytes=49_999))
    report = await sync_artifacts(api, storage, ["group/app"], tmp_path, options=tight)
    assert kinds(report) == (0, 0, 0, 1)
    assert "more than 49999" in str(report.failed[0].error)
    assert tree(tmp_path) == truth(jobs)
    enough = SyncOptions(extract=True, extract_limits=ExtractLimits(total_bytes=50_000))
    report = await sync_artifacts(api, storage, ["group/app"], tmp_path, options=enough)
    assert kinds(report) == (0, 1, 0, 0)
    assert len(tree(tmp_path)) == 2


# -- limits, disks, cancellation --------------------------------------------------------------------------


async def test_bandwidth_is_kept_over_all_downloads(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path
) -> None:
    """Four downloads at once together stay within the limit, on the client's clock."""
    jobs = world(gitlab)
    size = sum(len(job.archive_bytes) for job in jobs)
    before = api.clock.monotonic()
    await sync_artifacts(api, storage, ["group/app"], tmp_path, options=SyncOptions(bandwidth_limit=10_000))
    took = api.clock.monotonic() - before
    assert size / 10_000 - 1 <= took <= size / 10_000 + 2


async def test_no_more_than_concurrency_at_once_and_listing_waits(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path
) -> None:
    """Two slots mean two archives under way, and pages are not fetched far ahead of them."""
    pipeline = gitlab.add_project("group/app").add_pipeline("main")
    for number in range(350):
        add(pipeline, f"job {number}", {"x": b"y"})
    at_once: list[int] = []
    open_now: set[int] = set()
    pages_at: list[int] = []

    def callback(event: SyncEvent) -> None:
        if isinstance(event, SyncPlanned):
            open_now.add(event.ref.job_id)
            at_once.append(len(open_now))
            pages_at.append(gitlab.requests.count("*/projects/*/jobs"))
        elif isinstance(event, SyncFinished):
            open_now.discard(event.outcome.ref.job_id)

    report = await sync_artifacts(
        api,
        storage,
        ["group/app"],
        tmp_path,
        options=SyncOptions(concurrency=2, fsync=False),
        on_event=callback,
    )
    assert kinds(report) == (350, 0, 0, 0)
    assert max(at_once) == 2
    assert pages_at[50] <= 2
    assert pages_at[-1] >= 4


async def test_a_size_that_does_not_fit_ends_the_sync_before_writing(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known sizes are held against the free space first: DiskFullError, and nothing was sent for them."""
    world(gitlab)
    patch_free(monkeypatch, lambda: 10_000)
    with pytest.raises(DiskFullError, match="do not fit"):
        await sync_artifacts(api, storage, ["group/app"], tmp_path)
    assert gitlab.requests.count("*/artifacts") == 0


def patch_free(monkeypatch: pytest.MonkeyPatch, free: Callable[[], int]) -> None:
    """Make the disk claim so much free space."""

    async def free_bytes(self: object) -> int:
        return free()

    monkeypatch.setattr(DiskFolder, "free_bytes", free_bytes)


async def test_a_full_disk_ends_the_sync_with_its_own_error(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ENOSPC in the middle stops everything with one DiskFullError; afterwards the sync can be finished."""
    jobs = world(gitlab, 8)
    real, left = os.writev, [120_000]

    def writev(fd: int, pieces: Any) -> int:
        left[0] -= sum(len(piece) for piece in pieces)
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, pieces)

    with monkeypatch.context() as patch:
        patch.setattr(os, "writev", writev)
        with pytest.raises(DiskFullError):
            await sync_artifacts(api, storage, ["group/app"], tmp_path, options=SyncOptions(concurrency=3))
    assert tree(tmp_path).items() <= (truth(jobs) | leftovers(tmp_path)).items()
    report = await sync_artifacts(api, storage, ["group/app"], tmp_path)
    assert report.ok
    assert tree(tmp_path) == truth(jobs)


def leftovers(folder: Path) -> dict[str, bytes]:
    """Partial files and their records."""
    return {path: raw for path, raw in tree(folder).items() if ".part" in path}


async def test_running_out_of_descriptors_lowers_the_concurrency(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EMFILE is answered by fewer downloads at once, and everything still arrives."""
    jobs = world(gitlab, 12)
    real = transfer.fetch_whole
    running, refused = [0], [0]

    async def fetch(*args: Any, **facts: Any) -> Any:
        running[0] += 1
        try:
            if running[0] > 3:
                refused[0] += 1
                raise TooManyFilesError("cannot open: too many open files")
            return await real(*args, **facts)
        finally:
            running[0] -= 1

    monkeypatch.setattr(placing, "fetch_whole", fetch)
    report = await sync_artifacts(api, storage, ["group/app"], tmp_path, options=SyncOptions(concurrency=8))
    assert kinds(report) == (12, 0, 0, 0)
    assert tree(tmp_path) == truth(jobs)
    assert 0 < refused[0] < 40


@pytest.mark.parametrize("after", range(0, 60, 3))
async def test_cancelled_anywhere_the_next_run_finishes(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path, after: int
) -> None:
    """Cancelled after any event: no final file is wrong, no task is left, the next run completes."""
    pipeline = gitlab.add_project("group/app").add_pipeline("main")
    jobs = []
    for number in range(4):
        job = pipeline.add_job(f"build {number}")
        job.start()
        job.set_big_artifacts(5_000_000, seed=number)
        job.finish("success")
        jobs.append(job)
    seen = [0]
    task: asyncio.Task[SyncReport]

    def callback(event: SyncEvent) -> None:
        seen[0] += 1
        if seen[0] == after + 1:
            task.cancel()

    others = asyncio.all_tasks()
    task = asyncio.ensure_future(sync_artifacts(api, storage, ["group/app"], tmp_path, on_event=callback))
    await asyncio.wait([task])
    left = {each for each in asyncio.all_tasks() - others if "asyncjobs._" in repr(each.get_coro())}
    assert not left
    final = {path: raw for path, raw in tree(tmp_path).items() if ".part" not in path}
    assert final.items() <= truth(jobs).items()
    report = await sync_artifacts(api, storage, ["group/app"], tmp_path)
    assert report.ok
    assert tree(tmp_path) == truth(jobs)


async def test_forbidden_projects_are_failures_of_their_target(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path
) -> None:
    """A 403 for a whole listing is the target's failure."""
    world(gitlab)
    gitlab.fail_next("403", where="*/projects/*/jobs", times=1)
    report = await sync_artifacts(api, storage, ["group/app"], tmp_path)
    assert isinstance(report.failures[0].error, ForbiddenError)
