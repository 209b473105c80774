"""What one answer proves: which validators are kept, what a part says of the whole, and what ends a tail."""

from __future__ import annotations

import pytest

from asyncjobs._models import Job, JobArtifact, JobStatus
from asyncjobs._trace.answer import Answer
from asyncjobs._trace.asking import DOUBTS, WINDOW_BYTES, Ask, Delivery, Result
from asyncjobs._trace.ending import FINAL_ERRORS, Ending
from asyncjobs._trace.reading import TraceReader

LOG = b"".join(b"line %d\n" % n for n in range(100_000))
WHOLE = LOG[:600_000]
ETAG = {"etag": 'W/"0123456789abcdef0123456789abcdef"'}


def part(start: int, end: int, total: int | str, **headers: str) -> dict[str, str]:
    """Headers of a 206 with the bytes from *start* to before *end*."""
    return {"content-range": f"bytes {start}-{end - 1}/{total}", **headers}


def digest(
    reader: TraceReader,
    body: bytes,
    headers: dict[str, str] | None = None,
    *,
    status: int = 200,
    proven: bool = True,
) -> tuple[Ask, Answer, Result]:
    """One exchange about a job that is over and archived."""
    ask = reader.ask(final=True, archived=True)
    answer = reader.answer(ask, status, headers or {}, final=True)
    for at in range(0, len(body), 100_000):
        answer.feed(body[at : at + 100_000])
    return ask, answer, answer.end(proven=proven)


def whole_reader(body: bytes = WHOLE, **kwargs: bool) -> TraceReader:
    """A reader that has one answer of a server without windows behind it."""
    reader = TraceReader()
    assert digest(reader, body, ETAG, **kwargs)[2] is Result.GROWN
    assert reader.delivery is Delivery.WHOLE
    return reader


def test_validator_of_a_proven_body_is_used() -> None:
    """The next read asks whether anything changed."""
    assert whole_reader().ask().if_none_match == ETAG["etag"]


def test_validator_of_an_unproven_body_is_not_kept() -> None:
    """Of a body that may have been cut it may stand for more, however often the same length comes."""
    reader = whole_reader(proven=False)
    reader._known.range_works = False
    for _ in range(2 * DOUBTS):
        ask, _, _ = digest(reader, WHOLE, ETAG, proven=False)
        assert ask.if_none_match is None


@pytest.mark.parametrize("how", ["broken", "ended", "window"])
def test_validator_ends_with_the_first_new_byte(how: str) -> None:
    """Once more than the body it stood for was delivered, it is never sent again."""
    reader = whole_reader()
    reader._known.range_works = False
    answer = reader.answer(reader.ask(), 200, {})
    answer.feed(WHOLE + b"n")
    if how == "broken":
        answer.broken()
    elif how == "ended":
        assert answer.end(proven=False) is Result.GROWN
    else:
        answer.feed(b"ew\n")
        assert answer.end() is Result.GROWN
    assert reader.ask().if_none_match is None


def test_the_overlap_of_a_part_is_compared() -> None:
    """A 206 that begins with other bytes than those known brings nothing and is a contradiction."""
    reader = whole_reader()
    ask = reader.ask(final=True, archived=True)
    assert ask.range_start is not None
    other = b"#" * (len(WHOLE) - ask.range_start) + b"new\n"
    headers = part(ask.range_start, len(WHOLE) + 4, len(WHOLE) + 4)
    _, answer, result = digest(reader, other, headers, status=206)
    assert (answer.new_bytes, result) == (0, Result.CHANGED)
    assert reader.place.offset == len(WHOLE)


@pytest.mark.parametrize("encoding", ["gzip", "br"])
def test_an_encoded_part_is_not_taken(encoding: str) -> None:
    """A range counts the bytes of the encoding: nothing of it is spliced, even where the numbers fit."""
    reader = whole_reader()
    start = reader.ask(final=True, archived=True).range_start
    assert start is not None
    headers = part(start, len(LOG), len(LOG), **{"content-encoding": encoding})
    _, answer, result = digest(reader, LOG[start:], headers, status=206)
    assert (answer.new_bytes, result) == (0, Result.UNPROVEN)
    assert reader.ask(final=True, archived=True).range_start is None


def test_a_range_beyond_the_end_speaks_of_a_shorter_log() -> None:
    """A 416 is a contradiction like any shorter answer, and the next read asks for the whole."""
    reader = whole_reader()
    assert reader.ask(final=True, archived=True).range_start is not None
    _, answer, result = digest(reader, b"", {"content-range": "bytes */100"}, status=416)
    assert (answer.new_bytes, answer.settled(), result) == (0, True, Result.SHORTER)
    assert reader.ask(final=True, archived=True).range_start is None


def test_nothing_is_unchanged_that_was_not_asked_about() -> None:
    """A 304 to a request without a validator says nothing about the log."""
    for headers, meaning in ((ETAG, Result.SAME), ({}, Result.UNPROVEN)):
        reader = TraceReader()
        digest(reader, WHOLE, headers)
        reader._known.range_works = False
        _, answer, result = digest(reader, b"", status=304)
        assert (answer.settled(), result) == (True, meaning)


def test_an_answer_is_settled_once_its_rest_cannot_matter() -> None:
    """A log that contradicts what was delivered need not be read to its end; any other has to be."""
    reader = whole_reader()
    reader._known.range_works = False
    answer = reader.answer(reader.ask(), 200, {})
    answer.feed(WHOLE[:1000])
    assert not answer.settled()
    answer.feed(b"#" * len(WHOLE))
    assert answer.settled()
    assert (answer.feed(LOG), answer.end()) == (b"", Result.CHANGED)


@pytest.mark.parametrize("proven", [True, False])
@pytest.mark.parametrize("total", [len(LOG), "*"])
def test_a_whole_part_proves_itself(proven: bool, total: int | str) -> None:
    """Content-Range says how much is left of the log; when all of it came, how the body ended is nothing."""
    reader = whole_reader()
    start = reader.ask(final=True, archived=True).range_start
    assert start is not None
    for first, result in ((start, Result.GROWN), (len(LOG) - 256, Result.SAME)):
        headers = part(first, len(LOG), total)
        ask, answer, brought = digest(reader, LOG[first:], headers, status=206, proven=proven)
        assert ask.range_start == first
        assert (brought, answer.certain) == (result, True)


@pytest.mark.parametrize("proven", [True, False])
def test_a_part_that_lacks_its_end_never_counts(proven: bool) -> None:
    """Less than Content-Range announces, or less than the log has, is not the end however often it comes."""
    for end in (len(LOG), len(WHOLE)):
        reader = whole_reader()
        for _ in range(2 * DOUBTS):
            start = reader.ask(final=True, archived=True).range_start
            assert start is not None
            headers = part(start, end, len(LOG))
            _, answer, result = digest(reader, WHOLE[start:], headers, status=206, proven=proven)
            assert (result, answer.certain) == (Result.UNPROVEN, False)


def test_sameness_that_is_not_proven_counts_when_it_persists() -> None:
    """A body that stops where the last one did, connection and all, means nothing until the third time."""
    reader = TraceReader()
    results = [digest(reader, b"short\n", proven=False)[2] for _ in range(DOUBTS + 1)]
    assert results == [Result.GROWN, *[Result.UNPROVEN] * (DOUBTS - 2), Result.SAME, Result.SAME]


def test_shortness_that_is_not_proven_counts_when_it_keeps_its_length() -> None:
    """Three bodies in a row that stop at one place may be all there is; three that stop anywhere were cut."""
    reader = whole_reader()
    reader._known.range_works = False
    sizes = [1000, 1001, 1000, 1000, 5, 5, 1000, 5, 5, 5, 5]
    results = [digest(reader, WHOLE[:size], proven=False)[2] for size in sizes]
    assert results == [*[Result.UNPROVEN] * 9, Result.SHORTER, Result.SHORTER]
    assert digest(reader, WHOLE[:7])[2] is Result.SHORTER


def test_which_answers_are_certain() -> None:
    """Only a whole log that is proven says that nothing follows; a window may be smaller than asked for."""
    assert not digest(TraceReader(), b"short\n")[1].certain
    assert digest(TraceReader(), LOG)[1].certain
    assert not digest(TraceReader(), LOG, proven=False)[1].certain
    assert not digest(TraceReader(), LOG[:WINDOW_BYTES])[1].certain


def job(size: int | None = None) -> Job:
    """The record of a job that is over."""
    artifacts = () if size is None else (JobArtifact(file_type="trace", size=size),)
    return Job(id=1, name="test", status=JobStatus("success"), artifacts=artifacts)


def test_without_settling_an_end_has_to_be_proven() -> None:
    """`settle=0` goes on at once after new bytes that may not be the last, and ends when no more come."""
    ending = Ending(settle=0)
    for _ in range(3):
        step = ending.read(Result.GROWN, 0.0, offset=9, job=job(), in_doubt=False, certain=False)
        assert (step.done, step.delay, step.failed) == (False, 0.0, None)
    step = ending.read(Result.UNPROVEN, 0.0, offset=9, job=job(), in_doubt=False, certain=False)
    assert not step.done
    assert step.delay > 0
    assert ending.read(Result.SAME, 0.0, offset=9, job=job(), in_doubt=False, certain=False).done


@pytest.mark.parametrize("settle", [0.0, 10.0])
def test_short_of_the_recorded_size_new_bytes_are_read_on(settle: float) -> None:
    """While bytes come, a log that is shorter than its record is neither waited for nor given up."""
    ending = Ending(settle=settle)
    for now in (0.0, 1000.0):
        step = ending.read(Result.GROWN, now, offset=9, job=job(10), in_doubt=False, certain=True)
        assert (step.done, step.delay, step.failed) == (False, 0.0, None)
    step = ending.read(Result.SAME, 1000.0, offset=9, job=job(10), in_doubt=False, certain=True)
    assert step.failed is not None
    assert "record says 10" in step.failed


def test_answers_that_prove_nothing_end_in_a_failure_that_says_so() -> None:
    """A log whose end is never proven is given up by its right name: nothing contradicted anything."""
    ending = Ending(settle=10)
    for _ in range(FINAL_ERRORS):
        step = ending.read(Result.UNPROVEN, 0.0, offset=9, job=job(), in_doubt=False, certain=False)
        assert not step.done
    assert step.failed == "none of its answers is proven to be whole"
