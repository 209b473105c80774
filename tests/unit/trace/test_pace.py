"""Pace: few polls, soon after each push."""

from __future__ import annotations

import itertools
import random

import pytest

from asyncjobs._trace.pace import Pace


def simulate(pushes: list[float], until: float, *, seed: int = 1) -> tuple[Pace, list[float], list[float]]:
    """Poll a log that grows at the given times; give the poll times and the lag of each push."""
    pace, now, polls, lags = Pace(random.Random(seed)), 0.0, [], []
    waiting = sorted(pushes)
    while now < until:
        polls.append(now)
        grew = False
        while waiting and waiting[0] <= now:
            lags.append(now - waiting.pop(0))
            grew = True
        now += pace.polled(now, now, grew=grew)
    return pace, polls, lags


@pytest.mark.parametrize("period", [30.0, 60.0, 61.0])
@pytest.mark.parametrize("seed", range(5))
def test_slow_rhythm_is_learned(period: float, seed: int) -> None:
    """Once the rhythm is known each push is met within a few seconds, with about two polls for it."""
    start = random.Random(seed).uniform(0, period)
    pace, polls, lags = simulate([start + period * n for n in range(60)], 60 * period, seed=seed)
    assert pace.period == pytest.approx(period, rel=0.2)
    assert sorted(lags[10:])[len(lags[10:]) // 2] <= 4
    assert max(lags[10:]) <= 6
    assert len(polls) <= 60 * 2.5 + 20


@pytest.mark.parametrize("seed", range(5))
def test_unusual_rhythm_is_measured(seed: int) -> None:
    """A rhythm that no release of GitLab asks for is met as measured, less exactly."""
    start = random.Random(seed).uniform(0, 45)
    pace, polls, lags = simulate([start + 45.0 * n for n in range(60)], 2700, seed=seed)
    assert pace.period == pytest.approx(45, rel=0.1)
    assert sorted(lags[20:])[20] <= 12
    assert len(polls) <= 60 * 2.7


def test_fast_rhythm_is_followed() -> None:
    """While somebody watches the page, pushes come every 3 s and so do polls."""
    pace, polls, lags = simulate([1.0 + 3 * n for n in range(100)], 300)
    assert pace.period == 3
    assert max(lags) <= 4
    assert len(polls) <= 130


def test_drifting_rhythm_is_followed() -> None:
    """A push takes a little longer than the rhythm each time; it is still met."""
    _, polls, lags = simulate([30.4 * n for n in range(1, 80)], 30.4 * 80)
    assert sorted(lags[10:])[35] <= 6
    assert len(polls) <= 80 * 3


def test_rhythm_that_becomes_faster_is_noticed() -> None:
    """Somebody opens the job's page: within some pushes the polls come faster."""
    slow = [60.0 * n for n in range(10)]
    pace, _, lags = simulate(slow + [600 + 3.0 * n for n in range(300)], 1500)
    assert pace.period == 3
    assert max(lags[-100:]) <= 4


def test_rhythm_that_becomes_slower_is_noticed() -> None:
    """The page is closed again: the polls become rare."""
    _, polls, _ = simulate([3.0 * n for n in range(20)] + [60.0 * n for n in range(2, 60)], 3600)
    assert len([t for t in polls if t > 600]) <= 50 * 3


def test_silence_stretches_the_polls() -> None:
    """When nothing comes, polls become rare and stay within the limits."""
    _, polls, _ = simulate([60.0, 120.0, 180.0], 4000)
    gaps = [b - a for a, b in itertools.pairwise(polls)]
    assert max(gaps) <= 60.001
    assert min(gaps) >= 2
    assert len([t for t in polls if t > 1000]) <= 60


def test_first_waits_are_short() -> None:
    """A tail that knows nothing asks again soon."""
    pace = Pace(random.Random(0))
    first = pace.polled(0, 0, grew=True)
    assert 1.8 <= first <= 2.2


def test_errors_double_up_to_a_minute() -> None:
    """A failing server is asked less and less, a working one at the normal pace at once."""
    pace = Pace(random.Random(0))
    waits = [pace.failed() for _ in range(12)]
    assert max(waits) == waits[-1] == 60
    assert waits[0] < 5
    assert pace.polled(0, 0, grew=True) < 5


def test_the_errors_before_a_success_are_forgotten() -> None:
    """The next failure after a poll that worked is waited for as the first one was."""
    pace = Pace(random.Random(0))
    for _ in range(8):
        pace.failed()
    pace.polled(0, 0, grew=True)
    assert pace.failed() <= 4.4


@pytest.mark.parametrize("seed", range(20))
def test_waits_after_errors_are_spread(seed: int) -> None:
    """Tails that failed together come back within the second half of a wait that doubles."""
    pace = Pace(random.Random(seed))
    for limit in (4, 8, 16, 32, 60, 60, 60, 60, 60):
        assert limit / 2 <= pace.failed() <= limit


class Least(random.Random):
    """Chance that always gives the least of an interval: jitter is nothing, and a spread 0.9."""

    def uniform(self, a: float, b: float) -> float:
        """The beginning of the interval."""
        return a


def told(pace: Pace, *polls: tuple[float, bool], floor: float = 0.0) -> list[float]:
    """The waits after polls at these times that brought something or nothing."""
    return [pace.polled(now, now, grew=grew, floor=floor) for now, grew in polls]


THIRTY = (9.0, False), (10.0, True), (39.0, False), (40.0, True)
"""Two pushes, seen within a second, that lie thirty seconds apart."""


def test_the_next_poll_is_just_after_the_next_push() -> None:
    """As late as the push may come, and half of the drift of one beat more."""
    assert told(Pace(Least()), *THIRTY)[-1] == pytest.approx(30.45)


def test_an_overdue_push_is_asked_for_at_growing_distances() -> None:
    """An eighth of the rhythm first, half as much again each time, and never more than the longest wait."""
    pace = Pace(Least())
    told(pace, *THIRTY)
    now, waits = 70.5, []
    for _ in range(9):
        waits += told(pace, (now, False))
        now += waits[-1]
    assert waits == pytest.approx([min(60.0, 3.75 * 1.5**n) for n in range(9)])


def test_a_push_that_is_not_known_well_is_asked_for_halfway() -> None:
    """One poll in the middle of where it may be tells which half; a crowd has none to spare for that."""
    seen = (0.0, False), (10.0, True), (30.0, False), (40.0, True)
    assert told(Pace(Least()), *seen)[-1] == pytest.approx(25.0)
    assert told(Pace(Least()), *seen, floor=12.0)[-1] == pytest.approx(30.45)


def every_three_seconds() -> Pace:
    """A pace that has learned 3 s, with the last push between 12 and 13."""
    pace = Pace(Least())
    told(pace, (9.0, False), (10.0, True), (12.0, False), (13.0, True))
    assert pace.period == 3
    return pace


def test_a_quiet_while_is_no_slower_rhythm() -> None:
    """A job that says nothing for some beats has its old rhythm still, until it happens twice in a row."""
    pace = every_three_seconds()
    told(pace, (24.0, False), (25.0, True))
    assert pace.period == 3
    told(pace, (36.0, False), (37.0, True))
    assert pace.period == 12


def test_slow_answers_do_not_blur_the_rhythm() -> None:
    """What is in an answer was pushed before it ended: the next beat is counted, not the last one again."""
    pace, wait = Pace(Least()), 0.0
    for asked, grew in ((9.0, False), (10.0, True), (12.0, False), (13.0, True), (16.0, True)):
        wait = pace.polled(asked, asked + 0.5, grew=grew)
    assert pace.period == 3
    assert wait == pytest.approx(3.045)


def test_quiet_whiles_that_are_not_in_a_row_are_no_slower_rhythm() -> None:
    """A beat in time between two of them speaks for the rhythm that was known."""
    pace = every_three_seconds()
    for polls in ((24.0, 25.0), (27.0, 28.0), (39.0, 40.0), (42.0, 43.0), (54.0, 55.0)):
        told(pace, (polls[0], False), (polls[1], True))
        assert pace.period == 3


def test_three_beats_are_no_quiet_while() -> None:
    """Up to three beats between pushes say nothing, however often."""
    pace = every_three_seconds()
    for n in range(1, 9):
        told(pace, (12.0 + 9 * n, False), (13.0 + 9 * n, True))
        assert pace.period == 3


def test_two_polls_may_be_saved_up() -> None:
    """In a crowd a tail that was quiet for long asks twice at once, and then waits until it has one again."""
    pace = Pace(Least())
    first, second, third = told(
        pace, (0.0, False), (1000.0, False), (1002.0, False), (1004.0, False), floor=20.0
    )[1:]
    assert max(first, second) < 7
    assert third == pytest.approx(0.9 * 0.8 * 20)


def test_many_tails_spread_out() -> None:
    """Tails that begin together do not stay together."""
    chance = random.Random(3)
    assert len({round(Pace(chance).polled(0, 0, grew=False), 2) for _ in range(50)}) > 20


def test_a_crowd_polls_less() -> None:
    """With many tails in one budget each asks rarely, and still just after a push where it can."""
    pace, now, polls, lags = Pace(random.Random(5)), 0.0, 0, []
    waiting = [7.0 + 60.0 * n for n in range(60)]
    while now < 3600:
        polls += 1
        grew = False
        while waiting and waiting[0] <= now:
            lags.append(now - waiting.pop(0))
            grew = True
        now += pace.polled(now, now, grew=grew, floor=25.0)
    assert polls <= 3600 / 25 * 1.1
    assert sorted(lags[10:])[25] <= 15


def test_a_crowd_larger_than_the_longest_interval_is_spread() -> None:
    """When the budget allows less than one poll per longest interval, the budget wins."""
    pace, now, polls = Pace(random.Random(5)), 0.0, 0
    while now < 9000:
        now += pace.polled(now, now, grew=True, floor=90.0)
        polls += 1
    assert polls <= 9000 / 90 * 1.1


def test_saved_polls_are_spent_around_a_push() -> None:
    """A tail with a poll to spare finds the moment of the push, at the same average."""
    pace, now, polls, lags = Pace(random.Random(2)), 0.0, 0, []
    waiting = [3.0 + 60.0 * n for n in range(100)]
    while now < 6000:
        polls += 1
        grew = False
        while waiting and waiting[0] <= now:
            lags.append(now - waiting.pop(0))
            grew = True
        now += pace.polled(now, now, grew=grew, floor=20.0)
    assert polls <= 6000 / 20 * 1.05
    assert sorted(lags[20:])[40] <= 6
