"""A whole log in memory is there once: what `get_trace` gives is what it gathered, not a copy of it."""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from asyncjobs._api import Api
from asyncjobs._models import JobRef
from asyncjobs._tail.parts import _Ask, _take

MIB = 1 << 20
PIECES = 24


class LongBody:
    """A log that streams in, made piece by piece."""

    status = 200
    framing = "chunked"
    url = "https://gitlab.example.com/trace"

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for number in range(PIECES):
            yield bytes([number]) * MIB


class OneLog:
    """As much of the endpoints as one read needs."""

    @asynccontextmanager
    async def open_trace(self, _: JobRef, **__: int | None) -> AsyncIterator[LongBody]:
        """The body."""
        yield LongBody()


async def test_a_whole_log_is_held_once() -> None:
    """The most that is held at any time is the log and some room to grow, far from two of it."""
    tracemalloc.start()
    try:
        taken = await _take(cast(Api, OneLog()), JobRef("group/app", 8), _Ask(most=1 << 30))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken.size == len(taken.kept) == PIECES * MIB
    assert taken.kept[:: 1 << 20] == bytes(range(PIECES))
    assert peak < 1.4 * PIECES * MIB
