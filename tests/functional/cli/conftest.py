"""The command against a FakeGitLab in a thread of the test: in this process, or as one of its own.

In this process it is quick, and its coverage is seen; signals, pipes and files need a real one.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from unittest import mock

import attrs
import pytest

from asyncjobs.cli.app import main
from asyncjobs.testing import FakeGitLab

ROOT = Path(__file__).parents[3]
PATIENCE = 60.0
"""Seconds after which a command that does not end is a failed test."""


@attrs.frozen
class Done:
    """How a command ended, and what it said."""

    code: int
    out: bytes
    err: str

    @property
    def lines(self) -> list[str]:
        """Standard output as lines of text."""
        return self.out.decode().splitlines()


class Stream(io.TextIOWrapper):
    """A standard stream that can claim to be a terminal."""

    terminal = False

    def isatty(self) -> bool:
        """What was claimed."""
        return self.terminal


@attrs.define
class Command:
    """Runs `asyncjobs` in an environment that has nothing but what a test gives it."""

    gitlab: FakeGitLab
    folder: Path
    running: list[subprocess.Popen[bytes]] = attrs.field(factory=list)

    def environment(self, more: dict[str, str]) -> dict[str, str]:
        """Address and token of the fake server, and no colours, proxies or configuration of the machine."""
        kept = {
            key: os.environ[key]
            for key in ("PATH", "SYSTEMROOT", "COVERAGE_PROCESS_START")
            if key in os.environ
        }
        paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        given = {
            "GITLAB_URL": self.gitlab.url,
            "GITLAB_TOKEN": self.gitlab.token,
            "HOME": str(self.folder),
            "PYTHONPATH": paths,
            "PYTHONUTF8": "1",
        }
        return {key: value for key, value in (kept | given | more).items() if value}

    def start(
        self,
        *arguments: str,
        stdin: int | IO[bytes] = subprocess.PIPE,
        stdout: int | IO[bytes] = subprocess.PIPE,
        **more: str,
    ) -> subprocess.Popen[bytes]:
        """Start the command and go on."""
        return self.python("-m", "asyncjobs", *arguments, stdin=stdin, stdout=stdout, **more)

    def python(
        self,
        *arguments: str,
        stdin: int | IO[bytes] = subprocess.PIPE,
        stdout: int | IO[bytes] = subprocess.PIPE,
        **more: str,
    ) -> subprocess.Popen[bytes]:
        """Start any program in the command's surroundings and go on."""
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            cwd=self.folder,
            env=self.environment(more),
        )
        self.running.append(process)
        return process

    def __call__(self, *arguments: str, stdin: str = "", terminal: bool = False, **more: str) -> Done:
        """Run the command to its end in this process; *terminal* pretends that a person sits there."""
        out = Stream(io.BytesIO(), encoding="utf-8", write_through=True)
        err = io.StringIO()
        given = Stream(io.BytesIO(stdin.encode()), encoding="utf-8")
        out.terminal = given.terminal = terminal
        with (
            mock.patch.dict(os.environ, self.environment(more), clear=True),
            mock.patch.object(sys, "stdin", given),
            contextlib.chdir(self.folder),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            code = main(arguments)
        assert isinstance(out.buffer, io.BytesIO)
        return Done(code, out.buffer.getvalue(), err.getvalue())

    def process(self, *arguments: str, stdin: str = "", **more: str) -> Done:
        """Run the command to its end as a process."""
        return self.finish(
            self.start(*arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **more), stdin=stdin
        )

    @staticmethod
    def finish(process: subprocess.Popen[bytes], *, stdin: str = "") -> Done:
        """Wait for the end of a started command."""
        out, err = process.communicate(stdin.encode(), timeout=PATIENCE)
        return Done(process.returncode, out or b"", err.decode())

    def end_all(self) -> None:
        """End whatever a failed test left."""
        for process in self.running:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()


@pytest.fixture
def asyncjobs_command(fake_gitlab: FakeGitLab, tmp_path: Path) -> Iterator[Command]:
    """The command, in an empty folder, configured for the fake server."""
    command = Command(fake_gitlab, tmp_path)
    yield command
    command.end_all()


@pytest.fixture
def shop(fake_gitlab: FakeGitLab) -> FakeGitLab:
    """Two projects with good and failed jobs, each with a log and an archive."""
    fill(fake_gitlab)
    return fake_gitlab


def fill(gitlab: FakeGitLab) -> None:
    """Make the world of `shop`."""
    gitlab.add_group("shop")
    for path in ("shop/web", "shop/api"):
        pipeline = gitlab.add_project(path).add_pipeline("main")
        pipeline.add_job(
            "build", stage="build", status="success", trace=LOG, artifacts={"app.txt": "a" * 5000}
        )
        pipeline.add_job("test", stage="test", status="failed", trace=LOG, failure_reason="script_failure")


LOG = b"first\n\x1b[32;1msecond\x1b[0;m \xe2\x9c\x93 \xff\x00\r\nno newline at the end"
"""What must survive: colours, multi-byte text, bytes that are no text, CR, NUL, no last newline."""
