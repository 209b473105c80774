"""The two streams: data on standard output, byte for byte, and news on standard error.

Decides whether each is a terminal and whether colours are wanted (https://no-color.org), and
writes without stopping the event loop when a reader is slow. Knows nothing of jobs.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import os
import select
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, BinaryIO

from rich.console import Console
from rich.segment import Segments

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import TextIO

    from rich.console import RenderableType

_SAFE_WRITE = 4096
"""A pipe that `select` calls writable takes this much without blocking (PIPE_BUF on Linux; see pipe(7))."""

_LOOK_SECONDS = 0.5
"""How often is looked whether the reader is still there, while nothing is written that would tell."""

_STEP = 500
"""Pieces of a page rendered before the event loop has its turn: some milliseconds."""

PATIENCE_SECONDS = 1.0
"""After this long without an answer a person wants to know that something is going on."""

PLAIN_WIDTH = 120
"""Columns of tables that nobody looks at in a terminal: steady, so that two runs can be compared."""


def wants_colour(stream: TextIO, environ: Mapping[str, str], *, no_color: bool) -> bool:
    """Whether to colour what goes to *stream*: a flag, then NO_COLOR, then FORCE_COLOR, then the terminal."""
    if no_color or environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR"):
        return True
    return is_terminal(stream) and environ.get("TERM") != "dumb"


def is_terminal(stream: TextIO) -> bool:
    """Whether a person looks at it; a closed stream is no terminal."""
    try:
        return stream.isatty()
    except ValueError:
        return False


class _Console(Console):
    """A console whose reader may leave: that is an error like any other, not rich's own way to exit."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def console_for(stream: TextIO, *, no_color: bool) -> Console:
    """A rich console that keeps server text as it is: no markup, no emoji codes, no guessing of colours."""
    terminal = is_terminal(stream)
    colour = wants_colour(stream, os.environ, no_color=no_color)
    return _Console(
        file=stream,
        markup=False,
        emoji=False,
        highlight=False,
        # `FORCE_COLOR` asks for colours in a pipe, not for cursor movements.
        force_terminal=terminal or colour,
        force_interactive=terminal and os.environ.get("TERM") != "dumb",
        no_color=not colour,
        width=None if terminal else int(os.environ.get("COLUMNS") or PLAIN_WIDTH),
        legacy_windows=False,
    )


class Output:
    """Standard output. Whole writes, in order; a slow reader holds up the writer and nobody else."""

    def __init__(self, *, no_color: bool = False) -> None:
        self.stream = sys.stdout
        self.is_terminal = is_terminal(self.stream)
        self.colour = wants_colour(self.stream, os.environ, no_color=no_color)
        self.console = console_for(self.stream, no_color=no_color)
        self._binary: BinaryIO = self.stream.buffer
        self._descriptor = self._find_descriptor()
        self._writer: ThreadPoolExecutor | None = None

    def _find_descriptor(self) -> int | None:
        try:
            return self.stream.fileno()
        except (OSError, ValueError):  # a test's stand-in has none
            return None

    async def write(self, data: bytes) -> None:
        """Write all of *data* and flush it.

        Raises:
            BrokenPipeError: The reader went away.

        Cancellation: what is being written may still be written.
        """
        if self._descriptor is None or (len(data) <= _SAFE_WRITE and self._ready(self._descriptor)):
            self._write_now(data)
            return
        if self._writer is None:
            self._writer = ThreadPoolExecutor(1, thread_name_prefix="asyncjobs-stdout")
        await asyncio.get_running_loop().run_in_executor(self._writer, self._write_now, data)

    async def show(self, page: RenderableType) -> None:
        """Render *page* step by step, so that a long one neither holds up the loop nor is held in memory.

        Raises:
            BrokenPipeError: The reader went away.

        Cancellation: the page ends where it is.
        """
        pieces = iter(self.console.render(page))
        while step := list(itertools.islice(pieces, _STEP)):
            with _naming_stdout(), self.console.capture() as rendered:  # which writes an empty text
                self.console.print(Segments(step), end="", crop=False)
            await self.write(rendered.get().encode(self.stream.encoding or "utf-8", "backslashreplace"))
            # A write that did not have to wait did not let anybody else run: a signal, for one.
            await asyncio.sleep(0)

    async def row(self, line: str, page: RenderableType) -> None:
        """The *line* into a pipe or file, the *page* on a terminal."""
        if self.is_terminal:
            await self.show(page)
        else:
            await self.write(line.encode())

    def _write_now(self, data: bytes) -> None:
        with _naming_stdout():
            self._binary.write(data)
            self._binary.flush()

    @staticmethod
    def _ready(descriptor: int) -> bool:
        try:
            # poll rather than select: descriptors above 1023 are fine too.
            poller = select.poll()
            poller.register(descriptor, select.POLLOUT)
            return bool(poller.poll(0))
        except OSError:
            return False

    async def abandoned(self) -> None:
        """Return when whoever read standard output through a pipe has gone; else never."""
        if self._descriptor is None:
            await asyncio.Event().wait()
            return
        poller = select.poll()
        poller.register(self._descriptor, 0)  # errors are told unasked
        # A loop tells of readers that left to whoever reads, and nobody reads here: so it is asked for.
        while not any(event & select.POLLERR for _, event in poller.poll(0)):  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_SECONDS)

    def close(self) -> None:
        """Let the writing thread go. Nothing is waited for."""
        if self._writer is not None:
            self._writer.shutdown(wait=False, cancel_futures=True)


@contextlib.contextmanager
def _naming_stdout() -> Iterator[None]:
    """An error of the system says where it happened."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or "standard output"
        raise


class News:
    """Standard error, unless told: one-line messages, and the console on which bars are drawn."""

    def __init__(self, *, no_color: bool = False, quiet: bool = False, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.is_terminal = is_terminal(self.stream)
        self.colour = wants_colour(self.stream, os.environ, no_color=no_color)
        self.console = console_for(self.stream, no_color=no_color)
        self.quiet = quiet

    def say(self, text: str, *, style: str = "") -> None:
        """One line of news; silent with `--quiet`."""
        if not self.quiet:
            self.console.print(text, style=style or None, soft_wrap=True)

    @contextlib.contextmanager
    def waiting(self, text: str) -> Iterator[None]:
        """Show *text* on a terminal while the block takes longer than `PATIENCE_SECONDS`; then it is gone."""
        if self.quiet or not self.console.is_interactive:
            yield
            return
        sign = self.console.status(text)
        timer = asyncio.get_running_loop().call_later(PATIENCE_SECONDS, sign.start)
        try:
            yield
        finally:
            timer.cancel()
            sign.stop()

    def write(self, text: str) -> None:
        """One line that brings its own colours, as it is."""
        self.stream.write(text + "\n")
        self.stream.flush()

    def warn(self, text: str) -> None:
        """One line that says something is not as asked, though the work goes on."""
        self.console.print(f"asyncjobs: {text}", style="yellow", soft_wrap=True)

    def error(self, text: str) -> None:
        """The one line of an error."""
        self.console.print(f"asyncjobs: {text}", style="bold red", soft_wrap=True)


def abandon_stdout() -> None:
    """Point standard output at nothing, so that the interpreter's last flush does not complain."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
