"""Ready-made worlds: a busy group of four projects to look at, list, tail and sync.

The demo and `asyncjobs fake-server` show it; it is also a good start for a dashboard's tests.
All content is made here from fixed seeds, so two runs differ only in their times.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping

import attrs

from asyncjobs.testing._jobs import FakeJob
from asyncjobs.testing._logs import RED, RESET, YELLOW, RunnerLog
from asyncjobs.testing._projects import FakePipeline, FakeProject
from asyncjobs.testing._world import World

GROUP = "orchard"
"""The group of the demo world."""

_MIB = 1024 * 1024
_WORDS = [
    "parser",
    "router",
    "cache",
    "queue",
    "billing",
    "invoice",
    "session",
    "token",
    "retry",
    "stream",
    "buffer",
    "index",
    "merge",
    "upload",
]


@attrs.frozen
class _Part:
    """Writes the script part of a log."""

    image: str
    write: Callable[[RunnerLog, random.Random, bool], None]


def demo_world(gitlab: World) -> FakeProject:
    """Fill *gitlab* with a group of four projects, finished, waiting and running jobs, logs and archives.

    Five jobs are running; their logs grow for 9 to 14 seconds of real time (a faster clock is taken
    into account) and end: two succeed, one fails and its retry succeeds, one is canceled, one succeeds last.
    Jobs that are retried or played later run for a few seconds and succeed.

    Args:
        gitlab: An empty FakeGitLab, serving or not yet.

    Returns:
        The project with the most running jobs.
    """
    speed = float(getattr(gitlab.agenda.clock, "speed", 1.0))
    gitlab.runner = lambda job: _run_short(job, speed)
    gitlab.add_group(GROUP)
    projects = {
        name: gitlab.add_project(f"{GROUP}/{name}", description=text)
        for name, text in (
            ("web", "The shop window"),
            ("api", "Orders and stock"),
            ("billing", "Invoices"),
            ("mobile/app", "The pocket shop"),
        )
    }
    _history(projects)
    _today(projects, speed)
    return projects["web"]


# -- logs --------------------------------------------------------------------


def _tests(log: RunnerLog, rng: random.Random, failed: bool) -> None:
    log.command("pip install -r requirements.txt")
    log.progress(f"Downloading wheels {'━' * (n // 5):<20} {n:>3}%" for n in range(0, 101, 20))
    log.command("pytest -q")
    for number in range(rng.randint(8, 14)):
        word = rng.choice(_WORDS)
        log.out(f"tests/test_{word}.py::test_{word}_{number} {'PASSED':<8}[{number * 7 % 100:>3}%]")
        if number == 4:
            log.err(f"{YELLOW}warning: naïve comparison of “café” and “café” ☕ in {word}.py:{number}{RESET}")
    passed, seconds = rng.randint(80, 240), rng.uniform(2, 9)
    if failed:
        word = rng.choice(_WORDS)
        log.out(f"{RED}FAILED{RESET} tests/test_{word}.py::test_round_trip - AssertionError: 3 != 4")
        log.out(f"1 failed, {passed} passed in {seconds:.2f}s")
    else:
        log.out(f"{passed} passed in {seconds:.2f}s")


def _build(log: RunnerLog, rng: random.Random, failed: bool) -> None:
    log.command("npm ci")
    log.progress(f"[{'#' * n}{'.' * (12 - n)}] fetch {n * 61}/732" for n in range(0, 13, 3))
    log.command("npm run build")
    for number in range(rng.randint(6, 10)):
        size = rng.uniform(2, 300)
        log.out(f"dist/assets/{rng.choice(_WORDS)}-{rng.randrange(16**8):08x}.js {size:>8.2f} kB")
        if number == 3:
            log.out("日本語のメッセージ: 翻訳 248/248 ✓")
    if failed:
        log.err(f"{RED}error{RESET} during build: Could not resolve './{rng.choice(_WORDS)}'")
    else:
        log.out(f"✓ built in {rng.uniform(3, 12):.2f}s")


def _database(log: RunnerLog, rng: random.Random, failed: bool) -> None:
    log.service("postgres: database system is ready to accept connections")
    log.command("make migrate integration")
    for number in range(rng.randint(10, 16)):
        log.out(f"migration {number:04d}_{rng.choice(_WORDS)} ... {rng.randint(2, 90)} ms")
        if number % 5 == 2:
            log.service(f"postgres: checkpoint complete: wrote {rng.randint(10, 900)} buffers")
    log.section("section_script_step_1", options="hide_duration=true,collapsed=true")
    log.out("scenario: order → stock → invoice", "scenario: return → refund")
    log.out(f"2 scenarios, 14 steps, {int(failed)} failed")
    log.end_section()


def _deploy(log: RunnerLog, rng: random.Random, failed: bool) -> None:
    log.command("helm upgrade --install billing ./chart")
    for number in range(rng.randint(8, 12)):
        log.out(f"waiting for deployment billing: {min(number, 6)} of 6 updated replicas are available")
    if failed:
        log.err("Error: timed out waiting for the condition")
    else:
        log.out(f"Release upgraded, revision {rng.randint(2, 90)}. Happy Helming!")


def _assemble(log: RunnerLog, rng: random.Random, failed: bool) -> None:
    log.command("./gradlew assembleRelease")
    for number in range(rng.randint(12, 18)):
        log.out(f"> Task :app:{rng.choice(_WORDS)}{number} {'UP-TO-DATE' if number % 3 else ''}".rstrip())
    log.progress(f"<{'=' * (n // 10)}{'-' * (10 - n // 10)}> {n}% EXECUTING" for n in range(0, 101, 10))
    log.out(f"BUILD {'FAILED' if failed else 'SUCCESSFUL'} in 11s", "Größe des Pakets: 4,2 MB 📦")


_PYTHON = _Part("python:3.13", _tests)
_NODE = _Part("node:24", _build)
_POSTGRES = _Part("python:3.13", _database)
_HELM = _Part("alpine/helm:3", _deploy)
_GRADLE = _Part("gradle:9-jdk21", _assemble)


def demo_log(
    part: str = "tests",
    *,
    seed: int = 0,
    start: float | None = None,
    result: str = "success",
    stamped: bool = True,
    artifacts: bool = False,
    project: str = f"{GROUP}/web",
) -> bytes:
    """A believable log.

    Args:
        part: tests, build, database, deploy or assemble.
        seed: Other seeds give other lines.
        start: Time of the first line, seconds since the epoch.
        result: success or failed.
        stamped: Whether lines carry time stamps, as current runners write them.
        artifacts: Whether an archive is uploaded at the end.
        project: Full path of the project, as some lines name it.
    """
    parts = {"tests": _PYTHON, "build": _NODE, "database": _POSTGRES, "deploy": _HELM, "assemble": _GRADLE}
    log = RunnerLog(timestamps=stamped) if start is None else RunnerLog(start=start, timestamps=stamped)
    chosen = parts[part]
    log.begin(image=chosen.image, project=project)
    chosen.write(log, random.Random(seed), result == "failed")
    if result == "success":
        log.succeed(artifacts=artifacts)
    else:
        log.fail()
    return log.data


# -- archives ----------------------------------------------------------------


def demo_files(seed: int, size: int = 3 * _MIB) -> Mapping[str, bytes]:
    """The files of a build: package, picture, manifest, test report, coverage; about *size* bytes zipped."""
    rng = random.Random(seed)
    cases = [
        f'<testcase classname="t" name="test_{rng.choice(_WORDS)}_{n}" time="0.01"/>' for n in range(400)
    ]
    coverage = "".join(
        f"<tr><td>{rng.choice(_WORDS)}.py</td><td>{rng.randint(60, 100)}%</td></tr>\n" for _ in range(300)
    )
    manifest = {"name": _WORDS[seed % len(_WORDS)], "build": seed, "files": 5}
    return {
        "dist/package.tar.gz": rng.randbytes(size * 3 // 4),
        "dist/assets/bundle.png": rng.randbytes(size // 4),
        "dist/manifest.json": json.dumps(manifest, indent=2).encode(),
        "reports/junit.xml": f'<testsuite tests="400">\n{"".join(cases)}\n</testsuite>\n'.encode(),
        "reports/coverage/index.html": f"<table>\n{coverage}</table>\n".encode(),
        "docs/Überblick.txt": b"Built by the demo world.\n",
    }


# -- the past ----------------------------------------------------------------


def _history(projects: Mapping[str, FakeProject]) -> None:
    web, api, billing, app = projects.values()
    _pipeline(
        web,
        "main",
        7200,
        ("lint", "test", "success", "tests", ""),
        ("unit tests", "test", "failed", "tests", "script_failure"),
        ("build", "build", "success", "build", ""),
        ("e2e: firefox", "e2e", "failed", "database", "job_execution_timeout"),
    )
    _pipeline(web, "v2.4.0", 86_400, ("build", "build", "success", "build", ""), tag=True)
    _pipeline(
        api,
        "main",
        5400,
        ("unit tests", "test", "success", "tests", ""),
        ("contract tests", "test", "failed", "database", "script_failure"),
        ("package", "build", "success", "build", ""),
    )
    _pipeline(
        api,
        "feature/streaming-écluse",
        3600,
        ("unit tests", "test", "failed", "tests", "runner_system_failure"),
        ("package", "build", "skipped", "", ""),
    )
    _pipeline(
        billing,
        "main",
        9000,
        ("unit tests", "test", "success", "tests", ""),
        ("invoice tests", "test", "failed", "database", "stuck_or_timeout_failure"),
        ("package", "build", "success", "build", ""),
        ("deploy: production", "deploy", "manual", "", ""),
    )
    nightly = _pipeline(
        app,
        "main",
        10_800,
        ("lint", "test", "success", "tests", ""),
        ("assemble", "build", "success", "assemble", ""),
        ("ui tests", "test", "failed", "tests", "no_matching_runner"),
    )
    child = _pipeline(app, "main", 10_000, ("screenshots", "test", "success", "build", ""))
    nightly.add_bridge("screenshots", child, stage="test")


def _pipeline(
    project: FakeProject, ref: str, age: float, *jobs: tuple[str, str, str, str, str], tag: bool = False
) -> FakePipeline:
    now = project.world.agenda.now
    pipeline = project.add_pipeline(ref, tag=tag, created_at=now - age - 400)
    for number, (name, stage, status, part, reason) in enumerate(jobs):
        seed = project.id * 100 + pipeline.iid * 10 + number
        log = b""
        packs = part in ("build", "assemble")
        if part:
            log = demo_log(
                part,
                seed=seed,
                start=now - age - 200,
                result=status,
                stamped=pipeline.iid % 2 == 1,
                artifacts=packs,
                project=project.full_path,
            )
        job = pipeline.add_job(
            name,
            stage=stage,
            status=status,
            trace=log,
            duration=90.0 + 31 * number,
            age=age - 10 * number,
            failure_reason=reason or None,
            coverage=80.0 + seed % 20 if part == "tests" else None,
            tag_list=["docker", "linux"],
        )
        if packs:
            job.set_artifacts(demo_files(seed, (1 + seed % 3) * _MIB))
    return pipeline


# -- the present -------------------------------------------------------------


def _today(projects: Mapping[str, FakeProject], speed: float) -> None:
    web, api, billing, app = projects.values()
    now = web.world.agenda.now
    pipelines = {
        project.id: project.add_pipeline("main", created_at=now - 30) for project in projects.values()
    }

    build = pipelines[web.id].add_job("build", stage="build", tag_list=["docker"])
    _live(build, "build", speed, seconds=10.0, end=_succeed_with_archive)
    chrome = pipelines[web.id].add_job("e2e: chrome", stage="e2e", tag_list=["docker"])
    _live(chrome, "tests", speed, seconds=8.0, result="failed", end=lambda job: _fail_and_retry(job, speed))
    pipelines[web.id].add_job("deploy: review", stage="deploy", status="manual", allow_failure=True)

    integration = pipelines[api.id].add_job("integration", tag_list=["docker"])
    _live(integration, "database", speed, seconds=12.0, end=_succeed_with_archive)

    deploy = pipelines[billing.id].add_job("deploy: staging", stage="deploy", tag_list=["docker"])
    deploy.contact_interval = 1.5 * speed
    _live(deploy, "deploy", speed, seconds=7.0, end=lambda job: job.cancel())

    assemble = pipelines[app.id].add_job("assemble", stage="build", tag_list=["docker"])
    _live(assemble, "assemble", speed, seconds=13.5, end=_succeed_with_archive)


def _live(
    job: FakeJob,
    part: str,
    speed: float,
    *,
    seconds: float,
    end: Callable[[FakeJob], None],
    result: str = "success",
) -> None:
    """Let *job* run for that many real seconds, pushing about once a second."""
    job.start()
    log = demo_log(
        part,
        seed=job.id,
        start=job.pipeline.agenda.now,
        result=result,
        artifacts=end is _succeed_with_archive,
        project=job.pipeline.project.full_path,
    )
    if part == "deploy":
        # A canceled job never says how it ended; the fake's runner adds that line.
        log = log[: log.rindex(b"\n", 0, len(log) * 3 // 4) + 1]
    pushes = max(2, int(seconds))
    size = -(-len(log) // pushes)
    pause = speed * (seconds - 0.5) / pushes
    # Half of the pushes end inside a character, an escape or a line, as a runner's do.
    pieces = [log[at : at + size] for at in range(0, len(log), size)]
    job.script([*((pause, piece) for piece in pieces), (0.5 * speed, end)])


def _succeed_with_archive(job: FakeJob) -> None:
    job.set_artifacts(demo_files(job.id, 3 * _MIB))
    job.finish("success")


def _fail_and_retry(job: FakeJob, speed: float) -> None:
    job.finish("failed", failure_reason="script_failure")
    agenda = job.pipeline.agenda
    agenda.at(agenda.now + 1.0 * speed, lambda: _retry(job))


def _retry(job: FakeJob) -> None:
    if job.retryable:
        job.retry()


def _run_short(job: FakeJob, speed: float) -> None:
    """A runner takes a waiting job at once and is done in about four seconds."""
    agenda = job.pipeline.agenda
    log = demo_log("tests", seed=job.id, start=agenda.now, project=job.pipeline.project.full_path)
    third = -(-len(log) // 3)
    steps: list[tuple[float, bytes | str]] = [(0.5 * speed, "running")]
    steps += [(0.9 * speed, log[at : at + third]) for at in range(0, len(log), third)]
    job.script([*steps, (0.5 * speed, "success")])
