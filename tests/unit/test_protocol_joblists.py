"""Lists of jobs: sharing what neighbours have in common changes nothing that a caller can see."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncjobs import Job
from asyncjobs._protocol.bodies import JOBS, BodyError
from asyncjobs._protocol.joblists import read_jobs

PLAIN = msgspec.json.Decoder(list[Job])

PIPELINE = {"id": 6, "status": "running", "ref": "main", "user": {"id": 1, "username": "dev"}}
FULL: dict[str, object] = {
    "id": 1,
    "status": "success",
    "name": "build",
    "user": {"id": 1, "username": "dev"},
    "commit": {"id": "0abc", "title": "Grüße", "created_at": "2026-01-05T08:00:00.000+01:00"},
    "pipeline": PIPELINE,
    "project": {"ci_job_token_scope_enabled": False},
    "runner": {"id": 9, "description": "docker"},
}
NESTED = ["user", "commit", "pipeline", "project", "runner"]


def body(*jobs: Mapping[str, object]) -> bytes:
    """A list of jobs as GitLab sends it."""
    return json.dumps(jobs, ensure_ascii=False).encode()


def test_what_neighbours_share_is_one_object() -> None:
    """Ten jobs of one pipeline cost one commit, one pipeline, one user, one runner."""
    jobs = read_jobs(body(*({**FULL, "id": n} for n in range(1, 11))))
    assert [job.id for job in jobs] == list(range(1, 11))
    for name in NESTED:
        assert len({id(getattr(job, name)) for job in jobs}) == 1


def test_what_differs_is_not_shared() -> None:
    """Only the same JSON is the same value: a neighbour's commit never shows on another job."""
    other = {**FULL, "id": 2, "commit": {"id": "0def"}, "runner": None}
    without = {"id": 3, "status": "created", "name": "deploy"}
    jobs = read_jobs(body(FULL, other, without, {**FULL, "id": 4}))
    assert [job.commit and job.commit.id for job in jobs] == ["0abc", "0def", None, "0abc"]
    assert [job.runner and job.runner.id for job in jobs] == [9, None, None, 9]
    assert [job.pipeline and job.pipeline.id for job in jobs] == [6, 6, None, 6]


def test_they_are_plain_jobs() -> None:
    """Class, equality, repr, hash, pickle, evolve and asdict are those of a job decoded alone."""
    (read,) = read_jobs(body(FULL))
    (plain,) = PLAIN.decode(body(FULL))
    assert type(read) is Job
    assert read == plain
    assert repr(read) == repr(plain)
    assert hash(read) == hash(plain)
    assert pickle.loads(pickle.dumps(read)) == plain
    assert attrs.evolve(read, name="other").commit == plain.commit
    assert attrs.asdict(read) == attrs.asdict(plain)
    assert msgspec.json.encode(read) == msgspec.json.encode(plain)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        read.name = "other"  # type: ignore[misc]  # that it is refused is what is shown


values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["id", "x"]), inner, max_size=2)
    ),
    max_leaves=4,
)
some_job = st.fixed_dictionaries(
    {"id": st.integers(1, 9), "status": st.sampled_from(["success", "new"]), "name": st.just("a")},
    optional={
        "user": st.sampled_from([FULL["user"], {"id": 2}, None]) | values,
        "commit": st.sampled_from([FULL["commit"], {}, None]) | values,
        "pipeline": st.sampled_from([PIPELINE, {"id": 7, "status": "x"}, None]) | values,
        "project": st.sampled_from([FULL["project"], {}, None]) | values,
        "runner": st.sampled_from([FULL["runner"], {"id": 3}, None]) | values,
        "tag_list": st.just(["docker"]),
    },
)


@given(st.lists(some_job, max_size=6))
def test_the_same_as_decoding_plainly(jobs: list[dict[str, object]]) -> None:
    """For any list: equal jobs, or the same error with the same words and place."""
    assert outcome(read_jobs, body(*jobs)) == outcome(PLAIN.decode, body(*jobs))


def outcome(read: Callable[[bytes], list[Job]], text: bytes) -> list[Job] | str:
    """The jobs, or the words of the error."""
    try:
        return read(text)
    except msgspec.MsgspecError as error:
        return repr(error)


def test_the_place_of_a_fault_is_that_of_the_whole_body() -> None:
    """A fault inside a shared value is named by its path in the list."""
    faulty = {**FULL, "id": 2, "commit": {"id": "0def", "title": 5}}
    with pytest.raises(BodyError, match=r"\$\[1\]\.commit\.title"):
        JOBS.read(body(FULL, faulty))


@pytest.mark.parametrize(
    "inside", ["[" * 100_000, '{"id": 1, "name": "\\', '{"id": 01}', '{"id": 1,}'], ids=lambda text: text[:12]
)
def test_what_is_no_json_inside_a_shared_value(inside: str) -> None:
    """Broken or bottomless JSON is refused wherever it stands."""
    with pytest.raises(BodyError):
        JOBS.read(f'[{{"id": 1, "status": "x", "name": "a", "user": {inside}}}]'.encode())


def test_text_that_is_no_utf8_inside_a_shared_value() -> None:
    """Bytes that are no text are refused there as elsewhere."""
    with pytest.raises(BodyError):
        JOBS.read(b'[{"id": 1, "status": "x", "name": "a", "user": {"id": 1, "name": "\xff\xfe"}}]')
