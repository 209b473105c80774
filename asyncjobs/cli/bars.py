"""Progress of downloads: bars on a terminal, one line for each finished file elsewhere.

Fed with the library's events and drawn on standard error. Counts, and decides nothing.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.text import Text

import asyncjobs
from asyncjobs.cli.codes import explain
from asyncjobs.cli.text import count, plain, shorten_path, size

if TYPE_CHECKING:
    from types import TracebackType

    from asyncjobs.cli.output import News

SIGNS = {"downloaded": "+", "unchanged": "=", "skipped": "-", "failed": "!"}
_STYLES = {"downloaded": "green", "unchanged": "bright_black", "skipped": "yellow", "failed": "bold red"}


class _Amount(ProgressColumn):
    """Bytes here of bytes in all, in the units of every other line of the command."""

    def render(self, task: Task) -> Text:
        """`1.4 MiB / 3.0 MiB`."""
        total = "?" if task.total is None else size(int(task.total))
        return Text(f"{size(int(task.completed)):>8} / {total:<8}", style="green")


class _Speed(ProgressColumn):
    """Bytes a second, once that can be told."""

    def render(self, task: Task) -> Text:
        """`2.1 MiB/s`."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{size(int(speed))}/s", style="cyan")


class SyncBars:
    """Shows one sync. Enter it around the call and give `on_event` to the library.

    Args:
        news: Where to draw.
        root: The folder all files go to; left out of their names.
        expected: Bytes in all, where somebody knows before the listing is complete.
        files: Name each file that came.
    """

    def __init__(self, news: News, *, root: str, expected: int = 0, files: bool = True) -> None:
        self._files = files
        self._expected = expected
        self._news = news
        self._root = root.rstrip("/") + "/"
        self._live = news.console.is_interactive and not news.quiet
        width = news.console.width
        self._name_width = max(16, min(48, width - 48))
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(
                bar_width=max(8, min(30, width - self._name_width - 34)),
                complete_style="cyan",
                finished_style="green",
            ),
            _Amount(),
            _Speed(),
            console=news.console,
            transient=True,
            disable=not self._live,
        )
        self._overall: TaskID | None = None
        self._tasks: dict[asyncjobs.JobRef, TaskID] = {}
        self._received: dict[asyncjobs.JobRef, int] = {}
        self._planned: dict[asyncjobs.JobRef, int] = {}
        self._done_bytes = 0
        self._total = 0

    def __enter__(self) -> Self:
        if self._live:  # older releases of rich print an empty line even when disabled
            self._progress.start()
        self._overall = self._progress.add_task(self._label("all files"), total=None)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._progress.stop()

    def on_event(self, event: asyncjobs.SyncEvent) -> None:
        """Take one event of the library."""
        match event:
            case asyncjobs.SyncPlanned():
                self._planned[event.ref] = event.size or 0
                self._total += event.size or 0
            case asyncjobs.DownloadProgress():
                if event.ref is not None:
                    self._advance(event.ref, event)
            case asyncjobs.SyncFinished():
                self._settle(event)
        if self._overall is not None:
            completed = self._done_bytes + sum(self._received.values())
            self._progress.update(
                self._overall, completed=completed, total=max(self._total, self._expected, completed) or None
            )

    def _advance(self, ref: asyncjobs.JobRef, event: asyncjobs.DownloadProgress) -> None:
        if ref not in self._tasks:
            self._tasks[ref] = self._progress.add_task(self._label(self._short(str(event.path))), total=None)
        self._received[ref] = event.received
        self._progress.update(self._tasks[ref], completed=event.received, total=event.total)

    def _settle(self, event: asyncjobs.SyncFinished) -> None:
        outcome = event.outcome
        task = self._tasks.pop(outcome.ref, None)
        if task is not None:
            self._progress.remove_task(task)
        received = self._received.pop(outcome.ref, 0)
        planned = self._planned.pop(outcome.ref, 0)
        if event.kind == "downloaded":
            self._done_bytes += outcome.size or received
            self._total += (outcome.size or received) - planned
        else:
            self._total -= planned
        if event.kind in {"downloaded", "failed"}:
            self._line(event)

    def _line(self, event: asyncjobs.SyncFinished) -> None:
        outcome = event.outcome
        where = self._short(str(outcome.path)) if outcome.path is not None else str(outcome.ref)
        text = f"{SIGNS.get(event.kind, '?')} {where}"
        if event.kind == "failed":
            self._news.error(f"{outcome.ref}: {explain(outcome.error) if outcome.error else outcome.reason}")
            return
        if outcome.size is not None:
            text += f"  {size(outcome.size)}"
        if self._files:
            self._news.say(text, style=_STYLES.get(event.kind, ""))

    def _short(self, path: str) -> str:
        return plain(path.removeprefix(self._root))

    def _label(self, text: str) -> str:
        return shorten_path(text, self._name_width).ljust(self._name_width)


def summary(report: asyncjobs.SyncReport, *, dry_run: bool) -> str:
    """One sentence with everything that happened."""
    received = sum(each.size or 0 for each in report.downloaded)
    if dry_run:
        planned = [each for each in report.skipped if each.reason == "dry_run"] or report.downloaded
        parts = [
            f"would download {count(len(planned), 'archive')} ({size(sum(e.size or 0 for e in planned))})"
        ]
    else:
        # Less crossed the network where partial files of an earlier run were completed.
        network = f", {size(report.bytes_received)} received" if 0 < report.bytes_received < received else ""
        parts = [f"{len(report.downloaded):,} downloaded ({size(received)}{network})"]
    parts.append(f"{len(report.unchanged):,} unchanged")
    skipped = Counter(each.reason or "other" for each in report.skipped if each.reason != "dry_run")
    if skipped:
        reasons = ", ".join(
            f"{number} {reason.replace('_', ' ')}" for reason, number in skipped.most_common()
        )
        parts.append(f"{sum(skipped.values()):,} skipped ({reasons})")
    if report.removed:
        parts.append(f"{'would remove' if dry_run else 'removed'} {count(len(report.removed), 'file')}")
    if report.failed:
        parts.append(f"{len(report.failed):,} failed")
    if report.failures:
        parts.append(f"{count(len(report.failures), 'target')} not listed")
    return ", ".join(parts)
