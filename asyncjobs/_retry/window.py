"""Counting requests against a limit per minute, for limits that no header speaks of.

Servers count whole minutes of the epoch, so a burst may use a window at full speed and then waits
for the next. Their clock is known to a second at best, so two windows are kept, one of which opens
two seconds late: whatever the true boundary between them, no minute gets more than the limit.
GitLab: lib/gitlab/application_rate_limiter.rb
"""

from __future__ import annotations

from typing import Final

PERIOD_SECONDS: Final = 60.0
_LATE_SECONDS: Final = 2.0


class Window:
    """At most *limit* per epoch-aligned minute; None counts nothing."""

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self._counts: dict[float, tuple[int, int]] = {0.0: (0, 0), _LATE_SECONDS: (0, 0)}

    def ask(self, epoch: float) -> float:
        """Seconds until one more is allowed, 0.0 for now; counts nothing."""
        if self.limit is None:
            return 0.0
        wait = 0.0
        for late, (index, count) in self._counts.items():
            current = int((epoch - late) // PERIOD_SECONDS)
            if current == index and count >= self.limit:
                wait = max(wait, (current + 1) * PERIOD_SECONDS + late - epoch)
        return wait

    def count(self, epoch: float) -> None:
        """One more was sent."""
        for late, (index, count) in self._counts.items():
            current = int((epoch - late) // PERIOD_SECONDS)
            self._counts[late] = (current, count + 1 if current == index else 1)


class ServerWindow:
    """What the server's RateLimit headers say is left until the window ends.

    Several web nodes answer, so the numbers are not monotonic: the newest word counts, less what
    is under way since.
    """

    def __init__(self) -> None:
        self.remaining: int | None = None
        self._reset_at = 0.0

    def ask(self, now: float) -> float:
        """Seconds until one more is allowed, 0.0 for now."""
        if self.remaining is None or self.remaining > 0 or now >= self._reset_at:
            return 0.0
        return self._reset_at - now

    def count(self, now: float) -> None:
        """One more was sent."""
        if self.remaining is not None and now < self._reset_at:
            self.remaining = max(0, self.remaining - 1)

    def observe(self, now: float, *, remaining: int | None, reset_in: float | None, under_way: int) -> None:
        """Take the word of an answer; *under_way* requests may not be in its count yet."""
        if remaining is None or reset_in is None:
            return
        self.remaining = max(0, remaining - under_way)
        self._reset_at = now + reset_in
