"""What fan-out and sync report: failures beside targets, files beside jobs, progress as values."""

from __future__ import annotations

from pathlib import Path

import attrs

from asyncjobs._errors import AsyncJobsError
from asyncjobs._models.refs import JobRef, Target


@attrs.frozen
class TargetFailure:
    """A target that could not be read, and why. The other targets were."""

    target: Target
    error: AsyncJobsError


@attrs.frozen
class ArtifactFile:
    """A file that is whole, verified and under its final name."""

    path: Path
    size: int
    """Bytes."""
    sha256: str
    """64 lower-case hex digits, over exactly those bytes."""


@attrs.frozen
class ArtifactOutcome:
    """What became of one job's archive in a sync."""

    ref: JobRef
    path: Path | None = None
    """Where it is, or would be; None when it has no place."""
    size: int | None = None
    """Bytes of the archive, as far as known."""
    sha256: str | None = None
    reason: str | None = None
    """Why it was skipped or failed, one word: `none`, `expired`, `erased`, `forbidden`,
    `not_finished`, `too_large`, `dry_run`, `filtered`, `error`, or `lost` when the record lists an
    archive that the server does not find."""
    error: AsyncJobsError | None = None


@attrs.frozen
class SyncReport:
    """The result of a sync: every selected job stands in exactly one list."""

    downloaded: list[ArtifactOutcome] = attrs.field(factory=list)
    unchanged: list[ArtifactOutcome] = attrs.field(factory=list)
    skipped: list[ArtifactOutcome] = attrs.field(factory=list)
    failed: list[ArtifactOutcome] = attrs.field(factory=list)
    removed: list[Path] = attrs.field(factory=list)
    """Files deleted by `prune`."""
    failures: list[TargetFailure] = attrs.field(factory=list)
    """Targets whose jobs could not be listed completely."""
    bytes_received: int = 0
    """Body bytes that crossed the network, repeated ones included."""

    @property
    def ok(self) -> bool:
        """Nothing failed: neither a listing nor a download."""
        return not self.failed and not self.failures


@attrs.frozen
class DownloadProgress:
    """How far one download is. `received` may go back when a download has to start over."""

    ref: JobRef | None
    """None for a download that is not by job id."""
    path: Path
    received: int
    """Bytes of the file that are here."""
    total: int | None
    """Bytes of the whole file, or None while unknown."""


@attrs.frozen
class SyncPlanned:
    """An archive was selected; it will be downloaded unless the run is dry."""

    ref: JobRef
    path: Path
    size: int | None


@attrs.frozen
class SyncFinished:
    """One job is settled; `kind` names the list of the report it went to."""

    kind: str
    outcome: ArtifactOutcome


SyncEvent = SyncPlanned | DownloadProgress | SyncFinished
