"""Who follows a log is told when the server is gone, and when it is back."""

from __future__ import annotations

import asyncio

import pytest

import asyncjobs
from asyncjobs.cli.silence import LOOK_SECONDS, Silence, telling_of_silence


def counts(retries: int, received: int) -> asyncjobs.Statistics:
    """A client's counts."""
    trace = asyncjobs.ClassStatistics(requests=retries + 1, retries=retries, received_bytes=received)
    return asyncjobs.Statistics(
        endpoints={"trace": trace}, lanes={}, retry_tokens=1.0, rate_limit_remaining=None
    )


GONE, BACK = "the server does not answer; still trying", "the server answers again"


@pytest.mark.parametrize(
    ("looks", "said"),
    [
        ([(0, 100), (0, 200)], [None, None]),
        ([(0, 100), (0, 100), (0, 100)], [None, None, None]),
        ([(0, 100), (3, 150), (3, 150)], [None, None, None]),
        ([(0, 100), (3, 100), (5, 100), (5, 100)], [None, GONE, None, None]),
        (
            [(0, 100), (3, 100), (5, 100), (6, 900), (6, 901)],
            [None, GONE, None, BACK, None],
        ),
        (
            [(3, 0), (3, 1), (5, 1), (6, 2)],
            [
                GONE,
                BACK,
                GONE,
                BACK,
            ],
        ),
    ],
)
def test_what_is_said(looks: list[tuple[int, int]], said: list[str | None]) -> None:
    """One line when attempts are repeated and nothing comes, one when something comes again, else nothing."""
    silence = Silence()
    assert [silence.look(counts(*each)) for each in looks] == said


async def test_the_looks_end_with_the_block() -> None:
    """While the block runs there is a look from time to time; afterwards there is none."""
    said: list[str] = []
    retries = 0

    def snapshot() -> asyncjobs.Statistics:
        nonlocal retries
        retries += 1
        return counts(retries, 0)

    async with telling_of_silence(snapshot, said.append):
        await asyncio.sleep(LOOK_SECONDS * 3.5)
    assert (said, retries) == ([GONE], 3)
    await asyncio.sleep(LOOK_SECONDS * 3)
    assert retries == 3
