"""What can go wrong between two hosts: one clear typed error each, after as many requests as it deserves."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from collections.abc import Awaitable, Callable

import pytest

from asyncjobs import (
    BadResponseError,
    Client,
    JobRef,
    ProtocolError,
    RequestError,
    ResponseError,
    RetryPolicy,
    ServerError,
    Timeouts,
)
from asyncjobs._errors import (
    ConnectError,
    ConnectTimeout,
    HostNotFoundError,
    RequestTimeout,
    TruncatedBodyError,
)
from asyncjobs.testing import FakeGitLab
from tests.support.clients import Connectors, client_tasks, lanes_are_free, open_client, read_archive
from tests.support.rawserver import RawServer, Received, Wire, always, end, http

JOB = {"id": 8, "name": "test", "status": "success"}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
BODY = json.dumps(JOB).encode()
LENGTH = b"Content-Length: %d\r\n\r\n" % len(BODY)


def now() -> float:
    """Virtual seconds."""
    return asyncio.get_running_loop().time()


MALFORMED = {
    "status line without a number": b"HTTP/1.1 OK\r\nContent-Length: 2\r\n\r\n[]",
    "status of four digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\n[]",
    "another protocol": b"SSH-2.0-OpenSSH_9.2p1\r\n",
    "garbage": bytes(range(128, 256)) * 4,
    "nothing": b"",
    "two lengths": HEAD + b"Content-Length: 2\r\nContent-Length: 200\r\n\r\n[]",
    "negative length": HEAD + b"Content-Length: -1\r\n\r\n[]",
    "length is no number": HEAD + b"Content-Length: two\r\n\r\n[]",
    "length and chunked": HEAD
    + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n",
    "bad chunk size": HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n[]\r\n0\r\n\r\n",
    "chunk longer than said": HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n[1,2,3]\r\n0\r\n\r\n",
    "header of 9 KB": HEAD + b"X-Long: " + b"a" * 9216 + b"\r\n" + LENGTH + BODY,
    "header without a colon": HEAD + b"Broken\r\n" + LENGTH + BODY,
    "NUL in a header": HEAD + b"X: a\0b\r\n" + LENGTH + BODY,
    "head breaks off": b"HTTP/1.1 200 OK\r\nContent-Ty",
    "body breaks off": HEAD + LENGTH + BODY[:10],
    "chunked body breaks off": HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{",
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_malformed_answers(name: str) -> None:
    """Bytes that are not HTTP are a ProtocolError, never an "HTTP 400"; a read is tried five times."""
    async with (
        RawServer(always(MALFORMED[name], then="fin")) as server,
        open_client(server.url) as client,
    ):
        with pytest.raises(ProtocolError) as caught:
            await client.get_job(3, 8)
        assert caught.value.attempts == len(server.requests) == 5
        assert "400" not in caught.value.reason
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None
        assert lanes_are_free(client)


async def test_surplus_bytes_do_not_poison_the_next_answer() -> None:
    """Bytes after the end of a body are never read as the next answer."""
    evil = HEAD + LENGTH + BODY + http(200, {"id": 666, "name": "x", "status": "x"})
    async with RawServer(always(evil)) as server, open_client(server.url) as client:
        for _ in range(5):
            try:
                assert (await client.get_job(3, 8)).id == 8
            except ProtocolError:
                continue


async def test_two_thousand_headers_are_bounded() -> None:
    """A flood of headers ends in an answer or in one clear error, not in memory without end."""
    flood = HEAD + b"".join(b"X-%d: 1\r\n" % n for n in range(2_000)) + LENGTH + BODY
    async with RawServer(always(flood, then="fin")) as server, open_client(server.url) as client:
        try:
            job = await client.get_job(3, 8)
        except ProtocolError:
            assert len(server.requests) == 5
        else:
            assert job.id == 8


async def test_a_reset_is_retried_for_reads() -> None:
    """A connection that breaks costs one attempt; the next one answers."""

    async def script(request: Received, wire: Wire) -> None:
        if request.number <= 2:
            wire.reset()
        else:
            await wire.write(http(200, JOB))

    async with RawServer(script) as server, open_client(server.url) as client:
        assert (await client.get_job(3, 8)).id == 8
        assert client.statistics().retries >= 1


# -- stale keep-alive ------------------------------------------------------------------------------


async def closes_idle(request: Received, wire: Wire) -> None:
    """Answer as if the connection stayed open, and close it a moment later."""
    await wire.write(http(201 if request.method == "POST" else 200, JOB))
    await asyncio.sleep(0.001)
    wire.fin()


async def test_twenty_posts_to_a_server_that_closes_idle_connections() -> None:
    """Every POST has a connection of its own, so none meets one that was closed meanwhile."""
    async with RawServer(closes_idle) as server, open_client(server.url) as client:
        for number in range(1, 21):
            await client.get_job(3, 8)
            assert (await client.retry_job(3, number)).id == 8
        posts = [request for request in server.requests if request.method == "POST"]
        assert len(posts) == 20
        assert len({post.connection for post in posts}) == 20
        gets = {request.connection for request in server.requests if request.method == "GET"}
        assert gets.isdisjoint(post.connection for post in posts)


async def test_a_write_never_shares_a_connection() -> None:
    """Also on a healthy server that keeps connections open, each write has its own, and closes it."""
    async with RawServer(always(http(201, JOB))) as server, open_client(server.url) as client:
        for number in range(1, 6):
            await client.retry_job(3, number)
            await client.delete_artifacts(3, number)
        assert len({request.connection for request in server.requests}) == 10
        assert all(request.header("Connection") == "close" for request in server.requests)


async def test_reads_on_stale_connections() -> None:
    """A read that meets a closed connection is sent again and succeeds."""
    async with RawServer(closes_idle) as server, open_client(server.url) as client:
        for _ in range(20):
            assert (await client.get_job(3, 8)).id == 8
        assert len(server.requests) == 20
        assert client.statistics().retries <= 1


async def test_reads_share_connections(gitlab: FakeGitLab, client: Client) -> None:
    """A healthy server sees one connection for reads in a row."""
    job = gitlab.projects[10].pipelines[0].add_job("a")
    for _ in range(10):
        await client.get_job(10, job.id)
    assert len({request.connection for request in gitlab.requests}) == 1


# -- silence and slowness --------------------------------------------------------------------------

ONCE = RetryPolicy(attempts=1)


async def test_a_black_hole_at_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection within 10 seconds is a ConnectTimeout: nothing was executed, also for writes."""

    async def never(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", never)
    async with open_client("http://127.0.0.1:9", retry=ONCE) as client:
        began = now()
        with pytest.raises(ConnectTimeout, match="no connection in time"):
            await client.get_job(3, 8)
        assert 10.0 <= now() - began <= 11.0
        with pytest.raises(ConnectTimeout):
            await client.retry_job(3, 8)
        assert lanes_are_free(client)


async def test_silence_instead_of_headers() -> None:
    """A server that takes the request and says nothing is given up after the idle limit."""
    async with RawServer(always(b"", then="hang")) as server, open_client(server.url, retry=ONCE) as client:
        began = now()
        with pytest.raises(RequestTimeout):
            await client.get_job(3, 8)
        assert 60.0 <= now() - began <= 62.0
        assert lanes_are_free(client)


async def drip(wire: Wire, data: bytes, pause: float) -> None:
    """One byte at a time."""
    for index in range(len(data)):
        await wire.write(data[index : index + 1])
        await asyncio.sleep(pause)


Call = Callable[[Client], Awaitable[object]]
CALLS: dict[str, Call] = {
    "control": lambda client: client.get_job(3, 8),
    "bulk": lambda client: read_archive(client, JobRef(3, 8)),
    "tail": lambda client: read_trace(client),
}


async def read_trace(client: Client) -> bytes:
    """A whole trace by one request."""
    async with client._api.open_trace(JobRef(3, 8)) as body:
        return b"".join([piece async for piece in body])


@pytest.mark.parametrize(("lane", "most"), [("control", 121.0), ("bulk", 31.0), ("tail", 31.0)])
async def test_headers_that_drip(lane: str, most: float) -> None:
    """A header of one byte every ten seconds never trips an idle limit; it is stopped all the same."""

    async def script(_: Received, wire: Wire) -> None:
        await drip(wire, HEAD + b"X-Slow: " + b"a" * 1_000, 10.0)

    async with RawServer(script) as server, open_client(server.url, retry=ONCE) as client:
        began = now()
        with pytest.raises(RequestTimeout):
            await CALLS[lane](client)
        assert now() - began <= most
        assert lanes_are_free(client)


@pytest.mark.parametrize(("lane", "most"), [("control", 121.0), ("bulk", 130.0), ("tail", 130.0)])
async def test_bodies_that_drip(lane: str, most: float) -> None:
    """A body of ten bytes a second is given up: by the total of a control call, or as too slow."""

    async def script(_: Received, wire: Wire) -> None:
        await wire.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        for _second in range(10_000):
            await wire.write(b"x" * 10)
            await asyncio.sleep(1.0)

    async with RawServer(script) as server, open_client(server.url, retry=ONCE) as client:
        began = now()
        with pytest.raises(RequestTimeout):
            await CALLS[lane](client)
        assert now() - began <= most
        assert lanes_are_free(client)


async def test_a_slow_consumer_is_not_a_slow_server() -> None:
    """Pauses of whoever reads a body are not held against the server, nor do its pieces grow meanwhile."""
    data = b"x" * 3_000_000
    async with RawServer(always(http(200, data))) as server, open_client(server.url) as client:
        got = 0
        async with client._api.open_artifacts(JobRef(3, 8)) as body:
            async for piece in body:
                assert len(piece) <= 256 * 1024
                got += len(piece)
                await asyncio.sleep(100.0)
        assert got == len(data)


@pytest.mark.parametrize(("lane", "least"), [("control", 60.0), ("bulk", 60.0), ("tail", 30.0)])
async def test_a_stall_inside_the_body(lane: str, least: float) -> None:
    """Silence in the middle of a body is a timeout after the lane's idle limit."""
    part = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[1,"
    async with RawServer(always(part, then="hang")) as server, open_client(server.url, retry=ONCE) as client:
        began = now()
        with pytest.raises(RequestTimeout):
            await CALLS[lane](client)
        assert least <= now() - began <= least + 2.0
        assert lanes_are_free(client)


async def test_every_limit_can_be_lifted() -> None:
    """None waits: a server that answers after an hour is waited for."""

    async def script(_: Received, wire: Wire) -> None:
        await asyncio.sleep(3_600.0)
        await wire.write(http(200, JOB))

    lifted = Timeouts(connect=None, idle=None, control_total=None)
    async with RawServer(script) as server, open_client(server.url, timeouts=lifted) as client:
        assert (await client.get_job(3, 8)).id == 8


# -- never reached ---------------------------------------------------------------------------------


async def test_refused() -> None:
    """Nobody listens: a ConnectError in plain words, after five attempts."""
    async with RawServer(always(b"")) as server:
        url = server.url
    async with open_client(url) as client:
        with pytest.raises(ConnectError, match="connection refused") as caught:
            await client.get_job(3, 8)
        assert caught.value.attempts == 5
        assert not isinstance(caught.value, HostNotFoundError)


async def test_a_name_that_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown host is tried twice and then reported as such."""
    asked: list[str] = []

    def getaddrinfo(host: str, *_: object, **__: object) -> None:
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    async with open_client("https://gitlab.invalid") as client:
        with pytest.raises(HostNotFoundError, match="host name is not known") as caught:
            await client.get_job(3, 8)
        assert caught.value.attempts == 2
    assert asked == ["gitlab.invalid"] * 2


# -- bodies ----------------------------------------------------------------------------------------

PACKED = gzip.compress(BODY)


@pytest.mark.parametrize("kept", range(len(PACKED)))
async def test_a_cut_gzip_body_is_never_accepted(kept: int) -> None:
    """A gzip body cut at any byte, correctly framed, is an error and is asked for again."""

    async def script(request: Received, wire: Wire) -> None:
        data = PACKED[:kept] if request.number == 1 else PACKED
        await wire.write(http(200, data, {"Content-Encoding": "gzip", "Content-Type": "application/json"}))

    async with RawServer(script) as server, open_client(server.url) as client:
        assert (await client.get_job(3, 8)).id == 8
        assert len(server.requests) == 2


@pytest.mark.parametrize("ending", ["fin", "reset"])
async def test_a_trace_cut_without_framing_is_not_called_whole(ending: str) -> None:
    """A body ended by the connection's end says so: its completeness is not proven by HTTP."""

    async def script(_: Received, wire: Wire) -> None:
        await wire.write(http(200, b"half of the lo", framed=False))
        await asyncio.sleep(0.1)
        await end(wire, ending)

    async with RawServer(script) as server, open_client(server.url) as client:
        async with client._api.open_trace(JobRef(3, 8)) as body:
            assert body.framing == "close"
            assert body.length is None
            try:
                got = b"".join([piece async for piece in body])
            except ProtocolError:
                return
        assert got == b"half of the lo"


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("ending", ["fin", "reset"])
async def test_a_framed_archive_that_is_cut(framing: str, ending: str) -> None:
    """A cut archive is a TruncatedBodyError or a broken connection, never a shorter archive."""
    head = b"HTTP/1.1 200 OK\r\n"
    if framing == "length":
        data = head + b"Content-Length: 1000\r\n\r\n" + b"x" * 300
    else:
        data = head + b"Transfer-Encoding: chunked\r\n\r\n12c\r\n" + b"x" * 300 + b"\r\n"

    async def script(_: Received, wire: Wire) -> None:
        await wire.write(data)
        await asyncio.sleep(0.1)
        await end(wire, ending)

    async with RawServer(script) as server, open_client(server.url) as client:
        with pytest.raises(ProtocolError) as caught:
            await read_archive(client, JobRef(3, 8))
        assert ending == "reset" or isinstance(caught.value, TruncatedBodyError)
        assert lanes_are_free(client)


@pytest.mark.parametrize("packed", [True, False])
async def test_a_close_delimited_json_page_that_is_cut(
    gitlab: FakeGitLab, client: Client, packed: bool
) -> None:
    """A page cut without framing is noticed by its content, asked for again, and nothing is lost."""
    gitlab.settings.gzip = packed
    pipeline = gitlab.projects[10].pipelines[0]
    for number in range(150):
        pipeline.add_job(f"job {number}")
    gitlab.fail_next("fin_midbody", framing="close")
    assert len([job async for job in client.iter_pipeline_jobs(10, pipeline.id)]) == 150
    assert len(gitlab.requests) == 3


ODD_BODIES = {
    "html_200": "HTML|not the JSON",
    "html_as_json": "not the JSON",
    "wrong_json": "not the JSON",
    "wrong_types": "not the JSON",
    "not_json": "not the JSON",
    "cut_json": "not the JSON",
    "deep_json": "not the JSON",
    "long_number": "not the JSON",
    "empty_200": "not the JSON",
    "gzip_crc": "gzip",
    "gzip_trailing": "gzip",
    "gzip_bomb": "hundredfold|more than",
    "other_encoding": "encoding",
}


@pytest.mark.parametrize("fault", ODD_BODIES)
async def test_bodies_gitlab_does_not_send(gitlab: FakeGitLab, client: Client, fault: str) -> None:
    """A good status with a wrong body is a BadResponseError that shows how it begins, after one request."""
    job = gitlab.projects[10].pipelines[0].add_job("a")
    gitlab.fail_next(fault)
    with pytest.raises(BadResponseError, match=ODD_BODIES[fault]) as caught:
        await client.get_job(10, job.id)
    assert caught.value.status == 200
    assert len(str(caught.value)) < 700
    assert len(gitlab.requests) == 1
    assert lanes_are_free(client)
    assert (await client.get_job(10, job.id)).id == job.id


async def test_a_sign_in_page_is_called_what_it_is(gitlab: FakeGitLab, client: Client) -> None:
    """Single sign-on in front of the API is recognisable from the message."""
    gitlab.fail_next("html_200")
    with pytest.raises(BadResponseError, match="<!DOCTYPE html>"):
        await client.get_job(10, 1)


@pytest.mark.parametrize("packed", [False, True])
async def test_a_page_above_32_mib_is_refused(packed: bool) -> None:
    """A page is read up to its ceiling and not further, plain or compressed."""
    block = b" " * 65_536

    async def script(_: Received, wire: Wire) -> None:
        if packed:
            noise = b"[" + b"".join(b'"%d",' % (n * 7919) for n in range(3_600_000))
            await wire.write(http(200, gzip.compress(noise, 1), {"Content-Encoding": "gzip"}))
            return
        await wire.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n[")
        for _block in range(15_000):
            await wire.write(block)

    async with RawServer(script) as server, open_client(server.url) as client:
        with pytest.raises(BadResponseError, match="more than 33554432 bytes"):
            await client.get_job(3, 8)
        assert client.statistics().received_bytes < 40_000_000
        assert lanes_are_free(client)


async def test_a_large_page_is_decoded_off_the_loop() -> None:
    """A page of several MiB is read right; the loop is not held for it."""
    jobs = [{**JOB, "id": number, "name": "x" * 30_000} for number in range(1, 101)]
    async with RawServer(always(http(200, jobs))) as server, open_client(server.url) as client:
        assert len([job async for job in client.iter_pipeline_jobs(3, 4)]) == 100
        assert client._api.exchange._decoding is not None


@pytest.mark.parametrize("status", [400, 404, 500])
async def test_a_huge_error_body_is_not_read(status: int) -> None:
    """Of an error, 64 KiB are read and then the connection is closed."""

    async def script(_: Received, wire: Wire) -> None:
        await wire.write(b"HTTP/1.1 %d X\r\nContent-Length: 500000000\r\n\r\n" % status)
        for _block in range(8_000):
            await wire.write(b"e" * 65_536)

    async with RawServer(script) as server, open_client(server.url, retry=ONCE) as client:
        with pytest.raises(ResponseError) as caught:
            await client.get_job(3, 8)
        assert caught.value.status == status
        assert len(caught.value.message) <= 200


async def test_an_error_body_that_never_comes() -> None:
    """An error whose body stalls is still that error, soon."""
    part = b"HTTP/1.1 404 X\r\nContent-Length: 100\r\n\r\n{"
    async with RawServer(always(part, then="hang")) as server, open_client(server.url) as client:
        began = now()
        with pytest.raises(ResponseError) as caught:
            await client.get_job(3, 8)
        assert caught.value.status == 404
        assert now() - began <= 11.0
        assert lanes_are_free(client)


async def test_short_error_bodies_keep_the_connection(gitlab: FakeGitLab, client: Client) -> None:
    """Five refusals in a row use one connection."""
    for number in range(5):
        with pytest.raises(ResponseError):
            await client.get_job(10, 900 + number)
    assert len({request.connection for request in gitlab.requests}) == 1


ATTEMPTS = {
    **dict.fromkeys([400, 401, 403, 404, 405, 409, 410, 416, 418, 422, 501, 505, 511, 599], 1),
    **dict.fromkeys([408, 425, 500, 502, 503, 504, 520, 521, 522, 523, 524], 5),
}


@pytest.mark.parametrize("status", ATTEMPTS)
async def test_how_often_a_read_is_sent(status: int) -> None:
    """Statuses that may pass are tried five times, the others once; the server counts."""
    async with RawServer(always(http(status, b"odd"))) as server, open_client(server.url) as client:
        with pytest.raises(ResponseError) as caught:
            await client.get_job(3, 8)
        assert caught.value.status == status
        assert caught.value.attempts == len(server.requests) == ATTEMPTS[status]
        assert isinstance(caught.value, ServerError) == (status >= 500)


async def test_a_resource_lock_is_waited_out() -> None:
    """409 with GitLab's words for a lock is tried again; any other conflict is not."""

    async def script(request: Received, wire: Wire) -> None:
        locked = http(409, {"message": "409 Conflict: Resource lock"})
        await wire.write(locked if request.number < 3 else http(200, JOB))

    async with RawServer(script) as server, open_client(server.url) as client:
        assert (await client.get_job(3, 8)).id == 8
        assert len(server.requests) == 3


async def test_nothing_is_left_behind(connectors: Connectors) -> None:
    """After every kind of failure no connection is held and no task of the client lives."""
    for data in MALFORMED.values():
        async with (
            RawServer(always(data, then="fin")) as server,
            open_client(server.url, connector_factory=connectors) as client,
        ):
            with pytest.raises(RequestError):
                await client.get_job(3, 8)
            assert connectors.acquired == 0
            assert client_tasks() == []
