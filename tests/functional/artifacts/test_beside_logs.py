"""Archives and logs in one folder: neither treats the other's files as its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from asyncjobs import SyncOptions
from asyncjobs.testing import FakeGitLab
from tests.support.clients import open_client


def names(folder: Path, suffix: str) -> list[str]:
    """The files of one kind, wherever they lie below *folder*."""
    return [path.name for path in folder.rglob(f"*{suffix}")]


@pytest.mark.parametrize("generation", ["9.1", "18", "19.5"])
async def test_pruning_archives_leaves_logs(generation: Any, tmp_path: Path) -> None:
    """A log stays when archives are pruned, whether its job ever had an archive, lost it, or is gone."""
    async with FakeGitLab(generation) as gitlab:
        pipeline = gitlab.add_project("group/app").add_pipeline()
        for name in ("plain", "archived", "erased later"):
            job = pipeline.add_job(name)
            job.append_trace(f"log of {name}\n".encode())
            if name != "plain":
                job.set_artifacts({"a.txt": name})
            job.finish("success")
        async with open_client(gitlab.url, private_token=gitlab.token) as client:
            saved = await client.save_traces(["group/app"], tmp_path)
            assert (saved.ok, len(saved.downloaded)) == (True, 3)
            await client.sync_artifacts(["group/app"], tmp_path)
            job.delete_artifacts()
            report = await client.sync_artifacts(["group/app"], tmp_path, options=SyncOptions(prune=True))
            assert report.ok
            assert [path.suffix for path in report.removed] == [".zip"]
            assert len(names(tmp_path, ".log")) == 3
            # And they are still known, so they are not fetched again.
            assert not (await client.save_traces(["group/app"], tmp_path)).failed


async def test_a_lock_has_archives_only(tmp_path: Path) -> None:
    """What a lock file lists can be fetched again from it, which no log can."""
    async with FakeGitLab() as gitlab:
        job = gitlab.add_project("group/app").add_pipeline().add_job("build")
        job.append_trace(b"log\n")
        job.set_artifacts({"a.txt": "a"})
        job.finish("success")
        async with open_client(gitlab.url, private_token=gitlab.token) as client:
            await client.save_traces(["group/app"], tmp_path / "here")
            await client.sync_artifacts(["group/app"], tmp_path / "here")
            lock = await client.write_lock(tmp_path / "here")
            report = await client.sync_locked(lock, tmp_path / "there")
    assert report.ok
    assert len(names(tmp_path / "there", ".zip")) == 1
    assert names(tmp_path / "there", ".log") == []
