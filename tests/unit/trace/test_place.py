"""Places entered in the middle of a log: where a changed copy is taken up, and the cursor that follows."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncjobs._models import JobRef, TraceCursor
from asyncjobs._trace.place import Place, Recheck

REF = JobRef("group/app", 8)
OLD = b"".join(b"line %05d\n" % number for number in range(4000))
START = 30_000
"""A line start in `OLD`."""


def entered(start: int = START, log: bytes = OLD) -> Place:
    """A place entered at *start* and read to the end of *log*."""
    place = Place.inside(start, log[start - 64 : start])
    place.advance(log[start:])
    return place


def pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    """The data, cut at the given places."""
    last = 0
    for cut in sorted({each % (len(data) + 1) for each in cuts}):
        yield data[last:cut]
        last = cut
    yield data[last:]


def compared(place: Place, copy: bytes, cuts: list[int] | None = None) -> Recheck:
    """Compare another copy of the log with what was delivered."""
    recheck = place.recheck()
    for piece in pieces(copy, cuts or []):
        recheck.feed(piece)
    return recheck


def rewound(place: Place, recheck: Recheck) -> Place:
    """Go back to where the comparison ended."""
    place.rewind(recheck.good_offset, recheck.good_crc, recheck.good_tail)
    return place


def is_proven(place: Place, copy: bytes) -> bool:
    """Whether everything the place claims is true of this copy."""
    before = copy[place.start : place.offset]
    tail = copy[: place.offset][-64:]
    return zlib.crc32(before) == place.crc and place.sample(64) == tail


splits: st.SearchStrategy[list[int]] = st.one_of(
    st.just([]), st.just(list(range(60_000))), st.lists(st.integers(0, 60_000), max_size=8)
)


@given(splits, st.sampled_from([b"", b"new\n", b"new 12\n" * 700, OLD[: START - 65]]))
def test_copy_that_does_not_reach_so_far_is_read_from_its_start(cuts: list[int], copy: bytes) -> None:
    """A log that is shorter than what was left out before is another one: nothing of the old place stays."""
    place = rewound(entered(), compared(entered(), copy, cuts))
    assert (place.offset, place.start, place.head) == (0, 0, b"")
    assert is_proven(place, copy)
    place.advance(copy)
    assert place.cursor(REF) == TraceCursor(REF, len(copy), zlib.crc32(copy), copy[-64:])


@given(splits, st.binary(min_size=64, max_size=64))
def test_copy_that_differs_at_once_is_entered_at_a_line(cuts: list[int], odd: bytes) -> None:
    """When everything delivered is different, going on is at the line that is there now, proven from 0."""
    copy = b"x" * (START - 100) + b"\n" + b"y" * 50 + odd.replace(b"\n", b".") + OLD[START:]
    recheck = compared(entered(), copy, cuts)
    place = rewound(entered(), recheck)
    assert recheck.differs
    assert (place.offset, place.start) == (START - 99, 0)
    assert is_proven(place, copy)


def test_cursor_of_a_place_in_the_middle_claims_no_beginning() -> None:
    """Its CRC would speak of bytes that were never seen: only the last ones prove it."""
    cursor = entered().cursor(REF)
    assert cursor == TraceCursor(REF, len(OLD), 0, OLD[-64:])
    place = Place.from_cursor(cursor)
    assert (place.offset, place.start, place.head, place.run) == (len(OLD), len(OLD) - 64, None, None)
    assert is_proven(place, OLD)


def test_cursor_of_a_whole_log_proves_all_of_it() -> None:
    """A place read from the first byte is proven from there, before and after a restart."""
    place = Place()
    place.advance(OLD)
    cursor = place.cursor(REF)
    assert cursor == TraceCursor(REF, len(OLD), zlib.crc32(OLD), OLD[-64:])
    assert place.head == OLD[:256]
    again = Place.from_cursor(cursor)
    assert (again.offset, again.start, again.crc) == (len(OLD), 0, zlib.crc32(OLD))
    nothing = Place.from_cursor(None)
    assert (nothing.offset, nothing.start, nothing.head) == (0, 0, b"")
    assert Place.from_cursor(nothing.cursor(REF)).head == b""


@pytest.mark.parametrize("kept", [START + 5, START + 500, len(OLD) - 20])
def test_lost_end_is_taken_up_near_it(kept: int) -> None:
    """A log that only lost its end is not read from its start again, and the last bytes are all known."""
    place = rewound(entered(), compared(entered(), OLD[:kept]))
    assert place.offset <= kept
    assert place.offset > START - 64 - 12
    assert OLD[place.offset - 1 : place.offset] == b"\n"
    assert is_proven(place, OLD)


@given(st.integers(0, len(OLD)), st.integers(0, 200), st.lists(st.integers(0, 60_000), max_size=4))
def test_cursor_of_any_rewound_place_can_be_read_again(offset: int, more: int, cuts: list[int]) -> None:
    """Wherever a log was entered and however it changed, the text of the cursor gives the cursor back."""
    start = min(offset, START)
    place = entered(start) if start else Place()
    copy = OLD[:offset] + b"changed\n" * more
    place = rewound(place, compared(place, copy, cuts))
    place.advance(copy[place.offset :])
    assert is_proven(place, copy)
    cursor = place.cursor(REF)
    assert TraceCursor.parse(str(cursor)) == cursor
