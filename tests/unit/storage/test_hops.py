"""Threads are joined: a cancelled caller hears of it only after its thread is done."""

from __future__ import annotations

import asyncio
import errno
import gc
import sqlite3
import threading
import time

import pytest

from asyncjobs._errors import (
    AsyncJobsError,
    DestinationError,
    DiskFullError,
    ManifestError,
    TooManyFilesError,
)
from asyncjobs._storage import Hops, joined
from asyncjobs._storage.hops import made_whole


class Slow:
    """A call that is in its thread until somebody lets it go."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.go = threading.Event()
        self.done = False

    def __call__(self) -> str:
        """Run in the thread."""
        self.entered.set()
        self.go.wait(10)
        self.done = True
        return "result"


async def entered(slow: Slow) -> None:
    """Wait until the call is in its thread."""
    await asyncio.to_thread(slow.entered.wait, 10)


@pytest.mark.real_time
@pytest.mark.parametrize("cancels", [1, 2, 5])
async def test_cancel_is_delivered_after_the_thread_is_done(cancels: int) -> None:
    """However often a caller is cancelled, the call is over when the cancellation arrives."""
    hops, slow = Hops(), Slow()
    task = asyncio.ensure_future(hops.call(slow))
    await entered(slow)
    for _ in range(cancels):
        task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not task.done()
    slow.go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert slow.done
    hops.close()


@pytest.mark.real_time
async def test_cancelling_every_task_still_waits_for_the_thread() -> None:
    """`asyncio.run` cancels all tasks when it ends; the hop's own task among them changes nothing."""
    hops, slow = Hops(), Slow()
    task = asyncio.ensure_future(hops.call(slow))
    await entered(slow)
    for each in asyncio.all_tasks() - {asyncio.current_task()}:
        each.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    slow.go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert slow.done
    hops.close()


@pytest.mark.real_time
async def test_a_stoppable_call_is_told_and_joined() -> None:
    """A long call sees its event when the caller is cancelled, and is over before the caller goes on."""
    hops = Hops()
    seen = []
    began = threading.Event()

    def work(stop: threading.Event) -> None:
        began.set()
        seen.append(stop.wait(10))

    task = asyncio.ensure_future(hops.call_stoppable(work))
    await asyncio.to_thread(began.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == [True]
    hops.close()


async def test_failed_future_is_seen_on_cancellation() -> None:
    """A call that fails after its caller was cancelled warns nobody about an exception never retrieved."""
    hops = Hops()

    def fail() -> None:
        time.sleep(0.01)
        raise OSError(errno.EIO, "broken")

    task = asyncio.ensure_future(hops.call(fail))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    hops.close()


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, DiskFullError),
        (errno.EDQUOT, DiskFullError),
        (errno.EFBIG, DiskFullError),
        (errno.EMFILE, TooManyFilesError),
        (errno.ENFILE, TooManyFilesError),
        (errno.EIO, DestinationError),
        (errno.EROFS, DestinationError),
        (errno.EACCES, DestinationError),
        (errno.ENAMETOOLONG, DestinationError),
    ],
)
async def test_system_errors_become_ours(number: int, kind: type[AsyncJobsError]) -> None:
    """Each refusal of the system has one error of ours, with the path in its text and its cause kept."""
    hops = Hops()

    def fail() -> None:
        raise OSError(number, "told so", "some/file")

    with pytest.raises(kind, match="some/file") as caught:
        await hops.call(fail)
    assert isinstance(caught.value.__cause__, OSError)
    hops.close()


async def test_sqlite_errors_become_ours() -> None:
    """A damaged database is a ManifestError, a full disk is a full disk."""
    hops = Hops()

    def fail(text: str) -> None:
        raise sqlite3.OperationalError(text)

    with pytest.raises(ManifestError):
        await hops.call(fail, "disk I/O error")
    with pytest.raises(DiskFullError):
        await hops.call(fail, "database or disk is full")
    hops.close()


async def test_joined_gives_nothing_for_a_finished_future() -> None:
    """Joining what is done returns at once."""
    future = asyncio.get_running_loop().create_future()
    future.set_result(1)
    await joined(future)
    assert future.result() == 1


async def test_an_undo_that_fails_leaves_the_cancellation() -> None:
    """Whoever was cancelled hears of that, and nobody is told of an exception that was never retrieved."""
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    go = asyncio.Event()

    async def undo(_: bool) -> None:
        raise DestinationError("cannot be undone")

    task = asyncio.ensure_future(made_whole(go.wait(), undo))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    del task
    gc.collect()
    assert not reported
