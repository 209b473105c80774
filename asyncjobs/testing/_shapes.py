"""How things of the world look as JSON, in each generation: which keys, in which type, absent or null.

Sources: lib/api/entities/ci/job_basic.rb, job.rb, bridge.rb, pipeline_basic.rb, pipeline.rb; the 9.1 shapes
are those of lib/api/entities.rb in that release.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from asyncjobs.testing._call import Call
from asyncjobs.testing._jobs import FakeBridge, FakeJob
from asyncjobs.testing._people import FakeGroup, FakeUser
from asyncjobs.testing._projects import FakePipeline, FakeProject

Shape = dict[str, object]


def iso(moment: float | None) -> str | None:
    """Seconds since the epoch as GitLab writes times."""
    if moment is None:
        return None
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def site(call: Call) -> str:
    """Where web addresses begin: the configured host, else the one asked, and GitLab's own path there."""
    host = call.request.headers.get("Host", "localhost")
    return (call.settings.link_host or f"{call.settings.scheme}://{host}") + call.settings.relative_url


def user_shape(call: Call, user: FakeUser | None, *, full: bool = True) -> Shape | None:
    """A user; null when gone."""
    if user is None:
        return None
    shape: Shape = {
        "id": user.id,
        "username": user.username,
        "name": user.name,
        "state": user.state,
        "avatar_url": f"{site(call)}/uploads/-/system/user/avatar/{user.id}/avatar.png",
        "web_url": f"{site(call)}/{user.username}",
    }
    if full and call.rules.modern:
        shape |= {"created_at": iso(user.created_at), "bio": "", "location": "", "public_email": ""}
    return shape


def commit_shape(call: Call, pipeline: FakePipeline) -> Shape:
    """The commit a pipeline ran for."""
    project = pipeline.project
    author = pipeline.user.name if pipeline.user else "Ghost User"
    email = f"{pipeline.user.username if pipeline.user else 'ghost'}@example.com"
    moment = iso(pipeline.created_at)
    shape: Shape = {
        "id": pipeline.sha,
        "short_id": pipeline.sha[:8],
        "title": f"Change number {pipeline.iid}",
        "message": f"Change number {pipeline.iid}\n",
        "created_at": moment,
        "author_name": author,
        "author_email": email,
    }
    if call.rules.modern:
        shape |= {
            "parent_ids": [hashlib.sha1(pipeline.sha.encode(), usedforsecurity=False).hexdigest()],
            "authored_date": moment,
            "committer_name": author,
            "committer_email": email,
            "committed_date": moment,
            "trailers": {},
            "web_url": f"{site(call)}/{project.full_path}/-/commit/{pipeline.sha}",
        }
    return shape


def pipeline_shape(call: Call, pipeline: FakePipeline) -> Shape:
    """A pipeline as lists and jobs show it."""
    if not call.rules.modern:
        return {
            "id": pipeline.id,
            "sha": pipeline.sha,
            "ref": pipeline.ref,
            "status": pipeline.status,
        }
    return {
        "id": pipeline.id,
        "iid": pipeline.iid,
        "project_id": pipeline.project.id,
        "sha": pipeline.sha,
        "ref": pipeline.ref,
        "status": pipeline.status,
        "source": pipeline.source,
        "created_at": iso(pipeline.created_at),
        "updated_at": iso(pipeline.updated_at),
        "web_url": f"{site(call)}/{pipeline.project.full_path}/-/pipelines/{pipeline.id}",
    }


def single_pipeline_shape(call: Call, pipeline: FakePipeline) -> Shape:
    """A pipeline asked for by its id; its coverage is a string."""
    started = [job.started_at for job in pipeline.jobs if job.started_at is not None]
    final = pipeline.status in ("success", "failed", "canceled", "skipped")
    ended = [job.finished_at for job in pipeline.jobs if job.finished_at is not None]
    start, end = min(started, default=None), max(ended, default=None) if final else None
    covered = [job.coverage for job in pipeline.jobs if job.coverage is not None and not job.retried]
    shape = pipeline_shape(call, pipeline) | {
        "before_sha": "0" * 40,
        "tag": pipeline.tag,
        "yaml_errors": pipeline.yaml_errors,
        "user": user_shape(call, pipeline.user, full=False),
        "created_at": iso(pipeline.created_at),
        "updated_at": iso(pipeline.updated_at),
        "started_at": iso(start),
        "finished_at": iso(end),
        "committed_at": None,
        "duration": int(end - start) if start is not None and end is not None else None,
        "coverage": f"{sum(covered) / len(covered):.2f}" if covered else None,
    }
    if call.rules.modern:
        shape |= {
            "queued_duration": int(start - pipeline.created_at) if start is not None else None,
            "detailed_status": _detailed(call, pipeline),
            "archived": False,
            "name": pipeline.name,
        }
    return shape


def _detailed(call: Call, pipeline: FakePipeline) -> Shape:
    status = pipeline.status
    root = f"{call.settings.relative_url}/{pipeline.project.full_path}"
    text = {"success": "Passed"}.get(status, status.replace("_", " ").capitalize())
    return {
        "icon": f"status_{status}",
        "text": text,
        "label": text.lower(),
        "group": status.replace("_", "-"),
        "tooltip": text.lower(),
        "has_details": True,
        "details_path": f"{root}/-/pipelines/{pipeline.id}",
        "illustration": None,
        "favicon": f"/assets/ci_favicons/favicon_status_{status}.png",
    }


def _basic(call: Call, job: FakeJob | FakeBridge) -> Shape:
    started, finished = job.started_at, job.finished_at
    kind = "jobs"
    shape: Shape = {
        "id": job.id,
        "status": job.status,
        "stage": job.stage,
        "name": job.name,
        "ref": job.pipeline.ref,
        "tag": job.pipeline.tag,
        "coverage": job.coverage,
        "allow_failure": job.allow_failure,
        "created_at": iso(job.created_at),
        "started_at": iso(started),
        "finished_at": iso(finished),
        "erased_at": iso(job.erased_at) if isinstance(job, FakeJob) else None,
        "duration": None if started is None else round((finished or call.now) - started, 6),
        "queued_duration": _queued(call, job),
        "user": user_shape(call, job.user),
        "commit": None
        if isinstance(job, FakeJob) and not job.has_commit
        else commit_shape(call, job.pipeline),
        "pipeline": pipeline_shape(call, job.pipeline),
        "web_url": f"{site(call)}/{job.pipeline.project.full_path}/-/{kind}/{job.id}",
        "project": {"ci_job_token_scope_enabled": False},
    }
    if job.status == "failed":
        shape["failure_reason"] = job.failure_reason or "unknown_failure"
    if call.rules.source:
        shape["source"] = job.pipeline.source
    return shape


def _queued(call: Call, job: FakeJob | FakeBridge) -> float | None:
    if not isinstance(job, FakeJob) or job.queued_at is None:
        return None
    return round((job.started_at or call.now) - job.queued_at, 6)


def job_shape(call: Call, job: FakeJob) -> Shape:
    """A job in the generation's shape."""
    job.pipeline.agenda.settle()
    if not call.rules.modern:
        return _job_9_1(call, job)
    shape = _basic(call, job)
    if job.downloadable and job.archive is not None:
        shape["artifacts_file"] = {"filename": "artifacts.zip", "size": job.archive.size}
    shape |= {
        "runner": _runner(job),
        "runner_manager": _runner_manager(job),
        "artifacts_expire_at": iso(job.artifacts_expire_at),
        "archived": job.archived,
        "tag_list": job.tag_list,
        "artifacts": _artifacts(job),
    }
    return shape


def _job_9_1(call: Call, job: FakeJob) -> Shape:
    shape: Shape = {
        "id": job.id,
        "status": job.status,
        "stage": job.stage,
        "name": job.name,
        "ref": job.pipeline.ref,
        "tag": job.pipeline.tag,
        "coverage": job.coverage,
        "created_at": iso(job.created_at),
        "started_at": iso(job.started_at),
        "finished_at": iso(job.finished_at),
        "user": user_shape(call, job.user),
        "commit": commit_shape(call, job.pipeline) if job.has_commit else None,
        "runner": _runner(job, old=True),
        "pipeline": pipeline_shape(call, job.pipeline),
    }
    if job.downloadable and job.archive is not None:
        shape["artifacts_file"] = {"filename": "artifacts.zip", "size": job.archive.size}
    return shape


def _has_runner(job: FakeJob) -> bool:
    return job.started_at is not None if job.has_runner is None else job.has_runner


def _runner(job: FakeJob, *, old: bool = False) -> Shape | None:
    if not _has_runner(job):
        return None
    shape: Shape = {"id": 7, "description": "docker-runner-7", "active": True, "is_shared": True}
    if old:
        return shape | {"name": "gitlab-runner"}
    return {
        "id": 7,
        "description": "docker-runner-7",
        "ip_address": "10.0.0.7",
        "active": True,
        "is_shared": True,
        "name": "gitlab-runner",
        "online": True,
        "status": "online",
    }


def _runner_manager(job: FakeJob) -> Shape | None:
    if not _has_runner(job):
        return None
    return {
        "id": 1,
        "system_id": "s_89e5e9956577",
        "version": "19.4.0",
        "revision": "0123abcd",
        "platform": "linux",
        "architecture": "amd64",
        "created_at": iso(job.created_at),
        "contacted_at": iso(job.started_at or job.created_at),
        "ip_address": "10.0.0.7",
        "status": "online",
    }


def _artifacts(job: FakeJob) -> list[Shape]:
    rows: list[Shape] = []
    if job.downloadable and job.archive is not None:
        rows.append(_artifact("archive", job.archive.size, "artifacts.zip", "zip"))
        rows.append(_artifact("metadata", 150 + len(job.archive.members()) * 40, "metadata.gz", "gzip"))
    rows += [_artifact(kind, len(data), f"{kind}.gz", "gzip") for kind, data in job.reports.items()]
    if job.log_archived:
        rows.append(_artifact("trace", job.trace_size, "job.log", "raw"))
    return rows


def _artifact(kind: str, size: int, filename: str, file_format: str) -> Shape:
    return {"file_type": kind, "size": size, "filename": filename, "file_format": file_format}


def bridge_shape(call: Call, bridge: FakeBridge) -> Shape:
    """A trigger job with its downstream pipeline."""
    downstream = bridge.downstream
    shape = _basic(call, bridge)
    shape["downstream_pipeline"] = None if downstream is None else pipeline_shape(call, downstream)
    return shape


def namespace_shape(call: Call, project: FakeProject) -> Shape:
    """The group a project lies in."""
    path = project.full_path.rpartition("/")[0]
    group = next(group for group in call.world.groups.values() if group.full_path == path)
    return {"id": group.id, "name": group.name, "path": group.name, "kind": "group", "full_path": path}


def project_shape(call: Call, project: FakeProject, *, simple: bool = False) -> Shape:
    """A project; `simple` leaves the short form of lists."""
    web = f"{site(call)}/{project.full_path}"
    shape: Shape = {
        "id": project.id,
        "description": project.description,
        "name": project.name,
        "name_with_namespace": project.full_path.replace("/", " / "),
        "path": project.path,
        "path_with_namespace": project.full_path,
        "created_at": iso(project.created_at),
        "default_branch": project.default_branch,
        "tag_list": project.topics,
        "topics": project.topics,
        "ssh_url_to_repo": f"git@gitlab.example.com:{project.full_path}.git",
        "http_url_to_repo": f"{web}.git",
        "web_url": web,
        "readme_url": f"{web}/-/blob/{project.default_branch}/README.md",
        "avatar_url": None,
        "forks_count": 0,
        "star_count": 0,
        "last_activity_at": iso(project.last_activity_at),
        "visibility": project.visibility,
        "namespace": namespace_shape(call, project),
    }
    if not simple:
        shape |= {
            "archived": project.archived,
            "jobs_enabled": True,
            "builds_access_level": "enabled",
            "public_jobs": project.public_jobs,
            "shared_runners_enabled": True,
            "open_issues_count": 0,
            "empty_repo": False,
            "ci_job_token_scope_enabled": False,
        }
    return shape


def group_shape(call: Call, group: FakeGroup) -> Shape:
    """A group."""
    parent = group.full_path.rpartition("/")[0]
    above = next((one.id for one in call.world.groups.values() if one.full_path == parent), None)
    return {
        "id": group.id,
        "name": group.name,
        "path": group.name,
        "full_name": group.full_path.replace("/", " / "),
        "full_path": group.full_path,
        "description": "",
        "visibility": group.visibility,
        "parent_id": above,
        "web_url": f"{site(call)}/groups/{group.full_path}",
        "avatar_url": None,
        "request_access_enabled": True,
    }
