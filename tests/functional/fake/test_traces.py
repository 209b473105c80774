"""Traces: whole, in windows, by Range; conditional, compressed, growing on the clock, archived."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import random
from typing import Any, Literal

import aiohttp
import pytest

from asyncjobs.testing import FakeGitLab, FakeJob, FakeProject
from tests.functional.fake.conftest import Caller, caller_of, path_of


async def test_a_log_that_is_not_there_is_empty(call: Caller, job: FakeJob) -> None:
    """200 with no body, no ETag, no-cache: before the first push as after an erase."""
    got = await call(path_of(job, "/trace"))
    assert (got.status, got.body, got.headers["content-length"]) == (200, b"", "0")
    assert "etag" not in got.headers
    assert got.headers["cache-control"] == "no-cache"


async def test_headers_of_a_log(call: Caller, job: FakeJob) -> None:
    """text/plain without charset, the disposition GitLab spells "infile", the ETag of the body's SHA-256."""
    job.append_trace("hello\n")
    got = await call(path_of(job, "/trace"))
    assert got.body == b"hello\n"
    assert got.headers["content-type"] == "text/plain"
    assert got.headers["content-disposition"] == f'infile; filename="{job.id}.log"'
    assert got.headers["etag"] == f'W/"{hashlib.sha256(b"hello" + bytes([10])).hexdigest()[:32]}"'
    assert got.headers["cache-control"] == "max-age=0, private, must-revalidate"


@pytest.mark.parametrize("form", ["{etag}", '"x", {etag}', "*", "{strong}"])
async def test_only_the_exact_etag_is_not_modified(call: Caller, job: FakeJob, form: str) -> None:
    """304 for the very string; lists, stars and the strong form are 200."""
    job.append_trace("hello\n")
    etag = (await call(path_of(job, "/trace"))).headers["etag"]
    wanted = form.format(etag=etag, strong=etag.removeprefix("W/"))
    got = await call(path_of(job, "/trace"), If_None_Match=wanted)
    if form == "{etag}":
        assert (got.status, got.body, got.headers["etag"]) == (304, b"", etag)
        assert not {"content-type", "content-length"} & set(got.headers)
    else:
        assert got.status == 200


async def test_nginx_compresses_when_asked_and_keeps_the_weak_etag(call: Caller, job: FakeJob) -> None:
    """From 250 bytes on, chunked, without a length; the hash is that of the plain text."""
    job.append_trace("x" * 249)
    small = await call(path_of(job, "/trace"), Accept_Encoding="gzip")
    assert "content-encoding" not in small.headers
    job.append_trace("y")
    plain = await call(path_of(job, "/trace"))
    packed = await call(path_of(job, "/trace"), Accept_Encoding="gzip, deflate")
    assert (packed.headers["content-encoding"], packed.headers["transfer-encoding"]) == ("gzip", "chunked")
    assert "content-length" not in packed.headers
    assert gzip.decompress(packed.body) == plain.body
    assert packed.headers["etag"] == plain.headers["etag"]
    assert "content-encoding" not in (await call(path_of(job, "/trace"), Accept_Encoding="gzip;q=0")).headers


async def test_byte_windows(call: Caller, job: FakeJob) -> None:
    """An offset and a limit cut the log; past the end is empty; one of the two will do."""
    job.append_trace(bytes(range(200)) * 5)
    for query, expected in (
        ("byte_offset=10&byte_limit=5", job.trace[10:15]),
        ("byte_offset=990&byte_limit=512000", job.trace[990:]),
        ("byte_offset=1000&byte_limit=10", b""),
        ("byte_offset=5000&byte_limit=10", b""),
        ("byte_limit=7", job.trace[:7]),
        ("byte_offset=400", job.trace[400:]),
    ):
        got = await call(path_of(job, f"/trace?{query}"))
        assert (got.status, got.body) == (200, expected), query


@pytest.mark.parametrize("query", ["byte_limit=0", "byte_limit=512001", "byte_offset=-1", "byte_offset=x"])
async def test_bad_windows_are_refused(call: Caller, job: FakeJob, query: str) -> None:
    """400 with the parameter's name."""
    got = await call(path_of(job, f"/trace?{query}"))
    assert got.status == 400
    assert got.json()["error"].startswith(query.partition("=")[0])


@pytest.mark.parametrize("generation_name", ["9.1", "18"])
async def test_older_servers_ignore_windows_and_range(generation_name: Any) -> None:
    """The whole log with 200, whatever was asked."""
    async with FakeGitLab(generation_name) as gitlab, aiohttp.ClientSession() as session:
        job = (
            gitlab.add_project("group/app")
            .add_pipeline()
            .add_job("test", status="success", age=999, trace="0123456789")
        )
        call = caller_of(gitlab, session)
        got = await call(path_of(job, "/trace?byte_offset=3&byte_limit=2"), Range="bytes=4-")
        assert (got.status, got.body) == (200, b"0123456789")


async def test_archived_logs_answer_range_where_workhorse_serves_them(
    gitlab: FakeGitLab, call: Caller, job: FakeJob
) -> None:
    """Live logs ignore Range; two minutes after the end it is 206, or 416 at the end."""
    gitlab.settings.trace = "range"
    job.append_trace("0123456789")
    assert (await call(path_of(job, "/trace"), Range="bytes=4-")).status == 200
    job.finish()
    await asyncio.sleep(121)
    got = await call(path_of(job, "/trace"), Range="bytes=4-")
    assert (got.status, got.body, got.headers["content-range"]) == (206, b"456789", "bytes 4-9/10")
    assert got.headers["content-type"] == "text/plain"
    got = await call(path_of(job, "/trace"), Range="bytes=10-")
    assert (got.status, got.headers["content-range"]) == (416, "bytes */10")
    assert (await call(path_of(job, "/trace?byte_offset=4"))).body == b"0123456789"


async def test_the_archived_log_is_an_artifact_with_its_size(call: Caller, job: FakeJob) -> None:
    """`artifacts[]` shows the trace only after 120 seconds, with the final length, and the bytes stay."""
    job.append_trace("0123456789")
    job.finish()
    await asyncio.sleep(119)
    assert (await call(path_of(job))).json()["artifacts"] == []
    await asyncio.sleep(2)
    entry = {"file_type": "trace", "size": 10, "filename": "job.log", "file_format": "raw"}
    assert (await call(path_of(job))).json()["artifacts"] == [entry]
    assert (await call(path_of(job, "/trace"))).body == b"0123456789"


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("repeats", b"a" * 10 + b"\x1b[0K\x1b[32;1mJob succeeded\x1b[0;m\n"),
        ("marker", b"\n[10 bytes of this log were lost while archiving]\n"),
        ("never", b"a" * 10),
    ],
)
async def test_archiving_can_go_wrong(
    gitlab: FakeGitLab,
    call: Caller,
    job: FakeJob,
    mode: Literal["repeats", "marker", "never"],
    expected: bytes,
) -> None:
    """The archived text may repeat its end or have lost a chunk, or archiving never happens."""
    gitlab.archiving = mode
    job.append_trace("a" * 10)
    job.finish()
    await asyncio.sleep(121)
    assert (await call(path_of(job, "/trace"))).body == expected


async def test_a_script_pushes_on_the_clock_and_ends_after_its_last_bytes(
    call: Caller, project: FakeProject
) -> None:
    """Every push is a prefix; the final status is never visible before the whole log."""
    data = random.Random(1).randbytes(3000)
    job = project.add_pipeline().add_job("test")
    job.script_trace(data, every=60, pushes=4)
    sizes = []
    while (status := (await call(path_of(job))).json()["status"]) == "running":
        body = (await call(path_of(job, "/trace"))).body
        assert data.startswith(body)
        sizes.append(len(body))
        await asyncio.sleep(0.5)
    assert (status, (await call(path_of(job, "/trace"))).body) == ("success", data)
    assert sorted(set(sizes)) == [0, 750, 1500, 2250, 3000]
    assert sizes.count(750) == pytest.approx(120, abs=2)


async def test_big_pushes_come_in_patches(call: Caller, project: FakeProject) -> None:
    """A runner sends at most 1 MiB at once."""
    job = project.add_pipeline().add_job("test")
    job.start()
    job.script([(1, b"x" * (5 * 1024 * 1024 // 2)), (1, "failed")])
    await asyncio.sleep(1.1)
    assert job.trace_size == 1024 * 1024
    await asyncio.sleep(5)
    assert (job.trace_size, job.status, job.failure_reason) == (
        5 * 1024 * 1024 // 2,
        "failed",
        "script_failure",
    )


async def test_a_cancel_ends_a_script_at_its_next_push(project: FakeProject) -> None:
    """The next contact brings the cancel to the runner; the rest of the script never happens."""
    job = project.add_pipeline().add_job("test")
    job.script_trace(b"abcdef", every=10, pushes=3)
    await asyncio.sleep(15)
    job.cancel()
    assert (job.trace, job.status) == (b"ab", "canceling")
    await asyncio.sleep(10)
    assert job.status == "canceled"
    assert b"cd" not in job.trace


async def test_the_log_of_a_debug_job_is_for_developers(
    gitlab: FakeGitLab, call: Caller, project: FakeProject
) -> None:
    """A reporter may read the job and not its debug log."""
    reader = gitlab.add_user("reader")
    project.members[reader.id] = 20
    token = str(gitlab.add_token(user=reader))
    job = project.add_pipeline().add_job("test", status="success", trace="secret", debug=True)
    assert (await call(path_of(job), token=token)).status == 200
    got = await call(path_of(job, "/trace"), token=token)
    assert (got.status, got.body) == (403, b'{"message":"403 Forbidden"}')
    assert (await call(path_of(job, "/trace"))).body == b"secret"


async def test_head_of_a_trace_has_no_body(call: Caller, job: FakeJob) -> None:
    """HEAD answers as GET does, without the bytes."""
    job.append_trace("hello")
    got = await call(path_of(job, "/trace"), method="HEAD")
    assert (got.status, got.body, got.headers["content-length"]) == (200, b"", "5")
