"""Ctrl-C while the command still loads: it ends with 130, as later, and not with a traceback of imports.

However the command is started, Python loads the whole package before the first line of `__main__`,
which takes up to half a second. So the package imports this module before all others.
Only the command itself is concerned: a program that uses the library keeps its signals as they are.
What comes before, the start of the interpreter itself, is out of reach.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

INTERRUPTED = 130


def is_command(arguments: Sequence[str], original: Sequence[str]) -> bool:
    """Whether this process was started as the command.

    Args:
        arguments: `sys.argv`. Under `python -m` it begins with "-m" until the package is loaded.
        original: `sys.orig_argv`, which has the name of the module before its arguments.
    """
    if not arguments:
        return False  # an interpreter inside another program
    if arguments[0] == "-m":
        return original[-len(arguments)] in {"asyncjobs", "-masyncjobs"}
    return arguments[0].rpartition("/")[2] == "asyncjobs"


def _end(_number: int, _frame: FrameType | None) -> None:
    # Nothing was begun, so nothing is to be tidied up.
    os._exit(INTERRUPTED)


def begin() -> None:
    """Let Ctrl-C end the command quietly, until `loaded`. Nothing happens in any other program."""
    if is_command(sys.argv, sys.orig_argv) and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        with contextlib.suppress(ValueError):  # not the main thread: somebody else's program after all
            signal.signal(signal.SIGINT, _end)


def loaded() -> None:
    """The package is there: from here on `__main__` knows what to do."""
    if signal.getsignal(signal.SIGINT) is _end:
        with contextlib.suppress(ValueError):
            signal.signal(signal.SIGINT, signal.default_int_handler)


begin()
