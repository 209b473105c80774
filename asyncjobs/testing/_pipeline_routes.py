"""The endpoints of pipelines: lists with filters, one, its jobs and bridges. lib/api/ci/pipelines.rb."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from email.utils import parsedate_to_datetime

from asyncjobs.testing._answers import Answer, error, forbidden, json_answer, message, record_not_found
from asyncjobs.testing._auth import (
    find_pipeline,
    find_project,
    may_read_jobs,
    require_jobs,
    require_level,
    require_user,
)
from asyncjobs.testing._call import Call
from asyncjobs.testing._generations import FINAL, RETRYABLE, Rules
from asyncjobs.testing._paging import offset_page
from asyncjobs.testing._people import DEVELOPER, OWNER
from asyncjobs.testing._projects import FakePipeline, FakeProject
from asyncjobs.testing._router import Route, always, modern
from asyncjobs.testing._shapes import bridge_shape, job_shape, pipeline_shape, single_pipeline_shape

_SCOPES = ("running", "pending", "finished", "branches", "tags")
_ORDERS: dict[str, Callable[[FakePipeline], object]] = {
    "id": lambda pipeline: pipeline.id,
    "status": lambda pipeline: (pipeline.status, pipeline.id),
    "ref": lambda pipeline: (pipeline.ref, pipeline.id),
    "updated_at": lambda pipeline: (pipeline.updated_at, pipeline.id),
    "user_id": lambda pipeline: (pipeline.user.id if pipeline.user else 0, pipeline.id),
}


def moment_param(call: Call, name: str) -> float | None:
    """A date parameter in seconds since the epoch.

    Raises:
        Refusal: 400 when it is no ISO 8601 date.
    """
    value = call.get(name)
    if not value:
        return None
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        raise error(400, f"{name} is invalid") from None
    return (parsed if parsed.tzinfo else parsed.astimezone()).timestamp()


def _list(call: Call) -> Answer:
    project = find_project(call)
    require_jobs(call, project)
    pipelines = [one for one in project.pipelines if one.parent is None or one.parent.project is not project]
    if call.get("source") == "parent_pipeline":
        pipelines = [one for one in project.pipelines if one.source == "parent_pipeline"]
    pipelines = _filtered(call, pipelines)
    order = call.choice("order_by", tuple(_ORDERS), "id") or "id"
    descending = call.choice("sort", ("asc", "desc"), "desc") == "desc"
    pipelines.sort(key=_ORDERS[order], reverse=descending)  # type: ignore[arg-type]  # each key orders alike
    return offset_page(call, pipelines, lambda one: pipeline_shape(call, one))


def _filtered(call: Call, pipelines: list[FakePipeline]) -> list[FakePipeline]:
    scope = call.choice("scope", _SCOPES)
    status = call.choice("status", call.rules.statuses)
    yaml_errors = call.flag("yaml_errors") if call.get("yaml_errors") else None
    tests: list[Callable[[FakePipeline], bool]] = []
    if scope == "finished":
        tests.append(lambda one: one.status in FINAL - {"skipped"})
    elif scope in ("running", "pending"):
        tests.append(lambda one: one.status == scope)
    elif scope is not None:
        tests.append(lambda one: one.tag is (scope == "tags"))
    if status is not None:
        tests.append(lambda one: one.status == status)
    if yaml_errors is not None:
        tests.append(lambda one: (one.yaml_errors is not None) is yaml_errors)
    for name in ("ref", "sha", "source", "name"):
        tests += [_equals(name, value) for value in [call.get(name)] if value]
    username = call.get("username")
    if username:
        tests.append(lambda one: one.user is not None and one.user.username == username)
    for field in ("updated", "created"):
        after, before = moment_param(call, f"{field}_after"), moment_param(call, f"{field}_before")
        tests.append(_between(f"{field}_at", after, before))
    return [one for one in pipelines if all(test(one) for test in tests)]


def _equals(name: str, value: str) -> Callable[[FakePipeline], bool]:
    return lambda one: getattr(one, name) == value


def _between(name: str, after: float | None, before: float | None) -> Callable[[FakePipeline], bool]:
    def test(one: FakePipeline) -> bool:
        moment: float = getattr(one, name)
        return (after is None or moment > after) and (before is None or moment < before)

    return test


def _get(call: Call) -> Answer:
    project = find_project(call)
    require_jobs(call, project)
    return json_answer(200, single_pipeline_shape(call, find_pipeline(call, project)))


def _latest(call: Call) -> Answer:
    project = find_project(call)
    require_jobs(call, project)
    ref = call.get("ref") or project.default_branch
    found = [one for one in project.pipelines if one.ref == ref and one.parent is None]
    if not found:
        # Not 404: the policy is asked about nothing and says no (OpenAPI document of 19.5).
        raise forbidden()
    return json_answer(200, single_pipeline_shape(call, found[-1]))


def _jobs(call: Call) -> Answer:
    project = find_project(call)
    if call.user is None:
        require_jobs(call, project)
    pipeline = find_pipeline(call, project)
    scope = call.scope()
    retried = call.rules.modern and call.flag("include_retried")
    jobs = [job for job in pipeline.jobs if retried or not job.retried]
    jobs = [job for job in jobs if not scope or job.status in scope]
    # Whoever sees the pipeline but not its jobs gets an empty list (jobs_finder.rb).
    jobs = jobs if may_read_jobs(call, project) else []
    jobs.sort(key=lambda job: job.id, reverse=not call.rules.ascending)
    return offset_page(call, jobs, lambda job: job_shape(call, job))


def _bridges(call: Call) -> Answer:
    project = find_project(call)
    require_jobs(call, project)
    pipeline = find_pipeline(call, project)
    scope = call.scope()
    bridges = [one for one in pipeline.bridges if not one.retried and (not scope or one.status in scope)]
    bridges.sort(key=lambda one: one.id, reverse=True)
    return offset_page(call, bridges, lambda one: bridge_shape(call, one))


def _retry(call: Call) -> Answer:
    project, pipeline = _own_pipeline(call)
    require_level(call, project, DEVELOPER)
    for job in list(pipeline.jobs):
        if job.status in RETRYABLE - {"success"} and not job.retried:
            job.retry(user=call.user)
    return json_answer(201, single_pipeline_shape(call, pipeline))


def _cancel(call: Call) -> Answer:
    project, pipeline = _own_pipeline(call)
    require_level(call, project, DEVELOPER)
    for job in list(pipeline.jobs):
        job.cancel()
    return json_answer(200, single_pipeline_shape(call, pipeline))


def _delete(call: Call) -> Answer:
    project, pipeline = _own_pipeline(call)
    require_level(call, project, OWNER)
    since = call.request.headers.get("If-Unmodified-Since")
    if since is not None and parsedate_to_datetime(since).timestamp() < int(pipeline.updated_at):
        raise message(412, "412 Precondition Failed")
    call.world.remove_pipeline(pipeline)
    return Answer(204)


def _own_pipeline(call: Call) -> tuple[FakeProject, FakePipeline]:
    require_user(call)
    project = find_project(call)
    pipeline = find_pipeline(call, project)
    if not may_read_jobs(call, project):
        raise record_not_found()
    return project, pipeline


def _lists(rules: Rules) -> bool:
    return rules.job_token_lists


_ONE = "/projects/:id/pipelines/:pipeline_id"
ROUTES = [
    Route("GET", "/projects/:id/pipelines", _list, job_token=_lists),
    Route("GET", "/projects/:id/pipelines/latest", _latest, since=modern, job_token=_lists),
    Route("GET", _ONE, _get, job_token=_lists),
    Route("DELETE", _ONE, _delete, since=modern),
    Route("GET", f"{_ONE}/jobs", _jobs, job_token=always),
    Route("GET", f"{_ONE}/bridges", _bridges, since=modern, job_token=always),
    Route("GET", f"{_ONE}/trigger_jobs", _bridges, since=lambda rules: rules.trigger_jobs, job_token=always),
    Route("POST", f"{_ONE}/retry", _retry),
    Route("POST", f"{_ONE}/cancel", _cancel),
]
