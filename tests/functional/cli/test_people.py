"""What somebody at a terminal sees and is asked."""

from __future__ import annotations

import json
import os
import signal

import pytest

from asyncjobs.testing import FakeGitLab
from tests.functional.cli.conftest import PATIENCE, Command

pytestmark = pytest.mark.real_time


def target_of(gitlab: FakeGitLab, name: str) -> str:
    """The first job of that name in shop/web."""
    job = next(each for each in gitlab.jobs.values() if each.name == name)
    return f"shop/web/-/jobs/{job.id}"


def test_a_table_on_a_terminal(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """On a terminal jobs are a coloured table; NO_COLOR takes the colours away and nothing else."""
    coloured = asyncjobs_command("jobs", "shop/web", terminal=True, COLUMNS="100", TERM="xterm-256color")
    assert coloured.code == 0
    assert "\x1b[" in coloured.out.decode()
    assert target_of(shop, "test") in coloured.out.decode()
    plain = asyncjobs_command("jobs", "shop/web", terminal=True, COLUMNS="100", NO_COLOR="1")
    assert "\x1b[3" not in plain.out.decode()
    assert target_of(shop, "test") in plain.out.decode()


def test_a_long_table_says_that_it_is_cut(asyncjobs_command: Command, fake_gitlab: FakeGitLab) -> None:
    """A table ends after two hundred rows and says how to see the rest; a pipe gets them all."""
    pipeline = fake_gitlab.add_project("shop/web").add_pipeline("main")
    for number in range(205):
        pipeline.add_job(f"test {number}", status="success")
    table = asyncjobs_command("jobs", "shop/web", terminal=True, COLUMNS="100")
    assert table.out.decode().count("shop/web/-/jobs/") == 200
    assert "--limit 0" in table.err
    assert len(asyncjobs_command("jobs", "shop/web").lines) == 205
    assert len(asyncjobs_command("jobs", "shop/web", "--limit", "7").lines) == 7


def test_a_table_without_an_end_is_shown_in_parts(
    asyncjobs_command: Command, fake_gitlab: FakeGitLab
) -> None:
    """Whoever asks for everything sees it as it comes: after two hundred rows there is a table already."""
    pipeline = fake_gitlab.add_project("shop/web").add_pipeline("main")
    for number in range(450):
        pipeline.add_job(f"test {number}", status="success")
    done = asyncjobs_command("jobs", "shop/web", "--limit", "0", terminal=True, COLUMNS="100", NO_COLOR="1")
    lines = done.out.decode().splitlines()
    headings = [number for number, line in enumerate(lines) if "status" in line]
    assert [sum("/-/jobs/" in line for line in lines[at:]) for at in headings] == [450, 250, 50]
    assert (done.code, done.err) == (0, "")


def test_a_hostile_name_on_a_terminal(asyncjobs_command: Command, fake_gitlab: FakeGitLab) -> None:
    """A job's name cannot drive the terminal, whatever command shows it."""
    name = "x\x1b]0;owned\x07\x9b2Jy"
    pipeline = fake_gitlab.add_project("shop/web").add_pipeline("main")
    job = pipeline.add_job(name, status="failed", trace=b"line\n")
    target = f"shop/web/-/jobs/{job.id}"
    for arguments in (
        ("jobs", "shop/web"),
        ("jobs", "shop/web", "--json"),
        ("show", target),
        ("tail", target, "--settle", "0"),
        ("wait", target),
        ("retry", target),
    ):
        done = asyncjobs_command(*arguments, terminal=True, NO_COLOR="1", COLUMNS="100")
        for text in (done.out.decode(), done.err):
            assert "\x1b]" not in text, arguments
            assert "\x9b" not in text, arguments


def test_a_tail_on_a_terminal(asyncjobs_command: Command, fake_gitlab: FakeGitLab) -> None:
    """Each job has its colour, and a log's own colours end with their line."""
    pipeline = fake_gitlab.add_project("shop/web").add_pipeline("main")
    job = pipeline.add_job("test", status="success", trace=b"first\n\x1b[32;1mgreen for ever\nthird\n")
    target = f"shop/web/-/jobs/{job.id}"
    done = asyncjobs_command("tail", target, "--settle", "0", terminal=True, TERM="xterm")
    lines = done.out.decode().splitlines()
    assert all(line.startswith("\x1b[") for line in lines)
    assert lines[1].endswith("\x1b[32;1mgreen for ever\x1b[0m")
    assert lines[2].endswith(" third")


@pytest.mark.parametrize(
    ("answer", "code", "status"), [("y\n", 0, "canceled"), ("n\n", 1, "pending"), ("\n", 1, "pending")]
)
def test_many_jobs_are_changed_after_a_yes(
    asyncjobs_command: Command, fake_gitlab: FakeGitLab, answer: str, code: int, status: str
) -> None:
    """What stands for many jobs is asked about once; anything but a yes changes nothing."""
    pipeline = fake_gitlab.add_project("shop/web").add_pipeline("main")
    jobs = [pipeline.add_job(f"test {number}", status="pending") for number in range(3)]
    done = asyncjobs_command("cancel", "shop/web", stdin=answer, terminal=True)
    assert done.code == code
    assert "cancel 3 jobs" in done.err
    assert [job.status for job in jobs] == [status] * 3


def test_an_answer_that_is_none_is_asked_for_again(
    asyncjobs_command: Command, fake_gitlab: FakeGitLab
) -> None:
    """Neither yes nor no is taken for one; the end of the input is a no."""
    fake_gitlab.add_project("shop/web").add_pipeline("main").add_job("test", status="pending")
    done = asyncjobs_command("cancel", "shop/web", stdin="perhaps\n", terminal=True)
    assert done.code == 1
    assert done.err.count("cancel 1 job") == 2
    assert "nothing was done" in done.err


def test_a_key_pressed_at_the_question(asyncjobs_command: Command, fake_gitlab: FakeGitLab) -> None:
    """Ctrl-C instead of an answer ends at once, and says that nothing happened, for nothing did."""
    pty = pytest.importorskip("pty")
    job = fake_gitlab.add_project("shop/web").add_pipeline("main").add_job("test", status="pending")
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb"), os.fdopen(theirs, "rb") as terminal:
        process = asyncjobs_command.start("cancel", "shop/web", stdin=terminal)
        assert process.stderr is not None
        asked = b""
        while not asked.endswith(b"[y/N]: "):
            asked += process.stderr.read(1)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=PATIENCE) == 130
        assert process.stderr.read() == b"\nasyncjobs: stopped by SIGINT. Nothing was changed.\n"
    assert job.status == "pending"


def test_a_stopped_change_says_that_some_may_have_happened(
    asyncjobs_command: Command, fake_gitlab: FakeGitLab
) -> None:
    """Once calls are on their way, Ctrl-C says that what was sent has happened."""
    job = fake_gitlab.add_project("shop/web").add_pipeline("main").add_job("test", status="pending")
    fake_gitlab.fail_next("stall_headers")
    process = asyncjobs_command.start("cancel", f"shop/web/-/jobs/{job.id}")
    while not fake_gitlab.requests:
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    done = asyncjobs_command.finish(process)
    assert done.code == 130
    assert "What was sent before has happened" in done.err


def test_only_archives_that_are_there_are_kept(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """Of a project, jobs without an archive are counted and left alone; a job that is named is asked."""
    done = asyncjobs_command("keep", "shop/web", "--yes")
    assert (done.code, done.err) == (0, "1 job without an archive passed over\n")
    assert [line.split("\t")[2] for line in done.lines] == ["build"]
    done = asyncjobs_command("keep", "shop/web", "--failed", "--yes")
    assert done.code == 4
    done = asyncjobs_command("keep", target_of(shop, "test"), "--name", "t*", "--yes")
    assert (done.code, done.out) == (1, b"")
    done = asyncjobs_command("keep", target_of(shop, "test"), "shop/web", "--yes")
    assert done.code == 1
    assert f"{target_of(shop, 'test')}: 404" in done.err
    assert [line.split("\t")[2] for line in done.lines] == ["build"]


def test_what_an_action_cannot_do_is_said(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """A job that is over cannot be canceled, one without archive not kept, one that ran not played."""
    test = target_of(shop, "test")
    done = asyncjobs_command("cancel", test)
    assert (done.code, len(done.lines)) == (0, 1)
    assert done.err == f"asyncjobs: {test}: it was over already (failed), nothing was canceled\n"
    done = asyncjobs_command("keep", test)
    assert done.code == 1
    assert done.err.endswith("; it may have no artifacts: see `asyncjobs show`\n")
    done = asyncjobs_command("play", target_of(shop, "build"))
    assert done.code == 1
    assert done.err.endswith("; only manual and delayed jobs can be played: see `asyncjobs show`\n")


def test_results_on_a_terminal_are_words(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """Where a pipe gets fields, a person gets a line to read."""
    build = target_of(shop, "build")
    done = asyncjobs_command("keep", build, terminal=True, NO_COLOR="1", TERM="dumb")
    assert done.lines == [f"success   {build}  build"]
    done = asyncjobs_command("wait", build, terminal=True, NO_COLOR="1", TERM="dumb")
    assert done.lines == [f"success   {build}  1m00s"]


def test_an_empty_log_is_explained(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """Where there is no log to print, one line beside the data says why."""
    test = target_of(shop, "test")
    assert asyncjobs_command("erase", test, "--yes").code == 0
    done = asyncjobs_command("trace", test)
    assert (done.code, done.out, done.err) == (0, b"", f"{test}: the log is empty; it was erased\n")
    waiting = next(iter(shop.jobs.values())).pipeline.add_job("deploy", status="manual")
    target = f"shop/web/-/jobs/{waiting.id}"
    assert asyncjobs_command("trace", target).err == f"{target}: the log is empty; the job is manual\n"


def test_a_tail_of_a_project_where_nothing_runs(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """Of a project only what is alive is followed, and the line that says there is nothing says so."""
    done = asyncjobs_command("tail", "shop/web")
    assert (done.code, done.err) == (4, "asyncjobs: no running or waiting job matched\n")


def test_some_jobs_cannot_be_changed(asyncjobs_command: Command, fake_gitlab: FakeGitLab) -> None:
    """What can be done is done, what cannot is named, and the code is 1."""
    pipeline = fake_gitlab.add_project("shop/web").add_pipeline("main")
    good, bad = pipeline.add_job("a", status="failed"), pipeline.add_job("b", status="manual")
    done = asyncjobs_command("retry", f"shop/web/-/jobs/{good.id}", f"shop/web/-/jobs/{bad.id}", "--json")
    assert done.code == 1
    assert [json.loads(line)["name"] for line in done.lines] == ["a"]
    assert f"shop/web/-/jobs/{bad.id}: 403" in done.err


def test_a_manual_job_is_played_with_variables(asyncjobs_command: Command, fake_gitlab: FakeGitLab) -> None:
    """--var reaches the server; what is no KEY=VALUE is refused."""
    job = fake_gitlab.add_project("shop/web").add_pipeline("main").add_job("deploy", status="manual")
    target = f"shop/web/-/jobs/{job.id}"
    assert asyncjobs_command("play", target, "--var", "novalue").code == 2
    assert asyncjobs_command("play", target, "--var", "PLACE=staging").code == 0
    (request,) = [each for each in fake_gitlab.requests if each.path.endswith("/play")]
    assert b"staging" in request.body


def test_a_manual_job_is_not_waited_for(asyncjobs_command: Command, fake_gitlab: FakeGitLab) -> None:
    """What waits for a person is reported and counts as not succeeded."""
    job = fake_gitlab.add_project("shop/web").add_pipeline("main").add_job("deploy", status="manual")
    done = asyncjobs_command("wait", f"shop/web/-/jobs/{job.id}")
    assert (done.code, done.lines[0].split("\t")[0]) == (1, "manual")


def test_waiting_survives_a_server_that_is_away(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """A look that fails is taken again; only a server that stays away ends the wait."""
    target = target_of(shop, "build")
    for _ in range(3):
        shop.fail_next("503")
    assert asyncjobs_command("wait", target, "--interval", "0.02", "--attempts", "1").code == 0
    for _ in range(5):
        shop.fail_next("503")
    done = asyncjobs_command("wait", target, "--interval", "0.02", "--attempts", "1", "--json")
    assert done.code == 1
    assert json.loads(done.lines[0])["status"] == 503


def test_traces_of_several_jobs(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """Each log has its job said before it, beside the data; a job that is not there is one line."""
    done = asyncjobs_command("trace", "shop/web", "shop/web/-/jobs/99")
    assert done.code == 1
    assert done.out.count(b"no newline at the end") == 2
    assert done.err.count("==> ") == 2
    assert "shop/web/-/jobs/99: 404" in done.err


def test_an_archive_is_nothing_for_a_terminal(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """`-o -` on a terminal is refused before anything is fetched."""
    done = asyncjobs_command("download", target_of(shop, "build"), "-o", "-", terminal=True)
    assert (done.code, done.out) == (2, b"")
    assert len(shop.requests) == 0
