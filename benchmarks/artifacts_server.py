"""A server for the download benchmark, in a process of its own: nginx where it is installed, else aiohttp.

It serves a few archives and just enough of the Jobs API, as static files, over HTTP and TLS.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from types import TracebackType
from typing import Self

import trustme
from aiohttp import web

BLOCK = 1024 * 1024

NGINX = """
{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 100000;
  default_type application/octet-stream;
  client_body_temp_path {folder};
  proxy_temp_path {folder};
  fastcgi_temp_path {folder};
  uwsgi_temp_path {folder};
  scgi_temp_path {folder};
  server {{
    listen 127.0.0.1:{http};
    listen 127.0.0.1:{https} ssl;
    ssl_certificate {folder}/cert.pem;
    ssl_certificate_key {folder}/key.pem;
    location ~ ^/api/v4/projects/1/jobs/(\\d+)/artifacts$ {{ alias {folder}/files/$1.zip; }}
    location ~ ^/api/v4/projects/1/jobs/(\\d+)$ {{
      default_type application/json;
      alias {folder}/jobs/$1.json;
    }}
    location = /api/v4/projects/1/pipelines/1/jobs {{
      default_type application/json;
      alias {folder}/jobs/all.json;
    }}
  }}
}}
"""


def make_archive(path: Path, size: int) -> None:
    """A zip of one stored member of random bytes, written in pieces."""
    block = os.urandom(BLOCK)
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive,
        archive.open("data.bin", "w", force_zip64=True) as member,
    ):
        for _ in range(max(1, size // BLOCK)):
            member.write(block)


def job_record(number: int, size: int) -> dict[str, object]:
    """What the API says about one job."""
    return {
        "id": number,
        "status": "success",
        "name": f"build {number}",
        "pipeline": {"id": 1, "status": "success"},
        "artifacts_file": {"filename": "artifacts.zip", "size": size},
        "artifacts": [{"file_type": "archive", "size": size, "file_format": "zip"}],
    }


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


class Server:
    """The running server: archives 1 to *files*, each of about *size* bytes."""

    def __init__(self, folder: Path, files: int, size: int) -> None:
        self.folder = folder
        self.files = files
        self.kind = ""
        self.ca = folder / "ca.pem"
        self.http = free_port()
        self.https = free_port()
        self._size = size
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, scheme: str) -> str:
        """The base URL for `http` or `https`."""
        return f"{scheme}://127.0.0.1:{self.http if scheme == 'http' else self.https}"

    def archive(self, number: int) -> Path:
        """The file behind one job."""
        return self.folder / "files" / f"{number}.zip"

    def _prepare(self) -> None:
        (self.folder / "files").mkdir(parents=True)
        (self.folder / "jobs").mkdir()
        records = []
        for number in range(1, self.files + 1):
            make_archive(self.archive(number), self._size)
            records.append(job_record(number, self.archive(number).stat().st_size))
            (self.folder / "jobs" / f"{number}.json").write_text(json.dumps(records[-1]))
        (self.folder / "jobs" / "all.json").write_text(json.dumps(records))
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.ca))
        issued = authority.issue_cert("127.0.0.1")
        issued.private_key_pem.write_to_path(str(self.folder / "key.pem"))
        for piece in issued.cert_chain_pems:
            piece.write_to_path(str(self.folder / "cert.pem"), append=True)

    def __enter__(self) -> Self:
        self._prepare()
        program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
        if program is not None:
            config = self.folder / "nginx.conf"
            user = "user root;" if os.geteuid() == 0 else ""
            config.write_text(NGINX.format(folder=self.folder, http=self.http, https=self.https, user=user))
            command = [program, "-c", str(config), "-p", str(self.folder)]
            self.kind = "nginx, one worker, sendfile"
        else:
            command = [sys.executable, "-m", "benchmarks.artifacts_server", str(self.folder)]
            command += [str(self.http), str(self.https)]
            self.kind = "aiohttp static files (install nginx for a server that is never the limit)"
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        for port in (self.http, self.https):
            _wait_for(port)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()


def _wait_for(port: int) -> None:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(f"no server on port {port}")


def serve(folder: Path, http: int, https: int) -> None:
    """The same with aiohttp, for machines without nginx."""

    async def archive(request: web.Request) -> web.StreamResponse:
        return web.FileResponse(folder / "files" / f"{int(request.match_info['id'])}.zip")

    async def record(request: web.Request) -> web.StreamResponse:
        raw = (folder / "jobs" / f"{request.match_info.get('id', 'all')}.json").read_bytes()
        return web.Response(body=raw, content_type="application/json")

    async def run() -> None:
        app = web.Application()
        app.router.add_get("/api/v4/projects/1/jobs/{id}/artifacts", archive)
        app.router.add_get("/api/v4/projects/1/jobs/{id}", record)
        app.router.add_get("/api/v4/projects/1/pipelines/1/jobs", record)
        runner = web.AppRunner(app)
        await runner.setup()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(str(folder / "cert.pem"), str(folder / "key.pem"))
        await web.TCPSite(runner, "127.0.0.1", http).start()
        await web.TCPSite(runner, "127.0.0.1", https, ssl_context=context).start()
        await asyncio.Event().wait()

    asyncio.run(run())


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
