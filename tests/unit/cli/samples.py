"""Small values the tests of the command share."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncjobs

NOW = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)
REF = asyncjobs.JobRef("shop/web", 1042)


def job(name: str = "unit tests", status: str = "failed", **more: Any) -> asyncjobs.Job:
    """A job with the few fields that a test is about."""
    more.setdefault("id", REF.job_id)
    return asyncjobs.Job(name=name, status=asyncjobs.JobStatus(status), **more)


def log_line(
    text: str, *, ref: asyncjobs.JobRef = REF, name: str = "unit tests", **more: Any
) -> asyncjobs.LogLine:
    """One line of a log."""
    facts: dict[str, Any] = {
        "raw": text.encode() + b"\n",
        "offset": 0,
        "number": 1,
        "timestamp": None,
        "stream": None,
        "section": None,
    } | more
    return asyncjobs.LogLine(ref=ref, job_name=name, text=text, **facts)


def outcome(**more: Any) -> asyncjobs.ArtifactOutcome:
    """What became of one archive."""
    facts: dict[str, Any] = {"ref": REF, "path": Path("out/shop/web/1042.zip"), "size": 2048} | more
    return asyncjobs.ArtifactOutcome(**facts)
