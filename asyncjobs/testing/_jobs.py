"""Jobs and bridges: their states, the log that grows, the archive they leave.

Here is what the runner and the buttons of the web page do to a job; how a job looks as JSON and
who may press a button is for others. Status rules: app/models/concerns/ci/has_status.rb and
lib/gitlab/ci/trace.rb in GitLab's source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Literal

import attrs

from asyncjobs.testing._archives import Archive, GeneratedArchive, StoredArchive, make_zip
from asyncjobs.testing._generations import CANCELABLE, EXECUTING, FINAL, PLAYABLE, RETRYABLE

if TYPE_CHECKING:
    from asyncjobs.testing._people import FakeToken, FakeUser
    from asyncjobs.testing._projects import FakePipeline

PATCH_LIMIT = 1024 * 1024
"""A runner sends at most this many bytes at once (network/trace.go)."""
PATCH_PAUSE = 0.25
"""Seconds between two pieces of one push."""
ARCHIVE_DELAY = 120.0
"""Seconds from a job's end to the archiving of its log (build_finished_worker.rb)."""
FINAL_PAUSE = 1.0
"""Seconds between a script's last bytes and its final status."""

ArchivingMode = Literal["same", "repeats", "marker", "never"]
Step = bytes | str | Callable[["FakeJob"], None]

_REPEATED_END = b"\x1b[0K\x1b[32;1mJob succeeded\x1b[0;m\n"
_CANCELED_END = b"\x1b[31;1mERROR: Job failed: canceled\x1b[0;m\n"
_CHUNK = 128 * 1024


@attrs.define(eq=False, kw_only=True)
class _Base:
    """What a job and a bridge share."""

    id: int
    pipeline: FakePipeline = attrs.field(repr=False)
    name: str
    stage: str = "test"
    allow_failure: bool = False
    coverage: float | None = None
    user: FakeUser | None = None
    created_at: float = 0.0
    started_at: float | None = None
    finished_at: float | None = None
    failure_reason: str | None = None
    retried: bool = False
    """A newer attempt has taken this one's place."""

    def __setattr__(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)
        pipeline: FakePipeline | None = getattr(self, "pipeline", None)
        if pipeline is not None:
            pipeline.agenda.changed()

    @property
    def project_id(self) -> int:
        """The number of the project."""
        return self.pipeline.project.id


@attrs.define(eq=False, kw_only=True)
class FakeBridge(_Base):
    """A trigger job: it runs nowhere and starts a pipeline here or in another project."""

    downstream: FakePipeline | None = None
    own_status: str | None = None
    """Fixed status; None mirrors the downstream pipeline (`strategy: depend`)."""

    @property
    def status(self) -> str:
        """GitLab's word for the state."""
        if self.own_status is not None:
            return self.own_status
        return "created" if self.downstream is None else self.downstream.status

    def play(self) -> None:
        """Start a manual bridge.

        Raises:
            ValueError: It is not waiting for that.
        """
        if self.status not in PLAYABLE:
            raise ValueError(f"bridge {self.id} is {self.status}, not manual or scheduled")
        self.own_status = "pending" if self.downstream is None else None
        self.pipeline.touch()

    @property
    def retryable(self) -> bool:
        """Whether a retry is allowed."""
        return self.status in RETRYABLE and not self.retried

    def retry(self) -> FakeBridge:
        """Start another attempt: a new bridge that has not started its pipeline yet.

        Raises:
            ValueError: Not finished, or retried before.
        """
        if not self.retryable:
            raise ValueError(f"bridge {self.id} is not retryable: {self.status}, retried={self.retried}")
        bridge = self.pipeline.add_bridge(self.name, stage=self.stage, status="pending")
        self.retried = True
        self.pipeline.touch()
        return bridge


@attrs.define(eq=False, kw_only=True)
class FakeJob(_Base):
    """A job of the fake world. Its methods are what runner and user do; all may be called from any thread.

    Times are seconds since the epoch on the fake's clock.
    """

    _status: str = "created"
    _trace: bytearray = attrs.field(factory=bytearray, repr=False)
    tag_list: list[str] = attrs.field(factory=list)
    queued_at: float | None = None
    erased_at: float | None = None
    when: str = "on_success"
    archived: bool = False
    """Too old to be retried; nothing to do with the log."""
    debug: bool = False
    """Ran with CI_DEBUG_TRACE: its log is for those who may update jobs."""
    has_commit: bool = True
    has_runner: bool | None = None
    """Whether the JSON names a runner; None means: as soon as the job ran."""
    archive: Archive | None = None
    archive_stored_at: float = 0.0
    artifacts_expire_at: float | None = None
    artifacts_access: Literal["all", "developer", "maintainer", "none"] = "all"
    reports: dict[str, bytes] = attrs.field(factory=dict)
    """Report artifacts by file type, such as junit: gzip files, never part of the archive."""
    log_archived: bool = False
    """The log became the artifact `job.log`."""
    archiving: ArchivingMode | None = None
    """How this job's log is archived; None asks the server's setting."""
    contact_interval: float = 60.0
    """Seconds between two contacts of the runner (60 unwatched, 3 while somebody watches)."""
    runner_cancels: bool = True
    """Whether its runner knows `canceling`; with an older one a cancel ends the job at once."""
    token: FakeToken | None = attrs.field(default=None, repr=False)
    """Its CI_JOB_TOKEN: valid while the job runs."""
    variables: list[dict[str, str]] = attrs.field(factory=list)
    """What was given when the job was played."""
    _script: int = 0

    # -- looking -----------------------------------------------------------

    @property
    def status(self) -> str:
        """GitLab's word for the state, as of now on the fake's clock."""
        self.pipeline.agenda.settle()
        return self._status

    @property
    def trace(self) -> bytes:
        """The log so far: the truth that every reader must end up with."""
        self.pipeline.agenda.settle()
        return bytes(self._trace)

    def trace_part(self, offset: int, size: int) -> bytes:
        """So many bytes of the log so far from *offset* on; what is not asked for is not copied."""
        self.pipeline.agenda.settle()
        return bytes(self._trace[offset : offset + size])

    @property
    def trace_size(self) -> int:
        """Bytes of the log so far."""
        self.pipeline.agenda.settle()
        return len(self._trace)

    @property
    def archive_bytes(self) -> bytes:
        """The stored archive, whole.

        Raises:
            LookupError: There is none.
        """
        archive = self._stored()
        return archive.read(0, archive.size)

    @property
    def archive_sha256(self) -> str:
        """Hex digest of the stored archive.

        Raises:
            LookupError: There is none.
        """
        return self._stored().sha256

    def _stored(self) -> Archive:
        if self.archive is None:
            raise LookupError(f"job {self.id} has no archive")
        return self.archive

    @property
    def downloadable(self) -> bool:
        """Whether the archive is there and has not expired."""
        expires, now = self.artifacts_expire_at, self.pipeline.agenda.now
        return self.archive is not None and (expires is None or expires > now)

    # -- the runner --------------------------------------------------------

    def enqueue(self) -> None:
        """Let the job wait for a runner."""
        with self.pipeline.agenda.lock:
            self.pipeline.agenda.settle()
            self._status = "pending"
            self.queued_at = self.pipeline.agenda.now
            self.pipeline.touch()
            runner = self.pipeline.project.world.runner
        if runner is not None:
            runner(self)

    def start(self) -> None:
        """A runner takes the job: it is running from now on."""
        with self.pipeline.agenda.lock:
            self.pipeline.agenda.settle()
            self._status = "running"
            self.started_at = self.pipeline.agenda.now
            if self.queued_at is None:
                self.queued_at = max(self.created_at, self.started_at - 2.0)
            self.pipeline.touch()

    def append_trace(self, data: bytes | str) -> None:
        """The runner pushes more of the log; visible at once."""
        with self.pipeline.agenda.lock:
            self.pipeline.agenda.settle()
            self._trace += data.encode() if isinstance(data, str) else data

    def replace_trace(self, data: bytes) -> None:
        """Rewrite the log, as broken storage does; a healthy GitLab never would."""
        with self.pipeline.agenda.lock:
            self.pipeline.agenda.settle()
            self._trace[:] = data

    def finish(self, status: str = "success", *, failure_reason: str | None = None) -> None:
        """The runner reports the end. From `canceling` every report ends in `canceled`.

        Args:
            status: success, failed, canceled or skipped.
            failure_reason: For `failed`; script_failure unless told.
        """
        if status not in FINAL:
            raise ValueError(f"a job ends as one of {', '.join(sorted(FINAL))}, not {status!r}")
        agenda = self.pipeline.agenda
        with agenda.lock:
            agenda.settle()
            self._script += 1
            self._status = "canceled" if self._status == "canceling" else status
            if self._status == "failed":
                self.failure_reason = failure_reason or "script_failure"
            self.finished_at = agenda.now
            self.pipeline.touch()
            agenda.at(agenda.now + ARCHIVE_DELAY, self.archive_log)

    def archive_log(self) -> None:
        """Move the log into the artifact `trace`, as happens two minutes after the end."""
        with self.pipeline.agenda.lock:
            world = self.pipeline.project.world
            mode = self.archiving or world.archiving
            done = self.log_archived or mode == "never" or not world.rules.modern
            if done or not self._trace or self._status not in FINAL:
                return
            self.log_archived = True
            if mode == "repeats":
                self._trace += _REPEATED_END
            elif mode == "marker":
                lost = slice(0, _CHUNK) if len(self._trace) <= 2 * _CHUNK else slice(_CHUNK, 2 * _CHUNK)
                size = len(self._trace[lost])
                self._trace[lost] = f"\n[{size} bytes of this log were lost while archiving]\n".encode()

    def script(self, steps: Iterable[tuple[float, Step]]) -> None:
        """Plan the job's life: after each delay (seconds since the step before) one thing happens.

        A step is bytes (the runner pushes them, in pieces of at most 1 MiB), a word (`pending`, `running`
        or a final status) or a function that gets the job. A later script replaces this one; a cancel ends
        it at its next step, which is the runner's next contact.
        """
        agenda = self.pipeline.agenda
        with agenda.lock:
            agenda.settle()
            self._script += 1
            mine, moment = self._script, agenda.now
            for delay, step in steps:
                moment += delay
                pieces: list[Step] = [step]
                if isinstance(step, bytes) and len(step) > PATCH_LIMIT:
                    pieces = [step[at : at + PATCH_LIMIT] for at in range(0, len(step), PATCH_LIMIT)]
                for number, piece in enumerate(pieces):
                    moment += PATCH_PAUSE if number else 0.0
                    self._plan(mine, moment, piece)

    def script_trace(
        self,
        data: bytes,
        *,
        every: float = 60.0,
        pushes: int = 10,
        finish: str | None = "success",
        failure_reason: str | None = None,
    ) -> None:
        """Let the job run and push *data* in steps, then end it.

        Args:
            data: The whole log.
            every: Seconds between two pushes: 60 unwatched, 30 on older servers, 3 while watched.
            pushes: Number of pushes, equal in bytes; a push may cut a character or an escape in two.
            finish: Final status, a second after the last push; None leaves the job running.
            failure_reason: For `failed`.
        """
        if finish is not None and finish not in FINAL:
            raise ValueError(f"a job ends as one of {', '.join(sorted(FINAL))}, not {finish!r}")
        size = max(1, -(-len(data) // pushes))
        steps: list[tuple[float, Step]] = [(every, data[at : at + size]) for at in range(0, len(data), size)]
        if finish is not None:
            last = finish
            steps.append((FINAL_PAUSE, lambda job: job.finish(last, failure_reason=failure_reason)))
        if self.status != "running":
            self.start()
        self.script(steps)

    def _plan(self, mine: int, moment: float, step: Step) -> None:
        def deed() -> None:
            if self._script != mine:
                return
            if self._status == "canceling":
                self.contact()
            else:
                self._act(step)

        self.pipeline.agenda.at(moment, deed)

    def _act(self, step: Step) -> None:
        if callable(step):
            step(self)
        elif isinstance(step, bytes):
            self.append_trace(step)
        elif step == "pending":
            self.enqueue()
        elif step == "running":
            self.start()
        else:
            self.finish(step)

    def contact(self) -> None:
        """The runner calls in now: a job being canceled gets its last lines and ends a second later."""
        agenda = self.pipeline.agenda
        with agenda.lock:
            agenda.settle()
            if self._status != "canceling":
                return
            self._script += 1
            self.append_trace(_CANCELED_END)
            agenda.at(agenda.now + FINAL_PAUSE, self._end_cancel)

    def _end_cancel(self) -> None:
        if self._status == "canceling":
            self.finish("canceled")

    # -- the buttons -------------------------------------------------------

    def cancel(self, *, force: bool = False) -> None:
        """Cancel as the API does: a running job waits in `canceling` for its runner, from 17 on.

        Args:
            force: End a job in `canceling` at once; its last lines never arrive.
        """
        agenda = self.pipeline.agenda
        with agenda.lock:
            agenda.settle()
            if force and self._status == "canceling":
                self.finish("canceled")
            elif (
                self._status == "running"
                and self.runner_cancels
                and self.pipeline.project.world.rules.canceling
            ):
                self._status = "canceling"
                self._plan(self._script, agenda.now + self.contact_interval, b"")
            elif self._status in CANCELABLE:
                self.finish("canceled")
            self.pipeline.touch()

    def retry(self, *, user: FakeUser | None = None) -> FakeJob:
        """Start another attempt: a new job with a new id; this one leaves the pipeline's plain list.

        Raises:
            ValueError: Not finished, skipped, or retried before.
        """
        with self.pipeline.agenda.lock:
            if not self.retryable:
                raise ValueError(f"job {self.id} is not retryable: {self._status}, retried={self.retried}")
            job = self.pipeline.add_job(
                self.name,
                stage=self.stage,
                allow_failure=self.allow_failure,
                tag_list=list(self.tag_list),
                user=user or self.user,
            )
            self.retried = True
        job.enqueue()
        return job

    @property
    def retryable(self) -> bool:
        """Whether a retry is allowed."""
        return self.status in RETRYABLE and not self.retried and not self.archived

    @property
    def erasable(self) -> bool:
        """Finished, and a log, archive or report is left."""
        left = self.archive is not None or bool(self._trace) or bool(self.reports)
        return self.status in FINAL and left

    def erase(self) -> None:
        """Remove log, archive and reports.

        Raises:
            ValueError: Not finished, or nothing to remove.
        """
        with self.pipeline.agenda.lock:
            if not self.erasable:
                raise ValueError(f"job {self.id} is not erasable: {self._status}")
            self._trace.clear()
            self.archive = None
            self.reports.clear()
            self.log_archived = False
            self.artifacts_expire_at = None
            self.erased_at = self.pipeline.agenda.now

    def play(self, *, variables: Iterable[Mapping[str, str]] = (), user: FakeUser | None = None) -> None:
        """Start a manual or scheduled job.

        Raises:
            ValueError: It is neither.
        """
        with self.pipeline.agenda.lock:
            if self.status not in PLAYABLE:
                raise ValueError(f"job {self.id} is {self._status}, not manual or scheduled")
            self.variables = [dict(variable) for variable in variables]
            self.user = user or self.user
        self.enqueue()

    # -- artifacts ---------------------------------------------------------

    def set_artifacts(self, files: Mapping[str, bytes | str], *, expire_at: float | None = None) -> None:
        """Store a real zip of *files* as the job's archive.

        Args:
            files: Path inside the zip to content.
            expire_at: When the archive may go, seconds since the epoch; None keeps it.
        """
        self.set_archive(StoredArchive(make_zip(files)), expire_at=expire_at)

    def set_artifacts_bytes(self, raw: bytes, *, expire_at: float | None = None) -> None:
        """Store *raw* as the archive, zip or not."""
        self.set_archive(StoredArchive(raw), expire_at=expire_at)

    def set_big_artifacts(self, size: int, *, name: str = "big.bin", seed: int = 0) -> None:
        """Store a valid zip around *size* bytes that are computed while they are read."""
        self.set_archive(GeneratedArchive(size, name=name, seed=seed))

    def set_archive(self, archive: Archive, *, expire_at: float | None = None) -> None:
        """Store an archive of your own make; replacing one gives it a new date and new tags."""
        with self.pipeline.agenda.lock:
            self.archive = archive
            self.archive_stored_at = self.pipeline.agenda.now
            self.artifacts_expire_at = expire_at

    def keep_artifacts(self) -> None:
        """Forget the expiry date."""
        with self.pipeline.agenda.lock:
            self.artifacts_expire_at = None

    def delete_artifacts(self) -> None:
        """Remove archive and reports, keep the log."""
        with self.pipeline.agenda.lock:
            self.archive = None
            self.reports.clear()

    @property
    def executing(self) -> bool:
        """Running or being canceled: the log may grow and the job token works."""
        return self.status in EXECUTING
