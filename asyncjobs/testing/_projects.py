"""Projects and pipelines: what contains jobs, and the status a pipeline has because of them.

GitLab: lib/gitlab/ci/status/composite.rb for the status, doc/api/projects.md for the words.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from asyncjobs.testing._agenda import Agenda
from asyncjobs.testing._generations import FINAL
from asyncjobs.testing._jobs import FakeBridge, FakeJob
from asyncjobs.testing._people import GUEST, FakeUser, Visibility

if TYPE_CHECKING:
    from asyncjobs.testing._world import World

_QUEUE_SECONDS = 5.0
_SOFT_STATUSES = (
    "running",
    "canceling",
    "waiting_for_resource",
    "waiting_for_callback",
    "preparing",
    "pending",
)


@attrs.define(eq=False, kw_only=True)
class FakePipeline:
    """One run of a project's CI."""

    id: int
    iid: int
    project: FakeProject = attrs.field(repr=False)
    ref: str
    sha: str
    tag: bool = False
    source: str = "push"
    name: str | None = None
    yaml_errors: str | None = None
    user: FakeUser | None = None
    created_at: float
    updated_at: float
    fixed_status: str | None = None
    """Overrides the status that follows from the jobs."""
    jobs: list[FakeJob] = attrs.field(factory=list, repr=False)
    bridges: list[FakeBridge] = attrs.field(factory=list, repr=False)
    parent: FakePipeline | None = attrs.field(default=None, repr=False)
    """The pipeline whose bridge started this one."""

    @property
    def agenda(self) -> Agenda:
        """The world's heartbeat."""
        return self.project.world.agenda

    @property
    def status(self) -> str:
        """What the latest attempts of all jobs and bridges amount to."""
        with self.agenda.frozen():
            if self.fixed_status is not None:
                return self.fixed_status
            memo = self.agenda.memo
            if self.id not in memo:
                memo[self.id] = "running"  # what a bridge sees that waits for itself, around a circle
                latest = [(job.status, job.allow_failure) for job in self.jobs if not job.retried]
                latest += [(one.status, one.allow_failure) for one in self.bridges if not one.retried]
                memo[self.id] = _composite(latest)
            return memo[self.id]

    def touch(self) -> None:
        """Something changed now: `updated_at` follows."""
        self.updated_at = self.agenda.now
        self.agenda.changed()

    @property
    def children(self) -> list[FakePipeline]:
        """Downstream pipelines in the same project, parent first order."""
        downstream = [bridge.downstream for bridge in self.bridges if bridge.downstream is not None]
        return [pipeline for pipeline in downstream if pipeline.project is self.project]

    def add_job(
        self,
        name: str,
        *,
        stage: str = "test",
        status: str = "created",
        trace: bytes | str = b"",
        artifacts: Mapping[str, bytes | str] | None = None,
        duration: float = 60.0,
        age: float = 0.0,
        failure_reason: str | None = None,
        allow_failure: bool = False,
        coverage: float | None = None,
        tag_list: list[str] | None = None,
        user: FakeUser | None = None,
        debug: bool = False,
    ) -> FakeJob:
        """Add a job in any state, with the times that state implies.

        Args:
            name: The job's name; several jobs may share one.
            stage: Its stage.
            status: Any of GitLab's words; `running` has started, a final one has ended.
            trace: Its log so far.
            artifacts: Files of its archive, path to content.
            duration: Seconds a finished job ran.
            age: Seconds since it ended (or started, when running). From 120 on its log is archived.
            failure_reason: For `failed`; script_failure unless told.
            allow_failure: A failure does not fail the pipeline.
            coverage: Per cent.
            tag_list: Runner tags.
            user: Who started it; the pipeline's user unless told.
            debug: Ran with CI_DEBUG_TRACE.
        """
        world = self.project.world
        with world.agenda.lock:
            world.agenda.settle()
            now = world.agenda.now
            if status not in world.rules.statuses:
                raise ValueError(f"{status!r} is no job status of GitLab {world.rules.name}")
            job = FakeJob(
                id=world.next_id("job"),
                pipeline=self,
                name=name,
                stage=stage,
                allow_failure=allow_failure,
                coverage=coverage,
                tag_list=sorted(tag_list or []),
                user=user or self.user,
                debug=debug,
                created_at=now,
                status=status,
                trace=bytearray(trace.encode() if isinstance(trace, str) else trace),
            )
            _date(job, now, duration, age)
            if status == "failed":
                job.failure_reason = failure_reason or "script_failure"
            if artifacts is not None:
                job.set_artifacts(artifacts)
            if job.finished_at is not None:
                job.archive_stored_at = job.finished_at
                world.agenda.at(job.finished_at + 120.0, job.archive_log)
            job.token = world.add_token("job", job=job, user=job.user)
            self.jobs.append(job)
            world.jobs.add(job.id, job)
            self.touch()
            return job

    def add_bridge(
        self,
        name: str,
        downstream: FakePipeline | None = None,
        *,
        stage: str = "deploy",
        status: str | None = None,
        allow_failure: bool = False,
    ) -> FakeBridge:
        """Add a trigger job.

        Args:
            name: The bridge's name.
            downstream: The pipeline it started, in this project (a child) or another; None when it has not.
            stage: Its stage.
            status: Fixed status; None mirrors the downstream pipeline.
            allow_failure: A failure does not fail the pipeline.
        """
        world = self.project.world
        with world.agenda.lock:
            bridge = FakeBridge(
                id=world.next_id("job"),
                pipeline=self,
                name=name,
                stage=stage,
                own_status=status,
                downstream=downstream,
                allow_failure=allow_failure,
                user=self.user,
                created_at=world.agenda.now,
                started_at=world.agenda.now if downstream is not None else None,
            )
            if downstream is not None:
                downstream.parent = self
                if downstream.project is self.project:
                    downstream.source = "parent_pipeline"
            self.bridges.append(bridge)
            world.bridges.add(bridge.id, bridge)
            self.touch()
            return bridge


def _date(job: FakeJob, now: float, duration: float, age: float) -> None:
    status = job.status
    if status in FINAL and status != "skipped":
        job.finished_at = now - age
        job.started_at = job.finished_at - duration
    elif status in ("running", "canceling"):
        job.started_at = now - age
    elif status == "pending":
        job.queued_at = now
    if job.started_at is not None:
        job.queued_at = job.started_at - _QUEUE_SECONDS
        job.created_at = job.queued_at - 1.0


def _composite(jobs: list[tuple[str, bool]]) -> str:
    states = {
        status for status, allowed in jobs if not (allowed and status in ("failed", "canceled", "manual"))
    }
    if not states:
        return "success" if jobs else "created"
    for status in _SOFT_STATUSES:
        if status in states:
            # One waiting job beside finished ones means the pipeline is under way.
            begun = status == "pending" and states & (FINAL - {"skipped"})
            return "running" if begun or status == "canceling" else status
    if states <= {"created", "skipped"} and "created" in states:
        return "created"
    for status in ("manual", "scheduled"):
        if status in states:
            return status
    if "created" in states:
        return "running"
    return next((status for status in ("failed", "canceled", "success") if status in states), "skipped")


@attrs.define(eq=False, kw_only=True)
class FakeProject:
    """A project with CI."""

    id: int
    world: World = attrs.field(repr=False)
    full_path: str
    old_paths: list[str] = attrs.field(factory=list)
    """Paths it had before it moved: they redirect GET and refuse writes."""
    visibility: Visibility = "private"
    public_jobs: bool = True
    """Whether those who may see a project may see its jobs (`public_builds`)."""
    archived: bool = False
    default_branch: str = "main"
    description: str | None = None
    topics: list[str] = attrs.field(factory=list)
    members: dict[int, int] = attrs.field(factory=dict)
    """User id to access level."""
    job_token_allowlist: set[int] = attrs.field(factory=set)
    """Projects whose job tokens may read here."""
    created_at: float
    last_activity_at: float
    pipelines: list[FakePipeline] = attrs.field(factory=list, repr=False)
    statistics_refreshing: bool = False
    """Deleting artifacts answers 409 while this is set."""

    @property
    def path(self) -> str:
        """Last part of the full path."""
        return self.full_path.rpartition("/")[2]

    @property
    def name(self) -> str:
        """The display name: the path, as GitLab proposes."""
        return self.path

    @property
    def jobs(self) -> list[FakeJob]:
        """All jobs, oldest first."""
        return sorted((job for pipeline in self.pipelines for job in pipeline.jobs), key=lambda job: job.id)

    def move(self, full_path: str) -> None:
        """Give the project another path; the old one redirects from now on."""
        with self.world.agenda.lock:
            self.old_paths.append(self.full_path)
            self.full_path = full_path

    def access_of(self, user: FakeUser | None) -> int:
        """The user's level here, inherited ones included; 0 for nobody."""
        if user is None:
            return 0
        if user.admin:
            return 50
        levels = [self.members.get(user.id, 0)]
        groups = self.world.groups.values()
        levels += [group.members.get(user.id, 0) for group in groups if group.contains(self.full_path)]
        return max(levels)

    def visible_to(self, user: FakeUser | None) -> bool:
        """Whether the user may know that this project exists."""
        if self.visibility == "public" or (self.visibility == "internal" and user is not None):
            return True
        return self.access_of(user) >= GUEST

    def add_pipeline(
        self,
        ref: str = "main",
        *,
        status: str | None = None,
        sha: str | None = None,
        tag: bool = False,
        source: str = "push",
        name: str | None = None,
        user: FakeUser | None = None,
        created_at: float | None = None,
    ) -> FakePipeline:
        """Add a pipeline; its status follows its jobs unless *status* fixes it."""
        world = self.world
        with world.agenda.lock:
            world.agenda.settle()
            number = world.next_id("pipeline")
            moment = world.agenda.now if created_at is None else created_at
            pipeline = FakePipeline(
                id=number,
                iid=len(self.pipelines) + 1,
                project=self,
                ref=ref,
                sha=sha or hashlib.sha1(f"{self.id}:{number}".encode(), usedforsecurity=False).hexdigest(),
                tag=tag,
                source=source,
                name=name,
                user=user or world.user,
                created_at=moment,
                updated_at=moment,
                fixed_status=status,
            )
            self.pipelines.append(pipeline)
            world.pipelines.add(number, pipeline)
            self.last_activity_at = world.agenda.now
            return pipeline
