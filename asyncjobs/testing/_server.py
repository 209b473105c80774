"""FakeGitLab itself: two servers on loopback, and the way of a request through log, limits, routes and wire.

Order as in a real installation: request throttle, then the API (authentication, route), then Rails' ETag
layer, then nginx. The second origin has its own port and none of those layers.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from types import TracebackType
from typing import Literal, Self

import attrs
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

from asyncjobs.testing import _artifact_routes, _job_routes, _pipeline_routes, _project_routes, _trace_routes
from asyncjobs.testing._answers import (
    HTML,
    Answer,
    Refusal,
    error,
    http_date,
    text_answer,
    through_nginx,
    through_rails,
)
from asyncjobs.testing._call import Call, Origin, RecordedRequest, decode, split_raw
from asyncjobs.testing._fault_kinds import KINDS
from asyncjobs.testing._faults import Fault, FaultBoard, Option, Plan
from asyncjobs.testing._generations import Generation, rules_of
from asyncjobs.testing._log import RequestLog, Where
from asyncjobs.testing._router import dispatch
from asyncjobs.testing._settings import Delivery, Settings, TraceMode
from asyncjobs.testing._storage import answer_storage
from asyncjobs.testing._time import FakeClock, LoopClock
from asyncjobs.testing._wire import Sending, send, write_raw
from asyncjobs.testing._world import World

_ROUTES = [
    *_job_routes.ROUTES,
    *_trace_routes.ROUTES,
    *_artifact_routes.ROUTES,
    *_pipeline_routes.ROUTES,
    *_project_routes.ROUTES,
]
_KEEP_ALIVE = 65.0
_LARGEST_REQUEST = 16 * 1024 * 1024
_SIGN_IN = "<!DOCTYPE html>\n<html><head><title>Sign in · GitLab</title></head><body>Sign in</body></html>\n"
_LOST = (
    "<!DOCTYPE html>\n<html><head><title>Not Found</title></head><body>404: Page not found</body></html>\n"
)


class FakeGitLab(World):
    r"""A GitLab to test against: a world of projects and jobs behind two real servers on loopback.

    ```python
    async with FakeGitLab() as gitlab:
        job = gitlab.add_project("group/app").add_pipeline("main").add_job("test")
        job.start()
        job.append_trace(b"hello\n")
        job.finish("success")
        ...  # point any client at gitlab.url with the private token gitlab.token
    ```

    The world may be built before, inside or during use, from any thread. Entering starts the servers; leaving
    stops them and ends what still hangs. The same object may be entered again.

    Args:
        generation: "9.1", "18" or "19.5": JSON shapes, routes, parameters and statuses of that GitLab.
        clock: `monotonic()`, `time()`, `sleep()`; the serving loop's time from a fixed date when None.
        delivery: How archives come: "local", "direct" (redirect to the second origin) or "proxy".
        trace: "window", "range", "both" or "whole"; "auto" is "window" for 19.5 and "whole" before.
        jobs_index_limit: Requests a minute and user to GET /projects/:id/jobs; None lifts it.
        throttle_limit: Requests a minute and user or address over all routes; None lifts it.
        link_host: Origin written into Link headers when it is not the one asked, such as "https://other".
        relative_url: Path under which GitLab lives, such as "/gitlab".
        host: Address to listen on.
        port: Port of the API; 0 takes a free one.
        storage_port: Port of the second origin; 0 takes a free one.
        tls: Serve both origins over TLS with this context.

    Every other switch is an attribute of `settings`.
    """

    def __init__(
        self,
        generation: Generation = "19.5",
        *,
        clock: FakeClock | None = None,
        delivery: Delivery = "local",
        trace: Literal["auto"] | TraceMode = "auto",
        jobs_index_limit: int | None = 600,
        throttle_limit: int | None = None,
        link_host: str | None = None,
        relative_url: str = "",
        host: str = "127.0.0.1",
        port: int = 0,
        storage_port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.generation = generation
        self.clock: FakeClock = LoopClock() if clock is None else clock
        super().__init__(self.clock, rules_of(generation))
        mode: TraceMode = ("window" if self.rules.windows else "whole") if trace == "auto" else trace
        self.settings = Settings(delivery=delivery, trace=mode, link_host=link_host)
        self.settings.jobs_index.limit = jobs_index_limit if self.rules.modern else None
        self.settings.throttle.limit = throttle_limit
        self.settings.throttle.always_headers = self.rules.modern
        self.settings.scheme = "http" if tls is None else "https"
        self.requests = RequestLog()
        self.faults = FaultBoard(KINDS)
        self.on_request: Callable[[RecordedRequest], None] | None = None
        """Called with each request before its answer is made: change the world between two pages here."""
        self.private_token = self.add_token("private")
        self._relative_url = self.settings.relative_url = relative_url.rstrip("/")
        self._base = f"{self._relative_url}/api/v4"
        self._host = host
        self._ports: dict[Origin, int] = {"api": port, "storage": storage_port}
        self._bound: dict[Origin, int] = {}
        self._tls = tls
        self._runners: list[web.ServerRunner] = []

    # -- lifetime ----------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def start(self) -> None:
        """Listen on both origins.

        Raises:
            RuntimeError: Already serving.
            OSError: A port is taken.
        """
        if self._runners:
            raise RuntimeError("this FakeGitLab is serving already")
        if isinstance(self.clock, LoopClock):
            self.clock.bind(asyncio.get_running_loop())
        try:
            await self._listen("api")
            await self._listen("storage")
        except BaseException:
            await self.aclose()
            raise
        self.settings.storage_url = f"{self.settings.scheme}://{self._host}:{self._bound['storage']}"

    async def _listen(self, origin: Origin) -> None:
        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            return await self._handle(request, origin)

        # A handler ends with its connection, so a stalled answer never outlives its client.
        server = web.Server(handle, handler_cancellation=True, access_log=None, keepalive_timeout=_KEEP_ALIVE)
        runner = web.ServerRunner(server, shutdown_timeout=0.05)
        await runner.setup()
        self._runners.append(runner)
        site = web.TCPSite(runner, self._host, self._ports[origin], ssl_context=self._tls)
        await site.start()
        self._bound[origin] = runner.addresses[0][1]

    async def aclose(self) -> None:
        """Stop serving; hanging answers are cut. May be called twice."""
        runners, self._runners = self._runners, []
        for runner in runners:
            await runner.cleanup()
        if isinstance(self.clock, LoopClock):
            self.clock.release()

    # -- addresses and credentials -----------------------------------------

    @property
    def url(self) -> str:
        """Address of the API's host, such as http://127.0.0.1:43021, with the relative path if there is one.

        Raises:
            RuntimeError: Not serving.
        """
        return self._origin("api") + self._relative_url

    @property
    def storage_url(self) -> str:
        """Address of the second origin.

        Raises:
            RuntimeError: Not serving.
        """
        return self._origin("storage")

    def _origin(self, origin: Origin) -> str:
        if not self._runners:
            raise RuntimeError("this FakeGitLab is not serving: enter it first")
        return f"{self.settings.scheme}://{self._host}:{self._bound[origin]}"

    @property
    def token(self) -> str:
        """A private token of the default user with scope api."""
        return self.private_token.value

    # -- trouble -----------------------------------------------------------

    def fail_next(
        self,
        name: str,
        *,
        times: int = 1,
        where: Where = None,
        origin: Origin | None = None,
        method: str | None = None,
        skip: int = 0,
        executed: bool = False,
        **options: Option,
    ) -> Fault:
        """Let the next fitting request meet a fault; `faults.add` has more ways to choose.

        Args:
            name: A status such as "503", or one of `faults.names()`.
            times: How many requests meet it.
            where: Glob on the decoded path (`*/trace`), a function of the request, or None for all.
            origin: `api`, `storage`, or None for both.
            method: HTTP method, or None for all.
            skip: Fitting requests that pass before the first.
            executed: The server does what was asked before the fault strikes.
            options: Keywords of the fault, as `faults.names()` tells.

        Raises:
            ValueError: No fault of that name.
        """
        return self.faults.add(
            name,
            times=times,
            where=where,
            origin=origin,
            method=method,
            every=1,
            skip=skip,
            chance=1.0,
            seed=0,
            executed=executed,
            **options,
        )

    # -- one request -------------------------------------------------------

    async def _handle(self, request: web.BaseRequest, origin: Origin) -> web.StreamResponse:
        body = await request.content.read(_LARGEST_REQUEST)
        record = self._record(request, origin, body)
        if self.on_request is not None:
            self.on_request(record)
        call = Call(world=self, settings=self.settings, request=record)
        if self.settings.latency:
            await self.clock.sleep(self.settings.latency)
        fault = self.faults.take(record)
        plan = Plan() if fault is None else fault.kind.build(call, fault.options)
        if plan.forget:
            kept = [
                (name, value) for name, value in record.headers.items() if name.lower() not in plan.forget
            ]
            call.request = attrs.evolve(record, headers=CIMultiDictProxy(CIMultiDict(kept)))
        if fault is not None:
            self.requests.update(record.number, fault=fault.name)
            if fault.executed and plan.replaces:
                self._answer(call, origin, Plan())
        if plan.raw is not None:
            await write_raw(request, plan.raw, plan.ending)
        answer = self._answer(call, origin, plan)
        sending = Sending()
        if plan.wire is not None:
            plan.wire(answer, sending)
        self.requests.update(record.number, status=answer.status)
        total = 0

        def sent(count: int) -> None:
            nonlocal total
            total += count
            self.requests.update(record.number, sent=total)

        return await send(request, answer, sending, self.clock, sent)

    def _record(self, request: web.BaseRequest, origin: Origin, body: bytes) -> RecordedRequest:
        raw = request.raw_path
        if raw.startswith(("http://", "https://")):
            # The form in which a client asks a proxy (RFC 9112 section 3.2.2); the host is ours all the same.
            raw = "/" + raw.split("/", 3)[3]
        path, query = split_raw(raw)
        with self.agenda.lock:
            record = RecordedRequest(
                number=self.requests.next_number,
                time=self.clock.time(),
                origin=origin,
                method=request.method,
                path=decode(path),
                raw_path=raw,
                query=tuple(query),
                headers=CIMultiDictProxy(request.headers.copy()),
                body=body,
                connection=_peer_port(request),
            )
            self.requests.add(record)
        return record

    def _answer(self, call: Call, origin: Origin, plan: Plan) -> Answer:
        with self.agenda.frozen():
            if origin == "storage":
                answer = plan.instead or answer_storage(call)
                if plan.app is not None:
                    plan.app(answer)
                answer.headers += [("Server", "AmazonS3"), ("Date", http_date(call.now))]
                return answer
            limited, limit_headers = self.settings.throttle.count(call)
            answer = limited or plan.instead or self._route(call)
            if plan.app is not None:
                plan.app(answer)
            if limited is None and plan.instead is None:
                through_rails(answer, call.request.method, call.request.headers)
            if self.settings.gzip:
                through_nginx(answer, call.request.headers)
            answer.headers += limit_headers
            answer.headers += [
                ("Server", "nginx"),
                ("Date", http_date(call.now)),
                ("X-Request-Id", f"01FAKE{call.request.number:020d}"),
            ]
            return answer

    def _route(self, call: Call) -> Answer:
        path = call.request.raw_path.partition("?")[0]
        try:
            if path.startswith(f"{self._relative_url}/api/v3"):
                raise error(410, "API V3 is no longer supported. Use API V4 instead.")
            if path.startswith(f"{self._base}/"):
                call.route_path = path[len(self._base) :]
                return dispatch(_ROUTES, call)
        except Refusal as refusal:
            return refusal.answer
        return self._web_page(path)

    def _web_page(self, path: str) -> Answer:
        sign_in = f"{self._relative_url}/users/sign_in"
        if path == sign_in:
            return text_answer(200, _SIGN_IN, HTML)
        if path in (self._relative_url, f"{self._relative_url}/"):
            answer = text_answer(302, _SIGN_IN, HTML)
            answer.put("Location", sign_in)
            return answer
        return text_answer(404, _LOST, HTML)


def _peer_port(request: web.BaseRequest) -> int:
    peer = None if request.transport is None else request.transport.get_extra_info("peername")
    return int(peer[1]) if peer else 0
