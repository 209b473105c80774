"""The server around the routes: GitLab's own schema, TLS, the request log, hooks, other methods."""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
from jsonschema import Draft4Validator
from referencing import Registry
from referencing.jsonschema import DRAFT4

from asyncjobs.testing import FakeGitLab, FakeJob, FakeProject, RecordedRequest, RequestLog
from tests.functional.fake.conftest import Caller, caller_of, path_of

SCHEMAS = Path(__file__).parents[4] / "shared" / "gitlab" / "schemas"
NEWER_KEYS = {"failure_reason", "source"}


@pytest.mark.skipif(not SCHEMAS.is_dir(), reason="GitLab's own JSON schemas are not next to this repository")
@pytest.mark.parametrize("status", ["created", "running", "failed", "success", "manual"])
async def test_jobs_hold_gitlabs_own_schema(call: Caller, project: FakeProject, status: str) -> None:
    """Types, required keys and the ban on unknown ones, save two keys the schema lacks."""
    path = SCHEMAS / "public_api" / "v4" / "job.json"
    resources = {one.as_uri(): json.loads(one.read_text()) for one in SCHEMAS.rglob("*.json")}
    registry = Registry[Any]().with_contents(resources.items(), default_specification=DRAFT4)
    validator = Draft4Validator({"$ref": path.as_uri()}, registry=registry)
    job = project.add_pipeline().add_job("test", status=status, trace="x", age=999, artifacts={"a": b"b"})
    shape = (await call(path_of(job))).json()
    known = {key: value for key, value in shape.items() if key not in NEWER_KEYS}
    validator.validate(known)
    assert ("failure_reason" in shape) is (status == "failed")


async def test_both_origins_speak_tls() -> None:
    """With a context every address is https, the signed links too."""
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    connector = aiohttp.TCPConnector(ssl=client)
    async with (
        FakeGitLab(tls=server, delivery="direct") as gitlab,
        aiohttp.ClientSession(connector=connector) as session,
    ):
        job = (
            gitlab.add_project("group/app")
            .add_pipeline()
            .add_job("b", status="success", artifacts={"a": b"1"})
        )
        call = caller_of(gitlab, session)
        link = (await call(path_of(job, "/artifacts"))).headers["location"]
        assert gitlab.url.startswith("https://")
        assert link.startswith("https://")
        assert (await call(link)).body == job.archive_bytes
        gitlab.fail_next("redirect_downgrade")
        assert (await call(path_of(job))).headers["location"].startswith("http://")


async def test_other_methods_are_refused_with_those_allowed(call: Caller, job: FakeJob) -> None:
    """405 and Allow on a known path."""
    got = await call(path_of(job), method="PUT")
    assert (got.status, got.body) == (405, b'{"error":"405 Not Allowed"}')
    assert got.headers["allow"] == "GET, HEAD, OPTIONS"


async def test_a_hook_may_change_the_world_between_two_requests(
    gitlab: FakeGitLab, call: Caller, project: FakeProject
) -> None:
    """`on_request` runs before the answer is made."""

    def insert(request: RecordedRequest) -> None:
        project.add_pipeline()

    gitlab.on_request = insert
    assert len((await call(f"/projects/{project.id}/pipelines")).json()) == 1
    assert len((await call(f"/projects/{project.id}/pipelines")).json()) == 2


async def test_the_log_counts_requests_and_bytes(gitlab: FakeGitLab, call: Caller, job: FakeJob) -> None:
    """Method, status, body bytes after compression, and the connection are there to be asked for."""
    job.append_trace(b"x" * 10_000)
    await call(path_of(job, "/trace"))
    await call(path_of(job, "/trace"), Accept_Encoding="gzip")
    await call(path_of(job, "/cancel"), method="POST")
    plain, packed, write = gitlab.requests
    assert (plain.sent, packed.sent < 200, write.status) == (10_000, True, 201)
    assert gitlab.requests.sent("*/trace") == plain.sent + packed.sent
    assert gitlab.requests.count(method="POST") == 1
    assert plain.connection == packed.connection != 0
    gitlab.requests.clear()
    await call(path_of(job))
    assert [one.number for one in gitlab.requests] == [4]


def test_the_log_is_bounded() -> None:
    """When it is full the older half goes, and numbers still find their entry."""
    log = RequestLog(limit=10)
    for number in range(1, 26):
        assert log.next_number == number
        log.add(RecordedRequest(number=number, time=0, origin="api", method="GET", path="/", raw_path="/"))
    log.update(25, status=200)
    log.update(1, status=500)
    assert len(log) <= 10
    assert (log[-1].number, log[-1].status) == (25, 200)


async def test_requests_in_a_proxys_form_are_understood(gitlab: FakeGitLab) -> None:
    """A client that takes the fake for its proxy sends whole addresses."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(
            "http://gitlab.invalid/api/v4/user", headers={"PRIVATE-TOKEN": gitlab.token}, proxy=gitlab.url
        ) as answer,
    ):
        assert (answer.status, (await answer.json())["username"]) == (200, "dev")


async def test_http_1_0_gets_no_chunks(gitlab: FakeGitLab, job: FakeJob) -> None:
    """An old proxy's request is answered until the connection ends."""
    job.append_trace("x" * 1000)
    host, port = gitlab.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"GET /api/v4{path_of(job, '/trace')} HTTP/1.0\r\nPRIVATE-TOKEN: {gitlab.token}\r\n"
    writer.write(f"{head}Accept-Encoding: gzip\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    head_bytes, _, body = answer.partition(b"\r\n\r\n")
    assert b"chunked" not in head_bytes
    assert gzip.decompress(body) == b"x" * 1000


@pytest.mark.parametrize("fault", [None, "fin_midbody", "bad_status_line"])
async def test_a_client_that_leaves_is_no_news(
    gitlab: FakeGitLab, job: FakeJob, caplog: pytest.LogCaptureFixture, fault: str | None
) -> None:
    """Whoever hangs up in the middle of an answer puts no traceback into the log of somebody's tests."""
    job.append_trace(b"x" * 500_000)
    if fault is not None:
        gitlab.fail_next(fault, times=100)
    path = f"/api/v4/projects/{job.project_id}/jobs/{job.id}/trace"
    head = f"GET {path} HTTP/1.1\r\nHost: gitlab\r\nPRIVATE-TOKEN: {gitlab.token}\r\nAccept-Encoding: gzip"
    for number in range(30):
        _, writer = await asyncio.open_connection("127.0.0.1", int(gitlab.url.rpartition(":")[2]))
        writer.write(f"{head}\r\n\r\n".encode())
        await asyncio.sleep(0.001 * (number % 3))
        writer.transport.abort() if number % 2 else writer.close()
    await asyncio.sleep(1.0)
    assert len(gitlab.requests) > 0
    assert not caplog.records


def test_an_unknown_generation_is_refused() -> None:
    """The three that exist are named."""
    with pytest.raises(ValueError, match=r"9\.1, 18, 19\.5"):
        FakeGitLab("17")  # type: ignore[arg-type]  # the point of the test
