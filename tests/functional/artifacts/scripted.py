"""A GitLab and an object store that answer exactly what a script says, byte for byte.

For answers no honest server gives. The job's record is always served; requests for the archive take the next
answer of the script, and the last one again when the script is used up.
"""

from __future__ import annotations

import asyncio
import json
import re
import struct
from collections.abc import Callable, Sequence
from typing import Literal, Self

import attrs

End = Literal["", "fin", "rst", "stall"]


@attrs.frozen(kw_only=True)
class Asked:
    """One request for the archive."""

    path: str
    headers: dict[str, str]
    origin: str

    @property
    def start(self) -> int | None:
        """Where the range begins, or None without one."""
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("range", ""))
        return int(match[1]) if match else None


@attrs.frozen(kw_only=True)
class Answer:
    """One answer, and how its connection behaves."""

    status: int = 200
    headers: dict[str, str] = attrs.field(factory=dict)
    body: bytes = b""
    framing: Literal["length", "chunked", "close"] = "length"
    cut: int | None = None
    """Send only so many bytes of the body."""
    end: End = "fin"
    """What follows a cut."""
    drip: float | None = None
    """Seconds before each hundred bytes of the body."""
    to_store: bool = False
    """Redirect to the store, which gives this answer."""


Step = Answer | Callable[[Asked], Answer]


class Scripted:
    """The two servers; use it as an async context manager."""

    def __init__(self, job: dict[str, object], steps: Sequence[Step]) -> None:
        self.job = job
        self.steps = list(steps)
        self.asked: list[Asked] = []
        """Requests for the archive at the API."""
        self.stored: list[Asked] = []
        """Requests at the store."""
        self.url = ""
        self._store_url = ""
        self._pending: Answer | None = None
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        for origin in ("api", "store"):
            server = await asyncio.start_server(self._serve(origin), "127.0.0.1", 0)
            self._servers.append(server)
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            if origin == "api":
                self.url = url
            else:
                self._store_url = url
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _serve(self, origin: str) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]:
        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._connection(origin, reader, writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        return connected

    async def _connection(
        self, origin: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except asyncio.IncompleteReadError:
            writer.close()
            return
        first, *lines = head.split("\r\n")
        headers = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in lines if line}
        asked = Asked(path=first.split()[1], headers=headers, origin=origin)
        await self._send(writer, self._answer(asked))

    def _answer(self, asked: Asked) -> Answer:
        if asked.origin == "store":
            self.stored.append(asked)
            return self._pending or Answer(status=500)
        if "/artifacts" not in asked.path:
            body = json.dumps(self.job).encode()
            return Answer(headers={"Content-Type": "application/json"}, body=body)
        self.asked.append(asked)
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        answer = step if isinstance(step, Answer) else step(asked)
        if not answer.to_store:
            return answer
        self._pending = answer
        where = f"{self._store_url}/object?X-Amz-Signature={len(self.asked)}%2Fx"
        return Answer(status=302, headers={"Location": where}, body=b"moved")

    async def _send(self, writer: asyncio.StreamWriter, answer: Answer) -> None:
        headers = {"Connection": "close", **answer.headers}
        body = answer.body if answer.cut is None else answer.body[: answer.cut]
        if answer.framing == "length":
            headers.setdefault("Content-Length", str(len(answer.body)))
        elif answer.framing == "chunked":
            headers["Transfer-Encoding"] = "chunked"
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"HTTP/1.1 {answer.status} X\r\n{lines}\r\n".encode("latin-1"))
        try:
            await self._send_body(writer, answer, body)
        except ConnectionError:
            pass
        finally:
            if answer.cut is not None and answer.end == "rst":
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(1, 13, linger)  # SOL_SOCKET, SO_LINGER
            writer.close()

    async def _send_body(self, writer: asyncio.StreamWriter, answer: Answer, body: bytes) -> None:
        step = 100 if answer.drip is not None else 20_000
        for start in range(0, len(body), step):
            piece = body[start : start + step]
            if answer.framing == "chunked":
                piece = f"{len(piece):x}\r\n".encode() + piece + b"\r\n"
            writer.write(piece)
            await writer.drain()
            if answer.drip is not None:
                await asyncio.sleep(answer.drip)
        if answer.cut is not None:
            # aiohttp drops what it has not handed over when a connection breaks, so let it be read first.
            await asyncio.sleep(1e6 if answer.end == "stall" else 0.1)
        if answer.cut is None and answer.framing == "chunked":
            writer.write(b"0\r\n\r\n")
            await writer.drain()
