"""When to ask again: just after the runner's next push is due, rarely when nothing comes.

A runner sends what it has at a fixed rhythm: every 3 s while somebody watches the job's page, every
60 s (30 s on older servers) otherwise. Reading more often than that brings nothing. A `Pace` learns
one job's rhythm from which polls brought something, and narrows down the moment of the push by asking
halfway. Times and chance are passed in.

GitLab: lib/gitlab/ci/trace.rb (`UPDATE_FREQUENCY_*`), gitlab-runner network/trace.go.
"""

from __future__ import annotations

import random
from typing import Final

RHYTHMS: Final = (3.0, 30.0, 60.0)
"""Seconds between pushes that servers ask of runners; anything else is learned as measured."""

UNKNOWN_CAP: Final = 15.0
"""Longest wait, in seconds, while nothing is known of a job's rhythm."""

DRIFT: Final = 0.03
"""How much longer than its rhythm a beat may take, as a part of it."""

PATIENT_POLLS: Final = 12
"""Empty polls after which that cap no longer holds: the job is silent, not unknown."""

STRETCH: Final = 1.5
MAX_ERROR_DELAY: Final = 60.0
PROBE_EVERY: Final = 6
"""After so many pushes two early polls look whether the rhythm is faster than believed."""

PROBE_PART: Final = 0.75
"""Where in the period the second of them stands."""

MAX_CREDIT: Final = 2.0
"""Polls a tail may save up while a budget is shared."""

QUIET_BEATS: Final = 3
"""A gap of more beats than this, twice in a row, speaks for a slower rhythm."""


class Pace:
    """The rhythm of one job's pushes, and the waits between polls that follow from it.

    Args:
        chance: Random source of the client, for jitter.
        min_interval: Seconds between polls at the least.
        max_interval: Seconds between polls at the most.
    """

    def __init__(
        self, chance: random.Random, *, min_interval: float = 2.0, max_interval: float = 60.0
    ) -> None:
        self._chance = chance
        self._min = min_interval
        self._max = max_interval
        self._last_poll: float | None = None
        self._push: tuple[float, float] | None = None
        self._period: float | None = None
        self._empty = 0
        self._pushes = 0
        self._quiet_gaps = 0
        self._failures = 0
        self._credit = 0.0
        self._delay = min_interval

    @property
    def period(self) -> float | None:
        """Seconds between pushes as far as they are known."""
        return self._period

    def polled(self, asked: float, answered: float, *, grew: bool, floor: float = 0.0) -> float:
        """Take the outcome of a poll and give the seconds to wait before the next.

        Args:
            asked: When the request was sent; what was there then is in the answer.
            answered: When the answer was read; what is in it was pushed before.
            grew: Whether there were new bytes.
            floor: Seconds between polls on average, at the least, while many tails share a budget.
        """
        self._failures = 0
        before, self._last_poll = self._last_poll, asked
        if grew:
            self._empty = 0
            if before is not None:
                self._learn(before, answered)
        else:
            self._empty += 1
            if self._push is not None and self._period is not None and asked < self._push[1] + self._period:
                # The push that was due by now at the earliest is still to come: it is late in its window.
                self._push = (max(self._push[0], asked - self._period), self._push[1])
        least = self._least(asked if before is None else before, asked, floor)
        due = self._next(answered, least)
        if least > self._min:
            due = max(due, least * self._chance.uniform(0.9, 1.1))
        self._delay = min(max(self._max, least), max(self._min, due))
        return self._delay

    def failed(self) -> float:
        """Give the seconds to wait after a poll that failed: doubled each time, up to a minute."""
        self._failures += 1
        limit = max(self._min, min(MAX_ERROR_DELAY, self._delay * 2.0 ** min(self._failures, 10)))
        return limit * self._chance.uniform(0.5, 1.0) if self._failures < 10 else limit

    def _least(self, before: float, asked: float, floor: float) -> float:
        """Seconds until this tail has a poll to spend again, when each has one per *floor* seconds.

        Polls not spent are saved up, so that two may stand close together around a push.
        """
        if floor <= self._min:
            self._credit = 0.0
            return self._min
        self._credit = min(MAX_CREDIT, self._credit + (asked - before) / floor) - 1.0
        return max(self._min, -self._credit * floor)

    def _learn(self, before: float, after: float) -> None:
        """A push happened between *before* and *after*."""
        self._pushes += 1
        if self._push is not None:
            expected = self._expected(before, after)
            quiet = self._period is not None and before - self._push[1] > QUIET_BEATS * self._period
            self._quiet_gaps = self._quiet_gaps + 1 if quiet else 0
            if expected is not None and self._quiet_gaps < 2:
                self._push = expected
                return
            self._quiet_gaps = 0
            self._period = _period(before - self._push[1], after - self._push[0])
        self._push = (before, after)

    def _expected(self, before: float, after: float) -> tuple[float, float] | None:
        """Where the push must have been if the rhythm holds, quiet beats included; else None."""
        if self._period is None or self._push is None:
            return None
        beat = self._period
        first = max(0, int((before - self._push[1]) / beat) - 1)
        for quiet in range(first, int((after - self._push[0]) / beat)):
            # Each beat takes a little longer than the rhythm says: the time of sending it.
            early = self._push[0] + (quiet + 1) * beat
            late = self._push[1] + (quiet + 1) * beat * (1 + DRIFT)
            if max(early, before) < min(late, after):
                return max(early, before), min(late, after)
        return None

    def _next(self, now: float, least: float) -> float:
        """Seconds until it is worth asking again, before limits; polls at least *least* apart."""
        if self._push is None or self._period is None:
            stretched = self._min * STRETCH ** min(self._empty, 30)
            if self._empty <= PATIENT_POLLS:
                stretched = min(UNKNOWN_CAP, stretched)
            return min(self._max, stretched) * self._chance.uniform(0.9, 1.1)
        early, late = self._push
        period = self._period
        jitter = self._chance.uniform(0.0, min(1.0, 0.03 * period))
        if self._pushes % PROBE_EVERY == 0 and self._empty < 2 and period > 2 * RHYTHMS[0] + self._min:
            wanted = late + PROBE_PART * period - now if self._empty else RHYTHMS[0]
            if wanted >= least:
                return wanted + jitter
        due = late + period + DRIFT / 2 * period
        if now < due - self._min:
            halfway = (early + late) / 2 + period
            # Worth it only when a poll at the due moment is still possible afterwards.
            if late - early > self._min and now + least < halfway and due - halfway >= least - self._min:
                return halfway - now + jitter
            return due - now + jitter
        if now < due:
            return self._min + jitter
        late_polls = max(0, self._empty - 1)
        return min(self._max, max(self._min, period / 8) * STRETCH**late_polls) + jitter


def _period(least: float, most: float) -> float:
    """The period a gap speaks for: a usual rhythm when one lies inside, else its middle."""
    for rhythm in RHYTHMS:
        if least <= rhythm * 1.05 and rhythm <= most * 1.05:
            return rhythm
    return max(1.0, (least + most) / 2)
