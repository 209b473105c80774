"""The named faults: each does what its line in the table says, to the requests it was meant for."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from asyncjobs import testing
from asyncjobs.testing import FakeGitLab, FakeJob
from asyncjobs.testing._fault_kinds import KINDS

Got = tuple[int, dict[str, str], bytes]


@pytest.fixture
async def gitlab() -> AsyncIterator[FakeGitLab]:
    """A small world on the newest generation."""
    async with FakeGitLab() as gitlab:
        gitlab.add_project("group/app").add_pipeline().add_job(
            "test", status="success", age=600, trace=b"line\n" * 400, artifacts={"a.txt": b"x" * 5000}
        )
        yield gitlab


def job_of(gitlab: FakeGitLab) -> FakeJob:
    """The one job."""
    return next(iter(gitlab.jobs.values()))


def path_of(gitlab: FakeGitLab, tail: str = "") -> str:
    """Path of the one job under the API."""
    job = job_of(gitlab)
    return f"/api/v4/projects/{job.project_id}/jobs/{job.id}{tail}"


async def raw(gitlab: FakeGitLab, path: str, *headers: str, method: str = "GET", wait: float = 5.0) -> bytes:
    """Everything the server writes to one connection, or what came until *wait* seconds of silence."""
    host, port = gitlab.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}:{port}", f"PRIVATE-TOKEN: {gitlab.token}", *headers]
    writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode())
    pieces: list[bytes] = []
    try:
        async with asyncio.timeout(wait):
            while piece := await reader.read(65536):
                pieces.append(piece)
    except (TimeoutError, ConnectionResetError):
        pieces.append(b"<broken>")
    finally:
        writer.close()
    return b"".join(pieces)


async def get(gitlab: FakeGitLab, path: str, **headers: str) -> Got:
    """One GET with a client that neither follows nor unpacks."""
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.get(
            gitlab.url + path,
            headers={"PRIVATE-TOKEN": gitlab.token, "Accept-Encoding": "identity", **headers},
            allow_redirects=False,
        ) as answer,
    ):
        return (
            answer.status,
            {key.lower(): value for key, value in answer.headers.items()},
            await answer.read(),
        )


@pytest.mark.parametrize("name", sorted(KINDS))
async def test_every_name_meets_one_request_and_lets_the_next_pass(gitlab: FakeGitLab, name: str) -> None:
    """A fault with times=1 strikes once; the server is healthy again at once."""
    fault = gitlab.fail_next(name)
    await raw(gitlab, path_of(gitlab, "/artifacts"), "Range: bytes=0-99")
    assert fault.hits == 1
    assert gitlab.requests[-1].fault == name
    status, _, body = await get(gitlab, path_of(gitlab))
    assert (status, body[:6]) == (200, b'{"id":')


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 418, 422, 429, 500, 502, 503, 504, 520, 599])
async def test_any_status_is_a_fault(gitlab: FakeGitLab, status: int) -> None:
    """A three-digit name answers that status, with Retry-After when asked."""
    gitlab.fail_next(str(status), retry_after=9)
    got, headers, _ = await get(gitlab, path_of(gitlab))
    assert (got, headers["retry-after"]) == (status, "9")


async def test_an_unknown_name_is_refused(gitlab: FakeGitLab) -> None:
    """A typo in a test is an error, not a healthy server."""
    with pytest.raises(ValueError, match="no fault 'resett'"):
        gitlab.fail_next("resett")


async def test_where_every_skip_and_method_choose_the_requests(gitlab: FakeGitLab) -> None:
    """Only fitting requests are counted and met."""
    gitlab.faults.add("503", where="*/trace", every=2, skip=1)
    gitlab.faults.add("500", where=lambda request: request.param("x") == "1", times=1)
    gitlab.faults.add("502", method="POST")
    statuses = [(await get(gitlab, path_of(gitlab, "/trace")))[0] for _ in range(5)]
    assert statuses == [200, 200, 503, 200, 503]
    assert [(await get(gitlab, path_of(gitlab, query)))[0] for query in ("", "?x=1", "?x=1")] == [
        200,
        500,
        200,
    ]


async def test_chance_is_seeded(gitlab: FakeGitLab) -> None:
    """The same seed meets the same requests."""
    rows = []
    for _ in range(2):
        fault = gitlab.faults.add("503", chance=0.5, seed=7)
        rows.append([(await get(gitlab, path_of(gitlab)))[0] for _ in range(12)])
        gitlab.faults.remove(fault)
    assert rows[0] == rows[1]
    assert set(rows[0]) == {200, 503}


async def test_executed_does_the_deed_and_loses_the_answer(gitlab: FakeGitLab) -> None:
    """A POST whose answer is lost has happened all the same."""
    gitlab.fail_next("reset_before", method="POST", executed=True)
    data = await raw(gitlab, path_of(gitlab, "/retry"), "Content-Length: 0", method="POST")
    assert b"HTTP" not in data
    assert len(gitlab.jobs) == 2


@pytest.mark.parametrize(
    ("name", "header", "pattern"),
    [
        ("429_none", "retry-after", None),
        ("429_seconds", "retry-after", "7"),
        ("429_date", "retry-after", "Mon, 05 Jan 2026 08:00:3. GMT"),
        ("429_past", "retry-after", "Mon, 05 Jan 2026 07:.*"),
        ("429_garbage", "retry-after", "in a while"),
        ("429_huge", "retry-after", r"\d{8,}"),
        ("429_negative", "retry-after", "-5"),
        ("429_reset_only", "ratelimit-reset", r"17676000[34]\d"),
        ("429_reset_only", "retry-after", None),
        ("429_contradictory", "retry-after", "5"),
        ("429_endpoint", "retry-after", "60"),
        ("ratelimit_exhausted", "ratelimit-remaining", "0"),
    ],
)
async def test_limiter_headers(gitlab: FakeGitLab, name: str, header: str, pattern: str | None) -> None:
    """Each odd limiter sends the header its name tells."""
    gitlab.fail_next(name)
    status, headers, _ = await get(gitlab, path_of(gitlab))
    assert status == (200 if name == "ratelimit_exhausted" else 429)
    if pattern is None:
        assert header not in headers
    else:
        assert re.fullmatch(pattern, headers[header])


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("name", ["reset_midbody", "fin_midbody", "stall_midbody"])
async def test_a_cut_body_has_its_framing_and_its_first_bytes(
    gitlab: FakeGitLab, name: str, framing: str
) -> None:
    """Bytes up to `after` arrive, then the connection ends as named, in any framing."""
    gitlab.fail_next(name, framing=framing, after=1000)
    data = await raw(gitlab, path_of(gitlab, "/trace"))
    head, _, body = data.partition(b"\r\n\r\n")
    assert (b"Content-Length: 2000" in head) is (framing == "length")
    assert (b"Transfer-Encoding: chunked" in head) is (framing == "chunked")
    payload = body.removeprefix(b"3e8\r\n").removesuffix(b"<broken>").removesuffix(b"\r\n")
    assert payload == (b"line\n" * 400)[:1000]
    assert body.endswith(b"<broken>") is (name != "fin_midbody")
    assert gitlab.requests[-1].sent == 1000


async def test_gzip_faults_break_the_stream_and_not_the_framing(gitlab: FakeGitLab) -> None:
    """A cut, a wrong checksum and junk are inside a well-framed body."""
    for name, complete in (("cut_gzip", False), ("gzip_crc", None), ("gzip_trailing", True)):
        gitlab.fail_next(name)
        status, headers, body = await get(gitlab, path_of(gitlab, "/trace"))
        assert (status, headers["content-encoding"]) == (200, "gzip")
        assert int(headers["content-length"]) == len(body)
        unpack = zlib.decompressobj(wbits=31)
        if complete is None:
            with pytest.raises(zlib.error):
                unpack.decompress(body)
        else:
            unpack.decompress(body)
            assert unpack.eof is complete
            assert (unpack.unused_data == b"junk") is complete


async def test_a_drip_takes_its_time_on_the_fakes_clock(gitlab: FakeGitLab) -> None:
    """Ten pieces with seven seconds between them take 63 seconds."""
    gitlab.fail_next("drip", piece=10, pause=7.0)
    begun = gitlab.clock.monotonic()
    _, _, body = await get(gitlab, path_of(gitlab, "/trace?byte_offset=0&byte_limit=100"))
    assert len(body) == 100
    assert gitlab.clock.monotonic() - begun == pytest.approx(63, abs=1)


@pytest.mark.parametrize(
    ("name", "location"),
    [
        ("redirect_file", "file:///etc/passwd"),
        ("redirect_metadata", r"http://169\.254\.169\.254/.*"),
        ("redirect_userinfo", r"http://somebody:secret@127\.0\.0\.1:\d+/.*"),
        ("redirect_relative", r"/api/v4/projects/.*"),
        ("redirect_loop", r"http://127\.0\.0\.1:\d+/api/v4/projects/.*"),
        ("redirect_foreign", r"http://127\.0\.0\.1:\d+/elsewhere/.*"),
    ],
)
async def test_redirects_lead_where_their_name_says(gitlab: FakeGitLab, name: str, location: str) -> None:
    """Each redirect has its Location; `status` chooses the kind."""
    gitlab.fail_next(name, status=307)
    status, headers, _ = await get(gitlab, path_of(gitlab))
    assert status == 307
    assert re.fullmatch(location, headers["location"])


@pytest.mark.parametrize(
    ("name", "status", "header", "value"),
    [
        ("range_ignored", 200, "content-range", None),
        ("range_wrong_start", 206, "content-range", "bytes 11-"),
        ("range_wrong_total", 206, "content-range", "bytes 10-"),
        ("range_no_content_range", 206, "content-range", None),
        ("range_other_etag", 206, "etag", f'"{"0" * 64}"'),
        ("range_weak_etag", 206, "etag", 'W/"'),
        ("range_encoded", 206, "content-encoding", "gzip"),
        ("range_416", 416, "content-range", "bytes */1"),
    ],
)
async def test_range_liars(
    gitlab: FakeGitLab, name: str, status: int, header: str, value: str | None
) -> None:
    """A range fault waits for a request with Range and lies in its own way."""
    gitlab.fail_next(name)
    assert (await get(gitlab, path_of(gitlab, "/artifacts")))[0] == 200
    got, headers, _ = await get(gitlab, path_of(gitlab, "/artifacts"), Range="bytes=10-")
    assert got == status
    if value is None:
        assert header not in headers
    else:
        assert headers[header].startswith(value)


async def test_short_and_empty_answers_have_the_etag_of_what_they_send(gitlab: FakeGitLab) -> None:
    """A flickering log is a healthy answer with fewer bytes."""
    gitlab.fail_next("short_trace", by=500)
    gitlab.fail_next("empty_trace")
    whole = job_of(gitlab).trace
    status, headers, body = await get(gitlab, path_of(gitlab, "/trace"))
    assert (status, body) == (200, whole[:-500])
    assert headers["etag"].startswith('W/"')
    status, headers, body = await get(gitlab, path_of(gitlab, "/trace"))
    assert (status, body, "etag" in headers) == (200, b"", False)


async def test_huge_bodies_need_no_memory_to_serve(gitlab: FakeGitLab) -> None:
    """A page of 64 MiB is announced and streamed."""
    gitlab.fail_next("huge_json")
    async with (
        aiohttp.ClientSession() as session,
        session.get(gitlab.url + path_of(gitlab), headers={"PRIVATE-TOKEN": gitlab.token}) as answer,
    ):
        assert answer.content_length == 64 * 1024 * 1024
        assert (await answer.content.read(2)) == b"[ "


async def test_close_after_leaves_a_stale_connection(gitlab: FakeGitLab) -> None:
    """The answer is whole, then the server hangs up without having said so."""
    gitlab.fail_next("close_after")
    host, port = gitlab.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET /api/v4/nope HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    async with asyncio.timeout(5):
        data = await reader.read()
    writer.close()
    assert data.endswith(b'{"error":"404 Not Found"}')
    assert b"Connection: close" not in data


README = Path(testing.__file__).with_name("README.md").read_text(encoding="utf-8")


def test_the_table_of_faults_is_current() -> None:
    """Every name and its line stand in the README, and none that is gone."""
    names = FakeGitLab().faults.names()
    rows = README.partition("<!-- faults -->")[2].splitlines()[3:]
    assert rows == [f"| `{name}` | {text} |" for name, text in names.items()]


def test_the_program_in_the_readme_runs() -> None:
    """What a reader copies works as it stands."""
    program = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert program is not None
    done = subprocess.run([sys.executable, "-W", "error", "-c", program[1]], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
