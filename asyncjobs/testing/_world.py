"""The whole fake world: every user, token, group, project, pipeline and job, and how one makes them.

Knows no HTTP. All methods may be called from any thread, before and while the world is served.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import TypedDict, TypeVar, Unpack

from asyncjobs.testing._agenda import Agenda
from asyncjobs.testing._generations import Rules
from asyncjobs.testing._jobs import ArchivingMode, FakeBridge, FakeJob
from asyncjobs.testing._people import OWNER, FakeGroup, FakeToken, FakeUser, TokenKind, Visibility
from asyncjobs.testing._projects import FakePipeline, FakeProject
from asyncjobs.testing._time import FakeClock

_FIRST_IDS = {"job": 1000, "pipeline": 500, "project": 10, "group": 100, "user": 1, "token": 1}
_PREFIXES: dict[TokenKind, str] = {"private": "glpat-", "oauth": "gloas-", "job": "glcbt-64_"}


class PipelineOptions(TypedDict, total=False):
    """Keywords of `FakeProject.add_pipeline`."""

    status: str | None
    sha: str | None
    tag: bool
    source: str
    name: str | None
    user: FakeUser | None
    created_at: float | None


class JobOptions(TypedDict, total=False):
    """Keywords of `FakePipeline.add_job`."""

    stage: str
    status: str
    trace: bytes | str
    artifacts: Mapping[str, bytes | str] | None
    duration: float
    age: float
    failure_reason: str | None
    allow_failure: bool
    coverage: float | None
    tag_list: list[str] | None
    user: FakeUser | None
    debug: bool


T = TypeVar("T")


class Registry(Mapping[int, T]):
    """Things by number. It may grow while somebody walks through it: a look at a job may start another."""

    def __init__(self) -> None:
        self._things: dict[int, T] = {}

    def __getitem__(self, number: int) -> T:
        return self._things[number]

    def __iter__(self) -> Iterator[int]:
        return iter(list(self._things))

    def __len__(self) -> int:
        return len(self._things)

    def add(self, number: int, thing: T) -> None:
        """Enter a thing."""
        self._things[number] = thing

    def remove(self, number: int) -> None:
        """Take a thing out."""
        del self._things[number]


class World:
    """Everything a FakeGitLab serves.

    Args:
        clock: Where its time comes from.
        rules: The generation's facts.
    """

    def __init__(self, clock: FakeClock, rules: Rules) -> None:
        self.agenda = Agenda(clock)
        self.rules = rules
        self.archiving: ArchivingMode = "same"
        self.runner: Callable[[FakeJob], None] | None = None
        self.users: Registry[FakeUser] = Registry()
        self.groups: Registry[FakeGroup] = Registry()
        self.projects: Registry[FakeProject] = Registry()
        self.pipelines: Registry[FakePipeline] = Registry()
        self.jobs: Registry[FakeJob] = Registry()
        self.bridges: Registry[FakeBridge] = Registry()
        self.tokens: dict[str, FakeToken] = {}
        self._ids: Counter[str] = Counter()
        self.user = self.add_user("dev", name="Dee Veloper")

    def next_id(self, kind: str) -> int:
        """The next free number of a kind; jobs and bridges share theirs."""
        with self.agenda.lock:
            self._ids[kind] += 1
            return _FIRST_IDS[kind] + self._ids[kind] - 1

    def add_user(self, username: str, *, name: str | None = None, admin: bool = False) -> FakeUser:
        """Add somebody; give access through the `members` of a project or group."""
        with self.agenda.lock:
            user = FakeUser(
                id=self.next_id("user"),
                username=username,
                name=name or username.title(),
                admin=admin,
                created_at=self.agenda.now,
            )
            self.users.add(user.id, user)
            return user

    def add_token(
        self,
        kind: TokenKind = "private",
        *,
        scopes: tuple[str, ...] = ("api",),
        user: FakeUser | None = None,
        job: FakeJob | None = None,
        expired: bool = False,
        revoked: bool = False,
        value: str | None = None,
    ) -> FakeToken:
        """Add a credential.

        Args:
            kind: private (also project and group tokens), oauth, or job.
            scopes: `api`, `read_api`, `read_user`...
            user: Whose it is; the default user unless told.
            job: For kind job: it dies with this job.
            expired: Answered with 401 `Token is expired`.
            revoked: Answered with 401 `Token was revoked`.
            value: The secret itself; made up unless told.
        """
        with self.agenda.lock:
            number = self.next_id("token")
            token = FakeToken(
                value=value or f"{_PREFIXES[kind]}fake{number:016d}",
                kind=kind,
                user=user or (job.user if job is not None and job.user else self.user),
                scopes=scopes,
                expired=expired,
                revoked=revoked,
                job=job,
            )
            self.tokens[token.value] = token
            return token

    def add_group(
        self,
        full_path: str,
        *,
        visibility: Visibility = "private",
        members: Mapping[FakeUser, int] | None = None,
    ) -> FakeGroup:
        """Add a group and its parents. The default user owns it unless *members* says otherwise."""
        with self.agenda.lock:
            group = self._group(full_path, visibility)
            group.members = self._levels(members)
            return group

    def _group(self, full_path: str, visibility: Visibility) -> FakeGroup:
        for group in self.groups.values():
            if group.full_path == full_path:
                return group
        parent, _, _ = full_path.rpartition("/")
        if parent:
            self._group(parent, visibility)
        group = FakeGroup(id=self.next_id("group"), full_path=full_path, visibility=visibility)
        self.groups.add(group.id, group)
        return group

    def add_project(
        self,
        full_path: str,
        *,
        visibility: Visibility = "private",
        public_jobs: bool = True,
        archived: bool = False,
        members: Mapping[FakeUser, int] | None = None,
        default_branch: str = "main",
        description: str | None = None,
    ) -> FakeProject:
        """Add a project, and its group when there is none yet.

        Args:
            full_path: Such as `group/sub/app`.
            visibility: private, internal or public.
            public_jobs: Whether everybody who sees the project sees its jobs.
            archived: Read-only project.
            members: User to access level (10 to 50). The default user owns it unless told; {} hides
                a private project from everybody but members of its groups.
            default_branch: Name of the default branch.
            description: Free text.
        """
        namespace, _, path = full_path.rpartition("/")
        if not namespace or not path:
            raise ValueError(f"a full path has a group and a name, like 'group/app', not {full_path!r}")
        with self.agenda.lock:
            self._group(namespace, visibility)
            project = FakeProject(
                id=self.next_id("project"),
                world=self,
                full_path=full_path,
                visibility=visibility,
                public_jobs=public_jobs,
                archived=archived,
                default_branch=default_branch,
                description=description,
                members=self._levels(members),
                created_at=self.agenda.now,
                last_activity_at=self.agenda.now,
            )
            self.projects.add(project.id, project)
            return project

    def _levels(self, members: Mapping[FakeUser, int] | None) -> dict[int, int]:
        if members is None:
            return {self.user.id: OWNER}
        return {user.id: level for user, level in members.items()}

    def add_pipeline(
        self, project: FakeProject, ref: str = "main", **options: Unpack[PipelineOptions]
    ) -> FakePipeline:
        """Same as `project.add_pipeline(...)`."""
        return project.add_pipeline(ref, **options)

    def add_job(self, pipeline: FakePipeline, name: str, **options: Unpack[JobOptions]) -> FakeJob:
        """Same as `pipeline.add_job(...)`."""
        return pipeline.add_job(name, **options)

    def remove_job(self, job: FakeJob) -> None:
        """Delete a job altogether, as deleting its pipeline does."""
        with self.agenda.lock:
            job.pipeline.jobs.remove(job)
            job.pipeline.touch()
            self.jobs.remove(job.id)

    def remove_pipeline(self, pipeline: FakePipeline) -> None:
        """Delete a pipeline with all its jobs."""
        with self.agenda.lock:
            for job in list(pipeline.jobs):
                self.remove_job(job)
            for bridge in pipeline.bridges:
                self.bridges.remove(bridge.id)
            pipeline.project.pipelines.remove(pipeline)
            self.pipelines.remove(pipeline.id)
