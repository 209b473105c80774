"""Concurrency on virtual time: fair slots, none lost; passages given back; streams that are bounded."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator, Iterator

import pytest

from asyncjobs import ClosedError
from asyncjobs._clock import SystemClock
from asyncjobs._concurrency import (
    CapacityLimiter,
    ClosingClock,
    Emit,
    Fan,
    ImpatientError,
    Lifetime,
    Turnstile,
)


async def settle() -> None:
    """Let everything that can run, run."""
    for _ in range(10):
        await asyncio.sleep(0)


# -- slots ----------------------------------------------------------------------------------------


async def test_slots_are_bounded_and_fair() -> None:
    """At most so many are inside, and they come in the order in which they asked."""
    limiter = CapacityLimiter(3)
    order: list[int] = []
    most = 0

    async def work(number: int) -> None:
        nonlocal most
        async with limiter:
            order.append(number)
            most = max(most, limiter.in_flight)
            await asyncio.sleep(1)

    await asyncio.gather(*(work(number) for number in range(20)))
    assert order == list(range(20))
    assert most == 3
    assert (limiter.in_flight, limiter.waiting) == (0, 0)


async def test_nobody_overtakes() -> None:
    """Who comes when a slot is just being handed over queues behind those who wait."""
    limiter = CapacityLimiter(1)
    await limiter.acquire()
    order: list[str] = []

    async def work(name: str) -> None:
        async with limiter:
            order.append(name)

    waiting = asyncio.ensure_future(work("first"))
    await settle()
    limiter.release()
    late = asyncio.ensure_future(work("late"))
    await asyncio.gather(waiting, late)
    assert order == ["first", "late"]


async def test_no_limit() -> None:
    """None lets everybody in and still counts."""
    limiter = CapacityLimiter(None)
    await asyncio.gather(*(limiter.acquire() for _ in range(1000)))
    assert limiter.in_flight == 1000


@pytest.mark.parametrize("when", ["waiting", "granted", "inside"])
async def test_cancel_at_each_stage(when: str) -> None:
    """Cancelled while it waits, in the turn in which it is granted, or inside: the slot goes to the next."""
    limiter = CapacityLimiter(1)
    await limiter.acquire()

    async def work() -> None:
        async with limiter:
            await asyncio.sleep(100)

    victim, heir = (asyncio.ensure_future(work()) for _ in range(2))
    await settle()
    if when == "waiting":
        victim.cancel()
        await settle()
        limiter.release()
    else:
        limiter.release()
        if when == "inside":
            await settle()
        victim.cancel()
    await settle()
    assert victim.cancelled()
    assert (limiter.in_flight, limiter.waiting) == (1, 0)
    heir.cancel()
    await settle()
    assert (limiter.in_flight, limiter.waiting) == (0, 0)


@pytest.mark.parametrize("seed", range(30))
async def test_no_slot_is_lost(seed: int) -> None:
    """In any schedule of entering, working, failing and cancelling, all slots are back at the end."""
    chance = random.Random(seed)
    limiter = CapacityLimiter(chance.randint(1, 4))
    assert limiter.limit is not None

    async def work() -> None:
        async with limiter:
            assert limiter.limit is not None
            assert limiter.in_flight <= limiter.limit
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(chance.choice([0, 0, 0.1, 1]))
            if chance.random() < 0.2:
                raise ValueError

    tasks: list[asyncio.Task[None]] = []
    for _ in range(60):
        tasks.append(asyncio.create_task(work()))
        if chance.random() < 0.5:
            await asyncio.sleep(chance.choice([0, 0, 0.1]))
        if chance.random() < 0.4:
            chance.choice(tasks).cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(r is None or isinstance(r, ValueError | asyncio.CancelledError) for r in results)
    assert (limiter.in_flight, limiter.waiting) == (0, 0)
    async with asyncio.timeout(1):
        await asyncio.gather(*(limiter.acquire() for _ in range(limiter.limit)))


# -- the turnstile --------------------------------------------------------------------------------


class Ticket:
    """A passage."""


class Rule:
    """Passages that open at a time, and a count of those that are out."""

    def __init__(self) -> None:
        self.opens_at = 0.0
        self.out: list[Ticket] = []
        self.asked = 0
        self.one_at_a_time = False
        self.turnstile = Turnstile(self.ask, self.refund, SystemClock())

    def ask(self) -> Ticket | float:
        """Grant or say when."""
        self.asked += 1
        wait = self.opens_at - asyncio.get_running_loop().time()
        if wait > 0.0:
            return wait
        if self.one_at_a_time and self.out:
            return math.inf
        self.out.append(Ticket())
        return self.out[-1]

    def refund(self, ticket: Ticket) -> None:
        """Take one back; a ticket that is not out is an error."""
        self.out.remove(ticket)


def now() -> float:
    """The loop's time."""
    return asyncio.get_running_loop().time()


async def test_a_free_turnstile_costs_nothing() -> None:
    """With a rule that grants, nobody waits and no task is made."""
    rule = Rule()
    assert [await rule.turnstile.enter() for _ in range(5)] == rule.out
    assert rule.asked == 5
    assert len(asyncio.all_tasks()) == 1


async def test_waiting_for_a_time() -> None:
    """All who wait pass at the named time, in order."""
    rule = Rule()
    began = now()
    rule.opens_at = began + 30
    order: list[int] = []

    async def enter(number: int) -> float:
        await rule.turnstile.enter()
        order.append(number)
        return now() - began

    waits = await asyncio.gather(*(enter(number) for number in range(5)))
    assert waits == [pytest.approx(30)] * 5
    assert order == list(range(5))
    assert rule.asked < 20
    assert len(asyncio.all_tasks()) == 1


async def test_waiting_for_a_change() -> None:
    """A rule that cannot name a time is asked again when something changed, and not before."""
    rule = Rule()
    rule.one_at_a_time = True
    first = await rule.turnstile.enter()
    second = asyncio.ensure_future(rule.turnstile.enter())
    await asyncio.sleep(1000)
    assert not second.done()
    rule.refund(first)
    rule.turnstile.changed()
    assert await second is rule.out[0]


async def test_an_earlier_time_is_noticed() -> None:
    """When the rule changes to an earlier time while somebody waits, the earlier one counts."""
    rule = Rule()
    began = now()
    rule.opens_at = began + 100
    waiter = asyncio.ensure_future(rule.turnstile.enter())
    await asyncio.sleep(1)
    rule.opens_at = now() + 4
    rule.turnstile.changed()
    await waiter
    assert now() - began == pytest.approx(5)


async def test_impatience() -> None:
    """Who would not wait so long is turned away at once; the patient stay."""
    rule = Rule()
    began = now()
    rule.opens_at = began + 100
    hasty, patient = (asyncio.ensure_future(rule.turnstile.enter(patience)) for patience in (10.0, 1000.0))
    await settle()
    rule.turnstile.expire(100.0)
    with pytest.raises(ImpatientError) as caught:
        await hasty
    assert caught.value.wait == 100.0
    assert [await patient] == rule.out
    assert now() - began == pytest.approx(100)


@pytest.mark.parametrize("when", ["waiting", "granted", "turned away"])
async def test_cancel_at_each_stage_of_the_turnstile(when: str) -> None:
    """A cancelled waiter leaves the queue, gives back what it had just got, and nothing it never had."""
    rule = Rule()
    rule.opens_at = now() + 10
    victim = asyncio.ensure_future(rule.turnstile.enter(5.0))
    heir = asyncio.ensure_future(rule.turnstile.enter())
    await settle()
    if when == "granted":
        rule.opens_at = now()
        rule.turnstile.changed()
    elif when == "turned away":
        rule.turnstile.expire(10.0)
    victim.cancel()
    await heir
    assert victim.cancelled()
    assert (rule.out, rule.turnstile.waiting) == ([heir.result()], 0)
    await settle()
    assert len(asyncio.all_tasks()) == 1


async def test_a_refunded_passage_goes_to_the_next() -> None:
    """Whoever is cancelled in the turn in which it was let through leaves its passage to the one behind."""
    rule = Rule()
    rule.one_at_a_time = True
    first = await rule.turnstile.enter()
    victim, heir = (asyncio.ensure_future(rule.turnstile.enter()) for _ in range(2))
    await settle()
    rule.refund(first)
    rule.turnstile.changed()
    victim.cancel()
    await settle()
    assert victim.cancelled()
    assert rule.out == [heir.result()]


async def test_no_timer_outlives_its_waiters() -> None:
    """When the last one who waits is cancelled, nothing is left that would wake later."""
    rule = Rule()
    rule.opens_at = now() + 1000
    waiter = asyncio.ensure_future(rule.turnstile.enter())
    await settle()
    assert len(asyncio.all_tasks()) == 3
    waiter.cancel()
    await settle()
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize("seed", range(20))
async def test_any_schedule_at_the_turnstile(seed: int) -> None:
    """In any mix of waiting, cancelling and expiring, passages out are exactly those that were entered."""
    chance = random.Random(seed)
    rule = Rule()
    inside: list[Ticket] = []

    async def pass_through() -> None:
        inside.append(await rule.turnstile.enter(chance.choice([1.0, 10.0, math.inf])))

    tasks: list[asyncio.Task[None]] = []
    for _ in range(50):
        tasks.append(asyncio.create_task(pass_through()))
        await asyncio.sleep(chance.choice([0, 0, 0.1, 1]))
        event = chance.random()
        if event < 0.2:
            rule.opens_at = now() + chance.choice([0.0, 2.0, 5.0])
            rule.turnstile.expire(max(0.0, rule.opens_at - now()))
        elif event < 0.4:
            chance.choice(tasks).cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert len(rule.out) == len(inside)
    assert set(rule.out) == set(inside)
    assert rule.turnstile.waiting == 0
    await settle()
    assert len(asyncio.all_tasks()) == 1


# -- lifetimes ------------------------------------------------------------------------------------


async def test_the_end_of_a_lifetime_ends_its_waits_alone() -> None:
    """Every wait of one lifetime ends at once, those of another go on, and no task is cancelled."""
    one, other = Lifetime(), Lifetime()

    async def wait(lifetime: Lifetime) -> str:
        async with lifetime.wait():
            await asyncio.sleep(10)
        return "done"

    tasks = [asyncio.create_task(wait(lifetime)) for lifetime in (one, other, one)]
    await settle()
    began = now()
    one.end()
    one.end()
    ended = await asyncio.gather(tasks[0], tasks[2], return_exceptions=True)
    assert [type(each) for each in ended] == [ClosedError] * 2
    assert now() == began
    assert await tasks[1] == "done"
    assert not any(task.cancelled() for task in tasks)
    with pytest.raises(ClosedError):
        await wait(one)
    assert (one.waits, other.waits) == ({}, {})


async def test_a_wait_that_is_over_in_the_turn_of_the_end() -> None:
    """What was got in the turn in which the lifetime ends is kept or given back, and never lost."""
    lifetime, limiter = Lifetime(), CapacityLimiter(1)
    await limiter.acquire()

    async def acquire() -> None:
        async with lifetime.wait():
            await limiter.acquire()

    for order in ("release first", "end first"):
        lifetime = Lifetime()
        task = asyncio.create_task(acquire())
        await settle()
        if order == "end first":
            lifetime.end()
        limiter.release()
        lifetime.end()
        results = await asyncio.gather(task, return_exceptions=True)
        assert limiter.in_flight == (1 if results[0] is None else 0)
        if limiter.in_flight == 0:
            await limiter.acquire()


@pytest.mark.parametrize("end_first", [False, True])
async def test_a_cancellation_is_never_swallowed(end_first: bool) -> None:
    """Ended and cancelled in one turn of the loop, a task is cancelled."""
    lifetime = Lifetime()

    async def wait() -> None:
        async with lifetime.wait():
            await asyncio.sleep(10)

    task = asyncio.create_task(wait())
    await settle()
    for step in (lifetime.end, task.cancel)[:: 1 if end_first else -1]:
        step()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_timeouts_and_errors_inside_a_wait_are_themselves() -> None:
    """A lifetime that did not end changes nothing about what is raised in it."""
    lifetime = Lifetime()
    for error in (TimeoutError, ValueError, asyncio.CancelledError):
        with pytest.raises(error):
            async with lifetime.wait():
                raise error
    with pytest.raises(TimeoutError):
        async with lifetime.wait(), asyncio.timeout(1):
            await asyncio.sleep(10)
    assert lifetime.waits == {}


async def test_a_sleep_is_cut_short() -> None:
    """On the clock of a lifetime a sleep returns early at the end, and later ones at once; others run on."""
    lifetime = Lifetime()
    clock = ClosingClock(SystemClock(), lifetime)
    sleeper = asyncio.create_task(clock.sleep(100))
    other = asyncio.create_task(asyncio.sleep(3))
    await asyncio.sleep(1)
    began = now()
    lifetime.end()
    await sleeper
    await clock.sleep(100)
    assert now() == began == clock.monotonic()
    await other
    assert now() == began + 2


# -- the fan --------------------------------------------------------------------------------------


async def doubled(source: int, emit: Emit[int]) -> None:
    """Two results for each source, after a while."""
    await asyncio.sleep(source % 3)
    await emit(source)
    await emit(source)


async def test_everything_arrives() -> None:
    """Every result of every source comes once, from plain and from async iterables."""

    async def slowly() -> AsyncIterator[int]:
        for number in range(50):
            await asyncio.sleep(0.1)
            yield number

    for sources in (range(50), slowly()):
        async with Fan(sources, doubled, concurrency=7) as fan:
            got = [result async for result in fan]
        assert sorted(got) == sorted([*range(50)] * 2)


async def test_nothing_to_do() -> None:
    """No source is the end at once, and asking again is the end again."""
    nothing: list[int] = []
    async with Fan(nothing, doubled, concurrency=3) as fan:
        assert [result async for result in fan] == []
        with pytest.raises(StopAsyncIteration):
            await anext(fan)


async def test_back_pressure() -> None:
    """A consumer that stops, stops the work: what was pulled is at most twice the concurrency ahead."""
    pulled = emitted = 0

    def sources() -> Iterator[int]:
        nonlocal pulled
        for number in range(100_000):
            pulled += 1
            yield number

    async def work(source: int, emit: Emit[int]) -> None:
        nonlocal emitted
        await emit(source)
        emitted += 1

    async with Fan(sources(), work, concurrency=4) as fan:
        for taken in range(1, 50):
            await anext(fan)
            await asyncio.sleep(10)
            assert emitted - taken <= 4
            assert pulled - taken <= 8
    assert len(asyncio.all_tasks()) == 1


async def test_concurrency_is_bounded() -> None:
    """No more workers than said, and no fewer while there is work."""
    running = most = 0

    async def work(source: int, emit: Emit[int]) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(1)
        running -= 1
        await emit(source)

    began = now()
    async with Fan(range(20), work, concurrency=5) as fan:
        assert len([result async for result in fan]) == 20
    assert most == 5
    assert now() - began == pytest.approx(4)


async def test_an_error_of_the_work() -> None:
    """An exception that leaves the work ends the stream with that very error, after what had arrived."""

    async def work(source: int, emit: Emit[int]) -> None:
        await emit(source)
        if source == 3:
            await asyncio.sleep(1)
            raise KeyError(source)

    got: list[int] = []
    async with Fan(range(4), work, concurrency=1) as fan:
        with pytest.raises(KeyError):  # noqa: PT012 -- what arrived before it counts
            async for result in fan:
                got.append(result)  # noqa: PERF401 -- a comprehension would lose what arrived
        with pytest.raises(KeyError):
            await anext(fan)
    assert got == [0, 1, 2, 3]


async def test_an_error_of_the_sources() -> None:
    """A source that fails to come is an error of the stream, not a silent end."""

    def sources() -> Iterator[int]:
        yield 1
        raise LookupError("no more")

    got: list[int] = []
    async with Fan(sources(), doubled, concurrency=3) as fan:
        with pytest.raises(LookupError, match="no more"):  # noqa: PT012 -- as above
            async for result in fan:
                got.append(result)  # noqa: PERF401 -- as above
    assert set(got) <= {1}


async def test_leaving_early() -> None:
    """Leaving the context cancels and joins all work, whether results wait or not."""
    ended: list[int] = []

    async def work(source: int, emit: Emit[int]) -> None:
        try:
            await emit(source)
            await asyncio.sleep(1000)
        finally:
            ended.append(source)

    async with Fan(range(10), work, concurrency=3) as fan:
        await anext(fan)
    assert sorted(ended) == [0, 1, 2]
    assert len(asyncio.all_tasks()) == 1


async def test_stop() -> None:
    """After `stop` nothing new begins, and what was emitted can still be read to its end."""
    begun: list[int] = []

    async def work(source: int, emit: Emit[int]) -> None:
        begun.append(source)
        await emit(source)
        await asyncio.sleep(1)

    async with Fan(range(100), work, concurrency=3) as fan:
        first = await anext(fan)
        await settle()
        fan.stop()
        rest = [result async for result in fan]
    assert sorted([first, *rest]) == [0, 1, 2] == sorted(begun)


async def test_stop_from_within() -> None:
    """A worker may stop the stream itself."""
    fan: Fan[int, int]

    async def work(source: int, emit: Emit[int]) -> None:
        await emit(source)
        if source == 1:
            fan.stop()
        await asyncio.sleep(1)

    fan = Fan(range(100), work, concurrency=1)
    async with fan:
        assert [result async for result in fan] == [0, 1]


@pytest.mark.parametrize("seed", range(20))
async def test_no_result_is_lost_by_a_cancelled_wait(seed: int) -> None:
    """A consumer that gives up waiting, at any moment, and asks again gets every result once."""
    chance = random.Random(seed)

    async def work(source: int, emit: Emit[int]) -> None:
        await asyncio.sleep(chance.random())
        await emit(source)

    got: list[int] = []
    async with Fan(range(60), work, concurrency=3) as fan:
        while True:
            waiting = asyncio.ensure_future(anext(fan))
            for _ in range(chance.randrange(5)):
                await asyncio.sleep(chance.choice([0, 0, 0.2]))
            if chance.random() < 0.5:
                waiting.cancel()
            try:
                got.append(await waiting)
            except asyncio.CancelledError:
                continue
            except StopAsyncIteration:
                break
    assert sorted(got) == list(range(60))


async def test_cancelling_the_consumer() -> None:
    """A consumer cancelled inside the context takes all workers with it."""

    async def consume() -> None:
        async with Fan(range(10), doubled, concurrency=3) as fan:
            await anext(fan)
            await asyncio.sleep(1000)

    task = asyncio.ensure_future(consume())
    await asyncio.sleep(5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(asyncio.all_tasks()) == 1
