"""Forward proxies: from the environment and by option, with a password, refusing, and failing."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from asyncjobs import Client, OutcomeUnknownError, ResponseError
from asyncjobs._errors import ConfigurationError, ConnectError
from tests.support.clients import open_client
from tests.support.forwardproxy import ForwardProxy
from tests.support.rawserver import RawServer, always, http

JOB = {"id": 8, "name": "test", "status": "success"}
TOKEN = "glpat-canary-0123456789"


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
async def test_http_through_the_environments_proxy(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain http goes to the proxy in absolute form; its password goes to the proxy only."""
    async with RawServer(always(http(200, JOB))) as server, ForwardProxy(user="robot:p%ss") as proxy:
        monkeypatch.setenv(name, proxy.url("robot:p%25ss@"))
        async with open_client(server.url, private_token=TOKEN) as client:
            assert (await client.get_job(3, 8)).id == 8
        assert proxy.lines == [f"GET {server.url}/api/v4/projects/3/jobs/8 HTTP/1.1"]
        assert server.requests[0].header("Proxy-Authorization") is None


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy"])
async def test_https_through_a_tunnel(
    name: str, monkeypatch: pytest.MonkeyPatch, server_tls: ssl.SSLContext, ca_file: Path
) -> None:
    """TLS goes through CONNECT: the proxy learns host and port, and neither token nor path."""
    async with (
        RawServer(always(http(200, JOB)), tls=server_tls) as server,
        ForwardProxy(user="robot:secret") as proxy,
    ):
        monkeypatch.setenv(name, proxy.url("robot:secret@"))
        async with open_client(server.url, private_token=TOKEN, ca_file=ca_file) as client:
            assert (await client.get_job(3, 8)).id == 8
            assert (await client.retry_job(3, 8)).id == 8
        assert {line.split()[0] for line in proxy.lines} == {"CONNECT"}
        assert TOKEN.encode() not in proxy.received
        assert b"/api/v4" not in proxy.received
        assert all(request.header("Proxy-Authorization") is None for request in server.requests)


@pytest.mark.parametrize("value", ["127.0.0.1", "*", "other.example, 127.0.0.1"])
async def test_no_proxy(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts that are excepted are asked directly."""
    async with RawServer(always(http(200, JOB))) as server, ForwardProxy() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url())
        monkeypatch.setenv("NO_PROXY", value)
        async with open_client(server.url) as client:
            await client.get_job(3, 8)
        assert proxy.lines == []
        assert len(server.requests) == 1


async def test_an_option_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that is passed is used, whatever the environment says."""
    async with RawServer(always(http(200, JOB))) as server, ForwardProxy() as one, ForwardProxy() as two:
        monkeypatch.setenv("HTTP_PROXY", one.url())
        monkeypatch.setenv("NO_PROXY", "*")
        async with open_client(server.url, proxy=two.url()) as client:
            await client.get_job(3, 8)
        assert (len(one.lines), len(two.lines)) == (0, 1)


async def test_a_proxy_that_wants_a_password(server_tls: ssl.SSLContext, ca_file: Path) -> None:
    """407 is told as the proxy's, for plain http and for a tunnel, without a token on the wire to nowhere."""
    async with (
        RawServer(always(http(200, JOB)), tls=server_tls) as secure,
        RawServer(always(http(200, JOB))) as plain,
        ForwardProxy(user="robot:secret") as proxy,
    ):
        async with open_client(secure.url, proxy=proxy.url(), private_token=TOKEN, ca_file=ca_file) as client:
            with pytest.raises(ConnectError, match="the proxy answered 407"):
                await client.get_job(3, 8)
        async with open_client(plain.url, proxy=proxy.url(), private_token=TOKEN) as client:
            with pytest.raises(ResponseError, match="this is the proxy") as caught:
                await client.get_job(3, 8)
            assert caught.value.status == 407
        assert secure.connections == plain.connections == 0


async def test_a_tunnel_that_is_refused_is_no_doubt(server_tls: ssl.SSLContext, ca_file: Path) -> None:
    """CONNECT answered with 502 is a failed connect: also a write was surely not executed."""
    async with RawServer(always(http(200, JOB)), tls=server_tls) as server, ForwardProxy(refuse=502) as proxy:
        async with open_client(server.url, proxy=proxy.url(), ca_file=ca_file) as client:
            for call in (client.get_job, client.retry_job):
                with pytest.raises(ConnectError, match="the proxy answered 502") as caught:
                    await call(3, 8)
                assert not isinstance(caught.value, OutcomeUnknownError)
        assert server.connections == 0


async def test_a_proxy_that_is_not_there() -> None:
    """A dead proxy is named as such, without its password."""
    async with ForwardProxy() as proxy:
        url = proxy.url("robot:canarypassword@")
    async with open_client("http://gitlab.example", proxy=url) as client:
        with pytest.raises(ConnectError, match="proxy cannot be reached") as caught:
            await client.get_job(3, 8)
        assert "canarypassword" not in repr(caught.value)


@pytest.mark.parametrize("url", ["socks5://127.0.0.1:1", "http://", "ftp://u:canary@h:1", "http://h:99999"])
def test_a_proxy_that_cannot_be_one(url: str) -> None:
    """Other schemes and broken addresses are refused at once, and not repeated."""
    with pytest.raises(ConfigurationError, match="proxy") as caught:
        Client("http://gitlab.example", proxy=url)
    assert "canary" not in str(caught.value)
