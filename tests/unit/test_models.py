"""Models: what GitLab has sent since 2017 decodes, what it will send next year does not break."""

from __future__ import annotations

import copy
import json
import pickle
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncjobs._models import (
    ArtifactsFile,
    Bridge,
    Commit,
    Job,
    JobArtifact,
    JobStatus,
    Pipeline,
    Runner,
    RunnerManager,
    User,
)

SCHEMAS = Path(__file__).parents[3] / "shared" / "gitlab" / "schemas" / "public_api" / "v4"

JOB_2017 = b"""{
  "id": 7, "status": "failed", "stage": "test", "name": "teaspoon", "ref": "main", "tag": false,
  "coverage": null, "created_at": "2015-12-24T15:51:21.802Z", "started_at": "2015-12-24T17:54:30.733Z",
  "finished_at": "2015-12-24T17:54:31.198Z",
  "user": {"id": 1, "name": "Administrator", "username": "root", "state": "active",
    "avatar_url": "http://www.gravatar.com/avatar/e64c7d89", "web_url": "http://gitlab.dev/root",
    "created_at": "2015-12-21T13:14:24.077Z", "bio": null, "location": null, "skype": "", "linkedin": ""},
  "artifacts_file": {"filename": "artifacts.zip", "size": 1000},
  "commit": {"id": "0ff3ae198f8601a285adcf5c0fff204ee6fba5fd", "short_id": "0ff3ae19", "title": "Test the CI",
    "author_name": "Administrator", "author_email": "admin@example.com",
    "created_at": "2015-12-24T16:51:14.000+01:00", "message": "Test the CI"},
  "runner": {"id": 2, "description": "shared", "active": true, "is_shared": true, "name": null},
  "pipeline": {"id": 6, "ref": "main", "sha": "0ff3ae198f8601a285adcf5c0fff204ee6fba5fd", "status": "pending"}
}"""

JOB_18 = b"""{
  "id": 8, "status": "running", "stage": "build", "name": "rspec: [ruby, 3.4]", "ref": "feature/x",
  "tag": false, "coverage": 91.5, "allow_failure": true, "created_at": "2025-06-01T10:00:00.000Z",
  "started_at": "2025-06-01T10:00:05.250+05:30", "finished_at": null, "erased_at": null,
  "duration": 12, "queued_duration": 0.25, "user": null, "commit": null,
  "pipeline": {"id": 6, "iid": 3, "project_id": 1, "sha": "0ff3", "ref": "feature/x", "status": "running",
    "source": "push", "created_at": "2025-06-01T09:59:59.000Z", "updated_at": "2025-06-01T10:00:00.000Z",
    "web_url": "https://gitlab.example.com/g/a/-/pipelines/6"},
  "web_url": "https://gitlab.example.com/g/a/-/jobs/8", "project": {"ci_job_token_scope_enabled": false},
  "artifacts": [], "artifacts_expire_at": null, "tag_list": [], "runner": null, "runner_manager": null,
  "archived": false
}"""

JOB_19_5 = b"""{
  "id": 9007199254740993, "status": "failed", "stage": "deploy", "name": "deploy", "ref": "v1", "tag": true,
  "coverage": null, "allow_failure": false, "created_at": "2026-08-01T10:00:00.000Z",
  "started_at": "2026-08-01T10:00:05.000Z", "finished_at": "2026-08-01T10:01:05.000Z",
  "erased_at": "2026-08-02T00:00:00.000Z", "duration": 60.0, "queued_duration": 5.0,
  "user": {"id": 4, "username": "ann", "name": "Ann", "public_email": null, "pronouns": null, "bot": false},
  "commit": {"id": "a1", "short_id": "a1", "title": "t", "message": "t\\n",
    "created_at": "2026-08-01T09:00:00Z",
    "parent_ids": ["b1", "b2"], "author_name": "Ann", "author_email": "a@example.com",
    "authored_date": "2026-08-01T09:00:00-03:00",
    "committer_name": "Ann", "committer_email": "a@example.com",
    "committed_date": "2026-08-01T09:00:00Z", "trailers": {}, "extended_trailers": {},
    "web_url": "https://gitlab.example.com/g/a/-/commit/a1"},
  "pipeline": {"id": 60, "status": "failed"}, "failure_reason": "job_router_failure", "source": "push",
  "web_url": "https://gitlab.example.com/g/a/-/jobs/9", "archived": true,
  "artifacts": [
    {"file_type": "archive", "size": 1000, "filename": "artifacts.zip", "file_format": "zip"},
    {"file_type": "junit", "size": 10, "filename": "junit.xml.gz", "file_format": null},
    {"file_type": "trace", "size": 1500, "filename": "job.log", "file_format": "raw"}],
  "artifacts_file": {"filename": "artifacts.zip", "size": 1000},
  "artifacts_expire_at": "2026-09-01T00:00:00.000Z", "tag_list": ["docker", "linux"],
  "runner": {"id": 32, "description": "r", "ip_address": null, "active": true, "paused": false,
    "is_shared": true,
    "runner_type": "instance_type", "name": null, "online": true, "status": "online",
    "job_execution_status": "idle"},
  "runner_manager": {"id": 1, "system_id": "s_89e5e9956577", "version": "19.4.0", "revision": "c6eb2b3c",
    "platform": "linux", "architecture": "amd64", "created_at": "2026-05-01T09:12:44.000Z",
    "contacted_at": "2026-08-01T10:00:44.000Z", "ip_address": "127.0.0.1", "status": "online"},
  "download_url": null, "a_key_of_2031": {"deep": [1, 2, {"x": null}]}
}"""


def decode(body: bytes) -> Job:
    """A job from the API's bytes."""
    return msgspec.json.decode(body, type=Job)


def test_a_job_of_2017() -> None:
    """The shape of GitLab 9.1 decodes; what it did not have yet is None or empty."""
    job = decode(JOB_2017)
    assert (job.id, job.status, job.name, job.stage) == (7, JobStatus.FAILED, "teaspoon", "test")
    assert job.artifacts_file == ArtifactsFile(filename="artifacts.zip", size=1000)
    assert job.commit is not None
    assert job.commit.created_at == datetime(2015, 12, 24, 15, 51, 14, tzinfo=UTC)
    assert job.pipeline == Pipeline(
        id=6, ref="main", sha="0ff3ae198f8601a285adcf5c0fff204ee6fba5fd", status=JobStatus.PENDING
    )
    assert (job.artifacts, job.tag_list, job.runner_manager, job.duration) == ((), (), None, None)


def test_a_job_of_18() -> None:
    """Nulls stay None, whole numbers become float seconds, offsets are kept to the moment."""
    job = decode(JOB_18)
    assert (job.user, job.commit, job.runner, job.finished_at) == (None, None, None, None)
    assert isinstance(job.duration, float)
    assert job.started_at == datetime(2025, 6, 1, 4, 30, 5, 250_000, tzinfo=UTC)
    assert job.project is not None
    assert job.project.ci_job_token_scope_enabled is False
    assert (job.artifacts_file, job.trace_size_bytes, job.failure_reason) == (None, None, None)


def test_a_job_of_19_5() -> None:
    """Every field of today's job arrives, and keys of a later release are passed over."""
    job = decode(JOB_19_5)
    assert job.id == 9_007_199_254_740_993  # beyond what a float could hold
    assert job.trace_size_bytes == 1500
    assert job.artifacts[1] == JobArtifact(file_type="junit", size=10, filename="junit.xml.gz")
    assert job.tag_list == ("docker", "linux")
    assert (job.failure_reason, job.source, job.archived) == ("job_router_failure", "push", True)
    assert job.runner is not None
    assert job.runner.paused is False
    assert job.runner_manager is not None
    assert job.runner_manager.system_id == "s_89e5e9956577"
    assert job.commit is not None
    assert job.commit.parent_ids == ("b1", "b2")
    missing = [f.name for f in attrs.fields(Job) if getattr(job, f.name) is None]
    assert missing == ["coverage", "project"]


def test_only_three_fields_are_needed() -> None:
    """`id`, `status` and `name` make a job; without one of them it is none."""
    whole = {"id": 1, "status": "created", "name": "a"}
    assert decode(json.dumps(whole).encode()) == Job(id=1, status=JobStatus.CREATED, name="a")
    for key in whole:
        with pytest.raises(msgspec.ValidationError, match=key):
            decode(json.dumps({k: v for k, v in whole.items() if k != key}).encode())


def test_every_moment_is_aware() -> None:
    """All times of a job have an offset; a time without one is refused, not guessed."""
    job = decode(JOB_19_5)
    moments = [job.created_at, job.started_at, job.finished_at, job.erased_at, job.artifacts_expire_at]
    assert all(moment is not None and moment.utcoffset() is not None for moment in moments)
    assert decode(JOB_18).started_at != datetime(2025, 6, 1, 10, 0, 5, 250_000, tzinfo=UTC)
    with pytest.raises(msgspec.ValidationError, match="created_at"):
        decode(b'{"id": 1, "status": "created", "name": "a", "created_at": "2026-01-01T00:00:00"}')


def test_a_bridge() -> None:
    """A trigger job has no archive and points at a pipeline, or at none yet."""
    body = b'{"id": 1, "status": "success", "name": "child", "downstream_pipeline": %s}'
    bridge = msgspec.json.decode(body % b'{"id": 5, "status": "pending", "project_id": 9}', type=Bridge)
    assert bridge.downstream_pipeline == Pipeline(id=5, status=JobStatus.PENDING, project_id=9)
    assert msgspec.json.decode(body % b"null", type=Bridge).downstream_pipeline is None


def test_a_whole_pipeline() -> None:
    """The long form of a pipeline has its coverage as a string, as the API sends it."""
    body = (
        b'{"id": 1, "status": "success", "coverage": "30.0", "tag": false, "yaml_errors": null,'
        b' "duration": 34, "queued_duration": null, "detailed_status": {"icon": "x"}}'
    )
    pipeline = msgspec.json.decode(body, type=Pipeline)
    assert (pipeline.coverage, pipeline.duration) == ("30.0", 34.0)


def test_models_are_frozen_values() -> None:
    """A model cannot be changed, equals its equal, and survives pickle and copy."""
    job = decode(JOB_19_5)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        job.name = "b"  # type: ignore[misc]  # that it may not is the point
    assert pickle.loads(pickle.dumps(job)) == job == copy.deepcopy(job) == decode(JOB_19_5)
    assert hash(job) == hash(decode(JOB_19_5))
    assert attrs.evolve(job, status=JobStatus.SUCCESS) != job


# -- statuses -------------------------------------------------------------------------------------

GROUPS = {
    "created": "alive",
    "waiting_for_resource": "alive",
    "preparing": "alive",
    "waiting_for_callback": "alive",
    "pending": "alive",
    "running": "alive executing",
    "canceling": "alive executing",
    "success": "final",
    "failed": "final",
    "canceled": "final",
    "skipped": "final",
    "manual": "blocked",
    "scheduled": "blocked",
    "a_status_of_2031": "",
}


@pytest.mark.parametrize(("text", "groups"), GROUPS.items())
def test_status_groups(text: str, groups: str) -> None:
    """Each status is final, alive (perhaps executing) or blocked; an unknown one is none of these."""
    status = JobStatus(text)
    named = {
        "final": status.is_final,
        "alive": status.is_alive,
        "executing": status.is_executing,
        "blocked": status.is_blocked,
    }
    assert {name for name, is_so in named.items() if is_so} == set(groups.split())
    assert status.is_known == bool(groups)


def test_every_status_has_a_group() -> None:
    """The table above names all of them, so a new status must be thought about."""
    assert {str(each) for each in JobStatus} == set(GROUPS) - {"a_status_of_2031"}


@given(st.text())
def test_an_unknown_status_survives(text: str) -> None:
    """Whatever string a server sends stays that string: in ==, hash, str, format, pickle, copy and JSON."""
    status = JobStatus(text)
    assert isinstance(status, JobStatus)
    assert status == text
    assert hash(status) == hash(text)
    assert str(status) == f"{status}" == status.value == text
    assert pickle.loads(pickle.dumps(status)) == status == copy.deepcopy(status)
    assert repr(text) in repr(status)
    assert {text: 1}[status] == 1
    body = msgspec.json.encode({"id": 1, "name": "a", "status": text})
    assert decode(body).status == text


def test_unknown_statuses_are_told_apart() -> None:
    """Two unknown statuses are not each other, and meeting them adds no member to the enum."""
    before = list(JobStatus)
    assert JobStatus("one") != JobStatus("two")
    assert list(JobStatus) == before


@pytest.mark.parametrize("value", [None, 5, 1.5, [], {}])
def test_a_status_that_is_no_string(value: object) -> None:
    """A number or null where a status belongs is an error and no status."""
    body = msgspec.json.encode({"id": 1, "name": "a", "status": value})
    with pytest.raises(msgspec.ValidationError, match="status"):
        decode(body)


# -- GitLab's own schemas -------------------------------------------------------------------------

SAMPLES: dict[str, list[Any]] = {
    "integer": [1, 2**53 + 1],
    "string": ["2026-01-01T00:00:00.000Z"],
    "boolean": [True, False],
    "number": [0, 1.5],
    "null": [None],
}


@pytest.mark.skipif(not SCHEMAS.is_dir(), reason="GitLab's schemas are not beside this repository")
@pytest.mark.parametrize(
    ("schema", "model", "least"),
    [
        ("job.json", Job, {"id": 1, "status": "created", "name": "a"}),
        ("artifact.json", JobArtifact, {"file_type": "a"}),
        ("artifact_file.json", ArtifactsFile, {"filename": "a"}),
        ("commit/basic.json", Commit, {}),
        ("pipeline/basic.json", Pipeline, {"id": 1, "status": "created"}),
        ("runner.json", Runner, {"id": 1}),
        ("runner_manager.json", RunnerManager, {"id": 1}),
        ("user/basic.json", User, {"id": 1}),
    ],
    ids=str,
)
def test_fields_are_those_of_gitlabs_schema(schema: str, model: type[Any], least: dict[str, Any]) -> None:
    """Each property of GitLab's schema is a field, and takes every type that the schema allows."""
    properties = json.loads((SCHEMAS / schema).read_text("utf-8"))["properties"]
    names = {field.name for field in attrs.fields(model)}
    assert set(properties) <= names
    for name, rule in properties.items():
        types = rule.get("type", [])
        for kind in [types] if isinstance(types, str) else types:
            for value in SAMPLES.get(kind, []):
                decoded = msgspec.json.decode(json.dumps({**least, name: value}).encode(), type=model)
                if not isinstance(value, str):
                    assert getattr(decoded, name) == value


def test_durations_are_seconds() -> None:
    """What GitLab calls a duration is the number of seconds between its own two moments."""
    job = decode(JOB_19_5)
    assert job.started_at is not None
    assert job.finished_at is not None
    assert job.finished_at - job.started_at == timedelta(seconds=job.duration or 0)
