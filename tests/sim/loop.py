"""An event loop with no outside: time is a number, threads are calls, and the same seed runs the same way.

Nothing here ever waits. When nothing is ready, time moves to the next timer; when there is no timer either,
whoever waits would wait for ever, and that is an error at once. Timers that fall due at the same moment run
in the order in which they were set, which asyncio's own heap does not promise.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import selectors
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar
from unittest import mock

T = TypeVar("T")

MOST_ROUNDS_AT_ONCE = 200_000
"""Rounds of the loop without time moving: more is two parties waking each other for ever."""
APART_SECONDS = 1e-8
"""Between two timers that were set for the same moment."""


class DeadlockError(AssertionError):
    """Nothing is scheduled any more, and somebody still waits."""


class LivelockError(AssertionError):
    """The loop goes round and round, and time stands still."""


class _Selector(selectors.DefaultSelector):
    """Has nothing to wait for but the next timer."""

    loop: SimLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.loop.move(timeout)
        return []


class SimTask(asyncio.Task[Any]):
    """A task whose place in a set is that of its number: groups cancel their tasks in the order of a set."""

    def __init__(self, number: int, coro: Coroutine[Any, Any, Any], **facts: Any) -> None:
        self._number = number
        super().__init__(coro, **facts)

    def __hash__(self) -> int:
        return self._number


class SimLoop(asyncio.SelectorEventLoop):
    """A loop on which a whole client and its server run, driven by one seed.

    Args:
        seed: Decides how long calls in threads take, and whatever else draws from `chance`.
    """

    def __init__(self, seed: int) -> None:
        selector = _Selector()
        selector.loop = self
        self.now = 1_000.0
        self.chance = random.Random(seed)
        self.troubles: list[str] = []
        """What was reported to the loop because nobody caught it."""
        self._rounds = 0
        self._set = 0
        self._numbers = itertools.count(1)
        super().__init__(selector)
        self.set_task_factory(
            lambda loop, coro, **facts: SimTask(next(self._numbers), coro, loop=loop, **facts)
        )
        self.set_exception_handler(self._report)

    def time(self) -> float:
        """Virtual seconds."""
        return self.now

    def move(self, timeout: float | None) -> None:
        """Nothing is ready: go to the next timer.

        Raises:
            DeadlockError: There is none.
            LivelockError: Something has been ready far too long.
        """
        if timeout is None:
            raise DeadlockError(f"nothing is scheduled at {self.now:.3f}, and somebody still waits")
        if timeout > 0:
            self.now += timeout
            self._rounds = 0
            return
        self._rounds += 1
        if self._rounds > MOST_ROUNDS_AT_ONCE:
            raise LivelockError(f"time stands still at {self.now:.3f}")

    def call_at(  # type: ignore[override]  # as below
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Set a timer; none falls due at the very moment of another."""
        self._set += 1
        return super().call_at(when + self._set * APART_SECONDS, callback, *args, context=context)

    def run_in_executor(  # type: ignore[override]  # typeshed's TypeVarTuple form says the same
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Do the work now, and say so a little later."""
        future: asyncio.Future[Any] = self.create_future()
        try:
            result, error = func(*args), None
        except Exception as failed:  # noqa: BLE001  # whatever it is, it is the caller's, as from a thread
            result, error = None, failed
        self.call_later(self.chance.uniform(0.0, 0.02), _settle, future, result, error)
        return future

    def _report(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        whose = context.get("task") or context.get("future") or ""
        self.troubles.append(f"{context.get('message')}: {context.get('exception')!r} {whose}")


def _settle(future: asyncio.Future[Any], result: object, error: Exception | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


def run(seed: int, life: Callable[[SimLoop], Coroutine[Any, Any, T]]) -> T:
    """Run a life on a loop of its own; afterwards no task may be left, and no error unseen.

    Raises:
        AssertionError: Something was left or was never looked at.
    """
    loop = SimLoop(seed)
    asyncio.set_event_loop(loop)
    try:
        # aiohttp reads the machine's clock to tell how long a connection has been idle.
        with mock.patch("aiohttp.connector.monotonic", loop.time):
            result = loop.run_until_complete(life(loop))
            left = [task for task in asyncio.all_tasks(loop) if not task.done()]
            assert not left, f"tasks are left: {left}"
        assert not loop.troubles, loop.troubles
        return result
    finally:
        asyncio.set_event_loop(None)
        _clear(loop)
        loop.close()


def _clear(loop: SimLoop) -> None:
    """End what a failed life left, so that it does not end in the middle of the next one."""
    for _ in range(20):
        left = asyncio.all_tasks(loop)
        if not left:
            return
        for task in left:
            task.cancel()
        loop.call_later(600.0, loop.stop)
        loop.run_forever()
