"""Every client of a seeded hostile GitLab does its work or says why not, and whatever fails is one integer.

`ASYNCJOBS_SEEDS=2000` runs so many seeds of each life. A failing test names its seed and the fewest troubles
that still make it fail.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asyncjobs._api.budget import Budget
from asyncjobs._api.exchange import Exchange
from asyncjobs._errors import AsyncJobsError
from asyncjobs._fanout import JobStream
from asyncjobs._models.calls import Kind
from asyncjobs._retry import policy
from asyncjobs._retry.policy import Verdict
from asyncjobs._trace.answer import Answer, _Mode
from asyncjobs._trace.asking import Result
from asyncjobs._trace.ending import Ending, Step
from tests.sim.lives import LIVES, SEEDS, Life
from tests.sim.loop import run
from tests.sim.storm import Trouble, troubles_of


def live(life: Life, seed: int, troubles: list[Trouble] | None = None) -> int:
    """One life; the checksum of its wire."""
    return run(seed, lambda loop: life(loop, seed, troubles))


def fewest(life: Life, seed: int) -> list[Trouble]:
    """The troubles of a failing seed, less those without which it fails as well."""
    left = troubles_of(seed)
    for trouble in list(left):
        fewer = [one for one in left if one is not trouble]
        try:
            live(life, seed, fewer)
        except AssertionError:
            left = fewer
    return left


@pytest.mark.parametrize("name", LIVES)
def test_seeds_of_a_storm(name: str) -> None:
    """Whatever happens on the way, nothing is wrong and in the end nothing is missing."""
    for seed in range(SEEDS):
        try:
            live(LIVES[name], seed)
        except AssertionError as error:
            names = [trouble.name for trouble in fewest(LIVES[name], seed)]
            raise AssertionError(f"{name}, seed {seed}, with {names}: {error}") from error


@pytest.mark.parametrize("name", LIVES)
def test_the_same_seed_is_the_same_life(name: str) -> None:
    """Every byte arrives again at the same moment, so a failure can be looked at as often as need be."""
    for seed in (1, 2, 3):
        assert live(LIVES[name], seed) == live(LIVES[name], seed)


# -- the net catches ----------------------------------------------------------------------------------------


def _leave_in_peace_only(budget: Budget, *facts: Any) -> None:
    task = asyncio.current_task()
    if task is None or not task.cancelling():
        _real_leave(budget, *facts)


def _send_again(kind: Kind, error: AsyncJobsError) -> Verdict:
    verdict = _real_judge(kind, error)
    return Verdict.TRANSIENT if verdict is Verdict.UNKNOWN else verdict


def _believe_everyone(exchange: Exchange, request: Any, url: str, origin: Any, *facts: Any) -> Any:
    return _real_hop(exchange, request, url, exchange.root.origin, *facts)


def _end_at_once(ending: Ending, result: Result, now: float, **facts: Any) -> Step:
    return Step() if result is Result.MORE else Step(done=True)


def _say_nothing(stream: JobStream, target: Any, error: AsyncJobsError) -> None:
    pass


def _give_all_of_it(answer: Answer) -> bytes:
    held, answer._held, answer._mode = answer._held, b"", _Mode.EMIT
    return answer._emit(held)


def _forget_what_came(answer: Answer) -> None:
    answer._place.rewind(0, 0, b"")


_real_judge, _real_hop = policy.judge, Exchange._hop
_real_leave = Budget.leave
MISTAKES: dict[str, tuple[str, object, str, object]] = {
    "a cancelled call keeps its slot": ("fan out", Budget, "leave", _leave_in_peace_only),
    "a change is sent again": ("actions", policy, "judge", _send_again),
    "the token goes wherever a redirect leads": ("sync", Exchange, "_hop", _believe_everyone),
    "a tail ends at the first answer": ("follow", Ending, "read", _end_at_once),
    "a target fails in silence": ("fan out", JobStream, "_failed", _say_nothing),
    "what windows repeat is given again": ("follow", Answer, "_as_window", _give_all_of_it),
    "a log that broke off begins anew": ("tail", Answer, "broken", _forget_what_came),
}
"""Mistakes that somebody might make, and the life that shows each."""


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_found(monkeypatch: pytest.MonkeyPatch, mistake: str) -> None:
    """A storm would see each of these within a few dozen seeds."""
    name, owner, attribute, wrong = MISTAKES[mistake]
    monkeypatch.setattr(owner, attribute, wrong)
    for seed in range(60):
        try:
            live(LIVES[name], seed)
        except AssertionError:
            return
    pytest.fail(f"nobody noticed: {mistake}")
