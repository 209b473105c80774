"""Redirects on the wire: where a token may go (the API's own origin), and what is not followed at all.

Two or three real servers on loopback; a token is looked for in every byte that any of them received.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from asyncjobs import Client, JobRef, RedirectError, RequestError, ResponseError
from asyncjobs._errors import ForbiddenAddressError, OutcomeUnknownError
from asyncjobs.testing import FakeGitLab
from tests.support.clients import lanes_are_free, open_client, read_archive
from tests.support.rawserver import RawServer, Received, Wire, http

TOKEN = "glpat-canary-0123456789"
STATUSES = [301, 302, 303, 307, 308]
KINDS: dict[str, dict[str, str]] = {
    "private": {"private_token": TOKEN},
    "job": {"job_token": TOKEN},
    "oauth": {"oauth_token": TOKEN},
    "none": {},
}
JOB = {"id": 8, "name": "test", "status": "success"}
REF = JobRef(3, 8)


class Redirector:
    """Answers the API with one redirect, and any other path with what was wanted."""

    def __init__(self, status: int = 302) -> None:
        self.status = status
        self.location = ""

    async def __call__(self, request: Received, wire: Wire) -> None:
        """Answer one request."""
        if request.target.startswith("/api/v4"):
            await wire.write(http(self.status, b"moved", {"Location": self.location}))
        else:
            await wire.write(http(200, JOB))


async def deliver(request: Received, wire: Wire) -> None:
    """What the other origin gives."""
    await wire.write(http(200, JOB))


async def read(client: Client, what: str) -> object:
    """Ask for an archive or for JSON; both answers are the same bytes here."""
    return await read_archive(client, REF) if what == "archive" else await client.get_job(3, 8)


@pytest.mark.parametrize("what", ["archive", "json"])
@pytest.mark.parametrize("place", ["same origin", "other port", "other address", "other name"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", STATUSES)
async def test_a_token_stays_at_the_api_origin(status: int, kind: str, place: str, what: str) -> None:
    """Whatever the status and the kind of token: only the very same scheme, host and port gets it."""
    redirector = Redirector(status)
    address = "127.0.0.2" if place == "other address" else "127.0.0.1"
    async with RawServer(redirector) as api, RawServer(deliver, host=address) as store:
        target = {
            "same origin": f"{api.url}/elsewhere?X-Signature=abc",
            "other port": f"{store.url}/elsewhere?X-Signature=abc",
            "other address": f"{store.url}/elsewhere?X-Signature=abc",
            "other name": f"{store.named('localhost')}/elsewhere?X-Signature=abc",
        }[place]
        redirector.location = target
        async with open_client(api.url, **KINDS[kind]) as client:
            assert await read(client, what)
            assert lanes_are_free(client)
        arrived = api if place == "same origin" else store
        assert [request.target for request in arrived.requests[-1:]] == ["/elsewhere?X-Signature=abc"]
        assert not store.saw(TOKEN)
        shown = sum(TOKEN in value for request in api.requests for _, value in request.headers)
        assert shown == (0 if kind == "none" else 2 if place == "same origin" else 1)


@pytest.mark.parametrize("what", ["archive", "json"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", STATUSES)
async def test_up_to_https_goes_without_the_token_and_down_not_at_all(
    status: int, kind: str, what: str, server_tls: ssl.SSLContext, ca_file: Path
) -> None:
    """From http up to https is followed, without the token; from https down to http is refused."""
    upward, downward = Redirector(status), Redirector(status)
    async with (
        RawServer(deliver) as plain,
        RawServer(deliver, tls=server_tls) as secure,
        RawServer(upward) as api,
        RawServer(downward, tls=server_tls) as secure_api,
    ):
        upward.location, downward.location = f"{secure.url}/x", f"{plain.url}/x"
        async with open_client(api.url, ca_file=ca_file, **KINDS[kind]) as client:
            assert await read(client, what)
        assert len(secure.requests) == 1
        assert not secure.saw(TOKEN)
        async with open_client(secure_api.url, ca_file=ca_file, **KINDS[kind]) as client:
            with pytest.raises(RedirectError, match="down to plain http"):
                await read(client, what)
        assert plain.connections == 0


async def test_the_same_host_on_plain_http_is_a_downgrade(server_tls: ssl.SSLContext, ca_file: Path) -> None:
    """Also a downgrade on one host, without any token, is refused; it is not tried again."""
    redirector = Redirector()
    async with RawServer(deliver) as plain, RawServer(redirector, tls=server_tls) as api:
        redirector.location = f"http://127.0.0.1:{plain.port}/x"
        async with open_client(api.url, ca_file=ca_file) as client:
            with pytest.raises(RedirectError) as caught:
                await client.get_job(3, 8)
        assert caught.value.status == 302
        assert caught.value.attempts == 1
        assert len(api.requests) == 1
        assert plain.connections == 0


PRESIGNED = (
    "/bucket/a%2Fb%7Ec/job%20%C3%A9.zip?X-Amz-Credential=AK%2F2026%2Fs3&X-Amz-Signature=a%7Eb%27c+d/e%3D=="
    "&response-content-disposition=attachment%3B%20filename%3D%22a%27b.zip%22&x=%e4%2f%2F~'&empty=&bare"
)


async def test_a_presigned_url_is_sent_byte_for_byte() -> None:
    """Not one byte of a signed link is rewritten, whatever a URL library would prefer."""
    redirector = Redirector()
    async with RawServer(redirector) as api, RawServer(deliver) as store:
        redirector.location = store.url + PRESIGNED + "#fragment"
        async with open_client(api.url, private_token=TOKEN) as client:
            await read_archive(client, REF)
        assert store.requests[0].target == PRESIGNED


async def test_user_and_password_of_a_location_are_dropped() -> None:
    """Userinfo in a redirect does not become an Authorization header anywhere."""
    redirector = Redirector()
    async with RawServer(redirector) as api, RawServer(deliver) as store:
        redirector.location = f"http://somebody:hunter2pass@127.0.0.1:{store.port}/x?a=%2f"
        async with open_client(api.url, private_token=TOKEN) as client:
            await read_archive(client, REF)
        assert store.requests[0].header("Authorization") is None
        assert store.requests[0].target == "/x?a=%2f"
        assert not store.saw("hunter2pass")


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "gopher://127.0.0.1/x",
        "javascript:alert(1)",
        "data:text/plain,x",
        "unix:///var/run/docker.sock",
        "",
        "http://",
        "http:///path",
        "http://host:99999/",
        "http://[::1/",
        "http://127.0.0.1/a b",
    ],
)
async def test_what_is_no_web_address_is_refused(location: str) -> None:
    """Other schemes, empty and broken Locations are one clear error after one request."""
    redirector = Redirector()
    async with RawServer(redirector) as api:
        redirector.location = location
        async with open_client(api.url, private_token=TOKEN) as client:
            with pytest.raises(RedirectError, match="not followed"):
                await read_archive(client, REF)
            assert lanes_are_free(client)
        assert len(api.requests) == 1


async def test_five_hops_are_followed_and_six_are_not() -> None:
    """The fifth hop may answer; a sixth is an error, and so is a loop."""
    last = 5

    async def script(request: Received, wire: Wire) -> None:
        hop = 0 if request.target.startswith("/api") else int(request.target[1:])
        if hop < last:
            await wire.write(http(302, b"", {"Location": f"/{hop + 1}"}))
        else:
            await wire.write(http(200, JOB))

    async with RawServer(script) as api, open_client(api.url, private_token=TOKEN) as client:
        assert (await client.get_job(3, 8)).id == 8
        assert len(api.requests) == 6
        last = 6
        with pytest.raises(RedirectError, match="more than 5 redirects"):
            await client.get_job(3, 8)
        assert len(api.requests) == 12


async def test_a_loop_ends(gitlab: FakeGitLab, client: Client) -> None:
    """A redirect to itself costs six requests and is an error."""
    gitlab.faults.add("redirect_loop")
    with pytest.raises(RedirectError, match="more than 5"):
        await client.get_job(10, 1)
    assert len(gitlab.requests) == 6


@pytest.mark.parametrize("status", STATUSES)
async def test_a_write_never_follows(status: int) -> None:
    """A redirected POST or DELETE goes nowhere, is not repeated, and says where it was sent."""
    redirector = Redirector(status)
    async with RawServer(redirector) as api, RawServer(deliver) as other:
        redirector.location = f"{other.url}/x"
        async with open_client(api.url, private_token=TOKEN) as client:
            for call in (client.retry_job(3, 8), client.play_job(3, 8, variables={"A": "b"})):
                with pytest.raises(RedirectError, match="a redirect of a POST"):
                    await call
            with pytest.raises(RedirectError, match="a redirect of a DELETE"):
                await client.delete_artifacts(3, 8)
        assert len(api.requests) == 3
        assert other.connections == 0


async def test_a_redirected_write_is_no_unknown_outcome() -> None:
    """A redirect is a clear answer: nothing was executed."""
    redirector = Redirector(307)
    async with RawServer(redirector) as api:
        redirector.location = f"{api.url}/x"
        async with open_client(api.url) as client:
            with pytest.raises(RedirectError) as caught:
                await client.retry_job(3, 8)
        assert not isinstance(caught.value, OutcomeUnknownError)


LOCAL = [
    "http://169.254.169.254/latest/meta-data/",
    "http://127.0.0.1:1/x",
    "http://localhost:1/x",
    "http://sub.localhost:1/x",
    "http://[::1]:1/x",
    "http://[::ffff:169.254.169.254]/x",
    "http://[fe80::1]/x",
    "http://0.0.0.0:1/x",
    "http://224.0.0.1/x",
    "http://2130706433:1/x",
    "http://0x7f000001:1/x",
    "http://127.1:1/x",
    "http://017700000001:1/x",
    "http://LOCALHOST.:1/x",
]


@asynccontextmanager
async def public_api(location: str) -> AsyncIterator[tuple[RawServer, Client]]:
    """An API that does not look local: its proxy stands on loopback, its own address does not."""

    async def proxy(request: Received, wire: Wire) -> None:
        if request.target.startswith("http://203.0.113.9/api"):
            await wire.write(http(302, b"", {"Location": location}))
        else:
            await wire.write(http(200, JOB))

    async with (
        RawServer(proxy) as server,
        open_client("http://203.0.113.9", private_token=TOKEN, proxy=server.url) as client,
    ):
        yield server, client


@pytest.mark.parametrize("location", LOCAL)
async def test_local_addresses_are_refused(location: str) -> None:
    """A server on another network cannot send us to this machine, its link, or cloud metadata."""
    async with public_api(location) as (server, client):
        with pytest.raises((RedirectError, RequestError)):
            await read_archive(client, REF)
        assert [request.target for request in server.requests] == [
            "http://203.0.113.9/api/v4/projects/3/jobs/8/artifacts"
        ]


async def test_private_networks_are_followed() -> None:
    """An object store on a private network beside the API stays possible."""
    async with public_api("http://10.1.2.3:9000/bucket/x?s=1") as (server, client):
        await read_archive(client, REF)
        assert server.requests[1].target == "http://10.1.2.3:9000/bucket/x?s=1"
        assert TOKEN not in str(server.requests[1].headers)


async def test_each_download_asks_for_a_fresh_link(gitlab: FakeGitLab, client: Client) -> None:
    """A signed link is never kept: every archive request begins at the API."""
    job = gitlab.projects[10].pipelines[0].add_job("b", status="success", age=9, artifacts={"a": b"1"})
    gitlab.settings.delivery = "direct"
    ref = JobRef(10, job.id)
    assert await read_archive(client, ref) == await read_archive(client, ref)
    assert [request.origin for request in gitlab.requests] == ["api", "storage"] * 2
    assert gitlab.requests.showing(gitlab.token, origin="storage") == []


async def test_the_store_says_no_without_looking_like_gitlab(gitlab: FakeGitLab, client: Client) -> None:
    """A store's error is typed, has its cause and says where it came from."""
    job = gitlab.projects[10].pipelines[0].add_job("b", status="success", age=9, artifacts={"a": b"1"})
    gitlab.settings.delivery = "direct"
    gitlab.fail_next("link_expired", origin="storage")
    with pytest.raises(ResponseError, match="AccessDenied: Request has expired") as caught:
        await read_archive(client, JobRef(10, job.id))
    assert caught.value.status == 403
    assert caught.value.from_storage
    assert "signature" not in str(caught.value).lower() or "=..." in str(caught.value)


async def test_a_configured_plain_address_that_redirects_to_https(
    server_tls: ssl.SSLContext, ca_file: Path
) -> None:
    """The usual slip, http:// for https://, is answered by naming the address to configure."""

    async def refuse(_: Received, wire: Wire) -> None:
        await wire.write(http(401, {"message": "401 Unauthorized"}))

    redirector = Redirector(301)
    async with RawServer(redirector) as api, RawServer(refuse, tls=server_tls) as secure:
        redirector.location = f"{secure.url}/api/v4/projects/3/jobs/8"
        async with open_client(api.url, private_token=TOKEN, ca_file=ca_file) as client:
            with pytest.raises(ResponseError, match="configure the client with the address"):
                await client.get_job(3, 8)
        assert not secure.saw(TOKEN)


def resolve(monkeypatch: pytest.MonkeyPatch, names: dict[str, str]) -> None:
    """Let the system's resolver know these names and no others."""

    def getaddrinfo(host: str, port: int, *_: object, **__: object) -> list[tuple[object, ...]]:
        if host not in names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (names[host], port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


async def test_a_name_with_a_local_address_is_refused_at_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    """A foreign name that resolves to this machine is refused at the look-up; nothing is sent there."""
    async with RawServer(deliver) as internal:

        async def proxy(request: Received, wire: Wire) -> None:
            assert "gitlab.example" in request.target
            location = f"http://rebind.example:{internal.port}/x"
            await wire.write(http(302, b"", {"Location": location}))

        async with RawServer(proxy) as server:
            resolve(monkeypatch, {"rebind.example": "127.0.0.1", "proxy.example": "127.0.0.1"})
            monkeypatch.setenv("HTTP_PROXY", f"http://proxy.example:{server.port}")
            monkeypatch.setenv("NO_PROXY", "rebind.example")
            async with open_client("http://gitlab.example", private_token=TOKEN) as client:
                with pytest.raises(ForbiddenAddressError, match="local address") as caught:
                    await read_archive(client, REF)
            assert len(server.requests) == 1  # the proxy itself may be on this machine
        assert caught.value.attempts == 1
        assert internal.connections == 0
