"""The demo from its first line to its last, on virtual time."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

import asyncjobs
from asyncjobs.cli.commands.demo import Show, prepare
from asyncjobs.cli.framework import Session
from asyncjobs.cli.output import News, Output
from asyncjobs.cli.settings import Settings
from asyncjobs.testing import FakeGitLab, demo_world


async def test_the_demo_shows_all_three_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Failed jobs in a table, all running logs to their end, every archive on disk, and a summary."""
    dest = tmp_path / "demo"
    prepare(dest)
    session = Session(Settings(), Output(), News())
    async with FakeGitLab() as gitlab:
        project = demo_world(gitlab)
        target = asyncjobs.GroupRef(project.full_path.partition("/")[0])
        async with asyncjobs.Client(gitlab.url, private_token=gitlab.token) as client:
            show = Show(session, client, target, gitlab.clock.time)
            show.opening(gitlab.url)
            await show.failed_jobs()
            await show.running_jobs()
            report = await show.archives(dest)
            again = await client.sync_artifacts([target], dest)
            show.closing(dest, report, again, seconds=1.0)
        failed = [job for job in gitlab.jobs.values() if job.status == "failed"]
        archives = [job for job in gitlab.jobs.values() if job.archive is not None]
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert sum(f"/-/jobs/{job.id} " in out for job in failed) == len(failed)
    assert "retried as" in out
    assert "Job succeeded" in out
    assert "canceled in" in out
    assert (len(report.downloaded), len(again.unchanged), again.bytes_received) == (len(archives),) * 2 + (0,)
    files = sorted(dest.rglob("*.zip"))
    assert len(files) == len(archives)
    assert all(zipfile.is_zipfile(path) for path in files)
    assert str(dest) in out
    session.out.close()
