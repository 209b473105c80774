"""Tokens: which header, which rotation, and what is never used (netrc, cookies, the environment)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from asyncjobs import AuthenticationError, Client, JobRef
from asyncjobs._errors import ConfigurationError
from asyncjobs.testing import FakeGitLab
from tests.support.clients import open_client, read_archive
from tests.support.rawserver import RawServer, Received, Wire, always, http

JOB = {"id": 8, "name": "test", "status": "success"}
TOKEN = "glpat-0123456789abcdef"


@pytest.mark.parametrize(
    ("option", "header", "value"),
    [
        ("private_token", "PRIVATE-TOKEN", TOKEN),
        ("job_token", "JOB-TOKEN", TOKEN),
        ("oauth_token", "Authorization", f"Bearer {TOKEN}"),
    ],
)
async def test_each_kind_has_its_header(option: str, header: str, value: str) -> None:
    """A token travels in one header, and in no other place."""
    async with RawServer(always(http(200, JOB))) as server:
        async with open_client(server.url, **{option: TOKEN}) as client:
            await client.get_job(3, 8)
        request = server.requests[0]
        assert request.header(header) == value
        assert [name for name, each in request.headers if TOKEN in each] == [header]
        assert TOKEN not in request.target


async def test_anonymous() -> None:
    """Without a token nothing that looks like one is sent, and a 401 says that none was given."""
    async with RawServer(always(http(401, {"message": "401 Unauthorized"}))) as server:
        async with open_client(server.url) as client:
            with pytest.raises(AuthenticationError, match="no token was given"):
                await client.get_job(3, 8)
        names = {name.lower() for name, _ in server.requests[0].headers}
        assert names == {"host", "user-agent", "accept", "accept-encoding"}


class Rotation:
    """A source of tokens that counts how often it was asked."""

    def __init__(self, *tokens: str) -> None:
        self.tokens = list(tokens)
        self.asked = 0

    async def __call__(self) -> str:
        """The next token, and the last one for ever."""
        self.asked += 1
        await asyncio.sleep(0.01)
        return self.tokens.pop(0) if len(self.tokens) > 1 else self.tokens[0]


async def test_a_rotated_token_is_fetched_once(gitlab: FakeGitLab) -> None:
    """After a 401 the source is asked once, and the request is sent once more with the new token."""
    old, new = gitlab.add_token(revoked=True).value, gitlab.add_token().value
    job = gitlab.projects[10].pipelines[0].add_job("a")
    source = Rotation(old, new)
    async with open_client(gitlab.url, private_token=source) as client:
        assert (await client.get_job(10, job.id)).id == job.id
        await client.get_job(10, job.id)
    assert source.asked == 2
    assert [request.status for request in gitlab.requests] == [401, 200, 200]


async def test_the_same_token_again_is_final(gitlab: FakeGitLab) -> None:
    """When the source has no other token, the 401 is told after one request."""
    source = Rotation(gitlab.add_token(revoked=True).value)
    async with open_client(gitlab.url, private_token=source) as client:
        with pytest.raises(AuthenticationError, match="revoked"):
            await client.get_job(10, 1)
    assert len(gitlab.requests) == 1
    assert source.asked == 2


async def test_two_bad_tokens_are_not_a_loop(gitlab: FakeGitLab) -> None:
    """A second refusal is final even when the source has ever more tokens."""
    source = Rotation(*(gitlab.add_token(revoked=True).value for _ in range(5)))
    async with open_client(gitlab.url, private_token=source) as client:
        with pytest.raises(AuthenticationError):
            await client.get_job(10, 1)
    assert len(gitlab.requests) == 2


async def test_many_calls_renew_together(gitlab: FakeGitLab) -> None:
    """Fifty calls that are refused at once ask the source once, and all succeed."""
    old, new = gitlab.add_token(), gitlab.add_token().value
    job = gitlab.projects[10].pipelines[0].add_job("a")
    source = Rotation(old.value, new)
    async with open_client(gitlab.url, private_token=source) as client:
        await client.get_job(10, job.id)
        old.revoked = True
        await asyncio.gather(*(client.get_job(10, job.id) for _ in range(50)))
    assert source.asked == 2


async def test_first_calls_ask_the_source_together(gitlab: FakeGitLab) -> None:
    """Fifty first calls at once ask a keyring once."""
    job = gitlab.projects[10].pipelines[0].add_job("a")
    source = Rotation(gitlab.token)
    async with open_client(gitlab.url, private_token=source) as client:
        await asyncio.gather(*(client.get_job(10, job.id) for _ in range(50)))
    assert source.asked == 1


async def test_a_source_that_fails_fails_the_call(gitlab: FakeGitLab) -> None:
    """An error of the caller's own source comes out as it is; the next call asks again."""
    fail = True

    async def source() -> str:
        if fail:
            raise LookupError("keyring is locked")
        return gitlab.token

    async with open_client(gitlab.url, private_token=source) as client:
        with pytest.raises(LookupError, match="locked"):
            await client.get_project(10)
        fail = False
        assert (await client.get_project(10)).id == 10


@pytest.mark.parametrize("bad", ["", " ", "a b", "a\r\nX-Evil: 1", "a\0b", "\u00e9t\u00e9"])
async def test_what_cannot_be_a_token_is_refused(bad: str) -> None:
    """Bad characters never reach a header, from a string or from a source, and are not repeated."""
    with pytest.raises(ConfigurationError) as caught:
        Client("http://127.0.0.1:9", private_token=bad)
    assert not bad.strip() or bad not in str(caught.value)

    async def source() -> str:
        return bad

    async with RawServer(always(http(200, JOB))) as server:
        async with open_client(server.url, private_token=source) as client:
            with pytest.raises(ConfigurationError):
                await client.get_job(3, 8)
        assert server.requests == []


async def test_netrc_is_never_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A netrc entry for the host is sent neither with the first request nor after a redirect."""
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password hunter2pass\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))

    async def script(request: Received, wire: Wire) -> None:
        if request.target.startswith("/api"):
            await wire.write(http(302, b"", {"Location": "/elsewhere"}))
        else:
            await wire.write(http(200, JOB))

    async with RawServer(script) as server:
        async with open_client(server.url, private_token=TOKEN) as client:
            await client.get_job(3, 8)
        assert len(server.requests) == 2
        assert all(request.header("Authorization") is None for request in server.requests)


async def test_cookies_are_never_kept() -> None:
    """A cookie of the server is not sent back to it or to anybody."""
    answer = http(200, JOB, {"Set-Cookie": "_gitlab_session=canarycookie; Path=/"})
    async with RawServer(always(answer)) as server:
        async with open_client(server.url) as client:
            for _ in range(3):
                await client.get_job(3, 8)
                await read_archive(client, JobRef(3, 8))
        assert all(request.header("Cookie") is None for request in server.requests)


async def test_from_env_reads_ci_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a CI job the client needs no arguments."""
    async with FakeGitLab() as gitlab:
        job = gitlab.add_project("group/app").add_pipeline().add_job("a", status="running")
        assert job.token is not None
        for name in ("GITLAB_URL", "GITLAB_TOKEN", "GITLAB_PRIVATE_TOKEN", "GITLAB_OAUTH_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("CI_SERVER_URL", gitlab.url)
        monkeypatch.setenv("CI_JOB_TOKEN", job.token.value)
        async with Client.from_env() as client:
            assert (await client.get_current_job()).id == job.id


async def test_from_config_reads_python_gitlabs_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The sections that people have already are enough."""
    async with FakeGitLab() as gitlab:
        gitlab.add_project("group/app")
        path = tmp_path / "python-gitlab.cfg"
        path.write_text(
            f"[global]\ndefault = here\n[here]\nurl = {gitlab.url}\nprivate_token = {gitlab.token}\n"
        )
        monkeypatch.setenv("PYTHON_GITLAB_CFG", str(path))
        async with Client.from_config() as client:
            assert (await client.get_project("group/app")).id == 10
