"""Runs one command's coroutine: signals, the last word on errors, the exit code.

The first signal cancels the work, which keeps partial files and says how to go on; the second ends
the process at once, and so do five seconds of silence after the first. Knows no command.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import traceback
from typing import TYPE_CHECKING

from asyncjobs.cli.codes import ExitCode, exit_code, explain, leaves
from asyncjobs.cli.output import PATIENCE_SECONDS, News, abandon_stdout

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

GRACE_SECONDS = 5.0
"""How long tidying up may take after the first signal."""

_SHOW_CURSOR = b"\x1b[?25h"


class Runner:
    """One run of one command."""

    def __init__(self, news: News, *, tracebacks: bool = False, advice: Callable[[], str] = str) -> None:
        self._news = news
        self._tracebacks = tracebacks
        self._advice = advice
        self._caught: signal.Signals | None = None

    def run(self, work: Coroutine[Any, Any, int]) -> int:
        """Run *work* to its end and give the exit code. Never raises an Exception."""
        try:
            return asyncio.run(self._supervise(work))
        except KeyboardInterrupt:
            return ExitCode.INTERRUPTED
        except BaseExceptionGroup as group:
            return self._failed(group)
        except Exception as error:  # noqa: BLE001 - the last frame of the program: everything is reported here
            return self._failed(error)

    async def _supervise(self, work: Coroutine[Any, Any, int]) -> int:
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(work)
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                loop.add_signal_handler(number, self._stop, number, task)
            except (ValueError, RuntimeError, NotImplementedError):
                break  # not the main thread: whoever owns it owns the signals
        try:
            return await task
        except asyncio.CancelledError:
            if self._caught is None:
                raise
            if self._news.console.is_interactive:
                self._news.stream.write("\r")  # over the ^C of the terminal
            self._news.warn(f"stopped by {self._caught.name}. {self._advice()}".rstrip())
            return 128 + self._caught

    def _stop(self, number: signal.Signals, task: asyncio.Future[int]) -> None:
        if self._caught is not None:
            self._leave_now(number)
        self._caught = number
        loop = asyncio.get_running_loop()
        loop.call_later(PATIENCE_SECONDS, self._news.warn, "tidying up; once more ends at once")
        loop.call_later(GRACE_SECONDS, self._leave_now, number)
        task.cancel()

    def _leave_now(self, number: signal.Signals) -> None:
        # The loop may be stuck behind a thread, so nothing is asked to end: the process just does.
        # A bar may have hidden the cursor.
        if self._news.is_terminal:
            os.write(2, _SHOW_CURSOR)
        os._exit(128 + number)

    def _failed(self, error: BaseException) -> int:
        errors = list(leaves(error))
        code = exit_code(error)
        if any(isinstance(each, OSError) for each in errors):
            # Most likely it was standard output; what is still buffered for it must not fail again at exit.
            abandon_stdout()
        if code == ExitCode.BROKEN_PIPE:
            return code
        if self._tracebacks:
            traceback.print_exception(error, file=sys.stderr)
        for each in errors[:_MOST_ERRORS]:
            self._news.error(explain(each))
        if len(errors) > _MOST_ERRORS:
            self._news.error(f"and {len(errors) - _MOST_ERRORS} more errors")
        return code


_MOST_ERRORS = 20
"""Lines of errors shown; a thousand targets may fail for one reason."""
