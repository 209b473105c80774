"""Artifacts over HTTP: archives in three deliveries, single files, the tree, by id and by ref, and removal.

Sources: lib/api/ci/job_artifacts.rb, lib/api/helpers.rb (deliveries), app/models/project.rb (by ref),
workhorse/internal/artifacts/entry.go (single files), lib/api/entities/ci/job_artifact_entry.rb (tree).
"""

from __future__ import annotations

import hashlib
import mimetypes
from urllib.parse import quote

from asyncjobs.testing._answers import (
    BINARY,
    EMPTY_JSON_ETAG,
    Answer,
    error,
    json_answer,
    message,
    not_found,
    record_not_found,
    text_answer,
)
from asyncjobs.testing._archives import Archive, StoredArchive
from asyncjobs.testing._auth import find_job, find_project, require_artifacts, require_jobs, require_level
from asyncjobs.testing._auth import require_user as require_token
from asyncjobs.testing._call import Call, decode
from asyncjobs.testing._downloads import serve_archive
from asyncjobs.testing._job_routes import refuse_while_refreshing
from asyncjobs.testing._jobs import FakeJob
from asyncjobs.testing._paging import offset_page
from asyncjobs.testing._people import MAINTAINER
from asyncjobs.testing._projects import FakePipeline, FakeProject
from asyncjobs.testing._router import Route, always, modern
from asyncjobs.testing._storage import proxied, signed_link

FILE_TYPES = frozenset(
    [
        "accessibility",
        "api_fuzzing",
        "archive",
        "cobertura",
        "jacoco",
        "codequality",
        "container_scanning",
        "dast",
        "dependency_scanning",
        "dotenv",
        "junit",
        "license_scanning",
        "lsif",
        "metrics",
        "performance",
        "browser_performance",
        "load_performance",
        "sast",
        "secret_detection",
        "requirements",
        "requirements_v2",
        "cluster_image_scanning",
        "cyclonedx",
        "sarif",
    ]
)


def _readable_job(call: Call) -> FakeJob:
    project = find_project(call)
    require_jobs(call, project)
    job = find_job(call, project)
    require_artifacts(call, job)
    return job


def _archive_of(job: FakeJob) -> Archive:
    if job.archive is None or not job.downloadable:
        raise not_found()
    return job.archive


def _download(call: Call) -> Answer:
    kind = call.get("file_type") if call.rules.file_type else None
    if kind is not None and kind not in FILE_TYPES:
        raise error(400, "file_type does not have a valid value")
    job = _readable_job(call)
    if kind is not None and kind != "archive":
        report = job.reports.get(kind)
        if report is None:
            raise not_found()
        return _deliver(call, job, StoredArchive(report), f"{kind}.gz")
    return _deliver(call, job, _archive_of(job), "artifacts.zip")


def _deliver(call: Call, job: FakeJob, archive: Archive, filename: str) -> Answer:
    mode = call.settings.delivery
    wish = call.choice("download_mode", ("proxy", "direct")) if call.rules.file_type else None
    if mode == "direct" and wish == "proxy":
        mode = "proxy"
    if mode == "local":
        return serve_archive(call, archive, job.archive_stored_at, filename=filename)
    if mode == "proxy":
        return proxied(call, archive, job.archive_stored_at, filename=filename)
    link = signed_link(call, job, archive, filename)
    head = call.request.method == "HEAD"
    answer = text_answer(302, f"This resource has been moved temporarily to {link}.")
    if head and call.rules.head_303:
        answer.status = 303
    answer.put("Location", link)
    answer.put("Cache-Control", "no-cache")
    return answer


def _member(call: Call, job: FakeJob, *, sniffed: bool) -> Answer:
    path = decode(call.path_params["artifact_path"])
    if not path or any(part in ("", ".", "..") for part in path.split("/")):
        raise message(400, "400 Bad request")
    archive = _archive_of(job)
    data = archive.member(path)
    if data is None:
        # Workhorse answers, not Rails: plain text, Go's http.NotFound.
        return text_answer(404, "404 page not found\n", "text/plain; charset=utf-8")
    kind = _sniff(data) if sniffed else mimetypes.guess_type(path)[0] or BINARY
    name = "".join(sign if sign.isprintable() else "_" for sign in path.rpartition("/")[2])
    quoted = name.replace('"', '\\"')
    answer = Answer(200, data, by_rails=False)
    answer.headers = [("Content-Type", kind), ("Content-Disposition", f'attachment; filename="{quoted}"')]
    mode = call.settings.etag_mode(call.rules)
    if mode == "strong":
        answer.put("ETag", f'"{hashlib.sha256(f"{archive.sha256}:{path}".encode()).hexdigest()}"')
    elif mode == "constant":
        answer.put("ETag", EMPTY_JSON_ETAG)
    return answer


def _sniff(data: bytes) -> str:
    try:
        data[:512].decode()
    except UnicodeDecodeError:
        return BINARY
    return BINARY if b"\0" in data[:512] else "text/plain; charset=utf-8"


def _member_by_id(call: Call) -> Answer:
    return _member(call, _readable_job(call), sniffed=False)


def _download_by_ref(call: Call) -> Answer:
    job = _job_by_ref(call)
    return _deliver(call, job, _archive_of(job), "artifacts.zip")


def _member_by_ref(call: Call) -> Answer:
    return _member(call, _job_by_ref(call), sniffed=True)


def _job_by_ref(call: Call) -> FakeJob:
    name = call.get("job")
    if name is None:
        raise error(400, "job is missing")
    project = find_project(call)
    require_jobs(call, project)
    recent = call.rules.file_type and call.flag("search_recent_successful_pipelines")
    job = find_by_ref(project, decode(call.path_params["ref_name"]), name, search_recent=recent)
    if job is None:
        raise not_found("Job") if recent else record_not_found()
    require_artifacts(call, job)
    return job


def find_by_ref(project: FakeProject, ref: str, name: str, *, search_recent: bool) -> FakeJob | None:
    """The job whose archive a ref stands for: in its newest successful pipeline or that one's children."""
    successful = [
        one for one in project.pipelines if one.ref == ref and one.parent is None and one.status == "success"
    ]
    for pipeline in reversed(successful):
        for one in _family(pipeline):
            for job in reversed(one.jobs):
                if job.name == name and job.downloadable and not job.retried:
                    return job
        if not search_recent:
            return None
    return None


def _family(pipeline: FakePipeline) -> list[FakePipeline]:
    found = [pipeline]
    for one in found:
        found += [child for child in one.children if child not in found]
    return found


def _tree(call: Call) -> Answer:
    job = _readable_job(call)
    if not job.downloadable or job.archive is None:
        raise not_found("Artifacts")
    root = (call.get("path") or "").strip("/")
    deep = call.flag("recursive")
    entries: dict[str, dict[str, object]] = {}
    prefix = f"{root}/" if root else ""
    for member in job.archive.members():
        if not member.path.startswith(prefix):
            continue
        parts = member.path[len(prefix) :].split("/")
        for depth in range(1, len(parts) if deep else min(len(parts), 2)):
            folder = prefix + "/".join(parts[:depth])
            entries.setdefault(folder, _entry(folder, "directory", "040755"))
        if deep or len(parts) == 1:
            entry = _entry(member.path, "file", f"{member.mode:06o}")
            entries[member.path] = entry | {"size": member.size}
    if root and not entries:
        raise not_found("Path")
    return offset_page(call, list(entries.values()), lambda entry: entry)


def _entry(path: str, kind: str, mode: str) -> dict[str, object]:
    return {"name": path.rpartition("/")[2], "path": path, "type": kind, "mode": mode}


def _delete(call: Call) -> Answer:
    require_token(call)
    project = find_project(call)
    require_level(call, project, MAINTAINER)
    job = find_job(call, project)
    refuse_while_refreshing(project)
    job.delete_artifacts()
    return Answer(204)


def _delete_all(call: Call) -> Answer:
    require_token(call)
    project = find_project(call)
    require_level(call, project, MAINTAINER)
    refuse_while_refreshing(project)
    for job in project.jobs:
        # Logs stay; the rest is marked as expired and goes later.
        if job.archive is not None:
            job.artifacts_expire_at = call.now
    return json_answer(202, {"message": "202 Accepted"})


def by_ref_path(project: int, ref: str, *, member: str | None = None) -> str:
    """The by-ref path under the API's base, encoded; for tests and tools."""
    tail = "download" if member is None else f"raw/{quote(member)}"
    return f"/projects/{project}/jobs/artifacts/{quote(ref, safe='')}/{tail}"


_JOB = "/projects/:id/jobs/:job_id/artifacts"
ROUTES = [
    Route("GET", "/projects/:id/jobs/artifacts/*ref_name/download", _download_by_ref, job_token=always),
    Route(
        "GET",
        "/projects/:id/jobs/artifacts/*ref_name/raw/*artifact_path",
        _member_by_ref,
        since=modern,
        job_token=always,
    ),
    Route("GET", _JOB, _download, job_token=always),
    Route("GET", f"{_JOB}/tree", _tree, since=lambda rules: rules.tree, job_token=always),
    Route("GET", f"{_JOB}/*artifact_path", _member_by_id, since=modern, job_token=always),
    Route("DELETE", _JOB, _delete, since=modern),
    Route("DELETE", "/projects/:id/artifacts", _delete_all, since=modern),
]
