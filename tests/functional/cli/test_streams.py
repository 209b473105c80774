"""Signals, pipes, and what goes to which stream."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from rich.table import Table

from asyncjobs.cli.output import Output, console_for
from asyncjobs.testing import FakeGitLab
from tests.functional.cli.conftest import LOG, PATIENCE, ROOT, Command

FULL = Path("/dev/full")

pytestmark = pytest.mark.real_time


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_in_order(asyncjobs_command: Command, number: signal.Signals, code: int) -> None:
    """The first signal ends the work with the code shells expect, and says so in one line."""
    process = asyncjobs_command.start("fake-server")
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"export GITLAB_URL=")
    process.send_signal(number)
    done = asyncjobs_command.finish(process)
    assert done.code == code
    assert done.err.splitlines()[-1] == f"asyncjobs: stopped by {number.name}."
    assert "Traceback" not in done.err


STUBBORN = """
import asyncio
from asyncjobs.cli import runner
from asyncjobs.cli.output import News

async def work():
    while True:
        print("at work", flush=True)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass

runner.GRACE_SECONDS = {grace}
runner.Runner(News()).run(work())
"""
"""Work that no signal ends in order."""


def test_a_second_signal_ends_at_once(asyncjobs_command: Command) -> None:
    """The first signal asks work to end; the second ends the process, whatever the work is doing."""
    process = asyncjobs_command.python("-c", STUBBORN.format(grace=3600))
    assert process.stdout is not None
    for _ in range(2):
        assert process.stdout.readline() == b"at work\n"
        process.send_signal(signal.SIGINT)
    assert process.wait(timeout=PATIENCE) == 130
    assert process.stdout.read() == b""


def test_work_that_does_not_end_is_left_after_a_while(asyncjobs_command: Command) -> None:
    """Without a second signal the process ends by itself when the time for tidying up is over."""
    process = asyncjobs_command.python("-c", STUBBORN.format(grace=0.01))
    assert process.stdout is not None
    assert process.stdout.readline() == b"at work\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=PATIENCE) == 143


def test_a_signal_while_the_reader_is_stuck(asyncjobs_command: Command, fake_gitlab: FakeGitLab) -> None:
    """A reader of standard output that takes nothing does not keep a command that was asked to end."""
    job = fake_gitlab.add_project("shop/web").add_pipeline("main").add_job("test", status="success")
    job.append_trace(b"x" * 4_000_000)
    process = asyncjobs_command.start("trace", f"shop/web/-/jobs/{job.id}")
    assert process.stdout is not None
    assert process.stdout.read(1) == b"x"  # from here on nobody reads, so the pipe is full
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130


def test_a_reader_that_leaves(asyncjobs_command: Command, fake_gitlab: FakeGitLab) -> None:
    """A closed pipe ends the command quietly."""
    pipeline = fake_gitlab.add_project("shop/web").add_pipeline("main")
    for number in range(300):
        pipeline.add_job(f"test {number} {'x' * 200}", status="success")
    for arguments in (("jobs", "shop/web", "--json"), ("show", "shop/web")):
        process = asyncjobs_command.start(*arguments)
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=60) == 141
        assert process.stderr is not None
        assert process.stderr.read() == b""


@pytest.mark.parametrize("more", [b"", b"two\n"])
@pytest.mark.parametrize("verb", ["tail", "trace --follow"])
def test_a_reader_that_leaves_in_the_middle_of_a_log(
    asyncjobs_command: Command, fake_gitlab: FakeGitLab, verb: str, more: bytes
) -> None:
    """`asyncjobs tail ... | head -1` ends when head does, also when the job has no more to say."""
    job = fake_gitlab.add_project("shop/web").add_pipeline("main").add_job("test")
    job.start()
    job.append_trace(b"one\n")
    process = asyncjobs_command.start(*verb.split(), f"shop/web/-/jobs/{job.id}", "-q")
    assert process.stdout is not None
    assert process.stdout.readline().endswith(b"one\n")
    process.stdout.close()
    job.append_trace(more)
    assert process.wait(timeout=PATIENCE) == 141
    assert process.stderr is not None
    assert process.stderr.read() == b""
    assert job.status == "running"


async def test_a_long_page_lets_others_run(capfd: pytest.CaptureFixture[str]) -> None:
    """A table of thousands of rows does not hold up the loop, and so no signal either."""
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    table = Table("number")
    for number in range(3000):
        table.add_row(str(number))
    beside = asyncio.create_task(others())
    await Output().show(table)
    beside.cancel()
    shown = capfd.readouterr().out
    console_for(sys.stdout, no_color=False).print(table)
    assert shown == capfd.readouterr().out
    assert turns > 10


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
def test_a_full_standard_output(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """Data that cannot be written is an error with the code of a full disk, and the place is named."""
    for arguments, unbuffered in ((("jobs", "shop/web", "--json"), ""), (("show", "shop/web"), "1")):
        with FULL.open("wb") as full:
            # Unbuffered, even an empty text reaches the device.
            process = asyncjobs_command.start(*arguments, stdout=full, PYTHONUNBUFFERED=unbuffered)
        done = asyncjobs_command.finish(process)
        assert (done.code, done.err) == (5, "asyncjobs: standard output: No space left on device\n")


def test_a_lock_that_may_not_be_written_is_said_first(
    asyncjobs_command: Command, shop: FakeGitLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for a long sync to be told that its lock has no place."""
    monkeypatch.setattr(os, "access", lambda *_: False)  # whoever runs this may be root
    done = asyncjobs_command("sync", "shop/web", "out", "--write-lock", "artifacts.lock")
    assert done.code == 2
    assert "'artifacts.lock' may not be written" in done.err
    assert len(shop.requests) == 0


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
def test_a_lock_that_cannot_be_written(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """The archives are there, and the line says which file is not."""
    done = asyncjobs_command("sync", "shop/web", "out", "--write-lock", str(FULL))
    assert done.code == 5
    assert done.err.splitlines()[-1] == "asyncjobs: /dev/full: No space left on device"


def test_closed_streams(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """Data that nobody can get are an error, news that nobody wants are not; neither is a traceback."""
    build = next(iter(shop.jobs.values()))
    lost = "asyncjobs: standard output: Bad file descriptor\n"
    for arguments, closing, code, said in (
        ("jobs shop/web", "2>&-", 0, ""),
        ("jobs shop/web", ">&- 2>&-", 1, ""),
        ("jobs shop/web", "<&- >&-", 1, lost),
        ("jobs shop/web --json", ">&-", 1, lost),
        (f"show shop/web/-/jobs/{build.id}", ">&-", 1, lost),
        (f"trace shop/web/-/jobs/{build.id}", ">&-", 1, lost),
        (f"download shop/web/-/jobs/{build.id} -o -", ">&-", 1, lost),
        (f"tail -q shop/web/-/jobs/{build.id} --settle 0", ">&-", 1, lost),
        ("--version", ">&-", 1, "asyncjobs: Bad file descriptor\n"),
    ):
        done = subprocess.run(
            ["sh", "-c", f"'{sys.executable}' -m asyncjobs {arguments} {closing}"],
            capture_output=True,
            cwd=asyncjobs_command.folder,
            env=asyncjobs_command.environment({}),
            timeout=60,
            check=False,
            text=True,
        )
        assert (done.returncode, done.stderr) == (code, said), arguments


def test_a_port_that_is_taken(asyncjobs_command: Command, fake_gitlab: FakeGitLab) -> None:
    """The fake server says in one line that it cannot listen there."""
    port = fake_gitlab.url.rpartition(":")[2]
    done = asyncjobs_command("fake-server", "--port", port)
    assert done.code == 2
    assert "--port" in done.err


def test_a_trace_is_exact_in_a_pipe(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """Every byte of a log reaches a pipe, and nothing else does."""
    job = next(iter(shop.jobs.values()))
    for run in (asyncjobs_command, asyncjobs_command.process):
        done = run("trace", f"shop/web/-/jobs/{job.id}")
        assert (done.code, done.out, done.err) == (0, LOG, "")


def test_a_big_trace_is_exact_in_a_file(asyncjobs_command: Command, fake_gitlab: FakeGitLab) -> None:
    """A log of several megabytes streams to a file byte for byte."""
    data = os.urandom(5_000_000)
    job = (
        fake_gitlab.add_project("shop/web").add_pipeline("main").add_job("test", status="success", trace=data)
    )
    path = asyncjobs_command.folder / "job.log"
    with path.open("wb") as file:
        done = asyncjobs_command.finish(
            asyncjobs_command.start("trace", f"shop/web/-/jobs/{job.id}", stdout=file)
        )
    assert done.code == 0
    assert path.read_bytes() == data


def test_a_running_trace_is_printed_as_far_as_it_is(
    asyncjobs_command: Command, fake_gitlab: FakeGitLab
) -> None:
    """Without --follow a running job's log is what is there now."""
    job = fake_gitlab.add_project("shop/web").add_pipeline("main").add_job("test")
    job.start()
    job.append_trace(b"so far\n")
    done = asyncjobs_command("trace", f"shop/web/-/jobs/{job.id}")
    assert (done.code, done.out) == (0, b"so far\n")


def test_a_terminal_gets_no_escape_but_colours(asyncjobs_command: Command, fake_gitlab: FakeGitLab) -> None:
    """On a terminal the clipboard, the title and the cursor are out of a log's reach; --raw lifts that."""
    pty = pytest.importorskip("pty")
    log = b"section_start:1:script\r\x1b[0K\x1b[31mred\x1b[0m\x1b]52;c;ZXZpbA==\x07\x1b[2Jend\n"
    job = (
        fake_gitlab.add_project("shop/web").add_pipeline("main").add_job("test", status="success", trace=log)
    )
    for more, there in (((), False), (("--raw",), True)):
        ours, theirs = pty.openpty()
        with os.fdopen(theirs, "wb") as terminal:
            process = asyncjobs_command.start("trace", f"shop/web/-/jobs/{job.id}", *more, stdout=terminal)
        seen = b""
        try:
            while piece := os.read(ours, 65536):
                seen += piece
        except OSError:
            pass  # how Linux says that the other end of a terminal was closed
        os.close(ours)
        assert asyncjobs_command.finish(process).code == 0
        assert b"\x1b[31mred" in seen
        assert (b"]52" in seen) is there
        assert (b"section_start" in seen) is there
        assert (b"\x1b[2J" in seen) is there


def test_a_tail_of_several_jobs(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """Lines of all jobs come with their job in front; coming and going is said on standard error."""
    jobs = [f"{job.pipeline.project.full_path}/-/jobs/{job.id}" for job in shop.jobs.values()]
    done = asyncjobs_command("tail", *jobs, "--settle", "0")
    assert done.code == 0
    assert sum(line.endswith("│ first") for line in done.out.decode().split("\n")) == 4
    assert {line.split()[0] for line in done.err.splitlines()} == {"+", "-"}
    assert len(done.err.splitlines()) == 8


def test_a_tail_as_json(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """Each event is a line: started, the lines, finished with a cursor."""
    job = next(iter(shop.jobs.values()))
    done = asyncjobs_command("tail", f"shop/web/-/jobs/{job.id}", "--json", "--exit-status", "--settle", "0")
    events = [json.loads(line) for line in done.lines]
    assert [event["event"] for event in events] == ["started", "line", "line", "line", "finished"]
    assert events[1]["text"] == "first"
    assert events[-1]["cursor"].startswith("asyncjobs-trace:")
    assert (done.code, done.err) == (0, "")


def test_a_tail_shows_what_it_is_asked_for(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """--include and --exclude choose lines; --exit-status tells of a job that failed."""
    failed = next(job for job in shop.jobs.values() if job.status == "failed")
    target = f"shop/web/-/jobs/{failed.id}"
    done = asyncjobs_command(
        "tail",
        target,
        "--include",
        "first|second",
        "--exclude",
        "^fir",
        "--exit-status",
        "-q",
        "--interval",
        "0.1",
    )
    assert done.code == 1
    assert len(done.lines) == 1
    assert "second" in done.lines[0]
    assert done.err == ""


def test_a_tail_that_does_not_follow(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """--no-follow shows what there is now; a job that goes on is paused, which is no success."""
    pipeline = next(iter(shop.jobs.values())).pipeline
    job = pipeline.add_job("deploy", status="running", trace=b"one\ntwo\n")
    arguments = ("tail", f"shop/web/-/jobs/{job.id}", "--no-follow")
    done = asyncjobs_command(*arguments)
    assert (done.code, [line.split("│ ")[1] for line in done.lines]) == (0, ["one", "two"])
    assert done.err.splitlines()[-1].endswith("deploy running, shown as far as it is now")
    done = asyncjobs_command(*arguments, "--json", "--exit-status")
    assert done.code == 1
    assert [json.loads(line)["event"] for line in done.lines] == ["started", "line", "line", "paused"]


def test_logs_are_saved_to_files(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """--save writes each log to a file of its own, byte for byte, and the next run finds them there."""
    arguments = ("tail", "shop/web", "--save", "logs", "--settle", "0")
    first = asyncjobs_command(*arguments)
    assert first.code == 0
    files = sorted((asyncjobs_command.folder / "logs").rglob("*.log"))
    assert [path.read_bytes() for path in files] == [LOG, LOG]
    assert [line.split("\t")[0] for line in first.lines] == ["downloaded", "downloaded"]
    assert [line.split("\t")[0] for line in asyncjobs_command(*arguments).lines] == ["unchanged", "unchanged"]
    assert asyncjobs_command(*arguments, "--tail", "5").code == 2


def test_the_command_without_its_extra() -> None:
    """Without click and rich, one line says what to install."""
    program = (
        "import sys\n"
        "import importlib.util as u\n"
        "found = u.find_spec\n"
        "u.find_spec = lambda name, *more: None if name in ('click', 'rich') else found(name, *more)\n"
        "import asyncjobs.__main__ as m\n"
        "m.find_spec = u.find_spec\n"
        "m.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, cwd=ROOT, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "pip install 'gitlab-asyncjobs[cli]'" in done.stderr


@pytest.mark.parametrize(
    ("entry", "loading"),
    [
        ("asyncjobs_entry", "asyncjobs"),
        ("asyncjobs_entry", "aiohttp"),
        ("asyncjobs_entry", "asyncjobs.cli.app"),
        ("asyncjobs.__main__", "asyncjobs.cli.app"),
    ],
)
def test_a_key_pressed_too_early(entry: str, loading: str) -> None:
    """Ctrl-C while the command still loads ends it with 130 and without a traceback."""
    program = (
        f"import sys, {entry} as m\n"
        f"assert {loading!r} not in sys.modules\n"
        "class Pressed:\n"
        "    def find_spec(self, name, *more):\n"
        f"        if name == {loading!r}:\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Pressed())\n"
        "m.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, cwd=ROOT, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_the_command_is_installed_by_its_entry() -> None:
    """What pip puts on the path is the file that may be interrupted, and it runs the command."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"asyncjobs": "asyncjobs_entry:main"}
    done = subprocess.run(
        [sys.executable, "-c", "import asyncjobs_entry; asyncjobs_entry.main()", "--version"],
        capture_output=True,
        cwd=ROOT,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("asyncjobs ")


def test_completion_scripts(asyncjobs_command: Command) -> None:
    """Each shell gets a script, and the script's question is answered."""
    for shell in ("bash", "zsh", "fish"):
        assert b"_ASYNCJOBS_COMPLETE" in asyncjobs_command("completion", shell).out
    done = asyncjobs_command.process(
        _ASYNCJOBS_COMPLETE="bash_complete", COMP_WORDS="asyncjobs jobs --scope fa", COMP_CWORD="3"
    )
    assert done.out == b"plain,failed\n"
    done = asyncjobs_command.process(
        _ASYNCJOBS_COMPLETE="bash_complete", COMP_WORDS="asyncjobs sync shop/web ./o", COMP_CWORD="3"
    )
    assert done.out == b"dir,./o\n"
