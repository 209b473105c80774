"""Holding back polls from a server that is failing: client-side throttling by what it lately accepted.

A thousand tails ask again whatever happens; when fewer than half of what was wanted in two minutes was
answered, the rest is thinned out here before it costs the server anything. A few tails are no load, and
single calls never are: those go out always.
Google, Site Reliability Engineering, chapter 21: https://sre.google/sre-book/handling-overload/
"""

from __future__ import annotations

from collections import deque
from typing import Final

import attrs

WINDOW_SECONDS: Final = 120.0
_STEP_SECONDS: Final = 10.0
_K: Final = 2.0
_LEAST_WANTED: Final = 100
"""Polls in the window below which nothing is held back: what one tail, or a handful, asks for."""
_MOST_HELD_BACK: Final = 0.9
"""The book has no such bound. With it the tenth poll still goes out, so that a thousand tails notice a server
that is back within a few of their own intervals, and not only after the window has emptied."""


@attrs.define
class _Step:
    ends: float
    wanted: int = 0
    accepted: int = 0


class PollThrottle:
    """What polls of one origin wanted and got lately; at most a dozen pairs of numbers."""

    def __init__(self) -> None:
        self._steps: deque[_Step] = deque()

    def hold_back(self, now: float, chance: float) -> bool:
        """Whether the next poll is not to be sent.

        Args:
            now: Monotonic seconds.
            chance: A random number from 0 to 1.
        """
        step = self._step(now)
        wanted = sum(each.wanted for each in self._steps)
        accepted = sum(each.accepted for each in self._steps)
        step.wanted += 1
        return wanted >= _LEAST_WANTED and chance < min(
            _MOST_HELD_BACK, (wanted - _K * accepted) / (wanted + 1)
        )

    def accepted(self, now: float) -> None:
        """The server answered a poll, with anything but a failure of its own or a demand to wait."""
        self._step(now).accepted += 1

    def _step(self, now: float) -> _Step:
        while self._steps and self._steps[0].ends <= now - WINDOW_SECONDS:
            self._steps.popleft()
        if not self._steps or self._steps[-1].ends <= now:
            self._steps.append(_Step(now + _STEP_SECONDS))
        return self._steps[-1]
