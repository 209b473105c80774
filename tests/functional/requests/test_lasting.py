"""What only shows with time: long bodies, long silences, cookies, error pages, clocks that disagree."""

from __future__ import annotations

import asyncio
import hashlib
import io
import socket
import zipfile
from email.utils import formatdate
from pathlib import Path

import pytest

from asyncjobs import JobRef, NotFoundError
from tests.support.clients import Connectors, LoopClock, open_client, read_archive
from tests.support.rawserver import RawServer, Received, Wire, always, http

REF = JobRef("group/app", 8)
JOB = {"id": 8, "status": "success", "name": "build"}
SIX_MINUTES = 360


async def slowly(request: Received, wire: Wire) -> None:
    """A job at once, and any body over six minutes: 2 KiB in each second."""
    if request.target.endswith("/8"):
        await wire.write(http(200, JOB))
        return
    await wire.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (SIX_MINUTES * 2048))
    for _ in range(SIX_MINUTES):
        await asyncio.sleep(1.0)
        await wire.write(bytes(2048))


async def test_an_archive_may_take_six_minutes() -> None:
    """There is no limit on the time of a body that goes on: aiohttp's own ends after five minutes."""
    async with RawServer(slowly) as server, open_client(server.url) as client:
        assert len(await read_archive(client, REF)) == SIX_MINUTES * 2048
    assert len(server.requests) == 1


async def test_a_log_may_take_six_minutes() -> None:
    """Nor on that of a log."""
    async with (
        RawServer(slowly) as server,
        open_client(server.url) as client,
        client._api.open_trace(REF) as body,
    ):
        assert sum([len(piece) async for piece in body]) == SIX_MINUTES * 2048
    assert len(server.requests) == 1


async def test_sockets_notice_a_dead_peer() -> None:
    """Kept connections probe their peer: what a firewall forgot would be noticed by nothing else."""
    connectors = Connectors()
    async with (
        RawServer(always(http(200, JOB))) as server,
        open_client(server.url, connector_factory=connectors) as client,
    ):
        await client.get_job("group/app", 8)
        kept = [each for made in connectors.made for pool in made._conns.values() for each in pool]
        (sock,) = [protocol.transport.get_extra_info("socket") for protocol, _ in kept if protocol.transport]
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


async def test_a_long_error_page_is_not_read_to_its_end() -> None:
    """At most 64 KiB of it are read, and the connection is not used again."""
    endless = b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 100000000\r\n\r\n"
    written = 0

    async def page(_: Received, wire: Wire) -> None:
        nonlocal written
        await wire.write(endless)
        while not wire.closed:
            await wire.write(bytes(65_536))
            written += 65_536

    async with RawServer(page) as server, open_client(server.url) as client:
        for _ in range(2):
            with pytest.raises(NotFoundError):
                await client.get_job("group/app", 8)
        assert server.connections == 2
    assert written < 50_000_000


async def test_cookies_are_not_kept() -> None:
    """What a server sets is never sent back, not to it and not to another."""
    answer = http(200, JOB, {"Set-Cookie": "_gitlab_session=canary; Path=/"})
    async with RawServer(always(answer)) as server, open_client(server.url, private_token="t") as client:
        for _ in range(3):
            await client.get_job("group/app", 8)
        assert b"cookie" not in bytes(server.wire_bytes).lower()


@pytest.mark.parametrize("ahead", [-86_400.0, 0.0, 86_400.0])
async def test_dates_are_read_by_the_servers_own_clock(ahead: float) -> None:
    """`Retry-After` as a date is a span to the answer's `Date`: a machine a day off waits no day."""
    clock = LoopClock()
    answered: list[float] = []

    async def script(_: Received, wire: Wire) -> None:
        answered.append(clock.monotonic())
        server_now = clock.time() + ahead
        if len(answered) == 1:
            dates = {
                "Date": formatdate(server_now, usegmt=True),
                "Retry-After": formatdate(server_now + 30, usegmt=True),
            }
            await wire.write(http(429, b"", dates))
        else:
            await wire.write(http(200, JOB))

    async with RawServer(script) as server, open_client(server.url, clock=clock) as client:
        await client.get_job("group/app", 8)
    assert 29.0 <= answered[1] - answered[0] <= 40.0


async def test_going_on_after_progress_costs_no_retry(tmp_path: Path) -> None:
    """A link that breaks every two megabytes takes nothing from what is left for real failures."""
    piece = 2 * 1024 * 1024
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("zeros", bytes(6 * piece))
    data = made.getvalue()
    levels: list[float] = []

    async def script(request: Received, wire: Wire) -> None:
        if request.target.endswith("/8"):
            await wire.write(http(200, {**JOB, "artifacts_file": {"filename": "a.zip", "size": len(data)}}))
            return
        levels.append(client.statistics().retry_tokens)
        first = int((request.header("Range") or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        head = ["HTTP/1.1 206 Partial Content" if first else "HTTP/1.1 200 OK", 'ETag: "strong"']
        head += [f"Content-Length: {len(data) - first}"]
        head += [f"Content-Range: bytes {first}-{len(data) - 1}/{len(data)}"] if first else []
        await wire.write("\r\n".join([*head, "", ""]).encode() + data[first : first + piece])
        if first + piece < len(data):
            wire.fin()

    async with RawServer(script) as server, open_client(server.url) as client:
        done = await client.download_artifacts("group/app", 8, tmp_path / "a.zip")
    assert done.sha256 == hashlib.sha256(data).hexdigest()
    assert len(levels) == 7
    assert levels == sorted(levels), "it never sank"
