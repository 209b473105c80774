"""Ending: nothing is over before its last byte was read, and nothing hangs."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from asyncjobs._errors import (
    CertificateError,
    ConnectError,
    ForbiddenError,
    NotFoundError,
    RequestTimeout,
    ResponseError,
    ServerError,
)
from asyncjobs._models import Job, JobArtifact, JobStatus, Pipeline
from asyncjobs._trace.asking import Result
from asyncjobs._trace.ending import FINAL_ERRORS, Ending, Patience, Phase, is_definite, long_over, phase_of


def job(status: str, *, size: int | None = None, pipeline: str | None = None, started: bool = False) -> Job:
    """A job's record."""
    return Job(
        id=1,
        name="test",
        status=JobStatus(status),
        artifacts=() if size is None else (JobArtifact(file_type="trace", size=size),),
        pipeline=None if pipeline is None else Pipeline(id=1, status=JobStatus(pipeline)),
        started_at=datetime(2026, 1, 1, tzinfo=UTC) if started else None,
    )


@pytest.mark.parametrize(
    ("status", "phase"),
    [
        ("created", Phase.WAITING),
        ("waiting_for_resource", Phase.WAITING),
        ("preparing", Phase.WAITING),
        ("waiting_for_callback", Phase.WAITING),
        ("pending", Phase.WAITING),
        ("running", Phase.RUNNING),
        ("canceling", Phase.RUNNING),
        ("something_new", Phase.RUNNING),
        ("success", Phase.FINAL),
        ("failed", Phase.FINAL),
        ("canceled", Phase.FINAL),
        ("skipped", Phase.EMPTY),
        ("manual", Phase.BLOCKED),
        ("scheduled", Phase.BLOCKED),
    ],
)
def test_every_status_has_a_phase(status: str, phase: Phase) -> None:
    """`canceling` goes on, an unknown status is not the end, manual and scheduled are not waited for."""
    assert phase_of(job(status)) is phase


def test_waiting_on_request() -> None:
    """A caller who asks for it waits for manual and scheduled jobs."""
    assert phase_of(job("manual"), wait_for_start=True) is Phase.WAITING
    assert phase_of(job("created", pipeline="manual"), wait_for_start=True) is Phase.WAITING


def test_job_behind_a_manual_one_does_not_hang() -> None:
    """A created job of a pipeline that waits for a person is blocked as well."""
    assert phase_of(job("created", pipeline="manual")) is Phase.BLOCKED
    assert phase_of(job("created", pipeline="running")) is Phase.WAITING


def test_skipped_after_a_start_is_read() -> None:
    """A job that did run has a log, whatever its status is called."""
    assert phase_of(job("skipped", started=True)) is Phase.FINAL


def ended(
    ending: Ending, *reads: tuple[Result, float], offset: int = 10, record: Job | None = None
) -> list[bool]:
    """Whether the trace was over after each read."""
    record = record or job("success")
    return [ending.read(result, now, offset=offset, job=record, in_doubt=False).done for result, now in reads]


def test_first_read_is_not_believed() -> None:
    """After the end the trace is read until it brought nothing twice."""
    assert ended(Ending(settle=10), (Result.GROWN, 0), (Result.SAME, 3), (Result.SAME, 10)) == [
        False,
        False,
        True,
    ]


def test_quiet_twice_is_enough() -> None:
    """A log that brought nothing in two reads after the end is over before the settle time is."""
    assert ended(Ending(settle=10), (Result.SAME, 0), (Result.SAME, 3)) == [False, True]


@pytest.mark.parametrize(
    ("settle", "times"), [(10.0, [0.0, 3.0, 10.0]), (1.0, [0.0, 0.5, 1.0]), (0.5, [0.0, 0.5])]
)
@pytest.mark.parametrize("longer", [False, True], ids=["no record", "longer than its record"])
def test_when_it_is_read_again(settle: float, times: list[float], longer: bool) -> None:
    """Once soon, once when the settle time is over; a log that is longer than its record settles like any."""
    ending, now = Ending(settle=settle), 0.0
    reads: list[float] = []
    record = job("success", size=9) if longer else job("success")
    while True:
        result = Result.SAME if reads else Result.GROWN
        step = ending.read(result, now, offset=10, job=record, in_doubt=False)
        reads.append(now)
        assert step.failed is None
        if step.done:
            break
        now += step.delay
    assert reads == times


def test_a_doubt_between_quiet_reads_begins_the_settling_anew() -> None:
    """Two reads that brought nothing count only when nothing odd came between them."""
    ending = Ending(settle=10)
    reads = (Result.SAME, 0), (Result.UNPROVEN, 3), (Result.SAME, 6), (Result.SAME, 9)
    assert ended(ending, *reads) == [False, False, False, True]


def test_late_bytes_prolong_the_settling() -> None:
    """Bytes that come after the end are waited for again."""
    reads = (Result.SAME, 0), (Result.GROWN, 3), (Result.GROWN, 12), (Result.SAME, 15)
    assert ended(Ending(settle=10), *reads) == [False, False, False, True]


def test_archived_size_ends_at_once() -> None:
    """A record that says how long the log is makes a second read needless."""
    assert ended(Ending(settle=10), (Result.GROWN, 0), record=job("success", size=10)) == [True]


def test_old_jobs_need_one_confirmation() -> None:
    """A job that was over long before needs no long settling."""
    assert ended(Ending(settle=10, over_at_first_sight=True), (Result.GROWN, 0), (Result.SAME, 3)) == [
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("status", "ended_ago", "is_long"),
    [("running", 60.0, False), ("success", 9.9, False), ("success", 10.0, True), ("failed", None, True)],
)
def test_long_over_is_longer_than_the_settling(status: str, ended_ago: float | None, is_long: bool) -> None:
    """By the server's clock; a job that has no end is one that never ran, or an old server's."""
    now = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    finished = None if ended_ago is None else datetime.fromtimestamp(now - ended_ago, UTC)
    record = Job(id=1, name="test", status=JobStatus(status), finished_at=finished)
    assert long_over(record, now, 10.0) is is_long


def test_no_settling_on_request() -> None:
    """`settle=0` believes the first read that began after the end."""
    assert ended(Ending(settle=0), (Result.GROWN, 0)) == [True]


def test_full_window_is_read_on_at_once() -> None:
    """While windows come full, nothing is waited for."""
    step = Ending(settle=10).read(Result.MORE, 0, offset=1, job=job("success"), in_doubt=False)
    assert (step.done, step.delay) == (False, 0)


def test_log_shorter_than_its_record_is_not_finished() -> None:
    """Missing bytes are waited for and then reported, never passed off as the end."""
    ending, now, record = Ending(settle=10), 0.0, job("success", size=11)
    for _ in range(50):
        step = ending.read(Result.SAME, now, offset=10, job=record, in_doubt=False)
        assert not step.done
        if step.failed:
            break
        now += step.delay
    assert step.failed is not None
    assert "11" in step.failed
    assert 30 <= now < 40


@pytest.mark.parametrize(("settle", "delays"), [(10.0, [3.0, 7.0]), (1.0, [1.0, 1.0])])
def test_missing_bytes_are_not_asked_for_more_than_once_a_second(settle: float, delays: list[float]) -> None:
    """They are waited for at the pace of the settling, and no faster than that."""
    ending, now, record = Ending(settle=settle), 0.0, job("success", size=11)
    for delay in delays:
        step = ending.read(Result.SAME, now, offset=10, job=record, in_doubt=False)
        assert (step.delay, step.failed) == (delay, None)
        now += delay


@pytest.mark.parametrize(("settle", "delay"), [(10.0, 3.0), (0.0, 1.0)])
def test_only_troubles_in_a_row_end_a_trace(settle: float, delay: float) -> None:
    """One good read makes all that failed before it forgotten."""
    ending = Ending(settle=settle)
    for _ in range(3):
        for _ in range(FINAL_ERRORS - 1):
            step = ending.trouble("x")
            assert (step.done, step.delay, step.failed) == (False, delay, None)
        ending.read(Result.GROWN, 0.0, offset=1, job=job("success", size=2), in_doubt=False)


def test_doubt_is_not_an_end() -> None:
    """Contradicting answers go on being asked, and end in a failure, not in a finish."""
    ending = Ending(settle=10)
    steps = [
        ending.read(Result.SHORTER, n, offset=9, job=job("failed"), in_doubt=True)
        for n in range(FINAL_ERRORS)
    ]
    assert not any(step.done for step in steps)
    assert steps[-1].failed
    assert steps[0].delay > 0
    doubted = Ending(settle=0).read(Result.SAME, 0.0, offset=9, job=job("failed", size=9), in_doubt=True)
    assert not doubted.done, "whatever the last of them brought"


def test_definite_errors_are_believed_the_third_time() -> None:
    """403 and 404 end a tail after three in a row; timeouts and 500 never do."""
    patience = Patience()
    gone, denied = NotFoundError("gone", status=404), ForbiddenError("no", status=403)
    assert [patience.failed(error) for error in (gone, denied, gone)] == [False, False, True]
    patience = Patience()
    assert not any(patience.failed(error) for error in (gone, gone, ServerError("x", status=500), gone, gone))
    assert not any(patience.failed(RequestTimeout("slow")) for _ in range(100))
    patience.worked()
    assert [patience.failed(gone) for _ in range(3)] == [False, False, True]


def test_trouble_on_the_way_is_not_an_answer() -> None:
    """Throttling, locks and time-outs say "not now"; a wrong certificate or a bad request says "no"."""
    for status in (302, 399, 408, 409, 425, 429, 500, 503):
        assert not is_definite(ResponseError("x", status=status))
    for status in (400, 401, 403, 404, 405, 410, 422, 499):
        assert is_definite(ResponseError("x", status=status))
    assert is_definite(CertificateError("x"))
    assert not is_definite(ConnectError("x"))
