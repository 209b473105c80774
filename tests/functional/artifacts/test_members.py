"""Single files out of archives, from servers that send them, list them, or know only whole archives."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest

from asyncjobs._api import Api
from asyncjobs._artifacts import download_artifact_member, list_members, sync_artifacts
from asyncjobs._artifacts.routes import routes_of
from asyncjobs._client import Client
from asyncjobs._errors import (
    ArtifactError,
    BadResponseError,
    DestinationError,
    IntegrityError,
    NotFoundError,
    UnsafeArchiveError,
)
from asyncjobs._models import DownloadProgress, JobRef, SyncEvent
from asyncjobs._options import ExtractLimits, SyncOptions
from asyncjobs._storage import Storage, claim_part
from asyncjobs.testing import FakeGitLab, FakeJob, RecordedRequest
from tests.functional.artifacts.disk import content, listing, tree
from tests.functional.artifacts.test_sync import add, kinds
from tests.unit.manifest.hostile_zips import Entry, build, honest

GENERATIONS = ("9.1", "18", "19.5")
FILES = {"report/junit.xml": b"<testsuite/>", "out.bin": os.urandom(400_000), "empty": b""}
GLOBS: Any = ("report/*.xml",)


def whole(request: RecordedRequest) -> bool:
    """A request for a whole archive."""
    return request.path.endswith("/artifacts") and "range" not in {each.lower() for each in request.headers}


def alone(request: RecordedRequest) -> bool:
    """A request for one file, or for the listing on a server that takes it for one."""
    return "/artifacts/" in request.path


def a_job(gitlab: FakeGitLab, files: dict[str, bytes] | None = None) -> FakeJob:
    """A job with an archive."""
    return add(gitlab.add_project("group/app").add_pipeline("main"), "build", files or FILES)


@pytest.mark.parametrize("delivery", ["local", "direct", "proxy"])
@pytest.mark.parametrize("generation", GENERATIONS)
async def test_a_member_arrives_from_any_server(
    storage: Storage, tmp_path: Path, delivery: Any, generation: Any
) -> None:
    """The bytes are the same from each server; one without the endpoint is asked for it once."""
    async with FakeGitLab(generation=generation, delivery=delivery) as gitlab:
        job = a_job(gitlab)
        async with Client(gitlab.url, private_token=gitlab.token) as client:
            for member, raw in FILES.items():
                file = await download_artifact_member(
                    client._api, storage, "group/app", job.id, member, tmp_path / "m"
                )
                assert content(tmp_path / "m") == raw
                assert (file.size, file.sha256) == (len(raw), hashlib.sha256(raw).hexdigest())
        old = generation == "9.1"
        assert gitlab.requests.count(alone, origin="api") == (1 if old else 3)
        assert gitlab.requests.count(whole, origin="api") == (3 if old else 0)
    assert listing(tmp_path) == ["m"]


@pytest.mark.parametrize("generation", GENERATIONS)
async def test_a_missing_member_is_the_same_error_everywhere(
    storage: Storage, tmp_path: Path, generation: Any
) -> None:
    """404, whether the server said so or its archive; and a missing file is never a missing endpoint."""
    async with FakeGitLab(generation=generation) as gitlab:
        job = a_job(gitlab)
        async with Client(gitlab.url, private_token=gitlab.token) as client:
            for member in ("missing", "report", "report/junit.xm", "Empty"):
                with pytest.raises(NotFoundError) as caught:
                    await download_artifact_member(
                        client._api, storage, "group/app", job.id, member, tmp_path / "m"
                    )
                assert (caught.value.status, caught.value.from_storage) == (404, False)
            assert routes_of(client._api).lack_member is (generation == "9.1")
        if generation != "9.1":
            assert gitlab.requests.count(whole) == 0
    assert listing(tmp_path) == []


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize("gone", ["archive", "job"])
async def test_nothing_to_take_a_member_from(
    storage: Storage, tmp_path: Path, generation: Any, gone: str
) -> None:
    """Without an archive, or without the job, it is a 404 as well, and proves nothing of the endpoint."""
    async with FakeGitLab(generation=generation) as gitlab:
        job = a_job(gitlab)
        if gone == "archive":
            job.erase()
        async with Client(gitlab.url, private_token=gitlab.token) as client:
            with pytest.raises(NotFoundError):
                await download_artifact_member(
                    client._api,
                    storage,
                    "group/app",
                    job.id if gone == "archive" else 9999,
                    "empty",
                    tmp_path / "m",
                )
            assert routes_of(client._api).lack_member is (generation == "9.1")
    assert listing(tmp_path) == []


@pytest.mark.parametrize("body", ['{"message":"404 Not Found"}', "404 page not found", "", "<html>", "[1]"])
async def test_other_404_are_not_taken_for_a_missing_endpoint(
    gitlab: FakeGitLab, storage: Storage, tmp_path: Path, body: str
) -> None:
    """Only GitLab's own words for an unknown path lead to the whole archive."""
    job = a_job(gitlab)
    async with Client(gitlab.url, private_token=gitlab.token) as client:
        gitlab.fail_next("status", status=404, body=body, where="*/artifacts/empty", times=9)
        with pytest.raises(NotFoundError):
            await download_artifact_member(client._api, storage, "group/app", job.id, "empty", tmp_path / "m")
        assert not routes_of(client._api).lack_member
    assert gitlab.requests.count(whole) == 0


async def test_a_server_is_asked_again_after_an_hour(storage: Storage, tmp_path: Path) -> None:
    """What a server lacked is forgotten in time, since it may have been upgraded."""
    async with FakeGitLab(generation="9.1") as gitlab:
        job = a_job(gitlab)
        async with Client(gitlab.url, private_token=gitlab.token) as client:
            for number, wait in enumerate([0, 3000, 700], 1):
                await asyncio.sleep(wait)
                await download_artifact_member(
                    client._api, storage, "group/app", job.id, "empty", tmp_path / "m"
                )
                assert gitlab.requests.count(alone) == (2 if number == 3 else 1)


@pytest.mark.parametrize("member", ["../x", "/x", "a//b", "a/./b", ""])
@pytest.mark.parametrize("generation", GENERATIONS)
async def test_a_path_that_climbs_is_refused_before_anything_is_sent(
    storage: Storage, tmp_path: Path, generation: Any, member: str
) -> None:
    """The same ValueError whatever the server can do, and it shows the path."""
    async with FakeGitLab(generation=generation) as gitlab:
        job = a_job(gitlab)
        async with Client(gitlab.url, private_token=gitlab.token) as client:
            with pytest.raises(ValueError, match=re.escape(repr(member))):
                await download_artifact_member(
                    client._api, storage, "group/app", job.id, member, tmp_path / "m"
                )
        assert len(gitlab.requests) == 0
    assert listing(tmp_path) == []


async def old_member(
    storage: Storage, raw: bytes, member: str, dest: Path, **facts: Any
) -> tuple[FakeGitLab, BaseException | None]:
    """One member from a server without the endpoint, out of an archive of these bytes."""
    async with FakeGitLab(generation="9.1") as gitlab:
        job = a_job(gitlab)
        job.set_artifacts_bytes(raw)
        async with Client(gitlab.url, private_token=gitlab.token) as client:
            try:
                await download_artifact_member(
                    client._api, storage, "group/app", job.id, member, dest, **facts
                )
            except (ArtifactError, NotFoundError) as error:
                return gitlab, error
    return gitlab, None


LINK = Entry(name=b"bin/link", data=b"/etc/passwd", mode=stat.S_IFLNK | 0o777)


async def test_a_link_elsewhere_in_the_archive_is_nobodys_concern(storage: Storage, tmp_path: Path) -> None:
    """Archives with links are common: the file that is wanted comes all the same, a link does not."""
    raw = build([LINK, Entry(name=b"report.xml", data=b"<x/>")])
    _, error = await old_member(storage, raw, "report.xml", tmp_path / "m")
    assert error is None
    assert content(tmp_path / "m") == b"<x/>"
    _, error = await old_member(storage, raw, "bin/link", tmp_path / "n")
    assert isinstance(error, UnsafeArchiveError)
    assert listing(tmp_path) == ["m"]


@pytest.mark.parametrize("state", ["damaged", "twice", "no zip", "bomb"])
async def test_a_member_that_is_not_right_is_refused_and_nothing_is_left(
    storage: Storage, tmp_path: Path, state: str
) -> None:
    """Wrong checksum, two of one name, an archive that is no zip, a bomb: an error, and no file."""
    if state == "damaged":
        raw = bytearray(honest({"m": b"a" * 1000}))
        raw[35] ^= 1
    elif state == "twice":
        raw = bytearray(build([Entry(name=b"m", data=b"1"), Entry(name=b"m", data=b"2")]))
    elif state == "no zip":
        raw = bytearray(b"\x1f\x8b" + bytes(500))
    else:
        raw = bytearray(build([Entry(name=b"m", data=bytes(20_000_000), method=8)]))
    _, error = await old_member(storage, bytes(raw), "m", tmp_path / "m")
    assert isinstance(error, IntegrityError if state == "damaged" else ArtifactError)
    assert isinstance(error, UnsafeArchiveError) is (state in {"twice", "bomb"})
    assert listing(tmp_path) == []


async def test_progress_of_a_member_is_that_of_its_archive(storage: Storage, tmp_path: Path) -> None:
    """Where the whole archive has to be sent, its bytes are what is told."""
    seen: list[DownloadProgress] = []
    raw = honest({"m": os.urandom(3_000_000)})
    await old_member(storage, raw, "m", tmp_path / "m", on_progress=seen.append)
    assert (seen[-1].received, seen[-1].total) == (len(raw), len(raw))
    assert {each.path for each in seen} == {tmp_path / "m"}


@pytest.mark.parametrize("after", range(1, 12, 2))
async def test_a_cancelled_member_keeps_the_archive_for_the_next_call(
    storage: Storage, tmp_path: Path, after: int
) -> None:
    """Cancelled anywhere, *dest* is as it was; the next call goes on with the archive and leaves nothing."""
    async with FakeGitLab(generation="9.1", delivery="direct") as gitlab:
        job = a_job(gitlab, {"m": os.urandom(8_000_000)})
        async with Client(gitlab.url, private_token=gitlab.token) as client:
            task: asyncio.Task[Any]
            seen = [0]

            def stop(_: DownloadProgress) -> None:
                seen[0] += 1
                if seen[0] == after:
                    task.cancel()

            call = (client._api, storage, "group/app", job.id, "m", tmp_path / "m")
            task = asyncio.ensure_future(download_artifact_member(*call, on_progress=stop))
            await asyncio.wait({task})
            if task.cancelled():
                assert "m" not in listing(tmp_path)
            await download_artifact_member(*call)
    assert listing(tmp_path) == ["m"]
    assert len(content(tmp_path / "m")) == 8_000_000


async def test_a_destination_is_refused_before_the_archive_is_sent(storage: Storage, tmp_path: Path) -> None:
    """A folder in place of the file is found out before anything is asked."""
    gitlab, error = await old_member(storage, honest({"m": b"x"}), "m", tmp_path)
    assert isinstance(error, DestinationError)
    assert len(gitlab.requests) == 0


# -- many jobs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("generation", GENERATIONS)
async def test_matching_members_of_many_jobs(storage: Storage, tmp_path: Path, generation: Any) -> None:
    """The same files on every server; what it lacks is not asked for again with each job."""
    async with FakeGitLab(generation=generation, delivery="direct") as gitlab:
        pipeline = gitlab.add_project("group/app").add_pipeline("main")
        truth = {}
        for number in range(30):
            files = {"report/junit.xml": b"<x n='%d'/>" % number, "big.bin": os.urandom(20_000)}
            job = add(pipeline, f"test {number}", files if number % 3 else {"nothing": b"here"})
            if number % 3:
                path = f"group-app/{pipeline.id}/{job.id}-test-{number}/report/junit.xml"
                truth[path] = files["report/junit.xml"]
        options = SyncOptions(members=GLOBS, concurrency=4)
        events: list[SyncEvent] = []
        async with Client(gitlab.url, private_token=gitlab.token) as client:
            report = await sync_artifacts(
                client._api, storage, ["group/app"], tmp_path, options=options, on_event=events.append
            )
            first = (gitlab.requests.count(alone, origin="api"), gitlab.requests.count(whole, origin="api"))
            gitlab.requests.clear()
            again = await sync_artifacts(client._api, storage, ["group/app"], tmp_path, options=options)
        assert (kinds(report), kinds(again)) == ((20, 0, 10, 0), (0, 20, 10, 0))
        assert tree(tmp_path) == truth
        assert gitlab.requests.count(whole) == 0
        assert again.bytes_received == 0
    asked, fetched = first
    if generation == "9.1":
        # One listing in vain for each job that was under way before the first answer, no single files.
        assert asked <= options.concurrency
        assert fetched == 20
        assert report.bytes_received > 20 * 20_000
    elif generation == "18":
        assert asked <= 20 + options.concurrency
        assert fetched == 0
    else:
        assert (asked, fetched) == (20 + 30, 0)


async def test_a_server_without_ranges_or_single_files(storage: Storage, tmp_path: Path) -> None:
    """Where the members cannot even be listed, the archive that is sent says what is in it."""
    async with FakeGitLab(generation="9.1") as gitlab:
        job = a_job(gitlab)
        other = add(job.pipeline, "other", {"nothing": b"here"})
        gitlab.fail_next("range_ignored", where="*/artifacts", times=99)
        async with Client(gitlab.url, private_token=gitlab.token) as client:
            with pytest.raises(ArtifactError, match="neither lists"):
                _ = [each async for each in list_members(client._api, JobRef("group/app", job.id))]
            gitlab.requests.clear()
            report = await sync_artifacts(
                client._api, storage, ["group/app"], tmp_path, options=SyncOptions(members=GLOBS)
            )
            assert gitlab.requests.count(whole) == 2
            dry = SyncOptions(members=GLOBS, dry_run=True)
            planned = await sync_artifacts(client._api, storage, ["group/app"], tmp_path, options=dry)
    assert kinds(report) == (1, 0, 1, 0)
    assert report.skipped[0].ref.job_id == other.id
    assert list(tree(tmp_path).values()) == [FILES["report/junit.xml"]]
    assert (len(planned.unchanged), len(planned.failed)) == (1, 1)


async def test_an_unsafe_name_among_the_matches_fails_its_job_alone(storage: Storage, tmp_path: Path) -> None:
    """A name that would leave the folder, or a limit that is passed, is the outcome of that job."""
    async with FakeGitLab(generation="9.1") as gitlab:
        good = a_job(gitlab, {"a.xml": b"<a/>"})
        evil = add(good.pipeline, "evil")
        evil.set_artifacts_bytes(build([Entry(name=b"../evil.xml", data=b"x")]))
        large = add(good.pipeline, "large", {"b.xml": b"b" * 2000})
        options = SyncOptions(members=("*.xml",), extract_limits=ExtractLimits(member_bytes=1999))
        async with Client(gitlab.url, private_token=gitlab.token) as client:
            report = await sync_artifacts(
                client._api, storage, ["group/app"], tmp_path / "dest", options=options
            )
    assert {each.ref.job_id for each in report.failed} == {evil.id, large.id}
    assert list(tree(tmp_path).values()) == [b"<a/>"]
    assert listing(tmp_path) == ["dest"]


TREES = [b"oak", b"", b"[]", b"{}", b"[1]", b'{"name":"x"}', b"\x1f\x8b\x08", os.urandom(3_000_000)]


@pytest.mark.parametrize("oak", TREES, ids=[repr(each[:9]) for each in TREES])
@pytest.mark.parametrize("delivery", ["local", "direct"])
@pytest.mark.parametrize("generation", GENERATIONS)
async def test_a_file_called_tree_is_a_file_like_others(
    storage: Storage, tmp_path: Path, generation: Any, delivery: Any, oak: bytes
) -> None:
    """Its address is that of the listing, on one server or the other; it and its neighbours arrive."""
    async with FakeGitLab(generation=generation, delivery=delivery) as gitlab:
        files = {"tree": oak, "report/a.xml": b"<a/>", "report/tree": b"elm"}
        job = a_job(gitlab, files)
        options = SyncOptions(members=("tree", "report/*"))
        async with Client(gitlab.url, private_token=gitlab.token) as client:
            report = await sync_artifacts(
                client._api, storage, ["group/app"], tmp_path / "all", options=options
            )
            again = await sync_artifacts(
                client._api, storage, ["group/app"], tmp_path / "all", options=options
            )
            for member, raw in files.items():
                await download_artifact_member(
                    client._api, storage, "group/app", job.id, member, tmp_path / "m"
                )
                assert content(tmp_path / "m") == raw
            with pytest.raises(NotFoundError):
                await download_artifact_member(
                    client._api, storage, "group/app", job.id, "tree.json", tmp_path / "n"
                )
    assert (kinds(report), kinds(again)) == ((1, 0, 0, 0), (0, 1, 0, 0))
    assert sorted(tree(tmp_path / "all").values()) == sorted(files.values())
    assert listing(tmp_path) == ["all", "m"]


async def test_what_a_killed_run_left_of_an_archive_goes_with_the_next(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path
) -> None:
    """Also when every file of it is in its place already, so that the archive is not needed again."""
    job = a_job(gitlab, {"tree": b"oak", "a.xml": b"<a/>"})
    await sync_artifacts(api, storage, ["group/app"], tmp_path, options=SyncOptions(members=("tree",)))
    root = await storage.open_root(tmp_path)
    folder, name = await root.parent_of(f"group-app/{job.pipeline.id}/{job.id}-build.zip", create=False)
    part = await claim_part(folder, name, "archive")
    await part.note('"v1"', 1000)
    await part.feed(b"PK")
    await part.release()
    beside = folder.path
    await folder.close()
    await root.aclose()
    assert len(listing(beside)) == 3
    report = await sync_artifacts(api, storage, ["group/app"], tmp_path, options=SyncOptions(members=("t*",)))
    assert report.ok
    assert listing(beside) == [f"{job.id}-build"]


@pytest.mark.parametrize("generation", GENERATIONS)
async def test_no_file_called_tree_is_a_404(storage: Storage, tmp_path: Path, generation: Any) -> None:
    """Where the listing answers in its place, the archive itself says that there is none."""
    async with FakeGitLab(generation=generation) as gitlab:
        job = a_job(gitlab)
        async with Client(gitlab.url, private_token=gitlab.token) as client:
            with pytest.raises(NotFoundError):
                await download_artifact_member(
                    client._api, storage, "group/app", job.id, "tree", tmp_path / "m"
                )
    assert listing(tmp_path) == []


PAGES = [
    ("<!DOCTYPE html><title>Sign in</title>", "text/html; charset=utf-8"),
    ('{"message":"ok"}', "application/json"),
    ("back soon", "text/plain"),
    ("", "application/octet-stream"),
]


@pytest.mark.parametrize(("body", "kind"), PAGES)
async def test_a_page_is_never_saved_as_the_file(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path, body: str, kind: str
) -> None:
    """What is certainly not the file is an error and leaves no file; in a sync the others arrive."""
    job = a_job(gitlab)
    where = "*/artifacts/report/junit.xml"
    gitlab.fail_next("status", status=200, body=body, content_type=kind, where=where, times=99)
    with pytest.raises(BadResponseError, match=f"attachment, but {kind.split(';', maxsplit=1)[0]}"):
        await download_artifact_member(api, storage, "group/app", job.id, "report/junit.xml", tmp_path / "m")
    assert gitlab.requests.count(alone) == 1
    assert listing(tmp_path) == []
    options = SyncOptions(members=("*",))
    report = await sync_artifacts(api, storage, ["group/app"], tmp_path / "all", options=options)
    assert isinstance(report.failed[0].error, BadResponseError)
    assert sorted(tree(tmp_path / "all").values()) == sorted([FILES["out.bin"], FILES["empty"]])
    gitlab.faults.clear()
    report = await sync_artifacts(api, storage, ["group/app"], tmp_path / "all", options=options)
    assert report.ok
    assert sorted(tree(tmp_path / "all").values()) == sorted(FILES.values())


async def test_a_page_that_is_the_file_is_saved(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path
) -> None:
    """A report in HTML or JSON is a file like any other."""
    files = {"index.html": b"<!DOCTYPE html><title>Sign in</title>", "a.json": b"{}", "a.xml": b"<a/>"}
    job = a_job(gitlab, files)
    for member, raw in files.items():
        await download_artifact_member(api, storage, "group/app", job.id, member, tmp_path / "m")
        assert content(tmp_path / "m") == raw


async def test_members_interrupted_and_run_again(storage: Storage, tmp_path: Path) -> None:
    """Cancelled after any event, the next run completes and leaves no archive behind."""
    async with FakeGitLab(generation="9.1", delivery="direct") as gitlab:
        pipeline = gitlab.add_project("group/app").add_pipeline("main")
        for number in range(3):
            add(pipeline, f"t{number}", {"report/a.xml": b"%d" % number, "big": os.urandom(2_500_000)})
        for after in range(1, 16, 2):
            dest = tmp_path / str(after)
            async with Client(gitlab.url, private_token=gitlab.token) as client:
                task: asyncio.Task[Any]
                seen = [0]

                def stop(_: SyncEvent, seen: list[int] = seen, after: int = after) -> None:
                    seen[0] += 1
                    if seen[0] == after:
                        task.cancel()  # noqa: B023 -- called before the next turn of the loop

                call = (client._api, storage, ["group/app"], dest)
                options = SyncOptions(members=GLOBS, concurrency=2)
                task = asyncio.ensure_future(sync_artifacts(*call, options=options, on_event=stop))
                await asyncio.wait({task})
                assert (await sync_artifacts(*call, options=options)).ok
            assert sorted(tree(dest).values()) == [b"0", b"1", b"2"]
