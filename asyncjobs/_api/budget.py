"""The one budget of an origin and token: slots, gates, windows and retries, shared by whoever sends.

The rules are in `asyncjobs._retry`, the waiting in `asyncjobs._concurrency`; here they meet. All
clients of a process that pass the same `Limits` object (and token) share one.
"""

from __future__ import annotations

import asyncio
import math
import random
import weakref
from collections.abc import Hashable
from functools import partial

import attrs

from asyncjobs._clock import Clock
from asyncjobs._concurrency import CapacityLimiter, ImpatientError, Lane, Turnstile
from asyncjobs._models import ClassStatistics, LaneStatistics, Statistics
from asyncjobs._models.calls import EndpointClass
from asyncjobs._options import Limits
from asyncjobs._protocol.answers import RateFacts
from asyncjobs._retry.bucket import RetryBucket
from asyncjobs._retry.gate import Gate, Passage
from asyncjobs._retry.throttle import PollThrottle
from asyncjobs._retry.window import ServerWindow, Window

_JITTER_SECONDS = 1.0
_LONGEST_CLOSING_SECONDS = 3_600.0
"""GitLab's longest window is an hour; a gate shut for months by one bad header would need a restart."""

_LONGEST_RESET_SECONDS = 300.0
"""What is made of a window that ends later (`rate_facts`), and the wait that callers are ready for unless
they say otherwise: with jitter on top every one of them would be turned away."""


@attrs.define
class _Counts:
    requests: int = 0
    retries: int = 0
    received_bytes: int = 0
    waits: int = 0
    waited_seconds: float = 0.0


class Budget:
    """Permission to send. See the module's text for who shares one."""

    def __init__(self, limits: Limits, clock: Clock, chance: random.Random) -> None:
        self.limits = limits
        self._clock = clock
        self._chance = chance
        self.slots = {
            Lane.CONTROL: CapacityLimiter(limits.in_flight),
            Lane.TAIL: CapacityLimiter(limits.tails),
            Lane.BULK: CapacityLimiter(limits.downloads),
        }
        self.api_retries = RetryBucket()
        self.storage_retries = RetryBucket()
        self._polls = PollThrottle()
        self._gates = {each: Gate() for each in EndpointClass}
        self._turnstiles = {
            each: Turnstile(partial(self._ask, each), self._gates[each].give_back, clock)
            for each in EndpointClass
        }
        self._minute = Window(limits.requests_per_minute)
        self._index = Window(limits.jobs_index_per_minute)
        self._server = ServerWindow()
        self._counts = {each: _Counts() for each in EndpointClass}
        self._epoch_offset = clock.time() - clock.monotonic()
        """Makes the server's wall clock out of our monotonic one: its minutes are the ones that count,
        and a step of this machine's wall clock must neither open nor hold a window."""

    def _closed_windows(self, endpoint: EndpointClass, now: float) -> float:
        """Seconds until the windows allow one more, 0.0 for now."""
        epoch = now + self._epoch_offset
        wait = max(self._minute.ask(epoch), self._server.ask(now))
        return max(wait, self._index.ask(epoch)) if endpoint is EndpointClass.JOBS_INDEX else wait

    def _ask(self, endpoint: EndpointClass) -> Passage | float:
        now = self._clock.monotonic()
        wait = self._closed_windows(endpoint, now)
        if wait > 0.0:
            return wait + self._chance.random() * _JITTER_SECONDS
        return self._gates[endpoint].ask(now)

    def _count(self, endpoint: EndpointClass) -> None:
        now = self._clock.monotonic()
        epoch = now + self._epoch_offset
        self._minute.count(epoch)
        self._server.count(now)
        if endpoint is EndpointClass.JOBS_INDEX:
            self._index.count(epoch)

    async def enter(self, endpoint: EndpointClass, lane: Lane, patience: float | None) -> Passage:
        """Wait for permission and a slot; what it gives is ended with `leave`.

        Raises:
            ImpatientError: The gate is closed for longer than *patience* seconds.

        Cancellation: nothing is kept.
        """
        gate, turnstile, counts = self._gates[endpoint], self._turnstiles[endpoint], self._counts[endpoint]
        slots = self.slots[lane]
        patience = math.inf if patience is None else patience
        while True:
            began = self._clock.monotonic()
            closed_for = gate.closed_for(began)
            if closed_for > patience:
                raise ImpatientError(closed_for)
            granted = await turnstile.enter(patience)
            waited = self._clock.monotonic() - began
            if waited > 0.0:
                counts.waits += 1
                counts.waited_seconds += waited
            passage: Passage | None = granted
            if gate.is_probe(granted) and slots.is_full:
                # The others wait for its answer, and may have a slot in their lane: let one of them look.
                gate.give_back(granted)
                passage = None
                turnstile.changed()
            try:
                await slots.acquire()
            except asyncio.CancelledError:
                if passage is not None:
                    gate.give_back(passage)
                    turnstile.changed()
                raise
            if passage is None:
                passage = turnstile.at_once()
            if (
                passage is not None
                and not gate.is_stale(passage)
                and self._closed_windows(endpoint, self._clock.monotonic()) <= 0.0
            ):
                # Counted only now: a thousand downloads that wait for a slot must not use up the minute.
                self._count(endpoint)
                gate.sent()
                return passage
            # Closed, or used up by others, while this call waited for its slot: back to the queue.
            slots.release()
            if passage is not None:
                gate.give_back(passage)
                turnstile.changed()

    def answered(self, endpoint: EndpointClass, passage: Passage, *, failing: bool) -> None:
        """The headers of the answer are here, and they are no demand to wait; its body may take hours.

        Args:
            endpoint: What was asked.
            passage: What `enter` gave.
            failing: The server answered that it failed.
        """
        now = self._clock.monotonic()
        self._gates[endpoint].answered(now, passage)
        if endpoint is EndpointClass.TRACE and not failing:
            self._polls.accepted(now)
        self._turnstiles[endpoint].changed()

    def holds_back_poll(self) -> bool:
        """Whether the next poll of a log is not to be sent, because the server fails most of them."""
        return self._polls.hold_back(self._clock.monotonic(), self._chance.random())

    def leave(self, endpoint: EndpointClass, lane: Lane, passage: Passage) -> None:
        """The call is over, `answered` or not."""
        self._gates[endpoint].leave(self._clock.monotonic(), passage)
        self.slots[lane].release()
        self._turnstiles[endpoint].changed()

    def close(self, endpoint: EndpointClass, seconds: float) -> None:
        """The server asked for silence on this class: nobody sends for that long."""
        now = self._clock.monotonic()
        self._gates[endpoint].close(now, min(seconds, _LONGEST_CLOSING_SECONDS))
        self._turnstiles[endpoint].expire(self._gates[endpoint].closed_for(now))

    def set_server_time(self, server_time: float | None) -> None:
        """Learn the server's clock from an answer that just came: its minutes are the ones that count."""
        if server_time is not None:
            # Date has whole seconds: on average the true time is half a second later.
            self._epoch_offset = server_time + 0.5 - self._clock.monotonic()

    def server_time(self, moment: float) -> float:
        """The server's seconds since the epoch at a *moment* of the monotonic clock, to a second or so."""
        return moment + self._epoch_offset

    def heard(self, endpoint: EndpointClass, passage: Passage) -> None:
        """The API answered: what it says about limits from now on has this request in its count."""
        self._gates[endpoint].heard(passage)

    def observe(self, endpoint: EndpointClass, facts: RateFacts, *, good: bool) -> None:
        """Learn from the headers of an answer of the API."""
        now = self._clock.monotonic()
        under_way = sum(gate.unheard for gate in self._gates.values())
        self._server.observe(now, remaining=facts.remaining, reset_in=facts.reset_in, under_way=under_way)
        if good and facts.remaining == 0 and facts.reset_in is not None:
            wait = facts.reset_in + self._chance.random() * _JITTER_SECONDS
            self.close(endpoint, min(wait, max(facts.reset_in, _LONGEST_RESET_SECONDS)))

    def sent(self, endpoint: EndpointClass, *, retry: bool) -> None:
        """Count a request."""
        self._counts[endpoint].requests += 1
        self._counts[endpoint].retries += retry

    def received(self, endpoint: EndpointClass, size_bytes: int) -> None:
        """Count body bytes as they crossed the network."""
        self._counts[endpoint].received_bytes += size_bytes

    def statistics(self) -> Statistics:
        """A snapshot."""
        return Statistics(
            endpoints={
                str(each): ClassStatistics(
                    requests=counts.requests,
                    retries=counts.retries,
                    received_bytes=counts.received_bytes,
                    waits=counts.waits,
                    waited_seconds=counts.waited_seconds,
                    gate_closings=self._gates[each].closings,
                    gate_open=self._gates[each].is_open,
                )
                for each, counts in self._counts.items()
            },
            lanes={
                str(lane): LaneStatistics(limit=each.limit, in_flight=each.in_flight, waiting=each.waiting)
                for lane, each in self.slots.items()
            },
            retry_tokens=self.api_retries.tokens,
            rate_limit_remaining=self._server.remaining,
        )


_shared: weakref.WeakValueDictionary[Hashable, Budget] = weakref.WeakValueDictionary()


def shared_budget(
    limits: Limits, origin: Hashable, identity: Hashable, clock: Clock, chance: random.Random
) -> Budget:
    """The budget of this `Limits` object, origin and token in the running loop; made when there is none.

    It lives as long as a client holds it, and it holds its `Limits`, so the object's id stays its own.
    """
    key = (id(limits), origin, identity, id(asyncio.get_running_loop()))
    budget = _shared.get(key)
    if budget is None:
        budget = _shared[key] = Budget(limits, clock, chance)
    return budget
