"""Partial files of writers that nobody can ask about: the lock of a synced folder decides."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from asyncjobs._api import Api
from asyncjobs._artifacts import download_artifacts, sync_artifacts
from asyncjobs._options import SyncOptions
from asyncjobs._storage import Storage, roots
from asyncjobs._storage.owners import whoami
from asyncjobs._storage.parts import PartRecord
from asyncjobs.testing import FakeGitLab, FakeJob
from tests.functional.artifacts.disk import content, listing, tree

DATA, ALONE, RECORD = ".a.zip.0123456789ab.part", ".a.zip.ba9876543210.alone.part", ".a.zip.part.json"
OPTIONS = SyncOptions(path_template="a.zip")


def a_job(gitlab: FakeGitLab) -> FakeJob:
    """One archive of 300 kB."""
    job = gitlab.add_project("group/app").add_pipeline("main").add_job("build")
    job.start()
    job.set_artifacts({"out.bin": os.urandom(300_000)})
    job.finish("success")
    return job


def stranger(kind: str) -> str:
    """A writer about whom this process can learn nothing."""
    host, boot, namespace, pid, started = whoami().split("|")
    return {
        "an earlier boot": f"{host}|5a0cf0a7-0000-4000-8000-000000000000|{namespace}|{pid}|{started}",
        "another machine": f"elsewhere|{boot}|{namespace}|{pid}|{started}",
        "another container": f"{host}|{boot}|pid:[1]|{pid}|{started}",
        "no one that can be read": "garbage",
    }[kind]


def running() -> str:
    """A living process of this machine that is not this one."""
    machine, _, _ = whoami().rsplit("|", 2)
    parent = os.getppid()
    started = content(Path(f"/proc/{parent}/stat")).decode().rpartition(")")[2].split()[19]
    return f"{machine}|{parent}|{started}"


def leave(folder: Path, owner: str, job: FakeJob) -> None:
    """What *owner* left of an archive: most of its bytes, a record, and a file beside somebody else's."""
    (folder / DATA).write_bytes(job.archive_bytes[:200_000])
    (folder / ALONE).write_bytes(b"x")
    record = PartRecord(
        key="anything", data=DATA, owner=owner, writer=owner, validator='"x"', total=len(job.archive_bytes)
    )
    (folder / RECORD).write_bytes(msgspec.json.encode(record))


@pytest.mark.parametrize(
    "kind", ["an earlier boot", "another machine", "another container", "no one that can be read"]
)
@pytest.mark.parametrize("state", ["to fetch", "here already"])
async def test_under_the_lock_of_a_root_a_stranger_is_nobody(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path, kind: str, state: str
) -> None:
    """One sync clears away what a power failure left of an earlier process, and has the whole file."""
    job = a_job(gitlab)
    if state == "here already":
        await sync_artifacts(api, storage, ["group/app"], tmp_path, options=OPTIONS)
    leave(tmp_path, stranger(kind), job)
    report = await sync_artifacts(api, storage, ["group/app"], tmp_path, options=OPTIONS)
    assert report.ok
    assert tree(tmp_path) == {"a.zip": job.archive_bytes}


async def test_a_living_process_keeps_its_file_in_a_root(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path
) -> None:
    """A download by a process that certainly runs takes no lock, and loses nothing to a sync."""
    job = a_job(gitlab)
    leave(tmp_path, running(), job)
    before = tree(tmp_path)
    assert (await sync_artifacts(api, storage, ["group/app"], tmp_path, options=OPTIONS)).ok
    assert tree(tmp_path) == before | {"a.zip": job.archive_bytes}


async def test_without_a_lock_a_stranger_may_be_writing(
    gitlab: FakeGitLab, api: Api, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a single download nor a root on a disk without locks touches what a stranger wrote."""
    job = a_job(gitlab)
    leave(tmp_path, stranger("another machine"), job)
    before = tree(tmp_path)
    await download_artifacts(api, storage, "group/app", job.id, tmp_path / "a.zip")
    assert tree(tmp_path) == before | {"a.zip": job.archive_bytes}
    monkeypatch.setattr(roots, "_take_lock", lambda *_: None)
    (tmp_path / "a.zip").unlink()
    assert (await sync_artifacts(api, storage, ["group/app"], tmp_path, options=OPTIONS)).ok
    assert set(listing(tmp_path)) == {"a.zip", ".asyncjobs", *before}
