"""Artifacts: three deliveries, the second origin and its signed links, Range, by ref, tree, expiry."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import zipfile
from typing import Any, Literal

import aiohttp
import pytest

from asyncjobs.testing import FakeGitLab, FakeJob, FakeProject, GeneratedArchive
from tests.functional.fake.conftest import Caller, caller_of, path_of

FILES = {"a.txt": b"alpha", "dir/b.txt": b"beta" * 50, "dir/deep/c.bin": bytes(300)}
CONSTANT = 'W/"12ae32cb1ec02d01eda3581b127c1fee"'


@pytest.fixture
def done(project: FakeProject) -> FakeJob:
    """A successful job with an archive."""
    return project.add_pipeline().add_job("build", status="success", artifacts=FILES)


async def test_local_delivery(call: Caller, done: FakeJob) -> None:
    """200 with the zip, a length, ranges, a date and the digest as a strong ETag."""
    got = await call(path_of(done, "/artifacts"))
    assert (got.status, got.body) == (200, done.archive_bytes)
    assert got.headers["content-type"] == "application/octet-stream"
    assert got.headers["content-disposition"].startswith('attachment; filename="artifacts.zip"')
    assert got.headers["accept-ranges"] == "bytes"
    assert got.headers["etag"] == f'"{hashlib.sha256(done.archive_bytes).hexdigest()}"'
    assert zipfile.ZipFile(io.BytesIO(got.body)).read("a.txt") == b"alpha"


@pytest.mark.parametrize(
    ("mode", "etag"), [("constant", CONSTANT), ("weak", 'W/"'), ("strong", '"'), ("none", None)]
)
async def test_etag_modes(
    gitlab: FakeGitLab,
    call: Caller,
    done: FakeJob,
    mode: Literal["constant", "weak", "strong", "none"],
    etag: str | None,
) -> None:
    """The constant of older servers, weak, strong, or none; the constant is 304 whatever the content."""
    gitlab.settings.artifact_etag = mode
    got = await call(path_of(done, "/artifacts"))
    assert got.headers.get("etag", "").startswith(etag or "")
    assert ("etag" in got.headers) is (etag is not None)
    if mode == "constant":
        done.set_artifacts({"other": b"content"})
        assert (await call(path_of(done, "/artifacts"), If_None_Match=CONSTANT)).status == 304


async def test_older_generations_send_the_constant() -> None:
    """The ETag that says nothing is the default before 19."""
    async with FakeGitLab("18") as gitlab, aiohttp.ClientSession() as session:
        job = gitlab.add_project("group/app").add_pipeline().add_job("b", status="success", artifacts=FILES)
        got = await caller_of(gitlab, session)(path_of(job, "/artifacts"))
    assert got.headers["etag"] == CONSTANT


@pytest.mark.parametrize(
    ("sent", "status", "span"),
    [
        ("bytes=0-9", 206, (0, 10)),
        ("bytes=10-", 206, (10, None)),
        ("bytes=-5", 206, (-5, None)),
        ("bytes=0-999999", 206, (0, None)),
        ("bytes=999999-", 416, None),
        ("bytes=5-2", 200, (0, None)),
        ("bytes=0-1,4-5", 200, (0, None)),
        ("lines=1-2", 200, (0, None)),
    ],
)
async def test_ranges(
    call: Caller, done: FakeJob, sent: str, status: int, span: tuple[int, int | None] | None
) -> None:
    """Satisfiable is 206 with Content-Range, past the end 416, anything odd the whole archive."""
    got = await call(path_of(done, "/artifacts"), Range=sent)
    assert got.status == status
    size = len(done.archive_bytes)
    if span is None:
        assert got.headers["content-range"] == f"bytes */{size}"
        return
    assert got.body == done.archive_bytes[span[0] : span[1]]
    if status == 206:
        start = span[0] % size
        assert got.headers["content-range"] == f"bytes {start}-{start + len(got.body) - 1}/{size}"


async def test_if_range_compares_strongly(gitlab: FakeGitLab, call: Caller, done: FakeJob) -> None:
    """The strong tag and the exact date match; another or a weak tag gives everything."""
    headers = (await call(path_of(done, "/artifacts"))).headers
    for value, status in (
        (headers["etag"], 206),
        (headers["last-modified"], 206),
        ('"other"', 200),
        (f"W/{headers['etag']}", 200),
    ):
        got = await call(path_of(done, "/artifacts"), Range="bytes=5-", If_Range=value)
        assert got.status == status, value
    gitlab.settings.artifact_etag = "constant"
    assert (await call(path_of(done, "/artifacts"), Range="bytes=5-", If_Range=CONSTANT)).status == 200


async def test_direct_delivery_redirects_to_another_origin(generation: Any) -> None:
    """302 to a signed link on another port; credentials there are refused as S3 refuses them."""
    async with FakeGitLab(generation, delivery="direct") as gitlab, aiohttp.ClientSession() as session:
        call = caller_of(gitlab, session)
        job = gitlab.add_project("group/app").add_pipeline().add_job("b", status="success", artifacts=FILES)
        got = await call(path_of(job, "/artifacts"))
        link = got.headers["location"]
        assert (got.status, got.headers["content-type"]) == (302, "text/plain")
        assert got.body == f"This resource has been moved temporarily to {link}.".encode()
        assert link.startswith(gitlab.storage_url + "/")
        assert not link.startswith(gitlab.url)
        stored = await call(link)
        assert (stored.status, stored.body) == (200, job.archive_bytes)
        for name in ("PRIVATE_TOKEN", "JOB_TOKEN", "Authorization", "Cookie"):
            refused = await call(link, **{name: "x"})
            assert (refused.status, refused.headers["content-type"]) == (400, "application/xml")
            assert b"<Code>InvalidArgument</Code><Message>Only one auth mechanism allowed" in refused.body
        assert gitlab.requests.count(origin="storage", status=400) == 4
        assert not gitlab.requests.showing(gitlab.token, origin="storage")


async def test_signed_links_expire_and_cannot_be_changed(
    gitlab: FakeGitLab, call: Caller, done: FakeJob
) -> None:
    """403 with XML after 600 seconds, for another path or method, and for a query quoted otherwise."""
    gitlab.settings.delivery = "direct"
    link = (await call(path_of(done, "/artifacts"))).headers["location"]
    part = await call(link, Range="bytes=3-", If_Range=(await call(link)).headers["etag"])
    assert (part.status, part.body) == (206, done.archive_bytes[3:])
    assert (await call(link, Range="bytes=99999-")).status == 416
    for bad in (link.replace("artifacts.zip", "artifacts.zap"), link.replace("%2F", "/", 1), link[:-1]):
        got = await call(bad)
        assert (got.status, b"SignatureDoesNotMatch" in got.body) == (403, True), bad
    assert (await call(link, method="HEAD")).status == 403
    await asyncio.sleep(601)
    got = await call(link)
    assert (got.status, b"Request has expired" in got.body) == (403, True)


async def test_head_is_redirected_to_a_link_signed_for_head(
    gitlab: FakeGitLab, call: Caller, done: FakeJob
) -> None:
    """303 on newer frameworks; the link answers HEAD with the length."""
    gitlab.settings.delivery = "direct"
    got = await call(path_of(done, "/artifacts"), method="HEAD")
    assert (got.status, got.body) == (303, b"")
    stored = await call(got.headers["location"], method="HEAD")
    assert (stored.status, stored.headers["content-length"]) == (200, str(len(done.archive_bytes)))


async def test_proxy_delivery_passes_the_stores_answer_through(
    gitlab: FakeGitLab, call: Caller, done: FakeJob
) -> None:
    """One origin, the store's MD5 tag and ranges; the length may be missing."""
    gitlab.settings.delivery = "proxy"
    got = await call(path_of(done, "/artifacts"))
    md5 = hashlib.md5(done.archive_bytes).hexdigest()
    assert (got.status, got.headers["etag"]) == (200, f'"{md5}"')
    got = await call(path_of(done, "/artifacts"), Range="bytes=4-", If_Range=got.headers["etag"])
    assert (got.status, got.body) == (206, done.archive_bytes[4:])
    gitlab.settings.content_length = False
    got = await call(path_of(done, "/artifacts"))
    assert (got.headers["transfer-encoding"], got.body) == ("chunked", done.archive_bytes)
    gitlab.settings.storage_etag = "none"
    assert "etag" not in (await call(path_of(done, "/artifacts"))).headers


async def test_download_mode_chooses_the_proxy(gitlab: FakeGitLab, call: Caller, done: FakeJob) -> None:
    """`download_mode=proxy` avoids the redirect."""
    gitlab.settings.delivery = "direct"
    assert (await call(path_of(done, "/artifacts?download_mode=proxy"))).status == 200


async def test_single_files_know_no_range(call: Caller, done: FakeJob) -> None:
    """Always the whole file; a missing one is Workhorse's plain text, a bad path JSON."""
    got = await call(path_of(done, "/artifacts/dir/b.txt"), Range="bytes=2-")
    assert (got.status, got.body, got.headers["content-type"]) == (200, b"beta" * 50, "text/plain")
    assert got.headers["content-disposition"] == 'attachment; filename="b.txt"'
    digest = hashlib.sha256(f"{done.archive_sha256}:dir/b.txt".encode()).hexdigest()
    assert got.headers["etag"] == f'"{digest}"'
    got = await call(path_of(done, "/artifacts/dir/none.txt"))
    assert (got.status, got.body) == (404, b"404 page not found\n")
    assert got.headers["content-type"] == "text/plain; charset=utf-8"
    got = await call(path_of(done, "/artifacts/dir/%2e%2e/a.txt"))
    assert (got.status, got.body) == (400, b'{"message":"400 Bad request"}')


async def test_single_files_are_compressed_like_any_text(call: Caller, done: FakeJob) -> None:
    """Nginx gzips text when asked and weakens the strong ETag with it; binaries stay as they are."""
    done.set_artifacts({"log.txt": b"line " * 100, "日本\n.bin": bytes(400)})
    plain = await call(path_of(done, "/artifacts/log.txt"))
    packed = await call(path_of(done, "/artifacts/log.txt"), Accept_Encoding="gzip")
    assert (packed.headers["content-encoding"], gzip.decompress(packed.body)) == ("gzip", plain.body)
    assert packed.headers["etag"] == f"W/{plain.headers['etag']}"
    binary = await call(path_of(done, "/artifacts/%E6%97%A5%E6%9C%AC%0A.bin"), Accept_Encoding="gzip")
    assert ("content-encoding" in binary.headers, len(binary.body)) == (False, 400)


async def test_by_ref_means_the_newest_successful_pipeline(call: Caller, project: FakeProject) -> None:
    """A failed or running pipeline does not count, an older one only when asked for, a child's job does."""
    old = project.add_pipeline("feature/x").add_job("build", status="success", artifacts={"v": b"1"})
    base = f"/projects/{project.id}/jobs/artifacts"
    for ref in ("feature/x", "feature%2Fx"):
        assert (await call(f"{base}/{ref}/download?job=build")).body == old.archive_bytes
        assert (await call(f"{base}/{ref}/raw/v?job=build")).body == b"1"
    project.add_pipeline("feature/x").add_job("build", status="failed", artifacts={"v": b"2"})
    assert (await call(f"{base}/feature/x/download?job=build")).body == old.archive_bytes
    newest = project.add_pipeline("feature/x")
    newest.add_job("build", status="success")
    got = await call(f"{base}/feature/x/download?job=build")
    assert (got.status, got.body) == (404, b'{"message":"404 Not found"}')
    recent = "search_recent_successful_pipelines=true"
    assert (await call(f"{base}/feature/x/download?job=build&{recent}")).body == old.archive_bytes
    got = await call(f"{base}/feature/x/download?job=none&{recent}")
    assert (got.status, got.body) == (404, b'{"message":"404 Job Not Found"}')
    child = project.add_pipeline("feature/x")
    inner = child.add_job("build", status="success", artifacts={"v": b"3"})
    newest.add_bridge("child", child)
    assert (await call(f"{base}/feature/x/download?job=build")).body == inner.archive_bytes


async def test_expired_archives_are_not_there(call: Caller, gitlab: FakeGitLab, done: FakeJob) -> None:
    """The key goes from the JSON, the download is 404 with a capital F; keeping in time prevents it."""
    done.set_artifacts(FILES, expire_at=gitlab.clock.time() + 100)
    other = done.pipeline.add_job("other", status="success")
    other.set_artifacts(FILES, expire_at=gitlab.clock.time() + 100)
    got = await call(path_of(other, "/artifacts/keep"), method="POST")
    assert (got.status, got.json()["artifacts_expire_at"]) == (200, None)
    await asyncio.sleep(101)
    assert "artifacts_file" not in (await call(path_of(done))).json()
    got = await call(path_of(done, "/artifacts"))
    assert (got.status, got.body) == (404, b'{"message":"404 Not Found"}')
    assert (await call(path_of(other, "/artifacts"))).status == 200
    assert (await call(path_of(done, "/artifacts/keep"), method="POST")).status == 404


async def test_tree(call: Caller, done: FakeJob) -> None:
    """Entries of one level or all, files with size and mode, pages with totals, three kinds of 404."""
    got = await call(path_of(done, "/artifacts/tree"))
    assert got.json() == [
        {"name": "a.txt", "path": "a.txt", "type": "file", "mode": "100644", "size": 5},
        {"name": "dir", "path": "dir", "type": "directory", "mode": "040755"},
    ]
    assert got.headers["x-total"] == "2"
    rows = (await call(path_of(done, "/artifacts/tree?path=dir&recursive=true"))).json()
    assert [row["path"] for row in rows] == ["dir/b.txt", "dir/deep", "dir/deep/c.bin"]
    got = await call(path_of(done, "/artifacts/tree?path=none"))
    assert (got.status, got.body) == (404, b'{"message":"404 Path Not Found"}')
    done.delete_artifacts()
    got = await call(path_of(done, "/artifacts/tree"))
    assert (got.status, got.body) == (404, b'{"message":"404 Artifacts Not Found"}')


async def test_removal(call: Caller, done: FakeJob, project: FakeProject) -> None:
    """204 for one job, 202 for the project, 409 while statistics are refreshed; logs stay."""
    done.append_trace("log")
    project.statistics_refreshing = True
    assert (await call(path_of(done, "/artifacts"), method="DELETE")).status == 409
    project.statistics_refreshing = False
    other = project.add_pipeline().add_job("x", status="success", artifacts=FILES)
    got = await call(path_of(done, "/artifacts"), method="DELETE")
    assert (got.status, got.body, (await call(path_of(done, "/artifacts"))).status) == (204, b"", 404)
    got = await call(f"/projects/{project.id}/artifacts", method="DELETE")
    assert (got.status, got.body) == (202, b'{"message":"202 Accepted"}')
    assert (await call(path_of(other, "/artifacts"))).status == 404
    assert done.trace == b"log"


async def test_reports_by_file_type(call: Caller, done: FakeJob) -> None:
    """19.4 on: a report has its own download; an unknown type is 400, a missing one 404."""
    done.reports["junit"] = b"gz"
    assert (await call(path_of(done, "/artifacts?file_type=junit"))).body == b"gz"
    assert (await call(path_of(done, "/artifacts?file_type=sast"))).status == 404
    assert (await call(path_of(done, "/artifacts?file_type=trace"))).status == 400


async def test_access_can_exclude_a_caller(gitlab: FakeGitLab, call: Caller, done: FakeJob) -> None:
    """`artifacts:access` gives 403 though the job is readable."""
    reader = gitlab.add_user("reader")
    done.pipeline.project.members[reader.id] = 20
    token = str(gitlab.add_token(user=reader))
    assert (await call(path_of(done, "/artifacts"), token=token)).status == 200
    done.artifacts_access = "maintainer"
    assert (await call(path_of(done, "/artifacts"), token=token)).status == 403
    assert (await call(path_of(done, "/artifacts"))).status == 200


async def test_generated_archives_are_valid_zips_of_any_size(call: Caller, done: FakeJob) -> None:
    """Computed bytes form a zip whose checksum holds, and any slice equals the whole's."""
    done.set_big_artifacts(3 * 1024 * 1024 + 17)
    got = await call(path_of(done, "/artifacts"))
    with zipfile.ZipFile(io.BytesIO(got.body)) as archive:
        assert archive.testzip() is None
        assert archive.getinfo("big.bin").file_size == 3 * 1024 * 1024 + 17
    assert got.headers["etag"] == f'"{hashlib.sha256(got.body).hexdigest()}"'
    for start in (0, 5, 37, 262_144, 1_000_003, len(got.body) - 60):
        part = await call(path_of(done, "/artifacts"), Range=f"bytes={start}-{start + 70_000}")
        assert part.body == got.body[start : start + 70_001]


def test_a_generated_archive_states_its_bound() -> None:
    """Sizes that need zip64 are refused at once."""
    with pytest.raises(ValueError, match="0 to 4 GiB"):
        GeneratedArchive(1 << 32)
