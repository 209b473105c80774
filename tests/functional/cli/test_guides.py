"""The guides in docs/: their programs run against FakeGitLab as they stand there, and do what is said."""

from __future__ import annotations

import asyncio
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from aiohttp.test_utils import TestClient, TestServer

import asyncjobs
from asyncjobs.cli.app import app
from asyncjobs.testing import FakeGitLab, LoopClock, ScaledClock, demo_world, serve_in_thread
from tests.functional.cli.conftest import PATIENCE, ROOT, Command, fill

PAGES = ("README.md", *sorted(f"docs/{each.name}" for each in (ROOT / "docs").glob("*.md")))


def blocks(page: str, language: str) -> list[str]:
    """The programs of one language on a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def program(page: str) -> dict[str, Any]:
    """All Python of a page as one module's names."""
    names: dict[str, Any] = {"__name__": "guide"}
    exec(compile("\n\n".join(blocks(page, "python")), page, "exec"), names)
    return names


# -- every page -----------------------------------------------------------------------------------------


def command_lines() -> Iterator[tuple[str, str]]:
    """Each call of the command in a console block, without what the shell does round it."""
    for page in PAGES:
        for block in blocks(page, "console"):
            for line in block.splitlines():
                for part in re.split(r"\||&&|;|&(?= |$)", line.removeprefix("$ ").partition("  #")[0]):
                    if re.match(r" *asyncjobs ", part):
                        yield page, part.partition(">")[0].strip()


@pytest.mark.parametrize(("page", "line"), sorted(set(command_lines())))
def test_commands_of_pages_can_be_typed(page: str, line: str) -> None:
    """Each command line on a page names commands and flags that exist."""
    _, name, *arguments = shlex.split(line)
    with click.Context(app, info_name="asyncjobs") as parent:
        app.commands[name].make_context(name, arguments, parent=parent)


OF_README = sorted(
    {line for page, line in command_lines() if page == "README.md" and "fake-server" not in line}
)


@pytest.mark.real_time
@pytest.mark.parametrize("line", [each for each in OF_README if not each.endswith(" -")])
def test_commands_of_the_readme_work_on_the_fake_server(line: str, tmp_path: Path) -> None:
    """What a new user types from README does its work on the server that README starts."""
    clock = ScaledClock(1.0)
    gitlab = FakeGitLab(clock=clock)
    demo_world(gitlab)
    if "running" not in line:
        clock.speed = 100.0  # only now: the world lasts a quarter of a minute at any speed it knows of
    with serve_in_thread(gitlab):
        done = Command(gitlab, tmp_path)(*shlex.split(line)[1:])
    assert done.code == 0, done.err
    assert done.out


def test_there_are_command_lines() -> None:
    """The pages do show commands, so the test above has something to say."""
    assert len(set(command_lines())) > 15


def todays_gitlab() -> FakeGitLab:
    """A fake whose time begins now: the guides ask for jobs of the last hours or days."""
    return FakeGitLab(clock=LoopClock(time.time()))


@pytest.fixture
def shell(asyncjobs_command: Command) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs shell programs with the command on the path, configured for `fake_gitlab`."""
    return shell_of(asyncjobs_command)


def shell_of(command: Command) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs shell programs in the command's surroundings, where `asyncjobs` is on the path."""
    folder = command.folder / "bin"
    folder.mkdir()
    (folder / "asyncjobs").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m asyncjobs "$@"\n')
    (folder / "asyncjobs").chmod(0o755)

    def run(script: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        environment = command.environment(more)
        environment["PATH"] = f"{folder}:{environment['PATH']}"
        return subprocess.run(
            ["sh", "-c", script, "guide", *arguments],
            capture_output=True,
            cwd=command.folder,
            env=environment,
            timeout=PATIENCE,
            check=False,
            text=True,
        )

    return run


# -- log-collector.md -----------------------------------------------------------------------------------


async def stop(task: asyncio.Task[None]) -> None:
    """What a service does with its collector when it ends."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_collector_goes_on_after_a_restart(tmp_path: Path) -> None:
    """However often the service stops, each line is handed over once, also the last without its newline."""
    guide = program("docs/log-collector.md")
    handed: list[str] = []

    async def emit(ref: asyncjobs.JobRef, lines: list[str]) -> None:
        handed.extend(lines)

    async with todays_gitlab() as gitlab:
        job = gitlab.add_project("shop/web").add_pipeline("main").add_job("test")
        job.start()
        pieces = [f"line {number}\nand the begin".encode() for number in range(40)]
        job.script([*((7.0, each) for each in pieces), (7.0, "success")])
        for _ in range(30):
            async with asyncjobs.Client(gitlab.url, private_token=gitlab.token) as client:
                places = guide["Places"](tmp_path)
                service = asyncio.create_task(
                    guide["collect"](client, ["shop/web"], places, emit, every=5.0),
                )
                await asyncio.sleep(17.0)
                await stop(service)
        assert job.status == "success"
    assert handed == b"".join(pieces).decode().split("\n")


async def test_a_collector_leaves_what_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be read is said, does not end the others, and is taken up again when it can be."""
    guide = program("docs/log-collector.md")
    handed: list[tuple[int, list[str]]] = []

    async def emit(ref: asyncjobs.JobRef, lines: list[str]) -> None:
        handed.append((ref.job_id, lines))

    async with todays_gitlab() as gitlab:
        pipeline = gitlab.add_project("shop/web").add_pipeline("main")
        refused = pipeline.add_job("secret", status="success", trace=b"hidden\n")
        job = pipeline.add_job("test", status="success", trace=b"shown\n")
        refusal = gitlab.faults.add("403", where=f"*/{refused.id}/trace")
        async with asyncjobs.Client(gitlab.url, private_token=gitlab.token) as client:
            service = asyncio.create_task(
                guide["collect"](client, ["shop/web", "shop/gone"], guide["Places"](tmp_path), emit),
            )
            await asyncio.sleep(100.0)
            assert handed == [(job.id, ["shown"])]
            refusal.times = refusal.hits
            await asyncio.sleep(100.0)
            await stop(service)
    assert handed == [(job.id, ["shown"]), (refused.id, ["hidden"])]
    said = capsys.readouterr().out
    assert f"stopped: shop/web/-/jobs/{refused.id} GET " in said
    assert "not listed: shop/gone GET " in said


# -- nightly-mirror.md ----------------------------------------------------------------------------------


@pytest.mark.real_time
def test_the_script_for_cron(tmp_path: Path) -> None:
    """Silent when all is well; otherwise it says what was wrong and ends with the command's code."""
    (script,) = blocks("docs/nightly-mirror.md", "sh")
    read_report = program("docs/nightly-mirror.md")["read_report"]
    report = tmp_path / "art.jsonl"

    with serve_in_thread(todays_gitlab()) as gitlab:
        fill(gitlab)
        shell = shell_of(Command(gitlab, tmp_path))
        for downloaded in (2, 0):
            done = shell(script, "shop", "art")
            assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
            assert (read_report(report)["downloaded"], read_report(report)["ok"]) == (downloaded, True)
        done = shell(script, "shop", "art", GITLAB_TOKEN="wrong")
        assert (done.returncode, done.stdout.splitlines()[0]) == (3, "the token is refused")
        done = shell(script, "nothing", "other")
        assert done.returncode == 1
        pipeline = next(iter(gitlab.jobs.values())).pipeline
        pipeline.add_job("build broken", status="success").set_artifacts_bytes(b"no zip at all")
        done = shell(script, "shop", "art")
        assert (done.returncode, done.stdout.splitlines()[0]) == (1, "some archives are missing:")
        assert len(read_report(report)["wrong"]) == 1


async def test_the_mirror_in_python(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second night downloads nothing; what was not listed is said and nothing is pruned."""
    guide = program("docs/nightly-mirror.md")
    async with todays_gitlab() as gitlab:
        fill(gitlab)
        async with asyncjobs.Client(gitlab.url, private_token=gitlab.token) as client:
            first = await guide["mirror"](client, "shop", str(tmp_path / "art"))
            second = await guide["mirror"](client, "shop", str(tmp_path / "art"))
            third = await guide["mirror"](client, "gone", str(tmp_path / "art"))
    assert (len(first.downloaded), len(second.downloaded), len(second.unchanged)) == (2, 0, 2)
    assert (second.removed, third.removed) == ([], [])
    assert "not listed: groups/gone GET " in capsys.readouterr().out


def test_a_report_without_its_end(tmp_path: Path) -> None:
    """A run that was stopped is not taken for a good one."""
    read_report = program("docs/nightly-mirror.md")["read_report"]
    report = tmp_path / "report.jsonl"
    for text in ("", '{"event":"planned"}\n'):
        report.write_text(text)
        with pytest.raises(ValueError, match="no summary"):
            read_report(report)
    report.write_text('{"event":"failed","target":"a","message":"m"}\n{"event":"summary","ok":false}\n')
    assert read_report(report)["wrong"] == [("a", "m")]


# -- web-service.md -------------------------------------------------------------------------------------


async def with_service(
    gitlab: FakeGitLab,
    monkeypatch: pytest.MonkeyPatch,
    use: Callable[[TestClient[Any, Any]], Awaitable[None]],
) -> None:
    """The service of the guide, in front of *gitlab*."""
    monkeypatch.setenv("GITLAB_URL", gitlab.url)
    monkeypatch.setenv("GITLAB_TOKEN", gitlab.token)
    guide = program("docs/web-service.md")
    async with TestClient(TestServer(guide["make_app"]())) as browser:
        await use(browser)


async def test_the_web_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """Good answers, and each error as the status that the guide gives it."""
    async with FakeGitLab() as gitlab:
        fill(gitlab)
        failed = next(job for job in gitlab.jobs.values() if job.status == "failed")

        async def use(browser: TestClient[Any, Any]) -> None:
            async with browser.get("/failures/shop") as answer:
                found = await answer.json()
            assert {each["name"] for each in found["failed"]} == {"test"}
            assert (len(found["failed"]), found["not_listed"]) == (2, [])
            assert (await browser.get("/failures/gone")).status == 404
            for fault, times, status in (
                ("401", 1, 500),
                ("html_200", 9, 502),
                ("503", 3, 502),
                ("stall_headers", 9, 504),
                ("429_huge", 9, 503),
            ):
                waiting = gitlab.fail_next(fault, times=times, where="*/groups/*")
                assert (await browser.get("/failures/shop")).status == status, fault
                waiting.times = waiting.hits
            gitlab.fail_next("fin_before", where="*/retry", executed=True)
            path = f"/retry/shop/web/{failed.id}"
            async with browser.post(path) as answer:
                assert answer.status == 202
                assert "did not answer" in await answer.text()
            assert gitlab.requests.count("*/retry") == 1
            assert (await browser.get("/health")).status == 200

        await with_service(gitlab, monkeypatch, use)


async def test_the_web_service_ends_while_gitlab_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shutting down does not wait for a server that says nothing."""
    async with FakeGitLab() as gitlab:
        fill(gitlab)
        gitlab.fail_next("stall_headers", times=9)
        pages: list[asyncio.Task[Any]] = []

        async def use(browser: TestClient[Any, Any]) -> None:
            pages.append(asyncio.create_task(browser.get("/failures/shop")))
            await asyncio.sleep(5.0)
            assert len(gitlab.requests) == 1

        await with_service(gitlab, monkeypatch, use)
        await asyncio.gather(*pages, return_exceptions=True)


# -- testing.md -----------------------------------------------------------------------------------------


@pytest.mark.real_time
def test_the_tests_of_the_guide_pass(tmp_path: Path) -> None:
    """Copied to a file, they run under a plain pytest, which finds the fixture by itself."""
    (tmp_path / "test_guide.py").write_text("\n\n".join(blocks("docs/testing.md", "python")))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_guide.py"],
        capture_output=True,
        cwd=tmp_path,
        timeout=PATIENCE,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


# -- errors.md ------------------------------------------------------------------------------------------


def test_every_error_has_its_line() -> None:
    """The page names each public error, and none that is not there."""
    text = (ROOT / "docs/errors.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([A-Z]\w*Error|ConnectTimeout|RequestTimeout)`", text))
    public = {
        name
        for name in asyncjobs.__all__
        if isinstance(each := getattr(asyncjobs, name), type) and issubclass(each, asyncjobs.AsyncJobsError)
    }
    families = {
        "AsyncJobsError",
        "ResponseError",
        "RequestError",
        "ExchangeError",
        "TraceError",
        "ArtifactError",
    }
    assert public - families <= named
    assert named <= public | families | {"ValueError", "TypeError"}


async def test_the_program_about_errors() -> None:
    """Each kind of trouble is told in words, and what can be retried is."""
    retry_failed = program("docs/errors.md")["retry_failed"]
    async with FakeGitLab() as gitlab:
        pipeline = gitlab.add_project("shop/web").add_pipeline("main")
        lost, down, _ = [pipeline.add_job(name, status="failed") for name in ("lost", "down", "good")]
        gitlab.fail_next("fin_before", where=f"*/{lost.id}/retry")
        gitlab.fail_next("409", where=f"*/{down.id}/retry", times=9)
        async with asyncjobs.Client(gitlab.url, private_token=gitlab.token) as client:
            trouble = await retry_failed(client, "shop/web")
            assert any("not answered" in each for each in trouble)
            assert any(": 409 after" in each for each in trouble)
            assert [job.name for job in gitlab.jobs.values() if job.status == "pending"] == ["good"]
            (gone,) = await retry_failed(client, "shop/gone")
            assert gone.startswith("shop/gone not listed: ")


@pytest.mark.real_time
def test_the_shell_lines_about_errors(
    fake_gitlab: FakeGitLab, shell: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """The codes of `wait` are those of the page."""
    (script,) = blocks("docs/errors.md", "sh")
    project = fake_gitlab.add_project("shop/web")
    assert shell(script).stdout == "there is no pipeline\n"
    assert shell(script, GITLAB_TOKEN="wrong").stdout == "look at the token\n"
    project.add_pipeline("main").add_job("test", status="success")
    assert shell(script).stdout.splitlines()[-1] == "it may be deployed"
    project.add_pipeline("main").add_job("test", status="failed")
    assert shell(script).stdout.splitlines()[-1] == "it failed, or is not over"
    assert shell(script, GITLAB_URL="nonsense").stdout == "it was not asked\n"
