"""A fake GitLab, a client on it and a disk for the tests of downloads and syncs."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from asyncjobs._api import Api
from asyncjobs._client import Client
from asyncjobs._storage import Storage
from asyncjobs.testing import FakeGitLab


@pytest_asyncio.fixture
async def gitlab() -> AsyncIterator[FakeGitLab]:
    """A running fake GitLab, empty."""
    async with FakeGitLab() as running:
        yield running


@pytest_asyncio.fixture
async def api(gitlab: FakeGitLab) -> AsyncIterator[Api]:
    """The endpoints of a client that may see everything."""
    async with Client(gitlab.url, private_token=gitlab.token) as client:
        yield client._api


@pytest_asyncio.fixture
async def storage() -> AsyncIterator[Storage]:
    """The real disk."""
    made = Storage()
    yield made
    await made.aclose()
