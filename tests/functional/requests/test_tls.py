"""Certificates: what is trusted, what is refused without a second try, and who gets to see ours."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from asyncjobs import Client, JobRef
from asyncjobs._errors import CertificateError, ConfigurationError, ConnectError
from asyncjobs.testing import FakeGitLab
from tests.support.clients import open_client, read_archive
from tests.support.rawserver import RawServer, Received, Wire, always, http

JOB = {"id": 8, "name": "test", "status": "success"}
TOKEN = "glpat-canary-0123456789"


def server_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    """A server-side context with one certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


@asynccontextmanager
async def serving(context: ssl.SSLContext) -> AsyncIterator[RawServer]:
    """A TLS server whose handshake failures are nobody's news."""
    async with RawServer(always(http(200, JOB)), tls=context) as server:
        yield server


async def refused(url: str, match: str, **options: object) -> None:
    """Reads and writes are refused before anything is sent, once."""
    async with open_client(url, private_token=TOKEN, **options) as client:
        for call in (client.get_job, client.retry_job):
            with pytest.raises(CertificateError, match=match) as caught:
                await call(3, 8)
            assert caught.value.attempts == 1
            assert "ca_file" in str(caught.value)
            assert "127.0.0.1" in str(caught.value)
        assert client.statistics().requests == 2


async def test_a_good_certificate(server_tls: ssl.SSLContext, ca_file: Path) -> None:
    """With its authority named, a private installation is reached."""
    async with serving(server_tls) as server, open_client(server.url, ca_file=ca_file) as client:
        assert (await client.get_job(3, 8)).id == 8


async def test_an_unknown_authority() -> None:
    """A self-signed installation is refused; the message names the option that helps."""
    certificate = trustme.CA().issue_cert("127.0.0.1")
    async with serving(server_context(certificate)) as server:
        await refused(server.url, "certificate was refused")
        assert not server.saw(TOKEN)


async def test_an_expired_certificate(authority: trustme.CA, ca_file: Path) -> None:
    """An expired certificate is refused and called expired."""
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    certificate = authority.issue_cert(
        "127.0.0.1", not_before=past - datetime.timedelta(days=9), not_after=past
    )
    async with serving(server_context(certificate)) as server:
        await refused(server.url, "expired", ca_file=ca_file)
        assert not server.saw(TOKEN)


async def test_a_certificate_for_another_host(authority: trustme.CA, ca_file: Path) -> None:
    """A certificate of somebody else is refused."""
    certificate = authority.issue_cert("other.example")
    async with serving(server_context(certificate)) as server:
        await refused(server.url, "mismatch|not valid for", ca_file=ca_file)
        assert not server.saw(TOKEN)


async def test_plain_http_behind_https() -> None:
    """A port that does not speak TLS is a ConnectError with the right question in it."""
    received: list[bytes] = []

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.read(65_536))
        writer.write(http(400, b"The plain HTTP request was sent to HTTPS port"))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(plain, "127.0.0.1", 0) as server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with open_client(url, private_token=TOKEN) as client:
            with pytest.raises(ConnectError, match="is this port really https"):
                await client.get_job(3, 8)
    assert all(TOKEN.encode() not in each for each in received)


async def test_the_client_certificate_is_shown_to_the_api_only(
    authority: trustme.CA, ca_file: Path, tmp_path: Path
) -> None:
    """The API gets our certificate; an object store that asks for one does not."""
    certificate = tmp_path / "client.pem"
    authority.issue_cert("robot@example.org").private_key_and_cert_chain_pem.write_to_path(certificate)

    demanding = server_context(authority.issue_cert("127.0.0.1"))
    demanding.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(demanding)
    curious = server_context(authority.issue_cert("127.0.0.1"))
    curious.verify_mode = ssl.CERT_OPTIONAL
    authority.configure_trust(curious)
    location = ""
    shown: list[bool] = []

    async def api(request: Received, wire: Wire) -> None:
        shown.append(bool(wire._writer.get_extra_info("peercert")))
        if request.target.endswith("/artifacts"):
            await wire.write(http(302, b"", {"Location": location}))
        else:
            await wire.write(http(200, JOB))

    async def store(_: Received, wire: Wire) -> None:
        shown.append(bool(wire._writer.get_extra_info("peercert")))
        await wire.write(http(200, b"archive"))

    async with RawServer(api, tls=demanding) as server, RawServer(store, tls=curious) as elsewhere:
        location = f"{elsewhere.url}/x"
        async with open_client(server.url, ca_file=ca_file, client_cert=certificate) as client:
            assert await read_archive(client, JobRef(3, 8)) == b"archive"
        assert shown == [True, False]


async def test_the_fake_over_tls(server_tls: ssl.SSLContext, ca_file: Path) -> None:
    """The whole way over TLS, with a redirect to a store that is also TLS."""
    async with FakeGitLab(tls=server_tls, delivery="direct") as gitlab:
        pipeline = gitlab.add_project("group/app").add_pipeline()
        job = pipeline.add_job("a", status="success", age=9, artifacts={"a": b"1"})
        async with open_client(gitlab.url, private_token=gitlab.token, ca_file=ca_file) as client:
            assert (await read_archive(client, JobRef("group/app", job.id)))[:2] == b"PK"


@pytest.mark.parametrize("option", ["ca_file", "client_cert"])
@pytest.mark.parametrize("content", [None, "not a certificate"])
def test_files_that_cannot_be_used_are_told_at_once(tmp_path: Path, option: str, content: str | None) -> None:
    """A wrong file is an error of the constructor that names the option, not of the first request."""
    path = tmp_path / "file.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigurationError, match=option):
        Client("https://gitlab.example", **{option: path})  # type: ignore[arg-type]  # one option by name
