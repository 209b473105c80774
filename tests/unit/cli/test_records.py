"""Values as JSON lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import asyncjobs
from asyncjobs.cli import records
from tests.unit.cli.samples import NOW, REF, job, log_line, outcome


def read(fields: dict[str, Any], **more: bool) -> dict[str, Any]:
    """What a program makes of a line."""
    line = records.line(fields, **more)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    value = json.loads(line)
    assert isinstance(value, dict)
    return value


def test_a_job_has_gitlabs_names_and_a_target() -> None:
    """Every field is spelled as GitLab spells it; `target` names the job for the next command."""
    read_back = read(records.job(REF, job(created_at=NOW, tag_list=("docker",))))
    assert list(read_back)[:4] == ["target", "id", "status", "name"]
    assert read_back["target"] == "shop/web/-/jobs/1042"
    assert read_back["status"] == "failed"
    assert read_back["created_at"] == "2026-05-01T12:00:00Z"
    assert read_back["tag_list"] == ["docker"]
    assert read_back["artifacts_file"] is None
    assert asyncjobs.parse_target(read_back["target"]) == REF


def test_an_unknown_status_is_itself() -> None:
    """A status of a future GitLab comes out as it went in."""
    assert read(records.job(REF, job(status="meditating")))["status"] == "meditating"


@pytest.mark.parametrize(
    ("event", "fields"),
    [
        (log_line("héllo", stream="stdout", number=3), {"event": "line", "text": "héllo", "number": 3}),
        (
            asyncjobs.JobStarted(REF, job("lint", "running")),
            {"event": "started", "status": "running", "job": "lint"},
        ),
        (
            asyncjobs.JobRetried(REF, asyncjobs.JobRef("shop/web", 9)),
            {"event": "retried", "new_target": "shop/web/-/jobs/9"},
        ),
        (asyncjobs.TraceReset(REF, 5, "erased"), {"event": "reset", "offset": 5, "reason": "erased"}),
        (
            asyncjobs.JobFinished(REF, job("lint", "success", duration=2.5), asyncjobs.TraceCursor(REF)),
            {"event": "finished", "duration": 2.5, "cursor": str(asyncjobs.TraceCursor(REF))},
        ),
        (
            asyncjobs.TailPaused(REF, job("lint", "running"), asyncjobs.TraceCursor(REF)),
            {"event": "paused", "status": "running", "cursor": str(asyncjobs.TraceCursor(REF))},
        ),
        (
            asyncjobs.TailFailed(REF, asyncjobs.NotFoundError("404", status=404), None),
            {"event": "failed", "error": "NotFoundError", "status": 404, "cursor": None},
        ),
    ],
)
def test_tail_events(event: asyncjobs.TailEvent, fields: dict[str, Any]) -> None:
    """Each event says its kind and its job, then its facts."""
    read_back = read(records.tail_event(event))
    assert read_back["target"] == str(REF)
    assert read_back | fields == read_back


@pytest.mark.parametrize(
    ("event", "fields"),
    [
        (asyncjobs.SyncPlanned(REF, Path("a.zip"), 5), {"event": "planned", "path": "a.zip", "size": 5}),
        (
            asyncjobs.DownloadProgress(REF, Path("a.zip"), 2, 5),
            {"event": "progress", "received": 2, "total": 5},
        ),
        (
            asyncjobs.SyncFinished("skipped", outcome(reason="expired")),
            {"event": "skipped", "reason": "expired"},
        ),
        (
            asyncjobs.SyncFinished("failed", outcome(error=asyncjobs.IntegrityError("cut"))),
            {"event": "failed", "error": "IntegrityError", "message": "cut"},
        ),
    ],
)
def test_sync_events(event: asyncjobs.SyncEvent, fields: dict[str, Any]) -> None:
    """Each event says its kind and its job, then its facts."""
    read_back = read(records.sync_event(event))
    assert read_back["target"] == str(REF)
    assert read_back | fields == read_back


def test_the_summary_counts_everything() -> None:
    """The last line of a sync has a number for each list and the targets that failed."""
    report = asyncjobs.SyncReport(
        downloaded=[outcome(), outcome()],
        failures=[asyncjobs.TargetFailure(asyncjobs.ProjectRef("a/b"), asyncjobs.ConnectError("refused"))],
        bytes_received=10,
    )
    read_back = read(records.sync_report(report, dry_run=False))
    assert (read_back["downloaded"], read_back["unchanged"], read_back["ok"]) == (2, 0, False)
    assert read_back["failures"] == [{"target": "a/b", "error": "ConnectError", "message": "refused"}]


def test_a_terminal_is_not_driven_by_json() -> None:
    """The control characters JSON lets through are escaped for a terminal; the value stays the same."""
    name = "a\x9b2J\u202eb\x7f"
    line = records.line({"name": name}, terminal=True)
    assert line.isascii()
    assert json.loads(line) == {"name": name}
    assert not records.line({"name": name}).isascii()
