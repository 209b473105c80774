"""A FakeGitLab in a thread and an event loop of its own, for callers that have none or another one.

The world is guarded by a lock, so its methods may be called from the caller's thread; this room only
starts and stops.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from asyncjobs.testing._server import FakeGitLab


@contextmanager
def serve_in_thread(gitlab: FakeGitLab) -> Iterator[FakeGitLab]:
    """Serve *gitlab* until the block is left.

    Raises:
        OSError: A port is taken.
    """
    ready = threading.Event()
    failures: list[BaseException] = []
    loop = asyncio.new_event_loop()
    leave = asyncio.Event()

    async def main() -> None:
        async with gitlab:
            ready.set()
            await leave.wait()

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(main())
        except BaseException as failure:  # noqa: BLE001  # handed to the thread that waits
            failures.append(failure)
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="fake-gitlab", daemon=True)
    thread.start()
    ready.wait()
    if failures:
        thread.join()
        raise failures[0]
    try:
        yield gitlab
    finally:
        loop.call_soon_threadsafe(leave.set)
        thread.join()
    if failures:
        raise failures[0]
