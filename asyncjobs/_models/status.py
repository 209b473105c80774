"""The statuses of a job, and what each means for whoever waits.

GitLab: app/models/concerns/ci/has_status.rb, https://docs.gitlab.com/api/jobs/
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class JobStatus(StrEnum):
    """A job's status in GitLab's spelling. A status we have never met survives as its string."""

    CREATED = "created"
    WAITING_FOR_RESOURCE = "waiting_for_resource"
    PREPARING = "preparing"
    WAITING_FOR_CALLBACK = "waiting_for_callback"
    PENDING = "pending"
    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"
    CANCELING = "canceling"
    CANCELED = "canceled"
    SKIPPED = "skipped"
    MANUAL = "manual"
    SCHEDULED = "scheduled"

    @classmethod
    def _missing_(cls, value: object) -> JobStatus | None:
        if not isinstance(value, str):
            return None
        unknown = str.__new__(cls, value)
        unknown._name_ = "UNKNOWN"
        unknown._value_ = value
        return unknown

    @property
    def is_known(self) -> bool:
        """Whether this release of asyncjobs has a rule for the status."""
        return self.name != "UNKNOWN"

    @property
    def is_final(self) -> bool:
        """The job is over and stays over; a retry makes a new job."""
        return self in FINAL

    @property
    def is_executing(self) -> bool:
        """A runner works on it, so its trace may grow."""
        return self in EXECUTING

    @property
    def is_alive(self) -> bool:
        """It will go on by itself."""
        return self in ALIVE

    @property
    def is_blocked(self) -> bool:
        """It waits for a person or a date and may never start."""
        return self in BLOCKED


FINAL: Final = frozenset({JobStatus.SUCCESS, JobStatus.FAILED, JobStatus.CANCELED, JobStatus.SKIPPED})
EXECUTING: Final = frozenset({JobStatus.RUNNING, JobStatus.CANCELING})
BLOCKED: Final = frozenset({JobStatus.MANUAL, JobStatus.SCHEDULED})
ALIVE: Final = frozenset(JobStatus) - FINAL - BLOCKED
NEWEST_FIRST: Final = (
    JobStatus.CANCELING,
    JobStatus.WAITING_FOR_CALLBACK,
    JobStatus.WAITING_FOR_RESOURCE,
    JobStatus.PREPARING,
)
"""Statuses of a living job that older servers do not know and refuse as a scope (17.x, 16.x, 12.x, 11.x)."""
