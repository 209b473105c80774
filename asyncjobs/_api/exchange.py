"""One request and its answer: permission, credentials per hop, redirects, typed errors, retries.

Everything the client sends goes through `Exchange.open`. A credential is joined to a request here,
in one line, and only when scheme, host and port are those of the configured API.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, TypeVar
from urllib.parse import urlencode, urlsplit

from asyncjobs._api.attempts import Attempts
from asyncjobs._api.body import Body
from asyncjobs._api.budget import Budget
from asyncjobs._clock import Clock
from asyncjobs._concurrency import ClosingClock, ImpatientError, Lane, Lifetime
from asyncjobs._errors import (
    AuthenticationError,
    BadResponseError,
    ClosedError,
    ProtocolError,
    RateLimitedError,
    RedirectError,
    RequestError,
    ResponseError,
    TruncatedBodyError,
)
from asyncjobs._models.calls import EndpointClass, Kind
from asyncjobs._options import RetryPolicy, Timeouts
from asyncjobs._protocol.answers import (
    error_message,
    rate_facts,
    request_id,
    response_error,
    server_time,
    speaks_of_limits,
)
from asyncjobs._protocol.bodies import (
    MAX_ERROR_BYTES,
    MAX_JSON_BYTES,
    OFF_LOOP_BYTES,
    BodyError,
    CutBodyError,
    excerpt,
)
from asyncjobs._protocol.redirects import FOLLOWED, RefusedRedirect, next_hop
from asyncjobs._protocol.requests import Request
from asyncjobs._protocol.urls import ApiRoot, Origin, parse_origin, safe_url
from asyncjobs._retry.bucket import RetryBucket
from asyncjobs._retry.gate import Passage
from asyncjobs._secrets import Credential, HeaderValue, Secret
from asyncjobs._transport import Hop, Reply, Transport

logger = logging.getLogger("asyncjobs")

T = TypeVar("T")

Accept = tuple[tuple[str, str], ...]

CHANGES: Final = frozenset({Kind.WRITE, Kind.ONCE})
"""Calls after which the server is not what it was before."""
GOOD: Final = frozenset({200, 201, 202, 204})
ACCEPT_JSON: Final = (("Accept", "application/json"), ("Accept-Encoding", "gzip"))
ACCEPT_TEXT: Final = (("Accept", "text/plain, */*;q=0.1"), ("Accept-Encoding", "gzip"))
ACCEPT_ANY: Final = (("Accept", "*/*"), ("Accept-Encoding", "identity"))


class Exchange:
    """Sends requests for one client."""

    def __init__(
        self,
        *,
        root: ApiRoot,
        credential: Credential | None,
        transport: Transport,
        budget: Budget,
        policy: RetryPolicy,
        timeouts: Timeouts,
        clock: Clock,
        chance: random.Random,
        user_agent: str,
    ) -> None:
        self._lifetime = Lifetime()
        self.root = root
        self.clock = ClosingClock(clock, self._lifetime)
        """The client's clock: sleeping on it ends when the client is closed."""
        self.chance = chance
        self.budget = budget
        self._credential = credential
        self._transport = transport
        self._policy = policy
        self._timeouts = timeouts
        self._user_agent = user_agent
        self._decoding: ThreadPoolExecutor | None = None
        self._last_date: str | None = None

    def attempts(self, kind: Kind, endpoint: EndpointClass, *, call: str) -> Attempts:
        """The retry state of one new call."""
        return Attempts(
            kind,
            endpoint,
            call=call,
            policy=self._policy,
            clock=self.clock,
            chance=self.chance,
            api_bucket=self.budget.api_retries,
            storage_bucket=self.budget.storage_retries,
            close_gate=self.budget.close,
            lifetime=self._lifetime,
        )

    async def fetch(
        self, request: Request, read: Callable[[bytes], T], *, lane: Lane
    ) -> tuple[T, dict[str, str]]:
        """Send *request*, retry as the policy says, and read its JSON body; gives it and the headers.

        Raises:
            RequestError: No usable answer.
            ResponseError: Another answer than asked for, `BadResponseError` for a wrong body.
            OutcomeUnknownError: Of a call that changes something; `OutcomeUnreadableError` when success
                was answered and the rest cannot be read.

        Cancellation: whether a request was executed is unknown; nothing is kept.
        """
        attempts = self.attempts(request.kind, request.endpoint, call=request.call)
        while True:
            data, body = b"", None
            try:
                async with self.open(request, lane=lane, attempt=attempts.number) as body:
                    if request.method != "DELETE":  # whose status says it all, whatever comes behind it
                        data = await body.read(MAX_JSON_BYTES)
                return await self._decoded(data, read, body), dict(body.headers)
            except (RequestError, ResponseError) as error:
                failure: RequestError | ResponseError = error
            if body is not None and isinstance(failure, RequestError) and request.kind in CHANGES:
                failure = self._unreadable(failure.reason, body)
            del data, body  # an answer may repeat secrets, and tracebacks with locals are common in reports
            await attempts.failed(failure)

    async def _decoded(self, data: bytes, read: Callable[[bytes], T], body: Body) -> T:
        try:
            # An answer that was here before the client was closed is still read, but starts no thread.
            if len(data) <= OFF_LOOP_BYTES or self._lifetime.is_over:
                return read(data)
            if self._decoding is None:
                self._decoding = ThreadPoolExecutor(1, thread_name_prefix="asyncjobs-json")
            return await asyncio.get_running_loop().run_in_executor(self._decoding, read, data)
        except BodyError as error:
            reason = self._scrub(str(error))
            cut = isinstance(error, CutBodyError) and body.framing == "close"
        del data
        if cut:
            # Only the content can tell that a body without framing was cut, and this one does.
            raise TruncatedBodyError(reason, method=body.method, url=body.url)
        raise self._unreadable(reason, body)

    async def refused(self, why: str, body: Body) -> BadResponseError:
        """The error for a good status with the wrong body; it says how the body begins.

        Raises:
            RequestError: Not even the beginning arrived.
        """
        begins = await anext(aiter(body), b"")
        kind = body.headers.get("content-type", "").lower()
        told = error_message(kind, begins) if "html" in kind else excerpt(begins)
        return self._unreadable(self._scrub(f"{why}; it begins {told!r}" if told else why), body)

    def _unreadable(self, reason: str, body: Body) -> BadResponseError:
        return BadResponseError(
            reason,
            status=body.status,
            request_id=self._request_id(body.headers),
            from_storage=not body.from_api,
            method=body.method,
            url=body.url,
        )

    @asynccontextmanager
    async def open(
        self,
        request: Request,
        *,
        lane: Lane,
        attempt: int = 1,
        accept: Accept = ACCEPT_JSON,
        good: frozenset[int] = GOOD,
        ratio_limit: bool = True,
    ) -> AsyncIterator[Body]:
        """Send *request* once, after its permission, and give the answer while it streams.

        One more request is sent when the token was refused and its source has a different one.

        Raises:
            RequestError: No usable answer.
            ResponseError: A status that is not in *good*.
            ClosedError: The client was closed, before or while this waited.
        """
        async with AsyncExitStack() as stack:
            # Only the entry may renew the token: an error of the caller's own block is the caller's.
            yield await self._enter(stack, request, lane, attempt, accept, good, ratio_limit)

    async def _enter(
        self,
        stack: AsyncExitStack,
        request: Request,
        lane: Lane,
        attempt: int,
        accept: Accept,
        good: frozenset[int],
        ratio_limit: bool,
    ) -> Body:
        token, passage = await self._admitted(request, lane)
        refused: AuthenticationError
        try:
            return await stack.enter_async_context(
                self._open_as(request, token, passage, lane, attempt, accept, good, ratio_limit)
            )
        except AuthenticationError as error:
            refused = error
        if token is None or refused.from_storage or not await self._renewed(token):
            raise refused
        del refused  # its text was scrubbed of the tokens of before only
        token, passage = await self._admitted(request, lane)
        return await stack.enter_async_context(
            self._open_as(request, token, passage, lane, attempt, accept, good, ratio_limit)
        )

    async def _admitted(self, request: Request, lane: Lane) -> tuple[Secret | None, Passage]:
        """All that is waited for before a request goes out: the token, the gate, the windows, a slot.

        The passage must be used at once, by `_open_as`.
        """
        async with self._lifetime.wait():
            token = None if self._credential is None else await self._credential.token()
            return token, await self._permission(request, lane)

    async def _renewed(self, refused: Secret) -> bool:
        async with self._lifetime.wait():
            return self._credential is not None and await self._credential.renew(refused)

    @asynccontextmanager
    async def _open_as(
        self,
        request: Request,
        token: Secret | None,
        passage: Passage,
        lane: Lane,
        attempt: int,
        accept: Accept,
        good: frozenset[int],
        ratio_limit: bool,
    ) -> AsyncIterator[Body]:
        try:
            async with await self._follow(request, token, passage, lane, attempt, accept) as reply:
                hop = reply.hop
                if not (reply.status == 429 or (reply.status == 503 and "retry-after" in reply.headers)):
                    self.budget.answered(request.endpoint, passage, failing=reply.status >= 500)
                if reply.status not in good:
                    raise await self._error(reply, hop)
                yield Body(
                    reply,
                    clock=self.clock,
                    timeouts=None if lane is Lane.CONTROL else self._timeouts,
                    count=lambda size: self.budget.received(_class_of(request, hop), size),
                    ratio_limit=ratio_limit,
                )
                self._bucket(hop).succeeded()
        finally:
            self.budget.leave(request.endpoint, lane, passage)

    async def _permission(self, request: Request, lane: Lane) -> Passage:
        try:
            return await self.budget.enter(request.endpoint, lane, self._policy.max_rate_limit_wait)
        except ImpatientError as error:
            impatient = error
        raise RateLimitedError(
            f"429 the server wants {impatient.wait:.0f} s of silence: more than max_rate_limit_wait",
            status=429,
            retry_after=impatient.wait,
            method=request.method,
            url=safe_url(self.root.url(request.path)),
        )

    async def _follow(
        self,
        request: Request,
        token: Secret | None,
        passage: Passage,
        lane: Lane,
        attempt: int,
        accept: Accept,
    ) -> Reply:
        """Send, and follow redirects; each hop is checked and gets only what its origin may have."""
        url = self.root.url(request.path)
        if request.query:
            url = f"{url}?{urlencode(request.query)}"
        hops = 0
        origin = self.root.origin
        while True:
            # Signed links and userinfo are secrets too: none of these texts shows in a frame's locals.
            url = HeaderValue(url)
            hop = self._hop(request, url, origin, token, lane, accept)
            self.budget.sent(_class_of(request, hop), retry=attempt > 1 and hops == 0)
            began = self.clock.monotonic()
            try:
                reply = await self._send(request, hop)
            except RequestError as error:
                logger.debug("%s %s: %s (attempt %d)", hop.method, hop.shown, error.reason, attempt)
                raise
            seconds = self.clock.monotonic() - began
            if logger.isEnabledFor(logging.DEBUG):
                told = (hop.method, hop.shown, reply.status, seconds, attempt)
                logger.debug("%s %s -> %d in %.3f s (attempt %d)", *told)
            if hop.trusted:
                self.budget.heard(request.endpoint, passage)
                self._learn(request, reply)
            if reply.status not in FOLLOWED:
                return reply
            async with reply:
                url = self._next(request, hop, reply, hops)
            origin = parse_origin(urlsplit(url))
            hops += 1

    async def _send(self, request: Request, hop: Hop) -> Reply:
        self._lifetime.check()
        try:
            async with self._lifetime.wait():
                return await self._transport.send(hop)
        except ClosedError:
            if request.kind not in CHANGES:
                raise
        # "Closed" would say that nothing happened, and that is not known any more.
        raise ProtocolError("the client was closed before an answer came", method=hop.method, url=hop.shown)

    def _hop(
        self,
        request: Request,
        url: str,
        origin: Origin,
        token: Secret | None,
        lane: Lane,
        accept: Accept,
    ) -> Hop:
        trusted = origin == self.root.origin
        headers = {"User-Agent": self._user_agent, **dict(accept), **dict(request.headers)}
        if trusted and token is not None and self._credential is not None:
            headers[self._credential.header] = self._credential.value(token)
        return Hop(
            method=request.method,
            url=url,
            show=self._shown,
            scheme=origin.scheme,
            host=origin.host,
            headers=headers,
            body=request.body,
            lane=lane,
            fresh=request.kind in CHANGES,
            trusted=trusted,
        )

    def _next(self, request: Request, hop: Hop, reply: Reply, hops: int) -> str:
        location = HeaderValue(reply.headers.get("location", ""))
        try:
            if request.method not in {"GET", "HEAD"}:
                where = self._scrub(safe_url(location))
                raise RefusedRedirect(
                    f"a redirect of a {request.method}, to {where}: check the configured URL"
                )
            return next_hop(hop.url, location, hops=hops, api_is_local=self._transport.api_is_local)
        except RefusedRedirect as error:
            reason = self._scrub(str(error))
        raise RedirectError(
            f"{reply.status} not followed: {reason}",
            status=reply.status,
            request_id=self._request_id(reply.headers),
            from_storage=not hop.trusted,
            method=hop.method,
            url=hop.shown,
        )

    def _learn(self, request: Request, reply: Reply) -> None:
        """Take what the headers say about time and limits; most answers say nothing new."""
        date = reply.headers.get("date")
        if date is not None and date != self._last_date:
            self._last_date = date
            self.budget.set_server_time(server_time(reply.headers))
        if speaks_of_limits(reply.headers):
            facts = rate_facts(reply.headers, now=self.clock.time())
            self.budget.observe(request.endpoint, facts, good=reply.status < 400)

    async def _error(self, reply: Reply, hop: Hop) -> ResponseError:
        """The typed error of an answer; its body is read as far as it is short and arrives."""
        pieces: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(10.0):
                while size < MAX_ERROR_BYTES and (piece := await reply.read()):
                    pieces.append(piece)
                    size += len(piece)
        except (RequestError, TimeoutError):
            logger.debug("%s %s: the body of the error did not arrive whole", hop.method, hop.shown)
        error = response_error(
            reply.status,
            reply.headers,
            b"".join(pieces)[:MAX_ERROR_BYTES],
            method=hop.method,
            url=hop.shown,
            now=self.clock.time(),
            from_storage=not hop.trusted,
            hint=self._hint(reply, hop),
        )
        error.reason = self._scrub(error.reason)
        error.message = self._scrub(error.message)
        error.request_id = self._request_id(reply.headers)
        error.args = (error.reason,)
        return error

    def _hint(self, reply: Reply, hop: Hop) -> str:
        if reply.status == 401 and not hop.trusted and urlsplit(hop.url).hostname == self.root.origin.host:
            return (
                f"redirected from {self.root.origin}: configure the client with the address it redirects to"
            )
        if reply.status == 401 and self._credential is None:
            return "no token was given"
        return ""

    def _shown(self, url: str) -> str:
        return self._scrub(safe_url(url))

    def _scrub(self, text: str) -> str:
        return text if self._credential is None else self._credential.scrub(text)

    def _request_id(self, headers: Mapping[str, str]) -> str | None:
        found = request_id(headers)
        return None if found is None else self._scrub(found)

    def _bucket(self, hop: Hop) -> RetryBucket:
        return self.budget.api_retries if hop.trusted else self.budget.storage_retries

    async def aclose(self) -> None:
        """End every wait of this client's calls and close every connection. Twice is fine."""
        self._lifetime.end()
        try:
            await self._transport.aclose()
        finally:
            self._stop_decoding()

    def _stop_decoding(self) -> None:
        decoding, self._decoding = self._decoding, None
        if decoding is not None:
            decoding.shutdown(wait=False)


def _class_of(request: Request, hop: Hop) -> EndpointClass:
    return request.endpoint if hop.trusted else EndpointClass.STORAGE
