"""What to do with one job's archive: one word, and for what is not there one reason.

Decided from four small values: what the job says, what the manifest remembers, what is on the disk, and
what the caller allows. An archive of a job id changes only by being erased or deleted, since a retried
job gets a new id (https://docs.gitlab.com/api/jobs/#retry-a-job); so size and origin tell a stale file.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Final

import attrs

from asyncjobs._models import Job

LOG_FILE_TYPE: Final = "trace"
"""The manifest's word for a saved log: no archive, though it may lie in the same folder."""


class Action(StrEnum):
    """What a sync does with one archive."""

    DOWNLOAD = "download"
    """Nothing is here yet."""
    UPDATE = "update"
    """What is here is of an older archive of this job."""
    REPAIR = "repair"
    """What is here is missing, cut or changed since it was downloaded."""
    REHASH = "rehash"
    """Size fits, time does not (or the caller asked): hash the file, then ask again."""
    RECORD = "record"
    """The file is whole and only its row is unfinished, as after a crash between rename and record."""
    KEEP = "keep"
    """Nothing to do."""


@attrs.frozen
class Remembered:
    """What the manifest knows about one path."""

    job_id: int
    remote_size: int | None
    """Bytes the server announced when it was downloaded; None when it did not."""
    size: int
    mtime_ns: int
    sha256: str
    complete: bool = True
    """False between the promise to place the file and the record that it stands."""


@attrs.frozen
class OnDisk:
    """What the disk knows about one path."""

    size: int
    mtime_ns: int
    sha256: str | None = None
    """None until somebody has read the file."""


def missing_reason(
    job: Job, *, now: datetime, max_bytes: int | None = None, file_type: str = "archive"
) -> str | None:
    """Why there is nothing to download, as one word, or None when there is something.

    Args:
        job: As the server described it.
        now: An aware datetime; compared with `artifacts_expire_at`.
        max_bytes: Larger archives are left out; None for no limit.
        file_type: Which stored file is wanted.

    GitLab: https://docs.gitlab.com/ci/jobs/job_artifacts/
    """
    if not job.status.is_final:
        return "not_finished"
    size = remote_size(job, file_type)
    if not _is_listed(job, file_type):
        return _why_none(job, now)
    if max_bytes is not None and size is not None and size > max_bytes:
        return "too_large"
    return None


def lost_reason(job: Job, *, now: datetime, file_type: str = "archive") -> str:
    """Why a download was answered with 404, as one word, by the job's record as it is afterwards.

    Expired archives are refused before their record forgets them. One that was neither erased nor has
    expired should be there: that is `lost`, and a failure rather than a reason.

    Args:
        job: As the server describes it now.
        now: An aware datetime; compared with `artifacts_expire_at`.
        file_type: Which stored file was wanted.
    """
    known = missing_reason(job, now=now, file_type=file_type) or _why_none(job, now)
    return "lost" if known == "none" and _is_listed(job, file_type) else known


def _is_listed(job: Job, file_type: str) -> bool:
    if file_type == "archive":
        return job.artifacts_file is not None
    return any(each.file_type == file_type for each in job.artifacts)


def _why_none(job: Job, now: datetime) -> str:
    if job.erased_at is not None:
        return "erased"
    if job.artifacts_expire_at is not None and job.artifacts_expire_at <= now:
        return "expired"
    return "none"


def remote_size(job: Job, file_type: str = "archive") -> int | None:
    """Bytes of the stored file as the job record has them, or None when it does not say."""
    if file_type == "archive" and job.artifacts_file is not None:
        return job.artifacts_file.size
    return next((each.size for each in job.artifacts if each.file_type == file_type), None)


def choose_action(
    *,
    job_id: int,
    size: int | None,
    remembered: Remembered | None,
    on_disk: OnDisk | None,
    verify: bool = False,
) -> Action:
    """Choose what to do with an archive that exists on the server.

    Args:
        job_id: Whose archive it is.
        size: Bytes the server announces now, or None.
        remembered: The manifest's row for the path, if any.
        on_disk: The file at the path, if any; with `sha256` when it was read.
        verify: Trust no size and no time: every file is hashed.
    """
    if remembered is None or remembered.job_id != job_id:
        return Action.DOWNLOAD
    if size is not None and size != (
        remembered.size if remembered.remote_size is None else remembered.remote_size
    ):
        return Action.UPDATE
    if on_disk is None or on_disk.size != remembered.size:
        return Action.REPAIR if remembered.complete else Action.DOWNLOAD
    if on_disk.sha256 is not None:
        if on_disk.sha256 != remembered.sha256:
            return Action.REPAIR
        same_time = on_disk.mtime_ns == remembered.mtime_ns
        return Action.KEEP if remembered.complete and same_time else Action.RECORD
    if verify or not remembered.complete or on_disk.mtime_ns != remembered.mtime_ns:
        return Action.REHASH
    return Action.KEEP
