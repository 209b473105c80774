"""Who may call: every way to send a token, scopes, dead tokens, invisible and moved projects."""

from __future__ import annotations

import pytest

from asyncjobs.testing import FakeGitLab, FakeJob, FakeProject
from tests.functional.fake.conftest import Caller, path_of

UNAUTHORIZED = b'{"message":"401 Unauthorized"}'


@pytest.mark.parametrize("way", ["PRIVATE-TOKEN", "Authorization", "private_token", "access_token"])
async def test_every_way_to_send_a_private_token(
    gitlab: FakeGitLab, call: Caller, job: FakeJob, way: str
) -> None:
    """Two headers and two query parameters are accepted."""
    if way.endswith("_token"):
        got = await call(path_of(job, f"?{way}={gitlab.token}"), token=None)
    else:
        got = await call(
            path_of(job), token=None, **{way: ("Bearer " if way == "Authorization" else "") + gitlab.token}
        )
    assert got.status == 200


async def test_unknown_and_absent_tokens(gitlab: FakeGitLab, call: Caller, job: FakeJob) -> None:
    """401; a private project is 404 for anonymous callers of routes that allow them."""
    for token in (None, "glpat-wrong"):
        got = await call(path_of(job), token=token)
        assert (got.status, got.body) == (401, UNAUTHORIZED)
    assert (await call(path_of(job, "/artifacts"), token=None)).status == 404
    assert (await call(path_of(job), token=None, PRIVATE_TOKEN=str(job.token))).status == 401


async def test_public_projects_show_pipelines_and_artifacts_but_not_jobs(
    gitlab: FakeGitLab, call: Caller
) -> None:
    """Anonymous callers may read a public pipeline's jobs, and no job by its own route."""
    project = gitlab.add_project("group/open", visibility="public")
    job = project.add_pipeline().add_job("b", status="success", artifacts={"a": b"1"})
    base = f"/projects/{project.id}"
    assert (await call(f"{base}/jobs", token=None)).status == 401
    assert (await call(path_of(job), token=None)).status == 401
    assert (await call(path_of(job, "/trace"), token=None)).status == 401
    assert (await call(path_of(job, "/artifacts"), token=None)).status == 200
    assert len((await call(f"{base}/pipelines/{job.pipeline.id}/jobs", token=None)).json()) == 1
    project.public_jobs = False
    assert (await call(path_of(job, "/artifacts"), token=None)).status == 401
    stranger = str(gitlab.add_token(user=gitlab.add_user("stranger")))
    got = await call(f"{base}/pipelines/{job.pipeline.id}/jobs", token=stranger)
    assert (got.status, got.body) == (200, b"[]")


async def test_read_scope_reads_and_does_not_write(gitlab: FakeGitLab, call: Caller, job: FakeJob) -> None:
    """403 insufficient_scope names the scopes that would do."""
    token = str(gitlab.add_token(scopes=("read_api",)))
    assert (await call(path_of(job), token=token)).status == 200
    got = await call(path_of(job, "/cancel"), method="POST", token=token)
    description = "The request requires higher privileges than provided by the access token."
    assert (got.status, got.json()) == (
        403,
        {"error": "insufficient_scope", "error_description": description, "scope": "api"},
    )
    got = await call(path_of(job), token=str(gitlab.add_token(scopes=("read_user",))))
    assert (got.status, got.json()["scope"]) == (403, "api read_api")
    assert "www-authenticate" not in got.headers


@pytest.mark.parametrize("kind", ["expired", "revoked"])
async def test_dead_tokens_say_why(gitlab: FakeGitLab, call: Caller, job: FakeJob, kind: str) -> None:
    """401 invalid_token with a description and WWW-Authenticate."""
    token = gitlab.add_token(expired=kind == "expired", revoked=kind == "revoked")
    got = await call(path_of(job), token=str(token))
    assert (got.status, got.json()["error"]) == (401, "invalid_token")
    assert kind in got.json()["error_description"]
    assert 'error="invalid_token"' in got.headers["www-authenticate"]


async def test_job_tokens_work_where_marked_while_their_job_runs(
    gitlab: FakeGitLab, call: Caller, project: FakeProject, job: FakeJob
) -> None:
    """Artifacts, lists and GET /job accept one; single jobs and traces do not; it dies with its job."""
    token = str(job.token)
    other = project.add_pipeline().add_job("b", status="success", artifacts={"a": b"1"})
    for headers in ({"JOB_TOKEN": token}, {"Authorization": f"Bearer {token}"}):
        assert (await call("/job", token=None, **headers)).json()["id"] == job.id
        assert (await call(path_of(other, "/artifacts"), token=None, **headers)).status == 200
        assert (await call(path_of(other), token=None, **headers)).status == 401
        assert (await call(path_of(other, "/trace"), token=None, **headers)).status == 401
    assert (await call(path_of(other, f"/artifacts?job_token={token}"), token=None)).status == 200
    assert (await call(f"/projects/{project.id}/jobs", token=None, JOB_TOKEN=token)).status == 200
    job.finish()
    got = await call(path_of(other, "/artifacts"), token=None, JOB_TOKEN=token)
    assert (got.status, got.body) == (401, UNAUTHORIZED)


async def test_job_tokens_of_another_project_need_its_allowlist(
    gitlab: FakeGitLab, call: Caller, job: FakeJob
) -> None:
    """403 names both projects until the target allows the source."""
    target = gitlab.add_project("group/target")
    other = target.add_pipeline().add_job("b", status="success", artifacts={"a": b"1"})
    got = await call(path_of(other, "/artifacts"), token=None, JOB_TOKEN=str(job.token))
    text = "403 Forbidden - Authentication by CI/CD job token not allowed from group/sub/app to group/target."
    assert (got.status, got.json()) == (403, {"message": text})
    target.job_token_allowlist.add(job.project_id)
    assert (await call(path_of(other, "/artifacts"), token=None, JOB_TOKEN=str(job.token))).status == 200


async def test_an_invisible_project_is_not_found(gitlab: FakeGitLab, call: Caller) -> None:
    """The right token without access learns nothing, not even that the project exists."""
    hidden = gitlab.add_project("group/hidden", members={})
    for name in (str(hidden.id), "group%2Fhidden"):
        got = await call(f"/projects/{name}/jobs")
        assert (got.status, got.body) == (404, b'{"message":"404 Project Not Found"}')


async def test_guests_may_look_and_not_touch(gitlab: FakeGitLab, call: Caller, job: FakeJob) -> None:
    """403 for buttons below developer."""
    guest = gitlab.add_user("guest")
    job.pipeline.project.members[guest.id] = 10
    token = str(gitlab.add_token(user=guest))
    assert (await call(path_of(job), token=token)).status == 200
    for name in ("cancel", "retry", "play", "erase", "artifacts/keep"):
        got = await call(path_of(job, f"/{name}"), method="POST", token=token)
        assert (got.status, got.body) == (403, b'{"message":"403 Forbidden"}'), name


async def test_moved_projects_redirect_reads_and_refuse_writes(
    gitlab: FakeGitLab, call: Caller, project: FakeProject, job: FakeJob
) -> None:
    """301 to the numeric id with the query kept; 405 for writes."""
    project.move("group/new-home")
    got = await call(f"/projects/group%2Fsub%2Fapp/jobs/{job.id}?x=1")
    assert got.headers["location"] == f"{gitlab.url}/api/v4/projects/{project.id}/jobs/{job.id}?x=1"
    assert (got.status, got.headers["content-type"]) == (301, "text/plain")
    got = await call(f"/projects/group%2Fsub%2Fapp/jobs/{job.id}/cancel", method="POST")
    assert (got.status, got.body) == (
        405,
        b'{"message":"Non GET methods are not allowed for moved projects"}',
    )
    assert (await call(f"/projects/group%2Fnew-home/jobs/{job.id}")).status == 200


async def test_the_log_keeps_credentials_as_received(gitlab: FakeGitLab, call: Caller, job: FakeJob) -> None:
    """A test can look for a secret in everything that arrived."""
    await call(path_of(job, "?private_token=glpat-canary"), token=None)
    await call(path_of(job), token="glpat-canary")
    assert len(gitlab.requests.showing("glpat-canary")) == 2
    assert gitlab.requests[-1].headers["private-token"] == "glpat-canary"
    assert gitlab.requests[-1].path == f"/api/v4{path_of(job)}"
    assert gitlab.requests.count("*/jobs/*", status=401) == 2
