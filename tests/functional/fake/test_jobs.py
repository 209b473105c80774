"""Jobs: shapes per generation, exact errors, the life cycle behind the buttons."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from asyncjobs.testing import FakeGitLab, FakeJob, FakeProject
from tests.functional.fake.conftest import Caller, caller_of, path_of

KEYS_9_1 = {
    *("id", "status", "stage", "name", "ref", "tag", "coverage", "created_at", "started_at", "finished_at"),
    *("user", "commit", "runner", "pipeline"),
}
KEYS = KEYS_9_1 | {
    *("allow_failure", "erased_at", "duration", "queued_duration", "web_url", "project", "archived"),
    *("artifacts", "artifacts_expire_at", "tag_list", "runner_manager"),
}


async def test_the_shape_of_a_job_follows_the_generation(generation: Any) -> None:
    """9.1 has its fourteen keys, 18 today's, 19.5 adds `source`."""
    async with FakeGitLab(generation) as gitlab, aiohttp.ClientSession() as session:
        job = gitlab.add_project("group/app").add_pipeline().add_job("test")
        shape = (await caller_of(gitlab, session)(path_of(job))).json()
    assert set(shape) == {"9.1": KEYS_9_1, "18": KEYS, "19.5": KEYS | {"source"}}[generation]
    assert shape["runner"] is None
    assert shape["created_at"] == "2026-01-05T08:00:00.000Z"


async def test_absent_keys_are_absent_and_not_null(call: Caller, job: FakeJob) -> None:
    """`failure_reason` and `artifacts_file` exist only when they have something to say."""
    assert not {"failure_reason", "artifacts_file"} & set((await call(path_of(job))).json())
    job.set_artifacts({"a": "b"})
    job.finish("failed", failure_reason="job_execution_timeout")
    shape = (await call(path_of(job))).json()
    assert shape["failure_reason"] == "job_execution_timeout"
    assert shape["artifacts_file"] == {"filename": "artifacts.zip", "size": len(job.archive_bytes)}


async def test_a_lost_commit_is_null(call: Caller, job: FakeJob) -> None:
    """`commit` may be null."""
    job.has_commit = False
    assert (await call(path_of(job))).json()["commit"] is None


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/projects/999/jobs", 404, b'{"message":"404 Project Not Found"}'),
        ("/projects/group%2Fsub%2Fapp/jobs/999", 404, b'{"message":"404 Not found"}'),
        ("/projects/group/sub/app/jobs", 404, b'{"error":"404 Not Found"}'),
        ("/nothing/here", 404, b'{"error":"404 Not Found"}'),
        ("/projects/group%2Fsub%2Fapp/jobs/x", 400, b'{"error":"job_id is invalid"}'),
        (
            "/projects/group%2Fsub%2Fapp/jobs?scope=cancelled",
            400,
            b'{"error":"scope does not have a valid value"}',
        ),
        ("/projects/group%2Fsub%2Fapp/jobs?page=x", 400, b'{"error":"page is invalid"}'),
        ("/projects/group%2Fsub%2Fapp/jobs/artifacts/main/download", 400, b'{"error":"job is missing"}'),
        ("/projects/group%2Fsub%2Fapp/pipelines/1", 404, b'{"message":"404 Not found"}'),
        ("/projects/group%2Fsub%2Fapp/pipelines/latest?ref=no", 403, b'{"message":"403 Forbidden"}'),
        ("/job", 404, b'{"message":"404 Job Not Found"}'),
        ("/groups/none", 404, b'{"message":"404 Group Not Found"}'),
    ],
)
async def test_error_bodies_are_exact(
    call: Caller, job: FakeJob, path: str, status: int, body: bytes
) -> None:
    """Each refusal has GitLab's own status and text."""
    got = await call(path)
    assert (got.status, got.body) == (status, body)
    assert got.headers["content-type"] == "application/json"


async def test_api_v3_is_gone_and_the_web_page_is_html(call: Caller, gitlab: FakeGitLab) -> None:
    """A wrong address meets what it would meet at a real GitLab."""
    got = await call(f"{gitlab.url}/api/v3/projects")
    assert (got.status, got.body) == (410, b'{"error":"API V3 is no longer supported. Use API V4 instead."}')
    got = await call(f"{gitlab.url}/")
    assert (got.status, got.headers["location"]) == (302, "/users/sign_in")
    got = await call(f"{gitlab.url}/users/sign_in")
    assert (got.status, got.headers["content-type"]) == (200, "text/html; charset=utf-8")


async def test_cancel_waits_for_the_runner(call: Caller, job: FakeJob) -> None:
    """running, canceling, last lines at the runner's next contact, then canceled."""
    job.append_trace("begun\n")
    got = await call(path_of(job, "/cancel"), method="POST")
    assert (got.status, got.json()["status"]) == (201, "canceling")
    await asyncio.sleep(59)
    assert (job.status, job.trace) == ("canceling", b"begun\n")
    await asyncio.sleep(1.5)
    assert (job.status, job.trace) == ("canceling", b"begun\n\x1b[31;1mERROR: Job failed: canceled\x1b[0;m\n")
    await asyncio.sleep(1)
    assert job.status == "canceled"
    got = await call(path_of(job, "/cancel"), method="POST")
    assert (got.status, got.json()["status"]) == (201, "canceled")


async def test_a_forced_cancel_ends_at_once(call: Caller, job: FakeJob) -> None:
    """`force` acts on canceling only, and the last lines never come."""
    for expected in ("canceling", "canceled"):
        got = await call(path_of(job, "/cancel?force=true"), method="POST")
        assert got.json()["status"] == expected
    assert job.trace == b""


async def test_old_servers_cancel_at_once() -> None:
    """9.1 knows no canceling, neither as a state nor as a scope."""
    async with FakeGitLab("9.1") as gitlab, aiohttp.ClientSession() as session:
        call = caller_of(gitlab, session)
        job = gitlab.add_project("group/app").add_pipeline().add_job("test")
        job.start()
        assert (await call(path_of(job, "/cancel"), method="POST")).json()["status"] == "canceled"
        assert (await call(f"/projects/{job.project_id}/jobs?scope=canceling")).status == 400


async def test_success_reported_while_canceling_is_canceled(job: FakeJob) -> None:
    """Both ends of a job being canceled lead to canceled."""
    job.cancel()
    job.finish("success")
    assert job.status == "canceled"


async def test_retry_makes_a_new_job_and_hides_the_old_one(call: Caller, job: FakeJob) -> None:
    """A new id; the old job leaves the pipeline's plain list only."""
    refused = await call(path_of(job, "/retry"), method="POST")
    assert (refused.status, refused.body) == (403, b'{"message":"403 Forbidden - Job is not retryable"}')
    job.finish("failed")
    got = await call(path_of(job, "/retry"), method="POST")
    new = got.json()["id"]
    assert (got.status, got.json()["status"], new > job.id) == (201, "pending", True)
    pipeline = f"/projects/{job.project_id}/pipelines/{job.pipeline.id}/jobs"
    assert [one["id"] for one in (await call(pipeline)).json()] == [new]
    assert [one["id"] for one in (await call(f"{pipeline}?include_retried=true")).json()] == [new, job.id]
    assert [one["id"] for one in (await call(f"/projects/{job.project_id}/jobs")).json()] == [new, job.id]
    assert (await call(path_of(job, "/retry"), method="POST")).status == 403


async def test_play_takes_variables_once(call: Caller, project: FakeProject) -> None:
    """A manual job starts with its variables; a second play is refused."""
    job = project.add_pipeline().add_job("deploy", status="manual")
    data = {"job_variables_attributes": [{"key": "A", "value": "1"}, {"key": "B", "value": "2"}]}
    got = await call(path_of(job, "/play"), method="POST", data=data)
    assert (got.status, got.json()["status"]) == (200, "pending")
    assert job.variables == [{"key": "A", "value": "1"}, {"key": "B", "value": "2"}]
    got = await call(path_of(job, "/play"), method="POST")
    assert (got.status, got.body) == (400, b'{"message":"400 Bad request - Unplayable Job"}')


async def test_erase_needs_something_to_erase(call: Caller, job: FakeJob) -> None:
    """A finished job loses log and archive once; then 403."""
    job.append_trace("x")
    job.set_artifacts({"a": "b"})
    assert (await call(path_of(job, "/erase"), method="POST")).status == 403
    job.finish()
    await asyncio.sleep(200)
    got = await call(path_of(job, "/erase"), method="POST")
    assert (got.status, got.json()["artifacts"]) == (201, [])
    assert got.json()["erased_at"] is not None
    assert (await call(path_of(job, "/trace"))).body == b""
    got = await call(path_of(job, "/erase"), method="POST")
    assert (got.status, got.body) == (403, b'{"message":"403 Forbidden - Job is not erasable!"}')


async def test_bridges_are_no_jobs(call: Caller, project: FakeProject) -> None:
    """Listed by bridges and trigger_jobs with their child, 404 as a job, playable when manual."""
    child = project.add_pipeline()
    child.add_job("inner", status="success")
    parent = project.add_pipeline()
    bridge = parent.add_bridge("trigger", child)
    manual = parent.add_bridge("later", status="manual")
    base = f"/projects/{project.id}"
    for name in ("bridges", "trigger_jobs"):
        rows = (await call(f"{base}/pipelines/{parent.id}/{name}")).json()
        assert [row["id"] for row in rows] == [manual.id, bridge.id]
        assert (rows[0]["downstream_pipeline"], rows[1]["downstream_pipeline"]["id"]) == (None, child.id)
        assert rows[1]["downstream_pipeline"]["source"] == "parent_pipeline"
        assert not {"artifacts", "runner", "tag_list"} & set(rows[0])
    assert (await call(f"{base}/jobs/{bridge.id}")).status == 404
    assert [row["id"] for row in (await call(f"{base}/pipelines")).json()] == [parent.id]
    assert (await call(f"{base}/jobs/{manual.id}/play", method="POST")).json()["name"] == "later"


async def test_bridges_in_a_circle(call: Caller, project: FakeProject) -> None:
    """Pipelines that wait for each other are running for ever, and reading them is no trouble."""
    first, second = project.add_pipeline(), project.add_pipeline()
    first.add_bridge("down", second)
    second.add_bridge("up", first)
    for pipeline in (first, second, first):
        answer = await call(f"/projects/{project.id}/pipelines/{pipeline.id}")
        assert (answer.status, answer.json()["status"]) == (200, "running")


@pytest.mark.parametrize(
    ("generation_name", "tail", "status"),
    [
        ("9.1", "/pipelines/500/bridges", 404),
        # Without the route "latest" is taken for a pipeline's number.
        ("9.1", "/pipelines/latest", 400),
        ("9.1", "/jobs/1000/artifacts/tree", 404),
        ("18", "/pipelines/500/bridges", 200),
        ("18", "/pipelines/500/trigger_jobs", 404),
        ("19.5", "/pipelines/500/trigger_jobs", 200),
        ("19.5", "/pipelines/latest", 200),
    ],
)
async def test_routes_exist_from_their_version_on(generation_name: Any, tail: str, status: int) -> None:
    """A route that is too new is no route."""
    async with FakeGitLab(generation_name) as gitlab, aiohttp.ClientSession() as session:
        project = gitlab.add_project("group/app")
        project.add_pipeline().add_job("test")
        got = await caller_of(gitlab, session)(f"/projects/{project.id}{tail}")
    assert got.status == status
    if status == 404:
        assert got.body == b'{"error":"404 Not Found"}'


async def test_a_bridge_is_retried_as_a_new_bridge(call: Caller, project: FakeProject) -> None:
    """POST retry takes a bridge's number too; the old one leaves the list."""
    parent = project.add_pipeline()
    bridge = parent.add_bridge("trigger", status="failed")
    path = f"/projects/{project.id}/jobs/{bridge.id}/retry"
    got = await call(path, method="POST")
    assert (got.status, got.json()["status"], "downstream_pipeline" in got.json()) == (201, "pending", True)
    assert (await call(path, method="POST")).status == 403
    rows = (await call(f"/projects/{project.id}/pipelines/{parent.id}/bridges")).json()
    assert [row["id"] for row in rows] == [got.json()["id"]]


async def test_an_older_runner_is_canceled_at_once(call: Caller, job: FakeJob) -> None:
    """Without a runner that knows canceling there is no such state."""
    job.runner_cancels = False
    assert (await call(path_of(job, "/cancel"), method="POST")).json()["status"] == "canceled"


async def test_the_runner_hook_takes_waiting_jobs(gitlab: FakeGitLab, call: Caller, job: FakeJob) -> None:
    """`gitlab.runner` hears of every job that begins to wait, here one that was retried."""
    gitlab.runner = lambda waiting: waiting.script([(5, "running"), (5, b"hello"), (5, "success")])
    job.finish("failed")
    new = (await call(path_of(job, "/retry"), method="POST")).json()["id"]
    await asyncio.sleep(16)
    assert (gitlab.jobs[new].status, gitlab.jobs[new].trace) == ("success", b"hello")


async def test_plain_attributes_may_be_set(call: Caller, project: FakeProject) -> None:
    """A change by hand is seen by the next answer, in the pipeline's status too."""
    pipeline = project.add_pipeline()
    job = pipeline.add_job("a", status="failed")
    path = f"/projects/{project.id}/pipelines/{pipeline.id}"
    assert (await call(path)).json()["status"] == "failed"
    job.allow_failure = True
    assert (await call(path)).json()["status"] == "success"
    job.allow_failure = False
    job.retried = True
    pipeline.add_job("a", status="running")
    assert (await call(path)).json()["status"] == "running"
    pipeline.fixed_status = "waiting_for_resource"
    assert (await call(path)).json()["status"] == "waiting_for_resource"


async def test_the_status_of_a_pipeline_follows_its_jobs(project: FakeProject) -> None:
    """Running while anything runs; failed unless the failure is allowed; manual blocks."""
    pipeline = project.add_pipeline()
    first, second = pipeline.add_job("a"), pipeline.add_job("b", allow_failure=True)
    assert pipeline.status == "created"
    first.start()
    assert pipeline.status == "running"
    first.finish()
    second.start()
    second.finish("failed")
    assert pipeline.status == "success"
    pipeline.add_job("deploy", status="manual")
    assert pipeline.status == "manual"


async def test_pipeline_filters(call: Caller, project: FakeProject) -> None:
    """Status, ref, scope, sort and dates choose pipelines."""
    old = project.add_pipeline("main", status="success")
    await asyncio.sleep(100)
    new = project.add_pipeline("v1", status="failed", tag=True)
    base = f"/projects/{project.id}/pipelines"
    for query, found in (
        ("", [new, old]),
        ("?status=success", [old]),
        ("?ref=v1", [new]),
        ("?scope=tags", [new]),
        ("?scope=branches", [old]),
        ("?sort=asc", [old, new]),
        ("?updated_after=2026-01-05T08:00:50Z", [new]),
        ("?created_before=2026-01-05T08:00:50.000%2B00:00", [old]),
        (f"?sha={old.sha}", [old]),
    ):
        assert [row["id"] for row in (await call(base + query)).json()] == [one.id for one in found], query
    assert (await call(f"{base}?scope=nonsense")).status == 400


async def test_pipelines_can_be_canceled_retried_and_deleted(call: Caller, project: FakeProject) -> None:
    """The pipeline's own buttons reach its jobs."""
    pipeline = project.add_pipeline()
    bad, waiting = pipeline.add_job("a", status="failed"), pipeline.add_job("b", status="pending")
    path = f"/projects/{project.id}/pipelines/{pipeline.id}"
    assert (await call(f"{path}/cancel", method="POST")).status == 200
    assert waiting.status == "canceled"
    assert (await call(f"{path}/retry", method="POST")).status == 201
    assert bad.retried
    assert (await call(path, method="DELETE")).status == 204
    assert (await call(path_of(bad))).status == 404


async def test_writes_of_job_answers_are_conditional_too(call: Caller, job: FakeJob) -> None:
    """A 201 has an ETag as every answer with a body has; 304 is for GET only."""
    got = await call(path_of(job, "/cancel"), method="POST")
    assert got.headers["etag"].startswith('W/"')
    again = await call(path_of(job, "/cancel"), method="POST", If_None_Match=got.headers["etag"])
    assert again.status == 201
