"""What was given of many logs: each place is exactly behind the last line that somebody took."""

from __future__ import annotations

import zlib

from hypothesis import given
from hypothesis import strategies as st

from asyncjobs._errors import ServerError
from asyncjobs._models import JobRef, LogLine, TailFailed, TraceCursor, TraceReset
from asyncjobs._trace.given import Entered, Given, LeftOut
from asyncjobs._trace.place import Place

ONE, OTHER = JobRef("group/app", 1), JobRef("group/app", 2)


def line(ref: JobRef, raw: bytes, offset: int = 0) -> LogLine:
    """A line as a tail gives it."""
    return LogLine(ref, "job", raw, raw.decode(), offset, 1, None, None, None)


def place_after(data: bytes) -> TraceCursor:
    """The cursor after so many bytes, as a reader of the log has it."""
    place = Place()
    place.advance(data)
    return place.cursor(ONE)


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=100).map(lambda raw: raw.hex().encode()))))
def test_the_cursor_is_that_of_a_reader_of_the_same_bytes(pieces: list[tuple[bool, bytes]]) -> None:
    """Lines that were given and lines that were left out make one place."""
    counted, log = Given(), b""
    assert counted.take(Entered(TraceCursor(ONE))) is None
    for wanted, raw in pieces:
        item = line(ONE, raw, len(log)) if wanted else LeftOut(ONE, raw)
        assert counted.take(item) is (item if wanted else None)
        log += raw
    assert counted.cursors() == {ONE: place_after(log)}


def test_logs_are_counted_apart() -> None:
    """Two jobs at once do not meet, and one that ended is no longer there."""
    counted = Given()
    for ref in (ONE, OTHER):
        counted.take(Entered(TraceCursor(ref)))
    counted.take(line(ONE, b"one\n"))
    counted.take(line(OTHER, b"other one\n"))
    assert {ref: cursor.offset for ref, cursor in counted.cursors().items()} == {ONE: 4, OTHER: 10}
    failed = TailFailed(ONE, ServerError("x", status=500), None)
    assert counted.take(failed) is failed
    assert list(counted.cursors()) == [OTHER]
    counted.take(TailFailed(ONE, ServerError("never begun", status=500), None))


def test_a_log_that_goes_back_is_counted_from_there() -> None:
    """After a reset the place is where delivery goes on, with what proves it."""
    counted = Given()
    counted.take(Entered(TraceCursor(ONE)))
    counted.take(line(ONE, b"first\nsecond\n"))
    counted.take(Entered(place_after(b"first\n")))
    reset = TraceReset(ONE, 6, "rewritten")
    assert counted.take(reset) is reset
    counted.take(line(ONE, b"2nd\n"))
    assert counted.cursors() == {ONE: place_after(b"first\n2nd\n")}


def test_a_log_entered_in_its_middle_is_proven_by_its_end_alone() -> None:
    """A CRC of less than everything would prove nothing, so there is none."""
    counted = Given()
    entered = Place.inside(1000, b"x" * 64)
    counted.take(Entered(entered.cursor(ONE)))
    counted.take(line(ONE, b"line\n"))
    cursor = counted.cursors()[ONE]
    assert (cursor.offset, cursor.crc, cursor.tail) == (1005, 0, b"x" * 59 + b"line\n")
    assert zlib.crc32(b"line\n") != 0
