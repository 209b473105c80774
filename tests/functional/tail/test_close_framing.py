"""Bodies that only the connection's end ends: one may have been cut, and a cut log must not look whole.

HTTP proves a body by a length or by chunks. Behind an old proxy neither comes, so the same answer twice,
the record's size and an answer that is proven are what is left to go by.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import attrs
import pytest

from asyncjobs import BadResponseError, Client, JobRef, TailOptions, TraceError, TruncatedBodyError
from tests.support.clients import open_client
from tests.support.rawserver import RawServer, Received, Wire, end, http

REF = JobRef("group/app", 8)
LOG = b"".join(b"line %06d\n" % number for number in range(60_000))
CUT = 600_000
windows = pytest.mark.parametrize("windows", [False, True])
etags = pytest.mark.parametrize("etags", [False, True])


def etag(body: bytes) -> str:
    """As Rack makes them."""
    return f'W/"{hashlib.sha256(body).hexdigest()[:32]}"'


@attrs.define
class OldProxy:
    """A GitLab behind something that ends every body of a log by closing the connection."""

    log: bytes = LOG
    windows: bool = False
    etags: bool = False
    framed: bool = False
    ending: str = "fin"
    cut: Callable[[int, bytes], bytes] = lambda _, body: body
    """Gets the number of the trace request, from 1, and what should be sent."""
    record: Callable[[], dict[str, Any]] = lambda: {"status": "success"}
    most: int = 1 << 30
    """Longest window it gives."""
    asked: list[tuple[float, Received]] = attrs.field(factory=list)

    async def __call__(self, request: Received, wire: Wire) -> None:
        """Answer one request."""
        if not urlsplit(request.target).path.endswith("/trace"):
            job = {"id": 8, "name": "build", "pipeline": {"id": 6, "status": "running"}, **self.record()}
            await wire.write(http(200, job if "/jobs/8" in request.target else [job]))
            return
        self.asked.append((asyncio.get_running_loop().time(), request))
        query = dict(parse_qsl(urlsplit(request.target).query))
        body, headers = self.log, {"Content-Type": "text/plain", "Connection": "close"}
        if self.windows and "byte_offset" in query:
            start = int(query["byte_offset"])
            body = body[start : start + min(self.most, int(query["byte_limit"]))]
        if self.etags and body:
            headers["ETag"] = etag(body)
            if request.header("if-none-match") == headers["ETag"]:
                await wire.write(http(304, b"", headers, framed=False))
                wire.fin()
                return
        sent = self.cut(len(self.asked), body)
        if self.framed:
            await wire.write(http(200, body, headers)[: len(sent) - len(body) or None])
        else:
            await wire.write(http(200, sent, headers, framed=False))
        if self.ending == "reset":
            await asyncio.sleep(0.5)  # a reset takes away what the reader has not taken yet
        await end(wire, self.ending if sent != body else "fin")


def once(number: int, body: bytes) -> bytes:
    """The first answer is cut."""
    return body[:CUT] if number == 1 else body


async def follow(client: Client, **options: Any) -> tuple[bytes, list[str], str]:
    """Follow to the end: the bytes, the reasons of the resets, the job's status."""
    cursor = options.pop("cursor", None)
    out, start = bytearray(), 0 if cursor is None else cursor.offset
    async with (
        asyncio.timeout(100_000),
        client.follow_trace(REF, cursor=cursor, options=TailOptions(**options)) as trace,
    ):
        async for chunk in trace:
            del out[chunk.offset - start :]
            assert chunk.offset == start + len(out)
            out += chunk.data
    assert trace.job is not None
    return bytes(out), [reset.reason for reset in trace.resets], str(trace.job.status)


@windows
@etags
@pytest.mark.parametrize("ending", ["fin", "reset"])
@pytest.mark.parametrize("settle", [0.0, 10.0])
async def test_log_that_was_cut_once_is_read_on(
    windows: bool, etags: bool, ending: str, settle: float
) -> None:
    """One cut answer loses nothing, although the ETag that came with it stands for the whole."""
    proxy = OldProxy(windows=windows, etags=etags, ending=ending, cut=once)
    async with RawServer(proxy) as server, open_client(server.url) as client:
        assert await follow(client, settle=settle) == (LOG, [], "success")
        assert len(proxy.asked) <= 8


@windows
@etags
@pytest.mark.parametrize("log", [b"", b"x", b"short\n", LOG[:60_000], LOG])
@pytest.mark.parametrize("settle", [0.0, 10.0])
async def test_finished_log_ends(windows: bool, etags: bool, log: bytes, settle: float) -> None:
    """A log that comes again and again with the same length is whole, when nothing contradicts."""
    proxy = OldProxy(log, windows=windows, etags=etags)
    async with RawServer(proxy) as server, open_client(server.url) as client:
        assert await follow(client, settle=settle) == (log, [], "success")
        assert len(proxy.asked) <= 8


@windows
async def test_growing_log_ends(windows: bool) -> None:
    """A job that is followed while it runs ends with its last bytes."""
    loop, began = asyncio.get_running_loop(), asyncio.get_running_loop().time()
    proxy = OldProxy(
        b"", windows=windows, record=lambda: {"status": "running" if len(proxy.log) < len(LOG) else "failed"}
    )
    for step in range(1, 11):
        loop.call_at(began + 30 * step, setattr, proxy, "log", LOG[: step * len(LOG) // 10])
    async with RawServer(proxy) as server, open_client(server.url) as client:
        assert await follow(client) == (LOG, [], "failed")


@windows
@pytest.mark.parametrize("at", [100, 40_000, 700_000])
@pytest.mark.parametrize("line", [b"same line\n", b"."])
async def test_cursor_is_gone_on_from(windows: bool, at: int, line: bytes) -> None:
    """A stored cursor reads on, however far it stands and however alike the bytes are."""
    log = line * (len(LOG) // len(line))
    proxy = OldProxy(log[:at], windows=windows)
    async with RawServer(proxy) as server, open_client(server.url) as client:
        async with client.follow_trace(REF, options=TailOptions(follow=False)) as trace:
            assert b"".join([chunk.data async for chunk in trace]) == log[:at]
        proxy.log = log
        assert await follow(client, cursor=trace.cursor) == (log[at:], [], "success")


@windows
@pytest.mark.parametrize("settle", [0.0, 10.0])
async def test_size_in_the_record_contradicts(windows: bool, settle: float) -> None:
    """A log that is always cut at the same byte is an error when the record says how long it is."""
    proxy = OldProxy(LOG[:CUT], windows=windows)
    artifact = {"file_type": "trace", "size": len(LOG), "filename": "job.log"}
    proxy.record = lambda: {"status": "success", "artifacts": [artifact]}
    async with RawServer(proxy) as server, open_client(server.url) as client:
        with pytest.raises(TraceError, match=f"{CUT} bytes could be read, and .* {len(LOG)}"):
            await follow(client, settle=settle)


@pytest.mark.parametrize("lagging", [1, 3])
async def test_validator_of_an_older_log_is_forgotten(lagging: int) -> None:
    """After a body that broke off, a node that lags behind cannot say that nothing changed."""
    old = LOG[:CUT]

    def cut(number: int, body: bytes) -> bytes:
        proxy.log = LOG if number == 1 or number > 1 + lagging else old
        return body[:-60_000] if number == 2 else body

    proxy = OldProxy(old, etags=True, framed=True, cut=cut)
    async with RawServer(proxy) as server, open_client(server.url) as client:
        assert await follow(client) == (LOG, [], "success")


async def test_saved_log_is_whole(tmp_path: Path) -> None:
    """A log that is saved was not cut."""
    async with RawServer(OldProxy(etags=True, cut=once)) as server, open_client(server.url) as client:
        report = await client.save_traces(REF, tmp_path)
    (saved,) = report.downloaded
    assert saved.path is not None
    assert saved.path.read_bytes() == LOG


@windows
@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize(("offset", "limit"), [(0, None), (100, None), (650_000, 70_000), (0, 700_000)])
async def test_parts_are_whole(windows: bool, every: int, offset: int, limit: int | None) -> None:
    """A part that was cut, once or every other time, is asked for until it comes whole twice."""
    proxy = OldProxy(windows=windows)
    proxy.cut = lambda number, body: body[:1000] if number == 1 or (every == 2 and number % 2) else body
    async with RawServer(proxy) as server, open_client(server.url) as client:
        chunk = await client.read_trace(REF.project, REF.job_id, offset=offset, limit=limit)
        assert chunk.data == (LOG[offset:] if limit is None else LOG[offset : offset + limit])
        assert await client.get_trace(REF.project, REF.job_id) == LOG


async def test_log_that_never_comes_twice_is_an_error() -> None:
    """A whole read whose answers all differ gives up after the policy's attempts, with pauses between."""
    proxy = OldProxy()
    proxy.cut = lambda number, body: body[: 100 * number]
    async with RawServer(proxy) as server, open_client(server.url) as client:
        for read in (client.get_trace, client.read_trace):
            began = len(proxy.asked)
            with pytest.raises(TruncatedBodyError, match="two reads of the log differ"):
                await read(REF.project, REF.job_id)
            times = [time for time, _ in proxy.asked[began:]]
            assert len(times) == 6
            assert times[-1] - times[0] > 0.5


@pytest.mark.parametrize("framed", [True, False])
@pytest.mark.parametrize("offset", [0, 1, 20_000, 59_999, 60_000, 70_000])
async def test_windows_smaller_than_asked_for(framed: bool, offset: int) -> None:
    """A server that gives 20,000 bytes of the 512,000 asked for gives the rest when asked again."""
    log = LOG[:60_000]
    proxy = OldProxy(log, windows=True, framed=framed, most=20_000)
    async with RawServer(proxy) as server, open_client(server.url) as client:
        assert (await client.read_trace(REF.project, REF.job_id, offset=offset)).data == log[offset:]
        for options in ({"follow": False}, {"settle": 0.0}, {}):
            assert await follow(client, **options) == (log, [], "success")


@windows
@pytest.mark.parametrize("size", [0, 1, 2, 512_000, 512_001])
@pytest.mark.parametrize("offset", [0, 1, 2, 512_000])
async def test_parts_of_logs_of_odd_sizes(windows: bool, size: int, offset: int) -> None:
    """Parts are told from the whole however short the log is, by few requests: two at most of a whole log."""
    proxy = OldProxy(b"." * size, windows=windows, framed=True)
    async with RawServer(proxy) as server, open_client(server.url) as client:
        chunk = await client.read_trace(REF.project, REF.job_id, offset=offset)
        assert chunk.data == b"." * (size - offset)
        assert len(proxy.asked) <= (2 if not windows and 1 < size < 512_000 else 5)


async def test_a_range_is_asked_for_unencoded() -> None:
    """Ranges count the bytes of the encoding, so one is never asked for together with gzip."""
    async with RawServer(OldProxy()) as server, open_client(server.url) as client:
        for start, accepted in ((None, "gzip"), (5, "identity")):
            async with client._api.open_trace(REF, range_start=start) as body:
                assert body.status == 200
            request = server.requests[-1]
            assert request.header("accept-encoding") == accepted
            assert request.header("range") == (None if start is None else "bytes=5-")


async def test_unasked_no_change_is_no_log() -> None:
    """A 304 that nobody asked for is an error, not an empty log."""

    async def script(_: Received, wire: Wire) -> None:
        await wire.write(http(304, b"", framed=False))

    async with RawServer(script) as server, open_client(server.url) as client:
        for read in (client.get_trace, client.read_trace):
            with pytest.raises(BadResponseError, match="answered 304"):
                await read(REF.project, REF.job_id)
