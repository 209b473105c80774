"""A small forward proxy: absolute-form requests and CONNECT, with or without a password."""

from __future__ import annotations

import asyncio
import base64
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit


class ForwardProxy:
    """Listens on loopback and passes requests on; use it as an async context manager.

    Args:
        user: `name:password` that a request must bring in Proxy-Authorization; None asks for nothing.
        refuse: A status to answer with in place of passing anything on.
    """

    def __init__(self, *, user: str | None = None, refuse: int | None = None) -> None:
        self.lines: list[str] = []
        """The request lines it was sent."""
        self.received = bytearray()
        """Every byte of the heads it was sent (not what went through a tunnel)."""
        self._user = user
        self._refuse = refuse
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """The port it listens on."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    def url(self, userinfo: str = "") -> str:
        """Its address, with *userinfo* (`name:password@`) in it."""
        return f"http://{userinfo}127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
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
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # a peer is gone, or the test is over
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        self.received += head
        line, _, rest = head.decode("latin-1").partition("\r\n")
        self.lines.append(line)
        if self._refuse is not None or not self._admitted(rest):
            status = self._refuse or 407
            text = f'HTTP/1.1 {status} X\r\nProxy-Authenticate: Basic realm="p"\r\nContent-Length: 0\r\n\r\n'
            writer.write(text.encode())
            await writer.drain()
            return False
        method, target, _ = line.split(" ", 2)
        if method == "CONNECT":
            host, _, port = target.rpartition(":")
            upstream = await asyncio.open_connection(host.strip("[]"), int(port))
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await self._join((reader, writer), upstream)
            return False
        parts = urlsplit(target)
        upstream_reader, upstream_writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
        path = target.partition(parts.netloc)[2] or "/"
        kept = [each for each in rest.split("\r\n") if not each.lower().startswith("proxy-")]
        upstream_writer.write("\r\n".join([f"{method} {path} HTTP/1.1", *kept]).encode("latin-1"))
        await self._join((reader, writer), (upstream_reader, upstream_writer))
        return False

    def _admitted(self, headers: str) -> bool:
        if self._user is None:
            return True
        wanted = "Basic " + base64.b64encode(self._user.encode()).decode()
        return f"proxy-authorization: {wanted}".lower() in headers.lower()

    async def _join(
        self,
        one: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        two: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        try:
            await asyncio.gather(_pump(one[0], two[1]), _pump(two[0], one[1]))
        finally:
            two[1].close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()
