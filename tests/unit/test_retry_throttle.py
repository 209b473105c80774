"""Holding polls back: not while half of them are answered, nearly all when none is, soon over."""

from __future__ import annotations

import random

import pytest

from asyncjobs._retry.throttle import PollThrottle


def sent_per_minute(accepting: list[float], *, per_second: int = 10) -> list[int]:
    """Polls that go out in each minute, when that share of what goes out is answered."""
    throttle, chance, counts = PollThrottle(), random.Random(3), []
    for minute, share in enumerate(accepting):
        counts.append(0)
        for turn in range(60 * per_second):
            now = minute * 60.0 + turn / per_second
            if throttle.hold_back(now, chance.random()):
                continue
            counts[-1] += 1
            if chance.random() < share:
                throttle.accepted(now)
    return counts


@pytest.mark.parametrize("share", [1.0, 0.8, 0.6])
def test_a_server_that_answers_most_polls_gets_them_all(share: float) -> None:
    """Up to every second poll may fail before any is held back."""
    assert sent_per_minute([share] * 5) == [600] * 5


def test_a_dead_server_gets_one_in_ten() -> None:
    """In every minute of an outage after the first, and not one in a thousand either."""
    first, *others = sent_per_minute([0.0] * 30)
    assert first < 220
    assert all(40 <= each <= 90 for each in others)


def test_the_end_of_an_outage_is_noticed() -> None:
    """Once the server is back more goes out with every minute, and after four nothing is held back."""
    back = sent_per_minute([1.0, 1.0, *[0.0] * 60, *[1.0] * 5])[-5:]
    assert back == sorted(back)
    assert back[1] > 1.5 * back[0]
    assert back[-1] == 600


def test_a_few_tails_are_never_held_back() -> None:
    """One poll a second, all failing, goes out as wanted: the tail's own pace is enough."""
    assert sent_per_minute([0.0] * 10, per_second=1)[0] == 60
    throttle = PollThrottle()
    assert not any(throttle.hold_back(turn * 2.0, 0.0) for turn in range(1000))


def test_the_first_hundred_polls_go_out() -> None:
    """However few are answered; from then on the first that chance picks is held back."""
    throttle = PollThrottle()
    assert [throttle.hold_back(1.0, 0.0) for _ in range(101)] == [False] * 100 + [True]


@pytest.mark.parametrize(
    ("accepted", "share"), [(0, 0.9), (5, 0.9), (20, 0.796), (40, 0.597), (60, 0.398), (90, 0.0995)]
)
def test_what_was_wanted_beyond_twice_the_answers_is_held_back(accepted: int, share: float) -> None:
    """Of 200 polls, the share by which they exceed twice what was answered; a tenth goes out always."""
    throttle = PollThrottle()
    for turn in range(200):
        throttle.hold_back(1.0, 1.0)
        if turn < accepted:
            throttle.accepted(1.0)
    assert not throttle.hold_back(1.0, share + 0.001)
    assert throttle.hold_back(1.0, share - 0.001)


def test_a_silence_forgives() -> None:
    """What happened more than two minutes ago counts for nothing, ten seconds' worth at a time."""
    throttle = PollThrottle()
    for turn in range(1000):
        throttle.hold_back(turn / 100, 1.0)
    assert throttle.hold_back(129.9, 0.5)
    assert not throttle.hold_back(130.0, 0.0)


def test_memory_is_bounded() -> None:
    """However long it is asked, only the last two minutes are kept, in ten-second steps."""
    throttle = PollThrottle()
    for turn in range(100_000):
        throttle.hold_back(turn * 0.5, 1.0)
        assert len(throttle._steps) <= 13
