"""Requests: each endpoint of GitLab's API as method, path and query; no name can leave its endpoint."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import unquote, urlencode

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncjobs._models import JobStatus
from asyncjobs._models.calls import EndpointClass, Kind
from asyncjobs._protocol import requests as r
from asyncjobs._protocol.urls import safe_url

KEYSET = "per_page=100&pagination=keyset&order_by=id&sort=desc"

GOLDEN: list[tuple[r.Request, str, EndpointClass, Kind]] = [
    (r.project_jobs("g/a", None), f"GET /projects/g%2Fa/jobs?{KEYSET}", EndpointClass.JOBS_INDEX, Kind.READ),
    (
        r.project_jobs(1, ["failed", JobStatus.RUNNING, "failed"], keyset=False),
        "GET /projects/1/jobs?per_page=100&scope[]=failed&scope[]=running",
        EndpointClass.JOBS_INDEX,
        Kind.READ,
    ),
    (
        r.pipeline_jobs("g/a", 6, "failed", include_retried=False),
        "GET /projects/g%2Fa/pipelines/6/jobs?per_page=100&scope[]=failed",
        EndpointClass.OTHER,
        Kind.READ,
    ),
    (
        r.pipeline_jobs("g/a", 6, None, include_retried=True),
        "GET /projects/g%2Fa/pipelines/6/jobs?per_page=100&include_retried=true",
        EndpointClass.OTHER,
        Kind.READ,
    ),
    (
        r.pipeline_bridges("g/a", 6, None),
        "GET /projects/g%2Fa/pipelines/6/bridges?per_page=100",
        EndpointClass.OTHER,
        Kind.READ,
    ),
    (
        r.pipeline_bridges("g/a", 6, JobStatus.MANUAL, newer_name=True),
        "GET /projects/g%2Fa/pipelines/6/trigger_jobs?per_page=100&scope[]=manual",
        EndpointClass.OTHER,
        Kind.READ,
    ),
    (r.job("g/s/a", 8), "GET /projects/g%2Fs%2Fa/jobs/8", EndpointClass.OTHER, Kind.READ),
    (r.current_job(), "GET /job", EndpointClass.OTHER, Kind.READ),
    (r.trace("g/a", 8), "GET /projects/g%2Fa/jobs/8/trace", EndpointClass.TRACE, Kind.POLL),
    (
        r.trace("g/a", 8, offset=0, limit=512_000),
        "GET /projects/g%2Fa/jobs/8/trace?byte_offset=0&byte_limit=512000",
        EndpointClass.TRACE,
        Kind.POLL,
    ),
    (
        r.cancel_job("g/a", 8, force=False),
        "POST /projects/g%2Fa/jobs/8/cancel",
        EndpointClass.OTHER,
        Kind.WRITE,
    ),
    (
        r.cancel_job("g/a", 8, force=True),
        "POST /projects/g%2Fa/jobs/8/cancel?force=true",
        EndpointClass.OTHER,
        Kind.WRITE,
    ),
    (r.retry_job("g/a", 8), "POST /projects/g%2Fa/jobs/8/retry", EndpointClass.OTHER, Kind.ONCE),
    (r.erase_job("g/a", 8), "POST /projects/g%2Fa/jobs/8/erase", EndpointClass.OTHER, Kind.ONCE),
    (r.play_job("g/a", 8, None), "POST /projects/g%2Fa/jobs/8/play", EndpointClass.OTHER, Kind.ONCE),
    (
        r.keep_artifacts("g/a", 8),
        "POST /projects/g%2Fa/jobs/8/artifacts/keep",
        EndpointClass.ARTIFACT,
        Kind.WRITE,
    ),
    (
        r.delete_artifacts("g/a", 8),
        "DELETE /projects/g%2Fa/jobs/8/artifacts",
        EndpointClass.ARTIFACT,
        Kind.WRITE,
    ),
    (
        r.delete_project_artifacts("g/a"),
        "DELETE /projects/g%2Fa/artifacts",
        EndpointClass.ARTIFACT,
        Kind.WRITE,
    ),
    (r.artifacts("g/a", 8), "GET /projects/g%2Fa/jobs/8/artifacts", EndpointClass.ARTIFACT, Kind.DOWNLOAD),
    (
        r.artifacts("g/a", 8, file_type="junit"),
        "GET /projects/g%2Fa/jobs/8/artifacts?file_type=junit",
        EndpointClass.ARTIFACT,
        Kind.DOWNLOAD,
    ),
    (
        r.ref_artifacts("g/a", "feature/x#1", "rspec: [a b]"),
        "GET /projects/g%2Fa/jobs/artifacts/feature%2Fx%231/download?job=rspec: [a b]",
        EndpointClass.ARTIFACT,
        Kind.DOWNLOAD,
    ),
    (
        r.artifact_member("g/a", 8, "out put/a?b.txt"),
        "GET /projects/g%2Fa/jobs/8/artifacts/out%20put/a%3Fb.txt",
        EndpointClass.ARTIFACT,
        Kind.DOWNLOAD,
    ),
    (
        r.artifact_tree("g/a", 8, path="", recursive=False),
        "GET /projects/g%2Fa/jobs/8/artifacts/tree?per_page=100",
        EndpointClass.ARTIFACT,
        Kind.READ,
    ),
    (
        r.artifact_tree("g/a", 8, path="a/b", recursive=True),
        "GET /projects/g%2Fa/jobs/8/artifacts/tree?per_page=100&path=a/b&recursive=true",
        EndpointClass.ARTIFACT,
        Kind.READ,
    ),
    (
        r.project_pipelines("g/a", {"ref": "main", "yaml_errors": False, "status": None, "id": 3}),
        "GET /projects/g%2Fa/pipelines?per_page=100&ref=main&yaml_errors=false&id=3",
        EndpointClass.OTHER,
        Kind.READ,
    ),
    (
        r.project_pipelines(1, {"updated_after": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)}),
        "GET /projects/1/pipelines?per_page=100&updated_after=2026-01-02T03:04:05+00:00",
        EndpointClass.OTHER,
        Kind.READ,
    ),
    (
        r.project_pipelines(1, {"yaml_errors": True}),
        "GET /projects/1/pipelines?per_page=100&yaml_errors=true",
        EndpointClass.OTHER,
        Kind.READ,
    ),
    (
        r.group_projects(5, include_subgroups=False),
        (
            "GET /groups/5/projects?per_page=100&include_subgroups=false&with_shared=false&simple=true"
            "&order_by=id&sort=asc"
        ),
        EndpointClass.PROJECT,
        Kind.READ,
    ),
    (r.pipeline("g/a", 6), "GET /projects/g%2Fa/pipelines/6", EndpointClass.OTHER, Kind.READ),
    (
        r.group_projects("g/s", include_subgroups=True),
        (
            "GET /groups/g%2Fs/projects?per_page=100&include_subgroups=true&with_shared=false&simple=true"
            "&order_by=id&sort=asc"
        ),
        EndpointClass.PROJECT,
        Kind.READ,
    ),
    (r.project("g/a"), "GET /projects/g%2Fa", EndpointClass.PROJECT, Kind.READ),
]


@pytest.mark.parametrize(("request_", "line", "endpoint", "kind"), GOLDEN, ids=[row[1] for row in GOLDEN])
def test_every_endpoint(request_: r.Request, line: str, endpoint: EndpointClass, kind: Kind) -> None:
    """Method, path, query, class and retry kind of each endpoint are the ones of GitLab's documentation."""
    query = "&".join(f"{name}={value}" for name, value in request_.query)
    assert f"{request_.method} {request_.path}" + (f"?{query}" if query else "") == line
    assert (request_.endpoint, request_.kind) == (endpoint, kind)
    assert (request_.body, request_.headers) == (None, ())


@pytest.mark.parametrize("request_", [row[0] for row in GOLDEN], ids=[row[1] for row in GOLDEN])
def test_what_we_ask_for_can_be_shown(request_: r.Request) -> None:
    """In an error or a log our own query stands in words; an `id` might be the secret one of a store."""
    query = urlencode([pair for pair in request_.query if pair[0] != "id"])
    assert "..." not in safe_url(f"https://gitlab.example.com{request_.path}?{query}")


def test_every_call_is_in_the_table() -> None:
    """No endpoint is forgotten above."""
    makers = {
        name
        for name, value in vars(r).items()
        if callable(value) and getattr(value, "__module__", "") == r.__name__ and name[0].islower()
    }
    said = {row[0].call for row in GOLDEN}
    assert len(makers) == 21
    assert all(said), "each request says in words what it does"
    assert sum(kind is Kind.ONCE for *_, kind in GOLDEN) == 3


def test_play_with_variables() -> None:
    """Variables travel as GitLab's `job_variables_attributes`, in order, as JSON."""
    request = r.play_job("g/a", 8, {"A": "1", "B": 'q"'})
    assert msgspec.json.decode(request.body or b"") == {
        "job_variables_attributes": [{"key": "A", "value": "1"}, {"key": "B", "value": 'q"'}]
    }
    assert request.headers == (("Content-Type", "application/json"),)
    assert r.play_job("g/a", 8, {}).body is None


@pytest.mark.parametrize(
    ("value", "error"),
    [(datetime(2026, 1, 1), ValueError), (1.5, TypeError), (["a"], TypeError), (b"a", TypeError)],
)
def test_filters_are_checked(value: object, error: type[Exception]) -> None:
    """A filter that would be sent as nonsense is refused by name."""
    with pytest.raises(error, match="updated_after"):
        r.project_pipelines("g/a", {"updated_after": value})


# -- paths ----------------------------------------------------------------------------------------

NAME = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)

BY_PROJECT: list[tuple[str, Callable[[str], r.Request]]] = [
    ("/jobs/8", lambda p: r.job(p, 8)),
    ("/jobs", lambda p: r.project_jobs(p, None)),
    ("/jobs/8/cancel", lambda p: r.cancel_job(p, 8, force=False)),
    ("/artifacts", r.delete_project_artifacts),
    ("/pipelines", lambda p: r.project_pipelines(p, {})),
    ("", r.project),
]


@given(NAME, st.sampled_from(BY_PROJECT))
def test_no_project_leaves_its_endpoint(name: str, row: tuple[str, Callable[[str], r.Request]]) -> None:
    """Whatever a project is called, it is one segment of the path, and reads back as that name."""
    end, make = row
    try:
        path = make(name).path
    except ValueError:
        assert {"", ".", ".."} & set(name.split("/"))
        return
    head, _, rest = path.removeprefix("/").partition("/")
    segment, slash, tail = rest.partition("/")
    assert head == "projects"
    assert slash + tail == end
    assert unquote(segment) == name
    assert path.isascii()
    assert not set("?#\\ \r\n") & set(path)


@given(NAME, NAME)
def test_no_ref_leaves_its_endpoint(ref: str, job_name: str) -> None:
    """A branch with slashes, dots or a question mark is one segment; the job's name is only in the query."""
    try:
        request = r.ref_artifacts(1, ref, job_name)
    except ValueError:
        assert {"", ".", ".."} & set(ref.split("/"))
        return
    prefix, suffix = "/projects/1/jobs/artifacts/", "/download"
    assert request.path.startswith(prefix)
    assert request.path.endswith(suffix)
    segment = request.path.removeprefix(prefix).removesuffix(suffix)
    assert "/" not in segment
    assert unquote(segment) == ref
    assert request.query == (("job", job_name),)


@given(NAME)
def test_no_member_leaves_its_archive(member: str) -> None:
    """The path of a file in an archive keeps its parts and stays below the archive."""
    try:
        path = r.artifact_member(1, 8, member).path
    except ValueError:
        assert {"", ".", ".."} & set(member.split("/"))
        return
    prefix = "/projects/1/jobs/8/artifacts/"
    assert path.startswith(prefix)
    parts = path.removeprefix(prefix).split("/")
    assert [unquote(part) for part in parts] == member.split("/")
    assert not {".", ".."} & set(parts)


@pytest.mark.parametrize("name", ["..", ".", "", "a/../b", "../../user", "a//b", "/a", "a/", "a/."])
def test_climbing_is_refused(name: str) -> None:
    """`..` and its relatives are refused before anything is sent, in every place a name can stand."""
    makers: tuple[Callable[[], r.Request], ...] = (
        lambda: r.job(name, 8),
        lambda: r.ref_artifacts(1, name, "j"),
        lambda: r.artifact_member(1, 8, name),
        lambda: r.group_projects(name, include_subgroups=True),
        lambda: r.job(1, name),  # type: ignore[arg-type]  # what an unchecked caller might do
    )
    for make in makers:
        with pytest.raises(ValueError, match="not a"):
            make()


def test_ready_escapes_are_escaped_again() -> None:
    """`%2e%2e` and `%2F` in a name are those characters, not what they would decode to."""
    assert r.job("g%2Fa", 8).path == "/projects/g%252Fa/jobs/8"
    assert r.artifact_member(1, 8, "%2e%2e/x").path.endswith("/artifacts/%252e%252e/x")
