"""One sync as people and programs see it: bars or lines while it runs, then a summary and an exit code.

Archives and saved logs alike; what is synced is passed in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncjobs
from asyncjobs.cli import records
from asyncjobs.cli.bars import SyncBars, summary
from asyncjobs.cli.codes import ExitCode
from asyncjobs.cli.framework import Session
from asyncjobs.cli.text import plain

OnEvent = Callable[[asyncjobs.SyncEvent], object]

MOST_WAITING = 1_000
"""Events waiting for a slow reader of standard output before progress is left out."""


async def show_sync(
    session: Session,
    run: Callable[[OnEvent], Awaitable[asyncjobs.SyncReport]],
    dest: Path,
    *,
    dry_run: bool = False,
    as_json: bool = False,
) -> asyncjobs.SyncReport:
    """Run one sync with its bars and its summary; lines for other programs where they are wanted."""
    lines = not as_json and (dry_run or not session.out.is_terminal)
    waiting: asyncio.Queue[asyncjobs.SyncEvent | None] = asyncio.Queue()

    async def write() -> None:
        while (event := await waiting.get()) is not None:
            if as_json:
                await session.record(records.sync_event(event))
            elif isinstance(event, asyncjobs.SyncFinished):
                await session.out.write(_sync_line(event).encode())

    # Where both streams go to one log, a file that came is named once.
    files = session.news.is_terminal or not (as_json or lines)
    with SyncBars(session.news, root=str(dest), files=files) as bars:

        def on_event(event: asyncjobs.SyncEvent) -> None:
            bars.on_event(event)
            # A slow reader costs progress reports; what is kept grows with the report itself, which
            # has a line for each job as well.
            progress = isinstance(event, asyncjobs.DownloadProgress)
            if (as_json and not (progress and waiting.qsize() > MOST_WAITING)) or (
                lines and isinstance(event, asyncjobs.SyncFinished)
            ):
                waiting.put_nowait(event)

        async with asyncio.TaskGroup() as group:
            group.create_task(write())
            try:
                report = await run(on_event)
            finally:
                waiting.put_nowait(None)
    if as_json:
        await session.record(records.sync_report(report, dry_run=dry_run))
    session.news.say(f"{plain(dest)}: {summary(report, dry_run=dry_run)}")
    return report


def _sync_line(event: asyncjobs.SyncFinished) -> str:
    outcome = event.outcome
    word = outcome.reason if event.kind == "skipped" and outcome.reason else event.kind
    fields = (word, str(outcome.ref), outcome.path, outcome.size)
    return "\t".join("" if each is None else plain(each) for each in fields) + "\n"


def sync_result(session: Session, report: asyncjobs.SyncReport, *, allow_empty: bool) -> ExitCode:
    """The exit code of a sync; targets that could not be listed are said."""
    session.report(report.failures)
    errors = [each.error for each in report.failed] + [each.error for each in report.failures]
    done = len(report.downloaded) + len(report.unchanged) + len(report.skipped)
    return session.result(errors, done=done, allow_empty=allow_empty, what="job")
