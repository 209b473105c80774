"""A plain HTTP client for the tests of the fake: no product code, nothing followed, nothing unpacked."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import attrs
import pytest
from yarl import URL

from asyncjobs.testing import FakeGitLab, FakeJob, FakeProject


@attrs.frozen
class Got:
    """One answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@attrs.frozen
class Caller:
    """Sends single requests."""

    gitlab: FakeGitLab
    session: aiohttp.ClientSession

    async def __call__(
        self, path: str, *, method: str = "GET", token: str | None = "", data: Any = None, **headers: str
    ) -> Got:
        """One request below /api/v4; *token* "" is the default user's, None anonymous."""
        url = path if path.startswith("http") else f"{self.gitlab.url}/api/v4{path}"
        sent = {"Accept-Encoding": "identity"} | {
            key.replace("_", "-"): value for key, value in headers.items()
        }
        if token is not None and not path.startswith("http"):
            sent["PRIVATE-TOKEN"] = token or self.gitlab.token
        async with self.session.request(
            method, URL(url, encoded=True), headers=sent, json=data, allow_redirects=False
        ) as answer:
            found = {key.lower(): value for key, value in answer.headers.items()}
            return Got(answer.status, found, await answer.read())


@pytest.fixture(params=["9.1", "18", "19.5"])
def generation(request: pytest.FixtureRequest) -> Any:
    """Each generation in turn, where a test asks for it."""
    return request.param


@pytest.fixture
async def gitlab() -> AsyncIterator[FakeGitLab]:
    """The newest generation."""
    async with FakeGitLab() as gitlab:
        yield gitlab


@pytest.fixture
async def call(gitlab: FakeGitLab) -> AsyncIterator[Caller]:
    """A caller of `gitlab`."""
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield Caller(gitlab, session)


@pytest.fixture
def project(gitlab: FakeGitLab) -> FakeProject:
    """A private project of the default user."""
    return gitlab.add_project("group/sub/app")


@pytest.fixture
def job(project: FakeProject) -> FakeJob:
    """A running job."""
    job = project.add_pipeline().add_job("test")
    job.start()
    return job


def caller_of(gitlab: FakeGitLab, session: aiohttp.ClientSession) -> Caller:
    """A caller for a FakeGitLab of the test's own."""
    return Caller(gitlab, session)


def path_of(job: FakeJob, tail: str = "") -> str:
    """Path of a job below /api/v4."""
    return f"/projects/{job.project_id}/jobs/{job.id}{tail}"
