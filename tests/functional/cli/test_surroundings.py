"""Old servers, TLS, a full disk: what surrounds the command in real life."""

from __future__ import annotations

import json
import os
import resource
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from asyncjobs.testing import FakeGitLab
from asyncjobs.testing._thread import serve_in_thread
from tests.functional.cli.conftest import LOG, PATIENCE, Command, fill

pytestmark = pytest.mark.real_time


@pytest.mark.parametrize("fake_gitlab", ["9.1", "18", "19.5"], indirect=True)
def test_every_generation_of_servers(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """Listing, the log, tail and sync work with the GitLab of 2017 and with today's."""
    done = asyncjobs_command("jobs", "shop/web", "--json", "--name", "build")
    (job,) = [json.loads(line) for line in done.lines]
    assert (done.code, job["status"]) == (0, "success")
    assert asyncjobs_command("trace", job["target"]).out == LOG
    tailed = asyncjobs_command("tail", job["target"], "--settle", "0", "-q")
    assert tailed.out.count("│".encode()) == 3
    assert asyncjobs_command("sync", job["target"], "out").code == 0
    (path,) = (asyncjobs_command.folder / "out").rglob("*.zip")
    assert path.read_bytes() == shop.jobs[job["id"]].archive_bytes


def test_a_private_authority(tmp_path: Path) -> None:
    """A certificate nobody vouches for is refused in one line that names the flag, and accepted with it."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with serve_in_thread(FakeGitLab(tls=context)) as gitlab:
        fill(gitlab)
        command = Command(gitlab, tmp_path)
        refused = command("jobs", "shop/web")
        assert refused.code == 1
        assert refused.err.count("\n") == 1
        assert "--ca-file" in refused.err
        assert command("jobs", "shop/web", "--ca-file", "ca.pem").code == 0
        command.end_all()


def test_a_full_disk(asyncjobs_command: Command, fake_gitlab: FakeGitLab) -> None:
    """When nothing more fits, the whole sync ends with 5 and one line that says what to do."""
    pipeline = fake_gitlab.add_project("shop/web").add_pipeline("main")
    for number in range(3):
        pipeline.add_job(f"build {number}", status="success").set_artifacts(
            {"big.bin": os.urandom(3_000_000)}
        )

    def only_small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    done = subprocess.run(
        [sys.executable, "-m", "asyncjobs", "sync", "shop/web", "out"],
        capture_output=True,
        cwd=asyncjobs_command.folder,
        env=asyncjobs_command.environment({}),
        preexec_fn=only_small_files,
        timeout=PATIENCE,
        check=False,
        text=True,
    )
    assert done.returncode == 5
    assert "free some space" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(asyncjobs_command.folder.rglob("*.zip")) == []


def test_an_anonymous_look_at_a_private_project(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """Without a token nothing private can be seen, and the line says which variable would help."""
    done = asyncjobs_command("jobs", "shop/web", GITLAB_TOKEN="")
    assert done.code == 3
    assert "GITLAB_TOKEN" in done.err


def test_several_answers_that_fail_on_the_way(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """A bad gateway and a broken connection are tried again; nothing of it is seen but the jobs."""
    shop.fail_next("502")
    shop.fail_next("reset_before")
    done = asyncjobs_command("jobs", "shop/web")
    assert (done.code, len(done.lines), done.err) == (0, 2, "")
