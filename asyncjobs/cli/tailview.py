"""How the logs of many jobs look as one stream: a coloured prefix, one line at a time.

Modelled on stern (https://github.com/stern/stern): jobs come and go with `+` and `-` lines on
standard error, each job keeps its colour, lines are never mixed. Pure: events in, text out.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from datetime import datetime
from typing import assert_never

import asyncjobs
from asyncjobs.cli.codes import explain
from asyncjobs.cli.text import duration, plain, shorten

PALETTE = (36, 33, 35, 32, 34, 96, 93, 95, 92, 94)
"""SGR foregrounds without red, which would look like trouble."""

WIDEST_PREFIX = 28
"""Columns; with 80 in all, 50 are left for the log."""

_RESET = "\x1b[0m"


class Colours:
    """Gives each name a colour that stays the same from run to run, and differs among those in use.

    The name's checksum chooses; when somebody has that colour already, the next free one is taken.
    """

    def __init__(self, size: int = len(PALETTE)) -> None:
        self._size = size
        self._of: dict[str, int] = {}
        self._users: dict[int, int] = {}

    def __getitem__(self, name: str) -> int:
        """The colour number of *name*, taken now if it has none."""
        if name not in self._of:
            first = zlib.crc32(name.encode()) % self._size
            free = (each % self._size for each in range(first, first + self._size))
            chosen = next((each for each in free if not self._users.get(each)), first)
            self._of[name] = chosen
            self._users[chosen] = self._users.get(chosen, 0) + 1
        return self._of[name]

    def release(self, name: str) -> None:
        """Nobody shows *name* any more; its colour may be given away."""
        chosen = self._of.pop(name, None)
        if chosen is not None:
            self._users[chosen] -= 1


class TailView:
    """Turns events into lines. Holds the names of the jobs that are open, and nothing of their logs."""

    def __init__(
        self,
        *,
        terminal: bool,
        colour: bool,
        news_colour: bool | None = None,
        timestamps: bool = False,
        show_projects: bool = True,
        zone: Callable[[datetime], datetime] = lambda moment: moment.astimezone(),
    ) -> None:
        self._terminal = terminal
        self._colour = colour
        self._news_colour = colour if news_colour is None else news_colour
        self._timestamps = timestamps
        self._show_projects = show_projects
        self._zone = zone
        self._colours = Colours()
        self._prefixes: dict[asyncjobs.JobRef, tuple[str, str]] = {}
        self._width = 0

    def line(self, event: asyncjobs.LogLine) -> str:
        """One line of a log with its prefix, newline included."""
        text = event.text
        if self._terminal:
            text = safe_line(text, colour=self._colour)
        stamp = ""
        if self._timestamps:
            moment = event.timestamp
            stamp = self._dim(f"{self._zone(moment):%H:%M:%S.%f}"[:-3] if moment else " " * 12) + " "
        return f"{self._prefix(event.ref, event.job_name)}{self._dim('│')} {stamp}{text}\n"

    def news(self, event: asyncjobs.TailEvent) -> str | None:
        """The line for standard error about anything that is no log line, without newline."""
        match event:
            case asyncjobs.LogLine():
                return None
            case asyncjobs.JobStarted():
                return f"{self._sign('+', event.ref, event.job.name)} {self._status(event.job.status)}"
            case asyncjobs.JobRetried():
                return f"{self._sign('~', event.ref, '')} retried as {event.new_ref}"
            case asyncjobs.TraceReset():
                return f"{self._sign('~', event.ref, '')} log {event.reason}; going on at byte {event.offset}"
            case asyncjobs.JobFinished():
                text = f"{self._sign('-', event.ref, event.job.name)} {self._status(event.job.status)}"
                if event.job.duration is not None:
                    text += f" in {duration(event.job.duration)}"
                if event.job.failure_reason:
                    text += f" ({plain(event.job.failure_reason)})"
                self._leave(event.ref)
                return text
            case asyncjobs.TailPaused():
                sign = self._sign("-", event.ref, event.job.name)
                self._leave(event.ref)
                return f"{sign} {self._status(event.job.status)}, shown as far as it is now"
            case asyncjobs.TailFailed():
                text = f"! {event.ref}: {explain(event.error)}"
                if self._news_colour:
                    text = f"\x1b[1;31m{text}{_RESET}"
                self._leave(event.ref)
                return text
            case _:
                assert_never(event)

    def _names(self, ref: asyncjobs.JobRef, job_name: str) -> tuple[str, str]:
        """The prefix as shown, and the key its colour hangs on (the same after a retry)."""
        if ref not in self._prefixes:
            name, project = plain(job_name), str(ref.project)
            shown = f"{project.rpartition('/')[2]} {name}" if self._show_projects else name
            shown = shorten(shown, WIDEST_PREFIX)
            self._prefixes[ref] = shown, f"{project}:{name}"
            self._width = max(self._width, len(shown))
        return self._prefixes[ref]

    def _prefix(self, ref: asyncjobs.JobRef, job_name: str) -> str:
        shown, key = self._names(ref, job_name)
        return self._paint(shown.ljust(self._width) + " ", key, colour=self._colour)

    def _sign(self, sign: str, ref: asyncjobs.JobRef, job_name: str) -> str:
        if job_name:
            self._names(ref, job_name)
        _, key = self._prefixes.get(ref, ("", ""))
        name = f" · {plain(job_name)}" if job_name else ""
        return self._paint(f"{sign} {ref}{name}", key, colour=self._news_colour and bool(key))

    def _leave(self, ref: asyncjobs.JobRef) -> None:
        _, key = self._prefixes.pop(ref, ("", ""))
        if all(each != key for _, each in self._prefixes.values()):
            self._colours.release(key)

    def _paint(self, text: str, key: str, *, colour: bool) -> str:
        return f"\x1b[{PALETTE[self._colours[key]]}m{text}{_RESET}" if colour else text

    def _dim(self, text: str) -> str:
        return f"\x1b[2m{text}{_RESET}" if self._colour else text

    def _status(self, status: asyncjobs.JobStatus) -> str:
        code = STATUS_SGR.get(status)
        return f"\x1b[{code}m{plain(status)}{_RESET}" if self._news_colour and code else plain(status)


def safe_line(text: str, *, colour: bool) -> str:
    """A line of a log without anything that could drive a terminal; no colour reaches into the next line."""
    if text.isprintable():
        return text
    clean = asyncjobs.TerminalFilter(color=colour)
    return clean.feed(text) + clean.finish()


STATUS_SGR = {
    "success": "32",
    "failed": "1;31",
    "canceled": "90",
    "canceling": "90",
    "skipped": "90",
    "running": "36",
    "pending": "33",
    "manual": "35",
    "scheduled": "35",
}
"""Colours of the statuses, the ones GitLab's own pages use as far as sixteen colours go."""
