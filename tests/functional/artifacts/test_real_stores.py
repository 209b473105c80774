"""Resume against object stores that other people wrote: nginx with files, moto's S3 with presigned links.

The API in front is scripted; what answers the ranges is real. Skipped where the program is missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Self

import pytest
import pytest_asyncio

from asyncjobs._artifacts import download_artifacts
from asyncjobs._client import Client
from asyncjobs._storage import Storage
from tests.functional.artifacts.disk import content, listing
from tests.functional.artifacts.scripted import Answer, Asked, Scripted
from tests.unit.manifest.hostile_zips import honest

pytestmark = pytest.mark.real_time

RAW = honest({"a.bin": os.urandom(3_000_000)})
SIZE = len(RAW)
CUT = 1_234_567


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


async def wait_for(port: int) -> None:
    """Wait until somebody listens."""
    for _ in range(200):
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await asyncio.sleep(0.05)
    raise TimeoutError(f"nobody listens on {port}")


class CutProxy:
    """Between client and store: passes bytes on, and breaks the first connection after some of them."""

    def __init__(self, port: int, cut: int) -> None:
        self._port = port
        self._cut: int | None = cut
        self.heads: list[bytes] = []
        self.statuses: list[int] = []
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left, self._cut = self._cut, None
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        upstream, sender = await asyncio.open_connection("127.0.0.1", self._port)
        sender.write(head)
        try:
            answer = await upstream.readuntil(b"\r\n\r\n")
            self.statuses.append(int(answer.split(b" ")[1]))
            writer.write(answer)
            while (left is None or left > 0) and (piece := await upstream.read(64 * 1024)):
                piece = piece if left is None else piece[:left]
                left = None if left is None else left - len(piece)
                writer.write(piece)
                await writer.drain()
            if left is not None:
                # aiohttp drops what it has not handed over when a connection breaks: let it be read first.
                await asyncio.sleep(1.0)
        except ConnectionError:
            pass
        finally:
            sender.close()
            writer.close()


def record() -> dict[str, Any]:
    """The job's record."""
    archive = {"file_type": "archive", "file_format": "zip", "size": SIZE}
    return {
        "id": 1,
        "status": "success",
        "name": "test",
        "artifacts_file": {"filename": "artifacts.zip", "size": SIZE},
        "artifacts": [archive],
    }


def redirect(link: Callable[[], str]) -> Callable[[Asked], Answer]:
    """The API's answer: a fresh link each time."""
    return lambda _: Answer(status=302, headers={"Location": link()}, body=b"moved")


async def download(link: Callable[[], str], dest: Path) -> Scripted:
    """One download through a scripted API that redirects to *link*."""
    storage = Storage()
    server = Scripted(record(), [redirect(link)])
    async with server, Client(server.url, private_token="canary-token") as client:
        await download_artifacts(client._api, storage, 5, 1, dest)
    await storage.aclose()
    return server


# -- nginx ------------------------------------------------------------------------------------------------

NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {folder};
  proxy_temp_path {folder};
  fastcgi_temp_path {folder};
  uwsgi_temp_path {folder};
  scgi_temp_path {folder};
  server {{
    listen 127.0.0.1:{port};
    location / {{ root {folder}/files; }}
    location /weak/ {{ alias {folder}/files/; gzip on; gzip_types *; gzip_min_length 1; }}
    location /dated/ {{ alias {folder}/files/; etag off; }}
    location /whole/ {{ alias {folder}/files/; max_ranges 0; }}
  }}
}}
"""


@pytest_asyncio.fixture
async def nginx(tmp_path: Path) -> AsyncIterator[tuple[int, Path]]:
    """A running nginx and the file it serves."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("nginx is not installed (apt-get install nginx-light)")
    folder, port = tmp_path / "nginx", free_port()
    config = prepare(folder, port)
    process = await asyncio.create_subprocess_exec(
        program, "-c", str(config), "-p", str(folder), stderr=subprocess.DEVNULL
    )
    try:
        await wait_for(port)
        yield port, folder / "files" / "a.zip"
    finally:
        process.terminate()
        await process.wait()


def prepare(folder: Path, port: int) -> Path:
    """The folder of one nginx."""
    (folder / "files").mkdir(parents=True)
    (folder / "files" / "a.zip").write_bytes(RAW)
    os.utime(folder / "files" / "a.zip", (1_700_000_000, 1_700_000_000))
    config = folder / "nginx.conf"
    # Started by root, nginx would make its workers another user, who may not read temporary folders.
    user = "user root;" if os.geteuid() == 0 else ""
    config.write_text(user + NGINX.format(folder=folder, port=port))
    return config


@pytest.mark.parametrize(
    ("place", "resumes"), [("", True), ("weak/", True), ("dated/", True), ("whole/", False)]
)
async def test_nginx_goes_on_where_the_connection_broke(
    nginx: tuple[int, Path], tmp_path: Path, place: str, resumes: bool
) -> None:
    """By ETag and by date nginx sends the rest, where ranges are off everything; the file is right."""
    port, _ = nginx
    dest = tmp_path / "dest"
    make_folder(dest)
    async with CutProxy(port, CUT) as proxy:
        await download(lambda: f"{proxy.url}/{place}a.zip", dest / "a.zip")
    assert content(dest / "a.zip") == RAW
    assert listing(dest) == ["a.zip"]
    assert len(proxy.heads) == 2
    assert b"\r\nRange: bytes=" in proxy.heads[1]
    assert (proxy.statuses[1] == 206) == resumes
    for head in proxy.heads:
        assert b"canary" not in head


def make_folder(path: Path) -> None:
    """Make a folder."""
    path.mkdir()


async def test_nginx_with_a_replaced_object_starts_over(nginx: tuple[int, Path], tmp_path: Path) -> None:
    """An object replaced between two attempts is fetched whole: If-Range makes nginx say so."""
    port, file = nginx
    other = honest({"a.bin": os.urandom(3_000_000)})
    assert len(other) == SIZE
    asked = []

    def link() -> str:
        asked.append(1)
        if len(asked) == 2:
            replace(file, other)
        return f"{proxy.url}/a.zip"

    dest = tmp_path / "a.zip"
    async with CutProxy(port, CUT) as proxy:
        await download(link, dest)
    assert content(dest) == other


def replace(file: Path, raw: bytes) -> None:
    """Put another object in the place of one."""
    file.with_suffix(".new").write_bytes(raw)
    file.with_suffix(".new").replace(file)


# -- S3 ---------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def s3(tmp_path: Path) -> AsyncIterator[tuple[int, Any]]:
    """A running moto server with the archive in a bucket, and a boto3 client on it."""
    boto3 = pytest.importorskip("boto3", reason="boto3 and moto[server] are not installed")
    pytest.importorskip("moto", reason="moto[server] is not installed")
    port = free_port()
    code = f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "ignore", "-c", code, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        await wait_for(port)
        client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{port}",
            region_name="us-east-1",
            aws_access_key_id="AKIAEXAMPLE",
            aws_secret_access_key="secret",
        )
        await asyncio.to_thread(client.create_bucket, Bucket="artifacts")
        await asyncio.to_thread(client.put_object, Bucket="artifacts", Key="a b/ä~'.zip", Body=RAW)
        yield port, client
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_presigned_links_are_followed_and_resumed(s3: tuple[int, Any], tmp_path: Path) -> None:
    """A presigned link with every awkward character works, and each attempt uses a fresh one."""
    port, client = s3
    links: list[str] = []

    def link() -> str:
        made = client.generate_presigned_url(
            "get_object",
            Params={
                "Bucket": "artifacts",
                "Key": "a b/ä~'.zip",
                "ResponseContentDisposition": 'attachment; filename="a\'b~.zip"',
            },
            ExpiresIn=600 + len(links),
        )
        links.append(made.replace(f"http://127.0.0.1:{port}", proxy.url))
        return links[-1]

    dest = tmp_path / "a.zip"
    async with CutProxy(port, CUT) as proxy:
        await download(link, dest)
    assert content(dest) == RAW
    assert len(links) == 2
    sent = [head.split(b" ")[1].decode() for head in proxy.heads]
    assert [proxy.url + path for path in sent] == links


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_a_missing_object_is_not_a_missing_archive(s3: tuple[int, Any], tmp_path: Path) -> None:
    """A link that S3 answers with 404 or 403 is an error of the store, and leaves nothing."""
    _, client = s3
    gone = client.generate_presigned_url("get_object", Params={"Bucket": "artifacts", "Key": "gone"})
    with pytest.raises(Exception, match=r"404|403") as caught:
        await download(lambda: gone, tmp_path / "a.zip")
    assert getattr(caught.value, "from_storage", False)
    assert listing(tmp_path) == []
