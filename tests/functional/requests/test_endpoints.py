"""Every endpoint on three generations of the server: what each has, and how it is missed elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TypeVar

import pytest

from asyncjobs import (
    AuthenticationError,
    Bridge,
    Client,
    ForbiddenError,
    JobRef,
    NotFoundError,
    ResponseError,
)
from asyncjobs.testing import FakeGitLab, FakeJob, FakePipeline, FakeProject
from tests.support.clients import open_client, read_archive

T = TypeVar("T")
GENERATIONS = ["9.1", "18", "19.5"]


async def listed(items: AsyncIterator[T]) -> list[T]:
    """All of a walk."""
    return [item async for item in items]


class Scene:
    """A client and a world with one job of every kind."""

    def __init__(self, gitlab: FakeGitLab, client: Client) -> None:
        self.gitlab = gitlab
        self.client = client
        self.project: FakeProject = gitlab.add_project("group/sub/app")
        self.pipeline: FakePipeline = self.project.add_pipeline("main")
        files = {"a.txt": b"alpha", "dir/b.txt": b"beta"}
        self.done: FakeJob = self.pipeline.add_job(
            "build", status="success", age=600, artifacts=files, trace=b"ok\n"
        )
        self.failed: FakeJob = self.pipeline.add_job("test", status="failed", age=600)
        self.running: FakeJob = self.pipeline.add_job("deploy", status="running")
        self.manual: FakeJob = self.pipeline.add_job("release", status="manual")
        self.path = "group/sub/app"


@pytest.fixture(params=GENERATIONS)
async def scene(request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    """The scene, on each generation."""
    async with (
        FakeGitLab(request.param) as gitlab,
        open_client(gitlab.url, private_token=gitlab.token) as client,
    ):
        yield Scene(gitlab, client)


async def test_project_jobs(scene: Scene) -> None:
    """All jobs of a project come, newest first, in the shape of any generation."""
    jobs = await listed(scene.client.iter_project_jobs(scene.path))
    assert [job.id for job in jobs] == sorted(scene.gitlab.jobs, reverse=True)
    assert all(job.pipeline is not None for job in jobs)


async def test_project_jobs_by_scope(scene: Scene) -> None:
    """A scope is one status or several, and the server does the choosing."""
    jobs = await listed(scene.client.iter_project_jobs(scene.path, scope=["failed", "success"]))
    assert {job.id for job in jobs} == {scene.done.id, scene.failed.id}
    scopes = [value for name, value in scene.gitlab.requests[-1].query if name == "scope[]"]
    assert scopes == ["failed", "success"]


async def test_an_empty_scope_is_not_every_job(scene: Scene) -> None:
    """A selection of statuses that came out empty is refused before anything is sent, by every listing."""
    client, before = scene.client, len(scene.gitlab.requests)
    for listing in (
        client.iter_project_jobs(scene.path, scope=[]),
        client.iter_pipeline_jobs(scene.path, scene.pipeline.id, scope=()),
        client.iter_pipeline_bridges(scene.path, scene.pipeline.id, scope=set()),
    ):
        with pytest.raises(ValueError, match="scope is empty"):
            await anext(aiter(listing))
    with pytest.raises(ValueError, match="scope is empty"):
        client.stream_jobs([scene.path], scope=[])
    assert len(scene.gitlab.requests) == before


async def test_pipeline_jobs(scene: Scene) -> None:
    """The jobs of a pipeline come, by id of the project as well as by path."""
    by_path = await listed(scene.client.iter_pipeline_jobs(scene.path, scene.pipeline.id))
    by_id = await listed(scene.client.iter_pipeline_jobs(scene.project.id, scene.pipeline.id, scope="failed"))
    assert {job.id for job in by_path} == set(scene.gitlab.jobs)
    assert [job.id for job in by_id] == [scene.failed.id]


async def test_retried_jobs_are_left_out_unless_wanted(scene: Scene) -> None:
    """A retried attempt is only listed with include_retried, which the oldest server does not know."""
    new = await scene.client.retry_job(scene.path, scene.failed.id)
    ids = {job.id async for job in scene.client.iter_pipeline_jobs(scene.path, scene.pipeline.id)}
    everything = scene.client.iter_pipeline_jobs(scene.path, scene.pipeline.id, include_retried=True)
    assert new.id in ids
    assert scene.failed.id not in ids
    found = {job.id async for job in everything}
    assert new.id in found
    assert (scene.failed.id in found) == (scene.gitlab.generation != "9.1")


async def test_bridges(scene: Scene) -> None:
    """Trigger jobs come where the generation has them; the oldest has none; a missing pipeline is told."""
    child = scene.project.add_pipeline("main")
    bridge = scene.pipeline.add_bridge("child", downstream=child)
    with pytest.raises(NotFoundError):
        await listed(scene.client.iter_pipeline_bridges(scene.path, 9999))
    found = await listed(scene.client.iter_pipeline_bridges(scene.path, scene.pipeline.id))
    if scene.gitlab.generation == "9.1":
        assert found == []
        return
    assert [each.id for each in found] == [bridge.id]
    assert found[0].downstream_pipeline is not None
    assert found[0].downstream_pipeline.id == child.id


async def test_bridges_under_their_new_name() -> None:
    """When the older of the two names is gone, the newer one is asked."""
    async with (
        FakeGitLab() as gitlab,
        open_client(gitlab.url, private_token=gitlab.token) as client,
    ):
        scene = Scene(gitlab, client)
        bridge = scene.pipeline.add_bridge("child", downstream=scene.project.add_pipeline("main"))
        gitlab.faults.add("404", where="*/bridges")
        found = await listed(client.iter_pipeline_bridges(scene.path, scene.pipeline.id))
        assert [each.id for each in found] == [bridge.id]
        assert [request.path.rpartition("/")[2] for request in gitlab.requests] == ["bridges", "trigger_jobs"]


async def test_one_job(scene: Scene) -> None:
    """A job is had by id; one that does not exist is not found, with GitLab's words and request id."""
    job = await scene.client.get_job(scene.path, scene.failed.id)
    assert (job.id, job.status, job.name) == (scene.failed.id, "failed", "test")
    with pytest.raises(NotFoundError) as caught:
        await scene.client.get_job(scene.path, 999_999)
    assert caught.value.status == 404
    assert caught.value.message == "404 Not found"
    assert caught.value.request_id
    assert caught.value.method == "GET"
    assert caught.value.url.endswith("/projects/group%2Fsub%2Fapp/jobs/999999")
    assert scene.gitlab.requests.count("*/999999") == 1


async def test_project_and_pipeline(scene: Scene) -> None:
    """The objects fan-out stands on are had by id and path."""
    assert (await scene.client.get_project(scene.path)).id == scene.project.id
    assert (await scene.client.get_pipeline(scene.path, scene.pipeline.id)).id == scene.pipeline.id
    pipelines = await listed(scene.client.iter_project_pipelines(scene.path, ref="main"))
    assert [each.id for each in pipelines] == [scene.pipeline.id]


async def test_group_projects(scene: Scene) -> None:
    """A group gives its projects, those of subgroups included (which came after 9.1)."""
    group = "group/sub" if scene.gitlab.generation == "9.1" else "group"
    projects = await listed(scene.client.iter_group_projects(group))
    assert [project.path_with_namespace for project in projects] == ["group/sub/app"]


async def test_actions_and_their_statuses(scene: Scene) -> None:
    """Cancel, retry, erase, play and keep work whether the server says 200 or 201."""
    client, path = scene.client, scene.path
    assert (await client.cancel_job(path, scene.running.id)).status in {"canceling", "canceled"}
    assert (await client.retry_job(path, scene.failed.id)).id not in {scene.failed.id}
    assert (await client.play_job(path, scene.manual.id)).status in {"pending", "running", "created"}
    if scene.gitlab.generation != "9.1":
        assert (await client.keep_artifacts(path, scene.done.id)).id == scene.done.id
    assert (await client.erase_job(path, scene.done.id)).id == scene.done.id
    posts = scene.gitlab.requests.filter(method="POST")
    assert {post.status for post in posts} <= {200, 201}
    assert len({post.connection for post in posts}) == len(posts)


async def test_play_with_variables(scene: Scene) -> None:
    """Variables travel as GitLab's attributes in a JSON body."""
    if scene.gitlab.generation == "9.1":
        pytest.skip("variables came with 14.x")
    await scene.client.play_job(scene.path, scene.manual.id, variables={"TARGET": "prod"})
    body = scene.gitlab.requests[-1].body
    assert body == b'{"job_variables_attributes":[{"key":"TARGET","value":"prod"}]}'


async def test_playing_a_bridge_gives_a_bridge(gitlab: FakeGitLab, client: Client) -> None:
    """The answer of play is told apart by its downstream pipeline."""
    scene = Scene(gitlab, client)
    bridge = scene.pipeline.add_bridge("child", status="manual")
    played = await client.play_job(scene.path, bridge.id)
    assert isinstance(played, Bridge)


async def test_refusals_are_typed(scene: Scene) -> None:
    """What a job's state forbids is a ForbiddenError or a 400 with GitLab's reason, sent once."""
    with pytest.raises(ForbiddenError, match="not retryable"):
        await scene.client.retry_job(scene.path, scene.running.id)
    with pytest.raises(ForbiddenError, match="not erasable"):
        await scene.client.erase_job(scene.path, scene.running.id)
    with pytest.raises(ResponseError, match="Unplayable Job") as caught:
        await scene.client.play_job(scene.path, scene.done.id)
    assert caught.value.status == 400
    assert len(scene.gitlab.requests) == 3


async def test_deleting_artifacts(scene: Scene) -> None:
    """Deleting one job's archive and a project's archives both succeed with an empty or odd body."""
    if scene.gitlab.generation == "9.1":
        with pytest.raises(ResponseError):
            await scene.client.delete_artifacts(scene.path, scene.done.id)
        return
    await scene.client.delete_artifacts(scene.path, scene.done.id)
    await scene.client.delete_project_artifacts(scene.path)
    assert [request.status for request in scene.gitlab.requests] == [204, 202]


async def test_archive_members(scene: Scene) -> None:
    """The members of an archive are listed by the server, or from the archive's end where it cannot."""
    entries = await listed(scene.client.iter_artifact_members(scene.path, scene.done.id))
    assert {entry.path.rstrip("/") for entry in entries if entry.type == "file"} == {"a.txt", "dir/b.txt"}
    inside = await listed(scene.client.iter_artifact_members(scene.path, scene.done.id, path="dir"))
    assert [entry.path for entry in inside] == ["dir/b.txt"]


async def test_archive_bytes(scene: Scene) -> None:
    """An archive streams whole, and so does one file out of it (not on the oldest server)."""
    ref = JobRef(scene.path, scene.done.id)
    assert (await read_archive(scene.client, ref))[:4] == b"PK\x03\x04"
    if scene.gitlab.generation != "9.1":
        async with scene.client._api.open_artifact_member(ref, "dir/b.txt") as body:
            assert [piece async for piece in body] == [b"beta"]
    with pytest.raises(NotFoundError, match="404"):
        await read_archive(scene.client, JobRef(scene.path, scene.failed.id))
    with pytest.raises(NotFoundError):
        async with scene.client._api.open_artifact_member(ref, "dir/none.txt"):
            pass


async def test_trace_bytes(scene: Scene) -> None:
    """A trace streams whole and says where it came from."""
    async with scene.client._api.open_trace(JobRef(scene.path, scene.done.id)) as body:
        assert b"".join([piece async for piece in body]) == b"ok\n"
        assert body.from_api


@pytest.mark.parametrize("generation", ["18", "19.5"])
async def test_current_job_needs_a_job_token(generation: str) -> None:
    """GET /job answers its job token; with another token it is not found; a dead token is refused."""
    async with FakeGitLab(generation) as gitlab:  # type: ignore[arg-type]  # a literal out of a parameter
        job = gitlab.add_project("group/app").add_pipeline().add_job("test", status="running")
        assert job.token is not None
        async with open_client(gitlab.url, job_token=job.token.value) as client:
            assert (await client.get_current_job()).id == job.id
            with pytest.raises(AuthenticationError):
                await client.get_job("group/app", job.id)
            job.finish("success")
            with pytest.raises(AuthenticationError):
                await client.get_current_job()
        async with open_client(gitlab.url, private_token=gitlab.token) as client:
            with pytest.raises(NotFoundError, match="404 Job Not Found"):
                await client.get_current_job()


async def test_a_relative_url_root() -> None:
    """An installation below a path works, links and all, with or without /api/v4 in the address."""
    async with FakeGitLab(relative_url="/gitlab") as gitlab:
        pipeline = gitlab.add_project("group/app").add_pipeline()
        for number in range(150):
            pipeline.add_job(f"job {number}")
        for url in (gitlab.url, f"{gitlab.url}/api/v4/"):
            async with open_client(url, private_token=gitlab.token) as client:
                jobs = await listed(client.iter_project_jobs("group/app"))
                assert len(jobs) == 150
                # The address of a job, as the server gives it, is a target of the same server.
                async with client.stream_jobs(job.web_url for job in jobs[:3] if job.web_url) as stream:
                    assert [ref.project async for ref, _ in stream] == ["group/app"] * 3
