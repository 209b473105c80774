"""A client's endpoints against FakeGitLab, both on the virtual clock of the test's loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

import asyncjobs
from asyncjobs._api import Api
from asyncjobs.testing import FakeGitLab

Connect = Callable[..., AbstractAsyncContextManager[Api]]


@asynccontextmanager
async def _connect(gitlab: FakeGitLab, **options: Any) -> AsyncIterator[Api]:
    async with asyncjobs.Client(gitlab.url, private_token=gitlab.token, **options) as client:
        yield client._api


@pytest.fixture
def connect() -> Connect:
    """Opens a client on a fake and gives its endpoints."""
    return _connect
