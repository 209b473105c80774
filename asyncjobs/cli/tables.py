"""Jobs as a table that fits the terminal, and as tab-separated lines for other programs.

The narrower the terminal, the fewer columns: what tells jobs apart and what one would type next
stays, what explains goes first. Every word of a server is made safe before it is shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from asyncjobs.cli.text import age, duration, plain

if TYPE_CHECKING:
    import asyncjobs

STATUS_STYLES = {
    "success": "green",
    "failed": "bold red",
    "canceled": "bright_black",
    "canceling": "bright_black",
    "skipped": "bright_black",
    "running": "cyan",
    "pending": "yellow",
    "manual": "magenta",
    "scheduled": "magenta",
}

WIDE = 110
"""Columns from which stage, duration and reason find room too."""

COLUMNS = ("target", "status", "name", "stage", "ref", "created_at", "duration", "failure_reason")
"""Columns of the tab-separated form, in this order for ever; new ones only at the end."""


def jobs_table(
    rows: Iterable[tuple[asyncjobs.JobRef, asyncjobs.Job]],
    *,
    width: int,
    now: datetime,
    title: str | None = None,
) -> Table:
    """A table for people, at most *width* columns wide."""
    wide = width >= WIDE
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left", title_style="bold")
    # rich takes room only from columns that may wrap, so the long ones may; their cells are single lines.
    table.add_column("status", no_wrap=True)
    table.add_column("target", max_width=width * 2 // 5)
    table.add_column("job", max_width=width // 4)
    if wide:
        table.add_column("stage", max_width=width // 10)
    table.add_column("ref", max_width=width // 6)
    if wide:
        table.add_column("took", no_wrap=True, justify="right")
    table.add_column("ago", no_wrap=True, justify="right")
    if wide:
        table.add_column("why")
    for ref, job in rows:
        cells = [
            _cell(plain(job.status), STATUS_STYLES.get(job.status, "")),
            _cell(str(ref)),
            _cell(plain(job.name), "bold"),
        ]
        if wide:
            cells.append(_cell(plain(job.stage or "-")))
        cells.append(_cell(plain(job.ref or "-")))
        if wide:
            cells.append(_cell(duration(job.duration)))
        cells.append(_cell(age(job.created_at, now)))
        if wide:
            cells.append(_cell(plain(job.failure_reason or "")))
        table.add_row(*cells)
    return table


def _cell(text: str, style: str = "") -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def job_line(ref: asyncjobs.JobRef, job: asyncjobs.JobBasic) -> str:
    """One job as tab-separated fields (`COLUMNS`), newline included; empty where GitLab says nothing."""
    fields = (
        str(ref),
        job.status,
        job.name,
        job.stage,
        job.ref,
        job.created_at.isoformat() if job.created_at else None,
        None if job.duration is None else f"{job.duration:.3f}",
        job.failure_reason,
    )
    return "\t".join("" if each is None else plain(each) for each in fields) + "\n"
