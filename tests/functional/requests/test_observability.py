"""What a client says about itself: statistics, debug logging, and errors that travel with their facts."""

from __future__ import annotations

import asyncio
import logging
import pickle

import pytest

from asyncjobs import Client, FanOutError, JobRef, NotFoundError, ServerError
from asyncjobs.testing import FakeGitLab, FakeJob
from tests.support.clients import open_client, read_archive


def finished(gitlab: FakeGitLab) -> FakeJob:
    """A job with an archive and a trace."""
    pipeline = gitlab.projects[10].pipelines[0]
    return pipeline.add_job("a", status="success", age=600, artifacts={"a": b"1"}, trace=b"line\n" * 50)


async def test_statistics_count_by_class(gitlab: FakeGitLab, client: Client) -> None:
    """Requests, retries, bytes and waits are counted for each class, redirect hops at the store included."""
    job = finished(gitlab)
    gitlab.settings.delivery = "direct"
    gitlab.fail_next("502")
    await client.get_job(10, job.id)
    size = len(await read_archive(client, JobRef(10, job.id)))
    async for _ in client.iter_project_jobs(10):
        pass
    statistics = client.statistics()
    counted = {name: each.requests for name, each in statistics.endpoints.items() if each.requests}
    assert counted == {"other": 2, "artifact": 1, "storage": 1, "jobs_index": 1}
    assert statistics.requests == len(gitlab.requests) == 5
    assert statistics.retries == 1
    assert statistics.endpoints["storage"].received_bytes == size
    assert statistics.received_bytes >= size
    assert statistics.retry_tokens == 200.0 - 10.0 + 2.0  # the store has a budget of its own
    assert {name: lane.limit for name, lane in statistics.lanes.items()} == {
        "control": 32,
        "tail": 100,
        "bulk": 8,
    }


async def test_waits_are_visible(gitlab: FakeGitLab, client: Client) -> None:
    """Whoever waits for a gate is counted, and so is the closing."""
    job = finished(gitlab)
    gitlab.fail_next("429_seconds", retry_after="20")
    await asyncio.gather(*(client.get_job(10, job.id) for _ in range(40)))
    other = client.statistics().endpoints["other"]
    assert other.gate_closings == 1
    assert other.waits >= 8
    assert other.waited_seconds >= 20.0 * 8


async def test_debug_logging_shows_each_exchange(
    gitlab: FakeGitLab, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """Under the logger `asyncjobs`, one line for each request: method, safe address, status, attempt."""
    job = finished(gitlab)
    gitlab.settings.delivery = "direct"
    gitlab.fail_next("502")
    with caplog.at_level(logging.DEBUG, logger="asyncjobs"):
        await client.get_job(10, job.id)
        await read_archive(client, JobRef(10, job.id))
    lines = [record.getMessage() for record in caplog.records if record.name == "asyncjobs"]
    assert len(lines) == 4
    assert f"GET {gitlab.url}/api/v4/projects/10/jobs/{job.id} -> 502" in lines[0]
    assert "attempt 2" in lines[1]
    assert lines[2].startswith("GET ")
    assert gitlab.storage_url in lines[3]
    assert not any(
        gitlab.token in line or "Signature=" in line.replace("Signature=...", "") for line in lines
    )


async def test_nothing_is_logged_above_debug(
    gitlab: FakeGitLab, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """A library that fails raises; it does not also write into other people's logs."""
    gitlab.faults.add("502")
    with caplog.at_level(logging.INFO), pytest.raises(ServerError):
        await client.get_job(10, 1)
    assert [record for record in caplog.records if record.levelno >= logging.INFO] == []


async def test_errors_carry_their_facts_through_a_pickle(gitlab: FakeGitLab, client: Client) -> None:
    """Method, address, status, words, request id and attempts survive into another process."""
    gitlab.faults.add("503", where="*/jobs/1")
    errors: list[Exception] = []
    for call in (client.get_job(10, 1), client.get_job(10, 2), client.retry_job(10, 3)):
        try:
            await call
        except (NotFoundError, ServerError) as error:
            errors.append(error)
    assert [type(each).__name__ for each in errors] == ["ServerError", "NotFoundError", "NotFoundError"]
    for each in errors:
        copy = pickle.loads(pickle.dumps(each))
        assert type(copy) is type(each)
        assert vars(copy) == vars(each)
        assert str(copy) == str(each)
    assert vars(errors[0])["attempts"] == 5


async def test_a_group_of_failures_survives_a_pickle(gitlab: FakeGitLab, client: Client) -> None:
    """A FanOutError keeps its targets and their errors."""
    with pytest.raises(FanOutError) as caught:
        await _drain(client)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert [str(each.target) for each in copy.failures] == [
        str(each.target) for each in caught.value.failures
    ]
    assert len(copy.exceptions) == 2


async def _drain(client: Client) -> None:
    async with client.stream_jobs(["group/none", "group/neither"]) as jobs:
        async for _ in jobs:
            pass


async def test_an_unchanged_trace_is_not_sent_again(gitlab: FakeGitLab, client: Client) -> None:
    """A poll with the ETag of what is known is answered by 304, without a body."""
    job = finished(gitlab)
    async with client._api.open_trace(JobRef(10, job.id)) as body:
        assert b"".join([piece async for piece in body]) == b"line\n" * 50
        etag = body.headers["etag"]
    async with client._api.open_trace(JobRef(10, job.id), if_none_match=etag) as body:
        assert body.status == 304
        assert [piece async for piece in body] == []
    assert gitlab.requests[-1].sent == 0


async def test_a_client_says_where_and_as_what(gitlab: FakeGitLab) -> None:
    """The repr of a client has its address, the kind of its token and its state."""
    async with open_client(gitlab.url, private_token=gitlab.token) as client:
        assert repr(client) == f"<Client {gitlab.url} private_token open>"
    assert repr(client) == f"<Client {gitlab.url} private_token closed>"
    assert repr(Client("https://gitlab.com")) == "<Client https://gitlab.com anonymous new>"
