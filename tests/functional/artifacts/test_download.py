"""One archive to one file: over each delivery, to each kind of destination, cancelled anywhere."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from asyncjobs._api import Api
from asyncjobs._artifacts import (
    download_artifact_member,
    download_artifacts,
    download_ref_artifacts,
    list_members,
)
from asyncjobs._client import Client
from asyncjobs._errors import (
    ArtifactMissingError,
    DestinationError,
    IntegrityError,
    NotFoundError,
    RequestTimeout,
)
from asyncjobs._manifest import dump_lock
from asyncjobs._models import DownloadProgress, JobRef
from asyncjobs._options import RetryPolicy
from asyncjobs._storage import Storage
from asyncjobs.testing import FakeGitLab, FakeJob
from tests.functional.artifacts.disk import content, listing
from tests.functional.artifacts.test_sync import add

FILES = {"report/junit.xml": b"<testsuite/>", "out.bin": os.urandom(400_000), "empty": b""}


def a_job(gitlab: FakeGitLab) -> FakeJob:
    """A job with an archive."""
    return add(gitlab.add_project("group/app").add_pipeline("main"), "build", FILES)


@pytest.mark.parametrize("delivery", ["local", "direct", "proxy"])
@pytest.mark.parametrize("generation", ["9.1", "18", "19.5"])
async def test_the_archive_arrives(tmp_path: Path, delivery: Any, generation: Any) -> None:
    """From old and new servers, over each delivery, the file has the server's bytes and hash."""
    storage = Storage()
    async with FakeGitLab(generation=generation, delivery=delivery) as gitlab:
        job = a_job(gitlab)
        async with Client(gitlab.url, private_token=gitlab.token) as client:
            file = await download_artifacts(client._api, storage, "group/app", job.id, tmp_path / "a.zip")
        # The store refuses whoever shows a GitLab token, so this also says that none was sent.
        assert not gitlab.requests.showing(gitlab.token, origin="storage")
    await storage.aclose()
    assert content(file.path) == job.archive_bytes
    assert (file.sha256, file.size) == (job.archive_sha256, len(job.archive_bytes))
    assert listing(tmp_path) == ["a.zip"]


async def test_progress_grows_to_the_total(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path
) -> None:
    """Progress begins at nothing, grows, and ends at the size that was announced."""
    job = gitlab.add_project("group/app").add_pipeline("main").add_job("big")
    job.start()
    job.set_big_artifacts(10_000_000)
    job.finish("success")
    seen: list[DownloadProgress] = []
    file = await download_artifacts(
        api, storage, "group/app", job.id, tmp_path / "a.zip", on_progress=seen.append
    )
    received = [each.received for each in seen]
    assert received == sorted(received)
    assert received[0] == 0
    assert received[-1] == file.size == seen[-1].total
    assert 5 <= len(seen) <= 20
    assert {each.ref for each in seen} == {JobRef("group/app", job.id)}


async def test_an_empty_destination_is_not_the_current_folder(
    gitlab: FakeGitLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an unset variable of a shell gives is refused in one line; nothing is asked, nothing written."""
    job = a_job(gitlab)
    monkeypatch.chdir(tmp_path)
    async with Client(gitlab.url, private_token=gitlab.token) as client:
        for call in (
            client.download_artifacts("group/app", job.id, ""),
            client.download_ref_artifacts("group/app", "main", "build", ""),
            client.download_artifact_member("group/app", job.id, "out.bin", ""),
            client.sync_artifacts("group/app", ""),
            client.sync_locked(dump_lock([]), ""),
            client.save_traces("group/app", ""),
            client.write_lock(""),
        ):
            with pytest.raises(ValueError, match="destination is empty"):
                await call
    assert len(gitlab.requests) == 0
    assert listing(tmp_path) == []


@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "missing folder"])
async def test_a_destination_that_may_not_be_replaced_is_refused_before_anything_is_sent(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path, kind: str
) -> None:
    """No request goes out for a destination that is no file, and what is there stays."""
    job = a_job(gitlab)
    dest = tmp_path / "dest"
    if kind == "folder":
        dest.mkdir()
    elif kind == "pipe":
        os.mkfifo(dest)
    elif kind == "device":
        dest = Path("/dev/null")
    else:
        dest = tmp_path / "missing" / "a.zip"
    for call in (
        download_artifacts(api, storage, "group/app", job.id, dest),
        download_ref_artifacts(api, storage, "group/app", "main", "build", dest),
        download_artifact_member(api, storage, "group/app", job.id, "out.bin", dest),
    ):
        with pytest.raises(DestinationError):
            await call
    assert len(gitlab.requests) == 0
    assert os.path.exists("/dev/null")  # noqa: ASYNC240, PTH110 -- a test may look
    assert not os.path.isfile("/dev/null")  # noqa: ASYNC240, PTH113 -- a test may look


async def test_an_existing_file_is_replaced_only_by_a_whole_one(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path
) -> None:
    """A failing download leaves the old file as it was; a good one takes its place."""
    job = a_job(gitlab)
    overwrite_new(tmp_path / "a.zip", b"old")
    gitlab.fail_next("html_200", where="*/artifacts", times=99)
    with pytest.raises(IntegrityError):
        await download_artifacts(api, storage, "group/app", job.id, tmp_path / "a.zip")
    assert content(tmp_path / "a.zip") == b"old"
    gitlab.faults.clear()
    await download_artifacts(api, storage, "group/app", job.id, tmp_path / "a.zip")
    assert content(tmp_path / "a.zip") == job.archive_bytes


def overwrite_new(path: Path, raw: bytes) -> None:
    """Put bytes into a file."""
    path.write_bytes(raw)


async def test_a_branch_is_resolved_to_a_job_first(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path
) -> None:
    """The newest successful pipeline counts, and the archive is asked for by job id."""
    project = gitlab.add_project("group/app")
    old = add(project.add_pipeline("main"), "build", {"x": b"old"})
    new = add(project.add_pipeline("main"), "build", {"x": b"new"})
    failed = project.add_pipeline("main").add_job("build")
    failed.start()
    failed.set_artifacts({"x": b"failed"})
    failed.finish("failed")
    await download_ref_artifacts(api, storage, "group/app", "main", "build", tmp_path / "a.zip")
    assert content(tmp_path / "a.zip") == new.archive_bytes
    assert gitlab.requests.count(f"*/jobs/{new.id}/artifacts") == 1
    assert gitlab.requests.count("*/download") == 0
    assert old.id != new.id
    with pytest.raises(NotFoundError):
        await download_ref_artifacts(api, storage, "group/app", "other", "build", tmp_path / "b.zip")
    assert listing(tmp_path) == ["a.zip"]


async def test_without_the_right_to_list_the_server_is_asked_by_ref(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path
) -> None:
    """A token that may not list pipelines still gets the archive, by ref."""
    job = a_job(gitlab)
    gitlab.fail_next("403", where="*/pipelines", times=1)
    await download_ref_artifacts(api, storage, "group/app", "main", "build", tmp_path / "a.zip")
    assert content(tmp_path / "a.zip") == job.archive_bytes
    assert gitlab.requests.count("*/download") == 1


async def test_one_member_is_fetched_alone(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path
) -> None:
    """A file out of the archive has its own bytes, whatever they look like; a missing one is a 404."""
    job = a_job(gitlab)
    for member, raw in FILES.items():
        file = await download_artifact_member(api, storage, "group/app", job.id, member, tmp_path / "m")
        assert content(tmp_path / "m") == raw
        assert file.sha256 == hashlib.sha256(raw).hexdigest()
    with pytest.raises(NotFoundError):
        await download_artifact_member(api, storage, "group/app", job.id, "missing", tmp_path / "n")
    assert listing(tmp_path) == ["m"]


@pytest.mark.parametrize("generation", ["18", "19.5"])
@pytest.mark.parametrize("delivery", ["local", "direct"])
async def test_members_are_listed_without_the_archive(generation: Any, delivery: Any) -> None:
    """Servers without a listing are asked for the end of the zip: far fewer bytes than the archive."""
    async with FakeGitLab(generation=generation, delivery=delivery) as gitlab:
        job = a_job(gitlab)
        async with Client(gitlab.url, private_token=gitlab.token) as client:
            ref = JobRef("group/app", job.id)
            found = {each.path: each.size async for each in list_members(client._api, ref)}
            statistics = client.statistics()
    files = {path: size for path, size in found.items() if size is not None}
    assert files == {path: len(raw) for path, raw in FILES.items()}
    assert statistics.received_bytes < len(job.archive_bytes) / 2


@pytest.mark.parametrize("generation", ["9.1", "18", "19.5"])
async def test_members_of_a_folder_on_any_server(generation: Any) -> None:
    """The client walks a folder, deep or not, the same way with and without the server's listing."""
    files = {"top": b"1", "report/a.xml": b"22", "report/deep/b.xml": b"333", "reporter/c": b"4"}
    async with FakeGitLab(generation=generation) as gitlab:
        job = add(gitlab.add_project("group/app").add_pipeline("main"), "build", files)
        async with Client(gitlab.url, private_token=gitlab.token) as client:

            async def walk(path: str, *, recursive: bool = True) -> set[tuple[str, str, int | None]]:
                members = client.iter_artifact_members("group/app", job.id, path=path, recursive=recursive)
                return {(each.path.rstrip("/"), each.type, each.size) async for each in members}

            report, deep = ("report", "directory", None), ("report/deep", "directory", None)
            a, b = ("report/a.xml", "file", 2), ("report/deep/b.xml", "file", 3)
            assert await walk("report") == {deep, a, b}
            assert await walk("report/", recursive=False) == {deep, a}
            top = {report, ("reporter", "directory", None), ("top", "file", 1)}
            assert await walk("", recursive=False) == top
            assert await walk("") == {*top, deep, a, b, ("reporter/c", "file", 1)}
            with pytest.raises(NotFoundError):
                await walk("missing")
            job.erase()
            with pytest.raises((NotFoundError, ArtifactMissingError)):
                await walk("")


async def test_members_are_handed_over_as_pages_come(gitlab: FakeGitLab) -> None:
    """The first members are there after one request; an archive that goes then is an error, not a repeat."""
    job = add(
        gitlab.add_project("group/app").add_pipeline("main"), "build", {f"{n}": b"" for n in range(250)}
    )
    async with Client(gitlab.url, private_token=gitlab.token) as client:
        members = client.iter_artifact_members("group/app", job.id)
        first = await anext(members)
        assert first.path == "0"
        assert len(gitlab.requests) == 1
        job.erase()
        seen = [first.path]

        async def rest() -> None:
            async for each in members:
                seen.append(each.path)  # noqa: PERF401 -- what came before the error counts too

        with pytest.raises(NotFoundError):
            await rest()
    assert len(seen) == len(set(seen)) < 250


async def test_a_large_directory_is_fetched_once(tmp_path: Path) -> None:
    """A central directory longer than the first window costs one more request, not the archive."""
    files = {f"{'d' * 100}/{number:05}": b"" for number in range(2000)}
    async with FakeGitLab(generation="18") as gitlab:
        job = add(gitlab.add_project("group/app").add_pipeline("main"), "build", files)
        async with Client(gitlab.url, private_token=gitlab.token) as client:
            members = client.iter_artifact_members("group/app", job.id)
            assert len([each async for each in members if each.type == "file"]) == 2000
        ranges = [each for each in gitlab.requests if "Range" in each.headers]
    assert len(ranges) == 2


@pytest.mark.parametrize("boot", ["another", ""])
async def test_bytes_from_before_a_restart_need_proof(
    gitlab: FakeGitLab, storage: Storage, tmp_path: Path, boot: str
) -> None:
    """What the power took is not gone on with: a gzip without a hash is fetched anew, and is right."""
    gitlab.settings.delivery = "direct"
    job = add(gitlab.add_project("group/app").add_pipeline("main"), "build")
    job.set_artifacts_bytes(b"\x1f\x8b" + os.urandom(300_000))
    gitlab.fail_next("stall_midbody", after=150_000, where="*/artifacts/*", origin="storage")
    once = RetryPolicy(attempts=1)
    async with Client(gitlab.url, private_token=gitlab.token, retry=once) as client:
        with pytest.raises(RequestTimeout):
            await download_artifacts(client._api, storage, "group/app", job.id, tmp_path / "a.gz")
        (part,) = [each for each in listing(tmp_path) if each.endswith(".part")]
        kept = len(content(tmp_path / part))
        assert kept > 100_000
        overwrite_new(tmp_path / part, content(tmp_path / part)[:1000] + bytes(kept - 1000))
        record = json.loads(content(tmp_path / ".a.gz.part.json"))
        host, _, *rest = record["writer"].split("|")
        record["writer"] = "|".join([host, boot, *rest])
        overwrite_new(tmp_path / ".a.gz.part.json", json.dumps(record).encode())
        await download_artifacts(client._api, storage, "group/app", job.id, tmp_path / "a.gz")
    assert content(tmp_path / "a.gz") == job.archive_bytes
    assert listing(tmp_path) == ["a.gz"]


async def test_an_expired_archive_is_told_apart(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path
) -> None:
    """An archive that goes between the record and the download is missing for a reason."""
    job = a_job(gitlab)
    gitlab.fail_next("404", where="*/artifacts", times=1)
    real = api.get_job
    calls: list[int] = []

    async def get_job(*args: Any, **facts: Any) -> Any:
        found = await real(*args, **facts)
        if not calls:
            job.erase()
        calls.append(1)
        return found

    api.get_job = get_job  # type: ignore[method-assign]  # between two requests of one call
    with pytest.raises(ArtifactMissingError) as caught:
        await download_artifacts(api, storage, "group/app", job.id, tmp_path / "a.zip")
    assert caught.value.reason == "erased"
    assert listing(tmp_path) == []


@pytest.mark.parametrize("turns", [*range(40), *range(40, 400, 12)])
async def test_cancelled_at_any_turn_of_the_loop(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path, turns: int
) -> None:
    """Cancelled twice at any moment: the old file or the new one, nothing left open, then it works."""
    job = a_job(gitlab)
    dest = tmp_path / "a.zip"
    overwrite_new(dest, b"old")
    await api.get_job("group/app", job.id)
    before = descriptors()
    task = asyncio.ensure_future(download_artifacts(api, storage, "group/app", job.id, dest))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert content(dest) in (b"old", job.archive_bytes)
    assert [path for path in descriptors() if str(tmp_path) in path] == [
        path for path in before if str(tmp_path) in path
    ]
    await download_artifacts(api, storage, "group/app", job.id, dest)
    assert content(dest) == job.archive_bytes
    assert listing(tmp_path) == ["a.zip"]


def descriptors() -> list[str]:
    """What this process has open."""
    found = []
    for each in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(each.readlink()))
        except OSError:
            continue
    return found


LIMITED = """
import asyncio, json, resource, signal, sys
from asyncjobs._artifacts import download_artifacts, sync_artifacts
from asyncjobs._client import Client
from asyncjobs._storage import Storage
async def main(url, token, dest):
    storage = Storage()
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    try:
        async with Client(url, private_token=token) as client:
            await sync_artifacts(client._api, storage, ["group/app"], dest)
    finally:
        await storage.aclose()
try:
    asyncio.run(main(*json.loads(sys.argv[1])))
except Exception as error:
    print(type(error).__name__)
"""


@pytest.mark.real_time
async def test_a_real_limit_of_the_system_is_a_full_disk(tmp_path: Path) -> None:
    """A write that the system really refuses ends the sync with DiskFullError and no final file."""
    async with FakeGitLab() as gitlab:
        a_job(gitlab)
        facts = json.dumps([gitlab.url, gitlab.token, str(tmp_path / "dest")])
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", LIMITED, facts, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await child.communicate()
    assert output.decode().strip() == "DiskFullError"
    assert not [path for path in (tmp_path / "dest").rglob("*.zip")]  # noqa: C416 -- a test may look


@pytest.mark.real_time
async def test_memory_stays_small_beside_big_archives(tmp_path: Path) -> None:
    """Eight archives of 40 MB at once raise the process by less than 64 MiB."""
    async with FakeGitLab() as gitlab:
        pipeline = gitlab.add_project("group/app").add_pipeline("main")
        for number in range(8):
            job = pipeline.add_job(f"big {number}")
            job.start()
            job.set_big_artifacts(40_000_000, seed=number)
            job.finish("success")
        facts = json.dumps([gitlab.url, gitlab.token, str(tmp_path / "dest")])
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", MEASURED, facts, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await child.communicate()
    downloaded, grown = json.loads(output)
    assert downloaded == 8
    assert grown < 64 * 1024


MEASURED = """
import asyncio, json, resource, sys
from asyncjobs._artifacts import sync_artifacts
from asyncjobs._client import Client
from asyncjobs._options import SyncOptions
from asyncjobs._storage import Storage
def rss(name):
    return int(next(line for line in open("/proc/self/status") if line.startswith(name)).split()[1])
async def main(url, token, dest):
    storage = Storage()
    async with Client(url, private_token=token) as client:
        await client.get_project("group/app")
        before = rss("VmRSS")
        options = SyncOptions(fsync=False)
        report = await sync_artifacts(client._api, storage, ["group/app"], dest, options=options)
    await storage.aclose()
    print(json.dumps([len(report.downloaded), rss("VmHWM") - before]))
asyncio.run(main(*json.loads(sys.argv[1])))
"""
