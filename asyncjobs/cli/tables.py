"""Jobs as a table that fits the terminal, and as tab-separated lines for other programs.

The narrower the terminal, the fewer columns: what tells jobs apart and what one would type next
stays, what explains goes first. Every word of a server is made safe before it is shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from rich import box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from asyncjobs.cli.text import age, duration, plain, shorten

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
    """A table for people, at most *width* columns wide; one line for each job."""
    columns: tuple[str, ...] = _WIDE_COLUMNS if width >= WIDE else _NARROW_COLUMNS
    lines = [_cells(ref, job, now) for ref, job in rows]
    natural = {
        name: max([cell_len(name), *(cell_len(line[name].plain) for line in lines)]) for name in columns
    }
    widths = _fit({name: natural[name] for name in columns}, width - _GAP * len(columns))
    if widths["target"] < natural["target"]:
        columns = tuple(name for name in columns if name != "ref")
        widths = _fit({name: natural[name] for name in columns}, width - _GAP * len(columns))
    for line in lines:
        line["target"] = Text(shorten(line["target"].plain, widths["target"]))
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        title=title,
        title_justify="left",
        title_style="bold",
    )
    for name in columns:
        table.add_column(name, width=widths[name], no_wrap=True, overflow="ellipsis", justify=_justify(name))
    for line in lines:
        table.add_row(*(line[name] for name in columns))
    return table


_WIDE_COLUMNS = ("status", "target", "job", "stage", "ref", "took", "ago", "why")
_NARROW_COLUMNS = ("status", "target", "job", "ref", "ago")
_GAP = 2
"""What the table itself puts between two columns."""

_SHRINK = (
    ("ref", 16),
    ("why", 9),
    ("stage", 5),
    ("ref", 6),
    ("job", 10),
    ("target", 14),
    ("status", 6),
)
"""Which columns give room, in this order, and how much each keeps: what one types next goes last."""


def _justify(name: str) -> Literal["left", "right"]:
    return "right" if name in {"took", "ago"} else "left"


def _fit(natural: dict[str, int], room: int) -> dict[str, int]:
    """Widths that are no more than *room* together, as far as the least widths allow."""
    widths = dict(natural)
    for name, least in _SHRINK:
        excess = sum(widths.values()) - room
        if excess > 0 and name in widths:
            widths[name] = max(min(least, widths[name]), widths[name] - excess)
    return widths


def _cells(ref: asyncjobs.JobRef, job: asyncjobs.Job, now: datetime) -> dict[str, Text]:
    """Every cell of one job, made safe."""
    return {
        "status": Text(plain(job.status), style=STATUS_STYLES.get(job.status, "")),
        "target": Text(str(ref)),
        "job": Text(plain(job.name), style="bold"),
        "stage": Text(plain(job.stage or "-")),
        "ref": Text(plain(job.ref or "-")),
        "took": Text(duration(job.duration)),
        "ago": Text(age(job.created_at, now)),
        "why": Text(plain(job.failure_reason or "")),
    }


def job_words(status: str, ref: object, more: str) -> Text:
    """What became of one job, as a line for a person."""
    return Text.assemble(
        (f"{plain(status):<9}", STATUS_STYLES.get(status, "")), f" {ref}  ", (plain(more), "bold")
    )


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
