"""One job in full, as a two-column page for people. Every word of a server is made safe first."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from asyncjobs.cli.tables import STATUS_STYLES
from asyncjobs.cli.text import age, duration, plain, size

if TYPE_CHECKING:
    import asyncjobs


def job_details(ref: asyncjobs.JobRef, job: asyncjobs.Job, *, now: datetime) -> RenderableType:
    """The page of one job; lines about which GitLab says nothing are left out."""
    heading = Text.assemble(
        (plain(job.name), "bold"), "  ", (plain(job.status), STATUS_STYLES.get(job.status, "")), f"  {ref}"
    )
    page = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    page.add_column(style="bright_black", no_wrap=True)
    page.add_column(overflow="fold")
    for label, value in _rows(job, now):
        page.add_row(label, plain(value))
    return Group(heading, page)


def _rows(job: asyncjobs.Job, now: datetime) -> Iterator[tuple[str, str]]:
    if job.failure_reason:
        yield "reason", job.failure_reason + (" (allowed to fail)" if job.allow_failure else "")
    if job.stage:
        yield "stage", job.stage
    if job.ref:
        yield "ref", f"{job.ref} (tag)" if job.tag else job.ref
    if job.pipeline:
        yield "pipeline", f"{job.pipeline.id} ({job.pipeline.status})"
    if job.commit:
        yield "commit", " ".join(filter(None, (job.commit.short_id, job.commit.title)))
    if job.user:
        yield "started by", job.user.username or job.user.name or str(job.user.id)
    for label, moment in (
        ("created", job.created_at),
        ("started", job.started_at),
        ("finished", job.finished_at),
        ("erased", job.erased_at),
    ):
        if moment:
            yield label, f"{moment.astimezone():%Y-%m-%d %H:%M:%S %z} ({age(moment, now)} ago)"
    if job.duration is not None:
        queued = "" if job.queued_duration is None else f" after {duration(job.queued_duration)} in the queue"
        yield "took", duration(job.duration) + queued
    if job.coverage is not None:
        yield "coverage", f"{job.coverage:g} %"
    if job.runner:
        yield "runner", " ".join(filter(None, (f"#{job.runner.id}", job.runner.description)))
    if job.tag_list:
        yield "tags", ", ".join(job.tag_list)
    if job.artifacts_file:
        yield "archive", f"{job.artifacts_file.filename}, {size(job.artifacts_file.size)}{_expiry(job, now)}"
    others = [each for each in job.artifacts if each.file_type not in {"archive", "metadata"}]
    if others:
        yield "files", ", ".join(f"{each.file_type} {size(each.size)}" for each in others)
    if job.web_url:
        yield "page", job.web_url


def _expiry(job: asyncjobs.Job, now: datetime) -> str:
    if job.artifacts_expire_at is None:
        return ""
    if job.artifacts_expire_at <= now:
        return ", expired"
    return f", expires in {duration((job.artifacts_expire_at - now).total_seconds())}"
