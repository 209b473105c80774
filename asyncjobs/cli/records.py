"""Values as JSON lines: one object a line, GitLab's own names, times in ISO 8601, null where it says nothing.

Each line has `target`, the text that names the same thing to another command, so lines can be
piped into `xargs asyncjobs show`. Events have `event`, their kind in one word.
"""

from __future__ import annotations

import re
from typing import Any, assert_never

import attrs
import msgspec

import asyncjobs

_UNSAFE = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def line(record: dict[str, Any], *, terminal: bool = False) -> bytes:
    """One JSON object as UTF-8 bytes with its newline.

    For a terminal, the control characters that JSON allows in strings are escaped as well: the
    value is the same, and a job's name cannot drive the terminal.
    """
    data = msgspec.json.encode(record)
    if terminal:
        data = _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", data.decode()).encode()
    return data + b"\n"


def job(ref: asyncjobs.Target, value: asyncjobs.JobBasic | asyncjobs.Pipeline) -> dict[str, Any]:
    """A job or a pipeline as GitLab words it, with its target in front."""
    return {"target": str(ref), **_fields(value)}


def entry(value: asyncjobs.ArtifactEntry) -> dict[str, Any]:
    """One member of an archive."""
    return _fields(value)


def _fields(value: asyncjobs.JobBasic | asyncjobs.Pipeline | asyncjobs.ArtifactEntry) -> dict[str, Any]:
    fields = msgspec.to_builtins(value)
    # In the order of the class: what a person looks for first, such as id and status, comes first.
    return {each.name: fields[each.name] for each in attrs.fields(type(value))}


def failure(target: object, error: BaseException) -> dict[str, Any]:
    """Something that could not be done, for the event streams of tail and sync."""
    return {"event": "failed", "target": str(target), **error_fields(error)}


def error_fields(error: BaseException) -> dict[str, Any]:
    """The class and the text of an error, and the HTTP status where there is one."""
    fields: dict[str, Any] = {"error": type(error).__name__, "message": str(error)}
    if isinstance(error, asyncjobs.ResponseError):
        fields["status"] = error.status
    return fields


def tail_event(event: asyncjobs.TailEvent) -> dict[str, Any]:
    """One event of a tail. `text` is decoded; take `asyncjobs trace` where every byte counts."""
    target = str(event.ref)
    match event:
        case asyncjobs.LogLine():
            return {
                "event": "line",
                "target": target,
                "job": event.job_name,
                "number": event.number,
                "offset": event.offset,
                "timestamp": event.timestamp,
                "stream": event.stream,
                "section": event.section,
                "text": event.text,
            }
        case asyncjobs.JobStarted():
            return {"event": "started", "target": target, "job": event.job.name, "status": event.job.status}
        case asyncjobs.JobRetried():
            return {"event": "retried", "target": target, "new_target": str(event.new_ref)}
        case asyncjobs.TraceReset():
            return {"event": "reset", "target": target, "offset": event.offset, "reason": event.reason}
        case asyncjobs.JobFinished():
            return {
                "event": "finished",
                "target": target,
                "job": event.job.name,
                "status": event.job.status,
                "duration": event.job.duration,
                "failure_reason": event.job.failure_reason,
                "cursor": str(event.cursor),
            }
        case asyncjobs.TailPaused():
            return {
                "event": "paused",
                "target": target,
                "job": event.job.name,
                "status": event.job.status,
                "cursor": str(event.cursor),
            }
        case asyncjobs.TailFailed():
            cursor = None if event.cursor is None else str(event.cursor)
            return {**failure(target, event.error), "cursor": cursor}
        case _:
            assert_never(event)


def sync_event(event: asyncjobs.SyncEvent) -> dict[str, Any]:
    """One event of a sync; sizes in bytes."""
    match event:
        case asyncjobs.SyncPlanned():
            return {
                "event": "planned",
                "target": str(event.ref),
                "path": str(event.path),
                "size": event.size,
            }
        case asyncjobs.DownloadProgress():
            return {
                "event": "progress",
                "target": None if event.ref is None else str(event.ref),
                "path": str(event.path),
                "received": event.received,
                "total": event.total,
            }
        case asyncjobs.SyncFinished():
            return {"event": event.kind, **outcome(event.outcome)}
        case _:
            assert_never(event)


def outcome(value: asyncjobs.ArtifactOutcome) -> dict[str, Any]:
    """What became of one archive."""
    fields: dict[str, Any] = {
        "target": str(value.ref),
        "path": None if value.path is None else str(value.path),
        "size": value.size,
        "sha256": value.sha256,
        "reason": value.reason,
    }
    if value.error is not None:
        fields |= error_fields(value.error)
    return fields


def sync_report(report: asyncjobs.SyncReport, *, dry_run: bool) -> dict[str, Any]:
    """The last line of a sync: counts, bytes, and whether it was complete."""
    return {
        "event": "summary",
        "ok": report.ok,
        "dry_run": dry_run,
        "downloaded": len(report.downloaded),
        "unchanged": len(report.unchanged),
        "skipped": len(report.skipped),
        "failed": len(report.failed),
        "removed": [str(path) for path in report.removed],
        "failures": [{"target": str(each.target), **error_fields(each.error)} for each in report.failures],
        "bytes_received": report.bytes_received,
    }
