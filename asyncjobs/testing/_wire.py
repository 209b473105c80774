"""From an answer to bytes on the connection, and the ways in which that can go wrong.

Plain answers go through aiohttp's response; anything aiohttp would refuse to send (no framing, cut bodies,
malformed heads) is written to the connection as raw bytes. Knows no GitLab.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Iterator
from http import HTTPStatus

import attrs
from aiohttp import HttpVersion11, web

from asyncjobs.testing._answers import Answer
from asyncjobs.testing._time import FakeClock

PIECE = 256 * 1024


@attrs.define
class Sending:
    """How one answer is put on the wire; the defaults are a healthy server."""

    stop_after: int | None = None
    """Body bytes after which something happens instead of the rest."""
    stop_with: str = "fin"
    """fin, reset or stall."""
    piece: int = PIECE
    """Bytes per write."""
    pause: float = 0.0
    """Seconds between two writes."""
    stall_first: float = 0.0
    """Seconds before the head."""
    close_after: bool = False
    """Close the connection after the answer without having said so."""


async def send(
    request: web.BaseRequest,
    answer: Answer,
    sending: Sending,
    clock: FakeClock,
    sent: Callable[[int], None],
) -> web.StreamResponse:
    """Send an answer; *sent* hears of every piece of the body.

    A client that leaves in the middle is everyday life and none of the log's business; aiohttp notices
    the closed connection by itself.
    """
    if sending.stall_first:
        await clock.sleep(sending.stall_first)
    if answer.framing == "chunked" and request.version < HttpVersion11:
        answer.framing = "close"
    if answer.framing == "close" or sending.stop_after is not None:
        await _send_raw(request, answer, sending, clock, sent)
    response = web.StreamResponse(status=answer.status)
    for name, value in answer.headers:
        response.headers.add(name, value)
    if answer.status not in (204, 304):
        if answer.framing == "chunked":
            response.enable_chunked_encoding()
        else:
            response.content_length = len(answer.body)
    with contextlib.suppress(ConnectionResetError):
        await response.prepare(request)
        if request.method != "HEAD" and answer.status not in (204, 304):
            for piece in _pieces(answer, sending):
                await response.write(piece)
                sent(len(piece))
                if sending.pause:
                    await clock.sleep(sending.pause)
        await response.write_eof()
    if sending.close_after:
        await finish(request, "fin")
    return response


def _pieces(answer: Answer, sending: Sending) -> Iterator[bytes]:
    stop = len(answer.body) if sending.stop_after is None else min(sending.stop_after, len(answer.body))
    for offset in range(0, stop, sending.piece):
        length = min(sending.piece, stop - offset)
        body = answer.body
        yield body[offset : offset + length] if isinstance(body, bytes) else body.read(offset, length)


async def _send_raw(
    request: web.BaseRequest,
    answer: Answer,
    sending: Sending,
    clock: FakeClock,
    sent: Callable[[int], None],
) -> None:
    phrases = {status.value: status.phrase for status in HTTPStatus}
    head = [f"HTTP/1.1 {answer.status} {phrases.get(answer.status, '')}"]
    head += [f"{name}: {value}" for name, value in answer.headers]
    if answer.framing == "length":
        head.append(f"Content-Length: {len(answer.body)}")
    elif answer.framing == "chunked":
        head.append("Transfer-Encoding: chunked")
    else:
        head.append("Connection: close")
    writer = request.writer
    with contextlib.suppress(ConnectionResetError):
        await writer.write("\r\n".join([*head, "", ""]).encode())
        for piece in [] if request.method == "HEAD" else _pieces(answer, sending):
            framed = b"%x\r\n%b\r\n" % (len(piece), piece) if answer.framing == "chunked" else piece
            await writer.write(framed)
            sent(len(piece))
            if sending.pause:
                await clock.sleep(sending.pause)
    if sending.stop_after is None:
        await finish(request, "fin")
    await finish(request, sending.stop_with)


async def write_raw(request: web.BaseRequest, data: bytes, ending: str) -> None:
    """Write bytes that need not be HTTP, then end the connection."""
    with contextlib.suppress(ConnectionResetError):
        await request.writer.write(data)
    await finish(request, ending)


async def finish(request: web.BaseRequest, ending: str) -> None:
    """End the connection with `fin` or `reset`, or leave it open and silent with `stall`; never returns.

    The handler then waits until the connection is gone, which cancels it.
    """
    transport = request.transport
    if transport is not None and ending == "fin":
        transport.close()
    elif transport is not None and ending == "reset":
        # What was written must leave first: closing with a linger of zero would drop it.
        transport.set_write_buffer_limits(high=0)
        await request.writer.drain()
        raw: socket.socket | None = transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    await asyncio.Event().wait()
