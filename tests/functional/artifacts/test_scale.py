"""Many small archives: what each of them costs in requests, hops into threads and questions to the disk.

Counts, because times are those of a machine; `python -m benchmarks scale` measures those.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import pytest

from asyncjobs._api import Api
from asyncjobs._artifacts import sync_artifacts
from asyncjobs._options import SyncOptions
from asyncjobs._storage import Hops, Storage
from asyncjobs._storage.files import DiskFolder
from asyncjobs.testing import FakeGitLab
from tests.functional.artifacts.disk import content
from tests.functional.artifacts.test_sync import add

T = TypeVar("T")
P = ParamSpec("P")

PIPELINES, JOBS = 4, 25
FILES = PIPELINES * JOBS


def archives(folder: Path) -> list[Path]:
    """All that is here."""
    return sorted(folder.rglob("*.zip"))


def harm(path: Path, fault: str) -> None:
    """Delete a file, cut it, or change it and with it the time of its last change."""
    raw = path.read_bytes()
    path.unlink()
    if fault != "deleted":
        path.write_bytes(raw[:-1] if fault == "cut" else raw[:-1] + bytes([raw[-1] ^ 1]))


@pytest.fixture
def hops(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often which function is called in a thread."""
    counted: Counter[str] = Counter()
    real = Hops.call

    async def call(self: Hops, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        counted[function.__qualname__] += 1
        return await real(self, function, *args, **kwargs)

    monkeypatch.setattr(Hops, "call", call)
    return counted


@pytest.fixture
def many(gitlab: FakeGitLab) -> FakeGitLab:
    """Pipelines of small archives."""
    project = gitlab.add_project("group/app")
    for _ in range(PIPELINES):
        pipeline = project.add_pipeline("main")
        for number in range(JOBS):
            add(pipeline, f"build {number}", {"out.bin": os.urandom(10_000)})
    return gitlab


async def test_a_new_small_archive_costs_one_request_and_few_hops(
    many: FakeGitLab, api: Api, storage: Storage, tmp_path: Path, hops: Counter[str]
) -> None:
    """One request for each archive beside the lists, at most eight hops, one question of space for many."""
    report = await sync_artifacts(api, storage, ["group/app"], tmp_path)
    assert len(report.downloaded) == FILES
    assert many.requests.count("*/artifacts") == FILES
    assert len(many.requests) <= FILES + 3
    assert sum(hops.values()) <= 8 * FILES, hops
    assert hops["DiskFolder.free_bytes.<locals>.work"] <= 10


async def test_an_archive_that_is_here_costs_no_request_and_no_open_folder(
    many: FakeGitLab, api: Api, storage: Storage, tmp_path: Path, hops: Counter[str]
) -> None:
    """With nothing new only the lists are asked for, and the disk what has each name: two hops for a file."""
    await sync_artifacts(api, storage, ["group/app"], tmp_path)
    many.requests.clear()
    hops.clear()
    report = await sync_artifacts(api, storage, ["group/app"], tmp_path)
    assert len(report.unchanged) == FILES
    assert many.requests.count("*/artifacts") == 0
    assert len(many.requests) <= 3
    opening = 10 * PIPELINES + 10  # each folder is looked through once for what a crash left
    assert sum(hops.values()) <= 2 * FILES + opening, hops


@pytest.mark.parametrize("fault", ["deleted", "cut", "another time"])
async def test_a_file_that_is_not_as_recorded_is_not_taken_for_kept(
    many: FakeGitLab, api: Api, storage: Storage, tmp_path: Path, fault: str
) -> None:
    """The short way for what is unchanged is left at the first doubt: the damage is repaired, and no more."""
    await sync_artifacts(api, storage, ["group/app"], tmp_path)
    path = archives(tmp_path)[FILES // 2]
    raw = content(path)
    harm(path, fault)
    report = await sync_artifacts(api, storage, ["group/app"], tmp_path)
    assert len(report.unchanged) == FILES - 1
    assert [each.path for each in report.downloaded] == [path]
    assert content(path) == raw


async def test_what_a_crash_left_beside_unchanged_files_is_cleared_away(
    many: FakeGitLab, api: Api, storage: Storage, tmp_path: Path
) -> None:
    """A folder with nothing to do in it is looked through all the same."""
    await sync_artifacts(api, storage, ["group/app"], tmp_path)
    left = archives(tmp_path)[0].parent / ".1-build.zip.0123456789ab.part"
    left.write_bytes(b"half")
    report = await sync_artifacts(api, storage, ["group/app"], tmp_path)
    assert len(report.unchanged) == FILES
    assert not left.exists()


async def test_little_room_is_measured_for_each_file(
    many: FakeGitLab, api: Api, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The word of a disk is kept for a moment while there is plenty of room; near the end it is asked."""
    asked = 0

    async def almost_full(_: DiskFolder) -> int:
        nonlocal asked
        asked += 1
        return 32 * 1024 * 1024 + 15_000

    monkeypatch.setattr(DiskFolder, "free_bytes", almost_full)
    options = SyncOptions(concurrency=1)
    report = await sync_artifacts(api, storage, ["group/app"], tmp_path, options=options)
    assert len(report.downloaded) == FILES
    assert asked == FILES
