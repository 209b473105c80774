"""python-gitlab, an independent client, accepts the fake: it runs on real time, in the test's own thread."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from typing import Any

import gitlab as python_gitlab
import pytest
from gitlab.v4.objects import Project

from asyncjobs.testing import FakeGitLab, FakeJob, FakeProject, serve_in_thread

pytestmark = pytest.mark.real_time
FILES = {"a.txt": b"alpha", "dir/b.txt": b"beta"}


@pytest.fixture
def served(generation: Any) -> Iterator[FakeGitLab]:
    """Each generation, served from another thread."""
    with serve_in_thread(FakeGitLab(generation)) as fake:
        yield fake


@pytest.fixture
def fake_project(served: FakeGitLab) -> FakeProject:
    """A project with 25 successful jobs, the last one with an archive."""
    project = served.add_project("group/sub/app")
    pipeline = project.add_pipeline("feature/x")
    for number in range(25):
        job = pipeline.add_job(f"job {number}", status="success", trace=f"log of {number} ☕\n")
    job.set_artifacts(FILES)
    return project


@pytest.fixture
def client(served: FakeGitLab) -> Iterator[python_gitlab.Gitlab]:
    """python-gitlab with the default token."""
    with python_gitlab.Gitlab(served.url, private_token=served.token, retry_transient_errors=False) as client:
        yield client


@pytest.fixture
def project(client: python_gitlab.Gitlab, fake_project: FakeProject) -> Project:
    """The project, by its full path."""
    return client.projects.get("group/sub/app")


def last(fake_project: FakeProject) -> FakeJob:
    """The job with the archive."""
    return fake_project.pipelines[0].jobs[-1]


def test_it_lists_all_pages(project: Project, fake_project: FakeProject) -> None:
    """Offset pages of project jobs and pipeline jobs are walked to the end."""
    ids = [job.id for job in fake_project.jobs]
    assert sorted(job.id for job in project.jobs.list(iterator=True, per_page=10)) == ids
    pipeline = project.pipelines.list(get_all=False)[0]
    assert sorted(job.id for job in pipeline.jobs.list(iterator=True, per_page=10)) == ids
    rows = pipeline.jobs.list(iterator=True, per_page=10)
    assert rows.total == 25


@pytest.mark.parametrize("generation", ["18", "19.5"], indirect=True)
def test_it_follows_keyset_cursors(project: Project, fake_project: FakeProject, served: FakeGitLab) -> None:
    """Keyset pages of project jobs join without a gap."""
    found = [job.id for job in project.jobs.list(iterator=True, per_page=10, pagination="keyset")]
    assert found == [job.id for job in reversed(fake_project.jobs)]
    assert len([one for one in served.requests if one.param("cursor")]) == 2


def test_it_reads_job_trace_and_archive(project: Project, fake_project: FakeProject) -> None:
    """One job, its log's bytes and its zip, by id and by ref."""
    job = project.jobs.get(last(fake_project).id)
    assert (job.name, job.status, job.pipeline["ref"]) == ("job 24", "success", "feature/x")
    assert job.trace() == "log of 24 ☕\n".encode()
    data = job.artifacts()
    assert isinstance(data, bytes)
    assert zipfile.ZipFile(io.BytesIO(data)).read("a.txt") == b"alpha"
    assert project.artifacts.download("feature/x", "job 24") == data


@pytest.mark.parametrize("generation", ["18", "19.5"], indirect=True)
def test_it_reads_single_files_and_bridges(project: Project, fake_project: FakeProject) -> None:
    """A file out of the zip by id and by ref; the bridges of a pipeline."""
    assert project.jobs.get(last(fake_project).id).artifact("dir/b.txt") == b"beta"
    assert project.artifacts.raw("feature/x", "dir/b.txt", "job 24") == b"beta"
    parent = fake_project.add_pipeline()
    parent.add_bridge("child", fake_project.pipelines[0])
    bridges = project.pipelines.get(parent.id).bridges.list(get_all=True)
    assert [bridge.downstream_pipeline["id"] for bridge in bridges] == [fake_project.pipelines[0].id]


def test_it_presses_every_button(project: Project, fake_project: FakeProject) -> None:
    """cancel, retry, play, erase, keep reach the job, with the statuses the client expects."""
    pipeline = fake_project.add_pipeline()
    running, manual = pipeline.add_job("run", status="running"), pipeline.add_job("go", status="manual")
    canceled = project.jobs.get(running.id).cancel()
    assert canceled["status"] in ("canceling", "canceled")
    running.finish("canceled")
    again = project.jobs.get(running.id).retry()
    assert (again["id"] > running.id, again["status"]) == (True, "pending")
    project.jobs.get(manual.id).play()
    assert manual.status == "pending"
    job = project.jobs.get(last(fake_project).id)
    job.keep_artifacts()
    job.erase()
    assert (last(fake_project).trace, last(fake_project).archive) == (b"", None)
    assert last(fake_project).erased_at is not None


@pytest.mark.parametrize("generation", ["18", "19.5"], indirect=True)
def test_it_removes_artifacts(project: Project, fake_project: FakeProject) -> None:
    """204 and 202 are accepted."""
    project.jobs.get(last(fake_project).id).delete_artifacts()
    assert last(fake_project).archive is None
    project.artifacts.delete()


def test_it_understands_every_refusal(
    served: FakeGitLab, project: Project, fake_project: FakeProject
) -> None:
    """401, 403 and 404 arrive as its own errors with GitLab's message."""
    with pytest.raises(python_gitlab.GitlabGetError, match="404: 404 Not found"):
        project.jobs.get(999)
    with pytest.raises(python_gitlab.GitlabJobRetryError, match="403 Forbidden - Job is not retryable"):
        project.jobs.get(fake_project.add_pipeline().add_job("x").id).retry()
    with pytest.raises(python_gitlab.GitlabJobPlayError, match="400 Bad request - Unplayable Job"):
        project.jobs.get(last(fake_project).id).play()
    with (
        python_gitlab.Gitlab(served.url, private_token="wrong") as stranger,
        pytest.raises(python_gitlab.GitlabAuthenticationError, match="401 Unauthorized"),
    ):
        stranger.projects.get("group/sub/app")


@pytest.mark.parametrize("generation", ["18", "19.5"], indirect=True)
def test_it_walks_a_group(client: python_gitlab.Gitlab, fake_project: FakeProject) -> None:
    """A group's projects with those of its subgroups."""
    found = client.groups.get("group").projects.list(include_subgroups=True, get_all=True)
    assert [one.path_with_namespace for one in found] == ["group/sub/app"]


def test_it_knows_who_it_is(client: python_gitlab.Gitlab) -> None:
    """`auth()` reads the user."""
    client.auth()
    assert client.user is not None
    assert client.user.username == "dev"


def test_it_leaks_its_private_token_to_the_store_and_is_refused(
    served: FakeGitLab, project: Project, fake_project: FakeProject
) -> None:
    """The second origin does what S3 does: 400 for a private token, bytes for a client that shows none."""
    served.settings.delivery = "direct"
    with pytest.raises(python_gitlab.GitlabGetError, match="400"):
        project.jobs.get(last(fake_project).id).artifacts()
    oauth = str(served.add_token("oauth"))
    with python_gitlab.Gitlab(served.url, oauth_token=oauth) as careful:
        job = careful.projects.get("group/sub/app").jobs.get(last(fake_project).id)
        assert job.artifacts() == last(fake_project).archive_bytes


def test_a_limited_client_is_told_to_wait(served: FakeGitLab, project: Project) -> None:
    """429 reaches it with its text when it does not retry."""
    served.fail_next("429_seconds")
    with pytest.raises(python_gitlab.GitlabHttpError, match="429"):
        project.manager.gitlab.http_get("/user", obey_rate_limit=False)
