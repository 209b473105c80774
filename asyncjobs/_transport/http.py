"""One HTTP exchange at a time, over sessions that know no credential, cookie, proxy or redirect of their own.

Each lane has its own session, so that a pool full of archives never holds back a control call;
calls that must not be repeated get a fresh connection each. No aiohttp object or error leaves.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from types import SimpleNamespace, TracebackType
from typing import Protocol, Self

import aiohttp
import attrs
from yarl import URL

from asyncjobs._errors import ClosedError, RequestError
from asyncjobs._models.calls import Lane
from asyncjobs._options import Timeouts
from asyncjobs._transport.failures import Unanswered, translate
from asyncjobs._transport.network import GuardedResolver, Proxies

_READ_BUFFER_BYTES = {Lane.CONTROL: 64 * 1024, Lane.TAIL: 64 * 1024, Lane.BULK: 256 * 1024}


class ConnectorFactory(Protocol):
    """Makes the connector of one session: the seam at which the wire is replaced."""

    def __call__(self, *, resolver: GuardedResolver, force_close: bool) -> aiohttp.BaseConnector:
        """Make a connector.

        Args:
            resolver: Keeps redirects off local addresses; to be used for names.
            force_close: One connection for each request.
        """
        ...


def tcp_connector(*, resolver: GuardedResolver, force_close: bool) -> aiohttp.BaseConnector:
    """The real wire: no limit of its own (lanes are bounded above), TCP keep-alive on."""
    return aiohttp.TCPConnector(
        resolver=resolver, limit=0, force_close=force_close, socket_factory=_keepalive_socket
    )


def _keepalive_socket(address: tuple[int, int, int, str, tuple[object, ...]]) -> socket.socket:
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setblocking(False)
    return made


@attrs.frozen(kw_only=True)
class Hop:
    """One request on the wire, complete down to its bytes."""

    method: str
    url: str = attrs.field(repr=False)
    """Percent-encoded; sent byte for byte."""
    show: Callable[[str], str] = attrs.field(repr=False)
    """Makes a URL safe to print; called only when something is printed."""
    scheme: str
    host: str
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes | None = attrs.field(default=None, repr=False)
    lane: Lane = Lane.CONTROL
    fresh: bool = False
    """Over a connection of its own, which nobody could have closed meanwhile."""
    trusted: bool = True
    """It goes to the API's own origin, where a client certificate may be shown."""

    @property
    def shown(self) -> str:
        """The URL, safe to print."""
        return self.show(self.url)


class Transport:
    """The sessions of one client. Made inside a running loop, closed with `aclose`."""

    def __init__(
        self,
        *,
        timeouts: Timeouts,
        resolver: GuardedResolver,
        proxies: Proxies,
        tls: Callable[[bool], ssl.SSLContext],
        connector_factory: ConnectorFactory = tcp_connector,
    ) -> None:
        self._timeouts = timeouts
        self._resolver = resolver
        self._proxies = proxies
        self._tls = tls
        self._connector_factory = connector_factory
        self._sessions: dict[tuple[Lane, bool], aiohttp.ClientSession] = {}
        self._replies: dict[Reply, None] = {}
        self._closed = False
        idle, connect = timeouts.idle, timeouts.connect
        self._limits = {
            Lane.CONTROL: _timeout(total=timeouts.control_total, connect=connect, idle=idle),
            Lane.TAIL: _timeout(total=None, connect=connect, idle=timeouts.tail_idle),
            Lane.BULK: _timeout(total=None, connect=connect, idle=idle),
        }

    @property
    def api_is_local(self) -> bool:
        """Whether the API itself turned out to be on this machine or link."""
        return self._resolver.api_is_local

    async def send(self, hop: Hop) -> Reply:
        """Send one request and return when its headers are here. The reply must be closed.

        Raises:
            RequestError: Whatever went wrong; see `asyncjobs._transport.failures`.
            ClosedError: After `aclose`.
        """
        failure: RequestError | None = None
        try:
            # `control_total` covers a control call; elsewhere dripped headers are stopped here.
            async with asyncio.timeout(None if hop.lane is Lane.CONTROL else self._timeouts.first_byte):
                reply = Reply(await self._request(hop), hop, self._replies)
            if self._closed:
                reply.break_off()
            return reply
        except (aiohttp.ClientError, OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            failure = translate(error, method=hop.method, url=hop.shown)
        # Raised outside of the handler, so that the foreign error is not even kept as context.
        raise failure

    async def _request(self, hop: Hop) -> aiohttp.ClientResponse:
        proxy = self._proxies.for_url(hop.scheme, hop.host)
        secure = hop.scheme == "https"
        headers, tunnel_headers = hop.headers, None
        if proxy is not None and secure:
            tunnel_headers = proxy.headers  # for the CONNECT; the request itself passes unseen
        elif proxy is not None:
            headers = {**headers, **proxy.headers}
        sending = _Sending()
        return await self._session(hop.lane, fresh=hop.fresh).request(
            hop.method,
            URL(hop.url, encoded=True),
            headers=headers,
            data=hop.body,
            allow_redirects=False,
            timeout=self._limits[hop.lane],
            ssl=self._tls(hop.trusted) if secure else True,
            proxy=None if proxy is None else proxy.url,
            proxy_headers=tunnel_headers,
            middlewares=(sending,),
            trace_request_ctx=sending,
        )

    def _session(self, lane: Lane, *, fresh: bool) -> aiohttp.ClientSession:
        if self._closed:
            # A call that slept at a gate meanwhile must not open the client again.
            raise ClosedError("this client was closed")
        session = self._sessions.get((lane, fresh))
        if session is None:
            session = self._sessions[lane, fresh] = aiohttp.ClientSession(
                connector=self._connector_factory(resolver=self._resolver, force_close=fresh),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
                trace_configs=[_tracing()],
                read_bufsize=_READ_BUFFER_BYTES[lane],
            )
        return session

    async def aclose(self) -> None:
        """Close every connection and break off the bodies on their way; twice is fine."""
        self._closed = True
        for reply in self._replies:
            reply.break_off()
        sessions, self._sessions = list(self._sessions.values()), {}
        # A stack goes on with the others when waiting for one is cancelled.
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._resolver.close)
            for session in sessions:
                stack.push_async_callback(session.close)


class _Sending:
    """One request on its way: notes whether a new connection was made for it.

    aiohttp sends an idempotent request a second time when the peer closes without an answer. On a
    kept connection that is right, because it was closed meanwhile; on a new one it would double the
    load of a server that is failing, and execute a DELETE twice. So only the first is let through.
    """

    def __init__(self) -> None:
        self.connected = False

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Send it; as an aiohttp middleware."""
        try:
            return await handler(request)
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
            if not self.connected:
                raise
            broken = Unanswered(error)
        raise broken


def _tracing() -> aiohttp.TraceConfig:
    async def connecting(_: object, context: SimpleNamespace, __: object) -> None:
        context.trace_request_ctx.connected = True

    config = aiohttp.TraceConfig()
    config.on_connection_create_start.append(connecting)
    return config


def _timeout(*, total: float | None, connect: float | None, idle: float | None) -> aiohttp.ClientTimeout:
    # `connect` covers the name look-up and TLS as well; the pools have no limit, so it holds no queueing.
    return aiohttp.ClientTimeout(total=total, connect=connect, sock_connect=connect, sock_read=idle)


class Reply:
    """An answer whose body is still on its way. Use it as a context manager: leaving frees the connection."""

    def __init__(self, response: aiohttp.ClientResponse, hop: Hop, under_way: dict[Reply, None]) -> None:
        self._response = response
        self._under_way = under_way
        under_way[self] = None
        self._ready: deque[bytes] = deque()
        self._taken = 0
        self.hop = hop
        """What was asked, to get this answer."""
        self.status = response.status
        self.headers = _headers(response)
        """Lower-case names; repeated ones joined with a comma."""

    @property
    def framing(self) -> str:
        """How the end of the body is known: `length`, `chunked`, or `close` (which proves nothing)."""
        if "chunked" in self.headers.get("transfer-encoding", "").lower():
            return "chunked"
        return "length" if "content-length" in self.headers else "close"

    async def read(self) -> bytes:
        """The next bytes as they came, or `b""` at the end.

        Raises:
            RequestError: The body broke, stalled or was cut.
        """
        failure: RequestError | None = None
        try:
            if not self._ready:
                await self._take()
            return self._ready.popleft()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            # When the last bytes lay in its parser while reading was paused, aiohttp 3.14.5 starts the
            # idle timer again after the end and blames a slow consumer on a body that is all here.
            if isinstance(error, aiohttp.SocketTimeoutError) and self._response.content.at_eof():
                return b""
            failure = translate(error, method=self.hop.method, url=self.hop.shown)
        raise failure

    async def _take(self) -> None:
        """Wait for bytes, then take all that lie ready: a late timer of aiohttp could withhold what stays."""
        content = self._response.content
        if self.framing == "chunked":
            # A server may send chunks of a few bytes, and joining those is cheaper than handling each.
            self._ready.append(await content.readany())
            return
        # readany() would copy everything into one piece, of three times 256 KiB as a rule: 3 % of a download.
        while not self._ready or self._taken < content.total_bytes:
            piece, _ = await content.readchunk()
            self._ready.append(piece)
            self._taken += len(piece)

    def break_off(self) -> None:
        """Make reading the body fail; when its session is closed aiohttp 3.14.5 lets the reader hang."""
        self._response.content.set_exception(aiohttp.ClientPayloadError())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._under_way.pop(self, None)
        # A body read to its end has given its connection back already; any other is not worth draining.
        self._response.close()


def _headers(response: aiohttp.ClientResponse) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in response.headers.items():
        key = name.lower()
        found[key] = f"{found[key]}, {value}" if key in found else value
    return found
