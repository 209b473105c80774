"""What the tests of requests share: no proxies from outside, a throw-away authority, a small world."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from asyncjobs import Client
from asyncjobs.testing import FakeGitLab
from tests.support.clients import Connectors, open_client


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Proxies and netrc of whoever runs the tests do not matter."""
    for scheme in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{scheme}_proxy", raising=False)
        monkeypatch.delenv(f"{scheme.upper()}_PROXY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """A certificate authority nobody else trusts."""
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its certificate as a file."""
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest.fixture(scope="session")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    """A server-side context valid for every name of this machine."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "127.0.0.2", "localhost").configure_cert(context)
    return context


@pytest.fixture
async def gitlab() -> AsyncIterator[FakeGitLab]:
    """A world of one project on the newest generation."""
    async with FakeGitLab() as gitlab:
        gitlab.add_project("group/app").add_pipeline("main")
        yield gitlab


@pytest.fixture
def connectors() -> Connectors:
    """What the client's connections are made by."""
    return Connectors()


@pytest.fixture
async def client(gitlab: FakeGitLab, connectors: Connectors) -> AsyncIterator[Client]:
    """A client of that world."""
    async with open_client(gitlab.url, private_token=gitlab.token, connector_factory=connectors) as client:
        yield client
