"""`jobs`, `show`, `wait` and the actions: what they print and how they end."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from asyncjobs.testing import FakeGitLab
from tests.functional.cli.conftest import PATIENCE, Command

pytestmark = pytest.mark.real_time


def test_jobs_of_several_projects_as_lines(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """Into a pipe goes one job a line, from all targets, and nothing else."""
    done = asyncjobs_command("jobs", "shop/web", "shop/api", "--failed")
    assert (done.code, done.err) == (0, "")
    rows = [line.split("\t") for line in done.lines]
    assert {row[0].partition("/-/")[0] for row in rows} == {"shop/web", "shop/api"}
    assert {(row[1], row[2], row[7]) for row in rows} == {("failed", "test", "script_failure")}


def test_jobs_as_json(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """Each line of --json is an object with GitLab's fields and a target."""
    done = asyncjobs_command("jobs", "shop/web", "--json", "--name", "bu*")
    (job,) = [json.loads(line) for line in done.lines]
    assert (job["name"], job["status"], job["stage"]) == ("build", "success", "build")
    assert job["target"] == f"shop/web/-/jobs/{job['id']}"
    assert job["artifacts_file"]["filename"] == "artifacts.zip"


def test_targets_come_from_standard_input(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """What one command prints another takes."""
    first = asyncjobs_command("jobs", "shop/web", "--json")
    targets = "\n".join(json.loads(line)["target"] for line in first.lines)
    second = asyncjobs_command("show", "-", "--json", stdin=targets)
    assert second.code == 0
    assert [json.loads(line)["id"] for line in second.lines] == [
        json.loads(line)["id"] for line in first.lines
    ]


def test_a_list_of_targets_has_comments(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """Lines that begin with # and empty ones are no targets."""
    done = asyncjobs_command("jobs", "-", stdin="# the shop\n\n  # and\nshop/web\n")
    assert (done.code, len(done.lines), done.err) == (0, 2, "")


def test_standard_input_without_text(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """Standard input that is closed, or is no text, is a usage error and no traceback."""
    for shell in ("<&-", "< bytes"):
        (asyncjobs_command.folder / "bytes").write_bytes(b"\xff\xfe\n")
        done = subprocess.run(
            ["sh", "-c", f"'{sys.executable}' -m asyncjobs jobs - {shell}"],
            capture_output=True,
            cwd=asyncjobs_command.folder,
            env=asyncjobs_command.environment({"PYTHONIOENCODING": "utf-8:strict"}),
            timeout=PATIENCE,
            check=False,
            text=True,
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.splitlines()[-1].startswith(
            "asyncjobs: - stands for targets on standard input, but"
        )


@pytest.mark.parametrize("command", ["jobs", "show", "trace"])
def test_overlapping_targets_give_each_job_once(
    asyncjobs_command: Command, shop: FakeGitLab, command: str
) -> None:
    """A job that several targets mean is shown once, however each names its project."""
    build = next(iter(shop.jobs.values()))
    project = build.pipeline.project
    targets = ("shop/web", str(project.id), "groups/shop", f"shop/web/-/jobs/{build.id}")
    alone = asyncjobs_command(command, "groups/shop")
    done = asyncjobs_command(command, *targets)
    assert (done.code, len(done.out)) == (0, len(alone.out))


def test_one_bad_target_does_not_hide_the_others(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """What can be listed is listed; what cannot is one line of error with the target; the code is 1."""
    done = asyncjobs_command("jobs", "shop/gone", "shop/web")
    assert done.code == 1
    assert len(done.lines) == 2
    assert done.err.startswith("asyncjobs: shop/gone: 404 Project Not Found")
    assert done.err.count("\n") == 1


def test_a_bare_number_is_explained(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """Whoever gives the number of a job alone learns that it was taken for a project's."""
    done = asyncjobs_command("show", "1000")
    assert done.code == 1
    assert done.err.endswith("; a bare number is a project's; a job is group/app/-/jobs/8\n")


@pytest.mark.parametrize(("more", "code"), [((), 4), (("--allow-empty",), 0)])
def test_nothing_found(
    asyncjobs_command: Command, shop: FakeGitLab, more: tuple[str, ...], code: int
) -> None:
    """Finding nothing ends with 4, or with 0 where that is fine."""
    done = asyncjobs_command("jobs", "shop/web", "--scope", "running", *more)
    assert (done.code, done.out) == (code, b"")


def test_a_wrong_token(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """A refused token ends with 3, says which variable to look at, and is not repeated."""
    secret = "glpat-thisTokenIsWrong42"
    done = asyncjobs_command("jobs", "shop/web", "-vv", GITLAB_TOKEN=secret)
    assert done.code == 3
    assert "GITLAB_TOKEN" in done.err
    assert secret not in done.err
    assert done.out == b""


@pytest.mark.parametrize(
    ("variables", "advice"),
    [
        ({"GITLAB_TOKEN": "wrong"}, "look at GITLAB_TOKEN"),
        ({"GITLAB_TOKEN": "", "GITLAB_OAUTH_TOKEN": "wrong"}, "look at GITLAB_OAUTH_TOKEN"),
        ({"GITLAB_TOKEN": "", "CI_JOB_TOKEN": "wrong"}, "look at CI_JOB_TOKEN, which"),
        ({"GITLAB_TOKEN": ""}, "set GITLAB_TOKEN"),
    ],
)
def test_a_refused_token_is_told_by_its_variable(
    asyncjobs_command: Command, shop: FakeGitLab, variables: dict[str, str], advice: str
) -> None:
    """Whoever has several tokens about is told which one was sent."""
    done = asyncjobs_command("jobs", "shop/web", stdin="", terminal=False, **variables)
    assert done.code == 3
    assert f"; {advice}" in done.err


def test_waiting_for_no_pipeline(asyncjobs_command: Command, fake_gitlab: FakeGitLab) -> None:
    """A project without a pipeline matches nothing, and is named once."""
    fake_gitlab.add_project("shop/empty")
    done = asyncjobs_command("wait", "shop/empty", "--ref", "main")
    assert (done.code, done.out) == (4, b"")
    assert done.err == "asyncjobs: shop/empty: no pipeline for main; check the project and --ref\n"


def test_an_address_where_nobody_listens(asyncjobs_command: Command) -> None:
    """A refused connection ends with 1 and one line that names the place and the flag."""
    done = asyncjobs_command("--url", "http://127.0.0.1:9", "--attempts", "1", "jobs", "shop/web")
    assert done.code == 1
    assert done.err.count("\n") == 1
    assert "http://127.0.0.1:9/" in done.err
    assert "--url" in done.err


def test_an_address_that_is_no_gitlab(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """A login page with status 200 is called what it is."""
    shop.fail_next("html_200")
    done = asyncjobs_command("jobs", "shop/web")
    assert done.code == 1
    assert "not a login page" in done.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("jbos", "shop/web"), "'jobs'"),
        (("jobs", "shop/web", "--failde"), "--failed"),
        (("jobs",), "TARGET"),
        (("jobs", "shop/web", "--scope", "faild"), "did you mean failed?"),
        (("jobs", "not a target"), "a target is"),
        (("jobs", "https://elsewhere.example/shop/web"), "elsewhere.example"),
        (("--url", "nonsense", "jobs", "shop/web"), "https://"),
        (("--url", "http://x.example", "--config-section", "s", "jobs", "shop/web"), "one of them"),
        (("jobs", "shop/web", "--ca-file", "/nonexistent"), "does not exist"),
        (("tail", "shop/web", "--include", "("), "regular expression"),
        (("sync", "shop/web", "out", "--path-template", "../{job_id}"), "relative"),
        (("wait", "groups/shop"), "a group never ends"),
        (("download", "shop/web"), "--job"),
        (("cancel", "shop/web", "--scope", "failed"), "--yes"),
        (("wait", "shop/web", "--interval", "0s"), "more than 0"),
        (("tail", "shop/web", "--interval", "0"), "more than 0"),
        (("jobs", "shop/web", "--timeout", "0s"), "more than 0"),
        (("jobs", "shop/web", "--connect-timeout", "nan"), "span of time"),
        (("fake-server", "--speed", "nan"), "above 0"),
        (("download", "shop/web/-/jobs/1000", "-o", ""), "names no file"),
        (("download", "shop/web/-/jobs/1000", "-o", "."), "names no file"),
        (("download", "shop/web/-/jobs/1000", "-o", "new/"), "names no file"),
        (("download", "shop/web/-/jobs/1000", "--member", ""), "names no file"),
        (("download", "shop/web/-/jobs/1000", "--member", "../x"), "'../x'"),
        (("download", "shop/web/-/jobs/1000", "--list", "--member", "a.txt"), "leave out --member"),
        (("download", "shop/web/-/jobs/1000", "-o", "-", "--json"), "leave out --json"),
        (("sync", "shop/web", "out", "--write-lock", ""), "no file"),
        (("sync", "shop/web", "out", "--write-lock", "absent/lock"), "folder is not there"),
        (("sync", "shop/web", ""), "an empty name"),
        (("tail", "shop/web", "--save", ""), "an empty name"),
        (("demo", "--dest", ""), "an empty name"),
    ],
)
def test_a_wrong_command_line(
    asyncjobs_command: Command, shop: FakeGitLab, arguments: tuple[str, ...], said: str
) -> None:
    """What is typed wrong ends with 2, says what is wrong and what would be right, and shows no traceback."""
    done = asyncjobs_command(*arguments)
    assert (done.code, done.out) == (2, b"")
    assert said in done.err
    assert done.err.startswith("asyncjobs: ")
    assert done.err.count("\n") == 1
    assert list(asyncjobs_command.folder.iterdir()) == []


def test_no_command_is_a_usage_error(asyncjobs_command: Command) -> None:
    """Without a command, help goes to standard error and the code is 2."""
    done = asyncjobs_command()
    assert (done.code, done.out) == (2, b"")
    assert "demo" in done.err


def test_asked_for_help_is_data(asyncjobs_command: Command) -> None:
    """Help that was asked for goes to standard output and is a success."""
    done = asyncjobs_command("tail", "--help")
    assert (done.code, done.err) == (0, "")
    assert b"--children" in done.out
    assert asyncjobs_command("--version").out.startswith(b"asyncjobs ")


def test_global_options_stand_on_either_side(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """--url works before and after the command's name."""
    for arguments in (("--url", shop.url, "jobs", "shop/web"), ("jobs", "shop/web", "--url", shop.url)):
        assert asyncjobs_command(*arguments, GITLAB_URL="http://127.0.0.1:9").code == 0


def test_a_section_of_python_gitlabs_file(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """Address and token may come from python-gitlab.cfg."""
    config = asyncjobs_command.folder / ".python-gitlab.cfg"
    config.write_text(f"[global]\ndefault = work\n\n[work]\nurl = {shop.url}\nprivate_token = {shop.token}\n")
    done = asyncjobs_command("jobs", "shop/web", "--config-section", "work", GITLAB_URL="", GITLAB_TOKEN="")
    assert (done.code, len(done.lines)) == (0, 2)


def test_verbose_shows_exchanges_without_secrets(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """-v logs each request on standard error and never the token."""
    done = asyncjobs_command("-v", "jobs", "shop/web")
    assert "GET " in done.err
    assert shop.token not in done.err
    assert len(done.lines) == 2


def test_show_as_a_page(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """A job's page names its reason and its archive."""
    done = asyncjobs_command("show", "shop/web")
    assert done.code == 0
    assert "script_failure" in done.out.decode()
    assert "artifacts.zip" in done.out.decode()
    assert "\x1b" not in done.out.decode()


@pytest.mark.parametrize(("name", "code"), [("build", 0), ("test", 1)])
def test_wait_ends_with_the_result(
    asyncjobs_command: Command, shop: FakeGitLab, name: str, code: int
) -> None:
    """The exit code of wait tells how the job ended."""
    target = next(f"shop/web/-/jobs/{job.id}" for job in shop.jobs.values() if job.name == name)
    done = asyncjobs_command("wait", target)
    assert done.code == code
    assert done.lines[0].split("\t")[1] == target


def test_wait_for_a_pipeline_that_ends_meanwhile(asyncjobs_command: Command, fake_gitlab: FakeGitLab) -> None:
    """Wait goes on until the pipeline is over; progress is news, the result is data."""
    job = fake_gitlab.add_project("shop/web").add_pipeline("main").add_job("test")
    job.start()
    process = asyncjobs_command.start("wait", "shop/web", "--ref", "main", "--interval", "0.05", "--json")
    assert process.stderr is not None
    assert process.stderr.readline() == b"shop/web/-/pipelines/500 running\n"
    job.finish("success")
    done = asyncjobs_command.finish(process)
    assert done.code == 0
    assert json.loads(done.out)["status"] == "success"


def test_wait_no_longer_than_asked(asyncjobs_command: Command, fake_gitlab: FakeGitLab) -> None:
    """--max-wait ends with 1 and says what the status still is."""
    job = fake_gitlab.add_project("shop/web").add_pipeline("main").add_job("test")
    job.start()
    done = asyncjobs_command("wait", f"shop/web/-/jobs/{job.id}", "--interval", "0.05", "--max-wait", "0.4")
    assert done.code == 1
    assert "still running after 0.4s" in done.err


def test_retry_prints_the_new_jobs(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """A retry of many failed jobs needs a yes, and names the new ones."""
    done = asyncjobs_command("retry", "shop/web", "shop/api", "--yes", "--json")
    assert done.code == 0
    new = [json.loads(line) for line in done.lines]
    assert {job["name"] for job in new} == {"test"}
    assert {job["status"] for job in new} == {"pending"}
    assert {job["id"] for job in new}.isdisjoint({1000, 1001, 1002, 1003})


def test_cancel_of_a_named_job_asks_nothing(asyncjobs_command: Command, fake_gitlab: FakeGitLab) -> None:
    """A job that was named is acted on."""
    job = fake_gitlab.add_project("shop/web").add_pipeline("main").add_job("test", status="pending")
    done = asyncjobs_command("cancel", f"shop/web/-/jobs/{job.id}")
    assert done.code == 0
    assert done.lines[0].split("\t")[1] == "canceled"
    assert job.status == "canceled"


@pytest.mark.parametrize(
    ("fake_gitlab", "statuses"),
    [
        ("9.1", ("pending", "running", "success")),
        ("19.5", ("pending", "waiting_for_callback", "scheduled", "success")),
    ],
    indirect=["fake_gitlab"],
)
def test_cancel_of_a_pipeline_leaves_nothing_waiting(
    asyncjobs_command: Command, fake_gitlab: FakeGitLab, statuses: tuple[str, ...]
) -> None:
    """Every waiting job is canceled, also on a server that does not know today's statuses, and no other."""
    pipeline = fake_gitlab.add_project("shop/web").add_pipeline("main")
    jobs = [pipeline.add_job(status, status=status) for status in statuses]
    done = asyncjobs_command("cancel", f"shop/web/-/pipelines/{pipeline.id}", "--yes")
    assert done.code == 0
    assert len(done.lines) == len(jobs) - 1
    assert [job.status for job in jobs] == ["canceled"] * (len(jobs) - 1) + ["success"]


def test_erase_always_asks(asyncjobs_command: Command, shop: FakeGitLab) -> None:
    """What cannot be undone is not done without a yes, for a named job as well."""
    job = next(iter(shop.jobs.values()))
    refused = asyncjobs_command("erase", f"shop/web/-/jobs/{job.id}")
    assert refused.code == 2
    assert job.trace
    assert asyncjobs_command("erase", f"shop/web/-/jobs/{job.id}", "--yes").code == 0
    assert not job.trace
