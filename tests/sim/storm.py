"""A hostile GitLab on a simulated network, decided by one seed: which troubles, how often, until when.

Each seed turns some of the troubles on and leaves the others out, so that one kind cannot hide another.
After `CALM_SECONDS` all of them end, and from then on everything has to come right.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fnmatch import fnmatchcase
from typing import Any

import attrs
from aiohttp import web

from asyncjobs._client import Client
from asyncjobs._options import Limits
from asyncjobs.testing import FakeGitLab, RecordedRequest, RequestLog
from asyncjobs.testing._call import Origin
from tests.sim.loop import SimLoop
from tests.sim.wire import Course, Ending, Wire, connector_factory

CALM_SECONDS = 900.0
"""Virtual seconds that a storm lasts."""
AFTERWARDS = 3600.0
"""Virtual seconds in which everything has to be done once it is over."""
HONEST_ANSWERS = 3
"""Between two lies about the same log."""
GENERATIONS = ("9.1", "18", "19.5")
PORTS: dict[Origin, int] = {"api": 8080, "storage": 9000}


class SimGitLab(FakeGitLab):
    """The fake GitLab, listening on the simulated wire."""

    wire: Wire

    async def _listen(self, origin: Origin) -> None:
        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            return await self._handle(request, origin)

        server = web.Server(handle, handler_cancellation=True, access_log=None)
        runner = web.ServerRunner(server, shutdown_timeout=0.05)
        await runner.setup()
        self._runners.append(runner)
        self._bound[origin] = PORTS[origin]
        self.wire.servers[PORTS[origin]] = server


@attrs.frozen
class Trouble:
    """Something that may go wrong, and how often."""

    name: str
    chance: float
    options: dict[str, Any] = attrs.field(factory=dict)
    where: str | None = None
    origin: Origin | None = None


WIRE_TROUBLES = [
    Trouble("refuse", 0.3),
    Trouble("hang", 0.1),
    Trouble("slow", 1.0),
    Trouble("tiny", 1.0),
    Trouble("fin", 0.2),
    Trouble("reset", 0.2),
    Trouble("stall", 0.1),
    Trouble("outage", 1.0),
]
"""What happens to connections. These names are those of `Storm.course`."""

SERVER_TROUBLES = [
    *(Trouble(status, 0.15) for status in ("500", "502", "503", "504")),
    Trouble("503", 0.1, {"retry_after": "5"}),
    *(Trouble(f"429_{kind}", 0.05) for kind in ("none", "seconds", "date", "past", "reset_only", "garbage")),
    Trouble("ratelimit_exhausted", 0.05, {"reset": 5.0}),
    *(Trouble(name, 0.1) for name in ("html_200", "not_json", "wrong_json")),
    *(Trouble("short_trace", 0.8, {"by": by}, where="*/trace") for by in (1, 100)),
    *(Trouble(name, 0.8, where="*/trace") for name in ("short_trace", "empty_trace")),
    *(Trouble(name, 0.1) for name in ("cut_gzip", "gzip_crc")),
    *(Trouble(name, 0.1) for name in ("reset_before", "fin_before", "close_after", "cut_head", "garbage")),
    *(Trouble(name, 0.05) for name in ("stall_headers", "stall_midbody")),
    *(Trouble(name, 0.15) for name in ("reset_midbody", "fin_midbody")),
    Trouble("fin_midbody", 0.15, {"framing": "chunked"}),
    Trouble("delay", 0.2, {"seconds": 20.0}),
    *(Trouble("framing", 0.3, {"framing": framing}) for framing in ("chunked", "close")),
    *(Trouble(name, 0.3) for name in ("range_ignored", "range_wrong_start", "range_wrong_total")),
    *(Trouble(name, 0.3) for name in ("range_no_content_range", "range_other_etag", "range_encoded")),
    *(Trouble(name, 0.3) for name in ("range_416", "range_weak_etag")),
    Trouble("link_expired", 0.2, origin="storage"),
]
"""What the server does. None of them is an answer that looks right and is wrong for good."""


class Rarely:
    """Lets a lie meet a request for a path only after some honest answers since the last one.

    A log that is cut in one place again and again, under a validator that fits, is the log by all evidence.
    """

    def __init__(self, glob: str, requests: RequestLog) -> None:
        self._glob = glob
        self._requests = requests
        self._last: dict[str, int] = {}

    def __call__(self, request: RecordedRequest) -> bool:
        """Whether this request may meet one."""
        if not fnmatchcase(request.path, self._glob):
            return False
        since = self._requests[self._last.get(request.path, 0) :]
        honest = [one for one in since if one.path == request.path and one.status and not one.fault]
        if len(honest) < HONEST_ANSWERS:
            return False
        self._last[request.path] = request.number
        return True


def troubles_of(seed: int) -> list[Trouble]:
    """The troubles that a seed turns on: up to a third of all."""
    every = WIRE_TROUBLES + SERVER_TROUBLES
    chance = random.Random(f"troubles {seed}")
    return chance.sample(every, chance.randrange(1, len(every) // 3))


@attrs.define(eq=False)
class Storm:
    """One simulated world: a server, its network, and the clients in it."""

    loop: SimLoop
    seed: int
    troubles: list[Trouble]
    gitlab: SimGitLab
    wire: Wire
    chance: random.Random
    outages: list[tuple[float, float]] = attrs.field(factory=list)
    """When the server is down."""

    # -- the weather ---------------------------------------------------------------------------------

    @property
    def calm(self) -> bool:
        """Whether the storm is over."""
        return self.loop.now >= 1_000.0 + CALM_SECONDS

    def course(self) -> Course:
        """What becomes of the next connection."""
        course = Course()
        if self.calm:
            return course
        if any(begin <= self.loop.now < end for begin, end in self.outages):
            return Course(refused=True)
        for trouble in self.troubles:
            if trouble in WIRE_TROUBLES and self.chance.random() < trouble.chance:
                self._meet(course, trouble.name)
        return course

    def _meet(self, course: Course, name: str) -> None:
        endings: dict[str, Ending] = {"fin": "fin", "reset": "reset", "stall": "stall"}
        if name in endings:
            course.ends_after, course.ending = self.chance.randrange(1, 200_000), endings[name]
        elif name == "refuse":
            course.refused = True
        elif name == "hang":
            course.connect_seconds = 3600.0
        elif name == "slow":
            course.delay = self.chance.choice([0.05, 0.5])
        elif name == "tiny":
            course.slice_bytes = self.chance.choice([50, 1500, 9000])

    def begin(self) -> None:
        """Let it break loose."""
        if any(trouble.name == "outage" for trouble in self.troubles):
            for _ in range(self.chance.randrange(1, 4)):
                at = self.loop.now + self.chance.expovariate(1 / 60)
                self.outages.append((at, at + self.chance.uniform(1.0, 120.0)))
                self.loop.call_at(at, self.wire.break_down)
        rarely = Rarely("*/trace", self.gitlab.requests)
        for number, trouble in enumerate(self.troubles):
            if trouble not in WIRE_TROUBLES:
                self.gitlab.faults.add(
                    trouble.name,
                    where=None if trouble.where is None else rarely,
                    origin=trouble.origin,
                    chance=trouble.chance,
                    seed=self.seed * 100 + number,
                    **trouble.options,
                )
        self.loop.call_at(1_000.0 + CALM_SECONDS, self.gitlab.faults.clear)

    async def until_calm(self) -> None:
        """Sleep through the rest of it, and the minute in which a gate may still be closed."""
        await asyncio.sleep(max(0.0, 1_000.0 + CALM_SECONDS + 60.0 - self.loop.now))

    # -- clients -------------------------------------------------------------------------------------

    def new_client(self, **facts: Any) -> Client:
        """A client of this world."""
        options: dict[str, Any] = {"limits": Limits(jobs_index_per_minute=None), **facts}
        return Client(
            self.gitlab.url,
            private_token=self.gitlab.token,
            chance=random.Random(self.seed),
            clock=self.gitlab.clock,
            connector_factory=connector_factory(self.wire),
            **options,
        )

    @asynccontextmanager
    async def client(self, **facts: Any) -> AsyncIterator[Client]:
        """A client while it is open."""
        async with self.new_client(**facts) as client:
            yield client

    def check_connections(self) -> None:
        """A closed client has none."""
        left = [end for end in self.wire.open_ends if end.is_client and not end.is_closing()]
        assert not left, "a closed client has open connections"

    def check_time(self) -> None:
        """It took no longer than it may, and no more requests."""
        assert self.loop.now < 1_000.0 + CALM_SECONDS + AFTERWARDS, "hours later"
        assert len(self.gitlab.requests) < 5_000, "thousands of requests"

    def check_requests(self) -> None:
        """What must be true of every request that was ever sent."""
        secret = self.gitlab.token
        for request in self.gitlab.requests:
            if request.origin == "storage":
                assert secret not in str(list(request.headers.items())), "the token went to the object store"
                assert secret not in request.raw_path


@asynccontextmanager
async def storm(
    loop: SimLoop, seed: int, troubles: list[Trouble] | None = None, **facts: Any
) -> AsyncIterator[Storm]:
    """A world of one seed, still quiet: fill it, then call `begin`."""
    chance = random.Random(f"storm {seed}")
    wire = Wire(loop, chance)
    generation = GENERATIONS[seed % len(GENERATIONS)]
    gitlab = SimGitLab(jobs_index_limit=None, **{"generation": generation, **facts})
    gitlab.wire = wire
    world = Storm(loop, seed, troubles_of(seed) if troubles is None else troubles, gitlab, wire, chance)
    wire.weather = world
    async with gitlab:
        yield world
        world.check_connections()
        world.check_requests()
        world.check_time()
