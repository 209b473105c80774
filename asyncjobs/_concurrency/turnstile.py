"""Waiting for permission: first come first served, asked of a rule that grants or names a time.

The rule (a gate, a window) is passed in as a function, so this file knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from asyncjobs._clock import Clock

P = TypeVar("P")

_SHORTEST_WAIT_SECONDS: Final = 0.001


class ImpatientError(Exception):
    """The wait would be longer than the caller is ready to wait."""

    def __init__(self, wait: float) -> None:
        super().__init__(f"a wait of {wait:.0f} s")
        self.wait = wait


class Turnstile(Generic[P]):
    """Lets callers through one by one, as a rule allows.

    Args:
        ask: Grants a passage, which is anything but a number, or says after how many seconds it is
            worth asking again (`inf`: not before `changed` is called).
        refund: Takes back a passage that was granted and not used.
        clock: Where waiting happens.
    """

    def __init__(self, ask: Callable[[], P | float], refund: Callable[[P], None], clock: Clock) -> None:
        self._ask = ask
        self._refund = refund
        self._clock = clock
        self._waiters: dict[asyncio.Future[P], float] = {}
        self._timer: asyncio.Task[None] | None = None
        self._due = math.inf

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiters)

    async def enter(self, patience: float = math.inf) -> P:
        """Wait for a passage: the very one that the rule granted, whatever happened since.

        Args:
            patience: Seconds; `expire` with a longer wait turns this caller away.

        Raises:
            ImpatientError: Turned away by `expire`.

        Cancellation: the place in the queue, or the passage just granted, is given back.
        """
        if not self._waiters:
            passage = self._ask()
            if not isinstance(passage, int | float):
                return passage
        waiter: asyncio.Future[P] = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = patience
        if len(self._waiters) == 1:
            self.changed()
        try:
            return await waiter
        except asyncio.CancelledError:
            # Turned away and cancelled in the same turn of the loop: there is no passage to give back.
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._refund(waiter.result())
            self._waiters.pop(waiter, None)
            self.changed()
            raise

    def at_once(self) -> P | None:
        """A passage for one who has waited elsewhere meanwhile, or None when the rule grants none now."""
        passage = self._ask()
        return None if isinstance(passage, int | float) else passage

    def changed(self) -> None:
        """Ask the rule again for whoever waits: a passage ended, or the rule changed."""
        while self._waiters:
            waiter = next(iter(self._waiters))
            if waiter.done():
                del self._waiters[waiter]
                continue
            passage = self._ask()
            if isinstance(passage, int | float):
                self._arm(passage)
                return
            del self._waiters[waiter]
            waiter.set_result(passage)
        self._disarm()

    def expire(self, wait: float) -> None:
        """Nobody will pass for *wait* seconds: turn away whoever would not wait so long."""
        for waiter in [each for each, patience in self._waiters.items() if patience < wait]:
            del self._waiters[waiter]
            if not waiter.done():
                waiter.set_exception(ImpatientError(wait))
        self.changed()

    def _arm(self, wait: float) -> None:
        # Less than a timer can resolve would be asked for again and again, at one and the same moment.
        wait = max(wait, _SHORTEST_WAIT_SECONDS)
        due = self._clock.monotonic() + wait
        if self._timer is not None and self._due <= due:
            return
        self._disarm()
        if math.isfinite(wait):
            self._due = due
            # Held in an attribute and ended with the last waiter, so it never outlives whoever waits.
            self._timer = asyncio.create_task(self._wake(wait))

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._due = None, math.inf

    async def _wake(self, wait: float) -> None:
        await self._clock.sleep(wait)
        self._timer, self._due = None, math.inf
        self.changed()
