"""A server that writes the bytes it is told, and remembers every byte it was sent.

For what no HTTP library would send: broken framing, silence, drips, resets, foreign redirects. It
parses just enough of a request (head, Content-Length) to know where the next one begins.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import struct
from collections.abc import Awaitable, Callable
from socket import SO_LINGER, SOL_SOCKET
from types import TracebackType
from typing import Self

import attrs


@attrs.frozen
class Received:
    """One request as it stood on the wire."""

    number: int
    """Counts from 1 over the whole server."""
    connection: int
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """The value of a header, or None."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


class Wire:
    """The answering end of one connection."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.closed = False

    async def write(self, data: bytes) -> None:
        """Send bytes."""
        self._writer.write(data)
        await self._writer.drain()

    def fin(self) -> None:
        """Close in order."""
        self.closed = True
        self._writer.close()

    def reset(self) -> None:
        """Break the connection: the peer sees a reset."""
        self.closed = True
        raw = self._writer.get_extra_info("socket")
        raw.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def hang(self) -> None:
        """Say nothing more until the peer is gone."""
        await asyncio.Event().wait()


Script = Callable[[Received, Wire], Awaitable[None]]


def http(
    status: int = 200,
    body: bytes | object = b"",
    headers: dict[str, str] | None = None,
    *,
    reason: str = "X",
    framed: bool = True,
) -> bytes:
    """The bytes of one answer; a body that is no bytes is sent as JSON."""
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **(headers or {})}
    lines = [f"HTTP/1.1 {status} {reason}"]
    if framed:
        lines.append(f"Content-Length: {len(body)}")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def always(data: bytes, *, then: str = "keep") -> Script:
    """A script that gives every request the same bytes and then keeps, closes, resets or hangs."""

    async def script(_: Received, wire: Wire) -> None:
        await wire.write(data)
        await end(wire, then)

    return script


async def end(wire: Wire, how: str) -> None:
    """Do to the connection what *how* says: keep, fin, reset or hang."""
    if how == "fin":
        wire.fin()
    elif how == "reset":
        wire.reset()
    elif how == "hang":
        await wire.hang()


class RawServer:
    """Serves a script on loopback; use it as an async context manager.

    Args:
        script: Called for every request; what it does not end stays open for the next request.
        host: The address to listen on.
        tls: A server-side context, for https.
    """

    def __init__(self, script: Script, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.script = script
        self.requests: list[Received] = []
        self.wire_bytes = bytearray()
        """Everything that was ever received, over all connections."""
        self.connections = 0
        self.open_connections = 0
        self._host = host
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """The port it listens on."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """Its address."""
        return f"{'https' if self._tls else 'http'}://{self._host}:{self.port}"

    def named(self, host: str) -> str:
        """Its address under another name."""
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}"

    def saw(self, text: str) -> bool:
        """Whether *text* stood anywhere in what was received."""
        return text.encode() in self.wire_bytes

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, self._host, 0, ssl=self._tls)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.open_connections += 1
        try:
            await self._serve(reader, writer, self.connections)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the peer is gone, or the test is over
        finally:
            self.open_connections -= 1
            self._tasks.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        wire = Wire(writer)
        early = b""
        while not wire.closed:
            head = early + await reader.readuntil(b"\r\n\r\n")
            self.wire_bytes += head
            first, *lines = head.decode("latin-1").split("\r\n")[:-2]
            method, target, _ = first.split(" ", 2)
            pairs = (line.partition(":") for line in lines)
            headers = tuple((name, value.strip()) for name, _, value in pairs)
            length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
            body = await reader.readexactly(length) if length else b""
            self.wire_bytes += body
            received = Received(len(self.requests) + 1, number, method, target, headers, body)
            self.requests.append(received)
            early = await self._run(received, wire, reader)

    async def _run(self, received: Received, wire: Wire, reader: asyncio.StreamReader) -> bytes:
        """Run the script, and end it when the peer goes meanwhile; gives a byte the peer sent early."""
        running = asyncio.ensure_future(self.script(received, wire))
        listening = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait([running, listening], return_when=asyncio.FIRST_COMPLETED)
            if listening.done() and not listening.exception() and listening.result():
                await running
            elif not running.done():
                wire.closed = True
            if running.done():
                running.result()
            return listening.result() if listening.done() else b""
        finally:
            for each in (running, listening):
                each.cancel()
            await asyncio.gather(running, listening, return_exceptions=True)
