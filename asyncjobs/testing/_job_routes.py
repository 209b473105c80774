"""The endpoints of jobs themselves: lists, one job, and the buttons. lib/api/ci/jobs.rb, doc/api/jobs.md."""

from __future__ import annotations

import re

from asyncjobs.testing._answers import Answer, error, forbidden, json_answer, message, not_found, unauthorized
from asyncjobs.testing._auth import find_job, find_project, require_jobs, require_level, require_user
from asyncjobs.testing._call import Call
from asyncjobs.testing._jobs import FakeJob
from asyncjobs.testing._paging import cursor_page, offset_page, wants_keyset
from asyncjobs.testing._people import DEVELOPER, MAINTAINER
from asyncjobs.testing._projects import FakeProject
from asyncjobs.testing._router import Route, always, modern
from asyncjobs.testing._shapes import bridge_shape, job_shape

_VARIABLE = re.compile(r"job_variables_attributes\[\d*\]\[(key|value)\]")


def _project(call: Call) -> FakeProject:
    # Unlike pipelines and artifacts, the job routes refuse anonymous callers even on public projects.
    require_user(call)
    return find_project(call)


def _list_jobs(call: Call) -> Answer:
    require_user(call)
    call.settings.jobs_index.count(call)
    project = find_project(call)
    require_jobs(call, project)
    scope = call.scope()
    jobs = [job for job in reversed(project.jobs) if not scope or job.status in scope]
    ref = call.get("ref") if call.rules.source else None
    if ref:
        jobs = [job for job in jobs if job.pipeline.ref == ref]
    if wants_keyset(call):
        return cursor_page(call, jobs, lambda job: job_shape(call, job))
    return offset_page(
        call, jobs, lambda job: job_shape(call, job), totals=not call.rules.modern, limited="Ci::Build"
    )


def _get_job(call: Call) -> Answer:
    project = _project(call)
    require_jobs(call, project)
    return json_answer(200, job_shape(call, find_job(call, project)))


def _current_job(call: Call) -> Answer:
    if call.user is None:
        raise unauthorized()
    if call.job_token is None or call.job_token.job is None:
        raise not_found("Job")
    return json_answer(200, job_shape(call, call.job_token.job))


def _cancel(call: Call) -> Answer:
    project = _project(call)
    force = call.flag("force") and call.rules.modern
    require_level(call, project, MAINTAINER if force else DEVELOPER)
    job = find_job(call, project)
    job.cancel(force=force)
    return json_answer(201, job_shape(call, job))


def _retry(call: Call) -> Answer:
    project = _project(call)
    require_level(call, project, DEVELOPER)
    bridge = call.world.bridges.get(call.path_number("job_id"))
    if bridge is not None and bridge.pipeline.project is project and call.rules.modern:
        if not bridge.retryable:
            raise forbidden("Job is not retryable")
        return json_answer(201, bridge_shape(call, bridge.retry()))
    job = find_job(call, project)
    if not job.retryable:
        raise forbidden("Job is not retryable")
    return json_answer(201, job_shape(call, job.retry(user=call.user)))


def _erase(call: Call) -> Answer:
    project = _project(call)
    job = find_job(call, project)
    own = job.user is call.user
    require_level(call, project, DEVELOPER if own else MAINTAINER)
    refuse_while_refreshing(project)
    if not job.erasable:
        raise forbidden("Job is not erasable!")
    job.erase()
    return json_answer(201, job_shape(call, job))


def refuse_while_refreshing(project: FakeProject) -> None:
    """409 while the project's statistics are recomputed."""
    if project.statistics_refreshing:
        raise message(409, "Project artifacts statistics are being refreshed. Please try again later.")


def _play(call: Call) -> Answer:
    project = _project(call)
    require_level(call, project, DEVELOPER)
    bridge = call.world.bridges.get(call.path_number("job_id"))
    if bridge is not None and bridge.pipeline.project is project and call.rules.modern:
        if bridge.status not in ("manual", "scheduled"):
            raise message(400, "400 Bad request - Unplayable Job")
        bridge.play()
        return json_answer(200, bridge_shape(call, bridge))
    job = find_job(call, project)
    if job.status not in ("manual", "scheduled"):
        raise message(400, "400 Bad request - Unplayable Job")
    job.play(variables=_variables(call), user=call.user)
    return json_answer(200, job_shape(call, job))


def _variables(call: Call) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    for name, value in call.params:
        match = _VARIABLE.fullmatch(name)
        if match is None:
            continue
        if not found or match[1] in found[-1]:
            found.append({})
        found[-1][match[1]] = value
    if any("key" not in variable or "value" not in variable for variable in found):
        raise error(400, "job_variables_attributes[0][key] is missing")
    return found


def _keep(call: Call) -> Answer:
    project = _project(call)
    require_level(call, project, DEVELOPER)
    job: FakeJob = find_job(call, project)
    if not job.downloadable:
        raise not_found()
    job.keep_artifacts()
    return json_answer(200, job_shape(call, job))


ROUTES = [
    Route("GET", "/job", _current_job, since=modern, job_token=always),
    Route("GET", "/projects/:id/jobs", _list_jobs, job_token=lambda rules: rules.job_token_lists),
    Route("GET", "/projects/:id/jobs/:job_id", _get_job),
    Route("POST", "/projects/:id/jobs/:job_id/cancel", _cancel),
    Route("POST", "/projects/:id/jobs/:job_id/retry", _retry),
    Route("POST", "/projects/:id/jobs/:job_id/erase", _erase),
    Route("POST", "/projects/:id/jobs/:job_id/play", _play),
    Route("POST", "/projects/:id/jobs/:job_id/artifacts/keep", _keep),
]
