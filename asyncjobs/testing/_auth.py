"""Who may call: tokens in headers and queries, scopes, and which projects and jobs a caller sees.

Order and texts follow lib/gitlab/auth/auth_finders.rb, lib/api/api_guard.rb and lib/api/helpers.rb.
"""

from __future__ import annotations

from asyncjobs.testing._answers import error, forbidden, message, not_found, record_not_found, unauthorized
from asyncjobs.testing._call import Call, decode
from asyncjobs.testing._jobs import FakeJob
from asyncjobs.testing._people import DEVELOPER, GUEST, MAINTAINER, REPORTER, FakeToken
from asyncjobs.testing._projects import FakePipeline, FakeProject

_EXPIRED = "Token is expired. You can either do re-authorization or token refresh."
_REVOKED = "Token was revoked. You have to re-authorize from the user."
_LEVELS = {"developer": DEVELOPER, "maintainer": MAINTAINER}


def authenticate(call: Call, *, job_token: bool) -> None:
    """Find out who calls and check the token; anonymous callers pass.

    Args:
        call: The request; its token is set.
        job_token: Whether this route lets a CI job token in. Elsewhere one is ignored.

    Raises:
        Refusal: 401 for an unknown, expired, revoked or dead token, 403 for a missing scope.
    """
    headers = call.request.headers
    query = dict(call.request.query)
    bearer = headers.get("Authorization", "")
    bearer = bearer[7:] if bearer.lower().startswith("bearer ") else ""
    for value in (
        headers.get("PRIVATE-TOKEN"),
        query.get("private_token"),
        bearer,
        query.get("access_token"),
    ):
        if not value:
            continue
        token = call.world.tokens.get(value)
        if token is not None and token.kind == "job" and value == bearer:
            continue
        call.token = _checked(call, token)
        return
    presented = headers.get("JOB-TOKEN") or query.get("job_token") or _job_bearer(call, bearer)
    if presented and job_token:
        found = call.world.tokens.get(presented)
        if found is None or found.kind != "job" or found.job is None:
            raise unauthorized()
        # Asking for the status first lets everything that is due happen.
        if found.job.status not in ("running", "canceling") or found.revoked or found.expired:
            raise unauthorized()
        call.job_token = found


def _job_bearer(call: Call, bearer: str) -> str:
    token = call.world.tokens.get(bearer)
    return bearer if token is not None and token.kind == "job" else ""


def _checked(call: Call, token: FakeToken | None) -> FakeToken:
    if token is None or token.kind == "job" or token.user.state != "active":
        raise unauthorized()
    for bad, text in ((token.expired, _EXPIRED), (token.revoked, _REVOKED)):
        if bad:
            refusal = error(401, "invalid_token", error_description=text)
            header = (
                f'Bearer realm="Protected by OAuth 2.0", error="invalid_token", error_description="{text}"'
            )
            refusal.answer.put("WWW-Authenticate", header)
            raise refusal
    reading = call.request.method in ("GET", "HEAD")
    if not ("api" in token.scopes or (reading and token.may_read())):
        raise error(
            403,
            "insufficient_scope",
            error_description="The request requires higher privileges than provided by the access token.",
            scope="api read_api" if reading else "api",
        )
    return token


def require_user(call: Call) -> None:
    """Refuse anonymous callers with 401."""
    if call.user is None:
        raise unauthorized()


def find_project(call: Call, *, key: str = "id") -> FakeProject:
    """The project of a path, by number or by full path, if the caller may know of it.

    Raises:
        Refusal: 404 when absent or invisible, 301 (405 for writes) for a path it had before.
    """
    wanted = decode(call.path_params[key])
    for project in call.world.projects.values():
        if wanted in (str(project.id), project.full_path):
            _may_see(call, project)
            return project
    for project in call.world.projects.values():
        if wanted in project.old_paths:
            _may_see(call, project)
            raise _moved(call, project, key)
    raise not_found("Project")


def _may_see(call: Call, project: FakeProject) -> None:
    if not project.visible_to(call.user):
        raise not_found("Project")
    home = call.job_token.job.pipeline.project if call.job_token and call.job_token.job else None
    if home is None or home is project or project.visibility == "public":
        return
    if home.id not in project.job_token_allowlist:
        names = f"from {home.full_path} to {project.full_path}"
        raise forbidden(f"Authentication by CI/CD job token not allowed {names}.")


def _moved(call: Call, project: FakeProject, key: str) -> Exception:
    if call.request.method not in ("GET", "HEAD"):
        return message(405, "Non GET methods are not allowed for moved projects")
    old = f"/projects/{call.path_params[key]}"
    path, _, query = call.request.raw_path.partition("?")
    target = path.replace(old, f"/projects/{project.id}", 1)
    location = f"{call.settings.link_host or base_url(call)}{target}{'?' + query if query else ''}"
    refusal = message(301, None)
    refusal.answer.body = f"This resource has been moved permanently to {location}.".encode()
    refusal.answer.headers[:] = [("Content-Type", "text/plain"), ("Location", location)]
    return refusal


def base_url(call: Call) -> str:
    """Scheme and host the caller used."""
    return f"{call.settings.scheme}://{call.request.headers.get('Host', 'localhost')}"


def may_read_jobs(call: Call, project: FakeProject) -> bool:
    """Whether the caller may see the project's jobs at all."""
    level = project.access_of(call.user)
    if level >= REPORTER:
        return True
    return project.public_jobs and (level >= GUEST or project.visible_to(call.user))


def require_jobs(call: Call, project: FakeProject) -> None:
    """403 for callers who may not see jobs (401 when anonymous)."""
    if not may_read_jobs(call, project):
        raise unauthorized() if call.user is None else forbidden()


def require_level(call: Call, project: FakeProject, level: int) -> None:
    """403 below a level; writing to an archived project is refused as well."""
    if project.access_of(call.user) < level or project.archived:
        raise forbidden()


def find_job(call: Call, project: FakeProject) -> FakeJob:
    """The job of the path: builds only, a bridge's number is 404."""
    job = call.world.jobs.get(call.path_number("job_id"))
    if job is None or job.pipeline.project is not project:
        raise record_not_found()
    return job


def find_pipeline(call: Call, project: FakeProject) -> FakePipeline:
    """The pipeline of the path."""
    pipeline = call.world.pipelines.get(call.path_number("pipeline_id"))
    if pipeline is None or pipeline.project is not project:
        raise record_not_found()
    return pipeline


def require_trace(call: Call, job: FakeJob) -> None:
    """403 for the log of a debug job unless the caller may update jobs."""
    if job.debug and job.pipeline.project.access_of(call.user) < DEVELOPER:
        raise forbidden()


def require_artifacts(call: Call, job: FakeJob) -> None:
    """403 when `artifacts:access` excludes the caller."""
    level = job.pipeline.project.access_of(call.user)
    if job.artifacts_access == "none" or level < _LEVELS.get(job.artifacts_access, 0):
        raise unauthorized() if call.user is None else forbidden()
