"""The three features as users call them: fan out, tail, sync; and single traces and archives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from datetime import datetime
from os import PathLike

from asyncjobs import _artifacts, _tail
from asyncjobs._api import Api
from asyncjobs._api.targets import JobFilter, Targets
from asyncjobs._fanout import JobStream, OnError
from asyncjobs._models import (
    ArtifactEntry,
    ArtifactFile,
    DownloadProgress,
    JobRef,
    SyncEvent,
    SyncReport,
    TraceChunk,
    TraceCursor,
)
from asyncjobs._options import DEFAULT_TRACE_TEMPLATE, Scope, SyncOptions, TailOptions
from asyncjobs._storage import Storage
from asyncjobs._tail import TailStream, TraceStream

OnProgress = Callable[[DownloadProgress], object]
OnEvent = Callable[[SyncEvent], object]
StrPath = str | PathLike[str]


class FeatureMethods:
    """Many jobs at once: list them, tail them, fetch what they made."""

    @property
    def _api(self) -> Api:
        raise NotImplementedError

    @property
    def _storage(self) -> Storage:
        raise NotImplementedError

    # -- fan-out ----------------------------------------------------------------------------------

    def stream_jobs(
        self,
        targets: Targets,
        *,
        scope: Scope = None,
        ref: str | None = None,
        name: str | None = None,
        updated_after: datetime | None = None,
        on_error: OnError = "raise",
    ) -> JobStream:
        """List the jobs of many projects, pipelines and groups at once, as they come.

        Args:
            targets: References or their text forms, also lazily from an (async) iterable.
            scope: One status, several, or None for all.
            ref: Only jobs of this branch or tag.
            name: Only jobs whose name matches this glob.
            updated_after: Only jobs created since this moment (aware), found through the pipelines
                updated since, which the limit on `GET /projects/:id/jobs` does not count.
            on_error: `"raise"`, `"collect"` or `"stop"`; see `JobStream`.

        Returns:
            An async context manager that iterates over `(JobRef, Job)` and has `failures`.
        """
        wanted = JobFilter(scope=scope, ref=ref, name=name, since=updated_after)
        return JobStream(self._api, targets, wanted, on_error=on_error)

    # -- traces -----------------------------------------------------------------------------------

    async def get_trace(self, project: int | str, job_id: int) -> bytes:
        """Read a whole trace into memory; empty when the job has none (yet, or any more).

        Raises:
            TraceTooLargeError: Longer than 128 MiB: read it in parts or follow it.
            ForbiddenError: The job ran in debug mode, or the token may not read logs.
            NotFoundError: No such job.

        GitLab: https://docs.gitlab.com/api/jobs/#retrieve-a-job-log-file
        """
        return await _tail.get_trace(self._api, project, job_id)

    async def read_trace(
        self, project: int | str, job_id: int, *, offset: int = 0, limit: int | None = None
    ) -> TraceChunk:
        """Read the part of a trace that begins at *offset*, whatever the server supports.

        Args:
            project: Id or full path.
            job_id: The job.
            offset: Position of the first byte; at or after the end the chunk is empty.
            limit: Most bytes wanted; None for all there are (at most 128 MiB).

        Raises:
            TraceTooLargeError: Without a limit, and more than 128 MiB follow.
            NotFoundError: No such job.

        Cancellation: nothing is kept; the same call may simply be made again.
        GitLab: https://docs.gitlab.com/api/jobs/#retrieve-a-job-log-file
        """
        return await _tail.read_trace(self._api, project, job_id, offset=offset, limit=limit)

    def follow_trace(
        self,
        ref: JobRef | str,
        *,
        cursor: TraceCursor | str | None = None,
        options: TailOptions | None = None,
    ) -> TraceStream:
        """Follow the trace of one job to its end, as bytes without a gap.

        Args:
            ref: The job, or its text form as in `parse_target`.
            cursor: Where an earlier stream stopped, itself or as text; None begins at the start.
            options: Intervals, settling, and whether to wait for manual and scheduled jobs.

        Returns:
            An async context manager that iterates over `TraceChunk`; `cursor` is always the place
            reached, `job` the final job at the end.

        Raises:
            ValueError: A cursor of another job, text that is no cursor, a target that is no job, or the
                address of another GitLab.
            TypeError: No reference at all.

        Cancellation: leaving the context stops everything; `cursor` stays valid.
        """
        match self._api.own_target(ref):
            case JobRef() as job:
                return _tail.follow_trace(self._api, job, cursor=cursor, options=options)
            case other:
                raise ValueError(f"{other} is no job, such as group/app/-/jobs/8; many jobs are for tail()")

    def tail(
        self,
        targets: Targets,
        *,
        options: TailOptions | None = None,
        cursors: Iterable[TraceCursor | str] = (),
    ) -> TailStream:
        """Follow many jobs at once, line by line, as `TailEvent` values.

        A job or a pipeline is followed to its end; a project or a group means its jobs that are
        alive now, and new ones while any is followed. A retried job is followed to its new id. A
        job that cannot be followed any more is a `TailFailed`, and the others go on. With
        `options.follow=False` what is there now is read once, and jobs that go on are `TailPaused`.

        Args:
            targets: References or their text forms, one or many.
            options: Filters, intervals, order, and how much at once.
            cursors: Places in the logs of some of the jobs, themselves or as text: these logs go on there,
                whatever the options say about where to begin. Line numbers count from there.

        Returns:
            An async context manager that iterates over events; its `cursors` say, at any time, where another
            tail would have to go on. Its iteration ends with `FanOutError`,
            after everything else, when pipelines, projects or groups could not be read at all; they
            are in its `failures` too.

        Raises:
            ValueError: A text that is no cursor, or a target that is none.

        Cancellation: leaving the context stops every tail; `cursors` of the stream stay valid, and the events
        that end a job carry its own.
        """
        return _tail.tail(self._api, self._api.each_target(targets), options=options, cursors=cursors)

    async def save_traces(
        self,
        targets: Targets,
        dest: StrPath,
        *,
        options: TailOptions | None = None,
        path_template: str = DEFAULT_TRACE_TEMPLATE,
        fsync: bool = True,
        on_event: OnEvent | None = None,
    ) -> SyncReport:
        """Save the traces of jobs below *dest*, one file per job, exact bytes; again tomorrow only the new.

        Jobs that are over are read to their end, running ones are followed to it; jobs that have not
        started are in `skipped` unless `options.wait_for_start`. The folder may be that of a sync.

        Args:
            targets: References or their text forms, one or many: all jobs of each.
            dest: A folder, made when it is missing.
            options: `name`, `stage` and `scope` select, `max_open` bounds what is read at once.
            path_template: Where a log goes below *dest*; the fields are those of `SyncOptions`.
            fsync: Force files to the disk before they get their name.
            on_event: Called with a `SyncEvent` as things happen; it must return at once.

        Returns:
            Every selected job in exactly one list of the report.

        Raises:
            DiskFullError: No space is left; finished files stay.
            ManifestError: The folder is in use, or its record is unusable.
            DestinationError: *dest* cannot be a folder.
            ValueError: *dest* is empty, or the template is not usable.

        Cancellation: finished files stay; the next run goes on with partial ones.
        """
        return await _tail.save_traces(
            self._api,
            self._storage,
            self._api.each_target(targets),
            dest,
            options=options,
            path_template=path_template,
            fsync=fsync,
            on_event=on_event,
        )

    # -- archives ---------------------------------------------------------------------------------

    async def download_artifacts(
        self, project: int | str, job_id: int, dest: StrPath, *, on_progress: OnProgress | None = None
    ) -> ArtifactFile:
        """Download a job's archive to the file *dest*: streamed, resumed, verified, and named last.

        Args:
            project: Id or full path.
            job_id: The job.
            dest: The file; what is there is replaced once the new one is whole.
            on_progress: Called with `DownloadProgress` as bytes arrive.

        Raises:
            ArtifactMissingError: Never made, expired, erased, lost, or the job has not finished.
            IntegrityError: What arrived is not what was announced; nothing was kept.
            DestinationError: *dest* cannot be written, said before anything is sent.
            ValueError: *dest* is empty; the current folder is `.`, and a file needs a name.

        Cancellation: a partial file stays beside *dest*, and the next call goes on with it.
        GitLab: https://docs.gitlab.com/api/job_artifacts/#download-job-artifacts-by-job-id
        """
        return await _artifacts.download_artifacts(
            self._api, self._storage, project, job_id, dest, on_progress=on_progress
        )

    async def download_ref_artifacts(
        self,
        project: int | str,
        ref: str,
        job_name: str,
        dest: StrPath,
        *,
        on_progress: OnProgress | None = None,
    ) -> ArtifactFile:
        """Download the archive of the newest successful pipeline of a branch or tag.

        It is resolved to a job id first, so that a resume cannot mix two archives.

        Raises:
            ArtifactMissingError, NotFoundError: There is none.
            IntegrityError, DestinationError: As `download_artifacts`.

        GitLab: https://docs.gitlab.com/api/job_artifacts/#download-job-artifacts-by-reference-name
        """
        return await _artifacts.download_ref_artifacts(
            self._api, self._storage, project, ref, job_name, dest, on_progress=on_progress
        )

    async def download_artifact_member(
        self,
        project: int | str,
        job_id: int,
        member: str,
        dest: StrPath,
        *,
        on_progress: OnProgress | None = None,
    ) -> ArtifactFile:
        """Download one file out of a job's archive; its byte count is checked, nothing is resumed.

        A server without that endpoint (before GitLab 10) sends the whole archive, which is kept beside *dest*
        until the file is taken out of it, its checksum checked. So does every server for a file called
        `tree` at the root, whose address is that of the listing.

        Raises:
            NotFoundError: No archive, or no such file in it.
            BadResponseError: Something else came with a good status, such as a sign-in page.
            ValueError: A member path that is absolute or climbs, or an empty *dest*.
            UnsafeArchiveError: Out of a whole archive: a link, or more than `ExtractLimits` allow.
            IntegrityError, DestinationError: As `download_artifacts`.

        Cancellation: *dest* is as it was; the bytes of an archive under way are kept for the next call.
        GitLab: https://docs.gitlab.com/api/job_artifacts/#download-a-single-artifact-file-by-job-id
        """
        return await _artifacts.download_artifact_member(
            self._api, self._storage, project, job_id, member, dest, on_progress=on_progress
        )

    def iter_artifact_members(
        self, project: int | str, job_id: int, *, path: str = "", recursive: bool = True
    ) -> AsyncIterator[ArtifactEntry]:
        """Walk the entries of a job's archive without downloading it.

        Servers without `artifacts/tree` are asked for the end of the zip with `Range` instead: at least
        128 KiB, and a central directory that is longer is held in memory (at most 64 MiB).

        Args:
            project: Id or full path.
            job_id: The job.
            path: A folder inside the archive; empty for its root.
            recursive: Whether to walk into folders.

        Raises:
            ArtifactMissingError: No archive.
            NotFoundError: No such job, no such path in its archive, or the token may not see it.
            ArtifactError: A server that neither lists members nor answers ranges.
            IntegrityError: What is stored is no zip.

        GitLab: https://docs.gitlab.com/api/job_artifacts/
        """
        ref = JobRef(project, job_id)
        return _artifacts.list_members(self._api, ref, path=path, recursive=recursive)

    async def sync_artifacts(
        self,
        targets: Targets,
        dest: StrPath,
        *,
        options: SyncOptions | None = None,
        on_event: OnEvent | None = None,
    ) -> SyncReport:
        """Bring the archives of all jobs of *targets* below *dest*, downloading only what is new or damaged.

        A file under its final name is whole and verified. `dest/.asyncjobs/manifest.sqlite3`
        remembers which file came from which job with which hash; other files are never touched.

        Args:
            targets: References or their text forms, one or many, also lazily.
            dest: A folder, made when it is missing.
            options: What is selected, where it goes, what may be done.
            on_event: Called with a `SyncEvent` as things happen; it must return at once.

        Returns:
            Every selected job in exactly one list of the report; targets that could not be listed
            completely in `failures`.

        Raises:
            DiskFullError: No space is left; finished files stay.
            ManifestError: The folder is being synced by somebody else, or its record is unusable.
            DestinationError: *dest* cannot be a folder, or pruning would delete more than allowed.
            ValueError: *dest* is empty: the current folder is `.`.

        Cancellation: finished files stay and are recorded; partial ones are kept for the next run.
        """
        return await _artifacts.sync_artifacts(
            self._api,
            self._storage,
            self._api.each_target(targets),
            dest,
            options=options,
            on_event=on_event,
        )

    async def write_lock(self, dest: StrPath) -> bytes:
        """The lock of a synced folder: job ids and hashes that `sync_locked` reproduces elsewhere.

        Raises:
            ManifestError: The folder has no usable record.
            DestinationError: Not a folder.
        """
        return await _artifacts.write_lock(self._storage, dest)

    async def sync_locked(
        self,
        lock: bytes,
        dest: StrPath,
        *,
        options: SyncOptions | None = None,
        on_event: OnEvent | None = None,
    ) -> SyncReport:
        """Bring exactly the files of a lock below *dest*; one that differs from its hash is a failure.

        Raises:
            ManifestError: Not a lock, or the folder is in use.
            DiskFullError, DestinationError: As `sync_artifacts`.

        Cancellation: as `sync_artifacts`.
        """
        return await _artifacts.sync_locked(
            self._api, self._storage, lock, dest, options=options, on_event=on_event
        )
