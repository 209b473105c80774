"""Calls that change something: never sent twice on doubt, and the doubt is told. The server counts."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable

import pytest

from asyncjobs import (
    BadResponseError,
    Client,
    ConflictError,
    ConnectError,
    OutcomeUnknownError,
    OutcomeUnknownServerError,
    OutcomeUnreadableError,
    RateLimitedError,
    ResponseError,
    ServerError,
    Timeouts,
    TruncatedBodyError,
)
from asyncjobs.testing import FakeGitLab
from tests.support.clients import lanes_are_free, open_client, until
from tests.support.rawserver import RawServer, Received, Wire, always, http

JOB = {"id": 9, "name": "test", "status": "pending"}
Call = Callable[[Client], Awaitable[object]]
ONCE: dict[str, Call] = {
    "retry": lambda client: client.retry_job("group/app", 8),
    "play": lambda client: client.play_job("group/app", 8, variables={"A": "b"}),
    "erase": lambda client: client.erase_job("group/app", 8),
}
REPEATABLE: dict[str, Call] = {
    "cancel": lambda client: client.cancel_job("group/app", 8),
    "keep": lambda client: client.keep_artifacts("group/app", 8),
    "delete": lambda client: client.delete_artifacts("group/app", 8),
    "delete all": lambda client: client.delete_project_artifacts("group/app"),
}
CALLS = {**ONCE, **REPEATABLE}


@pytest.mark.parametrize("status", [500, 502, 503, 504, 520, 524])
@pytest.mark.parametrize("call", CALLS)
async def test_a_server_error_leaves_the_outcome_open(call: str, status: int) -> None:
    """After a 5xx that says nothing the call is not repeated; the error names job, call and status."""
    async with RawServer(always(http(status, b"oops"))) as server, open_client(server.url) as client:
        with pytest.raises(OutcomeUnknownServerError, match="may or may not have happened") as caught:
            await CALLS[call](client)
        assert isinstance(caught.value, OutcomeUnknownError)
        assert isinstance(caught.value, ServerError)
        assert caught.value.status == status
        assert "group/app" in str(caught.value)
        assert ("job 8" in str(caught.value)) or call == "delete all"
        assert len(server.requests) == 1
        assert lanes_are_free(client)


async def break_off(_: Received, wire: Wire) -> None:
    """Take the request and close."""
    wire.fin()


async def reset(_: Received, wire: Wire) -> None:
    """Take the request and break the connection."""
    wire.reset()


async def hang(_: Received, wire: Wire) -> None:
    """Take the request and say nothing."""
    await wire.hang()


async def garbage(_: Received, wire: Wire) -> None:
    """Take the request and answer with noise."""
    await wire.write(b"\x80\x81\x82\x83\r\n\r\n")
    wire.fin()


async def cut(_: Received, wire: Wire) -> None:
    """Say that it worked, and break off in the body."""
    await wire.write(b'HTTP/1.1 201 Created\r\nContent-Length: 500\r\n\r\n{"id":')
    wire.fin()


@pytest.mark.parametrize("trouble", [break_off, reset, hang, garbage, cut])
@pytest.mark.parametrize("call", CALLS)
async def test_no_answer_leaves_the_outcome_open(call: str, trouble: Callable[..., Awaitable[None]]) -> None:
    """A connection that dies after the request was sent: one request on the server, OutcomeUnknownError."""
    async with RawServer(trouble) as server, open_client(server.url) as client:
        if call.startswith("delete") and trouble is cut:
            await CALLS[call](client)  # what stands behind the status of a delete is not needed
            return
        with pytest.raises(OutcomeUnknownError, match="look before trying again"):
            await CALLS[call](client)
        assert len(server.requests) == 1
        assert lanes_are_free(client)


UNREADABLE = {
    "a login page": http(200, b"<!DOCTYPE html><title>Sign in</title>", {"Content-Type": "text/html"}),
    "nothing": http(201, b""),
    "no content": http(204),
    "another shape": http(201, []),
    "no JSON": http(201, b'{"id": 9, "name": '),
    "no gzip": http(201, b"plain", {"Content-Encoding": "gzip"}),
    "cut gzip": http(201, gzip.compress(json.dumps(JOB).encode())[:-9], {"Content-Encoding": "gzip"}),
    "another encoding": http(201, b"x", {"Content-Encoding": "br"}),
    "cut": http(201, JOB)[:-10],
    "cut, without a length": http(201, JOB, framed=False)[:-10],
    "transformed by a proxy": http(203, JOB),
}


@pytest.mark.parametrize("body", UNREADABLE)
@pytest.mark.parametrize("call", CALLS)
async def test_success_that_cannot_be_read_was_most_likely_done(call: str, body: str) -> None:
    """A 2xx to a write says that it happened: not sent again, and not told as a plain failure."""
    async with (
        RawServer(always(UNREADABLE[body], then="fin")) as server,
        open_client(server.url) as client,
    ):
        if call.startswith("delete") and not body.startswith("transformed"):
            await CALLS[call](client)
        else:
            with pytest.raises(OutcomeUnreadableError, match="most likely it was done") as caught:
                await CALLS[call](client)
            assert isinstance(caught.value, OutcomeUnknownError)
            assert isinstance(caught.value, BadResponseError)
            assert str(caught.value.status) in str(caught.value)
            assert caught.value.status in {200, 201, 203, 204}
            assert "look before trying again, with get_job" in str(caught.value)
            assert "group/app" in caught.value.reason
        assert len(server.requests) == 1
        assert lanes_are_free(client)


async def test_a_read_that_cannot_be_read_is_no_doubt() -> None:
    """Of a read the same bodies stay what they are: wrong ones final, cut ones tried again."""
    for name, answer in UNREADABLE.items():
        async with RawServer(always(answer, then="fin")) as server, open_client(server.url) as client:
            with pytest.raises((BadResponseError, TruncatedBodyError, ResponseError)) as caught:
                await client.get_job(3, 8)
            assert not isinstance(caught.value, OutcomeUnknownError)
            again = isinstance(caught.value, TruncatedBodyError)
            assert (len(server.requests) > 1) == again == name.startswith("cut")


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "refusal",
    [
        http(429, b"Retry later", {"Retry-After": "3"}),
        http(503, b"busy", {"Retry-After": "3"}),
        http(409, {"message": "409 Conflict: Resource lock"}),
    ],
    ids=["429", "503 with Retry-After", "resource lock"],
)
async def test_a_clear_refusal_is_sent_again(call: str, refusal: bytes) -> None:
    """Answers that say "not executed" are waited out: the second request does it."""

    async def script(request: Received, wire: Wire) -> None:
        await wire.write(refusal if request.number == 1 else http(200, JOB))

    async with RawServer(script) as server, open_client(server.url) as client:
        await CALLS[call](client)
        assert len(server.requests) == 2
        assert server.requests[0].body == server.requests[1].body


@pytest.mark.parametrize("call", CALLS)
async def test_how_often_a_write_is_refused(call: str) -> None:
    """Twice for what happens each time, three times for what may be repeated; then the refusal is told."""
    refusal = http(429, b"Retry later", {"Retry-After": "3"})
    async with RawServer(always(refusal)) as server, open_client(server.url) as client:
        with pytest.raises(RateLimitedError):
            await CALLS[call](client)
        assert len(server.requests) == (2 if call in ONCE else 3)


@pytest.mark.parametrize("status", [400, 403, 404, 409, 422])
async def test_other_refusals_are_final(status: int) -> None:
    """Any other answer below 500 is no doubt and no second request."""
    async with (
        RawServer(always(http(status, {"message": "no"}))) as server,
        open_client(server.url) as client,
    ):
        for call in CALLS.values():
            server.requests.clear()
            with pytest.raises(Exception, match="no") as caught:
                await call(client)
            assert not isinstance(caught.value, OutcomeUnknownError)
            assert isinstance(caught.value, ConflictError) == (status == 409)
            assert len(server.requests) == 1


@pytest.mark.parametrize("call", CALLS)
async def test_a_failed_connect_is_no_doubt(call: str) -> None:
    """Nothing was sent, so the call is tried again, and in the end it is a plain ConnectError."""
    async with RawServer(always(b"")) as server:
        url = server.url
    async with open_client(url) as client:
        with pytest.raises(ConnectError) as caught:
            await CALLS[call](client)
        assert caught.value.attempts == (2 if call in ONCE else 3)


async def test_a_server_that_comes_back_between_two_attempts() -> None:
    """A connect failure is followed by exactly one executed request."""
    async with RawServer(always(b"")) as gone:
        port = gone.port
    async with open_client(f"http://127.0.0.1:{port}") as client:
        pending = asyncio.ensure_future(client.retry_job(3, 8))
        await until(lambda: client.statistics().requests == 1 and lanes_are_free(client))
        received: list[bytes] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            received.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(http(201, JOB))
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", port):
            assert (await pending).id == 9
        assert len(received) == 1


async def test_the_world_agrees(gitlab: FakeGitLab) -> None:
    """A retry whose answer is lost happened once, and only once, on the server."""
    job = gitlab.projects[10].pipelines[0].add_job("a", status="failed", age=60)
    timeouts = Timeouts(control_total=30.0)
    async with open_client(gitlab.url, private_token=gitlab.token, timeouts=timeouts) as client:
        for fault in ("reset_before", "stall_headers", "502"):
            newest = gitlab.jobs[max(gitlab.jobs)]
            if newest is not job:
                newest.finish("failed")
            gitlab.fail_next(fault, method="POST", executed=True)
            with pytest.raises(OutcomeUnknownError):
                await client.retry_job("group/app", newest.id)
    assert len(gitlab.jobs) == 4
    assert gitlab.requests.count(method="POST") == 3


async def test_cancelling_a_write_sends_nothing_more() -> None:
    """A cancelled call is not sent a second time behind the caller's back."""
    async with RawServer(hang) as server, open_client(server.url) as client:
        task = asyncio.create_task(client.retry_job(3, 8))
        await until(lambda: bool(server.requests))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(1_000.0)
        assert len(server.requests) == 1
        assert lanes_are_free(client)
