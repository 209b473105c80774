"""Every Python block of README runs against FakeGitLab as it stands there."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import asyncjobs
from asyncjobs.testing import FakeGitLab
from tests.functional.cli.conftest import ROOT, Command, fill

BLOCKS = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)


def test_there_are_programs() -> None:
    """README has the program of its first screen and one for each feature."""
    assert len(BLOCKS) >= 4


@pytest.mark.real_time
def test_the_first_program_runs_alone(asyncjobs_command: Command) -> None:
    """What stands on the first screen is a whole program: saved to a file and run, it does what it says."""
    program = asyncjobs_command.folder / "program.py"
    program.write_text(BLOCKS[0])
    done = subprocess.run(
        [sys.executable, str(program)],
        capture_output=True,
        cwd=asyncjobs_command.folder,
        env=asyncjobs_command.environment({"GITLAB_URL": "", "GITLAB_TOKEN": ""}),
        timeout=60,
        check=False,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "test success" in done.stdout
    (archive,) = (asyncjobs_command.folder / "artifacts").rglob("*.zip")
    assert archive.name in done.stdout
    assert len(BLOCKS[0].strip().splitlines()) <= 25


@pytest.mark.parametrize("block", BLOCKS[1:])
async def test_the_other_blocks_run(
    block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each of the other blocks is a function of a client, and prints something on a server with jobs."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(block, names)
    (function,) = (each for each in names.values() if inspect.iscoroutinefunction(each))
    async with FakeGitLab() as gitlab:
        fill(gitlab)
        web = next(each for each in gitlab.projects.values() if each.full_path == "shop/web")
        running = web.add_pipeline("main").add_job("slow test")
        running.start()
        running.script([(30.0, b"a line\n"), (30.0, "success")])
        async with asyncjobs.Client(gitlab.url, private_token=gitlab.token) as client:
            await function(client)
    assert capsys.readouterr().out
