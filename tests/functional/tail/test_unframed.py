"""Bodies that end with their connection, as old proxies send them: a cut one looks like a whole one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs, urlsplit

import pytest

from asyncjobs import Client, JobRef, TailOptions, TruncatedBodyError
from tests.support.clients import open_client
from tests.support.rawserver import RawServer, Received, Wire, http

LOG = b"".join(b"line %06d\n" % n for n in range(5000))
DOTS = b"." * 60_000
JOB = {
    "id": 8,
    "name": "t",
    "status": "success",
    "stage": "test",
    "ref": "main",
    "pipeline": {"id": 6, "project_id": 1, "status": "success"},
}

Read = Callable[[Client], Awaitable[bytes]]

windows = pytest.mark.parametrize("windows", [True, False])
logs = pytest.mark.parametrize("log", [LOG, DOTS], ids=["lines", "dots"])


def gitlab(log: bytes, cut: Callable[[int], int | None], *, windows: bool) -> RawServer:
    """One finished job; *cut* says how many bytes of the answer with this number arrive, None for all."""
    count = 0

    async def script(request: Received, wire: Wire) -> None:
        nonlocal count
        parts = urlsplit(request.target)
        if not parts.path.endswith("/trace"):
            await wire.write(http(200, JOB))
            return
        count += 1
        query = {name: int(values[0]) for name, values in parse_qs(parts.query).items()}
        body = log
        if windows and "byte_offset" in query:
            body = log[query["byte_offset"] :][: query["byte_limit"]]
        headers = {"Content-Type": "text/plain", "Connection": "close"}
        await wire.write(http(200, body[: cut(count)], headers, framed=False))
        wire.fin()

    return RawServer(script)


async def _get(client: Client) -> bytes:
    return await client.get_trace(1, 8)


async def _read(client: Client) -> bytes:
    return (await client.read_trace(1, 8)).data


async def _read_from(client: Client) -> bytes:
    return DOTS[:100] + (await client.read_trace(1, 8, offset=100)).data


@windows
@pytest.mark.parametrize("read", [_get, _read, _read_from])
async def test_reads_are_not_shorter_for_a_cut(windows: bool, read: Read) -> None:
    """What may have been cut is read until two answers agree."""
    async with (
        gitlab(DOTS, lambda n: 1000 if n == 1 else None, windows=windows) as server,
        open_client(server.url) as client,
    ):
        assert await read(client) == DOTS


@pytest.mark.parametrize("read", [_get, _read])
async def test_reads_that_never_agree_are_an_error(read: Read) -> None:
    """A server that cuts somewhere else each time is given up, not asked for ever."""
    async with gitlab(LOG, lambda n: 1000 + n, windows=True) as server, open_client(server.url) as client:
        with pytest.raises(TruncatedBodyError, match="two reads of the log differ"):
            await read(client)
        assert len(server.requests) <= 8


@windows
@logs
@pytest.mark.parametrize("every", [1, 2, 3])
async def test_follow_comes_to_an_end(windows: bool, log: bytes, every: int) -> None:
    """A finished job is followed to its last byte and done, though no answer proves that it was whole."""
    async with (
        gitlab(log, lambda n: None if n % every == 0 else 25_000, windows=windows) as server,
        open_client(server.url) as client,
        client.follow_trace(JobRef(1, 8), options=TailOptions()) as trace,
    ):
        assert b"".join([chunk.data async for chunk in trace]) == log
        assert trace.resets == []
