"""Calls into threads that are always joined: a cancelled wait ends only after the thread is done.

A thread cannot be stopped, so a cancelled `await` on a file call says nothing about the file: the write may
still be running while its file is being renamed (https://github.com/Tinche/aiofiles/issues/122 shows the
surprise). Here a cancellation is kept, the thread is waited for, and only then it is delivered.
"""

from __future__ import annotations

import asyncio
import errno
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from aiofiles.os import wrap

from asyncjobs._errors import (
    AsyncJobsError,
    DestinationError,
    DiskFullError,
    ManifestError,
    TooManyFilesError,
)

T = TypeVar("T")
P = ParamSpec("P")

DISK_THREADS = 4
"""Disk threads of one client: enough to keep a device busy while others hash."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_DESCRIPTOR = frozenset({errno.EMFILE, errno.ENFILE})


class StoppedError(Exception):
    """Raised inside a thread whose caller was cancelled; never seen outside of this room."""


class _Hop(Executor):
    """An executor for one call that remembers what it started."""

    def __init__(self, pool: Executor) -> None:
        self._pool = pool
        self.started: Future[Any] | None = None

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.started = self._pool.submit(fn, *args, **kwargs)
        return self.started


class Hops:
    """A small pool of threads for files alone, so that a slow disk never delays a name look-up."""

    def __init__(self, threads: int = DISK_THREADS, *, name: str = "asyncjobs-disk") -> None:
        self._threads = threads
        self._name = name
        self._pool: ThreadPoolExecutor | None = None

    async def call(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function in a thread and return what it returns.

        Raises:
            DiskFullError: No space is left.
            TooManyFilesError: No file descriptor is left.
            DestinationError: Any other refusal of the system; the cause is kept.

        Cancellation: delivered once the thread is done; what the function made is left as it is.
        """
        hop = _Hop(self._executor())
        # wrap() sends the call through loop.run_in_executor, as all of aiofiles does.
        task = asyncio.ensure_future(wrap(function)(*args, executor=hop, **kwargs))
        try:
            await joined(task)
        finally:
            # Whoever cancels *every* task (as asyncio.run does) cancels this one too, but not its thread.
            if hop.started is not None and not hop.started.done() and not hop.started.cancel():
                await joined(asyncio.wrap_future(hop.started))
        try:
            return task.result()
        except (OSError, sqlite3.Error) as error:
            raise translate(error) from error

    async def call_stoppable(self, function: Callable[[threading.Event], T]) -> T:
        """Run a long function in a thread; it must look at the event it gets and end soon once it is set.

        Raises:
            DestinationError: As `call`.

        Cancellation: sets the event, waits for the thread, then is delivered.
        """
        stop = threading.Event()
        task = asyncio.ensure_future(self.call(function, stop))
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            stop.set()
            await joined(task)
            if not task.cancelled():
                task.exception()
            raise
        return task.result()

    def _executor(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix=self._name)
        return self._pool

    def close(self) -> None:
        """End the threads; every call was joined, so none is running. Twice is fine."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False)


async def joined(future: asyncio.Future[Any]) -> None:
    """Wait until *future* is done, whatever happens meanwhile; its result is the caller's to read.

    Cancellation: kept until the future is done, then delivered; so is a second one.
    """
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait({future})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not future.cancelled():
            future.exception()  # seen, so that nobody is told it was never retrieved
        raise cancelled


async def made_whole(making: Coroutine[Any, Any, T], undo: Callable[[T], Awaitable[object]]) -> T:
    """Let something be made to its end, and undo it when the caller was cancelled meanwhile.

    For what would be lost between being made and being returned: a lock, a claim, an open file.

    Args:
        making: Makes it.
        undo: Takes it back.

    Cancellation: delivered once what was made is undone.
    """
    task = asyncio.ensure_future(making)
    try:
        await joined(task)
    except asyncio.CancelledError:
        if not task.cancelled() and task.exception() is None:
            undoing = asyncio.ensure_future(_awaited(undo(task.result())))
            await joined(undoing)
            if not undoing.cancelled():
                undoing.exception()  # the cancellation is what the caller hears of
        raise
    return task.result()


async def _awaited(waiting: Awaitable[object]) -> None:
    await waiting


def translate(error: OSError | sqlite3.Error) -> AsyncJobsError:
    """The error of this package for one of the system's."""
    if isinstance(error, sqlite3.Error):
        if "full" in str(error):
            return DiskFullError("no space is left on the disk of the record")
        return ManifestError(f"the record of the folder cannot be used: {error}")
    where = f" {error.filename!r}" if error.filename else ""
    what = (error.strerror or type(error).__name__).lower()
    if error.errno in _FULL:
        return DiskFullError(f"cannot write{where}: {what}")
    if error.errno in _NO_DESCRIPTOR:
        return TooManyFilesError(f"cannot open{where}: {what}")
    return DestinationError(f"cannot use{where}: {what}")


__all__ = ["DISK_THREADS", "Hops", "StoppedError", "joined", "made_whole", "translate"]
