"""How calls to GitLab are told apart: by what may repeat them, what limits them, where they queue."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """How a call may be repeated; the numbers are in `asyncjobs._retry.policy`."""

    READ = "read"
    DOWNLOAD = "download"
    POLL = "poll"
    WRITE = "write"
    """Changes something, and a second time would change nothing more: cancel, keep, DELETE."""
    ONCE = "once"
    """Changes something each time: retry, play, erase."""


class EndpointClass(StrEnum):
    """What a server limits together: one gate and one row of statistics each."""

    JOBS_INDEX = "jobs_index"
    PROJECT = "project"
    TRACE = "trace"
    ARTIFACT = "artifact"
    STORAGE = "storage"
    OTHER = "other"


class Lane(StrEnum):
    """Where a call queues for a slot, so that a thousand downloads never delay `get_job`."""

    CONTROL = "control"
    TAIL = "tail"
    BULK = "bulk"
