"""Many sources, few workers, one stream of results: bounded, in order of arrival, nothing swallowed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from types import TracebackType
from typing import Generic, Self, TypeVar

S = TypeVar("S")
T = TypeVar("T")

Emit = Callable[[T], Awaitable[None]]


class _End:
    """Put among the results when no more will come."""


class Fan(Generic[S, T]):
    """Runs *work* for every source with at most *concurrency* at once, as an async context manager.

    Iterating gives what the workers emit, as it comes. The queue between them holds *concurrency*
    results, so a slow consumer stops the workers. Leaving the context cancels and joins them.

    Args:
        sources: Pulled lazily, one at a time, from a plain or an async iterable.
        work: Called with a source and a function that hands over one result. Expected failures
            are its own business; an exception that leaves it ends the whole stream.
        concurrency: Workers at once.
    """

    def __init__(
        self,
        sources: Iterable[S] | AsyncIterable[S],
        work: Callable[[S, Emit[T]], Awaitable[None]],
        *,
        concurrency: int,
    ) -> None:
        self._sources = aiter(sources) if isinstance(sources, AsyncIterable) else _async(sources)
        self._work = work
        self._concurrency = concurrency
        self._turn = asyncio.Lock()
        self._results: asyncio.Queue[T | _End] = asyncio.Queue(concurrency)
        self._runner: asyncio.Task[None] | None = None
        self._stopping = False

    async def __aenter__(self) -> Self:
        self._runner = asyncio.create_task(self._run())
        self._runner.add_done_callback(self._ended)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        self._runner.cancel()
        # The runner's own error was raised from __anext__, or belongs to work that nobody waits for now.
        await asyncio.wait([self._runner])
        if not self._runner.cancelled():
            self._runner.exception()

    def stop(self) -> None:
        """Take no further source and end the work under way; what was emitted can still be read."""
        self._stopping = True
        if self._runner is not None:
            self._runner.cancel()

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        assert self._runner is not None, "use `async with` first"
        if self._results.empty() and self._runner.done():
            raise self._ending()
        result = await self._results.get()
        if isinstance(result, _End):
            raise self._ending()
        return result

    def _ended(self, _: asyncio.Task[None]) -> None:
        """Wake a consumer that waits for a result; one that does not wait will see the runner's end."""
        if self._results.empty():
            self._results.put_nowait(_End())

    def _ending(self) -> BaseException:
        assert self._runner is not None
        error = None if self._runner.cancelled() else self._runner.exception()
        return StopAsyncIteration() if error is None else first_error(error)

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(self._concurrency):
                group.create_task(self._worker())

    async def _worker(self) -> None:
        while not self._stopping:
            async with self._turn:
                try:
                    source = await anext(self._sources)
                except StopAsyncIteration:
                    return
            await self._work(source, self._results.put)


def first_error(error: BaseException) -> BaseException:
    """The first error inside nested groups: a caller asked for results, not for our task group.

    What fails in one turn of the loop, as everything does when a client is closed, is a group of many; one
    turn later it would have been one. Whoever catches it must not depend on that. A kind of group of its own,
    as `FanOutError` is, stays what it is.
    """
    while type(error) in {ExceptionGroup, BaseExceptionGroup}:
        assert isinstance(error, BaseExceptionGroup)
        error = error.exceptions[0]
    return error


async def _async(items: Iterable[S]) -> AsyncIterator[S]:
    for item in items:
        yield item
