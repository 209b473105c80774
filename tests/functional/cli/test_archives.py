"""`download` and `sync`: files, pipes and folders."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import time
import zipfile
from pathlib import Path

import pytest

from asyncjobs.testing import FakeGitLab
from tests.functional.cli.conftest import PATIENCE, Command

pytestmark = pytest.mark.real_time


def built(gitlab: FakeGitLab, path: str = "shop/web") -> tuple[str, bytes]:
    """The target of the job that has an archive, and the archive's bytes."""
    job = next(
        each
        for each in gitlab.jobs.values()
        if each.name == "build" and each.pipeline.project.full_path == path
    )
    return f"{path}/-/jobs/{job.id}", job.archive_bytes


def test_download_to_a_file(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """The file is the server's archive; what is printed is what `sha256sum -c` reads."""
    target, data = built(shop)
    done = asyncjobs_command("download", target, "-o", "app.zip")
    assert done.code == 0
    assert (asyncjobs_command.folder / "app.zip").read_bytes() == data
    digest, name = done.lines[0].split("  ")
    assert digest == hashlib.sha256(data).hexdigest()
    assert Path(name).name == "app.zip"


def test_download_by_branch_and_name(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """--ref and --job find the archive without a job's number."""
    job = shop.add_project("shop/app").add_pipeline("main").add_job("build", status="success")
    job.set_artifacts({"app.txt": "good"})
    data = job.archive_bytes
    done = asyncjobs_command(
        "download", "shop/app", "--ref", "main", "--job", "build", "-o", "app.zip", "--json"
    )
    assert done.code == 0
    assert json.loads(done.out)["sha256"] == hashlib.sha256(data).hexdigest()
    assert (asyncjobs_command.folder / "app.zip").read_bytes() == data


def test_download_to_standard_output(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """A pipe gets the archive's bytes and nothing else, and no file stays behind."""
    target, data = built(shop)
    done = asyncjobs_command("download", target, "-o", "-")
    assert (done.code, done.out) == (0, data)
    assert list(asyncjobs_command.folder.iterdir()) == []


def test_download_one_member(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """One file out of the archive, and a list of all of them."""
    target, _ = built(shop)
    assert asyncjobs_command("download", target, "--member", "app.txt", "-o", "-").out == b"a" * 5000
    assert asyncjobs_command("download", target, "--list").lines == ["5000\tapp.txt"]


def test_a_download_that_is_not_there(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """A job without an archive is one line of error and leaves no file."""
    job = next(each for each in shop.jobs.values() if each.name == "test")
    done = asyncjobs_command("download", f"shop/web/-/jobs/{job.id}", "-o", "app.zip")
    assert done.code == 1
    assert done.err.startswith("asyncjobs: ")
    assert not (asyncjobs_command.folder / "app.zip").exists()


def test_an_archive_that_is_not_there_by_name(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """The job and the branch that were asked for are named, since the address names neither well."""
    done = asyncjobs_command("download", "shop/web", "--ref", "absent", "--job", "build", "-o", "x.zip")
    assert done.code == 1
    assert done.err.startswith("asyncjobs: shop/web, job 'build' on 'absent': 404 ")


def test_sync_and_sync_again(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """The first run brings the archives, the second finds them unchanged and receives nothing."""
    first = asyncjobs_command("sync", "shop/web", "shop/api", "out", "--name", "build")
    assert first.code == 0
    rows = [line.split("\t") for line in first.lines]
    assert [row[0] for row in rows] == ["downloaded", "downloaded"]
    for row in rows:
        path = asyncjobs_command.folder / row[2]
        assert zipfile.ZipFile(path).read("app.txt") == b"a" * 5000
        assert path.stat().st_size == int(row[3])
    assert "2 downloaded" in first.err
    second = asyncjobs_command("sync", "shop/web", "shop/api", "out", "--name", "build", "--json")
    assert second.code == 0
    events = [json.loads(line) for line in second.lines]
    assert events[-1] | {"event": "summary", "unchanged": 2, "bytes_received": 0, "ok": True} == events[-1]


def test_a_dry_run_tells_and_touches_nothing(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """The plan has totals; no archive is fetched."""
    done = asyncjobs_command("sync", "shop/web", "out", "--dry-run", "--name", "build")
    assert done.code == 0
    assert "would download 1 archive" in done.err
    assert not any(request.path.endswith("/artifacts") for request in shop.requests)
    assert list((asyncjobs_command.folder).rglob("*.zip")) == []


def test_a_sync_goes_on_after_a_bad_target(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """What can be had is had, what cannot is named, and the code is 1."""
    done = asyncjobs_command("sync", "shop/gone", "shop/web", "out", "--name", "build")
    assert done.code == 1
    assert "shop/gone: 404" in done.err
    assert len(list((asyncjobs_command.folder / "out").rglob("*.zip"))) == 1


def test_a_destination_that_is_a_file(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """A destination that cannot be is said before anything is asked of the server."""
    (asyncjobs_command.folder / "out").write_text("in the way")
    done = asyncjobs_command("sync", "shop/web", "out")
    assert done.code in {1, 2}
    assert "out" in done.err
    assert len(shop.requests) == 0


def test_a_destination_that_is_not_writable(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """A folder that cannot be made is said before anything is asked of the server, to root as well."""
    parent = asyncjobs_command.folder / "locked"
    parent.mkdir(mode=0o500)
    folder = "/proc/out" if os.geteuid() == 0 else str(parent / "out")
    done = asyncjobs_command("sync", "shop/web", folder)
    assert done.code == 1
    assert folder in done.err
    assert done.err.count("\n") == 1
    assert len(shop.requests) == 0


def test_a_lock_makes_the_same_files_elsewhere(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """What one folder's lock names is fetched into another, byte for byte."""
    first = asyncjobs_command("sync", "shop/web", "shop/api", "one", "--write-lock", "files.lock")
    assert first.code == 0
    second = asyncjobs_command("sync", "two", "--from-lock", "files.lock")
    assert second.code == 0
    folders = [asyncjobs_command.folder / name for name in ("one", "two")]
    files = [{path.name: path.read_bytes() for path in folder.rglob("*.zip")} for folder in folders]
    assert files[0] == files[1]
    assert len(files[0]) == 2
    assert asyncjobs_command("sync", "three").code == 2


def test_a_stopped_sync_says_how_to_go_on(asyncjobs_command: Command, fake_gitlab: FakeGitLab) -> None:
    """The first Ctrl-C keeps what is there and says how to go on; the next run completes it."""
    job = fake_gitlab.add_project("shop/web").add_pipeline("main").add_job("build", status="success")
    job.set_artifacts({"big.bin": os.urandom(3_000_000)})
    process = asyncjobs_command.start("sync", "shop/web", "out", "--json", "--bandwidth", "500k")
    assert process.stdout is not None
    while json.loads(process.stdout.readline())["event"] != "progress":
        pass
    process.send_signal(signal.SIGINT)
    done = asyncjobs_command.finish(process)
    assert done.code == 130
    assert "run the same command again" in done.err
    assert list((asyncjobs_command.folder / "out").rglob("*.zip")) == []
    again = asyncjobs_command("sync", "shop/web", "out")
    assert again.code == 0
    (path,) = (asyncjobs_command.folder / "out").rglob("*.zip")
    assert path.read_bytes() == job.archive_bytes


@pytest.mark.parametrize(
    ("more", "kept"), [((), True), (("-o", "-"), False), (("--member", "big.bin"), False)]
)
def test_a_stopped_download_promises_what_is_true(
    asyncjobs_command: Command, fake_gitlab: FakeGitLab, more: tuple[str, ...], kept: bool
) -> None:
    """Only a download of an archive to a file can be gone on with; nobody is told so of the others."""
    job = fake_gitlab.add_project("shop/web").add_pipeline("main").add_job("build", status="success")
    job.set_artifacts({"big.bin": os.urandom(2_000_000)})
    fault = fake_gitlab.fail_next("stall_midbody", where="*/artifacts*", times=9)
    process = asyncjobs_command.start("download", f"shop/web/-/jobs/{job.id}", *more)
    deadline = time.monotonic() + PATIENCE
    while not fault.seen:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    done = asyncjobs_command.finish(process)
    assert done.code == 130
    assert ("Partial files are kept" in done.err) is kept


def test_extracted_files(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """--extract unpacks each archive beside it."""
    assert asyncjobs_command("sync", "shop/web", "out", "--extract", "--name", "build").code == 0
    (file,) = (asyncjobs_command.folder / "out").rglob("app.txt")
    assert file.read_bytes() == b"a" * 5000


def test_an_archive_in_a_pipe_is_whole_or_absent(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """A download that breaks again and again puts not one byte into the pipe."""
    target, _ = built(shop)
    shop.fail_next("fin_midbody", times=50, where="*/artifacts")
    done = asyncjobs_command("--attempts", "1", "download", target, "-o", "-")
    assert done.out == b"" or zipfile.is_zipfile(io.BytesIO(done.out))
