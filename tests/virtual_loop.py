"""An event loop on virtual time: real sockets, real files, no real sleeping.

Time stands still while anything is happening and jumps to the next timer as soon as every socket
is silent and every executor job is done. Client and server share the loop, so an hour of polling
takes as long as its requests do. What needs the wall clock (another process, a thread that is
itself a client) runs on an ordinary loop under the marker `real_time`.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from typing import Any

# Loopback delivers within the sending system call, but not always under load; one tick of epoll
# (1 ms) of silence is asked for before time may jump.
_GRACE_SECONDS = 0.001
_EXECUTOR_PATIENCE_SECONDS = 2.0
_DEADLOCK_SECONDS = 20.0


class DeadlockError(RuntimeError):
    """Nothing is scheduled, no socket speaks and no job runs: the test would hang for ever."""


class _JumpingSelector(selectors.DefaultSelector):
    """Never waits for a timer: asks for silence, then moves the loop's time."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if self.loop.running_jobs:
            ready = super().select(_EXECUTOR_PATIENCE_SECONDS)
            if ready:
                return ready
        if timeout is None:
            ready = super().select(_DEADLOCK_SECONDS)
            if not ready:
                raise DeadlockError("nothing is scheduled and nothing arrives")
            return ready
        ready = super().select(_GRACE_SECONDS)
        if not ready:
            self.loop.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """A selector event loop whose clock is moved by `_JumpingSelector`."""

    def __init__(self) -> None:
        selector = _JumpingSelector()
        selector.loop = self
        self.now = 1_000.0
        self.running_jobs = 0
        super().__init__(selector)

    def time(self) -> float:
        """Virtual seconds."""
        return self.now

    def run_in_executor(  # type: ignore[override]  # typeshed's TypeVarTuple form says the same
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Run in a real thread, and hold time still until it is done."""
        future = super().run_in_executor(executor, func, *args)
        self.running_jobs += 1
        future.add_done_callback(self._job_done)
        return future

    def _job_done(self, _: asyncio.Future[Any]) -> None:
        self.running_jobs -= 1
