"""Partial logs from before the machine was restarted: what the power took is not built upon."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from asyncjobs._api import Api
from asyncjobs._models import SyncReport
from asyncjobs._storage import Storage
from asyncjobs._tail import save_traces
from asyncjobs.testing import FakeGitLab
from tests.functional.tail.conftest import Connect

LOG = b"".join(b"line %06d\n" % number for number in range(200_000))


async def save(api: Api, dest: Path) -> SyncReport:
    """One run, with a disk of its own."""
    storage = Storage()
    try:
        return await save_traces(api, storage, "group/app", dest)
    finally:
        await storage.aclose()


def lose_power(dest: Path) -> int:
    """Make of the partial file what may be left of it: its length, and zeros where nothing was forced out."""
    (noted,) = dest.rglob("*.part.json")
    (partial,) = dest.rglob("*.part")
    record = json.loads(noted.read_bytes())
    host, _, *rest = record["writer"].split("|")
    noted.write_bytes(json.dumps({**record, "writer": "|".join([host, "another", *rest])}).encode())
    kept = partial.read_bytes()
    middle = len(kept) // 2
    partial.write_bytes(kept[:middle] + bytes(65_536) + kept[middle + 65_536 :])
    return len(kept)


@pytest.mark.parametrize("kind", ["window", "range", "whole"])
async def test_a_partial_log_from_before_a_restart_is_not_gone_on_with(
    connect: Connect, kind: str, tmp_path: Path
) -> None:
    """A hole in a partial log of another boot is not in the file, whatever part of a log the server shows."""
    async with FakeGitLab(trace=kind) as gitlab, connect(gitlab) as api:  # type: ignore[arg-type] # a plain str
        job = gitlab.add_project("group/app").add_pipeline("main").add_job("long", status="running")
        job.script_trace(LOG, every=30, pushes=10)
        run = asyncio.create_task(save(api, tmp_path))
        await asyncio.sleep(200)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert lose_power(tmp_path) > 1_000_000
        report = await save(api, tmp_path)
    (outcome,) = report.downloaded
    assert outcome.path is not None
    assert outcome.path.read_bytes() == job.trace
    assert report.ok
