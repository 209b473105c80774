"""The world's heartbeat: its lock, its moment, and the deeds that fall due.

Deeds are worked off lazily, in order of time, whenever somebody looks at the world. So the fake
needs no background task, behaves alike on every clock, and stands still between two looks.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from asyncjobs.testing._time import FakeClock


class Agenda:
    """Dated deeds on one clock, guarded by one re-entrant lock."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.lock = threading.RLock()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._moment: float | None = None
        self.memo: dict[int, str] = {}
        """Pipeline id to status until something changes: a page of 100 jobs asks for one status 100 times."""

    @property
    def now(self) -> float:
        """Seconds since the epoch; inside a deed, the time it was due."""
        return self.clock.time() if self._moment is None else self._moment

    def at(self, moment: float, deed: Callable[[], None]) -> None:
        """Do *deed* at *moment* (seconds since the epoch), or at the next look when that has passed."""
        with self.lock:
            heapq.heappush(self._due, (moment, next(self._order), deed))

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Hold the lock and the moment: everything due is done first, nothing more falls due inside."""
        with self.lock:
            self.settle()
            if self._moment is not None:
                yield
                return
            self._moment = self.clock.time()
            try:
                yield
            finally:
                self._moment = None

    def changed(self) -> None:
        """Something changed: what was remembered may be wrong."""
        with self.lock:
            self.memo.clear()

    def settle(self) -> None:
        """Do everything that is due by now, each deed at its own moment."""
        with self.lock:
            if self._moment is not None:
                return
            now = self.clock.time()
            try:
                while self._due and self._due[0][0] <= now:
                    moment, _, deed = heapq.heappop(self._due)
                    self._moment = moment
                    deed()
            finally:
                self._moment = None
