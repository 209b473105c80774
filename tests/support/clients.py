"""Clients for tests: on the loop's time, with seeded chance, and with connectors one can look at."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from asyncjobs import Client, JobRef
from asyncjobs._clock import SystemClock
from asyncjobs._transport import GuardedResolver, tcp_connector

START_EPOCH = 1_767_600_000.0
"""A whole number of minutes since 1970."""


class LoopClock(SystemClock):
    """A wall clock that moves with the loop, so that dates are virtual too."""

    def time(self) -> float:
        """Seconds since the epoch, by the loop."""
        return START_EPOCH + self.monotonic() - 1_000.0


class Connectors:
    """A connector factory that remembers what it made."""

    def __init__(self) -> None:
        self.made: list[aiohttp.TCPConnector] = []

    def __call__(self, *, resolver: GuardedResolver, force_close: bool) -> aiohttp.BaseConnector:
        """Make one and remember it."""
        connector = tcp_connector(resolver=resolver, force_close=force_close)
        assert isinstance(connector, aiohttp.TCPConnector)
        self.made.append(connector)
        return connector

    @property
    def acquired(self) -> int:
        """Connections that somebody still holds."""
        return sum(len(connector._acquired) for connector in self.made)


@asynccontextmanager
async def open_client(url: str, **options: Any) -> AsyncIterator[Client]:
    """A client on the loop's time with seeded chance; options as those of `Client`."""
    defaults: dict[str, Any] = {"clock": LoopClock(), "chance": random.Random(7)}
    async with Client(url, **{**defaults, **options}) as client:
        yield client


async def read_archive(client: Client, ref: JobRef) -> bytes:
    """A whole archive by one request, as the sync does it."""
    async with client._api.open_artifacts(ref) as body:
        return b"".join([piece async for piece in body])


def client_tasks() -> list[asyncio.Task[Any]]:
    """Tasks of the client that are alive, whoever started them."""
    return [task for task in asyncio.all_tasks() if _is_ours(task)]


def _is_ours(task: asyncio.Task[Any]) -> bool:
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and "/asyncjobs/_" in code.co_filename and not task.done()


def lanes_are_free(client: Client) -> bool:
    """Whether no slot is held or waited for."""
    return all(lane.in_flight == 0 and lane.waiting == 0 for lane in client.statistics().lanes.values())


async def until(condition: Callable[[], bool], *, turns: int = 2_000) -> None:
    """Let the loop turn until *condition* holds; a test that waits for nothing fails.

    Raises:
        AssertionError: It never held.
    """
    for _ in range(turns):
        if condition():
            return
        await asyncio.sleep(0)
    for _ in range(turns):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("the condition never held")
