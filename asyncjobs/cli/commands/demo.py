"""`demo`: list, tail and sync on a fake GitLab in this process, with no account and no network.

It uses the same code paths as `jobs`, `tail` and `sync`. What is made for show is said: the fake
server's world, and the bandwidth limit without which loopback is too fast to watch.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import attrs
import click
from rich import box
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

import asyncjobs
from asyncjobs.cli.bars import SyncBars
from asyncjobs.cli.codes import ExitCode, UsageError
from asyncjobs.cli.framework import Session, command, quiet_server_log
from asyncjobs.cli.output import News
from asyncjobs.cli.params import FOLDER
from asyncjobs.cli.tables import jobs_table
from asyncjobs.cli.tailview import TailView
from asyncjobs.cli.text import count, duration, size

MARKER = ".asyncjobs-demo"
"""A file that says a folder was made by the demo, so that the next demo may replace it."""

SPEED = 10.0
"""The fake server's clock runs faster, so that jobs last minutes there and seconds here."""

SYNC_SECONDS = 3.0
"""How long the bars should be there to be seen."""

LEAST_BANDWIDTH = 1024 * 1024


@command("demo", short_help="List, tail and sync on a fake GitLab: no account, no network.")
@click.option(
    "--dest",
    type=FOLDER,
    default="asyncjobs-demo",
    show_default=True,
    help="Folder for the archives; replaced when an earlier demo made it.",
)
async def demo(session: Session, dest: Path) -> int:
    """Show the three main things on a fake GitLab in this process; about 20 seconds.

    Lists the failed jobs of several projects, follows the running jobs together until they end,
    brings all archives to a folder, and shows where they are.

    Examples:
        asyncjobs demo
        asyncjobs demo --dest /tmp/archives
    """
    from asyncjobs.testing import serve  # noqa: PLC0415 - no other command needs a web server

    quiet_server_log(session.settings)
    await asyncio.to_thread(prepare, dest)
    began = time.monotonic()
    async with serve(speed=SPEED) as gitlab:
        group = next(iter(gitlab.projects.values())).full_path.partition("/")[0]
        async with asyncjobs.Client(gitlab.url, private_token=gitlab.token) as client:
            show = Show(session, client, asyncjobs.GroupRef(group), gitlab.clock.time)
            show.opening(gitlab.url)
            await show.failed_jobs()
            await show.running_jobs()
            first = await show.archives(dest)
            second = await client.sync_artifacts([show.target], dest)
            show.closing(dest, first, second, seconds=time.monotonic() - began)
    return ExitCode.OK if first.ok and second.ok else ExitCode.FAILED


def prepare(dest: Path) -> None:
    """Make an empty folder, in place of the one an earlier demo made.

    Raises:
        UsageError: The folder holds something else, or cannot be made.
    """
    try:
        if (dest / MARKER).is_file():
            shutil.rmtree(dest)
        dest.mkdir(parents=True, exist_ok=True)
        if any(dest.iterdir()):
            raise UsageError(f"{dest} is not empty and no demo made it; choose another folder with --dest")
        (dest / MARKER).write_text(
            "Made by `asyncjobs demo`, which replaces this folder when it runs again.\n"
        )
    except OSError as error:
        raise UsageError(
            f"{dest} cannot be written ({error.strerror}); choose a folder with --dest"
        ) from error


@attrs.define
class Show:
    """The parts of the demo, all on standard output: here what is shown is the data."""

    session: Session
    client: asyncjobs.Client
    target: asyncjobs.GroupRef
    clock: Callable[[], float]
    """The fake server's time, in seconds since 1970."""

    def _heading(self, number: int, text: str, command_line: str) -> None:
        console = self.session.out.console
        console.print()
        console.print(Text.assemble((f" {number} ", "bold black on cyan"), (f" {text}", "bold")))
        console.print(Text(f"   $ asyncjobs {command_line}", style="bright_black"))

    def opening(self, url: str) -> None:
        """Say where everything comes from."""
        self.session.out.console.print(
            Text.assemble(
                ("asyncjobs demo", "bold cyan"), f": a fake GitLab at {url}; no account, no network"
            )
        )

    async def failed_jobs(self) -> None:
        """Part one: every failed job of every project in one table."""
        self._heading(1, "What failed? Every project of a group at once", f"jobs {self.target} --failed")
        async with self.client.stream_jobs([self.target], scope="failed") as stream:
            rows = [row async for row in stream]
        rows.sort(key=lambda row: (str(row[0].project), row[0].job_id))
        console = self.session.out.console
        now = datetime.fromtimestamp(self.clock(), UTC)
        console.print(jobs_table(rows, width=console.width, now=now))

    async def running_jobs(self) -> None:
        """Part two: all running jobs in one stream, until they end."""
        self._heading(2, "What is running? All logs together until the jobs end", f"tail {self.target}")
        out = self.session.out
        # Plain text where nobody could see colours: this is a show, not somebody's data.
        view = TailView(terminal=True, colour=out.colour)
        options = asyncjobs.TailOptions(min_interval=0.4, max_interval=2.0, settle=0.5)
        async with self.client.tail([self.target], options=options) as events:
            async for event in events:
                text = view.line(event) if isinstance(event, asyncjobs.LogLine) else f"{view.news(event)}\n"
                await out.write(text.encode())

    async def archives(self, dest: Path) -> asyncjobs.SyncReport:
        """Part three: all archives to a folder, slowed down to be seen."""
        plan = await self.client.sync_artifacts(
            [self.target], dest, options=asyncjobs.SyncOptions(dry_run=True)
        )
        total = sum(each.size or 0 for each in (*plan.skipped, *plan.downloaded))
        limit = max(LEAST_BANDWIDTH, int(total / SYNC_SECONDS))
        self._heading(
            3,
            f"Bring all archives here, at {size(limit)}/s so that one can watch",
            f"sync {self.target} {dest}",
        )
        news = News(no_color=self.session.settings.no_color, stream=sys.stdout)
        with SyncBars(news, root=str(dest), expected=total) as bars:
            return await self.client.sync_artifacts(
                [self.target],
                dest,
                options=asyncjobs.SyncOptions(bandwidth_limit=limit, concurrency=4),
                on_event=bars.on_event,
            )

    def closing(
        self, dest: Path, first: asyncjobs.SyncReport, second: asyncjobs.SyncReport, *, seconds: float
    ) -> None:
        """Where everything is, and what to try next."""
        facts = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        facts.add_column(style="bright_black", no_wrap=True)
        facts.add_column(overflow="fold")
        received = sum(each.size or 0 for each in first.downloaded)
        facts.add_row("folder", Text(str(dest), style="bold green"))
        facts.add_row("files", f"{count(len(first.downloaded), 'archive')}, {size(received)}, each checked")
        facts.add_row(
            "again",
            f"a second run: {len(second.unchanged)} unchanged, {size(second.bytes_received)} received",
        )
        statistics = self.client.statistics()
        facts.add_row("traffic", f"{statistics.requests} requests, {size(statistics.received_bytes)}")
        console = self.session.out.console
        console.print()
        console.print(
            Panel(
                facts, title=f"done in {duration(seconds)}", title_align="left", box=box.ROUNDED, expand=False
            )
        )
        console.print(Text("Try next", style="bold"))
        for line, why in (
            ("asyncjobs fake-server", "this world, to play with"),
            ("export GITLAB_URL=… GITLAB_TOKEN=…", "your own GitLab"),
            ("asyncjobs jobs group/app --failed", "the same with real projects"),
            ("asyncjobs --help", "everything else"),
        ):
            console.print(Text.assemble((f"  {line:<36}", "cyan"), (why, "bright_black")))
