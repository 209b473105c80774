"""A network in memory: connections that slice, delay, cut, reset, stall and refuse as the weather says.

aiohttp's own protocols stand at both ends, so its parsers, pools, timeouts and flow control are real; only
the socket is not. What one end writes reaches the other in order, in slices of any size, a little later.
"""

from __future__ import annotations

import asyncio
import random
import zlib
from asyncio.transports import _FlowControlMixin
from collections import deque
from collections.abc import Callable
from typing import Any, Literal, Protocol

import aiohttp
import attrs
from aiohttp.client_proto import ResponseHandler

from asyncjobs._transport import GuardedResolver

Ending = Literal["fin", "reset", "stall"]
MOST_AT_ONCE = 64 * 1024
FIRST_CLIENT_PORT = 40_000


@attrs.define
class Course:
    """What will become of one connection."""

    refused: bool = False
    connect_seconds: float = 0.0
    delay: float = 0.001
    """Longest time a slice is on its way."""
    slice_bytes: int = MOST_AT_ONCE
    """Largest slice."""
    ends_after: int | None = None
    """Bytes of answers after which something happens."""
    ending: Ending = "fin"


class Weather(Protocol):
    """Decides the course of each connection."""

    def course(self) -> Course:
        """The next connection's."""
        ...


class Fair:
    """Nothing ever happens to a connection."""

    def course(self) -> Course:
        """A plain one."""
        return Course()


@attrs.define(eq=False)
class Wire:
    """All connections of one simulated world."""

    loop: asyncio.AbstractEventLoop
    chance: random.Random
    weather: Weather = attrs.field(factory=Fair)
    servers: dict[int, Callable[[], asyncio.Protocol]] = attrs.field(factory=dict)
    """Who listens, by port."""
    open_ends: set[End] = attrs.field(factory=set)
    connections: int = 0
    handlers: int = 0
    digest: int = 0
    """Checksum of everything that arrived anywhere, with its time: two equal runs have the same."""

    def note(self, *facts: object) -> None:
        """Take something into the digest."""
        self.digest = zlib.crc32(repr((self.loop.time(), *facts)).encode(), self.digest)

    async def connect(self, port: int, factory: Callable[[], asyncio.Protocol]) -> asyncio.Protocol:
        """Make a connection; the client's protocol.

        Raises:
            ConnectionRefusedError: Nobody listens, or the weather is like that.
        """
        course = self.weather.course()
        await asyncio.sleep(course.connect_seconds)
        listening = self.servers.get(port)
        if course.refused or listening is None:
            raise ConnectionRefusedError(111, "Connection refused")
        self.connections += 1
        here, there = ("127.0.0.1", FIRST_CLIENT_PORT + self.connections), ("127.0.0.1", port)
        client = End(self, factory(), here, there, course, budget=None)
        server = End(self, listening(), there, here, course, budget=course.ends_after)
        client.peer, server.peer = server, client
        for end in (server, client):
            self.open_ends.add(end)
            end.protocol.connection_made(end)
        return client.protocol

    def break_down(self) -> None:
        """The server ends: every connection is reset."""
        for end in sorted(self.open_ends, key=lambda end: end.number):
            if not end.is_client:
                end.abort()


class End(_FlowControlMixin, asyncio.Transport):
    """One end of a connection, as an asyncio transport."""

    peer: End

    def __init__(
        self,
        wire: Wire,
        protocol: asyncio.Protocol,
        name: tuple[str, int],
        peer_name: tuple[str, int],
        course: Course,
        *,
        budget: int | None,
    ) -> None:
        super().__init__({"peername": peer_name, "sockname": name}, wire.loop)
        self._wire = wire
        self.protocol = self._protocol = protocol
        self._course = course
        self._budget = budget
        self._out: deque[bytes] = deque()
        self._size = 0
        self._pumping: asyncio.TimerHandle | None = None
        self._closing = False
        self._lost = False
        self._reading = True
        self._stalled = False
        self._finished = False
        self._goodbye = False
        """The other end has said it, and this one does not listen at the moment."""

    # -- asyncio.Transport --------------------------------------------------------------------------

    @property
    def number(self) -> int:
        """Which connection it is an end of."""
        ports: list[int] = [self.get_extra_info(name)[1] for name in ("sockname", "peername")]
        return max(ports)

    @property
    def is_client(self) -> bool:
        """Whether it is the end that asked for the connection."""
        name: tuple[str, int] = self.get_extra_info("sockname")
        return name[1] >= FIRST_CLIENT_PORT

    def get_write_buffer_size(self) -> int:
        """Bytes that have not arrived yet."""
        return self._size

    def is_closing(self) -> bool:
        """Whether it was closed, by whomever."""
        return self._closing

    def is_reading(self) -> bool:
        """Whether the protocol takes data."""
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        """Take nothing for now."""
        self._reading = False

    def resume_reading(self) -> None:
        """Go on."""
        self._reading = True
        self.peer.pump()
        if self._goodbye:
            self._goodbye = False
            self._later(self.ended)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Not used by aiohttp's HTTP."""
        raise NotImplementedError

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Whom this end belongs to."""
        return self.protocol

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Send."""
        if self._closing or self._lost or not data:
            return
        self._out.append(bytes(data))
        self._size += len(data)
        self._maybe_pause_protocol()  # type: ignore[attr-defined]  # of the mixin, which typeshed leaves out
        self.pump()

    def can_write_eof(self) -> bool:
        """Half-open connections are not simulated."""
        return False

    def close(self) -> None:
        """Send what is left, then say goodbye."""
        if self._closing:
            return
        self._closing = True
        if self._stalled:
            self._later(self.lose, None)
        self.pump()

    def abort(self) -> None:
        """Drop everything; the other end sees a reset."""
        self._closing = self._finished = True
        self._drop()
        if not self.peer._lost:
            self._later(self.peer.lose, ConnectionResetError(104, "Connection reset by peer"))
        self._later(self.lose, None)

    # -- the wire ------------------------------------------------------------------------------------

    def pump(self) -> None:
        """Let the next slice go, or the end of all."""
        if self._pumping is None and not self._lost and not self._stalled and (self._out or self._closing):
            self._pumping = self._later(self._arrive)

    def _later(self, function: Callable[..., object], *args: object) -> asyncio.TimerHandle:
        return self._wire.loop.call_later(self._wire.chance.uniform(0.0, self._course.delay), function, *args)

    def _arrive(self) -> None:
        self._pumping = None
        if self._lost:
            return
        if self.peer._lost or self.peer._closing:
            # Nobody listens any more: what is written there comes back as a reset.
            if self._out:
                self._drop()
                self.lose(ConnectionResetError(104, "Connection reset by peer"))
            else:
                self._finish()
            return
        if not self._out:
            self._finish()
            return
        if not self.peer._reading:
            return
        piece = self._slice()
        if piece:
            self._wire.note(self.peer.get_extra_info("sockname"), len(piece), zlib.crc32(piece))
            self.peer.protocol.data_received(piece)
        if self._budget == 0:
            self._strike()
        else:
            self._maybe_resume_protocol()  # type: ignore[attr-defined]
            self.pump()

    def _slice(self) -> bytes:
        most = self._wire.chance.randint(1, self._course.slice_bytes)
        if self._budget is not None:
            most = min(most, self._budget)
        first = self._out.popleft()
        piece, rest = first[:most], first[most:]
        if rest:
            self._out.appendleft(rest)
        self._size -= len(piece)
        if self._budget is not None:
            self._budget -= len(piece)
        return piece

    def _strike(self) -> None:
        self._drop()
        self._budget = None
        if self._course.ending == "stall":
            self._stalled = self.peer._stalled = True
        elif self._course.ending == "reset":
            self.abort()
        else:
            self.close()

    def _finish(self) -> None:
        """Everything has arrived; now the goodbye does."""
        if self._finished:
            return
        self._finished = True
        self.lose(None)
        self._later(self.peer.ended)

    def ended(self) -> None:
        """The other end said goodbye."""
        if self._lost:
            return
        if not self._reading:
            self._goodbye = True
            return
        if not self.protocol.eof_received():
            self._closing = True
            self._drop()
            self.lose(None)

    def lose(self, error: Exception | None) -> None:
        """The connection is gone."""
        if self._lost:
            return
        self._lost = self._closing = True
        self._drop()
        self._wire.open_ends.discard(self)
        self._wire.note(self.get_extra_info("sockname"), repr(error))
        self.protocol.connection_lost(error)

    def _drop(self) -> None:
        self._out.clear()
        self._size = 0
        self._maybe_resume_protocol()  # type: ignore[attr-defined]


class _Handler(ResponseHandler):
    """aiohttp's end of a connection; a pool closes its connections in the order of a set."""

    def __init__(self, wire: Wire) -> None:
        wire.handlers += 1
        self._number = wire.handlers
        super().__init__(loop=wire.loop)

    def __hash__(self) -> int:
        return self._number


class SimConnector(aiohttp.BaseConnector):
    """aiohttp's pool over the simulated wire, as UnixConnector is its pool over a socket file."""

    def __init__(self, wire: Wire, *, force_close: bool) -> None:
        super().__init__(limit=0, force_close=force_close)
        self._wire = wire

    async def _create_connection(
        self, req: aiohttp.ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout
    ) -> Any:
        try:
            async with asyncio.timeout(timeout.sock_connect):
                return await self._wire.connect(req.url.port or 80, lambda: _Handler(self._wire))
        except ConnectionRefusedError as error:
            raise aiohttp.ClientConnectorError(req.connection_key, error) from error


def connector_factory(wire: Wire) -> Callable[..., aiohttp.BaseConnector]:
    """The seam of a client that lives on this wire."""

    def make(*, resolver: GuardedResolver, force_close: bool) -> aiohttp.BaseConnector:
        return SimConnector(wire, force_close=force_close)

    return make
