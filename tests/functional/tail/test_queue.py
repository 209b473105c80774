"""The queue between tails and their consumer: bounded, fair, and nothing lost when somebody gives up."""

from __future__ import annotations

import asyncio

import pytest

from asyncjobs._clock import SystemClock
from asyncjobs._tail.queue import EventQueue
from asyncjobs._tail.watch import Waker, sleep_unless


async def turns(count: int = 5) -> None:
    """Let everybody else run."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_full_queue_holds_the_putter() -> None:
    """A batch waits until earlier ones were taken; a heavy one is let in alone."""
    queue: EventQueue[int] = EventQueue(10)
    await queue.put([1], 100)
    second = asyncio.create_task(queue.put([2], 1))
    await turns()
    assert not second.done()
    assert await queue.get() == 1
    await second
    assert await queue.get() == 2


async def test_putters_take_turns() -> None:
    """Who waits longest comes first, also before one who arrives when there is room."""
    queue: EventQueue[int] = EventQueue(1)
    tasks = []
    for n in range(5):
        tasks.append(asyncio.create_task(queue.put([n], 1)))
        await turns()
    assert [await queue.get() for _ in range(5)] == list(range(5))
    await asyncio.gather(*tasks)


async def test_cancelled_putter_passes_its_turn_on() -> None:
    """A putter that gives up, even when its turn has come, blocks nobody and adds nothing."""
    queue: EventQueue[int] = EventQueue(1)
    await queue.put([0], 1)
    first = asyncio.create_task(queue.put([1], 1))
    await turns()
    second = asyncio.create_task(queue.put([2], 1))
    await turns()
    taken = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    first.cancel()
    await turns()
    assert await taken == 0
    await second
    assert await queue.get() == 2
    assert first.cancelled()


async def test_cancelled_getter_loses_nothing() -> None:
    """The event that comes while a consumer is cancelled is there for the next call."""
    queue: EventQueue[int] = EventQueue(1)
    getter = asyncio.create_task(queue.get())
    await turns()
    await queue.put([1, 2], 1)
    getter.cancel()
    await turns()
    assert [await queue.get(), await queue.get()] == [1, 2]


async def test_closing_gives_what_is_left_first() -> None:
    """Events that arrived before the end are delivered before the error of the end."""
    queue: EventQueue[int] = EventQueue(1)
    await queue.put([1], 1)
    queue.close(ValueError("the end"))
    assert await queue.get() == 1
    with pytest.raises(ValueError, match="the end"):
        await queue.get()
    other: EventQueue[int] = EventQueue(1)
    waiting = asyncio.create_task(anext(_iterate(other), None))
    await turns()
    other.close()
    assert await waiting is None


async def _iterate(queue: EventQueue[int]):  # type: ignore[no-untyped-def] # an async generator of ints
    while True:
        try:
            yield await queue.get()
        except StopAsyncIteration:
            return


async def test_sleep_is_cut_short() -> None:
    """Ringing ends a sleep; without it the whole time passes; nothing is left running."""
    loop, clock = asyncio.get_running_loop(), SystemClock()
    waker = Waker(clock)
    began = loop.time()
    loop.call_later(5, waker.ring)
    await waker.sleep(100)
    assert loop.time() - began == pytest.approx(5)
    await waker.sleep(100)
    assert loop.time() - began == pytest.approx(105)
    done = loop.create_future()
    done.set_result(None)
    await sleep_unless(clock, 100, done)
    assert loop.time() - began == pytest.approx(105)
    await turns()
    assert len(asyncio.all_tasks()) == 1
