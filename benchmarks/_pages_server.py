"""A server of prepared bytes, in a process of its own: fast enough not to be what is measured.

It knows a handful of GitLab's routes and nothing else: project jobs by page, one job, a slow archive,
and its own counts under `/stats`. Run as a program it prints its port and serves until its input ends.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

PER_PAGE = 100
_PATH = re.compile(rb"(?:GET|POST) (\S+)")
_PAGE = re.compile(rb"[?&]page=(\d+)")


def job(number: int) -> dict[str, object]:
    """One job in the shape of today's GitLab, about 2.7 kB of JSON; eight make a pipeline."""
    made = number // 8
    user = {
        "id": 1, "username": "dev", "name": "Dee Veloper", "state": "active", "locked": False,
        "avatar_url": "https://gitlab.example.com/uploads/-/system/user/avatar/1/avatar.png",
        "web_url": "https://gitlab.example.com/dev", "created_at": "2020-01-05T08:00:00.000Z",
        "bio": "", "location": "Hamburg", "public_email": "", "linkedin": "", "twitter": "",
        "website_url": "", "organization": "Example", "job_title": "", "pronouns": None, "bot": False,
        "work_information": None, "followers": 0, "following": 0, "local_time": None,
    }  # fmt: skip
    sha = f"{made:040x}"
    commit = {
        "id": sha, "short_id": sha[:8], "created_at": "2026-01-05T08:00:00.000+00:00",
        "parent_ids": [f"{made + 1:040x}"], "title": f"Change number {made}",
        "message": f"Change number {made}\n\n" + "A paragraph that says why. " * 12,
        "author_name": "Dee Veloper", "author_email": "dev@example.com",
        "authored_date": "2026-01-05T08:00:00.000+00:00", "committer_name": "Dee Veloper",
        "committer_email": "dev@example.com", "committed_date": "2026-01-05T08:00:00.000+00:00",
        "trailers": {}, "extended_trailers": {},
        "web_url": f"https://gitlab.example.com/group/app/-/commit/{sha}",
    }  # fmt: skip
    pipeline = {
        "id": 500 + made, "iid": made, "project_id": 7, "sha": sha, "ref": "main",
        "status": "success", "source": "push", "created_at": "2026-01-05T08:00:00.000Z",
        "updated_at": "2026-01-05T08:10:00.000Z",
        "web_url": "https://gitlab.example.com/group/app/-/pipelines/500",
    }  # fmt: skip
    runner = {
        "id": 12, "description": "docker runner on host 12", "ip_address": "10.0.0.12", "active": True,
        "paused": False, "is_shared": True, "runner_type": "instance_type", "name": "gitlab-runner",
        "online": True, "status": "online",
    }  # fmt: skip
    return {
        "id": number, "status": "success" if number % 7 else "failed", "stage": "test",
        "name": f"test {number % 40}", "ref": "main", "tag": False, "coverage": None,
        "allow_failure": False, "created_at": "2026-01-05T08:00:00.000Z",
        "started_at": "2026-01-05T08:00:05.000Z", "finished_at": "2026-01-05T08:01:05.000Z",
        "erased_at": None, "duration": 60.123456, "queued_duration": 5.000321, "user": user,
        "commit": commit, "pipeline": pipeline,
        "web_url": f"https://gitlab.example.com/group/app/-/jobs/{number}",
        "project": {"ci_job_token_scope_enabled": False},
        "artifacts": [
            {"file_type": "archive", "size": number, "filename": "artifacts.zip", "file_format": "zip"},
            {"file_type": "trace", "size": 2000, "filename": "job.log", "file_format": "raw"},
        ],
        "artifacts_file": {"filename": "artifacts.zip", "size": 1000 + number},
        "runner": runner, "runner_manager": None, "artifacts_expire_at": None, "archived": False,
        "source": "push", "tag_list": ["docker", "linux"],
    }  # fmt: skip


def page_sum(pages: int) -> int:
    """What the ids of all jobs of one project add up to: the answer a client must find."""
    count = pages * PER_PAGE
    return count * (count + 1) // 2


class Prepared:
    """The bytes of every answer."""

    def __init__(self, pages: int) -> None:
        self.pages = pages
        self.port = 0
        self.requests = 0
        self.failing = False
        self.bodies = [
            json.dumps([job(page * PER_PAGE + n + 1) for n in range(PER_PAGE)]).encode()
            for page in range(pages)
        ]
        self.single = json.dumps(job(8)).encode()
        self.ready: dict[tuple[bytes, int], bytes] = {}

    def answer(self, path: bytes) -> bytes:
        """The answer to a path, made once."""
        route, _, _ = path.partition(b"?")
        if route == b"/stats":
            return _http(json.dumps({"requests": self.requests}).encode())
        if route == b"/fail":
            self.failing = path.endswith(b"=1")
            self.requests = 0
            return _http(b"{}")
        self.requests += 1
        if self.failing:
            return b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\ndown"
        if not route.endswith(b"/jobs"):
            return _http(self.single)
        match = _PAGE.search(path)
        page = int(match[1]) if match else 1
        if (route, page) not in self.ready:
            self.ready[route, page] = self._page(route, page)
        return self.ready[route, page]

    def _page(self, route: bytes, page: int) -> bytes:
        link = b""
        if page < self.pages:
            where = b"http://127.0.0.1:%d%s?page=%d&per_page=%d" % (self.port, route, page + 1, PER_PAGE)
            link = b'Link: <%s>; rel="next"\r\nX-Next-Page: %d\r\n' % (where, page + 1)
        return _http(self.bodies[page - 1], link)


def _http(body: bytes, headers: bytes = b"") -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
    return head + headers + b"\r\n" + body


class Connection(asyncio.Protocol):
    """One connection: requests without bodies, answered in order."""

    def __init__(self, prepared: Prepared, latency: float) -> None:
        self._prepared = prepared
        self._latency = latency
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each whole request."""
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head, self._data = self._data[:end], self._data[end + 4 :]
            match = _PATH.match(head)
            assert match is not None
            path = match[1]
            if path.partition(b"?")[0].endswith(b"/artifacts"):
                self._slow_archive(16)
                continue
            answer = self._prepared.answer(path)
            if self._latency and not path.startswith((b"/stats", b"/fail")):
                asyncio.get_running_loop().call_later(self._latency, self._send, answer)
            else:
                self._send(answer)

    def _send(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    def _slow_archive(self, pieces: int, *, begun: bool = False) -> None:
        """A MiB at 3 MB/s, as a network gives it: 64 KiB every 20 ms."""
        if not begun:
            self._send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (pieces * 65_536))
        self._send(bytes(65_536))
        if pieces > 1 and not self._transport.is_closing():
            later = asyncio.get_running_loop().call_later
            later(0.02, lambda: self._slow_archive(pieces - 1, begun=True))


async def _serve(pages: int, latency: float) -> None:
    prepared = Prepared(pages)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(prepared, latency), "127.0.0.1", 0, backlog=1024)
    prepared.port = server.sockets[0].getsockname()[1]
    print(prepared.port, flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


@contextmanager
def running(*, pages: int = 1, latency: float = 0.0) -> Iterator[str]:
    """The server in its own process; gives its URL."""
    command = [sys.executable, "-m", "benchmarks._pages_server", f"--pages={pages}", f"--latency={latency}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.stdin.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--pages", type=int, default=1)
    parser.add_argument("--latency", type=float, default=0.0)
    given = parser.parse_args()
    asyncio.run(_serve(given.pages, given.latency))
