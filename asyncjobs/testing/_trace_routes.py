"""The log of a job over HTTP, for each kind of server: whole, in byte windows, or by Range once archived.

Sources: lib/api/ci/jobs.rb and lib/gitlab/ci/trace/stream.rb (whole log, infile disposition), the OpenAPI
document of 19.5 (byte_offset, byte_limit), merge requests 257010, 255994 and 258487 (windows, Range).
"""

from __future__ import annotations

from asyncjobs.testing._answers import TEXT, Answer, error
from asyncjobs.testing._archives import StoredArchive
from asyncjobs.testing._auth import find_job, find_project, require_jobs, require_trace, require_user
from asyncjobs.testing._call import Call
from asyncjobs.testing._downloads import serve_archive
from asyncjobs.testing._jobs import FakeJob
from asyncjobs.testing._router import Route

_MAX_LIMIT = 512_000


def _trace(call: Call) -> Answer:
    require_user(call)
    project = find_project(call)
    require_jobs(call, project)
    window = _window(call) if call.settings.trace in ("window", "both") else None
    job = find_job(call, project)
    require_trace(call, job)
    if window is not None:
        return Answer(200, job.trace_part(*window), _headers(job))
    body = job.trace
    if call.settings.trace in ("range", "both") and job.log_archived:
        return _by_workhorse(call, job, body)
    return Answer(200, body, _headers(job))


def _headers(job: FakeJob) -> list[tuple[str, str]]:
    # "infile" is what GitLab sends, not a slip of this fake.
    return [("Content-Type", TEXT), ("Content-Disposition", f'infile; filename="{job.id}.log"')]


def _window(call: Call) -> tuple[int, int] | None:
    offset, limit = call.get("byte_offset"), call.get("byte_limit")
    if offset is None and limit is None:
        return None
    start, size = call.number("byte_offset", 0), call.number("byte_limit", 2**62)
    problems = ["byte_offset does not have a valid value"] if start < 0 else []
    if limit is not None and not 1 <= size <= _MAX_LIMIT:
        problems.append("byte_limit does not have a valid value")
    if problems:
        raise error(400, ", ".join(problems))
    return start, size


def _by_workhorse(call: Call, job: FakeJob, body: bytes) -> Answer:
    answer = serve_archive(call, StoredArchive(body), (job.finished_at or 0.0) + 120.0, filename="job.log")
    if isinstance(answer.body, bytes):
        return answer
    for name, value in _headers(job):
        answer.put(name, value)
    # Small enough to be held: nginx compresses text, so it must see the bytes.
    answer.body = answer.body.read(0, len(answer.body))
    return answer


ROUTES = [Route("GET", "/projects/:id/jobs/:job_id/trace", _trace)]
