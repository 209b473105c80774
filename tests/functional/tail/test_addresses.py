"""Web addresses as references: those of this GitLab name its jobs, those of another are refused unasked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from asyncjobs import Client
from asyncjobs.testing import FakeGitLab


async def _follow(client: Client, text: str, folder: Path) -> object:
    async with client.follow_trace(text) as trace:
        return b"".join([chunk.data async for chunk in trace])


async def _tail(client: Client, text: str, folder: Path) -> object:
    async with client.tail(text) as events:
        return b"".join([getattr(event, "raw", b"") async for event in events])


async def _stream(client: Client, text: str, folder: Path) -> object:
    async with client.stream_jobs(text) as jobs:
        return [job.id async for _, job in jobs]


async def _save(client: Client, text: str, folder: Path) -> object:
    return (await client.save_traces(text, folder)).ok


async def _sync(client: Client, text: str, folder: Path) -> object:
    return (await client.sync_artifacts(text, folder)).ok


Use = Callable[[Client, str, Path], Awaitable[object]]
uses = pytest.mark.parametrize("use", [_follow, _tail, _stream, _save, _sync])


@uses
@pytest.mark.parametrize("root", ["", "/gitlab"])
async def test_own_address(use: Use, root: str, tmp_path: Path) -> None:
    """The address of a job's page works everywhere, also below a relative URL root."""
    async with FakeGitLab(relative_url=root) as gitlab:
        pipeline = gitlab.add_project("group/app").add_pipeline("main")
        job = pipeline.add_job("t", status="success", trace="hello\n", artifacts={"a": "b"})
        async with Client(gitlab.url, private_token=gitlab.token) as client:
            got = await use(client, f"{gitlab.url}/group/app/-/jobs/{job.id}", tmp_path)
        assert got in (b"hello\n", [job.id], True)


@uses
@pytest.mark.parametrize(
    "address", ["https://gitlab.example/gitlab/group/app/-/jobs/{id}", "{origin}/group/app/-/jobs/{id}"]
)
async def test_address_of_another_gitlab(use: Use, address: str, tmp_path: Path) -> None:
    """Another host, or this host outside of the relative root, is refused before anything is sent."""
    async with FakeGitLab(relative_url="/gitlab") as gitlab:
        job = gitlab.add_project("group/app").add_pipeline("main").add_job("t", status="success", trace="x\n")
        text = address.format(id=job.id, origin=gitlab.url.removesuffix("/gitlab"))
        async with Client(gitlab.url, private_token=gitlab.token) as client:
            with pytest.raises(ValueError, match="not an address of"):
                await use(client, text, tmp_path)
        assert len(gitlab.requests) == 0
