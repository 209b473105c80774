"""Every client of a seeded hostile GitLab does its work or says why not, and whatever fails is one integer.

`ASYNCJOBS_SEEDS=2000` runs so many seeds of each life. A failing test names its seed and the fewest troubles
that still make it fail.
"""

from __future__ import annotations

import pytest

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
